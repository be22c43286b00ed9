"""What every shipped machine must do, whatever it is: a new hardware file is picked up here by existing."""

import pytest

from archsim.accelerators import registry
from archsim.cost import area_rows, energy_rows, load_table
from archsim.cost.pricing import family_name
from archsim.dataflow.layer import layer_of
from archsim.simulate import load_accelerator, run
from archsim.trace import load_trace
from tests.machines import MACHINES, ROOT, fitting, fitting_convolution, layers, same, simulate

VGG9 = ROOT / "workloads" / "vgg9_dual_sparse.npz"
SHAPES = [
    {"m": 1, "n": 1, "k": 1}, {"m": 3, "n": 5, "k": 128}, {"m": 17, "n": 130, "k": 40}, {"m": 20, "n": 9, "k": 300},
    {"m": 6, "n": 4, "k": 256, "density": 0.0}, {"m": 6, "n": 4, "k": 256, "weight_density": 0.0},
    {"m": 20, "n": 12, "k": 150, "density": 1.0, "weight_density": 1.0},
]  # fmt: skip

each_machine = pytest.mark.parametrize("hardware", MACHINES, ids=lambda path: path.stem)
each_spiking_machine = pytest.mark.parametrize(
    "hardware", [path for path in MACHINES if load_accelerator(path).operand == "spike"], ids=lambda path: path.stem
)


def exact(hardware):
    """Whether outputs must equal the trace's; a machine that is meant to lose something ships an exact variant too."""
    return load_accelerator(hardware).exact


def test_every_accelerator_ships_a_machine():
    shipped = {load_accelerator(path).name for path in MACHINES}
    assert shipped == set(registry())
    assert {load_accelerator(path).name for path in MACHINES if exact(path)} == shipped
    assert len(MACHINES) >= 4


def test_paths_exist_where_the_readme_says():
    """hwconfigs/README.md: a path is in all files of the machines that its row names, and in no other of this table."""
    lines = (ROOT / "hwconfigs" / "README.md").read_text().splitlines()
    rows = lines[lines.index("| paths | in the files of |") + 2 :]
    rows = [row.strip("| ").split(" | ") for row in rows[: rows.index("")]]
    assert len(rows) >= 9
    named = {name for _, names in rows for name in names.split(", ")} - {"every machine"}
    files = [load_accelerator(path).config.model_dump(exclude_unset=True) for path in MACHINES]
    for paths, names in rows:
        for path in paths.replace("`", "").split(", "):
            for file in files:
                block = file
                *blocks, key = path.split(".")
                for one in blocks:
                    block = block.get(one, {})
                if names == "every machine" or file["accelerator"] in named:
                    expected = names == "every machine" or file["accelerator"] in names.split(", ")
                    assert (key in block) == expected, (path, file["accelerator"])


@each_machine
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_any_shape_is_computed_exactly_and_engines_agree(hardware, shape):
    trace = fitting(load_accelerator(hardware), 11, **shape)
    for overrides in ((), ("memory.ideal=true",)):
        fast = simulate(trace, *overrides, hardware=hardware, record=True)[0]
        slow = simulate(trace, *overrides, hardware=hardware, engine="reference", record=True)[0]
        same(fast, slow)
        assert fast.mismatches == 0 or not exact(hardware)
        assert fast.cycles >= fast.lower_bound_cycles
        assert all(min(unit.busy_cycles, unit.stall_cycles, unit.idle_cycles) >= 0 for unit in fast.units)
        assert all(
            unit.busy_cycles + unit.stall_cycles + unit.idle_cycles == fast.cycles for unit in fast.units
        )  # fmt: skip


@each_machine
@pytest.mark.parametrize("timesteps", [1, 3, 16])
def test_any_number_of_timesteps(hardware, timesteps):
    machine = load_accelerator(hardware)
    if machine.operand == "int":
        assert machine.problems(fitting(machine, 0)) == []
        return
    trace = fitting(machine, 5, m=9, n=6, k=140, timesteps=timesteps, density=0.2)
    fast, slow = (simulate(trace, hardware=hardware, engine=engine)[0] for engine in ("compiled", "reference"))
    same(fast, slow)
    assert fast.mismatches == 0 or not exact(hardware)


