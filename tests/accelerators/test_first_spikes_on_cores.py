"""First spikes on cores that step from tick to tick: outputs, neurons' work, and who is read behind joins."""

import numpy as np
import pytest

from archsim.dataflow.populations import populations_of
from archsim.simulate import load_accelerator
from archsim.trace import Neuron, Operation, Requantiser, Trace
from archsim.trace.resimulation import run_times
from tests.machines import LABELS, ROOT, same

MANYCORE = ROOT / "hwconfigs" / "manycore.yaml"
TICKS = 40


def network(delayed):
    """An encoder of four channels, a convolution of the first two beside the earliest spikes of the others, which are
    late if ``delayed``, channels in turns, a read-out. Three images."""
    draw = np.random.default_rng(6)

    def layer(name, op, source, *shape, **keys):
        neuron = Neuron("first_spike", np.full(shape[0], 50), time_constant=8, fraction_bits=6)
        weight = draw.integers(-20, 60, shape).astype(np.int8)
        return Operation(name, op, (source,), name, weight=weight, neuron=neuron, **keys)

    window = {"stride": (2, 2), "padding": (1, 1)}
    late = [Operation("late", "delay", ("earliest",), "late", steps=np.array([3, 9]))] * delayed
    made = [
        Operation("encoder", "conv2d", ("pixels",), "in", weight=np.array([1, 2, 3, 4], np.int8).reshape(4, 1, 1, 1),
                  requantiser=Requantiser(np.ones(4, np.int64), 2, 8, signed=False)),
        Operation("half", "slice", ("in",), "half", start=0, stop=2),
        Operation("rest", "slice", ("in",), "rest", start=2, stop=4),
        layer("conv", "conv2d", "half", 2, 2, 3, 3, **window),
        Operation("earliest", "pool", ("rest",), "earliest", kernel=(3, 3), **window),
        *late,
        Operation("both", "concat", ("conv", late[0].output if late else "earliest"), "both"),
        Operation("turns", "rearrange", ("both",), "turns", view=(2, 2, 3, 3), order=(1, 0, 2, 3), shape=(4, 3, 3)),
        layer("read_out", "linear", "turns", 3, 36),
    ]  # fmt: skip
    shapes = {one.output: (4, 3, 3) if one.op in ("concat", "rearrange") else (2, 3, 3) for one in made}
    shapes |= {"in": (4, 6, 6), "half": (2, 6, 6), "rest": (2, 6, 6), "read_out": (3,)}
    pixels = draw.integers(0, 120, (3, 1, 6, 6)).astype(np.uint8)
    keys = {"network": "first spikes", "timesteps": TICKS, "operations": made, "provenance": LABELS}
    keys["kinds"] = dict.fromkeys(shapes, "spike_time")
    empty = {name: np.full((3, *shape), 255) for name, shape in shapes.items()}
    blank = Trace(tensors=empty | {"pixels": pixels}, **keys)
    return Trace(tensors=run_times(blank, pixels) | {"pixels": pixels}, **keys)


@pytest.mark.parametrize("delayed", [False, True])
def test_ticks_are_steps(delayed):
    """All neurons are updated in every tick; synapses are added for spikes alone; outputs are those of the trace."""
    trace = network(delayed)
    machine = load_accelerator(MANYCORE).specialised_for(trace)
    chosen = machine.layers(trace)
    assert [one.name for one in chosen] == ["conv", "earliest", "read_out"]
    fast, slow = (
        list(machine.run_layers(trace, chosen, engine, verify=True, record=True))
        for engine in ("compiled", "reference")
    )
    for left, right in zip(fast, slow, strict=True):
        same(left, right)
    assert [result.mismatches for result in fast] == [0, 0, 0]
    depth = 3
    for result, operation in zip(fast, chosen, strict=True):
        fired = int((trace.tensor(operation.output) < TICKS).sum())
        assert result.actions["soma", "spike"] == fired > 0
        assert result.actions["soma", "update"] % np.prod(operation.output_shape) == 0
        steps = result.actions["soma", "update"] // np.prod(operation.output_shape)
        assert 3 * TICKS <= steps < 3 * TICKS + depth
    # What is late is sent when it fires, so that a read-out has every spike of the other layers once.
    fired = np.concatenate([trace.tensor(name) < TICKS for name in ("conv", "earliest")], 1)
    turned = fired.reshape(3, 2, 2, 3, 3).swapaxes(1, 2).reshape(3, -1)
    by_input = (trace.operation("read_out").weight != 0).sum(0)
    assert fast[2].actions["synapse", "sparse"] == int((turned.sum(0) * by_input).sum())


def test_neurons_in_another_order_are_read_in_it():
    """What a layer reads are its inputs' own spikes, behind slices, concatenations and channels in turns."""
    trace = network(False)
    populations = populations_of(trace, load_accelerator(MANYCORE).layers(trace))
    every = np.concatenate([one.spikes for one in sorted(populations, key=lambda one: one.first)], 1)
    for one in populations:
        if one.synapses:
            read = trace.operand(trace.operation(one.name).inputs[0])
            wanted = np.swapaxes(read, 0, 1).reshape(3 * TICKS, -1)
            assert wanted.any() and (every[:, one.synapses[0].sources.ravel()] == wanted).all(), one.name


def test_pixels_are_left_out():
    """What turns pixels into times reads no spikes."""
    trace = network(False)
    machine = load_accelerator(MANYCORE)
    assert machine.simulates(trace, trace.operation("conv"))
    assert not machine.simulates(trace, trace.operation("encoder"))
