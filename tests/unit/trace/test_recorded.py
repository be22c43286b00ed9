"""Recorded spikes with synthetic weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from archsim.cli import app
from archsim.errors import TraceError, UsageError
from archsim.trace import check_trace, import_spikes, load_trace, save_trace, statistics, total
from tests.machines import SPARSITY, needs_recorded, recorded, reference

SILENT = {"vgg16": 0.783, "alexnet": 0.7585}


@needs_recorded
@pytest.mark.parametrize("network", SPARSITY)
def test_published_spikes(network, tmp_path):
    """Words that are not silent, spikes and weights that are not zero, as an independent analysis counts them."""
    columns = ("m", "n", "k", "input_words", "spikes", "weights")
    expected = {row["layer"]: tuple(row[column] for column in columns) for row in reference(network)}
    trace = recorded(network)
    layers = [layer for layer in statistics(trace) if layer.op == "conv2d"]
    found = {
        layer.layer: (layer.m, layer.n, layer.k, layer.active_words, layer.spikes, layer.weight_nonzeros)
        for layer in layers
    }
    assert found == expected
    assert total(layers).silent_ratio == pytest.approx(SILENT[network], abs=5e-4)
    assert trace.provenance["kind"] == "recorded"
    assert trace.provenance["weights"] == "synthetic"
    for check in check_trace(trace):
        assert check.mismatches is None
        assert check.reason.startswith("not verified: no neuron is known")
    save_trace(trace, tmp_path / "trace.npz")
    assert load_trace(tmp_path / "trace.npz").sha256 == trace.sha256
    assert (tmp_path / "trace.npz").stat().st_size < 2_000_000


@needs_recorded
def test_places_of_the_mask():
    """Row k = 0 of VGG16 conv2 is non-zero at n = 3 and 11, by the same analysis."""
    trace = recorded("vgg16")
    weight = trace.operation("conv2").weight
    assert np.flatnonzero(weight[:, 0, 0, 0]).tolist() == [3, 11]


def recording(path, **changes):
    """A recording of two layers; ``changes`` by name of a key of the record, or of an array."""
    generator = np.random.default_rng(7)
    meta = {
        "network": "small", "dataset": "none", "timesteps": 3, "images": 1, "source": "a test",
        "packing": "little", "weights": "none", "weight_sparsity": 0.5,
        "layers": [
            {
                "name": "conv", "op": "conv2d", "kernel": 3, "stride": 2, "padding": 1, "out_channels": 4,
                "input_shape": [3, 2, 5, 5], "M": 9, "N": 4, "K": 18, "spike_density": 0.3,
            },
            {"name": "fc", "op": "linear", "input_shape": [3, 7], "M": 1, "N": 6, "K": 7, "spike_density": 0.3},
        ],
    }  # fmt: skip
    spikes = {"conv": generator.random((3, 2, 5, 5)) < 0.3, "fc": generator.random((3, 7)) < 0.3}
    arrays = {f"{name}.spikes": np.packbits(bits, bitorder="little") for name, bits in spikes.items()}
    for key, value in changes.items():
        if key in meta:
            meta[key] = value
        elif key.startswith("layer"):
            meta["layers"][int(key[5])] |= value
        else:
            arrays[key.replace("_", ".")] = value
    np.savez(path, meta=np.frombuffer(json.dumps(meta).encode(), np.uint8), **arrays)
    return spikes


def test_a_recording(tmp_path):
    spikes = recording(tmp_path / "r.npz")
    trace = import_spikes(tmp_path / "r.npz", 0.8, seed=9)
    np.testing.assert_array_equal(trace.tensor("conv.input")[:, 0], spikes["conv"])
    np.testing.assert_array_equal(trace.tensor("fc.input")[:, 0], spikes["fc"])
    for index, operation in enumerate(trace.operations):
        mask = np.random.default_rng([9, index]).random((operation.k, operation.n)) < 1 - 0.8
        weight = operation.weight
        np.testing.assert_array_equal(weight.reshape(operation.n, -1) != 0, mask.T)
        assert operation.neuron is None
    other = import_spikes(tmp_path / "r.npz", seed=9)
    assert other.provenance["details"]["weight_sparsity"] == 0.5


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"timesteps": 4}, "layers[0].input_shape: got [3, 2, 5, 5]; allowed: [4, C, H, W]"),
        ({"timesteps": 1025}, "timesteps"),
        ({"images": 2}, "images: got 2; allowed: 1"),
        ({"layer0": {"K": 19}}, "layers[0].K: the shapes give 18, got 19"),
        ({"layer0": {"N": 5}}, "layers[0].N: out_channels is 4, got 5"),
        ({"layer0": {"M": 10}}, "layers[0].M: the shapes give 9, got 10"),
        ({"layer0": {"kernal": 3}}, "layers[0].kernal: unknown key (did you mean 'kernel'?)"),
        ({"layer0": {"kernel": 0}}, "layers[0].kernel"),
        ({"layer1": {"N": 1 << 20, "input_shape": [3, 1 << 20], "K": 1 << 20}}, "weights; allowed: at most"),
        ({"layer0": {"kernel": 9, "K": 162}}, "operations[0].kernel: 9 is larger than the padded input, 7"),
        ({"layer1": {"name": "conv"}}, "layers[1].name: two layers have the name 'conv'"),
        ({"fc_spikes": np.zeros(9, np.uint8)}, "array 'fc.spikes': got uint8 [9]; allowed: uint8 [3]"),
        ({"fc_spikes": np.array([None] * 3)}, "holds pickled Python objects"),
        ({"fc_spikes": np.full(3, 255, np.uint8)}, "array 'fc.spikes': the 3 bits after the last spike must be zero"),
        ({"more_spikes": np.zeros(3, np.uint8)}, "array 'more.spikes' is not in the record"),
    ],
)
def test_a_bad_recording(changes, says, tmp_path):
    recording(tmp_path / "r.npz", **changes)
    with pytest.raises(TraceError) as caught:
        import_spikes(tmp_path / "r.npz")
    assert says in str(caught.value)
    assert str(tmp_path / "r.npz") in str(caught.value)


def test_weights_that_a_file_may_ask_for(tmp_path):
    """72 and 42 of them; a file of 500 bytes that asks for 2^28 is refused before the first is drawn."""
    path = tmp_path / "r.npz"
    recording(path)
    assert import_spikes(path, max_weights=114)
    with pytest.raises(TraceError, match=r"meta: asks for 114 random weights; allowed: 113; --max-weights raises it"):
        import_spikes(path, max_weights=113)
    recording(path, layer1={"N": 1 << 20, "input_shape": [3, 256], "K": 256}, fc_spikes=np.zeros(96, np.uint8))
    with pytest.raises(TraceError, match="asks for 268,435,528 random weights; allowed: 33,554,432"):
        import_spikes(path)


def test_the_limit_on_the_command_line(tmp_path):
    recording(tmp_path / "r.npz")
    command = ["trace", "import", str(tmp_path / "r.npz"), "--format", "spikes", "-o", str(tmp_path / "t.npz")]
    result = CliRunner().invoke(app, [*command, "--max-weights", "113"])
    assert isinstance(result.exception, TraceError)
    assert not (tmp_path / "t.npz").exists()
    assert CliRunner().invoke(app, [*command, "--max-weights", "114"]).exit_code == 0


@pytest.mark.parametrize(("sparsity", "seed"), [(1.0, 0), (-0.1, 0), (float("nan"), 0), (0.5, -1)])
def test_bad_arguments(sparsity, seed, tmp_path):
    recording(tmp_path / "r.npz")
    with pytest.raises(UsageError, match="got"):
        import_spikes(tmp_path / "r.npz", sparsity, seed)
