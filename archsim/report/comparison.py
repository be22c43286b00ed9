"""Several machines on the same trace, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archsim.report.report import Report

COLUMNS = (
    *("machine", "accelerator", "cycles", "latency_s", "speedup", "energy_pj", "energy_gain"),
    *("energy_delay_pj_s", "energy_delay_gain", "area_mm2", "dram_bytes", "sram_bytes", "utilization", "verified"),
)


def rows(reports: Mapping[str, Report]) -> list[dict[str, Any]]:
    """One row per machine name, normalised to the first machine.

    ``speedup = latency of the first / latency``, ``energy_gain = energy of the first / energy``, and the same for their
    product: more is better; None where the machine needed none.
    """
    summaries = {machine: report.summary() for machine, report in reports.items()}
    for summary in summaries.values():
        summary["energy_delay_pj_s"] = summary["energy_pj"] * summary["latency_s"]
    first = next(iter(summaries.values()))
    return [
        {
            "machine": machine,
            **{column: summary[column] for column in COLUMNS if column in summary},
            "speedup": _ratio(first["latency_s"], summary["latency_s"]),
            "energy_gain": _ratio(first["energy_pj"], summary["energy_pj"]),
            "energy_delay_gain": _ratio(first["energy_delay_pj_s"], summary["energy_delay_pj_s"]),
            "dram_bytes": summary["dram_read_bytes"] + summary["dram_write_bytes"],
            "sram_bytes": summary["sram_read_bytes"] + summary["sram_write_bytes"],
        }
        for machine, summary in summaries.items()
    ]


def _ratio(reference: float, value: float) -> float | None:
    return reference / value if value else None
