"""What this study's README says of the tables, with the numbers of these."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from jobs import FIRST, SMALL
from paper_tables import Row
from tables import BATCH, IMC, MACHINES, METHODS, PUBLISHED

from archsim.report import files
from archsim.trace.prompted import VIT_B16, passes, total

WIDTH = 120


def _one(rows: Iterable[Row], **wanted: object) -> Row:
    """The row with these values."""
    (found,) = [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]
    return found


def _macs(rows: Sequence[Row]) -> str:
    two, one = (_one(rows, phase="inference", variant=variant) for variant in ("two_stage", "os"))
    training, regularised = (_one(rows, phase="training", variant=variant) for variant in ("os", "os++"))
    return (
        f"*Multiply-accumulates.* For an image of ViT-B/16 two stages take {two['gmacs']:.2f} G and one stage"
        f" {one['gmacs']:.2f} G, a ratio of {one['ratio']:.4f} (the paper, second-hand: {one['published_ratio']:.3f})."
        f" A step of training takes {training['ratio']:.3f} of two stages in one stage and {regularised['ratio']:.3f}"
        f" with the regularisation (second-hand: {training['published_ratio']:.2f} and"
        f" {regularised['published_ratio']:.2f}): the reference pass is the query pass over again."
    )


def _streamed(rows: Sequence[Row]) -> str:
    small, large = dict.fromkeys(row["array"] for row in rows)
    ones = [_one(rows, array=array, phase="inference", variant="os") for array in (small, large)]
    trained = [_one(rows, array=array, phase="training", variant="os") for array in (small, large)]
    saved = (
        _one(rows, array=small, phase="inference", variant="two_stage")["weight_bytes"] - ones[0]["weight_bytes"]
    ) / 1e6
    without = total(passes(VIT_B16, "two_stage", "inference"), FIRST)
    more = total(passes(VIT_B16, "os", "inference")) / without - 1
    return (
        f"*Weights streamed.* On the systolic array of {small} PEs one stage takes {ones[0]['cycles_ratio']:.4f} of the"
        f" cycles, {ones[0]['energy_ratio']:.4f} of the energy and {ones[0]['dram_ratio']:.4f} of the DRAM traffic of"
        f" two, and {trained[0]['cycles_ratio']:.3f} of the cycles of training. The half remains because the second"
        f" pass needs the result of the first: all weights come again, {saved:.0f} MB for an image, as each comes for"
        " several groups of tokens. The prompts are one row of a product and leave most of an array idle: cycles of one"
        " stage are"
        f" {ones[0]['overhead_percent']:.2f} % above a pass without prompts, and on {large} PEs"
        f" {ones[1]['overhead_percent']:.2f} %, where MACs are {100 * more:.2f} % above it. There the ratio of"
        f" cycles is {ones[1]['cycles_ratio']:.4f}."
    )


def _small(rows: Sequence[Row]) -> str:
    def one(machine: str, variant: str = "os", **more: str) -> Row:
        return _one(rows, machine=machine, phase="inference", variant=variant, **more)

    streamed = [one(machine) for machine in MACHINES]
    chip, twice = one(IMC), one(IMC, "two_stage", weights="twice")
    training = [_one(rows, machine=machine, phase="training", variant="os") for machine in (*MACHINES, IMC)]
    one_stage, two_stages = (total(passes(SMALL, variant, "inference")) for variant in ("os", "two_stage"))
    macs = one_stage / two_stages
    ratios = [row["cycles_ratio"] for row in streamed]
    energies = [row["energy_ratio"] for row in streamed]
    return (
        f"*The trained transformer.* On the machines that stream weights ({', '.join(MACHINES)}) one stage takes"
        f" {min(ratios):.3f} to {max(ratios):.3f} of the cycles and {min(energies):.3f} to {max(energies):.3f} of the"
        f" energy of two, where MACs are {macs:.3f}: with {SMALL.tokens} tokens the components, whose weights come for"
        " one row, weigh more than in ViT-B/16. On crossbar arrays whose weights stay, it takes"
        f" {chip['cycles_ratio']:.3f} of the cycles and {chip['energy_ratio']:.3f} of the energy, if the stages use"
        f" the same arrays one after the other. DRAM brings {chip['dram_read_bytes']:,} bytes there, the image and"
        f" constants, against {streamed[0]['dram_read_bytes']:,} on the systolic array. If each stage has arrays of"
        f" its own, the two take {twice['cycles_ratio']:.3f} of the cycles and {twice['energy_ratio']:.2f} times the"
        f" energy of two on the same ones, on {twice['area_mm2']:.0f} instead of {chip['area_mm2']:.0f} mm2, which leak"
        " all the time. A step of training in one stage takes"
        f" {min(row['cycles_ratio'] for row in training):.2f} to"
        f" {max(row['cycles_ratio'] for row in training):.2f} of the cycles of two."
    )


def _resident(rows: Sequence[Row]) -> str:
    twice = _one(rows, variant="two_stage", weights="twice")
    once = _one(rows, variant="two_stage", weights="once")
    one, given, none = (_one(rows, variant=name) for name in ("os", "given", "none"))
    waits = 100 * (one["latency_cycles"] / given["latency_cycles"] - 1)
    prompts = 100 * (one["latency_cycles"] / none["latency_cycles"] - 1)
    return (
        f"*Many images.* All layers of the chip work at once on images one behind the other. Where weights are there"
        f" twice, an image more takes {twice['interval_cycles']:,.0f} cycles in two stages and"
        f" {one['interval_cycles']:,.0f} in one, a ratio of {one['interval_cycles'] / twice['interval_cycles']:.2f}:"
        f" one stage saves area there ({one['area_mm2']:.0f} for {twice['area_mm2']:.0f} mm2), not time. Where they are"
        f" there once, {BATCH} images pass the first stage and then the second, and the ratio is"
        f" {one['interval_cycles'] / once['interval_cycles']:.2f}. The energy of an image more is"
        f" {one['energy_more_uj'] / twice['energy_more_uj']:.2f} and"
        f" {one['energy_more_uj'] / once['energy_more_uj']:.2f} of that of two stages. The pass of one stage is"
        f" {prompts:.1f} % longer than one without prompts, and {waits:.1f} % longer than one whose prompts are there"
        " from the start: attention waits for its prompt."
    )


def _accuracy(rows: Sequence[Row]) -> str:
    def told(method: str) -> str:
        row = _one(rows, method=METHODS[method])
        return (
            f"{row['accuracy_percent']:.1f} +- {row['accuracy_deviation']:.1f} (forgotten:"
            f" {row['forgetting_percent']:.1f} +- {row['forgetting_deviation']:.1f})"
        )

    means = [_one(rows, method=METHODS[method])["accuracy_percent"] for method in ("soft", "coda", "os", "os++")]
    paper = {name: row["value"][0] for name, row in PUBLISHED["accuracy"].items()}
    return (
        f"*Accuracy.* Five tasks of two classes of Fashion-MNIST, {rows[0]['seeds']} seeds, A_N [%]: without prompts"
        f" {told('none')}, two stages with a hard choice {told('hard')}, two stages with the soft sum {told('soft')},"
        f" with attention vectors (CODA) {told('coda')}, one stage {told('os')}, regularised {told('os++')}. Between"
        f" the last four are {max(means) - min(means):.1f} points, less than seeds differ, which order the classes. The"
        " backbone is small and never saw a label, so that these are far below the paper's (CIFAR-100, second-hand:"
        f" {paper['coda']}, {paper['os']} and {paper['os++']} for CODA, OS and OS++) and say only how the methods"
        " compare here."
    )


SENTENCES: Mapping[str, Callable[[Sequence[Row]], str]] = {
    "macs": _macs,
    "streamed": _streamed,
    "small": _small,
    "resident": _resident,
    "class_incremental": _accuracy,
}


def sentences(tables: Mapping[str, Sequence[Row]]) -> list[str]:
    """A paragraph for each of these tables."""
    return [say(tables[name]) for name, say in SENTENCES.items() if name in tables]


def write_sentences(output: Path, tables: Mapping[str, Sequence[Row]]) -> None:
    """``sentences.md``, a list as it stands in the README."""
    wrapped = [textwrap.fill(text, WIDTH, initial_indent="- ", subsequent_indent="  ") for text in sentences(tables)]
    files.write_texts(output, {"sentences.md": "".join(f"{item}\n" for item in wrapped)})
