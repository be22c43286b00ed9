"""Columns mean one thing on every machine: work and utilization against loops over the trace, on all machines."""

import functools

import numpy as np
import pytest

from archsim.dataflow.layer import layer_of
from archsim.simulate import load_accelerator, run
from archsim.trace import Operation, save_trace
from tests.machines import LOAS, MACHINES, ROOT, ann, simulate, timed
from tests.small_traces import attention, build, lif
from tests.twins import work as twin
from tests.twins.prefix_forest import slow_work

each_machine = pytest.mark.parametrize("hardware", MACHINES, ids=lambda path: path.stem)


def network(op="conv2d", timesteps=4, density=0.3, weight_density=0.4, bias=False, neuron=True, seed=0):
    """A convolution of two images of 5 x 4 with stride and padding, or a linear layer; some inputs never spike."""
    draw = np.random.default_rng(seed)
    shape, kernel = ((3, 5, 4), (5, 3, 3, 2)) if op == "conv2d" else ((33,), (7, 33))
    spikes = draw.random((timesteps, 2, *shape)) < density
    weight = (draw.integers(1, 60, kernel) * draw.choice((-1, 1), kernel)).astype(np.int8)
    weight *= draw.random(kernel) < weight_density
    geometry = {"stride": (2, 1), "padding": (1, 2)} if op == "conv2d" else {}
    operation = Operation(
        "layer", op, ("in",), "out", weight=weight, bias=draw.integers(-5, 40, len(weight)) if bias else None,
        neuron=lif(len(weight), timesteps=timesteps) if neuron else None, **geometry,
    )  # fmt: skip
    return build([operation], {"in": spikes}, timesteps)


SPIKING = {
    "convolution": lambda: network(),
    "linear, T = 1, bias": lambda: network("linear", timesteps=1, bias=True),
    "sums": lambda: network(neuron=False, seed=2),
    "dense": lambda: network(density=1.0, weight_density=1.0),
    "no weights": lambda: network(weight_density=0.0),
    "no spikes": lambda: network("linear", density=0.0),
    "many timesteps": lambda: network("linear", timesteps=11, density=0.1),
}
OF_INTEGERS = {
    "sparse": lambda: ann(1, m=5, n=7, k=40),
    "dense": lambda: ann(2, m=3, n=4, k=20, density=1.0, weight_density=1.0),
    "no weights": lambda: ann(3, m=3, n=4, k=20, weight_density=0.0),
}
OF_TIMES = {
    "sparse": lambda: timed(1, m=5, n=7, k=40),
    "dense": lambda: timed(2, m=3, n=4, k=60, density=1.0, weight_density=1.0),
    "no weights": lambda: timed(3, m=3, n=4, k=20, weight_density=0.0),
}
CASES = {"spike": SPIKING, "int": OF_INTEGERS, "spike_time": OF_TIMES}


@functools.cache
def made(kind, case):
    """A trace, what follows from it by loops: (matches, synaptic operations), and all its products."""
    trace = CASES[kind][case]()
    operation = trace.operations[0]
    effectual = twin.matches(trace, operation), twin.synaptic_operations(trace, operation)
    return trace, effectual, [(operand, weight[0]) for operand, weight in twin.pairs(trace, operation)]


def everything(pairs, trace, machine):
    """Every input is added at every timestep, be it a spike or not, and padding too."""
    operation = trace.operations[0]
    return operation.m * operation.n * operation.k * trace.timesteps


def spikes(pairs, trace, machine):
    """A weight is added for every spike (multiplied, for an integer that is not zero), be it zero or not."""
    return sum(bool(one) for operand, _ in pairs for one in operand)


def effectual(pairs, trace, machine):
    """Nothing but the synaptic operations."""
    return sum(bool(one and weight) for operand, weight in pairs for one in operand)


