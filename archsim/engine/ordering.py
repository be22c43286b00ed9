"""The order of events, in prose: the one rule that both engines implement independently.

Time is int64 cycles of the machine's base clock. Within one cycle t:

1. **Completions and control.** Everything that ends at t ends: computations, accesses, the last delivery of a fill
   (which frees its MSHR for the request that has waited longest, smallest number first among equals; in no time: *freed
   MSHR*). Agents whose operation has ended push, pass barriers (in no time: *barrier*), and are asked for their next
   operation (in no time: *decision*), which may pop and begin at t as well, and end if it has nothing to do (in no
   time: *empty operation*). This goes on until nothing more happens at t. Because FIFOs have one writer and a private
   reading end for every reader (or an end is arbitrated, or they count), and an agent changes nothing but its own
   state, the result does not depend on the order of visits.
2. **Arbitration.** Every bank, the MSHRs and every channel grant to the request with the smallest
   ``(ready cycle, request number)``, among those ready at or before t, if they are free at t. Requests are numbered by
   agent, then by their place in the operation. A grant holds the resource for at least one cycle, so nothing granted
   at t can make anything else happen at t. The tokens of a shared FIFO go to the reader with the smallest ``(cycle in
   which it asked, agent)`` while there are as many as it wants, else nobody passes it; it begins at t + 1, and the
   writer sees the space at t + 1. Into a FIFO with several writers goes what the writer with the smallest ``(cycle in
   which it asked, agent)`` pushes, if there is space for all of it at the end of step 1, else nobody passes it; the
   tokens are there at t + 1, when their writer goes on. So a link takes one writer per cycle.

Elsewhere a FIFO slot that is freed at t can be filled at t, and a token pushed at t popped at t (in no time:
*handshake*). Numbers that decide the order: agents in the order of the accelerator's list, requests in the order of
agents. What docstrings say to happen in no time is in a table of ``tests/rtl/README.md``, with its effect.

Two engines that implement this rule agree on the completion time of every operation of every agent and on every
counter; the tests demand exactly that, because totals alone hide errors of order.
"""

from __future__ import annotations

REQUEST_PHASE_PRIORITY = 2
"""SimPy's priority of arbitration events: after all urgent (0) and normal (1) events of the same cycle."""

MISS_CYCLES = 1
"""Cycles from the grant of the look-up that misses to the request for an MSHR, and again from there to the channel."""

SAME_CYCLE_LIMIT = 1_000_000
"""Operations within one cycle after which a machine is declared to run in circles."""
