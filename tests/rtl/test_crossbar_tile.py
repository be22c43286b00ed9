"""A tile of crossbar arrays with ideal cells against its circuit: every bit driven and converted, every packet of sums.

One or two arrays of 4 x 8 cells, which see neighbouring columns of a map's row; converters that are shared, lossless or
not, each array's own or those of both; inputs of one to eight bits; rows, credits and other tiles' sums that come late.
"""

from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest

from archsim.dataflow.crossbar_agents import Adder, Converter, Driver, Feed, Part, adder, converter, driver
from archsim.dataflow.crossbar_bounds import position_cycles
from archsim.dataflow.crossbar_chip import Arrays
from archsim.dataflow.crossbar_inputs import driven
from archsim.dataflow.crossbar_product import ArrayProduct
from archsim.dataflow.pieces import digits
from archsim.hardware.agent import op
from archsim.hardware.analog.adc import AdcConfig
from archsim.hardware.analog.crossbar_array import CrossbarArrayConfig
from archsim.hardware.diagram import Diagram
from archsim.trace.window import Window
from tests.rtl.circuit import Case, build, compare_all, needs_verilator
from tests.rtl.machine import completions, deliver

R, C, MOST_STEPS = 4, 8, 5

Drawn = namedtuple(
    "Drawn", "array adc arrays weight_bits bits signed skip width slots add held weight maps release credit parts"
)
"""``weight`` [outputs, channels, arrays]; ``maps`` [rows, channels, columns]; ``parts`` pairs of cycles and sums."""


