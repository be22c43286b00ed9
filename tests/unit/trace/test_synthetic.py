"""Synthetic traces have the ratios that were asked for, up to one neuron, and verify."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from archsim.cli import main
from archsim.errors import UsageError
from archsim.trace import (
    PRESETS,
    ActivationLayer,
    SyntheticLayer,
    activation_product,
    check_trace,
    load_trace,
    matrix_product,
    save_trace,
    statistics,
    synthesize,
    total,
)
from tests.twins import trace as twin

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


@pytest.mark.parametrize("name", [name for name in PRESETS if name.split("-")[0] in ("alexnet", "A", "V", "R")])
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


def test_all_of_table_ii():
    """Each of its networks and layers, as it is and after masking and fine-tuning."""
    rows = ("alexnet", "vgg16", "resnet19", "A-L4", "V-L8", "R-L19")
    assert set(PRESETS) == {*rows, *(f"{row}-ft" for row in rows), "T-HFF", "vgg16_ann"}
    # Masking may only add to silence, and removes as many spikes as words.
    for row in rows:
        plain, masked = PRESETS[row].layers[0], PRESETS[f"{row}-ft"].layers[0]
        assert masked.silent_ratio - plain.silent_ratio == pytest.approx(plain.fire_once_ratio)
        assert 4 * (plain.spike_density - masked.spike_density) == pytest.approx(plain.fire_once_ratio)
        assert masked.fire_once_ratio == 0


@pytest.mark.parametrize("timesteps", [5, 8, 16])
@pytest.mark.parametrize("name", ["V-L8", "V-L8-ft"])
def test_a_preset_in_more_timesteps(name, timesteps):
    """Density per timestep and silent ratio stay; the trace says that this is assumed."""
    trace = synthesize(name, timesteps=timesteps)
    (layer,), (found,) = PRESETS[name].layers, statistics(trace)
    assert (trace.timesteps, found.words) == (timesteps, 16 * 2304)
    assert found.silent_ratio == pytest.approx(layer.silent_ratio, abs=1e-4)
    assert found.spike_density == pytest.approx(layer.spike_density, abs=1e-4)
    assert (found.fire_once_words == 0) == name.endswith("-ft")
    assert "Fig. 16b" in trace.provenance["details"]["assumed"]
    assert {check.mismatches for check in check_trace(trace)} == {0}


def test_a_preset_in_its_own_timesteps():
    assert synthesize("V-L8", timesteps=4).sha256 == synthesize("V-L8").sha256
    assert "assumed" not in synthesize("V-L8").provenance["details"]


@pytest.mark.parametrize(
    ("name", "timesteps", "says"),
    [
        ("vgg16-ft", 3, "timesteps: got 3; allowed: 4 to 16"),
        ("vgg16-ft", 17, "timesteps: got 17; allowed: 4 to 16"),
        ("vgg16", 0, "timesteps: got 0; allowed: 4 to 16"),
        ("vgg16_ann", 4, "timesteps: got 4; allowed: 1, as activations do not change in time"),
    ],
)
def test_timesteps_that_a_preset_cannot_have(name, timesteps, says):
    with pytest.raises(UsageError, match=says):
        synthesize(name, timesteps=timesteps)


@pytest.mark.parametrize("density", [0.0, 0.316, 1.0])
def test_another_weight_density(density):
    """The spikes stay what they were."""
    trace, plain = synthesize("A-L4", weight_density=density), synthesize("A-L4")
    (found,) = statistics(trace)
    assert found.weight_nonzeros == round(density * 256 * 3456)
    np.testing.assert_array_equal(trace.tensor("A-L4.input"), plain.tensor("A-L4.input"))
    assert trace.provenance["details"]["weight_density"].startswith(f"{density} ")
    with pytest.raises(UsageError, match=r"layer 'A-L4': weight density: got 1.5; allowed: 0 to 1"):
        synthesize("A-L4", weight_density=1.5)


def test_a_network_without_spikes():
    """Fig. 18 of LoAS: activations 43.9 % and 8-bit weights 98.2 % sparse, in the layers of VGG16."""
    trace = synthesize("vgg16_ann")
    spiking = PRESETS["vgg16"].layers
    assert trace.timesteps == 1
    for operation, layer, found in zip(trace, spiking, statistics(trace), strict=True):
        activations = trace.tensor(operation.inputs[0])
        assert (operation.name, operation.input_shapes, operation.n) == (
            layer.name, (layer.input_shape,), layer.out_channels
        )  # fmt: skip
        assert (operation.stride, operation.padding) == ((layer.stride,) * 2, (layer.padding,) * 2)
        assert operation.weight_shape[2:] == ((layer.kernel,) * 2 if layer.op == "conv2d" else ())
        assert (activations.dtype, activations.shape) == (np.uint8, (1, *layer.input_shape))
        assert sum(int(value) == 0 for value in activations.flat) == activations.size - round(0.561 * activations.size)
        assert found.weight_nonzeros == round(0.018 * found.weights)
        assert (found.operand, found.operand_bits, found.spikes) == ("int", 8, None)
        assert trace.tensor(operation.output).shape == (1, *operation.output_shape)
    assert activations.max() > 200
    assert {check.mismatches for check in check_trace(trace)} == {0}
    assert trace.provenance["kind"] == trace.provenance["weights"] == "synthetic"
    assert trace.provenance["source"] == "LoAS (MICRO 2024), Fig. 18, network averages"
    assert "requantisation" in trace.provenance["details"]["outputs"]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000), images=st.integers(1, 3), density=st.floats(0, 1), weight_density=st.floats(0, 1),
    kernel=st.integers(1, 3), side=st.integers(3, 6), channels=st.integers(1, 5),
)  # fmt: skip
def test_any_activations(seed, images, density, weight_density, kernel, side, channels):
    layer = ActivationLayer(
        "a", "conv2d", (channels, side, side + 1), 3, density, weight_density, kernel=kernel, padding=kernel // 2
    )
    trace = synthesize([layer], seed=seed, images=images)
    (operation,), (found,) = trace.operations, statistics(trace)
    activations, weight = trace.tensor("a.input"), operation.weight
    assert np.count_nonzero(activations) == round(density * activations.size)
    assert np.count_nonzero(weight) == round(weight_density * weight.size)
    matrix = twin.im2col(operation, activations[np.newaxis])[0]
    assert (found.words, found.active_words) == (matrix.size, (matrix != 0).sum())
    sums = matrix.astype(int) @ weight.reshape(3, -1).T.astype(int)
    stored = np.moveaxis(trace.tensor("a.output"), 1, -1).reshape(-1, 3)
    np.testing.assert_array_equal(sums, stored)
    assert {check.mismatches for check in check_trace(trace)} == {0}


def test_activations_for_a_direct_encoder():
    """Activations beside spikes have the same value at every timestep."""
    trace = synthesize([activation_product("p", 9, 2, 30, activation_density=0.5, weight_density=0.5), LAYER])
    assert (trace.timesteps, trace.kind("p.input"), trace.kind("a.input")) == (4, "int", "spike")
    assert {check.mismatches for check in check_trace(trace)} == {0}


PRODUCT = ["--shape", "9,2,40", "--weight-density", "0.25"]


def test_activations_on_the_command_line(tmp_path, capsys):
    path = tmp_path / "a.npz"
    assert main(["trace", "synth", *PRODUCT, "--activation-density", "0.5", "--images", "2", "-o", str(path)]) == 0
    (operation,) = load_trace(path)
    assert (operation.m, operation.n, operation.k) == (18, 2, 40)
    capsys.readouterr()
    assert main(["trace", "info", str(path)]) == 0
    header, row, _ = (line.split("\t") for line in capsys.readouterr().out.splitlines()[-3:])
    found = dict(zip(header, row, strict=True))
    assert (found["silent_ratio"], found["weight_density"], found["operand"]) == ("0.5", "0.25", "int")
    assert (found["spike_density"], found["operand_bits"]) == ("", "8")


def test_presets_on_the_command_line(tmp_path):
    path = tmp_path / "a.npz"
    overrides = ["--timesteps", "8", "--weight-density", "0.5"]
    assert main(["trace", "synth", "--preset", "V-L8-ft", *overrides, "-o", str(path)]) == 0
    (found,) = statistics(load_trace(path))
    assert (found.timesteps, found.weight_density) == (8, 0.5)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--preset", "V-L8", "--activation-density", "0.5"], "a preset brings its own"),
        (["--preset", "V-L8", "--timesteps", "2"], "timesteps: got 2; allowed: 4 to 16"),
        (["--preset", "V-L8", "--weight-density", "1.5"], "weight density: got 1.5; allowed: 0 to 1"),
        (["--preset", "vgg16_ann", "--timesteps", "4"], "timesteps: got 4; allowed: 1"),
        (PRODUCT, "--shape needs --weight-density, and either"),
        (["--shape", "9,2,40", "--activation-density", "0.5"], "--shape needs --weight-density, and either"),
        ([*PRODUCT, "--activation-density", "0.5", "--silent-ratio", "0.5"], "--shape needs --weight-density, and"),
        ([*PRODUCT, "--activation-density", "1.5"], "activation density: got 1.5; allowed: 0 to 1"),
        ([*PRODUCT, "--activation-density", "nan"], "activation density: got nan; allowed: 0 to 1"),
        ([*PRODUCT, "--activation-density", "0.5", "--timesteps", "2"], "timesteps: got 2; allowed: 1 to 1"),
    ],
)
def test_what_the_command_line_refuses(arguments, says, tmp_path, capsys):
    assert main(["trace", "synth", *arguments, "-o", str(tmp_path / "a.npz")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("archsim: error: ")
    assert says in line
    assert not list(tmp_path.iterdir())


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
        ({"input_shape": (16, 1 << 20, 1 << 20)}, "inputs; allowed: at most"),
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


@pytest.mark.parametrize(
    "command",
    [
        "--preset V-L8 --weight-density 0.25 --timesteps 5 --seed 3 --images 2",
        "--preset vgg16_ann --timesteps 1 --seed 0 --images 1",
        "--shape 4,8,64 --shape 2,3,32 --spike-density 0.2 --silent-ratio 0.5 --weight-density 0.1 --seed 9",
        "--shape 4,8,64 --activation-density 0.5 --weight-density 0.1",
    ],
)
def test_the_recipe_makes_the_same_trace(command, tmp_path, capsys):
    assert main(["trace", "synth", *command.split(), "-o", str(tmp_path / "a.npz")]) == 0
    recipe = load_trace(tmp_path / "a.npz").provenance["recipe"]
    assert all(option in recipe for option in command.split(" --"))
    assert main([*recipe.split()[1:], "-o", str(tmp_path / "b.npz")]) == 0
    assert load_trace(tmp_path / "b.npz").sha256 == load_trace(tmp_path / "a.npz").sha256


def test_layers_that_no_command_describes_have_no_command():
    assert synthesize([LAYER]).provenance["recipe"] == "archsim.trace.synthesize"


@pytest.mark.parametrize("changes", [{"silent_ratio": 1.2}, {"fire_once_ratio": 2.0}])
def test_of_impossible_ratios_no_density_follows(changes):
    with pytest.raises(UsageError) as caught:
        synthesize([replace(LAYER, **changes)])
    assert len(caught.value.problems) == 1 and "spike density" not in str(caught.value)
