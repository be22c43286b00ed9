"""The tables: what networks do, what is at their joins, what the machine takes, and what becomes of the claims."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from paper_tables import Row, Table, name_groups

from archsim.report import drawing

TASKS = {"fashion_mnist": "Fashion-MNIST", "wave": "wave source"}
JOINS = {"base": "base", "addition": "addition", "concatenation": "concatenation", "delay": "concatenation with delay"}
BLOCKS = ("block1", "block2")
EXITS = {"none": "the end", "fired": "all neurons fired", "decision": "the decision"}
TICKS = 32
"""In a time constant."""
IMAGES = 4
"""Items of a trace."""
CLOSED = 0.25
"""Of a gap that is said to be closed no more is left."""


def _none(results: Mapping[Any, Any]) -> list[Row]:
    return []


def spread(name: str, values: pd.Series) -> Row:
    """Mean and deviation over seeds."""
    return {name: float(values.mean()), f"{name}_deviation": float(values.std(ddof=1)) if len(values) > 1 else 0.0}


def _each(measures: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """The rows of every task and join that there are."""
    pairs = [(task, join) for task in TASKS for join in JOINS]
    found = [(*pair, measures[(measures.task == pair[0]) & (measures["join"] == pair[1])]) for pair in pairs]
    return [one for one in found if len(one[2])]


def networks(measures: pd.DataFrame) -> tuple[Table, list[Row]]:
    """Accuracy, latency and spikes of the integer networks."""
    found = []
    for task, join, rows in _each(measures):
        row: Row = {"task": TASKS[task], "join": JOINS[join], "seeds": len(rows), "tested": int(rows.tested.iloc[0])}
        row |= spread("accuracy", 100 * rows.accuracy) | {"undecided": float(100 * rows.undecided.mean())}
        row |= spread("latency", rows.latency) | {"constants": float(rows.latency.mean() / TICKS)}
        row |= {"spikes": float(rows.spikes.mean())} | spread("before", rows.spikes_before)
        found.append(row | spread("share", 100 * rows.spikes_before / rows.spikes))
    columns = {
        "task": "task", "join": "join", "seeds": "seeds", "tested": "test items", "accuracy": "accuracy [%]",
        "accuracy_deviation": "+-", "undecided": "undecided [%]", "latency": "first spike [ticks]",
        "latency_deviation": "+-", "constants": "first spike [time constants]", "spikes": "spikes per item",
        "before": "before the decision", "before_deviation": "+-", "share": "before the decision [%]",
        "share_deviation": "+-",
    }  # fmt: skip
    title = "Integer networks: mean and deviation over seeds"
    return Table("networks", title, columns, {}, _none, draw=_draw_networks, size=(7.0, 2.8)), found


def _bars(axes: Axes, groups: Sequence[str], series: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """Bars with deviations, a fill for each of ``series``, side by side in each of ``groups``."""
    width = 0.8 / len(series)
    for place, (name, values) in enumerate(series.items()):
        at = np.arange(len(groups)) - 0.4 + (place + 0.5) * width
        means, deviations = np.array(values).T
        drawing.bar(axes, at, means, place, width=0.92 * width, yerr=deviations, label=name, capsize=2,
                    error_kw={"linewidth": 0.8})  # fmt: skip
    name_groups(axes, groups)
    drawing.legend_above(axes)


def _draw_networks(axes: Axes, rows: Sequence[Row]) -> None:
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    series: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        series.setdefault(row["join"], []).append((row["latency"], row["latency_deviation"]))
    _bars(axes, tasks, series)
    axes.set_ylabel("first output spike [ticks]")


def gaps(row: pd.Series) -> list[tuple[float, float, float]]:
    """Of one network's joins, in ticks: the gap as delays are, the one without them, and the mean delay."""
    found = []
    for block in BLOCKS:
        without = row[f"{block}_conv"] - row[f"{block}_earliest"]
        beside = row[f"{block}_beside"]
        late = 0.0 if np.isnan(beside) else beside - row[f"{block}_earliest"]
        found.append((without - late, without, late))
    return found


