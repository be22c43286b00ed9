"""Output compressor: spikes of 128 neurons into bitmask and packed words.

An inverted laggy prefix-sum builds the bitmask of 128 neighbouring output neurons and packs the words of those that
fire (with fire-once masking: that fire at least twice). Pooling (maximum of spikes, an OR of words) happens on the way
where a pooling layer follows. A group of n <= 128 neurons takes

    ceil(n (cycles_per_chunk + pool_cycles_per_chunk if pooled) / 128)    cycles

beside the neuron unit, from the cycle of its last word on or from the end of the group before. The words come into a
second buffer meanwhile; when that is full, the neuron unit waits.

Source: LoAS (MICRO 2024) section IV-D, V. Its throughput, and the place and cost of pooling, are not published.
"""

from __future__ import annotations

from pydantic import Field

from archsim.compress.bitmask import CHUNK_BITS
from archsim.hardware.agent import Agent
from archsim.hardware.loading import Block
from archsim.jit import inlined


class CompressorConfig(Block):
    """Output compressors, one per neuron unit."""

    cycles_per_chunk: int = Field(ge=1, le=1024, description="cycles to compress 128 output neurons")
    pool_cycles_per_chunk: int = Field(ge=0, le=1024, description="cycles more where a pooling layer follows")

    def chunk_cycles(self, pooled: bool) -> int:
        """Cycles of 128 output neurons."""
        return self.cycles_per_chunk + (self.pool_cycles_per_chunk if pooled else 0)


COMPRESSED = 0
"""What an agent with a compressor keeps: the cycle in which it has done with all groups so far."""


def compress(a: Agent, chunk_cycles: int, neurons: int, ready: int) -> int:
    """Give the compressor of agent ``a`` a group whose last word is there at ``ready``; returns the cycle in which it
    begins."""
    begun = max(ready, a.kept[COMPRESSED])
    a.kept[COMPRESSED] = begun + compress_cycles(chunk_cycles, neurons)
    return int(begun)


@inlined
def compress_cycles(chunk_cycles: int, neurons: int) -> int:
    """Cycles of a group of ``neurons`` output neurons."""
    return (neurons * chunk_cycles + CHUNK_BITS - 1) // CHUNK_BITS