@each_machine
def test_a_convolution(hardware):
    """Function and engines on unrolled rows, with a stride, and of two images."""
    if load_accelerator(hardware).operand == "int":
        return
    for stride in (1, 2):
        trace = fitting_convolution(load_accelerator(hardware), 3, stride=stride)
        fast, slow = (simulate(trace, hardware=hardware, engine=engine)[0] for engine in ("compiled", "reference"))
        same(fast, slow)
        assert fast.mismatches == 0 or not exact(hardware)
        assert fast.m == 2 * ((6 - 1) // stride + 1) ** 2


@each_machine
def test_a_wrong_output_is_found(hardware):
    trace = fitting(load_accelerator(hardware), 3, m=4, n=9)
    layer = layers(trace, hardware)[0]
    machine = load_accelerator(hardware).specialised_for(trace)
    before = machine.run_layer(layer, "compiled", verify=True, record=False).mismatches
    wrong = layer.expected.copy()
    wrong.flat[7] += 1
    object.__setattr__(layer, "expected", wrong)
    after = machine.run_layer(layer, "compiled", verify=True, record=False).mismatches
    assert after == before + 1 == 1 or not exact(hardware)


# In LoAS's Table IV their area is contained in that of other rows; DRAM is off the chip.
WITHOUT_AREA = {"compressor", "scheduler", "cache_tag", "crossbar_switch", "broadcast", "dram"}
# Built, priced and not used by any of the traces below: why.
OF_TRANSFORMERS = {
    "lif.add": "sums of several layers are added before they fire in residual networks only",
    "lif.requantise": "of networks without spikes",
    "digital": "of transformers",
    "write_driver": "of transformers",
}
NO_BROADCAST = {"broadcast": "loaders read through the switch, and nothing else comes from a bank"}
PLACES = {
    "pending_sum": "a sum is added up in a place, whichever it is: priced with the additions",
    "offset_table": "offsets go to a table, whichever it is: priced with the laggy passes",
}
ONE_CORE = {
    "axon_out": "of networks of several layers",
    "router": "the only core is at the router that the host's port leads to",
}
UNUSED = {
    "manycore": ONE_CORE,
    "ttfs": {"join.spike": "a layer alone reads no join"},
    "loihi1": {"axon_out": ONE_CORE["axon_out"], "router.row_hop": "ports lead into the column of the only core"},
    "loas": PLACES,
    "loas_f40": PLACES,
    "loas_literal_laggy": PLACES,
    "loas_one_laggy_unit": PLACES,
    "imc_cnn": OF_TRANSFORMERS,
    "imc_vit": OF_TRANSFORMERS,
    "imc_ideal": OF_TRANSFORMERS,
    "prosperity": NO_BROADCAST,
    "prosperity_rtl": NO_BROADCAST,
    "bit_composable": {"pe.compose": "weights of these traces have 8 bits, and a PE to themselves"},
    "flywire": {"broadcast": "one array, and nobody else reads"},
    "neuron_core": {"broadcast": "every core reads for itself"},
    "gamma": {"broadcast": "every element reads for itself"},
    "gamma_snn": {"broadcast": "every element reads for itself"},
    "gamma_snn_f40": {"broadcast": "every element reads for itself"},
    "sata": {"output_buffer.read": "outputs pass it on their way to DRAM"},
    "sata_training": {
        "output_buffer.read": "outputs pass it on their way to DRAM",
        "potential_buffer": "of the training stages, which these traces do not run",
        "mask_buffer": "of the training stages, which these traces do not run",
        "pgu": "of the training stages, which these traces do not run",
    },
    "tt_snn_training": {
        "output_buffer.read": "outputs pass it on their way to DRAM",
        "potential_buffer": "of the training stages, which these traces do not run",
        "mask_buffer": "of the training stages, which these traces do not run",
        "pgu": "of the training stages, which these traces do not run",
        "link_buffer": "of decomposed convolutions",
        "adder": "of decomposed convolutions",
    },
    "spikesim": {"lif.add": "sums of several parts of K meet in larger layers only"},
    "spikesim_lossless": {"lif.add": "sums of several parts of K meet in larger layers only"},
}


@each_machine
def test_every_action_has_a_price_and_is_done_and_every_part_has_an_area(hardware):
    machine = load_accelerator(hardware)
    table, inventory = load_table(machine.cost_table), machine.inventory()
    traces = [fitting(machine, 4, m=20, n=130)] + (
        [] if machine.operand == "int" else [fitting_convolution(machine, 4)]
    )
    done = {}
    for trace in traces:
        result = simulate(trace, hardware=hardware)[0]
        rows = energy_rows(result.actions, inventory, table, result.cycles, machine.clock_mhz)
        assert all(row.energy_pj > 0 for row in rows if row.count > 0), rows
        for action, count in result.actions.items():
            done[action] = done.get(action, 0) + count
    unused = UNUSED.get(hardware.stem, {})
    idle = {action for action, count in done.items() if count == 0}
    listed = {action for action in done if action[0] in unused or ".".join(action) in unused}
    assert idle == listed
    priced = {part.unit for part in inventory if table.families[family_name(part)].energy_pj}
    assert priced - {unit for unit, _ in done} - set(unused) == set()
    for row in area_rows(inventory, table):
        assert (row.area_mm2 > 0) == (row.unit not in WITHOUT_AREA), row.unit


@pytest.mark.parametrize(
    "overrides",
    [
        "prosperity tile.k=1 tile.rows=16 pe.count=1", "gospa_snn psum.bits=8 psum.size_kib=1",
        "gospa_snn psum.bits=63 psum.size_kib=1 pe.row_buffers=1", "spinalflow merger.buffer_kib=1",
        "gamma_snn pe.radix=2 pe.burst_lines=2 pe.burst_buffers=4", "gamma pe.radix=256 pe.burst_buffers=64",
    ],
)  # fmt: skip
def test_the_smallest_buffers_have_a_price(overrides):
    name, *options = overrides.split()
    machine = load_accelerator(ROOT / "hwconfigs" / f"{name}.yaml", options)
    assert all(row.area_mm2 >= 0 for row in area_rows(machine.inventory(), load_table(machine.cost_table)))


@each_spiking_machine
def test_the_trained_network_is_computed_exactly(hardware):
    """Output spikes of every layer of the trained VGG9 equal the trace's."""
    machine = load_accelerator(hardware)
    summary = run(hardware, VGG9).summary()
    assert summary["layers_verified"] == len(machine.layers(load_trace(VGG9)))
    if machine.exact:
        assert (summary["mismatches"], summary["verified"]) == (0, True)
        assert "exact" not in summary
    else:
        assert (summary["exact"], summary["exact_accuracy"]) == (False, 1.0)
        assert 0 <= summary["accuracy"] <= 1


@each_spiking_machine
def test_a_small_trained_layer_takes_the_same_time_in_both_engines(hardware):
    trace = load_trace(VGG9).select(images=[0])
    machine = load_accelerator(hardware).specialised_for(trace)
    layer = layer_of(trace, trace.operation("fc"))
    fast, slow = (machine.run_layer(layer, engine, verify=True, record=True) for engine in ("compiled", "reference"))
    same(fast, slow)
    assert len(fast.completions) == len(slow.completions) > 0
    assert fast.mismatches == slow.mismatches
    assert fast.mismatches == 0 or not exact(hardware)


@each_machine
def test_ideal_memory_is_never_slower(hardware):
    trace = fitting(load_accelerator(hardware), 8, m=20, n=9, k=300)
    real, ideal = (simulate(trace, *o, hardware=hardware)[0].cycles for o in ((), ("memory.ideal=true",)))
    assert ideal <= real
