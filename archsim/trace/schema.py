"""The ``meta`` record of a trace: every key, its type and its range.

``parse`` turns JSON into a ``Meta`` or raises one ``TraceError`` that lists every problem, each with the path of the
key (``operations[3].kernel``), the value found and what is allowed. What single keys cannot tell (does the kernel fit
the input, is a tensor defined before it is read) is the business of ``graph.py``.

Version 2 has more operations and keys than version 1. A record says version 2 where it uses any of them, and only then;
a record of version 1 that has one is refused.
"""

from __future__ import annotations

import json
import reprlib
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any, ClassVar, Literal, NoReturn, TypeVar, get_args

import pydantic
from pydantic import AfterValidator, Field, Strict, StringConstraints, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError

from archsim.errors import MOST_PROBLEMS, TraceError, is_follow_up, nearest, printable
from archsim.trace.neurons import FIRST_SPIKE, MAX_ACTIVATION_BITS, NeuronRecord
from archsim.trace.record import Announced, Record
from archsim.trace.window import sides

FORMAT = "archsim-trace"
VERSIONS = (1, 2)
MAX_TIMESTEPS = 1024
MAX_SHIFT = 62
MAX_DIMENSION = 1 << 20
MAX_VALUES = 100_000
"""Of a record; an operation and its output have some thirty."""
MAX_AXES = 16
"""Of the view of a rearrangement."""
MOST_SHORT_TIMESTEPS = 254
"""With more of them spike times take two bytes, and never is 65,535."""
_VERSION_1_TIMESTEPS = 16
INTEGER_DTYPES = ("uint8", "int8", "int16", "int32", "int64")


def _rank(shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) not in (1, 3):
        raise PydanticCustomError("rank", "a shape is [C, H, W] or [F]")
    return shape


def _sides(padding: tuple[int, ...]) -> tuple[int, ...]:
    if len(padding) not in (2, 4):
        raise PydanticCustomError("sides", "padding is [rows, columns] or [top, bottom, left, right]")
    around = sides(padding)
    return around[::2] if around[::2] == around[1::2] else around


def _printable(text: str) -> str:
    if not text.isprintable():
        raise PydanticCustomError("control", "must hold no control characters, such as line breaks")
    return text


