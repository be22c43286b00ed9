"""What the study calls bottlenecks, and its remedies: on the trained VGG9 or, where said, on synthetic spikes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from legacy_network import load_network
from legacy_sata_sim.sata_sim import SataNetwork
from legacy_sata_sim.sata_sim import training as train
from matplotlib.axes import Axes
from paper_tables import Row, Table, name_groups
from runs import (
    SATA_SIM,
    TRAINED,
    AsTrained,
    Run,
    Synthetic,
    Trained,
    TrainingStep,
    area_mm2,
    cycles,
    edp,
    energy_pj,
    leakage_pj,
    trained,
)
from source import BOTTLENECKS, beside, beside_columns, known
from works import sata_sim

from archsim.report.drawing import grouped, stacked

Options = tuple[str, ...]
ALWAYS, SKIPPING = "pe.clocking=always", "scheduler.sparsity=skipping"
SATA: dict[str, tuple[str, Options]] = {
    "SATA": ("sata", ()),
    "SATA, skipping": ("sata", (SKIPPING,)),
    "SATA, ungated": ("sata", (ALWAYS,)),
}
CHIPS: dict[str, tuple[str, Options]] = {
    "SpikeSim": ("spikesim", ()),
    "SpikeSim, skipping": ("spikesim", ("scheduler.skip=row_group",)),
}
MEMORIES = {
    "sata": ("weight_buffer", "input_buffer", "output_buffer", "dram"),
    "spikesim": ("tile_buffer", "temp_buffer", "membrane_sram", "dram"),
}
ARITHMETIC = {"sata": ("pe", "lif"), "spikesim": ("array", "adc", "shift_add", "lif")}


def _legend(axes: Axes, columns: int) -> None:
    axes.legend(frameon=False, ncols=columns, loc="lower right", bbox_to_anchor=(1, 1), fontsize=7)
    axes.tick_params(axis="x", labelsize=7, rotation=0)


# --- Timesteps --------------------------------------------------------------------------------------------------------

CUT, DRAWN = (1, 2, 3, 4), (4, 5, 6, 7, 8)


def timesteps() -> Table:
    """Cost over T = 1..8."""
    machines = {name: (SATA | CHIPS)[name] for name in ("SATA", "SATA, skipping", "SpikeSim")}
    workloads: list[Trained | AsTrained] = [*map(Trained, CUT), *map(AsTrained, DRAWN)]
    jobs = {(name, load): Run(machine, load, how) for name, (machine, how) in machines.items() for load in workloads}

    def rows(results: Mapping[Any, Any]) -> list[Row]:
        found = []
        for (name, load), report in results.items():
            of = results[name, Trained(1) if isinstance(load, Trained) else AsTrained(DRAWN[0])]
            memory = MEMORIES[machines[name][0]]
            found.append(
                {
                    "machine": name, "spikes": load.kind, "timesteps": load.timesteps,
                    "cycles": cycles(report) / report.images, "energy_uj": energy_pj(report) / report.images / 1e6,
                    "memory_percent": 100 * energy_pj(report, *memory) / energy_pj(report),
                    "edp_relative": edp(report) / edp(of), "energy_relative": energy_pj(report) / energy_pj(of),
                    "relative_to": of.summary()["timesteps"],
                }
            )  # fmt: skip
            if (name, load) == ("SpikeSim", Trained(4)):
                found[-1] |= beside("edp_relative", found[-1]["edp_relative"], "edp_growth")
        return found

    def draw(axes: Axes, rows: list[Row]) -> None:
        for mark, name in zip("os^", machines, strict=True):
            one = next(row["energy_uj"] for row in rows if (row["machine"], row["timesteps"]) == (name, 1))
            for kind, fill in (("trained", "black"), ("synthetic", "white")):
                picked = [row for row in rows if (row["machine"], row["spikes"]) == (name, kind)]
                axes.plot(
                    [row["timesteps"] for row in picked], [row["energy_uj"] / one for row in picked], f"{mark}-",
                    color="0.5", markerfacecolor=fill, markeredgecolor="black", markersize=5, label=f"{name}, {kind}",
                )  # fmt: skip
        axes.plot([1, 8], [1, 8], ":", color="black", linewidth=0.8, label="T")
        axes.set(xlabel="T", ylabel="energy an image / that at T = 1", ylim=(0, None))
        axes.legend(frameon=False, fontsize=7)

    return Table(
        name="timesteps",
        title="Repeated computation and movement: T = 1 to 8",
        columns={
            "machine": "machine", "spikes": "spikes", "timesteps": "T", "cycles": "cycles an image",
            "energy_uj": "energy an image [uJ]", "memory_percent": "of it memories [%]",
            "energy_relative": "energy, relative", "edp_relative": "energy x delay, relative", "relative_to": "to T =",
            **beside_columns("edp_relative", "energy x delay"),
        },
        jobs=jobs,
        rows=rows,
        notes=[
            "Trained: the VGG9 trace (T = 4, four images) cut behind T. Synthetic: four images, each layer with the"
            " density a timestep and the share of silent words that the trained one has at T = 4.",
            "SATA's scratchpads hold the sums of four timesteps: beyond, weights enter them twice.",
            known("edp_growth"),
        ],
        draw=draw,
        size=(7.0, 3.2),
    )  # fmt: skip


# --- Neuron modules ---------------------------------------------------------------------------------------------------


def lif() -> Table:
    """Share of neurons in energy and area."""
    machines = {name: (SATA | CHIPS)[name] for name in ("SATA", "SATA, ungated", "SpikeSim")}
    jobs = {name: Run(machine, Trained(), how) for name, (machine, how) in machines.items()}

    def rows(results: Mapping[Any, Any]) -> list[Row]:
        totals = sata_sim(4, 0.9)
        found: list[Row] = [
            {
                "machine": "SATA_Sim (its VGG9, 90 % sparse)",
                "of_computation_percent": 100 * totals["lif_nj"] / (totals["lif_nj"] + totals["spike_mac_nj"]),
                "of_energy_percent": 100 * totals["lif_nj"] / totals["total_nj"],
            }
        ]
        modules = {name: (name, ("lif",)) for name in machines}
        modules["SpikeSim, with potentials' memory"] = ("SpikeSim", ("lif", "membrane_sram"))
        for name, (machine, units) in modules.items():
            report = results[machine]
            computation = {*ARITHMETIC[machines[machine][0]], *units}
            found.append(
                {
                    "machine": name,
                    "of_computation_percent": 100 * energy_pj(report, *units) / energy_pj(report, *computation),
                    "of_energy_percent": 100 * energy_pj(report, *units) / energy_pj(report),
                    "leakage_of_energy_percent": 100 * leakage_pj(report, *units) / energy_pj(report),
                    "of_area_percent": 100 * area_mm2(report, *units) / area_mm2(report),
                }
            )
        for row in found:
            if row["machine"].startswith("SATA"):
                row |= beside("of_computation_percent", row["of_computation_percent"], "lif_share_percent")
        return found

    def draw(axes: Axes, rows: list[Row]) -> None:
        parts = {"of_computation_percent": "of computation units' energy", "of_energy_percent": "of all energy",
                 "of_area_percent": "of area"}  # fmt: skip
        labels = [row["machine"].replace(" (", "\n(").replace(", ", ",\n", 1) for row in rows]
        shares = {name: [row.get(key, float("nan")) for row in rows] for key, name in parts.items()}
        grouped(axes, pd.DataFrame(shares, index=labels))
        name_groups(axes, labels)
        axes.set(ylabel="neurons' share [%]")
        _legend(axes, 3)

    return Table(
        name="lif",
        title="The neuron module",
        columns={
            "machine": "machine", "of_computation_percent": "of computation units' energy [%]",
            "of_energy_percent": "of all energy [%]", "leakage_of_energy_percent": "of it leakage, of all energy [%]",
            "of_area_percent": "of area [%]",
            **beside_columns("of_computation_percent", "of computation units' energy [%]"),
        },
        jobs=jobs,
        rows=rows,
        notes=[
            "The trained VGG9, T = 4. Computation units: adders and neurons of SATA; arrays, converters, shift-adders"
            " and neurons of SpikeSim. SATA's potentials are in the neurons' registers; SpikeSim's are in memory.",
            "Ungated charges comparator, subtractor, AND, adder and two scratchpads in every cycle, as SATA_Sim does.",
            known("lif_share_percent"),
        ],
        draw=draw,
    )  # fmt: skip


# --- Sparsity ---------------------------------------------------------------------------------------------------------


def sparsity() -> Table:
    """What silent spikes really save."""
    machines, shares = SATA | CHIPS, (0.0, 0.5, 0.9, 0.99)
    jobs = {
        (name, share): Run(machine, Synthetic(4, share), how)
        for name, (machine, how) in machines.items() for share in shares
    }  # fmt: skip

    def rows(results: Mapping[Any, Any]) -> list[Row]:
        def row(name: str, share: float, energy: float, time: float, dense: tuple[float, float]) -> Row:
            return {
                "machine": name, "sparsity_percent": 100 * share, "energy_uj": energy / 1e6,
                "energy_saved_percent": 100 * (1 - energy / dense[0]), "cycles": time,
                "cycles_saved_percent": 100 * (1 - time / dense[1]),
            }  # fmt: skip

        found = []
        for name in machines:
            costs = {share: (energy_pj(results[name, share]), cycles(results[name, share])) for share in shares}
            found += [row(name, share, *cost, costs[0.0]) for share, cost in costs.items()]
        tool = {share: (1e3 * sata_sim(4, share)["total_nj"], sata_sim(4, share)["cycles"]) for share in shares}
        return found + [row("SATA_Sim (its VGG9)", share, *cost, tool[0.0]) for share, cost in tool.items()]

    def draw(axes: Axes, rows: list[Row]) -> None:
        names = list(dict.fromkeys(row["machine"] for row in rows))
        picked = {
            f"energy at {100 * share:g} %": [
                100 - row["energy_saved_percent"] for row in rows if row["sparsity_percent"] == 100 * share
            ]
            for share in shares
        }
        labels = [name.replace(", ", ",\n").replace(" (", "\n(") for name in names]
        grouped(axes, pd.DataFrame(picked, index=labels))
        name_groups(axes, labels)
        axes.set(ylabel="energy / dense [%]")
        _legend(axes, 4)

    return Table(
        name="sparsity",
        title="What sparsity saves",
        columns={
            "machine": "machine", "sparsity_percent": "silent spikes [%]", "energy_uj": "energy [uJ]",
            "energy_saved_percent": "energy saved [%]", "cycles": "cycles", "cycles_saved_percent": "cycles saved [%]",
        },
        jobs=jobs,
        rows=rows,
        notes=[
            "Synthetic spikes in the shapes of SpikeSim's VGG9, T = 4, one image. By T (1 - sparsity), 99 % saves 99 %."
        ],
        draw=draw,
    )  # fmt: skip


# --- Dynamic timesteps ------------------------------------------------------------------------------------------------

THRESHOLDS = (0.0, 0.2, 0.3, 0.4, 0.5, 0.7)
FULL = 4


def leads(images_of: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], list[int]]:
    """Classes and leads [T, I] of the read-out added up to each timestep, and the images' labels.

    The lead is the distance of the first to the second class, of that of the first to the mean of all.
    """
    trace = trained(images_of)
    added = trace.tensor("logits").cumsum(0)
    first, second = (np.sort(added, axis=-1)[..., -place] for place in (1, 2))
    return added.argmax(-1), (first - second) / (first - added.mean(-1)), trace.provenance["details"]["labels"]


def exits(lead: np.ndarray[Any, Any], threshold: float) -> np.ndarray[Any, Any]:
    """The first timestep, from 1, at whose end each image's lead reaches the threshold; T where none does."""
    reached = lead >= threshold
    reached[-1] = True
    return reached.argmax(0) + 1


