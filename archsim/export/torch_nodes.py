"""The network that a running PyTorch model turns out to be, node by node.

Nothing is taken on trust. What a node makes of the tensors that it reads is computed again in double precision and
compared with what the model's tensor holds, and a neuron's spikes are computed again from its currents. Where they do
not follow, the model does something else than was read, and is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from archsim.errors import UsageError
from archsim.export.network import Network, Node, evaluate
from archsim.export.neuron_rules import SpikingNeuron
from archsim.export.torch_modules import Inexpressible
from archsim.export.torch_orders import factored
from archsim.export.torch_tensors import ALL, MEAN, Operand, Place, load_torch, samples

INPUT = "input"
# Spikes that rounding in float32 may turn.
_TURNED = 1e-3
# By what share of the largest potential others may be off.
_SAME_POTENTIAL = 1e-4
# By how many units in the last place of all that it adds up a sum of the model may be off.
_ROUNDING = 1 << 10
# Operations that pass on what layers and neurons give.
_PASSED_ON = (
    "add", "affine", "concat", "sum_pool", "reduce", "rearrange", "multiply", "slice", "constant", "relu", "gate",
    "softmax", "layer_norm",
)  # fmt: skip
# What the read-out of a network without neurons leaves out: it changes no class.
_UNSCALED = ("softmax", "constant")
# What networks of neurons do not have, by its name in torch.
_WITHOUT_SPIKES = {"relu": "ReLU", "softmax": "softmax", "layer_norm": "layer norm"}
# What may come behind a mean over timesteps: it is the mean of what these make of every timestep.
_LINEAR = ("linear", "conv2d", "affine", "sum_pool", "reduce", "rearrange", "slice", "add")
# Numbers that a node is computed of at once.
_AT_ONCE = 1 << 22


@dataclass
class Recorded:
    """The spikes of a neuron, per timestep, and how many of them do not follow from its currents by its rule: from its
    potential, and from the potential of a neuron that starts from rest at every timestep.
    """

    spikes: list[np.ndarray] = field(default_factory=list)
    state: Any = None
    turned: int = 0
    turned_from_rest: int = 0
    binary: bool = True


class Nodes:
    """The nodes found so far, what they gave, and all that a trace cannot express."""

    def __init__(self, timesteps: int, values: Any, timed: bool) -> None:
        self.timesteps = timesteps
        self.values = values
        self.images = values.shape[1] if timed else values.shape[0]
        self.problems: list[str] = []
        self.notes: list[str] = []
        shape = tuple(values.shape[2:] if timed else values.shape[1:])
        self.nodes: dict[str, Node] = {INPUT: Node(INPUT, "input", (), shape)}
        self.uses: dict[tuple[Any, ...], str] = {}
        self.recorded: dict[str, Recorded] = {}
        self.outputs: dict[str, dict[int, np.ndarray]] = {}
        self.ran: dict[str, set[int | None]] = {}
        # Nodes of which something was said that would be said again at every timestep, or in other words behind them.
        self.misread: set[str] = set()

    def shape(self, operand: Operand) -> tuple[int, ...]:
        """The shape that the node of an operand has."""
        return self.nodes[operand.place.node or ""].shape

    def problem(self, text: str) -> None:
        """Say it once, however often the module runs."""
        if text not in self.problems:
            self.problems.append(text)

    def made(
        self, name: str, use: tuple[Any, ...], op: str, operands: list[Operand], shape: tuple[int, ...],
        fields: Mapping[str, Any], result: Any, order: Any = None,
    ) -> list[Place]:  # fmt: skip
        """The place of what a layer or function gave: its node, if that computes these values."""
        inputs = tuple(operand.place.node or "" for operand in operands)
        node = self._node(name, (*use, inputs), op, inputs, shape, fields)
        times = [operand.place.time for operand in operands if operand.place.time is not None]
        if MEAN in times and op not in _LINEAR:
            raise Inexpressible("reads a mean over timesteps, which only sums and weights may follow")
        place = Place(node.name, times[0] if times else None, "", order)
        self.ran.setdefault(node.name, set()).add(place.time)
        fits = [self._check_size(operand.place.node or "", operand.values, operand.place) for operand in operands]
        if self._check_size(node.name, result, place) and all(fits):
            self._check_values(node, operands, result, order)
        if len(shape) == 1 and op in ("linear", "affine"):
            for t, part in self._by_time(samples(result, order, shape), place.time, shape):
                self.outputs.setdefault(node.name, {})[t] = part.copy()
        return [place]

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

    def _check_size(self, name: str, tensor: Any, place: Place) -> bool:
        """Has it the values of all inputs?"""
        steps = self.timesteps if place.time == ALL else 1
        expected = steps * self.images * int(np.prod(self.nodes[place.node or ""].shape))
        if tensor.numel() != expected:
            self.problem(
                f"{name}: gives {tensor.numel()} values, {list(tensor.shape)}; expected: {expected} for all inputs"
            )
        return bool(tensor.numel() == expected)

    def _check_values(self, node: Node, operands: list[Operand], result: Any, order: Any) -> None:
        """Is the result what the node makes of the operands, but for rounding?"""
        torch = load_torch()
        shapes = [self.nodes[name].shape for name in node.inputs]
        given = [samples(item.values, item.place.order, shape) for item, shape in zip(operands, shapes, strict=True)]
        got = samples(result, order, node.shape)
        share = _ROUNDING * (torch.finfo(result.dtype).eps if result.is_floating_point() else 0.0)
        window = 1 if node.weight is None or node.weight.ndim < 4 else int(np.prod(node.weight.shape[1:]))
        step = max(1, _AT_ONCE // max(int(np.prod(node.shape[1:])) * window, 1))
        for first in range(0, len(got), step):
            part = slice(first, first + step)
            inputs = [values[part][None] for values in given]
            expected = evaluate(node, inputs)[0]
            # Numbers that are not finite are said where the weights are.
            finite = np.isfinite(expected) | np.isfinite(got[part])
            wrong = np.abs(np.subtract(expected, got[part], where=finite, out=np.zeros_like(expected)))
            if not (wrong <= share * np.abs(got[part]).max(where=finite, initial=0.0)).all():
                # Where large terms cancel, rounding is in proportion to these.
                size = evaluate(_magnitude(node), [np.abs(values) for values in inputs])[0]
                if not (wrong <= share * size).all() and node.name not in self.misread:
                    self.misread.add(node.name)
                    self.problem(
                        f"{node.name}: does not follow from {' and '.join(node.inputs)}; the model computes something"
                        f" between them that was not understood (values differ by up to {wrong.max():.3g})"
                    )
                    return

    def neuron(
        self, name: str, neuron: SpikingNeuron, operand: Operand, results: list[Any],
        back: Mapping[str, Any] | None = None, shown: tuple[float, float] | None = None,
    ) -> list[Place]:  # fmt: skip
        """The places of what a neuron gave: its spikes, which are checked against its rule, and its state.

        ``back`` is the layer through which it reads the spikes that it fired a timestep before. Of one that fires
        nothing ``shown`` says what the model gives of its potential: times a number, plus another.
        """
        place = operand.place
        source = self.nodes[place.node or ""]
        several = max(np.size(np.asarray(neuron.threshold)), np.size(neuron.decay)) > 1
        if several and (place.order is not None or operand.shape[-len(source.shape) :] != source.shape):
            raise Inexpressible(f"reads {source.name} in another shape and has several thresholds; allowed: one")
        known = self.recorded.setdefault(name, Recorded())
        reads = source.name if back is None else self._recurrent(name, source, back)
        node = self._node(name, (name, ()), "neuron", (reads,), source.shape, {"neuron": neuron})
        time = ALL if place.time == ALL else len(known.spikes)
        if node.name in self.misread:
            return [Place(None)] * len(results)
        wrong = ""
        if node.inputs != (reads,):
            wrong = (
                f"has two inputs, {node.inputs[0]} and {reads}, in one state; allowed: the same at every"
                " timestep, and a module of its own at each place"
            )
        elif place.time == MEAN:
            wrong = "reads a mean over timesteps, which only sums and weights may follow"
        elif place.time not in (None, time):
            wrong = f"reads {source.name} of timestep {place.time} at its own timestep {time}"
        elif len(known.spikes) >= self.timesteps:
            wrong = f"runs more than T = {self.timesteps} times"
        if wrong:
            # Whatever reads its spikes would only say again that they are out of step.
            self.misread.add(node.name)
            self.problem(f"{name}: {wrong}")
            return [Place(None)] * len(results)
        given = results[0] if shown is None else (results[0] - shown[1]) / shown[0]
        if self._check_size(name, results[0], place):
            assert node.neuron is not None
            currents = self._by_time(samples(operand.values, place.order, node.shape), time, node.shape)
            spikes = self._by_time(samples(given, place.order, node.shape), time, node.shape)
            for (_, current), (_, spike) in zip(currents, spikes, strict=True):
                self._follow(node, known, current, spike)
        state = Place(None, None, f"the membrane potential of {name}")
        output = Place(node.name, time, "", place.order)
        if shown is not None:
            weight, bias = (np.full(node.shape[0], value) for value in shown)
            inner = Operand(given, output, tuple(given.shape), given)
            fields = {"weight": weight, "bias": bias}
            (output,) = self.made(
                f"{name}.potential", ("potential", name), "affine", [inner], node.shape, fields, results[0], place.order
            )
        return [output, *[state] * (len(results) - 1)]

    def _recurrent(self, name: str, source: Node, back: Mapping[str, Any]) -> str:
        """The sum of what a recurrent neuron reads: ``source``, and its own spikes a timestep late through ``back``."""
        total = f"{name}.sum"
        if total not in self.nodes:
            late, layer = f"{name}.delay", f"{name}.recurrent"
            fields = dict(back)
            op = fields.pop("op")
            if op == "affine":
                fields["weight"] = np.broadcast_to(fields["weight"], source.shape[:1]).copy()
            self.nodes[late] = Node(late, "delay", (name,), source.shape, options={"steps": 1})
            self.nodes[layer] = Node(layer, op, (late,), source.shape, **fields)
            self.nodes[total] = Node(total, "add", (source.name, layer), source.shape)
        return total if self.nodes[total].inputs[0] == source.name else source.name

    def _follow(self, node: Node, known: Recorded, current: np.ndarray, spike: np.ndarray) -> None:
        """Compute a timestep's spikes again."""
        neuron = node.neuron
        assert neuron is not None
        back = self.nodes.get(f"{node.name}.recurrent")
        if back is not None and f"{node.name}.delay" in back.inputs:
            before = known.spikes[-1].astype(np.float64) if known.spikes else np.zeros(current.shape)
            current = current + evaluate(back, [before[None]])[0]
        at_rest = neuron.start_state(current.shape)
        known.state = at_rest if known.state is None else known.state
        known.turned_from_rest += _differing(neuron, neuron.step(current, at_rest, spike)[0], spike)
        expected, known.state = neuron.step(current, known.state, spike)
        known.turned += _differing(neuron, expected, spike)
        known.binary = known.binary and bool(np.isin(spike, (0, 1)).all())
        known.spikes.append(spike.astype(np.bool_) if neuron.fires == "spike" else spike.astype(np.float32))

    def constant(self, name: str, values: np.ndarray, unit: float | None = None) -> str:
        """The node that holds ``values`` for all inputs, which are multiples of ``unit`` if that is given."""
        use = ("constant", name, values.tobytes())
        options = {} if unit is None else {"unit": unit}
        return self._node(name, use, "constant", (), values.shape, {"weight": values.copy(), "options": options}).name

    def arranged(self, operand: Operand, shape: tuple[int, ...]) -> Operand:
        """``operand`` as a node of ``shape`` in the tensor's own order: itself, or rearranged."""
        source = self.nodes[operand.place.node or ""]
        order = operand.place.order
        if order is None and source.shape == shape:
            return operand
        values = np.arange(int(np.prod(source.shape))) if order is None else order
        found = factored(values) if len(values) == int(np.prod(shape)) else None
        if found is None:
            told = f"reads {operand.place.why or f'{source.name} in another order'}"
            raise Inexpressible(f"{told}, which a trace cannot hold")
        options = {"view": found[0], "order": found[1], "shape": shape}
        use = ("arranged", str(options), (source.name,))
        node = self._node(f"{source.name}.arranged", use, "rearrange", (source.name,), shape, {"options": options})
        self.ran.setdefault(node.name, set()).add(operand.place.time)
        return replace(operand, place=Place(node.name, operand.place.time))

    def _by_time(self, array: np.ndarray, time: int | None, shape: tuple[int, ...]) -> Iterator[tuple[int, np.ndarray]]:
        """Values [I, ...] for each timestep."""
        if time == ALL:
            yield from enumerate(array.reshape(self.timesteps, self.images, *shape))
        else:
            yield max(time or 0, 0), array.reshape(self.images, *shape)

    def network(self) -> Network:
        """What was found; raises ``UsageError`` with all that a trace cannot express."""
        problems = list(self.problems)
        plain = self.timesteps == 1 and not self.recorded and not self.notes
        if not self.recorded and not plain and not problems:
            problems.append(
                "the model has no spiking neurons that archsim knows; `neurons` describes a model's own, and T = 1"
                " exports a network without any"
            )
            problems.extend(self.notes)
        recorded: dict[str, np.ndarray] = {}
        out_of_step = self.out_of_step()
        for name, record in self.recorded.items():
            node = self.nodes[self.uses[(name, ())]]
            if node.name in self.misread:
                continue
            if len(record.spikes) == self.timesteps:
                problems.extend(_neuron_problems(node, record))
            elif node.name not in out_of_step and not any(problem.startswith(f"{name}: ") for problem in problems):
                got = f"runs {len(record.spikes)} times; allowed: T = {self.timesteps}"
                problems.append(f"{name}: {got}; pass loop=True if the model loops over time itself")
            recorded[node.name] = np.stack(record.spikes) if record.spikes else np.empty(0)
        partly = {
            name: times
            for name, times in self.ran.items()
            if not times & {None, ALL, MEAN} and len(times) != self.timesteps
        }  # fmt: skip
        used = _used(self.nodes, partly, _UNSCALED if plain else _PASSED_ON)
        problems += _without_spikes(used) if self.recorded else []
        problems += [
            f"{name}: runs at timestep {', '.join(map(str, times))} alone; allowed: at all {self.timesteps}"
            for name, times in partly.items()
            if name in used and name not in out_of_step
        ]
        if plain and not problems and not any(node.op in ("conv2d", "linear") for node in used.values()):
            problems.append("the model has no layers with weights; allowed: at least one convolution or linear layer")
        if problems:
            raise UsageError(problems)
        for name, parts in self.outputs.items():
            if name in used:
                ordered = [parts[t] for t in sorted(parts)]
                recorded[name] = np.stack(ordered) if len(ordered) > 1 or self.timesteps == 1 else ordered[0]
        return Network(self.timesteps, self.values.cpu().double().numpy(), used, recorded, self.notes)

    def out_of_step(self) -> set[str]:
        """Nodes around one that was misread: that it reads, or that read it. How often they run says nothing new."""
        found = set(self.misread)
        for node in self.nodes.values():
            if found.intersection(node.inputs):
                found.add(node.name)
        return found.union(*(self.nodes[name].inputs for name in self.misread if name in self.nodes))


