"""Folding and rounding, on networks without any framework."""

from __future__ import annotations

import copy
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import archsim
from archsim.cli import app
from archsim.errors import UsageError
from archsim.export.folding import fold
from archsim.export.network import Network, Node, run
from archsim.export.neuron_rules import SpikingNeuron
from archsim.export.quantisation import export
from archsim.export.scaling import nearest_leak
from archsim.trace import check_trace, load_trace, save_trace
from tests.export.frameworks import need

HARDWARE = Path(__file__).parents[2] / "hwconfigs"
LABELS = {"kind": "trained", "weights": "trained"}


def chain(inputs, timesteps, *nodes):
    """A network in which each node reads the one before it, unless it says otherwise."""
    shape = inputs.shape[2:] if inputs.ndim in (3, 5) else inputs.shape[1:]
    return Network(timesteps, inputs, {node.name: node for node in (Node("input", "input", (), shape), *nodes)})


def outputs(network):
    run(network)
    return dict(network.recorded)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32), kernel=st.integers(1, 3), stride=st.integers(1, 2), padding=st.integers(0, 1),
    pool=st.integers(1, 3), step=st.integers(1, 3),
)  # fmt: skip
def test_a_folded_network_computes_the_same(seed, kernel, stride, padding, pool, step):
    """conv, batch-norm, average pool, conv, pool, linear: without the batch-norms, and the same outputs."""
    generator = np.random.default_rng(seed)
    width = 12
    side = (width - pool) // step + 1
    out = (side + 2 * padding - kernel) // stride + 1
    if out < 2:
        return
    network = chain(
        generator.random((2, 2, 3, width, width)), 2,
        Node(
            "a", "conv2d", ("input",), (4, width, width), generator.normal(size=(4, 3, 3, 3)),
            generator.normal(size=4), (3, 3), padding=(1, 1),
        ),
        Node("norm", "affine", ("a",), (4, width, width), generator.normal(size=4), generator.normal(size=4)),
        Node("again", "affine", ("norm",), (4, width, width), generator.normal(size=4)),
        Node("mean", "sum_pool", ("again",), (4, side, side), np.array(1 / pool**2), None, (pool, pool), (step, step)),
        Node(
            "b", "conv2d", ("mean",), (5, out, out), generator.normal(size=(5, 4, kernel, kernel)),
            generator.normal(size=5), (kernel, kernel), (stride, stride), (padding, padding),
        ),
        Node("sum", "sum_pool", ("b",), (5, out // 2, out // 2), np.array(1.0), None, (2, 2), (2, 2)),
        Node("c", "linear", ("sum",), (6,), generator.normal(size=(6, 5 * (out // 2) ** 2)), generator.normal(size=6)),
    )  # fmt: skip
    expected = outputs(copy.deepcopy(network))
    fold(network)
    assert list(network.nodes) == ["input", "a", "mean", "b", "sum", "c"]
    folded = outputs(network)
    for name in ("b", "c"):
        np.testing.assert_allclose(folded[name], expected[name], atol=1e-9)


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        (1.0, (1.0, 0, False)), (0.5, (0.5, 1, False)), (0.25, (0.25, 2, False)), (0.75, (0.75, 2, True)),
        (0.9375, (0.9375, 4, True)), (0.9, (0.875, 3, True)), (0.95, (0.9375, 4, True)), (0.0, (2**-8, 8, False)),
    ],
)  # fmt: skip
def test_nearest_leak(decay, expected):
    assert nearest_leak(decay) == expected


def test_thresholds_are_exact_and_weights_use_their_bits():
    """Threshold 1.5, largest weights w 0.4 and 3: h = floor(1.5 * 127 / w) = 476 and 63; w h / 1.5 = 126.9 and 126."""
    weight = np.array([[0.4, -0.1, 0.0], [3.0, 1.0, -2.0]])
    spikes = np.ones((1, 1, 3))
    network = chain(
        spikes, 1, Node("fc", "linear", ("input",), (2,), weight),
        Node("lif", "neuron", ("fc",), (2,), neuron=SpikingNeuron(1.0, 1.5)),
    )  # fmt: skip
    (operation,) = export(network, name="n", provenance=LABELS).trace.operations
    assert operation.neuron.threshold.tolist() == [476, 63]
    assert operation.weight.tolist() == [[127, -32, 0], [126, 42, -84]]


@pytest.mark.parametrize(
    ("inputs", "threshold", "bias"),
    [("sums", 0.3, 0.0), ("sums", 0.3, 700.0), ("sums", 9.0, -0.5), ("pixels", 60.0, 0.1), ("counts", 9e4, 0.0)],
)
def test_weights_of_small_integers_use_their_bits(inputs, threshold, bias):
    """Behind sums and pixels, whose units are small, thresholds are large; rounding stays that of 8 bits.

    By hand: the currents in float64, and the neurons' equation.
    """
    draw = np.random.default_rng(0)
    values = draw.integers(0, 256, (4, 20)) if inputs == "counts" else draw.integers(0, 256, (4, 20)) / 255
    first, second = draw.normal(size=(30, 20)) * 0.3, draw.normal(size=(9, 30 if inputs == "sums" else 20)) * 0.3
    offsets = np.zeros(9)
    offsets[-1] = bias
    neuron = Node("cell", "neuron", ("b",), (9,), neuron=SpikingNeuron(0.5, threshold, "hard"))
    before = [Node("a", "linear", ("input",), (30,), first)] if inputs == "sums" else []
    network = chain(
        values, 3, *before, Node("b", "linear", ("a" if before else "input",), (9,), second, offsets), neuron
    )
    currents = (values @ first.T if before else values) @ second.T + offsets
    potential, expected = np.zeros((4, 9)), []
    for _ in range(3):
        potential = potential * 0.5 + currents
        expected.append(potential > threshold)
        potential = np.where(expected[-1], 0, potential)
    outputs(network)
    scale = 1.0 if inputs == "counts" else 1 / 255
    exported = export(network, name="n", input_scale=scale, provenance=LABELS)
    (error,) = (row.weight_error for row in exported.layers if row.layer == "b")
    assert error < 0.008
    wrong = (exported.trace.tensor("cell") != np.array(expected)).mean()
    assert wrong < 0.03


def test_a_shortcut_of_spikes_gets_the_scale_of_the_branch():
    """x = conv(s) + s against a threshold of 2: largest weight 1, h = 254, s = 2 / 254, so the shortcut weighs 127."""
    spikes = (np.random.default_rng(0).random((3, 2, 2, 4, 4)) < 0.5).astype(float)
    weight = np.random.default_rng(1).normal(0, 0.3, (2, 2, 1, 1)).clip(-0.9, 0.9)
    network = chain(
        spikes, 3, Node("conv", "conv2d", ("input",), (2, 4, 4), weight),
        Node("sum", "add", ("conv", "input"), (2, 4, 4)),
        Node("lif", "neuron", ("sum",), (2, 4, 4), neuron=SpikingNeuron(0.5, 2.0, fires_at_threshold=True)),
    )  # fmt: skip
    run(network)
    exported = export(network, name="n", provenance=LABELS)
    shortcut = exported.trace.operation("sum.1")
    assert shortcut.weight[:, :, 0, 0].tolist() == [[127], [127]]
    assert shortcut.groups == 2
    assert exported.trace.operation("sum").neuron.threshold.tolist() == [254, 254]
    assert exported.layers[-1].differing == 0
    assert any("sum.1" in note for note in exported.notes)
    assert {check.mismatches for check in check_trace(exported.trace)} == {0}


def test_a_machine_computes_an_exported_network(tmp_path):
    """Every kind of leak and reset, residual sums, a pool, neurons on spikes, on LoAS: 0 mismatches."""
    generator = np.random.default_rng(5)

    def convolution(name, source, inputs, outputs):
        weight = generator.normal(0, 0.4, (outputs, inputs, 3, 3))
        return Node(name, "conv2d", (source,), (outputs, 6, 6), weight, None, (3, 3), (1, 1), (1, 1))

    def cell(name, source, outputs, *more):
        return Node(name, "neuron", (source,), (outputs, 6, 6), neuron=SpikingNeuron(*more))

    network = chain(
        (generator.random((4, 1, 3, 6, 6)) < 0.3).astype(float), 4,
        convolution("a", "input", 3, 5), cell("lif1", "a", 5, 0.75, 1.0, "soft_after_leak"),
        convolution("b", "lif1", 5, 5), cell("lif2", "b", 5, 0.875, 1.0, "soft_before_leak", True),
        convolution("c", "lif2", 5, 5), Node("sum", "add", ("c", "lif1"), (5, 6, 6)),
        cell("lif3", "sum", 5, 1.0, 1.0, "soft_after_leak"),
        Node("pool", "max_pool", ("lif3",), (5, 3, 3), None, None, (2, 2), (2, 2)),
        Node("lif4", "neuron", ("pool",), (5, 3, 3), neuron=SpikingNeuron(0.5, 0.7, fires_at_threshold=True)),
        Node("lif5", "neuron", ("lif4",), (5, 3, 3), neuron=SpikingNeuron(0.75, 1.3, "soft_before_leak")),
        Node("fc", "linear", ("lif5",), (4,), generator.normal(size=(4, 45))),
    )  # fmt: skip
    run(network)
    exported = export(network, name="n", provenance=LABELS)
    assert exported.trace.operation("lif5").neuron.threshold_in_fractions
    # The weights are not trained: what differs in a layer differs more in the next.
    assert max(row.differing for row in exported.layers if row.differing is not None) < 0.1
    assert all(row.density > 0.02 for row in exported.layers if row.density is not None)
    save_trace(exported.trace, tmp_path / "n.npz")
    summary = archsim.run(HARDWARE / "loas.yaml", tmp_path / "n.npz").summary()
    assert summary["mismatches"] == 0
    assert summary["layers_verified"] == summary["layers"] >= 4


def test_all_that_a_trace_cannot_hold_is_said_at_once():
    network = chain(
        np.ones((1, 4)), 2,
        Node("one", "neuron", ("input",), (4,), neuron=SpikingNeuron(0.9, 0.0)),
        Node("two", "neuron", ("one",), (4,), neuron=SpikingNeuron(0.3, -1.0)),
    )  # fmt: skip
    with pytest.raises(UsageError) as caught:
        export(network, name="n", provenance=LABELS)
    assert caught.value.problems == (
        "one: a threshold of 0 above rest; allowed: above zero",
        "two: a threshold of -1 above rest; allowed: above zero",
    )


@pytest.mark.parametrize("decay", [0.9, 0.95, 1 / 3])
@pytest.mark.parametrize("reset", ["hard", "soft_before_leak", "soft_after_leak", "none"])
def test_any_decay(decay, reset):
    """Spikes are those of the model; approximate_leak takes the nearest shift and says so."""
    spikes = (np.random.default_rng(0).random((20, 10, 6)) < 0.4).astype(float)
    weight = np.random.default_rng(1).normal(0, 0.5, (5, 6))
    network = chain(
        spikes, 20, Node("fc", "linear", ("input",), (5,), weight),
        Node("lif", "neuron", ("fc",), (5,), neuron=SpikingNeuron(decay, 1.0, reset)),
    )  # fmt: skip
    run(network)
    exported = export(copy.deepcopy(network), name="n", provenance=LABELS)
    (operation,) = exported.trace.operations
    kept = operation.neuron.leak_multiplier / 2**operation.neuron.leak_shift
    assert np.allclose(kept, decay, atol=2**-16)
    assert exported.layers[0].differing < 0.03
    assert {check.mismatches for check in check_trace(exported.trace)} == {0}
    near = export(network, name="n", provenance=LABELS, approximate_leak=True, accept_differences=True)
    assert near.trace.operations[0].neuron.leak_multiplier is None
    assert any("is taken as" in note for note in near.notes)


def test_thresholds_that_no_step_of_the_weights_reaches():
    network = chain(
        np.ones((1, 3)), 2, Node("fc", "linear", ("input",), (1,), np.array([[5.0, 1.0, 2.0]])),
        Node("lif", "neuron", ("fc",), (1,), neuron=SpikingNeuron(1.0, 0.01)),
    )  # fmt: skip
    with pytest.raises(UsageError, match=r"lif: the threshold of channel 0, 0\.01, is below one step"):
        export(network, name="n", provenance=LABELS)


@pytest.mark.parametrize(
    ("values", "more", "dtype", "kind", "scale"),
    [
        (np.array([[0.0, 0.5, 1.0]]), {}, "uint8", "int", 1 / 255),
        (np.array([[0.0, 3.0, 200.0]]), {}, "uint8", "int", 1.0),
        (np.array([[-1.0, 0.25]]), {}, "int8", "int", 1 / 127),
        (np.array([[0.0, 51 / 255]]), {"input_scale": 1 / 255}, "uint8", "int", 1 / 255),
        (np.array([[[0.0, 1.0]], [[1.0, 1.0]]]), {}, "bool", "spike", 1.0),
        (np.array([[[0.0, -1.0]], [[1.0, 1.0]]]), {}, "int8", "signed_spike", 1.0),
        (np.array([[[0.0, 2.5]], [[1.0, 1.0]]]), {"input_bits": 16}, "int64", "int", 2.5 / 65535),
    ],
)  # fmt: skip
def test_inputs(values, more, dtype, kind, scale):
    network = chain(values, 2, Node("fc", "linear", ("input",), (1,), np.ones((1, values.shape[-1]))))
    trace = export(network, name="n", provenance=LABELS, **more).trace
    assert trace.tensor("input").dtype == dtype
    assert trace.kind("input") == kind
    assert trace.scale("input") == pytest.approx(scale)
    # What the read-out computes is the real sum, in units of its weights.
    (fc,) = trace.operations
    sums = trace.tensor(fc.output) * fc.weight_scale
    assert sums.ravel() == pytest.approx(values.sum(-1).ravel(), rel=0.02, abs=0.02)


def test_inputs_beyond_their_bits():
    network = chain(np.array([[0.0, 2.0]]), 1, Node("fc", "linear", ("input",), (1,), np.ones((1, 2))))
    with pytest.raises(UsageError, match=r"input_scale: in units of 0\.004 the inputs reach 500"):
        export(network, name="n", provenance=LABELS, input_scale=0.004)


def recorded(currents, spikes):
    """Neurons that fire where ``currents`` [T, I, F] are one, and ``spikes`` that are said to be the model's."""
    shape = currents.shape[2:]
    network = chain(
        currents, len(currents), Node("fc", "linear", ("input",), shape, np.eye(shape[0])),
        Node("lif", "neuron", ("fc",), shape, neuron=SpikingNeuron(1.0, 1.0, fires_at_threshold=True)),
    )  # fmt: skip
    network.recorded["lif"] = spikes
    return network


@pytest.mark.parametrize(
    ("model", "trace", "both", "lost", "gained"),
    [(100, 100, 100, 0.0, 0.0), (200, 160, 160, 0.2, 0.0), (160, 200, 160, 0.0, 0.2), (100, 100, 0, 1.0, 1.0),
     (0, 50, 0, 0.0, 1.0), (100, 0, 0, 1.0, 0.0)],
)  # fmt: skip
def test_shares_of_differing_spikes(model, trace, both, lost, gained):
    """Of 10,000 outputs ``model`` fire in the model and ``trace`` in the trace, ``both`` in common."""
    real, integer = np.zeros(10_000, bool), np.zeros(10_000, bool)
    real[:model] = True
    integer[model - both : model - both + trace] = True
    network = recorded(integer.reshape(1, 100, 100).astype(float), real.reshape(1, 100, 100))
    exported = export(network, name="n", provenance=LABELS, accept_differences=True)
    (row,) = exported.layers
    assert (row.lost, row.gained) == pytest.approx((lost, gained))
    assert row.differing == pytest.approx((model + trace - 2 * both) / 10_000)
    counts = ((model - both, model), (trace - both, trace), (model + trace - 2 * both, 10_000))
    assert row.difference == pytest.approx(max((n - n**0.5) / max(of, 1) for n, of in counts))


@pytest.mark.parametrize(
    ("lost", "refused", "warned"),
    [
        (0, False, False),
        (57, False, False),
        (58, False, True),
        (214, False, True),
        (215, True, True),
        (1000, True, True),
    ],
)
def test_one_guard_over_all_layers(lost, refused, warned):
    """1,000 of 50,000 outputs fire in the model, ``lost`` of them not in the trace: 2 % at most of all outputs.

    57 - sqrt(57) = 49.5, 58 - sqrt(58) = 50.4, 214 - sqrt(214) = 199.4, 215 - sqrt(215) = 200.3.
    """
    spikes = np.zeros(50_000, bool)
    spikes[:1000] = True
    currents = spikes.astype(float)
    currents[:lost] = 0
    arguments = (currents.reshape(1, 500, 100), spikes.reshape(1, 500, 100))
    if refused:
        with pytest.raises(UsageError) as caught:
            export(recorded(*arguments), name="n", provenance=LABELS)
        (problem,) = caught.value.problems
        assert problem.startswith(f"fc: the trace lacks {lost / 10:.2f} % of the model's spikes")
        assert problem.endswith("allowed: 20.00 %, or any with accept_differences")
    exported = export(recorded(*arguments), name="n", provenance=LABELS, accept_differences=refused)
    about = [warning for warning in exported.warnings if "lacks" in warning]
    assert len(about) == warned
    assert exported.trace.provenance["details"].get("warnings", []) == list(exported.warnings)
    if warned:
        assert str(exported).startswith(f"warning: {exported.warnings[0]}\n")


def test_a_few_spikes_are_no_rule():
    """5 of 18 spikes that chance may have turned are a warning, 10 of 10 are none."""
    spikes = np.zeros((1, 6, 10), bool)
    spikes[0, 0] = True
    none = np.zeros(spikes.shape)
    with pytest.raises(UsageError, match=r"fc: the trace lacks 100\.00 %"):
        export(recorded(none, spikes), name="n", provenance=LABELS)
    spikes[0, 1, :8] = True
    currents = spikes.astype(float)
    currents[0, 0, :5] = 0
    exported = export(recorded(currents, spikes), name="n", provenance=LABELS)
    assert exported.warnings[0].startswith("fc: the trace lacks 27.78 % of the model's spikes")


def test_layers_that_never_fire():
    spikes = (np.random.default_rng(0).random((3, 20, 6)) < 0.5).astype(float)

    def network(first, second):
        return chain(
            spikes, 3, Node("a", "linear", ("input",), (6,), np.eye(6)),
            Node("lif1", "neuron", ("a",), (6,), neuron=SpikingNeuron(1.0, first)),
            Node("b", "linear", ("lif1",), (6,), np.eye(6)),
            Node("lif2", "neuron", ("b",), (6,), neuron=SpikingNeuron(1.0, second)),
        )  # fmt: skip

    for thresholds, expected in (
        ((0.5, 0.5), ()),
        ((0.5, 9.0), ("b: never fires on these inputs, as in the model",)),
        ((9.0, 0.5), ("no layer ever fires on these inputs, as in the model",)),
    ):
        built = network(*thresholds)
        run(built)
        exported = export(built, name="n", provenance=LABELS)
        assert exported.warnings == expected
    built = network(0.5, 0.5)
    run(built)
    built.nodes["lif2"] = network(0.5, 9.0).nodes["lif2"]
    exported = export(built, name="n", provenance=LABELS, accept_differences=True)
    assert exported.warnings[0] == "b: never fires on these inputs, unlike in the model"


def test_pools_and_groups_stay():
    """A depthwise layer, an average pool in front of a layer, of a neuron and of the read-out: K is theirs."""
    generator = np.random.default_rng(0)
    network = chain(
        (generator.random((2, 3, 4, 14, 14)) < 0.5).astype(float), 2,
        Node("deep", "conv2d", ("input",), (4, 14, 14), generator.normal(size=(4, 1, 3, 3)), None, (3, 3), (1, 1),
             (1, 1), groups=4),
        Node("lif1", "neuron", ("deep",), (4, 14, 14), neuron=SpikingNeuron(0.5, 1.0)),
        Node("half", "sum_pool", ("lif1",), (4, 7, 7), np.array(0.25), None, (2, 2), (2, 2)),
        Node("wide", "conv2d", ("half",), (6, 7, 7), generator.normal(size=(6, 4, 1, 1))),
        Node("less", "sum_pool", ("wide",), (6, 6, 6), np.array(0.25), None, (2, 2), (1, 1)),
        Node("lif2", "neuron", ("less",), (6, 6, 6), neuron=SpikingNeuron(0.5, 0.3)),
        Node("again", "sum_pool", ("lif2",), (6, 3, 3), np.array(0.25), None, (2, 2), (2, 2)),
        Node("lif3", "neuron", ("again",), (6, 3, 3), neuron=SpikingNeuron(0.5, 0.3)),
        Node("mean", "sum_pool", ("lif3",), (6, 1, 1), np.array(1 / 9), None, (3, 3), (3, 3)),
        Node("fc", "linear", ("mean",), (5,), generator.normal(size=(5, 6))),
    )  # fmt: skip
    run(network)
    exported = export(network, name="n", provenance=LABELS)
    trace = exported.trace
    assert {name: trace.operation(name).k for name in ("deep", "wide", "less", "mean", "fc")} == {
        "deep": 9, "wide": 4, "less": 4, "mean": 9, "fc": 6,
    }  # fmt: skip
    assert trace.operation("deep").groups == 4
    assert trace.operation("less").output == "lif2"
    assert [row.alone < 0.02 for row in exported.layers if row.alone is not None] == [True] * 3
    # A neuron that reads averages of spikes is exact: 0.3 above 1/4 and below 2/4, with leaks of a half.
    assert next(row for row in exported.layers if row.layer == "again").alone == 0
    assert {check.mismatches for check in check_trace(trace)} == {0}


def test_neurons_that_share_weighted_sums():
    """Behind a concatenation thresholds are exact; of two neurons on one sum the second's has fraction bits."""
    generator = np.random.default_rng(0)
    spikes = (generator.random((3, 40, 4)) < 0.5).astype(float)
    weights = generator.normal(size=(2, 5, 4))
    network = chain(
        spikes, 3, Node("a", "linear", ("input",), (5,), weights[0]), Node("b", "linear", ("input",), (5,), weights[1]),
        Node("both", "concat", ("a", "b"), (10,)),
        Node("lif", "neuron", ("both",), (10,), neuron=SpikingNeuron(0.5, np.linspace(0.4, 1.3, 10))),
    )  # fmt: skip
    run(network)
    exported = export(network, name="n", provenance=LABELS)
    assert not any("rounded" in note for note in exported.notes)
    assert exported.layers[-1].differing < 0.01
    network.nodes["other"] = Node("other", "neuron", ("a",), (5,), neuron=SpikingNeuron(0.5, 0.77))
    run(network)
    exported = export(network, name="n", provenance=LABELS)
    assert exported.trace.operation("other").neuron.threshold_in_fractions
    assert {row.layer: row.alone for row in exported.layers}["other"] < 0.02


def test_a_shortcut_of_sums_keeps_its_weights():
    """A convolution of spikes and one of sums, whose unit is a hundredth, are added: both use the bits of weights."""
    generator = np.random.default_rng(1)

    def convolution(name, source, inputs, outputs):
        weight = generator.normal(0, 0.4, (outputs, inputs, 3, 3))
        bias = generator.normal(size=outputs)
        return Node(name, "conv2d", (source,), (outputs, 6, 6), weight, bias, (3, 3), (1, 1), (1, 1))

    network = chain(
        (generator.random((4, 6, 3, 6, 6)) < 0.4).astype(float), 4, convolution("stem", "input", 3, 5),
        Node("lif1", "neuron", ("stem",), (5, 6, 6), neuron=SpikingNeuron(0.5, 1.0)),
        convolution("branch", "lif1", 5, 4), convolution("shortcut", "stem", 5, 4),
        Node("sum", "add", ("branch", "shortcut"), (4, 6, 6)),
        Node("lif2", "neuron", ("sum",), (4, 6, 6), neuron=SpikingNeuron(0.5, 1.0)),
    )  # fmt: skip
    run(network)
    exported = export(network, name="n", provenance=LABELS)
    rows = {row.layer: row for row in exported.layers}
    assert max(rows[name].weight_error for name in ("stem", "branch", "shortcut")) < 0.01
    assert rows["sum"].alone < 0.01
    shortcut = exported.trace.operation("shortcut")
    assert shortcut.requantiser.bits == 16
    assert any(note.startswith("shortcut: a requantiser brings its products") for note in exported.notes)
    assert {check.mismatches for check in check_trace(exported.trace)} == {0}
    # What it writes is the real sum, in the unit of the sum behind: that of its threshold.
    real = network.recorded["shortcut"]
    unit = 1.0 / exported.trace.operation("sum").neuron.threshold
    written = exported.trace.tensor("shortcut") * unit.reshape(-1, 1, 1)
    assert np.abs(written - real).max() < unit.max() + 0.02 * np.abs(real).max()


def test_the_guard_on_the_command_line(tmp_path):
    """Weights of two bits are another layer: refused, or written with warnings on stderr."""
    nir = need("nir")
    generator = np.random.default_rng(0)
    cells = [nir.IF(np.full(size, 1e4), np.ones(size), np.zeros(size)) for size in (20, 5)]
    weights = [generator.normal(0, 0.2, shape) for shape in ((20, 12), (5, 20))]
    graph = nir.NIRGraph.from_list(nir.Linear(weights[0]), cells[0], nir.Linear(weights[1]), cells[1])
    nir.write(tmp_path / "net.nir", graph)
    np.save(tmp_path / "spikes.npy", generator.random((4, 100, 12)) < 0.3)
    command = ["trace", "import", str(tmp_path / "net.nir"), "--format", "nir", "--weight-bits", "2"]
    command += ["--inputs", str(tmp_path / "spikes.npy"), "-o", str(tmp_path / "net.npz")]
    refused = CliRunner().invoke(app, command)
    assert isinstance(refused.exception, UsageError)
    assert refused.exception.problems[0].startswith("linear: the trace lacks ")
    assert not (tmp_path / "net.npz").exists()
    accepted = CliRunner().invoke(app, [*command, "--accept-differences"])
    assert accepted.exit_code == 0
    assert accepted.stderr.startswith("warning: linear: the trace lacks ")
    assert load_trace(tmp_path / "net.npz").provenance["details"]["warnings"][0].startswith("linear: the trace lacks ")


def test_a_classifier_is_quantised_in_less_memory_than_its_weights_take():
    """Of 4,096 x 2,048 weights in double precision, 64 MiB; one more copy of them would be too many."""
    generator = np.random.default_rng(0)
    weight = generator.normal(size=(2048, 4096))
    network = chain(
        np.ones((1, 1, 4096)), 1, Node("classifier", "linear", ("input",), (2048,), weight),
        Node("neuron", "neuron", ("classifier",), (2048,), neuron=SpikingNeuron(1.0, 1.0)),
    )  # fmt: skip
    tracemalloc.start()
    exported = export(network, name="large", provenance=LABELS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < weight.nbytes, peak
    assert exported.trace.operations[0].weight.nbytes == weight.nbytes // 8
