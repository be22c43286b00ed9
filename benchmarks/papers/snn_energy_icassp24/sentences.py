"""What this study's README says of the tables, with the numbers of these."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from paper_tables import Row
from source import BOTTLENECKS

from archsim.report import files

WIDTH = 120


def _one(rows: Iterable[Row], **wanted: object) -> Row:
    """The row with these values."""
    (found,) = [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]
    return found


def _works(rows: Sequence[Row]) -> str:
    tdbn = _one(rows, work="TDBN")
    as_sparse = [abs(_off(row, "sata_sim_as_sparse")) for row in rows]
    # LTH prunes weights: its baseline is as sparse in any case.
    dense = [_off(row, "sata_sim") for row in rows if row["work"] != "LTH"]
    half = [row for row in rows if round(row["operations_to_study"]) == 2]
    fifth = [row for row in rows if round(row["operations_to_study"]) == 5]
    return (
        f"*Estimates.* TDBN goes from T = {tdbn['baseline_timesteps']}, dense, to T = {tdbn['timesteps']} with"
        f" {tdbn['sparsity_percent']:.0f} % of spikes silent. T (1 - sparsity) promises {tdbn['operations']:.0f} times"
        f" less energy. SATA_Sim finds {tdbn['sata_sim']:.1f} times, SATA {tdbn['archsim_sata']:.1f}"
        f" ({tdbn['archsim_sata_skipping']:.1f} with skipping), SpikeSim {tdbn['archsim_spikesim']:.1f}, near the"
        f" ratio of timesteps (synthetic spikes, in chunks of 16). If the baselines are as sparse as the works,"
        f" SATA_Sim on this one network is within {max(as_sparse):.0f} % of the study's column for all {len(rows)}"
        f" works. If they are dense, as T (1 - sparsity) assumes, it is {min(dense):.0f} to {max(dense):.0f} % above"
        f" that column for {len(dense)} works; the remaining one, LTH, prunes weights. The study's own estimates are"
        f" about half of T (1 - sparsity) for {len(half)} works and a fifth for {len(fifth)}: its formula is"
        " unknown."
    )


def _off(row: Row, column: str) -> float:
    """By how much a column is above the study's SATA [%]."""
    return 100 * (float(row[column]) / float(row["study_sata"]) - 1)


def _chunks(rows: Sequence[Row]) -> str:
    time = [row["cycles_percent"] for row in rows]
    energy = [row["energy_percent"] for row in rows]
    return (
        "*Chunks.* Synthetic spikes have at most 16 timesteps. Longer runs are chunks of 16 and a rest; their"
        " results are added, and weights are fetched once. Where that can be checked (T = 16 in four chunks), cycles"
        f" are off by {min(time):+.1f} to {max(time):+.1f} % and energy by {min(energy):+.1f} to {max(energy):+.1f} %."
    )


def _timesteps(rows: Sequence[Row]) -> str:
    sata, chip = (_one(rows, machine=name, spikes="trained", timesteps=4) for name in ("SATA", "SpikeSim"))
    return (
        f"*Timesteps.* From T = 1 to T = 4 the energy of the trained network grows {sata['energy_relative']:.1f} times"
        f" on SATA and {chip['energy_relative']:.1f} times on SpikeSim. Its energy-delay product grows"
        f" {sata['edp_relative']:.1f} and {chip['edp_relative']:.1f} times (the study, VGG16 with Tiny ImageNet on"
        f" SpikeSim: {BOTTLENECKS['edp_growth']['value']})."
    )


def _lif(rows: Sequence[Row]) -> str:
    sata, ungated, chip, memory = (
        _one(rows, machine=name) for name in ("SATA", "SATA, ungated", "SpikeSim", "SpikeSim, with potentials' memory")
    )
    (tool,) = [row for row in rows if row["machine"].startswith("SATA_Sim")]
    return (
        f"*Neurons.* Neurons take {sata['of_computation_percent']:.1f} % of SATA's computation energy if units are"
        f" charged when they work. They take {ungated['of_computation_percent']:.0f} % if units are charged in every"
        f" cycle, as in SATA_Sim ({tool['of_computation_percent']:.0f} %; the study: up to"
        f" {BOTTLENECKS['lif_share_percent']['value']} %). On SpikeSim the neurons take"
        f" {chip['of_energy_percent']:.2f} % of all energy, but the memory of their potentials takes"
        f" {memory['of_energy_percent']:.0f} %. Of that, {memory['leakage_of_energy_percent']:.0f} points are leakage"
        " of 1 MiB of SRAM, sized for VGG16."
    )


