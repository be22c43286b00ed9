"""What the README says of the tables, with the numbers of these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from paper_tables import Row
from tables import PUBLISHED

SENTENCES = ("bits", "search", "limits", "energy", "sources")


def text(name: str, filled: Mapping[str, Sequence[Row]]) -> str:
    """The sentences on the table ``name``."""
    made = {"bits": _bits, "search": _search, "limits": _limits, "energy": _energy, "sources": _sources}
    return made[name](filled[name])


def _one(rows: Sequence[Row], **wanted: object) -> Row:
    """The row with these values."""
    (found,) = [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]
    return found


def _bits(rows: Sequence[Row]) -> str:
    ours = {bits: _one(rows, machine="bit_composable", bits=bits) for bits in ("W8A8", "W4A4", "W2A4")}
    plain = _one(rows, machine="systolic", bits="W2A4")
    analog = _one(rows, machine="imc_ideal", bits="W2A4")
    return (
        f"*Bits.* On bit_composable the network takes {ours['W4A4']['cycles_relative']:.3f} of the cycles of W8A8 with"
        f" W4A4 and {ours['W2A4']['cycles_relative']:.3f} with W2A4, and {ours['W4A4']['energy_relative']:.3f} and"
        f" {ours['W2A4']['energy_relative']:.3f} of the energy; accuracy goes from"
        f" {ours['W8A8']['accuracy_percent']:.2f} % to {ours['W4A4']['accuracy_percent']:.2f} and"
        f" {ours['W2A4']['accuracy_percent']:.2f} %. It is no quarter and no eighth, because the first and the last"
        " layer keep 8 bits and filling and draining the array does not get shorter. With PEs for 8-bit weights"
        f" (systolic) W2A4 takes {plain['cycles_relative']:.3f} of the cycles, as activations alone count. Crossbar"
        f" arrays (imc_ideal) take {analog['cycles_relative']:.3f} of the cycles and {analog['energy_relative']:.3f} of"
        " the energy: layers follow one another in a pipeline, whose pace the first one sets with its 8-bit pixels, and"
        " memories around the arrays leak. All runs have 0 mismatches."
    )


def _search(rows: Sequence[Row]) -> str:
    low, middle, high = rows
    return (
        f"*Search.* Of all {middle['of']} ways to give the four inner layers weights of 4 or 2 bits (activations 4),"
        f" {middle['within']} need at most {middle['budget_uj']:.2f} uJ, half way from the cheapest to the dearest. The"
        f" best of them is {middle['bits']}, {middle['accuracy_percent']:.2f} % at {middle['energy_uj']:.2f} uJ; at a"
        f" quarter of the way it is {low['bits']} ({low['accuracy_percent']:.2f} %), at three quarters {high['bits']}"
        f" ({high['accuracy_percent']:.2f} %)."
    )


def _limits(rows: Sequence[Row]) -> str:
    fast = _one(rows, array="8 x 8", bandwidth_gb_s=128.0, bits="W2A4")
    slow = _one(rows, array="8 x 8", bandwidth_gb_s=0.5, bits="W2A4")
    large = _one(rows, array="32 x 8", bandwidth_gb_s=128.0, bits="W2A4")
    both = _one(rows, array="32 x 8", bandwidth_gb_s=0.5, bits="W2A4")
    return (
        f"*Where few bits stop paying.* W2A4 takes {fast['cycles_relative']:.3f} of the cycles of W8A8 with 8 x 8 PEs"
        f" and 128 GB/s, {slow['cycles_relative']:.3f} with 0.5 GB/s, {large['cycles_relative']:.3f} with 32 x 8 PEs"
        f" and 128 GB/s, and {both['cycles_relative']:.3f} with 32 x 8 PEs and 0.5 GB/s. Bound by memory, cycles follow"
        f" bytes, and these are {fast['dram_bytes_relative']:.3f} of those of W8A8, as an output leaves in whole lines"
        " of 64 bytes, which the 16 to 64 channels of a position do not fill with 4 bits each."
    )


def _energy(rows: Sequence[Row]) -> str:
    wide, narrow = _one(rows, bits="W8A8"), _one(rows, bits="W2A4")
    return (
        f"*Energy.* Of W8A8's {wide['energy_uj']:.2f} uJ, PEs take {wide['pes_percent']:.1f} %, leakage"
        f" {wide['leakage_percent']:.1f} %, cache {wide['cache_percent']:.1f} % and DRAM {wide['dram_percent']:.1f} %;"
        f" of W2A4's {narrow['energy_uj']:.2f} uJ {narrow['pes_percent']:.1f}, {narrow['leakage_percent']:.1f},"
        f" {narrow['cache_percent']:.1f} and {narrow['dram_percent']:.1f} %. Leakage follows the time, so that it falls"
        " with the cycles; bytes fall more slowly, and the share of DRAM grows."
    )


def _widest(rows: Sequence[Row], network: str, bits: int) -> float:
    """The largest difference from the float network over all images that are no noise, in points."""
    return max(
        abs(row["of_float_points"])
        for row in rows
        if (row["network"], row["weight_bits"]) == (network, bits) and row["source"] != "noise"
    )


def _sources(rows: Sequence[Row]) -> str:
    def points(**wanted: object) -> str:
        row = _one(rows, **wanted)
        seeds = {1: " (1 seed)", 2: " (2 seeds)"}.get(row["seeds"], "")
        return f"{row['of_real_points']:+.2f}{seeds}"

    few = {"network": "cnn", "weight_bits": 2, "activation_bits": 4}
    four = {"network": "cnn", "weight_bits": 4, "activation_bits": 4}
    spiking = {"network": "snn", "weight_bits": 2}
    made, both = {"source": "synthesised"}, {"source": "synthesised", "filters": "energy, batch norm"}
    real = _one(rows, **few, source="real", images=100)
    firing = _one(rows, **spiking, source="real", images=100)
    theirs = PUBLISHED["ptq_w4a4_synthetic"]["value"] - PUBLISHED["ptq_w4a4_real"]["value"]
    return (
        f"*Whose images.* With W2A4 the CNN has {real['accuracy_percent']:.2f} % on 100 real images, mean of"
        f" {real['seeds']} seeds, {real['of_float_points']:+.2f} points over the float network. Points over that: 1,000"
        f" real images {points(**few, source='real', images=1000)}, one of each class"
        f" {points(**few, source='real, one a class')}, synthesised from the network alone"
        f" {points(**few, **made, filters='')}, filtered by energy {points(**few, **made, filters='energy')}, by batch"
        f" norm {points(**few, **made, filters='batch norm')}, by both {points(**few, **both)}, handwritten digits"
        f" {points(**few, source='UCI digits')}, noise {points(**few, source='noise')}. With W4A4 these are"
        f" {points(**four, source='real', images=1000)}, {points(**four, source='real, one a class')},"
        f" {points(**four, **made, filters='')}, {points(**four, **made, filters='energy')},"
        f" {points(**four, **made, filters='batch norm')}, {points(**four, **both)},"
        f" {points(**four, source='UCI digits')} and {points(**four, source='noise')}. GenQ's images of a diffusion"
        f" model are at {theirs:+.2f} points of 1,000 real ones with W4A4 (ResNet-50 on ImageNet; second-hand). The"
        f" spiking network with weights of 2 bits has {firing['accuracy_percent']:.2f} % on 100 real images, mean of"
        f" {firing['seeds']} seeds, {firing['of_float_points']:+.2f} points over the float network. Points over that:"
        f" 1,000 real images {points(**spiking, source='real', images=1000)}, one of each class"
        f" {points(**spiking, source='real, one a class')}, 30 synthesised {points(**spiking, **made, filters='')},"
        f" filtered by energy {points(**spiking, **made, filters='energy')}, by batch norm"
        f" {points(**spiking, **made, filters='batch norm')}, by both {points(**spiking, **both)}, handwritten digits"
        f" {points(**spiking, source='UCI digits')}, noise {points(**spiking, source='noise')}. With weights of 4 bits"
        f" it is within {_widest(rows, 'snn', 4):.2f} points of the float network on all of them but noise, of which"
        f" {_one(rows, network='snn', weight_bits=4, source='noise')['of_float_points']:+.2f}; with 8 bits within"
        f" {_widest(rows, 'snn', 8):.2f}."
    )
