"""What must be true of every run, whatever the machine; a violation is a bug in archsim, never the user's fault."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from archsim.cost import EnergyRow
    from archsim.engine.result import LayerResult


class Checked(Protocol):
    """What is checked of a :class:`archsim.report.report.Report`."""

    @property
    def layers(self) -> Sequence[LayerResult]: ...  # noqa: D102
    @property
    def energy(self) -> Sequence[Sequence[EnergyRow]]: ...  # noqa: D102
    @property
    def coverage(self) -> float: ...  # noqa: D102
    @property
    def left_out(self) -> Sequence[Mapping[str, Any]]: ...  # noqa: D102
    @property
    def compulsory_read_bytes(self) -> Mapping[str, int]: ...  # noqa: D102
    def rows(self, name: str) -> list[dict[str, Any]]: ...  # noqa: D102
    def summary(self) -> dict[str, Any]: ...  # noqa: D102


class InvariantError(AssertionError):
    """A result contradicts itself."""


def check(report: Checked) -> None:
    """Raise InvariantError naming everything in ``report`` that cannot be.

    For each layer: ``0 <= utilization <= 1``; compute + stall = cycles, none negative; busy + stall + idle = cycles for
    each unit instance; cycles at least the machine's lower bound; bytes read from DRAM at least those that must be
    read once; no negative count, no more synaptic operations than matches in every timestep, and no more actions in the
    timesteps than in all. In all: the energy rows add up to the summary, and every layer has its energy; where layers
    overlap, their shares of the run's cycles add up to the end of the last one; what was simulated and what was left
    out of the network add up to all of it.
    """
    problems = [f"layer {layer.layer}: {problem}" for layer in report.layers for problem in _layer(layer)]
    problems += list(_traffic(report)) + list(_energy(report)) + list(_shares(report))
    problems += list(_coverage(report))
    if problems:
        raise InvariantError("; ".join(problems))


def _layer(layer: LayerResult) -> Iterator[str]:
    if not 0 <= layer.utilization <= 1:
        yield f"utilization {layer.utilization} is outside 0..1"
    if layer.compute_cycles + layer.stall_cycles != layer.cycles or min(layer.compute_cycles, layer.stall_cycles) < 0:
        yield f"compute {layer.compute_cycles} + stall {layer.stall_cycles} is not {layer.cycles} cycles"
    if layer.cycles < layer.lower_bound_cycles:
        yield f"{layer.cycles} cycles are below the lower bound of {layer.lower_bound_cycles}"
    if not 0 <= layer.synaptic_operations <= layer.matches * layer.timesteps:
        yield (
            f"{layer.synaptic_operations} synaptic operations of {layer.matches} matches in {layer.timesteps} timesteps"
        )
    if layer.performed_operations < 0:
        yield f"{layer.performed_operations} operations performed"
    for unit in layer.units:
        parts = (unit.busy_cycles, unit.stall_cycles, unit.idle_cycles)
        if sum(parts) != layer.cycles or min(parts) < 0:
            yield f"{unit.unit} {unit.instance}: busy, stall, idle {parts} do not add up to {layer.cycles} cycles"
    for row in layer.traffic:
        if row.bytes < 0 or row.accesses < 0:
            yield f"negative traffic {row}"
    for (unit_name, action), count in layer.actions.items():
        if count < 0:
            yield f"{unit_name} did {action} {count} times"
    for (unit_name, action), counts in layer.timestep_counts.items():
        whole = layer.actions.get((unit_name, action), 0)
        if min(counts) < 0 or sum(counts) > whole:
            yield f"{unit_name} did {action} {whole} times, of them {', '.join(map(str, counts))} in the timesteps"


def _traffic(report: Checked) -> Iterator[str]:
    for layer in report.layers:
        read = sum(row.bytes for row in layer.traffic if (row.level, row.direction) == ("dram", "read"))
        compulsory = report.compulsory_read_bytes.get(layer.layer, 0)
        if read < compulsory:
            yield f"layer {layer.layer}: {read} bytes read from DRAM, {compulsory} are compulsory"


def _energy(report: Checked) -> Iterator[str]:
    if len(report.energy) != len(report.layers):
        yield f"{len(report.energy)} layers have energy rows, {len(report.layers)} were run"
        return
    rows = math.fsum(row["energy_pj"] for row in report.rows("energy"))
    total = report.summary()["energy_pj"]
    if not math.isclose(rows, total, rel_tol=1e-9, abs_tol=1e-9):
        yield f"energy rows add up to {rows} pJ, the summary says {total} pJ"
    if not all(row["energy_pj"] >= 0 for row in report.rows("energy")):
        yield "an energy is negative or not a number"


def _shares(report: Checked) -> Iterator[str]:
    ends = [layer.start_cycle + layer.cycles for layer in report.layers if layer.start_cycle is not None]
    shares = sum(layer.share for layer in report.layers)
    if ends and (shares != max(ends) or any(layer.share < 0 for layer in report.layers)):
        yield f"shares of {shares} cycles in a run that ends in {max(ends)}"


def _coverage(report: Checked) -> Iterator[str]:
    shares = [report.coverage, *(one["share"] for one in report.left_out)]
    if min(shares) < 0 or not math.isclose(math.fsum(shares), 1, rel_tol=1e-9):
        yield f"coverage and the shares of what is left out, {shares}, do not add up to 1"
