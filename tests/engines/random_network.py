"""Random networks of everything that machines run in pieces or on their neuron units, and random settings of machines.

A network is one operation of random geometry, operands and neurons, or a small one of ``tests/networks.py`` that reads
its own past or multiplies activations. The smallest of all sizes are drawn too: one head, one token, one timestep,
groups of one channel, no spikes. Networks of first spikes have joins of every kind.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from archsim.simulate import load_accelerator
from archsim.trace import Neuron, Operation, Requantiser, Trace
from archsim.trace.resimulation import run_times
from tests.networks import LABELS, attention, pixels, recurrent
from tests.random_neurons import neurons, plain_neurons
from tests.random_operations import cases, ended
from tests.small_traces import build
from tests.twins import trace as twin

PRODUCTS = ("conv2d", "linear", "matmul")
BETWEEN = ("pool", "add", "multiply", "reduce", "upsample")
MEMORY = (
    "memory.cache.size_kib=16", "memory.cache.mshrs=1", "memory.cache.line_bytes=16", "memory.cache.replacement=lru",
    "memory.cache.bank_conflicts=false", "memory.dram.channels=1",
)  # fmt: skip
SETTINGS = {
    "loas": ("pe.count=3", "scheduler.barrier=none", "pe.laggy=early_stop", "scheduler.prefetch_fibers=0", *MEMORY),
    "sparten_snn": ("pe.count=3", "scheduler.order=row_group", "scheduler.prefetch_fibers=0", *MEMORY),
    "gospa_snn": ("pe.count=3", "psum.size_kib=1", "scheduler.barrier=none", "psum.overflow=excess", *MEMORY[1:]),
    "gamma_snn": ("pe.count=3", "pe.radix=2", "scheduler.operands=loaded_first", "neuron.rows=1", *MEMORY),
    "gustav_snn": ("neuron.cycles=3", *MEMORY),
    "neuron_core": ("pe.count=3", "pe.neurons=40", "scheduler.event_fifo=1", "scheduler.outer_loop=neurons", *MEMORY),
    "flywire": ("pe.rows=3", "pe.columns=5", "pe.weight_buffers=1", "receiver.stall_percent=50", *MEMORY),
    "prosperity": ("tile.rows=16", "tile.k=3", "pe.count=3", "detector.tables=1", "buffers.output_tiles=1", *MEMORY),
    "spinalflow": ("pe.count=16", "merger.rows_ahead=1", "drain.positions=1", "memory.read_switch.inputs=3", *MEMORY),
    "ptb": ("pe.rows=5", "pe.columns=3", "pe.window=1", "scheduler.prefetch_folds=0", *MEMORY),
    "stellar": ("pe.rows=2", "pe.columns=3", "pe.buffer_steps=3", "scheduler.prefetch_folds=0", *MEMORY),
    "systolic": ("pe.rows=3", "pe.columns=5", "dataflow=weight", *MEMORY),
    "bit_composable": ("pe.rows=3", "pe.columns=5", "pe.places=8", "scheduler.timesteps=sequential", *MEMORY),
    "sata": ("pe.rows=5", "pe.columns=3", "pe.psum_bytes=4", "memory.buffers.banks=1", "neuron.cycles=9"),
    "sparten": ("scheduler.prefetch_fibers=0", "scheduler.order=row_group", *MEMORY),
    "gamma": ("pe.count=3", "pe.radix=2", "neuron.rows=1", *MEMORY),
    "ttfs": (
        "pe.count=16",
        "merger.rows_ahead=1",
        "merger.buffer_kib=1",
        "drain.positions=1",
        "neuron.cycles=3",
        *MEMORY,
    ),
}
"""What may be set of a machine, each or not."""


@st.composite
def settings_of(draw, machine, trace):
    """Overrides of a machine's file. Values are counted one by one (``unary``) only where they are few."""
    chosen = [setting for setting in SETTINGS[machine] if draw(st.integers(0, 3)) == 0]
    chosen += ["memory.ideal=true"] * (draw(st.integers(0, 7)) == 0)
    chosen.append(f"pe.weight_bits={draw(st.integers(8, 9))}")
    if load_accelerator(machine).operand == "spike_time":
        chosen.append(f"scheduler.early_exit={draw(st.sampled_from(['none', 'fired', 'decision']))}")
    if load_accelerator(machine).operand == "spike":
        chosen.append(f"timesteps={draw(st.sampled_from([1, 2, 3, 4, 16]))}")
        read = {name for operation in trace.operations for name in operation.inputs if trace.kind(name) == "int"}
        few = max((trace.tensor(name).max(initial=0) for name in read), default=0) < 9
        chosen.append(f"scheduler.encoder={draw(st.sampled_from(['bit_planes', 'unary'][: 1 + few]))}")
    return tuple(chosen)


