"""The memory below the processing elements: crossbar switch, cache banks, miss registers, DRAM channels.

One request's way (modes of :mod:`archsim.hardware.operation`):

    CACHED_READ    bank -> done (hit) | bank -> MSHR -> channel -> data -> bank (fill) -> bank -> done (miss)
    CONSUME        the same; the line is dead afterwards
    PREFETCH       the same for the line's sake: nothing is delivered, it is done with the fill
    RESIDENT_READ  bank -> done
    STREAM_READ    MSHR -> channel -> data -> bank (fill) -> done
    STREAM_WRITE   bank -> channel -> done at the end of the burst
    RESIDENT_WRITE bank -> done
    CACHED_WRITE   bank -> done

A look-up that displaces a dirty line goes from the bank to that line's channel first, and on when the burst has ended.
Every arrow into a bank, the MSHRs or a channel is an arbitration; "bank" includes the path through a crossbar switch,
which is granted together with it. A requester sends one request per cycle. Taking an MSHR costs one cycle; it is held
until all that waited for its line have it (:mod:`archsim.hardware.memory.cache`).

A machine that knows the order of all that it reads has a DMA in place of MSHRs, with a register for each line on its
way. It needs as many as bandwidth times latency: 128 GB/s times 125 ns are 250 lines of 64 bytes.

``ideal``: every request is done one cycle after the operation's start, whatever else goes on; nothing misses. It exists
for every machine so that its compute cycles can be compared with closed forms.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

from pydantic import Field

from archsim.hardware.interconnect.broadcast import BroadcastConfig
from archsim.hardware.interconnect.crossbar_switch import CrossbarSwitchConfig, SwitchSpec
from archsim.hardware.loading import Block
from archsim.hardware.memory.cache import CacheConfig, CacheSpec
from archsim.hardware.memory.dram import DramConfig, DramSpec
from archsim.hardware.memory.placement import LineSpec, line_spec


class MemorySystemConfig(Block):
    """What every memory system says, whatever lies between DRAM and the processing elements."""

    ideal: bool = Field(description="true: every access takes one cycle, nothing conflicts or misses")
    dram: DramConfig = Field(description="off-chip memory")

    @property
    @abstractmethod
    def line_bytes(self) -> int:
        """Bytes of a line."""

    @property
    @abstractmethod
    def lines_in_flight(self) -> int:
        """Lines on their way from DRAM at a time."""

    @abstractmethod
    def lines(self, burst: int) -> LineSpec:
        """Lines as agents ask for them: ``burst`` at once, or as many as can be on their way."""

    @abstractmethod
    def resolve(self, clock_mhz: float) -> MemorySpec:
        """The integers that the engines see."""


class MemoryConfig(MemorySystemConfig):
    """Cache, DRAM and what connects them to the processing elements."""

    read_switch: CrossbarSwitchConfig = Field(description="crossbar switch from the banks to the PEs")
    write_switch: CrossbarSwitchConfig = Field(description="crossbar switch from the neuron units to the banks")
    broadcast: BroadcastConfig = Field(description="bus on which fibers of B reach all PEs")
    cache: CacheConfig = Field(description="global cache")

    @property
    def line_bytes(self) -> int:
        """Bytes of a line."""
        return self.cache.line_bytes

    @property
    def lines_in_flight(self) -> int:
        """A line for each miss register."""
        return self.cache.mshrs

    def lines(self, burst: int) -> LineSpec:
        """Lines of the cache."""
        return line_spec(self.cache.line_bytes, self.cache.width_bits, burst, self.lines_in_flight)

    def resolve(self, clock_mhz: float) -> MemorySpec:
        """A cache behind crossbar switches."""
        return MemorySpec(
            int(self.ideal),
            self.read_switch.resolve(self.cache.banks),
            self.write_switch.resolve(self.cache.banks),
            self.cache.access_cycles + self.read_switch.traversal_cycles,
            self.cache.access_cycles + self.broadcast.cycles,
            max(1, self.cache.access_cycles + self.write_switch.traversal_cycles - 1),
            self.cache.resolve()._replace(mshrs=self.lines_in_flight),
            self.dram.resolve(clock_mhz, self.cache.line_bytes),
        )


class DmaConfig(Block):
    """What brings lines from DRAM whose order is known."""

    lines_in_flight: int = Field(ge=1, le=1024, description="lines on their way from DRAM at a time")
    entry_bits: int = Field(ge=1, le=256, description="bits of the register of a line on its way")


class StreamedMemoryConfig(MemoryConfig):
    """As MemoryConfig, of a machine that knows what it reads beforehand: a DMA stands in place of the MSHRs."""

    dma: DmaConfig = Field(description="what brings lines from DRAM, in place of MSHRs")

    @property
    def lines_in_flight(self) -> int:
        """A line for each register of the DMA."""
        return self.dma.lines_in_flight


class MemorySpec(NamedTuple):
    """``ideal`` is 0 or 1.

    ``read_cycles``, ``own_read_cycles`` and ``write_cycles``: from the grant of the last beat to its data, through the
    switch, over a path of the requester's own; of a write, from the grant of the last beat until it is in the bank.
    """

    ideal: int
    read_switch: SwitchSpec
    write_switch: SwitchSpec
    read_cycles: int
    own_read_cycles: int
    write_cycles: int
    cache: CacheSpec
    dram: DramSpec
