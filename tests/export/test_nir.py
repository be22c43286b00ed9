"""NIR graphs, from memory, from a file, and on the command line."""

from __future__ import annotations

import io
from itertools import pairwise

import numpy as np
import pytest
from typer.testing import CliRunner

from archsim.cli import app
from archsim.errors import ArchsimError, TraceError, UsageError
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
        ("conv1", "conv2d"), ("conv2", "conv2d"), ("lif2.sum.1", "conv2d"), ("lif2.sum", "add"),
        ("mean", "pool"), ("fc", "linear"),
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
        (["spikes", "--timesteps", "3"], "only --format nir has a use for --timesteps; got --format spikes"),
        (["spikes", "--dt", "1", "--late-current"], "only --format nir has a use for --dt, --late-current; got"),
        (["nir", "--weight-sparsity", "2", "--seed", "0"], "only --format spikes has a use for --weight-sparsity, --s"),
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
        (lambda: sequence(nir.Threshold(-np.ones(4))), r"threshold \(Threshold\): threshold: got -1; allowed: above"),
        (
            lambda: sequence(nir.CubaLIF(*[np.ones(4)] * 5)),
            r"cubalif \(CubaLIF\): v_threshold: got 1 where potentials rest at 1; allowed: above that",
        ),
        (
            lambda: sequence(nir.CubaLI(*[np.ones(4)] * 4)),
            r"cubali \(CubaLI\): v_leak: got 1; allowed: 0 for a read-out with a current",
        ),
        (lambda: sequence(nir.LIF(np.full(4, DT / 2), *[np.ones(4)] * 3, np.ones(4))), r"lif \(LIF\): tau 5e-05 s"),
        (lambda: sequence(nir.IF(-np.ones(4), np.ones(4))), "a resistance of -1; allowed: above zero"),
        (lambda: sequence(nir.SumPool2d(*[np.array([2, 2])] * 3)), r"sumpool2d \(SumPool2d\): reads \[C, H, W\]"),
        (lambda: sequence(nir.Linear(np.ones((3, 5)))), r"linear_1 \(Linear\): weights \[3, 5\] on an input \[4\]"),
    ],
)  # fmt: skip
def test_graphs_that_a_trace_cannot_hold(built, reason):
    with pytest.raises(UsageError, match=reason):
        from_nir(built(), np.ones((2, 3, 6)))


def test_all_problems_at_once():
    bad = sequence(lif((4,), 0.9, threshold=-1), nir.Threshold(np.zeros(4)), nir.Linear(np.ones((4, 4))))
    bad.nodes["linear_1"] = nir.Linear(np.ones((4, 7)))
    with pytest.raises(UsageError) as caught:
        from_nir(bad, np.ones((2, 3, 6)))
    assert [problem.split(" ")[0] for problem in caught.value.problems] == [
        "lif", "threshold", "linear_1",
    ]  # fmt: skip


def one_layer(cell, count=4, seed=0):
    weight = np.random.default_rng(seed).normal(0, 1, (count, 6))
    return nir.NIRGraph.from_list(nir.Linear(weight), cell, type_check=False)


def random_spikes(*shape, seed=0):
    return np.random.default_rng(seed).random(shape) < 0.5


# ------------------------------------------------------------------------------------------------ timesteps


@pytest.mark.parametrize(
    ("cell", "dt", "other"),
    [
        (lambda: nir.IF(np.ones(4), np.ones(4)), DT, "1"),  # sinabs
        (lambda: nir.IF(np.full(4, 1e3), np.full(4, 1e3)), DT, "1"),
        (lambda: nir.LIF(np.full(4, 2e-3), np.full(4, 2.0), *[np.zeros(4)] * 1, np.ones(4)), DT, "0.001"),
    ],
)
def test_neurons_that_fire_at_another_timestep_only(cell, dt, other):
    """The first, by hand: an input of 1 adds 1e-4 to a potential with a threshold of 1, for 4 timesteps."""
    given = one_layer(cell())
    exported = from_nir(given, random_spikes(4, 9, 6), dt=dt, approximate_leak=True)
    assert exported.layers[-1].density == 0
    (note,) = [note for note in exported.notes if "never fires" in note]
    assert f"with timesteps of dt = {dt:g} s; with dt = {other} s it does" in note
    assert f"--dt {other})" in note
    better = from_nir(given, random_spikes(4, 9, 6), dt=float(other), approximate_leak=True)
    assert better.layers[-1].density > 0.1
    assert not any("never fires" in note for note in better.notes)


