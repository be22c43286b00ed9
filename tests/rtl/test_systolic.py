"""A whole systolic machine of 2 x 2 places against its circuit: all that its agents do, and every spike.

Layers are drawn, the stationary operand too. The circuit has their operands in its memory, and its output must be that
of the layer. Memory is ideal in every third case, and else that of the machine: lanes of the DMA, banks, channels.
"""

from collections import namedtuple

import numpy as np
import pytest

from archsim.dataflow.layer import layer_of
from archsim.hardware.memory import placement
from archsim.simulate import load_accelerator
from tests.machines import ROOT, dense, mlp
from tests.rtl.circuit import LAYERS, Case, build, compare_all, needs_verilator
from tests.rtl.memory import MEMORY_WORDS, longest_fetch, memory_words

R, C, LINE_BYTES, ROW_WORDS, LANES, LAYER_WORDS = 2, 2, 16, 5, 4, 30
SYSTOLIC = ROOT / "hwconfigs" / "systolic.yaml"
DATAFLOWS = "output", "weight", "input"

Drawn = namedtuple("Drawn", "machine layer placing tile number sizes")
"""``placing``: positions of a group, timesteps of a block; ``tile``: positions whose inputs are in the cache together;
``sizes`` is what a failure tells."""


def draw_layer(draw, number, steps):
    """Corners: one neuron, one position, one input, more timesteps than columns, rows of two lines, loads that end with
    their fold."""
    integer = lambda low, high: int(draw.integers(low, high + 1))  # noqa: E731
    m, n, k, timesteps = integer(1, 6), integer(1, 7), integer(1, 14), integer(1, 4)
    match number % 13:
        case 1:
            n = 1
        case 2:
            m = 1
        case 3:
            k = 1
        case 5:
            timesteps = 4
        case 6:
            m, n, k, timesteps = integer(1, 3), integer(33, 40), integer(1, 4), 4
        case 7:
            k = steps * integer(1, 4)
    return m, n, k, timesteps


def draw_memory(draw):
    """Options of a memory: a cache of 8 to 64 lines, up to four channels of any rate."""
    integer = lambda low, high: int(draw.integers(low, high + 1))  # noqa: E731
    banks, ways = [(1, 4), (1, 8), (2, 2), (2, 8), (4, 1), (4, 2), (4, 4), (4, 8)][integer(0, 7)]
    channels, cycle_ns, hit, refresh = integer(1, 4), 1.25, integer(1, 20), integer(0, 1) * integer(1, 20)
    line_cycles = float(draw.choice([1, 1, draw.random(), 1 + 7 * draw.random()]))
    return {
        "cache.size_kib": 1, "cache.banks": banks, "cache.ways": ways, "cache.stream_ways": integer(0, ways - 1),
        "cache.double_buffer": str(bool(integer(0, 1))).lower(), "cache.width_bits": 2 ** integer(4, 7),
        "cache.access_cycles": integer(1, 3), "cache.replacement": str(draw.choice(["lru", "priority"])),
        "broadcast.cycles": integer(0, 2), "write_switch.traversal_cycles": integer(0, 2),
        "dram.channels": channels, "dram.bandwidth_gb_s": LINE_BYTES * channels / (line_cycles * cycle_ns),
        "dram.row_hit_ns": hit * cycle_ns, "dram.row_miss_ns": (hit + integer(0, 40)) * cycle_ns,
        "dram.row_bytes": 64 * integer(1, 4), "dram.banks_per_channel": integer(1, 4),
        "dram.interleave_bytes": LINE_BYTES * integer(1, 4), "dram.refresh_ns": refresh * cycle_ns,
        "dram.refresh_interval_ns": integer(0, 1) * (refresh + integer(1, 100)) * cycle_ns,
    }  # fmt: skip


