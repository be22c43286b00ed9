"""SpikeSim's ELA (energy, latency, area), replicated: its formulas, faults included.

SpikeSim (Moitra et al., TCAD 2023; revision c2627bc) is a chip of tiles of 8 PEs of k x k crossbar arrays, one for each
kernel position. Its ELA reads shapes only. Written from its formulas; n is the size of a crossbar array, g = n/8 its
ADCs, D a map's pixels after pooling, L the last layer, k^2 the kernel positions of a layer::

    PEs of a layer   = ceil(C_in / n) ceil(C_out / n)        tiles = ceil(sum of PEs / 8)
    E of a PE-cycle  = htree + fetch + neuron + g [k^2 array + g (adc + mux)] + 16 g sub + g temporary + tile buffer
    E of a layer     = PEs D T times E of a PE-cycle
    area of a PE     = k^2 array + g (adc + mux)
    area of a tile   = g sub + temporary + tile buffer + 8 PEs + htree
    area             = tiles + 22 bits x (sum of C_in D_in + sum over the first five layers of C_out D)
    latency          = 104 ns x T [C_L D_L + sum over the others of floor(0.75 C_out D)]

n changes the PEs and g, and so tiles, energy and area. It does not change the figures of an array, the tile buffer, the
H-tree, the memories or the latency.

Fully connected layers and whatever else is not a convolution have no place in the tool; they are passed over, and named
in the report. Where the tool itself says nothing the formulas are taken further, and the report has ``beyond_the_tool``
true and says why:

- PEs that decrease from one layer to the next: the tool returns nothing and fails in the next line. Here they are
  mapped like all others.
- Kernels that differ or are not square: the tool has one k. Here a layer's PEs have as many arrays as its kernel has
  positions, in energy and area; spare PEs of the last tile are like those of the last layer, and the area of a PE is
  the mean of all.
- Maps that are not square: the tool has one side. Here rows times columns.
- More than twelve layers: the tool's list of twelve shares of 0.75 ends, and it fails. Here the rule goes on.
- Channels that are no multiple of n: for the latency the tool divides without rounding. It gives none where these
  parts of PEs decrease from one layer to the next, and does not end where no layer has a whole PE. Here the latency,
  which does not depend on PEs, is what the formula says.

What is wrong in the tool and kept here, and what archsim does instead:

- Latency counts output *values* as PE-cycles although a PE-cycle yields n of them, and ignores tiles and PEs: latency
  and energy disagree by 31 times in the example. archsim: one schedule gives cycles and actions (``engine``).
- A layer starts when 75 % of the one before is done, whatever they are. archsim: agents wait for what they need.
- The energy of an SRAM array is its area once more. archsim: each price has a unit and a source (``cost/table.py``).
- Figures of an array are for 64 x 64 and do not follow its size.
- g x g conversions a PE-cycle, whatever k is: nine arrays of n columns would need 9 n.
- Sizes after pooling stand for those of a convolution. archsim: pools are operations of their own.
- Membrane memory for the first five layers only; input spikes stored in 22 bits each. archsim: operand widths come with
  the trace (``workloads/README.md``).
- 4-bit weights on 1-bit cells need four columns; the mapping gives them one.
- Dense: no spike is looked at. archsim replays spikes.
- No leakage, no network between tiles. archsim: ``cost/pricing.py``, ``hardware/interconnect``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, prod
from pathlib import Path
from typing import Any, Self

from legacy_network import (
    CONVOLUTION,
    Counter,
    Layer,
    Network,
    Pair,
    added,
    counter_rows,
    skipped_note,
)
from pydantic import Field, model_validator

from archsim.hardware.loading import Block, CrossFieldError, load_block

CONSTANTS = Path(__file__).parent / "constants.yaml"


class SpikesimNetwork(Network):
    """A network for SpikeSim's ELA."""

    @model_validator(mode="after")
    def _has_a_layer(self) -> Self:
        if not self.known:
            raise CrossFieldError({"layers": f"no layer has a type that the tool knows; allowed: {CONVOLUTION}"})
        return self

    @property
    def known(self) -> list[Layer]:
        """The layers that the tool has a place for."""
        return [layer for layer in self.layers if layer.is_convolution]

    @property
    def skipped(self) -> list[Layer]:
        """The layers that it passes over."""
        return [layer for layer in self.layers if not layer.is_convolution]

    def pes(self, layer: Layer) -> int:
        """PEs of a layer."""
        return ceil(layer.in_channels / self.crossbar.size) * ceil(layer.out_channels / self.crossbar.size)

    @property
    def beyond_the_tool(self) -> list[str]:
        """Why the tool itself has no answer for this network; empty if it has one."""
        layers = self.known
        reasons = [
            f"{layer.name} takes {self.pes(layer)} PEs where {before.name} takes {self.pes(before)}: the tool fails if"
            " a layer takes fewer than the one before"
            for before, layer in pairwise(layers)
            if self.pes(layer) < self.pes(before)
        ]
        kernels = list(dict.fromkeys(layer.kernel for layer in layers))
        if len(kernels) > 1 or kernels[0][0] != kernels[0][1]:
            reasons.append(f"kernels {', '.join(map(_sides, kernels))}: the tool has one square kernel for all layers")
        maps = [side for layer in layers for side in (layer.input, layer.pooled) if side[0] != side[1]]
        if maps:
            reasons.append(f"maps {', '.join(map(_sides, dict.fromkeys(maps)))}: the tool's are square")
        if len(layers) > MOST_LAYERS:
            reasons.append(f"{len(layers)} layers: the tool's list of shares ends with {MOST_LAYERS}")
        reasons += [
            f"{layer.name} has fewer input times output channels than {before.name}: the tool gives no latency"
            for before, layer in pairwise(layers)
            if self.filled(layer) < self.filled(before)
        ]
        if all(self.filled(layer) < self.crossbar.size**2 for layer in layers):
            reasons.append("no layer fills a PE: the tool does not end")
        return reasons

    @staticmethod
    def filled(layer: Layer) -> int:
        """Weights of a layer's PEs at one kernel position."""
        return layer.in_channels * layer.out_channels