def test_neurons_that_never_fire_at_any_timestep():
    """Whose remedy is not a timestep: nothing is said of one."""
    silent = one_layer(lif((4,), 0.5, threshold=1e9))
    assert not any("dt" in note for note in from_nir(silent, random_spikes(4, 9, 6)).notes)


def test_neurons_with_another_gain_are_told():
    """r = 1 / 1e-3 at dt = 1e-4: everything counts a tenth, and nothing else is strange."""
    exported = from_nir(one_layer(nir.IF(np.full(4, 1e3), np.full(4, 0.01))), random_spikes(4, 9, 6))
    assert exported.layers[-1].density > 0
    (note,) = [note for note in exported.notes if "dt" in note]
    assert note.startswith(
        "if (IF): with timesteps of dt = 0.0001 s an input of 1 adds 0.1 to the potential, with dt = "
    )
    assert "0.001 s 1 (from_nir: dt=0.001;" in note


def test_refusals_name_the_timestep_and_not_another_remedy():
    """A time constant that is shorter; a threshold that is only too small because of dt."""
    with pytest.raises(
        UsageError, match=r"tau 0.0002 s with timesteps of dt = 1 s.*; with dt = 0.0001 s the decay is 0.5"
    ):
        from_nir(one_layer(lif((4,), 0.5)), random_spikes(4, 9, 6), dt=1.0)
    with pytest.raises(UsageError) as caught:
        from_nir(one_layer(nir.IF(np.full(4, 1 / DT), np.ones(4))), random_spikes(4, 9, 6), dt=1.0)
    assert "an input of 1 adds 10000 to the potential, with dt = 0.0001 s 1" in caught.value.problems[-1]


def test_decays_that_are_next_to_none_are_told():
    """A decay of 0.99995, which no model wants, is a half at the timestep of sinabs; 0.9 is 0.9."""
    given = one_layer(nir.LIF(np.full(4, 2.0), np.ones(4), np.zeros(4), np.full(4, 1e-5)))
    (note,) = [note for note in from_nir(given, random_spikes(4, 9, 6)).notes if "decay" in note and "dt" in note]
    assert "a decay of 0.99995; with dt = 1 s it is 0.5 (from_nir: dt=1.0;" in note
    assert not [note for note in from_nir(one_layer(lif((4,), 0.9)), random_spikes(4, 9, 6)).notes if "dt =" in note]


def test_a_timestep_that_the_graph_states():
    given = one_layer(nir.LIF(np.full(4, 0.02), np.ones(4), np.zeros(4), np.full(4, 0.1)))
    given.metadata = {"dt": np.array([0.01])}
    notes = from_nir(given, random_spikes(4, 9, 6)).notes
    assert any("with dt = 0.01 s it does (from_nir: dt=0.01;" in note for note in notes)
    assert not any("states" in note for note in from_nir(given, random_spikes(4, 9, 6), dt=0.01).notes)
    assert "the graph states dt = 0.01 s" in from_nir(given, random_spikes(4, 9, 6)).notes[0]


@pytest.mark.parametrize("dt", [0, -1.0, np.nan, np.inf, "1", None])
def test_timesteps_that_are_none(dt):
    with pytest.raises(UsageError, match=r"^dt: got"):
        from_nir(one_layer(lif((4,))), random_spikes(4, 9, 6), dt=dt)


# ------------------------------------------------------------------------------------------------ resets


