"""The memory below the processing elements: crossbar switch, cache banks, miss registers, DRAM channels.

One request's way (modes of :mod:`archsim.hardware.operation`):

    CACHED_READ    bank -> done (hit) | bank -> MSHR -> channel -> data -> bank (fill) -> done (miss)
    PREFETCH       the same, for the line's sake
    RESIDENT_READ  bank -> done
    STREAM_READ    MSHR -> channel -> data -> bank (fill) -> done
    STREAM_WRITE   bank -> channel -> done at the end of the burst

Every arrow into a bank, the MSHRs or a channel is an arbitration. The crossbar switch lets one request a cycle through
to each bank, so its arbitration is the bank's; a requester's own port sends one request a cycle. Taking an MSHR costs
one cycle; it is held until the fill is done.

``ideal``: every request is done one cycle after the operation's start, whatever else goes on; nothing misses. It exists
for every machine so that its compute cycles can be compared with closed forms.
"""

from __future__ import annotations

from typing import NamedTuple

from pydantic import Field

from archsim.hardware.loading import Block
from archsim.hardware.memory.cache import CacheConfig, CacheSpec
from archsim.hardware.memory.dram import DramConfig, DramSpec


class MemoryConfig(Block):
    """Cache and DRAM."""

    ideal: bool = Field(description="true: every access takes one cycle, nothing conflicts or misses")
    cache: CacheConfig = Field(description="global cache")
    dram: DramConfig = Field(description="off-chip memory")

    def resolve(self, clock_mhz: float) -> MemorySpec:
        """The integers that the engines see."""
        return MemorySpec(int(self.ideal), self.cache.resolve(), self.dram.resolve(clock_mhz, self.cache.line_bytes))


class MemorySpec(NamedTuple):
    """``ideal`` is 0 or 1."""

    ideal: int
    cache: CacheSpec
    dram: DramSpec