def _differing(neuron: SpikingNeuron, expected: np.ndarray, given: np.ndarray) -> int:
    """How many outputs are others; potentials are, where they differ by more than 32-bit floats round."""
    if neuron.fires != "nothing":
        return int((expected != given).sum())
    most = float(np.abs(given).max(initial=0.0))
    return int((np.abs(expected - given) > _SAME_POTENTIAL * most).sum())


def _neuron_problems(node: Node, record: Recorded) -> list[str]:
    """What is wrong with the spikes of a neuron that ran at every timestep."""
    assert node.neuron is not None
    count = len(record.spikes) * record.spikes[0].size
    if not record.binary and node.neuron.fires == "spike":
        return [f"{node.name}: gives values other than 0 and 1"]
    if record.turned <= _TURNED * count:
        return []
    if record.turned_from_rest <= _TURNED * count:
        return [
            f"{node.name}: starts from rest at every timestep, as its state is made or reset inside of `forward`, which"
            " runs once per timestep; make it outside (init_hidden=True), or loop over time in `forward` and pass"
            " loop=True"
        ]
    return [
        f"{node.name}: {100 * record.turned / count:.2f} % of its spikes do not follow from its inputs by the rule that"
        f" was read (decay {np.ravel(node.neuron.decay)[0]:.6g}, reset {node.neuron.reset})"
    ]


