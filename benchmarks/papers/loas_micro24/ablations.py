"""Which assumption and which part of LoAS carries how much: the tables that the paper does not have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import figures
from comparisons import FITTED, INPUTS_NOTE, cycles, energy, machine
from jobs import TITLES, Run, network, title
from paper_tables import Row, Table, deviation
from table import PUBLISHED, mean, published

LATENCY_NS = {20: 21.25, 100: 121.25}
"""A line is outstanding for 3 cycles of 1.25 ns beside these (the F40 files)."""


def _both(*overrides: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return overrides, overrides


def _latency(cycles_: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return _both(*(f"memory.dram.row_{row}_ns={LATENCY_NS[cycles_]}" for row in ("hit", "miss")))


# What is changed in F40: label, overrides of LoAS, of SparTen-SNN, the prototype's entry.
STEPS: tuple[tuple[str, tuple[str, ...], tuple[str, ...], str | None], ...] = (
    ("F40", (), (), "base"),
    ("B one step ahead for both", (), ("scheduler.prefetch_fibers=1",), "prefetch_on_both"),
    ("B on demand for both", ("scheduler.prefetch_fibers=0",), (), "prefetch_on_none"),
    ("SparTen-SNN in tiles: B once a tile", (), ("scheduler.order=super_tile",), None),
    ("the same, B one step ahead for both", (), ("scheduler.order=super_tile", "scheduler.prefetch_fibers=1"), None),
    ("line outstanding 20 cycles", *_latency(20), "latency_20"),
    ("line outstanding 100 cycles", *_latency(100), "latency_100"),
    ("1 line outstanding", *_both("memory.cache.mshrs=1"), "outstanding_1"),
    ("8 lines outstanding", *_both("memory.cache.mshrs=8"), "outstanding_8"),
    ("16 lines outstanding", *_both("memory.cache.mshrs=16"), "outstanding_16"),
    ("chunk pair 2 + matches", *_both("pe.chunk_overhead_cycles=2"), "overhead_2"),
    ("bank conflicts", *_both("memory.cache.bank_conflicts=true"), "bank_conflicts"),
    ("no barrier, 64 fibers apart", *_both("scheduler.barrier=none", "pe.fiber_b_buffers=64"), "no_barrier"),
    ("ideal memory, B one step ahead for both", ("memory.ideal=true",),
     ("memory.ideal=true", "scheduler.prefetch_fibers=1"), "ideal"),
)  # fmt: skip


def speedup_ablation() -> Table:
    jobs = {}
    for label, loas, sparten, _ in STEPS:
        for n in TITLES:
            for name, overrides in (("loas", loas), ("sparten_snn", sparten)):
                jobs[label, name, n] = Run(machine(FITTED, name, network(n)).machine, network(n), overrides)

    paper = {n: published("speedup", "sparten_snn", n)["value"] for n in (*TITLES, "mean")}

    def rows(results: Mapping[Any, Any]) -> list[Row]:
        found = []
        for label, loas, sparten, entry in STEPS:
            ours = {n: cycles(results[label, "sparten_snn", n]) / cycles(results[label, "loas", n]) for n in TITLES}
            theirs = PUBLISHED["prototype"][entry] if entry else [None] * len(TITLES)
            found.append(
                {"change": label, "loas": " ".join(loas), "sparten_snn": " ".join(sparten)}
                | {f"speedup_{n}": ratio for n, ratio in ours.items()}
                | {"speedup_mean": (average := mean(list(ours.values())))}
                | {f"paper_{n}": value for n, value in paper.items()}
                | {"deviation_percent": deviation(average, paper["mean"])}
                | {f"prototype_{n}": ratio for n, ratio in zip(TITLES, theirs, strict=True)}
            )
        return found

    return Table(
        "ablation_speedup",
        "Which assumption carries the speedup over SparTen-SNN (from F40, one change at a time)",
        {"change": "changed", "loas": "set in LoAS", "sparten_snn": "set in SparTen-SNN"}
        | {f"speedup_{n}": title(n) for n in TITLES} | {"speedup_mean": "mean"}
        | {f"paper_{n}": f"paper, {TITLES.get(n, n)}" for n in paper}
        | {"deviation_percent": "deviation of the mean [%]"}
        | {f"prototype_{n}": f"prototype, {name}" for n, name in TITLES.items()},
        jobs,
        rows,
        (
            "F40 is fitted, not physical: max(1, matches) a chunk pair, 4 lines outstanding of 40 cycles each, no bank "
            "conflicts, B fetched one step ahead by LoAS and on demand by SparTen-SNN, which streams it again for "
            "every 16 rows.",
            "Prototype: the independent program with which F40 was found, all three networks from recorded spikes; our "
            "ResNet19 is synthetic. Under F40 the two differ by up to 10 % in the cycles of a layer.",
            "Bank conflicts: here requests also wait for the crossbar switches and for streamed fibers of B; the "
            "prototype's are of lines of A, bitmasks and payload.",
            "Ideal memory: on demand, a chunk of B still takes SparTen-SNN a cycle, so B comes one step ahead.",
            "Paper's AlexNet is inferred from its mean.",
            INPUTS_NOTE,
        ),
        figures.speedup_ablation,
        (7.0, 3.4),
    )  # fmt: skip


# What is changed in hwconfigs/loas.yaml: label, machine, overrides.
VARIANTS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("LoAS", "loas", ()),
    ("without FTP: timesteps in sequence", "loas", ("scheduler.timesteps=sequential",)),
    ("without packed words: raw spikes", "loas", ("format.spikes=raw", "pe.speculation=false")),
    ("without either: SparTen-SNN", "sparten_snn", ()),
    ("without speculation", "loas", ("pe.speculation=false",)),
    ("two fast prefix-sums, no laggy unit", "loas", ("pe.laggy=second_fast", "pe.speculation=false")),
    ("one laggy unit, for which chunks wait", "loas_one_laggy_unit", ()),
    ("two laggy units, for which chunks wait", "loas_one_laggy_unit", ("pe.laggy_units=2", "pe.offset_tables=3")),
    ("laggy unit literal: 8 cycles a matching chunk", "loas", ("pe.laggy=literal", "pe.offset_tables=2")),
    ("laggy pass ends with the last match", "loas", ("pe.laggy=early_stop", "pe.offset_tables=2")),
    ("one place for a sum, as the paper has", "loas", ("pe.pending_sums=1",)),
    ("FIFOs of depth 1", "loas", ("pe.fifo_depth=1",)),
    ("max(1, matches) a chunk pair", "loas", ("pe.chunk_overhead_cycles=0",)),
    ("words of A read one a match", "loas", ("pe.payload_fetch=match",)),
    ("words of A always read", "loas", ("pe.payload_fetch=with_bitmask",)),
    ("B on demand", "loas", ("scheduler.prefetch_fibers=0",)),
    ("rows of A on demand", "loas", ("scheduler.prefetch_groups=0",)),
    ("A and B on demand", "loas", ("scheduler.prefetch_fibers=0", "scheduler.prefetch_groups=0")),
    ("groups of 16 rows outermost (Algorithm 1)", "loas", ("scheduler.order=row_group",)),
    ("rows sorted by non-silent inputs", "loas", ("scheduler.rows=sorted",)),
    ("barrier after every chunk", "loas", ("scheduler.barrier=chunk",)),
    ("no barrier", "loas", ("scheduler.barrier=none",)),
    ("no bank conflicts", "loas", ("memory.cache.bank_conflicts=false",)),
    ("no bank conflicts, rows sorted", "loas", ("memory.cache.bank_conflicts=false", "scheduler.rows=sorted")),
    ("LRU instead of priorities", "loas", ("memory.cache.replacement=lru",)),
    ("64 KB cache", "loas", ("memory.cache.size_kib=64",)),
    ("64 KB cache, LRU", "loas", ("memory.cache.size_kib=64", "memory.cache.replacement=lru")),
    ("lines of A over all banks", "loas", ("format.placement=interleaved",)),
    ("128 KB usable (double-buffered)", "loas", ("memory.cache.double_buffer=true",)),
    ("A not unrolled in memory", "loas", ("format.unrolled=on_the_fly",)),
    ("ideal memory", "loas", ("memory.ideal=true",)),
)


def loas_ablation() -> Table:
    jobs = {(label, n): Run(name, network(n), overrides) for label, name, overrides in VARIANTS for n in TITLES}

    def rows(results: Mapping[Any, Any]) -> list[Row]:
        found = []
        for label, name, overrides in VARIANTS:
            reports = {n: results[label, n] for n in TITLES}
            area = next(iter(reports.values())).summary()["area_mm2"]
            energies = {n: energy(report) for n, report in reports.items()}
            row = {"variant": label, "setting": " ".join((f"{name}.yaml", *overrides)), "area_mm2": area}
            row |= {f"cycles_{n}": cycles(report) for n, report in reports.items()}
            row |= {f"energy_uj_{n}": pj / 1e6 for n, pj in energies.items()}
            found.append(row)
        for row in found:
            for n in TITLES:
                row[f"time_{n}"] = row[f"cycles_{n}"] / found[0][f"cycles_{n}"]
                row[f"energy_{n}"] = row[f"energy_uj_{n}"] / found[0][f"energy_uj_{n}"]
        return found

    columns = {"variant": "variant", "setting": "setting"}
    columns |= {f"cycles_{n}": f"cycles, {title(n)}" for n in TITLES}
    columns |= {f"time_{n}": f"/ LoAS, {name}" for n, name in TITLES.items()}
    columns |= {f"energy_uj_{n}": f"energy [uJ], {name}" for n, name in TITLES.items()}
    columns |= {f"energy_{n}": f"/ LoAS, {name} " for n, name in TITLES.items()}
    return Table(
        "ablation_loas",
        "What each part of LoAS is worth (from hwconfigs/loas.yaml, one change at a time)",
        columns | {"area_mm2": "area [mm2]"},
        jobs,
        rows,
        (
            "Physical defaults with equal memory and equal rights to prefetch; energy by activity, DRAM included.",
            "Two fast prefix-sums: offsets of words and of weights come together, so nothing is speculated on and "
            "nothing waits.",
            "Without FTP: a pass over packed fibers for each timestep, B broadcast again; one accumulator and one "
            "correction accumulator a TPPE. Without packed words: T bits for every input, all read, non-silent ones "
            "found by an OR; all timesteps still in one pass. Without either, timesteps in sequence and raw spikes: "
            "SparTen-SNN, whose energy has its own smaller element.",
            "LoAS as it ships hides every laggy pass, as if each chunk had a unit of its own; its area is that of the "
            "one that the paper describes. Chunks that wait for a unit need a queue, and tables of offsets with "
            "buffers of words; these are counted in flip-flops, and Table IV has none.",
            "Without speculation: a weight waits in the FIFO for its word, then T accumulators of 12 bits add it where "
            "the neuron fired. With either, a sum is complete when its last word has come, so speculation changes "
            "additions and the subtraction at the end, hardly time.",
            "At 256 KB the tiles of rows fit, and the replacement has nothing to choose. At 64 KB priorities do harm "
            "on AlexNet: a set that is full of lines of the tile keeps no other, and what finds no room is fetched at "
            "each use. The smaller cache leaks less, hence its energy.",
            "Cannot be expressed by fields of the machine files: a P-LIF that takes one timestep per cycle other than "
            "through neuron.cycles, several fibers of B at once, TPPEs that share a row.",
            INPUTS_NOTE,
        ),
        figures.loas_ablation,
        (7.0, 4.2),
    )
