"""What the four clusters do in the training of a decomposed convolution: stages, strips, bytes, actions.

    stage      a cluster computes              reads from DRAM                 writes to DRAM
    forward    its sub-convolution             c1: spikes; all weights         what the update needs (below), output
    backward   its transpose                   c4: gradients, mask; weights    gradients of its input; c1: errors
    update     the gradients of its weights    its inputs and gradients        its weights

Kept for the update are the inputs of c2 and c3 (one tensor where they are side by side), and of c4. Values between c1
and c4, and gradients, have ``training.gradient_bits``; c1 adds, all others multiply. Where neurons follow c4, the stage
``potential_gradient`` of :mod:`archsim.dataflow.training` stands before ``backward``, on the array that all clusters
are together.

In the update a cluster reads its gradients once where they fit its share of the potential buffer, and otherwise anew
for each group of rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.dataflow.cluster_pipeline import ADDER, DOUBLE, LINKS, SINKS, WRITERS, StageWork
from archsim.dataflow.decomposed import (
    CLUSTERS,
    Array,
    Product,
    all_of,
    by_positions,
    by_weights,
    strips_of,
    wanted_strips,
    words_of,
)
from archsim.dataflow.layer import stored_spikes
from archsim.dataflow.training import ACTIONS, Stage, StageName
from archsim.hardware.agent import NONE
from archsim.trace import Trace
from archsim.trace.resimulation import check_operation
from archsim.trace.tensor_train import Decomposed
from archsim.trace.work import work_of

Counts = dict[tuple[str, str], int]
Named = Callable[[StageName, int, int], Stage]
"""The layer of a stage, of so many matches and synaptic operations."""
UPDATE_OF_VALUES: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("pe", "multiply_add"): ("added",),
    ("scratchpad", "gradient_write"): ("row_entries", "column_entries"),
    ("scratchpad", "gradient_read"): ("added", "added"),
    ("scratchpad", "gradient_sum_read"): ("added", "sums"),
    ("scratchpad", "gradient_sum_write"): ("added",),
}
"""As ``ACTIONS["update"]``, of operands that are no spikes."""


class Clusters(NamedTuple):
    """The machine as the stages see it: bits of operands, the timesteps whose sums a PE holds (``span_of_sums`` of the
    forward pass of c1, ``span`` of all others), bytes of a link, and of gradients that a cluster holds."""

    array: Array
    span_of_sums: int
    span: int
    weight_bits: int
    value_bits: int
    sum_bits: int
    membrane_bits: int
    neuron_cycles: int
    adder_lanes: int
    link_bytes: int
    held_bytes: int
    width_bits: int


def stage_works(machine: Clusters, trace: Trace, one: Decomposed, verify: bool) -> Iterator[StageWork | Stage]:
    """The stages, in order."""
    last = one.subs[3]
    errors = one.passes("backward-data")[3]
    gradients = words_of(trace, errors, errors.rows)
    words = np.moveaxis(gradients, 1, -1).reshape(-1, last.n)
    base = stored_spikes(one.name, last.m, last.n, trace.timesteps)
    base = replace(base, op="conv2d", k=9 * one.subs[0].input_shapes[0][0])

    def named(stage: StageName, matches: int, synaptic_operations: int) -> Stage:
        sizes = {"matches": matches, "synaptic_operations": synaptic_operations}
        return Stage.make(base, stage, words, last.gradient_mask is None, **sizes)

    yield _forward(machine, trace, one, named, verify)
    if one.neurons is not None:
        yield Stage.make(base, "potential_gradient", words, last.gradient_mask is None, k=1)
    yield _backward(machine, trace, one, named)
    yield _update(machine, trace, one, named)


def room_of(machine: Clusters, one: Decomposed, timesteps: int) -> tuple[NDArray[np.int64], str]:
    """Strips of room in each link, the least over both passes, and what is wrong with it, or nothing."""
    strips = strips_of(one.subs[0], machine.array.rows)
    positions = max(end - first for first, end in strips)
    room, needed = np.full(LINKS, DOUBLE), 0
    many = len(strips) > one.subs[0].images
    for link in range(WRITERS):
        sub = one.subs[link] if link < CLUSTERS else one.subs[1]
        channels = max(sub.n, sub.input_shapes[0][0]) if link in (1, 2) else one.subs[1].n
        size = -(-channels * positions * timesteps * machine.value_bits // 8)
        least = 3 if link == 1 and many else 1
        room[link] = machine.link_bytes // size
        needed = max(needed, least * size)
    problem = (
        f"clusters.link_kib: a link has {machine.link_bytes} bytes, the strips of {one.name} need {needed};"
        f" --set clusters.link_kib={-(-needed // 1024)} builds a machine that can"
    )
    return np.maximum(room, 1), problem if needed > machine.link_bytes else ""


def _forward(machine: Clusters, trace: Trace, one: Decomposed, named: Named, verify: bool) -> StageWork:
    steps, opened = _timesteps(trace, one)
    products = []
    for part in one.passes("forward"):
        span = machine.span_of_sums if part.rows.kind == "spike" else machine.span
        products.append(by_positions(part, words_of(trace, part, part.rows), span, machine.array))
    last, positions = one.subs[3], _positions(machine, one)
    if one.neurons is not None:
        folds = -(-positions // machine.array.rows) * -(-last.n // machine.array.columns)
        products[3] = products[3]._replace(cycles=products[3].cycles + folds * steps * machine.neuron_cycles)
    rank, value, width = one.subs[1].n, machine.value_bits, len(positions)
    read, written = np.zeros((CLUSTERS, width), np.int64), np.zeros((CLUSTERS, width), np.int64)
    read[0] = _bytes(positions * one.subs[0].input_shapes[0][0] * steps)
    read[0, 0] += _weight_bytes(machine, one)
    written[0] = _bytes(positions * rank * opened * value)
    written[1 if not one.parallel else 3] = _bytes(positions * rank * steps * value)
    if not one.parallel:
        written[2] = _bytes(positions * rank * steps * value)
    out = steps * (1 + machine.membrane_bits if one.neurons is not None else 8 * -(-machine.sum_bits // 8))
    written[3] += _bytes(positions * last.n * out)
    counts: Counts = {}
    for place, product in enumerate(products):
        _count(counts, ACTIONS["forward" if place == 0 else "backward"], product)
        _read_buffers(machine, counts, product, "link_buffer" if place else "input_buffer", value if place else 1)
    links = (2 + (not one.parallel)) * steps + (2 * opened if one.parallel else 0)
    _add(counts, ("link_buffer", "write"), last.m * rank * links * value, machine.width_bits)
    if one.neurons is not None:
        counts["lif", "update"] = counts["lif", "leak"] = last.m * last.n * steps
    done = [work_of(trace, operation) for operation in one.members]
    layer = named("forward", sum(work.matches for work in done), sum(work.synaptic_operations for work in done))
    mismatches = None
    if verify:
        found = [check_operation(trace, operation).mismatches for operation in one.members]
        mismatches = sum(count for count in found if count is not None)
    sinks = ((1, 2), (ADDER,), (ADDER + 1,), ()) if one.parallel else ((1,), (2,), (3,), ())
    return _work(machine, one, layer, "forward", products, counts, read, written, sinks, 3, steps, opened, mismatches)


def _backward(machine: Clusters, trace: Trace, one: Decomposed, named: Named) -> StageWork:
    steps, opened = _timesteps(trace, one)
    products = [
        by_positions(part, words_of(trace, part, part.rows), machine.span, machine.array)
        for part in one.passes("backward-data")
    ]
    positions, last, value = _positions(machine, one), one.subs[3], machine.value_bits
    inputs, rank = one.subs[0].input_shapes[0][0], one.subs[1].n
    read, written = (np.zeros((CLUSTERS, len(positions)), np.int64) for _ in range(2))
    read[3] = _bytes(positions * last.n * steps * (value + 1))
    read[3, 0] += _weight_bytes(machine, one)
    middle = _bytes(positions * rank * steps * value)
    written[0] = _bytes(positions * inputs * steps * value)
    if one.parallel:
        written[0] += middle
        written[3] = _bytes(positions * rank * opened * value)
    else:
        written[1:] = middle
    counts: Counts = {}
    for place, product in enumerate(products):
        _count(counts, ACTIONS["backward"], product)
        _read_buffers(machine, counts, product, "potential_buffer" if place == 3 else "link_buffer", value)
    links = (2 + (not one.parallel)) * steps + (2 * opened if one.parallel else 0)
    _add(counts, ("link_buffer", "write"), last.m * rank * links * value, machine.width_bits)
    added = sum(int(product.added.sum()) for product in products)
    sinks = ((), (ADDER,), (ADDER + 1,), (1, 2)) if one.parallel else ((), (0,), (1,), (2,))
    layer = named("backward", added, added)
    return _work(machine, one, layer, "backward", products, counts, read, written, sinks, 0, steps, opened, None)


def _update(machine: Clusters, trace: Trace, one: Decomposed, named: Named) -> StageWork:
    steps, opened = _timesteps(trace, one)
    products, reads, writes, counts = [], [], [], Counts()
    for part in one.passes("backward-weight"):
        spikes = part.rows.kind == "spike"
        bits = 1 if spikes else machine.value_bits
        words, gradients = words_of(trace, part, part.rows), words_of(trace, part, part.columns)
        product = by_weights(part, words, gradients, machine.span, machine.array)
        products.append(product)
        items = len(product.cycles)
        held = math.ceil(part.k * part.n * part.timesteps * (machine.value_bits + 1) / 8)
        again = np.ones(items) if held > machine.held_bytes else np.arange(items) == 0
        rows = np.minimum(machine.array.rows, part.m - np.arange(items) * machine.array.rows)
        weights = _bytes(rows * part.n * machine.weight_bits)
        inputs = _bytes(rows * (part.k * part.sub.input_shapes[0][0] * part.timesteps * bits / part.m))
        reads.append(inputs + weights + (again * held).astype(np.int64))
        writes.append(weights)
        _count(counts, ACTIONS["update"] if spikes else UPDATE_OF_VALUES, product)
        name = "input_buffer" if spikes else "potential_buffer"
        _add(counts, (name, "read"), product.row_reads * bits, machine.width_bits)
        _add(counts, ("potential_buffer", "read"), product.column_reads * machine.value_bits, machine.width_bits)
    added = sum(int(product.added.sum()) for product in products)
    sinks: Sequence[tuple[int, ...]] = ((), (), (), ())
    layer = named("update", added, added)
    return _work(
        machine, one, layer, "update", products, counts, all_of(reads), all_of(writes), sinks, NONE, steps, opened, None
    )  # fmt: skip


def _work(
    machine: Clusters, one: Decomposed, layer: Stage, stage: str, products: Sequence[Product], counts: Counts,
    read: NDArray[np.int64], written: NDArray[np.int64], sinks: Sequence[tuple[int, ...]], join_sink: int, steps: int,
    opened: int, mismatches: int | None,
) -> StageWork:  # fmt: skip
    """The tables of a stage; ``join_sink`` is the link behind the adder, where c2 and c3 are side by side."""
    items = np.array([len(product.cycles) for product in products], np.int64)
    links = np.full((CLUSTERS, SINKS), NONE, np.int64)
    for place, behind in enumerate(sinks):
        links[place, : len(behind)] = behind
        links[place, -1] = WRITERS + place
    fed: NDArray[np.bool_] = np.asarray(read.any(1), np.bool_)
    room, _ = room_of(machine, one, steps)
    room[:CLUSTERS][fed] = DOUBLE
    whole = [np.arange(1, count + 1) for count in items]
    if stage == "update":
        wanted, released, joined = whole, whole, np.zeros(0, np.int64)
    else:
        pairs = [wanted_strips(sub, machine.array.rows) for sub in one.subs]
        wanted, released = ([pair[side] for pair in pairs] for side in (0, 1))
        joined = np.zeros(0, np.int64)
        if one.parallel:
            values = _positions(machine, one) * one.subs[1].n * opened
            joined = np.maximum(1, -(-values // machine.adder_lanes))
            counts["adder", "add"] = int(values.sum())
    return StageWork(
        layer=layer, stage=stage, items=items, cycles=all_of([product.cycles for product in products]),
        added=all_of([product.added for product in products]), wanted=all_of(wanted), released=all_of(released),
        read=read, written=written, fed=fed, sinks=links, joined=joined, join_sink=max(join_sink, 0), room=room,
        actions=counts, mismatches=mismatches,
    )  # fmt: skip


def _timesteps(trace: Trace, one: Decomposed) -> tuple[int, int]:
    """All timesteps, and those at which c2 and c3 work."""
    return trace.timesteps, int(one.open.sum())


def _positions(machine: Clusters, one: Decomposed) -> NDArray[np.int64]:
    """Positions of each strip."""
    return np.array([end - first for first, end in strips_of(one.subs[0], machine.array.rows)], np.int64)


def _bytes(bits: NDArray[np.float64] | NDArray[np.int64]) -> NDArray[np.int64]:
    return np.ceil(bits / 8).astype(np.int64)


def _weight_bytes(machine: Clusters, one: Decomposed) -> int:
    return sum(-(-sub.n * sub.k * machine.weight_bits // 8) for sub in one.subs)


def _count(counts: Counts, named: Mapping[tuple[str, str], tuple[str, ...]], product: Product) -> None:
    """Add what PEs and scratchpads do; neurons are counted where they are."""
    numbers = {
        "added": int(product.added.sum()), "pairs": product.pairs, "row_entries": product.pairs,
        "column_entries": product.columns, "sums": product.sums,
    }  # fmt: skip
    for action, names in named.items():
        if action[0] != "lif":
            counts[action] = counts.get(action, 0) + sum(numbers[name] for name in names)


def _read_buffers(machine: Clusters, counts: Counts, product: Product, name: str, bits: int) -> None:
    """Add the accesses for both operands of a product."""
    _add(counts, (name, "read"), product.row_reads * bits, machine.width_bits)
    _add(counts, ("weight_buffer", "read"), product.column_reads * machine.weight_bits, machine.width_bits)


def _add(counts: Counts, action: tuple[str, str], bits: int, width_bits: int) -> None:
    counts[action] = counts.get(action, 0) + -(-bits // width_bits)
