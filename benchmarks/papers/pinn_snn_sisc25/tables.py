"""The tables: how errors fall with timesteps, what calibration gains, what errors cost on machines, who wins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from paper_tables import Row, Table

from archsim import Report

PROBLEMS = {
    "poisson": "Poisson", "burgers": "Burgers", "taylor_green": "Taylor-Green flow", "separable": "separable Poisson",
}  # fmt: skip
FALLING = (4, 64)
"""Timesteps over which errors should fall as 1 / T, before rounded weights and inputs count."""
CALIBRATIONS = ("none", "light", "advanced")
SHOWN = ("advanced", "nearest")
"""The conversion of the traces."""
CORES = ("manycore", "loihi1")
"""Chips that run spikes alone, without the first layer, which reads numbers."""
ACTIVATION = {
    "scale": "multiply by the scale", "divide": "divide", "read": "read the table", "track": "follow",
    "leakage": "leakage of the table",
}  # fmt: skip
"""Actions of the units of an activation."""
WITHOUT = "systolic"
"""Where the networks without spikes run that those are compared with."""


def _none(results: Mapping[Any, Any]) -> list[Row]:
    return []


def deviation(values: pd.Series) -> float | None:
    """The standard deviation over seeds; None of one seed."""
    return float(values.std()) if len(values) > 1 else None


def networks(errors: pd.DataFrame) -> tuple[Table, list[Row]]:
    """The float networks: relative L2 errors over seeds."""
    found = []
    for problem, group in errors.groupby("problem", sort=False):
        by_seed = group.groupby("seed").float_error.first()
        rates = group[(group.bits == 0) & (group.timesteps == 64)].spike_rate
        found.append(
            {
                "problem": PROBLEMS[problem], "seeds": len(by_seed), "error": float(by_seed.mean()),
                "deviation": deviation(by_seed), "spike_rate": float(rates.mean()),
            }
        )  # fmt: skip
    columns = {
        "problem": "problem", "seeds": "seeds", "error": "relative L2 error", "deviation": "standard deviation",
        "spike_rate": "spike rate, T = 64",
    }  # fmt: skip
    return Table("networks", "The float networks", columns, {}, _none), found


def timesteps(errors: pd.DataFrame) -> tuple[Table, list[Row]]:
    """Relative error to the known solution by timesteps; means over seeds, and their standard deviations."""
    found = []
    spiking = errors[errors.bits == 0]
    for (problem, rounding, calibration), group in spiking.groupby(["problem", "rounding", "calibration"], sort=False):
        row: Row = {"problem": PROBLEMS[problem], "rounding": rounding, "calibration": calibration}
        for steps, part in group.groupby("timesteps"):
            row |= {f"t{steps}": float(part.error.mean()), f"deviation_t{steps}": deviation(part.error)}
        found.append(row)
    columns = {"problem": "problem", "rounding": "rounding", "calibration": "calibration"}
    for steps in sorted(spiking.timesteps.unique()):
        columns |= {f"t{steps}": f"T = {steps}", f"deviation_t{steps}": "+-"}
    title = "Relative L2 error by timesteps, mean over seeds and standard deviation"
    return Table("timesteps", title, columns, {}, _none, draw=_draw_timesteps, size=(9.0, 2.8)), found


def _draw_timesteps(axes: Axes, rows: Sequence[Row]) -> None:
    """Both roundings of all problems side by side, problem after problem along one axis of T."""
    colours = {"none": "tab:red", "light": "tab:orange", "advanced": "tab:blue"}
    labels = []
    for place, problem in enumerate(PROBLEMS.values()):
        for row in (row for row in rows if row["problem"] == problem):
            steps = np.array([int(key[1:]) for key in row if key.startswith("t")])
            spread = place + 0.1 + 0.8 * (np.log2(steps) - 2) / 6
            dashed = row["rounding"] == "down"
            name = f"rounded {'down' if dashed else 'to the nearest'}, {row['calibration']}"
            axes.errorbar(
                spread, [row[f"t{step}"] for step in steps], [row[f"deviation_t{step}"] or 0.0 for step in steps],
                color=colours[row["calibration"]], marker=".", linestyle="--" if dashed else "-",
                label=name if place == 0 else "_", linewidth=1,
            )  # fmt: skip
        labels += [(place + 0.1 + 0.8 * (np.log2(step) - 2) / 6, f"{step}") for step in (4, 16, 64, 256)]
        axes.annotate(problem, (place + 0.5, 1.02), xycoords=("data", "axes fraction"), ha="center", fontsize=8)
        axes.axvline(place + 1, color="lightgray", linewidth=0.8)
    _decades(axes)
    axes.set_xticks([at for at, _ in labels], [text for _, text in labels], rotation=0, ha="center")
    axes.set_xlabel("timesteps T")
    axes.set_ylabel("relative L2 error")
    _legend(axes, 3)


def _legend(axes: Axes, columns: int) -> None:
    """Above the names of the problems."""
    axes.legend(fontsize=6, ncol=columns, handlelength=3.5, loc="lower center", bbox_to_anchor=(0.5, 1.08))


def _decades(axes: Axes) -> None:
    """Errors on a logarithmic axis."""
    axes.set_yscale("log")
    axes.set_yticks([0.01, 0.1, 1.0], ["0.01", "0.1", "1"])


def slopes(errors: pd.DataFrame) -> tuple[Table, list[Row]]:
    """How errors to the float network fall with T, and what calibration gains: ratios are geometric means over T and
    seeds, deviations those of a seed's."""
    found = []
    spiking = errors[(errors.bits == 0) & errors.timesteps.between(*FALLING)]
    for (problem, rounding), group in spiking.groupby(["problem", "rounding"], sort=False):
        by = {name: part.set_index(["seed", "timesteps"]).error_of_float for name, part in group.groupby("calibration")}
        row: Row = {"problem": PROBLEMS[problem], "rounding": rounding, "seeds": group.seed.nunique()}
        for calibration in CALIBRATIONS:
            logs = np.log(by[calibration]).unstack("seed")
            fits = pd.Series(np.polyfit(np.log(logs.index), logs, 1)[0])
            row |= {f"slope_{calibration}": float(fits.mean()), f"slope_{calibration}_deviation": deviation(fits)}
        for calibration in CALIBRATIONS[1:]:
            gains = np.log(by["none"] / by[calibration]).groupby("seed").mean()
            row |= {f"gain_{calibration}": float(np.exp(gains.mean()))}
            row |= {f"gain_{calibration}_deviation": deviation(np.exp(gains))}
        found.append(row)
    columns = {"problem": "problem", "rounding": "rounding", "seeds": "seeds"}
    for name in CALIBRATIONS:
        columns |= {f"slope_{name}": f"slope, {name}", f"slope_{name}_deviation": "+-"}
    for name in CALIBRATIONS[1:]:
        columns |= {f"gain_{name}": f"error before / behind, {name}", f"gain_{name}_deviation": "+-"}
    title = f"Slope of log error over log T, T = {FALLING[0]} to {FALLING[1]}, and what calibration gains"
    return Table("slopes", title, columns, {}, _none), found


