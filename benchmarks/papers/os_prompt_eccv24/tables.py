"""The tables: what they need and how their rows come of it."""

from __future__ import annotations

import csv
import statistics
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jobs import FIRST, Kinds, Run, Small, Trained, TwoPasses, counted, stages
from paper_tables import Row, Table, deviation, name_groups

from archsim.trace.prompted import PHASES, VARIANTS, VIT_B16, kind, passes, total

HERE = Path(__file__).parent
PUBLISHED = yaml.safe_load((HERE / "published.yaml").read_text())
RUNS = HERE / "results" / "class_incremental_runs.csv"
ARRAYS = (8, 64)
MACHINES = ("systolic", "sparten", "gamma")
IMC = "imc_ideal"
FIT = ("noc.rows=fit",)
PICOJOULES = 1e6
"""In a microjoule."""


def macs() -> Table:
    """By shapes alone."""

    def rows(_: Mapping[Any, Any]) -> list[Row]:
        found = []
        for phase in PHASES:
            base = total(passes(VIT_B16, "two_stage", phase))
            for variant in VARIANTS:
                ours = total(passes(VIT_B16, variant, phase))
                published = PUBLISHED["inference_gmacs"][variant]["value"] if phase == "inference" else None
                ratio = _published_ratio(phase, variant)
                found.append({
                    "phase": phase, "variant": variant, "gmacs": ours / 1e9, "ratio": ours / base,
                    "published_gmacs": published, "published_ratio": ratio, "mark": "" if ratio is None else "S",
                    "deviation_percent": deviation(ours / base, ratio),
                })  # fmt: skip
        return found

    return Table(
        "macs", "Multiply-accumulates of ViT-B/16 for an image",
        {"phase": "phase", "variant": "variant", "gmacs": "ours [G]", "ratio": "ratio", "published_gmacs":
         "published [G]", "published_ratio": "published ratio", "mark": "mark",
         "deviation_percent": "deviation of the ratio [%]"},
        {}, rows, ("S: quoted from the paper by public notes; the paper was not read.",),
    )  # fmt: skip


def _published_ratio(phase: str, variant: str) -> float | None:
    if variant == "two_stage":
        return 1.0
    if phase == "training":
        return float(PUBLISHED["training_ratio"][variant]["value"])
    given = PUBLISHED["inference_gmacs"]
    return float(given[variant]["value"] / given["two_stage"]["value"])


def streamed() -> Table:
    """ViT-B/16 where weights come from DRAM for every pass: kinds of operations once, and counted."""

    def rows(results: Mapping[Any, Any]) -> list[Row]:
        found = []
        for size in ARRAYS:
            layers = results[size]["layers"]
            names = _names()
            steps = passes(VIT_B16, "two_stage", "inference").steps
            plain = counted([(names[kind(step)], 1) for step in steps if step.name.startswith(FIRST)], layers, "cycles")
            for phase in PHASES:
                done = {}
                for variant in VARIANTS:
                    steps = passes(VIT_B16, variant, phase).steps
                    counts = list(Counter(names[kind(step)] for step in steps).items())
                    done[variant] = {
                        "cycles": counted(counts, layers, "cycles"),
                        "energy_mj": counted(counts, layers, "energy_pj") / 1e9,
                        "dram_read_bytes": counted(counts, layers, "dram_read_bytes"),
                        "dram_write_bytes": counted(counts, layers, "dram_write_bytes"),
                        "weight_bytes": counted(counts, layers, "weight_bytes"),
                    }
                for variant, row in done.items():
                    base = done["two_stage"]
                    taken = (2 if variant == "two_stage" else 1) * plain
                    moved, before = (one["dram_read_bytes"] + one["dram_write_bytes"] for one in (row, base))
                    found.append({
                        "array": f"{size} x {size}", "phase": phase, "variant": variant, **row,
                        "cycles_ratio": row["cycles"] / base["cycles"],
                        "energy_ratio": row["energy_mj"] / base["energy_mj"], "dram_ratio": moved / before,
                        "overhead_percent": 100 * (row["cycles"] / taken - 1) if phase == "inference" else None,
                    })  # fmt: skip
        return found

    jobs = {size: Run("systolic", Kinds(), (f"pe.rows={size}", f"pe.columns={size}"), verify=False) for size in ARRAYS}
    return Table(
        "streamed", "ViT-B/16 on the systolic array, weights streamed, synthetic operands of 8 bits",
        {"array": "array", "phase": "phase", "variant": "variant", "cycles": "cycles", "cycles_ratio": "ratio",
         "energy_mj": "energy [mJ]", "energy_ratio": "ratio", "dram_read_bytes": "DRAM read [B]",
         "dram_write_bytes": "DRAM written [B]", "dram_ratio": "ratio of both", "weight_bytes": "weights read [B]",
         "overhead_percent": "above passes without prompts [%]"},
        jobs, rows,
        ("Every kind of operation is simulated once and counted as often as it is there.",),
        _draw_streamed,
    )  # fmt: skip


