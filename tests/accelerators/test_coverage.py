"""What of a network is simulated and what is left out, against loops over the trace; that every run says so."""

import math

import numpy as np
import pytest

from archsim.dataflow.coverage import coverage
from archsim.dataflow.pipeline import holes
from archsim.errors import UsageError
from archsim.report.verdict import verdict
from archsim.simulate import load_accelerator, run
from archsim.trace import Neuron, Operation, Trace, save_trace
from tests.machines import LABELS
from tests.small_traces import attention, build, lif, tiny

LAYERWISE = ("loas", "systolic", "sata", "prosperity")
CHIP = "spikesim_lossless"
SPIKES_ONLY = "scheduler.encoder=skipped"
"""As in version 0.1 and in papers: only layers that read spikes run."""
IF = Neuron("if", np.full(4, 30))


def convolution(draw, name, source, neuron=IF, channels=4):
    weight = draw.integers(-20, 21, (4, channels, 3, 3)) * (draw.random((4, channels, 3, 3)) < 0.6)
    return Operation(
        name, "conv2d", (source,), name, padding=(1, 1), weight=weight.astype(np.int8), neuron=neuron
    )  # fmt: skip


def spiking(name):
    """A small network of 4 channels of 6 x 6, T = 3, two images; what it reads is called x."""
    draw = np.random.default_rng(7)
    spikes = draw.random((3, 2, 4, 6, 6)) < 0.3
    counts = draw.integers(0, 4, spikes.shape) * spikes
    weight = draw.integers(-20, 21, (3, 4 * 9)).astype(np.int8)
    tensors, kinds = {"x": spikes}, {}

    def conv(name, source, neuron=IF):
        return convolution(draw, name, source, neuron)

    match name:
        case "residual":
            operations = [
                conv("a", "x"), conv("b", "a"), Operation("s", "add", ("b", "x"), "s"), conv("c", "s"), conv("d", "c"),
            ]  # fmt: skip
        case "two convolutions":
            operations = [conv("a", "x", None), conv("b", "a"), conv("c", "b")]
        case "event counts":
            tensors = {"x": counts.astype(np.int16)}
            operations = [conv("a", "x"), conv("b", "a")]
        case "signed events":
            tensors, kinds = {"x": (draw.integers(-1, 2, spikes.shape) * spikes).astype(np.int8)}, {"x": "signed_spike"}
            operations = [conv("a", "x"), conv("b", "a")]
        case "attention":
            scores = Operation("scores", "matmul", ("q", "k"), "scores", transpose=True)
            mix = Operation("mix", "matmul", ("scores", "v"), "mix", neuron=IF)
            operations = [conv("q", "x"), conv("k", "x"), conv("v", "x"), scores, mix, conv("p", "mix")]
        case "neuron behind a sum":
            operations = [
                conv("a", "x"), conv("b", "a", None), conv("shortcut", "x", None),
                Operation("s", "add", ("b", "shortcut"), "s", neuron=IF), conv("c", "s"),
            ]  # fmt: skip
        case "neuron, then pool":
            pool = Operation("p", "pool", ("a",), "p", kernel=(2, 2), stride=(2, 2))
            operations = [conv("a", "x"), pool, Operation("fc", "linear", ("p",), "fc", weight=weight)]
        case "pool, then neuron":
            pool = Operation("p", "pool", ("a",), "p", kernel=(2, 2), stride=(2, 2))
            neurons = Operation("n", "add", ("p",), "n", neuron=IF)
            operations = [conv("a", "x", None), pool, neurons, Operation("fc", "linear", ("n",), "fc", weight=weight)]
        case "pools and concatenations":
            operations = [
                Operation("early", "pool", ("x",), "early", kernel=(3, 3), padding=(1, 1)),
                conv("a", "early"), conv("b", "x"),
                Operation("both", "concat", ("a", "b"), "both"),
                Operation("late", "pool", ("both",), "late", kernel=(2, 2), stride=(2, 2)),
                Operation("fc", "linear", ("late",), "fc", weight=draw.integers(-9, 9, (3, 72)).astype(np.int8)),
            ]  # fmt: skip
    return build(operations, tensors, 3, kinds)


