"""Prefix-sum units against their circuits: offsets, and the cycle of each."""

import numpy as np
import pytest

from archsim.hardware.compute.prefix_sum import EARLY_STOP, LITERAL, laggy_cycles, pass_cycles
from tests.rtl.circuit import COMPARED, Case, build, needs_verilator

ADDERS = (1, 4, 5, 16, 127, 128)
BITS = 128


def masks(draw, number):
    """Random bitmasks of all densities; the first are corners: one bit at either end, one group, all ones."""
    masks = draw.random((number, BITS)) < draw.choice([0.01, 0.1, 0.5, 0.9, 1.0], (number, 1))
    masks[:4] = False
    masks[0, 0] = masks[1, -1] = True
    masks[2, :16] = masks[3, 16:32] = True
    positions = np.array([draw.choice(np.flatnonzero(mask)) if mask.any() else 0 for mask in masks])
    return masks, positions


@pytest.mark.rtl
@needs_verilator
def test_offsets_and_cycles(tmp_path):
    """2,400 bitmasks: the fast unit a cycle after it was asked, the laggy one when :func:`laggy_cycles` says."""
    circuit = build("prefix_sums", tmp_path, settings=2, inputs=1, in_words=5, outputs=2, out_words=32)
    draw, cases, drawn = np.random.default_rng(0), [], []
    for adders in ADDERS:
        for early in (0, 1):
            bits, positions = masks(draw, 200)
            packed = np.packbits(bits, axis=1, bitorder="little").view(np.uint32)
            words = np.column_stack([packed, positions])
            cases.append(Case([adders, early], [(np.zeros(200, np.int64), words)], [200, 200], 200 * 140))
            drawn.append((adders, early, bits, positions))
    for (adders, early, bits, positions), ran in zip(drawn, circuit.run(cases), strict=True):
        before = np.cumsum(bits, axis=1) - bits
        fast, laggy = ran.outputs
        taken = ran.inputs[0].cycles
        np.testing.assert_array_equal(fast.cycles, taken + 1)
        np.testing.assert_array_equal(fast.words[:, 0], before[np.arange(200), positions])
        offsets = laggy.words.astype("<u4").view(np.uint8)
        last = np.minimum((positions // adders + 1) * adders, BITS) if early else np.full(200, BITS)
        for i in range(200):
            np.testing.assert_array_equal(offsets[i, : last[i]], before[i, : last[i]])
        # The table holds the offsets behind the pass's last cycle, the first of which is that of the bitmask.
        only = np.zeros((200, BITS), bool)
        only[np.arange(200), positions] = True
        low, high = np.packbits(only, axis=1, bitorder="little").view(np.uint64).T
        mode = EARLY_STOP if early else LITERAL
        expected = [laggy_cycles(mode, adders, one, two) for one, two in zip(low, high, strict=True)]
        np.testing.assert_array_equal(laggy.cycles - taken, expected)
        assert early or set(expected) == {pass_cycles(adders)}
        COMPARED.extend([2] * 200)  # of each bitmask the fast unit's offset and the laggy one's table
