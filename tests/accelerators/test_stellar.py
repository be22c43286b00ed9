"""Stellar: hand-traced case, cycles against slow loops over spikes, sums, few-spikes neurons, both engines."""

import numpy as np
import pytest

from archsim.simulate import load_accelerator
from archsim.trace import Operation, Trace
from tests.machines import LABELS, ROOT, conv, layers, mlp, same, simulate

STELLAR = ROOT / "hwconfigs" / "stellar.yaml"
SIXTEEN_BY_FOUR = ROOT / "hwconfigs" / "stellar_16x4.yaml"


def slow_cycles(spikes, kernel, stride, padding, n, rows, columns, half):
    """Array cycles for ``spikes`` bool [T, images, C, height, width] by loops over lines, places, channels, spikes."""
    timesteps, images, channels, height, width = spikes.shape
    out_height = (height + 2 * padding - kernel) // stride + 1
    out_width = (width + 2 * padding - kernel) // stride + 1
    lines = [(image, y) for image in range(images) for y in range(out_height)]
    per_group = max(1, columns // timesteps)
    span = min(columns, timesteps)
    per_fold = max(1, rows // kernel)
    streaming, folds = 0, 0
    for first in range(0, len(lines), per_group):
        for t0 in range(0, timesteps, span):
            folds += 1
            for c0 in range(0, channels, half):
                busiest = 0
                for image, y in lines[first : first + per_group]:
                    for t in range(t0, min(t0 + span, timesteps)):
                        place = [0] * rows
                        for i in range(kernel):
                            row = y * stride - padding + i
                            if not 0 <= row < height:
                                continue
                            for c in range(c0, min(c0 + half, channels)):
                                for x in np.flatnonzero(spikes[t, image, c, row]):
                                    touched = [o for o in range(out_width) if 0 <= x - (o * stride - padding) < kernel]
                                    place[i % rows] += len(touched)
                        busiest = max(busiest, *place)
                channels_here = min(half, channels - c0)
                weights = channels_here * kernel * max(len(range(i, kernel, rows)) for i in range(min(rows, kernel)))
                streaming += max(busiest, weights)
    passes = [min(per_fold, n - done) for done in range(0, n, per_fold)]
    handing_on = sum(neurons * out_width + min(kernel, rows) - 1 for neurons in passes)
    return streaming * len(passes) + folds * handing_on


def test_hand_traced_example():
    """The example of the docstring of archsim.accelerators.stellar: 5 cycles of the array, 8 in all."""
    spikes = np.zeros((2, 1, 3), bool)
    spikes[0, 0, [0, 2]] = spikes[1, 0, 1] = True
    weight = np.array([[3, 5, 7], [1, -2, 4]], np.int8)
    operation = Operation("fc", "linear", ("in",), "out", weight=weight)
    sums = np.einsum("tmk,nk->tmn", spikes.astype(int), weight.astype(int))
    trace = Trace(
        network="one", timesteps=2, operations=[operation], tensors={"in": spikes, "out": sums}, provenance=LABELS
    )
    result = simulate(trace, "pe.rows=2", "pe.columns=2", "memory.ideal=true", hardware=STELLAR)[0]
    assert (result.cycles, result.compute_cycles, result.performed_operations, result.mismatches) == (8, 5, 6, 0)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("rows", "columns", "half"), [(12, 14, 64), (16, 4, 64), (3, 3, 2), (2, 8, 3), (1, 1, 1), (7, 5, 4)]
)
def test_array_cycles_are_those_of_slow_loops(stride, rows, columns, half):
    """Kernels that are higher than the array wrap around; timesteps that do not fit beside each other are blocks."""
    trace = conv(3, stride=stride)
    array = (f"pe.rows={rows}", f"pe.columns={columns}", f"pe.buffer_steps={half}", "memory.ideal=true")
    result = simulate(trace, *array, hardware=STELLAR)[0]
    assert result.compute_cycles == slow_cycles(trace.tensor("in"), 3, stride, 1, 9, rows, columns, half)
    assert result.mismatches == 0
    assert result.cycles >= result.compute_cycles + 3


def test_silence_takes_as_long_as_the_weights():
    """No spike at all: 9 channels of 3 weights a filter row, 8 and 1 channels a half; 3 passes, 2 images of 6 lines."""
    trace = conv(3, channels=9, density=0.0)
    result = simulate(trace, "pe.rows=9", "pe.columns=4", "pe.buffer_steps=8", "memory.ideal=true", hardware=STELLAR)[0]
    assert result.compute_cycles == 12 * 3 * (8 * 3 + 1 * 3 + 3 * 6 + 2)
    assert result.actions["pe", "add"] == 0


def test_a_linear_layer_is_a_convolution_of_one_position():
    trace = mlp(8, m=9, n=29, k=140)
    result = simulate(trace, "memory.ideal=true", hardware=STELLAR)[0]
    spikes = trace.tensor("in")[:, :, :, None, None]
    assert result.compute_cycles == slow_cycles(spikes, 1, 1, 0, 29, 12, 14, 64)
    assert result.performed_operations == trace.tensor("in").sum() * 29
    assert result.cycles == result.compute_cycles + 3


def test_every_spike_is_added_once_a_weight_and_none_twice():
    """Additions of a convolution are those of the unrolled product, whatever the array."""
    trace = conv(6)
    layer = layers(trace, STELLAR)[0]
    spikes_unrolled = int(np.bitwise_count(layer.inputs.words).sum())
    for hardware in (STELLAR, SIXTEEN_BY_FOUR):
        result = simulate(trace, hardware=hardware)[0]
        assert result.performed_operations == spikes_unrolled * layer.n == result.actions["pe", "add"]
        assert result.actions["accumulator", "add"] == layer.m * layer.n * 4 * (3 - 1)


def test_few_spikes_neurons_fire_on_the_exact_sums():
    """The event counts the binary digits of sum // threshold of every neuron."""
    trace = mlp(8, m=9, n=11, k=60)
    sums = np.einsum("tmk,nk->mn", trace.tensor("in").astype(int), trace.operations[0].weight.astype(int))
    digits = np.clip(sums // 60, 0, 15)
    result = simulate(trace, hardware=STELLAR)[0]
    assert result.mismatches == 0
    assert result.events["few_spikes"] == sum(int(value).bit_count() for value in digits.flat) > 0


def test_overflow_of_the_adders_is_counted_and_sums_stay_exact():
    """One column of filter rows: a place's running sums over channels, then the sum over filter rows."""
    trace = mlp(3, m=4, n=4, k=60, timesteps=2, density=0.9, weight_density=0.9)
    a, b = trace.tensor("in").astype(int), trace.operations[0].weight.astype(int)
    overflows = 0
    for t in range(2):
        running = np.cumsum(a[t][:, None, :] * b[None], axis=2)
        leaves = (running < -128) | (running >= 128)
        overflows += int((leaves & (a[t][:, None, :] == 1)).sum()) + int(leaves[:, :, -1].sum())
    result = simulate(trace, "pe.accumulator_bits=8", hardware=STELLAR)[0]
    assert result.events["accumulator_overflows"] == overflows > 0
    assert result.mismatches == 0


def test_input_rows_are_read_as_often_as_lines_of_other_groups_need_them():
    """Groups of 3 lines (C = 14, T = 4) read 5 rows of 8 columns; 16 lines are 6 groups, the last of one line."""
    trace = conv(5, channels=8, size=8, out_channels=4)
    result = simulate(trace, hardware=STELLAR)[0]
    rows = 5 * 5 + 3
    read = sum(
        row.bytes for row in result.traffic if (row.level, row.tensor, row.direction) == ("sram", "input", "read")
    )
    assert read == rows * 8 * 8 * 4 // 8


OPTIONS = [
    "pe.rows=2", "pe.columns=3", "pe.buffer_steps=3", "pe.buffers=1", "scheduler.prefetch_folds=0",
    "scheduler.tile_fill=0.001", "neuron.cycles=2", "memory.cache.line_bytes=16", "memory.dram.channels=1",
]  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS)
def test_engines_agree_with_every_option(option):
    trace = conv(5, channels=9)
    small = ("memory.cache.size_kib=16", "memory.cache.ways=4", option)
    fast, slow = (
        simulate(trace, *small, hardware=STELLAR, engine=engine, record=True)[0] for engine in ("compiled", "reference")
    )
    assert fast.mismatches == 0
    same(fast, slow)


def test_lines_that_are_too_long_are_refused():
    trace = conv(3)
    assert load_accelerator(STELLAR).problems(trace) == []
    problem = load_accelerator(STELLAR, ("pe.line_sums=5",)).problems(trace)
    assert len(problem) == 1
    assert "--set pe.line_sums=6" in problem[0]