def draw_case(draw, number):
    """Corners: nothing driven, all driven; weights at the ends of their range."""
    integer = lambda low, high: int(draw.integers(low, high + 1))  # noqa: E731
    scheme = str(draw.choice(["offset", "difference"]))
    cell_bits = int(draw.choice([1, 2, 4]))
    weight_bits = integer(2, min(8, 1 + cell_bits * (C if scheme == "offset" else C // 2)))
    array = CrossbarArrayConfig(
        rows=R, columns=C, cell="rram", cell_bits=cell_bits, signed=scheme, drive_cycles=integer(1, 3),
        read_cycles=integer(1, 9),
    )  # fmt: skip
    adc = AdcConfig(
        bits="lossless" if draw.integers(2) else integer(1, 8), columns=integer(1, C), conversion_cycles=integer(1, 5),
        range=str(draw.choice(["maximum", "calibrated", "granular"])), per=str(draw.choice(["array", "pe"])),
    )  # fmt: skip
    arrays, bits, steps, rows = integer(1, 2), int(draw.choice([1, 1, integer(2, 8)])), integer(1, MOST_STEPS), 3
    channels, outputs = integer(1, R), integer(1, C // array.columns_per_weight(weight_bits))
    half, signed = 1 << (weight_bits - 1), bool(bits > 1 and draw.integers(2))
    lowest = -half if scheme == "offset" else 1 - half
    weight = draw.integers(lowest, half, (outputs, channels, arrays))
    weight[draw.random(weight.shape) < draw.choice([0, 0.5])] = 0
    maps = draw.integers(0, 1 << bits, (rows, channels, steps + arrays - 1))
    maps[draw.random(maps.shape) >= draw.choice([0.05, 0.3, 1.0])] = 0
    match number % 10:
        case 1:
            maps[:] = 0
        case 2:
            maps[:], weight[:] = (1 << bits) - 1, lowest
        case 3:
            maps[:], weight[:] = (1 << bits) - 1, half - 1
    late = lambda count: np.cumsum(draw.integers(1, draw.choice([2, 20, 80]), count))  # noqa: E731
    parts = [
        (late(rows * steps), draw.integers(-(2**20), 2**20, (rows * steps, C))) for _ in range(integer(0, 2))
    ]  # fmt: skip
    return Drawn(
        array, adc, arrays, weight_bits, bits, signed, bool(draw.integers(2)), int(draw.choice([8, 16, 64])),
        integer(1, 4), integer(1, 4), integer(1, 4), weight, maps, late(rows), late(rows * steps), parts,
    )  # fmt: skip


def windows(case):
    """What each position drives: [rows, steps, channels, arrays]."""
    return np.lib.stride_tricks.sliding_window_view(case.maps, case.arrays, axis=2).swapaxes(1, 2)


def joined(case):
    return case.arrays if case.adc.per == "pe" else 1


def levels(case):
    """Cells [arrays, columns, rows] and, for the digital side, which weights are below zero [arrays, outputs, rows]."""
    columns = case.array.columns_per_weight(case.weight_bits)
    level, negative = np.zeros((2, C, R), np.uint8), np.zeros((2, C, R), bool)
    top = (1 << case.array.cell_bits) - 1
    for n, k, a in np.ndindex(case.weight.shape):
        value = int(case.weight[n, k, a])
        for c in range(columns):
            if case.array.signed == "offset":
                stored, place = value & (1 << (case.weight_bits - 1)) - 1, c
            else:
                stored, place = max(0, -value if c % 2 else value), c // 2
            level[a, n * columns + c, k] = stored >> place * case.array.cell_bits & top
        negative[a, n, k] = value < 0
    return level, negative


def ladder(case):
    """Bits of the converters, the span of their ladder, and what each code is worth."""
    full = R * ((1 << case.array.cell_bits) - 1) * joined(case)
    bits = next(b for b in range(1, 9) if full < 1 << b) if case.adc.bits == "lossless" else case.adc.bits
    top = (1 << bits) - 1
    level, _ = levels(case)
    planes = windows(case)[None] >> np.arange(case.bits)[:, None, None, None, None] & 1
    carried = np.einsum("prska,ack->prsac", planes, level[: case.arrays, :, : planes.shape[3]])
    largest = carried.sum(3).max() if case.adc.per == "pe" else carried.max()
    span = max(top, {"granular": 0, "maximum": full, "calibrated": int(largest)}[case.adc.range])
    if full <= top:  # nothing is rounded, so nothing is calibrated
        span = top
    worth = np.zeros(256, np.uint8)
    worth[: top + 1] = np.floor(np.arange(top + 1) * span / top + 0.5)
    return bits, span, worth


def nibbles(level):
    flat = level.ravel()
    return (flat[::2] | flat[1::2] << 4).astype(np.uint8).view(np.uint32)


def case_of(case):
    rows, channels, columns = case.maps.shape
    steps, weight_columns = columns - case.arrays + 1, case.array.columns_per_weight(case.weight_bits)
    level, negative = levels(case)
    bits, span, worth = ladder(case)
    settings = [
        case.arrays, joined(case) > 1, case.array.signed == "difference", case.signed, case.skip, channels, case.bits,
        steps, case.width, case.array.drive_cycles + case.array.read_cycles, case.adc.conversion_cycles,
        case.adc.columns, len(case.weight) * weight_columns, weight_columns, case.array.cell_bits, case.weight_bits,
        bits, span, case.slots, case.add, case.held, len(case.parts), *nibbles(level),
        *np.packbits(negative, bitorder="little").view(np.uint32), *worth.view(np.uint32),
    ]  # fmt: skip
    stored = case.maps.swapaxes(1, 2).reshape(rows, -1, 1) >> np.arange(case.bits) & 1
    bytes_ = np.zeros((rows, 32), np.uint8)
    packed = np.packbits(stored.reshape(rows, -1).astype(np.uint8), axis=1, bitorder="little")
    bytes_[:, : packed.shape[1]] = packed
    nothing = np.zeros(0, np.int64), np.zeros((0, 8), np.int64)
    inputs = [(case.release, bytes_.view(np.uint32)), (case.credit, np.zeros((len(case.credit), 8), np.int64))]
    for release, sums in case.parts:
        words = np.zeros((len(sums), 8), np.int64)
        words[:, : len(case.weight)] = sums[:, : len(case.weight)] & 0xFFFFFFFF
        inputs.append((release, words))
    inputs += [nothing] * (4 - len(inputs))
    longest = [int(one[-1]) for one in (case.release, case.credit, *(release for release, _ in case.parts))]
    bit_cycles = 12 + C * case.adc.conversion_cycles + 5
    limit = max(longest) + rows * steps * (case.bits * bit_cycles + 20) + 50
    return Case([int(setting) for setting in settings], inputs, [0, 0, rows * steps], limit)


def simulate(case):
    """Cycles in which archsim's tile has driven, converted, and sent sums; and takes rows."""
    rows, channels, columns = case.maps.shape
    steps, planes, count = columns - case.arrays + 1, case.bits, rows * (columns - case.arrays + 1)
    unit = Arrays(
        rows=R, outputs=C // case.array.columns_per_weight(case.weight_bits),
        conversions=case.array.columns_per_weight(case.weight_bits), cells=1, references=0, shared=case.adc.columns,
        conversion_cycles=case.adc.conversion_cycles, driver_bits=1, joined=case.adc.per == "pe",
    )  # fmt: skip
    share = SimpleNamespace(first=0, clusters=1, part=0)
    mapping = SimpleNamespace(
        outputs=len(case.weight), clusters=1, channels=channels, arrays=case.arrays, shares=[share]
    )
    stage = SimpleNamespace(
        bits=planes, images=1, driven_timesteps=1, out_height=rows, out_width=steps, window=Window((1, case.arrays))
    )
    config = SimpleNamespace(
        scheduler=SimpleNamespace(skip="row_group" if case.skip else "none"), inner=False,
        pe=SimpleNamespace(arrays=case.arrays), tile=SimpleNamespace(pes=1),
    )  # fmt: skip
    values = case.maps.swapaxes(0, 1)[None].astype(bool if planes == 1 else np.int64)
    (active,) = driven(config, stage, unit, mapping, lambda: iter([values])).plans
    diagram = Diagram()
    slot, room = diagram.fifo(case.slots, full=True), diagram.fifo(case.held, full=True)
    sampled, converted = diagram.fifo(case.slots), diagram.fifo(case.slots)
    arrived, credits, sums = diagram.fifo(rows), diagram.fifo(count), diagram.fifo(count)
    others = [(diagram.fifo(count), diagram.fifo(count)) for _ in case.parts]

    def sender(a, m, x):
        for release in case.release:
            yield op(pop=room.port)
            yield op(pause=max(0, int(release) - a.now), push=arrived.fifo)

    fetched = lambda columns: -(-channels * columns * planes // case.width)  # noqa: E731
    x = SimpleNamespace(
        drivers=[Driver(
            maps=1, height=rows, steps=steps, planes=planes, row_steps=1, row_cycles=fetched(case.arrays),
            cycles=fetched(1), first_feed=0, end_feed=1, plan=0, copies=1, pe_copies=1, slot=slot.port,
            driven=sampled.fifo,
        )],
        converters=[Converter(
            plan=0, end=len(active), cycles=position_cycles(mapping, unit), conversions=1, driven=sampled.port,
            converted=converted.fifo,
        )],
        adders=[Adder(
            positions=count, planes=planes, outputs=1, cycles=case.add + (case.arrays - 1), flits=0,
            converted=converted.port, slot=slot.fifo, first_part=0, end_part=len(others), credit=credits.port,
            sums=sums.fifo,
        )],
        feeds=[Feed(arrived.port, room.fifo, 0, rows)], rows=np.ones(2 * rows, np.int64),
        parts=[Part(sent.port, credit.fifo) for sent, credit in others], active=active,
    )  # fmt: skip
    for agent in (driver, converter, adder, sender):
        diagram.agent(agent)
    diagram.agent(deliver(credits.fifo, case.credit))
    for (sent, _), (release, _) in zip(others, case.parts, strict=True):
        diagram.agent(deliver(sent.fifo, release))
    m = SimpleNamespace(read_cycles=case.array.drive_cycles + case.array.read_cycles)
    drives, conversions, adds, rows_taken, *_ = completions(diagram, m, x, kept=2)
    of_steps = drives.reshape(rows, -1)[:, 1:-1].reshape(rows, steps, 1 + planes)
    return of_steps[..., 1:].ravel(), conversions, adds.reshape(count, -1)[:, -1], rows_taken[-2 * rows + 1 :: 2]


def expected_sums(case):
    """What archsim makes of every position [rows * steps, outputs]."""
    outputs, channels, arrays = case.weight.shape
    product = ArrayProduct(
        case.weight.reshape(1, outputs, -1), (1, arrays), case.weight_bits, case.array, case.adc, joined(case)
    )
    words = windows(case).reshape(-1, channels * arrays).astype(np.uint16)
    product.calibrate(iter([words]), case.bits)
    sums = np.zeros((len(words), outputs, case.bits), np.int64)
    product.multiply(words, sums)
    half = 1 << (case.bits - 1)
    found = sums @ np.array(digits(-half, half - 1) if case.signed else digits(0, 2 * half - 1))
    for _, other in case.parts:
        found += other[:, :outputs]
    return found


def every(stream):
    return np.repeat(stream.cycles, stream.words[:, 0])


def compare(case, ran):
    sampled, converted, sums, taken = simulate(case)
    np.testing.assert_array_equal(ran.inputs[0].cycles, taken)
    np.testing.assert_array_equal(every(ran.outputs[0]), sampled)
    np.testing.assert_array_equal(every(ran.outputs[1]), converted)
    np.testing.assert_array_equal(ran.outputs[2].cycles, sums)
    given = ran.outputs[2].words.view(np.int32)[:, : len(case.weight)]
    np.testing.assert_array_equal(given, expected_sums(case))


@pytest.mark.rtl
@needs_verilator
def test_positions(tmp_path):
    """Both ways to store a sign, cells of 1, 2 and 4 bits, one to eight columns a converter, one to four slots."""
    circuit = build("crossbar_tile", tmp_path, settings=96, inputs=4, in_words=8, outputs=3, out_words=8)
    compare_all(circuit, draw_case, case_of, compare, told=lambda case: case[:11])