def _without_spikes(nodes: Mapping[str, Node]) -> list[str]:
    """What stands between neurons and works on activations of a network that has none."""
    found = []
    for node in nodes.values():
        called = str(node.options["kind"]) if node.op == "gate" else _WITHOUT_SPIKES.get(node.op)
        if called is not None:
            found.append(
                f"{node.name}: a {called} in a network of spiking neurons; allowed: sums, products and neurons, or, in"
                " a network without neurons, T = 1"
            )
    return found


def _used(nodes: Mapping[str, Node], partly: Container[str], passed_on: Container[str]) -> dict[str, Node]:
    """The nodes up to the last layers and neurons: what only the model's own read-out uses (``passed_on``) stays out,
    but for scaling at all timesteps (not ``partly``) that the last layer can take into its weights.
    """
    kept = dict(nodes)
    while True:
        readers = Counter(source for node in kept.values() for source in node.inputs)
        idle = [node.name for node in kept.values() if not readers[node.name] and node.op in passed_on]
        taken = [
            name
            for name in idle
            if kept[name].op == "affine" and name not in partly
            if kept[kept[name].inputs[0]].op in ("conv2d", "linear") and readers[kept[name].inputs[0]] == 1
        ]
        if idle == taken:
            return {name: replace(node) for name, node in kept.items()}
        for name in set(idle).difference(taken):
            del kept[name]


def _magnitude(node: Node) -> Node:
    """The node that, of the magnitudes of its inputs, gives the sum of the magnitudes of all that it adds up."""
    weight, bias = (None if values is None else np.abs(values) for values in (node.weight, node.bias))
    return replace(node, weight=weight, bias=bias)
