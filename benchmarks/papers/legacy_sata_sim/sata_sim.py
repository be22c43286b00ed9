"""SATA_Sim, replicated: the closed forms that its training and inference models compute, faults included.

SATA_Sim (revision d447058) is the tool behind SATA (Yin et al., TCAD 2022): 128 processing elements that keep the
membrane potential, weights fetched once for all timesteps, spikes gating operations. It reads no spikes but one average
sparsity. Its numbers are worth having to compare with; they are not what archsim computes. Written from its formulas.

**Training** (back-propagation through time). A layer has W weights, a map of H inputs and E outputs (1 if linear),
O = N E outputs, and I = C H / b words of b bits for its 1-bit inputs; T timesteps. ``training_counts`` holds the
formulas. Energies [pJ] are the operations' for 16 bits, times b/16 in the forward pass.

**Inference.** R x C = 16 x 8 elements; P output pixels without padding, P' with padding 1; Kd = kernel times input
channels; N outputs; outputs are stationary for cycles per timestep, weights for what happens once::

    F_o = ceil(P/R) ceil(N/C)      cycles_os = F_o (Kd + R + C - 2) - 1
    F_w = ceil(Kd/R) ceil(N/C)     cycles_ws = (F_w - 1)(2 R + P + C - 2) + R - 1
    cycles = T cycles_os + cycles_ws, layer after layer

SRAM: P Kd ceil(N/C) ifmap reads, Kd N weight reads, P N + (R + C) F_o ofmap writes. DRAM: Kd N weight reads, P N ofmap
writes (7 more if they fill half of the buffer: where that begins is inferred), and ifmap reads. Those are H W C while
they fill less than half of the buffer; larger ones the tool takes from SCALE-Sim's replay of its prefetcher, for which
there is no closed form: the network file says what was measured (``dram_ifmap_reads``), else H W C is used, too few by
10 to 112 times in the tool's own results, and ``dram_ifmap_reads_source`` says so.

What is wrong in the tool and kept here, and what archsim does instead:

- Training: the forward MACs of a linear layer *replace* those of all layers before it, and linear layers know no
  sparsity. archsim's counts come from agents that do the work, and a conservation law holds (``report/invariants.py``).
- Training: ``surrogate_gradients`` (s_df) is read and not used; backward spikes are counted in words of the *forward*
  width; a multiplier costs in proportion to its bits. archsim: one price for one named action (``cost/table.py``).
- Training: buffers are infinite, nothing leaks, and each operand is fetched once for each use.
  archsim: caches with misses, leakage (``hardware/memory``, ``cost/pricing.py``).
- Layers of unknown type are passed over in silence. Here the report names them; archsim refuses a trace like that.
- Sparsity saves no cycle and no access, and one number stands for all layers. archsim replays spikes.
- Ungated power is charged for every cycle to all 128 elements, comparators of the neurons included. archsim charges
  actions, and idle power where a table says so.
- Cycles and accesses ignore padding, operations assume padding 1. archsim: one schedule drives all three.
- A MAC toggles all 9 bytes of the weight scratchpad; an SRAM's energy for 32 bytes, and a DRAM's for a burst, is
  charged for each byte. archsim: energy by port width (``cost/sram.py``), DRAM by rows and bursts
  (``hardware/memory/dram.py``).
- One bank leaks, not all. archsim prices every instance.
- SRAM ifmap reads are not multiplied by T (spikes are read once for all timesteps), ofmap writes are.
- No membrane traffic, pooling or residual connection. archsim has the operations of ``workloads/README.md``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import ceil, prod
from pathlib import Path
from typing import Any, Self

from legacy_network import (
    CONVOLUTION,
    LINEAR,
    Counter,
    Layer,
    Network,
    Sparsity,
    added,
    counter_rows,
    skipped_note,
)
from pydantic import Field, model_validator

from archsim.hardware.loading import Block, CrossFieldError, load_block

CONSTANTS, TABLE = Path(__file__).parent / "constants", "a table of constants"


class SataNetwork(Network):
    """A network for SATA_Sim, training."""

    @model_validator(mode="after")
    def _has_a_known_layer(self) -> Self:
        if not self.known:
            allowed = f"{CONVOLUTION}, {LINEAR}"
            raise CrossFieldError({"layers": f"no layer has a type that the tool knows; allowed: {allowed}"})
        return self

    @property
    def known(self) -> list[Layer]:
        """The layers that the tool does not pass over."""
        return [layer for layer in self.layers if layer.is_convolution or layer.is_linear]

    @property
    def skipped(self) -> list[Layer]:
        """The layers that it passes over."""
        return [layer for layer in self.layers if layer not in self.known]


class SataInferenceNetwork(SataNetwork):
    """A network for SATA_Sim, inference: which ignores padding, so that kernels must fit the bare input."""

    @model_validator(mode="after")
    def _kernels_fit(self) -> Self:
        problems = {
            f"layers.{i}.kernel": "is larger than the input, whose padding the tool ignores in inference"
            for i, layer in enumerate(self.layers)
            if layer.is_convolution and any(k > side for k, side in zip(layer.kernel, layer.input, strict=True))
        }
        if problems:
            raise CrossFieldError(problems)
        return self


# ------------------------------------------------------------------------------------------------------------ training


class OperationEnergies(Block):
    """Logic [pJ an operation]."""

    multiply: float
    accumulate: float
    add: float
    logical_and: float
    compare: float
    multiplex: float
    register_: float = Field(alias="register")
    shift: float


class AccessEnergies(Block):
    """Memories [pJ an access]."""

    dram: float
    glb: float
    spad: float


class TrainingConstants(Block):
    """``constants/training.yaml``."""

    operation_bits: int
    operation_pj: OperationEnergies
    access_pj: AccessEnergies

    @property
    def mac_pj(self) -> float:
        """A MAC of an ANN, the unit of the tool's results [pJ]."""
        return self.operation_pj.multiply + self.operation_pj.accumulate

    def energies(self, forward_bits: int) -> dict[str, float]:
        """The price of each counter [pJ]."""
        op, access = self.operation_pj, self.access_pj
        part = forward_bits / self.operation_bits
        spike_mac = op.accumulate + op.logical_and
        return {
            "lif": (op.add + op.compare + 2 * op.multiplex + 3 * op.register_ + op.shift) * part,
            "mac_fwd": spike_mac * part,
            "pgu": op.multiply + 2 * op.add + op.multiplex + 2 * op.shift,
            "mac_bwd": self.mac_pj,
            "mac_wup": spike_mac,
            "dram_fwd": access.dram * part,
            "glb_fwd": access.glb * part,
            "spad_fwd": access.spad * part,
            **{f"{level}_{stage}": pj for stage in ("bwd", "wup") for level, pj in access.model_dump().items()},
        }


