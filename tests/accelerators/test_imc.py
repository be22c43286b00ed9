"""imc: inputs bit by bit, matrices that are written at run time, digital units, what arrays do to a network."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from archsim.analog_network.network import AnalogNetwork
from archsim.cli import main
from archsim.dataflow.crossbar_inputs import chip_layer
from archsim.dataflow.crossbar_mapping import map_layer
from archsim.dataflow.layer import layer_of
from archsim.dataflow.pipeline import stages_of
from archsim.errors import ConfigError, UsageError
from archsim.simulate import load_accelerator, run
from archsim.trace import ImageSet, Operation, Requantiser, save_trace
from archsim.trace.resimulation import compute
from tests.machines import ROOT, ann, mlp, quantised, same
from tests.small_traces import attention, build, lif, tiny

IDEAL = ROOT / "hwconfigs" / "imc_ideal.yaml"
CNN = ROOT / "hwconfigs" / "imc_cnn.yaml"
VIT = ROOT / "hwconfigs" / "imc_vit.yaml"
SMALL = ("noc.rows=1", "noc.columns=2", "neuron.modules=1", "memory.ideal=true")
EXPONENTIALS = np.round(4000 * np.exp(-np.arange(256) / 40)).astype(np.uint16)


def machine(*overrides, hardware=IDEAL):
    return load_accelerator(hardware, overrides)


def simulated(trace, *overrides, engine="compiled", record=False, hardware=IDEAL):
    chip = machine(*overrides, hardware=hardware)
    assert chip.problems(trace) == []
    return list(chip.run_layers(trace, chip.layers(trace), engine, verify=True, record=record))


def transformer(seed=0, images=2, tokens=5, width=6, heads=2):
    """Two residual branches, several heads that are joined, a ReLU, tokens of two dimensions in the second branch."""
    draw = np.random.default_rng(seed)
    head = width // heads

    def weights(*shape):
        return draw.integers(-20, 21, shape, dtype=np.int8)

    def few(channels, shift, signed=True, largest=255):
        return Requantiser(draw.integers(1, largest + 1, channels), shift, 8, signed)

    def conv(name, source, channels, out, shift, **more):
        return Operation(name, "conv2d", (source,), f"{name}.o", weight=weights(out, channels, 1, 1),
                         requantiser=few(out, shift, **more))  # fmt: skip

    operations = [
        conv("patches", "pixels", 3, width, 10),
        Operation("norm", "layer_norm", ("patches.o",), "norm.o", requantiser=few(width, 12, largest=200_000)),
    ]
    for h in range(heads):
        operations += [conv(f"{name}{h}", "norm.o", width, head, 9) for name in "qkv"]
        operations += [
            Operation(f"s{h}", "matmul", (f"q{h}.o", f"k{h}.o"), f"s{h}.o", transpose=True,
                      requantiser=few(tokens, 14)),
            Operation(f"p{h}", "softmax", (f"s{h}.o",), f"p{h}.o", table=EXPONENTIALS),
            Operation(f"m{h}", "matmul", (f"p{h}.o", f"v{h}.o"), f"m{h}.o", requantiser=few(head, 16)),
        ]  # fmt: skip
    operations += [
        Operation("heads", "concat", tuple(f"m{h}.o" for h in range(heads)), "heads.o"),
        conv("o", "heads.o", width, width, 13),
        Operation("skip", "add", ("patches.o", "o.o"), "skip.o", requantiser=few(width, 7)),
        conv("up", "skip.o", width, 7, 12, signed=False),
        conv("down", "up.o", 7, width, 12),
        Operation("skip2", "add", ("skip.o", "down.o"), "skip2.o", requantiser=few(width, 7)),
        Operation("fc", "linear", ("skip2.o",), "logits", weight=weights(3, width * tokens)),
    ]
    pixels = draw.integers(0, 256, (images, 3, tokens, 1), dtype=np.uint8)
    return stored_in_bytes(build(operations, {"pixels": pixels}, 1))


def stored_in_bytes(trace):
    """The same trace with its integers in the bytes that they need, without a time axis."""
    from archsim.trace import Trace

    tensors = {}
    for name in trace.tensors:
        values = trace.tensor(name)
        values = values.reshape(values.shape[-4:] if len(trace.meta.tensors[name].shape) == 3 else values.shape[-2:])
        small = name != "logits"
        kind = np.uint8 if small and values.min() >= 0 and name[0] in "pu" and name != "patches.o" else np.int8
        tensors[name] = values.astype(kind) if small else values
    return Trace(network="vit", timesteps=1, operations=list(trace.operations), tensors=tensors,
                 provenance={"kind": "synthetic", "weights": "synthetic"})  # fmt: skip


def random_chip(draw):
    """Small arrays, tiles, buffers and links, so that everything is cut, shared and waited for."""
    choices = {
        "analog.rows": (1, 2, 64), "analog.columns": (16, 64), "pe.arrays": (1, 4), "pe.in_flight": (1, 3),
        "tile.pes": (1, 2, 8), "tile.buffer_width_bits": (8, 256), "neuron.modules": (1, 3), "neuron.lanes": (1, 64),
        "neuron.sum_buffer": (1, 4), "neuron.row_buffer": (1, 3), "noc.flit_bits": (8, 64), "noc.router_cycles": (1, 3),
        "scheduler.skip": ("none", "row_group"), "analog.signed": ("differential", "offset_column"),
        "memory.ideal": ("false", "true"), "memory.cache.line_bytes": (16, 64), "write.arrays": (1, 8),
        "digital.lanes": (1, 64), "digital.row_buffer": (1, 3), "analog.cells.device.write.pulses": (1, 3),
        "timing.conversion_cycles": (1, "sar"), "timing.settle_cycles": (1, 10), "tile.buffer_bits": (4096, 524288),
    }  # fmt: skip
    fixed = ("noc.rows=24", "noc.columns=24", "memory.dram.interleave_bytes=64")
    return (*fixed, *(f"{path}={draw.choice(values)}" for path, values in choices.items()))


@pytest.mark.parametrize("seed", range(8))
def test_engines_agree_on_random_transformers_and_chips(seed):
    draw = np.random.default_rng(seed)
    heads = int(draw.integers(1, 3))
    trace = transformer(
        seed, int(draw.integers(1, 4)), int(draw.integers(1, 8)), heads * int(draw.integers(1, 4)), heads
    )
    overrides = random_chip(draw)
    fast, slow = (simulated(trace, *overrides, engine=engine, record=True) for engine in ("compiled", "reference"))
    assert len(fast) == len(trace.operations) - 1  # all but the concatenation
    for one, other in zip(fast, slow, strict=True):
        same(one, other)
        assert one.mismatches == 0
        assert one.cycles >= one.lower_bound_cycles > 0
        assert one.compute_cycles >= 1
        assert all(unit.busy_cycles + unit.stall_cycles + unit.idle_cycles == one.cycles for unit in one.units)
        assert min(min(unit.busy_cycles, unit.stall_cycles, unit.idle_cycles) for unit in one.units) >= 0
    assert sum(one.elapsed_cycles for one in fast) == max(one.start_cycle + one.cycles for one in fast)


def test_spikes_run_as_they_do_on_spikesim():
    """A spike is an input of one bit; the network of spikes is exact, its engines agree."""
    trace = tiny(images=1)
    both = [simulated(trace, engine=engine, record=True) for engine in ("compiled", "reference")]
    for fast, slow in zip(*both, strict=True):
        same(fast, slow)
        assert fast.mismatches == 0


def test_a_position_takes_pumas_time():
    """128 columns, 16-bit input, three stages of 100 ns: 1,800 ns with drivers of one bit, 100 (b + 2) in general. The
    clock is half of PUMA's, so that a stage has 50 cycles.

    What a run takes beside that (from DRAM, over the network and back) does not depend on the drivers; with one slot in
    a tile the stages follow each other, 300 ns a bit.
    """
    draw = np.random.default_rng(0)
    weight = draw.integers(-20, 21, (32, 128)).astype(np.int8)
    operation = Operation("fc", "linear", ("in",), "out", weight=weight)
    stage = ("clock_mhz=500", "pe.arrays=1", "tile.pes=1", "analog.rows=128", "analog.columns=256",
             "timing.drive_cycles=0", "timing.settle_cycles=50", "analog.adc.columns=50",
             "timing.conversion_cycles=1", "pe.shift_add_cycles=50")  # fmt: skip
    activations = build([operation], {"in": draw.integers(0, 256, (1, 128), dtype=np.uint8)}, 1)
    beside = set()
    for driver_bits in (1, 2, 4, 8):
        (layer,) = simulated(activations, *SMALL, *stage, f"analog.driver_bits={driver_bits}")
        assert layer.mismatches == 0
        beside.add(layer.cycles - 50 * (8 // driver_bits + 3 - 1))
    assert len(beside) == 1 and 0 < beside.pop() < 100
    wide = build([operation], {"in": draw.integers(0, 1 << 15, (1, 128)).astype(np.int16)}, 1)
    serial, overlapped = (simulated(wide, *SMALL, *stage, f"pe.in_flight={slots}")[0].cycles for slots in (1, 3))
    assert serial - overlapped == (16 * 300 - 1800) // 2


def matmul(transpose, tokens=5, channels=3, images=1, rows=2, seed=0):
    """One product of stored matrices: A of ``rows`` positions by K or V."""
    draw = np.random.default_rng(seed)
    inner, outer = (channels, tokens) if transpose else (tokens, channels)
    first = draw.integers(-128, 128, (images, inner, rows, 1)).astype(np.int8)
    second = draw.integers(-127, 128, (images, channels, tokens, 1)).astype(np.int8)
    operation = Operation("mm", "matmul", ("a", "b"), "out", transpose=transpose,
                          requantiser=Requantiser(np.full(outer, 3), 8))  # fmt: skip
    return build([operation], {"a": first, "b": second}, 1)


@pytest.mark.parametrize("transpose", [True, False])
def test_rows_are_written_one_after_the_other(transpose):
    """A pulse more of 50 cycles takes 50 cycles more for every row of the arrays: the channels for K, the tokens for V.

    Images follow each other: write; fetch (1), then bit by bit read (11), convert (8 x 10), add (1 + 3 + 3 levels), one
    after the other with one slot, until the last read is held (11). Then the next image's matrix may be written.
    """
    rows = 3 if transpose else 5
    one, two = (
        simulated(matmul(transpose), *SMALL, f"analog.cells.device.write.pulses={pulses}")[0] for pulses in (20, 21)
    )
    assert two.cycles - one.cycles == 50 * rows
    cells = 2 * 4 * (3 * 5)  # two columns in four slices of every value
    assert one.actions["write_driver", "pulse"] == 20 * cells
    assert two.actions["write_driver", "pulse"] == 21 * cells
    assert one.lower_bound_cycles == 20 * 50 * rows
    for positions in (1, 2, 4):
        cycles = [
            simulated(
                matmul(transpose, images=images, rows=positions), *SMALL, "pe.in_flight=1",
                "analog.cells.device.write.pulses=20",
            )[0].cycles
            for images in (1, 2, 3)
        ]  # fmt: skip
        period = 20 * 50 * rows + 1 + (8 * positions - 1) * (11 + 80 + 7) + 11
        assert np.diff(cycles).tolist() == [period, period]


def test_write_drivers_share_arrays():
    """Sixteen tokens an array of 16 columns holds two: 8 column blocks a row, one or eight at a time."""
    trace = matmul(True, tokens=16)
    narrow = ("analog.columns=16",)
    slow, fast = (simulated(trace, *SMALL, *narrow, f"write.arrays={arrays}")[0] for arrays in (1, 8))
    assert slow.cycles - fast.cycles == 3 * 50 * 7
    assert slow.actions["write_driver", "pulse"] == fast.actions["write_driver", "pulse"]


def test_digital_units_take_their_equations():
    """Rows of a map of width W and C channels on L lanes; one image, so that a row is worked on at a time."""
    trace = attention(images=1)
    lanes, divide, root = 2, 5, 7
    chip = machine(f"digital.lanes={lanes}", f"digital.divide_cycles={divide}", f"digital.root_cycles={root}")
    stages = {stage.name: stage for stage in stages_of(trace, chip.layers(trace))}
    assert chip.config.unit(stages["embed"]).cycles == -(-4 * 2 // lanes)
    assert chip.config.unit(stages["norm"]).cycles == 2 * (3 * 2 + divide + root)
    assert chip.config.unit(stages["shares"]).cycles == 2 * (3 * 3 + divide)
    results = {
        layer.layer: layer
        for layer in chip.run_layers(trace, chip.layers(trace), "compiled", verify=True, record=False)
    }
    busy = {name: sum(unit.busy_cycles for unit in results[name].units if unit.unit == "digital") for name in results}
    assert busy["shares"] >= 3 * chip.config.unit(stages["shares"]).cycles
    assert results["shares"].actions["digital", "softmax"] == 6 * 3 * 2
    assert results["norm"].actions["digital", "layer_norm"] == 4 * 3 * 2
    assert results["embed"].actions["digital", "add"] == 4 * 3 * 2


def test_attention_is_computed_exactly_and_in_the_right_order():
    trace = transformer()
    layers = {layer.layer: layer for layer in simulated(trace)}
    end = {name: layer.start_cycle + layer.cycles for name, layer in layers.items()}
    assert not any(layer.mismatches for layer in layers.values())
    assert end["s0"] > end["k0"] and end["p0"] > end["s0"] and end["m0"] > end["p0"] and end["fc"] == max(end.values())
    # Rows of V are written as they come, all of K before: V's product can begin no later than it would otherwise.
    assert layers["m0"].actions["write_driver", "pulse"] == 2 * 5 * 3 * 2 * 4


def test_rows_that_are_driven_by_numpy():
    """Set bits of inputs, in every column block; signed inputs in two's complement."""
    trace = stored_in_bytes(transformer())
    chip = machine("analog.columns=16")
    stages = {stage.name: stage for stage in stages_of(trace, chip.layers(trace))}
    for layer in chip.run_layers(trace, chip.layers(trace), "compiled", verify=False, record=False):
        operation = trace.operation(layer.layer)
        if operation.op not in ("conv2d", "matmul"):
            continue
        values = trace.tensor(operation.inputs[0]).astype(np.int64) & 0xFF
        blocks = map_layer(chip.config, stages[layer.layer]).blocks
        assert layer.actions["array", "row_read"] == int(np.bitwise_count(values).sum()) * blocks


