"""A whole systolic machine of 2 x 2 places against its circuit: loads, folds, blocks that fire, rows that are written.

Layers are drawn; the circuit has their operands in its memory, and its output must be that of the layer. Memory is
ideal.
"""

from collections import namedtuple

import numpy as np
import pytest

from archsim.dataflow.layer import layer_of
from archsim.simulate import load_accelerator
from tests.machines import ROOT, dense, mlp
from tests.rtl.circuit import LAYERS, Case, build, compare_all, needs_verilator

R, C, LINE_BYTES, ROW_WORDS = 2, 2, 16, 5
SYSTOLIC = ROOT / "hwconfigs" / "systolic.yaml"

Drawn = namedtuple("Drawn", "machine layer tile number sizes")
"""``tile``: positions of a group, timesteps of a block, positions whose inputs are in the cache together; ``sizes`` is
what a failure tells."""


def draw_case(draw, number):
    """Corners: one neuron, one position, one input, one buffer of one step, more timesteps than columns, rows of two
    lines, loads that end with their fold."""
    integer = lambda low, high: int(draw.integers(low, high + 1))  # noqa: E731
    m, n, k, timesteps = integer(1, 6), integer(1, 7), integer(1, 14), integer(1, 4)
    steps, buffers = integer(1, 4), integer(1, 4)
    match number % 12:
        case 1:
            n = 1
        case 2:
            m = 1
        case 3:
            k = 1
        case 4:
            steps = buffers = 1
        case 5:
            timesteps = 4
        case 6:
            m, n, k, timesteps = integer(1, 3), integer(33, 40), integer(1, 4), 4
        case 7:
            k = steps * integer(1, 4)
    how = str(draw.choice(["columns", "sequential"]))
    span, positions = (min(timesteps, C), max(1, C // timesteps)) if how == "columns" else (1, C)
    # Inputs of so many groups fit into the cache beside the weights of two folds.
    tile = integer(1, 8)
    fill = (2 * k * min(R, n) + tile * -(-k * min(m, positions) * timesteps // 8) + 0.5) / (256 << 10)
    options = {
        "pe.rows": R, "pe.columns": C, "pe.buffer_steps": steps, "pe.buffers": buffers, "timesteps": timesteps,
        "pe.output_buffer": integer(1, 4), "scheduler.timesteps": how, "scheduler.tile_fill": fill,
        "scheduler.prefetch_folds": integer(0, 3), "memory.ideal": "true", "memory.cache.line_bytes": LINE_BYTES,
        "memory.dma.lines_in_flight": integer(1, 4),
    }  # fmt: skip
    machine = load_accelerator(SYSTOLIC, tuple(f"{name}={value}" for name, value in options.items()))
    density = float(draw.choice([0.0, 0.2, 0.6, 1.0]))
    trace = mlp(integer(0, 1 << 30), m=m, n=n, k=k, timesteps=timesteps, density=density, weight_density=0.8)
    layer = layer_of(trace, trace.operations[0])
    return Drawn(machine, layer, (positions, span, tile * positions), number, ((m, n, k, timesteps), options))


def image(case):
    """Lines of memory: weights as their folds take them, step by step, then inputs, from a whole line on."""
    words, weights = dense(case.layer)
    positions, span, _ = case.tile
    bits = words[..., None] >> np.arange(case.layer.timesteps) & 1
    parts = [b"".join(weights[n : n + R].astype(np.int8).T.tobytes() for n in range(0, case.layer.n, R))]
    columns = [
        bits[m : m + positions, :, t : t + span].transpose(1, 0, 2).ravel()
        for m in range(0, case.layer.m, positions)
        for t in range(0, case.layer.timesteps, span)
    ]
    parts.append(b"".join(np.packbits(entering, bitorder="little").tobytes() for entering in columns))
    lines = [np.frombuffer(part.ljust(-(-len(part) // LINE_BYTES) * LINE_BYTES, b"\0"), np.uint32) for part in parts]
    return [part.reshape(-1, LINE_BYTES // 4) for part in lines]


def row_lines(layer):
    return -(-layer.n * layer.timesteps // (8 * LINE_BYTES))


def written_lines(case):
    """Lines of the output that are written behind each fold."""
    folds = case.machine.schedule(case.layer).folds
    return (folds.row_end - folds.row) * row_lines(case.layer)


def case_of(case):
    layer, config = case.layer, case.machine.config
    schedule, (weights, inputs) = case.machine.schedule(layer), image(case)
    lines, burst = np.concatenate([weights, inputs]), min(16, config.memory.lines_in_flight)
    settings = [
        layer.k, layer.n, layer.m, layer.timesteps, *case.tile, config.pe.buffer_steps, config.pe.buffers,
        config.pe.output_buffer, len(weights), row_lines(layer), burst, int(layer.neuron.threshold[0]),
        layer.neuron.fraction_bits, layer.neuron.leak_shift,
    ]  # fmt: skip
    loads, folds = int(schedule.west.fold.loads.sum()), len(schedule.folds)
    writes = int((-(-written_lines(case) // burst)).sum())
    start = np.array([len(lines)]), np.zeros((1, LINE_BYTES // 4), np.int64)
    return Case(
        settings, [(np.arange(len(lines)), lines), start], [loads, loads, loads, folds, folds, writes, 1],
        len(lines) + folds * (layer.k + 20) + 10 * loads + 100,
    )  # fmt: skip


def ends_in_archsim(case, result):
    """By stream of the circuit, the cycles in which archsim's operations end that are one of its items."""
    config, schedule = case.machine.config, case.machine.schedule(case.layer)
    loads, lines = schedule.west.fold.loads, written_lines(case)
    bursts = -(-lines // min(16, config.memory.lines_in_flight))
    lanes = config.memory.lines(16).lanes
    of_agent = [result.completions[result.completions[:, 0] == agent, 1] for agent in range(4 + 2 * lanes)]
    # Kinds of an agent's operations, in their order. What ends in cycle 0 is not recorded: the first announcements.
    array = np.concatenate([[*["north", "west"] * count, "fold"] for count in loads])
    west, north = (
        np.concatenate([["announce"] * new + ["load"] * count for new, count in fold[["new", "loads"]]])[1:]
        for fold in (schedule.west.fold, schedule.north.fold)
    )
    writer = np.concatenate([["fire", *["write"] * count] for count in bursts])
    return [
        of_agent[1][west == "load"], of_agent[2][north == "load"], of_agent[0][array == "west"],
        of_agent[0][array == "fold"], of_agent[3 + 2 * lanes][writer == "fire"],
        of_agent[3 + 2 * lanes][writer == "write"],
    ]  # fmt: skip


def compare(case, ran):
    assert ran.cycles is not None
    layer, begin = case.layer, int(ran.inputs[1].cycles[0])
    engine = "compiled" if case.number % 10 else "reference"
    result = case.machine.run_layer(layer, engine, verify=True, record=True)
    assert result.mismatches == 0
    *streams, end = ran.outputs
    for stream, expected in zip(streams, ends_in_archsim(case, result), strict=True):
        np.testing.assert_array_equal(stream.cycles - begin, expected)
    assert end.cycles[0] - begin == result.cycles
    spikes = np.zeros((layer.m, layer.n * layer.timesteps), np.int64)
    for first, number, *rows in streams[-1].words.tolist():
        bits = np.unpackbits(np.array(rows, "<u4").view(np.uint8).reshape(C, -1), axis=1, bitorder="little")
        spikes[first : first + number] = bits[:number, : spikes.shape[1]]
    expected = layer.expected[..., None] >> np.arange(layer.timesteps) & 1
    np.testing.assert_array_equal(spikes.reshape(expected.shape), expected)


@pytest.mark.rtl
@needs_verilator
def test_layers(tmp_path):
    """Layers of up to 6 x 14 x 40, timesteps side by side and one after the other, tiles of one to eight groups."""
    circuit = build("systolic", tmp_path, settings=16, inputs=2, in_words=4, outputs=7, out_words=12)
    compare_all(circuit, draw_case, case_of, compare, told=lambda case: case.sizes, size=100, cases=LAYERS)