def test_resets_of_snntorch():
    """What its export makes of beta and threshold tells where the graph comes from; others are told in general."""
    for cell, said in ((lif((4,), 0.5), "this graph looks like snnTorch's"), (lif((4,), 0.5, gain=0.5), "(snnTorch's")):
        notes = from_nir(one_layer(cell), random_spikes(4, 9, 6)).notes
        (note,) = [note for note in notes if "v_reset" in note]
        assert said in note
    assert from_nir(nir.NIRGraph.from_list(nir.Linear(np.ones((4, 6)))), random_spikes(4, 9, 6)).notes == ()


@pytest.mark.filterwarnings("ignore")
def test_a_model_that_subtracts_is_another_one_in_nir(tmp_path):
    torch, snn = need("torch"), need("snntorch")
    need("nirtorch")
    from archsim.export import from_torch

    torch.manual_seed(0)
    cell = snn.Leaky(torch.full((20,), 0.5), torch.ones(20), init_hidden=True, reset_mechanism="subtract")
    model = torch.nn.Sequential(torch.nn.Linear(12, 20), cell)
    for parameter in model.parameters():
        parameter.data *= 4
    values = torch.as_tensor(random_spikes(4, 40, 12)).float()
    written = need("snntorch.export_nir").export_to_nir(model, values[0, 0])
    around = from_nir(written, values.numpy())
    (direct,), (by_nir,) = from_torch(model, values, 4).trace, around.trace
    assert (direct.neuron.reset, by_nir.neuron.reset) == ("soft_after_leak", "hard")
    assert any("looks like snnTorch's" in note and "from_torch keeps either" in note for note in around.notes)


# ------------------------------------------------------------------------------------------------ shapes


def convolution(input_shape=None, **changes):
    fields = {
        "weight": np.ones((4, 1, 3, 3)),
        "stride": 1,
        "padding": 1,
        "dilation": 1,
        "groups": 1,
        "bias": np.zeros(4),
    }
    return nir.Conv2d(input_shape, **(fields | changes))


def shaped(**changes):
    nodes = {
        "in": nir.Input(np.array([1, 6, 10])), "conv": convolution((6, 10)), "lif": lif((4, 6, 10)),
        "flat": nir.Flatten({"input": np.array([4, 6, 10])}, 0), "fc": nir.Linear(np.ones((3, 240))), "out": lif((3,)),
        "end": nir.Output(np.array([3])),
    }  # fmt: skip
    nodes |= changes
    return nir.NIRGraph(nodes, list(pairwise(nodes)), type_check=False)


@pytest.mark.parametrize(
    ("changes", "shape", "says"),
    [
        ({}, (1, 10, 6), r"in \(Input\): the graph says \[1, 6, 10\], the inputs are \[1, 10, 6\]"),
        ({}, (60,), r"in \(Input\): the graph says \[1, 6, 10\], the inputs are \[60\]"),
        ({"conv": convolution((10, 6))}, (1, 6, 10), r"conv \(Conv2d\): the graph says \[10, 6\], it reads \[6, 10\]"),
        (
            {"flat": nir.Flatten({"input": np.array([4, 10, 6])}, 0)}, (1, 6, 10),
            r"flat \(Flatten\): the graph says \[4, 10, 6\], it reads \[4, 6, 10\]",
        ),
        ({"end": nir.Output(np.array([4]))}, (1, 6, 10), r"end \(Output\): the graph says \[4\], it reads \[3\]"),
        ({"lif": lif((4, 10, 6))}, (1, 6, 10), r"lif \(LIF\): parameters \[4, 10, 6\] for neurons \[4, 6, 10\]"),
        ({"lif": lif((10,))}, (1, 6, 10), r"lif \(LIF\): parameters \[10\] for neurons \[4, 6, 10\]"),
        ({"lif": lif((6, 10))}, (1, 6, 10), r"lif \(LIF\): parameters \[6, 10\] for neurons \[4, 6, 10\]"),
        ({"fc": nir.Linear(np.ones((3, 60)))}, (1, 6, 10), r"fc \(Linear\): weights \[3, 60\] on an input \[240\]"),
    ],
)  # fmt: skip
def test_shapes_that_the_graph_states(changes, shape, says):
    with pytest.raises(UsageError, match=says):
        from_nir(shaped(**changes), random_spikes(4, 2, *shape))


