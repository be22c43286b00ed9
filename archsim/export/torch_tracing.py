"""From a PyTorch model to a float ``Network``: run it on the inputs and watch who feeds whom.

Hooks on the modules say what ran; a ``TorchFunctionMode`` sees what happens between modules (a residual ``x + y``,
``torch.cat``, reshapes, slices in time), so that every tensor that came from the inputs is known by its node and its
timestep. What is not understood is no error until a layer reads it: whatever a model does with its outputs stays out.

Each neuron's recorded spikes are computed again from its recorded currents. Where they do not follow, the neuron does
something else than was read, and the model is refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from archsim.errors import UsageError
from archsim.export.network import Network, Node, SpikingNeuron, check_timesteps
from archsim.export.quantisation import Exported, export, leak_problems
from archsim.export.torch_modules import (
    LAYERS,
    SAME,
    Inexpressible,
    NeuronRule,
    class_name,
    has_state,
    layer_fields,
    neuron_rule,
    pool_fields,
    rest,
)

INPUT = "input"
# Spikes that rounding in float32 may turn.
_TURNED = 1e-3
_ADDITIONS = ("add", "__add__", "__radd__", "__iadd__", "add_")
_CONCATENATIONS = ("cat", "concat", "concatenate")
# Functions whose result holds the same values in the same order.
_COPIES = (
    "clone", "contiguous", "detach", "float", "double", "to", "cpu", "type", "type_as", "reshape", "view", "view_as",
    "flatten", "unflatten", "squeeze", "unsqueeze", "dropout", "feature_dropout",
)  # fmt: skip


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
    change in time. They become integers of ``input_bits`` in units of ``input_scale`` (1/255 for pixels that were
    divided by 255; by default the largest is the largest integer), or spikes where they are 0 and 1.

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
    torch = _torch()
    check_timesteps(T)
    if not isinstance(model, torch.nn.Module):
        raise UsageError(f"model: got {type(model).__name__}; allowed: a torch.nn.Module")
    values = inputs if isinstance(inputs, torch.Tensor) else np.asarray(inputs)
    if not isinstance(values, torch.Tensor):
        if values.dtype.kind not in "biuf":
            raise UsageError(f"inputs: got {values.dtype}; allowed: numbers")
        values = torch.as_tensor(values)
    if not bool(torch.isfinite(values).all()):
        raise UsageError("inputs: got a value that is not finite; allowed: finite numbers")
    values = values.detach().float() if not values.is_floating_point() else values.detach()
    timed = values.ndim in (3, 5)
    if values.ndim not in (2, 3, 4, 5) or not values.numel() or (timed and len(values) != T):
        raise UsageError(f"inputs: got the shape {list(values.shape)}; allowed: [I, ...] or [{T}, I, ...]")
    tracer = _Tracer(model, T, values, timed, dict(neurons or {}))
    with _evaluation(model, tracer.own), torch.no_grad(), _watch(model, tracer):
        tracer.run(loop)
    network = tracer.network(approximate_leak)
    return export(
        network, name=name or type(model).__name__, weight_bits=weight_bits, input_bits=input_bits,
        input_scale=input_scale, approximate_leak=approximate_leak,
        accept_differences=accept_differences, provenance={"source": _versions(model), **(provenance or {})},
    )  # fmt: skip


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        raise UsageError("from_torch needs PyTorch; pip install 'archsim[torch]'") from None
    return torch


def _versions(model: Any) -> str:
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for library in sorted({type(module).__module__.split(".")[0] for module in model.modules()} | {"torch"}):
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{library} {version(library)}")
    return ", ".join(found)


class _Place(NamedTuple):
    """Which node's values a tensor holds: at timestep ``time``, at all of them (ALL), or the same at every one (None).

    ``node`` is None where they are no node's; ``why`` then says what they are.
    """

    node: str | None
    time: int | None = None
    why: str = ""


ALL = -1


@dataclass
class _Recorded:
    """Currents and spikes of a neuron, per timestep."""

    currents: list[np.ndarray]
    spikes: list[np.ndarray]


class _Tracer:
    """Follows tensors through a run and collects the nodes of the network and all that it cannot express."""

    def __init__(
        self, model: Any, timesteps: int, values: Any, timed: bool, neurons: Mapping[type, NeuronRule]
    ) -> None:
        self.model = model
        self.timesteps = timesteps
        self.values = values
        self.timed = timed
        self.images = values.shape[1] if timed else values.shape[0]
        self.own = neurons
        self.problems: list[str] = []
        shape = tuple(values.shape[2:] if timed else values.shape[1:])
        self.nodes: dict[str, Node] = {INPUT: Node(INPUT, "input", (), shape)}
        self.uses: dict[tuple[Any, ...], str] = {}
        self.places: dict[int, _Place] = {}
        self.alive: list[Any] = []
        self.recorded: dict[str, _Recorded] = {}
        self.outputs: dict[str, dict[int, np.ndarray]] = {}
        self.names = {module: path or type(module).__name__ for path, module in model.named_modules()}
        self.depth = 0

    # ------------------------------------------------------------------------------------------------- running

    def run(self, loop: bool | None) -> None:
        """Show the inputs to the model."""
        torch = _torch()
        multi_step = any(getattr(module, "step_mode", "s") == "m" for module in self.model.modules())
        # The precision and the place of the model's own numbers.
        values = self.values.to(next(self.model.parameters(), torch.empty(0)))
        if loop:
            self.call(self._follow(values.clone(), _Place(INPUT, ALL if self.timed else None)))
        elif multi_step and loop is None:
            sequence = values.clone() if self.timed else values.unsqueeze(0).repeat(self.timesteps, *[1] * values.ndim)
            self.call(self._follow(sequence, _Place(INPUT, ALL)))
        else:
            shown = None if self.timed else self._follow(values.clone(), _Place(INPUT, None))
            for t in range(self.timesteps):
                self.call(self._follow(values[t].clone(), _Place(INPUT, t)) if shown is None else shown)
                looped = any(len(record.spikes) > 1 for record in self.recorded.values())
                if t == 0 and loop is None and looped and shown is not None:
                    break

    def call(self, values: Any) -> None:
        """One call of the model."""
        try:
            self.model(values)
        except UsageError:
            raise
        except Exception as error:
            text = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            raise UsageError(
                f"the model failed on inputs of the shape {list(values.shape)}, {text}; loop=True for a model that"
                " loops over time itself"
            ) from error

    def _follow(self, tensor: Any, place: _Place) -> Any:
        # The tensor is kept: the address of one that is gone may come back as another's.
        self.places[id(tensor)] = place
        self.alive.append(tensor)
        return tensor

    def place(self, tensor: Any) -> _Place | None:
        """What is known of a tensor."""
        return self.places.get(id(tensor))

    # ------------------------------------------------------------------------------------------------- modules

    def module_ran(self, module: Any, arguments: tuple[Any, ...], output: Any) -> None:
        """A module that is known, or has no modules inside, has run."""
        torch = _torch()
        name = self.names[module]
        results = [item for item in _flat(output) if isinstance(item, torch.Tensor)]
        source = next((item for item in arguments if isinstance(item, torch.Tensor)), None)
        place = self.place(source) if source is not None else None
        rule = neuron_rule(module, self.own)
        kind = class_name(module)
        op = LAYERS.get(kind)
        if place is None:
            if rule is not None or op is not None:
                place = _Place(None, None, "")
                self.problem(f"{name}: reads something that does not come from the inputs")
            else:
                return
        if rule is None and op is None and kind not in SAME:
            why = place.why if place.node is None else f"the output of {name} ({type(module).__name__})"
            for result in results:
                self._follow(result, _Place(None, None, why))
            return
        if place.node is None:
            if place.why:
                self.problem(f"{name}: reads {place.why}, which a trace does not have")
            for result in results:
                self._follow(result, _Place(None))
            return
        if kind in SAME:
            self._follow(results[0], place)
            return
        try:
            if rule is not None:
                self._neuron(name, rule(module), place, source, results)
            else:
                assert op is not None
                fields = layer_fields(module, op, self.nodes[place.node].shape)
                self._layer(name, module, op, fields, place, results[0])
        except Inexpressible as reason:
            self.problem(f"{name} ({type(module).__name__}): {reason}")
            for result in results:
                self._follow(result, _Place(None))

    def problem(self, text: str) -> None:
        """Say it once, however often the module runs."""
        if text not in self.problems:
            self.problems.append(text)

    def _layer(self, name: str, key: Any, op: str, fields: Mapping[str, Any], place: _Place, output: Any) -> None:
        assert place.node is not None
        node = self._node(name, (id(key), place.node), op, (place.node,), self._shape(op, place.node, output), fields)
        self._check_size(name, output, node, place)
        self._follow(output, _Place(node.name, place.time))
        if op == "linear":
            self._keep(node, place, output)

    def _keep(self, node: Node, place: _Place, output: Any) -> None:
        parts = self.outputs.setdefault(node.name, {})
        for t, part in self._by_time(output, place.time, node.shape):
            parts[t] = part

    def _shape(self, op: str, source: str, output: Any) -> tuple[int, ...]:
        if op == "linear":
            return (output.shape[-1],)
        if op == "affine":
            return self.nodes[source].shape
        return tuple(output.shape[-3:])

    def _node(
        self, name: str, use: tuple[Any, ...], op: str, inputs: tuple[str, ...], shape: tuple[int, ...],
        fields: Mapping[str, Any],
    ) -> Node:  # fmt: skip
        """The node of a use of a module: the same at every timestep, another if the module is used at another place."""
        if use not in self.uses:
            free = name
            copies = 1
            while free in self.nodes:
                copies += 1
                free = f"{name}.{copies}"
            self.uses[use] = free
            self.nodes[free] = Node(free, op, inputs, shape, **fields)
        return self.nodes[self.uses[use]]

    def _check_size(self, name: str, tensor: Any, node: Node, place: _Place) -> None:
        steps = self.timesteps if place.time == ALL else 1
        expected = steps * self.images * int(np.prod(node.shape))
        if tensor.numel() != expected:
            self.problem(
                f"{name}: gives {tensor.numel()} values, {list(tensor.shape)}; expected: {expected} for all inputs"
            )

    def _neuron(self, name: str, neuron: SpikingNeuron, place: _Place, source: Any, results: list[Any]) -> None:
        assert place.node is not None
        known = self.recorded.get(name)
        if known is None:
            self.recorded[name] = known = _Recorded([], [])
            shape = self.nodes[place.node].shape
            self._node(name, (name,), "neuron", (place.node,), shape, {"neuron": neuron})
        node = self.nodes[self.uses[(name,)]]
        time = ALL if place.time == ALL else len(known.spikes)
        if node.inputs != (place.node,):
            self.problem(f"{name}: has two inputs, {node.inputs[0]} and {place.node}, in one state; give each its own")
        elif place.time not in (None, time):
            self.problem(f"{name}: reads {place.node} of timestep {place.time} at its own timestep {time}")
        elif time != ALL and time >= self.timesteps:
            self.problem(f"{name}: runs more than T = {self.timesteps} times")
        else:
            self._check_size(name, results[0], node, place)
            for _, part in self._by_time(source, ALL if time == ALL else time, node.shape):
                known.currents.append(part)
            for _, part in self._by_time(results[0], ALL if time == ALL else time, node.shape):
                known.spikes.append(part)
        self._follow(results[0], _Place(node.name, time))
        for result in results[1:]:
            self._follow(result, _Place(None, None, f"the membrane potential of {name}"))

    def _by_time(self, tensor: Any, time: int | None, shape: tuple[int, ...]) -> Iterator[tuple[int, np.ndarray]]:
        """Copies [I, ...] for each timestep; in-place operations may follow."""
        array = tensor.detach().cpu().double().numpy().copy()
        if time == ALL:
            yield from enumerate(array.reshape(self.timesteps, self.images, *shape))
        else:
            yield time or 0, array.reshape(self.images, *shape)

    # ----------------------------------------------------------------------------------------------- functions

    def function_ran(self, name: str, arguments: tuple[Any, ...], options: Mapping[str, Any], output: Any) -> Any:
        """A function of torch has run outside all known modules; returns its output."""
        torch = _torch()
        given = [item for item in _flat((arguments, tuple(options.values()))) if isinstance(item, torch.Tensor)]
        known = [place for place in map(self.place, given) if place is not None]
        # Of a tensor that gives its shape only, the result holds nothing.
        if not known or name.endswith("_like") or name.startswith("new_"):
            return output
        if name == "__setitem__":
            self._follow(given[0], _Place(None, None, "a tensor that is written piece by piece"))
            return output
        if name == "__iter__":
            output = list(output)
        results = [item for item in _flat(output) if isinstance(item, torch.Tensor)]
        places = self._function_places(name, arguments, options, given, results) if len(known) == len(given) else None
        if places is None:
            broken = next((place for place in known if place.node is None), None)
            why = broken.why if broken is not None else f"the output of torch's {name}()"
            if name in ("__iter__", "unbind", "__getitem__", "select"):
                why = "part of a tensor (time is taken apart with loop=True, for a model that loops over it)"
            places = [_Place(None, None, why)] * len(results)
        for result, place in zip(results, places, strict=True):
            self._follow(result, place)
        return iter(output) if name == "__iter__" else output

    def _function_places(
        self, name: str, arguments: tuple[Any, ...], options: Mapping[str, Any], given: list[Any], results: list[Any]
    ) -> list[_Place] | None:
        """What the results hold; None if that is nothing a trace knows."""
        places = [place for place in map(self.place, given) if place is not None]
        first = places[0]
        if any(place.node is None for place in places):
            # A copy of what cannot be expressed is that, too.
            return [first] * len(results) if len(given) == 1 and name in _COPIES else None
        if name in ("__iter__", "unbind"):
            if first.time == ALL and len(results) == self.timesteps:
                return [_Place(first.node, t) for t in range(self.timesteps)]
            return None
        if len(results) != 1:
            return None
        (result,) = results
        if name in _ADDITIONS and len(given) == 2 and not options.get("alpha") and given[0].shape == given[1].shape:
            return self._combined("add", places, self.nodes[first.node or ""].shape, result)
        if name in _CONCATENATIONS and len(given) > 1:
            return self._concatenated(arguments, options, given, places, result)
        if name == "stack" and self._is_sequence(places) and result.shape[0] == self.timesteps:
            return [_Place(first.node, ALL if first.time is not None else None)]
        if len(given) != 1:
            return None
        if name in ("__getitem__", "select"):
            index = arguments[-1] if name == "__getitem__" or tuple(arguments[1:2]) == (0,) else None
            if first.time == ALL and isinstance(index, int) and given[0].shape[0] == self.timesteps:
                return [_Place(first.node, index % self.timesteps)]
            return [first] if given[0].numel() == result.numel() and _same_memory(given[0], result) else None
        if name in ("repeat", "expand") and first.time is None:
            whole = result.numel() == self.timesteps * given[0].numel() and result.shape[0] == self.timesteps
            return [_Place(first.node, ALL)] if whole else None
        if name in ("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d"):
            return self._pooled(name, arguments, options, first, result)
        if result.numel() == given[0].numel() and (name in _COPIES or _same_memory(given[0], result)):
            return [first]
        return None

    def _is_sequence(self, places: list[_Place]) -> bool:
        times = [place.time for place in places]
        one = len({place.node for place in places}) == 1 and len(places) == self.timesteps
        return one and (times == list(range(self.timesteps)) or all(time is None for time in times))

    def _combined(self, op: str, places: list[_Place], shape: tuple[int, ...], result: Any) -> list[_Place] | None:
        times = {place.time for place in places if place.time is not None}
        if len(times) > 1 or (ALL in times and any(place.time is None for place in places)):
            return None
        inputs = tuple(place.node or "" for place in places)
        count = sum(1 for node in self.nodes.values() if node.op == op) + 1
        node = self._node(f"{op}{count}", (op, inputs), op, inputs, shape, {})
        place = _Place(node.name, times.pop() if times else None)
        self._check_size(node.name, result, node, place)
        return [place]

    def _concatenated(
        self,
        arguments: tuple[Any, ...],
        options: Mapping[str, Any],
        given: list[Any],
        places: list[_Place],
        result: Any,
    ) -> list[_Place] | None:
        shapes = [self.nodes[place.node or ""].shape for place in places]
        axis = options.get("dim", options.get("axis", arguments[1] if len(arguments) > 1 else 0))
        if any(len(shape) != len(shapes[0]) for shape in shapes) or axis % result.ndim != result.ndim - len(shapes[0]):
            return None
        return self._combined("concat", places, (sum(shape[0] for shape in shapes), *shapes[0][1:]), result)

    def _pooled(
        self, name: str, arguments: tuple[Any, ...], options: Mapping[str, Any], place: _Place, result: Any
    ) -> list[_Place] | None:
        assert place.node is not None
        shape = self.nodes[place.node].shape
        names = ("input", "kernel_size", "stride", "padding")
        given = {**dict(zip(names, arguments, strict=False)), **options}
        op = "max_pool" if name == "max_pool2d" else "sum_pool"
        try:
            if name == "adaptive_avg_pool2d":
                fields = pool_fields(op, shape, None, output_size=given.get("output_size", given.get("kernel_size")))
            else:
                fields = pool_fields(
                    op, shape, given["kernel_size"], given.get("stride"), given.get("padding", 0),
                    given.get("dilation", 1), given.get("ceil_mode", False),
                )  # fmt: skip
        except Inexpressible as reason:
            self.problem(f"{name} of {place.node}: {reason}")
            return [_Place(None)]
        node = self._node(f"{place.node}.pool", (name, place.node, str(fields)), op, (place.node,),
                          tuple(result.shape[-3:]), fields)  # fmt: skip
        self._check_size(node.name, result, node, place)
        return [_Place(node.name, place.time)]

    # ------------------------------------------------------------------------------------------------- results

    def network(self, approximate_leak: bool) -> Network:
        """What was found; raises ``UsageError`` with all that a trace cannot express."""
        problems = list(self.problems)
        if not self.recorded and not problems:
            problems.append("the model has no spiking neurons that archsim knows; `neurons` describes a model's own")
        recorded: dict[str, np.ndarray] = {}
        for name, record in self.recorded.items():
            node = self.nodes[self.uses[(name,)]]
            assert node.neuron is not None
            if len(record.spikes) != self.timesteps:
                if not any(problem.startswith(f"{name}: ") for problem in problems):
                    got = f"runs {len(record.spikes)} times; allowed: T = {self.timesteps}"
                    problems.append(f"{name}: {got}; loop=True for a model that loops over time itself")
                continue
            spikes = np.stack(record.spikes)
            if not np.isin(spikes, (0, 1)).all():
                problems.append(f"{name}: gives other values than 0 and 1")
                continue
            expected = node.neuron.fire(np.stack(record.currents))
            turned = float((expected != spikes).mean())
            if turned > _TURNED:
                problems.append(
                    f"{name}: {100 * turned:.2f} % of its spikes do not follow from its inputs by the rule that was"
                    f" read (decay {node.neuron.decay:.6g}, reset {node.neuron.reset})"
                )
            recorded[node.name] = spikes.astype(np.bool_)
        if problems:
            raise UsageError([*problems, *leak_problems(self.nodes, approximate_leak)])
        for name, parts in self.outputs.items():
            ordered = [parts[t] for t in sorted(parts)]
            recorded[name] = np.stack(ordered) if len(ordered) > 1 or self.timesteps == 1 else ordered[0]
        used = _used(self.nodes)
        return Network(self.timesteps, self.values.cpu().double().numpy(), used, recorded)


def _used(nodes: Mapping[str, Node]) -> dict[str, Node]:
    """The nodes up to the last layers and neurons: sums and pools that only the model's own read-out uses stay out."""
    kept = dict(nodes)
    while True:
        read = {source for node in kept.values() for source in node.inputs}
        idle = [name for name, node in kept.items() if name not in read and node.op in ("add", "concat", "sum_pool")]
        if not idle:
            return {name: replace(node) for name, node in kept.items()}
        for name in idle:
            del kept[name]