MOST_LAYERS = 12
"""As many as the tool has shares of 0.75: it looks one up for the last layer too."""


def _sides(sides: Pair) -> str:
    return f"{sides[0]} x {sides[1]}"


class ArrayFigures(Block):
    """A crossbar array."""

    energy_pj: float
    area_um2: float


class Arrays(Block):
    """Crossbar arrays by device."""

    rram: ArrayFigures
    sram: ArrayFigures


class Energies(Block):
    """[pJ a use]."""

    adc: float
    mux: float
    sub: float
    temporary_buffer: float
    tile_buffer: float
    htree: float
    membrane_fetch: float
    neuron: float


class Areas(Block):
    """[um2]."""

    adc: float
    mux: float
    sub: float
    temporary_buffer: float
    tile_buffer_bits: int
    memory_bit: float
    htree: float


class SpikesimConstants(Block):
    """``constants.yaml``."""

    columns_per_adc: int = Field(ge=1)
    pes_per_tile: int = Field(ge=1)
    pe_cycle_ns: float
    overlap: float
    neuron_memory_um2: float
    membrane_layers: int
    crossbar_array: Arrays
    energy_pj: Energies
    area_um2: Areas


@dataclass(frozen=True)
class Ela:
    """What the ELA says. ``uses`` are those of one PE-cycle of a layer; ``areas_um2`` are those of the chip."""

    network: SpikesimNetwork
    pes: dict[str, int]
    tiles: int
    pe_cycles: dict[str, int]
    uses: dict[str, dict[str, Counter]]
    areas_um2: dict[str, float]
    area_um2: float
    pe_area_um2: float
    tile_area_um2: float
    latency_ns: float
    latency_pe_cycles: int

    @property
    def layer_energies_pj(self) -> dict[str, float]:
        """Energy of each layer, all timesteps."""
        return {
            layer: cycles * added(use.energy for use in self.uses[layer].values())
            for layer, cycles in self.pe_cycles.items()
        }

    @property
    def totals(self) -> dict[str, float]:
        """Counts, energy, area, latency; of PE-cycles and PEs the mean.

        ``digital_area_um2`` is what the tool returns under that name.
        """
        named, area = self.areas_um2, self.area_um2
        energy, cycles = added(self.layer_energies_pj.values()), sum(self.pe_cycles.values())
        return {
            "pes": sum(self.pes.values()),
            "tiles": self.tiles,
            "area_um2": area,
            "energy_pj": energy,
            "latency_ns": self.latency_ns,
            "latency_pe_cycles": self.latency_pe_cycles,
            "pe_cycles": cycles,
            "pe_cycle_pj": energy / cycles,
            "pe_area_um2": self.pe_area_um2,
            "tile_area_um2": self.tile_area_um2,
            "digital_area_um2": area - named["membrane"] - named["sub"] - named["htree"],
            "pe_and_sub_area_um2": named["crossbar_array"] + named["adc"] + named["mux"] + named["sub"],
        }

    def report(self) -> dict[str, Any]:
        """Everything, for JSON."""
        network, beyond = self.network, self.network.beyond_the_tool
        counters = {
            layer: {name: Counter(use.n * cycles, use.energy_each) for name, use in self.uses[layer].items()}
            for layer, cycles in self.pe_cycles.items()
        }
        total = {
            name: Counter(sum(each[name].n for each in counters.values()), use.energy_each)
            for name, use in next(iter(counters.values())).items()
        }
        kernels = {_sides(layer.kernel): self.uses[layer.name] for layer in network.known}
        return {
            "tool": "SpikeSim, ELA",
            "network": network.name,
            "timesteps": network.timesteps,
            "crossbar": network.crossbar.model_dump(),
            "beyond_the_tool": bool(beyond),
            "beyond_the_tool_because": beyond,
            "totals": self.totals,
            "counters": counter_rows(total, "pj"),
            "pe_cycle": [
                {"kernel": kernel, **row} for kernel, uses in kernels.items() for row in counter_rows(uses, "pj")
            ],
            "areas": [{"part": p, "area_um2": a, "share": a / self.area_um2} for p, a in self.areas_um2.items()],
            "layers": [
                {
                    "layer": layer,
                    "pes": self.pes[layer],
                    "pe_cycles": cycles,
                    "energy_pj": self.layer_energies_pj[layer],
                    "counters": counter_rows(counters[layer], "pj"),
                }
                for layer, cycles in self.pe_cycles.items()
            ],
            "skipped": [layer.name for layer in network.skipped],
            "notes": [*skipped_note(network.skipped), *(f"beyond the tool: {reason}" for reason in beyond)],
        }


