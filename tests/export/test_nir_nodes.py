"""Every kind of node of NIR, and graphs that go round, beside the same graph computed by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import archsim
from archsim.errors import UsageError
from archsim.export import from_nir
from tests.export.frameworks import need, verified

nir = need("nir")
need("torch")
from tests.export.nir_by_hand import simulate  # noqa: E402 - it needs torch

DT = 1e-3


def chain(*nodes, shape, back=()):
    """The nodes one behind the other, each called after its kind and its place, and edges ``back``."""
    every = {"input": nir.Input(np.array(shape))}
    for place, node in enumerate(nodes):
        every[f"{type(node).__name__.lower()}{place}"] = node
    every["output"] = nir.Output(None)
    names = list(every)
    edges = [*pairwise(names), *((names[1 + before], names[1 + after]) for before, after in back)]
    return nir.NIRGraph(every, edges, type_check=False)


def weights(*shape, seed=0, scale=1.0):
    return np.random.default_rng(seed).normal(0, scale, shape)


def spikes(*shape, seed=1, density=0.4):
    return np.random.default_rng(seed).random(shape) < density


def compared(graph, inputs, tmp_path, most=0.02, dt=DT, **options):
    """The exported graph, whose trace is right and gives what the graph gives by hand, but for ``most`` of it."""
    exported = from_nir(graph, inputs, dt=dt, **options)
    trace = verified(exported, tmp_path)
    wanted = simulate(graph, inputs, dt)
    for operation in trace:
        if operation.neuron is None or operation.output not in wanted:
            continue
        found = trace.tensor(operation.output)
        real = wanted[operation.output].reshape(found.shape)
        if operation.neuron.fires == "nothing":
            error = np.abs(found * trace.scale(operation.output) - real).mean() / real.std()
            assert error < most, (operation.name, error)
        else:
            assert 0.02 < real.mean() < 0.98, (operation.name, real.mean())
            assert (found != real).mean() <= most, (operation.name, (found != real).mean())
    return exported


def array(shape, *between):
    """One number for all, or one for each neuron."""
    low, high = between if len(between) == 2 else between * 2
    return np.random.default_rng(7).uniform(low, high, shape)


def neurons(kind, *shape, each=False):
    """Neurons of a kind; with parameters of their own for ``each``, and otherwise the same ones."""
    wide = 1.3 if each else 1.0
    tau, fast = array(shape, 8 * DT, 8 * DT * wide), array(shape, 4 * DT, 4 * DT * wide)
    leak, reset = np.full(shape, 0.125), array(shape, 0.05, 0.05 * wide)
    r = array(shape, 3.0, 3.0 * wide)
    match kind:
        case "IF":
            return nir.IF(r / DT / 3, array(shape, 1.0, wide), reset)
        case "LIF":
            return nir.LIF(tau, r, leak, array(shape, 1.0, wide), reset)
        case "CubaLIF":
            return nir.CubaLIF(fast, tau, r, leak, array(shape, 0.6, 0.6 * wide), reset, array(shape, 2.0, 2 * wide))
        case "I":
            return nir.I(r / DT)
        case "LI":
            return nir.LI(tau, r, leak)
        case "CubaLI":
            return nir.CubaLI(fast, tau, r, np.zeros(shape), array(shape, 2.0))
    return nir.Threshold(array(shape, 0.5, 0.5 * wide))


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("kind", ["IF", "LIF", "CubaLIF", "I", "LI", "CubaLI", "Threshold"])
def test_neurons(kind, each, tmp_path):
    """Behind weights, and where they read spikes themselves."""
    compared(chain(nir.Linear(weights(20, 12)), neurons(kind, 20, each=each), shape=[12]), spikes(25, 20, 12), tmp_path)
    cell = neurons(kind, 12, each=each)
    exported = compared(chain(cell, shape=[12]), spikes(25, 20, 12), tmp_path)
    if kind in ("IF", "Threshold"):
        assert max(row.differing or 0 for row in exported.layers) == 0


def test_neurons_with_parameters_of_their_own_in_maps(tmp_path):
    shape = (3, 5, 4)
    convolution = nir.Conv2d((5, 4), weights(3, 2, 3, 3), 1, 1, 1, 1, weights(3))
    exported = compared(
        chain(convolution, neurons("CubaLIF", *shape, each=True), shape=[2, 5, 4]), spikes(12, 6, 2, 5, 4), tmp_path
    )
    (operation,) = exported.trace
    assert operation.neuron.threshold.shape == shape
    assert operation.neuron.leak_multiplier.shape == shape


@pytest.mark.parametrize("threshold", [0.3, 1.5, 1.0])
def test_neurons_that_read_spikes_are_exact(threshold, tmp_path):
    """With a decay that is a shift every potential is exact, and so is every spike, met thresholds included."""
    cell = nir.LIF(np.full(6, 2 * DT), np.full(6, 2.0), np.zeros(6), np.full(6, threshold), np.zeros(6))
    exported = compared(chain(cell, shape=[6]), spikes(20, 50, 6), tmp_path, 0.0)
    assert [operation.inputs for operation in exported.trace] == [("input",)]


def test_a_current_that_comes_late(tmp_path):
    """As Norse has it: by hand, the potential sees the current of the timestep before."""
    cell = nir.CubaLIF(*(np.full(8, 4 * DT) for _ in range(2)), np.ones(8), np.zeros(8), np.full(8, 0.2))
    inputs = spikes(20, 30, 8)
    exported = from_nir(chain(cell, shape=[8]), inputs, dt=DT, late_current=True)
    v = i = np.zeros((30, 8))
    wanted = np.empty((20, 30, 8), bool)
    for t, x in enumerate(inputs):
        v = 0.75 * v + 0.25 * i
        wanted[t] = v > 0.2
        v, i = np.where(wanted[t], 0.0, v), 0.75 * i + 0.25 * x
    np.testing.assert_array_equal(verified(exported, tmp_path).tensor("cubalif0"), wanted)
    assert wanted.mean() > 0.05
    prompt = from_nir(chain(cell, shape=[8]), inputs, dt=DT).trace.tensor("cubalif0")
    np.testing.assert_array_equal(prompt[:-1], wanted[1:])


def conv2d(groups=1, stride=1, padding=1, dilation=1, kernel=(3, 3), channels=4):
    return nir.Conv2d(
        None, weights(6 * groups // groups, channels // groups, *kernel), stride, padding, dilation, groups, weights(6)
    )


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize(
    ("changes", "shape"),
    [
        ({"groups": 2}, (6, 7, 5)),
        ({"dilation": (2, 1), "padding": (2, 1)}, (6, 7, 5)),
        ({"padding": "same", "kernel": (4, 2)}, (6, 7, 5)),
        ({"padding": "same", "dilation": 2, "kernel": (2, 3)}, (6, 7, 5)),
        ({"padding": "valid", "stride": (2, 1)}, (6, 3, 3)),
        ({"padding": (0, 2), "kernel": (1, 5)}, (6, 7, 5)),
    ],
)
def test_convolutions(changes, shape, tmp_path):
    graph = chain(conv2d(**changes), neurons("LIF", *shape), shape=[4, 7, 5])
    exported = compared(graph, spikes(6, 4, 4, 7, 5), tmp_path)
    (operation,) = exported.trace
    assert operation.groups == changes.get("groups", 1)


@pytest.mark.parametrize(
    ("changes", "length"),
    [({}, 9), ({"stride": 2}, 5), ({"padding": "same", "dilation": 2}, 9), ({"padding": 0, "groups": 2}, 7)],
)
def test_convolutions_of_one_axis(changes, length, tmp_path):
    """Conv1d is 1 by k, on inputs [I, C, L]; and behind it a layer that reads all of it."""
    fields = {"stride": 1, "padding": 1, "dilation": 1, "groups": 1} | changes
    weight = weights(4, 2 // fields["groups"], 3, scale=1.5)
    nodes = (
        nir.Conv1d(9, weight, *(fields[name] for name in ("stride", "padding", "dilation", "groups")), weights(4)),
        neurons("LIF", 4, length), nir.Flatten({"input": np.array([4, length])}, 0), nir.Linear(weights(5, 4 * length)),
        neurons("LIF", 5),
    )  # fmt: skip
    exported = compared(chain(*nodes, shape=[2, 9]), spikes(8, 6, 2, 9), tmp_path, 0.04)
    first, _ = exported.trace
    assert (first.kernel, first.output_shape) == ((1, 3), (4, 1, length))
    with pytest.raises(UsageError, match=r"allowed: numbers \[I, C, L\] or \[T, I, C, L\]"):
        from_nir(chain(*nodes, shape=[2, 9]), spikes(8, 6, 18)[0])


@pytest.mark.parametrize("kind", ["SumPool2d", "AvgPool2d"])
def test_pools(kind, tmp_path):
    """In front of neurons and behind them, with padding, and not square."""
    make = getattr(nir, kind)
    nodes = (
        conv2d(), make(np.array([2, 3]), np.array([2, 1]), np.array([1, 1])), neurons("LIF", 6, 4, 5),
        make(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])), neurons("IF", 6, 2, 2),
    )  # fmt: skip
    compared(chain(*nodes, shape=[4, 7, 5]), spikes(8, 5, 4, 7, 5), tmp_path, 0.03)


def test_scales_anywhere(tmp_path):
    nodes = (
        nir.Scale(array((4, 1, 1), 0.5, 2)), conv2d(), nir.Scale(np.array(1.5)), neurons("LIF", 6, 7, 5),
        nir.Scale(array((6, 1, 1), 0.5, 2)), neurons("LIF", 6, 7, 5),
    )  # fmt: skip
    compared(chain(*nodes, shape=[4, 7, 5]), spikes(8, 5, 4, 7, 5), tmp_path, 0.03)


@pytest.mark.parametrize("delays", [(3, 3, 3, 3), (1, 2, 5, 9)])
def test_delays(delays, tmp_path):
    nodes = (
        nir.Linear(weights(4, 6, scale=1.5)),
        neurons("LIF", 4),
        nir.Delay(DT * np.array(delays)),
        neurons("IF", 4),
    )
    exported = compared(chain(*nodes, shape=[6]), spikes(16, 20, 6), tmp_path)
    (delay,) = [operation for operation in exported.trace if operation.op == "delay"]
    assert np.broadcast_to(delay.steps, 4).tolist() == list(delays)


def test_delays_that_are_none():
    def graph(*delays):
        return chain(nir.Delay(DT * np.array(delays)), neurons("IF", 4), shape=[4])

    assert [op.op for op in from_nir(graph(0, 0, 0, 0), spikes(4, 3, 4), dt=DT).trace] == ["add"]
    for delays, says in (((0, 1, 1, 1), "0 timesteps for some channels"), ((-1,) * 4, "-1 to -1 timesteps"),
                         ((2000,) * 4, "allowed: 0 to 1024")):  # fmt: skip
        with pytest.raises(UsageError, match=rf"delay0 \(Delay\): delay: .*{says}"):
            from_nir(graph(*delays), spikes(4, 3, 4), dt=DT)
    told = from_nir(graph(1.4, 2, 2, 2), spikes(4, 3, 4), dt=DT).notes
    assert any("delays are rounded to timesteps of dt = 0.001 s, 1.4 to 1" in note for note in told)


def test_parameters_that_differ_within_what_was_a_channel(tmp_path):
    """Behind a Flatten every value is a channel: delays, scales and potentials of their own."""
    nodes = (
        conv2d(), neurons("LIF", 6, 7, 5), nir.Flatten({"input": np.array([6, 7, 5])}, 0),
        nir.Delay(DT * (1 + np.arange(210) % 4)), nir.Scale(array(210, 0.5, 2)), neurons("LI", 210, each=True),
    )  # fmt: skip
    compared(chain(*nodes, shape=[4, 7, 5]), spikes(8, 5, 4, 7, 5), tmp_path, 0.03)


# ------------------------------------------------------------------------------------------------ round and round


@pytest.mark.parametrize("kind", ["IF", "LIF", "CubaLIF"])
def test_recurrent_neurons(kind, tmp_path):
    """As snnTorch writes RLeaky and RSynaptic: neurons that read their own spikes through weights."""
    recurrent = weights(10, 10, seed=3, scale=0.5)
    nodes = (nir.Linear(weights(10, 6)), neurons(kind, 10), nir.Linear(recurrent))
    graph = chain(*nodes, shape=[6], back=[(2, 1)])
    graph.edges = [edge for edge in graph.edges if edge != ("linear2", "output")]
    graph.edges.append((f"{kind.lower()}1", "output"))
    exported = compared(graph, spikes(30, 12, 6), tmp_path, 0.06)
    trace = exported.trace
    assert [len(cycle.operations) for cycle in trace.cycles] == [3]
    (delay,) = [operation for operation in trace if operation.op == "delay"]
    assert (delay.steps, delay.inputs) == (1, (f"{kind.lower()}1",))
    without = from_nir(chain(*nodes[:2], shape=[6]), spikes(30, 12, 6), dt=DT).trace
    assert (without.tensor(f"{kind.lower()}1") != trace.tensor(f"{kind.lower()}1")).any()


def test_a_bias_of_recurrent_weights_counts_from_the_first_timestep(tmp_path):
    """What is late is the spikes."""
    nodes = (nir.Linear(weights(10, 6)), neurons("LIF", 10), nir.Affine(weights(10, 10), np.full(10, 3.0)))
    graph = chain(*nodes, shape=[6], back=[(2, 1)])
    graph.edges = [edge for edge in graph.edges if edge != ("affine2", "output")] + [("lif1", "output")]
    first = from_nir(graph, np.zeros((2, 3, 6), bool), dt=DT).trace.tensor("lif1")[0]
    assert first.all()


def test_two_populations_and_a_sum_that_others_read_too(tmp_path):
    """The edge back leaves from weights that the output reads as well, so that these are late, not the spikes."""
    nodes = (
        nir.Linear(weights(10, 6)), neurons("LIF", 10), nir.Linear(weights(8, 10, seed=2)), neurons("CubaLIF", 8),
        nir.Linear(weights(10, 8, seed=4, scale=0.5)),
    )  # fmt: skip
    exported = compared(chain(*nodes, shape=[6], back=[(4, 1)]), spikes(25, 12, 6), tmp_path, 0.06)
    (delay,) = [operation for operation in exported.trace if operation.op == "delay"]
    assert delay.inputs == ("linear4",)


def test_a_delay_on_the_circle_is_late_enough(tmp_path):
    """A node that delays by three timesteps: no fourth is added."""
    nodes = (
        nir.Linear(weights(10, 6)), neurons("LIF", 10), nir.Delay(np.full(10, 3 * DT)),
        nir.Linear(weights(10, 10, seed=3, scale=0.5)),
    )  # fmt: skip
    graph = chain(*nodes, shape=[6], back=[(3, 1)])
    exported = from_nir(graph, spikes(20, 9, 6), dt=DT)
    trace = verified(exported, tmp_path)
    (delay,) = [operation for operation in trace if operation.op == "delay"]
    assert delay.steps == 3
    fired, sent = np.zeros((20, 9, 10)), trace.tensor("lif1")
    current = trace.tensor("input").astype(float) @ nodes[0].weight.T
    v = np.full((9, 10), 0.125)
    for t in range(20):
        late = fired[t - 3] if t >= 3 else np.zeros((9, 10))
        x = current[t] + late @ nodes[3].weight.T
        v = v + (0.125 - v + 3.0 * x) / 8
        fired[t] = v > 1.0
        v = np.where(fired[t] > 0, 0.05, v)
    assert (fired != sent).mean() < 0.06


def test_circles_without_end():
    graph = chain(nir.Linear(weights(4, 4)), nir.Scale(np.full(4, 0.5)), neurons("LIF", 4), shape=[4], back=[(1, 0)])
    with pytest.raises(UsageError, match=r"comes back to .* with no neurons that fire in between"):
        from_nir(graph, spikes(4, 3, 4), dt=DT)


def test_long_series(tmp_path):
    """1,024 timesteps, the most that a trace has."""
    nodes = (nir.Linear(weights(6, 3, scale=0.7)), neurons("LIF", 6), nir.Linear(weights(2, 6)), neurons("LI", 2))
    exported = compared(chain(*nodes, shape=[3]), spikes(1024, 1, 3), tmp_path, 0.03)
    assert exported.trace.timesteps == 1024
    with pytest.raises(UsageError, match="allowed: 1 to 1024"):
        from_nir(chain(*nodes, shape=[3]), spikes(1025, 1, 3), dt=DT)


# ------------------------------------------------------------------------------------------------ as tools write them


def rewired(graph, tmp_path):
    """The graph as a file gives it back."""
    nir.write(tmp_path / "net.nir", graph)
    return tmp_path / "net.nir"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["Synaptic", "RLeaky", "RSynaptic"])
def test_graphs_of_snntorch(kind, tmp_path):
    """Spikes beside those of the module itself, run by snnTorch.

    Its neurons that reset to zero clear what arrives behind a spike too, which NIR cannot say; so these never spike
    twice in a row there, and where its module has none of that all spikes are the same.
    """
    torch, snn = need("torch"), need("snntorch")
    need("nirtorch")
    torch.manual_seed(0)
    count, more = 12, {"reset_mechanism": "zero", "init_hidden": True}
    beta, threshold = torch.full((count,), 0.9), torch.full((count,), 1.5)
    match kind:
        case "Synaptic":
            cell = snn.Synaptic(torch.full((count,), 0.8), beta, threshold, **more)
        case "RLeaky":
            cell = snn.RLeaky(beta, threshold=threshold, linear_features=count, **more)
        case _:
            cell = snn.RSynaptic(torch.full((count,), 0.8), beta, threshold=threshold, linear_features=count, **more)
    layer = torch.nn.Linear(6, count)
    layer.weight.data *= 2
    values = spikes(25, 20, 6)
    graph = need("snntorch.export_nir").export_to_nir(torch.nn.Sequential(layer, cell), torch.ones(6))
    exported = from_nir(rewired(graph, tmp_path), values)
    trace = verified(exported, tmp_path)
    found = trace.tensor(trace.operations[-1].output)
    with torch.no_grad():
        wanted = np.stack([cell(layer(torch.as_tensor(now, dtype=torch.float32))).numpy() for now in values])
    # Up to the first spike of a neuron, or of any that it reads.
    counted = wanted if kind == "Synaptic" else np.broadcast_to(wanted.any(2, keepdims=True), wanted.shape)
    alike = np.cumsum(counted, 0) - counted == 0
    assert wanted[alike].any()
    assert (found != wanted)[alike].mean() < 0.02
    assert len(trace.cycles) == (kind != "Synaptic")


@pytest.mark.filterwarnings("ignore")
def test_graphs_of_spikingjelly(tmp_path):
    """CUBALIFNode and ParametricLIFNode, all spikes beside those of the modules."""
    torch = need("torch")
    neuron = need("spikingjelly.activation_based.neuron")
    layer = need("spikingjelly.activation_based.layer")
    functional = need("spikingjelly.activation_based.functional")
    need("nirtorch")
    write = need("spikingjelly.activation_based.nir_exchange.to_nir").export_to_nir
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        layer.Conv2d(2, 4, 3, padding=1), neuron.CUBALIFNode(c_decay=0.6, v_decay=0.7, v_reset=0.0), layer.AvgPool2d(2),
        layer.Flatten(), layer.Linear(36, 5), neuron.ParametricLIFNode(init_tau=1.7),
    )  # fmt: skip
    model[0].weight.data *= 4
    model[4].weight.data *= 12
    values = spikes(20, 6, 2, 6, 6)
    graph = write(model, torch.as_tensor(values[0], dtype=torch.float32))
    functional.reset_net(model)
    with torch.no_grad():
        wanted = np.stack([model(torch.as_tensor(now, dtype=torch.float32)).numpy() for now in values])
    trace = verified(from_nir(rewired(graph, tmp_path), values), tmp_path)
    assert 0.05 < wanted.mean() < 0.95
    assert (trace.tensor(trace.operations[-1].output) != wanted).mean() < 0.06
    assert [operation.op for operation in trace] == ["conv2d", "pool", "linear"]


def test_a_graph_as_norse_writes_it(tmp_path):
    """LIFCell, LIFRecurrentCell and LIBoxCell with norse's own defaults, time constants of 10 and 5 ms at dt = 1 ms."""

    def cuba(count):
        return nir.CubaLIF(
            np.full(count, 5 * DT), np.full(count, 10 * DT), np.ones(count), np.zeros(count), np.full(count, 0.3)
        )

    nodes = {
        "input": nir.Input(np.array([6])), "0": nir.Affine(weights(12, 6, scale=3.0), weights(12)), "1.lif": cuba(12),
        "1.w_rec": nir.Linear(weights(12, 12, seed=3, scale=0.5)), "2": nir.Affine(weights(4, 12), np.zeros(4)),
        "3": nir.LI(np.full(4, 10 * DT), np.ones(4), np.zeros(4)), "output": nir.Output(np.array([4])),
    }  # fmt: skip
    edges = [
        ("input", "0"), ("0", "1.lif"), ("1.lif", "1.w_rec"), ("1.w_rec", "1.lif"), ("1.lif", "2"), ("2", "3"),
        ("3", "output"),
    ]  # fmt: skip
    graph = nir.NIRGraph(nodes, edges, type_check=False)
    exported = from_nir(rewired(graph, tmp_path), spikes(40, 10, 6), dt=DT, late_current=True)
    trace = verified(exported, tmp_path)
    assert [operation.neuron.current_is_late for operation in trace if operation.name == "1.lif.sum"] == [True]
    assert trace.kind("3") == "int"
    assert trace.scale("3") < 0.01
    assert exported.class_agreement >= 0.8


