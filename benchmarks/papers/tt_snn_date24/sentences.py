"""What this folder's README says of the tables, with the numbers of these."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from paper_tables import Row

from archsim.report import files

WIDTH = 120


def _sizes(rows: Sequence[Row]) -> str:
    base = next(row for row in rows if "CIFAR" in row["network"] and row["mode"] == "dense")
    half = next(row for row in rows if row["paper_macs_ratio"] is not None)
    return (
        f"*Sizes.* The undecomposed MS-ResNet18 for CIFAR-10 has {base['parameters'] / 1e6:.3f} M weights and"
        f" {base['macs'] / 1e9:.3f} G MACs at T = 4. With r = 0.29 min(I, O), htt on MS-ResNet34 for N-Caltech101 has"
        f" {half['parameters_ratio']:.2f} times fewer weights and {half['macs_ratio']:.2f} times fewer MACs; the"
        f" abstract says {half['paper_parameters_ratio']} and {half['paper_macs_ratio']}."
    )


def _training(rows: Sequence[Row]) -> str:
    own = {row["mode"]: row for row in rows if row["machine"] == "tt_snn_training"}
    accuracies = ", ".join(
        f"{mode} {100 * row['float_accuracy']:.1f} % ({row['training_samples']:,} samples)" for mode, row in own.items()
    )
    half, array = own["htt"], next(row for row in rows if row["machine"] != "tt_snn_training")
    times = ", ".join(f"{mode} {row['time_percent']:+.0f} %" for mode, row in own.items() if mode != "dense")
    energies = ", ".join(f"{mode} {row['energy_percent']:+.0f} %" for mode, row in own.items() if mode != "dense")
    return (
        f"*Training.* Accuracy on 10,000 test images: {accuracies}. On the same PEs and buffers a step takes, against"
        f" the undecomposed network, in time {times} and in energy {energies}. The abstract has"
        f" {half['paper_time_percent']} % and {half['paper_energy_percent']} % for another network, N-Caltech101, and a"
        " machine whose sizes are not known; ours counts the 3x3 convolutions alone. SATA's one array of as many PEs"
        f" takes {array['time_percent']:+.1f} % in time for the undecomposed network. All outputs of the forward pass"
        f" equal the trace's: {sum(row['mismatches'] for row in rows)} mismatches."
    )


def _merged(rows: Sequence[Row]) -> str:
    modes = {row["mode"]: row for row in rows}
    told = ", ".join(f"{mode} {100 * row['accuracy']:.1f} %" for mode, row in modes.items())
    (images,) = {row["test_images"] for row in rows}
    machines = " and ".join(dict.fromkeys(row["machine"] for row in rows))
    return (
        f"*Merged.* Merged back into ordinary convolutions, networks have the same currents up to"
        f" {max(row['differs_by'] for row in rows):.0e} of the largest. As integers they reach {told} on the first"
        f" {images:,} test images, and run on {machines} as a whole with"
        f" {sum(row['mismatches'] for row in rows)} mismatches."
    )


def _clusters(rows: Sequence[Row]) -> str:
    told = []
    for row in rows:
        if row["stage"] == "forward":
            busiest = max(("c1", "c2", "c3", "c4"), key=lambda name: row[name])
            shares = ", ".join(f"{name} {row[name]:.0f} %" for name in ("c1", "c2", "c3", "c4"))
            told.append(f"in {row['mode']} {shares} (busiest: {busiest})")
    return f"*Clusters.* Forward, clusters compute in so many of the cycles: {'; '.join(told)}."


def _pipeline(rows: Sequence[Row]) -> str:
    (one,) = [row for row in rows if row["images"] == 1 and row["ideal_memory"]]
    (four,) = [row for row in rows if row["images"] == 4 and row["ideal_memory"]]
    (real,) = [row for row in rows if row["images"] == 1 and not row["ideal_memory"]]
    return (
        f"*Parallel.* With the same MACs ptt takes {-one['ptt_to_stt_percent']:.1f} % fewer cycles than stt for one"
        f" image, and {-four['ptt_to_stt_percent']:.1f} % fewer for four, where the pipeline stays filled longer (ideal"
        f" memory); with DRAM it is {-real['ptt_to_stt_percent']:.1f} %. Leaving c2 and c3 out of half of the timesteps"
        f" takes another {-one['htt_to_ptt_percent']:.1f} %, and {-real['htt_to_ptt_percent']:.1f} % with DRAM."
    )


def _ablation(rows: Sequence[Row]) -> str:
    base = rows[0]
    widest = max(rows[1:], key=lambda row: abs(row["time_percent"] - base["time_percent"]))
    energy = max(rows[1:], key=lambda row: abs(row["energy_percent"] - base["energy_percent"]))

    def named(row: Row) -> str:
        return f"{row['what']} ({row['value']})"

    listed = "; ".join(
        f"{named(row)} {row['time_percent']:+.0f} %, {row['energy_percent']:+.0f} %" for row in rows[1:]
    )  # fmt: skip
    return (
        f"*What it rests on.* Of drawn spikes htt takes {base['time_percent']:+.0f} % in time and"
        f" {base['energy_percent']:+.0f} % in energy. With one thing changed in both networks: {listed}. Time moves"
        f" most with {named(widest)}, energy with {named(energy)}."
    )


SENTENCES: Mapping[str, Callable[[Sequence[Row]], str]] = {
    "sizes": _sizes, "training": _training, "merged": _merged, "clusters": _clusters,
    "pipeline": _pipeline, "ablation": _ablation,
}  # fmt: skip


def write_sentences(output: Path, filled: Mapping[str, Sequence[Row]]) -> None:
    """``sentences.md``: a paragraph for each table that was filled."""
    told = [SENTENCES[name](rows) for name, rows in filled.items()]
    text = "\n\n".join(textwrap.fill(one, WIDTH, break_on_hyphens=False) for one in told) + "\n"
    files.write_texts(output, {"sentences.md": text})