NOTHING = {}
LEFT_OUT = {
    "residual": {"s": "is a sum without neurons", "c": "reads sums of spikes 0 to 2"},
    "two convolutions": {"b": "reads full sums of a (integers {a})"},
    "event counts": {"a": "reads event counts 0 to 3"},
    "signed events": {"a": "reads signed events"},
    "attention": {"scores": "is a product of two activations", "mix": "is a product of two activations"},
    "neuron behind a sum": {"s": "has neurons behind a sum"},
    "neuron, then pool": NOTHING,
    "pool, then neuron": {"p": "pools full sums of a (integers {a})", "n": "has neurons behind a pool"},
    "pools and concatenations": {"early": "pools spikes, which are made elsewhere"},
}
"""What a machine for layers that read spikes leaves out, with the reason."""
ON_A_CHIP = LEFT_OUT | {"neuron behind a sum": NOTHING, "pool, then neuron": {"n": "has neurons behind a pool"}}
"""Neurons of a sum stand behind the last layer that is added; what is pooled is sent on pooled."""
HOLES = {"residual": "sc", "two convolutions": "b", "attention": ("scores", "mix"), "pool, then neuron": "n"}


def by_loops(trace, operation):
    """Products of two values that are not zero, one timestep, image and position after the other."""
    if operation.op not in ("conv2d", "linear", "matmul"):
        return 0
    first, *rest = (trace.operand(name).astype(np.int64) for name in operation.inputs)
    total = 0
    for t in range(trace.timesteps):
        for image in range(trace.images):
            one = first[t, image] if first.ndim in (3, 5) else first[image]
            if operation.op == "linear":
                total += sum(int((one.ravel() * row != 0).sum()) for row in operation.weight.astype(np.int64))
            elif operation.op == "matmul":
                left, right = one.reshape(len(one), -1).T, rest[0][t, image].reshape(len(rest[0][t, image]), -1).T
                total += int((left[:, :, None] * (right.T if operation.transpose else right)[None] != 0).sum())
            else:
                padded = np.pad(one, ((0, 0), *((side, side) for side in operation.padding)))
                (high, wide), (down, right) = operation.kernel, operation.stride
                for y in range(operation.output_shape[1]):
                    for x in range(operation.output_shape[2]):
                        window = padded[:, y * down : y * down + high, x * right : x * right + wide]
                        total += int((window * operation.weight.astype(np.int64) != 0).sum())
    return total


def ranges(trace):
    """How far the sums of layers range, for reasons."""
    values = {o.name: trace.tensor(o.output) for o in trace if o.op == "conv2d" and o.neuron is None}
    return {name: f"{value.min()} to {value.max()}" for name, value in values.items()}


@pytest.mark.parametrize("machine", [*LAYERWISE, CHIP])
@pytest.mark.parametrize("network", LEFT_OUT)
def test_all_that_is_left_out_is_named_with_its_share(network, machine):
    trace, accelerator = spiking(network), load_accelerator(machine, (SPIKES_ONLY,))
    work = {operation.name: by_loops(trace, operation) for operation in trace}
    expected = (ON_A_CHIP if machine == CHIP else LEFT_OUT)[network]
    layers = accelerator.layers(trace)
    found = coverage(accelerator, trace, layers, None)
    assert {one.layer: one.reason for one in found.left_out} == {
        name: reason.format(**ranges(trace)) for name, reason in expected.items()
    }
    assert [one.layer for one in found.left_out] == [o.name for o in trace if o.name in expected]
    assert [one.share for one in found.left_out] == [
        work[o.name] / sum(work.values()) for o in trace if o.name in expected
    ]
    assert found.synaptic_operations == sum(work[operation.name] for operation in layers)
    assert found.share == found.synaptic_operations / sum(work.values())
    assert (found.share == 1.0) is (not any(work[name] for name in expected))
    multiplying = [o for o in trace if o.op in ("conv2d", "linear", "matmul")]
    assert (found.layers, found.network_layers) == (len(layers), len(multiplying))
    assert not any(one.asked for one in found.left_out)