def test_silent_bits_are_skipped():
    """Activations below 16 leave the upper four bits silent: half of the reads, the same outputs."""
    trace = ann(0, m=6, n=4, k=64)
    small = trace.tensor("in") & 15
    trace = build(list(trace.operations), {"in": small}, 1)
    dense, sparse = (simulated(trace, *SMALL, f"scheduler.skip={skip}")[0] for skip in ("none", "row_group"))
    assert dense.actions["adc", "convert"] == 2 * sparse.actions["adc", "convert"]
    assert sparse.cycles < dense.cycles
    assert dense.mismatches == sparse.mismatches == 0


@pytest.mark.parametrize(("alpha", "beta", "slices"), [(0, 1, 4), (0, 0.25, 3), (2, 0.25, 3), (0, 0.06, 2)])
def test_a_cap_removes_slices_of_what_is_written(alpha, beta, slices):
    """K and V take fewer cells, weights as many as before; as many as the function writes."""
    overrides = (f"analog.dynamic.alpha={alpha}", f"analog.dynamic.beta={beta}")
    trace = stored_in_bytes(transformer())
    chip = machine(*overrides)
    stages = {stage.name: stage for stage in stages_of(trace, chip.layers(trace))}
    assert chip.config.arrays(stages["s0"]).conversions == slices
    assert chip.config.arrays(stages["up"]).conversions == 4
    results = simulated(trace, *overrides)
    network = AnalogNetwork(trace, chip.config.analog, weight_bits=8, on_arrays=["s0", "m0"])
    for layer in results:
        if layer.layer in network.writes:
            assert layer.actions["write_driver", "pulse"] == 2 * network.writes[layer.layer].cells