def speculated(pairs, trace, machine):
    """A weight is added once for all timesteps of an input that spikes, and taken back at every silent one."""
    return sum(1 + sum(not one for one in operand) for operand, weight in pairs if any(operand) and weight)


def in_passes(pairs, trace, machine):
    """The same in a pass over the packed words for every timestep."""
    return sum(
        len(operand) + sum(not one for one in operand) for operand, weight in pairs if any(operand) and weight
    )  # fmt: skip


def reused(pairs, trace, machine):
    """Spikes that no prefix of their tile has, times all columns."""
    layer = layer_of(trace, trace.operations[0])
    rows = np.array([operand for operand, _ in pairs]).reshape(2, layer.n, -1, layer.k, layer.timesteps)
    images = rows[:, 0].transpose(0, 1, 3, 2).reshape(2, -1, layer.k)
    height, width = machine.config.tile.rows // layer.timesteps * layer.timesteps, machine.config.tile.k
    tiles = [
        rows[i : i + height, k : k + width]
        for rows in images for i in range(0, len(rows), height) for k in range(0, layer.k, width)
    ]  # fmt: skip
    least = 1 if machine.config.detector.search == "every_row" else 2
    return layer.n * sum(slow_work(tile, least)[1] for tile in tiles)


def until_fired(pairs, trace, machine):
    """A weight is added for every spike that comes before all neurons of its row have fired, be it zero or not."""
    ends = trace.tensor("out").astype(int).max(1, keepdims=True)
    before = trace.tensor("in") < np.minimum(ends, trace.timesteps)
    return int(before.sum()) * trace.operations[0].n


def stored(pairs, trace, machine):
    """A spike adds the synapses of its axon, as the layer's format stores them: with zeros or without."""
    linear = trace.operations[0].op == "linear"
    kind = machine.config.synapse.linear if linear else machine.config.synapse.convolution
    return (effectual if kind == "sparse" else spikes)(pairs, trace, machine)


PERFORMED = {
    "manycore": stored,
    **dict.fromkeys(("systolic", "bit_composable", "flywire", "ptb_16x4"), everything), "loas": speculated,
    "prosperity": reused,
    **dict.fromkeys(("ptb", "stellar", "sata", "tt_snn", "spinalflow", "gustav_snn", "neuron_core"), spikes),
    **dict.fromkeys(("spikesim", "imc"), spikes), "ttfs": until_fired,
    **dict.fromkeys(("sparten", "sparten_snn", "gospa_snn", "gamma", "gamma_snn"), effectual),
}  # fmt: skip


def elements(hardware):
    """Processing elements of a machine, from its file."""
    pe = load_accelerator(hardware).config.model_dump()["pe"]
    return pe.get("count") or pe["rows"] * pe["columns"]


ADDING = (
    "systolic", "bit_composable", "ptb", "stellar", "sata", "tt_snn", "spinalflow", "prosperity", "gustav_snn",
    "neuron_core", "flywire", "ttfs",
)  # fmt: skip
JOINING = {"loas": "tppe", **dict.fromkeys(("sparten", "sparten_snn", "gospa_snn", "gamma", "gamma_snn"), "pe")}


