"""A chip of crossbar arrays that holds a whole network: tiles, neuron modules and a network between them, as agents.

Weights stay in the arrays of a layer's own tiles. Layers work as a pipeline: one begins when the rows that its first
output needs have come over the network (:mod:`archsim.dataflow.pipeline`).

    for image, for timestep, for row, for column of the output           (scheduler.timesteps: outer; inner: t is last)
        tile      fetch the window's new inputs from the tile buffer, during the position before
                  drive rows, read all arrays, convert column by column, shift and add slices, add up the H-tree
        network   the sums travel to the layer's neuron module
        module    read potentials, leak, integrate, fire, write potentials and spikes; a row is complete: send it on

Agents of a layer (:mod:`archsim.dataflow.crossbar_agents`): each tile has a *driver*, a *converter* and an *adder*, and
a *neuron* agent in the module. Each feed has a *sender*, which waits for rows and sends them to all tiles along one
path; each link of a flow has a *hop* (:mod:`archsim.hardware.interconnect.noc`). A *storer* writes rows that no layer
reads to DRAM. A layer that no array computes has a *digital* agent in its module instead of tiles. In a product of two
matrices each tile has a *writer*, which puts the second matrix into its arrays. To the driver it is one more feed, with
one row per map, which is free again when the map's last row has been read. They meet at these FIFOs:

    sender -- row --> hops -- row --> drivers -- position --> converters --> adders -- sums --> hops -- sums --> neurons
    sender <-- credit (a row of the buffer) -- drivers <-- slot -- adders <-- credit -- neurons -- row done --> senders

``pe.in_flight`` slots let that many positions of a tile overlap; a position of a tile takes, from slot to slot,

    drive + read + rounds x conversion + shift-add + ceil(log2 arrays of a PE) + ceil(log2 PEs of a tile)    cycles

with *rounds* the columns that one converter has to convert. Inputs of several bits take that many slots one after the
other, and are sent when the last one is added. A module serves one packet of sums at a time. A channel
block too large for a tile is cut into *parts*; their adders send their sums to the first part's. An event-driven chip
skips arrays without a spike in their rows, and a position's conversions if that leaves none.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from archsim.dataflow.base import MachineConfig, ScheduledLayers
from archsim.dataflow.pipeline import Stage
from archsim.hardware.compute.lif import LifConfig
from archsim.hardware.fields import SumBits
from archsim.hardware.interconnect.noc import MAX_SIDE, MeshConfig
from archsim.hardware.loading import Block
from archsim.trace.schema import MAX_TIMESTEPS

ChipTimesteps = Annotated[int, Field(ge=1, le=MAX_TIMESTEPS)]


class PeBlock(Block):
    """Processing elements: crossbar arrays whose sums are added."""

    arrays: int = Field(ge=1, le=256, description="crossbar arrays of a PE")
    weight_bits: int = Field(ge=2, le=8, description="bits of a weight")
    shift_add_cycles: int = Field(ge=0, le=64, description="cycles to shift and add the slices of a weight")
    in_flight: int = Field(ge=1, le=64, description="positions that a tile works on at once; 1: one after the other")


class TileBlock(Block):
    """Tiles: PEs, a buffer of input rows, an H-tree that adds."""

    pes: int = Field(ge=1, le=256, description="PEs of a tile")
    buffer_bits: int = Field(ge=1, le=1 << 30, description="bits of the buffer of input rows")
    buffer_width_bits: int = Field(ge=8, le=512, description="bits that the buffer delivers or takes in a cycle")


class NeuronBlock(LifConfig):
    """Neuron modules: accumulators, LIF neurons, potentials."""

    modules: int = Field(ge=1, le=256, description="neuron modules, each at a node of the mesh")
    lanes: int = Field(ge=1, le=4096, description="neurons that a module updates at once")
    membrane_bits: int = Field(ge=2, le=64, description="bits of a stored membrane potential")
    sum_bits: SumBits = Field(description="bits of a sum on the network and of an output without neurons")
    sum_buffer: int = Field(ge=1, le=64, description="packets of sums of one tile that a module has room for")
    row_buffer: int = Field(
        ge=1, le=64, description="finished rows of a layer that wait to be sent, beside the one next"
    )


class ChipScheduler(ScheduledLayers):
    """Order of the work."""

    timesteps: Literal["outer", "inner"] = Field(
        description="one map per timestep, or all timesteps of a position at once"
    )
    encoder: Literal["skipped", "bit_planes"] = Field(
        "skipped",
        description="operands that are not single bits: driven bit by bit, and all of a network runs, or skipped: only "
        "layers that read spikes run",
    )
    skip: Literal["none", "row_group"] = Field(description="whether arrays without a spike in their rows are skipped")


class Arrays(NamedTuple):
    """What the chip must know of its crossbar arrays: ``rows``, the neurons whose columns fit one (``outputs``), the
    ``conversions`` and ``cells`` of one of them, and how many conversions share a converter (``shared``). A row has
    ``references`` cells beside those of its neurons.

    ``joined``: the arrays of a PE have one set of converters, their currents are joined. A row takes ``driver_bits``
    bits of an input at once. Where matrices are written as the network runs, a row of ``written_at_once`` arrays of a
    tile takes ``write_cycles``.
    """

    rows: int
    outputs: int
    conversions: int
    cells: int
    references: int
    shared: int
    conversion_cycles: int
    driver_bits: int
    joined: bool
    written_at_once: int = 1
    write_cycles: int = 0

    def planes(self, bits: int) -> int:
        """Cycles that an input of ``bits`` bits takes."""
        return -(-bits // self.driver_bits)


class DigitalUnit(NamedTuple):
    """A digital unit of a module: a row of its output takes ``cycles`` cycles, in which its lanes work on ``values``
    values. It has room for ``room`` rows of each of its inputs.
    """

    cycles: int
    values: int
    room: int


class ChipConfig(MachineConfig):
    """A chip of crossbar arrays; a machine adds what its arrays are, and says what computes a layer."""

    timesteps: ChipTimesteps | Literal["trace"] = Field(
        description="timesteps of the networks that the chip is built for, or trace: those of the trace that it runs"
    )
    pe: PeBlock = Field(description="processing elements")
    tile: TileBlock = Field(description="tiles")
    neuron: NeuronBlock = Field(description="neuron modules")
    noc: MeshConfig = Field(description="network between tiles and neuron modules")
    scheduler: ChipScheduler = Field(description="order of the work")

    @abstractmethod
    def unit(self, stage: Stage) -> Arrays | DigitalUnit:
        """What computes a layer: the arrays that hold its weights, or its matrices as they are written, or a digital
        unit."""

    @property
    @abstractmethod
    def read_cycles(self) -> int:
        """Cycles to drive rows and to let columns settle."""

    @property
    def inner(self) -> bool:
        """Whether all timesteps of a position follow each other."""
        return self.scheduler.timesteps == "inner"

    @property
    def built_arrays(self) -> int:
        """Crossbar arrays of the chip."""
        return self.tiles * self.tile.pes * self.pe.arrays

    def mesh_rows(self, tiles: int) -> int:
        """Rows of the mesh: as the file says, or with ``fit`` as few as hold ``tiles`` tiles beside the modules."""
        if self.noc.rows != "fit":
            return self.noc.rows
        return min(-(-(tiles + self.neuron.modules) // self.noc.columns), MAX_SIDE)

    @property
    def nodes(self) -> int:
        """Nodes of the mesh; where rows are not fitted to a network yet, of the smallest chip, with a tile."""
        return self.mesh_rows(1) * self.noc.columns

    @property
    def tiles(self) -> int:
        """Tiles of the chip: the nodes that are no neuron module."""
        return self.nodes - self.neuron.modules

    def module_problems(self) -> dict[str, str]:
        """What is wrong with the number of neuron modules, by path."""
        if self.neuron.modules < self.nodes:
            return {}
        mesh = f"{self.mesh_rows(1)} x {self.noc.columns}"
        return {"neuron.modules": f"must leave nodes of the {mesh} mesh to tiles"}