@st.composite
def operations(draw, operand):
    """A trace of one operation, with random neurons behind most of those that make sums."""
    timesteps = (1, 6) if operand == "spike" else (1, 1)
    operation, tensors, kinds, steps = draw(cases(PRODUCTS * 2 + BETWEEN, timesteps))
    if draw(st.integers(0, 9)) == 0:
        tensors = {name: silent(values, kinds.get(name), steps) for name, values in tensors.items()}
    sums = operation.op in PRODUCTS or operation.neuron is not None or operation.requantiser is not None
    alone = replace(operation, neuron=None, requantiser=None)
    one = Trace(
        network="one", timesteps=steps, operations=[alone], tensors=tensors, kinds=kinds, provenance=LABELS
    )  # fmt: skip
    shape = one.operations[0].output_shape
    if operand == "int":
        operation = ended(replace(operation, neuron=None), shape[0])
    elif sums and draw(st.booleans()):
        neuron = draw(st.one_of(neurons(shape), plain_neurons(shape[0])))
        operation = replace(operation, requantiser=None, neuron=neuron)
    else:
        operation = ended(operation, shape[0])
    return build([operation], tensors, steps, kinds | draw(output_kinds(operation, kinds)))


@st.composite
def output_kinds(draw, operation, kinds):
    """As what the output is stored, where it is no integer."""
    neuron = operation.neuron
    if neuron is not None and neuron.fires == "spike":
        return {"out": draw(st.sampled_from(["spike", "spike_time"][: 2 - neuron.mask_fire_once]))}
    if neuron is not None:
        return {"out": "signed_spike"} if neuron.fires == "signed" else {}
    found = [kinds.get(name, "int") for name in operation.inputs]
    if operation.op == "multiply" and operation.requantiser is None and "int" not in found:
        return {"out": "signed_spike" if "signed_spike" in found else "spike"}
    moves = operation.op == "upsample" or (operation.op == "pool" and operation.reduction == "max")
    return {"out": found[0]} if moves and found[0] != "int" else {}


def silent(values, kind, timesteps):
    """The tensor without a spike, or of zeros."""
    return np.full_like(values, twin.never(timesteps)) if kind == "spike_time" else np.zeros_like(values)


@st.composite
def chains(draw):
    """Linear layers and convolutions one behind the other, with spikes of one sign or two between them, and potentials
    at the end: what chips run that hold a whole network."""
    steps, images = draw(st.integers(1, 6)), draw(st.integers(1, 2))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    signed, flat = draw(st.booleans()), draw(st.booleans())
    shape: tuple[int, ...] = (draw(st.integers(1, 9)),) if flat else (draw(st.integers(1, 3)), 4, 3)
    inputs = rng.integers(-signed, 2, (steps, images, *shape)).astype(np.int8)
    kinds, operations = {"x": "signed_spike" if signed else "spike"}, []
    for place in range(draw(st.integers(1, 3))):
        n, read = draw(st.integers(1, 9)), f"l{place - 1}" if place else "x"
        kernel = () if len(shape) == 1 else (2, 2)
        weight = rng.integers(-20, 21, (n, shape[0], *kernel)).astype(np.int8)
        shape = (n, *(size - 1 for size in shape[1:]))
        last = draw(st.booleans()) or min(shape[1:], default=2) < 2
        neuron = draw(neurons(shape, ("nothing",) if last else ("spike", "signed", "activation")))
        op, name = "conv2d" if kernel else "linear", f"l{place}"
        operations.append(Operation(name, op, (read,), name, weight=weight, neuron=neuron))
        if last:
            break
        kinds[name] = "signed_spike" if neuron.fires == "signed" else "spike"
    return build(operations, {"x": inputs if signed else inputs > 0}, steps, kinds)


