"""Neuron units and the output compressor against their circuit: words, compressed groups, and the cycle of each."""

from types import SimpleNamespace

import numpy as np
import pytest

from archsim.compress.packed_time import encode
from archsim.dataflow.inner_product import firing
from archsim.hardware.agent import op
from archsim.hardware.compute.compressor import CompressorConfig
from archsim.hardware.compute.lif import Rule, fire, mask
from archsim.hardware.diagram import Diagram
from tests.rtl.circuit import Case, build, compare_all, needs_verilator
from tests.rtl.machine import completions, deliver

GROUP = 128


def draw_case(draw, number):
    """Settings, and neurons that often meet their thresholds exactly; every tenth row is longer than two groups."""
    timesteps = number % 16 + 1
    small = bool(draw.integers(2))
    rule = Rule(
        int(draw.integers(0, 6 if small else 16)), int(draw.integers(0, 6)), bool(draw.integers(2)),
        int(draw.integers(4)), bool(draw.integers(2)),
    )  # fmt: skip
    neurons = int(draw.integers(GROUP - 1, 2 * GROUP + 3)) if number % 10 == 0 else int(draw.integers(1, 21))
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
    release = np.cumsum(draw.integers(0, 3, neurons) * draw.integers(0, 20, neurons))
    return timesteps, rule, sums, threshold, bias, cycles, compressor.chunk_cycles(pooled), masked, serial, release


def case_of(drawn_case):
    timesteps, rule, sums, threshold, bias, cycles, chunk_cycles, masked, serial, release = drawn_case
    neurons = len(sums)
    words = np.zeros((neurons, 19), np.int64)
    words[:, :timesteps], words[:, 16], words[:, 17], words[-1, 18] = sums, bias, threshold, 1
    settings = [timesteps, *map(int, rule), cycles, chunk_cycles, int(masked), int(serial)]
    groups = -(-neurons // GROUP)
    limit = int(release[-1]) + neurons * cycles * timesteps + groups * (chunk_cycles + 1) + 10
    return Case(settings, [(release, words & 0xFFFFFFFF)], [neurons, groups], limit)


def ends(drawn_case):
    """Cycles in which neurons end in archsim, those at the end of a group with the compressor's."""
    timesteps, _, sums, _, _, cycles, chunk_cycles, _, serial, release = drawn_case
    neurons, passes = len(sums), timesteps if serial else 1
    diagram = Diagram()
    fed = diagram.fifo(neurons)

    def unit(a, m, x):
        for column in range(neurons):
            for passed in range(passes):
                yield op(pop=-1 if passed else fed.port, compute=firing(a, m, column, passed))

    diagram.agent(deliver(fed.fifo, release))
    diagram.agent(unit)
    m = SimpleNamespace(
        join=SimpleNamespace(finish=0, passes=passes), config=SimpleNamespace(neuron=SimpleNamespace(cycles=cycles)),
        compressing=chunk_cycles, layer=SimpleNamespace(n=neurons),
    )  # fmt: skip
    return completions(diagram, m)[1][passes - 1 :: passes]


def fired_words(drawn_case):
    _, rule, sums, threshold, bias, *_ = drawn_case
    words = np.zeros((1, len(sums)), np.uint16)
    limits = threshold << rule.fraction_bits
    fire(sums[None], bias, limits, rule, np.zeros((1, len(sums)), np.int64), words)
    return words


@pytest.mark.rtl
@needs_verilator
def test_words_groups_and_cycles(tmp_path):
    """Rows of neurons: all resets and leaks, T 1 to 16, all at once and timestep by timestep, groups cut by 128."""
    circuit = build("neurons", tmp_path, settings=10, inputs=1, in_words=19, outputs=2, out_words=69)
    compare_all(circuit, draw_case, case_of, compare)


def compare(case, ran):
    words, end = fired_words(case), ends(case)
    single, groups = ran.outputs
    behind_group = np.arange(len(end)) % GROUP == GROUP - 1
    behind_group[-1] = True
    np.testing.assert_array_equal(single.words[:, 0], words[0])
    np.testing.assert_array_equal(single.cycles[~behind_group], end[~behind_group])
    np.testing.assert_array_equal(groups.cycles, end[behind_group])
    if case[7]:
        mask(words)
    for first, given in zip(range(0, len(end), GROUP), groups.words, strict=True):
        packed = encode(words[:, first : first + GROUP])
        bitmask = np.zeros(4, np.uint32)
        bitmask[: 2 * packed.mask.shape[1]] = packed.mask.view(np.uint32)[0]
        np.testing.assert_array_equal(given[:4], bitmask)
        assert given[4] == len(packed.words)
        np.testing.assert_array_equal(given[5:].astype("<u4").view(np.uint16)[: given[4]], packed.words)