def costs(runs: pd.DataFrame, known: Mapping[str, Mapping[str, Any]], errors: pd.DataFrame) -> tuple[Table, list[Row]]:
    """Error against cycles, time and energy of a point on every machine, and which networks none is better than.

    Those without spikes that core chips are compared with are on the machine ``WITHOUT``.
    """
    found: dict[tuple[str, str, str], Row] = {}
    for run in runs.itertuples():
        stem = Path(str(run.trace)).stem
        told, kind = known[stem], stem.rsplit("_", 1)[1]
        problem = stem.rsplit("_", 1)[0].removesuffix("_x").removesuffix("_y")
        key = (str(run.machine), problem, kind)
        row = found.setdefault(
            key, {"machine": key[0], "problem": PROBLEMS[problem], "network": label(kind)}
            | dict.fromkeys(("cycles", "time_us", "energy_nj", "mismatches"), 0) | {"coverage": 1.0}
            | error_of(errors, problem, kind)
        )  # fmt: skip
        row["coverage"] = min(row["coverage"], float(run.coverage))
        row["cycles"] += run.cycles / told["points"]
        row["time_us"] += run.latency_s * 1e6 / told["points"]
        row["energy_nj"] += run.energy_pj / 1e3 / told["points"]
        row["mismatches"] += int(run.mismatches)
    rows = list(found.values())
    for row in rows:
        row["on_front"] = not any(better(other, row) for other in rows if comparable(other, row))
    columns = {
        "machine": "machine", "problem": "problem", "network": "network", "error": "relative L2 error",
        "spike_rate": "spike rate", "coverage": "share of operations", "cycles": "cycles per point",
        "time_us": "time per point [us]", "energy_nj": "energy per point [nJ]", "mismatches": "mismatches",
        "on_front": "on the front",
    }  # fmt: skip
    title = "Error, time and energy of a point of the solution"
    return Table("costs", title, columns, {}, _none, draw=_draw_costs, size=(9.0, 3.0)), rows