@st.composite
def networks(draw):
    """A network with a cycle, with products of activations, or with a direct encoder."""
    images, seed = draw(st.integers(1, 2)), draw(st.integers(0, 999))
    kind = draw(st.sampled_from([recurrent, attention, pixels]))
    if kind is recurrent:
        sizes = {name: draw(st.integers(1, 9)) for name in ("timesteps", "features", "neurons")}
        return recurrent(**sizes, images=images, seed=seed, threshold=draw(st.sampled_from([5, 20, 1 << 20])))
    if kind is attention:
        heads = draw(st.integers(1, 3))
        channels = heads * draw(st.integers(1, 3))
        return attention(draw(st.integers(1, 5)), heads, channels, draw(st.integers(1, 3)), images, seed)
    return pixels(draw(st.integers(1, 5)), images, seed)


@st.composite
def first_spikes(draw):
    """A network of first spikes behind an encoder: a convolution with something beside it, a join, a read-out."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    timesteps, images, side = draw(st.integers(2, 300)), draw(st.integers(1, 2)), draw(st.integers(1, 6))
    channels, stride, sign = draw(st.integers(1, 5)), draw(st.integers(1, 2)), draw(st.integers(-60, 0))

    def weights(*shape):
        return rng.integers(sign, 90, shape).astype(np.int8)

    def layer(name, op, source, *shape, **keys):
        neuron = Neuron(
            "first_spike", rng.integers(1, draw(st.sampled_from([30, 300, 20_000])), shape[0]),
            time_constant=max(1, timesteps // draw(st.integers(1, 8))), fraction_bits=draw(st.integers(0, 8)),
        )  # fmt: skip
        return Operation(name, op, (source,), name, weight=weights(*shape), neuron=neuron, **keys)

    window = {"stride": (stride, stride), "padding": (1, 1)}
    made = [
        Operation("encoder", "conv2d", ("pixels",), "encoder", weight=weights(channels, 1, 1, 1),
                  requantiser=Requantiser(rng.integers(1, 4, channels), draw(st.integers(0, 6)), 9, signed=False)),
        layer("inside", "conv2d", "encoder", channels, channels, 3, 3, **window),
        Operation("earliest", "pool", ("encoder",), "earliest", kernel=(3, 3), **window),
    ]  # fmt: skip
    join = draw(st.sampled_from(["none", "add", "concat", "delay"]))
    if join == "delay":
        late = rng.integers(1, timesteps + 1, channels)
        made.append(Operation("late", "delay", ("earliest",), "late", steps=late))
    if join == "add":
        made.append(Operation("join", "add", ("inside", "earliest"), "join", times=True))
    elif join != "none":
        made.append(Operation("join", "concat", (made[-1].output, "inside"), "join"))
    read = "inside" if join == "none" else "join"
    out = (side - 1) // stride + 1
    features = channels * out * out * (2 if join in ("concat", "delay") else 1)
    made.append(layer("read_out", "linear", read, draw(st.integers(1, 40)), features))
    kinds = {one.output: "spike_time" for one in made}
    shown = rng.integers(0, 256, (images, 1, side, side)).astype(np.uint8)
    blank = {one: np.full((1, *shape), twin.never(timesteps)) for one, shape in _timed_shapes(made, side, out).items()}
    keys = {"network": "first spikes", "timesteps": timesteps, "operations": made, "kinds": kinds, "provenance": LABELS}
    empty = Trace(tensors=blank | {"pixels": shown[:1]}, **keys)
    return Trace(tensors=run_times(empty, shown) | {"pixels": shown}, **keys)


def _timed_shapes(made, side, out):
    """Shapes of what those operations write."""
    channels, found = len(made[0].weight), {}
    for one in made:
        size = side if one.name == "encoder" else out
        found[one.output] = (channels * (1 + (one.op == "concat")), size, size)
    return found | {"read_out": (len(made[-1].weight),)}
