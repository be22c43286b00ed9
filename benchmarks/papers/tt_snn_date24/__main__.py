"""TT-SNN (DATE 2024): sizes, cycles and energy of training MS-ResNet, undecomposed and as tensor trains.

    python benchmarks/papers/tt_snn_date24 [-o DIR] [--only NAME ...] [--jobs N]

Writes a CSV for each table, figures (PNG, SVG), ``tables.md`` with all of them and ``sentences.md`` with what this
folder's README says of them. What the abstract says is in ``published.yaml``. Trained networks are those of
``workloads`` and of ``traces``; all others are drawn, and labelled synthetic.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
sys.path += [str(ROOT), str(Path(__file__).resolve().parents[1])]  # archsim, and what all papers' commands share

from command_line import command  # noqa: E402
from networks import (  # noqa: E402
    CLUSTERS,
    INFERENCE,
    ONE_ARRAY,
    STAGES,
    Drawn,
    Inference,
    Merged,
    Run,
    Trained,
    modes,
)
from paper_tables import Row, Table, deviation, parser, write  # noqa: E402
from sentences import write_sentences  # noqa: E402

from archsim.trace import load_trace  # noqa: E402
from archsim.trace.tensor_train import MODES, ms_resnet, size_of  # noqa: E402

PUBLISHED = yaml.safe_load((Path(__file__).parent / "published.yaml").read_text())
NETWORKS = {
    "MS-ResNet18, CIFAR-10": (18, {"side": 32, "classes": 10}, 4),
    "MS-ResNet34, N-Caltech101": (34, {"side": 48, "classes": 101, "channels": 2}, 6),
    "MS-ResNet18, Fashion-MNIST, width 16": (18, {"side": 14, "classes": 10, "channels": 1, "width": 16}, 4),
}
"""Depth, shapes, timesteps."""


def percent(ours: float, base: float) -> float:
    return round(100 * (ours / base - 1), 6)


def sizes() -> Table:
    def rows(results: Mapping[Any, Any]) -> list[Row]:
        found = []
        for name, (depth, shapes, timesteps) in NETWORKS.items():
            network = ms_resnet(depth, **shapes)
            base = size_of(network, "dense", timesteps)
            for mode in MODES:
                size = size_of(network, mode, timesteps)
                told = mode == "htt" and "Caltech" in name
                row = {
                    "network": name, "mode": mode, "timesteps": timesteps, "parameters": size.parameters,
                    "macs": size.macs, "parameters_ratio": base.parameters / size.parameters,
                    "macs_ratio": base.macs / size.macs,
                    "strided_macs_ratio": base.macs / size_of(network, mode, timesteps, strided=True).macs,
                }  # fmt: skip
                for what in ("parameters_ratio", "macs_ratio"):
                    row[f"paper_{what}"] = PUBLISHED[what] if told else None
                    row[f"deviation_{what}"] = deviation(row[what], row[f"paper_{what}"])
                found.append(row)
        return found

    return Table(
        "sizes", "Parameters and multiply-accumulate operations of a forward pass, rho = 0.29",
        {
            "network": "network", "mode": "mode", "timesteps": "T", "parameters": "parameters", "macs": "MACs",
            "parameters_ratio": "fewer parameters [x]", "paper_parameters_ratio": "paper",
            "deviation_parameters_ratio": "deviation [%]", "macs_ratio": "fewer MACs [x]", "paper_macs_ratio": "paper",
            "deviation_macs_ratio": "deviation [%]", "strided_macs_ratio": "fewer MACs, c2 and c3 strided [x]",
        },
        {}, rows,
        (
            "The paper's ranks are not published; the rule r = 0.29 min(I, O) comes closest to both of its ratios.",
            "The encoder behind which the narrow network begins sees 28 x 28 pixels; it is counted at 14 x 14.",
        ),
    )  # fmt: skip


def training() -> Table:
    jobs = {(mode, machine): Run(Trained(mode), machine) for mode in modes() for machine in (CLUSTERS,)}
    jobs["dense", ONE_ARRAY] = Run(Trained("dense"), ONE_ARRAY)

    def rows(results: Mapping[Any, Any]) -> list[Row]:
        base, found = results["dense", CLUSTERS], []
        for (mode, machine), result in results.items():
            labels = load_trace(Trained(mode).path(Path())).provenance["details"]
            told = mode == "htt"
            row = {
                "mode": mode, "machine": " ".join(machine), "float_accuracy": labels["float_accuracy"],
                "training_samples": labels["training_samples"], "mismatches": result["mismatches"],
                "cycles": result["cycles"], "energy_uj": result["pj"] / 1e6, "dram_bytes": result["dram_bytes"],
                **{f"{stage}_cycles": result[f"{stage}_cycles"] for stage in STAGES},
                "time_percent": percent(result["cycles"], base["cycles"]),
                "paper_time_percent": PUBLISHED["time_percent"] if told else None,
                "energy_percent": percent(result["pj"], base["pj"]),
                "paper_energy_percent": PUBLISHED["energy_percent"] if told else None,
            }  # fmt: skip
            found.append(row)
        return found

    def draw(axes: Any, rows: Sequence[Row]) -> None:
        own = [row for row in rows if row["machine"] == CLUSTERS[0]]
        bottom = [0.0] * len(own)
        for stage in STAGES:
            heights = [row[f"{stage}_cycles"] / 1e3 for row in own]
            axes.bar([row["mode"] for row in own], heights, 0.6, bottom, label=stage.replace("_", " "))
            bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
        axes.set_ylabel("cycles [thousands]")
        axes.legend()

    return Table(
        "training", "One step of training of the trained MS-ResNet18, its 3x3 convolutions, one image",
        {
            "mode": "mode", "machine": "machine", "float_accuracy": "accuracy", "training_samples": "samples trained",
            "mismatches": "mismatches", "cycles": "cycles", "energy_uj": "energy [uJ]", "dram_bytes": "DRAM [B]",
            **{f"{stage}_cycles": f"{stage.replace('_', ' ')} [cycles]" for stage in STAGES},
            "time_percent": "time [%]", "paper_time_percent": "paper", "energy_percent": "energy [%]",
            "paper_energy_percent": "paper",
        },
        jobs, rows,
        (
            "The paper's percentages are for N-Caltech101, on a machine of unknown sizes: no deviation is given.",
            "The undecomposed network runs on all PEs and buffers of the same machine, and on SATA of as many.",
        ),
        draw, (6.0, 3.0),
    )  # fmt: skip


def merged() -> Table:
    jobs = {
        (mode, machine): Inference(Merged(mode), machine) for mode in MODES if mode != "dense" for machine in INFERENCE
    }

    def rows(results: Mapping[Any, Any]) -> list[Row]:
        found = []
        for (mode, machine), result in results.items():
            labels = load_trace(Merged(mode).path(Path())).provenance
            details = labels["details"]
            row = {
                "mode": mode, "machine": machine, "differs_by": details["merged_differs_by"],
                "float_accuracy": details["float_accuracy"], "accuracy": labels["accuracy"],
                "test_images": int(details["accuracy_of"].split()[-3]), "cycles": result["cycles"],
                "energy_uj": result["energy_pj"] / 1e6, "coverage": result["coverage"],
                "mismatches": result["mismatches"],
            }  # fmt: skip
            found.append(row)
        return found

    return Table(
        "merged", "Inference of the trained networks, sub-convolutions merged back into ordinary ones, one image",
        {
            "mode": "mode", "machine": "machine", "differs_by": "merged currents differ by",
            "float_accuracy": "float accuracy, 10,000 test images", "accuracy": "of the integer network",
            "test_images": "on test images", "cycles": "cycles", "energy_uj": "energy [uJ]", "coverage": "coverage",
            "mismatches": "mismatches",
        },
        jobs, rows,
        ("Currents in front of the read-out, in double precision, over the largest of them.",),
    )  # fmt: skip


def clusters() -> Table:
    jobs = {mode: Run(Trained(mode)) for mode in modes() if mode != "dense"}

    def rows(results: Mapping[Any, Any]) -> list[Row]:
        found = []
        for mode, result in results.items():
            for stage in ("forward", "backward", "update"):
                row: Row = {"mode": mode, "stage": stage}
                for (of, unit, instance), (busy, cycles) in result["busy"].items():
                    if of == stage:
                        name = "adder" if unit == "adder" else f"c{instance + 1}"
                        row[name] = round(100 * busy / cycles, 6)
                found.append(row)
        return found

    return Table(
        "clusters", "Share of the cycles in which a cluster computes [%]",
        {"mode": "mode", "stage": "stage", **{name: name for name in ("c1", "c2", "c3", "c4", "adder")}}, jobs, rows,
        ("All layers of the trained network, one image: the rest is waiting for the pipeline to fill, and for DRAM.",),
    )  # fmt: skip


def pipeline() -> Table:
    jobs = {
        (images, memory, mode): Run(Drawn(mode, images=images), (*CLUSTERS, f"memory.ideal={memory}"))
        for images in (1, 4) for memory in ("true", "false") for mode in MODES
    }  # fmt: skip

    def rows(results: Mapping[Any, Any]) -> list[Row]:
        found = []
        for images in (1, 4):
            for memory in ("true", "false"):
                of = {mode: results[images, memory, mode]["cycles"] for mode in MODES}
                row: Row = {"images": images, "ideal_memory": memory == "true"} | {
                    f"{mode}_cycles": of[mode] for mode in MODES
                }
                row["ptt_to_stt_percent"] = percent(of["ptt"], of["stt"])
                row["htt_to_ptt_percent"] = percent(of["htt"], of["ptt"])
                found.append(row)
        return found

    return Table(
        "pipeline", "Sequential, parallel and half, drawn spikes (synthetic)",
        {
            "images": "images", "ideal_memory": "ideal memory",
            **{f"{mode}_cycles": f"{mode} [cycles]" for mode in MODES},
            "ptt_to_stt_percent": "ptt over stt [%]", "htt_to_ptt_percent": "htt over ptt [%]",
        },
        jobs, rows, ("stt and ptt multiply the same operands; they differ in the way through the pipeline.",),
    )  # fmt: skip


ABLATIONS: dict[tuple[str, str], tuple[dict[str, Any], tuple[str, ...]]] = {
    ("as trained", ""): ({}, ()),
    ("rank rule", "rho = 0.15"): ({"rho": 0.15}, ()),
    ("rank rule", "rho = 0.40"): ({"rho": 0.4}, ("clusters.link_kib=32",)),
    ("timesteps", "T = 2"): ({"timesteps": 2}, ()),
    ("timesteps", "T = 8"): ({"timesteps": 8}, ("clusters.link_kib=32",)),
    ("links", "64 KiB"): ({}, ("clusters.link_kib=64",)),
    ("potential buffer", "88 KiB"): ({}, ("memory.buffers.potential.size_kib=88",)),
    ("DRAM", "64 GB/s, 64 lines on their way"): (
        {}, ("memory.dram.bandwidth_gb_s=64", "memory.buffers.fetches=64"),
    ),
    ("DRAM", "ideal memory"): ({}, ("memory.ideal=true",)),
    ("sparsity", "skipping"): ({}, ("scheduler.sparsity=skipping",)),
    ("sparsity of gradients", "10 % not zero, gating"): ({"gradient_density": 0.1}, ()),
    ("sparsity of gradients", "10 % not zero, skipping"): ({"gradient_density": 0.1}, ("scheduler.sparsity=skipping",)),
    ("strided layers", "at output resolution"): ({"coarse": True}, ()),
    ("images of a step", "4"): ({"images": 4}, ()),
    ("width", "32"): ({"width": 32}, ("clusters.link_kib=32",)),
}  # fmt: skip
"""What changes of the network, and of the machine."""


def ablation() -> Table:
    jobs = {
        (key, mode): Run(Drawn(mode, **changes), (*CLUSTERS, *overrides))
        for key, (changes, overrides) in ABLATIONS.items() for mode in ("dense", "htt")
    }  # fmt: skip

    def rows(results: Mapping[Any, Any]) -> list[Row]:
        found = []
        for key in ABLATIONS:
            base, half = (results[key, mode] for mode in ("dense", "htt"))
            found.append(
                {
                    "what": key[0], "value": key[1], "dense_cycles": base["cycles"], "htt_cycles": half["cycles"],
                    "time_percent": percent(half["cycles"], base["cycles"]), "dense_uj": base["pj"] / 1e6,
                    "htt_uj": half["pj"] / 1e6, "energy_percent": percent(half["pj"], base["pj"]),
                }
            )  # fmt: skip
        return found

    def draw(axes: Any, rows: Sequence[Row]) -> None:
        names = [f"{row['what']} {row['value']}".strip() for row in rows][::-1]
        places = list(range(len(names)))
        axes.barh([place + 0.2 for place in places], [row["time_percent"] for row in rows][::-1], 0.4, label="time")
        axes.barh([place - 0.2 for place in places], [row["energy_percent"] for row in rows][::-1], 0.4, label="energy")
        axes.set_yticks(places, names)
        axes.set_xlim(-115, 0)  # room for the legend
        axes.set_xlabel("htt against dense [%]")
        axes.legend()

    return Table(
        "ablation", "What the difference between htt and the undecomposed network rests on, drawn spikes (synthetic)",
        {
            "what": "changed", "value": "to", "dense_cycles": "dense [cycles]", "htt_cycles": "htt [cycles]",
            "time_percent": "time [%]", "dense_uj": "dense [uJ]", "htt_uj": "htt [uJ]", "energy_percent": "energy [%]",
        },
        jobs, rows,
        ("Of spikes 20 %, of gradients 50 % are not zero; width 16, 14 x 14, T = 4, rho = 0.29, one image, gating.",),
        draw, (7.0, 4.2),
    )  # fmt: skip


TABLES = {
    "sizes": sizes,
    "training": training,
    "merged": merged,
    "clusters": clusters,
    "pipeline": pipeline,
    "ablation": ablation,
}


def main(arguments: Sequence[str] | None = None) -> None:
    given = parser("tt_snn_date24", __doc__, TABLES).parse_args(arguments)
    write_sentences(given.output, write(TABLES, given.only, "TT-SNN (DATE 2024)", given.output, given.jobs))


if __name__ == "__main__":
    sys.exit(command(main))
