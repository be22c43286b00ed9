"""LoAS against the machines it is compared with: speed, traffic, misses, energy (Fig. 12 to 14, 18, 19)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import figures
from jobs import TITLES, Run, Workload, network, title
from paper_tables import Row, Table, deviation
from table import AGAINST, PUBLISHED, against, mean, published

from archsim.report.names import readable

BASELINES = {name: readable(name) for name in ("sparten_snn", "gospa_snn", "gamma_snn")}
MACHINES = {"loas": readable("loas"), **BASELINES}
IDEAL, DEFAULT, FITTED = "ideal", "default", "F40 (fitted)"
SETS = {
    IDEAL: "every memory access takes a cycle: computing only",
    DEFAULT: "the shipped files: physical defaults, equal memory and equal rights to prefetch for all machines",
    FITTED: "the files *_f40.yaml: the best of some 600 settings of a prototype, fitted to the paper's AlexNet and "
    "VGG16 while its ResNet19 was known, with B fetched ahead by LoAS only",
}
SETS_NOTE = "Sets of assumptions: " + "; ".join(f"`{name}`: {text}" for name, text in SETS.items()) + "."
INPUTS_NOTE = (
    "Inputs: `recorded` are the spikes of LoAS's networks that the authors of Prosperity published, after masking and "
    "fine-tuning, one image, with random weights at Table II's sparsity; `synthetic` have the averages of Table II. "
    "All machines run the same inputs; the paper runs the baselines without masking, as far as it says."
)
BANDS_NOTE = (
    "Within band: the bands were drawn when the prototype's own deviations were known, so that `yes` says that archsim "
    "agrees with the prototype; it predicts nothing, and nothing is asserted."
)
MARKS_NOTE = "Mark: P is printed in the paper, I is inferred from printed numbers (published.yaml)."


def machine(assumptions: str, name: str, workload: Workload) -> Run:
    """A machine under a set of assumptions."""
    suffix = "_f40" if assumptions == FITTED else ""
    return Run(f"{name}{suffix}", workload, ("memory.ideal=true",) if assumptions == IDEAL else ())


def every(*sets: str) -> dict[tuple[str, str, str], Run]:
    return {(s, m, n): machine(s, m, network(n)) for s in sets for m in MACHINES for n in TITLES}


def ratios(results: Mapping[Any, Any], assumptions: str, name: str, quantity: Any) -> dict[str, float]:
    """``quantity`` of a baseline over that of LoAS, by network."""
    return {
        n: quantity(results[assumptions, name, n]) / quantity(results[assumptions, "loas", n])
        for n in TITLES
    }  # fmt: skip


def with_mean(found: dict[str, float]) -> dict[str, float]:
    return found | {"mean": mean(list(found.values()))}


def name_of(key: str) -> str:
    return "arithmetic mean" if key == "mean" else title(key)


def cycles(report: Any) -> int:
    return report.summary()["cycles"]


def energy(report: Any) -> float:
    return report.summary()["energy_pj"]


def moved(report: Any, level: str, *, outputs: bool = False, direction: str = "", layer: str = "") -> int:
    """Bytes between a level and what is above it."""
    return sum(
        row["bytes"]
        for row in report.rows("traffic")
        if row["level"] == level
        and (outputs or not row["tensor"].startswith("output"))
        and direction in row["direction"]
        and layer in ("", row["layer"])
    )


def within(deviation_percent: float | None, *path: str) -> bool | None:
    """Whether a deviation under the fitted set lies within its band, None where there is none."""
    *where, key = path
    bands: Any = PUBLISHED["bands"]
    for step in where:
        bands = bands.get(step, {})
    band = bands.get(key) if key == "mean" else bands.get(key, bands.get("each"))
    return None if deviation_percent is None or band is None else abs(deviation_percent) <= band


def figure_12() -> Table:
    def rows(results: Mapping[Any, Any]) -> list[Row]:
        found = []
        for assumptions in SETS:
            for baseline, label in BASELINES.items():
                for key, ratio in with_mean(ratios(results, assumptions, baseline, cycles)).items():
                    row = against(ratio, "speedup", baseline, key)
                    band = within(row["deviation_percent"], "speedup", baseline, key)
                    found.append(
                        {"set": assumptions, "baseline": label, "network": name_of(key), **row}
                        | {"within_band": band if assumptions == FITTED else None}
                    )
        return found

    return Table(
        "fig12_speedup",
        "Speedup of LoAS (Fig. 12)",
        {
            "set": "set",
            "baseline": "over",
            "network": "network (spikes)",
            **AGAINST,
            "within_band": "within band (F40)",
        },
        every(*SETS),
        rows,
        (
            SETS_NOTE,
            "Speedup: cycles of the baseline / cycles of LoAS, convolutions only.",
            BANDS_NOTE + " Speedup: +-35 % a network and +-15 % in the mean over SparTen-SNN, +-25 % in the mean over "
            "the others. F40's GoSPA-SNN and Gamma-SNN have one constant each, chosen so that the mean of AlexNet and "
            "VGG16 meets the one number that is printed.",
            INPUTS_NOTE,
            MARKS_NOTE,
        ),
        figures.speedups,
        (7.0, 3.1),
    )


def inputs() -> Table:
    """The same speedups from recorded and from synthetic spikes."""
    workloads = {
        n: dict.fromkeys([network(n), Workload(f"{n}-ft")]) for n in ("alexnet", "vgg16")
    }  # one and the same where nothing is recorded
    jobs = {
        (m, n, w.kind): machine(DEFAULT, m, w) for n, chosen in workloads.items() for w in chosen for m in MACHINES
    }  # fmt: skip

    def rows(results: Mapping[Any, Any]) -> list[Row]:
        return [
            {"network": TITLES[n], "spikes": workload.kind, "cycles": cycles(results["loas", n, workload.kind])}
            | {
                baseline: cycles(results[baseline, n, workload.kind]) / cycles(results["loas", n, workload.kind])
                for baseline in BASELINES
            }
            for n, chosen in workloads.items()
            for workload in chosen
        ]

    return Table(
        "fig12_inputs",
        "What recorded and synthetic spikes change in the speedup (set `default`)",
        {"network": "network", "spikes": "spikes", "cycles": "cycles of LoAS"}
        | {key: f"speedup over {label}" for key, label in BASELINES.items()},
        jobs,
        rows,
        (
            "Synthetic spikes have Table II's averages in every layer. Their outputs are known; those of recorded "
            "spikes are not and are written as if every neuron fired at every timestep, which costs a machine that "
            "writes coordinates (GoSPA-SNN, Gamma-SNN) more than one that writes bits.",
        ),
    )


def masking() -> Table:
    """What fine-tuning with masked fire-once neurons is worth; only synthetic spikes exist before and after."""
    jobs = {
        (s, suffix, n): machine(s, "loas", Workload(f"{n}{suffix}"))
        for s in (IDEAL, DEFAULT, FITTED) for suffix in ("", "-ft") for n in TITLES
    }  # fmt: skip

    def rows(results: Mapping[Any, Any]) -> list[Row]:
        found = []
        for assumptions in SETS:
            gains = {
                n: 100 * (cycles(results[assumptions, "", n]) / cycles(results[assumptions, "-ft", n]) - 1)
                for n in TITLES
            }  # fmt: skip
            for key, gain in with_mean(gains).items():
                label = "arithmetic mean" if key == "mean" else f"{TITLES[key]} (synthetic)"
                found.append({"set": assumptions, "network": label, **against(gain, "masking_gain", key)})
        return found

    return Table(
        "fig12_masking",
        "Performance gained by masking neurons that fire once [%] (Fig. 12)",
        {"set": "set", "network": "network (spikes)", **AGAINST},
        jobs,
        rows,
        (
            "Cycles of LoAS on synthetic spikes with Table II's averages before / after masking and fine-tuning, - 1.",
            SETS_NOTE,
        ),
    )


def figure_13() -> Table:
    def rows(results: Mapping[Any, Any]) -> list[Row]:
        found = []
        for assumptions in (DEFAULT, FITTED):
            for level in ("dram", "sram"):
                for baseline, label in BASELINES.items():
                    without = with_mean(ratios(results, assumptions, baseline, lambda r: moved(r, level)))  # noqa: B023
                    reads = with_mean(
                        ratios(results, assumptions, baseline, lambda r: moved(r, level, direction="read"))  # noqa: B023
                    )
                    whole = with_mean(
                        ratios(results, assumptions, baseline, lambda r: moved(r, level, outputs=True))  # noqa: B023
                    )
                    for key, ratio in without.items():
                        row = against(ratio, "traffic", level, baseline, key)
                        band = within(row["deviation_percent"], level, baseline, key)
                        found.append(
                            {"set": assumptions, "level": level.upper(), "baseline": label, "network": name_of(key)}
                            | {**row, "reads_only": reads[key], "with_outputs": whole[key]}
                            | {"within_band": band if assumptions == FITTED else None}
                        )
        return found

    return Table(
        "fig13_traffic",
        "Traffic, baseline / LoAS (Fig. 13)",
        {"set": "set", "level": "level", "baseline": "baseline", "network": "network (spikes)", **AGAINST}
        | {"reads_only": "ours, reads only", "with_outputs": "ours, with outputs", "within_band": "within band (F40)"},
        every(DEFAULT, FITTED),
        rows,
        (
            "Bytes read and written, inputs, weights and partial sums. Outputs are apart: nobody recorded those of the "
            "recorded networks, which therefore count as fully dense.",
            "SRAM: useful bytes at the banks of the global cache, fills included, and GoSPA-SNN's banks of partial "
            "sums, 2 B read and 2 B written an accumulation.",
            BANDS_NOTE + " Traffic: +-20 % (ResNet19 under GoSPA-SNN and Gamma-SNN +-50 %) for DRAM, +-10 % for SRAM.",
            SETS_NOTE,
            INPUTS_NOTE,
            MARKS_NOTE,
        ),
        figures.traffic,
        (7.0, 3.1),
    )


# The layers of Fig. 14: network, name of the layer there.
LAYERS = {
    "A-L4": ("alexnet", "conv4"),
    "V-L8": ("vgg16", "conv8"),
    "R-L19": ("resnet19", "stage3.block2.conv2"),
}


def kind_of(tensor: str) -> str:
    stem, _, suffix = tensor.partition("_")
    if stem == "output":
        return "output"
    return "psum" if stem == "psum" else "format" if suffix else stem


def layer_title(layer: str) -> str:
    return f"{layer} ({network(LAYERS[layer][0]).kind})"


def figure_14() -> Table:
    def rows(results: Mapping[Any, Any]) -> list[Row]:
        found = []
        for assumptions in (DEFAULT, FITTED):
            for layer, (net, name) in LAYERS.items():
                for level in ("dram", "sram"):
                    formats = {}
                    for key, label in MACHINES.items():
                        kib = dict.fromkeys(figures.KINDS, 0.0)
                        for row in results[assumptions, key, net].rows("traffic"):
                            if (row["layer"], row["level"]) == (name, level):
                                kib[kind_of(row["tensor"])] += row["bytes"] / 1024
                        formats[key] = kib["format"]
                        found.append(
                            {"set": assumptions, "layer": layer_title(layer), "level": level.upper(), "machine": label}
                            | {f"{kind}_kib": value for kind, value in kib.items()}
                            | {"total_kib": sum(kib.values())}
                        )
                    for row in found[-len(MACHINES) :]:
                        own = row["format_kib"] / formats["sparten_snn"]
                        row["format_over_sparten_snn"] = own
                        if row["machine"] == "LoAS":
                            paper = published("traffic", "format_loas_over_sparten")["value"]
                            row |= {"paper": paper, "deviation_percent": deviation(own, paper)}
        return found

    columns = {"set": "set", "layer": "layer (spikes)", "level": "level", "machine": "machine"}
    columns |= {f"{kind}_kib": f"{kind} [KiB]" for kind in (*figures.KINDS, "total")}
    columns |= {"format_over_sparten_snn": "format / SparTen-SNN's", "paper": "paper", "deviation_percent": "dev. [%]"}
    return Table(
        "fig14_tensors",
        "Traffic of three layers by tensor (Fig. 14)",
        columns,
        every(DEFAULT, FITTED),
        rows,
        (
            "Format: whatever says where values are: bitmasks, pointers, coordinates. SparTen-SNN's spike trains are "
            "bitmask and data at once and count as input; GoSPA-SNN's and Gamma-SNN's spikes are nothing but "
            "coordinates.",
            "The paper prints one ratio, LoAS's format traffic 2.1 times SparTen-SNN's, without saying of which layer.",
            "R-L19 is the last convolution of ResNet19, K = 4608; Table II prints K = 2304, which cannot be it.",
            SETS_NOTE,
        ),
        figures.tensors,
        (7.0, 3.0),
    )


def miss_rates() -> Table:
    net, name = LAYERS["R-L19"]

    def rows(results: Mapping[Any, Any]) -> list[Row]:
        found = []
        for assumptions in (DEFAULT, FITTED):
            for key, label in MACHINES.items():
                report = results[assumptions, key, net]
                (layer,) = [row for row in report.rows("layers") if row["layer"] == name]
                looked_up = layer["hits"] + layer["misses"] + layer["merged_misses"]
                banks = [r for r in report.rows("traffic") if r["layer"] == name and r["direction"] == "read"]
                accesses = sum(row["accesses"] for row in banks if row["level"] == "sram")
                lines = sum(row["accesses"] for row in banks if row["level"] == "dram")
                tag, line = (100 * m / n if n else None for m, n in ((layer["misses"], looked_up), (lines, accesses)))
                paper = published("miss_rate", key)
                found.append(
                    {"set": assumptions, "machine": label, "looked_up": looked_up, "misses": layer["misses"]}
                    | {"tag_miss_percent": tag, "sram_accesses": accesses, "dram_lines": lines, "line_percent": line}
                    | _beside(tag, line, paper)
                )
            loas, sparten = found[-len(MACHINES)], found[1 - len(MACHINES)]
            over = _quotients(sparten, loas)
            found.append(
                {"set": assumptions, "machine": "SparTen-SNN / LoAS", **over}
                | _beside(*over.values(), published("miss_rate", "sparten_over_loas"))
            )
        return found

    return Table(
        "miss_rates",
        f"SRAM miss rates, {layer_title('R-L19')} (section VI)",
        {
            "set": "set", "machine": "machine", "looked_up": "look-ups", "misses": "misses",
            "tag_miss_percent": "misses / look-ups [%]", "sram_accesses": "SRAM read accesses",
            "dram_lines": "lines from DRAM", "line_percent": "lines / accesses [%]",
            "paper": "paper [%]", "tag_deviation_percent": "misses / look-ups, deviation [%]",
            "line_deviation_percent": "lines / accesses, deviation [%]", "mark": "mark",
        },
        {key: job for key, job in every(DEFAULT, FITTED).items() if key[2] == net},
        rows,
        (
            "The paper does not define its miss rate. Misses / look-ups: of requests that look up a tag, a request "
            "being the part of a 64 B line that is asked for at once; a line that the row fetcher brings ahead counts "
            "as a miss, fibers of B that are streamed into the cache are never looked up and count in neither.",
            "Lines / accesses: every 64 B line that comes from DRAM, prefetched and streamed ones included, over "
            "read accesses: of at most 16 B at the banks of the cache, of 2 B at GoSPA-SNN's partial sums.",
        ),
    )  # fmt: skip


def _beside(tag: float | None, line: float | None, paper: Row) -> Row:
    """The paper's miss rate, and how far each of our two lies from it."""
    return {
        "paper": paper["value"], "mark": paper["mark"],
        "tag_deviation_percent": deviation(tag, paper["value"]),
        "line_deviation_percent": deviation(line, paper["value"]),
    }  # fmt: skip


