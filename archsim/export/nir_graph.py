"""From a graph of the Neuromorphic Intermediate Representation (NIR) to a trace.

NIR describes neurons in continuous time; a trace has timesteps. With the step ``dt`` Euler's method gives, for
``tau dv/dt = (v_leak - v) + r I``, ``H = v + dt / tau (v_leak - v + r I)``: a decay of 1 - dt / tau and a gain of
r dt / tau; for ``dv/dt = r I`` a decay of 1 and a gain of r dt. Neurons spike above their threshold and are reset to
``v_reset``. LI, CubaLI and I give their potentials. A synaptic current is stepped in the same way, and whether a
potential sees the current of its own timestep or (``late_current``) of the one before is left open by NIR. Several
edges into a node add up, and an edge back is late by a timestep (:mod:`archsim.export.nir_order`).

Which ``dt`` that is a file does not say: :mod:`archsim.export.nir_timesteps`.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
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
from archsim.export.nir_fields import check_declared, flattened, text_of, wholes
from archsim.export.nir_file import read_graph, read_inputs, shown
from archsim.export.nir_nodes import FIELDS, SAME_SHAPE, Translator, viewed
from archsim.export.nir_order import endless, followed, settled
from archsim.export.nir_timesteps import Timesteps
from archsim.export.quantisation import Exported, export
from archsim.export.rounding import Nearest
from archsim.export.torch_modules import Inexpressible
from archsim.trace.graph import MAX_ELEMENTS

_ANY = ("type", "metadata")
MAX_NODES = 2_000

Key = tuple[str, ...]
"""A node's name, behind the names of the graphs that it lies in."""


