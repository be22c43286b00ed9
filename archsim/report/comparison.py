"""Several machines on the same trace, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from archsim.report.report import Report
from archsim.report.verdict import listed, percent

SOMETIMES = ("sparsity", "noise", "accuracy", "exact_accuracy")
"""Columns of machines that have the choice, or find out, empty for others."""
COLUMNS = (
    *("machine", "accelerator", *SOMETIMES, "coverage", "cycles", "latency_s", "speedup", "energy_pj", "energy_gain"),
    *(
        "energy_delay_pj_s",
        "energy_delay_gain",
        "same_layers",
        "synaptic_operations",
        "energy_per_image_pj",
        "images_per_s",
        "pj_per_synaptic_operation",
        "area_mm2",
        "sram_size_kib",
        "dram_bytes",
        "sram_bytes",
        "utilization",
        "verified",
        "fitted",
    ),
    *("layers", "timesteps", "images", "clock_mhz", "trace", "overrides", "left_out"),
)


def rows(reports: Mapping[str, Report]) -> list[dict[str, Any]]:
    """One row per machine name, normalised to the first machine.

    ``speedup = latency of the first / latency``, ``energy_gain = energy of the first / energy``, and the same for their
    product: more is better; None where the machine needed none. They say nothing where not the ``same_layers`` were
    simulated as on the first machine (:func:`doubts`).
    """
    simulated = {machine: [layer.layer for layer in report.layers] for machine, report in reports.items()}
    summaries = {machine: report.summary() for machine, report in reports.items()}
    for summary in summaries.values():
        summary["energy_delay_pj_s"] = summary["energy_pj"] * summary["latency_s"]
    reference, first = next(iter(summaries.items()))
    return [
        {
            "machine": machine,
            **dict.fromkeys(SOMETIMES),
            **{column: summary[column] for column in COLUMNS if column in summary},
            "speedup": _ratio(first["latency_s"], summary["latency_s"]),
            "energy_gain": _ratio(first["energy_pj"], summary["energy_pj"]),
            "energy_delay_gain": _ratio(first["energy_delay_pj_s"], summary["energy_delay_pj_s"]),
            "dram_bytes": summary["dram_read_bytes"] + summary["dram_write_bytes"],
            "sram_bytes": summary["sram_read_bytes"] + summary["sram_write_bytes"],
            "same_layers": simulated[machine] == simulated[reference],
            "overrides": " ".join(summary["overrides"]),
            "left_out": " ".join(one["layer"] for one in summary["left_out"]),
        }
        for machine, summary in summaries.items()
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