def _flat(items: Any) -> Iterator[Any]:
    if isinstance(items, list | tuple):
        for item in items:
            yield from _flat(item)
    elif isinstance(items, dict):
        yield from _flat(tuple(items.values()))
    else:
        yield items


def _same_memory(given: Any, result: Any) -> bool:
    """Is ``result`` the same values in the same order, seen in another shape?"""
    same = given.is_contiguous() and result.is_contiguous() and given.data_ptr() == result.data_ptr()
    return bool(same and given.dtype == result.dtype)


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
    from torch.overrides import TorchFunctionMode

    class Functions(TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            output = function(*args, **(kwargs or {}))
            if tracer.depth:
                return output
            return tracer.function_ran(getattr(function, "__name__", "?"), args, kwargs or {}, output)

    def enter(module: Any, arguments: Any) -> None:
        tracer.depth += 1

    def leave(module: Any, arguments: Any, options: Any, output: Any) -> None:
        if tracer.depth == 1:
            tracer.module_ran(module, (*arguments, *options.values()), output)
        tracer.depth -= 1

    handles = []
    for module in model.modules():
        known = class_name(module) in (*LAYERS, *SAME) or neuron_rule(module, tracer.own) is not None
        if known or not any(True for _ in module.children()):
            handles.append(module.register_forward_pre_hook(enter))
            handles.append(module.register_forward_hook(leave, with_kwargs=True))
    try:
        with Functions():
            yield
    finally:
        for handle in handles:
            handle.remove()
