"""How much of a network a machine simulates, and what it leaves out and why.

The work of a network are its synaptic operations (:mod:`archsim.trace.work`), those of a direct encoder included:

    coverage   synaptic operations of the operations that were simulated / those of all
    share      the same of one operation; coverage and the shares of all that is left out add up to 1

In a network without any (all weights zero, or no spike) every layer counts as one instead, and without layers every
operation does.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from archsim.engine.result import Coverage, LeftOut
from archsim.trace.work import WORKING, synaptic_operations

if TYPE_CHECKING:
    from archsim.dataflow.base import Accelerator
    from archsim.trace import Operation, Trace


def coverage(
    machine: Accelerator, trace: Trace, simulated: Sequence[Operation], chosen: Collection[str] | None
) -> Coverage:
    """What of ``trace`` is simulated when ``machine`` runs the operations ``simulated``.

    ``chosen`` are names of the only operations that the user wants, None for all.
    """
    able = machine.layers(trace)
    possible = {operation.name for operation in able} | machine.fused(trace, able)
    handled = {operation.name for operation in simulated} | machine.fused(trace, simulated)
    read = {name for operation in trace.operations if operation.name in handled for name in operation.inputs}
    layers = [operation.name for operation in trace.operations if operation.op in WORKING]
    work = {operation.name: synaptic_operations(trace, operation) for operation in trace.operations}
    done = sum(work[name] for name in handled)
    weights = work if any(work.values()) else {name: int(name in (layers or work)) for name in work}
    total = sum(weights.values())
    skipped = machine.skipped(trace)
    left_out = []
    for operation in trace.operations:
        if operation.name in handled:
            continue
        if operation.name in possible:
            reason = f"is not among the chosen layers{'; its output comes from DRAM' * (operation.output in read)}"
        else:
            reason = machine.why_skipped(trace, operation)
        asked = operation is skipped if chosen is None else operation.name not in chosen
        share = weights[operation.name] / total
        left_out.append(LeftOut(operation.name, reason, share, operation.op in WORKING, asked))
    return Coverage(
        share=sum(weights[name] for name in handled) / total,
        synaptic_operations=done,
        layers=sum(name in handled for name in layers),
        network_layers=len(layers),
        left_out=tuple(left_out),
    )