def _one_problem(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    # A union makes a problem for each of its members.
    try:
        return handler(value)
    except pydantic.ValidationError:
        what = "text, a finite number, true, false or null, or a list or an object of those"
        raise PydanticCustomError("detail", f"must be {what}") from None


Name = Annotated[str, Strict(), StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.\-]{0,99}$")]
Text = Annotated[str, Strict(), StringConstraints(max_length=4000), AfterValidator(_printable)]
Dimension = Annotated[int, Strict(), Field(ge=1, le=MAX_DIMENSION)]
Pair = Annotated[tuple[Dimension, Dimension], Strict(False)]
Offsets = Annotated[int, Strict(), Field(ge=0, le=MAX_DIMENSION)]
Padding = Annotated[tuple[Offsets, ...], Strict(False), AfterValidator(_sides)]
Shape = Annotated[tuple[Dimension, ...], Strict(False), AfterValidator(_rank)]
Scalar = str | bool | int | float | None
Detail = Annotated[Scalar | list[Scalar] | dict[str, Scalar], WrapValidator(_one_problem)]


RecordT = TypeVar("RecordT", bound="Record")


class SpikeTensor(Record):
    """Zeros and ones [T, I, C, H, W] or [T, I, F], stored as packed bits; ``shape`` is [C, H, W] or [F]."""

    dtype: ClassVar = "uint8"
    per_timestep: ClassVar = True
    packed_bits: ClassVar = 1
    kind: Literal["spike"]
    shape: Shape


class SignedSpikeTensor(Record):
    """Minus one, zero and one [T, I, ...], stored as packed pairs of bits."""

    dtype: ClassVar = "uint8"
    per_timestep: ClassVar = True
    packed_bits: ClassVar = 2
    kind: Literal["signed_spike"]
    shape: Shape


class SpikeTimeTensor(Record):
    """The timestep [I, ...] of the only spike of each neuron, or never: spikes [T, I, ...] in another form.

    Never is 255, or 65,535 in the two bytes of ``dtype`` uint16, for more than 254 timesteps.
    """

    later: ClassVar = ("dtype",)
    per_timestep: ClassVar = False
    packed_bits: ClassVar = 0
    kind: Literal["spike_time"]
    shape: Shape
    dtype: Literal["uint8", "uint16"] = "uint8"


class IntegerTensor(Record):
    """Integers, [T, I, ...] if ``per_timestep`` and otherwise [I, ...]: the same value at every timestep.

    They fit ``bits``, by default all of their dtype. A real number is ``scale`` times its integer.
    """

    packed_bits: ClassVar = 0
    kind: Literal["int"]
    shape: Shape
    dtype: Literal["uint8", "int8", "int16", "int32", "int64"]
    per_timestep: bool
    bits: int | None = Field(default=None, ge=1, le=64)
    scale: float = Field(default=1.0, gt=0)


class WeightRecord(Record):
    """Integer weights, the array ``weight.<operation>``; a real weight is ``scale`` times its integer."""

    bits: int = Field(default=8, ge=2, le=8)
    scale: float = Field(default=1.0, gt=0)


class RequantiserRecord(Record):
    """Integers of few bits from the sums of an operation; the factors are the array ``multiplier.<operation>``.

    With ``activation_bits`` they are looked up in the table ``activation.<operation>`` of as many index bits.
    """

    version_2: ClassVar = ("activation_bits",)
    shift: int = Field(ge=0, le=MAX_SHIFT)
    bits: int = Field(ge=2, le=16)
    signed: bool
    activation_bits: int | None = Field(default=None, ge=1, le=MAX_ACTIVATION_BITS)


class _Operation(Record):
    name: Name
    inputs: Annotated[tuple[Name, ...], Strict(False), Field(min_length=1, max_length=64)]
    output: Name


class _Layer(_Operation):
    """An operation with weights: ``bias`` tells whether the array ``bias.<operation>`` exists.

    ``gradient_mask`` is there if the array ``gradient.<operation>`` is, and only then, so that the record of a trace
    without gradients is what it always was.
    """

    out_channels: Dimension
    weight: WeightRecord = WeightRecord()
    bias: bool = False
    neuron: NeuronRecord | None = None
    requantiser: RequantiserRecord | None = None
    gradient_mask: Announced | None = None


class Convolution(_Layer):
    """Two-dimensional cross-correlation with zero padding, in groups of channels."""

    version_2: ClassVar = ("groups", "dilation", "input_dilation")
    op: Literal["conv2d"]
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Padding = (0, 0)
    dilation: Pair = (1, 1)
    input_dilation: Pair = (1, 1)
    groups: Dimension = 1


class Linear(_Layer):
    """A fully connected layer; [C, H, W] inputs are flattened in that order."""

    op: Literal["linear"]


class _Finished(_Operation):
    """An operation without weights whose integers may go on to neurons or a requantiser."""

    neuron: NeuronRecord | None = None
    requantiser: RequantiserRecord | None = None


class Pool(_Finished):
    """Maximum over a window, the OR of spikes, in which padding never wins; or the sum, to which it adds nothing."""

    version_2: ClassVar = ("reduction", "neuron", "requantiser")
    op: Literal["pool"]
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Padding = (0, 0)
    reduction: Literal["max", "sum"] = "max"


class Add(_Finished):
    """Element-wise integer sum of inputs of equal shape, optionally followed by neurons or a requantiser.

    With ``times`` it adds spike times.
    """

    version_2: ClassVar = ("times",)
    op: Literal["add"]
    times: bool = False


class Multiply(_Finished):
    """Element-wise product of two inputs; a value of the second may stand for a whole axis or several channels."""

    op: Literal["multiply"]


class Reduction(_Finished):
    """Integer sums over groups of neighbouring channels at every position, or over the positions of every channel."""

    op: Literal["reduce"]
    axis: Literal["channels", "positions"]
    groups: Dimension = 1


class Concatenation(_Operation):
    """Inputs stacked along the channel (or feature) axis."""

    op: Literal["concat"]


class Slice(_Operation):
    """The channels (axis 0), rows (1) or columns (2) from ``start`` to ``stop`` - 1."""

    op: Literal["slice"]
    axis: int = Field(ge=0, le=2)
    start: Offsets
    stop: Dimension


class Upsample(_Operation):
    """Every value ``factor`` times, down the rows and along the columns."""

    op: Literal["upsample"]
    factor: Pair


class Rearrangement(_Operation):
    """Values in another order: seen as ``view`` in C order, axes transposed to ``order``, seen as ``shape``."""

    op: Literal["rearrange"]
    view: Annotated[tuple[Dimension, ...], Strict(False), Field(min_length=1, max_length=MAX_AXES)]
    order: Annotated[tuple[Offsets, ...], Strict(False), Field(min_length=1, max_length=MAX_AXES)]
    shape: Shape


class Delay(_Operation):
    """What the input was ``steps`` timesteps ago, and nothing before: the only way to read what comes later.

    With ``per_channel`` the delays are the array ``delay.<operation>`` instead.
    """

    op: Literal["delay"]
    steps: int | None = Field(default=None, ge=1, le=MAX_TIMESTEPS)
    per_channel: Announced | None = None


class MatrixProduct(_Finished):
    """A product of two tensors [C, H, W], head by head, each read as a matrix of H W positions by C / heads channels.

    ``A B``, with ``transpose`` ``A B^T``, with ``transpose_first`` ``A^T B``; the columns of the product become the
    channels of the output, head after head, and its rows the positions.
    """

    version_2: ClassVar = ("transpose_first", "heads")
    op: Literal["matmul"]
    transpose: bool = False
    transpose_first: bool = False
    heads: Dimension = 1


class Softmax(_Operation):
    """Softmax over the channels at every position, by the table of exponentials ``table.<operation>``."""

    op: Literal["softmax"]


class LayerNorm(_Operation):
    """Normalisation over the channels at every position; ``bias`` as for layers with weights."""

    op: Literal["layer_norm"]
    bias: bool = False
    requantiser: RequantiserRecord


OperationRecord = (
    Convolution
    | Linear
    | Pool
    | Add
    | Multiply
    | Reduction
    | Concatenation
    | Slice
    | Upsample
    | Rearrangement
    | Delay
    | MatrixProduct
    | Softmax
    | LayerNorm
)
RECORDS: dict[str, type[OperationRecord]] = {
    get_args(record.model_fields["op"].annotation)[0]: record for record in get_args(OperationRecord)
}
"""The record of each ``op``."""
_VERSION_2_OPERATIONS = (Multiply, Reduction, Slice, Upsample, Rearrangement, Delay)
TensorRecord = SpikeTensor | SignedSpikeTensor | SpikeTimeTensor | IntegerTensor


class Provenance(Record):
    """Where a trace comes from: labels that travel with it and change nothing that is computed."""

    kind: Literal["trained", "recorded", "synthetic"]
    weights: Literal["trained", "synthetic"]
    dataset: Text | None = None
    accuracy: float | None = Field(default=None, ge=0, le=1)
    licence: Text | None = None
    recipe: Text | None = None
    source: Text | None = None
    seed: int | None = Field(default=None, ge=0)
    details: dict[str, Detail] = Field(default_factory=dict)


class Meta(Record):
    """The whole record. ``calibration_images`` and ``evaluation_images`` are there if the image sets are."""

    format: Literal["archsim-trace"] = "archsim-trace"
    version: Literal[1, 2] = 1
    network: Text = Field(min_length=1)
    timesteps: int = Field(ge=1, le=MAX_TIMESTEPS)
    images: Dimension
    provenance: Provenance
    tensors: dict[Name, Annotated[TensorRecord, Field(discriminator="kind")]] = Field(min_length=1)
    operations: Annotated[
        tuple[Annotated[OperationRecord, Field(discriminator="op")], ...], Strict(False), Field(min_length=1)
    ]
    calibration_images: Dimension | None = None
    evaluation_images: Dimension | None = None
    sha256: Annotated[str, Strict(), StringConstraints(pattern="^[0-9a-f]{64}$")] | None = None


def decode_json(raw: bytes, where: str) -> dict[str, Any]:
    """The JSON object in ``raw``: UTF-8, no NaN, no repeated key, of sane depth."""
    # About as many as there are values, found without making them.
    values = sum(raw.count(sign) for sign in (b",", b"[", b"{"))
    if values > MAX_VALUES:
        raise TraceError(f"{where}: holds about {values:,} values; allowed: at most {MAX_VALUES:,}")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise TraceError(f"{where}: not UTF-8 at byte {error.start}, got {raw[error.start]:#04x}") from None
    try:
        value = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_object)
    except RecursionError:
        raise TraceError(f"{where}: nested too deeply; a trace needs six levels") from None
    except _RefusedError as error:
        raise TraceError(f"{where}: {error}") from None
    except ValueError as error:
        raise TraceError(f"{where}: not JSON, {printable(error)}") from None
    if not isinstance(value, dict):
        raise TraceError(f"{where}: must be a JSON object, got {_shown(value)}")
    return value