def test_shapes_that_are_the_same():
    """Parameters for each neuron, flattened, by channel or for all; behind a Flatten or before it: one trace."""
    inputs = random_spikes(4, 5, 1, 6, 10)
    wanted = from_nir(shaped(), inputs).trace
    assert wanted.tensor("lif").any()
    for shape in ((240,), (4,), (4, 1, 1), (1,), ()):
        assert from_nir(shaped(lif=lif(shape)), inputs).trace.sha256 == wanted.sha256
    nodes = shaped().nodes
    behind = {name: nodes[name] for name in ("in", "conv", "flat", "lif", "fc", "out", "end")} | {"lif": lif((240,))}
    graph = nir.NIRGraph(behind, list(pairwise(behind)), type_check=False)
    np.testing.assert_array_equal(from_nir(graph, inputs).trace.tensor("out"), wanted.tensor("out"))
    for field, start, end in (((4, 60), 1, 2), ((24, 10), 0, 1), ((240,), -3, -1)):
        graph.nodes["flat"] = nir.Flatten({"input": np.array([4, 6, 10])}, start, end)
        graph.nodes["lif"] = lif(field)
        np.testing.assert_array_equal(from_nir(graph, inputs).trace.tensor("out"), wanted.tensor("out"))


# ------------------------------------------------------------------------------------------ names, graphs in graphs


def by_name(names):
    weights = np.random.default_rng(3).normal(0, 1, (2, 6, 6))
    layers = (nir.Linear(weights[0]), lif((6,)), nir.Linear(weights[1]), lif((6,)))
    nodes = dict(zip(names, (nir.Input(np.array([6])), *layers, nir.Output(np.array([6]))), strict=True))
    return nir.NIRGraph(nodes, list(pairwise(names)))


@pytest.mark.parametrize(
    ("names", "trace"),
    [
        (("input", "fc1", "lif1", "fc2", "lif2", "output"), None),
        (("x", "Layer 1", "Neuron 1", "a/b", "a/c", "y"), "Layer_1, Neuron_1, a_b, a_c"),
        (("é", "a b", "a_b", "a-b", "a\tb", "output"), "a_b, a_b_2, a-b, a_b_3"),
        (("in", ".hidden", "-x", "schicht ü", "層" * 300, "out"), "_.hidden, _-x, schicht__, " + "_" * 80),
        (("input", "0", "1", "2", "3.sum", "output"), None),
    ],
)
def test_names(names, trace, tmp_path):
    """Any name is a name; the file, where NIR makes a group of each slash, is the same as the graph in memory."""
    inputs = random_spikes(4, 5, 6)
    wanted = from_nir(by_name(("input", "fc1", "lif1", "fc2", "lif2", "output")), inputs).trace
    graph = by_name(names)
    nir.write(tmp_path / "net.nir", graph)
    for exported in (from_nir(graph, inputs), from_nir(tmp_path / "net.nir", inputs)):
        found = exported.trace
        for one, other in zip(wanted, found, strict=True):
            np.testing.assert_array_equal(one.weight, other.weight)
            np.testing.assert_array_equal(wanted.tensor(one.output), found.tensor(other.output))
        told = [note for note in exported.notes if note.startswith("names that a trace cannot hold: ")]
        assert len(told) == (trace is not None)
        if exported.trace.network == "nir" and trace is not None:
            assert ", ".join(name for operation in found for name in (operation.name, operation.output)) == trace


def nested():
    """The graph of ``by_name`` with its layers two levels down; and the graph ``block`` twice."""
    weights = np.random.default_rng(3).normal(0, 1, (2, 6, 6))

    def graph(nodes):
        return nir.NIRGraph(nodes, list(pairwise(nodes)))

    def ends(inner):
        return graph({"from": nir.Input(np.array([6])), **inner, "to": nir.Output(np.array([6]))})

    blocks = [ends({"fc": nir.Linear(weight), "deep": ends({"lif": lif((6,))})}) for weight in weights]
    return graph({"x": nir.Input(np.array([6])), "one": blocks[0], "two": blocks[1], "y": nir.Output(np.array([6]))})