def test_a_graph_as_sinabs_writes_it(tmp_path):
    """IAF and ExpLeak at dt = 1, with a Conv1d."""
    nodes = (
        nir.Conv1d(None, weights(4, 2, 3), 1, 1, 1, 1, np.zeros(4)), nir.IF(np.ones((4, 9)), np.ones((4, 9))),
        nir.Flatten({"input": np.array([4, 9])}, 0), nir.Affine(weights(3, 36), np.zeros(3)),
        nir.LI(np.full(3, 20.0), np.ones(3), np.zeros(3)),
    )  # fmt: skip
    compared(chain(*nodes, shape=[2, 9]), spikes(12, 5, 2, 9), tmp_path, 0.06, dt=1.0)


def test_a_machine_runs_all_of_it(tmp_path):
    """A circle, a delay of each channel, a pool in front of neurons, a read-out: LoAS leaves nothing out."""
    nodes = (
        conv2d(), nir.AvgPool2d(*(np.array(pair) for pair in ([2, 2], [2, 2], [1, 1]))), neurons("LIF", 6, 4, 3),
        nir.Flatten({"input": np.array([6, 4, 3])}, 0), nir.Linear(weights(8, 72, scale=0.5)), neurons("CubaLIF", 8),
        nir.Delay(DT * (1 + np.arange(8))), nir.Linear(weights(3, 8)), neurons("LI", 3),
    )  # fmt: skip
    graph = chain(*nodes, shape=[4, 7, 5], back=[(6, 5)])
    exported = from_nir(graph, spikes(10, 2, 4, 7, 5), dt=DT)
    verified(exported, tmp_path)
    assert len(exported.trace.cycles) == 1
    summary = archsim.run("loas", tmp_path / "exported.npz").summary()
    assert (summary["verified"], summary["coverage"]) == (True, 1.0)
