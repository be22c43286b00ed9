"""Several machines on the same trace, side by side."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from archsim.report import files, terminal
from archsim.report.pictures import Pictures
from archsim.report.report import Report
from archsim.report.verdict import listed, percent

if TYPE_CHECKING:
    import pandas as pd

LABELS = ("accelerator", "workload", "sparsity", "noise", "digital_gain", "adaptation")
NUMBERS = (
    *("coverage", "layers", "images", "synaptic_operations", "cycles", "latency_s", "images_per_s", "first_response_s"),
    *("energy_pj", "energy_per_image_pj", "pj_per_synaptic_operation", "estimate_pj", "energy_over_estimate"),
    *("tops", "tops_per_w", "energy_delay_pj_s", "edap_j_s_mm2"),
    *("area_mm2", "sram_size_kib", "utilization", "dram_read_bytes", "dram_write_bytes", "dram_bytes"),
    *("sram_read_bytes", "sram_write_bytes", "sram_bytes", "accuracy", "exact_accuracy", "mismatches"),
)
MEASURES = (*LABELS, *NUMBERS, "verified", "left_out")
"""What comparisons and sweeps say of a run, in this order; empty where a machine has no choice, or finds none."""
KEY_MEASURES = (
    *("coverage", "cycles", "images_per_s", "energy_per_image_pj", "area_mm2", "utilization"),
    *("accuracy", "exact_accuracy"),
)
"""Those that fit a terminal."""
GAINS = ("speedup", "energy_gain", "energy_delay_gain")
MADE_OF = (
    *("fitted", "timesteps", "clock_mhz", "trace", "kind", "overrides", "hardware"),
    *("hardware_sha256", "trace_sha256", "cost_table_sha256", "archsim_version"),
)
"""What a run was made of."""
COLUMNS = ("machine", *MEASURES, *GAINS, "same_layers", *MADE_OF)


def measures(report: Report) -> dict[str, Any]:
    """What a comparison or a sweep says of a run, by the names of :data:`MEASURES`."""
    summary = report.summary()
    made = {
        "energy_delay_pj_s": summary["energy_pj"] * summary["latency_s"],
        "dram_bytes": summary["dram_read_bytes"] + summary["dram_write_bytes"],
        "sram_bytes": summary["sram_read_bytes"] + summary["sram_write_bytes"],
        "left_out": " ".join(one["layer"] for one in summary["left_out"]),
    }
    return {name: made.get(name, summary.get(name)) for name in MEASURES}


@dataclass(frozen=True, repr=False)
class Comparison:
    """Runs of several machines on one trace, by what the machines are called; the first is the reference."""

    reports: Mapping[str, Report]

    def rows(self) -> list[dict[str, Any]]:
        """One row for each machine, with all of :data:`COLUMNS`."""
        return rows(self.reports)

    def frame(self) -> pd.DataFrame:
        """The rows as a pandas DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.rows(), columns=list(COLUMNS)).convert_dtypes()

    def shown(self) -> tuple[str, ...]:
        """The columns that people see first; without those that no machine fills."""
        found = self.rows()
        fitted = ("fitted",) * any(row["fitted"] for row in found)
        keys = [name for name in KEY_MEASURES if any(row[name] is not None for row in found)]
        return ("machine", *keys, "speedup", "energy_gain", *fitted)

    def notes(self) -> list[str]:
        """What is not equal among the machines, or not in the numbers, a line each."""
        return notes(self.reports)

    @property
    def warnings(self) -> list[str]:
        """What is doubtful: other layers than the first machine's, then what the runs warn of, each line once."""
        warned: dict[str, list[str]] = {}
        for name, report in self.reports.items():
            for warning in report.warnings:
                warned.setdefault(warning, []).append(name)
        return [*doubts(self.reports), *(f"{', '.join(whose)}: {warning}" for warning, whose in warned.items())]

    def text(self) -> str:
        """The table as CSV."""
        return files.csv_text(self.rows(), COLUMNS)

    def plot(self) -> Pictures:
        """The figure, for a notebook to show."""
        return Pictures({files.COMPARISON: self.text()})

    def __repr__(self) -> str:
        told = ", ".join(f"{name} {row['speedup']:.3g}x" for name, row in zip(self.reports, self.rows(), strict=True))
        return f"<Comparison: {told}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the columns that people see first, what is not equal, and what is doubtful."""
        told = "".join(f"<p>{html.escape(line)}</p>" for line in (*self.notes(), *self.warnings))
        return terminal.html_table(self.shown(), self.rows()) + told