def test_graphs_in_graphs(tmp_path):
    inputs = random_spikes(4, 5, 6)
    wanted = from_nir(by_name(("input", "fc1", "lif1", "fc2", "lif2", "output")), inputs).trace
    nir.write(tmp_path / "net.nir", nested())
    for given in (nested(), tmp_path / "net.nir"):
        found = from_nir(given, inputs).trace
        assert [operation.output for operation in found] == ["one.deep.lif", "two.deep.lif"]
        for one, other in zip(wanted, found, strict=True):
            np.testing.assert_array_equal(one.weight, other.weight)
            np.testing.assert_array_equal(wanted.tensor(one.output), found.tensor(other.output))


def test_a_graph_used_twice_and_a_name_used_twice():
    block = nir.NIRGraph.from_list(lif((6,), 0.5))
    nodes = {
        "in": nir.Input(np.array([6])),
        "a": block,
        "fc": nir.Linear(2 * np.eye(6)),
        "b": block,
        "b.lif": lif((6,), 0.5),
    }
    exported = from_nir(nir.NIRGraph(nodes, list(pairwise(nodes)), type_check=False), random_spikes(4, 5, 6))
    assert [operation.output for operation in exported.trace] == ["a.lif", "b.lif", "b.lif_2"]


def test_edges_in_any_order():
    given = graph()
    wanted = from_nir(given, spikes()).trace.sha256
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(given.edges))
        shuffled = nir.NIRGraph(given.nodes, [given.edges[place] for place in order], type_check=False)
        assert from_nir(shuffled, spikes()).trace.sha256 == wanted


def test_names_that_sums_would_take():
    nodes = {
        "in": nir.Input(np.array([6])), "lif.sum": nir.Linear(np.eye(6)), "lif.sum.1": nir.Linear(np.eye(6)),
        "lif": lif((6,), 0.5),
    }  # fmt: skip
    edges = [("in", "lif.sum"), ("in", "lif.sum.1"), ("lif.sum", "lif"), ("lif.sum.1", "lif"), ("in", "lif")]
    exported = from_nir(nir.NIRGraph(nodes, edges, type_check=False), random_spikes(4, 5, 6))
    total, potential, fired = (
        exported.trace.tensor("in").astype(float) * 3,
        np.zeros((5, 6)),
        exported.trace.tensor("lif"),
    )
    for t in range(4):
        potential = total[t] + 0.5 * potential
        np.testing.assert_array_equal(fired[t], potential > 1)
        potential[fired[t]] = 0


def test_graphs_without_ends():
    """A graph need not say where it begins and ends."""
    nodes = {"fc": nir.Linear(np.eye(6)), "lif": lif((6,), 0.5)}
    exported = from_nir(nir.NIRGraph(nodes, [("fc", "lif")], type_check=False), random_spikes(4, 5, 6))
    assert exported.trace.operations[0].inputs == ("input",)


def chain(*edges, **nodes):
    every = {"in": nir.Input(np.array([6])), "fc": nir.Linear(np.eye(6)), "lif": lif((6,), 0.5)} | nodes
    return nir.NIRGraph(every, list(edges) or list(pairwise(every)), type_check=False)


def two_inputs():
    nodes = {"a": nir.Input(np.array([6])), "b": nir.Input(np.array([6])), "lif": lif((6,))}
    return nir.NIRGraph(nodes, [("a", "lif"), ("b", "lif")], type_check=False)


