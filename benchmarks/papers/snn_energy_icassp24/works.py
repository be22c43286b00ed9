"""The six published networks: improvement by operations, by the legacy tools, and by archsim's machines; in chunks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd
from legacy_network import load_network
from legacy_sata_sim.sata_sim import SataInferenceNetwork, inference
from legacy_spikesim.spikesim import SpikesimNetwork, ela
from matplotlib.axes import Axes
from paper_tables import Row, Table, deviation, name_groups, published_line
from runs import MOST_TIMESTEPS, SATA_SIM, SPIKESIM, Chunked, Run, Synthetic, chunks, cycles, energy_pj
from source import WORKS

from archsim.report.drawing import grouped

ASSUMED_SPARSITY = 0.9  # LTH states no sparsity of spikes; S-BP's and Direct's, which the paper assumes
MACHINES: dict[str, tuple[str, tuple[str, ...]]] = {
    "sata": ("sata", ()),
    "sata_skipping": ("sata", ("scheduler.sparsity=skipping",)),
    "spikesim": ("spikesim", ()),
}
TITLES = {"sata": "SATA", "sata_skipping": "SATA, skipping", "spikesim": "SpikeSim"}
DEVIATING = {
    "operations": "study_operations", "sata_sim": "study_sata", "archsim_sata": "study_sata",
    "archsim_sata_skipping": "study_sata", "ela": "study_spikesim", "archsim_spikesim": "study_spikesim",
}  # fmt: skip
"""Columns of ours, and those of the study's numbers that they are compared with."""


def sata_sim(timesteps: int, sparsity: float) -> dict[str, float]:
    """Totals of SATA_Sim's VGG9."""
    overrides = [f"timesteps={timesteps}", f"sparsity.spikes={sparsity}"]
    return inference(load_network(SATA_SIM / "vgg9_bntt_inference.yaml", SataInferenceNetwork, overrides)).totals


def spikesim_ela(timesteps: int) -> dict[str, float]:
    """Totals of the ELA's VGG9, which has no sparsity."""
    return ela(load_network(SPIKESIM / "vgg9_spikesim.yaml", SpikesimNetwork, [f"timesteps={timesteps}"])).totals


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


def _sides(work: str) -> dict[str, Synthetic]:
    """The work and its baseline, which is dense; spikes of all their timesteps."""
    own, baseline, sparsity, pruned = _pair(work)
    dense = ASSUMED_SPARSITY if pruned else 0.0
    return {"own": Synthetic(own, sparsity, pruned), "baseline": Synthetic(baseline, dense)}


def _jobs() -> dict[Any, Run]:
    return {
        (work, key, side, length): Run(machine, replace(load, timesteps=length), options)
        for work in WORKS for side, load in _sides(work).items() for length in chunks(load.timesteps)
        for key, (machine, options) in MACHINES.items()
    }  # fmt: skip


def _rows(results: Mapping[Any, Any]) -> list[Row]:
    rows = []
    for work in WORKS:
        own, baseline, sparsity, pruned = _pair(work)
        dense = ASSUMED_SPARSITY if pruned else 0.0
        tool, operations = sata_sim(own, sparsity)["total_nj"], _by_operations(own, baseline, work)
        row: Row = {
            "work": work,
            "timesteps": own,
            "sparsity_percent": 100 * (pruned or sparsity),
            "baseline_timesteps": baseline,
            "baseline_mark": WORKS[work]["baseline_timesteps"]["mark"],
            **{f"study_{name}": _number(work, name) for name in ("operations", "sata", "spikesim")},
            "operations": operations,
            "operations_to_study": operations / _number(work, "operations"),
            "sata_sim": sata_sim(baseline, dense)["total_nj"] / tool,
            "sata_sim_as_sparse": sata_sim(baseline, sparsity)["total_nj"] / tool,
            "ela": spikesim_ela(baseline)["energy_pj"] / spikesim_ela(own)["energy_pj"],
            "run": f"{_in_chunks(baseline)} against {_in_chunks(own)}",
        }
        for key in MACHINES:
            run = {
                side: Chunked.of({n: results[work, key, side, n] for n in chunks(load.timesteps)}, load.timesteps)
                for side, load in _sides(work).items()
            }
            row[f"archsim_{key}"] = run["baseline"].energy_pj() / run["own"].energy_pj()
            row[f"cycles_{key}"] = run["baseline"].cycles() / run["own"].cycles()
            if key != "spikesim":  # which has one schedule
                row[f"archsim_{key}_chunk_by_chunk"] = (
                    run["baseline"].energy_chunk_by_chunk_pj() / run["own"].energy_chunk_by_chunk_pj()
                )
        for column, study in DEVIATING.items():
            row[f"{column}_deviation_percent"] = deviation(row[column], row[study])
        rows.append(row)
    return rows


