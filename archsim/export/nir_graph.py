"""From a graph of the Neuromorphic Intermediate Representation (NIR) to a trace.

NIR describes neurons in continuous time; a trace has timesteps. With the step ``dt`` Euler's method gives, for
``tau dv/dt = (v_leak - v) + r I``, ``H = v + dt / tau (v_leak - v + r I)``: a decay of 1 - dt / tau and a gain of
r dt / tau; for ``dv/dt = r I`` a decay of 1 and a gain of r dt. Neurons spike above their threshold and are reset to
``v_reset``, which must be where they rest. Several edges into a node add up.

Which ``dt`` that is a file does not say: :mod:`archsim.export.nir_timesteps`.
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
    array_of,
    check_options,
    check_timesteps,
    run,
)
from archsim.export.nir_fields import (
    bias_of,
    by_channel,
    check_declared,
    check_maps,
    flattened,
    padding_of,
    pair,
    real,
    sides_of,
    spread,
    text_of,
    whole,
)
from archsim.export.nir_file import read_graph, read_inputs, shown
from archsim.export.nir_timesteps import Timesteps
from archsim.export.quantisation import Exported, export
from archsim.export.torch_modules import Inexpressible
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
    timesteps = _timesteps(values, T)
    images, shape = (values.shape[1], values.shape[2:]) if _timed(values) else (values.shape[0], values.shape[1:])
    reader = _Reader(record, shape, timesteps, images, dt)
    reader.read()
    other = {} if approximate_leak else reader.at.other_decays()
    if reader.problems or other:
        raise UsageError([*reader.problems, *other.values()])
    network = Network(timesteps, values, reader.found, notes=reader.notes())
    with np.errstate(over="ignore", invalid="ignore"):
        run(network)
    for node, output in network.recorded.items():
        if not np.isfinite(output).all():
            raise UsageError(f"{node}: sums overflow a 64-bit float")
    doubts = reader.at.other_gains() | reader.at.silent(network)
    network.notes.extend(doubts.values())
    try:
        with np.errstate(over="raise", invalid="raise"):
            return export(
                network, name=name, weight_bits=weight_bits, input_bits=input_bits, input_scale=input_scale,
                approximate_leak=approximate_leak, accept_differences=accept_differences,
                provenance={"source": f"NIR, dt = {dt:g} s", **(provenance or {})},
            )  # fmt: skip
    except FloatingPointError:
        text = "the sizes of weights, biases, thresholds and inputs are too far apart for integers"
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


def _timed(values: Real) -> bool:
    """Do inputs change in time?"""
    return values.ndim in (3, 5)


def _timesteps(values: Real, T: int | None) -> int:  # noqa: N803 - as in ``from_nir``
    """How many timesteps the inputs have, or are shown for."""
    if T is None and not _timed(values):
        raise UsageError(f"T: inputs {list(values.shape)} have no time, so the number of timesteps is needed")
    timesteps = len(values) if T is None else T
    check_timesteps(timesteps)
    if _timed(values) and len(values) != timesteps:
        raise UsageError(f"inputs: got {len(values)} timesteps; allowed: T = {timesteps}")
    return timesteps


class _Reader:
    """Puts the nodes of a graph, and of the graphs in it, in order and translates them one by one."""

    def __init__(self, record: dict[str, Any], shape: Shape, timesteps: int, images: int, dt: float) -> None:
        self.record = record
        self.at = Timesteps(record, dt)
        self.shape = shape
        self.timesteps, self.images = timesteps, images
        self.problems: list[str] = []
        self.found: dict[str, Node] = {}
        self.nodes: dict[Key, dict[str, Any]] = {}
        self.edges: dict[tuple[Key, Key], None] = {}
        self.names: dict[Key, str] = {}
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
        return [*notes, *self.at.notes()]

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
                    f"{where}{shown(name)}: an edge of a graph with {count} {what} does not say which one; allowed: 1"
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
            pairs = [tuple(text_of(end) for end in edge) for edge in edges]
        except TypeError:
            pairs = [()]
        if any(len(pair) != 2 for pair in pairs):
            self.problems.append(f"{where}edges: got no list of pairs of names")
            return
        for before, after in pairs:
            unknown = [name for name in (before, after) if name not in known]
            for name in unknown:
                edge = f"{shown(before)} -> {shown(after)}"
                self.problems.append(f"{where}an edge {edge}: no node {shown(name)}{nearest(name[:80], known)}")
            if len(self.problems) > MOST_PROBLEMS:
                return
            if not unknown:
                yield before, after

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
            text = f"a trace cannot hold this kind of node; allowed: {', '.join(_FIELDS)}{nearest(kind[:80], _FIELDS)}"
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
                check_declared(node, "shape", self.shape, "the inputs are")
        except Inexpressible as reason:
            self.given.pop(key, None)
            self.problems.append(f"{called} ({kind}): {reason}")

    def _read_from(self, key: Key, name: str, kind: str, node: dict[str, Any], sources: list[Key]) -> None:
        source, nir_shape = self.given[sources[0]]
        if len(sources) > 1:
            source = self._sum(name, sources)
        shape = self.found[source].shape
        if kind in ("Input", "Output", "Flatten"):
            check_declared(node, "input_type" if kind == "Flatten" else "shape", nir_shape, "it reads")
            self.given[key] = (source, flattened(node, nir_shape) if kind == "Flatten" else nir_shape)
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
                weight = real(node, "weight")
                if weight.ndim != 2 or weight.shape[1] != math.prod(nir_shape) or not weight.size:
                    raise Inexpressible(f"weights {list(weight.shape)} on an input {list(nir_shape)}")
                bias = bias_of(node, len(weight)) if kind == "Affine" else None
                return Node(name, "linear", (source,), (len(weight),), weight=weight, bias=bias)
            case "Conv2d":
                check_maps(nir_shape)
                return self._convolution(name, node, source, shape)
            case "SumPool2d" | "AvgPool2d":
                check_maps(nir_shape)
                kernel, stride = pair(node, "kernel_size", 1), pair(node, "stride", 1)
                padding = pair(node, "padding", 0)
                if any(padding):
                    raise Inexpressible(f"padding {list(padding)}; allowed: 0, as a trace sums only through weights")
                sides = sides_of(shape, kernel, stride, padding)
                self._check_unrolled(shape[0] * math.prod(kernel) * math.prod(sides))
                factor = np.array(1.0 if kind == "SumPool2d" else 1 / math.prod(kernel))
                return Node(
                    name, "sum_pool", (source,), (shape[0], *sides), factor, kernel=kernel, stride=stride
                )  # fmt: skip
            case "Scale":
                scales = spread(real(node, "scale"), shape, nir_shape)
                return Node(name, "affine", (source,), shape, weight=by_channel(scales, "scales"))
        of = self._parameters(kind, node, shape, nir_shape)
        return Node(name, "neuron", (source,), shape, neuron=self.at.add(name, kind, of))

    def _convolution(self, name: str, node: dict[str, Any], source: str, shape: Shape) -> Node:
        weight, groups = real(node, "weight"), whole(node, "groups", 1)
        if weight.ndim != 4 or not weight.size:
            raise Inexpressible(f"weights {list(weight.shape)}; allowed: [N, C / groups, height, width]")
        count, each = weight.shape[:2]
        if each * groups != shape[0] or count % groups:
            raise Inexpressible(f"weights {list(weight.shape)} in {groups} groups on an input {list(shape)}")
        check_declared(node, "input_shape", shape[1:], "it reads")
        if math.prod(weight.shape) * groups > max(weight.size, MAX_UNGROUPED):
            got = f"{math.prod(weight.shape) * groups:,}"
            raise Inexpressible(f"{got} weights with the zeros between groups; allowed: at most {MAX_UNGROUPED:,}")
        if pair(node, "dilation", 1) != (1, 1):
            raise Inexpressible(f"dilation {list(pair(node, 'dilation', 1))}; allowed: 1")
        kernel, stride = (int(weight.shape[2]), int(weight.shape[3])), pair(node, "stride", 1)
        padding = padding_of(node, kernel, stride)
        sides = sides_of(shape, kernel, stride, padding)
        self._check_unrolled(shape[0] * math.prod(kernel) * math.prod(sides))
        bias = None if node.get("bias") is None else bias_of(node, count)
        return Node(
            name, "conv2d", (source,), (count, *sides), weight, bias, kernel, stride, padding, groups=groups
        )  # fmt: skip

    def _check_unrolled(self, values: int) -> None:
        if self.images * values > MAX_ELEMENTS:
            got = f"reads {self.images * values:,} unrolled inputs (M x K)"
            raise Inexpressible(f"{got}; allowed: at most {MAX_ELEMENTS:,}")

    def _parameters(self, kind: str, node: dict[str, Any], shape: Shape, nir_shape: Shape) -> dict[str, Real]:
        """The parameters of each neuron, by field."""
        of = {field: spread(real(node, field), shape, nir_shape) for field in _FIELDS[kind][0]}
        # Graphs from before the field was there reset to 0.
        given = node.get("v_reset") is not None
        of["v_reset"] = spread(real(node, "v_reset"), shape, nir_shape) if given else np.zeros(shape)
        if of["r"].min() <= 0:
            raise Inexpressible(f"a resistance that gives the gain {of['r'].min() * self.at.dt:g}; allowed: above zero")
        if kind == "LIF":
            if (of["v_reset"] != of["v_leak"]).any():
                raise Inexpressible("v_reset differs from v_leak; allowed: equal")
            if (of["tau"] != of["tau"].flat[0]).any():
                raise Inexpressible("a tau of its own for each neuron; allowed: one per layer")
            if of["tau"].flat[0] < self.at.dt:
                got = f"tau {of['tau'].flat[0]:g} s with timesteps of dt = {self.at.dt:g} s"
                raise Inexpressible(f"{got}; allowed: dt and longer{self.at.decay_hint(of['tau'])}")
        return of


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
