"""Neuron units and the output compressor against their circuit: words, compressed groups, and the cycle of each."""

from types import SimpleNamespace

import numpy as np
import pytest

from archsim.compress.packed_time import encode
from archsim.dataflow.inner_product import firing
from archsim.hardware.agent import op
from archsim.hardware.compute.compressor import COMPRESSED, CompressorConfig
from archsim.hardware.compute.lif import Rule, fire, mask
from archsim.hardware.diagram import Diagram
from tests.rtl.circuit import Case, build, compare_all, needs_verilator
from tests.rtl.machine import completions, deliver

GROUP = 128


def draw_case(draw, number):
    """Settings, and neurons that often meet their thresholds exactly; every tenth row is longer than a group."""
    timesteps = number % 16 + 1
    small = bool(draw.integers(2))
    rule = Rule(
        int(draw.integers(0, 6 if small else 16)), int(draw.integers(0, 6)), bool(draw.integers(2)),
        int(draw.integers(4)), bool(draw.integers(2)),
    )  # fmt: skip
    neurons = int(draw.integers(GROUP - 1, 3 * GROUP + 3)) if number % 10 == 0 else int(draw.integers(1, 21))
    reach = 4 if small else 2**20
    sums = draw.integers(-reach, 2 * reach, (neurons, timesteps))
    sums[draw.random(neurons) < 0.2] = 0
    threshold = draw.integers(0, 2 * reach, neurons)
    bias = draw.integers(-1, 2, neurons)
    compressor = CompressorConfig(
        cycles_per_chunk=int(draw.choice([1, 8, draw.integers(1, 1025)])),
        pool_cycles_per_chunk=int(draw.choice([0, 2, draw.integers(0, 1025)])),
    )
    cycles = int(draw.choice([1, 1, 2, draw.integers(1, 65)]))
    masked, serial, pooled = (bool(flag) for flag in draw.integers(0, 2, 3))
    subtract = 0 if serial else int(draw.choice([0, 1, draw.integers(0, 65)]))
    release = np.cumsum(draw.integers(0, 3, neurons) * draw.integers(0, 20, neurons))
    chunk_cycles = compressor.chunk_cycles(pooled)
    return timesteps, rule, sums, threshold, bias, cycles, subtract, chunk_cycles, masked, serial, release


def case_of(drawn_case):
    timesteps, rule, sums, threshold, bias, cycles, subtract, chunk_cycles, masked, serial, release = drawn_case
    neurons = len(sums)
    words = np.zeros((neurons, 19), np.int64)
    words[:, :timesteps], words[:, 16], words[:, 17], words[-1, 18] = sums, bias, threshold, 1
    latency = timesteps * cycles if serial else subtract + cycles
    settings = [timesteps, *map(int, rule), cycles, chunk_cycles, int(masked), int(serial), latency]
    groups = -(-neurons // GROUP)
    limit = int(release[-1]) + neurons * cycles * timesteps + groups * (chunk_cycles + 1) + latency + 10
    return Case(settings, [(release, words & 0xFFFFFFFF)], [neurons, groups, 0], limit)


def simulate(drawn_case):
    """Cycles in archsim: neurons are taken, words are there, groups are compressed."""
    timesteps, _, sums, _, _, cycles, subtract, chunk_cycles, _, serial, release = drawn_case
    neurons, passes = len(sums), timesteps if serial else 1
    diagram, interval = Diagram(), cycles if serial else 1
    fed = diagram.fifo(neurons)
    taken, fired, compressed = [], [], []

    def unit(a, m, x):
        for column in range(neurons):
            yield op(pop=fed.port)
            taken.append(a.now)
            for passed in range(passes):
                held = firing(a, m, column, passed, a.now)
                if passed + 1 == passes:
                    fired.append(a.now + subtract + cycles)
                    compressed.append(int(a.kept[COMPRESSED]))
                yield op(pause=held, compute=interval)

    diagram.agent(deliver(fed.fifo, release))
    diagram.agent(unit)
    m = SimpleNamespace(
        join=SimpleNamespace(finish=subtract, interval=interval, passes=passes),
        config=SimpleNamespace(neuron=SimpleNamespace(cycles=cycles)), compressing=chunk_cycles,
        layer=SimpleNamespace(n=neurons),
    )  # fmt: skip
    completions(diagram, m, kept=1)
    return taken, fired, compressed


def fired_words(drawn_case):
    _, rule, sums, threshold, bias, *_ = drawn_case
    words = np.zeros((1, len(sums)), np.uint16)
    limits = threshold << rule.fraction_bits
    fire(sums[None], bias, limits, rule, np.zeros((1, len(sums)), np.int64), words)
    return words


@pytest.mark.rtl
@needs_verilator
def test_words_groups_and_cycles(tmp_path):
    """Rows of neurons: all resets and leaks, T 1 to 16, all at once and timestep by timestep, groups cut by
    128, compressors that take longer than the neurons of a group."""
    circuit = build("neurons", tmp_path, settings=11, inputs=1, in_words=19, outputs=3, out_words=69)
    compare_all(circuit, draw_case, case_of, compare)


def compare(case, ran):
    words, (taken, fired, compressed) = fired_words(case), simulate(case)
    single, groups, lost = ran.outputs
    last_of_group = np.arange(len(fired)) % GROUP == GROUP - 1
    last_of_group[-1] = True
    np.testing.assert_array_equal(single.words[:, 0], words[0])
    np.testing.assert_array_equal(ran.inputs[0].cycles, taken)
    np.testing.assert_array_equal(single.cycles, fired)
    np.testing.assert_array_equal(groups.cycles, np.array(compressed)[last_of_group])
    assert len(lost.cycles) == 0
    if case[8]:
        mask(words)
    for first, given in zip(range(0, len(fired), GROUP), groups.words, strict=True):
        packed = encode(words[:, first : first + GROUP])
        bitmask = np.zeros(4, np.uint32)
        bitmask[: 2 * packed.mask.shape[1]] = packed.mask.view(np.uint32)[0]
        np.testing.assert_array_equal(given[:4], bitmask)
        assert given[4] == len(packed.words)
        np.testing.assert_array_equal(given[5:].astype("<u4").view(np.uint16)[: given[4]], packed.words)
