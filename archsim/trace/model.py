"""A trace: a network as it ran on some images, one operation after the other.

What an operation computes, and the words for sizes, are in :mod:`archsim.trace.operation`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.errors import TraceError, UsageError, nearest
from archsim.trace import content, cycles, graph, schema
from archsim.trace.cycles import Cycle
from archsim.trace.description import HERE, described, described_set, misfits, wrong_masks
from archsim.trace.neurons import from_record
from archsim.trace.operation import PLAIN_KEYS, Operation, Requantiser
from archsim.trace.shapes import Shapes


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images beside those that were traced: ``images`` uint8 [I, C, H, W] with their ``labels`` int64 [I]."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.images)

    def first(self, count: int) -> ImageSet:
        """The first ``count`` of them, or all if there are fewer."""
        return ImageSet(self.images[:count], self.labels[:count])


class Trace:
    """A network, its operations and the tensors that flowed between them.

    Build one from plain numpy arrays and hand it to ``save_trace``::

        Trace(
            network="mlp", timesteps=4,
            operations=[Operation("fc1", "linear", ("pixels",), "hidden", weight=w1, neuron=Neuron("lif", 50, 1, 3)),
                        Operation("fc2", "linear", ("hidden",), "logits", weight=w2, bias=b2)],
            tensors={"pixels": pixels, "hidden": spikes, "logits": logits},
            provenance={"kind": "trained", "weights": "trained", "dataset": "Fashion-MNIST", "accuracy": 0.91},
        )

    Operations stand in the order in which they run. ``tensors`` must hold every tensor that an operation reads, and
    should hold the outputs, so that they can be verified. The dtype and rank of an array say what it is: bool
    [T, I, C, H, W] or [T, I, F] are spikes; integers of the same rank change with time; integers [I, C, H, W] or [I, F]
    (pixels) are the same at every timestep. ``kinds`` says more, by name: integers -1, 0 and 1 that change with time
    may be ``signed_spike``, and integers that do not ``spike_time`` (the timestep of a neuron's only spike, or
    ``content.never(timesteps)``). ``bits`` and ``scales`` give the width and the real value of one unit of an integer
    tensor.
    ``provenance`` has the keys of ``schema.Provenance``; whatever else is worth telling goes under its ``details``.

    ``calibration`` (of the training set) and ``evaluation`` (of the test set) are images with their labels, for
    machines whose results are not exact. They stand for the tensor that the first operation reads, pixels uint8
    [I, C, H, W]; every other tensor that no operation writes must be the same for all images. They are no part of the
    traced run: ``images`` does not count them.

    Raises ``TraceError`` with every problem, by the same checks as ``load_trace``.
    """

    def __init__(
        self,
        *,
        network: str,
        timesteps: int,
        operations: Sequence[Operation],
        tensors: Mapping[str, NDArray[Any]],
        provenance: Mapping[str, Any],
        scales: Mapping[str, float] | None = None,
        kinds: Mapping[str, str] | None = None,
        bits: Mapping[str, int] | None = None,
        calibration: ImageSet | None = None,
        evaluation: ImageSet | None = None,
    ) -> None:
        more = {"kind": kinds or {}, "bits": bits or {}, "scale": {k: float(v) for k, v in (scales or {}).items()}}
        record, arrays = described(network, timesteps, operations, tensors, provenance, more)
        for name, images in (("calibration", calibration), ("evaluation", evaluation)):
            if images is not None:
                record[f"{name}_images"] = len(images)
                arrays |= described_set(name, images.images, images.labels)
        meta = schema.with_version(schema.parse(record, HERE))
        resolved = graph.resolve(meta, HERE)
        problems = list(resolved.problems) or misfits(resolved, arrays) or wrong_masks(meta, resolved, operations)
        if not problems:
            problems, digest = content.check(meta, resolved, arrays, schema.dump(meta), HERE)
        if problems:
            raise TraceError(problems)
        self._fill(meta, resolved, arrays, digest, None)

    @classmethod
    def from_checked(
        cls,
        meta: schema.Meta,
        resolved: graph.Graph,
        arrays: Mapping[str, NDArray[Any]],
        sha256: str,
        path: Path | None,
    ) -> Trace:
        """A trace over arrays that have been checked; the way of ``load_trace``."""
        trace = cls.__new__(cls)
        trace._fill(meta, resolved, arrays, sha256, path)
        return trace

    def _fill(
        self,
        meta: schema.Meta,
        resolved: graph.Graph,
        arrays: Mapping[str, NDArray[Any]],
        sha256: str,
        path: Path | None,
    ) -> None:
        self.meta = meta
        self.arrays = arrays
        self.sha256 = sha256
        self.path = path
        self._graph = resolved

    @property
    def network(self) -> str:
        """Name of the network."""
        return self.meta.network

    @property
    def timesteps(self) -> int:
        """T, 1 to 1,024."""
        return self.meta.timesteps

    @property
    def images(self) -> int:
        """How many images the tensors hold."""
        return self.meta.images

    @property
    def provenance(self) -> dict[str, Any]:
        """Where network and weights come from; the keys of ``schema.Provenance`` that are known."""
        return self.meta.provenance.model_dump(exclude_none=True)

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the stored tensors."""
        return tuple(self.meta.tensors)

    @cached_property
    def operations(self) -> tuple[Operation, ...]:
        """The operations in the order in which they run."""
        return tuple(self._operation(record) for record in self.meta.operations)

    def readers(self, name: str) -> Sequence[Operation]:
        """The operations that read the tensor ``name``, in the order of the trace."""
        return self._readers.get(name, ())

    @cached_property
    def _readers(self) -> dict[str, list[Operation]]:
        found: dict[str, list[Operation]] = {}
        for operation in self.operations:
            for name in dict.fromkeys(operation.inputs):
                found.setdefault(name, []).append(operation)
        return found

    @property
    def calibration(self) -> ImageSet | None:
        """Images of the training set, decoded now and not kept; None if the trace has none."""
        return self._image_set("calibration")

    @property
    def evaluation(self) -> ImageSet | None:
        """Images of the test set, decoded now and not kept; None if the trace has none."""
        return self._image_set("evaluation")

    def _image_set(self, name: str) -> ImageSet | None:
        if name not in graph.set_sizes(self.meta):
            return None
        return ImageSet(self.arrays[f"{name}.images"], self.arrays[f"{name}.labels"])

    @property
    def pixels(self) -> str:
        """Name of the tensor that the images of a set stand for: the first that is read and no operation writes."""
        return graph.pixels(self.meta)

    @property
    def constants(self) -> tuple[str, ...]:
        """Names of the tensors beside ``pixels`` that no operation writes, such as an embedding of positions."""
        return graph.constants(self.meta)

    @cached_property
    def cycles(self) -> tuple[Cycle, ...]:
        """The cycles of a recurrent network; empty if there are none."""
        late = cycles.late_reads(self.meta)
        return tuple(
            Cycle(
                tuple(self.operations[index].name for index in part),
                min(int(np.min(self.operations[index].steps)) for index in part if index in late),
            )
            for part in cycles.parts(self.meta)
            if cycles.is_cycle(part, late)
        )

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.operations)

    def operation(self, name: str) -> Operation:
        """The operation ``name``."""
        for operation in self.operations:
            if operation.name == name:
                return operation
        names = [operation.name for operation in self.operations]
        raise UsageError(f"no layer {name!r} in {self.network}; allowed: {', '.join(names)}{nearest(name, names)}")

    def tensor(self, name: str, first: int = 0, end: int | None = None) -> NDArray[Any]:
        """The tensor ``name``, decoded now and not kept: all timesteps, or ``first`` to ``end`` - 1.

        Spikes are bool [T, I, C, H, W] or [T, I, F]; signed spikes int8 and integers that change in time int64 of the
        same shapes; other integers (pixels) have their stored dtype and the shape [I, C, H, W] or [I, F], and so have
        spike times, uint8 (uint16 for more than 254 timesteps): they are the same whatever the timesteps.
        """
        self._check_range(first, end)
        return self.stream(name).tensor(first, end)

    def operand(self, name: str, first: int = 0, end: int | None = None) -> NDArray[Any]:
        """The same as operations read it: spike times as the spikes they stand for, bool [T, I, ...]."""
        self._check_range(first, end)
        return self.stream(name).operand(first, end)

    def stream(self, name: str) -> content.Stream:
        """The tensor ``name`` as it is stored, read once, to decode one range of timesteps after the other."""
        if name not in self.meta.tensors:
            known = ", ".join(self.tensors)
            raise UsageError(f"no tensor {name!r} is stored; stored: {known}{nearest(name, self.tensors)}")
        return content.Stream(self.meta, name, self.arrays[f"tensor.{name}"])

    def _check_range(self, first: int, end: int | None) -> None:
        last = self.timesteps if end is None else end
        if not 0 <= first < last <= self.timesteps:
            raise UsageError(f"got timesteps {first} to {last}; {self.network} has 0 to {self.timesteps}")

    def stored(self, name: str) -> bool:
        """Does the trace hold the tensor ``name``? (It always holds what an operation reads.)"""
        return name in self.meta.tensors

    def kind(self, name: str) -> str:
        """``spike``, ``signed_spike``, ``spike_time`` or ``int``."""
        return self.meta.tensors[name].kind

    def bits(self, name: str) -> int:
        """Width of a value of the tensor ``name``."""
        return graph.operand_bits(self.meta, self.meta.tensors[name])

    def scale(self, name: str) -> float:
        """The real value of one unit of the tensor ``name``; 1 for spikes."""
        return getattr(self.meta.tensors[name], "scale", 1.0)

    def select(
        self, layers: Iterable[str] | None = None, images: Iterable[int] | None = None, timesteps: int | None = None
    ) -> Trace:
        """The same trace with only these operations (in the order of the trace) and these images (by number), and as
        if it had stopped after the first ``timesteps``.

        A choice of layers is no whole network, and has no image sets.

        ``sha256`` and ``path`` stay those of the whole trace. An unknown layer or image is a ``UsageError``, and so are
        timesteps that the trace does not have, or of a trace whose spikes depend on later ones: neurons that are masked
        for firing once, spike times.
        """
        steps = self.timesteps if timesteps is None else timesteps
        if not 1 <= steps <= self.timesteps:
            raise UsageError(f"got {steps} timesteps; {self.network} has {self.timesteps}")
        if steps < self.timesteps:
            masked = [op.name for op in self.operations if op.neuron is not None and op.neuron.mask_fire_once]
            late = masked or [name for name in self.tensors if self.kind(name) == "spike_time"]
            if late:
                raise UsageError(
                    f"{self.network} cannot stop after {steps} of {self.timesteps} timesteps: {late[0]} depends on "
                    "later ones"
                )
        names = None if layers is None else {self.operation(name).name for name in layers}
        chosen = list(range(self.images)) if images is None else list(images)
        outside = [image for image in chosen if not 0 <= image < self.images]
        if outside or not chosen:
            got = f"image {outside[0]}" if outside else "no image"
            raise UsageError(f"got {got}; {self.network} has the images 0 to {self.images - 1}")
        records = [record for record in self.meta.operations if names is None or record.name in names]
        if not records:
            raise UsageError(f"got no layer; {self.network} has {', '.join(op.name for op in self.operations)}")
        used = {name for record in records for name in (*record.inputs, record.output)}
        meta = self.meta.model_copy(
            update={
                "images": len(chosen),
                "timesteps": steps,
                "operations": tuple(records),
                "tensors": {name: tensor for name, tensor in self.meta.tensors.items() if name in used},
                **({} if names is None else {f"{name}_images": None for name in graph.IMAGE_SETS}),
            }
        )
        arrays = self.arrays
        if images is not None or steps < self.timesteps:
            arrays = _Chosen(self.meta, self._graph, self.arrays, chosen, steps)
        return Trace.from_checked(meta, graph.resolve(meta, HERE), arrays, self.sha256, self.path)

    def _operation(self, record: schema.OperationRecord) -> Operation:
        shapes = self._graph.shapes[record.name]
        neuron, requantiser = getattr(record, "neuron", None), getattr(record, "requantiser", None)
        weight: dict[str, Any] = {}
        if isinstance(record, schema.Convolution | schema.Linear):
            weight = {
                "weight": partial(self.arrays.__getitem__, f"weight.{record.name}"),
                "weight_bits": record.weight.bits,
                "weight_scale": record.weight.scale,
            }
        operation = Operation(
            name=record.name,
            op=record.op,
            inputs=record.inputs,
            output=record.output,
            bias=self._integers("bias", record) if getattr(record, "bias", False) else None,
            neuron=from_record(neuron, self.arrays, record.name) if neuron else None,
            gradient_mask=self._gradient_mask(record, shapes),
            requantiser=self._requantiser(requantiser, record) if requantiser else None,
            table=self.arrays[f"table.{record.name}"] if record.op == "softmax" else None,
            **{key: getattr(record, key) for key in PLAIN_KEYS if hasattr(record, key)},
            **weight,
        )
        if isinstance(record, schema.Delay) and record.per_channel:
            operation = replace(operation, steps=self._integers("delay", record))
        return _resolved(operation, self.images, shapes)

    def _requantiser(self, rule: schema.RequantiserRecord, record: schema.OperationRecord) -> Requantiser:
        looked_up = rule.activation_bits is not None
        return Requantiser(
            self._integers("multiplier", record), rule.shift, rule.bits, rule.signed,
            self._integers("activation", record) if looked_up else None,
        )  # fmt: skip

    def _integers(self, role: str, record: schema.OperationRecord) -> NDArray[np.int64]:
        return self.arrays[f"{role}.{record.name}"].astype(np.int64)

    def _gradient_mask(self, record: schema.OperationRecord, shapes: Shapes) -> Callable[[], NDArray[np.bool_]] | None:
        if not getattr(record, "gradient_mask", None):
            return None
        return partial(_mask, self.arrays, record.name, graph.gradient_shape(self.meta, shapes))