def from_nir(
    graph: Any,
    inputs: Any,
    T: int | None = None,  # noqa: N803 - the field's name for the number of timesteps
    *,
    dt: float = 1e-4,
    late_current: bool = False,
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
    inputs that change in time say how many timesteps there are, at most 1,024. Where the graph's Input is a map with
    one axis, [C, L], inputs are [I, C, L] or [T, I, C, L]. The stated error is against the same graph in float64.
    ``late_current`` makes potentials see their synaptic current a timestep later, as Norse's LSNN does.
    Raises ``UsageError`` with every node that a trace cannot express, and why.
    """
    check_options(weight_bits, input_bits, input_scale, provenance=provenance)
    if not isinstance(dt, int | float) or not 0 < dt < math.inf:
        raise UsageError(f"dt: got {dt!r}; allowed: seconds above zero")
    if isinstance(graph, str | os.PathLike):
        name, record = Path(graph).stem if name == "nir" else name, read_graph(graph)
    else:
        record = _record(graph)
    axes = _axes(record)
    values = _values(read_inputs(inputs) if isinstance(inputs, str | os.PathLike) else inputs, axes)
    timesteps = _timesteps(values, T)
    images, shape = (values.shape[1], values.shape[2:]) if _timed(values) else (values.shape[0], values.shape[1:])
    reader = _Reader(record, shape, Timesteps(record, dt, late_current), timesteps, images)
    reader.read(shape[:1] + shape[2:] if axes == 1 else shape)
    if reader.problems:
        raise UsageError(reader.problems)
    network = Network(timesteps, values, reader.found, notes=reader.notes())
    with np.errstate(over="ignore", invalid="ignore"):
        run(network)
    for node, output in network.recorded.items():
        if not np.isfinite(output).all():
            raise UsageError(f"{node}: sums overflow a 64-bit float")
    doubts = reader.at.other_decays() | reader.at.other_gains() | reader.at.silent(network)
    network.notes.extend(doubts.values())
    try:
        with np.errstate(over="raise", invalid="raise"):
            return export(
                network, name=name, rounding=Nearest(weight_bits), input_bits=input_bits, input_scale=input_scale,
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


def _axes(record: Mapping[str, Any]) -> int | None:
    """How many axes beside the channels the graph says that its input has; None if it does not say."""
    nodes = record.get("nodes")
    given = [node for node in nodes.values() if _kind(node) == "Input"] if isinstance(nodes, dict) else []
    try:
        return len(wholes(given[0], "shape", 0)) - 1 if len(given) == 1 and given[0].get("shape") is not None else None
    except Inexpressible:
        return None


def _values(inputs: Any, axes: int | None) -> Real:
    """Inputs as finite numbers [I, F], [T, I, F], [I, C, H, W] or [T, I, C, H, W]; [C, L] as [C, 1, L]."""
    values = array_of(inputs)
    allowed, ranks = ("[I, C, L] or [T, I, C, L]", (3, 4)) if axes == 1 else ("[I, ...] or [T, I, ...]", (2, 3, 4, 5))
    if values.ndim not in ranks or not values.size or values.dtype.kind not in "biuf":
        got = f"{shown(values.dtype)} {list(values.shape)}"
        raise UsageError(f"inputs: got {got}; allowed: numbers {allowed}")
    with np.errstate(over="ignore"):
        values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise UsageError("inputs: got a value that is not finite; allowed: finite numbers")
    return values[..., np.newaxis, :] if axes == 1 else values


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

    def __init__(
        self, record: dict[str, Any], shape: Shape, at: Timesteps, timesteps: int, images: int
    ) -> None:  # fmt: skip
        self.record = record
        self.at = at
        self.shape = shape
        self.timesteps, self.images = timesteps, images
        self.translator = Translator(at, timesteps, images)
        self.problems: list[str] = []
        self.found: dict[str, Node] = {}
        self.nodes: dict[Key, dict[str, Any]] = {}
        self.edges: dict[tuple[Key, Key], None] = {}
        self.names: dict[Key, str] = {}
        # Who computes what a node gives, and the shape that NIR takes it to have.
        self.given: dict[Key, tuple[str, Shape]] = {}
        # Edges back, and what the delays on them read, which is found later.
        self.late: set[tuple[Key, Key]] = set()
        self.pending: dict[str, Key] = {}

    def read(self, nir_shape: Shape) -> None:
        """Fill ``found`` with the nodes of the network, and ``problems`` with all that a trace cannot express.

        The input has the shape ``nir_shape`` in NIR.
        """
        self.nir_shape = nir_shape
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
            self.given[source] = (self.names[source], nir_shape)
            self.edges[source, inputs[0]] = None
            place[source] = -1
        sources: dict[Key, list[Key]] = {key: [] for key in place}
        readers: dict[Key, list[Key]] = {key: [] for key in place}
        for before, after in sorted(self.edges, key=lambda edge: (place[edge[0]], place[edge[1]])):
            sources[after].append(before)
            readers[before].append(after)
        start = next((key for key in place if place[key] < 0), inputs[0])
        order, self.late = followed(readers, [start, *self.nodes])
        for key in order:
            if key in self.nodes:
                self._one(key, sources[key][::-1], is_input=key == inputs[0])
        if not self.problems:
            self._settle()

    def _settle(self) -> None:
        """Give the delays on edges back what they read, and the nodes their order."""
        for delay, key in self.pending.items():
            source, nir_shape = self.given[key]
            if nir_shape == self.found[delay].shape:
                source = self._flat(delay, source, nir_shape)
            if self.found[source].shape != self.found[delay].shape:
                got = f"{list(self.found[source].shape)} comes back to {list(self.found[delay].shape)}"
                self.problems.append(f"{shown('.'.join(key))}: {got}; allowed: the same shape")
            self.found[delay] = replace(self.found[delay], inputs=(source,))
        if not self.problems:
            ends = {self.given[key][0] for key, node in self.nodes.items() if node["type"] == "Output"}
            self.found = settled(self.found, list(self.pending), ends)
            self.problems += endless(self.found)

    def notes(self) -> list[str]:
        """What the user should know of how the graph was read."""
        notes = []
        renamed = [
            f"{shown('.'.join(key))} is {name}"
            for key, name in self.names.items()
            if key in self.nodes and ".".join(key) != name
        ]
        if renamed:
            more = f" and {len(renamed) - 8} more" if len(renamed) > 8 else ""
            notes.append(f"names that a trace cannot hold: {', '.join(renamed[:8])}{more}")
        late = [name for name, node in self.found.items() if name in self.pending and node.op == "delay"]
        notes += [f"{self.found[name].inputs[0]}: comes back a timestep late, through {name}" for name in late]
        return [*notes, *self.translator.notes, *self.at.notes()]

    def _flat(self, name: str, part: str, shape: Shape) -> str:
        """``part`` as values of ``shape``, one behind the other, for the node ``name``."""
        if self.found[part].shape == shape:
            return part
        flat = self._free(f"{name}.flat")
        self.names["flat", flat] = flat
        self.found[flat] = viewed(flat, part, self.found[part].shape, shape)
        return flat

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
        if kind not in FIELDS:
            text = f"a trace cannot hold this kind of node; allowed: {', '.join(FIELDS)}{nearest(kind[:80], FIELDS)}"
            self.problems.append(f"{called} ({shown(kind)}): {text}")
            return
        if is_input and kind == "Input" and not sources:
            self.found[name] = Node(name, "input", (), self.shape)
            self.given[key] = (name, self.nir_shape)
        elif not sources:
            self.problems.append(f"{called}: no edge leads to it")
        if any(source not in self.given and (source, key) not in self.late for source in sources):
            return
        try:
            must, may = FIELDS[kind]
            for field in must:
                if node.get(field) is None:
                    raise Inexpressible(f"has no {field}")
            for field in node:
                if field not in (*_ANY, *must, *may):
                    raise Inexpressible(f"an unknown field {shown(field)}{nearest(field[:80], (*must, *may))}")
            if sources:
                self._read_from(key, name, kind, node, sources)
            elif key in self.given:
                check_declared(node, "shape", self.nir_shape, "the inputs are")
        except Inexpressible as reason:
            self.given.pop(key, None)
            self.problems.append(f"{called} ({kind}): {reason}")
            known = [self.given[source] for source in sources if source in self.given]
            if kind in SAME_SHAPE and known:
                # Those behind it may have problems of their own.
                self.given[key] = known[0]

    def _read_from(self, key: Key, name: str, kind: str, node: dict[str, Any], sources: list[Key]) -> None:
        source, nir_shape = self._source(key, name, sources)
        shape = self.found[source].shape
        if kind in ("Input", "Output", "Flatten"):
            check_declared(node, "input_type" if kind == "Flatten" else "shape", nir_shape, "it reads")
            self.given[key] = (source, flattened(node, nir_shape) if kind == "Flatten" else nir_shape)
            return
        made = self.translator.nodes(name, kind, node, source, shape, nir_shape)
        for new in made:
            values = self.timesteps * self.images * math.prod(new.shape)
            if values > MAX_ELEMENTS:
                raise Inexpressible(f"writes {values:,} values; allowed: at most {MAX_ELEMENTS:,}")
            if new.name != name and new.name in (*self.names.values(), *self.found):
                raise Inexpressible(f"needs the name {shown(new.name)} for a part of it, which is taken")
        if not made:
            self.given[key] = (source, nir_shape)
            return
        self.found |= {new.name: new for new in made}
        last = made[-1]
        flat = last.shape if kind not in ("Conv1d",) else (last.shape[0], last.shape[2])
        self.given[key] = (last.name, nir_shape if last.shape in (shape, nir_shape) else flat)

    def _source(self, key: Key, name: str, sources: list[Key]) -> tuple[str, Shape]:
        """What a node reads: who computes it, and the shape that NIR takes it to have.

        What comes from behind the node is late by a timestep, and what comes from several nodes is added up.
        """
        late = [source for source in sources if (source, key) in self.late]
        parts = [self.given[source] for source in sources if source not in late]
        if not parts:
            raise Inexpressible("reads only what comes back to it; allowed: inputs of the graph too")
        first, nir_shape = parts[0]
        shape = self.found[first].shape
        if len(sources) > 1 and len(nir_shape) == 1:
            # What was flattened meets what is flat.
            shape = nir_shape
            parts = [
                (self._flat(name, part, shape), other) if other == shape else (part, other) for part, other in parts
            ]
        for number, source in enumerate(late, 1):
            delay = self._free(f"{name}.late" if len(late) == 1 else f"{name}.late{number}")
            self.names[("late", *key, str(number))] = delay
            self.found[delay] = Node(delay, "delay", (), shape, options={"steps": 1})
            self.pending[delay] = source
            parts.append((delay, nir_shape))
        if len(parts) == 1:
            return parts[0]
        if any(other != nir_shape or self.found[part].shape != shape for part, other in parts):
            listed = ", ".join(f"{shown(part)} {list(other)}" for part, other in parts)
            raise Inexpressible(f"adds up {listed}, which have different shapes")
        summed = f"{name}.sum"
        # The spikes among the summands get weights of their own, called .sum.0, .sum.1, ...
        while any(other == summed or other.startswith(f"{summed}.") for other in self.names.values()):
            summed += "_"
        self.found[summed] = Node(summed, "add", tuple(part for part, _ in parts), shape)
        return summed, nir_shape


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
