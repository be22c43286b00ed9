"""The six published networks: improvement by operations, by the legacy tools, and by archsim's machines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from legacy_network import load_network
from legacy_sata_sim import SataInferenceNetwork, inference
from legacy_spikesim import SpikesimNetwork, ela
from matplotlib.axes import Axes
from runs import LEGACY, MOST_TIMESTEPS, Run, Synthetic, energy_pj
from source import WORKS, Row
from table import Table

from archsim.report.plots import grouped

ASSUMED_SPARSITY = 0.9  # LTH states no sparsity of spikes; S-BP's and Direct's, which the paper assumes
MACHINES: dict[str, tuple[str, tuple[str, ...]]] = {
    "sata": ("sata", ()),
    "sata_skipping": ("sata", ("scheduler.sparsity=skipping",)),
    "spikesim": ("spikesim", ()),
}


def sata_sim(timesteps: int, sparsity: float) -> dict[str, float]:
    """Totals of SATA_Sim's VGG9."""
    overrides = [f"timesteps={timesteps}", f"sparsity.spikes={sparsity}"]
    return inference(load_network(LEGACY / "vgg9_bntt_inference.yaml", SataInferenceNetwork, overrides)).totals


def spikesim_ela(timesteps: int) -> dict[str, float]:
    """Totals of the ELA's VGG9, which has no sparsity."""
    return ela(load_network(LEGACY / "vgg9_spikesim.yaml", SpikesimNetwork, [f"timesteps={timesteps}"])).totals


def _number(work: str, name: str) -> Any:
    return WORKS[work].get(name, {}).get("value")


def _pair(work: str) -> tuple[int, int, float, float]:
    """T of the work, T of its baseline, its sparsities of spikes and weights."""
    sparsity = _number(work, "sparsity") or ASSUMED_SPARSITY
    return (
        _number(work, "timesteps"),
        _number(work, "baseline_timesteps"),
        sparsity,
        _number(work, "weight_sparsity") or 0,
    )


def _by_operations(own: int, baseline: int, work: str) -> float:
    """The common estimate, T (1 - sparsity), of whichever sparsity the work claims."""
    sparsity = _number(work, "weight_sparsity") or _number(work, "sparsity")
    return baseline / own / (1 - sparsity)


def _jobs() -> dict[Any, Run]:
    found = {}
    for work in WORKS:
        own, baseline, sparsity, pruned = _pair(work)
        if own > MOST_TIMESTEPS:
            continue
        dense = Synthetic(min(baseline, MOST_TIMESTEPS), ASSUMED_SPARSITY if pruned else 0.0)
        for key, (machine, options) in MACHINES.items():
            found[work, key, "own"] = Run(machine, Synthetic(own, sparsity, pruned), options)
            found[work, key, "baseline"] = Run(machine, dense, options)
    return found


def _rows(results: Mapping[Any, Any]) -> list[Row]:
    rows = []
    for work in WORKS:
        own, baseline, sparsity, pruned = _pair(work)
        dense = ASSUMED_SPARSITY if pruned else 0.0
        tool = sata_sim(own, sparsity)["total_nj"]
        row: Row = {
            "work": work,
            "timesteps": own,
            "sparsity_percent": 100 * (pruned or sparsity),
            "baseline_timesteps": baseline,
            "baseline_mark": WORKS[work]["baseline_timesteps"]["mark"],
            **{f"published_{name}": _number(work, name) for name in ("operations", "sata", "spikesim")},
            "operations": _by_operations(own, baseline, work),
            "sata_sim": sata_sim(baseline, dense)["total_nj"] / tool,
            "sata_sim_as_sparse": sata_sim(baseline, sparsity)["total_nj"] / tool,
            "ela": spikesim_ela(baseline)["energy_pj"] / spikesim_ela(own)["energy_pj"],
        }
        if own > MOST_TIMESTEPS:
            rows.append(row | {"run": f"not run: T > {MOST_TIMESTEPS}"})
            continue
        run = min(baseline, MOST_TIMESTEPS)
        row |= {
            "run": f"{run} against {own}" + (f" (not {baseline})" if run < baseline else ""),
            "run_operations": _by_operations(own, run, work),
            "run_timesteps": run / own,
            "run_sata_sim": sata_sim(run, dense)["total_nj"] / tool,
            "run_ela": spikesim_ela(run)["energy_pj"] / spikesim_ela(own)["energy_pj"],
        }
        for key in MACHINES:
            row[f"archsim_{key}"] = energy_pj(results[work, key, "baseline"]) / energy_pj(results[work, key, "own"])
        rows.append(row)
    return rows


def _draw(axes: Axes, rows: list[Row]) -> None:
    shown = {
        "run_operations": "operations", "run_ela": "ELA", "archsim_spikesim": "archsim SpikeSim",
        "run_sata_sim": "SATA_Sim", "archsim_sata": "archsim SATA", "archsim_sata_skipping": "archsim SATA, skipping",
    }  # fmt: skip
    run = [row for row in rows if "run_timesteps" in row]
    labels = [f"{row['work']}\nT = {row['run'].replace(' against ', ' / ').split(' (')[0]}" for row in run]
    grouped(axes, pd.DataFrame({name: [row[key] for row in run] for key, name in shown.items()}, index=labels))
    axes.set_yscale("log")
    axes.set_yticks([1, 2, 4, 10, 20, 40], ["1", "2", "4", "10", "20", "40"])
    axes.minorticks_off()
    axes.set(ylabel="energy of baseline / own (log)")
    axes.legend(frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, 1), fontsize=7)
    axes.tick_params(axis="x", labelsize=7, rotation=0)


def works() -> Table:
    return Table(
        name="works",
        title="Six networks: improvement over their own baselines",
        columns={
            "work": "work", "timesteps": "T", "sparsity_percent": "sparsity [%]", "baseline_timesteps": "baseline's T",
            "baseline_mark": "mark of that", "published_operations": "published: estimated [3rd]",
            "published_sata": "published: SATA [3rd]", "published_spikesim": "published: SpikeSim [3rd]",
            "operations": "T (1 - sparsity)", "sata_sim": "SATA_Sim",
            "sata_sim_as_sparse": "SATA_Sim, baseline as sparse", "ela": "SpikeSim's ELA",
            "run": "run by archsim, T", "run_timesteps": "T ratio of that",
            "run_operations": "T (1 - sparsity) of that", "run_sata_sim": "SATA_Sim of that", "run_ela": "ELA of that",
            "archsim_sata": "archsim SATA", "archsim_sata_skipping": "archsim SATA, skipping",
            "archsim_spikesim": "archsim SpikeSim",
        },
        jobs=_jobs(),
        rows=_rows,
        notes=[
            "Energy of the baseline over that of the work. One network stands for all: VGG9, in SATA_Sim the shapes"
            " of its own example, elsewhere those of SpikeSim's; archsim leaves out the direct encoder and has one"
            " image of synthetic spikes.",
            "Published numbers are from public notes on the paper (3rd), on the networks of the works. Baselines' T are"
            " inferred from shipped result files (run) or from the table itself (I); baselines are dense.",
            "A trace has at most 16 timesteps: columns from 'run by archsim' on compare with a baseline of T = 16 where"
            " the baseline's is larger, and nothing is extrapolated.",
            "LTH prunes weights: its sparsity is theirs; spikes are taken as 90 % sparse in both.",
        ],
        draw=_draw,
        size=(7.0, 2.8),
    )  # fmt: skip
