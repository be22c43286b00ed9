"""The tables: what bits cost, which layers can have few, where few stop paying, and whose images calibrate."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from matplotlib.axes import Axes
from paper_tables import Row, Table

FOLDER = Path(__file__).resolve().parent
PUBLISHED = yaml.safe_load((FOLDER / "published.yaml").read_text(encoding="utf-8"))
BUDGETS = (0.25, 0.5, 0.75)
"""Energy budgets: shares of the way from the cheapest to the dearest of the searched settings."""
EASIEST = "w8888_a8"
BITS = (2, 4, 8)
"""Of the weights of inner layers, in the calibration."""
SHORT = {"w8888_a8": "W8A8", "w4444_a4": "W4A4", "w2222_a4": "W2A4"}


def label(trace: str) -> str:
    """``W4A4`` of ``w4444_a4``, ``W4-2-2-4 A4`` of ``w4224_a4``."""
    weights, activations = trace.removeprefix("w").split("_a")
    same = len(set(weights)) == 1
    return f"W{weights[0]}A{activations}" if same else f"W{'-'.join(weights)} A{activations}"


def front(rows: Sequence[Row]) -> list[Row]:
    """The rows that none is better than in accuracy and in energy."""
    return [
        row for row in rows
        if not any(
            (other["accuracy_percent"], -other["energy_uj"]) != (row["accuracy_percent"], -row["energy_uj"])
            and other["accuracy_percent"] >= row["accuracy_percent"] and other["energy_uj"] <= row["energy_uj"]
            for other in rows
        )
    ]  # fmt: skip


def bits(points: Mapping[str, pd.DataFrame], traces: Mapping[str, Mapping[str, Any]]) -> tuple[Table, list[Row]]:
    """What bits cost on every machine."""
    found = []
    for machine, table in points.items():
        rows = []
        for point in table.itertuples():
            trace = Path(str(point.trace)).stem
            rows.append(
                {
                    "machine": machine, "bits": label(trace), "accuracy_percent": traces[trace]["accuracy_percent"],
                    "weight_kib": traces[trace]["weight_bits"] / 8192, "cycles": int(point.cycles),
                    "energy_uj": point.energy_pj / 1e6, "dram_read_kib": point.dram_read_bytes / 1024,
                    "area_mm2": point.area_mm2, "mismatches": int(point.mismatches),
                }
            )  # fmt: skip
        best = front(rows)
        first = next(row for row in rows if row["bits"] == label(EASIEST))
        for row in rows:
            row["cycles_relative"] = row["cycles"] / first["cycles"]
            row["energy_relative"] = row["energy_uj"] / first["energy_uj"]
            row["on_front"] = row in best
        found += rows
    columns = {
        "machine": "machine", "bits": "bits", "accuracy_percent": "accuracy [%]", "weight_kib": "weights [KiB]",
        "cycles": "cycles", "cycles_relative": "of W8A8", "energy_uj": "energy [uJ]", "energy_relative": "of W8A8",
        "dram_read_kib": "read from DRAM [KiB]", "area_mm2": "area [mm2]", "mismatches": "mismatches",
        "on_front": "on the front",
    }  # fmt: skip
    return Table("bits", "One image, by bits of weights and activations of the inner layers", columns, {}, _none), found


def _none(results: Mapping[Any, Any]) -> list[Row]:
    return []


def search(points: pd.DataFrame, traces: Mapping[str, Mapping[str, Any]]) -> tuple[Table, list[Row]]:
    """The best bits of every layer under energy budgets, of all combinations."""
    candidates = [
        {
            "bits": label(trace), "accuracy_percent": traces[trace]["accuracy_percent"],
            "energy_uj": energy / 1e6, "cycles": int(cycles),
        }
        for trace, energy, cycles in zip(
            (Path(str(name)).stem for name in points.trace), points.energy_pj, points.cycles, strict=True
        )
        if trace.endswith("_a4") and set(trace[1:5]) <= {"2", "4"}
    ]  # fmt: skip
    energies = [row["energy_uj"] for row in candidates]
    found = []
    for share in BUDGETS:
        budget = min(energies) + share * (max(energies) - min(energies))
        able = [row for row in candidates if row["energy_uj"] <= budget]
        best = max(able, key=lambda row: (row["accuracy_percent"], -row["energy_uj"]))
        found.append({"budget_uj": budget, "of": len(candidates), "within": len(able), **best})
    columns = {
        "budget_uj": "budget [uJ]", "within": "settings within", "of": "of", "bits": "best of them",
        "accuracy_percent": "accuracy [%]", "energy_uj": "energy [uJ]", "cycles": "cycles",
    }  # fmt: skip
    return Table(
        "search", "Bits of weights of each inner layer under a budget of energy, 4 or 2 each", columns, {}, _none,
        draw=lambda axes, rows: _draw_front(axes, candidates, rows), size=(5.0, 3.0),
    ), found  # fmt: skip


def _draw_front(axes: Axes, candidates: Sequence[Row], chosen: Sequence[Row]) -> None:
    best = sorted(front(candidates), key=lambda row: row["energy_uj"])
    axes.scatter(
        [row["energy_uj"] for row in candidates], [row["accuracy_percent"] for row in candidates], s=12, color="gray",
        label="all combinations",
    )  # fmt: skip
    axes.plot(
        [row["energy_uj"] for row in best], [row["accuracy_percent"] for row in best], marker="o", markersize=4,
        label="Pareto front",
    )  # fmt: skip
    for row in best:
        axes.annotate(row["bits"], (row["energy_uj"], row["accuracy_percent"]), fontsize=6, xytext=(3, -8),
                      textcoords="offset points")  # fmt: skip
    axes.set_xlabel("energy of an image [uJ]")
    axes.set_ylabel("accuracy [%]")
    axes.legend(fontsize=7)


def limits(points: pd.DataFrame) -> tuple[Table, list[Row]]:
    """Cycles and energy against 8 bits, with fewer and fewer bytes a second and with more rows of PEs."""
    setting = ["pe.rows", "memory.dram.bandwidth_gb_s"]
    found = []
    for (side, bandwidth), group in points.groupby(setting, sort=False):
        by = {Path(str(row.trace)).stem: row for row in group.itertuples()}
        for trace, row in by.items():
            if trace != EASIEST:
                found.append(
                    {
                        "array": f"{int(side)} x 8", "bandwidth_gb_s": float(bandwidth), "bits": label(trace),
                        "cycles": int(row.cycles), "cycles_relative": row.cycles / by[EASIEST].cycles,
                        "energy_relative": row.energy_pj / by[EASIEST].energy_pj,
                        "dram_bytes_relative": row.dram_bytes / by[EASIEST].dram_bytes,
                    }
                )  # fmt: skip
    columns = {
        "array": "array", "bandwidth_gb_s": "DRAM [GB/s]", "bits": "bits", "cycles": "cycles",
        "cycles_relative": "cycles of W8A8", "energy_relative": "energy of W8A8",
        "dram_bytes_relative": "bytes to and from DRAM of W8A8",
    }  # fmt: skip
    return Table("limits", "Where few bits stop paying", columns, {}, _none), found


def energy(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> tuple[Table, list[Row]]:
    """What energy goes into, by bits."""
    kinds = {"leakage": lambda unit, action: action == "leakage",
             "DRAM": lambda unit, action: unit == "dram", "cache": lambda unit, action: unit.startswith("cache"),
             "PEs": lambda unit, action: unit == "pe"}  # fmt: skip
    found = []
    for trace, rows in tables.items():
        total = sum(row["energy_pj"] for row in rows)
        parts = dict.fromkeys([*kinds, "others"], 0.0)
        for row in rows:
            kind = next((name for name, holds in kinds.items() if holds(row["unit"], row["action"])), "others")
            parts[kind] += row["energy_pj"]
        found.append({"bits": label(trace), "energy_uj": total / 1e6} | {
            f"{name.lower()}_percent": 100 * part / total for name, part in parts.items()
        })  # fmt: skip
    columns = {"bits": "bits", "energy_uj": "energy [uJ]"} | {
        f"{name.lower()}_percent": f"{name} [%]" for name in [*kinds, "others"]
    }
    return Table("energy", "What the energy of an image goes into, on bit_composable", columns, {}, _none), found


def calibration(rows: pd.DataFrame) -> tuple[Table, list[Row]]:
    """Accuracy by source of the calibration images: mean and deviation over seeds, points against real images."""
    rows = rows.fillna({"filters": ""})
    keys = ["network", "weight_bits", "activation_bits", "source", "filters", "images"]
    found = []
    for key, group in rows.groupby(keys, sort=False):
        values = dict(zip(keys, key, strict=True))
        real = rows[
            (rows.network == values["network"]) & (rows.weight_bits == values["weight_bits"])
            & (rows.activation_bits == values["activation_bits"]) & (rows.source == "real") & (rows.images == 100)
        ].set_index("seed")  # fmt: skip
        points = [row.accuracy_percent - real.accuracy_percent[row.seed] for row in group.itertuples()
                  if row.seed in real.index]  # fmt: skip
        found.append(
            {
                **values, "seeds": len(group), "accuracy_percent": group.accuracy_percent.mean(),
                "deviation_points": group.accuracy_percent.std() if len(group) > 1 else None,
                "of_float_points": (group.accuracy_percent - group.float_accuracy_percent).mean(),
                "of_real_points": sum(points) / len(points) if points else None,
            }
        )  # fmt: skip
    columns = {
        "network": "network", "weight_bits": "bits of weights", "activation_bits": "of activations", "source": "images",
        "filters": "filters", "images": "how many", "seeds": "seeds", "accuracy_percent": "accuracy [%]",
        "deviation_points": "standard deviation", "of_float_points": "points over the float network",
        "of_real_points": "points over 100 real images",
    }  # fmt: skip
    return Table(
        "sources", "Accuracy by the images that calibrate", columns, {}, _none, draw=_draw_sources, size=(7.0, 3.2)
    ), found  # fmt: skip


def _draw_sources(axes: Axes, rows: Sequence[Row]) -> None:
    """Inner weights of 2 bits, by network and source, with deviations over seeds; lines are the float networks."""
    names: list[str] = []
    for shift, network, bits in ((-0.1, "cnn", "W2A4"), (0.1, "snn", "W2, spikes")):
        own = [row for row in rows if row["network"] == network and row["weight_bits"] == min(BITS)]
        found = {_source(row): row for row in own}
        names = names or list(found)
        (line, *_) = axes.errorbar(
            [names.index(name) + shift for name in found], [row["accuracy_percent"] for row in found.values()],
            [row["deviation_points"] or 0.0 for row in found.values()], linestyle="", marker="o", markersize=4,
            capsize=2, label=f"{network}, {bits}",
        )  # fmt: skip
        level = own[0]["accuracy_percent"] - own[0]["of_float_points"]
        axes.axhline(level, color=line.get_color(), linewidth=0.8, linestyle=":", label=f"{network}, float")
    axes.set_xticks(range(len(names)), names, rotation=0, ha="center", fontsize=6)
    axes.set_ylabel("accuracy [%]")
    axes.legend(fontsize=7, loc="lower left")


def _source(row: Row) -> str:
    """The name of a row's images on a few lines, the number left out where networks differ in it."""
    if row["source"] == "real":
        return f"{row['images']:,}\nreal"
    if row["filters"]:
        return f"{row['source']},\n" + row["filters"].replace(", ", "\n+ ")
    return str(row["source"]).replace(", ", ",\n").replace(" digits", "\ndigits")


def of_traces(paths: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Accuracy and bits of weights of each trace, by its name."""
    from archsim.trace import load_trace

    found = {}
    for path in paths:
        trace = load_trace(path)
        weighted = [operation for operation in trace.operations if operation.weight is not None]
        held = sum(int(operation.weight.size) * operation.weight_bits for operation in weighted)
        found[path.stem] = {"accuracy_percent": round(100 * trace.provenance["accuracy"], 4), "weight_bits": held}
    return json.loads(json.dumps(found))