@dataclass(frozen=True)
class Training:
    """What the training model says; energies in pJ, ``mac`` in multiples of one ANN MAC."""

    network: SataNetwork
    mac_pj: float
    counters: dict[str, Counter]
    layers: dict[str, dict[str, Counter]]
    overwritten_mac_fwd: float

    def energy_pj(self, *names: str) -> float:
        """The energy of these counters, or of all."""
        return added(self.counters[name].energy for name in names or self.counters)

    @property
    def totals(self) -> dict[str, float]:
        """Energy of the stages and of all."""
        mac = self.mac_pj
        compute = self.energy_pj("lif", "mac_fwd") / mac
        memory = self.energy_pj("dram_fwd", "glb_fwd", "spad_fwd") / mac
        return {
            "forward_compute_mac": compute,
            "forward_memory_mac": memory,
            "forward_mac": compute + memory,
            "backward_mac": self.energy_pj("pgu", "mac_bwd", "dram_bwd", "glb_bwd", "spad_bwd") / mac,
            "weight_update_mac": self.energy_pj("mac_wup", "dram_wup", "glb_wup", "spad_wup") / mac,
            "total_mac": self.energy_pj() / mac,
            "total_pj": self.energy_pj(),
        }

    def report(self) -> dict[str, Any]:
        """Everything, for JSON."""
        network = self.network
        notes = skipped_note(network.skipped)
        if self.overwritten_mac_fwd:
            notes.append(f"linear layers replace {self.overwritten_mac_fwd:,.0f} forward MACs of those before them")
        return {
            "tool": "SATA_Sim, training",
            "network": network.name,
            "timesteps": network.timesteps,
            "sparsity": network.sparsity.model_dump(),
            "precision_bits": {"forward": network.precision.forward},
            "mac_pj": self.mac_pj,
            "totals": self.totals,
            "counters": counter_rows(self.counters, "pj"),
            "layers": [{"layer": name, "counters": counter_rows(c, "pj")} for name, c in self.layers.items()],
            "skipped": [layer.name for layer in network.skipped],
            "notes": notes,
        }