def _names() -> dict[object, str]:
    """The operation that stands for its kind, as :func:`archsim.trace.prompted.alone` chooses it."""
    found: dict[object, str] = {}
    for phase in PHASES:
        for variant in VARIANTS:
            for step in passes(VIT_B16, variant, phase).steps:
                found.setdefault(kind(step), step.name)
    return found


def _draw_streamed(axes: Any, rows: list[Row]) -> None:
    groups = [(array, phase) for array in dict.fromkeys(row["array"] for row in rows) for phase in PHASES]
    _bars(axes, groups, rows, lambda row: (row["array"], row["phase"]), "cycles_ratio")
    axes.set_ylabel("cycles, two stages = 1")
    axes.set_ylim(0, 1.25)


def _bars(axes: Any, groups: list[Any], rows: list[Row], group: Any, column: str) -> None:
    for place, variant in enumerate(VARIANTS):
        values = [
            next((row[column] for row in rows if group(row) == one and row["variant"] == variant), np.nan)
            for one in groups
        ]
        axes.bar(np.arange(len(groups)) + 0.27 * (place - 1), values, 0.25, label=variant, color=f"C{place}")
    name_groups(axes, ["\n".join(map(str, one)) if isinstance(one, tuple) else str(one) for one in groups])
    axes.legend(fontsize=7, ncols=3, loc="upper right")


def small() -> Table:
    """The small transformer on machines that stream weights and on one that keeps them."""

    def rows(results: Mapping[Any, Any]) -> list[Row]:
        found: list[Row] = []
        for (machine, phase, variant, how), done in results.items():
            base = results[machine, phase, "two_stage", _base(machine, phase)]
            found.append({
                "machine": machine, "phase": phase, "variant": variant, "weights": how,
                "operands": "trained" if phase == "inference" else "synthetic",
                "cycles": done["cycles"], "cycles_ratio": done["cycles"] / base["cycles"],
                "energy_uj": done["energy_pj"] / PICOJOULES, "energy_ratio": done["energy_pj"] / base["energy_pj"],
                "dram_read_bytes": done["dram_read_bytes"], "dram_write_bytes": done["dram_write_bytes"],
                "dram_ratio": _moved(done) / _moved(base), "area_mm2": done["area_mm2"],
                "mismatches": done["mismatches"],
            })  # fmt: skip
        return found

    jobs: dict[Any, Any] = {}
    for machine in MACHINES:
        for variant in ("two_stage", "os"):
            jobs[machine, "inference", variant, "streamed"] = Run(machine, Trained(variant))
        for variant in VARIANTS:
            jobs[machine, "training", variant, "streamed"] = Run(machine, Small(variant, "training"))
    jobs[IMC, "inference", "two_stage", "once"] = TwoPasses(IMC, stages(Trained("two_stage")))
    jobs[IMC, "inference", "two_stage", "twice"] = Run(IMC, Trained("two_stage"), FIT)
    jobs[IMC, "inference", "os", "once"] = Run(IMC, Trained("os"), FIT)
    for variant in VARIANTS:
        how = "once" if variant == "os" else "twice"
        jobs[IMC, "training", variant, how] = Run(IMC, Small(variant, "training"), FIT)
    return Table(
        "small", "An image on the small transformer",
        {"machine": "machine", "phase": "phase", "variant": "variant", "weights": "weights", "operands": "operands",
         "cycles": "cycles", "cycles_ratio": "ratio", "energy_uj": "energy [uJ]", "energy_ratio": "ratio",
         "dram_read_bytes": "DRAM read [B]", "dram_write_bytes": "DRAM written [B]", "dram_ratio": "ratio of both",
         "area_mm2": "area [mm2]", "mismatches": "mismatches"},
        jobs, rows,
        ("Weights: streamed from DRAM for every pass; resident once, both stages one after the other on the same"
         " arrays; resident twice, each stage on arrays of its own. The backbone's transposed weights of the backward"
         " pass are resident besides. Chips are as large as they must be.",
         "The inference of os++ is that of os."),
        _draw_small,
    )  # fmt: skip


def _base(machine: str, phase: str) -> str:
    """What ratios are of."""
    if machine != IMC:
        return "streamed"
    return "once" if phase == "inference" else "twice"


def _moved(done: Mapping[str, Any]) -> int:
    return int(done["dram_read_bytes"] + done["dram_write_bytes"])


def _draw_small(axes: Any, rows: list[Row]) -> None:
    chosen = [row for row in rows if row["phase"] == "inference" and row["variant"] == "os"]
    for place, (column, label) in enumerate((("cycles_ratio", "cycles"), ("energy_ratio", "energy"),
                                             ("dram_ratio", "DRAM bytes"))):  # fmt: skip
        values = [row[column] for row in chosen]
        axes.bar(np.arange(len(chosen)) + 0.27 * (place - 1), values, 0.25, label=label, color=f"C{place}")
    axes.axhline(0.5, color="black", linewidth=0.8, linestyle=":")
    name_groups(axes, [row["machine"] for row in chosen])
    axes.set_ylabel("one stage, two stages = 1")
    axes.set_ylim(0, 0.75)
    axes.legend(fontsize=7, ncols=3, loc="upper right")