def test_offset_columns_have_references_to_write():
    trace = stored_in_bytes(transformer())
    overrides = ("analog.signed=offset_column", "analog.columns=20")
    chip = machine(*overrides)
    network = AnalogNetwork(trace, chip.config.analog, weight_bits=8, on_arrays=["s0", "m0"])
    for layer in simulated(trace, *overrides):
        if layer.layer in network.writes:
            assert layer.actions["write_driver", "pulse"] == 2 * network.writes[layer.layer].cells


def test_a_lossy_transformer_tells_what_it_is_worth(tmp_path, capsys):
    """Accuracy over the evaluation set, writes, endurance and the semantics of noise, in summary, terminal and page."""
    trace = stored_in_bytes(transformer(images=1))
    save_trace(with_images(trace), tmp_path / "vit.npz")
    out = tmp_path / "out"
    arguments = ["run", str(VIT), str(tmp_path / "vit.npz"), "-o", str(out), "--report", "--set", "evaluation_images=6"]
    assert main(arguments) == 0
    told = capsys.readouterr().err
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["exact"], summary["noise"], summary["evaluated_images"]) == (False, "frozen", 6)
    assert 0 <= summary["accuracy"] <= 1 and 0 <= summary["exact_accuracy"] <= 1
    assert summary["cell_writes_per_image"] == 2 * 2 * 5 * 3 * 2 * 4
    assert summary["images_to_wear_out"] == 1_000_000
    assert summary["edap_j_s_mm2"] == pytest.approx(
        summary["energy_pj"] * 1e-12 * summary["latency_s"] * summary["area_mm2"]
    )
    page = next(out.glob("*.html")).read_text()
    assert "noise frozen" in told and "noise frozen" in page
    assert "as this machine may lose precision" in page
    report = run(IDEAL, tmp_path / "vit.npz", overrides=["evaluation_images=4"])
    assert report.summary()["verified"] and report.findings["accuracy"] == report.findings["exact_accuracy"]
    assert report.findings["noise"] == "frozen"