def training_counts(layer: Layer, timesteps: int, forward_bits: int, sparsity: Sparsity) -> dict[str, float]:
    """How often each thing happens in a layer."""
    t, w = timesteps, layer.weights
    outputs = layer.out_channels * prod(layer.output)
    inputs = layer.in_channels * prod(layer.input) / forward_bits
    spiking = 1 - sparsity.spikes if layer.is_convolution else 1
    flowing = 1 - sparsity.potential_gradients if layer.is_convolution else 1
    return {
        "lif": outputs * t,
        "mac_fwd": spiking * w * prod(layer.output) * t,
        "pgu": outputs * t,
        "mac_bwd": flowing * w * prod(layer.input) * t,
        "mac_wup": spiking * w * prod(layer.output) * t,
        "dram_fwd": w + t * (outputs + inputs),
        "glb_fwd": 2 * (w + t * (outputs + inputs)),
        "spad_fwd": 2 * (w + t * inputs),
        "dram_bwd": t * (outputs + inputs),
        "glb_bwd": 7 * t * outputs + 2 * t * inputs + w,
        "spad_bwd": w + t * outputs,
        "dram_wup": 2 * w,
        "glb_wup": 2 * (1 + t) * w + t * (inputs + outputs),
        "spad_wup": 2 * (1 + t) * w + t * (inputs + outputs) + 2 * t * w,
    }


def training(network: SataNetwork, constants: TrainingConstants | None = None) -> Training:
    """The training model of ``network``; constants other than the tool's for a what-if."""
    constants = constants or load_block(CONSTANTS / "training.yaml", TrainingConstants, TABLE)
    bits, t = network.precision.forward, network.timesteps
    prices = constants.energies(bits)
    counts = {layer.name: training_counts(layer, t, bits, network.sparsity) for layer in network.known}
    total = {name: added(count[name] for count in counts.values()) for name in prices}
    all_forward = total["mac_fwd"]
    total["mac_fwd"] = 0
    for layer in network.known:
        own = counts[layer.name]["mac_fwd"]
        total["mac_fwd"] = own if layer.is_linear else total["mac_fwd"] + own
    return Training(
        network,
        constants.mac_pj,
        {name: Counter(n, prices[name]) for name, n in total.items()},
        {layer: {name: Counter(n, prices[name]) for name, n in count.items()} for layer, count in counts.items()},
        all_forward - total["mac_fwd"],
    )


# ----------------------------------------------------------------------------------------------------------- inference


class Array(Block):
    """The processing elements."""

    rows: int = Field(ge=1)
    columns: int = Field(ge=1)
    pes: int = Field(ge=1)


class Power(Block):
    """A component of a processing element [mW]."""

    ungated: float
    gated: float
    leakage: float


class Components(Block):
    """The components of a processing element."""

    spike_mac: Power
    lif: Power
    spad: Power


class Sram(Block):
    """A global buffer: energy of an access [pJ], leakage of one bank [mW]."""

    dynamic_pj: float
    leakage_mw: float


class Srams(Block):
    """The global buffers."""

    ifmap: Sram
    ofmap: Sram
    weight: Sram


class SramBytes(Block):
    """Capacities [bytes]."""

    ifmap: int
    ofmap: int