def _in_chunks(timesteps: int) -> str:
    """``5 x 16 + 4``, or ``10`` where a trace has as many."""
    return " + ".join(f"{count} x {size}" if count > 1 else f"{size}" for size, count in chunks(timesteps).items())


def _draw(axes: Axes, rows: list[Row]) -> None:
    shown = {
        "operations": "T (1 - sparsity)", "ela": "ELA", "archsim_spikesim": "archsim SpikeSim",
        "sata_sim": "SATA_Sim", "archsim_sata": "archsim SATA", "archsim_sata_skipping": "archsim SATA, skipping",
    }  # fmt: skip
    says = {"study_operations": (0,), "study_spikesim": (1, 2), "study_sata": (3, 4, 5)}
    labels = [f"{row['work']}\nT = {row['baseline_timesteps']} / {row['timesteps']}" for row in rows]
    grouped(axes, pd.DataFrame({name: [row[key] for row in rows] for key, name in shown.items()}, index=labels))
    name_groups(axes, labels)
    for group, row in enumerate(rows):
        for name, bars in says.items():
            first = group == 0 and bars == (0,)  # one entry in the legend
            published_line(axes, group, bars, len(shown), row[name], "the study (by notes)" if first else "_")
    axes.set_yscale("log")
    ticks = (1, 2, 4, 10, 20, 40, 100)
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set(ylabel="energy of baseline / own (log)")
    axes.legend(frameon=False, ncols=4, loc="lower right", bbox_to_anchor=(1, 1), fontsize=7)
    axes.tick_params(axis="x", labelsize=7, rotation=0)


def works() -> Table:
    return Table(
        name="works",
        title="Six networks: improvement over their own baselines",
        columns={
            "work": "work", "timesteps": "T", "sparsity_percent": "sparsity [%]", "baseline_timesteps": "baseline's T",
            "baseline_mark": "mark of that", "study_operations": "the study's estimate [3rd]",
            "study_sata": "the study's SATA [3rd]", "study_spikesim": "the study's SpikeSim [3rd]",
            "operations": "T (1 - sparsity)", "operations_to_study": "that / the study's estimate",
            "sata_sim": "SATA_Sim", "sata_sim_as_sparse": "SATA_Sim, baseline as sparse", "ela": "SpikeSim's ELA",
            "run": "run by archsim in chunks, T", "archsim_sata": "archsim SATA",
            "archsim_sata_skipping": "archsim SATA, skipping", "archsim_spikesim": "archsim SpikeSim",
            "archsim_sata_chunk_by_chunk": "archsim SATA, chunk by chunk",
            "archsim_sata_skipping_chunk_by_chunk": "archsim SATA, skipping, chunk by chunk",
            "cycles_sata": "cycles, SATA", "cycles_sata_skipping": "cycles, SATA, skipping",
            "cycles_spikesim": "cycles, SpikeSim",
            **{f"{column}_deviation_percent": f"{column}, deviation [%]" for column in DEVIATING},
        },
        jobs=_jobs(),
        rows=_rows,
        notes=[
            "Energy of the baseline over that of the work; under 'cycles' their cycles. Deviations are from the study's"
            " numbers. One network stands for all:"
            " VGG9, in SATA_Sim the shapes of its own example, elsewhere those of SpikeSim's; archsim leaves out the"
            " direct encoder and has one image of synthetic spikes.",
            "The study's numbers were not read in the paper: they are from public notes on it (3rd), on the networks of"
            " the works. Baselines' T are inferred from shipped result files (run) or from the table itself (I);"
            " baselines are dense.",
            "The study's estimate: a formula is not known. T (1 - sparsity) is twice as large, within 6 %, for BNTT,"
            " Direct, TSSL and TDBN, as if half of a baseline's spikes were silent, and five times for S-BP and LTH.",
            f"Chunked: synthetic spikes have at most {MOST_TIMESTEPS} timesteps, so more are run in chunks of as many"
            " and a rest, and cycles and energy are added up; equal chunks are one run, whose spikes repeat. SATA takes"
            " a layer through all its timesteps before the next layer: weights come from DRAM once, so what the chunks"
            " but one paid for them, DRAM and filling the buffer, is taken off again, and potentials stay in the PEs,"
            " so nothing is charged for them. 'Chunk by chunk' is the other schedule, all layers for a chunk and then"
            " the next one: weights come with each chunk, and potentials go to DRAM and back between two. SpikeSim's"
            " weights stay in the arrays; between two chunks its potentials are written to their memory and read once."
            " Each chunk begins cold and drains its pipeline: cycles are an upper bound. The table `chunks` says by how"
            " much that is wrong where it can be checked.",
            "LTH prunes weights: its sparsity is theirs; spikes are taken as 90 % sparse in both.",
        ],
        draw=_draw,
        size=(7.0, 2.8),
    )  # fmt: skip