def cells_driven(pairs, machine, trace):
    """Cells that a spike, or a part of an integer, drives, of arrays whose weights take so many cells."""
    analog = machine.name == "imc"
    layer = layer_of(trace, trace.operations[0])
    config = machine.config
    columns = config.analog.columns if analog else config.array.columns
    bits = config.pe.weight_bits
    if analog:
        slices, paired = config.analog.slices(bits), config.analog.signed == "differential"
        cells, references = (2 * slices, 0) if paired else (slices, slices)
    else:
        cells, references = config.columns_per_weight, 0
    blocks = -(-layer.n // ((columns - references) // cells))
    parts = config.analog.driver_bits if analog else 1
    driven = sum(
        bool(int(one) >> part & (1 << parts) - 1)
        for operand, _ in pairs for one in operand
        for part in (range(0, 8, parts) if trace.kind("in") == "int" else [0])
    )  # fmt: skip
    assert driven % layer.n == 0
    return driven // layer.n * (layer.n * cells + blocks * references)


def check_utilization(result, pairs, trace, hardware, machine):
    """Cycles in which elements work, over all of theirs."""
    if machine.name in ADDING:
        expected = result.performed_operations / elements(hardware)
    elif machine.name in JOINING:
        busy = [unit.busy_cycles for unit in result.units if unit.unit == JOINING[machine.name]]
        assert len(busy) == elements(hardware)
        expected = sum(busy) / len(busy)
    elif machine.name == "manycore":
        expected = sum(unit.busy_cycles for unit in result.units if unit.unit == "synapse") / elements(hardware)
    else:
        assert machine.name in ("spikesim", "imc")
        config = machine.config
        rows, columns = (
            (config.analog.rows, config.analog.columns) if machine.name == "imc"
            else (config.array.rows, config.array.columns)
        )  # fmt: skip
        built = config.tiles * config.tile.pes * config.pe.arrays * rows * columns
        if machine.name == "imc":
            built += config.neuron.modules * config.digital.lanes
        expected = cells_driven(pairs, machine, trace) * config.read_cycles / built
    assert 0 <= result.utilization <= 1
    assert result.utilization == pytest.approx(expected / result.cycles, rel=1e-12)


@each_machine
def test_work_and_utilization_are_those_of_loops(hardware):
    machine = load_accelerator(hardware, ("timesteps=16",))
    for case in CASES[machine.operand]:
        trace, counts, pairs = made(machine.operand, case)
        (result,) = simulate(trace, hardware=hardware)
        assert (result.matches, result.synaptic_operations) == counts, case
        expected = PERFORMED.get(hardware.stem) or PERFORMED[machine.name]
        assert result.performed_operations == expected(pairs, trace, machine), case
        check_utilization(result, pairs, trace, hardware, machine)
        if "no" in case.split():
            assert counts == (0, 0)


@pytest.mark.parametrize(
    ("name", "overrides", "twin_of"),
    [
        ("loas", ["scheduler.timesteps=sequential"], in_passes), ("loas", ["pe.speculation=false"], effectual),
        ("loas", ["format.spikes=raw", "pe.speculation=false"], effectual),
        ("ptb", ["scheduler.entering=all"], everything), ("ptb", ["scheduler.entering=active"], spikes),
        ("systolic", ["dataflow=weight"], everything), ("systolic", ["dataflow=input"], everything),
        ("systolic", ["scheduler.timesteps=sequential", "pe.rows=3", "pe.columns=5"], everything),
        ("sata", ["scheduler.sparsity=skipping"], spikes), ("stellar", ["pe.rows=2", "pe.columns=3"], spikes),
        ("spikesim", ["scheduler.skip=row_group", "array.rows=2"], spikes),
        ("imc_ideal", ["analog.signed=offset_column", "analog.rows=2"], spikes),
    ],
)  # fmt: skip
@pytest.mark.parametrize("case", ["convolution", "dense", "no weights"])
def test_work_of_other_ways_to_run_a_layer(name, overrides, twin_of, case):
    """What follows from the trace stays, what a machine performs follows its way to work."""
    trace, counts, pairs = made("spike", case)
    hardware = ROOT / "hwconfigs" / f"{name}.yaml"
    machine = load_accelerator(hardware, overrides)
    (result,) = simulate(trace, *overrides, hardware=hardware)
    assert (result.matches, result.synaptic_operations) == counts
    assert result.performed_operations == twin_of(pairs, trace, machine)
    if machine.name in ADDING:
        shape = machine.config.pe
        places = shape.rows * shape.columns
        assert result.utilization == pytest.approx(result.performed_operations / (places * result.cycles))
    elif machine.name in ("spikesim", "imc"):
        check_utilization(result, pairs, trace, hardware, machine)


@pytest.mark.parametrize("dataflow", ["output", "weight", "input"])
def test_a_small_layer_on_a_large_array(dataflow):
    """3 x 3 outputs of 8 inputs in 4 timesteps are 288 products on 128 x 128 places, however busy the array is."""
    draw = np.random.default_rng(0)
    operation = Operation("a", "conv2d", ("x",), "y", weight=np.ones((3, 8, 1, 1), np.int8))
    trace = build([operation], {"x": draw.random((4, 1, 8, 3, 1)) < 0.5}, 4)
    array = ("pe.rows=128", "pe.columns=128", f"dataflow={dataflow}")
    (result,) = simulate(trace, *array, hardware=ROOT / "hwconfigs" / "systolic.yaml")
    assert result.utilization == pytest.approx(3 * 3 * 8 * 4 / (128 * 128 * result.cycles), rel=1e-12)
    assert result.compute_cycles > 0.5 * result.cycles


def test_a_full_array_is_as_busy_as_its_places():
    """Ideal memory, outputs that fill the array: K of K + 2R + C - 2 cycles of every fold, and 3 at the ends."""
    operation = Operation("a", "linear", ("x",), "y", weight=np.ones((16, 500), np.int8))
    trace = build([operation], {"x": np.ones((1, 16, 500), bool)}, 1)
    array = ("pe.rows=8", "pe.columns=8", "dataflow=output", "memory.ideal=true")
    (result,) = simulate(trace, *array, hardware=ROOT / "hwconfigs" / "systolic.yaml")
    assert result.utilization == pytest.approx(4 * 500 / (4 * (500 + 2 * 8 + 8 - 2) + 3), rel=1e-12)


def test_stages_of_training():
    """Forward as inference; backward a product of every gradient and weight that lead to an input; update a sum of
    gradients at every spike; gradients of potentials are no synaptic operations."""
    trace = network(seed=4)
    machine = load_accelerator(ROOT / "hwconfigs" / "sata_training.yaml").specialised_for(trace)
    layer = layer_of(trace, trace.operations[0])
    gradients = np.random.default_rng(1).integers(0, 16, (layer.m, layer.n)).astype(np.uint16)
    gradients[np.random.default_rng(2).random(gradients.shape) < 0.5] = 0
    results = {
        stage.stage: machine.run_layer(stage, "compiled", verify=True, record=False)
        for stage in machine.training_stages(layer, gradients)
    }
    operation, (height, width) = trace.operations[0], trace.operations[0].output_shape[1:]
    rows, columns = operation.input_shapes[0][1:]
    led, live, spiking = np.zeros(2, int), 0, np.zeros(2, int)
    for m, n in np.ndindex(layer.m, layer.n):
        image, y, x = np.unravel_index(m, (2, height, width))
        fired = [bool(gradients[m, n] >> t & 1) for t in range(4)]
        for c, ky, kx in np.ndindex(operation.weight_shape[1:]):
            row, column = y * 2 + ky - 1, x + kx - 2
            if not (0 <= row < rows and 0 <= column < columns):
                continue
            weight = bool(operation.weight[n, c, ky, kx])
            live += sum(fired)
            led += any(fired) * weight, sum(fired) * weight
            spikes_here = trace.tensor("in")[:, image, c, row, column]
            spiking += any(fired) and any(spikes_here), sum(map(bool, fired & spikes_here))
    found = {name: (r.matches, r.synaptic_operations, r.performed_operations) for name, r in results.items()}
    forward = twin.matches(trace, operation), twin.synaptic_operations(trace, operation)
    added = sum(bool(one) for operand, _ in twin.pairs(trace, operation) for one in operand)
    assert found == {
        "forward": (*forward, added),
        "potential_gradient": (0, 0, 0),
        "backward": (*led, live),
        "update": (*spiking, spiking[1]),
    }
    places = machine.config.pe.rows * machine.config.pe.columns
    worked = {name: result.performed_operations for name, result in results.items()}
    worked["potential_gradient"] = layer.m * layer.n * 4
    for name, result in results.items():
        assert result.utilization == pytest.approx(worked[name] / (places * result.cycles), rel=1e-12)


def test_products_of_matrices_and_digital_units():
    """Attention on crossbar arrays: work by loops; a digital lane works in the cycles in which it has a value."""
    trace = attention()
    machine = load_accelerator(
        ROOT / "hwconfigs" / "imc_ideal.yaml", ("digital.lanes=3", "noc.rows=fit")
    ).specialised_for(trace)
    operations = machine.layers(trace)
    results = list(machine.run_layers(trace, operations, "compiled", verify=False, record=False))
    config, analog = machine.config, machine.config.analog
    built = config.tiles * config.tile.pes * config.pe.arrays * analog.rows * analog.columns
    built += config.neuron.modules * 3
    digital = {"add": 1, "softmax": 3, "layer_norm": 3}
    assert {operation.op for operation in operations} == {"conv2d", "linear", "matmul", *digital}
    for operation, result in zip(operations, results, strict=True):
        counts = twin.matches(trace, operation), twin.synaptic_operations(trace, operation)
        assert (result.matches, result.synaptic_operations) == counts
        driven = sum(bool(operand[0]) for operand, _ in twin.pairs(trace, operation))
        assert result.performed_operations == driven
        if operation.op in digital:
            values = trace.images * int(np.prod(operation.output_shape)) * digital[operation.op]
            assert result.utilization == pytest.approx(values / (built * result.cycles), rel=1e-12)
        else:
            assert 0 < result.utilization < 1


def test_the_summary_adds_up(tmp_path):
    """Of layers one after the other: work in all over cycles in all; the operations that were performed."""
    path = tmp_path / "trace.npz"
    save_trace(network(), path)
    report = run(LOAS, path)
    (layer,) = report.layers
    summary = report.summary()
    assert (summary["matches"], summary["performed_operations"]) == (layer.matches, layer.performed_operations)
    assert summary["utilization"] == pytest.approx(layer.utilization)
    (row,) = report.rows("layers")
    assert (row["synaptic_operations"], row["performed_operations"]) == (
        layer.synaptic_operations, layer.performed_operations
    )  # fmt: skip


def test_a_grouped_convolution_is_said_and_nothing_else(tmp_path):
    """One line a layer, with the factor; a dense and an empty layer say nothing."""
    draw = np.random.default_rng(0)
    depthwise = np.zeros((6, 6, 3, 3), np.int8)
    depthwise[np.arange(6), np.arange(6)] = draw.integers(1, 50, (6, 3, 3))
    operations = [
        Operation("deep", "conv2d", ("x",), "a", padding=(1, 1), weight=depthwise, neuron=lif(6)),
        Operation(
            "dense", "conv2d", ("a",), "b", weight=draw.integers(1, 9, (6, 6, 1, 1), dtype=np.int8), neuron=lif(6)
        ),
        Operation("empty", "conv2d", ("b",), "c", weight=np.zeros((6, 6, 3, 3), np.int8)),
    ]
    path = tmp_path / "grouped.npz"
    save_trace(build(operations, {"x": draw.random((4, 1, 6, 5, 5)) < 0.4}, 4), path)
    assert not [warning for warning in run(LOAS, path).warnings if "groups" in warning]  # it runs as groups
    skipped = "skipped"
    said = [warning for warning in run(LOAS, path, scheduler__encoder=skipped).warnings if "groups" in warning]
    (line,) = said
    assert "6 times as large as in the model (its weights are those of 6 groups; the trace stores it as a dense" in line
    others = run(LOAS, path, layers=["dense", "empty"], scheduler__encoder=skipped)
    assert not [warning for warning in others.warnings if "groups" in warning]