def exit() -> Table:
    """Stop when the answer is sure."""
    machines = {name: (SATA | CHIPS)[name] for name in ("SATA", "SpikeSim")}
    known_leads = {name: leads(name) for name in TRAINED}
    images = [(name, image) for name, (_, _, labels) in known_leads.items() for image in range(len(labels))]
    jobs = {
        (machine, name, image, t): Run(how[0], Trained(t, image, name), how[1])
        for machine, how in machines.items() for name, image in images for t in range(1, FULL + 1)
    }  # fmt: skip

    def rows(results: Mapping[Any, Any]) -> list[Row]:
        found = []
        for threshold in (*THRESHOLDS, None):
            last = {
                name: np.full(lead.shape[1], FULL) if threshold is None else exits(lead, threshold)
                for name, (_, lead, _) in known_leads.items()
            }
            right = sum(
                int((classes[last[name] - 1, range(len(labels))] == labels).sum())
                for name, (classes, _, labels) in known_leads.items()
            )
            row: Row = {
                "threshold": "fixed T = 4" if threshold is None else f"{threshold:g}",
                "right": right, "images": len(images),
                "mean_timesteps": sum(int(t.sum()) for t in last.values()) / len(images),
            }  # fmt: skip
            for machine in machines:
                stopped = [results[machine, name, image, int(last[name][image])] for name, image in images]
                full = [results[machine, name, image, FULL] for name, image in images]
                key = machine.lower()
                row[f"{key}_energy_saved_percent"] = 100 * (1 - _total(energy_pj, stopped) / _total(energy_pj, full))
                row[f"{key}_edp_gain"] = _total(edp, full) / _total(edp, stopped)
            found.append(row)
        nearest = min(found, key=lambda row: abs(row["mean_timesteps"] - BOTTLENECKS["exit_mean_timesteps"]["value"]))
        nearest |= beside("spikesim_edp_gain", nearest["spikesim_edp_gain"], "exit_edp_gain")
        nearest |= beside(
            "sata_energy_saved_percent", nearest["sata_energy_saved_percent"], "exit_energy_saved_percent"
        )
        return found

    def draw(axes: Axes, rows: list[Row]) -> None:
        for machine, mark, fill in (("SATA", "o", "black"), ("SpikeSim", "s", "white")):
            axes.plot(
                [row["mean_timesteps"] for row in rows], [row[f"{machine.lower()}_edp_gain"] for row in rows],
                f"{mark}-", color="0.5", markerfacecolor=fill, markeredgecolor="black", markersize=5, label=machine,
            )  # fmt: skip
        tops = {row["mean_timesteps"]: row for row in rows}
        for row in tops.values():
            place = (row["mean_timesteps"], max(row["sata_edp_gain"], row["spikesim_edp_gain"]))
            axes.annotate(f"{row['right']} of {row['images']}", place, (0, 6), textcoords="offset points", fontsize=7)
        axes.set(xlabel="mean T", ylabel="energy x delay, fixed T = 4 / exit")
        axes.legend(frameon=False, fontsize=7)

    return Table(
        name="exit",
        title="Dynamic exit",
        columns={
            "threshold": "exit at a lead of", "mean_timesteps": "mean T", "right": "right", "images": "of images",
            "sata_energy_saved_percent": "SATA: energy saved [%]", "sata_edp_gain": "energy x delay, fixed / exit",
            "spikesim_energy_saved_percent": "SpikeSim: energy saved [%]",
            "spikesim_edp_gain": "energy x delay, fixed / exit",
            **beside_columns("sata_energy_saved_percent", "SATA: energy saved [%]"),
            **beside_columns("spikesim_edp_gain", "SpikeSim: energy x delay"),
        },
        jobs=jobs,
        rows=rows,
        notes=[
            "The read-out of the trained integer VGG9 is added up; a network stops at the end of the first timestep"
            " at which the lead of the first class over the second is that share of its lead over the"
            " mean of all.",
            "Four images of the test set and four of the training set: counts, not accuracies.",
            "An exit at t costs a run of t timesteps, for each image on its own; finding the lead is free. SATA"
            " runs all timesteps of a layer before the next layer, so it would have to know t"
            " beforehand: a lower bound.",
            "The study's numbers stand in the row whose mean T is nearest to its 2.14.",
            known("exit_edp_gain"),
            known("exit_energy_saved_percent"),
        ],
        draw=draw,
        size=(7.0, 3.0),
    )  # fmt: skip


