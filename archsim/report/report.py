"""What one run of a trace on a machine found."""

from __future__ import annotations

import html
import importlib.metadata
import math
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsim._version import __version__
from archsim.engine.recording import Window
from archsim.engine.result import CoreLoad, Coverage, LayerResult, LinkLoad
from archsim.errors import printable
from archsim.report import files, invariants, terminal, timeline
from archsim.report.dram import DeclaredDram, achieved_gb_s, bound_by
from archsim.report.pictures import Pictures
from archsim.report.verdict import listed, percent, verdict

if TYPE_CHECKING:
    import pandas as pd

    from archsim.cost import AreaRow, EnergyRow, PriceRow
    from archsim.report.evidence import Evidence

TRAFFIC_SUMS = tuple(f"{level}_{direction}_bytes" for level in ("dram", "sram") for direction in ("read", "write"))
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "layers": (
        *("layer", "op", "m", "n", "k", "timesteps", "cycles", "compute_cycles", "stall_cycles"),
        *("lower_bound_cycles", "latency_s", "utilization", "matches", "synaptic_operations", "performed_operations"),
        *("mismatches", "energy_pj", "estimate_pj", *TRAFFIC_SUMS, "dram_gb_s", "dram_utilization", "bound_by"),
    ),
    "traffic": ("layer", "level", "tensor", "direction", "bytes", "accesses"),
    "energy": ("layer", "unit", "action", "count", "energy_pj"),
    "area": ("unit", "instances", "area_mm2", "source"),
    "units": ("layer", "unit", "instance", "busy_cycles", "stall_cycles", "idle_cycles"),
}

SOME_HAVE: Mapping[str, tuple[str, ...]] = {
    "timesteps": ("layer", "timestep", "unit", "action", "count", "energy_pj"),
    "cores": ("layer", *CoreLoad._fields),
    "links": ("layer", *LinkLoad._fields),
}
"""Tables of machines that split their actions by timestep, and of those with a mesh of cores."""
_ALL = {**COLUMNS, **SOME_HAVE}