def _mask(arrays: Mapping[str, NDArray[Any]], operation: str, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    return content.unpack(arrays[f"gradient.{operation}"], shape)


class _Chosen(Mapping[str, NDArray[Any]]):
    """The arrays of a trace with only some of its images and the first timesteps."""

    def __init__(
        self,
        meta: schema.Meta,
        resolved: graph.Graph,
        arrays: Mapping[str, NDArray[Any]],
        images: list[int],
        timesteps: int,
    ) -> None:
        self._meta = meta
        self._graph = resolved
        self._arrays = arrays
        self._images = images
        self._timesteps = timesteps

    def __getitem__(self, name: str) -> NDArray[Any]:
        role, _, tensor = name.partition(".")
        stored = self._arrays[name]
        if role == "gradient":
            shape = graph.gradient_shape(self._meta, self._graph.shapes[tensor])
            return content.pack(content.unpack(stored, shape, 0, self._timesteps)[:, self._images])
        if role != "tensor":
            return stored
        record = self._meta.tensors[tensor]
        if record.packed_bits:
            decoded = content.Stream(self._meta, tensor, stored).tensor(0, self._timesteps)
            return content.encode(record, decoded[:, self._images])
        return stored[: self._timesteps, self._images] if record.per_timestep else stored[self._images]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


def _resolved(operation: Operation, images: int, shapes: Shapes) -> Operation:
    operation = copy.copy(operation)
    operation.__dict__.update(
        images=images, input_shapes=shapes.inputs, output_shape=shapes.output, weight_shape=shapes.weight, k=shapes.k
    )
    return operation