def test_every_report_says_when_noise_is_drawn(tmp_path, capsys):
    """Every table too, and without verification as well, as it is a word about the cells and not about outputs."""
    save_trace(stored_in_bytes(transformer(images=1)), tmp_path / "vit.npz")
    out = tmp_path / "out"
    settings = ("--set", "analog.cells.noise=per_read", "--set", "noc.rows=fit")
    assert main(["run", str(VIT), str(tmp_path / "vit.npz"), "-o", str(out), "--report", "--no-verify", *settings]) == 0
    assert "noise per_read" in capsys.readouterr().err
    assert "noise per_read" in next(out.glob("*.html")).read_text()
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["noise"], summary["noise_seed"], summary["verified"]) == ("per_read", 1, None)
    assert summary["fitted_noc_rows"] >= 1
    for table in out.glob("*.csv"):
        with table.open(newline="") as file:
            assert {row["noise"] for row in csv.DictReader(file)} == {"per_read"}, table.name


@pytest.mark.parametrize("often", [1, 3])
def test_the_most_written_cell_decides_when_a_chip_is_worn_out(often, monkeypatch):
    """Matrices that follow each other in the same arrays write all their cells again."""
    monkeypatch.setattr("archsim.accelerators.imc.matrices_per_image", lambda trace, operation: often)
    chip = machine("analog.cells.device.write.endurance=100", "analog.cells.device.write.pulses=7")
    found = chip.metrics(matmul(True))
    assert found["images_to_wear_out"] == 100 // often
    assert found["cell_writes_per_image"] == often * 2 * 4 * 15
    assert machine("analog.cells.device.kind=sram").metrics(matmul(True))["images_to_wear_out"] is None


