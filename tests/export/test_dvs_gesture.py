"""The trace of the DVS-Gesture network that SANA-FE ships, against SANA-FE, which runs it neuron by neuron."""

from __future__ import annotations

import importlib
from importlib.resources import files

import numpy as np
import pytest

import archsim
from archsim.trace import check_trace, load_trace, save_trace
from tests.export.frameworks import need
from tests.machines import LOAS, ROOT

TIMESTEPS = 128
CORES = (1, 4, 16, 16, 4, 1)
"""Cores of Loihi that each layer is spread over: at most 1,024 neurons each."""


@pytest.fixture(scope="module")
def recipe():
    need("sanafe")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "workloads" / "recipes")
        return importlib.import_module("import_dvs_gesture")


@pytest.fixture(scope="module")
def trace(recipe, tmp_path_factory):
    path = tmp_path_factory.mktemp("dvs") / "dvs_gesture.npz"
    save_trace(recipe.network(*recipe.read(), TIMESTEPS), path)
    return load_trace(path)


def simulated():
    """Spikes bool [T, neurons] of each layer, of SANA-FE on its Loihi."""
    sanafe, layers = need("sanafe"), need("sanafe.layers")
    examples = files("sanafe.examples")
    with np.load(examples / "dvs_challenge.npz") as file:
        arrays = dict(file)
    thresholds = arrays["thresholds"]
    network, loihi = sanafe.Network(), sanafe.load_arch(str(examples / "loihi.yaml"))
    built = [layers.Input2D(network, 32, 32, threshold=thresholds[0])]
    for index in range(1, 5):
        stride = 2 if index == 1 else 1
        built.append(
            layers.Conv2D(
                network, built[-1], arrays[f"conv{index}"], stride_width=stride, stride_height=stride,
                threshold=thresholds[index],
            )
        )  # fmt: skip
    built.append(layers.Dense(network, built[-1], 11, arrays["dense1"], threshold=thresholds[5]))
    for neuron, current in zip(built[0], arrays["inputs"], strict=True):
        neuron.set_attributes(model_attributes={"bias": current})
    cores = iter(loihi.cores())
    for layer, count in zip(built, CORES, strict=True):
        neurons = list(layer)
        for part in np.array_split(np.arange(len(neurons)), count):
            core = next(cores)
            for index in part:
                neurons[index].set_attributes(log_spikes=True)
                neurons[index].map_to_core(core)
    chip = sanafe.SpikingChip(loihi)
    chip.load(network)
    spikes = {layer.group.get_name(): np.zeros((TIMESTEPS, len(layer)), np.bool_) for layer in built}
    for t, fired in enumerate(chip.sim(TIMESTEPS, spike_trace=True)["spike_trace"]):
        for neuron in fired:
            name, _, index = str(neuron).rpartition(".")
            spikes[name][t, int(index)] = True
    return list(spikes.values())


def test_every_neuron_fires_when_that_of_sanafe_does(trace):
    ours = [trace.tensor(op.output).reshape(TIMESTEPS, -1) for op in trace.operations if op.neuron is not None]
    theirs = simulated()
    assert [spikes.shape for spikes in ours] == [spikes.shape for spikes in theirs]
    assert [int(spikes.sum()) for spikes in theirs] == [3064, 2867, 7453, 19091, 5735, 40]
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_its_rules_give_its_spikes(trace):
    checks = list(check_trace(trace))
    assert len(checks) == len(trace.operations)
    assert [check.layer for check in checks if check.mismatches != 0] == []


def test_a_machine_runs_all_of_it(trace):
    """In windows of its four timesteps."""
    found = archsim.run(LOAS, trace.path).summary()
    assert (found["coverage"], found["left_out"], found["mismatches"]) == (1.0, [], 0)


def test_weights_of_ten_bits_are_sums_of_weights_of_eight(recipe):
    weight = np.array([[-289, 224, 127, -128, 0, 1]])
    found = list(recipe.parts(weight))
    assert [part.dtype for part in found] == [np.int8] * 3
    np.testing.assert_array_equal(sum(part.astype(np.int64) for part in found), weight)