def _quotients(over: Row, under: Row) -> Row:
    return {
        column: over[column] / under[column] if over[column] and under[column] else None
        for column in ("tag_miss_percent", "line_percent")
    }


def energies() -> Table:
    def rows(results: Mapping[Any, Any]) -> list[Row]:
        found = []
        for assumptions in (DEFAULT, FITTED):
            for baseline, label in BASELINES.items():
                totals = ratios(results, assumptions, baseline, energy)
                chips = ratios(results, assumptions, baseline, on_chip)
                for net in TITLES:
                    report, loas = results[assumptions, baseline, net], results[assumptions, "loas", net]
                    found.append(
                        {"set": assumptions, "baseline": label, "network": title(net)}
                        | {"baseline_uj": energy(report) / 1e6, "loas_uj": energy(loas) / 1e6}
                        | {**against(totals[net], "energy_gain", net, baseline), "on_chip": chips[net]}
                    )
        return found

    return Table(
        "energy",
        "Energy efficiency, energy of the baseline / energy of LoAS (section VI)",
        {"set": "set", "baseline": "baseline", "network": "network (spikes)", "baseline_uj": "baseline [uJ]"}
        | {"loas_uj": "LoAS [uJ]", **AGAINST, "on_chip": "ours, without DRAM"},
        every(DEFAULT, FITTED),
        rows,
        (
            "Energy: counted actions times prices, leakage included, DRAM at 3.92 pJ a bit. No price was fitted to "
            "these ratios. The traffic ratios that the paper prints (Fig. 13) and these cannot be had with one price a "
            "byte.",
            SETS_NOTE,
            INPUTS_NOTE,
            MARKS_NOTE,
        ),
        figures.energies,
    )