def with_images(trace):
    """The same trace with an evaluation set."""
    from archsim.trace import Trace

    draw = np.random.default_rng(1)
    shape = trace.meta.tensors["pixels"].shape
    images = ImageSet(draw.integers(0, 256, (8, *shape), dtype=np.uint8), draw.integers(0, 3, 8))
    return Trace(network="vit", timesteps=1, operations=list(trace.operations),
                 tensors={name: trace.tensor(name) for name in trace.tensors}, evaluation=images,
                 provenance={"kind": "synthetic", "weights": "synthetic"})  # fmt: skip


def test_every_layer_is_compared_on_the_traces_inputs():
    """With converters of two bits currents differ, and outputs with them; digital layers stay exact."""
    trace = stored_in_bytes(transformer())
    layers = {layer.layer: layer for layer in simulated(trace, "analog.adc.bits=2", "analog.adc.range=maximum")}
    wrong = {name for name, layer in layers.items() if layer.mismatches}
    assert {"patches", "o"} <= wrong
    assert not wrong & {"norm", "p0", "p1", "skip", "skip2"}


@pytest.mark.parametrize("steps", [1, 2])
def test_a_network_can_stop_early(steps):
    """The first timesteps of a trace are the trace of a run that stopped: computed anew, tensor by tensor."""
    trace = tiny(timesteps=3)
    operations = [
        replace_neuron(operation) if operation.neuron is not None else operation for operation in trace.operations
    ]
    trace = build(operations, {"pixels": trace.tensor("pixels")}, 3)
    cut = machine(f"scheduler.first_timesteps={steps}").visible_trace(trace)
    assert cut.timesteps == steps
    made = {"pixels": trace.tensor("pixels")}
    for operation in cut.operations:
        made[operation.output] = compute(operation, [made[name] for name in operation.inputs], steps)
        np.testing.assert_array_equal(made[operation.output], cut.operand(operation.output))
    assert all(layer.mismatches == 0 and layer.timesteps == steps for layer in simulated(cut))