class InferenceConstants(Block):
    """``constants/inference.yaml``."""

    clock_hz: int = Field(ge=1)
    array: Array
    power_mw: Components
    dram_pj: float
    sram_bytes: SramBytes
    sram: Srams


@dataclass(frozen=True)
class LayerAccesses:
    """Cycles, accesses and operations of a layer; ``macs`` are dense, ``macs`` and ``neurons`` those of a timestep."""

    layer: str
    cycles_os: int
    cycles_ws: int
    cycles: int
    sram_ifmap_reads: int
    sram_weight_reads: int
    sram_ofmap_writes: int
    dram_ifmap_reads: int
    dram_ifmap_reads_source: str
    dram_weight_reads: int
    dram_ofmap_writes: int
    macs: int
    neurons: int


_SUMMED = [field.name for field in fields(LayerAccesses) if field.type == "int"]


@dataclass(frozen=True)
class Inference:
    """What the inference model says; energies in nJ."""

    network: SataInferenceNetwork
    clock_hz: int
    accesses: tuple[LayerAccesses, ...]
    counters: dict[str, Counter]
    layers: dict[str, dict[str, Counter]]

    @property
    def sums(self) -> dict[str, int]:
        """Each column of ``accesses``, added up."""
        return {name: sum(getattr(row, name) for row in self.accesses) for name in _SUMMED}

    def energy_nj(self, prefix: str) -> float:
        """The energy of the counters whose names begin with ``prefix`` and a dot."""
        return added(c.energy for name, c in self.counters.items() if name.startswith(f"{prefix}."))

    @property
    def totals(self) -> dict[str, float]:
        """Time, operations, energies."""
        lif, spad, mac = (self.energy_nj(component) for component in ("lif", "spad", "spike_mac"))
        compute, dram = lif + spad + mac, self.energy_nj("dram")
        sram = sum(self.energy_nj(f"sram.{buffer}") for buffer in ("ifmap", "ofmap", "weight"))
        return {
            "cycles": self.sums["cycles"],
            "latency_s": self.sums["cycles"] / self.clock_hz,
            "mac_operations": self.counters["spike_mac.gated"].n,
            "lif_operations": self.counters["lif.gated"].n,
            "lif_nj": lif,
            "spad_nj": spad,
            "spike_mac_nj": mac,
            "compute_nj": compute,
            "dram_nj": dram,
            "sram_nj": sram,
            "memory_nj": dram + sram,
            "total_nj": compute + (dram + sram),
        }

    def report(self) -> dict[str, Any]:
        """Everything, for JSON."""
        network = self.network
        guessed = [row.layer for row in self.accesses if row.dram_ifmap_reads_source.startswith("too few")]
        notes = skipped_note(network.skipped)
        if guessed:
            notes.append(f"too few DRAM ifmap reads: {', '.join(guessed)} spill, and no measurement is given")
        return {
            "tool": "SATA_Sim, inference",
            "network": network.name,
            "timesteps": network.timesteps,
            "sparsity": {"spikes": network.sparsity.spikes},
            "precision_bits": network.precision.model_dump(exclude={"forward"}),
            "totals": self.totals,
            "counters": counter_rows(self.counters, "nj"),
            "sums": self.sums,
            "layers": [{**vars(row), "counters": counter_rows(self.layers[row.layer], "nj")} for row in self.accesses],
            "skipped": [layer.name for layer in network.skipped],
            "notes": notes,
        }


