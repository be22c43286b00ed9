"""Networks with branches on the many-core chip: random graphs against the sums of their layers, and both engines."""

import numpy as np
import pytest

from archsim.dataflow import core_chip as chip
from archsim.dataflow.populations import populations_of
from archsim.dataflow.projections import NoSpikesError, projections_of
from archsim.simulate import load_accelerator
from archsim.trace import Operation, Requantiser
from archsim.trace.resimulation import currents_of
from tests.accelerators.manycore_twin import cycles_of
from tests.machines import ROOT, same
from tests.networks import lif, recurrent
from tests.small_traces import build

MANYCORE = ROOT / "hwconfigs" / "manycore.yaml"


class Graph:
    """Operations that are drawn one behind the other."""

    def __init__(self, seed):
        self.draw = np.random.default_rng(seed)
        self.operations, self.shapes, self.spikes, self.sums = [], {}, [], []

    def weights(self, *shape):
        values = self.draw.integers(-9, 10, shape, dtype=np.int8)
        return np.where(self.draw.random(shape) < 0.6, values, np.int8(0))

    def add(self, op, inputs, shape, fires, **given):
        name = f"{op}{len(self.operations)}"
        neuron = lif(shape[0], int(self.draw.integers(3, 15))) if fires else None
        self.operations.append(Operation(name, op, tuple(inputs), f"{name}.out", neuron=neuron, **given))
        self.shapes[f"{name}.out"] = shape
        (self.spikes if fires else self.sums).append(f"{name}.out")
        return f"{name}.out"

    def pick(self, names):
        return names[int(self.draw.integers(0, len(names)))]

    def convolution(self, read, fires, kernel=None):
        channels, height, width = self.shapes[read]
        size = int(kernel or self.draw.choice([1, 3]))
        groups = channels if size == 3 and self.draw.random() < 0.3 else 1
        n = channels if groups > 1 else int(self.draw.integers(2, 5))
        stride = int(self.draw.integers(1, 3))
        sizes = [(side + size - 1 - size) // stride + 1 for side in (height, width)]
        weight = self.weights(n, channels // groups, size, size)
        bias = self.draw.integers(-3, 4, n)
        self.add(
            "conv2d", [read], (n, *sizes), fires, weight=weight, bias=bias, groups=groups, stride=(stride, stride),
            padding=(size // 2, size // 2),
        )  # fmt: skip

    def pool(self, read):
        channels, height, width = self.shapes[read]
        if min(height, width) >= 2:
            shape = channels, height // 2, width // 2
            self.add("pool", [read], shape, False, kernel=(2, 2), stride=(2, 2), reduction="sum")

    def joined(self, fires):
        every = [*self.spikes, *self.sums]
        first = self.pick(every)
        others = [name for name in every if self.shapes[name] == self.shapes[first]]
        if len(others) > 1:
            self.add(
                "add", [self.pick(others) for _ in range(int(self.draw.integers(2, 4)))], self.shapes[first], fires
            )

    def concatenated(self):
        first = self.pick(self.spikes)
        alike = [name for name in self.spikes if self.shapes[name][1:] == self.shapes[first][1:]]
        parts = [first, self.pick(alike)]
        channels = sum(self.shapes[name][0] for name in parts)
        name = f"concat{len(self.operations)}"
        self.operations.append(Operation(name, "concat", tuple(parts), f"{name}.out"))
        self.shapes[f"{name}.out"] = (channels, *self.shapes[first][1:])
        self.spikes.append(f"{name}.out")


def random_network(seed, timesteps=3):
    graph = Graph(seed)
    draw = graph.draw
    graph.shapes["in"] = (2, 6, 8)
    graph.shapes["still"] = (2, 6, 8)
    graph.spikes, graph.sums = ["in"], ["still"]
    for _ in range(9):
        match draw.choice(["convolution", "residual", "pool", "shortcut", "concat", "add"]):
            case "convolution":
                graph.convolution(graph.pick(graph.spikes), True)
            case "residual":
                graph.convolution(graph.pick(graph.spikes), False)
                graph.joined(True)
            case "pool":
                graph.pool(graph.pick([*graph.spikes, *graph.sums]))
            case "shortcut":
                graph.convolution(graph.pick([*graph.spikes, *graph.sums]), draw.random() < 0.5, draw.choice([1, 3]))
            case "concat":
                graph.concatenated()
            case "add":
                graph.joined(draw.random() < 0.5)
    last = graph.pick([*graph.spikes, *graph.sums])
    weight = graph.weights(3, int(np.prod(graph.shapes[last])))
    graph.add("linear", [last], (3,), False, weight=weight)
    tensors = {
        "in": draw.random((timesteps, 2, 2, 6, 8)) < 0.4,
        "still": draw.integers(-9, 10, (2, 2, 6, 8)),
    }  # fmt: skip
    used = {name for operation in graph.operations for name in operation.inputs}
    tensors = {name: value for name, value in tensors.items() if name in used}
    return build(graph.operations, tensors, timesteps)


def machine(trace, *overrides):
    chosen = {
        "pe.neurons": 64, "noc.rows": 5, "noc.columns": 5, "noc.cores": 2, "pe.count": 50, "noc.buffer": 2,
        "pe.queue": 2, "host.ports": 3, **dict(one.split("=") for one in overrides),
    }  # fmt: skip
    return load_accelerator(MANYCORE, [f"{path}={value}" for path, value in chosen.items()]).specialised_for(trace)


def convolved(projection, spikes):
    """What [T I, C, H, W] spikes make through a projection, tap by tap."""
    weight, window = projection.weight(), projection.window
    values = spikes.reshape(-1, *projection.shape).astype(np.int64)
    rows, columns = window.taps(projection.shape[1:])
    found = np.zeros((len(values), len(weight), len(rows), len(columns)), np.int64)
    each, columns_of = len(weight) // projection.groups, weight.shape[1]
    for n, y, x in np.ndindex(found.shape[1:]):
        for c, i, j in np.ndindex(*weight.shape[1:]):
            if rows[y, i] >= 0 and columns[x, j] >= 0:
                source = values[:, n // each * columns_of + c, rows[y, i], columns[x, j]]
                found[:, n, y, x] += weight[n, c, i, j] * source
    return found


@pytest.mark.parametrize("seed", range(40))
def test_projections_make_the_sums_of_the_network(seed):
    """Currents, less those when nothing spikes (biases, and what is still), are spikes through the weights."""
    trace = random_network(seed)
    quiet = {name: np.zeros_like(trace.operand(name)) for name in ("in",) if name in trace.meta.tensors}
    checked = 0
    for operation in trace.operations:
        try:
            parts = projections_of(trace, operation)
        except NoSpikesError:
            continue
        if operation.op == "concat":
            continue
        inputs = [trace.operand(name) for name in operation.inputs]
        currents = currents_of(operation, inputs, trace.timesteps)
        still = currents_of(operation, [silent(trace, name, quiet) for name in operation.inputs], trace.timesteps)
        made = sum(convolved(part, trace.operand(part.source)) for part in parts)
        wanted = (currents - still).reshape(made.shape)
        np.testing.assert_array_equal(made, wanted)
        checked += 1
    assert checked


def silent(trace, name, quiet):
    """The tensor ``name`` if no neuron ever spiked."""
    if trace.kind(name) == "spike":
        return np.zeros_like(trace.operand(name))
    writer = next((other for other in trace.operations if other.output == name), None)
    if writer is None:
        return trace.operand(name)
    made = currents_of(writer, [silent(trace, read, quiet) for read in writer.inputs], trace.timesteps)
    return made if trace.operand(name).ndim == made.ndim else made[0]


@pytest.mark.parametrize("seed", range(40))
def test_random_networks_run_in_both_engines_and_are_right(seed):
    trace = random_network(seed)
    built = machine(trace)
    layers = built.layers(trace)
    if built.problems(trace):
        assert not layers
        return
    handled = {one.name for one in layers} | built.fused(trace, layers)
    for operation in trace.operations:
        assert operation.name in handled or built.why_skipped(trace, operation)
    fast, slow = (
        list(built.run_layers(trace, layers, engine, verify=True, record=False)) for engine in ("compiled", "reference")
    )
    for left, right in zip(fast, slow, strict=True):
        assert left.mismatches == 0
        same(left, right)
    free = machine(trace, "scheduler.steps=free")
    for left, right in zip(fast, free.run_layers(trace, layers, "compiled", verify=True, record=False), strict=True):
        assert right.mismatches == 0
        assert left.actions == right.actions


def test_most_random_networks_have_layers():
    traces = [random_network(seed) for seed in range(40)]
    assert sum(bool(machine(trace).layers(trace)) for trace in traces) >= 35
    inside = [len(machine(trace).fused(trace, machine(trace).layers(trace))) for trace in traces]
    assert sum(count > 2 for count in inside) >= 15


def residual(timesteps=3):
    """Spikes of ``in`` go through ``a``, its own through ``b``; sums of ``b`` and spikes of ``in`` meet in ``join``, an
    average of whose spikes is read out."""
    draw = np.random.default_rng(3)
    a, b = (draw.integers(1, 9, (2, 2, 3, 3), dtype=np.int8) for _ in range(2))
    operations = [
        Operation("a", "conv2d", ("in",), "a.out", weight=a, padding=(1, 1), neuron=lif(2, 20)),
        Operation("b", "conv2d", ("a.out",), "b.out", weight=b, padding=(1, 1)),
        Operation("join", "add", ("b.out", "in"), "join.out", neuron=lif(2, 9)),
        Operation("mean", "pool", ("join.out",), "mean.out", kernel=(2, 2), stride=(2, 2), reduction="sum"),
        Operation("fc", "linear", ("mean.out",), "fc.out", weight=draw.integers(1, 9, (3, 8), dtype=np.int8)),
    ]
    return build(operations, {"in": draw.random((timesteps, 1, 2, 4, 4)) < 0.5}, timesteps)


def test_a_residual_block_by_hand():
    """Three layers; ``join`` has 9 taps less the border of 2 channels, and an identity; ``fc`` 3 synapses a spike."""
    trace = residual()
    built = machine(trace)
    layers = built.layers(trace)
    assert [one.name for one in layers] == ["a", "join", "fc"]
    assert built.fused(trace, layers) == {"b", "mean"}
    results = list(built.run_layers(trace, layers, "compiled", verify=True, record=False))
    through = np.array([2, 3, 3, 2])
    taps = 2 * np.outer(through, through)
    spikes = {name: trace.operand(name).astype(int).sum((0, 1)) for name in ("in", "a.out", "join.out")}
    join = (spikes["a.out"] * taps).sum() + spikes["in"].sum()
    assert [one.actions["synapse", built.config.format_of(population)] for one, population in zip(
        results, populations_of(trace, layers)[1:], strict=True
    )] == [(spikes["in"] * taps).sum(), join, 3 * spikes["join.out"].sum()]  # fmt: skip
    assert [one.synaptic_operations for one in results][1] > 0


def test_a_spike_of_two_ways_is_one_message():
    """``in`` reaches ``join`` twice, through weights and as it is: one message, the synapses of both."""
    draw = np.random.default_rng(0)
    operations = [
        Operation("a", "conv2d", ("in",), "a.out", weight=draw.integers(1, 9, (2, 2, 1, 1), dtype=np.int8)),
        Operation("join", "add", ("a.out", "in"), "join.out", neuron=lif(2, 9)),
    ]
    trace = build(operations, {"in": draw.random((3, 1, 2, 4, 4)) < 0.5}, 3)
    built = machine(trace)
    (result,) = built.run_layers(trace, built.layers(trace), "compiled", verify=True, record=False)
    spikes = int(trace.operand("in").sum())
    assert result.events["messages"] == spikes
    assert result.actions["synapse", "convolutional"] == 3 * spikes


def test_what_does_not_travel_is_told():
    draw = np.random.default_rng(0)
    weight = draw.integers(1, 9, (2, 2, 1, 1), dtype=np.int8)
    rounded = Requantiser(np.full(2, 1), 1, signed=True)
    operations = [
        Operation("a", "conv2d", ("in",), "a.out", weight=weight, requantiser=rounded),
        Operation("b", "conv2d", ("in",), "b.out", weight=weight),
        Operation("join", "add", ("b.out", "a.out"), "join.out", neuron=lif(2, 9)),
        Operation("top", "pool", ("b.out",), "top.out", kernel=(2, 2), stride=(2, 2)),
        Operation("behind", "add", ("top.out",), "behind.out", neuron=lif(2, 9)),
        Operation("c", "conv2d", ("join.out",), "c.out", weight=weight, neuron=lif(2, 9)),
    ]
    trace = build(operations, {"in": draw.random((3, 1, 2, 4, 4)) < 0.5}, 3)
    built = machine(trace)
    assert [one.name for one in built.layers(trace)] == ["b", "c"]
    by_name = {one.name: one for one in trace.operations}
    assert "a.out" not in built.why_skipped(trace, by_name["a"]) and "requantiser" in built.why_skipped(
        trace, by_name["a"]
    )
    assert built.why_skipped(trace, by_name["join"]).startswith("needs ")
    assert built.why_skipped(trace, by_name["join"]).endswith("which do not travel as spikes")


@pytest.mark.parametrize("steps", ["barrier", "free"])
def test_a_layer_that_reads_itself_and_another_one(steps):
    """Whether steps meet or not; what the run waited for adds up to it."""
    trace = recurrent()
    built = machine(trace, "pe.neurons=3", f"scheduler.steps={steps}", "scheduler.token_cycles=7")
    layers = built.layers(trace)
    fast, slow = (
        list(built.run_layers(trace, layers, engine, verify=True, record=False)) for engine in ("compiled", "reference")
    )
    for left, right in zip(fast, slow, strict=True):
        assert left.mismatches == 0
        same(left, right)
    causes = [count for one in fast for name, count in one.events.items() if name.startswith("critical_")]
    assert sum(causes) == fast[0].cycles and min(causes) >= 0


def test_a_residual_block_takes_the_cycles_of_the_slow_twin():
    trace = residual()
    built = machine(trace, "pe.neurons=20")
    populations = populations_of(trace, built.layers(trace))
    placed = chip.place(built.config, populations)
    outcome = built.simulate("compiled", built._program(placed), True)
    layers, spikes = [(None, populations[0].size)], [[np.flatnonzero(row).tolist() for row in populations[0].spikes]]
    assert [len(one.synapses) for one in populations] == [0, 1, 2, 1]
    # The twin counts neurons in this order.
    number = np.concatenate([one.first + np.arange(one.size) for one in populations]).argsort()
    for one, mapped, kind in zip(populations[1:], placed.mapped, placed.formats, strict=True):
        matrix = np.zeros((one.size, len(number)), bool)
        for neuron in range(one.size):
            for part in one.synapses:
                rows, columns = part.window.taps(part.sources.shape[1:])
                n, y, x = np.unravel_index(neuron, one.shape)
                for c, i, j in np.ndindex(*part.present.shape[1:]):
                    if rows[y, i] >= 0 and columns[x, j] >= 0:
                        channel = n // (one.shape[0] // part.groups) * part.present.shape[1] + c
                        matrix[neuron, number[part.sources[channel, rows[y, i], columns[x, j]]]] = True
        time = built.config.synapse_cycles(kind)
        layers.append((range(len(number)), matrix, mapped.ends, mapped.cores, time, one.depth))
        spikes.append([np.flatnonzero(row).tolist() for row in one.spikes] if one.spikes is not None else [[]] * 3)
    steps = 3 + max(one.depth for one in populations)
    assert outcome.cycles == cycles_of(built.config, layers, spikes, steps)
