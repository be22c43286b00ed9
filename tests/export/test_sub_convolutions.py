"""Sub-convolutions of a trace: they compute what the merged kernel computes, up to rounding, and verify exactly."""

import re
from dataclasses import replace

import numpy as np
import pytest

from archsim.errors import UsageError
from archsim.export.sub_convolutions import FIRST, REST, decomposed, gated, requantiser
from archsim.export.tensor_train import merge
from archsim.simulate import load_accelerator
from archsim.trace import Trace, check_trace
from archsim.trace.resimulation import requantise
from tests.decomposed_traces import LABELS, LAYER, cores_of, inference, merged
from tests.export.test_tensor_train import convolved
from tests.machines import ROOT

MODES = ("stt", "ptt", "htt")


def exact(trace):
    return all(check.mismatches == 0 for check in check_trace(trace))


def real_outputs(mode, spikes, cores):
    """Outputs [T, I, O, H, W] in real numbers, sub-convolution by sub-convolution; no bias."""
    found = np.zeros((*spikes.shape[:2], len(cores.c4), *spikes.shape[3:]))
    for t, i in np.ndindex(spikes.shape[:2]):
        hidden = convolved(spikes[t, i].astype(float), cores.c1)
        if mode == "stt":
            hidden = convolved(convolved(hidden, cores.c2), cores.c3)
        elif mode == "ptt" or t < len(spikes) // 2:
            hidden = (convolved(hidden, cores.c2) + convolved(hidden, cores.c3)) / 2
        found[t, i] = convolved(hidden, cores.c4)
    return found


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("timesteps", [1, 4, 5])
def test_what_is_computed(mode, timesteps):
    """In real numbers within 3 percent of the largest output, merged, gated and decomposed; in integers exactly."""
    whole, cores, unit = merged(mode, 3, timesteps=timesteps, neuron=False)
    parts, one = decomposed(whole, cores, mode), whole if mode != "htt" else gated(whole, cores)
    wanted = real_outputs(mode, whole.tensor("spikes"), cores[LAYER])
    bias = (whole.operation(LAYER).bias * unit)[:, None, None]
    for trace in (parts, one):
        assert exact(trace)
        found = trace.tensor("out") * unit[:, None, None] - bias
        assert bool(np.abs(found - wanted).max() < 0.03 * np.abs(wanted).max())


@pytest.mark.parametrize("mode", MODES)
def test_neurons_stand_behind(mode):
    whole, cores, _ = merged(mode, 4)
    trace = decomposed(whole, cores, mode)
    last = trace.operations[-1]
    assert (last.name, last.op, last.output) == (f"{LAYER}.neurons", "add", "out")
    assert exact(trace) and 0.05 < trace.tensor("out").mean() < 0.95
    if mode != "htt":
        assert (trace.tensor("out") != whole.tensor("out")).mean() < 0.05


def test_operands_between_are_integers_of_16_bits():
    whole, cores, _ = merged("htt", 5)
    trace = decomposed(whole, cores, "htt")
    read = {operation.name.split(".")[-1]: operation.inputs[0] for operation in trace.operations}
    assert trace.kind(read["c1"]) == "spike"
    for part in ("c2", "c3", "c4"):
        assert trace.kind(read[part]) == "int"
        assert np.abs(trace.tensor(read[part])).max() < 1 << 15


def test_gates_are_masks_of_timesteps():
    whole, cores, _ = merged("htt", 6, timesteps=5)
    trace = decomposed(whole, cores, "htt")
    assert trace.tensor(FIRST).all((1, 2, 3, 4)).tolist() == [True, True, False, False, False]
    assert (trace.tensor(REST) == ~trace.tensor(FIRST)).all()
    for part in ("c2", "c3"):
        assert not trace.tensor(f"{LAYER}.{part}")[2:].any()
    assert not trace.tensor(f"{LAYER}.rest")[:2].any()


@pytest.mark.parametrize("machine", ["loas", "sata", "sata_training"])
@pytest.mark.parametrize("mode", MODES)
def test_merged_networks_run_on_machines_without_a_mismatch(machine, mode):
    trace = inference(mode, 7)
    built = load_accelerator(ROOT / "hwconfigs" / f"{machine}.yaml").specialised_for(trace)
    results = list(built.run_layers(trace, built.layers(trace), "compiled", verify=True, record=False))
    assert sum(result.mismatches for result in results if result.mismatches is not None) == 0


@pytest.mark.parametrize("factor", [1e-4, 0.3, 1.0, 700.0])
def test_a_requantiser_multiplies(factor):
    sums = np.arange(-900, 900)[None, None, None]
    found = requantise(requantiser(np.array([factor]), 16), sums[None].astype(np.int64))
    assert np.abs(found - (sums * factor).clip(-32768, 32767)).max() <= 0.51


def test_weights_that_are_others_are_refused():
    whole, cores, _ = merged("ptt", 8)
    with pytest.raises(UsageError, match="its weights are not those of the merged kernel"):
        decomposed(whole, {LAYER: cores_of(9, 6, 9, 4)}, "ptt")
    with pytest.raises(UsageError, match=re.escape("the merged kernel [9, 6, 3, 3] of stride [1, 1]")):
        decomposed(strided(whole), cores, "ptt")
    with pytest.raises(UsageError, match="the concatenation of a tensor with itself"):
        gated(whole, cores)
    assert merge(cores[LAYER], "ptt").shape == (9, 6, 3, 3)


def strided(trace):
    operations = [replace(operation, stride=(2, 2)) for operation in trace.operations]
    tensors = {"spikes": trace.tensor("spikes")}
    return Trace(network="net", timesteps=4, operations=operations, tensors=tensors, provenance=LABELS)
