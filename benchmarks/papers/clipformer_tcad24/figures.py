"""Figures of what the CSV files hold."""

from __future__ import annotations

import csv
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

LEAST_STRENGTHS = 4
"""Settings with fewer are in the tables only."""


def draw(folder: Path) -> None:
    """Accuracy over the strength of the noise: a row of panels per mapping, a column per network; lines: settings."""
    path = folder / "accuracy.csv"
    if not path.exists():
        return
    with path.open(newline="") as file:
        found = list(csv.DictReader(file))
    rows = [row for row in found if row["behind"] == "none"]
    without = {row["trace"]: 100 * float(row["accuracy"]) for row in found if row["behind"] == "zero"}
    traces, mappings = (sorted({row[name] for row in rows}) for name in ("trace", "signed"))
    figure, panels = plt.subplots(
        len(mappings), len(traces), figsize=(4.5 * len(traces), 3.2 * len(mappings)), sharex=True, sharey=True,
        squeeze=False,
    )  # fmt: skip
    settings = sorted({(row["alpha"], row["beta"]) for row in rows}, key=lambda one: (one != ("0", "1"), one))
    for line_of_panels, signed in zip(panels, mappings, strict=True):
        for panel, trace in zip(line_of_panels, traces, strict=True):
            for number, (alpha, beta) in enumerate(settings):
                line = sorted(
                    (float(row["gamma_sigma"]), 100 * float(row["accuracy"]), 100 * float(row["standard_error"]))
                    for row in rows
                    if (row["trace"], row["signed"], row["alpha"], row["beta"]) == (trace, signed, alpha, beta)
                )
                if len(line) >= LEAST_STRENGTHS:
                    label = "no limits" if (alpha, beta) == ("0", "1") else f"alpha {alpha}, beta {beta}"
                    panel.errorbar(
                        *zip(*line, strict=True), marker="o", markersize=3, capsize=2, color=f"C{number}", label=label
                    )
            if trace in without:
                panel.axhline(without[trace], color="black", linestyle=":", linewidth=1, label="no attention")
            panel.set_title(f"{trace}, {signed}", fontsize=10)
            panel.grid(alpha=0.3)
    for panel in panels[-1]:
        panel.set_xlabel("gamma sigma")
    for panel in panels[:, 0]:
        panel.set_ylabel("accuracy [%]")
    panels[0][0].legend(fontsize=8)
    figure.tight_layout()
    for suffix in ("png", "svg"):
        figure.savefig(folder / f"accuracy.{suffix}", dpi=120, metadata={"Date": None} if suffix == "svg" else None)
    plt.close(figure)
