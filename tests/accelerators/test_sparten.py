"""SparTen-SNN and SparTen: a hand-traced case, closed forms, matches and traffic by plain numpy, overflows."""

import numba
import numpy as np
import pytest

from archsim.cost import area_rows, load_table, price_rows
from archsim.dataflow.layer import layer_of
from archsim.simulate import load_accelerator
from archsim.trace import Neuron, Operation, Trace
from tests.machines import LABELS, LOAS, ROOT, ann, barrier_cycles, chunk_matches, mlp, same, simulate
from tests.small_traces import attention, contents

SNN = ROOT / "hwconfigs" / "sparten_snn.yaml"
ANN = ROOT / "hwconfigs" / "sparten.yaml"


def matches_by_timestep(trace):
    """Matches [M, N, T, chunks] of a one-layer trace, by plain numpy."""
    spikes, weight = trace.tensor("in"), trace.operations[0].weight
    return np.stack([chunk_matches(plane, weight) for plane in spikes], axis=2)


def moved(result, level, tensor, direction="read"):
    return sum(
        row.bytes for row in result.traffic if (row.level, row.tensor, row.direction) == (level, tensor, direction)
    )


def test_hand_traced_example():
    """2 x 2, one chunk, T = 2, matches of rows at (t0, t1): column 0 (1, 0), (2, 2); column 1 (0, 0), (1, 0).

    B of column 0 is there at 1, its first chunk is broadcast at 2. Row 1 joins column 0 in (2 + 2) + (2 + 2) = 8
    cycles, to 10, and column 1 in (2 + 1) + 2 = 5, to 15. The neuron of the last timestep takes 1, two neurons are
    compressed in 1, their four bits written in 1: cycle 18.
    """
    spikes = np.zeros((2, 2, 128), bool)
    spikes[0, 0, 0] = True
    spikes[:, 1, [0, 1]] = True
    spikes[0, 1, 2] = True
    weight = np.zeros((2, 128), np.int8)
    weight[0, [0, 1]] = 5
    weight[1, 2] = 5
    sums = np.einsum("tmk,nk->tmn", spikes.astype(int), weight.astype(int))
    trace = Trace(
        network="two", timesteps=2, provenance=LABELS, tensors={"in": spikes, "out": sums > 4},
        operations=[Operation("fc", "linear", ("in",), "out", weight=weight, neuron=Neuron("if", 4, 0, 0))],
    )  # fmt: skip
    assert matches_by_timestep(trace)[:, :, :, 0].tolist() == [[[1, 0], [0, 0]], [[2, 2], [1, 0]]]
    result = simulate(trace, "memory.ideal=true", hardware=SNN)[0]
    assert (result.cycles, result.performed_operations) == (18, 6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("overhead", [0, 2])
def test_snn_with_ideal_memory_is_the_closed_form_plus_fill_and_drain(seed, overhead):
    """A step is the slowest row's sum over timesteps and chunks; fill 2, drain: fire 1, compress 2, write 1."""
    trace = mlp(seed, m=37, n=20, k=300)
    cost = np.maximum(1, overhead + matches_by_timestep(trace)).sum((2, 3))
    result = simulate(trace, "memory.ideal=true", f"pe.chunk_overhead_cycles={overhead}", hardware=SNN)[0]
    assert result.cycles == barrier_cycles(cost) + 2 + 1 + 2 + 1


@pytest.mark.parametrize("overhead", [0, 2])
def test_ann_with_ideal_memory_is_the_closed_form_plus_fill_and_drain(overhead):
    """The same with one pass over activations."""
    trace = ann(3, m=37, n=20, k=300)
    cost = np.maximum(1, overhead + chunk_matches(trace.tensor("in"), trace.operations[0].weight)).sum(2)
    result = simulate(trace, "memory.ideal=true", f"pe.chunk_overhead_cycles={overhead}", hardware=ANN)[0]
    assert 0 < result.cycles - barrier_cycles(cost) <= 2 + 1 + 2 + 3


def test_machines_of_one_dataflow_share_one_compiled_loop():
    """One set of kernels and one type of numbers, so that what one machine compiled the others find."""
    machines = [load_accelerator(path) for path in (LOAS, SNN, ANN)]
    traces = [mlp(1), mlp(1), ann(1)]
    kinds = set()
    for machine, trace in zip(machines, traces, strict=True):
        layer = layer_of(trace, trace.operations[0])
        program = machine.specialised_for(trace).program(layer, np.full(layer.m, 9))
        kinds.add((numba.typeof(program.spec), numba.typeof(program.operands)))
    assert len({id(type(machine).loop) for machine in machines}) == len(kinds) == 1


def test_matches_are_those_of_plain_numpy():
    snn, dense = mlp(9, m=18, n=7, k=200), ann(9, m=18, n=7, k=200)
    assert simulate(snn, hardware=SNN)[0].performed_operations == matches_by_timestep(snn).sum()
    assert simulate(dense, hardware=ANN)[0].performed_operations == chunk_matches(
        dense.tensor("in"), dense.operations[0].weight
    ).sum()  # fmt: skip


def test_snn_traffic_is_that_of_the_sizes():
    """A: 16 bytes a row, column, timestep and chunk; B: bitmask and values again for every timestep of a step."""
    m, n, k, timesteps, chunks = 20, 9, 300, 4, 3
    trace = mlp(4, m=m, n=n, k=k)
    result, weights = simulate(trace, hardware=SNN)[0], np.count_nonzero(trace.operations[0].weight, axis=1)
    steps = -(-m // 16)
    assert moved(result, "sram", "input") == 16 * m * n * timesteps * chunks
    assert moved(result, "sram", "weight_format") == steps * timesteps * n * -(-k // 8)
    assert moved(result, "sram", "weight") == steps * timesteps * weights.sum()
    # In DRAM a row of A has its timesteps one behind the other, a fiber of B bitmask, pointer (4 bytes) and values.
    assert moved(result, "dram", "input") == 64 * m * -(-timesteps * chunks * 16 // 64)
    fibers = -(-(-(-k // 8) + 4 + weights) // 64)
    assert moved(result, "dram", "weight") + moved(result, "dram", "weight_format") == 64 * fibers.sum()


@pytest.mark.parametrize(
    ("hardware", "trace"), [(SNN, mlp(3, m=4, n=4, k=600, density=0.9, weight_density=0.9)), (ANN, ann(3, k=600))]
)
def test_overflow_is_counted_and_results_stay_exact(hardware, trace):
    narrow, wide = (
        simulate(trace, f"pe.accumulator_bits={bits}", hardware=hardware)[0] for bits in (8, 40)
    )  # fmt: skip
    assert narrow.events["accumulator_overflows"] > wide.events["accumulator_overflows"] == 0
    assert narrow.mismatches == wide.mismatches == 0


@pytest.mark.parametrize(
    "option", ["scheduler.prefetch_fibers=0", "scheduler.order=row_group", "format.unrolled=on_the_fly"]
)
@pytest.mark.parametrize("hardware", [SNN, ANN])
def test_engines_agree_with_each_option(hardware, option):
    trace = ann(5, m=35, n=9, k=300) if hardware == ANN else mlp(5, m=35, n=9, k=300)
    fast, slow = (simulate(trace, option, hardware=hardware, engine=engine)[0] for engine in ("compiled", "reference"))
    same(fast, slow)
    assert fast.mismatches == 0


def test_b_on_demand_waits_for_the_memory_and_fetches_the_same_lines():
    """Ahead, all fibers but the first arrive unnoticed; on demand each makes the array wait for its first line, which
    takes 1 for the miss register, 7 for the burst, 78 (97 ns) with an open row, and 4 for the fill."""
    trace, n = mlp(6, m=40, n=12, k=700), 12
    ahead, demand = (simulate(trace, f"scheduler.prefetch_fibers={fibers}", hardware=SNN)[0] for fibers in (1, 0))
    assert demand.cycles - ahead.cycles >= (n - 1) * (1 + 7 + 78 + 4)
    lines = [moved(result, "dram", "weight") + moved(result, "dram", "weight_format") for result in (ahead, demand)]
    assert lines[0] == lines[1]


def test_what_elements_do_is_counted():
    """Every match is found by a prefix-sum (two for an ANN) and added; a chunk pair is a join; 9 outputs a chunk."""
    m, n, k, timesteps, chunks = 20, 9, 300, 4, 3
    snn, dense = mlp(4, m=m, n=n, k=k), ann(4, m=m, n=n, k=k)
    spiking, matches = simulate(snn, hardware=SNN)[0].actions, int(matches_by_timestep(snn).sum())
    assert spiking["pe", "join"] == m * n * timesteps * chunks
    assert spiking["pe", "fast_prefix"] == spiking["pe", "add"] == matches
    assert spiking["lif", "update"] == m * n * timesteps
    assert spiking["compressor", "encode"] == m
    assert spiking["scheduler", "step"] == 2 * n
    found = int(chunk_matches(dense.tensor("in"), dense.operations[0].weight).sum())
    for_ann = simulate(dense, hardware=ANN)[0].actions
    assert for_ann["pe", "join"] == m * n * chunks
    assert for_ann["pe", "fast_prefix"] == 2 * for_ann["pe", "multiply"] == 2 * for_ann["pe", "add"] == 2 * found
    # Each fiber of B is broadcast to both groups of 16 rows, for each timestep again, 16 bytes a beat.
    for actions, trace, times in ((spiking, snn, 2 * timesteps), (for_ann, dense, 2)):
        fibers = times * (n * -(-k // 8) + np.count_nonzero(trace.operations[0].weight))
        assert fibers <= 16 * actions["broadcast", "transfer"] <= fibers + 16 * 2 * times * n * chunks


@pytest.mark.parametrize("hardware", [SNN, ANN])
def test_wider_accumulators_cost_more(hardware):
    """In proportion to their bits, from LoAS's 12 bits and 0.04 pJ on."""
    machines = [load_accelerator(hardware, (f"pe.accumulator_bits={bits}",)) for bits in (12, 24)]
    prices = [
        {(row.unit, row.action): row.price for row in price_rows(m.inventory(), load_table(m.cost_table))}
        for m in machines
    ]
    assert prices[0]["pe", "add"] == pytest.approx(0.04, rel=1e-5)
    assert prices[1]["pe", "add"] == pytest.approx(0.08, rel=1e-5)
    areas = [
        {row.unit: row.area_mm2 for row in area_rows(m.inventory(), load_table(m.cost_table))}["pe"] for m in machines
    ]
    assert areas[1] - areas[0] == pytest.approx(16 * 0.0004, rel=1e-4)


def test_a_network_with_requantisers_is_verified_where_activations_have_no_sign():
    """Of one head of attention the layers that read pixels and what a ReLU leaves run; five bits an output word."""
    trace = attention()
    skipped = "scheduler.encoder=skipped"
    machine = load_accelerator(ANN, (skipped,))
    assert machine.problems(trace) == []
    assert [operation.name for operation in machine.layers(trace)] == ["patches", "fc"]
    found = simulate(trace, skipped, hardware=ANN)
    assert [result.mismatches for result in found] == [0, 0]
    assert machine.why_skipped(trace, trace.operation("query")).startswith("reads the output of norm (integers -")
    assert machine.why_skipped(trace, trace.operation("shares")) == "is a softmax"
    narrow = layer_of(trace, trace.operation("hidden"))
    assert (narrow.output_bits, narrow.word_bits, narrow.writes_sums) == (5, 8, False)
    three = np.full(narrow.m, 3)
    assert (machine.output_bytes(narrow, three, three) == 1 + 4 + 2).all()  # bitmask of 5, pointer, 15 bits
    assert (
        load_accelerator(SNN, (skipped,)).problems(trace)[0].startswith("no layer to simulate: patches reads integers ")
    )


def test_a_wrong_requantised_output_is_found():
    trace = attention()
    tensors = contents(trace)
    tensors["patches.out"] = tensors["patches.out"].copy()
    tensors["patches.out"][0, 0, 1, 2, 1] += 1
    wrong = Trace(network="x", timesteps=1, operations=trace.operations, tensors=tensors, provenance=LABELS)
    assert simulate(wrong.select(layers=["patches"]), hardware=ANN)[0].mismatches == 1
