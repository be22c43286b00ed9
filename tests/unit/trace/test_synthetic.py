"""Synthetic traces have the ratios that were asked for, up to one neuron, and verify."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from archsim.errors import UsageError
from archsim.trace import (
    PRESETS,
    SyntheticLayer,
    check_trace,
    load_trace,
    matrix_product,
    save_trace,
    statistics,
    synthesize,
    total,
)

LAYER = SyntheticLayer("a", "conv2d", (16, 9, 7), 5, 0.18, 0.74, 0.05, 0.05, kernel=3, padding=1)


def assert_ratios(trace, layers):
    for layer, found in zip(layers, statistics(trace), strict=True):
        # A neuron occurs in up to kernel^2 words, so half of that may be left; a 1x1 convolution is only rounded.
        half = layer.kernel**2 / 2
        words = found.words
        assert abs(found.active_words - (1 - layer.silent_ratio) * words) <= half
        assert abs(found.spikes - layer.spike_density * trace.timesteps * words) <= half
        if layer.fire_once_ratio is not None:
            assert abs(found.fire_once_words - layer.fire_once_ratio * words) <= half
        assert found.weight_nonzeros == round(layer.weight_density * found.weights)


@pytest.mark.parametrize("name", [name for name in PRESETS if name.split("-")[0] not in ("vgg16", "resnet19", "T")])
def test_presets(name):
    trace = synthesize(name, seed=3)
    assert_ratios(trace, PRESETS[name].layers)
    assert {check.mismatches for check in check_trace(trace)} == {0}
    assert trace.provenance["kind"] == trace.provenance["weights"] == "synthetic"
    assert "Table II" in trace.provenance["source"]
    for operation in trace:
        assert 0.01 < trace.tensor(operation.output).mean() < 0.6


@pytest.mark.parametrize(
    ("name", "spike_sparsity", "silent", "weight_sparsity"),
    # Table II of LoAS as printed, in percent.
    [
        ("alexnet", 81.2, 71.3, 98.2), ("vgg16", 82.3, 74.1, 98.2), ("resnet19", 68.6, 59.6, 96.8),
        ("A-L4", 75.8, 63.2, 98.9), ("V-L8", 88.1, 76.5, 96.8), ("R-L19", 57.9, 51.4, 99.1),
        ("alexnet-ft", None, 76.7, 98.2), ("vgg16-ft", None, 79.6, 98.2), ("resnet19-ft", None, 66.1, 96.8),
        ("A-L4-ft", None, 69.7, 98.9), ("V-L8-ft", None, 86.8, 96.8), ("R-L19-ft", None, 55.7, 99.1),
        ("T-HFF", None, 86.8, 96.8),
    ],
)  # fmt: skip
def test_presets_are_table_ii(name, spike_sparsity, silent, weight_sparsity):
    for layer in PRESETS[name].layers:
        assert 100 * layer.silent_ratio == pytest.approx(silent, abs=0.051)
        # The printed ResNet19 figures, 68.6 and 96.8, are 68.667 and 96.914 in the artifact.
        assert 100 * (1 - layer.weight_density) == pytest.approx(weight_sparsity, abs=0.12)
        if spike_sparsity is not None:
            assert 100 * (1 - layer.spike_density) == pytest.approx(spike_sparsity, abs=0.07)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("A-L4", (64, 256, 3456)), ("V-L8", (16, 512, 2304)), ("R-L19", (16, 512, 2304)), ("T-HFF", (784, 3072, 3072))],
)
def test_shapes_of_single_layers(name, shape):
    channels, rows, columns = PRESETS[name].layers[0].input_shape
    assert (rows * columns, PRESETS[name].layers[0].out_channels, channels) == shape


def test_shapes_of_networks():
    trace = synthesize([replace(layer, out_channels=1) for layer in PRESETS["resnet19"].layers[-6:]])
    assert [(operation.m, operation.k) for operation in trace] == [
        (64, 2304), (16, 2304), (16, 4608), (16, 256), (16, 4608), (16, 4608),
    ]  # fmt: skip
    assert len(PRESETS["resnet19"].layers) == 19


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 1000), timesteps=st.integers(1, 16), images=st.integers(1, 3), silent=st.floats(0.5, 1),
    once=st.none() | st.floats(0, 1), fill=st.floats(0, 1), kernel=st.integers(1, 3), stride=st.integers(1, 2),
    side=st.integers(3, 8), channels=st.integers(1, 20),
)  # fmt: skip
def test_any_ratios_that_can_be_reached(seed, timesteps, images, silent, once, fill, kernel, stride, side, channels):
    if timesteps == 1:
        once = None
    active = 1 - silent
    once_share = None if once is None else once * active
    least = 1 if once is None else 2
    low, high = ((once_share or 0) + count * (active - (once_share or 0)) for count in (least, timesteps))
    layer = SyntheticLayer(
        "a", "conv2d", (channels, side, side + 1), 2, (low + fill * (high - low)) / timesteps, silent, 0.3, once_share,
        kernel=kernel, stride=stride, padding=kernel // 2,
    )  # fmt: skip
    try:
        trace = synthesize([layer], seed=seed, timesteps=timesteps, images=images)
    except UsageError as error:
        assume("padding is silent" in str(error))
        raise
    (found,) = statistics(trace)
    # A word too many or too few may have to change its count too, by up to T.
    one_neuron = kernel**2
    assert abs(found.active_words - active * found.words) <= one_neuron
    assert abs(found.spikes - layer.spike_density * timesteps * found.words) <= one_neuron * (timesteps + 1)
    if once_share is not None:
        assert abs(found.fire_once_words - once_share * found.words) <= one_neuron
    assert {check.mismatches for check in check_trace(trace)} == {0}


def test_every_timestep_gets_its_share():
    spikes = synthesize([LAYER], timesteps=8).tensor("a.input")
    per_step = spikes.reshape(8, -1).sum(1)
    assert per_step.max() - per_step.min() <= 8
    assert synthesize([LAYER], timesteps=8, images=3).images == 3


def test_spikes_are_not_ordered():
    """Spikes are spread over channels and pixels, and not all patterns are alike."""
    spikes = synthesize([replace(LAYER, input_shape=(64, 9, 9))]).tensor("a.input")[:, 0]
    assert spikes.any(0).mean((1, 2)).std() < 0.08
    words = (spikes * (1 << np.arange(4))[:, None, None, None]).sum(0)
    assert len(np.unique(words)) == 16


def test_reproducible(tmp_path):
    paths = [tmp_path / "a.npz", tmp_path / "b.npz", tmp_path / "c.npz"]
    for path, seed in zip(paths, (5, 5, 6), strict=True):
        save_trace(synthesize([LAYER], seed=seed), path)
    assert paths[0].read_bytes() == paths[1].read_bytes() != paths[2].read_bytes()
    assert_ratios(load_trace(paths[0]), [LAYER])


def test_a_matrix_product():
    layer = matrix_product("p", 33, 7, 130, spike_density=0.2, silent_ratio=0.6, weight_density=0.1)
    trace = synthesize([layer], timesteps=3)
    (operation,) = trace.operations
    assert (operation.m, operation.n, operation.k) == (33, 7, 130)
    assert_ratios(trace, [layer])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"silent_ratio": 0.05}, "silent ratio: got 0.05; allowed: 0."),
        ({"silent_ratio": 1.2}, "silent ratio: got 1.2"),
        ({"fire_once_ratio": 0.3}, "fire-once ratio: got 0.3; allowed: 0 to 0.26"),
        ({"spike_density": 0.4}, "spike density: got 0.4; allowed: 0.1175 to 0.2225 for this silent ratio"),
        ({"spike_density": 0.1}, "spike density: got 0.1"),
        ({"weight_density": 1.1}, "weight density: got 1.1"),
        ({"out_channels": 1 << 40}, "weights; allowed: at most 268,435,456"),
        ({"input_shape": (16, 1 << 20, 1 << 20)}, "spikes; allowed: at most"),
        ({"input_shape": (16, 0, 7)}, "a size is below one, got the input [16, 0, 7]"),
        ({"input_shape": ()}, "a size is below one"),
        ({"input_shape": (16,)}, "conv2d reads [C, H, W], got the shape [16]"),
        ({"kernel": 30}, "30 is larger than the padded input"),
        ({"out_channels": 0}, "a size is below one"),
        ({"op": "conv3d"}, "unknown, got 'conv3d'"),
        ({"spike_density": float("nan")}, "spike density: got nan"),
    ],
)
def test_what_cannot_be_reached(changes, says):
    with pytest.raises(UsageError) as caught:
        synthesize([replace(LAYER, **changes)])
    assert says in str(caught.value)


def test_unknown_preset():
    with pytest.raises(UsageError, match=r"no preset 'vgg-16'; allowed: .*did you mean 'vgg16'"):
        synthesize("vgg-16")


@pytest.mark.parametrize("arguments", [{"timesteps": 0}, {"timesteps": 17}, {"images": 0}, {"seed": -1}])
def test_bad_arguments(arguments):
    with pytest.raises(UsageError, match=f"{next(iter(arguments))}: got"):
        synthesize([LAYER], **arguments)


def test_nothing_to_synthesize():
    with pytest.raises(UsageError, match="number of layers: got 0"):
        synthesize([])


def test_totals_of_a_network():
    both = total(statistics(synthesize("alexnet")))
    assert both.silent_ratio == pytest.approx(0.71256, abs=1e-4)
    assert both.spike_density == pytest.approx(1 - 0.81195, abs=1e-4)
