"""The energy that papers on spiking networks estimate, from the network alone.

It prices arithmetic and nothing else, no memory, no neurons, no leakage, and that as if no weight were zero. With E_AC
the energy of an accumulation and E_MAC that of a multiply-accumulate (``estimate.yaml``, with their source), FLOPs the
products of an operation in one timestep, zeros and padding included, r the share of the values of a tensor that are not
zero (of spikes the firing rate), over all timesteps and images, and T timesteps:

    inputs are spikes                         E_AC  r T FLOPs
    inputs are integers, the same always      E_MAC FLOPs           the direct encoder, which papers count once
    inputs are integers that change           E_MAC T FLOPs         sums of spikes, event counts, activations of a CNN
    a product of two tensors, one of spikes   E_AC  r T FLOPs       attention: r of the one that spikes
    ... both of spikes                        E_AC  min(r) T FLOPs
    ... both of integers                      E_MAC T FLOPs
    everything else                           nothing               neurons, sums, pools, softmax, layer norm

Signed spikes and spike times are spikes. Integers that neurons fire are so many spikes each, so r is their mean. The
rule is that of the Spikformer (Zhou et al., ICLR 2023, appendix). For attention and sums of spikes it is that of the
energy calculation that is published with Spikingformer, whose other variant prices sums of spikes as accumulations. For
integers that neurons fire it is that of SpikeYOLO.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict

from archsim.trace.model import Trace
from archsim.trace.operation import Operation
from archsim.trace.work import WORKING


class Price(BaseModel):
    """Energy of one operation [pJ], and what it is made of."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    value: float
    meaning: str


class Prices(BaseModel):
    """What an operation costs, in which technology, and who says so."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    technology_nm: int
    source: str
    pj_per_accumulation: Price
    pj_per_multiply_accumulate: Price


class LayerEstimate(NamedTuple):
    """Of one operation in all images and timesteps: accumulations, multiply-accumulates, and their energy."""

    accumulations: float
    multiply_accumulates: float
    energy_pj: float


@cache
def prices() -> Prices:
    """The prices of papers."""
    return Prices.model_validate(yaml.safe_load(files("archsim.trace").joinpath("estimate.yaml").read_text("utf-8")))


def estimate(trace: Trace) -> dict[str, LayerEstimate]:
    """The estimate of every operation of ``trace`` that has products, by name, for all images together."""
    return {operation.name: _of(trace, operation) for operation in trace.operations if operation.op in WORKING}


def total(estimates: Mapping[str, LayerEstimate]) -> dict[str, Any]:
    """All ``estimates`` together, and the prices that they were made with."""
    parts = zip(*estimates.values(), strict=True) if estimates else ((), (), ())
    used = prices()
    return {
        **{name: math.fsum(part) for name, part in zip(LayerEstimate._fields, parts, strict=True)},
        "technology_nm": used.technology_nm,
        "pj_per_accumulation": used.pj_per_accumulation.value,
        "pj_per_multiply_accumulate": used.pj_per_multiply_accumulate.value,
        "source": used.source,
    }


def _of(trace: Trace, operation: Operation) -> LayerEstimate:
    accumulations, multiply_accumulates = 0.0, 0.0
    products = operation.m * operation.n * operation.k
    rates = [rate for name in operation.inputs if (rate := _rate(trace, name)) is not None]
    if rates:
        accumulations = min(rates) * trace.timesteps * products
    elif any(trace.meta.tensors[name].per_timestep for name in operation.inputs):
        multiply_accumulates = float(trace.timesteps * products)
    else:
        multiply_accumulates = float(products)
    found = prices()
    return LayerEstimate(
        accumulations,
        multiply_accumulates,
        accumulations * found.pj_per_accumulation.value + multiply_accumulates * found.pj_per_multiply_accumulate.value,
    )


def _rate(trace: Trace, name: str) -> float | None:
    """Spikes per value of a tensor and timestep; None where it holds none."""
    spikes = size = 0
    if trace.kind(name) == "int" and not _is_fired(trace, name):
        return None
    for values in trace.stream(name).windows():
        size += values.size
        spikes += int(values.sum() if trace.kind(name) == "int" else np.count_nonzero(values))
    return spikes / size


def _is_fired(trace: Trace, name: str) -> bool:
    """Whether a tensor of integers holds what neurons fire, several spikes at a time, however it was moved since."""
    writers = {operation.output: operation for operation in trace.operations}
    waiting, seen = [name], {name}
    while waiting:
        writer = writers.get(waiting.pop())
        if writer is not None and writer.moves:
            fresh = [read for read in writer.inputs if read not in seen]
            seen.update(fresh)
            waiting += fresh
        elif writer is None or writer.neuron is None or writer.neuron.fires != "integer":
            return False
    return True