def replace_neuron(operation):
    copied = replace(operation.neuron, mask_fire_once=False)
    return replace(operation, neuron=copied)


def test_what_cannot_stop_early(tmp_path):
    trace = tmp_path / "net.npz"
    save_trace(tiny(), trace)
    for steps, words in ((2, "conv2 depends on later ones"), (5, "got 5 timesteps; small has 4")):
        with pytest.raises(UsageError, match=words):
            run(IDEAL, trace, overrides=[f"scheduler.first_timesteps={steps}"])


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("analog.columns=4", "must hold a weight of 8 bits, got 4"),
        ("timing.conversion_cycles=0", "must be at least 1 or must be 'sar', got 0"),
        ("scheduler.first_timesteps=0", "must be at least 1 or must be 'all', got 0"),
        ("analog.cells.noise=sometimes", "sometimes"),
        ("neuron.modules=144", "must leave nodes of the 12 x 12 mesh to tiles"),
        ("write.arrays=0", "must be at least 1"),
        ("digital.lanes=0", "must be at least 1"),
        ("evaluation_images=0", "must be at least 1"),
    ],
)
def test_bad_configurations(override, problem):
    with pytest.raises(ConfigError) as error:
        load_accelerator(IDEAL, (override,))
    path = override.partition("=")[0]
    assert [line for line in error.value.problems if line.startswith(f"--set {path}") and problem in line]


