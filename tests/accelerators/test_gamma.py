"""Gamma-SNN and Gamma: hand-traced case, the tree of passes, closed forms, dispatch, conservation, both engines."""

import math

import numpy as np
import pytest

from archsim.errors import ConfigError
from archsim.simulate import load_accelerator
from archsim.trace import Operation, Trace
from tests.machines import LABELS, ROOT, ann, conv, dense, layers, mlp, same, simulate

GAMMA_SNN, GAMMA, FITTED = (ROOT / "hwconfigs" / f"{name}.yaml" for name in ("gamma_snn", "gamma", "gamma_snn_f40"))


def selected(layer):
    """For every task (m, t) the rows of B that it adds up, in order."""
    a, _ = dense(layer)
    if layer.operand == "int":
        return [np.flatnonzero(row) for row in a]
    return [np.flatnonzero(row >> t & 1) for row in a for t in range(layer.timesteps)]


def passes(rows, radix):
    """A tree of passes over sets of columns, as a queue: (fibers, elements in, elements out) of each pass.

    Written from the text of archsim.hardware.compute.merger, with Python sets.
    """
    queue, taken = [set(row) for row in rows], []
    while True:
        ways = len(queue)
        if ways > radix:
            ways = 2 + (ways - 2) % (radix - 1)
        inputs, queue = queue[:ways], queue[ways:]
        result = set().union(*inputs)
        taken.append((len(inputs), sum(map(len, inputs)), len(result)))
        if not queue:
            return taken
        queue.append(result)


def trees(layer, radix=64):
    """The passes of every task."""
    _, b = dense(layer)
    columns = [np.flatnonzero(row).tolist() for row in b.T]
    return [passes([columns[k] for k in rows], radix) for rows in selected(layer)]


def bytes_of(result, level, tensor, direction):
    return sum(r.bytes for r in result.traffic if (r.level, r.tensor, r.direction) == (level, tensor, direction))


def linear(spikes, weight):
    """A trace of one layer of ``spikes`` [T, M, K] without neurons."""
    sums = np.einsum("tmk,nk->tmn", spikes.astype(np.int64), weight.astype(np.int64))
    operation = Operation("fc", "linear", ("in",), "out", weight=weight)
    tensors = {"in": spikes, "out": sums}
    return Trace(network="fc", timesteps=len(spikes), operations=[operation], tensors=tensors, provenance=LABELS)


def test_hand_traced_example():
    """The example of the docstring of archsim.accelerators.gamma_snn: 17 cycles."""
    trace = linear(np.ones((1, 1, 2), bool), np.full((1, 2), 5, np.int8))
    result = simulate(trace, "memory.ideal=true", "scheduler.prefetch_tasks=0", hardware=GAMMA_SNN)[0]
    assert (result.cycles, result.compute_cycles, result.performed_operations, result.mismatches) == (17, 10, 2, 0)


def test_a_pass_begins_when_the_heads_of_all_its_inputs_are_there():
    """64 fibers of one element: a burst of 8 and its entries of the table take a cycle each; otherwise as hand-traced.

    A is read until 3, the last head until 3 + 8 x 2 = 19; merging 64 elements of 64 fibers takes 64 + 64 + 6, firing
    and writing 1 each: 155. Bursts of 64 are there at 5: 141.
    """
    trace = linear(np.ones((1, 1, 64), bool), np.full((1, 64), 5, np.int8))
    for options, cycles in (((), 155), (("pe.burst_lines=64", "pe.burst_buffers=4"), 141)):
        result = simulate(
            trace, "memory.ideal=true", "scheduler.prefetch_tasks=0", "pe.spike_overhead_cycles=1", *options,
            hardware=GAMMA_SNN,
        )[0]  # fmt: skip
        assert (result.cycles, result.compute_cycles) == (cycles, 134)
        assert result.actions["pe", "load_fiber"] == result.actions["merger", "merge"] == 64


def test_rows_of_several_lines_come_head_first_and_whole():
    """300 columns of 9 + 8 bits: up to 10 lines; every byte is read once, every element merged once."""
    trace = mlp(3, m=3, n=300, k=90, density=0.8, weight_density=0.8)
    layer = layers(trace, GAMMA_SNN)[0]
    sizes = [math.ceil(count * 17 / 8) for count in (trace.operations[0].weight != 0).sum(0).tolist()]
    tree = [one for task in trees(layer) for one in task]
    for memory in ("memory.ideal=true", "memory.ideal=false"):
        result = simulate(trace, memory, "pe.count=1", hardware=GAMMA_SNN)[0]
        assert result.compute_cycles == sum(elements + fibers + 6 for fibers, elements, _ in tree)
        assert bytes_of(result, "sram", "weight", "read") == sum(sizes[k] for task in selected(layer) for k in task)
        assert result.actions["pe", "load_fiber"] == sum(fibers for fibers, _, _ in tree)
        assert result.actions["pe", "add"] == result.actions["merger", "merge"] == sum(one[1] for one in tree)
        assert result.actions["input_buffer", "write"] * 16 >= bytes_of(result, "sram", "weight", "read")
        assert result.mismatches == 0