def rows(reports: Mapping[str, Report]) -> list[dict[str, Any]]:
    """One row per machine name, normalised to the first machine.

    ``speedup = latency of the first / latency``, ``energy_gain = energy of the first / energy``, and the same for their
    product: more is better; None where the machine needed none. They say nothing where not the ``same_layers`` were
    simulated as on the first machine (:func:`doubts`).
    """
    measured = {machine: measures(report) for machine, report in reports.items()}
    simulated = {machine: [layer.layer for layer in report.layers] for machine, report in reports.items()}
    summaries = {machine: report.summary() for machine, report in reports.items()}
    reference, first = next(iter(measured.items()))
    return [
        {
            "machine": machine,
            **measured[machine],
            "speedup": _ratio(first["latency_s"], found["latency_s"]),
            "energy_gain": _ratio(first["energy_pj"], found["energy_pj"]),
            "energy_delay_gain": _ratio(first["energy_delay_pj_s"], found["energy_delay_pj_s"]),
            "same_layers": simulated[machine] == simulated[reference],
            **{name: summaries[machine].get(name) for name in MADE_OF},
            "kind": reports[machine].labels.get("kind"),
            "overrides": " ".join(summaries[machine]["overrides"]),
        }
        for machine, found in measured.items()
    ]


def doubts(reports: Mapping[str, Report]) -> list[str]:
    """Which machines simulated other layers than the first, so that their totals are not those of the same work."""
    ran = {machine: [layer.layer for layer in report.layers] for machine, report in reports.items()}
    shares = {machine: percent(report.coverage) for machine, report in reports.items()}
    first, *others = ran
    return [
        f"{first} and {other} simulate different layers ({_difference(ran[first], ran[other])}), {shares[first]} and "
        f"{shares[other]} of the operations: the totals are of different parts of the network; --layers chooses layers "
        "that both run"
        for other in others
        if ran[other] != ran[first]
    ]


def notes(reports: Mapping[str, Report]) -> list[str]:
    """What is not equal among the machines, or not in the numbers, a line each."""
    found = ["area is that of the chip, without DRAM"]
    images = max(report.images for report in reports.values())
    if images > 1:
        found.append(f"cycles are those of all {images} images together, energy is that of one")
    found += {f"{report.synthetic} synthetic" for report in reports.values() if report.synthetic}
    dense = [machine for machine, report in reports.items() if not _skips_weights(report)]
    if dense and len(dense) < len(reports):
        found.append(f"every weight is stored and moved, zeros too, on {', '.join(dense)}; not on the others")
    for what, values in (
        ("clock", {machine: f"{report.clock_mhz:g} MHz" for machine, report in reports.items()}),
        ("SRAM", {machine: f"{report.sram_size_kib:g} KiB" for machine, report in reports.items()}),
    ):
        groups: dict[str, list[str]] = {}
        for machine, value in values.items():
            groups.setdefault(value, []).append(machine)
        if len(groups) > 1:
            found.append(f"{what}: " + "; ".join(f"{value} on {', '.join(names)}" for value, names in groups.items()))
    return found


def _skips_weights(report: Report) -> bool:
    """Whether weights come with a format that says where they are: only then zeros are left out."""
    return any(row.tensor == "weight_format" for layer in report.layers for row in layer.traffic)


def _difference(some: Sequence[str], others: Sequence[str]) -> str:
    """Layers that only one of two runs has, for each of them."""
    only = ([layer for layer in some if layer not in others], [layer for layer in others if layer not in some])
    return " against ".join(listed(layers) if layers else "nothing more" for layers in only)


def _ratio(reference: float, value: float) -> float | None:
    return reference / value if value else None
