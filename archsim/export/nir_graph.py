"""From a graph of the Neuromorphic Intermediate Representation (NIR) to a trace.

NIR describes neurons in continuous time; a trace has timesteps. With the step ``dt`` Euler's method gives, for
``tau dv/dt = (v_leak - v) + r I``, ``H = v + dt / tau (v_leak - v + r I)``: a decay of 1 - dt / tau and a gain of
r dt / tau; for ``dv/dt = r I`` a decay of 1 and a gain of r dt. Neurons spike above their threshold and are reset to
``v_reset``, which must be where they rest. Several edges into a node add up.

A file does not say its ``dt``. SpikingJelly and snnTorch write graphs for 1e-4 s, Norse runs them at 1e-3 s, and sinabs
counts in timesteps, 1. A graph that makes sense at another of these than the one in use gets that said.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np

from archsim.errors import MOST_PROBLEMS, UsageError, nearest
from archsim.export.network import (
    Network,
    Node,
    Real,
    Shape,
    SpikingNeuron,
    array_of,
    check_options,
    check_timesteps,
    run,
)
from archsim.export.nir_file import read_graph, read_inputs, shown
from archsim.export.quantisation import SAME_DECAY, Exported, export, leak_problems, nearest_leak
from archsim.export.torch_modules import Inexpressible, ungrouped
from archsim.trace.graph import MAX_ELEMENTS

# Fields by kind of node: those that it must have, and those that it may have.
_FIELDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Input": ((), ("shape",)),
    "Output": ((), ("shape",)),
    "Flatten": ((), ("start_dim", "end_dim", "input_type")),
    "Conv2d": (("weight", "stride", "padding", "dilation", "groups"), ("bias", "input_shape")),
    "Linear": (("weight",), ()),
    "Affine": (("weight", "bias"), ()),
    "Scale": (("scale",), ()),
    "SumPool2d": (("kernel_size", "stride", "padding"), ()),
    "AvgPool2d": (("kernel_size", "stride", "padding"), ()),
    "IF": (("r", "v_threshold"), ("v_reset",)),
    "LIF": (("tau", "r", "v_leak", "v_threshold"), ("v_reset",)),
}
_ANY = ("type", "metadata")
# Timesteps in seconds for which tools write graphs.
_USUAL_DT = (1.0, 1e-3, 1e-4)
MAX_NODES = 2_000
# Of a layer whose weights are not in the file as they are, but with zeros between groups.
MAX_UNGROUPED = 1 << 26

Key = tuple[str, ...]
"""A node's name, behind the names of the graphs that it lies in."""