@pytest.mark.parametrize("network", LEFT_OUT)
def test_a_chip_has_no_hole_in_its_pipeline(network, tmp_path):
    """Refused, with every layer that is missing between others and why; a part may be chosen all the same."""
    trace, path = spiking(network), tmp_path / "trace.npz"
    save_trace(trace, path)
    chip = load_accelerator(CHIP, (SPIKES_ONLY,))
    assert [hole.name for hole in holes(trace, chip.layers(trace))] == list(HOLES.get(network, ()))
    if network not in HOLES:
        assert run(CHIP, path, overrides=(SPIKES_ONLY,)).summary()["mismatches"] == 0
        return
    with pytest.raises(UsageError) as refused:
        run(CHIP, path, overrides=(SPIKES_ONLY,))
    assert len(refused.value.problems) == len(HOLES[network]) + 1
    for name, problem in zip(HOLES[network], refused.value.problems, strict=False):
        assert f"{name} {ON_A_CHIP[network][name].format(**ranges(trace))}" in problem
    assert "builds no pipeline with a hole" in refused.value.problems[-1]
    names = [operation.name for operation in chip.layers(trace)]
    report = run(CHIP, path, overrides=(SPIKES_ONLY,), layers=names)
    assert [layer.layer for layer in report.layers] == names
    assert [one["layer"] for one in report.left_out] == list(ON_A_CHIP[network])
    assert not any("left out" in warning for warning in report.warnings)


@pytest.mark.parametrize("seed", range(40))
def test_holes_of_random_networks(seed):
    """A hole lies on a path from one layer of the pipeline to another, by trying all paths."""
    draw = np.random.default_rng(seed)
    tensors = {"x": draw.random((2, 1, 4, 3, 3)) < 0.5, "e": draw.integers(0, 3, (2, 1, 4, 3, 3))}
    operations = [convolution(draw, "a", "x"), Operation("b", "add", ("a", "e"), "b", neuron=IF)]
    names = [*tensors, "a", "b"]
    for number in range(10):
        name, (one, other) = f"o{number}", draw.choice(names, 2)
        neuron = IF if draw.random() < 0.6 else None
        if draw.random() < 0.4:
            operations.append(Operation(name, "add", (one, other)[: draw.integers(1, 3)], name, neuron=neuron))
        else:
            operations.append(convolution(draw, name, one, neuron))
        names.append(name)
    trace = build(operations, tensors, 2)
    chip = load_accelerator(CHIP, (SPIKES_ONLY,))
    layers = {layer.name for layer in chip.layers(trace)}
    inside = layers | chip.fused(trace, chip.layers(trace))
    writers = {operation.output: operation for operation in trace}

    def follows(operation):
        """Whether a layer's output reaches ``operation``."""
        sources = [writers[name] for name in operation.inputs if name in writers]
        return any(source.name in layers or follows(source) for source in sources)

    def feeds(operation):
        """Whether the output of ``operation`` reaches the pipeline."""
        readers = [reader for reader in trace if operation.output in reader.inputs]
        return any(reader.name in inside or feeds(reader) for reader in readers)

    expected = [o.name for o in trace if o.name not in inside and follows(o) and feeds(o)]
    assert [hole.name for hole in holes(trace, chip.layers(trace))] == expected


def run_spikes(machine, path, **settings):
    return run(machine, path, scheduler__encoder="skipped", **settings)


