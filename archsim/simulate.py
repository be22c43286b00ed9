"""The main job: one machine, one trace, one report.

Layers are simulated one after the other, each from a cold cache and an idle memory; only one layer's operands are in
memory at a time.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsim import processes
from archsim.errors import UsageError
from archsim.report.report import Report

if TYPE_CHECKING:
    from archsim.accelerators.base import Accelerator, EngineName
    from archsim.cost import CostTable
    from archsim.engine.result import LayerResult
    from archsim.trace import Trace

Progress = Callable[[str, int, int], None]
"""Called with a layer's name, how many layers are done, and how many there are."""


def load_accelerator(path: str | Path, overrides: Sequence[str] = ()) -> Accelerator:
    """The machine described by a hardware file, with overrides ``"pe.count=32"`` applied. Raises ConfigError."""
    from archsim.accelerators import registry
    from archsim.hardware.loading import load_machine

    machines = registry()
    config = load_machine(path, {name: machine.Config for name, machine in machines.items()}, overrides)
    return machines[config.accelerator](config)


def load_prices(accelerator: Accelerator) -> CostTable:
    """The cost table that a machine names, for its technology. Raises ConfigError."""
    from archsim.cost import load_table

    return load_table(accelerator.cost_table, accelerator.config.technology_nm)


def run(
    hardware: str | Path,
    trace: str | Path,
    *,
    overrides: Sequence[str] = (),
    engine: EngineName = "compiled",
    layers: Sequence[str] | None = None,
    verify: bool = True,
    timeline: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Simulate the spiking layers of the trace file ``trace`` on the machine of the file ``hardware``.

    ``layers`` restricts the run to layers of these names. ``verify`` compares every output with the trace's. Raises
    ConfigError, TraceError or UsageError for what is wrong with the input, all problems of a file at once.
    """
    from archsim.cost import area_rows, energy_rows, slow_memories
    from archsim.hardware.loading import resolved_yaml
    from archsim.trace import load_trace

    accelerator = load_accelerator(hardware, overrides)
    table = load_prices(accelerator)
    inventory = accelerator.inventory()
    area = area_rows(inventory, table)
    loaded = load_trace(trace)
    problems = accelerator.problems(loaded)
    if problems:
        raise UsageError([f"{hardware} cannot run {trace}: {problem}" for problem in problems])
    results = tuple(_layers(accelerator, loaded, engine, layers, verify, timeline, progress))
    warnings = list(slow_memories(inventory, table, accelerator.clock_mhz))
    simulated = {result.layer for result in results}
    if left_out := [name for name in layers or () if name not in simulated]:
        why = "without weights or with an input of another kind"
        warnings.append(f"chosen but not simulated, {why}: {', '.join(left_out)}")
    return Report(
        accelerator=accelerator.name,
        workload=loaded.network,
        engine=engine,
        trace_sha256=loaded.sha256,
        resolved=resolved_yaml(accelerator.config),
        clock_mhz=accelerator.clock_mhz,
        images=loaded.images,
        layers=results,
        energy=tuple(
            energy_rows(result.actions, inventory, table, result.cycles, accelerator.clock_mhz) for result in results
        ),
        area=area,
        labels=loaded.provenance,
        compulsory_read_bytes={result.layer: result.compulsory_read_bytes for result in results},
        timeline=timeline,
        warnings=tuple(warnings),
    )


def run_each(hardware: Sequence[str | Path], trace: str | Path, **options: Any) -> Iterator[Report]:
    """:func:`run` of ``trace`` on several machines, in as many processes as there are cores, in the order given.

    ``options`` are those of :func:`run`. Whatever ends the iteration early ends the processes too. Raises UsageError
    for a machine whose process was killed.
    """
    work = functools.partial(_run_one, trace=trace, options=options)
    reports: dict[int, Report] = {}
    given = iter(range(len(hardware)))
    wanted = next(given, None)
    for place, report in processes.results(work, hardware, os.cpu_count() or 1):
        if report is None:
            raise UsageError(f"{hardware[place]}: {processes.LOST}")
        reports[place] = report
        while wanted in reports:
            yield reports.pop(wanted)
            wanted = next(given, None)


def _run_one(hardware: str | Path, trace: str | Path, options: dict[str, Any]) -> Report:
    return run(hardware, trace, **options)


def _layers(
    accelerator: Accelerator,
    trace: Trace,
    engine: EngineName,
    layers: Sequence[str] | None,
    verify: bool,
    record: bool,
    progress: Progress | None,
) -> Iterator[LayerResult]:
    from archsim.accelerators.base import layer_of

    chosen = {operation.name for operation in (trace.select(layers=layers) if layers is not None else trace).operations}
    operations = [operation for operation in accelerator.layers(trace) if operation.name in chosen]
    if not operations:
        kind = {"spike": "spikes", "int": "integers"}[accelerator.operand]
        raise UsageError(
            f"{trace.path}: no layer to simulate: none of the chosen layers has weights and {kind} as input"
        )
    for done, operation in enumerate(operations):
        if progress:
            progress(operation.name, done, len(operations))
        yield accelerator.run_layer(layer_of(trace, operation), engine, verify=verify, record=record)
    if progress:
        progress("", len(operations), len(operations))