def from_nir(
    graph: Any,
    inputs: Any,
    T: int | None = None,  # noqa: N803 - the field's name for the number of timesteps
    *,
    dt: float = 1e-4,
    weight_bits: int = 8,
    input_bits: int = 8,
    input_scale: float | None = None,
    approximate_leak: bool = False,
    accept_differences: bool = False,
    name: str = "nir",
    provenance: Mapping[str, Any] | None = None,
) -> Exported:
    """A NIR graph (``nir.NIRGraph``, or the path of one), run on ``inputs``, as an integer trace.

    ``inputs`` (an array, or the path of a .npy or .npz file) and the other arguments are those of ``from_torch``;
    inputs that change in time say how many timesteps there are. The stated error is against the same graph in float64.
    Raises ``UsageError`` with every node that a trace cannot express, and why.
    """
    check_options(weight_bits, input_bits, input_scale, provenance=provenance)
    if not isinstance(dt, int | float) or not 0 < dt < math.inf:
        raise UsageError(f"dt: got {dt!r}; allowed: seconds above zero")
    if isinstance(graph, str | os.PathLike):
        name, record = Path(graph).stem if name == "nir" else name, read_graph(graph)
    else:
        record = _record(graph)
    values = _values(read_inputs(inputs) if isinstance(inputs, str | os.PathLike) else inputs)
    timed = values.ndim in (3, 5)
    if T is None and not timed:
        raise UsageError(f"T: inputs {list(values.shape)} have no time, so the number of timesteps is needed")
    timesteps = len(values) if T is None else T
    check_timesteps(timesteps)
    if timed and len(values) != timesteps:
        raise UsageError(f"inputs: got {len(values)} timesteps; allowed: T = {timesteps}")
    images, shape = (values.shape[1], values.shape[2:]) if timed else (values.shape[0], values.shape[1:])
    reader = _Reader(record, shape, timesteps, images, dt)
    reader.read()
    other = {} if approximate_leak else reader.other_decays()
    if reader.problems or other:
        rest = {key: node for key, node in reader.found.items() if key not in other}
        raise UsageError([*reader.problems, *other.values(), *leak_problems(rest, approximate_leak)])
    network = Network(timesteps, values, reader.found, notes=reader.notes())
    with np.errstate(over="ignore", invalid="ignore"):
        run(network)
    for node, output in network.recorded.items():
        if not np.isfinite(output).all():
            raise UsageError(f"{node}: sums beyond all numbers")
    doubts = reader.other_gains() | reader.silent(network)
    network.notes.extend(doubts.values())
    try:
        with np.errstate(over="raise", invalid="raise"):
            return export(
                network, name=name, weight_bits=weight_bits, input_bits=input_bits, input_scale=input_scale,
                approximate_leak=approximate_leak, accept_differences=accept_differences,
                provenance={"source": f"NIR, dt = {dt:g} s", **(provenance or {})},
            )  # fmt: skip
    except FloatingPointError:
        text = "weights, biases, thresholds and inputs that are too far apart to have integers"
        raise UsageError([text, *doubts.values()]) from None
    except UsageError as error:
        raise UsageError([*error.problems, *doubts.values()]) from None


def _record(graph: Any) -> dict[str, Any]:
    """A graph in memory as NIR would write it."""
    if not callable(getattr(graph, "to_dict", None)):
        raise UsageError(f"graph: got {type(graph).__name__}; allowed: a nir.NIRGraph or the path of a file")
    try:
        record: dict[str, Any] = graph.to_dict()
    # A graph may hold anything, itself too.
    except Exception as error:
        raise UsageError(f"graph: NIR cannot write it, {type(error).__name__}: {shown(error)}") from None
    return record


def _values(inputs: Any) -> Real:
    """Inputs as finite numbers [I, F], [T, I, F], [I, C, H, W] or [T, I, C, H, W]."""
    values = array_of(inputs)
    if values.ndim not in (2, 3, 4, 5) or not values.size or values.dtype.kind not in "biuf":
        got = f"{shown(values.dtype)} {list(values.shape)}"
        raise UsageError(f"inputs: got {got}; allowed: numbers [I, ...] or [T, I, ...]")
    with np.errstate(over="ignore"):
        values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise UsageError("inputs: got a value that is not finite; allowed: finite numbers")
    return values