def test_a_run_says_what_it_leaves_out(tmp_path):
    """In its summary, in one warning and in its verdict."""
    trace = spiking("residual")
    save_trace(trace, tmp_path / "trace.npz")
    report = run_spikes("loas", tmp_path / "trace.npz")
    work = {operation.name: by_loops(trace, operation) for operation in trace}
    share = work["c"] / sum(work.values())
    summary = report.summary()
    assert summary["coverage"] == report.coverage == pytest.approx(1 - share)
    assert summary["left_out"] == report.left_out == [
        {"layer": "s", "reason": "is a sum without neurons", "share": 0.0},
        {"layer": "c", "reason": "reads sums of spikes 0 to 2", "share": share},
    ]  # fmt: skip
    assert summary["synaptic_operations"] == sum(work.values()) - work["c"]
    assert summary["pj_per_synaptic_operation"] == summary["energy_pj"] / summary["synaptic_operations"]
    assert summary["synaptic_operations"] == sum(layer.synaptic_operations for layer in report.layers)
    assert summary["images_per_s"] == 2 / summary["latency_s"]
    assert [warning for warning in report.warnings if "left out" in warning] == [
        f"left out: 1 of 4 layers, {100 * share:.3g} % of the operations, and 1 operation without weights: "
        f"c ({100 * share:.3g} %) reads sums of spikes 0 to 2; s is a sum without neurons: see left_out in the summary"
    ]
    told = f"3 of 4 layers simulated, {100 * (1 - share):.3g} % of the operations; those verified bit for bit"
    assert verdict(report) == ("good", told)
    assert told in repr(report)


def test_what_was_asked_for_is_no_warning(tmp_path):
    """Layers that were not chosen, and the read-out; but a chosen one that cannot run is."""
    save_trace(spiking("residual"), tmp_path / "residual.npz")
    report = run_spikes("loas", tmp_path / "residual.npz", layers=["b", "d"])
    assert [one["layer"] for one in report.left_out] == ["a", "s", "c"]
    assert report.left_out[0]["reason"] == "is not among the chosen layers; its output comes from DRAM"
    assert not any("left out" in warning for warning in report.warnings)
    assert verdict(report).text.startswith("2 of 4 layers simulated")
    named = run_spikes("loas", tmp_path / "residual.npz", layers=["b", "c"])
    share = f"{100 * report.left_out[2]['share']:.3g} %"
    assert [warning for warning in named.warnings if "left out" in warning] == [
        f"left out: 1 of 4 layers, {share} of the operations: c ({share}) reads sums of spikes 0 to 2: see left_out in "
        "the summary"
    ]

    save_trace(spiking("neuron, then pool"), tmp_path / "pool.npz")
    report = run_spikes("loas", tmp_path / "pool.npz", scheduler__read_out="skipped")
    assert [(one["layer"], one["reason"]) for one in report.left_out] == [
        ("fc", "is the read-out, which scheduler.read_out skips")
    ]
    assert not any("left out" in warning for warning in report.warnings)
    whole = run_spikes("loas", tmp_path / "pool.npz")
    assert verdict(whole).text == "all 2 layers simulated and verified bit for bit"
    assert whole.coverage == 1.0
    assert whole.left_out == []
    assert not any("left out" in warning for warning in whole.warnings)
    with pytest.raises(UsageError, match="p happens on the way of other layers and is none itself"):
        run_spikes("loas", tmp_path / "pool.npz", layers=["p"])


def test_the_encoder_is_warned_of(tmp_path):
    """Pixels, in the words of a user; its work counts at every timestep."""
    trace = tiny()
    save_trace(trace, tmp_path / "tiny.npz")
    report = run_spikes("loas", tmp_path / "tiny.npz")
    pixels = trace.tensor("pixels")
    assert report.left_out[0]["reason"] == f"reads pixels {pixels.min()} to {pixels.max()} (direct encoder)"
    work = [by_loops(trace, operation) for operation in trace]
    assert report.coverage == pytest.approx(sum(work[1:]) / sum(work))
    assert report.warnings[0].startswith("left out: 1 of 3 layers, ")