def on_chip(report: Any) -> float:
    return sum(row["energy_pj"] for row in report.rows("energy") if row["unit"] != "dram")


MOVERS = ("dram", "cache_data", "cache_tag", "crossbar_switch", "broadcast")


def movement(report: Any) -> float:
    """Share of the energy that goes into moving data, in percent."""
    moving = sum(row["energy_pj"] for row in report.rows("energy") if row["unit"] in MOVERS)
    return 100 * moving / energy(report)


def figure_18() -> Table:
    machines = {"sparten": "SparTen-ANN", "gamma": "Gamma-ANN"}
    jobs = {"loas": Run("loas", network("vgg16")), **{name: Run(name, Workload("vgg16_ann")) for name in machines}}

    def rows(results: Mapping[Any, Any]) -> list[Row]:
        loas = results["loas"]
        found = []

        def add(label: str, quantity: str, ours: float, *path: str) -> None:
            found.append({"machine": label, "quantity": quantity, **against(ours, *path)})

        for key, label in machines.items():
            ann = results[key]
            add(label, "energy / LoAS's", energy(ann) / energy(loas), "ann", "energy_gain", key)
            add(label, "cycles / LoAS's", cycles(ann) / cycles(loas))
            add(label, "SRAM bytes / LoAS's", moved(ann, "sram") / moved(loas, "sram"), "ann", f"sram_{key}")
            add(label, "DRAM bytes / LoAS's", moved(ann, "dram") / moved(loas, "dram"))
        for level in ("sram", "dram"):
            saved = 100 * (1 - moved(loas, level) / moved(results["sparten"], level))
            add("LoAS", f"{level.upper()} bytes saved over SparTen-ANN [%]", saved, "ann", "traffic_saved")
        for key, label in ("loas", "LoAS"), *machines.items():
            add(label, "share of data movement in energy [%]", movement(results[key]))
        return found

    return Table(
        "fig18_ann",
        f"LoAS on the spiking {title('vgg16')} against ANN accelerators on VGG16 (synthetic) (Fig. 18)",
        {"machine": "machine", "quantity": "quantity", **AGAINST},
        jobs,
        rows,
        (
            "Physical defaults, equal memory. ANN: 8-bit activations 43.9 % and weights 98.2 % sparse, synthetic.",
            "The paper's 60 % is of `memory traffic`, level not said; it is set beside both. It puts data movement at "
            "about 60 % of the energy of each machine (labels 60.2, 63.4 and 61.7 %, whose is not readable). Here that "
            "is DRAM, cache, switches and broadcast, leakage of the cache included.",
        ),
    )


