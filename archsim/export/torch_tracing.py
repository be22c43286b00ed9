"""From a PyTorch model to a float ``Network``: run it on the inputs and watch who feeds whom.

Hooks on the modules say what ran; a ``TorchFunctionMode`` sees what happens between modules (a residual ``x + y``,
``torch.cat``, reshapes, slices in time), so that every tensor that came from the inputs is known by its node and its
timestep. What is not understood is no error until a layer reads it: whatever a model does with its outputs stays out.

``torch_tensors`` knows what the tensors hold, ``torch_nodes`` what the network is so far and whether the model's
numbers follow from it, ``torch_between`` what happened between the modules.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

from archsim.errors import UsageError
from archsim.export.network import Network, array_of, check_options, check_timesteps
from archsim.export.neuron_rules import SpikingNeuron
from archsim.export.quantisation import Exported, export
from archsim.export.rounding import Nearest
from archsim.export.torch_attention import in_parts, taken_apart
from archsim.export.torch_between import Between
from archsim.export.torch_functions import KEEPS, MOVES, changes, plain_name, told
from archsim.export.torch_layers import layer
from archsim.export.torch_modules import (
    LAYERS,
    SAME,
    Inexpressible,
    NeuronRule,
    class_name,
    has_state,
    input_weights,
    is_sequence,
    neuron_rule,
    potential,
    recurrent_fields,
    remedy,
    rest,
)
from archsim.export.torch_nodes import INPUT, Nodes
from archsim.export.torch_tensors import ALL, Followed, Operand, Place, flat, load_torch, same_values


def from_torch(
    model: Any,
    inputs: Any,
    T: int,  # noqa: N803 - the field's name for the number of timesteps
    *,
    weight_bits: int = 8,
    input_bits: int = 8,
    input_scale: float | None = None,
    approximate_leak: bool = False,
    accept_differences: bool = False,
    neurons: Mapping[type, NeuronRule] | None = None,
    loop: bool | None = None,
    name: str | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Exported:
    """A PyTorch, SpikingJelly or snnTorch model, run on ``inputs``, as an integer trace.

    ``inputs`` [I, C, H, W] or [I, F] are shown at every timestep (a direct encoder); [T, I, C, H, W] or [T, I, F]
    change in time, unless all timesteps are equal. They become integers of ``input_bits`` in units of ``input_scale``
    (1/255 for pixels that were divided by 255; by default the largest is the largest integer), or spikes where they
    are 0 and 1.

    ``model`` is called T times with one timestep each; a multi-step model of SpikingJelly once, with [T, I, ...]; a
    model that makes or takes apart the timesteps itself once, with ``inputs`` as they are. ``loop`` tells whether it
    does; by default that is seen where ``inputs`` have no time and the model's neurons run T times in one call.

    ``neurons`` maps classes of the model's own neuron modules to functions that return their ``SpikingNeuron``; such a
    module takes currents and returns spikes (or a tuple that starts with them). ``approximate_leak`` allows decays that
    no shift gives, ``accept_differences`` layers of which a fifth of the spikes and more are others than the model's.
    ``provenance`` has the keys of a trace's.

    Raises ``UsageError`` with every layer that a trace cannot express, and why. The model is run in evaluation mode,
    and left as it was but for the state of its neurons, which is reset.
    """
    network = traced(
        model, inputs, T, weight_bits=weight_bits, input_bits=input_bits, input_scale=input_scale, neurons=neurons,
        loop=loop, provenance=provenance,
    )  # fmt: skip
    return export(
        network, name=name or type(model).__name__, rounding=Nearest(weight_bits), input_bits=input_bits,
        input_scale=input_scale, approximate_leak=approximate_leak,
        accept_differences=accept_differences, provenance={"source": versions(model), **(provenance or {})},
    )  # fmt: skip


def traced(
    model: Any, inputs: Any, T: int,  # noqa: N803 - as in ``from_torch``
    *, weight_bits: int, input_bits: int, input_scale: float | None, neurons: Mapping[type, NeuronRule] | None,
    loop: bool | None, provenance: Mapping[str, Any] | None,
) -> Network:  # fmt: skip
    """The model as a float network that has run on ``inputs``; arguments as in ``from_torch``."""
    torch = load_torch()
    check_timesteps(T)
    check_options(weight_bits, input_bits, input_scale, neurons=neurons, provenance=provenance)
    if not isinstance(model, torch.nn.Module):
        raise UsageError(f"model: got {type(model).__name__}; allowed: a torch.nn.Module")
    values = _values(inputs, T)
    timed = values.ndim in (3, 5)
    # What is repeated T times, as SpikingJelly's models are called, is a direct encoder's input too.
    constant = timed and not loop and bool((values == values[:1]).all())
    if constant:
        values, timed = values[0], False
    tracer = _Tracer(model, T, values, timed, dict(neurons or {}))
    with _evaluation(model, tracer.own), torch.no_grad(), _watch(model, tracer):
        tracer.run(loop)
    if constant and T > 1:
        tracer.found.notes.append("inputs: the same at every timestep, stored once")
    return tracer.found.network()


def _values(inputs: Any, T: int) -> Any:  # noqa: N803 - as in ``from_torch``
    """Inputs as a tensor of finite numbers, [I, F], [T, I, F], [I, C, H, W] or [T, I, C, H, W]."""
    torch = load_torch()
    values = inputs if isinstance(inputs, torch.Tensor) else array_of(inputs)
    if not isinstance(values, torch.Tensor):
        if values.dtype.kind not in "biuf":
            raise UsageError(f"inputs: got {values.dtype}; allowed: numbers")
        values = torch.as_tensor(values)
    if values.layout != torch.strided or values.is_meta:
        raise UsageError(
            f"inputs: got a tensor of {values.layout} on {values.device}; allowed: a dense one with values"
        )
    if not bool(torch.isfinite(values).all()):
        raise UsageError("inputs: got a value that is not finite; allowed: finite numbers")
    values = values.detach().float() if not values.is_floating_point() else values.detach()
    if values.ndim not in (2, 3, 4, 5) or not values.numel() or (values.ndim in (3, 5) and len(values) != T):
        raise UsageError(f"inputs: got the shape {list(values.shape)}; allowed: [I, ...] or [{T}, I, ...]")
    return values


def versions(model: Any) -> str:
    """The libraries whose modules ``model`` has, with their versions."""
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for library in sorted({type(module).__module__.split(".")[0] for module in model.modules()} | {"torch"}):
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{library} {version(library)}")
    return ", ".join(found)


class _Tracer:
    """Follows tensors through a run of the model and tells ``found`` which nodes ran."""

    def __init__(
        self, model: Any, timesteps: int, values: Any, timed: bool, neurons: Mapping[type, NeuronRule]
    ) -> None:
        self.model = model
        self.timed = timed
        self.own = neurons
        self.found = Nodes(timesteps, values, timed)
        parameters = {
            id(value): path.removesuffix("weight").rstrip("._") or path for path, value in model.named_parameters()
        }
        self.between = Between(self.found, parameters)
        # The modules that are not known and have no modules inside, whose functions are running.
        self.inside: list[str] = []
        self.tensors = Followed()
        self.names = {module: path or type(module).__name__ for path, module in model.named_modules()}
        # What the modules read that are running, how those that are neurons work, and whether all of it was zeros.
        self.entered: list[tuple[list[Operand], SpikingNeuron | None, bool]] = []
        self.depth = 0

    def run(self, loop: bool | None) -> None:
        """Show the inputs to the model."""
        torch = load_torch()
        multi_step = any(is_sequence(module) for module in self.model.modules())
        # The precision and the place of the model's own numbers.
        values = self.found.values.to(next(self.model.parameters(), torch.empty(0)))
        if loop:
            self.call(self.tensors.follow(values.clone(), Place(INPUT, ALL if self.timed else None)))
        elif multi_step and loop is None:
            sequence = (
                values.clone() if self.timed else values.unsqueeze(0).repeat(self.found.timesteps, *[1] * values.ndim)
            )
            self.call(self.tensors.follow(sequence, Place(INPUT, ALL)))
        else:
            # A copy for each timestep: the model may write into it.
            for t in range(self.found.timesteps):
                shown, place = (values[t], Place(INPUT, t)) if self.timed else (values, Place(INPUT, None))
                self.call(self.tensors.follow(shown.clone(), place))
                looped = any(len(record.spikes) > 1 for record in self.found.recorded.values())
                if t == 0 and loop is None and looped and not self.timed:
                    break

    def call(self, values: Any) -> None:
        """One call of the model."""
        shape = list(values.shape)
        try:
            output = self.model(values)
        except UsageError:
            raise
        except Exception as error:
            text = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            tuples = (
                "; neurons that also return their state, as snnTorch's do without init_hidden=True, need a model with a"
                " `forward` of its own"
            )
            failed = (
                f"the model failed on inputs of the shape {shape}, {text}; pass loop=True if the model loops over time"
                f" itself{tuples if 'tuple' in text else ''}"
            )
            raise UsageError([*self.found.problems, failed]) from error
        self._returned(output)

    def _returned(self, output: Any) -> None:
        """Note what the model does to the values of its last node: a trace ends with these."""
        first = next((item for item in flat(output) if isinstance(item, load_torch().Tensor)), None)
        place = None if first is None else self.tensors.place(first)
        if place is None or (place.node is not None and place.order is None):
            return
        why = place.why or f"what {place.node} gives in another order"
        note = f"the model returns {why}; the trace ends before that"
        if note not in self.found.notes:
            self.found.notes.append(note)

    def module_enters(self, module: Any, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        """A module that is known, or has no modules inside, is about to run."""
        given = inspect.signature(module.forward).bind(*arguments, **options).arguments.values()
        tensors = [item for item in flat(tuple(given)) if isinstance(item, load_torch().Tensor)]
        rule, neuron = neuron_rule(module, self.own), None
        operands = self.tensors.operands(tensors[:1] if self.is_known(module) else tensors, kept=rule is not None)
        if rule is not None:
            try:
                neuron = rule(module)
                if not isinstance(neuron, SpikingNeuron):
                    raise Inexpressible(f"`neurons` describes it by {type(neuron).__name__}; allowed: a SpikingNeuron")
            except Inexpressible as reason:
                self.found.problem(f"{self.names[module]} ({type(module).__name__}): {reason}")
        starts = neuron is None and all(not bool(item.any()) for item in tensors)
        self.entered.append((operands, neuron, starts))
        if not self.is_known(module):
            self.inside.append(self.names[module])

    def is_known(self, module: Any) -> bool:
        """Is it a layer, a neuron or a module without an effect?"""
        return class_name(module) in (*LAYERS, *SAME) or neuron_rule(module, self.own) is not None

    def module_ran(self, module: Any, output: Any) -> None:
        """A module that is known, or has no modules inside, has run."""
        name = self.names[module]
        operands, neuron, starts = self.entered.pop()
        if not self.is_known(module):
            self.inside.pop()
        results = [item for item in flat(output) if isinstance(item, load_torch().Tensor)]
        if not self.is_known(module):
            # Whoever reads what no trace has, for a reason that was not told yet, has the same reason.
            if operands and not any(operand.place.why for operand in operands):
                lost = [result for result in results if (self.tensors.place(result) or Place(None)).node is None]
                for result in lost:
                    # Why the function in it is not understood.
                    _, _, reason = (self.tensors.place(result) or Place(None)).why.rstrip(")").partition(" (")
                    told_by = f": {reason}" if reason and class_name(module) else remedy(module)
                    why = f"the output of {name} ({type(module).__name__}{told_by})"
                    self.tensors.follow(result, Place(None, None, why))
                note = f"{name} ({type(module).__name__}) is not understood and stays out{remedy(module)}"
                if lost and remedy(module) and note not in self.found.notes:
                    self.found.notes.append(note)
            return
        kind = class_name(module)
        places = [Place(None)] * len(results)
        if not operands:
            # Of zeros that the model made, as of a state at rest, a layer makes a constant.
            if kind not in SAME and not starts:
                self.found.problem(
                    f"{name}: reads a tensor that was not computed from the inputs by modules and functions of torch"
                )
        elif operands[0].place.node is None:
            place = operands[0].place
            if kind in SAME:
                places = [place] * len(results)
            elif place.why:
                if neuron is not None:
                    self.found.misread.add(name)
                self.found.problem(f"{name}: reads {place.why}, which a trace cannot hold")
        elif not results:
            self.found.problem(f"{name} ({type(module).__name__}): gives no tensor")
        else:
            try:
                if neuron is not None:
                    operand = self._reads(module, name, operands[0])
                    back, shown = recurrent_fields(module), potential(module)
                    places = self.found.neuron(name, neuron, operand, results, back, shown)
                elif neuron_rule(module, self.own) is None:
                    places = self._layer(module, name, operands[0], results)
            except Inexpressible as reason:
                self.found.problem(f"{name} ({type(module).__name__}): {reason}")
        if operands:
            # The first is the output, even where the state has it, too.
            for result, place in reversed(list(zip(results, places, strict=True))):
                self.tensors.follow(result, place)

    def _reads(self, module: Any, name: str, operand: Operand) -> Operand:
        """What a neuron integrates of an operand: a recurrent one of norse has weights for its input."""
        weight = input_weights(module)
        if weight is None:
            return operand
        stand_in = SimpleNamespace(weight=weight, bias=None, in_features=weight.shape[1])
        read = layer(self.found, stand_in, "linear", operand)
        result = read.operand.values @ weight.T
        (place,) = self.found.made(
            f"{name}.input", (id(module), "input"), read.op, [read.operand], read.shape(result), read.fields, result,
            read.order,
        )  # fmt: skip
        return Operand(result, place, tuple(result.shape), result)

    def _layer(self, module: Any, name: str, operand: Operand, results: list[Any]) -> list[Place]:
        """What a layer makes of an operand that is a node's."""
        kind = class_name(module)
        if kind in SAME:
            if not same_values(operand.values, results[0]):
                raise Inexpressible("changes values in evaluation mode")
            return [operand.place] * len(results)
        if len(results) != 1:
            raise Inexpressible(f"gives {len(results)} tensors; allowed: 1")
        read = layer(self.found, module, LAYERS[kind], operand)
        result = results[0]
        return self.found.made(
            name, (id(module),), read.op, [read.operand], read.shape(result), read.fields, result, read.order
        )  # fmt: skip

    def function_ran(
        self,
        function: Any,
        arguments: tuple[Any, ...],
        options: Mapping[str, Any],
        operands: list[Operand],
        output: Any,
    ) -> None:
        """A function of torch has run outside all known modules, on ``operands`` and perhaps other tensors."""
        tensor = load_torch().Tensor
        name = plain_name(function)
        results = [item for item in flat(output) if isinstance(item, tensor)]
        data = arguments[0] if arguments else options.get("input", options.get("tensors"))
        # Of a tensor that gives its shape or type only, the result holds nothing.
        if name in KEEPS or name.endswith("_as"):
            operands = [operand for operand in operands if operand.tensor is data]
        if not operands or name.endswith("_like") or name.startswith("new_"):
            return
        if name == "setitem":
            self.tensors.follow(arguments[0], Place(None, None, "a tensor that is written piece by piece"))
            return
        # What is scattered can only be moved on.
        broken = next(
            (
                operand.place._replace(scattered=None)
                for operand in operands
                if operand.place.node is None and not (name in MOVES and operand.place.scattered)
            ),
            None,
        )
        places: list[Place | None] = [None] * len(results)
        if broken is None:
            options = {key: value for key, value in options.items() if key != "out"}
            module = self.inside[-1] if self.inside else ""
            places = self.between.places(function, data, arguments, options, operands, results, module)
        for result, place in zip(results, places, strict=True):
            whole = result.numel() >= operands[0].values.numel()
            if broken is not None:
                place = broken
            elif place is None and name in MOVES:
                why = (
                    f"values in another order or number (torch's {name}())" if whole else
                    "part of a tensor (pass loop=True if the model itself loops over time)"
                )  # fmt: skip
                place = Place(None, None, why)
            elif place is None:
                place = Place(None, None, told(name, [operand.place.time for operand in operands]))
            self.tensors.follow(result, place)


