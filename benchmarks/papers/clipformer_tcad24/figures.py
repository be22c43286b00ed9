"""Figures of what the CSV files hold."""

from __future__ import annotations

import csv
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def draw(folder: Path) -> None:
    """Accuracy over the strength of the noise, one panel a network and one line a setting."""
    path = folder / "accuracy.csv"
    if not path.exists():
        return
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    traces = list(dict.fromkeys(row["trace"] for row in rows))
    figure, panels = plt.subplots(1, len(traces), figsize=(4.5 * len(traces), 3.5), sharey=True, squeeze=False)
    for panel, trace in zip(panels[0], traces, strict=True):
        mine = [row for row in rows if row["trace"] == trace]
        for alpha, beta in dict.fromkeys((row["alpha"], row["beta"]) for row in mine):
            line = sorted(
                (float(row["gamma"]) * float(row["sigma"]), float(row["accuracy"]), float(row["standard_error"]))
                for row in mine
                if (row["alpha"], row["beta"]) == (alpha, beta)
            )
            strength, share, error = zip(*line, strict=True)
            panel.errorbar(strength, share, error, marker="o", markersize=3, label=f"alpha {alpha}, beta {beta}")
        panel.set_title(trace)
        panel.set_xlabel("gamma sigma")
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("accuracy")
    panels[0][0].legend(fontsize=8)
    figure.tight_layout()
    for suffix in ("png", "svg"):
        figure.savefig(folder / f"accuracy.{suffix}", dpi=120, metadata={"Date": None} if suffix == "svg" else None)
    plt.close(figure)