@dataclass(frozen=True, repr=False)
class Report:
    """One run: what was run, the layers in order, and what they cost.

    ``covered`` says how much of the network that is, ``verify`` whether outputs were to be compared with the trace's.
    ``energy`` holds the energy rows of each layer, in the order of ``layers``; ``prices`` are those of the machine.
    Where layers run one after the other ``cycles`` of the run is their sum, where they overlap the sum of their shares
    of it, and always ``latency_s = cycles / (clock_mhz * 1e6)``, for all ``images`` of the trace together. ``resolved``
    is the whole machine as YAML.
    ``compulsory_read_bytes`` says by layer name how many bytes must be read from DRAM at least once. ``warnings`` say
    what is doubtful about the run. ``hardware`` and ``trace`` are the files as they were given, ``overrides`` what was
    changed of the machine's, ``description`` and ``fitted`` what its file says of it; ``sram_size_kib`` is the capacity
    of its memories, tags and registers apart. Where it is not ``exact``, outputs may differ from the trace's. ``moved``
    says by name how many values of the trace are wrong behind an operation on the way of layers, which none computes.
    ``findings`` are what else it told, and go into the summary. ``timeline`` is the window of the run that was
    recorded, if any. Of the network alone tell ``estimates`` (by layer, the energy [pJ] that papers would estimate) and
    ``operations`` (by layer, additions and multiplications, zeros included), both of all images; ``read_out``, its last
    layer; and ``network``, what the summary says of it. ``evidence`` says what the results rest on; ``dram`` what was
    declared of DRAM, None where memory is ideal. A Report that contradicts itself cannot be made: see
    :mod:`archsim.report.invariants`.
    """

    accelerator: str
    workload: str
    engine: str
    trace_sha256: str
    resolved: str
    clock_mhz: float
    images: int
    layers: tuple[LayerResult, ...]
    energy: tuple[Sequence[EnergyRow], ...]
    area: Sequence[AreaRow]
    covered: Coverage
    prices: Sequence[PriceRow] = ()
    verify: bool = True
    labels: Mapping[str, Any] = field(default_factory=dict)
    compulsory_read_bytes: Mapping[str, int] = field(default_factory=dict)
    timeline: Window | None = None
    warnings: tuple[str, ...] = ()
    hardware: str = ""
    trace: str = ""
    hardware_sha256: str = ""
    cost_table_sha256: str = ""
    overrides: tuple[str, ...] = ()
    description: str = ""
    fitted: bool = False
    sram_size_kib: float = 0.0
    exact: bool = True
    moved: Mapping[str, int] = field(default_factory=dict)
    findings: Mapping[str, Any] = field(default_factory=dict)
    estimates: Mapping[str, float] = field(default_factory=dict)
    operations: Mapping[str, int] = field(default_factory=dict)
    read_out: str = ""
    network: Mapping[str, Any] = field(default_factory=dict)
    evidence: Sequence[Evidence] = ()
    dram: DeclaredDram | None = None

    def __post_init__(self) -> None:
        invariants.check(self)

    def __repr__(self) -> str:
        told = self._told()
        return f"<Report: {self.workload} on {self.accelerator}, {', '.join(told)}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the key numbers, the layers with the columns that people see first, and doubts."""
        head = html.escape(f"{self.workload} on {self.accelerator}")
        told = html.escape("; ".join(self._told()))
        doubtful = "".join(f"<p>{html.escape(warning)}</p>" for warning in self.warnings)
        table = terminal.html_table(self.shown(), self.rows_with_totals())
        return f"<p><b>{head}</b>: {told}</p>{table}{doubtful}"

    def _told(self) -> list[str]:
        """Key numbers for people."""
        cycles = f"{self.summary()['cycles']:,} cycles"
        return [cycles, self.per_image(), terminal.quantity("area_mm2", self.summary()["area_mm2"]), verdict(self).text]

    def per_image(self) -> str:
        """Time and energy of an image, and how many images a second: the totals divided by the images."""
        summary = self.summary()
        totals = {name: terminal.quantity(name, summary[name] / self.images) for name in ("latency_s", "energy_pj")}
        rate = terminal.quantity("images_per_s", summary["images_per_s"])
        whose = f"each of {self.images} images" if self.images > 1 else "one image"
        whose += ", its simulated layers" * (self.coverage < 1)
        told = f"{whose}: {totals['latency_s']}, {totals['energy_pj']}; {rate.removesuffix(' 1/s')} images/s"
        return f"{told}; {self.synthetic} synthetic" if self.synthetic else told

    def as_estimated(self) -> str:
        """What papers would estimate for an image, and how the simulated energy compares; nothing of training."""
        summary, used = self.summary(), self.network.get("estimate", {})
        if not summary["estimate_pj"]:
            return ""
        prices = (
            f"{used['technology_nm']} nm, {used['pj_per_accumulation']:g} pJ per AC, "
            f"{used['pj_per_multiply_accumulate']:g} pJ per MAC"
        )
        own, whole = (terminal.quantity("_pj", pj / self.images) for pj in (summary["estimate_pj"], used["energy_pj"]))
        ratio = terminal.quantity("ratio", summary["energy_over_estimate"])
        macs = used["multiply_accumulates"] * used["pj_per_multiply_accumulate"] / used["energy_pj"]
        share = f" ({percent(macs)} of it MACs)" * (macs > 0)
        told = f"estimated as in papers ({prices}): {own}"
        if self.coverage < 1:
            return f"{told}, simulated {ratio} times that; {whole} for the whole network{share}"
        return f"{told}{share}, simulated {ratio} times that"

    def as_moved(self) -> str:
        """The bandwidth that DRAM reached against the declared one, and which layers its latency bound."""
        if self.dram is None:
            return ""
        reached, declared = self.summary()["dram_gb_s"], self.dram.bandwidth_gb_s
        told = f"DRAM: {reached:.3g} of {declared:g} GB/s ({percent(reached / declared)})"
        bound = list(dict.fromkeys(row["layer"] for row in self._layer_rows() if row["bound_by"] == "latency"))
        return f"{told}; bound by latency: {listed(bound)}" if bound else told

    @property
    def synthetic(self) -> str:
        """What of the network is random: ``the spikes and weights are``, or nothing of a trained one."""
        labels = (("spikes", "kind"), ("weights", "weights"))
        random = [what for what, label in labels if self.labels.get(label) == "synthetic"]
        return f"the {' and '.join(random)} are" if random else ""

    def shown(self) -> tuple[str, ...]:
        """The columns of the layers that people see first."""
        wrong = ("mismatches",) * any(layer.mismatches for layer in self.layers)
        return (
            *("layer", "cycles", "stall_cycles", "utilization", "energy_pj", "dram_read_bytes", "dram_write_bytes"),
            *wrong,
        )

    def rows_with_totals(self) -> list[dict[str, Any]]:
        """Rows of the layers, then the total of all images and, where there are several, what one of them takes."""
        summary = self.summary()
        several = self.images > 1
        total = {**summary, "layer": f"total, {self.images} images" if several else "total"}
        parts = ("cycles", "stall_cycles", "energy_pj", "dram_read_bytes", "dram_write_bytes")
        image = {name: summary[name] / self.images for name in parts} | {"layer": "per image"}
        columns = self.shown()
        found = [*self.rows("layers"), total, *([image] if several else [])]
        return [{name: row.get(name) for name in columns} for row in found]

    def plot(self) -> Pictures:
        """The figures of the run, for a notebook to show."""
        return Pictures(self.texts())

    @property
    def coverage(self) -> float:
        """Share of the network's synaptic operations that was simulated, 0 to 1."""
        return self.covered.share

    @property
    def left_out(self) -> list[dict[str, Any]]:
        """Every operation of the network that was not simulated: its name as ``layer``, the ``reason`` and its
        ``share`` of the network's synaptic operations."""
        return [{"layer": one.layer, "reason": one.reason, "share": one.share} for one in self.covered.left_out]

    def summary(self) -> dict[str, Any]:
        """The totals of the run, as in ``summary.json``, and ``engine_wall_s``, which no two runs share.

        ``verified`` is true when every output that was compared equals the trace's, false when one differs, and None
        when none of a layer was compared; ``layers_verified`` says how many layers were. ``labels`` are what the trace
        says about its training. ``events`` counts noteworthy things, such as accumulator overflows.
        """
        cycles = sum(layer.share for layer in self.layers)
        computing = [layer.compute_cycles for layer in self.layers]
        compute_cycles = sum(computing) if self._in_sequence() else max(computing)
        latency_s = self._seconds(cycles)
        energy_pj = math.fsum(row["energy_pj"] for row in self._energy_rows())
        area_mm2 = math.fsum(row.area_mm2 for row in self.area)
        operations = self.covered.synaptic_operations
        ran = {layer.layer for layer in self.layers}
        estimates = [pj for name, pj in self.estimates.items() if name in ran]
        estimate_pj = math.fsum(estimates) if estimates else None
        dense = sum(count for name, count in self.operations.items() if name in ran)
        response = self._first_response()
        compared = [layer.mismatches for layer in self.layers if layer.mismatches is not None]
        wrong = sum(compared) + sum(self.moved.values())
        return {
            "accelerator": self.accelerator,
            "description": self.description,
            "fitted": self.fitted,
            "hardware": self.hardware,
            "overrides": list(self.overrides),
            "workload": self.workload,
            "trace": self.trace,
            "labels": dict(self.labels),
            "evidence": [one._asdict() for one in self.evidence],
            "engine": self.engine,
            "archsim_version": __version__,
            "trace_sha256": self.trace_sha256,
            "hardware_sha256": self.hardware_sha256,
            "cost_table_sha256": self.cost_table_sha256,
            "images": self.images,
            "timesteps": max((layer.timesteps for layer in self.layers), default=0),
            **self._same_variant(),
            "layers": len(self.layers),
            "coverage": self.coverage,
            "left_out": self.left_out,
            "synaptic_operations": operations,
            "clock_mhz": self.clock_mhz,
            "cycles": cycles,
            "compute_cycles": compute_cycles,
            "stall_cycles": cycles - compute_cycles,
            "latency_s": latency_s,
            "images_per_s": self.images / latency_s if cycles else None,
            "first_response_cycles": response,
            "first_response_s": None if response is None else self._seconds(response),
            "utilization": sum(layer.utilization * layer.cycles for layer in self.layers) / cycles if cycles else 0.0,
            "matches": sum(layer.matches for layer in self.layers),
            "performed_operations": sum(layer.performed_operations for layer in self.layers),
            "energy_pj": energy_pj,
            "leakage_pj": math.fsum(row["energy_pj"] for row in self._energy_rows() if row["action"] == "leakage"),
            "power_mw": energy_pj * 1e-9 / latency_s if cycles else 0.0,
            "energy_per_image_pj": energy_pj / self.images,
            "pj_per_synaptic_operation": energy_pj / operations if operations else None,
            "tops": dense * 1e-12 / latency_s if dense and cycles else None,
            "tops_per_w": dense / energy_pj if dense and energy_pj else None,
            "estimate_pj": estimate_pj,
            "energy_over_estimate": energy_pj / estimate_pj if estimate_pj else None,
            **self._energy_by_timestep(),
            "energy_by_unit_pj": self._energy_by("unit"),
            **{f"energy_by_{name}_pj": self._energy_by(name) for name, v in self._variants().items() if len(v) > 1},
            "area_mm2": area_mm2,
            "edap_j_s_mm2": energy_pj * 1e-12 * latency_s * area_mm2,
            "sram_size_kib": self.sram_size_kib,
            **{name: sum(_traffic_sums(layer)[name] for layer in self.layers) for name in TRAFFIC_SUMS},
            "dram_bandwidth_gb_s": self.dram.bandwidth_gb_s if self.dram else None,
            **self._reached(sum(map(_dram_bytes, self.layers)), latency_s),
            "events": self._events(),
            "verified": not wrong if compared or wrong else None,
            "layers_verified": len(compared),
            "mismatches": wrong if compared or wrong else None,
            "engine_wall_s": sum(layer.engine_wall_s for layer in self.layers),
            **self.findings,
            **self.network,
        }

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Rows of the table ``name``: one of :data:`COLUMNS` or of :data:`SOME_HAVE`."""
        match name:
            case "layers":
                return list(self._layer_rows())
            case "traffic":
                return [_row(name, layer, row) for layer in self.layers for row in layer.traffic]
            case "energy":
                return list(self._energy_rows())
            case "area":
                return [
                    {column: getattr(row, column) for column in COLUMNS[name]} | self._same_variant()
                    for row in self.area
                ]
            case "timesteps":
                return list(self._timestep_rows())
            case "units" | "cores" | "links":
                return [_row(name, layer, row) for layer in self.layers for row in getattr(layer, name)]
        raise KeyError(name)

    def columns(self, name: str) -> tuple[str, ...]:
        """Columns of the table ``name``: the usual ones, variants of the results, and in ``layers`` kinds of events."""
        events = self._events() if name == "layers" else ()
        return (
            *_ALL[name],
            *(self._same_variant() if name == "area" else self._variants()),
            *events,
        )

    def frame(self, name: str) -> pd.DataFrame:
        """The table ``name`` as a pandas DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.rows(name), columns=list(self.columns(name))).convert_dtypes()

    def texts(self) -> dict[str, str]:
        """Every file of the results folder: name -> content."""
        summary = self.summary()
        # In a file of its own, so that equal runs write equal bytes into all others.
        timing = {"engine_wall_s": summary.pop("engine_wall_s")}
        texts = {"summary.json": files.json_text(summary), "timing.json": files.json_text(timing)}
        texts |= {f"{name}.csv": files.csv_text(self.rows(name), self.columns(name)) for name in COLUMNS}
        some = {name: self.rows(name) for name in SOME_HAVE}
        texts |= {f"{name}.csv": files.csv_text(rows, self.columns(name)) for name, rows in some.items() if rows}
        texts["resolved.yaml"] = self._provenance() + self.resolved
        if self.timeline:
            texts["timeline.json"] = timeline.trace_events(self.layers, self.timeline)
        return texts

    def write(self, folder: str | Path) -> None:
        """Write the results folder; an earlier one of archsim's is replaced. UsageError if that cannot be done."""
        with files.results_folder(folder) as partial:
            files.write_texts(partial, self.texts())

    def _first_response(self) -> int | None:
        """Cycles until the first timestep of the first image is read out; None where the read-out was not simulated."""
        begin = 0
        for layer in self.layers:
            if layer.layer == self.read_out:
                took = layer.cycles if layer.response_cycles is None else layer.response_cycles
                return took + (begin if layer.start_cycle is None else layer.start_cycle)
            begin += layer.share
        return None

    def _in_sequence(self) -> bool:
        return all(layer.start_cycle is None for layer in self.layers)

    def _seconds(self, cycles: int) -> float:
        return cycles / (self.clock_mhz * 1e6)

    def _events(self) -> dict[str, int]:
        names = sorted({name for layer in self.layers for name in layer.events})
        return {name: sum(layer.events.get(name, 0) for layer in self.layers) for name in names}

    def _variants(self) -> dict[str, list[str]]:
        """Values of every variant column, in the order in which they appear."""
        names = dict.fromkeys(name for layer in self.layers for name in layer.variant)
        return {name: list(dict.fromkeys(layer.variant.get(name, "") for layer in self.layers)) for name in names}

    def _same_variant(self) -> dict[str, str]:
        """Variants that all layers share: those of the machine."""
        return {name: values[0] for name, values in self._variants().items() if len(values) == 1}

    def _energy_by(self, column: str) -> dict[str, float]:
        parts: dict[str, list[float]] = {}
        for row in self._energy_rows():
            parts.setdefault(row.get(column, ""), []).append(row["energy_pj"])
        return {part: math.fsum(energies) for part, energies in parts.items()}

    def _energy_by_timestep(self) -> dict[str, dict[str, float]]:
        """Energy of every timestep, where a machine splits it, and of what belongs to none of them."""
        parts: dict[str, list[float]] = {}
        for row in self._timestep_rows():
            parts.setdefault("none" if row["timestep"] is None else str(row["timestep"]), []).append(row["energy_pj"])
        ordered = sorted(parts, key=lambda part: (len(part), part))
        return {"energy_by_timestep_pj": {part: math.fsum(parts[part]) for part in ordered}} if parts else {}

    def _layer_rows(self) -> Iterator[dict[str, Any]]:
        derived = {"latency_s", "energy_pj", "estimate_pj", *TRAFFIC_SUMS, "dram_gb_s", "dram_utilization", "bound_by"}
        estimates = dict(self.estimates)
        for layer, energy in zip(self.layers, self.energy, strict=True):
            yield {
                **{column: getattr(layer, column) for column in COLUMNS["layers"] if column not in derived},
                "latency_s": self._seconds(layer.cycles),
                "energy_pj": math.fsum(row.energy_pj for row in energy),
                "estimate_pj": estimates.pop(layer.layer, None),  # once, of a layer with several rows
                **_traffic_sums(layer),
                **self._reached(_dram_bytes(layer), self._seconds(layer.cycles)),
                "bound_by": bound_by(layer, self.dram, self._seconds(layer.cycles)) if self.dram else "",
                **layer.variant,
                **{name: layer.events.get(name, 0) for name in self._events()},
            }

    def _reached(self, moved_bytes: int, latency_s: float) -> dict[str, float | None]:
        """The bandwidth that DRAM reached, and its share of the declared one."""
        if self.dram is None:
            return {"dram_gb_s": None, "dram_utilization": None}
        reached = achieved_gb_s(moved_bytes, latency_s)
        return {"dram_gb_s": reached, "dram_utilization": reached / self.dram.bandwidth_gb_s}

    def _energy_rows(self) -> Iterator[dict[str, Any]]:
        for layer, energy in zip(self.layers, self.energy, strict=True):
            for row in energy:
                yield _row("energy", layer, row)

    def _timestep_rows(self) -> Iterator[dict[str, Any]]:
        """Energy rows split by timestep where a machine does it; what belongs to none of them has an empty cell."""
        for layer, energy in zip(self.layers, self.energy, strict=True):
            for row in energy if layer.timestep_counts else ():
                counts = layer.timestep_counts.get((row.unit, row.action), ())
                split = [*enumerate(counts), (None, row.count - sum(counts))]
                for timestep, count in split:
                    if count or timestep is not None:
                        share = row.energy_pj * count / row.count if row.count else 0.0
                        yield _row("energy", layer, row) | {"timestep": timestep, "count": count, "energy_pj": share}

    def _provenance(self) -> str:
        """Comment lines that say what made the results, so that ``resolved.yaml`` is enough to repeat the run."""
        versions = [f"{package} {importlib.metadata.version(package)}" for package in ("numpy", "numba", "simpy")]
        return (
            f"# archsim {__version__}, engine {self.engine}\n"
            f"# Python {platform.python_version()}, {', '.join(versions)}\n"
            f"# workload {printable(self.workload)}, trace sha256 {self.trace_sha256}\n"
            + "".join(f"# evidence of {one.result}: {one.grade} ({one.rests_on})\n" for one in self.evidence)
        )


def _row(name: str, layer: LayerResult, row: object) -> dict[str, Any]:
    return {
        "layer": layer.layer,
        **{column: getattr(row, column) for column in _ALL[name][1:]},
        **layer.variant,
    }


def _dram_bytes(layer: LayerResult) -> int:
    return sum(row.bytes for row in layer.traffic if row.level == "dram")


def _traffic_sums(layer: LayerResult) -> dict[str, int]:
    sums = dict.fromkeys(TRAFFIC_SUMS, 0)
    for row in layer.traffic:
        sums[f"{row.level}_{row.direction}_bytes"] += row.bytes
    return sums
