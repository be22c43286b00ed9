"""What every shipped machine must do, whatever it is: a new hardware file is picked up here by existing."""

import pytest

from archsim.accelerators import registry
from archsim.accelerators.base import layer_of
from archsim.cost import area_rows, energy_rows, load_table
from archsim.simulate import load_accelerator, run
from archsim.trace import load_trace
from tests.machines import MACHINES, ROOT, conv, fitting, layers, same, simulate

VGG9 = ROOT / "workloads" / "vgg9_dual_sparse.npz"
SHAPES = [
    {"m": 1, "n": 1, "k": 1}, {"m": 3, "n": 5, "k": 128}, {"m": 17, "n": 130, "k": 40}, {"m": 20, "n": 9, "k": 300},
    {"m": 6, "n": 4, "k": 256, "density": 0.0}, {"m": 6, "n": 4, "k": 256, "weight_density": 0.0},
    {"m": 20, "n": 12, "k": 150, "density": 1.0, "weight_density": 1.0},
]  # fmt: skip

each_machine = pytest.mark.parametrize("hardware", MACHINES, ids=lambda path: path.stem)


def exact(hardware):
    """Whether outputs must equal the trace's; a machine that is meant to lose something ships an exact variant too."""
    return load_accelerator(hardware).exact


def test_every_accelerator_ships_a_machine():
    shipped = {load_accelerator(path).name for path in MACHINES}
    assert shipped == set(registry())
    assert {load_accelerator(path).name for path in MACHINES if exact(path)} == shipped
    assert len(MACHINES) >= 4


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
        trace = conv(3, stride=stride)
        fast, slow = (simulate(trace, hardware=hardware, engine=engine)[0] for engine in ("compiled", "reference"))
        same(fast, slow)
        assert fast.mismatches == 0 or not exact(hardware)
        assert fast.m == 2 * ((6 - 1) // stride + 1) ** 2


@each_machine
def test_a_wrong_output_is_found(hardware):
    trace = fitting(load_accelerator(hardware), 3, m=4, n=9)
    layer = layers(trace, hardware)[0]
    before = load_accelerator(hardware).run_layer(layer, "compiled", verify=True, record=False).mismatches
    wrong = layer.expected.copy()
    wrong.flat[7] += 1
    object.__setattr__(layer, "expected", wrong)
    after = load_accelerator(hardware).run_layer(layer, "compiled", verify=True, record=False).mismatches
    assert after == before + 1 == 1 or not exact(hardware)


@each_machine
def test_every_action_has_a_price_and_every_part_an_area(hardware):
    machine = load_accelerator(hardware)
    table, inventory = load_table(machine.cost_table), machine.inventory()
    result = simulate(fitting(machine, 4), hardware=hardware)[0]
    rows = energy_rows(result.actions, inventory, table, result.cycles, machine.clock_mhz)
    assert sum(row.energy_pj for row in rows) > 0
    assert sum(row.area_mm2 for row in area_rows(inventory, table)) > 0


@each_machine
def test_the_trained_network_is_computed_exactly(hardware):
    """Output spikes of every layer of the trained VGG9 equal the trace's."""
    machine = load_accelerator(hardware)
    if machine.operand == "int":
        return
    summary = run(hardware, VGG9).summary()
    assert summary["layers_verified"] == len(machine.layers(load_trace(VGG9)))
    if machine.exact:
        assert (summary["mismatches"], summary["verified"]) == (0, True)
        assert "exact" not in summary
    else:
        assert (summary["exact"], summary["exact_accuracy"]) == (False, 1.0)
        assert 0 <= summary["accuracy"] <= 1


@each_machine
def test_a_small_trained_layer_takes_the_same_time_in_both_engines(hardware):
    machine = load_accelerator(hardware)
    if machine.operand == "int":
        return
    trace = load_trace(VGG9).select(images=[0])
    layer = layer_of(trace, trace.operation("fc"))
    same(*(machine.run_layer(layer, engine, verify=True, record=True) for engine in ("compiled", "reference")))


@each_machine
def test_ideal_memory_is_never_slower(hardware):
    trace = fitting(load_accelerator(hardware), 8, m=20, n=9, k=300)
    real, ideal = (simulate(trace, *o, hardware=hardware)[0].cycles for o in ((), ("memory.ideal=true",)))
    assert ideal <= real
