"""Busiest core: does total sparsity predict the time of a many-core chip, or its busiest core?

    python benchmarks/papers/busiest_core [-o DIR] [--only NAME ...] [--jobs N]

Trained networks of ``workloads`` on test images, one by one, on ``loihi1`` and ``manycore``. Mappings that count
operations or messages do so on training images. Writes a CSV for each table, figures (PNG, SVG), ``tables.md`` with all
of them and ``sentences.md`` with what this folder's README says of them. What is known from silicon is in
``published.yaml``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[3]
sys.path += [str(ROOT), str(Path(__file__).resolve().parents[1])]  # archsim, and what all papers' commands share

from command_line import command  # noqa: E402
from estimates import correlation, error_percent, standard_error, with_interval  # noqa: E402
from paper_tables import Row, Table, parser, write  # noqa: E402
from runs import CAUSES, MACHINES, MAPPINGS, NETWORKS, OneImage, Run  # noqa: E402
from sentences import write_sentences  # noqa: E402

from archsim.report import drawing  # noqa: E402

IMAGES = 10
JOBS = {
    (network, machine, mapping, image): Run(OneImage(network, image), machine, mapping)
    for image in range(IMAGES) for network in NETWORKS for machine in MACHINES for mapping in MAPPINGS
}  # fmt: skip
PREDICTORS = {
    "spikes": "spikes", "operations": "all operations", "busiest": "operations of the busiest core",
    "busiest_by_step": "those of the busiest core of each step", "busiest_link": "messages of the busiest link",
}  # fmt: skip
SCOPES = {
    "images": ("network", "mapping"), "mappings": ("network", "image"), "images and mappings": ("network",),
    "all": (),
}  # fmt: skip
"""What differs between the runs of a group, and what they have in common."""
KEYS = ("network", "machine", "mapping", "image")


def rows_of(results: Mapping[Any, Any]) -> list[Row]:
    return [{**dict(zip(KEYS, key, strict=True)), **result} for key, result in results.items()]


def runs() -> Table:
    def draw(axes: Any, rows: Sequence[Row]) -> None:
        own = pd.DataFrame(rows).query("machine == 'loihi1'")
        for place, (network, group) in enumerate(own.groupby("network", sort=False)):
            colour, marker = drawing.FILLS[drawing.LINES[place]][0], drawing.MARKERS[place]
            style = {"color": colour, "marker": marker, "linestyle": "", "markersize": 3.5}
            axes.plot(group["operations"], group["cycles"], **style, markerfacecolor="white")
            axes.plot(group["busiest_by_step"], group["cycles"], **style, label=NETWORKS[network])
        axes.set(xlabel="synaptic operations (log)", ylabel="cycles (log)")
        drawing.plain_logarithmic(axes)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value / 1e6:g} M")
        axes.legend(title="filled: busiest core of each step\nempty: all cores", alignment="left")

    counted = (
        "cycles",
        "mismatches",
        "cores",
        *PREDICTORS,
        "messages",
        "hops",
        *(f"{cause}_cycles" for cause in CAUSES),
    )
    return Table(
        "runs", "Every run", {name: name.replace("_", " ") for name in (*KEYS, *counted)}, JOBS, rows_of,
        ("Causes are cycles of what each step waited for, which add up to all cycles.",), draw, (7.0, 4.0),
    )  # fmt: skip


def predictors() -> Table:
    def rows(results: Mapping[Any, Any]) -> list[Row]:
        everything, found = pd.DataFrame(rows_of(results)), []
        for machine in MACHINES:
            own = everything[everything["machine"] == machine]
            for scope, by in SCOPES.items():
                for predictor in PREDICTORS:
                    row: Row = {"machine": machine, "differs": scope, "predictor": PREDICTORS[predictor]}
                    for name, measure in (("r", correlation), ("error_percent", error_percent)):
                        values = with_interval(own, by, predictor, measure)
                        for end, value in zip(("", "_low", "_high"), values, strict=True):
                            row[f"{name}{end}"] = None if value is None else round(value, 6)
                    found.append(row)
        return found

    names = {"r": "r", "r_low": "from", "r_high": "to"}
    errors = {"error_percent": "error [%]", "error_percent_low": "from", "error_percent_high": "to"}
    return Table(
        "predictors", "What predicts the cycles of a run",
        {"machine": "machine", "differs": "runs differ in", "predictor": "predictor", **names, **errors}, JOBS, rows,
        (
            "r: Pearson's, of logarithms, the mean over groups of runs; empty where the predictor is the same in all.",
            "error: of cycles as a multiple of the predictor, the multiple of each group.",
            f"Intervals hold 95 % of 1,000 draws of the {IMAGES} images.",
        ),
    )  # fmt: skip


def mappings() -> Table:
    def rows(results: Mapping[Any, Any]) -> list[Row]:
        everything, found = pd.DataFrame(rows_of(results)), []
        for (network, machine), own in everything.groupby(["network", "machine"], sort=False):
            cycles = {mapping: part.set_index("image")["cycles"] for mapping, part in own.groupby("mapping")}
            for mapping in MAPPINGS:
                part = own[own["mapping"] == mapping]
                mean = part["operations"] / part["cores"]
                row = {
                    "network": network, "machine": machine, "mapping": mapping, "images": len(part),
                    "cores": int(part["cores"].iloc[0]), "cycles": float(part["cycles"].mean()),
                    "cycles_error": standard_error(part["cycles"]),
                    "busiest_over_mean": float((part["busiest"] / mean).mean()),
                    "busiest_over_mean_by_step": float((part["busiest_by_step"] / mean).mean()),
                    "messages": float(part["messages"].mean()),
                    "hops_per_message": float((part["hops"] / part["messages"]).mean()),
                }  # fmt: skip
                for base in ("in_order", "neurons"):
                    gains = cycles[base] / cycles[mapping]
                    row |= {f"over_{base}": float(gains.mean()), f"over_{base}_error": standard_error(gains)}
                shares = {
                    f"{cause}_percent": 100 * part[f"{cause}_cycles"].sum() / part["cycles"].sum() for cause in CAUSES
                }
                found.append({key: _short(value) for key, value in {**row, **shares}.items()})
        return found

    def draw(axes: Any, rows: Sequence[Row]) -> None:
        shown = [name for name in MAPPINGS if name != "in_order"]
        groups = list(dict.fromkeys((row["machine"], row["network"]) for row in rows))
        groups.sort(key=lambda group: list(MACHINES).index(group[0]))
        width = 0.8 / len(shown)
        for i, mapping in enumerate(shown):
            own = {(row["machine"], row["network"]): row for row in rows if row["mapping"] == mapping}
            places = np.arange(len(groups)) + (i - (len(shown) - 1) / 2) * width
            heights, errors = (
                [own[group][name] for group in groups] for name in ("over_in_order", "over_in_order_error")
            )
            drawing.bar(axes, places, heights, i, width=width, label=mapping.replace("_", " "),
                        yerr=errors, error_kw={"linewidth": 0.8, "capsize": 1.5})  # fmt: skip
        axes.axhline(1, color="black", linewidth=0.6)
        names = [f"{NETWORKS[network]}\n{machine}" for machine, network in groups]
        axes.set_xticks(range(len(groups)), names, fontsize=drawing.letters(2))
        axes.margins(x=0.01)
        axes.set_ylabel("speed over in order")
        drawing.legend_above(axes)

    return Table(
        "mappings", "What a mapping gains",
        {
            "network": "network", "machine": "machine", "mapping": "mapping", "images": "images", "cores": "cores",
            "cycles": "cycles", "cycles_error": "±",
            "over_in_order": "over in_order [x]", "over_in_order_error": "±",
            "over_neurons": "over neurons [x]", "over_neurons_error": "±",
            "busiest_over_mean": "busiest over mean core",
            "busiest_over_mean_by_step": "step by step", "messages": "messages", "hops_per_message": "hops a message",
            **{f"{cause}_percent": f"{cause} [%]" for cause in CAUSES},
        },
        JOBS, rows,
        (
            "Means over images with their standard errors; gains are of the same image.",
            "operations is calibrated on 16 training images, operations_of_run on the image that runs.",
        ),
        draw, (7.0, 3.0),
    )  # fmt: skip


def _short(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value


TABLES = {"runs": runs, "predictors": predictors, "mappings": mappings}


def main(arguments: Sequence[str] | None = None) -> None:
    given = parser("busiest_core", __doc__, TABLES).parse_args(arguments)
    write_sentences(given.output, write(TABLES, given.only, "Busiest core", given.output, given.jobs))


if __name__ == "__main__":
    sys.exit(command(main))