def test_buffers_that_cannot_hold_the_heads_are_refused():
    with pytest.raises(ConfigError, match=r"pe\.burst_buffers=10: must hold"):
        load_accelerator(GAMMA_SNN, ["pe.burst_buffers=10"])
    load_accelerator(GAMMA_SNN, ["pe.burst_buffers=11"])


@pytest.mark.parametrize("radix", [2, 3, 7, 64])
@pytest.mark.parametrize("seed", range(3))
def test_mergers_are_busy_for_the_passes_of_the_tree(seed, radix):
    """Ideal memory, one element: elements + overhead x fibers + tree, over the passes that a slow twin finds."""
    trace = mlp(seed, m=6, n=23, k=170, density=0.5)
    tree = [one for task in trees(layers(trace, GAMMA_SNN)[0], radix) for one in task]
    options = (f"pe.radix={radix}", "memory.ideal=true", "pe.count=1")
    for overhead in (0, 3):
        result = simulate(trace, *options, f"pe.spike_overhead_cycles={overhead}", hardware=GAMMA_SNN)[0]
        latency = math.ceil(math.log2(radix))
        busy = sum(elements + overhead * fibers + latency for fibers, elements, _ in tree)
        assert result.compute_cycles == busy == result.lower_bound_cycles
        assert result.mismatches == 0


@pytest.mark.parametrize("seed", range(3))
def test_what_is_merged_and_written_is_conserved(seed):
    """Accumulations are spikes x non-zeros, over k; every byte of a partial fiber and of a sum is written and consumed.

    9 columns: 4 bits a coordinate, 12 a sum.
    """
    trace = mlp(seed, m=7, n=9, k=190, density=0.4)
    layer = layers(trace, GAMMA_SNN)[0]
    spikes = trace.tensor("in").sum((0, 1)).astype(int)
    weights = (trace.operations[0].weight != 0).sum(0).astype(int)
    written = sum(2 * one[2] for task in trees(layer, 8) for one in task)
    partial = sum(one[2] for task in trees(layer, 8) for one in task[:-1])
    for memory in ("memory.ideal=true", "memory.ideal=false"):
        result = simulate(trace, "pe.radix=8", memory, hardware=GAMMA_SNN)[0]
        assert result.performed_operations == int(spikes @ weights)
        assert result.actions["pe", "add"] == result.performed_operations + partial
        assert bytes_of(result, "sram", "psum", "write") == bytes_of(result, "sram", "psum", "read") == written
        assert bytes_of(result, "dram", "psum", "write") == bytes_of(result, "dram", "psum", "read") == 0


def test_partial_fibers_that_are_displaced_come_back():
    trace = mlp(2, m=6, n=60, k=200, density=0.5, weight_density=0.4)
    small = ("memory.cache.size_kib=4", "memory.cache.ways=4", "pe.radix=8")
    fast, slow = (simulate(trace, *small, hardware=GAMMA_SNN, engine=engine)[0] for engine in ("compiled", "reference"))
    same(fast, slow)
    assert fast.mismatches == 0
    written, read = (bytes_of(fast, "dram", "psum", direction) for direction in ("write", "read"))
    assert written >= read > 0


def test_the_next_task_goes_to_the_earliest_free_element():
    """One long row and eleven short ones on two elements: the second element does all the short ones."""
    spikes = np.zeros((1, 12, 600), bool)
    spikes[0, 0] = True
    spikes[0, 1:, :20] = True
    weight = np.ones((4, 600), np.int8)
    options = ("pe.count=2", "memory.ideal=true", "pe.spike_overhead_cycles=0", "neuron.rows=16")
    result = simulate(linear(spikes, weight), *options, hardware=GAMMA_SNN)[0]
    busy = [unit.busy_cycles for unit in result.units if unit.unit == "pe"]
    # 600 fibers: 10 passes; 9 partial fibers of 4 elements; 6 cycles of tree a pass.
    assert busy == [600 * 4 + 9 * 4 + 10 * 6, 11 * (20 * 4 + 6)]


def test_ties_go_to_the_smaller_number():
    """Equal tasks, one more than elements: all elements are free at once, and the first takes the last task too."""
    spikes = np.ones((1, 5, 3), bool)
    result = simulate(linear(spikes, np.ones((2, 3), np.int8)), "pe.count=4", "memory.ideal=true", hardware=GAMMA_SNN)[
        0
    ]
    busy = [unit.busy_cycles for unit in result.units if unit.unit == "pe"]
    assert busy == [2 * 15, 15, 15, 15]


