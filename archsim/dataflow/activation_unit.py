"""What neurons and requantisers with an activation need beside an update: a table, multipliers and a divider.

Every neuron unit of a machine has these for a network that has activations (:mod:`archsim.trace.neurons`), and not for
any other network. They work once for each sum that ends:

    scale    the potential (or sum) times the multiplier: neurons and requantisers
    divide   that by the number of the timestep, bit by bit of the table's index; a remainder is no longer than that
             number: neurons alone
    track    the entry of the table times the number of the timestep, compared with what a spike more and a spike less
             would be worth, so that nothing is divided by the threshold: neurons alone

All units of a machine read one table; cores that are apart have their own. What is not counted: writing it for each
layer, and that several units may want it in a cycle. The time of all of it is in ``neuron.cycles``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.dataflow.base import Accelerator
from archsim.dataflow.pipeline import is_still
from archsim.engine.result import LayerResult
from archsim.hardware.inventory import Component, ram
from archsim.trace import Operation, Trace
from archsim.trace.neurons import index_bits

UNIT, TABLE = "activation", "activation_table"


def follows(operation: Operation) -> bool:
    """Whether its neurons have an activation."""
    return operation.neuron is not None and operation.neuron.activation is not None


def looks_up(operation: Operation) -> bool:
    """Whether its neurons or its requantiser have one."""
    return follows(operation) or (operation.requantiser is not None and operation.requantiser.activation is not None)


def activation_units(machine: Accelerator, trace: Trace, operations: Sequence[Operation]) -> tuple[Component, ...]:
    """What ``machine`` is built with so that it can run these ``operations`` of ``trace``: nothing without activations.

    As wide as the widest of them, with a divider for as many timesteps as the trace has, if there are neurons.
    """
    chosen = [operation for operation in operations if looks_up(operation)]
    if not chosen:
        return ()
    tables, multipliers = zip(*(_numbers(operation) for operation in chosen), strict=True)
    entry_bits = 1 + max(_bits(table) for table in tables)
    entries, word_bits = max(table.size for table in tables), 1 << max(3, (entry_bits - 1).bit_length())
    time_bits = trace.timesteps.bit_length() * any(map(follows, chosen))
    sizes: dict[str, int | float | str] = {
        "block": "activation", "sum_bits": machine.sum_bits, "multiplier_bits": max(map(_bits, multipliers)),
        "index_bits": max(map(index_bits, tables)), "time_bits": time_bits, "entry_bits": entry_bits,
    }  # fmt: skip
    built = next(part.instances for part in machine.inventory() if part.unit == machine.neuron_update[0])
    table = ram(TABLE, machine.activation_tables, entries * word_bits // 8, word_bits)
    return (Component(UNIT, "logic", built, sizes), replace(table, parameters={**table.parameters, "ports": "1rw"}))


def with_look_ups(result: LayerResult, trace: Trace, operations: Sequence[Operation]) -> LayerResult:
    """The result of one of ``operations`` with the actions of these units: each output at every timestep, silent or
    not."""
    operation = next((one for one in operations if one.name == result.layer and looks_up(one)), None)
    if operation is None:
        return result
    still = not follows(operation) and trace.stored(operation.output) and is_still(trace, operation.output)
    steps = 1 if still else trace.timesteps
    names = ("scale", "divide", "track") if follows(operation) else ("scale",)
    done = dict.fromkeys([(TABLE, "read"), *((UNIT, name) for name in names)], operation.m * operation.n * steps)
    return replace(result, actions={**result.actions, **done})


def _numbers(operation: Operation) -> tuple[Any, Any]:
    """Table and multipliers."""
    neuron, requantiser = operation.neuron, operation.requantiser
    if neuron is not None:
        return neuron.activation, neuron.activation_multiplier
    assert requantiser is not None, "it looks something up"
    return requantiser.activation, requantiser.multiplier


def _bits(values: NDArray[np.int64]) -> int:
    """Of the largest magnitude."""
    return max(1, int(np.abs(values).max()).bit_length())
