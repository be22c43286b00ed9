"""Whole machines of LoAS and SparTen-SNN with four elements against their circuit: every join, sum, word and row.

Layers are drawn; the circuit has their operands in its memory, as the machine stores them, and its output must be that
of the layer.
"""

from collections import namedtuple

import numpy as np
import pytest

from archsim.compress.packed_time import encode
from archsim.dataflow.inner_product import FETCH_LINES
from archsim.dataflow.layer import layer_of
from archsim.hardware.compute.prefix_sum import LAGGY_MODES
from archsim.simulate import load_accelerator
from tests.machines import ROOT, dense, mlp
from tests.rtl.circuit import LAYERS, Case, build, compare_all, needs_verilator
from tests.rtl.memory import MEMORY_WORDS, memory_words

PES, SLOTS, TILE, UNITS, MOST_CHUNKS, WORD_BYTES = 4, 4, 4, 12, 5, 16
BITS = 128
NO_LAGGY = 4
GROUP = 128

# Code of modules once, not in each place; words of many bits by calls. It takes a fifth of the time to compile.
SMALL = ("-fno-inline", "--expand-limit", "1")

Drawn = namedtuple("Drawn", "machine layer program computed number sizes")


def draw_case(draw, number, name):
    """Corners: one row, one column, one input, rows that fill no group, more than 128 columns, silence, all ones."""
    integer = lambda low, high: int(draw.integers(low, high + 1))  # noqa: E731
    choice = lambda *values: draw.choice(values).item()  # noqa: E731
    m, n, timesteps = integer(1, 12), integer(1, 7), integer(1, 8)
    k = choice(integer(1, 127), 128, integer(129, 400), BITS * MOST_CHUNKS)
    if name == "sparten_snn":  # a pass for each timestep
        m, timesteps, k = min(m, 9), (timesteps + 1) // 2 + 1, min(k, 2 * BITS)
    density, weight_density = choice(0.02, 0.1, 0.3), choice(0.02, 0.1, 0.3)
    match number % 12:
        case 1:
            n = 1
        case 2:
            m = 1
        case 3:
            k = 1
        case 4:
            m = 4 * integer(0, 2) + integer(1, 3)
        case 5:
            m, n, k = integer(1, 5), integer(129, 140), integer(1, 16)
        case 6:
            density = choice(0.0, 1.0)
        case 7:
            weight_density, n = choice(0.0, 1.0), integer(1, 3)
    trace = mlp(integer(0, 1 << 30), m=m, n=n, k=k, timesteps=timesteps, density=density, weight_density=weight_density)
    layer = layer_of(trace, trace.operations[0])
    line_bytes = choice(16, 32, 64)
    options = {
        "timesteps": 8, "pe.count": PES, "pe.chunk_overhead_cycles": choice(0, 1, 2, 2, 5),
        "pe.fiber_b_buffers": integer(1, 3), "pe.output_buffer": integer(1, 4), "neuron.cycles": choice(1, 1, 3),
        "compressor.cycles_per_chunk": choice(1, 8, 8, 100),
        "scheduler.barrier": choice("column", "column", "none"), "scheduler.prefetch_fibers": integer(1, SLOTS - 1),
        "scheduler.prefetch_start": choice("first_step", "last_step"), "scheduler.prefetch_groups": integer(0, 3),
        "format.placement": choice("row_per_bank", "interleaved"), "format.pointer_bits": choice(0, 16, 32),
        **draw_memory(draw, line_bytes, ideal=number % 4 == 0),
    }  # fmt: skip
    if name == "loas":
        laggy = choice(*LAGGY_MODES)
        options |= {
            "pe.laggy": laggy, "pe.laggy_units": integer(1, 3), "pe.offset_tables": integer(1, 4),
            "pe.laggy_adders": choice(16, 16, 32, 128) if laggy == "hidden" else choice(4, 16, 16, 128),
            "pe.fifo_depth": choice(1, 4, 8, 8) if laggy == "hidden" else choice(1, 4, 8, 16),
            "pe.pending_sums": integer(1, 6), "pe.subtract_cycles": choice(1, 1, 3),
        }  # fmt: skip
    # Groups of a tile, and lines ahead, as many as the circuit has room for.
    machine = load(name, options)
    x, usable = machine.program(layer, np.ones(m, np.int64)).operands, machine.config.memory.cache.usable_bytes
    longest = -(-int(x.b.words.size.max()) // line_bytes)
    row_bytes = float(x.a.words.size.sum()) / m + line_bytes
    fill = (integer(1, TILE) + 0.5) * min(m, PES) * row_bytes / usable
    options["scheduler.prefetch_lines"] = integer(0, longest * SLOTS)
    options["scheduler.tile_fill"] = min(fill, 1.0)
    machine = load(name, options)
    computed = machine.compute(layer, verify=True)
    program = machine.program(layer, computed.output_bytes)
    return Drawn(machine, layer, program, computed, number, ((m, n, k, timesteps), density, weight_density, options))


def draw_memory(draw, line_bytes, ideal):
    """Options of a small memory; a cycle is a nanosecond."""
    integer = lambda low, high: int(draw.integers(low, high + 1))  # noqa: E731
    choice = lambda *values: draw.choice(values).item()  # noqa: E731
    banks, ways = choice(1, 2, 4, 4), choice(4, 4, 8)
    kib = [banks * ways * line_bytes * sets >> 10 for sets in (1, 2, 4, 8, 16)]
    channels, hit, interval = integer(1, 4), integer(1, 40), choice(0, 0, integer(20, 200))
    ends = [f"memory.{kind}_switch.{ends}" for kind in ("read", "write") for ends in ("inputs", "outputs")]
    switches = {end: integer(1, 8) for end in ends}
    return switches | {
        "clock_mhz": 1000, "memory.ideal": str(ideal).lower(), "memory.read_switch.traversal_cycles": integer(0, 2),
        "memory.write_switch.traversal_cycles": integer(0, 2), "memory.broadcast.cycles": integer(0, 2),
        "memory.cache.line_bytes": line_bytes, "memory.cache.banks": banks, "memory.cache.ways": ways,
        "memory.cache.width_bits": choice(32, 64, 128), "memory.cache.size_kib": choice(*filter(None, kib)),
        "memory.cache.stream_ways": integer(0, 2), "memory.cache.access_cycles": integer(1, 3),
        "memory.cache.mshrs": choice(1, integer(2, 16), integer(2, 16)), "memory.dram.channels": channels,
        "memory.cache.replacement": choice("priority", "lru"),
        "memory.dram.bandwidth_gb_s": channels * line_bytes / (6 * draw.random() + 0.3), "memory.dram.row_hit_ns": hit,
        "memory.dram.row_miss_ns": hit + integer(0, 40), "memory.dram.row_bytes": choice(64, 256),
        "memory.dram.banks_per_channel": integer(1, 4), "memory.dram.interleave_bytes": line_bytes * choice(1, 2),
        "memory.dram.refresh_interval_ns": interval, "memory.dram.refresh_ns": interval and integer(1, interval // 2),
    }  # fmt: skip


def load(name, options):
    overrides = tuple(f"{key}={value}" for key, value in options.items())
    return load_accelerator(ROOT / "hwconfigs" / f"{name}.yaml", overrides)


def stored(case):
    """Memory in units of 16 bytes: fibers of A and of B where the machine has them."""
    x, layer, line_bytes = case.program.operands, case.layer, case.machine.config.memory.line_bytes
    words, weights = dense(layer)
    parts = []
    for fibers, values in ((x.a, words), (x.b, weights)):
        for fiber, row in enumerate(values):
            if fibers.word_bits or fibers is x.b:
                data = np.packbits(row != 0, bitorder="little").tobytes().ljust(fibers.word_byte, b"\0")
                some = row[row != 0].astype(np.int64)
                data += np.packbits(some[:, None] >> np.arange(fibers.word_bits) & 1, bitorder="little").tobytes()
            else:
                # Every timestep begins with a chunk.
                width = -(-layer.k // BITS) * BITS if layer.timesteps > 1 else layer.k
                whole = np.zeros((layer.timesteps, width), bool)
                whole[:, : layer.k] = row[None] >> np.arange(layer.timesteps)[:, None] & 1
                data = np.packbits(whole, axis=1, bitorder="little").tobytes()
            assert len(data) == fibers.words.size[fiber]
            parts.append((fibers.words, fiber, data))
    image = np.zeros((4096 * WORD_BYTES,), np.uint8)
    for tensor, fiber, data in parts:
        for number, first in enumerate(range(0, len(data), line_bytes)):
            at = (tensor.line[fiber] + number * tensor.stride) * line_bytes
            piece = np.frombuffer(data[first : first + line_bytes], np.uint8)
            image[at : at + len(piece)] = piece
    used = max(int(t.line[f] + (len(d) // line_bytes) * t.stride + 1) * line_bytes for t, f, d in parts)
    assert used <= len(image)
    return image[: -(-used // 64) * 64].view(np.uint32).reshape(-1, 16)


def tables(case):
    x = case.program.operands
    rows = []
    for kind, tensor in enumerate((x.a.words, x.b.words, x.output.words)):
        fibers = zip(tensor.line.tolist(), tensor.size.tolist(), strict=True)
        rows += [(kind, number, line, size) for number, (line, size) in enumerate(fibers)]
    table = np.zeros((len(rows), 16), np.int64)
    table[:, :4] = rows
    return table


def case_of(case):
    layer, m, config = case.layer, case.program.spec, case.machine.config
    x, join, scheduler = case.program.operands, m.join, config.scheduler
    unit = join.unit
    laggy = unit.laggy >= 0
    hidden = unit.laggy == LAGGY_MODES["hidden"]
    units, tables_of = (UNITS, UNITS) if hidden else (unit.laggy_units, unit.offset_tables)
    pointer = -(-config.format.pointer_bits // 8)
    row_bytes = -(-layer.n // 8) + pointer if laggy else -(-layer.n * layer.timesteps // 8)
    settings = [
        layer.m, layer.n, layer.k, layer.timesteps, join.passes, m.pes, m.groups, m.tile, m.pass_chunks, join.word_bits,
        x.a.word_byte, x.b.word_byte, x.a.words.stride, m.memory.line_shift, m.memory.beat_shift, m.slots, m.free_slots,
        m.late_fetch, m.refetch,
        scheduler.prefetch_groups, config.pe.fiber_b_buffers * m.chunks, int(scheduler.barrier == "column"),
        unit.laggy if laggy else NO_LAGGY, unit.adders, unit.fifo_depth, config.pe.chunk_overhead_cycles, units,
        tables_of, unit.pending_sums, config.pe.output_buffer, join.interval, join.finish + config.neuron.cycles,
        m.compressing, int(layer.neuron.threshold[0]), layer.neuron.fraction_bits, layer.neuron.leak_shift, row_bytes,
        *memory_words(config.memory.resolve(case.machine.clock_mhz)),
    ]  # fmt: skip
    assert m.slots <= SLOTS and min(m.tile, m.groups) <= TILE
    image, table = stored(case), tables(case)
    released = max(len(image), len(table))
    start = np.array([released]), np.zeros((1, 16), np.int64)
    expected = [0] * 20 + [1]
    return Case(
        settings, [(np.arange(len(image)), image), (np.arange(len(table)), table), start], expected, released + 60_000
    )


class Streams:
    """What the circuit wrote down, for one of several in the order of its cycles."""

    def __init__(self, ran):
        begin = int(ran.inputs[2].cycles[0]) + 1
        self.given = [(stream.cycles - begin, stream.words) for stream in ran.outputs]

    def of(self, stream, number):
        cycles, words = self.given[stream]
        return iter(cycles[words[:, 0] >> number & 1 > 0].tolist())

    def all(self, stream):
        return self.given[stream][0]

    def dropped(self, number):
        cycles, words = self.given[1]
        return iter(np.repeat(cycles, words[:, 0] >> 8 * number & 255).tolist())


BEGINS, DROPS, ANSWERED, ENDED, SUMMED, PASSES, TAKEN, RELEASED, FIRED, PACKED = range(10)
WRITTEN, TURNS, FETCHED, ROW_TURNS, ROWS_FETCHED, READS, SENDS, OVER = range(13, 21)


def joins(case):
    """Cycles of the joins [rows, columns, passes, chunks] in the fast path, and whether words are asked for."""
    layer, m = case.layer, case.program.spec
    words, weights = dense(layer)
    passes = words[None] if m.join.passes == 1 else words[None] >> np.arange(layer.timesteps)[:, None, None] & 1
    padding = m.chunks * BITS - layer.k
    a = np.pad(passes != 0, ((0, 0), (0, 0), (0, padding))).reshape(*passes.shape[:2], m.chunks, BITS)
    b = np.pad(weights != 0, ((0, 0), (0, padding))).reshape(layer.n, m.chunks, BITS)
    both = a.transpose(1, 0, 2, 3)[:, None] & b[None, :, None]
    matches = both.sum(-1)
    unit, cycles = m.join.unit, np.maximum(1, case.machine.config.pe.chunk_overhead_cycles + matches)
    last = BITS - 1 - both[..., ::-1].argmax(-1)
    if unit.laggy == LAGGY_MODES["literal"]:
        cycles = np.where(matches > 0, np.maximum(cycles, -(-BITS // unit.adders)), cycles)
    if unit.laggy == LAGGY_MODES["early_stop"]:
        cycles = np.where(matches > 0, np.maximum(cycles, last // unit.adders + 1), cycles)
    return cycles, (matches > 0) & (unit.laggy >= 0)


def steps(m, n):
    for first in range(0, m.groups, m.tile):
        for column in range(n):
            for group in range(first, min(first + m.tile, m.groups)):
                yield first, column, group


def element_ends(case, streams, me, cycles, late):
    """Ends of all operations of archsim's element, from what the circuit's did."""
    m, layer = case.program.spec, case.layer
    begins, drops, answered, ended, summed, passes = (
        streams.of(BEGINS, me), streams.dropped(me), streams.of(ANSWERED, me), streams.of(ENDED, me),
        streams.of(SUMMED, me), streams.of(PASSES, me),
    )  # fmt: skip
    places = list(steps(m, layer.n))
    has_row = [group * m.pes + me < layer.m for *_, group in places] + [False]
    ends, arrivals = [next(answered)], []
    for place, (_, column, group) in enumerate(places):
        row = group * m.pes + me
        for passed in range(m.join.passes):
            for chunk in range(m.chunks):
                ends_step = passed + 1 == m.join.passes and chunk + 1 == m.chunks
                reads = has_row[place + 1] if ends_step else has_row[place]
                if not has_row[place]:
                    ends.append(next(drops))
                    if reads:
                        ends[-1] = next(answered)
                    continue
                end = next(begins) + cycles[row, column, passed, chunk]
                if reads or late[row, column, passed, chunk]:
                    end = max(end, next(answered))
                ends.append(end)
                free = max(end, next(ended)) if m.join.unit.laggy >= 0 else end
                tells = m.group_credit >= 0 and me == column == passed == chunk == 0
                if free > end or tells:
                    ends.append(free)
            if has_row[place]:
                arrivals.append(next(summed))
                ends.append(next(passes))
            elif ends_step and (reads or m.barrier_of_columns >= 0):
                ends.append(next(passes))
            else:
                ends.append(ends[-1])
    return ends, arrivals


def compare(case, ran):
    assert ran.cycles is not None
    layer, m = case.layer, case.program.spec
    engine = "compiled" if case.number % 10 else "reference"
    result = case.machine.run_layer(layer, engine, verify=True, record=True)
    assert result.mismatches == 0
    streams = Streams(ran)
    of_agent = lambda agent: result.completions[result.completions[:, 0] == agent, 1]  # noqa: E731
    cycles, late = joins(case)
    spikes = np.zeros((layer.m, layer.n), np.int64)
    for me in range(m.pes):
        ends, arrivals = element_ends(case, streams, me, cycles, late)
        np.testing.assert_array_equal([end for end in ends if end], of_agent(me), f"element {me}")
        compare_neurons(case, streams, me, arrivals, of_agent(m.pes + me), spikes)
    np.testing.assert_array_equal(spikes, layer.expected)
    for slot in range(m.slots):
        compare_fetcher(case, streams, slot, of_agent(2 * m.pes + slot))
    compare_broadcaster(case, streams, of_agent(2 * m.pes + m.slots))
    turns, batches, ends = iter(streams.all(ROW_TURNS).tolist()), iter(streams.all(ROWS_FETCHED).tolist()), []
    if case.machine.config.scheduler.prefetch_groups:
        for group in range(m.groups):
            ends.append(next(turns))
            lines = lines_of(case, case.program.operands.a.words.size[group * m.pes : (group + 1) * m.pes])
            ends += [next(batches) for _ in range(-(-int(lines.sum()) // FETCH_LINES))]
    np.testing.assert_array_equal([end for end in ends if end], of_agent(2 * m.pes + m.slots + 1), "row fetcher")
    assert streams.all(OVER)[0] == result.cycles


def lines_of(case, size):
    return -(-size // case.machine.config.memory.line_bytes)


def compare_neurons(case, streams, me, arrivals, ends, spikes):
    """Sums are taken, words fire, groups are compressed and rows are written when archsim says so."""
    m, layer, config = case.program.spec, case.layer, case.machine.config
    arrivals, taken, released, written = (
        iter(arrivals), streams.of(TAKEN, me), streams.of(RELEASED, me), streams.of(WRITTEN, me)
    )  # fmt: skip
    cycles, words = streams.given[FIRED]
    mine = words[:, 0] >> me & 1 > 0
    fired = iter(zip(cycles[mine].tolist(), (words[mine, 1 + me // 2] >> 16 * (me % 2) & 0xFFFF).tolist(), strict=True))
    groups = iter(zip(*(part.tolist() for part in streams.given[PACKED + me]), strict=True))
    expected, free = [], 0
    for _, column, group in steps(m, layer.n):
        row = group * m.pes + me
        if row >= layer.m:
            continue
        for passed in range(m.join.passes):
            expected.append(max(free, next(arrivals)))
            take, free = next(taken), next(released)
            assert take >= expected[-1]
            expected.append(free)
            last = column + 1 == layer.n and passed + 1 == m.join.passes
            ends_group = passed + 1 == m.join.passes and column % GROUP == GROUP - 1
            if not last and not ends_group:
                assert free == take + m.join.interval
        cycle, spikes[row, column] = next(fired)
        assert cycle == take + m.join.finish + config.neuron.cycles
        if column + 1 == layer.n or column % GROUP == GROUP - 1:
            done, (*bitmask, number, _, _, _, _, _, _) = next(groups)
            packed = encode(spikes[row : row + 1, column // GROUP * GROUP : column + 1].astype(np.uint16))
            mask = np.zeros(4, np.uint32)
            mask[: 2 * packed.mask.shape[1]] = packed.mask.view(np.uint32)[0]
            assert (bitmask, number) == (mask.tolist(), len(packed.words))
            if column + 1 == layer.n:
                assert done == free
                lines = int(lines_of(case, case.computed.output_bytes[row]))
                expected += [next(written) for _ in range(-(-lines // FETCH_LINES))]
                free = expected[-1]
    np.testing.assert_array_equal([end for end in expected if end], ends, f"neuron unit {me}")


def visits(case):
    """Column of each fiber of B that is streamed in."""
    m = case.program.spec
    return [column for first, column, group in steps(m, case.layer.n) if m.refetch or group == first]


def compare_fetcher(case, streams, slot, ends):
    turns, batches, expected = streams.of(TURNS, slot), streams.of(FETCHED, slot), []
    for column in visits(case)[slot :: case.program.spec.slots]:
        expected.append(next(turns))
        lines = int(lines_of(case, case.program.operands.b.words.size[column]))
        expected += [next(batches) for _ in range(-(-lines // FETCH_LINES))]
    np.testing.assert_array_equal([end for end in expected if end], ends, f"fetcher {slot}")


def compare_broadcaster(case, streams, ends):
    m, layer = case.program.spec, case.layer
    reads, sends, expected = iter(streams.all(READS).tolist()), iter(streams.all(SENDS).tolist()), []
    for first, _, group in steps(m, layer.n):
        for passed in range(m.join.passes):
            for chunk in range(0, m.chunks, m.chunks_at_once):
                read = next(reads)
                if passed == chunk == 0 and (m.refetch or group == first):
                    expected.append(read)
                expected.append(next(sends))
        if m.refetch or group + 1 == min(first + m.tile, m.groups):
            expected.append(expected[-1])
    np.testing.assert_array_equal([end for end in expected if end], ends, "broadcaster")


def built(folder):
    return build(
        "inner_product", folder, settings=37 + MEMORY_WORDS, inputs=3, in_words=16, outputs=21, out_words=11,
        options=SMALL,
    )  # fmt: skip


@pytest.fixture(scope="module")
def circuit(tmp_path_factory):
    """Both machines are one circuit."""
    return built(tmp_path_factory.mktemp("inner_product"))


@pytest.mark.rtl
@needs_verilator
@pytest.mark.parametrize("name", ["loas", "sparten_snn"])
def test_layers(circuit, name):
    """Layers of up to 12 x 640 x 7, 9 x 256 x 7 of SparTen-SNN, or of many columns; a quarter with ideal memory."""
    compare_all(
        circuit, lambda draw, number: draw_case(draw, number, name), case_of, compare, told=lambda case: case.sizes,
        size=100, cases=LAYERS,
    )  # fmt: skip