OPTIONS = [
    "pe.accumulate=dense_row", "pe.radix=2", "pe.radix=5", "pe.burst_lines=2 pe.burst_buffers=35", "pe.burst_lines=64",
    "pe.radix=8 pe.burst_buffers=4", "pe.spike_overhead_cycles=11", "pe.count=3", "neuron.rows=1", "neuron.cycles=3",
    "scheduler.operands=loaded_first", "scheduler.prefetch_tasks=0", "scheduler.prefetch_tasks=1",
    "format.coordinate_bits=16", "format.pointer_bits=0", "format.pointer_bits=20", "format.weight_rows=bitmask",
    "memory.cache.replacement=lru", "memory.cache.mshrs=1", "memory.cache.double_buffer=true",
    "memory.cache.line_bytes=16", "memory.cache.line_bytes=256", "memory.cache.stream_ways=0",
    "memory.dram.channels=1", "clock_mhz=333.3",
]  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("hardware", [GAMMA_SNN, GAMMA], ids=lambda path: path.stem)
def test_engines_agree_with_every_option(hardware, option):
    trace = mlp(5, m=19, n=9, k=300) if hardware == GAMMA_SNN else ann(5, m=35, n=9, k=300)
    fast = simulate(trace, *option.split(), hardware=hardware, record=True)[0]
    slow = simulate(trace, *option.split(), hardware=hardware, engine="reference", record=True)[0]
    assert fast.mismatches == 0
    assert fast.cycles >= fast.lower_bound_cycles
    same(fast, slow)


def test_traffic_of_a_small_layer():
    """All fits: DRAM delivers each line of A, of the rows of B that are selected and of their table, once."""
    trace = mlp(4, m=6, n=11, k=100, density=0.2, weight_density=0.2)
    layer = layers(trace, GAMMA_SNN)[0]
    chosen = selected(layer)
    # A: 4 bytes in front of a fiber, 7 bits a coordinate. B: 4 bits a coordinate, 8 a weight; the table 4 bytes a row.
    a = sum(4 + math.ceil(len(rows) * 7 / 8) for rows in chosen)
    sizes = [math.ceil(count * 12 / 8) for count in (trace.operations[0].weight != 0).sum(0).tolist()]
    ends = np.cumsum(sizes).tolist()
    used = sorted(set(np.concatenate(chosen).tolist()))
    rows = {line for k in used if sizes[k] for line in range((ends[k] - sizes[k]) // 64, (ends[k] - 1) // 64 + 1)}
    result = simulate(trace, hardware=GAMMA_SNN)[0]
    assert bytes_of(result, "dram", "input", "read") == 64 * math.ceil(a / 64)
    assert bytes_of(result, "dram", "weight", "read") == 64 * len(rows)
    assert bytes_of(result, "dram", "weight_format", "read") == 64 * len({4 * k // 64 for k in used})
    assert bytes_of(result, "sram", "input", "read") == a
    assert bytes_of(result, "sram", "weight", "read") == sum(sizes[k] for task in chosen for k in task)
    # Output: 4 bytes in front of a fiber, 4 bits a coordinate, a row in whole lines.
    spikes = trace.tensor("out").sum((0, 2)).tolist()
    output = sum(64 * math.ceil((16 + math.ceil(count / 2)) / 64) for count in spikes)
    assert bytes_of(result, "dram", "output", "write") == output


def test_operands_that_are_loaded_first_cost_their_lines_and_nothing_later():
    trace = mlp(4, m=6, n=11, k=100, density=0.2, weight_density=0.2)
    result = simulate(trace, "scheduler.operands=loaded_first", hardware=GAMMA_SNN)[0]
    sizes = [math.ceil(count * 12 / 8) for count in (trace.operations[0].weight != 0).sum(0).tolist()]
    assert bytes_of(result, "dram", "weight", "read") == 64 * math.ceil(sum(sizes) / 64)
    assert bytes_of(result, "dram", "weight_format", "read") == 64 * math.ceil(400 / 64)
    assert result.events["misses"] == 0


def test_a_dense_row_takes_the_overhead_and_the_non_zeros_of_every_spike():
    """As the fitted reading has it; the row of 16-bit sums is touched once a spike."""
    trace = mlp(6, m=9, n=20, k=150)
    b = (trace.operations[0].weight != 0).sum(0)
    tasks = [11 * len(rows) + int(b[rows].sum()) for rows in selected(layers(trace, FITTED)[0])]
    result = simulate(trace, "memory.ideal=true", "pe.count=1", hardware=FITTED)[0]
    assert result.compute_cycles == sum(tasks)
    touched = int(trace.tensor("in").sum()) * 20 * 2
    handed_over = len(tasks) * 20 * 2
    assert bytes_of(result, "sram", "psum", "write") == touched + handed_over
    assert bytes_of(result, "sram", "psum", "read") == handed_over
    assert ("merger", "merge") not in result.actions


def test_convolutions_and_images_of_a_batch():
    trace = conv(7, channels=20, density=0.5)
    result = simulate(trace, "pe.radix=4", hardware=GAMMA_SNN)[0]
    assert result.mismatches == 0


def test_a_layer_that_coordinates_cannot_name_is_refused():
    machine = load_accelerator(GAMMA_SNN, ["pe.coordinate_bits=7"])
    assert machine.problems(mlp(1, k=128)) == []
    assert "--set pe.coordinate_bits=8" in machine.problems(mlp(1, k=129))[0]
