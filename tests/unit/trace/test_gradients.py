"""Gradient masks: what a step of training adds to a trace, and what a trace without them stays."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from archsim.cli import main
from archsim.errors import TraceError, UsageError
from archsim.trace import (
    Trace,
    activation_product,
    check_trace,
    load_trace,
    matrix_product,
    save_trace,
    statistics,
    synthesize,
    total,
)
from archsim.trace.resimulation import compute
from tests.machines import ROOT
from tests.small_traces import LABELS, contents, tiny, trained

WORKLOADS = ROOT / "workloads"

SHAPES = [
    matrix_product(
        f"l{m}", m, n, k, spike_density=0.2, silent_ratio=0.5, fire_once_ratio=None, weight_density=0.1
    )
    for m, n, k in ((16, 8, 256), (5, 3, 130))
]  # fmt: skip


def with_masks(trace, **masks):
    operations = [replace(op, gradient_mask=masks.get(op.name)) for op in trace]
    return Trace(
        network="small", timesteps=trace.timesteps, operations=operations, tensors=contents(trace), provenance=LABELS
    )


def test_a_trace_without_masks_is_what_it_always_was():
    """The hash of this trace before masks existed."""
    assert tiny().sha256 == "77a1c658df7ca5a4968d297fd5c4a53357b972658c789c52b6941be745e6a4da"
    assert "gradient" not in json.dumps(tiny().meta.model_dump(mode="json", exclude_none=True))
    assert all(operation.gradient_mask is None for operation in tiny())
    assert all(layer.gradient_density is None for layer in statistics(tiny()))


def test_masks_are_read_with_numpy_alone(tmp_path):
    """By the text of ``workloads/README.md``."""
    trace = trained()
    save_trace(trace, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        meta = json.loads(file["meta"].tobytes())
        layers = {op["name"]: op for op in meta["operations"]}
        assert [name for name, op in layers.items() if op.get("gradient_mask")] == ["conv1", "conv2", "fc"]
        assert "gradient_mask" not in layers["pool"]
        shape = (meta["timesteps"], meta["images"], *meta["tensors"]["conv2.spikes"]["shape"])
        bits = np.unpackbits(file["gradient.conv2"], count=np.prod(shape), bitorder="little").reshape(shape)
    mask = trace.operation("conv2").gradient_mask
    assert mask.dtype == np.bool_
    assert 0 < mask.mean() < 1
    np.testing.assert_array_equal(bits, mask)
    np.testing.assert_array_equal(load_trace(tmp_path / "a.npz").operation("conv2").gradient_mask, mask)


def test_masks_change_no_output():
    assert [check.mismatches for check in check_trace(trained())] == [0, 0, 0, 0]
    assert trained().sha256 != tiny(timesteps=3, images=1).sha256


def potentials(trace, operation):
    """X[t] with its fraction bits, int64 [T, I, N, H, W], by the equations of ``workloads/README.md``."""
    bare = Trace(
        network="one", timesteps=trace.timesteps, provenance=LABELS,
        operations=[replace(operation, neuron=None, gradient_mask=None)],
        tensors={name: trace.tensor(name) for name in operation.inputs},
    )  # fmt: skip
    currents = compute(bare.operations[0], [trace.tensor(name) for name in operation.inputs], trace.timesteps)
    fired = trace.tensor(operation.output)
    found = [currents[0] << operation.neuron.fraction_bits]
    for t in range(1, trace.timesteps):
        rest = np.where(fired[t - 1], 0, found[-1] >> operation.neuron.leak_shift)
        found.append((currents[t] << operation.neuron.fraction_bits) + rest)
    return np.stack(found)


def test_masks_of_the_trained_step_follow_from_its_potentials():
    """The loss has a term in every spike, so that gradients are zero only where surrogate gradients are.

    The surrogate gradient is not zero for 0 < X < 2 h, and X[t+1] hands its gradient down unless the neuron fired.
    Without that term in the loss, gradients are zero there too, and a pool hands each gradient to one of its inputs.
    """
    trace = load_trace(WORKLOADS / "vgg9_training_step.npz")
    plain = load_trace(WORKLOADS / "vgg9_training_step_plain.npz")
    assert all(np.array_equal(plain.tensor(name), trace.tensor(name)) for name in trace.tensors)
    pooled = {operation.inputs[0] for operation in trace if operation.op == "pool"}
    for operation in trace.operations:
        if operation.neuron is None:
            continue
        x, mask = potentials(trace, operation), operation.gradient_mask
        sparser = plain.operation(operation.name).gradient_mask
        assert 0 < sparser.sum() < mask.sum()
        assert not (sparser & ~mask).any()
        if operation.output in pooled:
            *outer, height, width = sparser[-1].shape
            windows = sparser[-1].reshape(*outer, height // 2, 2, width // 2, 2)
            assert windows.sum(axis=(-3, -1)).max() == 1
        limit = operation.neuron.threshold[:, np.newaxis, np.newaxis] << operation.neuron.fraction_bits
        wanted = (x > 0) & (x < 2 * limit)
        fired = trace.tensor(operation.output)
        np.testing.assert_array_equal(x > limit, fired)
        for t in reversed(range(trace.timesteps - 1)):
            wanted[t] |= wanted[t + 1] & ~fired[t]
        np.testing.assert_array_equal(mask, wanted, operation.name)
    assert trace.operation("fc").gradient_mask.all()
    assert {check.mismatches for check in check_trace(trace)} == {0}


def test_selected_images_and_layers_keep_their_masks(tmp_path):
    generator = np.random.default_rng(5)
    whole = tiny(images=3)
    masks = {op.name: generator.random((4, 3, *op.output_shape)) < 0.5 for op in whole if op.op != "pool"}
    part = with_masks(whole, **masks).select(layers=["conv2", "fc"], images=[2, 0])
    for name in ("conv2", "fc"):
        np.testing.assert_array_equal(part.operation(name).gradient_mask, masks[name][:, [2, 0]])
    save_trace(part, tmp_path / "part.npz")
    np.testing.assert_array_equal(
        load_trace(tmp_path / "part.npz").operation("fc").gradient_mask, masks["fc"][:, [2, 0]]
    )
    twice = part.select(images=[1])
    np.testing.assert_array_equal(twice.operation("conv2").gradient_mask, masks["conv2"][:, [0]])


@pytest.mark.parametrize(
    ("name", "mask", "says"),
    [
        ("conv2", np.zeros((4, 2, 5, 5, 3), np.uint8), "conv2.gradient_mask: bool [T, I, ...] expected, got uint8"),
        ("conv2", np.zeros((4, 2, 5, 3, 5), bool), "got bool [4, 2, 5, 3, 5]; allowed: bool [4, 2, 5, 5, 3]"),
        ("conv2", np.zeros((2, 4, 5, 5, 3), bool), "got bool [2, 4, 5, 5, 3]; allowed: bool [4, 2, 5, 5, 3]"),
        ("conv2", np.zeros((4, 2, 5, 5, 2), bool), "array 'gradient.conv2': got uint8 [50]; allowed: uint8 [75]"),
        ("fc", np.zeros((4, 2), bool), "array 'gradient.fc': got uint8 [1]; allowed: uint8 [4]"),
        ("pool", np.zeros((4, 2, 5, 2, 1), bool), "operations[2].gradient_mask: unknown key"),
    ],
)  # fmt: skip
def test_wrong_masks_are_refused_in_memory(name, mask, says):
    with pytest.raises(TraceError) as caught:
        with_masks(tiny(), **{name: mask})
    assert says in str(caught.value)
    assert len(caught.value.problems) == 1


def test_density_counts_every_timestep_of_every_layer():
    masks = {"conv2": np.zeros((4, 2, 5, 5, 3), bool), "fc": np.ones((4, 2, 4), bool)}
    masks["conv2"][1, 0, :, :, 0] = True
    layers = statistics(with_masks(tiny(), **masks))
    assert [layer.gradient_density for layer in layers] == [None, 25 / 600, 1.0]
    assert total(layers).gradient_density == (25 + 32) / (600 + 32)


def test_synthetic_masks_have_exactly_the_share_asked_for():
    trace = synthesize(SHAPES, seed=1, images=3, gradient_density=0.3)
    for operation in trace:
        mask = operation.gradient_mask
        assert mask.shape == (4, 3, *operation.output_shape)
        assert mask.sum() == round(0.3 * mask.size)
    assert trace.provenance["details"]["gradient_density"].startswith("0.3 in every layer")
    assert trace.sha256 == synthesize(SHAPES, seed=1, images=3, gradient_density=0.3).sha256
    other = synthesize(SHAPES, seed=2, images=3, gradient_density=0.3)
    assert (other.operations[0].gradient_mask != trace.operations[0].gradient_mask).any()
    plain = synthesize(SHAPES, seed=1, images=3)
    assert all(np.array_equal(plain.tensor(name), trace.tensor(name)) for name in plain.tensors)
    assert [check.mismatches for check in check_trace(trace)] == [0, 0]
    ann = synthesize(
        [activation_product("a", 8, 9, 10, activation_density=0.5, weight_density=0.5)], gradient_density=1
    )
    assert ann.operations[0].gradient_mask.all()
    with pytest.raises(UsageError, match=r"gradient density: got 1.5; allowed: 0 to 1"):
        synthesize(SHAPES, gradient_density=1.5)


def test_the_command_line_makes_and_shows_masks(tmp_path, capsys):
    file = str(tmp_path / "made.npz")
    shares = ["--spike-density", "0.2", "--silent-ratio", "0.5", "--weight-density", "0.1"]
    assert main(["trace", "synth", "--shape", "16,8,256", *shares, "--gradient-density", "0.25", "-o", file]) == 0
    capsys.readouterr()
    assert main(["trace", "info", file]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    (header,) = [row for row in rows if row[0] == "layer"]
    assert header[-1] == "gradient_density"
    assert [float(row[-1]) for row in rows if row[0] in ("layer0", "total")] == [0.25, 0.25]
    assert main(["trace", "synth", "--preset", "V-L8", "--gradient-density", "-1", "-o", file]) == 2
    assert "gradient density: got -1.0; allowed: 0 to 1" in capsys.readouterr().err