def _total(quantity: Any, reports: Sequence[Any]) -> float:
    return float(sum(quantity(report) for report in reports))


# --- Sharing neurons --------------------------------------------------------------------------------------------------


def sharing() -> Table:
    """Channels that share neuron logic."""
    shares = (1, 2, 4)
    hows: dict[str, Any] = {
        "SATA": lambda c: ("sata", (f"neuron.shared_by={c}",)),
        "SATA, ungated": lambda c: ("sata", (f"neuron.shared_by={c}", ALWAYS)),
        "SpikeSim": lambda c: ("spikesim", (f"neuron.lanes={16 // c}",)),
    }
    jobs = {
        (name, share): Run(machine, Trained(), options)
        for name, how in hows.items() for share in shares for machine, options in [how(share)]
    }  # fmt: skip

    def rows(results: Mapping[Any, Any]) -> list[Row]:
        found = []
        for (name, share), report in results.items():
            one = results[name, 1]

            def change(quantity: Any, report: Any = report, one: Any = one) -> float:
                return 100 * (quantity(report) / quantity(one) - 1)

            found.append(
                {
                    "machine": name, "shared_by": share,
                    "lif_area_ratio": area_mm2(one, "lif") / area_mm2(report, "lif"),
                    "lif_power_saved_percent": 0 - change(lambda r: energy_pj(r, "lif") / cycles(r)),
                    "lif_energy_saved_percent": 0 - change(lambda r: energy_pj(r, "lif")),
                    "cycles_percent": change(cycles), "energy_percent": change(energy_pj),
                    "area_percent": change(area_mm2),
                }
            )  # fmt: skip
        for row in found:
            if row["shared_by"] == 4 and row["machine"] != "SpikeSim":
                row |= beside("lif_power_saved_percent", row["lif_power_saved_percent"], "sharing_saved_percent", 4)
            if row["shared_by"] > 1 and row["machine"] == "SpikeSim":
                row |= beside("lif_area_ratio", row["lif_area_ratio"], "sharing_area", row["shared_by"])
        return found

    def draw(axes: Axes, rows: list[Row]) -> None:
        shared = [row for row in rows if row["shared_by"] > 1]
        labels = ["\n".join([*row["machine"].split(" "), f"C# = {row['shared_by']}"]) for row in shared]
        shown = {
            "neurons' power": [100 - row["lif_power_saved_percent"] for row in shared],
            "neurons' area": [100 / row["lif_area_ratio"] for row in shared],
            "all energy": [100 + row["energy_percent"] for row in shared],
        }
        grouped(axes, pd.DataFrame(shown, index=labels))
        name_groups(axes, labels)
        axes.axhline(100, linestyle=":", color="black", linewidth=0.8)
        axes.set(ylabel="shared / own [%]")
        _legend(axes, 3)

    return Table(
        name="sharing",
        title="Neuron logic shared by channels",
        columns={
            "machine": "machine", "shared_by": "C#", "lif_area_ratio": "neurons' area, own / shared",
            "lif_power_saved_percent": "neurons' power saved [%]", "lif_energy_saved_percent": "their energy saved [%]",
            "cycles_percent": "cycles, change [%]", "energy_percent": "all energy, change [%]",
            "area_percent": "all area, change [%]",
            **beside_columns("lif_power_saved_percent", "neurons' power saved [%]"),
            **beside_columns("lif_area_ratio", "neurons' area"),
        },
        jobs=jobs,
        rows=rows,
        notes=[
            "The trained VGG9, T = 4. SATA (`neuron.shared_by`): neighbouring channels take turns with comparator,"
            " subtractor and leak; potentials and thresholds keep their registers. SpikeSim (`neuron.lanes`): 16, 8 and"
            " 4 lanes a module; potentials stay in memory.",
            known("sharing_saved_percent", 4),
            known("sharing_area", 2),
            known("sharing_area", 4),
        ],
        draw=draw,
    )  # fmt: skip