@pytest.mark.parametrize(
    ("built", "says"),
    [
        (
            lambda: chain(block=two_inputs()),
            "block: an edge of a graph with 2 inputs does not say which one; allowed: 1",
        ),
        (two_inputs, "the graph has 2 inputs; allowed: 1"),
        (lambda: chain(("in", "fc"), ("fc", "lyf")), "an edge fc -> lyf: no node lyf (did you mean 'lif'?)"),
        (lambda: chain(("in", "fc"), ("fc", "lif"), ("in", "fc")), "the edge in -> fc occurs twice"),
        (lambda: chain(("in", "fc"), ("in", "lif"), other=nir.Linear(np.eye(6))), "other: no edge leads to it"),
        (lambda: chain(("in", "fc", "lif")), "edges: got no list of pairs of names"),
        (lambda: chain(deep=nir.NIRGraph({}, [], type_check=False)), "deep: an edge of a graph with 0 inputs"),
        (lambda: nir.Linear(np.eye(6)), "the graph is Linear; allowed: NIRGraph"),
        (lambda: 7, "graph: got int; allowed: a nir.NIRGraph or the path of a file"),
        (lambda: chain(**{f"n{i}": lif((6,)) for i in range(2000)}), "the graph has more than 2,000 nodes"),
    ],
)
def test_graphs_that_say_nothing_clear(built, says):
    with pytest.raises(UsageError) as caught:
        from_nir(built(), random_spikes(4, 5, 6))
    assert says in str(caught.value)


def test_a_graph_in_itself():
    given = chain()
    given.nodes["again"] = given
    with pytest.raises(UsageError, match="graph: NIR cannot write it, RecursionError"):
        from_nir(given, random_spikes(4, 5, 6))


# ------------------------------------------------------------------------------------------------ inputs


@pytest.mark.parametrize(
    "inputs",
    [
        [np.zeros((3, 6)), np.zeros((4, 6))], [[1, 2], [3]], np.full((2, 3, 6), None), np.full((2, 3, 6), "1"),
        np.ones((2, 3, 6), complex), np.full((2, 3, 6), np.nan), np.full((2, 3, 6), np.inf), np.zeros((2, 0, 6)), 1.0,
        np.zeros(6), np.zeros((1,) * 6), None, {}, object(), np.full((2, 3, 6), np.longdouble("1e4000")),
        np.zeros((2, 3, 6), "M8[s]"), np.zeros((2, 3, 6), [("a", "f8")]), np.full((2, 3, 6), 10**30, object),
    ],
)  # fmt: skip
def test_inputs_that_are_none(inputs):
    with pytest.raises(UsageError, match=r"^inputs: ") as caught:
        from_nir(one_layer(lif((4,))), inputs)
    (line,) = caught.value.problems
    assert len(line) < 200


# ------------------------------------------------------------------------------------------------ nodes' fields

WRONG = (
    None,
    "text",
    b"",
    np.nan,
    np.array([1.0, np.inf]),
    np.array([]),
    np.array(["a"]),
    1j,
    object(),
    [1, [2, 3]],
    {},
)
FIELDS = {
    "conv": {
        "weight": (np.ones((4, 1, 3)), np.ones((4, 2, 3, 3)), np.ones((4, 1, 0, 3)), np.ones((4, 1, 20, 3))),
        "stride": (0, -1, 1.5, (1, 1, 1), (1, 0)), "padding": (-1, 0.5, (0, 4), 1 << 15, "full", (1, 2, 3)),
        "dilation": (0, -1, 1.5, 9), "groups": (0, 2, 3, -1, 1.5, (1, 1)), "bias": (np.zeros(3), np.zeros(1)),
        "input_shape": ((6,), (6, -10), 6.5),
    },
    "lif": {
        "tau": (0, -DT, DT / 2, np.linspace(1, 2, 24)), "r": (0, -1), "v_threshold": (np.zeros(4), -1),
        "v_leak": (1, np.linspace(0, 1, 240)), "v_reset": (np.ones(3),),
    },
    "flat": {"start_dim": (3, -4, 0.5), "end_dim": (3, -4), "input_type": (7,)},
    "fc": {"weight": (np.ones(240), np.ones((3, 240, 1)), np.ones((0, 240)))},
    "in": {"shape": (0, -6, (1, 6, 10.5))},
}  # fmt: skip
# What may be missing, or be nothing.
OPTIONAL = {
    ("conv", "bias"),
    ("conv", "input_shape"),
    ("lif", "v_reset"),
    ("in", "shape"),
    *(("flat", f) for f in FIELDS["flat"]),
}


class Written:
    """A graph of which ``to_dict`` says what it is told."""

    def __init__(self, record):
        self.record = record

    def to_dict(self):
        return self.record