def parse(value: dict[str, Any], where: str) -> Meta:
    """``value`` as a ``Meta``; the format and the version are judged first, as nothing else means anything without."""
    for key, expected in (("format", (FORMAT,)), ("version", VERSIONS)):
        found = value.get(key)
        if found not in expected or isinstance(found, bool):
            got = f"got {_shown(found)}" if key in value else "got nothing"
            allowed = " or ".join(map(repr, expected))
            raise TraceError(f"{where}: {key}: wrong {key} of trace, {got}; allowed: {allowed}")
    meta = validated(Meta, value, where)
    new = [f"{where}: {path}: came with version 2, but the record is of version 1" for path in _newer(meta, value)]
    if meta.version == 1 and new:
        raise TraceError(new)
    return meta


def with_version(meta: Meta) -> Meta:
    """``meta`` with the first version that has all that it uses."""
    uses = next(_newer(meta, dump(meta)), None)
    return meta.model_copy(update={"version": 1 if uses is None else 2})


def _newer(meta: Meta, value: dict[str, Any]) -> Iterator[str]:
    """Where ``value``, the record that ``meta`` is of, says what only version 2 can say."""
    if meta.timesteps > _VERSION_1_TIMESTEPS:
        yield "timesteps"
    for name, tensor in meta.tensors.items():
        if isinstance(tensor, SpikeTimeTensor) and "dtype" in value["tensors"][name]:
            yield f"tensors.{name}.dtype"
    for index, record in enumerate(meta.operations):
        path, given = f"operations[{index}]", value["operations"][index]
        if isinstance(record, _VERSION_2_OPERATIONS):
            yield f"{path}.op"
            continue
        yield from (f"{path}.{key}" for key in record.version_2 if key in given)
        if len(given.get("padding", ())) > 2:
            yield f"{path}.padding"
        neuron = getattr(record, "neuron", None)
        if neuron is not None:
            yield from (f"{path}.neuron.{key}" for key in neuron.version_2 if key in given["neuron"])
            if neuron.reset == "none":
                yield f"{path}.neuron.reset"
            if neuron.kind == FIRST_SPIKE:
                yield f"{path}.neuron.kind"
        output = meta.tensors.get(record.output)
        requantiser = getattr(record, "requantiser", None)
        if requantiser is not None:
            yield from (f"{path}.requantiser.{key}" for key in requantiser.version_2 if key in given["requantiser"])
            if isinstance(output, SpikeTimeTensor):
                yield f"tensors.{record.output}.kind"


