"""Dense systolic array: hand-traced case, closed forms of SCALE-Sim, traffic, partial sums, both engines."""

import numba
import numpy as np
import pytest

from archsim.hardware.diagram import Diagram
from archsim.simulate import load_accelerator
from tests.machines import ROOT, conv, layers, mlp, same, simulate

SYSTOLIC = ROOT / "hwconfigs" / "systolic.yaml"
DATAFLOWS = ["output", "weight", "input"]
# First half of an operand, the last sum's neuron, its write.
AROUND = 3


def size(rows, columns):
    return f"pe.rows={rows}", f"pe.columns={columns}"


def closed_form(dataflow, m, n, k, timesteps, rows, columns):
    """SCALE-Sim's run time with the columns of the input matrix C // T positions of T timesteps."""
    groups = -(-m // (columns // timesteps)) if timesteps <= columns else m * -(-timesteps // columns)
    folds, streamed = {
        "output": (-(-n // rows) * groups, k),
        "weight": (-(-k // rows) * -(-n // columns), m * timesteps),
        "input": (-(-k // rows) * groups, n),
    }[dataflow]
    return folds * (2 * rows + columns + streamed - 2)


def test_hand_traced_example():
    """The 2 x 2 example of the docstring of archsim.accelerators.systolic: one fold of 7 cycles, 10 in all."""
    trace = mlp(1, m=2, n=2, k=3, timesteps=1)
    result = simulate(trace, *size(2, 2), "memory.ideal=true", hardware=SYSTOLIC)[0]
    assert (result.cycles, result.compute_cycles, result.performed_operations, result.mismatches) == (10, 7, 12, 0)


@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (9, 20, 70, 4), (5, 3, 130, 3), (4, 9, 40, 16), (3, 17, 64, 8)])
@pytest.mark.parametrize("array", [(8, 8), (3, 5), (16, 4), (1, 2)])
def test_ideal_memory_is_the_closed_form(dataflow, shape, array):
    m, n, k, timesteps = shape
    trace = mlp(2, m=m, n=n, k=k, timesteps=timesteps)
    options = (f"dataflow={dataflow}", "memory.ideal=true", *size(*array))
    result = simulate(trace, *options, hardware=SYSTOLIC)[0]
    expected = closed_form(dataflow, *shape, *array)
    assert result.compute_cycles == expected
    assert result.cycles == expected + AROUND
    assert result.mismatches == 0
    assert result.performed_operations == m * n * k * timesteps
    assert result.actions["lif", "update"] == m * n * timesteps


@pytest.mark.parametrize("dataflow", ["output", "input"])
def test_timesteps_one_after_the_other_are_more_folds(dataflow):
    """C positions a fold, T folds a group; side by side, C // T positions."""
    trace = mlp(2, m=20, n=9, k=50, timesteps=4)
    both = [
        simulate(trace, f"dataflow={dataflow}", f"scheduler.timesteps={how}", "memory.ideal=true", hardware=SYSTOLIC)[0]
        for how in ("sequential", "columns")
    ]
    inner, streamed = (2, 50) if dataflow == "output" else (7, 9)
    assert [result.compute_cycles for result in both] == [
        4 * 3 * inner * (22 + streamed), 10 * inner * (22 + streamed)
    ]  # fmt: skip
    assert both[0].mismatches == both[1].mismatches == 0


OPTIONS = [
    "pe.rows=3", "pe.columns=7", "pe.buffer_steps=5", "pe.buffers=1", "pe.buffers=4", "pe.output_buffer=1",
    "pe.accumulator_bits=9", "neuron.cycles=3", "scheduler.timesteps=sequential", "scheduler.tile_fill=0.001",
    "scheduler.prefetch_folds=0", "scheduler.prefetch_folds=3", "memory.cache.replacement=lru",
    "memory.dma.lines_in_flight=2", "memory.cache.line_bytes=16", "memory.cache.width_bits=512",
    "memory.dram.channels=1",
]  # fmt: skip


@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize("option", OPTIONS)
def test_engines_agree_with_every_option(dataflow, option):
    trace = mlp(5, m=11, n=19, k=90, timesteps=3)
    small = (f"dataflow={dataflow}", "memory.cache.size_kib=16", "memory.cache.ways=4", option)
    fast, slow = (
        simulate(trace, *small, hardware=SYSTOLIC, engine=engine, record=True)[0]
        for engine in ("compiled", "reference")
    )
    assert fast.mismatches == 0
    same(fast, slow)


def traffic(result, level, tensor, direction):
    return sum(
        row.bytes for row in result.traffic if (row.level, row.tensor, row.direction) == (level, tensor, direction)
    )


def test_operands_cross_the_edges_once_a_fold_and_dram_once_a_layer():
    """Sizes in whole bytes: 4 positions of 2 timesteps in 8 columns, 8 neurons in 8 rows."""
    m, n, k, timesteps = 24, 32, 70, 2
    result = simulate(mlp(4, m=m, n=n, k=k, timesteps=timesteps), hardware=SYSTOLIC)[0]
    folds = (m // 4) * (n // 8)
    # Filling the cache writes it; only feeders read it.
    assert traffic(result, "sram", "weight", "read") == folds * 8 * k
    assert traffic(result, "sram", "input", "read") == folds * k
    assert traffic(result, "dram", "weight", "read") == 64 * -(-n * k // 64)
    assert traffic(result, "dram", "input", "read") == 64 * -(-m * k * timesteps // 8 // 64)
    assert traffic(result, "dram", "output", "write") == 64 * m
    assert traffic(result, "sram", "output", "write") == m * n * timesteps // 8
    assert traffic(result, "sram", "psum", "write") == 0


@pytest.mark.parametrize(("dataflow", "sums"), [("weight", 12 * 2 * 20), ("input", 12 * 2 * 20)])
def test_partial_sums_are_written_and_read_once_between_folds(dataflow, sums):
    """K = 30 takes four folds of 8 rows: three times every sum of 3 bytes goes out and comes back."""
    trace = mlp(4, m=12, n=20, k=30, timesteps=2)
    result = simulate(trace, f"dataflow={dataflow}", hardware=SYSTOLIC)[0]
    assert traffic(result, "sram", "psum", "read") == 3 * 3 * sums
    assert traffic(result, "sram", "psum", "write") == 3 * 3 * sums
    assert traffic(result, "dram", "psum", "read") == traffic(result, "dram", "psum", "write") == 0
    assert result.actions["accumulator", "add"] == 3 * sums


def test_partial_sums_that_do_not_fit_spill_to_dram():
    trace = mlp(4, m=400, n=9, k=20, timesteps=4)
    small = ("dataflow=weight", "memory.cache.size_kib=16", "memory.cache.ways=4")
    result = simulate(trace, *small, hardware=SYSTOLIC)[0]
    assert traffic(result, "dram", "psum", "write") > 0
    assert traffic(result, "dram", "psum", "read") >= traffic(result, "dram", "psum", "write") - 64
    assert result.mismatches == 0


def test_a_machine_that_waits_for_memory_says_so():
    """With one half of an operand buffer each half is fetched only when the one before is through."""
    trace = mlp(4, m=20, n=16, k=500)
    one, two = (simulate(trace, f"pe.buffers={buffers}", hardware=SYSTOLIC)[0] for buffers in (1, 2))
    assert one.compute_cycles == two.compute_cycles
    assert one.stall_cycles > two.stall_cycles + 10 * (20 // 2) * 2


def test_overflow_is_counted_in_the_order_of_the_array():
    trace = mlp(3, m=4, n=4, k=60, timesteps=2, density=0.9, weight_density=0.9)
    a, b = trace.tensor("in").astype(int), trace.operations[0].weight.astype(int)
    overflows = 0
    for t in range(2):
        running = np.cumsum(a[t][:, None, :] * b[None], axis=2)
        leaves = (running < -128) | (running >= 128)
        overflows += int((leaves & (a[t][:, None, :] == 1)).sum())
    result = simulate(trace, "pe.accumulator_bits=8", hardware=SYSTOLIC)[0]
    assert result.events["accumulator_overflows"] == overflows > 0
    assert result.mismatches == 0


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_a_convolution(dataflow):
    trace = conv(3)
    fast, slow = (
        simulate(trace, f"dataflow={dataflow}", hardware=SYSTOLIC, engine=engine)[0]
        for engine in ("compiled", "reference")
    )
    same(fast, slow)
    assert fast.mismatches == 0
    assert layers(trace, SYSTOLIC)[0].k == 45


def test_a_block_of_sums_leaves_when_its_last_one_has_crossed_the_array():
    """R = C = 8, halves of 64 steps, stationary weights: 1 + 8 cycles to begin; the first 64 sums of all columns are
    out 64 + 14 cycles later, so after the second half, in cycle 9 + 128; the neuron takes one more."""
    trace = mlp(4, m=200, n=8, k=8, timesteps=1)
    result = simulate(trace, "dataflow=weight", "memory.ideal=true", hardware=SYSTOLIC, record=True)[0]
    (writer,) = [agent for agent, name in result.agents.items() if name == "writer"]
    writer = result.completions[result.completions[:, 0] == writer, 1]
    assert writer[:2].tolist() == [9 + 128, 9 + 128 + 1]
    assert result.compute_cycles == 8 + 200 + 14


@pytest.mark.parametrize("dataflow", ["output", "weight", "input"])
def test_every_place_hands_on_what_passes_it(dataflow):
    """8 x 8 places, M = 5 positions of 4 timesteps, two side by side, N = 7, K = 20; operands take 14 cycles to spread.

    A spike or sum is handed on in every cycle, a stationary operand while it is loaded, sums of the output-stationary
    array in the 8 cycles in which they leave.
    """
    result = simulate(mlp(1, m=5, n=7, k=20), f"dataflow={dataflow}", hardware=SYSTOLIC)[0]
    folds, weight, spike, total = {
        "output": (3, 20 + 14, 20 + 14, 8), "weight": (3, 8, 20 + 14, 20 + 14), "input": (9, 7 + 14, 8, 7 + 14),
    }[dataflow]  # fmt: skip
    for action, cycles in (("shift_weight", weight), ("shift_spike", spike), ("shift_sum", total)):
        assert result.actions["pe", action] == folds * cycles * 64, action
    assert result.actions["scheduler", "step"] == folds
    steps = {"output": 20, "weight": 20, "input": 7}[dataflow]
    assert result.actions["operand_buffer", "write"] == result.actions["operand_buffer", "read"] == folds * steps
    # What is read and written at the edges, in beats of 16 bytes; an output row of 7 x 4 bits is one.
    reads = sum(row.accesses for row in result.traffic if (row.level, row.direction) == ("sram", "read"))
    sums = sum(row.accesses for row in result.traffic if (row.level, row.tensor) == ("sram", "psum"))
    assert result.actions["broadcast", "transfer"] == reads + sums // 2 + 5
    assert ("crossbar_switch", "transfer") not in result.actions


def test_machines_of_a_family_share_their_kernels():
    """What a machine adds to the configuration is nothing to the agents: one loop, called with one set of types."""
    files = [ROOT / "hwconfigs" / f"{name}.yaml" for name in ("systolic", "ptb", "stellar")]
    machines = [load_accelerator(file, ("timesteps=4",)) for file in files]
    assert len({id(type(machine).loop) for machine in machines}) == 1
    layer = layers(mlp(1), SYSTOLIC)[0]
    programs = [machine.program(layer, np.full(layer.m, 4)) for machine in machines]
    assert len({numba.typeof((program.spec, program.operands)) for program in programs}) == 1


def test_readers_of_a_fifo_have_ports_one_behind_the_other():
    diagram = Diagram()
    diagram.fifo(1)
    both = diagram.fifo(2, readers=2)
    assert (both.reader(0), both.reader(1).fifo, both.reader(1).port) == (both, both.fifo, both.port + 1)
    assert diagram.fifo(1).port == both.reader(1).port + 1