def draw_case(draw, number, dataflow):
    integer = lambda low, high: int(draw.integers(low, high + 1))  # noqa: E731
    steps, buffers = (1, 1) if number % 13 == 4 else (integer(1, 4), integer(1, 4))
    m, n, k, timesteps = draw_layer(draw, number, steps)
    how = str(draw.choice(["columns", "sequential"]))
    span, positions = (min(timesteps, C), max(1, C // timesteps)) if how == "columns" else (1, C)
    # Inputs of so many groups fit into the cache beside the weights of two folds.
    tile = integer(1, 8)
    fill = (2 * k * min(R, n) + tile * -(-k * min(m, positions) * timesteps // 8) + 0.5) / (1 << 10)
    memory = draw_memory(draw)
    if memory["cache.double_buffer"] == "true":
        fill *= 2
    options = {
        "dataflow": dataflow, "pe.rows": R, "pe.columns": C, "pe.buffer_steps": steps, "pe.buffers": buffers,
        "timesteps": timesteps, "pe.output_buffer": integer(1, 4), "scheduler.timesteps": how,
        # Where an operand is stationary, a row may leave the array while it waits for the next load.
        "neuron.cycles": int(draw.choice([1, 1, 2, 4])) if dataflow == "output" else 1,
        "scheduler.tile_fill": fill, "scheduler.prefetch_folds": integer(0, 3),
        "memory.ideal": str(number % 3 == 0).lower(), "memory.cache.line_bytes": LINE_BYTES,
        "memory.dma.lines_in_flight": integer(1, 16), **{f"memory.{name}": value for name, value in memory.items()},
    }  # fmt: skip
    machine = load_accelerator(SYSTOLIC, tuple(f"{name}={value}" for name, value in options.items()))
    density = float(draw.choice([0.0, 0.2, 0.6, 1.0]))
    trace = mlp(integer(0, 1 << 30), m=m, n=n, k=k, timesteps=timesteps, density=density, weight_density=0.8)
    layer = layer_of(trace, trace.operations[0])
    return Drawn(machine, layer, (positions, span), tile * positions, number, ((m, n, k, timesteps), options))


def image(case):
    """Lines of what enters at the west and at the north, fold by fold and step by step, each from a whole line on. Of a
    stationary operand the last row is first."""
    words, weights = dense(case.layer)
    (positions, span), layer, dataflow = case.placing, case.layer, case.machine.config.dataflow
    bits, weights = words[..., None] >> np.arange(layer.timesteps) & 1, weights.astype(np.int8)
    inputs = [
        bits[m : m + positions, :, t : t + span].transpose(1, 0, 2).reshape(layer.k, -1)
        for m in range(0, layer.m, positions)
        for t in range(0, layer.timesteps, span)
    ]
    rows = range(0, layer.k, R)
    pack = lambda bits: np.packbits(bits.ravel(), bitorder="little").tobytes()  # noqa: E731
    if dataflow == "output":
        west = b"".join(weights[n : n + R].T.tobytes() for n in range(0, layer.n, R))
        north = b"".join(pack(entering) for entering in inputs)
    elif dataflow == "weight":
        west = b"".join(pack(bits[:, k : k + R].transpose(0, 2, 1)) for k in rows)
        north = b"".join(weights[n : n + C, k : k + R].T[::-1].tobytes() for n in range(0, layer.n, C) for k in rows)
    else:
        west = b"".join(weights[:, k : k + R].tobytes() for k in rows)
        north = b"".join(pack(entering[k : k + R][::-1]) for entering in inputs for k in rows)
    lines = [part.ljust(-(-len(part) // LINE_BYTES) * LINE_BYTES, b"\0") for part in (west, north)]
    return [np.frombuffer(part, np.uint32).reshape(-1, LINE_BYTES // 4) for part in lines]


def row_bytes(layer):
    return -(-layer.n * layer.timesteps // 8)


def loads_of(case):
    return case.machine.schedule(case.layer).west.fold.loads


def case_of(case):
    layer, config, line = case.layer, case.machine.config, case.machine.config.memory.lines(16)
    schedule, (west, north) = case.machine.schedule(layer), image(case)
    loads, folds = loads_of(case), schedule.folds
    sum_bytes = -(-config.pe.accumulator_bits // 8)
    sums_lines = -(-config.pe.buffer_steps * int(folds.psums.max()) * sum_bytes // LINE_BYTES)
    sums_line = len(west) + len(north)
    spec = config.memory.resolve(case.machine.clock_mhz)
    settings = [
        DATAFLOWS.index(config.dataflow), layer.k, layer.n, layer.m, layer.timesteps, *case.placing, case.tile,
        config.pe.buffer_steps, config.pe.buffers, config.pe.output_buffer,
        2 * int(schedule.west.tensor.size[0]) <= config.memory.cache.usable_bytes, len(folds), -(-layer.n // R),
        len(west), sums_line, sums_line + int(loads.max()) * sums_lines, sums_lines, len(folds), sum_bytes,
        row_bytes(layer), line.burst, line.beat_shift, line.lanes, line.share, config.scheduler.prefetch_folds,
        int(layer.neuron.threshold[0]), layer.neuron.fraction_bits, layer.neuron.leak_shift, config.neuron.cycles,
        *memory_words(spec),
    ]  # fmt: skip
    lines = np.concatenate([west, north])
    start = np.array([max(len(lines), len(folds)) + 2]), np.zeros((1, LINE_BYTES // 4), np.int64)
    moved = 4 * int(loads.sum()) * (2 + sums_lines) + layer.m * 2 + 8 * len(lines)
    longest = longest_fetch(spec.dram, 1) + 40
    fired = config.neuron.cycles * (int(folds.sums.sum()) + 2 * R * len(folds))
    limit = 2 * len(lines) + len(folds) * (layer.k + 21) + fired + moved * longest + 1000
    return Case(settings, [(np.arange(len(lines)), lines), start], [0] * 8 + [layer.m] + [0] * 2 * LANES, limit)


def in_order(case):
    """For the array, the feeders, the writer and the reader, kinds of their operations, one behind the other."""
    config, schedule = case.machine.config, case.machine.schedule(case.layer)
    steps, stationary = config.pe.buffer_steps, schedule.stationary
    lines = -(-row_bytes(case.layer) // LINE_BYTES)
    burst = config.memory.lines(16).burst
    array, writer, reader = [], [], []
    for fold, loads in zip(schedule.folds, loads_of(case), strict=True):
        array += ["weights"] * stationary
        sent, blocks = 0, loads if stationary else 1
        for load in range(loads):
            array += ["west"] if stationary else ["north", "west"]
            if load + 1 < blocks and (load - sent) * steps >= config.pe.skew_cycles:
                array += ["block"]
                sent += 1
        array += ["block"] * int(blocks - sent)
        row = fold.row
        for block in range(blocks):
            writer += ["take"] + ["psums"] * int(fold.reads_psum)
            writer += ["add" if fold.writes_psum else "fire"]
            reader += ["read", "keep"] * int(fold.reads_psum)
            writer += ["keep"] * int(fold.writes_psum)
            streamed = (block + 1) * steps if schedule.spread else 0
            end = fold.row_end if block + 1 == blocks else fold.row + streamed * (fold.row_end - fold.row) // fold.steps
            if not fold.writes_psum:
                writer += ["write"] * int(-(-(end - row) * lines // burst))
                row = end
    west, north = (
        ["announce"]
        + [kind for fold in edge.fold for kind in ["announce"] * int(fold.new) + ["load"] * int(fold.loads)]
        for edge in (schedule.west, schedule.north)
    )
    return array, west, north, writer, reader


def in_lanes(case, edge):
    """The same for each lane of an edge's DMA: shares of a few lines go to them in turn."""
    line, turn = case.machine.config.memory.lines(16), 0
    kinds = [[] for _ in range(line.lanes)]
    for fold in edge.fold[edge.fold.new == 1] if case.machine.config.scheduler.prefetch_folds else []:
        for lane in kinds:
            lane.append("begin")
        first, behind = fold.first >> 3, fold.first + fold.steps * fold.bits + 7 >> 3
        shares = -(-(-(-behind // LINE_BYTES) - first // LINE_BYTES) // line.share)
        for share in range(turn, turn + shares):
            kinds[share % line.lanes].append("fetch")
        turn += shares
    return kinds


def ends_in_archsim(case, result):
    """By stream of the circuit, the cycles in which archsim's operations end that are one of its items."""
    lanes = case.machine.config.memory.lines(16).lanes
    times = [result.completions[result.completions[:, 0] == agent, 1] for agent in range(5 + 2 * lanes)]

    def of(agent, kinds, kind):
        # What ends in cycle 0 is not recorded.
        kinds = np.array(kinds)[len(kinds) - len(times[agent]) :]
        return times[agent][kinds == kind]

    array, west, north, writer, reader = in_order(case)
    schedule, last = case.machine.schedule(case.layer), 3 + 2 * lanes
    fetched = [[np.zeros(0, np.int64)] * LANES, [np.zeros(0, np.int64)] * LANES]
    for side, edge in enumerate((schedule.west, schedule.north)):
        for lane, kinds in enumerate(in_lanes(case, edge)):
            fetched[side][lane] = of(3 + side * lanes + lane, kinds, "fetch")
    return [
        of(1, west, "load"), of(2, north, "load"), of(0, array, "west"), of(0, array, "block"),
        of(last, writer, "fire"), of(last, writer, "write"), of(last, writer, "keep"), of(last + 1, reader, "read"),
        *fetched[0], *fetched[1],
    ]  # fmt: skip


def compare(case, ran):
    assert ran.cycles is not None
    layer, begin = case.layer, int(ran.inputs[1].cycles[0])
    engine = "compiled" if case.number % 10 else "reference"
    result = case.machine.run_layer(layer, engine, verify=True, record=True)
    assert result.mismatches == 0
    *streams, end = [*ran.outputs[:8], *ran.outputs[9:], ran.outputs[8]]
    for number, (stream, ends) in enumerate(zip(streams, ends_in_archsim(case, result), strict=True)):
        times = stream.cycles - begin
        if number == 3:  # several blocks may leave the array at once
            times = np.repeat(times, stream.words[:, 0])
        np.testing.assert_array_equal(times, ends, f"stream {number}")
    assert end.cycles[0] - begin == result.cycles
    bits = np.unpackbits(end.words.astype("<u4").view(np.uint8).reshape(layer.m, -1), axis=1, bitorder="little")
    expected = layer.expected[..., None] >> np.arange(layer.timesteps) & 1
    np.testing.assert_array_equal(bits[:, : layer.n * layer.timesteps].reshape(expected.shape), expected)


@pytest.fixture(scope="module")
def circuit(tmp_path_factory):
    return build(
        "systolic", tmp_path_factory.mktemp("rtl") / "systolic", settings=LAYER_WORDS + MEMORY_WORDS, inputs=2,
        in_words=4, outputs=9 + 2 * LANES, out_words=ROW_WORDS,
    )  # fmt: skip


@pytest.mark.rtl
@needs_verilator
@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_layers(circuit, dataflow, monkeypatch):
    """Layers of up to 6 x 14 x 40, timesteps side by side and one after the other, tiles of one to eight groups."""
    monkeypatch.setattr(placement, "DMA_LANES", LANES)
    compare_all(
        circuit, lambda draw, number: draw_case(draw, number, dataflow), case_of, compare, told=lambda case: case.sizes,
        size=100, cases=LAYERS,
    )  # fmt: skip