def _sparsity(rows: Sequence[Row]) -> str:
    def saved(machine: str) -> str:
        row = _one(rows, machine=machine, sparsity_percent=99.0)
        return f"{row['energy_saved_percent']:.0f} %"

    return (
        f"*Sparsity.* With 99 % silent spikes SATA saves {saved('SATA')} of its energy with gating,"
        f" {saved('SATA, skipping')} with skipping and {saved('SATA, ungated')} if nothing is gated (SATA_Sim:"
        f" {saved('SATA_Sim (its VGG9)')}). SpikeSim saves {saved('SpikeSim')}, or {saved('SpikeSim, skipping')} if it"
        " skips silent arrays (synthetic spikes)."
    )


def _exit(rows: Sequence[Row]) -> str:
    """The earliest exit at which all images are right."""
    best = min((row for row in rows if row["right"] == row["images"]), key=lambda row: row["mean_timesteps"])
    return (
        f"*Dynamic exit.* Stopping at a mean T of {best['mean_timesteps']:.1f} keeps {best['right']} of"
        f" {best['images']} images right, which are too few for an accuracy. It divides the energy-delay product by"
        f" {best['spikesim_edp_gain']:.1f} on SpikeSim (the study: {BOTTLENECKS['exit_edp_gain']['value']} at"
        f" {BOTTLENECKS['exit_mean_timesteps']['value']}) and by at most {best['sata_edp_gain']:.1f} on SATA, which"
        " runs each layer for all T."
    )


def _sharing(rows: Sequence[Row]) -> str:
    gated, ungated = (_one(rows, machine=name, shared_by=4) for name in ("SATA", "SATA, ungated"))
    return (
        f"*Shared neurons.* If four channels share a neuron, SATA's neurons need"
        f" {ungated['lif_power_saved_percent']:.0f} % less power ungated (the study:"
        f" {BOTTLENECKS['sharing_saved_percent'][4]['value']} %) and {gated['lif_power_saved_percent']:.0f} % less"
        f" gated, for {gated['cycles_percent']:.3f} % more cycles. Their area shrinks only"
        f" {gated['lif_area_ratio']:.2f} times, because every channel keeps its potential."
    )


def _dataflow(rows: Sequence[Row]) -> str:
    each, alone = [row for row in rows if row["spikes"] == "trained"][1:]
    return (
        f"*Dataflow.* If weights stay for all four timesteps, SATA saves {each['saved_percent']:.0f} % of its memory"
        f" energy against fetching them from the buffer in each, and {alone['saved_percent']:.0f} % against one"
        f" timestep after the other (the study: {BOTTLENECKS['tick_batch_saved_percent']['value']} %). Most of it is"
        " leakage of buffers."
    )


def _training(rows: Sequence[Row]) -> str:
    def found(sparsity: str, stage: str, loss: str = "rate penalty") -> Row:
        return _one(rows, machine="SATA", loss=loss, sparsity=sparsity, stage=stage)

    stages = ("forward", "backward", "update")
    shares = [f"{found('gating', stage)['share_percent']:.0f} % {stage}" for stage in stages]
    saved = [f"{found('skipping', stage)['energy_saved_percent']:.0f} %" for stage in stages]
    whole, plain = found("gating", "all"), found("gating", "all", "no penalty")
    memories = 100 * (whole["buffers_uj"] + whole["dram_uj"]) / whole["energy_uj"]
    tool = _one(rows, machine="SATA_Sim (its VGG5)", stage="update")
    return (
        f"*Training.* A step on SATA, with the gradients of the trained network, takes"
        f" {whole['energy_uj']:.0f} uJ per image, {memories:.0f} % of it in buffers and DRAM: {', '.join(shares)}"
        f" (SATA_Sim, on its VGG5: {tool['share_percent']:.0f} % update). Skipping saves {saved[0]}, {saved[1]} and"
        f" {saved[2]} of these. If the loss has no firing-rate penalty, gradients are sparser and a step takes"
        f" {100 * (1 - plain['energy_uj'] / whole['energy_uj']):.0f} % less energy."
    )


SENTENCES: Mapping[str, Callable[[Sequence[Row]], str]] = {
    "works": _works,
    "chunks": _chunks,
    "timesteps": _timesteps,
    "lif": _lif,
    "sparsity": _sparsity,
    "exit": _exit,
    "sharing": _sharing,
    "dataflow": _dataflow,
    "training": _training,
}


def sentences(tables: Mapping[str, Sequence[Row]]) -> list[str]:
    """A paragraph for each of these tables that the README has one of."""
    return [say(tables[name]) for name, say in SENTENCES.items() if name in tables]


def write_sentences(output: Path, tables: Mapping[str, Sequence[Row]]) -> None:
    """``sentences.md``, a list as it stands in the README."""
    wrapped = [textwrap.fill(text, WIDTH, initial_indent="- ", subsequent_indent="  ") for text in sentences(tables)]
    files.write_texts(output, {"sentences.md": "".join(f"{item}\n" for item in wrapped)})