BATCH = 4


def resident() -> Table:
    """Images one behind the other on the chip that keeps weights: what an image more takes."""

    def rows(results: Mapping[Any, Any]) -> list[Row]:
        found = []
        for variant, how in dict.fromkeys((variant, how) for variant, how, _ in jobs):
            one, more = results[variant, how, 1], results[variant, how, BATCH]
            found.append({
                "variant": variant, "weights": how, "latency_cycles": one["cycles"],
                "interval_cycles": (more["cycles"] - one["cycles"]) / (BATCH - 1),
                "energy_of_one_uj": one["energy_pj"] / PICOJOULES,
                "energy_more_uj": (more["energy_pj"] - one["energy_pj"]) / (BATCH - 1) / PICOJOULES,
                "area_mm2": one["area_mm2"],
            })  # fmt: skip
        return found

    jobs: dict[Any, Any] = {}
    for images in (1, BATCH):
        whole = Small("two_stage", "inference", "whole", images)
        for variant, pass_ in (
            ("none", Small("two_stage", "inference", "first", images)),
            (
                "given",
                Small("os", "inference", "given", images),
            ),
        ):
            jobs[variant, "once", images] = Run(IMC, pass_, FIT, verify=False)
        jobs["two_stage", "once", images] = TwoPasses(IMC, stages(whole))
        jobs["two_stage", "twice", images] = Run(IMC, whole, FIT, verify=False)
        jobs["os", "once", images] = Run(IMC, Small("os", "inference", "whole", images), FIT, verify=False)
    return Table(
        "resident", "Images one behind the other on arrays, synthetic operands",
        {"variant": "variant", "weights": "weights", "latency_cycles": "cycles of an image",
         "interval_cycles": "cycles of an image more", "energy_of_one_uj": "energy of an image [uJ]",
         "energy_more_uj": "energy of an image more [uJ]", "area_mm2": "area [mm2]"},
        jobs, rows,
        ("none: a pass without prompts; given: a pass whose prefixes are there from the start, so that attention waits"
         " for no prompt; os minus that is what the dependence takes.", f"An image more: of {BATCH} against one."),
    )  # fmt: skip


METHODS = {"none": "no prompts", "hard": "two stages, hard (L2P style)", "soft": "two stages, soft",
           "coda": "two stages, attention vectors (CODA)", "os": "one stage (OS)",
           "os++": "one stage, regularised (OS++)"}  # fmt: skip


def class_incremental() -> Table:
    """What ``workloads/recipes/train_prompts.py`` measured, by method."""

    def rows(_: Mapping[Any, Any]) -> list[Row]:
        with RUNS.open(newline="") as file:
            runs = list(csv.DictReader(file))
        found = []
        for method, name in METHODS.items():
            own = [run for run in runs if run["method"] == method]
            row: Row = {"method": name, "seeds": len(own)}
            for what in ("accuracy", "forgetting"):
                values = [100 * float(run[what]) for run in own]
                row[f"{what}_percent"] = statistics.mean(values)
                row[f"{what}_deviation"] = statistics.stdev(values)
            found.append(row)
        return found

    return Table(
        "class_incremental", "Five tasks of two classes of Fashion-MNIST",
        {"method": "method", "seeds": "seeds", "accuracy_percent": "A_N [%]", "accuracy_deviation": "deviation",
         "forgetting_percent": "F_N [%]", "forgetting_deviation": "deviation"},
        {}, rows, ("Float models; deviations over seeds, which decide the order of classes too.",), _draw_accuracy,
    )  # fmt: skip


def _draw_accuracy(axes: Any, rows: list[Row]) -> None:
    places = np.arange(len(rows))
    for shift, (what, label) in zip(
        (-0.2, 0.2), (("accuracy", "accuracy A_N"), ("forgetting", "forgetting F_N")), strict=True
    ):
        axes.bar(places + shift, [row[f"{what}_percent"] for row in rows], 0.38, label=label,
                 yerr=[row[f"{what}_deviation"] for row in rows], capsize=2)  # fmt: skip
    name_groups(axes, [row["method"].replace(", ", ",\n").replace(" (", "\n(") for row in rows])
    axes.tick_params(axis="x", labelsize=6)
    axes.set_ylabel("mean of 3 seeds [%]")
    axes.margins(y=0.2)  # room for the legend
    axes.legend(fontsize=7, ncols=2)


TABLES = {
    "macs": macs,
    "streamed": streamed,
    "small": small,
    "resident": resident,
    "class_incremental": class_incremental,
}