def figure_19() -> Table:
    machines = {"ptb_16x4": "PTB (16 x 4)", "stellar_16x4": "Stellar (16 x 4, approximate)"}
    jobs = {
        (s, name): machine(s, name, network("vgg16")) for s in (IDEAL, DEFAULT) for name in ("loas", *machines)
    }  # fmt: skip

    def rows(results: Mapping[Any, Any]) -> list[Row]:
        found = []
        for assumptions in (IDEAL, DEFAULT):
            loas = results[assumptions, "loas"]
            for name, label in machines.items():
                dense = results[assumptions, name]
                quantities = {"speedup": cycles(dense) / cycles(loas)}
                if assumptions == DEFAULT:
                    quantities["energy_gain"] = energy(dense) / energy(loas)
                    quantities |= {level: moved(dense, level) / moved(loas, level) for level in ("dram", "sram")}
                found += [
                    {"set": assumptions, "machine": label, "quantity": _QUANTITIES[quantity]}
                    | {"machine_cycles": cycles(dense), "loas_cycles": cycles(loas)}
                    | against(ratio, "dense", name, quantity)
                    for quantity, ratio in quantities.items()
                ]
        return found

    return Table(
        "fig19_dense",
        f"Dense machines / LoAS, {title('vgg16')} (Fig. 19)",
        {"set": "set", "machine": "machine", "quantity": "ratio of", "machine_cycles": "its cycles"}
        | {"loas_cycles": "LoAS's cycles", **AGAINST},
        jobs,
        rows,
        (
            "Not equal work: the dense machines run all weights, LoAS the 1.8 % that are not zero. The paper compares "
            "so.",
            "The paper takes PTB's and Stellar's cycles from SCALE-Sim, a dense model. How Stellar skips spikes is "
            "not described there; here it is row-stationary and a skipped spike takes no time.",
            SETS_NOTE,
        ),
        figures.dense,
        (3.5, 2.6),
    )


_QUANTITIES = {"speedup": "cycles", "energy_gain": "energy", "dram": "DRAM bytes", "sram": "SRAM bytes"}