def joins(measures: pd.DataFrame) -> tuple[Table, list[Row]]:
    """How far a block's neurons are behind what goes beside them, in ticks."""
    found = []
    for task, join, rows in _each(measures):
        if join == "base":
            continue
        every = np.array([gaps(row) for _, row in rows.iterrows()])
        for place, block in enumerate(BLOCKS):
            gap, without, late = every[:, place].T
            row: Row = {"task": TASKS[task], "join": JOINS[join], "block": place + 1}
            row |= {"untrained": float(rows[f"{block}_untrained_gap"].mean())}
            row |= spread("without", pd.Series(without)) | spread("delay", pd.Series(late))
            channels = rows[f"{block}_delay_deviation"].mean()
            row |= {"channels": None if np.isnan(channels) else float(channels)} | spread("gap", pd.Series(gap))
            found.append(row | spread("joined", rows[f"{block}_joined"]))
    columns = {
        "task": "task", "join": "join", "block": "block", "untrained": "gap, untrained [ticks]",
        "without": "gap, delays taken out [ticks]", "without_deviation": "+-", "delay": "mean delay [ticks]",
        "delay_deviation": "+-", "channels": "deviation over channels", "gap": "gap [ticks]", "gap_deviation": "+-",
        "joined": "mean tick behind the join", "joined_deviation": "+-",
    }  # fmt: skip
    title = "Gaps at joins: a block's mean tick less that of what goes beside it"
    notes = (
        "Untrained delays are half a time constant, 16 ticks. Of an addition the gap is between the two times that add "
        "up.",
    )
    return Table("joins", title, columns, {}, _none, notes, _draw_joins, (7.0, 2.8)), found


def _draw_joins(axes: Axes, rows: Sequence[Row]) -> None:
    groups = [f"{task}\nblock {block}" for task in dict.fromkeys(row["task"] for row in rows) for block in (1, 2)]
    series: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row["join"] == JOINS["concatenation"]:
            series.setdefault("concatenation", []).append((row["gap"], row["gap_deviation"]))
        if row["join"] == JOINS["delay"]:
            series.setdefault("with delay, delays taken out", []).append((row["without"], row["without_deviation"]))
            series.setdefault("with delay", []).append((row["gap"], row["gap_deviation"]))
    _bars(axes, groups, series)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_ylabel("gap at the join [ticks]")