def test_networks_that_do_not_fit():
    trace = stored_in_bytes(transformer())
    for overrides, words in (
        (("noc.rows=2", "noc.columns=4"), "the chip has 4 tiles, the layers need 15"),
        (("tile.buffer_bits=64",), "tile.buffer_bits: 64 bits hold 1 rows of the input of fc, it needs 5"),
        (("memory.cache.size_kib=1", "memory.cache.banks=1"), "memory.cache.size_kib: potentials and rows of outputs"),
        (("analog.driver_bits=2",), "inputs with a sign are driven bit by bit, those of q0"),
    ):
        problems = machine(*overrides).problems(trace)
        assert any(words in problem for problem in problems), problems
    weight = layer_of(mlp(0), mlp(0).operations[0])
    lowest = mlp(0).operations[0].weight.copy()
    lowest[0, 0] = -128
    net = build([Operation("fc", "linear", ("in",), "out", weight=lowest)], {"in": mlp(0).tensor("in")}, 4)
    assert weight.n == 7 and machine().problems(net) == []  # four slices of two bits hold a magnitude of 128
    assert "holds weights from -127 on" in machine("analog.cells.device.bits=7").problems(net)[0]


def test_a_full_map_of_the_network_is_kept_where_ways_meet():
    trace = transformer()
    stages = {stage.name: stage for stage in stages_of(trace, machine().layers(trace))}
    assert {name for name, stage in stages.items() if stage.kept} == {"patches", "norm", "skip"}
    assert {name for name, stage in stages.items() if stage.leaves} == {"fc"}
    assert (stages["s0"].transposed, stages["m0"].transposed) == (True, False)
    assert [feed.source for feed in stages["o"].feeds] == [list(stages).index("m0"), list(stages).index("m1")]


def test_neurons_and_spikes_have_no_requantiser():
    trace = build(
        [Operation("fc", "linear", ("in",), "out", weight=np.ones((2, 4), np.int8), neuron=lif(2))],
        {"in": np.ones((4, 1, 4), bool)}, 4,
    )  # fmt: skip
    (stage,) = stages_of(trace, list(trace.operations))
    assert (stage.fires, stage.bits, stage.out_bits) == (True, 1, 1)


def test_a_layer_without_weights_says_so():
    """What reads weights of a product, or inputs of a softmax, hears that there are none; no zeros stand for them."""
    trace = transformer()
    stages = {stage.name: stage for stage in stages_of(trace, machine().layers(trace))}
    product, shares = (chip_layer(trace, trace.operation(name), stages[name]) for name in ("s0", "p0"))
    assert (product.columns, shares.columns, shares.rows) == (None, None, None)
    assert sum(1 for _ in product.maps()) == 1 and shares.maps is None
    with pytest.raises(ValueError, match=r"s0 \(matmul\) has no weights"):
        product.weights  # noqa: B018
    with pytest.raises(ValueError, match=r"p0 \(softmax\) has no rows of inputs"):
        shares.inputs  # noqa: B018


@pytest.mark.parametrize(("weight_bits", "slices"), [(8, 4), (6, 3), (4, 2), (2, 1)])
@pytest.mark.parametrize("activation_bits", [2, 4, 8])
def test_slices_and_pulses_follow_the_bits(weight_bits, slices, activation_bits):
    """Cells of 2 bits hold magnitudes of w - 1 bits; inputs come bit by bit. Conversions are their product."""
    trace = quantised(weight_bits, activation_bits)
    chip = machine("analog.signed=differential", "memory.ideal=true")
    (result,) = simulated(trace, "analog.signed=differential", "memory.ideal=true")
    (stage,) = stages_of(trace, trace.operations)
    assert chip.config.arrays(stage).conversions == slices
    assert result.mismatches == 0
    rows = -(-96 // chip.config.analog.rows)
    assert result.actions["adc", "convert"] == 9 * 20 * rows * slices * activation_bits