@contextlib.contextmanager
def _evaluation(model: Any, own: Mapping[type, NeuronRule]) -> Iterator[None]:
    """The model in evaluation mode with neurons at rest, and afterwards as it was."""
    training = {module: module.training for module in model.modules()}
    stateful = [module for module in model.modules() if has_state(module, own)]
    model.eval()
    for module in stateful:
        rest(module)
    try:
        yield
    finally:
        for module, was in training.items():
            module.training = was
        for module in stateful:
            rest(module)


@contextlib.contextmanager
def _watch(model: Any, tracer: _Tracer) -> Iterator[None]:
    """Tell ``tracer`` of every module and function that runs."""
    import torch
    from torch.overrides import TorchFunctionMode

    class Functions(TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            options = kwargs or {}
            if tracer.depth:
                return function(*args, **options)
            parts = in_parts(function, args, options)
            if parts is not None:
                with self:
                    return parts()
            items = (args, {key: value for key, value in options.items() if key != "out"})
            # Whoever asks for a tensor's shape changes no values.
            asks = getattr(function, "__name__", "?") == "__get__"
            operands = [] if asks else tracer.tensors.operands(items, kept=changes(function, options))
            output = function(*args, **options)
            if asks and isinstance(output, torch.Tensor):
                operands = tracer.tensors.operands(items)
            tracer.function_ran(function, args, options, operands, output)
            return output

    def enter(module: Any, arguments: Any, options: Any) -> None:
        if not tracer.depth:
            tracer.module_enters(module, arguments, options)
        tracer.depth += tracer.is_known(module)

    def leave(module: Any, arguments: Any, output: Any) -> None:
        tracer.depth -= tracer.is_known(module)
        if not tracer.depth:
            tracer.depth += 1
            tracer.module_ran(module, output)
            tracer.depth -= 1

    handles = []
    for module in model.modules():
        if tracer.is_known(module) or not any(True for _ in module.children()):
            handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
            handles.append(module.register_forward_hook(leave))
    try:
        with taken_apart(model), Functions():
            yield
    finally:
        for handle in handles:
            handle.remove()
