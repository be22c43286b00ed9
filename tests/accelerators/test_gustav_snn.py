"""GustavSNN: hand-traced case, closed forms, buffers, traffic, both engines."""

import numpy as np
import pytest

from archsim.trace import Neuron, Operation, Trace
from tests.machines import LABELS, ROOT, mlp, same, simulate

GUSTAV = ROOT / "hwconfigs" / "gustav_snn.yaml"


def gustav(trace, *overrides, **options):
    return simulate(trace, *overrides, hardware=GUSTAV, **options)[0]


def traffic(result, level, tensor, direction="read"):
    return sum(
        row.bytes
        for row in result.traffic
        if (row.level, row.tensor, row.direction) == (level, tensor, direction)
    )  # fmt: skip


def test_hand_traced_example():
    """Two positions, a channel, three inputs; three spikes at tick 0, one at tick 1; memory.ideal: 14 cycles.

    From 0 the readers have the row vectors of tick 0 and the weights: 1. The PE adds three weights, empties its
    pipeline (2) and fires two columns, to 8; tick 1 takes 1 + 2 + 2, to 13. The drain writes a line: 14.
    """
    spikes = np.zeros((2, 2, 3), bool)
    spikes[0, 0, 0] = spikes[0, 1, 0] = spikes[0, 1, 2] = spikes[1, 0, 1] = True
    weight = np.array([[5, 0, 1]], np.int8)
    out = np.zeros((2, 2, 1), bool)
    out[0] = True
    trace = Trace(
        network="two", timesteps=2, provenance=LABELS, tensors={"in": spikes, "out": out},
        operations=[Operation("fc", "linear", ("in",), "out", weight=weight, neuron=Neuron("lif", 3, 1, 1))],
    )  # fmt: skip
    result = gustav(trace, "memory.ideal=true")
    assert (result.cycles, result.compute_cycles, result.performed_operations, result.mismatches) == (14, 12, 4, 0)
    assert result.actions["weight_buffer", "read"] == result.actions["spike_buffer", "read"] == 3
    assert result.actions["lif", "update"] == 4


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("overrides", ["", "pe.pipeline_cycles=0", "neuron.cycles=3", "pe.weight_buffer_kib=1"])
def test_one_submatrix_with_ideal_memory_takes_its_spikes(seed, overrides):
    """20 channels on 8 tiles: three groups. 900 inputs are two pieces of 512 with the smallest buffers."""
    trace = mlp(seed, m=6, n=20, k=900, density=0.1)
    result = gustav(trace, "memory.ideal=true", *overrides.split())
    settings = dict(item.split("=") for item in overrides.split())
    fire = int(settings.get("pe.pipeline_cycles", 2)) + 6 * int(settings.get("neuron.cycles", 1))
    assert result.cycles == 2 + 3 * (int(trace.tensor("in").sum()) + 4 * fire)
    assert result.performed_operations == 20 * int(trace.tensor("in").sum())


def test_pes_are_busy_with_their_own_submatrices():
    """Nine positions: PE 0 of each tile has eight, PE 1 one, the others none."""
    trace = mlp(4, m=9, n=8, k=400, density=0.3)
    result = gustav(trace, "memory.ideal=true")
    busy = [unit.busy_cycles for unit in result.units if unit.unit == "pe"]
    spikes = trace.tensor("in").sum((0, 2))
    expected = [int(spikes[:8].sum()) + 4 * (2 + 8), int(spikes[8]) + 4 * (2 + 1)] + 6 * [0]
    assert busy == 8 * expected
    assert result.compute_cycles == expected[0]


def test_only_vectors_that_are_not_zero_are_read():
    """Twelve bits of k and eight of the window a vector, in whole bytes a tick, behind a pointer of four."""
    trace = mlp(2, m=8, n=8, k=3000, density=0.02)
    result = gustav(trace, "pe.weight_buffer_kib=64")
    vectors = trace.tensor("in").any(1).sum(1)
    assert traffic(result, "sram", "input") == sum(4 + -(-int(v) * 20 // 8) for v in vectors)
    assert traffic(result, "sram", "weight") == 8 * 3000
    assert result.actions["weight_buffer", "read"] == 8 * int(vectors.sum())


def test_weights_come_again_for_each_timestep_where_they_do_not_fit():
    """It costs time where there are several groups of channels; with one, PEs begin with the first piece."""
    trace = mlp(3, m=8, n=64, k=3000, density=0.02)
    whole, pieces = (gustav(trace, f"pe.weight_buffer_kib={size}") for size in (6, 4))
    assert traffic(pieces, "sram", "weight") == 4 * traffic(whole, "sram", "weight") == 4 * 64 * 3000
    assert traffic(pieces, "dram", "weight") == traffic(whole, "dram", "weight")
    assert pieces.cycles > whole.cycles


def test_lines_in_flight_pay():
    """One line at a time leaves the channels idle."""
    trace = mlp(5, m=8, n=64, k=2000, density=0.02)
    one, many = (gustav(trace, f"memory.dma.lines_in_flight={lanes}") for lanes in (1, 16))
    assert many.cycles < one.cycles
    assert traffic(many, "dram", "weight") == traffic(one, "dram", "weight") == 64 * 2048


@pytest.mark.parametrize(
    "overrides",
    ["pe.count=1 pe.tiles=1 pe.window=2", "pe.count=12 pe.tiles=3",
     "pe.count=40 pe.tiles=20 memory.dma.lines_in_flight=3", "scheduler.prefetch_groups=4 pe.weight_buffer_kib=1"],
)  # fmt: skip
def test_other_sizes(overrides):
    trace = mlp(6, m=35, n=21, k=700, density=0.1)
    fast, slow = (gustav(trace, *overrides.split(), engine=engine) for engine in ("compiled", "reference"))
    same(fast, slow)
    assert fast.mismatches == 0
    assert fast.performed_operations == 21 * int(trace.tensor("in").sum())
