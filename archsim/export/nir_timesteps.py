"""Which timestep the neurons of a NIR graph make sense at.

A file does not say its ``dt``. SpikingJelly and snnTorch write graphs for 1e-4 s, Norse runs them at 1e-3 s, and sinabs
counts in timesteps, 1. A graph that makes sense at another of these than the one in use gets that said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from archsim.export.network import Network, Real
from archsim.export.neuron_rules import SAME_DECAY, SpikingNeuron, nir_if, nir_lif
from archsim.export.nir_fields import real
from archsim.export.torch_modules import Inexpressible
from archsim.trace.neurons import MAX_LEAK_SHIFT

# Timesteps in seconds for which tools write graphs.
_USUAL_DT = (1.0, 1e-3, 1e-4)
_TAUS = ("tau", "tau_mem", "tau_syn")
_FIRING = ("IF", "LIF", "CubaLIF")


class Timesteps:
    """The neurons of a graph by their name in the trace, at ``dt`` seconds a timestep and at others."""

    def __init__(self, record: Mapping[str, Any], dt: float, late_current: bool = False) -> None:
        self.record = record
        self.dt = dt
        self.late_current = late_current
        # Kind and parameters.
        self.neurons: dict[str, tuple[str, dict[str, Real]]] = {}

    def add(self, name: str, kind: str, of: dict[str, Real]) -> SpikingNeuron:
        """Take in a neuron; returns it at the timestep in use."""
        made = self._spiking(kind, of, self.dt)
        self.neurons[name] = (kind, of)
        return made

    def read_out(self, kind: str, of: Mapping[str, Real]) -> tuple[Real, Real]:
        """What a unit of its input, and what its resting potential, add to the potential of a read-out a timestep."""
        if kind == "I":
            return self.dt * of["r"], np.zeros(of["r"].shape)
        step = self.dt / of["tau" if kind == "LI" else "tau_mem"]
        gain = step * of["r"]
        if kind == "CubaLI":
            gain = gain * (self.dt / of["tau_syn"]) * of["w_in"]
        return np.where(np.abs(gain - 1) <= SAME_DECAY, 1.0, gain), step * of["v_leak"]

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

    def longer_hint(self, of: Mapping[str, Real]) -> str:
        """Another timestep that is no longer than the neurons' time constants, if there is one."""
        least = min(float(of[field].min()) for field in _TAUS if field in of)
        for dt in self.others():
            if dt <= least:
                return f"; with dt = {dt:g} s the decay is {1 - dt / least:.6g}{_option(dt)}"
        return ""

    def notes(self) -> list[str]:
        """What the user should know of the timestep and of the neurons' resets."""
        notes = []
        stated = self.stated()
        if stated is not None and not math.isclose(stated, self.dt, rel_tol=1e-6):
            notes.append(f"the graph states dt = {stated:g} s and is read with {self.dt:g} s{_option(stated)}")
        if any(kind in _FIRING for kind, _ in self.neurons.values()):
            # What snnTorch makes of a decay beta: tau = 1e-4 / (1 - beta) and r = tau / 1e-4.
            alike = any(
                "tau" in of and kind == "LIF" and _same(of["r"] * 1e-4, of["tau"]) for kind, of in self.neurons.values()
            )
            whose = "this graph looks like snnTorch's, whose neurons" if alike else "snnTorch's neurons"
            notes.append(
                "NIR resets potentials to v_reset; a model that subtracts its thresholds instead is another network in"
                f" NIR ({whose} do unless they have reset_mechanism='zero'; from_torch keeps either)"
            )
        return notes

    def other_decays(self) -> dict[str, str]:
        """The neurons whose decay is next to none at ``dt``, but a power of two at another usual timestep."""
        lines = {}
        for name, (kind, of) in self.neurons.items():
            taus = [of[field] for field in ("tau", "tau_mem") if field in of]
            if not taus or _is_power(1 - self.dt / taus[0]):
                continue
            better = [dt for dt in self.others() if taus[0].min() >= dt and _is_power(1 - dt / taus[0])]
            if better:
                tau, dt = float(taus[0].flat[0]), better[0]
                at = f"tau {tau:g} s with timesteps of dt = {self.dt:g} s, a decay of {1 - self.dt / tau:.6g}"
                lines[name] = f"{name} ({kind}): {at}; with dt = {dt:g} s it is {1 - dt / tau:.6g}{_option(dt)}"
        return lines

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
            if kind not in _FIRING or network.recorded[name].any():
                continue
            currents = network.recorded[network.nodes[name].inputs[0]]
            # At a timestep beyond tau there is no such neuron.
            taus = [float(of[field].min()) for field in _TAUS if field in of]
            better = [dt for dt in self.others() if dt <= min(taus, default=dt) and self._fires(kind, of, dt, currents)]
            if better:
                at = f"never fires with timesteps of dt = {self.dt:g} s"
                lines[name] = f"{name} ({kind}): {at}; with dt = {better[0]:g} s it does{_option(better[0])}"
        return lines

    def _spiking(self, kind: str, of: Mapping[str, Real], dt: float) -> SpikingNeuron:
        """A neuron with such parameters at timesteps of ``dt`` seconds."""
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            made = self._made(kind, of, dt)
        for field in ("threshold", "reset_value", "start"):
            if getattr(made, field) is not None and not np.isfinite(getattr(made, field)).all():
                raise Inexpressible("potentials that overflow a 64-bit float, in units of the neuron's input")
        fields = ("decay", "threshold", "reset_value", "start", "current_decay")
        return replace(made, **{name: _smallest(getattr(made, name)) for name in fields})

    def _made(self, kind: str, of: Mapping[str, Real], dt: float) -> SpikingNeuron:
        # Longer by a rounding error at most.
        taus = {field: np.maximum(of[field], dt) for field in _TAUS if field in of}
        threshold = of.get("v_threshold")
        reset = of.get("v_reset", np.zeros(()))
        match kind:
            case "Threshold":
                return SpikingNeuron(0.0, of["threshold"])
            case "IF" | "I":
                return nir_if(of["r"], threshold, reset, dt)
            case "LIF" | "LI":
                made = nir_lif(taus["tau"], of["r"], of["v_leak"], threshold, reset, dt)
                return replace(made, start=of["v_leak"]) if kind == "LI" else made
        return nir_lif(
            taus["tau_mem"], of["r"], of["v_leak"], threshold, reset, dt,
            tau_syn=taus["tau_syn"], w_in=of["w_in"], late=self.late_current,
        )  # fmt: skip

    def _fires(self, kind: str, of: Mapping[str, Real], dt: float, currents: Real) -> bool:
        try:
            return bool(self._spiking(kind, of, dt).run(currents).any())
        except Inexpressible:
            return False


def _smallest(values: Any) -> Any:
    """``values``, one per neuron, as one number or one per channel where that is all that there is of them."""
    array = np.asarray(values)
    if values is None or not array.ndim:
        return values
    if (array == array.flat[0]).all():
        return float(array.flat[0])
    columns = array.reshape(len(array), -1)
    return columns[:, 0].copy() if (columns == columns[:, :1]).all() else array


def _option(dt: float) -> str:
    return f" (from_nir: dt={dt!r}; on the command line: --dt {dt:g})"


def _same(one: Real, other: Real | float) -> bool:
    return bool(np.allclose(one, other, rtol=SAME_DECAY, atol=0))


def _is_power(decay: Real) -> bool:
    """Whether all decays are the same 2^-l or 1 - 2^-l, which models have and chance has not."""
    powers = 2.0 ** -np.arange(1, MAX_LEAK_SHIFT + 1)
    near = np.abs(np.concatenate([powers, 1 - powers]) - decay.flat[0]).min()
    return bool(near <= SAME_DECAY and np.ptp(decay) <= SAME_DECAY)