def layer_accesses(layer: Layer, timesteps: int, constants: InferenceConstants) -> LayerAccesses:
    """Cycles, accesses and operations of a layer, by the closed forms above."""
    rows, columns = constants.array.rows, constants.array.columns
    sides = list(zip(layer.input, layer.kernel, strict=True))
    pixels = prod(ceil((side - k + layer.stride) / layer.stride) for side, k in sides)
    padded = prod((side + 2 - k) // layer.stride + 1 for side, k in sides) if layer.is_convolution else 1
    n, depth = layer.out_channels, layer.in_channels * prod(layer.kernel)
    over_columns = ceil(n / columns)
    folds_os, folds_ws = ceil(pixels / rows) * over_columns, ceil(depth / rows) * over_columns
    cycles_os = folds_os * (depth + rows + columns - 2) - 1
    cycles_ws = (folds_ws - 1) * (2 * rows + pixels + columns - 2) + rows - 1
    ifmap = prod(layer.input) * layer.in_channels
    if layer.dram_ifmap_reads is not None:
        ifmap_reads, source = layer.dram_ifmap_reads, "measured, from the network file"
    elif 2 * ifmap < constants.sram_bytes.ifmap:
        ifmap_reads, source = ifmap, "closed form H W C"
    else:
        ifmap_reads, source = ifmap, "too few: closed form H W C of a map that spills"
    spills = 2 * pixels * n >= constants.sram_bytes.ofmap
    return LayerAccesses(
        layer=layer.name,
        cycles_os=cycles_os,
        cycles_ws=cycles_ws,
        cycles=timesteps * cycles_os + cycles_ws,
        sram_ifmap_reads=pixels * depth * over_columns,
        sram_weight_reads=depth * n,
        sram_ofmap_writes=pixels * n + (rows + columns) * folds_os,
        dram_ifmap_reads=ifmap_reads,
        dram_ifmap_reads_source=source,
        dram_weight_reads=depth * n,
        dram_ofmap_writes=pixels * n + (7 if spills else 0),
        macs=n * padded * depth,
        neurons=n * padded,
    )


def inference(network: SataInferenceNetwork, constants: InferenceConstants | None = None) -> Inference:
    """The inference model of ``network``; constants other than the tool's for a what-if."""
    constants = constants or load_block(CONSTANTS / "inference.yaml", InferenceConstants, TABLE)
    accesses = tuple(layer_accesses(layer, network.timesteps, constants) for layer in network.known)
    layers = {row.layer: _inference_counters(vars(row), network, constants) for row in accesses}
    sums = {name: sum(getattr(row, name) for row in accesses) for name in _SUMMED}
    return Inference(
        network, constants.clock_hz, accesses, _inference_counters(sums, network, constants, whole=True), layers
    )


def _inference_counters(
    row: dict[str, Any], network: SataInferenceNetwork, constants: InferenceConstants, *, whole: bool = False
) -> dict[str, Counter]:
    """Counters of a layer or, ``whole``, of the network, whose MACs the tool truncates to an integer."""
    t, cycles, bits = network.timesteps, row["cycles"], network.precision
    cycle_us = 1e6 / constants.clock_hz  # and mW times us are nJ
    macs = row["macs"] * t * (1 - network.sparsity.spikes)
    neurons = row["neurons"] * t
    power = constants.power_mw
    counters = {}
    for name, n, of in (("lif", neurons, power.lif), ("spad", macs, power.spad), ("spike_mac", macs, power.spike_mac)):
        counters[f"{name}.gated"] = Counter(int(n) if whole else n, of.gated * cycle_us)
        counters[f"{name}.ungated"] = Counter(cycles, of.ungated * constants.array.pes * cycle_us)
        counters[f"{name}.leakage"] = Counter(cycles, of.leakage * constants.array.pes * cycle_us)
    dram_nj, sram = constants.dram_pj / 1e3, constants.sram
    counters["dram.ifmap"] = Counter(row["dram_ifmap_reads"], dram_nj * bits.spikes / 8)
    counters["dram.weight"] = Counter(row["dram_weight_reads"], dram_nj * bits.weights / 8)
    counters["dram.ofmap"] = Counter(row["dram_ofmap_writes"], dram_nj * bits.outputs / 8)
    for buffer, memory, n, width in (
        ("ifmap", sram.ifmap, row["sram_ifmap_reads"], bits.spikes),
        ("ofmap", sram.ofmap, row["sram_ofmap_writes"] * t, bits.outputs),
        ("weight", sram.weight, row["sram_weight_reads"], bits.weights),
    ):
        counters[f"sram.{buffer}.dynamic"] = Counter(n, memory.dynamic_pj / 1e3 * width / 8)
        counters[f"sram.{buffer}.leakage"] = Counter(cycles, memory.leakage_mw * cycle_us)
    return counters