def label(kind: str) -> str:
    """``T = 16`` of ``t16``, ``8 bits`` of ``b8``."""
    return f"T = {kind[1:]}" if kind[0] == "t" else f"{kind[1:]} bits"


def error_of(errors: pd.DataFrame, problem: str, kind: str) -> Row:
    """Error on the whole grid and spike rate of the network of a trace, seed 1."""
    rows = errors[(errors.problem == problem) & (errors.seed == 1)]
    if kind[0] == "t":
        rows = rows[(rows.bits == 0) & (rows.timesteps == int(kind[1:])) & (rows.calibration == SHOWN[0])]
        rows = rows[rows.rounding == SHOWN[1]]
    else:
        rows = rows[(rows.bits == int(kind[1:])) & (rows.calibration == "light")]
    (row,) = rows.to_dict("records")
    return {"error": row["error"], "spike_rate": row["spike_rate"] if kind[0] == "t" else None}


def comparable(one: Row, other: Row) -> bool:
    """Whether ``one`` runs where ``other`` does, or without spikes where those run that core chips do not."""
    stands_in = other["machine"] in CORES and one["machine"] == WITHOUT and one["network"][0] != "T"
    return stands_in or one["machine"] == other["machine"]


def better(one: Row, other: Row) -> bool:
    """Whether ``one`` of the same problem is no worse in error and energy, and better in one of them."""
    if one["problem"] != other["problem"]:
        return False
    pair = (one["error"] - other["error"], one["energy_nj"] - other["energy_nj"])
    return max(pair) <= 0 and min(pair) < 0


def _draw_costs(axes: Axes, rows: Sequence[Row]) -> None:
    markers = {"systolic": "s", "sata": "^", "loas": "o", "manycore": "x", "loihi1": "+"}
    step = 3.5  # decades of energy that a problem is drawn on
    least = {
        problem: min(row["energy_nj"] for row in rows if row["problem"] == problem) for problem in PROBLEMS.values()
    }
    ticks = []
    for place, problem in enumerate(PROBLEMS.values()):
        offset = place * step - np.log10(least[problem]) + 0.2
        for machine, marker in markers.items():
            for spiking in (True, False)[: 1 if machine in CORES else 2]:
                part = [
                    row for row in rows
                    if row["problem"] == problem and row["machine"] == machine and (row["network"][0] == "T") == spiking
                ]  # fmt: skip
                part.sort(key=lambda row: row["energy_nj"])
                name = f"{machine}, {'signed spikes' if spiking else 'no spikes'}"
                axes.plot(
                    [np.log10(row["energy_nj"]) + offset for row in part], [row["error"] for row in part],
                    marker=marker, markersize=3.5, linewidth=0.8, color="tab:blue" if spiking else "tab:red",
                    markerfacecolor="none" if machine != "loas" else None, label=name if place == 0 else "_",
                )  # fmt: skip
        for decade in range(0, 6):
            at = decade + offset
            if place * step + 0.2 < at < (place + 1) * step - 0.4:
                ticks.append((at, f"{10**decade:,}"))
        axes.annotate(
            problem, ((place + 0.5) * step, 1.02), xycoords=("data", "axes fraction"), ha="center", fontsize=8
        )
        axes.axvline((place + 1) * step, color="lightgray", linewidth=0.8)
    _decades(axes)
    axes.set_xticks([at for at, _ in ticks], [text for _, text in ticks], rotation=0, ha="center")
    axes.tick_params(axis="x", labelsize=7)
    axes.set_xlim(0, step * len(PROBLEMS))
    axes.set_xlabel("energy of a point of the solution [nJ]")
    axes.set_ylabel("relative L2 error")
    _legend(axes, 4)