class _Reader:
    """Puts the nodes of a graph, and of the graphs in it, in order and translates them one by one."""

    def __init__(self, record: dict[str, Any], shape: Shape, timesteps: int, images: int, dt: float) -> None:
        self.record = record
        self.dt = dt
        self.shape = shape
        self.timesteps, self.images = timesteps, images
        self.problems: list[str] = []
        self.found: dict[str, Node] = {}
        self.nodes: dict[Key, dict[str, Any]] = {}
        self.edges: dict[tuple[Key, Key], None] = {}
        self.names: dict[Key, str] = {}
        # The neurons by name in the trace: kind and parameters.
        self.neurons: dict[str, tuple[str, dict[str, Real]]] = {}
        # Who computes what a node gives, and the shape that NIR takes it to have.
        self.given: dict[Key, tuple[str, Shape]] = {}

    def read(self) -> None:
        """Fill ``found`` with the nodes of the network, and ``problems`` with all that a trace cannot express."""
        if _kind(self.record) != "NIRGraph":
            self.problems.append(f"the graph is {_kind(self.record) or 'of no type'}; allowed: NIRGraph")
            return
        inputs, _ = self._collect(self.record, ())
        if len(inputs) != 1:
            self.problems.append(f"the graph has {len(inputs)} inputs; allowed: 1")
        if self.problems:
            return
        place = {key: position for position, key in enumerate(self.nodes)}
        self._choose_names()
        if self.nodes[inputs[0]].get("type") != "Input":
            # A graph need not have a node for what its first node reads.
            source: Key = ("input", "of", "the", "graph")
            self.names[source] = self._free("input")
            self.found[self.names[source]] = Node(self.names[source], "input", (), self.shape)
            self.given[source] = (self.names[source], self.shape)
            self.edges[source, inputs[0]] = None
            place[source] = -1
        sources: dict[Key, list[Key]] = {key: [] for key in self.nodes}
        for before, after in self.edges:
            sources[after].append(before)
        order = TopologicalSorter(sources)
        try:
            order.prepare()
        except CycleError as error:
            circle = sorted(set(error.args[1]), key=place.__getitem__)
            listed = ", ".join(shown(".".join(key)) for key in circle[:8])
            self.problems.append(f"{listed}: feed each other (recurrent); a trace runs layer by layer")
        while order.is_active() and (ready := order.get_ready()):
            for key in sorted(ready, key=place.__getitem__):
                if key in self.nodes:
                    self._one(key, sorted(sources[key], key=place.__getitem__, reverse=True), is_input=key == inputs[0])
            order.done(*ready)

    def notes(self) -> list[str]:
        """What the user should know of how the graph was read."""
        notes = []
        renamed = [f"{shown('.'.join(key))} is {name}" for key, name in self.names.items() if ".".join(key) != name]
        if renamed:
            more = f" and {len(renamed) - 8} more" if len(renamed) > 8 else ""
            notes.append(f"names that a trace cannot hold: {', '.join(renamed[:8])}{more}")
        stated = self._stated_dt()
        if stated is not None and not math.isclose(stated, self.dt, rel_tol=1e-6):
            notes.append(f"the graph states dt = {stated:g} s and is read with {self.dt:g} s{_option(stated)}")
        if self.neurons:
            # What snnTorch makes of a decay beta: tau = 1e-4 / (1 - beta) and r = tau / 1e-4.
            alike = any(kind == "LIF" and _same(of["r"] * 1e-4, of["tau"]) for kind, of in self.neurons.values())
            whose = "this graph looks like snnTorch's, whose neurons" if alike else "snnTorch's neurons"
            notes.append(
                "NIR resets potentials to v_reset; a model that subtracts its thresholds instead is another network in"
                f" NIR ({whose} do unless they have reset_mechanism='zero'; from_torch keeps either)"
            )
        return notes

    def other_decays(self) -> dict[str, str]:
        """A problem for each neuron whose decay is no shift at ``dt``, but is one at another usual timestep."""
        problems = {}
        for name, (kind, of) in self.neurons.items():
            decay = _spiking(kind, of, self.dt).decay
            hint = "" if _is_shift(decay) else self._decay_hint(of["tau"])
            if hint:
                tau = f"tau {of['tau'].flat[0]:g} s with timesteps of dt = {self.dt:g} s"
                problems[name] = f"{name} ({kind}): {tau}, a decay of {decay:.6g} a timestep, which is no shift{hint}"
        return problems

    def other_gains(self) -> dict[str, str]:
        """The neurons without leak that add just what they read at another usual timestep, but not at ``dt``."""
        lines = {}
        for name, (kind, of) in self.neurons.items():
            better = [dt for dt in self._other_dt() if kind == "IF" and _same(of["r"] * dt, 1)]
            if better and not _same(of["r"] * self.dt, 1):
                at = f"with timesteps of dt = {self.dt:g} s an input of 1 adds {of['r'].flat[0] * self.dt:g}"
                lines[name] = f"{name} (IF): {at} to the potential, with dt = {better[0]:g} s 1{_option(better[0])}"
        return lines

    def silent(self, network: Network) -> dict[str, str]:
        """The neurons that never fire at ``dt``, but do at another usual timestep."""
        lines = {}
        for name, (kind, of) in self.neurons.items():
            if network.recorded[name].any():
                continue
            currents = network.recorded[self.found[name].inputs[0]]
            # At a timestep beyond tau there is no such neuron.
            possible = [dt for dt in self._other_dt() if kind == "IF" or dt <= of["tau"].flat[0]]
            better = [dt for dt in possible if _fires(kind, of, dt, currents)]
            if better:
                at = f"never fires with timesteps of dt = {self.dt:g} s"
                lines[name] = f"{name} ({kind}): {at}; with dt = {better[0]:g} s it does{_option(better[0])}"
        return lines

    def _stated_dt(self) -> float | None:
        metadata = self.record.get("metadata")
        try:
            stated = _real(metadata, "dt") if isinstance(metadata, dict) and "dt" in metadata else np.zeros(0)
        except Inexpressible:
            return None
        return stated.item() if stated.size == 1 and stated.item() > 0 else None

    def _other_dt(self) -> list[float]:
        stated = self._stated_dt()
        usual = (*(() if stated is None else (stated,)), *_USUAL_DT)
        return [dt for dt in usual if not math.isclose(dt, self.dt, rel_tol=1e-6)]

    def _decay_hint(self, tau: Real) -> str:
        for dt in self._other_dt():
            decay = 1 - dt / float(tau.flat[0]) if tau.flat[0] > 0 else -1.0
            if _is_shift(decay):
                return f"; with dt = {dt:g} s the decay is {decay:.6g}{_option(dt)}"
        return ""

    def _collect(self, graph: dict[str, Any], path: Key) -> tuple[list[Key], list[Key]]:
        """Take in the nodes and edges of ``graph``; returns where edges into it end and where edges out of it begin."""
        where = shown(".".join(path)) + ": " if path else ""
        nodes = graph.get("nodes")
        if not isinstance(nodes, dict):
            self.problems.append(f"{where}a graph without nodes")
            return [], []
        ends: dict[str, tuple[list[Key], list[Key]]] = {}
        for name, node in _named(nodes):
            key = (*path, name)
            if _kind(node) == "NIRGraph":
                ends[name] = self._collect(node, key)
            elif _kind(node):
                self.nodes[key] = node
                ends[name] = ([key], [key])
            else:
                self.problems.append(f"{shown('.'.join(key))}: a node without a type")
        if len(self.nodes) > MAX_NODES:
            raise UsageError(f"the graph has more than {MAX_NODES:,} nodes")
        read, written = set(), set()
        for before, after in self._edges(graph.get("edges"), where, ends):
            read.add(before)
            written.add(after)
            ways = [(ends[before][1], "outputs", before), (ends[after][0], "inputs", after)]
            unclear = [(len(keys), what, name) for keys, what, name in ways if len(keys) != 1]
            for count, what, name in unclear:
                self.problems.append(
                    f"{where}{shown(name)}: an edge of a graph with {count} {what} does not say which; allowed: one"
                )
            if not unclear:
                edge = (ways[0][0][0], ways[1][0][0])
                if edge in self.edges:
                    self.problems.append(f"{where}the edge {shown(before)} -> {shown(after)} occurs twice")
                self.edges[edge] = None
        kinds = {name: self.nodes[(*path, name)]["type"] for name in ends if (*path, name) in self.nodes}
        first = [name for name in ends if kinds.get(name) == "Input"] or [name for name in ends if name not in written]
        last = [name for name in ends if kinds.get(name) == "Output"] or [name for name in ends if name not in read]
        return [key for name in first for key in ends[name][0]], [key for name in last for key in ends[name][1]]

    def _edges(self, edges: Any, where: str, known: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """The edges between nodes that exist."""
        try:
            pairs = [tuple(_text(end) for end in edge) for edge in edges]
        except TypeError:
            pairs = [()]
        if any(len(pair) != 2 for pair in pairs):
            self.problems.append(f"{where}edges: got no list of pairs of names")
            return
        for pair in pairs:
            unknown = [name for name in pair if name not in known]
            for name in unknown:
                edge = f"{shown(pair[0])} -> {shown(pair[1])}"
                self.problems.append(f"{where}an edge {edge}: no node {shown(name)}{nearest(name[:80], known)}")
            if len(self.problems) > MOST_PROBLEMS:
                return
            if not unknown:
                yield pair[0], pair[1]

    def _choose_names(self) -> None:
        for key in self.nodes:
            valid = re.sub(r"[^A-Za-z0-9_.\-]", "_", ".".join(key))[:80]
            self.names[key] = self._free(valid if re.match(r"\w", valid) else f"_{valid}")

    def _free(self, name: str) -> str:
        """``name``, or with a number behind it if that is taken."""
        taken = set(self.names.values())
        choice, number = name, 1
        while choice in taken:
            number += 1
            choice = f"{name}_{number}"
        return choice

    def _one(self, key: Key, sources: list[Key], *, is_input: bool) -> None:
        node, name, called = self.nodes[key], self.names[key], shown(".".join(key))
        kind = node["type"]
        if kind not in _FIELDS:
            text = (
                f"a trace does not have this kind of node; allowed: {', '.join(_FIELDS)}{nearest(kind[:80], _FIELDS)}"
            )
            self.problems.append(f"{called} ({shown(kind)}): {text}")
            return
        if is_input and kind == "Input" and not sources:
            self.found[name] = Node(name, "input", (), self.shape)
            self.given[key] = (name, self.shape)
        elif not sources:
            self.problems.append(f"{called}: no edge leads to it")
        if any(source not in self.given for source in sources):
            return
        try:
            must, may = _FIELDS[kind]
            for field in must:
                if node.get(field) is None:
                    raise Inexpressible(f"has no {field}")
            for field in node:
                if field not in (*_ANY, *must, *may):
                    raise Inexpressible(f"an unknown field {shown(field)}{nearest(field[:80], (*must, *may))}")
            if sources:
                self._read_from(key, name, kind, node, sources)
            elif key in self.given:
                _declared(node, "shape", self.shape, "the inputs are")
        except Inexpressible as reason:
            self.given.pop(key, None)
            self.problems.append(f"{called} ({kind}): {reason}")

    def _read_from(self, key: Key, name: str, kind: str, node: dict[str, Any], sources: list[Key]) -> None:
        source, nir_shape = self.given[sources[0]]
        if len(sources) > 1:
            source = self._sum(name, sources)
        shape = self.found[source].shape
        if kind in ("Input", "Output", "Flatten"):
            _declared(node, "input_type" if kind == "Flatten" else "shape", nir_shape, "it reads")
            self.given[key] = (source, _flattened(node, nir_shape) if kind == "Flatten" else nir_shape)
            return
        made = self._translated(name, kind, node, source, shape, nir_shape)
        values = self.timesteps * self.images * math.prod(made.shape)
        if values > MAX_ELEMENTS:
            raise Inexpressible(f"writes {values:,} values; allowed: at most {MAX_ELEMENTS:,}")
        self.found[name] = made
        self.given[key] = (name, nir_shape if made.shape == shape else made.shape)

    def _sum(self, name: str, sources: list[Key]) -> str:
        """A node that adds up, named after the one that reads the sum."""
        parts = [self.given[source] for source in sources]
        if any(
            shape != parts[0][1] or self.found[part].shape != self.found[parts[0][0]].shape for part, shape in parts
        ):
            listed = ", ".join(f"{shown(part)} {list(shape)}" for part, shape in parts)
            raise Inexpressible(f"adds up {listed}, which have different shapes")
        summed = f"{name}.sum"
        # The spikes among the summands get weights of their own, called .sum.0, .sum.1, ...
        while any(other == summed or other.startswith(f"{summed}.") for other in self.names.values()):
            summed += "_"
        self.found[summed] = Node(summed, "add", tuple(part for part, _ in parts), self.found[parts[0][0]].shape)
        return summed

    def _translated(
        self, name: str, kind: str, node: dict[str, Any], source: str, shape: Shape, nir_shape: Shape
    ) -> Node:
        match kind:
            case "Linear" | "Affine":
                weight = _real(node, "weight")
                if weight.ndim != 2 or weight.shape[1] != math.prod(nir_shape) or not weight.size:
                    raise Inexpressible(f"weights {list(weight.shape)} on an input {list(nir_shape)}")
                bias = _bias(node, len(weight)) if kind == "Affine" else None
                return Node(name, "linear", (source,), (len(weight),), weight=weight, bias=bias)
            case "Conv2d":
                _maps(nir_shape)
                return self._convolution(name, node, source, shape)
            case "SumPool2d" | "AvgPool2d":
                _maps(nir_shape)
                kernel, stride = _pair(node, "kernel_size", 1), _pair(node, "stride", 1)
                padding = _pair(node, "padding", 0)
                if any(padding):
                    raise Inexpressible(f"padding {list(padding)}; allowed: 0, as a trace sums only in weights")
                sides = _sides(shape, kernel, stride, padding)
                self._check_unrolled(shape[0] * math.prod(kernel) * math.prod(sides))
                factor = np.array(1.0 if kind == "SumPool2d" else 1 / math.prod(kernel))
                return Node(
                    name, "sum_pool", (source,), (shape[0], *sides), factor, kernel=kernel, stride=stride
                )  # fmt: skip
            case "Scale":
                scales = _spread(_real(node, "scale"), shape, nir_shape)
                return Node(name, "affine", (source,), shape, weight=_by_channel(scales, "scales"))
        of = self._parameters(kind, node, shape, nir_shape)
        made = Node(name, "neuron", (source,), shape, neuron=_spiking(kind, of, self.dt))
        self.neurons[name] = (kind, of)
        return made

    def _convolution(self, name: str, node: dict[str, Any], source: str, shape: Shape) -> Node:
        weight, groups = _real(node, "weight"), _whole(node, "groups", 1)
        if weight.ndim != 4 or not weight.size:
            raise Inexpressible(f"weights {list(weight.shape)}; allowed: [N, C / groups, height, width]")
        count, each = weight.shape[:2]
        if each * groups != shape[0] or count % groups:
            raise Inexpressible(f"weights {list(weight.shape)} in {groups} groups on an input {list(shape)}")
        _declared(node, "input_shape", shape[1:], "it reads")
        if math.prod(weight.shape) * groups > max(weight.size, MAX_UNGROUPED):
            got = f"{math.prod(weight.shape) * groups:,}"
            raise Inexpressible(f"{got} weights with the zeros between groups; allowed: at most {MAX_UNGROUPED:,}")
        if _pair(node, "dilation", 1) != (1, 1):
            raise Inexpressible(f"dilation {list(_pair(node, 'dilation', 1))}; allowed: 1")
        kernel, stride = (int(weight.shape[2]), int(weight.shape[3])), _pair(node, "stride", 1)
        padding = self._padding(node, kernel, stride)
        sides = _sides(shape, kernel, stride, padding)
        self._check_unrolled(shape[0] * math.prod(kernel) * math.prod(sides))
        bias = None if node.get("bias") is None else _bias(node, count)
        full = ungrouped(weight, groups)
        return Node(name, "conv2d", (source,), (count, *sides), full, bias, kernel, stride, padding)

    def _padding(self, node: dict[str, Any], kernel: tuple[int, int], stride: tuple[int, int]) -> tuple[int, int]:
        padding = node["padding"]
        if isinstance(padding, str | bytes):
            text = _text(padding)
            if text not in ("same", "valid"):
                raise Inexpressible(f"padding {shown(text)}; allowed: same, valid, numbers of zeros around")
            if text == "same" and (stride != (1, 1) or any(width % 2 == 0 for width in kernel)):
                raise Inexpressible("padding 'same' of an even kernel or a stride; allowed: numbers of zeros around")
            return (kernel[0] // 2, kernel[1] // 2) if text == "same" else (0, 0)
        around = _pair(node, "padding", 0)
        # More zeros make only more outputs that read nothing but zeros, without end.
        if any(pad > width for pad, width in zip(around, kernel, strict=True)):
            raise Inexpressible(f"padding {list(around)}; allowed: at most the kernel, {list(kernel)}")
        return around

    def _check_unrolled(self, values: int) -> None:
        if self.images * values > MAX_ELEMENTS:
            got = f"reads {self.images * values:,} unrolled inputs (M x K)"
            raise Inexpressible(f"{got}; allowed: at most {MAX_ELEMENTS:,}")

    def _parameters(self, kind: str, node: dict[str, Any], shape: Shape, nir_shape: Shape) -> dict[str, Real]:
        """The parameters of each neuron, by field."""
        of = {field: _spread(_real(node, field), shape, nir_shape) for field in _FIELDS[kind][0]}
        # Graphs from before the field was there reset to 0.
        given = node.get("v_reset") is not None
        of["v_reset"] = _spread(_real(node, "v_reset"), shape, nir_shape) if given else np.zeros(shape)
        if of["r"].min() <= 0:
            raise Inexpressible(f"a resistance that gives the gain {of['r'].min() * self.dt:g}; allowed: above zero")
        if kind == "LIF":
            if (of["v_reset"] != of["v_leak"]).any():
                raise Inexpressible("v_reset differs from v_leak; allowed: a reset to where it rests")
            if (of["tau"] != of["tau"].flat[0]).any():
                raise Inexpressible("a tau for each neuron; allowed: one a layer")
            if of["tau"].flat[0] < self.dt:
                got = f"tau {of['tau'].flat[0]:g} s with timesteps of dt = {self.dt:g} s"
                raise Inexpressible(f"{got}; allowed: dt and longer{self._decay_hint(of['tau'])}")
        return of


def _spiking(kind: str, of: Mapping[str, Real], dt: float) -> SpikingNeuron:
    """A neuron with such parameters at timesteps of ``dt`` seconds."""
    decay, gain = 1.0, of["r"] * dt
    if kind == "LIF":
        decay, gain = 1 - dt / float(of["tau"].flat[0]), gain / of["tau"]
    with np.errstate(over="ignore", divide="ignore"):
        threshold = (of["v_threshold"] - of["v_reset"]) / gain
    if not np.isfinite(threshold).all():
        raise Inexpressible("thresholds beyond all numbers, in units of what the neuron reads")
    return SpikingNeuron(decay, threshold)


def _fires(kind: str, of: Mapping[str, Real], dt: float, currents: Real) -> bool:
    try:
        return bool(_spiking(kind, of, dt).fire(currents).any())
    except Inexpressible:
        return False


def _named(nodes: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The nodes of a graph by name. HDF5 makes of the name ``a/b`` a group b in a group a, which is no node."""
    for name, node in nodes.items():
        if isinstance(node, dict) and "type" not in node and any(isinstance(part, dict) for part in node.values()):
            yield from _named(node, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", node


def _kind(node: Any) -> str:
    """The kind of a node; nothing if it is none."""
    kind = node.get("type") if isinstance(node, dict) else None
    return kind if isinstance(kind, str) else ""


def _option(dt: float) -> str:
    return f" (from_nir: dt={dt!r}; on the command line: --dt {dt:g})"


def _same(one: Real, other: Real | float) -> bool:
    return bool(np.allclose(one, other, rtol=SAME_DECAY, atol=0))


def _is_shift(decay: float) -> bool:
    return abs(nearest_leak(decay)[0] - decay) <= SAME_DECAY


def _text(value: Any) -> str:
    """A name, as NIR has it in memory or h5py gave it."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, str) else shown(value)


def _real(node: Mapping[str, Any], field: str) -> Real:
    """A field that must hold finite numbers."""
    try:
        array = np.asarray(node[field])
    # As in ``_values``.
    except (ValueError, TypeError, RuntimeError, OverflowError):
        array = np.array(None)
    if array.dtype.kind not in "biuf":
        got = "text or objects" if array.dtype.kind in "USO" else shown(array.dtype)
        raise Inexpressible(f"{field}: got {got}; allowed: numbers")
    with np.errstate(over="ignore"):
        numbers: Real = array.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise Inexpressible(f"{field}: got a value that is not finite")
    return numbers


def _wholes(node: Mapping[str, Any], field: str, least: int) -> list[int]:
    array = _real(node, field).reshape(-1)
    if array.size > 8 or (array != np.round(array)).any() or (array < least).any() or (array > MAX_ELEMENTS).any():
        raise Inexpressible(f"{field}: got {shown(array.tolist()[:8])}; allowed: whole numbers from {least}")
    return [int(value) for value in array]


def _whole(node: Mapping[str, Any], field: str, least: int) -> int:
    values = _wholes(node, field, least)
    if len(values) != 1:
        raise Inexpressible(f"{field}: got {values}; allowed: one number")
    return values[0]


def _pair(node: Mapping[str, Any], field: str, least: int) -> tuple[int, int]:
    """A field for rows and columns, of one number or two."""
    values = _wholes(node, field, least)
    if len(values) not in (1, 2):
        raise Inexpressible(f"{field}: got {values}; allowed: one number or two")
    return values[0], values[-1]


def _bias(node: Mapping[str, Any], count: int) -> Real:
    bias = _real(node, "bias")
    if bias.size != count:
        raise Inexpressible(f"bias: got {list(bias.shape)}; allowed: [{count}]")
    return bias.reshape(-1)


def _declared(node: Mapping[str, Any], field: str, shape: Shape, what: str) -> None:
    """A shape that the graph states must be the one that there is."""
    if node.get(field) is None:
        return
    stated = _wholes(node, field, 0)
    if tuple(stated) != shape:
        raise Inexpressible(f"the graph says {stated}, {what} {list(shape)}")


def _flattened(node: Mapping[str, Any], shape: Shape) -> Shape:
    """The shape behind a Flatten; values keep their order."""
    rank = len(shape)
    first, last = (
        default if node.get(field) is None else _whole(node, field, -rank)
        for field, default in (("start_dim", 1), ("end_dim", -1))
    )
    if rank == 1:
        return shape
    first, last = first + rank * (first < 0), last + rank * (last < 0)
    if not 0 <= first <= last < rank:
        raise Inexpressible(f"axes {first} to {last} of {list(shape)}")
    return (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :])


def _maps(shape: Shape) -> None:
    if len(shape) != 3:
        raise Inexpressible(f"reads [C, H, W], got the shape {list(shape)}")


def _sides(shape: Shape, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> Shape:
    if any(width > size + 2 * pad for size, width, pad in zip(shape[1:], kernel, padding, strict=True)):
        raise Inexpressible(f"a kernel {list(kernel)} on an input {list(shape)} with padding {list(padding)}")
    return tuple(
        (size + 2 * pad - width) // step + 1
        for size, width, step, pad in zip(shape[1:], kernel, stride, padding, strict=True)
    )


def _spread(array: Real, shape: Shape, nir_shape: Shape) -> Real:
    """A parameter for each neuron of ``shape``: given for all, by channel, or for each, flattened or not."""
    if array.size == 1:
        return np.full(shape, array.item())
    if array.shape in (shape, nir_shape, (math.prod(shape),)):
        return array.reshape(shape)
    if len(nir_shape) == 3 and array.shape in (shape[:1], (shape[0], 1, 1)):
        return np.broadcast_to(array.reshape(-1, 1, 1), shape)
    raise Inexpressible(f"parameters {list(array.shape)} for neurons {list(nir_shape)}")


def _by_channel(values: Real, what: str) -> Real:
    columns = values.reshape(len(values), -1)
    if (columns != columns[:, :1]).any():
        raise Inexpressible(f"{what} differ within a channel; allowed: one a channel")
    first: Real = columns[:, 0].copy()
    return first
