"""NIR graphs, from memory, from a file, and on the command line."""

from __future__ import annotations

import io
from itertools import pairwise

import numpy as np
import pytest
from typer.testing import CliRunner

from archsim.cli import app
from archsim.errors import TraceError, UsageError
from archsim.export import from_nir
from archsim.export.nir_file import read_graph, read_inputs
from archsim.trace import check_trace, load_trace
from tests.export.frameworks import need, verified

nir = need("nir")
DT = 1e-4


def lif(shape, decay=0.75, threshold=1.0, gain=1.0, rest=0.0):
    """Of which Euler's method makes ``H = gain x + decay v``."""
    tau = DT / (1 - decay)
    return nir.LIF(
        tau=np.full(shape, tau), r=np.full(shape, gain * tau / DT), v_leak=np.full(shape, rest),
        v_threshold=np.full(shape, threshold + rest), v_reset=np.full(shape, rest),
    )  # fmt: skip


def graph(seed=0):
    """A residual network: a convolution, two neurons' spikes added up, an average pool, a linear layer, IF neurons."""
    generator = np.random.default_rng(seed)
    first = generator.normal(0, 0.8, (4, 2, 3, 3))
    second = generator.normal(0, 0.5, (4, 4, 3, 3))
    nodes = {
        "input": nir.Input(np.array([2, 8, 8])),
        "conv1": nir.Conv2d((8, 8), first, 1, 1, 1, 1, generator.normal(0, 0.3, 4)),
        "lif1": lif((4, 8, 8)),
        "conv2": nir.Conv2d((8, 8), second, 1, "same", 1, 1, np.zeros(4)),
        "lif2": lif((4, 8, 8), 0.5, gain=0.5, rest=-0.1),
        "mean": nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        "flat": nir.Flatten(np.array([4, 4, 4]), 0),
        "fc": nir.Affine(generator.normal(0, 0.5, (5, 64)), generator.normal(0, 0.3, 5)),
        "out": nir.IF(np.full(5, 1 / DT), np.full(5, 1.0), np.zeros(5)),
        "output": nir.Output(np.array([5])),
    }
    names = list(nodes)
    edges = [*pairwise(names), ("lif1", "lif2")]
    return nir.NIRGraph(nodes, edges, type_check=False)


def spikes(timesteps=4, images=12, seed=1):
    return np.random.default_rng(seed).random((timesteps, images, 2, 8, 8)) < 0.3


def test_a_graph(tmp_path):
    exported = from_nir(graph(), spikes())
    trace = verified(exported, tmp_path)
    assert [(operation.name, operation.op) for operation in trace] == [
        ("conv1", "conv2d"), ("conv2", "conv2d"), ("lif2.sum.1", "conv2d"), ("lif2.sum", "add"), ("fc", "linear"),
    ]  # fmt: skip
    neurons = {operation.name: operation.neuron for operation in trace if operation.neuron}
    assert (neurons["conv1"].kind, neurons["conv1"].leak_shift, neurons["conv1"].leak_subtracts) == ("lif", 2, True)
    assert (neurons["lif2.sum"].leak_shift, neurons["lif2.sum"].leak_subtracts) == (1, False)
    assert neurons["fc"].kind == "if"
    rows = {row.layer: row for row in exported.layers}
    assert rows["conv1"].differing < 0.01
    assert rows["lif2.sum"].differing < 0.01
    assert all(rows[name].density > 0.02 for name in ("conv1", "lif2.sum", "fc"))
    assert exported.class_agreement >= 0.9


def test_neurons_exactly():
    """Weights of multiples of 1/64 up to 127/64: integers are the real numbers times 64, ties included."""
    generator = np.random.default_rng(0)
    weight = generator.integers(-8, 9, (20, 12)) * 4 / 64
    weight[:, 0] = 127 / 64
    inputs = generator.random((4, 200, 12)) < 0.25
    for decay in (1.0, 0.5, 0.75, 0.25):
        cell = nir.IF(np.full(20, 1 / DT), np.ones(20)) if decay == 1 else lif((20,), decay)
        exported = from_nir(nir.NIRGraph.from_list(nir.Linear(weight), cell), inputs)
        (row,) = exported.layers
        (operation,) = exported.trace.operations
        assert row.differing == 0
        assert operation.neuron.threshold.tolist() == [64] * 20
        met = inputs[0].astype(int) @ operation.weight.T.astype(int) == 64
        assert met.any()
        assert not exported.trace.tensor(operation.output)[0][met].any()


