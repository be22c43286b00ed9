"""Crossbar switch: any input to any output, all pairs at once, each input and each output at most one transfer.

A machine has two between its processing elements and the cache banks: one for reads, one for writes. Requester ``lane``
enters at input ``lane mod inputs``, bank ``b`` hangs on output ``b mod outputs``. The switch is circuit-switched: a
request of ``beats`` beats that is granted in cycle g holds its input, its output *and* the bank from g to
g + beats - 1, so a requester moves one beat a cycle and never two at once. Queues stand at the inputs only: a request
waits behind every earlier one, by (ready cycle, request number), that wants the same input, the same output or the same
bank. With r the ready cycle, and the free cycles those after all earlier requests,

    g = max(r, input free, output free, bank free),   data of a read complete at g + beats - 1 + access + traversal.

Requests and grants travel on wires of their own (in no time: *request*). Fills from DRAM enter a bank from the other
side and use no switch (in no time: *path of a fill*); data of a line that was waited for go through it like those of a
hit.

Source: LoAS (MICRO 2024) Table III: two 16x16 crossbars, swizzle-switch; what they connect is Gamma's definition
(between banks and processing elements). Cycles of a traversal are not published; see ``hwconfigs/loas.yaml``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.hardware.loading import Block
from archsim.jit import inlined

READ = 0
WRITE = 1


class CrossbarSwitchConfig(Block):
    """A crossbar switch between processing elements and banks."""

    inputs: int = Field(ge=1, le=1024, description="inputs, on the side of the PEs")
    outputs: int = Field(ge=1, le=256, description="outputs, on the side of the banks")
    traversal_cycles: int = Field(ge=0, le=64, description="cycles from one side to the other")

    def resolve(self, banks: int) -> SwitchSpec:
        """The integers that the engines see."""
        return SwitchSpec(self.inputs, self.outputs, int(self.outputs < banks))


class SwitchSpec(NamedTuple):
    """Sizes of one switch. ``shares_outputs`` is 1 if banks share an output; else a bank being free says enough."""

    inputs: int
    outputs: int
    shares_outputs: int


class SwitchState(NamedTuple):
    """First free cycles of both switches: ``input_free`` int64 [2, inputs], ``output_free`` [2, outputs]."""

    input_free: NDArray[np.int64]
    output_free: NDArray[np.int64]


def idle_switches(read: SwitchSpec, write: SwitchSpec) -> SwitchState:
    """Two switches with nothing under way."""
    return SwitchState(
        np.zeros((2, max(read.inputs, write.inputs)), np.int64),
        np.zeros((2, max(read.outputs, write.outputs)), np.int64),
    )


@inlined
def input_of(spec: SwitchSpec, lane: int) -> int:
    """Input at which requester ``lane`` enters."""
    return lane if lane < spec.inputs else lane % spec.inputs


@inlined
def path_free(spec: SwitchSpec, state: SwitchState, switch: int, lane: int, bank: int) -> int:
    """First cycle in which nothing holds the path of ``lane`` to ``bank``."""
    free: int = state.input_free[switch, input_of(spec, lane)]
    if spec.shares_outputs:
        free = max(free, state.output_free[switch, bank % spec.outputs])
    return free


@inlined
def hold_path(spec: SwitchSpec, state: SwitchState, switch: int, lane: int, bank: int, until: int) -> None:
    """The path of ``lane`` to ``bank`` is taken until before cycle ``until``."""
    state.input_free[switch, input_of(spec, lane)] = until
    if spec.shares_outputs:
        state.output_free[switch, bank % spec.outputs] = until
