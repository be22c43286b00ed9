"""Batch-norm adaptation on crossbar arrays (GLSVLSI 2023, arXiv 2305.18416), in small form on a trained spiking VGG9.

    python benchmarks/papers/bn_glsvlsi23 [TRACE] [-o DIR] [--only TABLE ...] [--adaptations NAME ...]
                                          [--images N] [--calibration N] [--draws N] [--jobs N]

Accuracy without adaptation, with statistics, and fine-tuned, under wires, noise by when it is drawn, drift, variation,
on/off ratios, and by device. ``accuracy.csv`` has a row for each draw of the devices, with the binomial standard error
of N images; ``tables.md`` and a figure for each table have the mean of the draws and their standard deviation. Rows
that are in ``accuracy.csv`` already, of the same trace and as many images, are not run again. With the table of noise
goes, for a spiking network, ``firing.csv``: how many neurons fire, layer by layer.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE), str(HERE.parent)]

from command_line import command, count  # noqa: E402
from conditions import TABLES  # noqa: E402
from measuring import Row, firing_rates, measure, seeds  # noqa: E402

from archsim import load_trace  # noqa: E402
from archsim.errors import UsageError, nearest  # noqa: E402
from archsim.processes import results  # noqa: E402
from archsim.report import drawing, files  # noqa: E402
from archsim.trace import Trace  # noqa: E402
from archsim.trace.resimulation import accuracy  # noqa: E402

ADAPTATIONS = ("none", "statistics", "fine_tuned")
COLUMNS = (
    "table", "condition", "adaptation", "noise_seed", "accuracy", "exact_accuracy", "standard_error", "images",
    "calibration_images", "noise", "network", "trace_sha256", "set",
)  # fmt: skip
FIRING_COLUMNS = (
    "condition", "adaptation", "noise_seed", "layer", "exact_rate", "rate", "images", "calibration_images", "network",
    "trace_sha256",
)  # fmt: skip
FIRING_IMAGES = 25
DOTS: Row = {"linestyle": "", "marker": "o", "markersize": 3.5, "color": "white", "markeredgecolor": "black"}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="bn_glsvlsi23",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    trace = HERE.parents[2] / "workloads" / "vgg9_evaluation.npz"
    parser.add_argument("trace", nargs="?", type=Path, default=trace, help="a trace with image sets")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", default=Path("results/bn_glsvlsi23"))
    parser.add_argument("--only", nargs="+", metavar="TABLE", default=list(TABLES), help=f"of {', '.join(TABLES)}")
    parser.add_argument("--adaptations", nargs="+", metavar="NAME", default=list(ADAPTATIONS))
    parser.add_argument("--images", type=count, default=1000, help="of the evaluation set")
    parser.add_argument("--calibration", type=count, default=256, help="images of the calibration set")
    parser.add_argument("--draws", type=count, default=5, help="of the devices, where anything is drawn")
    parser.add_argument("--jobs", type=count, default=1, help="processes")
    write(parser.parse_args(arguments))


def write(arguments: argparse.Namespace) -> None:
    for option, allowed in (("only", TABLES), ("adaptations", ADAPTATIONS)):
        for name in getattr(arguments, option):
            if name not in allowed:
                raise UsageError(f"--{option}: got {name!r}; allowed: {', '.join(allowed)}{nearest(name, allowed)}")
    trace = load_trace(arguments.trace)
    if trace.calibration is None or trace.evaluation is None:
        raise UsageError(f"{arguments.trace}: has no image sets, which adaptation and accuracy need")
    images = min(arguments.images, len(trace.evaluation))
    calibration = min(arguments.calibration, len(trace.calibration))
    arguments.output.mkdir(parents=True, exist_ok=True)
    target = arguments.output / "accuracy.csv"
    rows = known(target, trace, images, calibration)
    done = {work_of(row) for row in rows}
    exact = accuracy(trace, trace.evaluation.first(images))
    # Adaptations one after the other, so that an interrupted run has the cheap ones of every condition.
    work = [
        (table, condition, adaptation, seed)
        for adaptation in arguments.adaptations
        for table in dict.fromkeys(arguments.only)
        for condition in TABLES[table]
        for seed in seeds(table, condition, arguments.draws)
    ]
    work = [one for one in work if one not in done]
    run = partial(measure, arguments.trace, images, calibration)
    for place, row in results(run, work, arguments.jobs):
        if row is None:
            raise UsageError(f"{work[place]}: its process was killed")
        rows.append(row | {"exact_accuracy": exact})
        rows.sort(key=order)
        files.write_texts(arguments.output, {"accuracy.csv": files.csv_text(rows, COLUMNS)})
        print(*work[place], row["accuracy"], file=sys.stderr, flush=True)
    table = pd.DataFrame(rows)
    for name, some in table.groupby("table", sort=False):
        drawing.save(arguments.output / str(name), partial(draw, some, exact), (7.0, 3.0))
    files.write_texts(arguments.output, {"tables.md": markdown(table, trace, exact, images, calibration)})
    if "noise" in arguments.only and any(operation.neuron for operation in trace.operations):
        run_firing = partial(firing_rates, arguments.trace, min(FIRING_IMAGES, images), calibration)
        both = [name for name in arguments.adaptations if name != "fine_tuned"]
        rates = [row for noise in TABLES["noise"] for name in both for row in run_firing(("noise", noise, name, 0))]
        files.write_texts(arguments.output, {"firing.csv": files.csv_text(rates, FIRING_COLUMNS)})


def known(target: Path, trace: Trace, images: int, calibration: int) -> list[Row]:
    """Rows of an earlier run with the same trace and as many images."""
    if not target.exists():
        return []
    with target.open(encoding="utf-8", newline="") as file:
        table = csv.DictReader(file)
        if tuple(table.fieldnames or ()) != COLUMNS:
            raise UsageError(f"{target}: is not of this command; move it away or choose another folder with -o")
        rows = [row for row in table if row["condition"] in TABLES.get(row["table"], ())]
    wanted = {"trace_sha256": trace.sha256, "images": str(images), "calibration_images": str(calibration)}
    return [
        row
        | {key: float(row[key]) for key in ("accuracy", "exact_accuracy", "standard_error")}
        | {"noise_seed": int(row["noise_seed"])}
        for row in rows
        if all(row[key] == value for key, value in wanted.items())
    ]


def work_of(row: Row) -> tuple[str, str, str, int]:
    return row["table"], row["condition"], row["adaptation"], row["noise_seed"]


def order(row: Row) -> tuple[int, int, int, int]:
    """Place of a row: as the tables have it."""
    table, condition, adaptation, seed = work_of(row)
    return list(TABLES).index(table), list(TABLES[table]).index(condition), ADAPTATIONS.index(adaptation), seed


def by_adaptation(rows: pd.DataFrame, statistic: str) -> pd.DataFrame:
    """``statistic`` of the draws, a row a condition and a column an adaptation, as the tables have them."""
    wide = rows.pivot_table(index="condition", columns="adaptation", values="accuracy", aggfunc=statistic, sort=False)
    return wide.reindex(columns=[one for one in ADAPTATIONS if one in set(rows["adaptation"])])


def draw(rows: pd.DataFrame, exact: float, axes: Any) -> None:
    """Means as bars, every draw as a dot."""
    wide = by_adaptation(rows, "mean")
    drawing.grouped(axes, wide.rename(index=lambda label: label.replace(", ", "\n")))
    for bars, adaptation in zip(axes.containers, wide.columns, strict=True):
        for bar, condition in zip(bars, wide.index, strict=True):
            found = rows[(rows["condition"] == condition) & (rows["adaptation"] == adaptation)]["accuracy"]
            axes.plot([bar.get_x() + bar.get_width() / 2] * len(found), found, **DOTS)
    axes.axhline(exact, color="black", linewidth=0.8, linestyle="--")
    axes.set_ylim(0, 1.2)
    axes.set_ylabel("accuracy (dashed: exact)")
    axes.legend(ncols=3, fontsize=7)


def markdown(table: pd.DataFrame, trace: Trace, exact: float, images: int, calibration: int) -> str:
    lines = [
        f"# Batch-norm adaptation on crossbar arrays: {trace.network}, {images} images, {calibration} of calibration",
        "",
        f"Exact network: {exact:.3f}, standard error {math.sqrt(exact * (1 - exact) / images):.3f}. "
        "In percent, mean and standard deviation of the draws.",
        "",
    ]
    for name, some in table.groupby("table", sort=False):
        lines += [f"## {name}", "", f"| condition | draws | {' | '.join(ADAPTATIONS)} |"]
        lines.append("| --- | --- | --- | --- | --- |")
        for condition in dict.fromkeys(some["condition"]):
            found = some[some["condition"] == condition]
            cells = [shown(found[found["adaptation"] == one]["accuracy"]) for one in ADAPTATIONS]
            lines.append(f"| {condition} | {found['noise_seed'].nunique()} | {' | '.join(cells)} |")
        lines += ["", f"![{name}]({name}.png)", ""]
    return "\n".join(lines)


def shown(accuracies: pd.Series) -> str:
    """The mean of draws in percent and, of more than one, their standard deviation."""
    if len(accuracies) < 2:
        return "".join(f"{100 * one:.1f}" for one in accuracies)
    return f"{100 * accuracies.mean():.1f} ± {100 * accuracies.std():.1f}"


if __name__ == "__main__":
    sys.exit(command(main))