def validated(model: type[RecordT], value: dict[str, Any], where: str) -> RecordT:
    """``value`` as a ``model``, or a ``TraceError`` with all that is wrong with it."""
    try:
        return model.model_validate(value)
    except pydantic.ValidationError as error:
        lines = list(islice(_lines(model, error, where), MOST_PROBLEMS))
        if error.error_count() > MOST_PROBLEMS:
            lines.append(f"{where}: and {error.error_count() - MOST_PROBLEMS:,} more problems")
        raise TraceError(lines) from None
    except RecursionError:
        raise TraceError(f"{where}: nested too deeply; a trace needs six levels") from None


def dump(meta: Meta) -> dict[str, Any]:
    """The record as plain JSON values, defaults spelt out, without the hash."""
    return meta.model_dump(mode="json", exclude={"sha256"}, exclude_none=True)


class _RefusedError(Exception):
    """JSON that Python accepts and a trace does not."""


def _refuse_constant(text: str) -> NoReturn:
    raise _RefusedError(f"{text} is not a number that a trace may hold")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        repeated = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise _RefusedError(f"key {_shown(repeated)} occurs twice")
    return value


def _lines(model: type[Record], error: pydantic.ValidationError, where: str) -> Iterator[str]:
    for problem in error.errors(include_url=False):
        if is_follow_up(problem):
            continue
        location = problem["loc"]
        path = _path(location)
        kind = problem["type"]
        if kind == "extra_forbidden":
            yield f"{where}: {path}: unknown key{nearest(str(location[-1]), _keys(model, location))}"
        elif kind == "missing":
            yield f"{where}: {path}: missing"
        elif kind in ("union_tag_invalid", "union_tag_not_found"):
            key = problem["ctx"]["discriminator"].strip("'")
            if kind == "union_tag_not_found":
                yield f"{where}: {path}.{key}: missing"
            else:
                tag, allowed = problem["ctx"]["tag"], problem["ctx"]["expected_tags"]
                hint = nearest(tag, [name.strip(" '") for name in allowed.split(",")])
                yield f"{where}: {path}.{key}: unknown, got {_shown(tag)}; allowed: {allowed}{hint}"
        elif kind == "literal_error":
            yield f"{where}: {path}: got {_shown(problem['input'])}; allowed: {problem['ctx']['expected']}"
        else:
            text = problem["msg"]
            yield f"{where}: {path}: {text[0].lower()}{text[1:]}, got {_shown(problem['input'])}"