def _per_item(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs with task and join of their trace, cycles and energy of an item."""
    named = [Path(trace).stem.rsplit("_", 2) for trace in runs.trace]
    return runs.assign(
        task=[task for task, _, _ in named],
        join=[join for _, join, _ in named],
        cycles=runs.cycles / IMAGES,
        energy_nj=runs.energy_pj / 1e3 / IMAGES,
    )


def costs(runs: pd.DataFrame) -> tuple[Table, list[Row]]:
    """Cycles and energy of an item on the machine, until something ends it."""
    runs = _per_item(runs)
    found: list[Row] = []
    for task, join, rows in _each(runs):
        for end, words in EXITS.items():
            own = rows[rows["scheduler.early_exit"] == end]
            row: Row = {"task": TASKS[task], "join": JOINS[join], "until": words, "seeds": len(own)}
            row |= spread("cycles", own.cycles) | spread("energy_nj", own.energy_nj)
            first = next((one for one in found if (one["task"], one["join"]) == (row["task"], row["join"])), row)
            row |= {f"{name}_relative": row[name] / first[name] for name in ("cycles", "energy_nj")}
            found.append(row | {"mismatches": int(own.mismatches.sum())})
    columns = {
        "task": "task", "join": "join", "until": "until", "seeds": "seeds", "cycles": "cycles per item",
        "cycles_deviation": "+-", "cycles_relative": "of those to the end", "energy_nj": "energy per item [nJ]",
        "energy_nj_deviation": "+-", "energy_nj_relative": "of that to the end", "mismatches": "mismatches",
    }  # fmt: skip
    title = f"Cycles and energy on ttfs, {IMAGES} items of each network"
    return Table("costs", title, columns, {}, _none, draw=_draw_costs, size=(7.0, 2.8)), found


def _draw_costs(axes: Axes, rows: Sequence[Row]) -> None:
    short = {**JOINS, "delay": "with delay"}
    names = {JOINS[key]: words for key, words in short.items()}
    groups = [
        f"{names[row['join']]}\n{row['task'] if row['join'] == 'base' else ''}"
        for row in rows if row["until"] == EXITS["none"]
    ]  # fmt: skip
    series: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        series.setdefault(f"to {row['until']}", []).append((row["cycles"], row["cycles_deviation"]))
    _bars(axes, groups, series)
    axes.tick_params(axis="x", labelsize=7)
    axes.set_ylabel("cycles per item")


def chips(runs: pd.DataFrame, costs: Sequence[Row]) -> tuple[Table, list[Row]]:
    """The same traces on cores that step from tick to tick, beside ttfs to the end."""
    found = []
    for task, join, rows in _each(_per_item(runs)):
        row: Row = {"task": TASKS[task], "join": JOINS[join], "seeds": len(rows)}
        row |= spread("cycles", rows.cycles) | spread("energy_nj", rows.energy_nj)
        (beside,) = (
            one for one in costs
            if (one["task"], one["join"], one["until"]) == (row["task"], row["join"], EXITS["none"])
        )  # fmt: skip
        row |= {f"{name}_relative": row[name] / beside[name] for name in ("cycles", "energy_nj")}
        found.append(row | {"mismatches": int(rows.mismatches.sum())})
    columns = {
        "task": "task", "join": "join", "seeds": "seeds", "cycles": "cycles per item", "cycles_deviation": "+-",
        "cycles_relative": "of those on ttfs", "energy_nj": "energy per item [nJ]", "energy_nj_deviation": "+-",
        "energy_nj_relative": "of that on ttfs", "mismatches": "mismatches",
    }  # fmt: skip
    title = f"Cycles and energy on manycore, a step per tick, {IMAGES} items of each network"
    return Table("chips", title, columns, {}, _none), found


def claims(measures: pd.DataFrame) -> tuple[Table, list[Row]]:
    """The paper's qualitative claims, network by network."""
    asked: dict[str, Callable[[Mapping[str, pd.Series]], tuple[float, bool]]] = {
        "addition delays": _addition, "concatenation leaves gaps": _concatenation, "delays close them": _delays,
    }  # fmt: skip
    shown = {
        "addition delays": "first spike, addition / base", "concatenation leaves gaps": "smallest gap [ticks]",
        "delays close them": "gaps left, of concatenation's",
    }  # fmt: skip
    found = []
    for task in TASKS:
        own = measures[measures.task == task]
        seeds = [
            {row["join"]: row for _, row in rows.iterrows()}
            for _, rows in own.groupby("seed") if len(rows) == len(JOINS)
        ]  # fmt: skip
        if not seeds:
            continue
        for claim, ask in asked.items():
            values, held = zip(*(ask(networks) for networks in seeds), strict=True)
            row: Row = {"task": TASKS[task], "claim": claim, "measure": shown[claim]}
            row |= spread("value", pd.Series(values)) | {"held": sum(held), "seeds": len(seeds)}
            found.append(row | {"verdict": _verdict(claim, values, held)})
    columns = {
        "task": "task", "claim": "claim", "measure": "measure", "value": "value", "value_deviation": "+-",
        "held": "seeds that say so", "seeds": "seeds", "verdict": "verdict",
    }  # fmt: skip
    notes = (
        f"A gap counts as closed where no more than {CLOSED:.0%} of concatenation's is left, over both joins. 'In "
        "part' are claims that some seeds bear out, and gaps that are smaller in all seeds.",
    )
    return Table("claims", "The paper's qualitative claims", columns, {}, _none, notes), found


def _addition(networks: Mapping[str, pd.Series]) -> tuple[float, bool]:
    ratio = networks["addition"].latency / networks["base"].latency
    return ratio, ratio > 1


def _concatenation(networks: Mapping[str, pd.Series]) -> tuple[float, bool]:
    least = min(gap for gap, _, _ in gaps(networks["concatenation"]))
    return least, least > 1


def _delays(networks: Mapping[str, pd.Series]) -> tuple[float, bool]:
    left, all_of_it = (sum(abs(gap) for gap, _, _ in gaps(networks[join])) for join in ("delay", "concatenation"))
    return left / all_of_it, left <= CLOSED * all_of_it


def _verdict(claim: str, values: Sequence[float], held: Sequence[bool]) -> str:
    if all(held):
        return "confirmed"
    smaller = claim == "delays close them" and max(values) < 1
    return "in part" if any(held) or smaller else "refuted"