def equal(rows: Sequence[Row]) -> tuple[Table, list[Row]]:
    """Every spiking network beside the cheapest one without spikes that is at least as accurate, on the same machine
    or, for core chips, on the machine ``WITHOUT``."""
    found = []
    for row in rows:
        if row["network"][0] != "T":
            continue
        others = [
            other for other in rows
            if other["network"][0] != "T" and other["error"] <= row["error"]
            and other["problem"] == row["problem"] and comparable(other, row)
        ]  # fmt: skip
        made: Row = {key: row[key] for key in ("machine", "problem", "network", "error")}
        if others:
            other = min(others, key=lambda one: one["energy_nj"])
            made |= {
                "instead": other["network"], "instead_on": other["machine"], "error_instead": other["error"],
                "time_ratio": row["time_us"] / other["time_us"], "energy_ratio": row["energy_nj"] / other["energy_nj"],
            }  # fmt: skip
        found.append(made)
    columns = {
        "machine": "machine", "problem": "problem", "network": "signed spikes", "error": "error",
        "instead": "without spikes", "instead_on": "on", "error_instead": "error",
        "time_ratio": "time, spikes / without",
        "energy_ratio": "energy, spikes / without",
    }  # fmt: skip
    title = "Signed spikes against the cheapest network without spikes that is at least as accurate"
    return Table("equal", title, columns, {}, _none), found


def divider(runs: Iterable[tuple[str, int, float, float]]) -> tuple[Table, list[Row]]:
    """What a slow division costs: cycles of a neuron's update."""
    found: list[Row] = []
    for machine, cycles, taken, energy in runs:
        first = next((row for row in found if row["machine"] == machine), None)
        row: Row = {"machine": machine, "update_cycles": cycles, "cycles": taken, "energy_nj": energy}
        row["cycles_relative"] = taken / (first or row)["cycles"]
        row["energy_relative"] = energy / (first or row)["energy_nj"]
        found.append(row)
    columns = {
        "machine": "machine", "update_cycles": "cycles of an update", "cycles": "cycles per point",
        "cycles_relative": "of the first", "energy_nj": "energy per point [nJ]", "energy_relative": "of the first",
    }  # fmt: skip
    return Table("divider", "Poisson at T = 64 with neurons that divide more slowly", columns, {}, _none), found


def activation(reports: Iterable[tuple[str, Report, int]]) -> tuple[Table, list[Row]]:
    """What of a point's energy the units have that follow an activation; a report and its points for each machine."""
    found: list[Row] = []
    for machine, report, points in reports:
        parts: dict[str, float] = dict.fromkeys(ACTIVATION, 0.0)
        for one in (one for layer in report.energy for one in layer if one.unit.startswith("activation")):
            parts[one.action] += one.energy_pj / 1e3 / points
        total = sum(one.energy_pj for layer in report.energy for one in layer) / 1e3 / points
        share = sum(parts.values()) / total
        found.append({"machine": machine, **parts, "energy_nj": total, "share": share})
    columns = {"machine": "machine", **ACTIVATION, "energy_nj": "energy per point [nJ]", "share": "share of those"}
    return Table("activation", "What the neuron costs, Poisson at T = 64, nJ per point", columns, {}, _none), found


def mapping(runs: Iterable[tuple[str, float, float]]) -> tuple[Table, list[Row]]:
    """Layers in as few cores as possible, or over all of them."""
    found: list[Row] = []
    for name, time, energy in runs:
        row: Row = {"mapping": name, "time_us": time, "energy_nj": energy}
        row["time_relative"] = time / (found or [row])[0]["time_us"]
        row["energy_relative"] = energy / (found or [row])[0]["energy_nj"]
        found.append(row)
    columns = {
        "mapping": "mapping", "time_us": "time per point [us]", "time_relative": "of the first",
        "energy_nj": "energy per point [nJ]", "energy_relative": "of the first",
    }  # fmt: skip
    return Table("mapping", "Poisson at T = 64 on manycore, by the mapping of its neurons", columns, {}, _none), found


def of_traces(paths: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Points of the solution that each trace computes, by its name."""
    from archsim.trace import load_trace

    return {path.stem: {"points": load_trace(path).provenance["details"]["points"]} for path in paths}