@pytest.mark.parametrize(("node", "field"), [(node, field) for node, fields in FIELDS.items() for field in fields])
def test_fields_that_are_wrong(node, field):
    for value in (*FIELDS[node][field], *WRONG):
        record = shaped().to_dict()
        record["nodes"][node][field] = value
        if (value is None and (node, field) in OPTIONAL) or (isinstance(value, dict) and field == "shape"):
            continue
        with pytest.raises(UsageError) as caught:
            from_nir(Written(record), random_spikes(4, 2, 1, 6, 10))
        assert any(line.startswith(node) for line in caught.value.problems), value


def test_fields_that_are_missing_or_unknown():
    for node, fields in FIELDS.items():
        for field in fields:
            record = shaped().to_dict()
            record["nodes"][node].pop(field)
            if (node, field) in OPTIONAL:
                assert from_nir(Written(record), random_spikes(4, 2, 1, 6, 10)).trace
            else:
                with pytest.raises(UsageError, match=rf"^{node} \(\w+\): has no {field}$"):
                    from_nir(Written(record), random_spikes(4, 2, 1, 6, 10))
        record = shaped().to_dict()
        record["nodes"][node]["shapes"] = 1
        with pytest.raises(UsageError, match=rf"^{node} \(\w+\): an unknown field shapes"):
            from_nir(Written(record), random_spikes(4, 2, 1, 6, 10))


def test_groups_and_uneven_kernels_against_torch():
    """A kernel 3 by 1 and two groups; strides and paddings that differ."""
    torch = need("torch")
    generator = np.random.default_rng(0)
    weight, bias = generator.normal(0, 1, (4, 1, 3, 1)), generator.normal(0, 0.3, 4)
    nodes = {
        "in": nir.Input(np.array([2, 7, 5])), "conv": nir.Conv2d((7, 5), weight, (2, 1), (1, 0), 1, 2, bias),
        "lif": lif((4, 4, 5), 0.5),
    }  # fmt: skip
    inputs = random_spikes(4, 3, 2, 7, 5)
    exported = from_nir(nir.NIRGraph(nodes, list(pairwise(nodes)), type_check=False), inputs)
    (given,) = [torch.as_tensor(array) for array in (inputs.reshape(12, 2, 7, 5).astype(float),)]
    layer = torch.nn.functional.conv2d(given, torch.as_tensor(weight), torch.as_tensor(bias), (2, 1), (1, 0), groups=2)
    current, potential = layer.numpy().reshape(4, 3, 4, 4, 5), np.zeros((3, 4, 4, 5))
    fired = np.zeros(current.shape, bool)
    for t in range(4):
        potential = current[t] + 0.5 * potential
        fired[t] = potential > 1
        potential[fired[t]] = 0
    assert 0.02 < fired.mean() < 0.98
    assert (fired != exported.trace.tensor("lif")).mean() < 0.02
    np.testing.assert_allclose(exported.layers[0].float_density, fired.mean())


def test_a_small_file_cannot_ask_for_much_work():
    for changes, says in (
        ({"padding": 1 << 15}, "padding [32768, 32768]; allowed: at most the span of the kernel, [3, 3]"),
        ({"weight": np.ones((1, 1, 1200, 1200)), "padding": 1200, "bias": np.zeros(1)}, "unrolled inputs (M x K)"),
    ):
        nodes = {"in": nir.Input(np.array([1, 2, 2])), "conv": convolution(**changes)}
        with pytest.raises(UsageError) as caught:
            from_nir(nir.NIRGraph(nodes, [("in", "conv")], type_check=False), np.ones((2, 1, 1, 2, 2), bool))
        assert says in str(caught.value)
    pool = nir.AvgPool2d(np.array([128, 128]), np.array([1, 1]), np.array([0, 0]))
    nodes = {"in": nir.Input(np.array([4, 255, 255])), "pool": pool}
    with pytest.raises(UsageError, match="unrolled inputs"):
        from_nir(nir.NIRGraph(nodes, [("in", "pool")], type_check=False), np.ones((1, 1, 4, 255, 255), bool))


