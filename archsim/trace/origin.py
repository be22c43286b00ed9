"""What the values of a tensor are, in words: by who wrote them and, of integers, how far they range.

Such as *spikes of conv1*, *pixels 0 to 255*, *event counts 0 to 7*, *signed events*, *sums of spikes 0 to 2*, *full
sums of conv1 (integers -312 to 480)*, *pooled event counts 0 to 3*.
"""

from __future__ import annotations

from collections.abc import Iterator

from archsim.trace.model import Trace
from archsim.trace.operation import Operation

_KINDS = {"spike": "spikes", "signed_spike": "signed spikes", "spike_time": "spike times"}
_COUNTED = ("sums of spikes", "event counts", "pixels", "integers")


def origin(trace: Trace, name: str) -> str:
    """What a reader of the tensor ``name`` of ``trace`` finds there."""
    writers = {operation.output: operation for operation in trace.operations}
    found = list(dict.fromkeys(_of(trace, writers, source) for source in _sources(writers, name)))
    if not found:
        return "nothing but delays of itself"
    told = found[0] if len(found) == 1 else f"{found[0]} and {len(found) - 1} more"
    if _is_pooled(writers, name):
        told = f"pooled {told}"
    if trace.kind(name) != "int":
        return told
    values = trace.stream(name).stored
    least, largest = int(values.min()), int(values.max())
    if told.endswith(_COUNTED):
        return f"{told} {least} to {largest}"
    return f"{told} (integers {least} to {largest})"


def _sources(writers: dict[str, Operation], name: str) -> Iterator[str]:
    """The tensors that ``name`` consists of, seen through operations that compute nothing."""
    waiting, seen = [name], {name}
    while waiting:
        tensor = waiting.pop()
        writer = writers.get(tensor)
        if writer is None or not writer.moves:
            yield tensor
            continue
        fresh = [read for read in writer.inputs if read not in seen]
        seen.update(fresh)
        waiting.extend(reversed(fresh))


def _is_pooled(writers: dict[str, Operation], name: str) -> bool:
    """Whether all that ``name`` holds was pooled last."""
    writer = writers.get(name)
    return writer is not None and writer.op == "pool" and writer.reduction == "max"


def _adds(writer: Operation) -> bool:
    return writer.op in ("add", "reduce") or (writer.op == "pool" and writer.reduction == "sum")


def _of(trace: Trace, writers: dict[str, Operation], name: str) -> str:
    writer = writers.get(name)
    if writer is None:
        return _of_input(trace, name)
    if trace.kind(name) != "int":
        return f"{_KINDS[trace.kind(name)]} of {writer.name}"
    if writer.requantiser is not None or writer.op == "softmax":
        return f"the output of {writer.name}"
    if writer.neuron is not None:
        return f"{'potentials' if writer.neuron.fires == 'nothing' else 'integer spikes'} of {writer.name}"
    if writer.op == "multiply":
        return f"products of {writer.name}"
    if _adds(writer):
        spiking = all(trace.kind(part) == "spike" for part in _parts(writers, name))
        return "sums of spikes" if spiking else f"the sums of {writer.name}"
    return f"full sums of {writer.name}"


def _of_input(trace: Trace, name: str) -> str:
    """What the input ``name`` of the network is: of integers, those that change in time are events, and what the first
    layer of a spiking network reads in every timestep anew are pixels."""
    kind = trace.kind(name)
    if kind != "int":
        return "signed events" if kind == "signed_spike" else _KINDS[kind]
    if trace.timesteps > 1 and trace.meta.tensors[name].per_timestep:
        return "signed event counts" if trace.tensor(name).min() < 0 else "event counts"
    spiking = any(operation.neuron is not None for operation in trace.operations)
    return "pixels" if spiking and name == trace.pixels else "integers"


def _parts(writers: dict[str, Operation], name: str) -> Iterator[str]:
    """What is added up in ``name``, seen through the sums before."""
    waiting, seen = [name], {name}
    while waiting:
        tensor = waiting.pop()
        writer = writers.get(tensor)
        plain = writer is not None and (_adds(writer) or writer.moves) and writer.neuron is None
        if writer is None or not plain or writer.requantiser is not None:
            yield tensor
            continue
        fresh = [read for read in writer.inputs if read not in seen]
        seen.update(fresh)
        waiting.extend(fresh)
