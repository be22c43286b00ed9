"""SpinalFlow: hand-traced case, closed form, order of spikes, traffic, conservation laws, both engines."""

import numpy as np
import pytest

from archsim.accelerators.spinalflow import boundaries, merged, spikes_of
from archsim.dataflow.layer import layer_of
from archsim.simulate import load_accelerator
from archsim.trace import Neuron, Operation, Trace
from tests.machines import LABELS, ROOT, conv, layers, mlp, needs_recorded, recorded, same, simulate

SPINALFLOW = ROOT / "hwconfigs" / "spinalflow.yaml"


def spinalflow(trace, *overrides, **options):
    return simulate(trace, *overrides, hardware=SPINALFLOW, **options)


def traffic(result, level, tensor, direction="read"):
    return sum(
        row.bytes
        for row in result.traffic
        if (row.level, row.tensor, row.direction) == (level, tensor, direction)
    )  # fmt: skip


def test_hand_traced_example():
    """One neuron, two inputs, two ticks; input 0 spikes at tick 0, input 1 at tick 1; memory.ideal: 13 cycles.

    The list loader takes room: 1. It loads the list (1) and finds the first spike (4 beside that): 5. Readers 0 and 1
    read a row of weights each: 6. The array adds the first and fires (2), to 8, the second and fires, to 10. The output
    spikes at both ticks: the drain takes 2, to 12, and writes a line: 13.
    """
    spikes = np.zeros((2, 1, 2), bool)
    spikes[0, 0, 0] = spikes[1, 0, 1] = True
    trace = Trace(
        network="two", timesteps=2, provenance={"kind": "synthetic", "weights": "synthetic"},
        operations=[
            Operation("fc", "linear", ("in",), "out", weight=np.full((1, 2), 5, np.int8), neuron=Neuron("lif", 3, 1, 1))
        ],
        tensors={"in": spikes, "out": np.ones((2, 1, 1), bool)},
    )  # fmt: skip
    result = spinalflow(trace, "memory.ideal=true")[0]
    assert (result.cycles, result.compute_cycles, result.performed_operations, result.mismatches) == (13, 4, 2, 0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("boundary", [1, 3])
def test_ideal_memory_is_a_spike_a_cycle_and_the_tick_boundaries(seed, boundary):
    """And, where the drain keeps up: merge 4, read 1, then the last position's drain and a write."""
    trace = mlp(seed, m=9, n=150, k=300, density=0.4)
    result = spinalflow(trace, "memory.ideal=true", f"neuron.cycles={boundary}")[0]
    expected = 2 * (int(trace.tensor("in").sum()) + 9 * 4 * boundary)
    assert result.compute_cycles == result.lower_bound_cycles == expected
    assert expected + 6 <= result.cycles <= expected + 6 + 128 * 4


def test_a_slow_drain_holds_the_array_up():
    """With ``positions`` = 1 at most one finished position waits while the drain works on another."""
    trace = mlp(1, m=8, n=100, k=40, density=0.3)
    spikes = trace.tensor("out").sum((0, 2))
    slow = spinalflow(trace, "memory.ideal=true", "drain.cycles_per_spike=50", "drain.positions=1")[0]
    assert slow.cycles >= 50 * spikes.sum()
    assert slow.actions["drain", "write"] == spikes.sum()


def at_once(m, k):
    """``m`` positions of ``k`` inputs that all spike at the first of four ticks; one neuron's sums."""
    spikes = np.zeros((4, m, k), bool)
    spikes[0] = True
    sums = np.zeros((4, m, 1), np.int64)
    sums[0] = k
    operation = Operation("fc", "linear", ("in",), "out", weight=np.ones((1, k), np.int8))
    return Trace(
        network="at_once", timesteps=4, operations=[operation], tensors={"in": spikes, "out": sums}, provenance=LABELS
    )


def test_a_position_that_fills_the_spike_buffer_is_merged_alone():
    """800 spikes: 7 pointers and 800 x 11 bits are 1128 bytes, 71 words of 16 bytes and 18 lines.

    Room is taken in a cycle, the lists take two operations of 16 lines, 1 + 4 cycles (merging is beside the second),
    then a row of weights 1, 800 spikes and 4 ticks; a buffer of 64 or 128 words begins the next position after that.
    The last one drains 4 sums and writes them.
    """
    for positions, kib in ((2, 1), (3, 1), (3, 2)):
        result = spinalflow(at_once(positions, 800), "memory.ideal=true", f"merger.buffer_kib={kib}")[0]
        assert result.cycles == positions * (1 + 1 + 4 + 1 + 800 + 4) + 4 + 1
        assert result.events["positions_larger_than_buffer"] == (positions if kib == 1 else 0)
    wide = spinalflow(at_once(3, 800), "memory.ideal=true", "merger.buffer_kib=4")[0]
    assert wide.cycles == 1 + 1 + 4 + 1 + 3 * (800 + 4) + 4 + 1
    assert wide.actions["broadcast", "transfer"] == 3 * -(-1128 // 16)
    assert wide.actions["spike_buffer", "write"] == wide.actions["spike_buffer", "read"] == -(-3 * 800 * 11 // 128)
    assert wide.actions["pe", "add"] == wide.actions["merger", "spike"] == 3 * 800


def min_find(lists):
    """Take the earliest head again and again, of equal ones that of the first list."""
    lists = [list(one) for one in lists]
    while any(lists):
        heads = [one[0][0] if one else 99 for one in lists]
        first = heads.index(min(heads))
        yield (first, *lists[first].pop(0))


@pytest.mark.parametrize("stride", [1, 2])
def test_spikes_come_as_min_find_takes_them(stride):
    trace = conv(4, stride=stride)
    layer = layers(trace, SPINALFLOW)[0]
    spikes = spikes_of(layer)
    begins, rows, ticks = merged(spikes, 0, layer.m, layer.timesteps)
    before, after = boundaries(begins, ticks, layer.timesteps)
    stored, size = trace.tensor("in"), 6
    padded = np.pad(stored, ((0, 0), (0, 0), (0, 0), (1, 1), (1, 1)))
    out = (size - 1) // stride + 1
    for m in range(layer.m):
        image, y, x = m // out**2, m // out % out * stride, m % out * stride
        lists = [
            [(t, c) for t in range(4) for c in range(5) if padded[t, image, c, y + j, x + i]]
            for j in range(3)
            for i in range(3)
        ]
        found = list(min_find(lists))
        mine = slice(begins[m], begins[m + 1])
        assert [(t, tap * 5 + c) for tap, t, c in found] == list(zip(ticks[mine], rows[mine], strict=True))
        assert before[m] + after[mine].sum() == layer.timesteps
        assert np.array_equal(before[m] + np.cumsum(after[mine]), [*ticks[mine][1:], 4][: len(found)])


def test_a_part_of_the_rows_is_that_part_of_all():
    layer = layers(conv(4), SPINALFLOW)[0]
    spikes = spikes_of(layer)
    begins, rows, ticks = merged(spikes, 0, layer.m, layer.timesteps)
    part = merged(spikes, 11, 20, layer.timesteps)
    assert np.array_equal(part[0], begins[11:21] - begins[11])
    assert np.array_equal(part[1], rows[begins[11] : begins[20]])
    assert np.array_equal(part[2], ticks[begins[11] : begins[20]])


def test_traffic_of_a_small_convolution():
    """Every spike reads its row of weights; lists and rows come from DRAM once, as long as they fit.

    A list: pointer of 4 bytes, 4 + 7 bits a spike. 140 channels out: rows of 128 and of 12 bytes.
    """
    trace = conv(6, channels=7, out_channels=140, density=0.2)
    result = spinalflow(trace)[0]
    stored = trace.tensor("in")
    spikes = stored.sum((0, 2)).reshape(-1)
    lists = 4 + -(-spikes * 11 // 8)
    lines = -(-lists // 64)
    assert traffic(result, "dram", "input") == 64 * lines.sum()
    padded = np.pad(stored, ((0, 0), (0, 0), (0, 0), (1, 1), (1, 1))).astype(int)
    windows = np.array([[padded[..., y : y + 6, x : x + 6].sum((0, 1, 3, 4)) for x in range(3)] for y in range(3)])
    assert traffic(result, "sram", "weight") == windows.sum() * 140
    assert result.performed_operations == windows.sum() * 140
    assert result.actions["merger", "spike"] == 2 * windows.sum()
    per_list = np.pad(lists.reshape(2, 6, 6), ((0, 0), (1, 1), (1, 1)))
    reads = sum(per_list[:, y : y + 6, x : x + 6].sum() for y in range(3) for x in range(3))
    assert traffic(result, "sram", "input") == 2 * reads
    used = (windows > 0).reshape(9 * 7)
    wide, narrow = np.flatnonzero(used), np.flatnonzero(used) * 12
    touched = 2 * len(wide) + len(set(narrow // 64) | set((narrow + 11) // 64))
    assert traffic(result, "dram", "weight") == 64 * touched
    assert result.compulsory_read_bytes == lists.sum() + 140 * used.sum()


def test_what_comes_out_is_written_once():
    """Output spikes of a row are shared out over its tiles, so their number is exact and their lines are whole."""
    trace = mlp(2, m=6, n=300, k=60)
    result = spinalflow(trace)[0]
    spikes = trace.tensor("out").sum((0, 2))
    shares = [[(s * (i + 1)) // 3 - (s * i) // 3 for i in range(3)] for s in spikes]
    lines = sum(-(-(4 + -(-share * 11 // 8)) // 64) for row in shares for share in row)
    assert traffic(result, "dram", "output", "write") == 64 * lines
    assert result.actions["drain", "write"] == spikes.sum()


OPTIONS = [
    "pe.count=16", "pe.count=1024", "pe.weight_buffer=1", "pe.weight_bits=5", "neuron.cycles=4", "merger.cycles=0",
    "merger.rows_ahead=1", "merger.rows_ahead=64", "merger.buffer_kib=1", "drain.positions=1",
    "drain.cycles_per_spike=9", "format.pointer_bits=0", "memory.read_switch.inputs=3", "memory.cache.line_bytes=16",
    "memory.cache.line_bytes=256", "memory.cache.size_kib=16", "memory.dma.lines_in_flight=1",
    "memory.cache.replacement=lru", "memory.dram.channels=1",
]  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS)
def test_engines_agree_with_every_option(option):
    overrides = (option, "memory.cache.ways=4") if "size_kib" in option else (option,)
    if option == "pe.weight_bits=5":
        trace = mlp(5, m=7, n=140, k=90)
        trace.operations[0].weight[:] = trace.operations[0].weight // 16
        overrides = (*overrides, "memory.ideal=false")
        fast, slow = (
            load_accelerator(SPINALFLOW, overrides).run_layer(
                layer_of(trace, trace.operations[0]), engine, verify=False, record=True
            )
            for engine in ("compiled", "reference")
        )
        same(fast, slow)
        return
    trace = conv(5, channels=20, out_channels=20)
    fast, slow = (spinalflow(trace, *overrides, engine=engine, record=True)[0] for engine in ("compiled", "reference"))
    assert fast.mismatches == 0
    same(fast, slow)


def test_more_readers_are_faster_and_more_elements_need_fewer_tiles():
    trace = mlp(7, m=12, n=256, k=400, density=0.5)
    base, one, wide = (
        spinalflow(trace, *o)[0] for o in ((), ("memory.read_switch.inputs=1",), ("pe.count=256",))
    )  # fmt: skip
    assert one.cycles > 3 * base.cycles
    assert wide.lower_bound_cycles * 2 == base.lower_bound_cycles
    assert wide.performed_operations == base.performed_operations


def test_overflow_is_counted_and_results_stay_exact():
    trace = mlp(3, m=4, n=4, k=600, density=0.9, weight_density=0.9)
    narrow, wide = (spinalflow(trace, f"pe.accumulator_bits={bits}")[0] for bits in (8, 32))
    assert narrow.events["accumulator_overflows"] > wide.events["accumulator_overflows"] == 0
    assert narrow.mismatches == wide.mismatches == 0


@needs_recorded
def test_recorded_spikes_meet_the_reference_number():
    """Spikes x tiles of 128 of the twelve convolutions, which an independent program counts as 1,928,794."""
    trace = recorded("vgg16")
    machine = load_accelerator(SPINALFLOW)
    total = 0
    for operation in machine.layers(trace):
        if operation.op == "conv2d":
            layer = layer_of(trace, operation)
            program = machine.program(layer, np.full(layer.m, 64))
            total += int(program.operands.first[-1])  # of all visits: a row of each tile
    assert total == 1_928_794
