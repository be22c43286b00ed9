"""LoAS alone: its inputs, area and power, and how it scales (Tables II, IV; Fig. 16, 17)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import figures
from comparisons import DEFAULT, FITTED, IDEAL, LAYERS, MARKS_NOTE, SETS_NOTE, cycles, layer_title, machine
from jobs import TITLES, Count, Run, Workload, network, title
from paper_tables import Row, Table, deviation
from table import AGAINST, against, published

from archsim.cost import part_rows
from archsim.simulate import load_accelerator, load_prices
from archsim.trace.density import total

CONSTANT_POWER = ("cost.table=loas_constant_power",)


def table_2() -> Table:
    jobs = {n: Count(network(n)) for n in TITLES}

    def rows(results: Mapping[Any, Any]) -> list[Row]:
        found = [_statistics(title(n), n, total(results[n]), recorded=network(n).spikes is not None) for n in TITLES]
        for layer, (net, name) in LAYERS.items():
            (counted,) = [row for row in results[net] if row.layer == name]
            found.append(_statistics(layer_title(layer), layer, counted, recorded=network(net).spikes is not None))
        return found

    return Table(
        "table2_workloads",
        "Workloads, T = 4 (Table II)",
        {
            "workload": "workload (spikes)", "m": "M", "n": "N", "k": "K",
            "spike_sparsity_percent": "spike sparsity [%]", "paper_spike_sparsity_percent": "paper, unmasked",
            "silent_percent": "silent [%]", "paper_masked_silent_percent": "paper, masked",
            "deviation_percent": "deviation [%]", "paper_silent_percent": "paper, unmasked ",
            "weight_sparsity_percent": "weight sparsity [%]", "paper_weight_sparsity_percent": "paper", "mark": "mark",
        },
        jobs,
        rows,
        (
            "Of words of the unrolled (im2col) matrix, convolutions only. Spikes are those after masking and "
            "fine-tuning, so `silent` is to be compared with the masked column; the paper prints spike sparsity before "
            "masking only.",
            "Synthetic rows hit the network's averages by construction, and single layers of ResNet19 with them: they "
            "check the generator, not the paper. The weights of the recorded networks are random at the network's "
            "sparsity, so their layers do not have the layer's own.",
            "Recorded AlexNet and VGG16: one CIFAR-10 image.",
        ),
    )  # fmt: skip


def _statistics(label: str, key: str, counted: Any, *, recorded: bool) -> Row:
    spikes, silent, masked, weights = published("table2", key)["value"]
    ours = 100 * counted.silent_ratio
    return {
        "workload": label, "m": counted.m, "n": counted.n, "k": counted.k,
        "spike_sparsity_percent": 100 * (1 - counted.spike_density), "paper_spike_sparsity_percent": spikes,
        "silent_percent": ours, "paper_masked_silent_percent": masked,
        "deviation_percent": deviation(ours, masked) if recorded else None, "paper_silent_percent": silent,
        "weight_sparsity_percent": 100 * (1 - counted.weight_density), "paper_weight_sparsity_percent": weights,
        "mark": published("table2", key)["mark"],
    }  # fmt: skip


BLOCKS = {"tppe": "16 TPPEs", "p_lif": "16 P-LIFs", "cache_data": "global cache", "cache_tag": "global cache"}


def _block(unit: str) -> str | None:
    return None if unit == "dram" else BLOCKS.get(unit, "others")


def _by_block(rows: list[Row], column: str) -> dict[str, float]:
    sums = dict.fromkeys(("16 TPPEs", "16 P-LIFs", "global cache", "others", "total"), 0.0)
    for row in rows:
        block = _block(row["unit"])
        if block:
            sums[block] += row[column]
            sums["total"] += row[column]
    return sums


def table_4() -> Table:
    workload = network("vgg16")
    jobs = {"activity": Run("loas", workload), "constant": Run("loas", workload, CONSTANT_POWER)}

    def rows(results: Mapping[Any, Any]) -> list[Row]:
        powers = {}
        for name, report in results.items():
            energy = _by_block(report.rows("energy"), "energy_pj")
            powers[name] = {block: pj * 1e-9 / report.summary()["latency_s"] for block, pj in energy.items()}
        areas = _by_block(results["activity"].rows("area"), "area_mm2")
        found = [
            _block_row(block, area, powers["constant"][block], published("table4", block))
            | {"activity_mw": powers["activity"][block]}
            for block, area in areas.items()
        ]
        accelerator = load_accelerator(jobs["activity"].hardware)
        parts = {part.part: part.area_mm2 for part in part_rows(accelerator.inventory(), load_prices(accelerator))}
        for key, label in (("accumulators", "accumulators"), ("fast_prefix", "fast prefix"),
                           ("laggy_prefix", "laggy prefix"), ("others", "others")):  # fmt: skip
            found.append(_block_row(f"one TPPE: {label}", parts[key], None, published("table4_tppe", label)))
        whole = _block_row(
            "one TPPE", areas["16 TPPEs"] / 16, powers["constant"]["16 TPPEs"] / 16, published("table4_tppe", "total")
        )
        return [*found, whole]

    return Table(
        "table4_area_power",
        "Area and power (Table IV)",
        {
            "block": "block", "area_mm2": "area [mm2]", "paper_area_mm2": "paper", "area_deviation_percent": "dev. [%]",
            "power_mw": "power, constant [mW]", "paper_power_mw": "paper", "power_deviation_percent": "dev. [%] ",
            "activity_mw": f"power by activity, {title('vgg16')} [mW]", "mark": "mark",
        },
        jobs,
        rows,
        (
            "Area and constant power are the paper's rows taken over as prices: they agree by construction, and the "
            "table checks the book-keeping. `loas_constant_power` charges them whatever happens.",
            "Power by activity is what the default prices give: counted actions, memories from CACTI 7, leakage. "
            "Compressors, scheduler, switches and broadcast are among `others`. DRAM is in neither.",
            "The paper's parts of a TPPE add up to 0.057 mm2, it prints 0.06.",
        ),
    )  # fmt: skip


def _block_row(label: str, area: float, power: float | None, paper: Row) -> Row:
    paper_area, paper_power = paper["value"]
    return {
        "block": label, "area_mm2": area, "paper_area_mm2": paper_area,
        "area_deviation_percent": deviation(area, paper_area), "power_mw": power, "paper_power_mw": paper_power,
        "power_deviation_percent": deviation(power, paper_power), "mark": paper["mark"],
    }  # fmt: skip


TIMESTEPS = (4, 8, 16)


def figure_16() -> Table:
    workloads = {t: Workload("vgg16-ft", timesteps=t) for t in TIMESTEPS}
    jobs: dict[Any, Any] = {
        (s, t): Run(job.machine, w, (*job.overrides, f"timesteps={t}", *CONSTANT_POWER))
        for t, w in workloads.items() for s in (IDEAL, DEFAULT) for job in [machine(s, "loas", w)]
    }  # fmt: skip
    jobs |= {("silent", t): Count(workload) for t, workload in workloads.items()}

    def rows(results: Mapping[Any, Any]) -> list[Row]:
        found = []
        for t in TIMESTEPS:
            report = results[DEFAULT, t]
            area = sum(row["area_mm2"] for row in report.rows("area") if row["unit"] == "tppe") / 16
            energy = sum(row["energy_pj"] for row in report.rows("energy") if row["unit"] == "tppe") / 16
            power = energy * 1e-9 / report.summary()["latency_s"]
            found.append(
                {"timesteps": t, "tppe_area_mm2": area, "tppe_power_mw": power}
                | {"silent_percent": 100 * total(results["silent", t]).silent_ratio}
                | {"chip_area_mm2": report.summary()["area_mm2"], "chip_power_mw": report.summary()["power_mw"]}
                | {"ideal_cycles": cycles(results[IDEAL, t]), "cycles": cycles(report)}
            )
        first = found[0]
        for row in found:
            paper = published("tppe_growth", row["timesteps"])
            paper_area, paper_power = paper["value"] or (None, None)
            row["area_growth"] = row["tppe_area_mm2"] / first["tppe_area_mm2"]
            row["power_growth"] = row["tppe_power_mw"] / first["tppe_power_mw"]
            row |= {"paper_area_growth": paper_area, "paper_power_growth": paper_power, "mark": paper["mark"]}
            row["area_deviation_percent"] = deviation(row["area_growth"], paper_area)
            row["power_deviation_percent"] = deviation(row["power_growth"], paper_power)
            row["cycles_growth"] = row["cycles"] / first["cycles"]
        return found

    return Table(
        "fig16_timesteps",
        "More timesteps, VGG16 (synthetic) (Fig. 16)",
        {
            "timesteps": "T", "tppe_area_mm2": "TPPE [mm2]", "area_growth": "/ T = 4", "paper_area_growth": "paper",
            "area_deviation_percent": "dev. [%]", "tppe_power_mw": "TPPE [mW]", "power_growth": "/ T = 4 ",
            "paper_power_growth": "paper ", "power_deviation_percent": "dev. [%] ", "mark": "mark",
            "chip_area_mm2": "chip [mm2]", "chip_power_mw": "chip [mW]", "silent_percent": "silent [%]",
            "ideal_cycles": "cycles, ideal", "cycles": "cycles, default", "cycles_growth": "/ T = 4  ",
        },
        jobs,
        rows,
        (
            "Area and power grow by the shares that Fig. 16a prints, which are the prices here; constant power.",
            "Silent ratios are an assumption of the inputs, not a result: those of T = 4 for all T. The paper finds "
            "this about right for T = 8 after masking (Fig. 16b) and expects a fall beyond. With them the bitmasks are "
            "the same for all T, so cycles with ideal memory are too; it is the longer words that cost time with real "
            "memory.",
        ),
    )  # fmt: skip


WEIGHT_SPARSITIES = (98.228, 68.4, 25.0)


def figure_17() -> Table:
    vgg16 = {w: network("vgg16", w / 100) for w in WEIGHT_SPARSITIES}
    timesteps = {t: Workload("vgg16-ft", timesteps=t) for t in TIMESTEPS[:2]}
    layers = {"V-L8": Workload("V-L8-ft"), "T-HFF": Workload("T-HFF")}
    sets = (IDEAL, DEFAULT, FITTED)
    jobs: dict[Any, Any] = {(s, w): machine(s, "loas", workload) for s in sets for w, workload in vgg16.items()}
    for s in sets:
        for t, workload in timesteps.items():
            job = machine(s, "loas", workload)
            jobs[s, f"T = {t}"] = Run(job.machine, workload, (*job.overrides, f"timesteps={t}"))
    jobs |= {(s, name): machine(s, "loas", workload) for s in (IDEAL, DEFAULT) for name, workload in layers.items()}

    def rows(results: Mapping[Any, Any]) -> list[Row]:
        found = []

        def add(assumptions: str, what: str, workload: str, key: Any, base: Any, *path: str) -> None:
            summary, before = results[assumptions, key].summary(), results[assumptions, base].summary()
            change = 100 * (before["cycles"] / summary["cycles"] - 1)
            found.append(
                {"set": assumptions, "change": what, "workload": workload, "cycles": summary["cycles"]}
                | {"matches_per_cycle": summary["matches"] / summary["cycles"]}
                | {"utilization_percent": 100 * summary["utilization"]}
                | (against(change, *path) if path or key == base else {"ours": None})
            )

        for s in sets:
            for w in WEIGHT_SPARSITIES:
                path = ("scaling", f"weights_{w:.0f}") if w != WEIGHT_SPARSITIES[0] else ()
                add(s, f"weights {w} % sparse", title("vgg16"), w, WEIGHT_SPARSITIES[0], *path)
            add(s, "T = 4", "VGG16 (synthetic)", "T = 4", "T = 4")
            add(s, "T = 8", "VGG16 (synthetic)", "T = 8", "T = 4", "scaling", "timesteps_doubled")
            if s != FITTED:
                add(s, "layer V-L8, 16 x 512 x 2304", "synthetic", "V-L8", "V-L8")
                add(s, "layer T-HFF, 784 x 3072 x 3072", "synthetic", "T-HFF", "V-L8")
        return found

    return Table(
        "fig17_scaling",
        "Change of performance with weight sparsity, timesteps and layer size [%] (Fig. 17)",
        {"set": "set", "change": "case", "workload": "workload (spikes)", "cycles": "cycles"}
        | {"matches_per_cycle": "matches a cycle", "utilization_percent": "utilization [%]", **AGAINST},
        jobs,
        rows,
        (
            "Performance: 1 / cycles, against 98.2 % sparse weights and against T = 4. Of layers of different size "
            "only matches a cycle can be compared; the paper says that the larger layer `scales well`, without a "
            "number.",
            "The paper's bar at 68.4 % is not readable.",
            SETS_NOTE,
            MARKS_NOTE,
        ),
        figures.scaling,
        (3.5, 2.6),
    )
