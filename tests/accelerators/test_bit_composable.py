"""Composable PEs: hand-traced case, closed forms by bits of weights and activations, bytes, both engines."""

import numpy as np
import pytest

from archsim.simulate import load_accelerator
from tests.machines import ROOT, mlp, quantised, same

MACHINE = ROOT / "hwconfigs" / "bit_composable.yaml"
SYSTOLIC = ROOT / "hwconfigs" / "systolic.yaml"
AROUND = 3
"""First half of an operand, the last sum's neuron, its write."""
BITS = [(8, 8), (8, 4), (4, 8), (4, 4), (3, 4), (2, 4), (2, 2), (5, 7)]


def run(trace, *overrides, hardware=MACHINE, engine="compiled", record=False):
    """The result of the only layer."""
    machine = load_accelerator(hardware, ("timesteps=16", *overrides))
    (result,) = machine.run_layers(trace, machine.layers(trace), engine, verify=True, record=record)
    return result


def closed_form(m, n, k, width, planes, rows=8, columns=8):
    folds = -(-n // rows) * -(-m // (columns // planes))
    return folds * (2 * rows + columns - 2 + -(-k * width // 8))


def test_hand_traced_example():
    """The docstring's: 7 weights of 2 bits in 2 steps."""
    trace = quantised(2, 2, m=1, n=2, k=7)
    result = run(trace, "pe.rows=2", "pe.columns=2", "memory.ideal=true")
    assert (result.cycles, result.compute_cycles, result.performed_operations, result.mismatches) == (9, 6, 28, 0)


@pytest.mark.parametrize(("weight_bits", "activation_bits"), BITS)
@pytest.mark.parametrize("k", [1, 5, 96, 130])
def test_ideal_memory_is_the_closed_form(weight_bits, activation_bits, k):
    result = run(quantised(weight_bits, activation_bits, k=k), "memory.ideal=true")
    width = {2: 2, 3: 4, 4: 4, 5: 8, 8: 8}[weight_bits]
    assert result.mismatches == 0
    assert result.compute_cycles == closed_form(9, 20, k, width, activation_bits)
    assert result.cycles == result.compute_cycles + AROUND
    assert result.performed_operations == 9 * 20 * k * activation_bits
    composed = result.actions["pe", "compose"]
    assert composed == (0 if width == 8 else result.actions["pe", "add"])


def test_a_quarter_and_an_eighth():
    """Of 4,096 inputs, where folds are long, W4A4 takes a quarter and W2A4 an eighth of the cycles of W8A8."""
    cycles = {
        bits: run(quantised(*bits, m=16, n=16, k=4096), "memory.ideal=true").compute_cycles
        for bits in ((8, 8), (4, 4), (2, 4))
    }
    skew = 2 * 8 + 8 - 2
    assert cycles[8, 8] == 2 * 16 * (skew + 4096)
    assert cycles[4, 4] == 2 * 8 * (skew + 2048) and cycles[4, 4] / cycles[8, 8] == pytest.approx(1 / 4, rel=6e-3)
    assert cycles[2, 4] == 2 * 8 * (skew + 1024) and cycles[2, 4] / cycles[8, 8] == pytest.approx(1 / 8, rel=2e-2)


def test_wide_weights_are_those_of_the_systolic_array():
    """With 8 bits nothing is composed: the same cycles, traffic and sums, spikes as well as integers."""
    for trace in (mlp(3, m=20, n=17, k=70), quantised(8, 8)):
        ours, theirs = (run(trace, hardware=machine) for machine in (MACHINE, SYSTOLIC))
        assert (ours.cycles, ours.mismatches) == (theirs.cycles, 0)
        np.testing.assert_array_equal(ours.traffic, theirs.traffic)


def read_bytes(trace):
    """Of inputs and weights, from DRAM."""
    return run(trace).compulsory_read_bytes


def test_bytes_follow_the_bits():
    """512 x 64 weights and 64 x 512 activations of so many bits, in whole lines."""
    for weight_bits, activation_bits in ((8, 8), (4, 4), (2, 4), (3, 2)):
        width = 4 if weight_bits == 3 else weight_bits
        trace = quantised(weight_bits, activation_bits, m=64, n=64, k=512)
        assert read_bytes(trace) == 512 * 64 * (width + activation_bits) // 8


@pytest.mark.parametrize("option", [
    "pe.rows=3", "pe.columns=7", "pe.buffer_steps=5", "scheduler.timesteps=sequential", "scheduler.prefetch_folds=0",
    "pe.places=8", "pe.places=1", "pe.weight_bits=16", "memory.dram.channels=1",
])  # fmt: skip
@pytest.mark.parametrize("bits", [(2, 4), (5, 7)])
def test_both_engines_agree(option, bits):
    trace = quantised(*bits)
    fast, slow = (run(trace, option, engine=engine, record=True) for engine in ("compiled", "reference"))
    same(fast, slow)
    assert fast.mismatches == 0


def test_narrow_weights_without_a_place_are_wide():
    """With one place weights of 2 bits take the cycles and bytes of 8."""
    narrow, wide = quantised(2, 8), quantised(8, 8)
    one, other = run(narrow, "pe.places=1"), run(wide)
    assert (one.cycles, one.compulsory_read_bytes) == (other.cycles, other.compulsory_read_bytes)
    assert one.actions["pe", "compose"] == 0