# --- Dataflow ---------------------------------------------------------------------------------------------------------

SINGLE = [Trained(1, first=t) for t in range(FULL)]


def dataflow() -> Table:
    """Weights kept for all timesteps, or fetched for each."""
    once, each, alone = (
        "weights stay for all T",
        "weights come from the buffer for each timestep",
        "one timestep after the other",
    )
    loads: dict[str, tuple[Any, int]] = {"trained": (Trained(), 8), "synthetic": (AsTrained(8), 16)}
    jobs: dict[Any, Run] = {}
    for kind, (load, bytes_of_all) in loads.items():
        jobs[kind, once] = Run("sata", load, (f"pe.psum_bytes={bytes_of_all}",))
        jobs[kind, each] = Run("sata", load, ("pe.psum_bytes=2",))
    for load in SINGLE:
        jobs["trained", load] = Run("sata", load, ("pe.psum_bytes=2",))

    def rows(results: Mapping[Any, Any]) -> list[Row]:
        found = []
        for kind, (load, _) in loads.items():
            runs = {how: [results[kind, how]] for how in (once, each)}
            if kind == "trained":
                runs[alone] = [results[kind, single] for single in SINGLE]
            for how, reports in runs.items():
                found.append({"spikes": kind, "timesteps": load.timesteps, "dataflow": how, **_costs(reports)})
        for row in found:
            best = next(r for r in found if (r["spikes"], r["dataflow"]) == (row["spikes"], once))
            row["saved_percent"] = 100 * (1 - best["memory_uj"] / row["memory_uj"])
            if row["spikes"] == "trained" and row is not best:
                row |= beside("saved_percent", row["saved_percent"], "tick_batch_saved_percent")
        return found

    def draw(axes: Axes, rows: list[Row]) -> None:
        parts = {"dram_uj": "DRAM", "buffers_uj": "buffers", "leakage_uj": "their leakage"}
        labels = [f"T = {row['timesteps']}, {row['spikes']}\n{_wrapped(row['dataflow'])}" for row in rows]
        stacked(axes, pd.DataFrame({name: [row[key] for row in rows] for key, name in parts.items()}, index=labels))
        name_groups(axes, labels)
        axes.set(ylabel="memory energy an image [uJ]")
        _legend(axes, 3)

    return Table(
        name="dataflow",
        title="Weights that stay for all timesteps",
        columns={
            "spikes": "spikes", "timesteps": "T", "dataflow": "SATA with", "dram_uj": "DRAM [uJ]",
            "buffers_uj": "buffers [uJ]", "leakage_uj": "their leakage [uJ]", "memory_uj": "sum [uJ]",
            "saved_percent": "saved where weights stay [%]", "scratchpads_uj": "scratchpads [uJ]", "cycles": "cycles",
            **beside_columns("saved_percent", "saved [%]"),
        },
        jobs=jobs,
        rows=rows,
        notes=[
            "An image. Weights stay: partial sums of all T in the scratchpads (`pe.psum_bytes`). For each timestep:"
            " room for the sums of one, so that weights enter the scratchpads T times, from a buffer that holds them"
            " where they fit. One after the other: T runs of one timestep, weights from DRAM in each; potentials"
            " between runs are not charged, a lower bound.",
            known("tick_batch_saved_percent"),
        ],
        draw=draw,
        size=(7.0, 3.0),
    )  # fmt: skip