def test_machines_for_integers_name_the_range():
    trace, machine = attention(), load_accelerator("sparten", (SPIKES_ONLY,))
    found = coverage(machine, trace, machine.layers(trace), None)
    reasons = {one.layer: one.reason for one in found.left_out}
    values = trace.tensor("norm.out")
    assert reasons["query"] == f"reads the output of norm (integers {values.min()} to {values.max()})"
    assert reasons["shares"] == "is a softmax"
    assert reasons["norm"] == "is a layer norm"
    assert math.fsum([found.share, *(one.share for one in found.left_out)]) == pytest.approx(1)
    imc = load_accelerator("imc_ideal")
    assert coverage(imc, trace, imc.layers(trace), None).left_out == ()


def test_a_network_without_synaptic_operations():
    """All weights are zero: every layer counts as one, so that one of two is a half."""
    zero = np.zeros((4, 4, 3, 3), np.int8)
    encoder = Operation("encoder", "conv2d", ("x",), "a", padding=(1, 1), weight=zero, neuron=IF)
    second = Operation("second", "conv2d", ("a",), "b", padding=(1, 1), weight=zero, neuron=lif(4))
    trace = build([encoder, second], {"x": np.ones((1, 4, 5, 5), np.uint8)}, 4, provenance=LABELS)
    machine = load_accelerator("loas", (SPIKES_ONLY,))
    found = coverage(machine, trace, machine.layers(trace), None)
    assert (found.share, found.synaptic_operations, [one.share for one in found.left_out]) == (0.5, 0, [0.5])


def test_a_run_says_which_layers_are_larger_than_in_the_model(tmp_path):
    """In one line with sizes and factor; layers that do not run are not spoken of."""
    draw = np.random.default_rng(1)
    spikes = {"x": draw.random((2, 1, 30, 7, 7)) < 0.5}

    def classifier(weight):
        weight = weight.reshape(40, -1).astype(np.int8)
        return build([Operation("fc", "linear", ("x",), "fc", weight=weight)], spikes, 2)

    trace = classifier(draw.integers(-100, 100, (40, 30, 1, 1)).repeat(7, 2).repeat(7, 3))
    save_trace(trace, tmp_path / "pooled.npz")
    report = run("loas", tmp_path / "pooled.npz")
    assert [warning for warning in report.warnings if "overstated" in warning] == [
        "fc: 1,470 x 40 here, 49 times as large as in the model (a global average pool was spread into its weights, "
        "which are equal at all 7 x 7 positions of a channel); its cycles and traffic are overstated"
    ]
    plain = classifier(draw.integers(-100, 100, (40, 30, 7, 7)))
    save_trace(plain, tmp_path / "plain.npz")
    assert not any("overstated" in warning for warning in run("loas", tmp_path / "plain.npz").warnings)


@pytest.mark.parametrize("machine", ["loas", "spikesim_lossless"])
@pytest.mark.parametrize("wrong", ["cut", "late", "pooled"])
def test_what_no_layer_computes_is_compared_too(tmp_path, machine, wrong):
    """Nobody reads these tensors, so that every layer is as the trace says."""
    draw = np.random.default_rng(0)
    operations = [
        convolution(draw, "a", "x", IF),
        Operation("cut", "slice", ("a",), "cut", axis=0, start=1, stop=3),
        Operation("late", "delay", ("a",), "late", steps=1),
        Operation("pooled", "pool", ("a",), "pooled", kernel=(2, 2), stride=(2, 2)),
    ]
    trace = build(operations, {"x": draw.random((3, 2, 4, 6, 6)) < 0.3}, 3, {})
    tensors = {name: trace.tensor(name).copy() for name in ("x", "a", "cut", "late", "pooled")}
    for flips in (0, 1):
        tensors[wrong].flat[7] ^= bool(flips)
        changed = Trace(
            network="moves", timesteps=3, operations=operations, tensors=tensors, provenance=trace.provenance
        )
        save_trace(changed, tmp_path / "moves.npz")
        report = run(machine, tmp_path / "moves.npz")
        summary = report.summary()
        assert (summary["verified"], summary["mismatches"], report.moved[wrong]) == (not flips, flips, flips)
        assert verdict(report).state == ("bad" if flips else "good")
    assert run(machine, tmp_path / "moves.npz", verify=False).summary()["verified"] is None