# --- How wrong chunks are ---------------------------------------------------------------------------------------------

WHOLE, CHUNK = 16, 4


def in_chunks() -> Table:
    """A run of as many timesteps as synthetic spikes have, whole and in chunks."""
    sparsities = (0.0, ASSUMED_SPARSITY)
    jobs = {
        (key, sparsity, length): Run(machine, Synthetic(length, sparsity), options)
        for key, (machine, options) in MACHINES.items() for sparsity in sparsities for length in (WHOLE, CHUNK)
    }  # fmt: skip

    def rows(results: Mapping[Any, Any]) -> list[Row]:
        found = []
        for key, name in TITLES.items():
            for sparsity in sparsities:
                whole = results[key, sparsity, WHOLE]
                run = Chunked.of({CHUNK: results[key, sparsity, CHUNK]}, WHOLE, CHUNK)
                found.append(
                    {
                        "machine": name, "sparsity_percent": 100 * sparsity,
                        "cycles": cycles(whole), "cycles_percent": 100 * (run.cycles() / cycles(whole) - 1),
                        "energy_uj": energy_pj(whole) / 1e6,
                        "energy_percent": 100 * (run.energy_pj() / energy_pj(whole) - 1),
                        "chunk_by_chunk_percent": 100 * (run.energy_chunk_by_chunk_pj() / energy_pj(whole) - 1),
                    }
                )  # fmt: skip
        return found

    def draw(axes: Axes, rows: list[Row]) -> None:
        shown = {
            "cycles_percent": "cycles", "energy_percent": "energy", "chunk_by_chunk_percent": "energy, chunk by chunk",
        }  # fmt: skip
        labels = ["\n".join([*row["machine"].split(" "), f"{row['sparsity_percent']:g} % silent"]) for row in rows]
        grouped(axes, pd.DataFrame({name: [row[key] for row in rows] for key, name in shown.items()}, index=labels))
        name_groups(axes, labels)
        axes.set(ylabel="in four chunks / whole - 1 [%]")
        axes.legend(frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, 1), fontsize=7)
        axes.tick_params(axis="x", labelsize=7, rotation=0)

    return Table(
        name="chunks",
        title="How wrong chunks are: T = 16, whole and as four of four",
        columns={
            "machine": "machine", "sparsity_percent": "silent spikes [%]", "cycles": "cycles, whole",
            "cycles_percent": "in chunks, change [%]", "energy_uj": "energy, whole [uJ]",
            "energy_percent": "in chunks, change [%]", "chunk_by_chunk_percent": "chunk by chunk, change [%]",
        },
        jobs=jobs,
        rows=rows,
        notes=["Synthetic spikes as in the table `works`, whose notes say what chunks are charged and what not."],
        draw=draw,
    )  # fmt: skip