def _costs(reports: Sequence[Any]) -> Row:
    images = reports[0].images
    buffers = MEMORIES["sata"][:-1]

    def of(units: Sequence[str], *, leaks: bool) -> float:
        return sum(
            row["energy_pj"] / images / 1e6 for report in reports for row in report.rows("energy")
            if row["unit"] in units and (row["action"] == "leakage") == leaks
        )  # fmt: skip

    dram, dynamic, leakage = of(("dram",), leaks=False), of(buffers, leaks=False), of(buffers, leaks=True)
    return {
        "dram_uj": dram, "buffers_uj": dynamic, "leakage_uj": leakage, "memory_uj": dram + dynamic + leakage,
        "scratchpads_uj": of(("scratchpad",), leaks=False), "cycles": sum(map(cycles, reports)) / images,
    }  # fmt: skip


def _wrapped(text: str) -> str:
    words = text.split(" ")
    return "\n".join(" ".join(words[i : i + 3]) for i in range(0, len(words), 3))


# --- Training ---------------------------------------------------------------------------------------------------------

STAGES = ("forward", "backward", "update")
LOSSES = {"rate penalty": "vgg9_training_step", "no penalty": "vgg9_training_step_plain"}
"""Shipped steps of training; a penalty on the firing rate in the loss reaches every spike."""
PARTS = {
    "arithmetic_uj": ("pe", "lif", "pgu"),
    "scratchpads_uj": ("scratchpad",),
    "buffers_uj": ("weight_buffer", "input_buffer", "output_buffer", "potential_buffer", "mask_buffer"),
    "dram_uj": ("dram",),
}