def _path(location: tuple[int | str, ...]) -> str:
    """``operations[3].kernel``: without the tags that pydantic adds where a value may be of several kinds."""
    parts = [part for position, part in enumerate(location) if not _is_tag(location, position)]
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{printable(part, 80)}"
    return text.lstrip(".") or "the record"


def _is_tag(location: tuple[int | str, ...], position: int) -> bool:
    part = str(location[position])
    return (position == 2 and location[0] in ("operations", "tensors")) or part.startswith(("tuple[", "constrained-"))


def _shown(value: object) -> str:
    # Of containers only the beginning: they may hold millions of values, one inside the other.
    return printable(repr(value) if isinstance(value, Scalar) else reprlib.repr(value), 80)


def _keys(model: type[Record], location: tuple[int | str, ...]) -> list[str]:
    """The keys that may stand where the unknown key at ``location`` stands."""
    models = {model}
    for part in location[:-1]:
        fields = [candidate.model_fields[part] for candidate in models if part in candidate.model_fields]
        # List positions, names of tensors and the tags of pydantic lead no deeper into the schema.
        models = {found for field in fields for found in _records(field.annotation)} or models
    return sorted({key for candidate in models for key in candidate.model_fields} - {str(location[-1])})


def _records(annotation: Any) -> Iterator[type[Record]]:
    if isinstance(annotation, type) and issubclass(annotation, Record):
        yield annotation
    for argument in get_args(annotation):
        yield from _records(argument)
