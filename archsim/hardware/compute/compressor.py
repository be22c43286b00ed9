"""Output compressor: spikes of 128 neurons into bitmask and packed words.

An inverted laggy prefix-sum builds the bitmask of 128 neighbouring output neurons and packs the words of those that
fire (with fire-once masking: that fire at least twice), in ``cycles_per_chunk``; a group that is not full takes as
long. Pooling (maximum of spikes, an OR of words) happens on the way, in ``pool_cycles_per_chunk`` a group where a
pooling layer follows.

Source: LoAS (MICRO 2024) section IV-D, V. Its throughput, and the place and cost of pooling, are not published.
"""

from __future__ import annotations

from pydantic import Field

from archsim.hardware.loading import Block


class CompressorConfig(Block):
    """Output compressors, one a neuron unit."""

    cycles_per_chunk: int = Field(ge=1, le=1024, description="cycles to compress 128 output neurons")
    pool_cycles_per_chunk: int = Field(ge=0, le=1024, description="cycles more where a pooling layer follows")

    def cycles(self, pooled: bool) -> int:
        """Cycles of 128 output neurons."""
        return self.cycles_per_chunk + (self.pool_cycles_per_chunk if pooled else 0)