def ela(network: SpikesimNetwork, constants: SpikesimConstants | None = None) -> Ela:
    """Energy, latency and area of ``network``; constants other than the tool's for a what-if."""
    constants = constants or load_block(CONSTANTS, SpikesimConstants, "a table of constants")
    layers, t = network.known, network.timesteps
    array: ArrayFigures = getattr(constants.crossbar_array, network.crossbar.device)
    price, area = constants.energy_pj, constants.area_um2
    g = network.crossbar.size // constants.columns_per_adc
    positions = {layer.name: prod(layer.kernel) for layer in layers}
    # In the order in which the tool adds; arrays are those of a layer's kernel.
    same = {
        "htree": Counter(1, price.htree),
        "membrane_fetch": Counter(1, price.membrane_fetch),
        "neuron": Counter(1, price.neuron),
        "crossbar_array": Counter(0, array.energy_pj),
        "adc": Counter(g * g, price.adc),
        "mux": Counter(g * g, price.mux),
        "sub": Counter(16 * g, price.sub),
        "temporary_buffer": Counter(g, price.temporary_buffer),
        "tile_buffer": Counter(1, price.tile_buffer),
    }
    uses = {layer: same | {"crossbar_array": Counter(g * count, array.energy_pj)} for layer, count in positions.items()}
    pes = {layer.name: network.pes(layer) for layer in layers}
    pe_cycles = {layer.name: pes[layer.name] * prod(layer.pooled) * t for layer in layers}

    tiles = ceil(sum(pes.values()) / constants.pes_per_tile)
    in_pes = tiles * constants.pes_per_tile
    spare = in_pes - sum(pes.values())
    of_all_pes = sum(pes[name] * count for name, count in positions.items()) + spare * positions[layers[-1].name]
    arrays, converters = of_all_pes / in_pes * array.area_um2, g * (area.adc + area.mux)
    tile_buffer = area.memory_bit * area.tile_buffer_bits
    word = constants.neuron_memory_um2
    with_membrane = layers[: constants.membrane_layers]
    areas = {
        "htree": tiles * area.htree,
        "input_spikes": word * sum(layer.in_channels * prod(layer.input) for layer in layers),
        "membrane": word * sum(layer.out_channels * prod(layer.pooled) for layer in with_membrane),
        "sub": tiles * g * area.sub,
        "crossbar_array": in_pes * arrays,
        "adc": in_pes * g * area.adc,
        "mux": in_pes * g * area.mux,
        "tile_buffer": tiles * tile_buffer,
        "temporary_buffer": tiles * area.temporary_buffer,
    }
    pe_area = arrays + converters
    tile_area = area.htree + g * area.sub + constants.pes_per_tile * pe_area + area.temporary_buffer + tile_buffer

    *others, last = (layer.out_channels * prod(layer.pooled) for layer in layers)
    steps = t * (last + sum(floor(constants.overlap * values) for values in others))
    return Ela(
        network=network,
        pes=pes,
        tiles=tiles,
        pe_cycles=pe_cycles,
        uses=uses,
        areas_um2=areas,
        area_um2=tiles * tile_area + areas["input_spikes"] + areas["membrane"],
        pe_area_um2=pe_area,
        tile_area_um2=tile_area,
        latency_ns=steps * constants.pe_cycle_ns,
        latency_pe_cycles=steps,
    )
