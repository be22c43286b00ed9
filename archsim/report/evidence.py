"""What the results of a machine rest on, by the grades of :mod:`archsim.hardware.evidence`.

    cycles    the values of the hardware file, and the units: rtl where a circuit of the unit agrees in every cycle,
              paper where there is none and the unit follows its description
    traffic   the same values and units
    energy    the prices of what was charged, weighted by their energy, and what cycles rest on, as these count actions
    area      the prices of what is built, weighted by their area

The grade is that of the weakest of these. How much rests on what is told beside it, because one assumed value among
fifty makes all cycles assumed. A price has the grade of its confidence: paper for what is published, inferred for
CACTI's figures and for arithmetic, else assumed. A circuit is that of the unit with its usual settings: an
idealisation, such as ``memory.ideal``, is in none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from archsim.hardware.evidence import GRADES, weakest
from archsim.report.verdict import percent

if TYPE_CHECKING:
    from archsim.cost import AreaRow, EnergyRow, PriceRow
    from archsim.hardware.inventory import Component
    from archsim.hardware.loading import Explained

GRADE_OF_PRICE = {"published": "paper", "cacti": "inferred", "derived": "inferred", "assumed": "assumed"}
PRICED_ONLY = ("technology_nm", "cost.table")
"""Values that change no cycle."""
CIRCUIT_OF_KIND = {"switch": "crossbar_switch", "cache": "cache", "cache_tag": "cache", "dram": "dram"}
"""Circuits of ``tests/rtl`` that agree with archsim in every cycle, by the kind of a component: one engine serves the
switches, banks and channels of all machines, so that a user's machine has these circuits, too."""
CIRCUITS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "neurons": {
        "p_lif": ("loas",),
        "lif": ("sparten_snn",),
        "compressor": ("loas", "sparten_snn", "sparten"),
    },
    "inner_join": {"tppe": ("loas",), "pe": ("sparten_snn",)},
    "gospa": {"pe": ("gospa_snn",), "row_buffer": ("gospa_snn",), "psum_bank": ("gospa_snn",)},
    "merger": {"merger": ("gamma", "gamma_snn")},
    "prefix_forest": {"pe": ("prosperity",), "detector": ("prosperity",)},
    "systolic_array": {"pe": ("systolic", "ptb", "sata")},
    "crossbar_tile": {
        "array": ("imc", "spikesim"),
        "row_driver": ("imc",),
        "adc": ("imc", "spikesim"),
        "shift_add": ("imc", "spikesim"),
    },
}
"""The same by what a unit is on a machine: the units that a circuit is, on which machines.

``prefix_sums`` is part of the elements in ``inner_join``, and no unit of its own.
"""


class Evidence(NamedTuple):
    """What a kind of ``result`` rests on: the weakest grade, and what is of which grade in words."""

    result: str
    grade: str
    rests_on: str


def of_machine(
    accelerator: str, inventory: Sequence[Component], values: Iterable[Explained], area: Sequence[AreaRow]
) -> list[Evidence]:
    """Evidence of cycles, traffic and area, which need no run."""
    grades = [row.evidence for row in values if row.evidence and row.path not in PRICED_ONLY]
    proven = [component.unit for component in inventory if circuit_of(accelerator, component)]
    told = f"values: {_counted(grades)}; a circuit agrees with {len(proven)} of {len(inventory)} units"
    told += f" ({', '.join(proven)})" if proven else ""
    grade = weakest([*grades, "rtl" if len(proven) == len(inventory) else "paper"])
    built = [(GRADE_OF_PRICE[row.confidence], row.area_mm2) for row in area]
    return [Evidence("cycles", grade, told), Evidence("traffic", grade, told), _weighted("area", built)]


def of_run(machine: Sequence[Evidence], energy: Iterable[EnergyRow], prices: Iterable[PriceRow]) -> list[Evidence]:
    """Evidence of all results of a run: that of the ``machine``, and that of its energy."""
    known = {(price.unit, price.action): GRADE_OF_PRICE[price.confidence] for price in prices}
    charged = [(known.get((row.unit, row.action)) or known[row.unit, "*"], row.energy_pj) for row in energy]
    priced, cycles = _weighted("energy", charged), machine[0]
    told = f"prices: {priced.rests_on}; counts: as cycles ({cycles.grade})"
    return [*machine, Evidence("energy", weakest([priced.grade, cycles.grade]), told)]


def circuit_of(accelerator: str, component: Component) -> str | None:
    """The circuit that agrees with a unit of a machine, if there is one."""
    shared = CIRCUIT_OF_KIND.get(component.kind)
    return shared or next((name for name, of in CIRCUITS.items() if accelerator in of.get(component.unit, ())), None)


def _counted(grades: Sequence[str]) -> str:
    return ", ".join(f"{grades.count(grade)} {grade}" for grade in GRADES if grade in grades)


def _weighted(result: str, parts: Iterable[tuple[str, float]]) -> Evidence:
    """Evidence of a sum whose ``parts`` are of these grades; what is 0 proves and weakens nothing."""
    sums: dict[str, float] = {}
    for grade, amount in parts:
        if amount:
            sums[grade] = sums.get(grade, 0.0) + amount
    total = sum(sums.values())
    told = ", ".join(f"{percent(sums[grade] / total)} {grade}" for grade in GRADES if grade in sums)
    return Evidence(result, weakest(sums or ["assumed"]), told or "nothing is charged")