def test_from_a_file_on_the_command_line(tmp_path):
    nir.write(tmp_path / "net.nir", graph())
    np.save(tmp_path / "spikes.npy", spikes())
    np.savez_compressed(tmp_path / "spikes.npz", anything=spikes().astype(np.uint8))
    wanted = from_nir(tmp_path / "net.nir", spikes())
    assert wanted.trace.network == "net"
    for inputs in ("spikes.npy", "spikes.npz"):
        command = ["trace", "import", str(tmp_path / "net.nir"), "--format", "nir", "--inputs", str(tmp_path / inputs)]
        result = CliRunner().invoke(app, [*command, "-o", str(tmp_path / "net.npz")])
        assert result.exit_code == 0, result.output
        trace = load_trace(tmp_path / "net.npz")
        assert trace.sha256 == wanted.trace.sha256
        assert {check.mismatches for check in check_trace(trace)} == {0}
        assert "same class as the float model" in result.stderr
        assert result.stdout == f"{tmp_path / 'net.npz'}\n"


def test_command_lines_that_make_no_sense(tmp_path):
    nir.write(tmp_path / "net.nir", graph())
    command = ["trace", "import", str(tmp_path / "net.nir"), "-o", str(tmp_path / "net.npz"), "--format"]
    for more, reason in (
        (["nir"], "a NIR graph needs --inputs"),
        (["nir", "--inputs", str(tmp_path / "net.nir")], "not an array file"),
        (["nir", "--inputs", str(tmp_path / "none.npy")], "none.npy: no such file"),
        (["spikes", "--timesteps", "3"], "go with --format nir"),
    ):
        result = CliRunner().invoke(app, [*command, *more])
        assert isinstance(result.exception, UsageError)
        assert reason in str(result.exception)
    assert not (tmp_path / "net.npz").exists()


def test_inputs_without_time_need_one():
    pictures = np.random.default_rng(0).random((3, 2, 8, 8))
    with pytest.raises(UsageError, match=r"T: inputs .* have no time"):
        from_nir(graph(), pictures)
    trace = from_nir(graph(), pictures, 4).trace
    assert (trace.timesteps, trace.images, trace.kind("input")) == (4, 3, "int")


def sequence(*nodes):
    return nir.NIRGraph.from_list(nir.Linear(np.ones((4, 6))), *nodes, type_check=False)


@pytest.mark.parametrize(
    ("built", "reason"),
    [
        (lambda: sequence(nir.Threshold(np.ones(4))), r"threshold \(Threshold\): a trace does not have"),
        (lambda: sequence(nir.CubaLIF(*[np.ones(4)] * 5)), r"cubalif \(CubaLIF\): a trace does not have"),
        (lambda: sequence(lif((4,), 0.9)), "lif: a decay of 0.9 a timestep is no shift.*nearest 0.875"),
        (lambda: sequence(nir.LIF(np.full(4, DT / 2), *[np.ones(4)] * 3, np.ones(4))), r"lif \(LIF\): tau 5e-05 s"),
        (lambda: sequence(nir.LIF(*[np.ones(4)] * 4)), "v_reset differs from v_leak"),
        (lambda: sequence(nir.IF(-np.ones(4), np.ones(4))), "a resistance that gives the gain"),
        (lambda: sequence(nir.SumPool2d(*[np.array([2, 2])] * 3)), r"sumpool2d \(SumPool2d\): reads \[C, H, W\]"),
        (lambda: sequence(nir.Linear(np.ones((3, 5)))), r"linear_1 \(Linear\): weights \[3, 5\] on an input \[4\]"),
        (
            lambda: nir.NIRGraph(
                {"input": nir.Input(np.array([6])), "a": nir.Linear(np.ones((6, 6))), "b": lif((6,))},
                [("input", "a"), ("a", "b"), ("b", "a")], type_check=False,
            ),
            "a, b: feed each other",
        ),
    ],
)  # fmt: skip
def test_graphs_that_a_trace_cannot_hold(built, reason):
    with pytest.raises(UsageError, match=reason):
        from_nir(built(), np.ones((2, 3, 6)))


