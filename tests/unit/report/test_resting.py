"""What results rest on: the weakest link by hand, and no unit called a circuit that was not compared with one."""

import pytest

from archsim import examples
from archsim.accelerators import registry
from archsim.cost import AreaRow, EnergyRow, PriceRow
from archsim.dataflow.base import memory_components
from archsim.hardware.inventory import Component
from archsim.hardware.loading import Explained
from archsim.report import columns, evidence
from archsim.report.evidence import CIRCUIT_OF_KIND, CIRCUITS, Evidence, circuit_of, of_machine, of_run
from archsim.simulate import example_of, load_accelerator
from tests.machines import ROOT


def values(**grades):
    return [Explained(path, 1, "file", grade, "", "") for path, grade in grades.items()]


def units(*names):
    """Units, of the kind that a name says where there is one."""
    return [Component(name, name, 1) for name in names]


def area(**sizes):
    return [AreaRow(unit, 1, mm2, "", confidence) for unit, (mm2, confidence) in sizes.items()]


def test_by_hand():
    """Two of three units are circuits, so cycles are no more than paper; a fifth of the area is our choice."""
    built = area(tppe=(4.0, "published"), dram=(0.0, "assumed"), scheduler=(1.0, "assumed"))
    cycles, traffic, areas = of_machine(
        "loas", units("tppe", "dram", "scheduler"), values(a="paper", b="paper", description=""), built
    )
    told = "values: 2 paper; a circuit agrees with 2 of 3 units (tppe, dram)"
    assert (cycles, traffic) == (Evidence("cycles", "paper", told), Evidence("traffic", "paper", told))
    assert areas == Evidence("area", "assumed", "80 % paper, 20 % assumed")
    prices = [PriceRow("tppe", "add", 1.0, "pJ", "cacti", ""), PriceRow("dram", "*", 1.0, "pJ", "published", "")]
    charged = [EnergyRow("tppe", "add", 3, 3.0), EnergyRow("dram", "read", 1, 1.0)]
    energy = of_run([cycles, traffic, areas], charged, prices)[-1]
    assert energy == Evidence("energy", "inferred", "prices: 25 % paper, 75 % inferred; counts: as cycles (paper)")


def test_all_units_and_values_make_rtl():
    (cycles, *_) = of_machine("loas", units("tppe", "dram"), values(a="rtl"), area())
    assert cycles.grade == "rtl"
    (cycles, *_) = of_machine("loas", units("tppe", "dram"), values(a="rtl", b="assumed"), area())
    assert cycles.grade == "assumed"
    (cycles, *_) = of_machine("ptb", units("tppe", "dram"), values(a="rtl"), area())
    assert cycles.grade == "paper"


def test_energy_is_no_better_than_its_counts():
    cycles = Evidence("cycles", "assumed", "")
    prices = [PriceRow("pe", "add", 1.0, "pJ", "published", "")]
    assert of_run([cycles], [EnergyRow("pe", "add", 1, 1.0)], prices)[-1].grade == "assumed"


def test_a_price_of_nothing_weakens_nothing():
    prices = [PriceRow("pe", "add", 1.0, "pJ", "published", ""), PriceRow("pe", "idle", 0.0, "pJ", "assumed", "")]
    charged = [EnergyRow("pe", "add", 1, 1.0), EnergyRow("pe", "idle", 9, 0.0)]
    assert of_run([Evidence("cycles", "rtl", "")], charged, prices)[-1].grade == "paper"


def test_every_circuit_is_there_and_every_unit_is_one_of_the_machine():
    names = {path.name.removesuffix("_top.sv") for path in (ROOT / "tests" / "rtl" / "circuits").glob("*_top.sv")}
    assert {*CIRCUITS, *CIRCUIT_OF_KIND.values()} <= names
    built = {}
    for path in examples.machines().values():
        machine = example_of(load_accelerator(path), path)
        built.setdefault(machine.name, {}).update({component.unit: component for component in machine.inventory()})
    for circuit, found in CIRCUITS.items():
        for unit, machines in found.items():
            for machine in machines:
                assert unit in built[machine], (circuit, unit, machine)
                assert circuit_of(machine, built[machine][unit]) == circuit
    assert circuit_of("loas", built["loas"]["scheduler"]) is None
    assert CIRCUIT_OF_KIND.keys() <= {component.kind for of in built.values() for component in of.values()}
    assert set(built) == set(registry())


def test_a_machine_of_somebody_else_has_the_circuits_of_its_memory():
    """Banks, tags, switches and DRAM are those of all machines; its own PEs are in no circuit."""
    memory = load_accelerator(ROOT / "hwconfigs" / "loas.yaml").config.memory
    inventory = [Component("pe", "logic", 16), *memory_components(memory, 16)]
    (cycles, *_) = of_machine("weight_stationary", inventory, values(a="paper"), area())
    found = "a circuit agrees with 4 of 6 units (cache_data, cache_tag, crossbar_switch, dram)"
    assert cycles == Evidence("cycles", "paper", f"values: 1 paper; {found}")


@pytest.mark.parametrize(("name", "results"), [
    ("cycles", ["cycles"]), ("busy_cycles", ["cycles"]), ("latency_s", ["cycles"]), ("utilization", ["cycles"]),
    ("energy_pj", ["energy"]), ("pj_per_synaptic_operation", ["energy"]), ("energy_per_image_pj", ["energy"]),
    ("area_mm2", ["area"]), ("edap_j_s_mm2", ["area", "energy"]), ("dram_read_bytes", ["traffic"]),
    ("dram_bytes", ["traffic"]), ("estimate_pj", []), ("energy_over_estimate", []), ("matches", []),
    ("accuracy", []), ("engine_wall_s", []),
])  # fmt: skip
def test_which_columns_are_which_results(name, results):
    """The estimate of papers, and what the network alone says, rest on no machine."""
    assert columns.results_in(name) == results
    assert set(results) <= {"cycles", "traffic", "area", "energy"}
    assert evidence.GRADE_OF_PRICE.keys() == {"published", "cacti", "derived", "assumed"}