def training() -> Table:
    """Energy of a step of training by stage, on the masks of gradients that it had."""
    modes: dict[str, Options] = {"gating": (), "skipping": (SKIPPING,)}
    jobs = {
        (loss, mode): Run("sata_training", TrainingStep(trace), options)
        for loss, trace in LOSSES.items() for mode, options in modes.items()
    }  # fmt: skip

    def rows(results: Mapping[Any, Any]) -> list[Row]:
        found: list[Row] = []
        for (loss, mode), report in results.items():
            gated = results[loss, "gating"]
            for stage in (*STAGES, "all"):
                energy, time = _of_stage(report, stage), _cycles_of_stage(report, stage)
                found.append(
                    {
                        "machine": "SATA", "loss": loss, "sparsity": mode, "stage": stage,
                        "energy_uj": energy / report.images / 1e6,
                        "share_percent": 100 * energy / _of_stage(report, "all"),
                        **{
                            part: _of_stage(report, stage, *units) / report.images / 1e6
                            for part, units in PARTS.items()
                        },
                        "energy_saved_percent": 100 * (1 - energy / _of_stage(gated, stage)),
                        "cycles": time / report.images,
                        "cycles_saved_percent": 100 * (1 - time / _cycles_of_stage(gated, stage)),
                    }
                )  # fmt: skip
        tool = train(load_network(SATA_SIM / "vgg5_cifar10_training.yaml", SataNetwork))
        for stage, total in zip((*STAGES, "all"), ("forward", "backward", "weight_update", "total"), strict=True):
            macs = tool.totals[f"{total}_mac"]
            found.append(
                {
                    "machine": "SATA_Sim (its VGG5)", "stage": stage, "energy_uj": macs * tool.mac_pj / 1e6,
                    "share_percent": 100 * macs / tool.totals["total_mac"],
                }
            )  # fmt: skip
        return found

    def draw(axes: Axes, rows: list[Row]) -> None:
        picked = [row for row in rows if row["machine"] == "SATA" and row["stage"] != "all"]
        labels = ["\n".join([row["stage"], row["sparsity"], *row["loss"].split(" ")]) for row in picked]
        names = ("arithmetic and neurons", "scratchpads", "buffers", "DRAM")
        shown = {name: [row[key] for row in picked] for key, name in zip(PARTS, names, strict=True)}
        stacked(axes, pd.DataFrame(shown, index=labels))
        axes.set(ylabel="energy an image [uJ]")
        _legend(axes, 4)
        axes.set_xticks(axes.get_xticks(), labels, ha="center", fontsize=6)

    return Table(
        name="training",
        title="Training: a step by stage",
        columns={
            "machine": "machine", "loss": "loss", "sparsity": "sparsity", "stage": "stage",
            "energy_uj": "energy an image [uJ]", "share_percent": "of all [%]",
            "arithmetic_uj": "arithmetic and neurons [uJ]", "scratchpads_uj": "scratchpads [uJ]",
            "buffers_uj": "buffers [uJ]", "dram_uj": "DRAM [uJ]", "energy_saved_percent": "saved by skipping [%]",
            "cycles": "cycles an image", "cycles_saved_percent": "cycles saved by skipping [%]",
        },
        jobs=jobs,
        rows=rows,
        notes=[
            "A step of back-propagation through time of the trained VGG9, T = 4, four images, on `sata_training`, with"
            " the spikes and the masks of gradients that the step had (workloads/README.md): with a penalty on the"
            " firing rate in the loss, which reaches every spike, and without. Backward are gradients of potentials and"
            " errors of the layer before. Weights are read and updated once for the four images. The direct encoder is"
            " left out.",
            "SATA_Sim's training model at its defaults: VGG5 at T = 4 and 2 bits forward, an image, one number for all"
            " spikes and one for all gradients.",
        ],
        draw=draw,
        size=(7.6, 3.2),
    )  # fmt: skip


def _of_stage(report: Any, stage: str, *units: str) -> float:
    rows = report.rows("energy")
    return float(
        sum(
            row["energy_pj"] for row in rows
            if stage in (row["stage"], "all") and (not units or row["unit"] in units)
        )
    )  # fmt: skip


def _cycles_of_stage(report: Any, stage: str) -> int:
    return sum(row["cycles"] for row in report.rows("layers") if stage in (row["stage"], "all"))