VALUES = (
    None, np.nan, np.inf, 0, -1, 2, 3, 1e300, 5e-324, 1 << 31, "text", b"", np.array([]), np.array(["a"]), (0, 0), {},
    np.array([1 + 2j]), np.zeros((2, 2)), [1, [2, 3]], True, np.float16(3), "same", "\n\x1b[2J", "é" * 200, 10**400,
    object(),
)  # fmt: skip


def mutated(record, generator):
    """The record of a graph with one to three things in it changed."""
    nodes = record["nodes"]
    for _ in range(generator.integers(1, 4)):
        node = nodes[list(nodes)[generator.integers(len(nodes))]]
        if not isinstance(node, dict) or not node:
            continue
        field = list(node)[generator.integers(len(node))]
        value, ways = node[field], generator.integers(7)
        if ways < 2:
            node[field] = VALUES[generator.integers(len(VALUES))]
        elif ways == 2:
            del node[field]
        elif ways == 3 and isinstance(value, np.ndarray) and value.size:
            node[field] = value.astype(float)
            node[field].flat[generator.integers(value.size)] = generator.choice(
                [np.nan, np.inf, 1e300, -1e300, 0, -1, 1e-300]
            )
        elif ways == 4 and isinstance(value, np.ndarray):
            kind = (float, str, complex, bool, np.float16, object)[generator.integers(6)]
            node[field] = (value[:1], value.T, value[..., None], value.astype(kind))[generator.integers(4)]
        elif ways == 5:
            record["edges"].append((*generator.choice([*nodes, "nobody"], 2),))
        elif ways == 6:
            node["type"] = str(
                generator.choice(
                    ["IF", "LIF", "Linear", "Conv2d", "Flatten", "Input", "NIRGraph", "CubaLIF", "Delay", "x"]
                )
            )
    return record


def recurrent_graph():
    """With all that ``graph`` has not: a map of one axis, currents, delays, an edge back, potentials as output."""
    each = np.linspace(1, 2, 36)
    cuba = nir.CubaLIF(3 * DT * each, 5 * DT * each, each, 0 * each, 0.1 * each, -0.1 * each, 2 * each)
    nodes = {
        "input": nir.Input(np.array([2, 9])),
        "conv": nir.Conv1d(9, np.random.default_rng(0).normal(0, 1, (4, 1, 3)), 1, "same", 1, 2, np.zeros(4)),
        "spikes": nir.Threshold(np.full((4, 9), 0.5)), "flat": nir.Flatten({"input": np.array([4, 9])}, 0),
        "cuba": cuba,
        "late": nir.Delay(DT * np.arange(1, 37)), "back": nir.Linear(np.random.default_rng(1).normal(0, 0.3, (36, 36))),
        "fc": nir.Linear(np.random.default_rng(2).normal(0, 1, (3, 36))), "scale": nir.Scale(np.arange(1.0, 4.0)),
        "li": nir.LI(3 * DT * np.ones(3), np.ones(3), np.full(3, 0.1)), "output": nir.Output(np.array([3])),
    }  # fmt: skip
    names = list(nodes)
    edges = [*pairwise(names[:7]), ("back", "cuba"), ("late", "fc"), *pairwise(names[7:])]
    return nir.NIRGraph(nodes, edges, type_check=False)


@pytest.mark.parametrize(
    ("built", "shape", "seeds"), [(graph, (2, 8, 8), 300), (recurrent_graph, (2, 9), 150)], ids=["maps", "recurrent"]
)
def test_mutated_graphs(built, shape, seeds):
    """Whatever is changed in a graph, it is read or refused in lines."""
    read = 0
    inputs = random_spikes(3, 2, *shape)
    assert from_nir(built(), inputs).trace
    for seed in range(seeds):
        generator = np.random.default_rng(seed)
        try:
            with np.errstate(all="ignore"):
                record = mutated(built().to_dict(), generator)
            from_nir(Written(record), inputs)
            read += 1
        except ArchsimError as error:
            assert error.problems
            assert all(line.isprintable() and len(line) < 700 for line in error.problems)
    assert 10 < read < seeds / 2


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