def test_all_problems_at_once():
    bad = sequence(lif((4,), 0.9), nir.Linear(np.ones((4, 4))), nir.Threshold(np.ones(4)))
    bad.nodes["linear_1"] = nir.Linear(np.ones((4, 7)))
    with pytest.raises(UsageError) as caught:
        from_nir(bad, np.ones((2, 3, 6)))
    assert [problem.split(" ")[0] for problem in caught.value.problems] == [
        "linear_1", "threshold", "lif:",
    ]  # fmt: skip


class Planted:
    def __reduce__(self):
        return (print, ("loaded",))


def test_damaged_files(tmp_path):
    path = tmp_path / "net.nir"
    nir.write(path, graph())
    whole = path.read_bytes()
    for part in (b"", whole[:100], whole[: len(whole) // 2], b"no HDF5" * 100):
        path.write_bytes(part)
        with pytest.raises(TraceError, match=r"net\.nir: not a NIR graph"):
            read_graph(path)
    with pytest.raises(UsageError, match="no such file"):
        read_graph(tmp_path / "none.nir")
    pickled = io.BytesIO()
    np.save(pickled, np.array([Planted()], object), allow_pickle=True)
    for content in (pickled.getvalue(), b"", b"PK\x03\x04 no zip", whole):
        (tmp_path / "inputs.npy").write_bytes(content)
        with pytest.raises(UsageError, match="not an array file"):
            read_inputs(tmp_path / "inputs.npy")
    np.savez(tmp_path / "two.npz", a=np.ones(2), b=np.ones(2))
    with pytest.raises(UsageError, match="got the arrays a, b; allowed: one array"):
        read_inputs(tmp_path / "two.npz")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("framework", ["spikingjelly", "snntorch"])
def test_graphs_that_other_tools_wrote(framework, tmp_path):
    """A model by way of NIR has the integer weights and neurons that it has directly, and all but the same spikes.

    SpikingJelly's neurons fire at their threshold, NIR's above it.
    """
    torch = need("torch")
    need("nirtorch")
    from archsim.export import from_torch

    torch.manual_seed(0)
    values = torch.as_tensor(np.random.default_rng(0).random((4, 40, 12)) < 0.3).float()
    if framework == "spikingjelly":
        neuron = need("spikingjelly.activation_based.neuron")
        layer = need("spikingjelly.activation_based.layer")
        write = need("spikingjelly.activation_based.nir_exchange.to_nir").export_to_nir
        model = torch.nn.Sequential(layer.Linear(12, 20), neuron.LIFNode(tau=2.0), layer.Linear(20, 5), neuron.IFNode())
        sample = values[0]
    else:
        snn = need("snntorch")
        write = need("snntorch.export_nir").export_to_nir
        # Its export wants parameters for each neuron.
        cells = [
            snn.Leaky(torch.full((n,), beta), torch.ones(n), init_hidden=True, reset_mechanism="zero")
            for n, beta in ((20, 0.5), (5, 0.75))
        ]
        model = torch.nn.Sequential(torch.nn.Linear(12, 20), cells[0], torch.nn.Linear(20, 5), cells[1])
        sample = values[0, 0]
    for parameter in model.parameters():
        parameter.data *= 4
    direct = from_torch(model, values, 4)
    nir.write(tmp_path / "net.nir", write(model, sample))
    around = from_nir(tmp_path / "net.nir", values.numpy())
    for one, other in zip(direct.trace, around.trace, strict=True):
        assert np.array_equal(one.weight, other.weight)
        assert np.array_equal(one.bias, other.bias)
        assert np.abs(one.neuron.threshold - other.neuron.threshold).max() <= 1
        assert (one.neuron.kind, one.neuron.leak_shift, one.neuron.reset) == (
            other.neuron.kind, other.neuron.leak_shift, other.neuron.reset,
        )  # fmt: skip
        assert one.neuron.fires_at_threshold == (framework == "spikingjelly")
        spikes = direct.trace.tensor(one.output)
        assert spikes.any()
        assert (spikes != around.trace.tensor(other.output)).mean() < 0.02
