"""Which timestep the neurons of a NIR graph make sense at.

A file does not say its ``dt``. SpikingJelly and snnTorch write graphs for 1e-4 s, Norse runs them at 1e-3 s, and sinabs
counts in timesteps, 1. A graph that makes sense at another of these than the one in use gets that said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from archsim.export.network import Network, Real
from archsim.export.neuron_rules import SAME_DECAY, SpikingNeuron
from archsim.export.nir_fields import real
from archsim.export.scaling import nearest_leak
from archsim.export.torch_modules import Inexpressible

# Timesteps in seconds for which tools write graphs.
_USUAL_DT = (1.0, 1e-3, 1e-4)


class Timesteps:
    """The neurons of a graph by their name in the trace, at ``dt`` seconds a timestep and at others."""

    def __init__(self, record: Mapping[str, Any], dt: float) -> None:
        self.record = record
        self.dt = dt
        # Kind and parameters.
        self.neurons: dict[str, tuple[str, dict[str, Real]]] = {}

    def add(self, name: str, kind: str, of: dict[str, Real]) -> SpikingNeuron:
        """Take in a neuron; returns it at the timestep in use."""
        made = _spiking(kind, of, self.dt)
        self.neurons[name] = (kind, of)
        return made

    def stated(self) -> float | None:
        """What the graph itself says, if it does."""
        metadata = self.record.get("metadata")
        try:
            stated = real(metadata, "dt") if isinstance(metadata, dict) and "dt" in metadata else np.zeros(0)
        except Inexpressible:
            return None
        return stated.item() if stated.size == 1 and stated.item() > 0 else None

    def others(self) -> list[float]:
        """The timesteps that tools write graphs for, but for the one in use."""
        stated = self.stated()
        usual = (*(() if stated is None else (stated,)), *_USUAL_DT)
        return [dt for dt in usual if not math.isclose(dt, self.dt, rel_tol=1e-6)]

    def decay_hint(self, tau: Real) -> str:
        """Another timestep at which a neuron with ``tau`` has a decay that a trace can hold, if there is one."""
        for dt in self.others():
            decay = 1 - dt / float(tau.flat[0]) if tau.flat[0] > 0 else -1.0
            if _is_shift(decay):
                return f"; with dt = {dt:g} s the decay is {decay:.6g}{_option(dt)}"
        return ""

    def notes(self) -> list[str]:
        """What the user should know of the timestep and of the neurons' resets."""
        notes = []
        stated = self.stated()
        if stated is not None and not math.isclose(stated, self.dt, rel_tol=1e-6):
            notes.append(f"the graph states dt = {stated:g} s and is read with {self.dt:g} s{_option(stated)}")
        if self.neurons:
            # What snnTorch makes of a decay beta: tau = 1e-4 / (1 - beta) and r = tau / 1e-4.
            alike = any(kind == "LIF" and _same(of["r"] * 1e-4, of["tau"]) for kind, of in self.neurons.values())
            whose = "this graph looks like snnTorch's, whose neurons" if alike else "snnTorch's neurons"
            notes.append(
                "NIR resets potentials to v_reset; a model that subtracts its thresholds instead is another network in"
                f" NIR ({whose} do unless they have reset_mechanism='zero'; from_torch keeps either)"
            )
        return notes

    def other_decays(self) -> dict[str, str]:
        """A problem for each neuron whose decay is no shift at ``dt``, but is one at another usual timestep."""
        problems = {}
        for name, (kind, of) in self.neurons.items():
            decay = float(np.asarray(_spiking(kind, of, self.dt).decay))
            hint = "" if _is_shift(decay) else self.decay_hint(of["tau"])
            if hint:
                tau = f"tau {of['tau'].flat[0]:g} s with timesteps of dt = {self.dt:g} s"
                problems[name] = f"{name} ({kind}): {tau}, a decay of {decay:.6g} per timestep, which is no shift{hint}"
        return problems

    def other_gains(self) -> dict[str, str]:
        """The neurons without leak that add just what they read at another usual timestep, but not at ``dt``."""
        lines = {}
        for name, (kind, of) in self.neurons.items():
            better = [dt for dt in self.others() if kind == "IF" and _same(of["r"] * dt, 1)]
            if better and not _same(of["r"] * self.dt, 1):
                at = f"with timesteps of dt = {self.dt:g} s an input of 1 adds {of['r'].flat[0] * self.dt:g}"
                lines[name] = f"{name} (IF): {at} to the potential, with dt = {better[0]:g} s 1{_option(better[0])}"
        return lines

    def silent(self, network: Network) -> dict[str, str]:
        """The neurons that never fire at ``dt``, but do at another usual timestep."""
        lines = {}
        for name, (kind, of) in self.neurons.items():
            if network.recorded[name].any():
                continue
            currents = network.recorded[network.nodes[name].inputs[0]]
            # At a timestep beyond tau there is no such neuron.
            possible = [dt for dt in self.others() if kind == "IF" or dt <= of["tau"].flat[0]]
            better = [dt for dt in possible if _fires(kind, of, dt, currents)]
            if better:
                at = f"never fires with timesteps of dt = {self.dt:g} s"
                lines[name] = f"{name} ({kind}): {at}; with dt = {better[0]:g} s it does{_option(better[0])}"
        return lines


def _spiking(kind: str, of: Mapping[str, Real], dt: float) -> SpikingNeuron:
    """A neuron with such parameters at timesteps of ``dt`` seconds."""
    decay, gain = 1.0, of["r"] * dt
    if kind == "LIF":
        decay, gain = 1 - dt / float(of["tau"].flat[0]), gain / of["tau"]
    with np.errstate(over="ignore", divide="ignore"):
        threshold = (of["v_threshold"] - of["v_reset"]) / gain
    if not np.isfinite(threshold).all():
        raise Inexpressible("thresholds that overflow a 64-bit float, in units of the neuron's input")
    return SpikingNeuron(decay, threshold)


def _fires(kind: str, of: Mapping[str, Real], dt: float, currents: Real) -> bool:
    try:
        return bool(_spiking(kind, of, dt).run(currents).any())
    except Inexpressible:
        return False


def _option(dt: float) -> str:
    return f" (from_nir: dt={dt!r}; on the command line: --dt {dt:g})"


def _same(one: Real, other: Real | float) -> bool:
    return bool(np.allclose(one, other, rtol=SAME_DECAY, atol=0))


def _is_shift(decay: float) -> bool:
    return abs(nearest_leak(decay)[0] - decay) <= SAME_DECAY
