"""How well DRAM was used: the bandwidth that a layer reached against the declared one, and what bound it.

A layer is bound by *bandwidth* where it moves at least nine tenths of the bytes that DRAM can move in its cycles. It is
bound by *latency* where all of this holds:

* the busiest agent that computes waits in more than half of the cycles;
* DRAM moves less than nine tenths of what it can;
* the lines that are read, one after the other, take at least as long as is waited: their number times the time from the
  end of a burst to its data, in an open row.

More lines on their way, earlier requests or a larger cache are then what it needs, not channels. With ideal memory, and
where layers overlap, nothing is said.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from archsim.engine.result import LayerResult

ENOUGH = 0.9
"""Share of the declared bandwidth from which on it is what binds."""


class DeclaredDram(NamedTuple):
    """What the machine's file says of its DRAM; ``line_cycles`` from the end of a burst to its data, the row open."""

    bandwidth_gb_s: float
    line_cycles: int


def achieved_gb_s(moved_bytes: int, latency_s: float) -> float:
    """Bytes moved in both directions, in 10^9 a second."""
    return moved_bytes / latency_s * 1e-9 if latency_s else 0.0


def bound_by(layer: LayerResult, dram: DeclaredDram, latency_s: float) -> Literal["bandwidth", "latency", ""]:
    """What of DRAM bound the layer, as the module's text defines it; nothing if neither did."""
    rows = [row for row in layer.traffic if row.level == "dram"]
    if achieved_gb_s(sum(row.bytes for row in rows), latency_s) >= ENOUGH * dram.bandwidth_gb_s:
        return "bandwidth"
    lines = sum(row.accesses for row in rows if row.direction == "read")
    waits = 2 * layer.stall_cycles > layer.cycles and lines * dram.line_cycles >= layer.stall_cycles
    return "latency" if waits and layer.start_cycle is None else ""
