"""Broadcast bus: one sender, every processing element hears every beat.

The sender reads a bank (``access_cycles``) and drives the bus; all receivers have the beat ``cycles`` later, so data of
a read of b beats granted in cycle g is complete at ``g + b - 1 + access_cycles + cycles``. The bus carries one beat of
the bank's width a cycle: a read is granted when its bank and the bus are free, holds both from g to g + b - 1, and
waits behind every earlier read of the sender. A look-up that misses holds them for its cycle. A receiver that is not
ready is waited for by the FIFO behind the bus (one reading end for each receiver), not by the bus.

A machine has one bus. Agents with the lane :data:`~archsim.hardware.operation.BUS` are its sender; those that do not
broadcast and go through no switch have paths of their own, as wide as the banks that they read (in no time: *own
path*).

Source: LoAS (MICRO 2024) section IV-B: a fiber of B is read once and broadcast to all TPPEs. Cycles not published.
"""

from __future__ import annotations

from pydantic import Field

from archsim.hardware.loading import Block


class BroadcastConfig(Block):
    """The bus on which fibers of B reach all processing elements."""

    cycles: int = Field(ge=0, le=64, description="cycles from the bank to the receivers")
