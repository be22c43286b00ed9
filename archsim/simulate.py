"""The main job: one machine, one trace, one report.

Layers are simulated one after the other, each from a cold cache and an idle memory, with only one layer's operands in
memory at a time; machines that hold a whole network simulate all layers at once.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from archsim import arguments, examples, processes
from archsim import cluster as on_cluster
from archsim.engine.recording import WHOLE, Window
from archsim.errors import ConfigError, TraceError, UsageError, nearest
from archsim.hardware.document import override_path
from archsim.report.dram import DeclaredDram
from archsim.report.progress import shown
from archsim.report.report import Report
from archsim.report.timeline import check_size
from archsim.report.verdict import left_out

if TYPE_CHECKING:
    from archsim.cost import CostTable
    from archsim.dataflow.base import Accelerator, EngineName, Progress
    from archsim.engine.result import CoreLoad, LayerResult
    from archsim.engine.wiring import Wiring
    from archsim.trace import Operation, Trace

Machine = TypeVar("Machine", bound="Accelerator")
ENGINE = arguments.one_of("compiled", "reference")
_TIMELINE = arguments.Kind(
    "True, False or cycles (from, to)",
    lambda value: (
        isinstance(value, bool)
        or (isinstance(value, tuple) and len(value) == 2 and all(map(arguments.WHOLE.fits, value)))
    ),
)
COMPILING = "compiling kernels (first run only)"
"""The step that takes longest, and only where kernels are not in the cache."""
EXAMPLE_TIMESTEPS = 4
"""Timesteps of the machine that is explained, where its file leaves them to the trace."""
SMALL_LAYER = (80, 32, 300)
"""M, N and K of a layer whose run shows how the units of a machine are connected."""
MOST_QUOTED = 200
"""Letters of a trace's own words in a warning."""


def load_accelerator(path: str | Path, overrides: Sequence[str] = ()) -> Accelerator:
    """The machine described by a hardware file, with overrides ``"pe.count=32"`` applied. Raises ConfigError."""
    from archsim.accelerators import ByName, registry
    from archsim.hardware.loading import load_machine

    arguments.check(path=(path, arguments.PATH), overrides=(overrides, arguments.TEXTS))
    machines = registry()
    config = load_machine(path, ByName(machines, lambda name: machines[name].Config), overrides)
    return machines[config.accelerator](config)


def compiles_first(hardware: str | Path) -> bool:
    """Whether a run of the machine ``hardware`` begins with compiling its kernels; ConfigError if it is wrong."""
    return load_accelerator(hardware).must_compile()


def accelerator_for(
    hardware: str | Path, trace: str | Path, loaded: Trace, overrides: Sequence[str] = (), *, whole: bool = True
) -> Accelerator:
    """The machine of the file ``hardware``, built for the trace ``loaded`` from ``trace``; UsageError if it cannot run
    it: ``whole``, all layers that the machine is able to run, or some that the user chooses."""
    return specialised_for(load_accelerator(hardware, overrides), hardware, trace, loaded, whole=whole)


def specialised_for(
    accelerator: Machine, hardware: str | Path, trace: str | Path, loaded: Trace, *, whole: bool = False
) -> Machine:
    """The ``accelerator`` of the file ``hardware``, built for the trace ``loaded`` from ``trace``; UsageError if it
    cannot run it (:func:`accelerator_for`)."""
    try:
        seen = accelerator.visible_trace(loaded)
        accelerator = accelerator.specialised_for(seen)
        problems = [*accelerator.problems(seen), *(accelerator.holes(seen) if whole else ())]
    except UsageError as error:
        problems = list(error.problems)
    if problems:
        raise UsageError([f"{hardware} cannot run {trace}: {problem}" for problem in problems])
    return accelerator


def example_of(accelerator: Accelerator, hardware: str | Path) -> Accelerator:
    """The machine; one of EXAMPLE_TIMESTEPS, or as few as it can have, where its file leaves them to the trace."""
    from archsim.hardware.loading import changed

    if accelerator.config.timesteps != "trace":
        return accelerator
    timesteps = max(EXAMPLE_TIMESTEPS, accelerator.config.least_timesteps)
    return type(accelerator)(changed(accelerator.config, "timesteps", timesteps, str(hardware)))


def placement_of(hardware: str | Path, trace: str | Path, overrides: Sequence[str] = ()) -> list[tuple[str, CoreLoad]]:
    """Where the layers of ``trace`` are on the mesh of the machine ``hardware``: each core that is used, with its
    layer's name. UsageError if the machine has no mesh or cannot run the trace."""
    from archsim.trace import load_trace

    loaded = load_trace(trace)
    accelerator = accelerator_for(hardware, trace, loaded, overrides)
    found = accelerator.placement(accelerator.visible_trace(loaded))
    if not found:
        raise UsageError(f"{hardware}: has no mesh of cores to place layers on; --trace is for machines that have")
    return found


def wiring(accelerator: Accelerator) -> Wiring:
    """The block diagram of a machine, found by running a small layer."""
    import numpy as np

    from archsim.dataflow.machine import DrawnMachine
    from archsim.engine.wiring import watch

    trace = _small_trace(accelerator)
    accelerator = accelerator.specialised_for(accelerator.visible_trace(trace))
    assert isinstance(accelerator, DrawnMachine)  # all machines are
    program = accelerator.example(trace, trace.operations[0])
    step = program.diagram.coroutines(accelerator.columns())
    counts = np.zeros((len(program.state), len(accelerator.counted)), np.int64)
    names = accelerator.tensors * program.copies
    return watch(
        step, program.spec, program.operands, program.topology, program.state, counts, names, program.diagram.kinds
    )  # fmt: skip


def _small_trace(accelerator: Accelerator) -> Trace:
    """A layer of the kind of operand that a machine takes."""
    from archsim.trace import activation_product, matrix_product, synthesize
    from archsim.trace.synthetic import first_spike_layer

    m, n, k = SMALL_LAYER
    if accelerator.operand == "spike_time":
        return first_spike_layer(m, n, k)
    if accelerator.operand != "spike":
        return synthesize([activation_product("layer", m, n, k, activation_density=0.5, weight_density=0.5)])
    timesteps = min(4, accelerator.most_timesteps)
    density = max(0.2, 0.5 / timesteps)  # what is not silent spikes at least once
    spikes = matrix_product("layer", m, n, k, spike_density=density, silent_ratio=0.5, weight_density=0.5)
    return synthesize([spikes], timesteps=timesteps, gradient_density=0.5)


def compile_kernels(hardware: str | Path) -> str:
    """Run a small layer on the machine of the file ``hardware``, so that its kernels are kept on disk; its name."""
    accelerator = load_accelerator(hardware)
    trace = _small_trace(accelerator)
    accelerator = accelerator.specialised_for(accelerator.visible_trace(trace))
    for _ in accelerator.run_layers(trace, trace.operations, "compiled", verify=True, record=False):
        pass
    return accelerator.name


def finds_accuracy(hardware: str | Path, trace: str | Path) -> bool:
    """Whether runs of ``trace`` on machines of the file ``hardware`` can find an accuracy; also where the trace cannot
    be read, which every run says itself."""
    from archsim.trace import load_trace

    accelerator = load_accelerator(hardware)
    try:
        return accelerator.finds_accuracy(load_trace(trace))
    except TraceError:
        return True


def file_sha256(path: Path) -> str:
    """Hash of the file at ``path``; empty where there is none that can be read, which its run says in words."""
    if not path.is_file():  # a pipe may have no end
        return ""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def machine_sha256(hardware: str | Path) -> str:
    """Hash of the hardware file, and of those that it extends where there are any."""
    from archsim.hardware.loading import machine_files

    try:
        files = machine_files(hardware)
    except ConfigError:
        files = [examples.find(hardware)]
    hashes = [file_sha256(file) for file in files]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256(" ".join(hashes).encode()).hexdigest()


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
    timeline: bool | tuple[int, int] = False,
    progress: Progress | None = None,
    jobs: int | None = None,
    cluster: str | None = None,
    **settings: object,
) -> Report:
    """Simulate the layers of the trace ``trace`` on the machine ``hardware``: files, or names such as loas and vgg9.

    ``settings`` change values of the hardware file, with two underscores for a dot: ``pe__count=32``; ``overrides`` do
    so in the words of the command line, ``"pe.count=32"``, for a program that is given these. ``layers`` restricts the
    run to layers of these names. ``verify`` compares every output with the trace's. ``timeline`` records what every
    unit does, for ``timeline.json``: all of the run, or cycles (from, to) of it. ``jobs`` layers are simulated at once,
    by default as many as there are cores, or with ``cluster`` as many as that Dask scheduler has workers; no result
    depends on it. Raises ConfigError, TraceError or UsageError for what is wrong with the input, all problems of a file
    at once.
    """
    arguments.check(
        hardware=(hardware, arguments.PATH),
        trace=(trace, arguments.PATH),
        overrides=(overrides, arguments.TEXTS),
        engine=(engine, ENGINE),
        layers=(layers, arguments.optional(arguments.TEXTS)),
        verify=(verify, arguments.FLAG),
        timeline=(timeline, _TIMELINE),
        progress=(progress, arguments.optional(arguments.FUNCTION)),
        jobs=(jobs, arguments.optional(arguments.COUNT)),
        cluster=(cluster, arguments.optional(arguments.TEXT)),
    )
    if cluster is not None and timeline is not False:
        raise UsageError("--timeline: is recorded on this machine alone; leave --cluster away")
    overrides = all_overrides(overrides, settings)
    jobs = jobs or os.cpu_count() or 1
    with shown(progress) as show:
        return _report(hardware, trace, overrides, engine, layers, verify, _window(timeline), show, jobs, cluster)


def _report(
    hardware: str | Path,
    trace: str | Path,
    overrides: tuple[str, ...],
    engine: EngineName,
    layers: Sequence[str] | None,
    verify: bool,
    window: Window | None,
    progress: Progress | None,
    jobs: int,
    cluster: str | None,
) -> Report:
    from archsim.cost import area_rows, energy_rows, price_rows, slow_memories, table_file
    from archsim.dataflow.activation_unit import activation_units, with_look_ups
    from archsim.dataflow.coverage import coverage
    from archsim.hardware.loading import explained_values, resolved_yaml
    from archsim.report import evidence
    from archsim.trace import load_trace

    loaded = load_trace(trace)
    machine = load_accelerator(hardware, overrides)
    accelerator = specialised_for(machine, hardware, trace, loaded, whole=layers is None)
    loaded = accelerator.visible_trace(loaded)
    table = load_prices(accelerator)
    chosen = _to_run(accelerator, loaded, layers, f"{hardware} cannot run {trace}")
    inventory = [*accelerator.inventory(), *activation_units(accelerator, loaded, chosen)]
    area, prices = area_rows(inventory, table), price_rows(inventory, table)
    covered = coverage(accelerator, loaded, chosen, layers)
    if cluster is None:
        found = _layers(accelerator, loaded, chosen, engine, verify, window, progress, jobs)
    else:
        shared = shared_run(hardware, trace, loaded, overrides, engine, verify)
        found = layers_on_cluster(shared, accelerator, chosen, progress, cluster)
    results = tuple(with_look_ups(result, loaded, chosen) for result in found)
    warnings = [
        *left_out(covered),
        *_expanded(accelerator, loaded, chosen),
        *slow_memories(inventory, table, accelerator.clock_mhz),
        *_fit(accelerator, overrides),
        *_doubts(accelerator, results),
    ]
    energy = tuple(
        energy_rows(result.actions, inventory, table, result.share, accelerator.clock_mhz) for result in results
    )
    explained = explained_values(hardware, machine.config, overrides)
    return Report(
        accelerator=accelerator.name,
        workload=loaded.network,
        engine=engine,
        trace_sha256=loaded.sha256,
        resolved=resolved_yaml(accelerator.config, explained),
        clock_mhz=accelerator.clock_mhz,
        images=loaded.images,
        layers=results,
        energy=energy,
        area=area,
        prices=prices,
        covered=covered,
        verify=verify,
        labels=loaded.provenance,
        compulsory_read_bytes={result.layer: result.compulsory_read_bytes for result in results},
        timeline=window,
        warnings=tuple(warnings),
        hardware=str(hardware),
        trace=str(trace),
        hardware_sha256=machine_sha256(hardware),
        cost_table_sha256=file_sha256(table_file(accelerator.cost_table)),
        overrides=overrides,
        description=accelerator.config.description,
        fitted=accelerator.config.fitted,
        sram_size_kib=sum(
            component.instances * float(component.parameters["capacity_bytes"]) / 1024
            for component in inventory
            if component.kind in ("cache", "sram")
        ),
        exact=accelerator.exact,
        moved=_moved(loaded, accelerator.fused(loaded, chosen)) if verify else {},
        dram=_declared_dram(accelerator),
        findings={
            **accelerator.context,
            **(accelerator.metrics(loaded) if verify else {}),
            **accelerator.findings(results),
        },
        **_of_the_network(loaded, verify, jobs),
        evidence=evidence.of_run(
            evidence.of_machine(accelerator.name, inventory, explained, area),
            itertools.chain.from_iterable(energy),
            prices,
        ),
    )


def _declared_dram(accelerator: Accelerator) -> DeclaredDram | None:
    """What the machine's file says of DRAM; None where memory is ideal."""
    memory = accelerator.config.memory
    if memory.ideal:
        return None
    dram = memory.dram.resolve(accelerator.clock_mhz, memory.line_bytes)
    return DeclaredDram(memory.dram.bandwidth_gb_s, dram.row_hit_cycles)


def _moved(trace: Trace, names: Collection[str]) -> dict[str, int]:
    """Mismatches of the operations ``names``, which happen on the way of layers and which no layer computes."""
    from archsim.trace.resimulation import check_operation

    checks = (check_operation(trace, operation) for operation in trace.operations if operation.name in names)
    return {check.layer: check.mismatches for check in checks if check.mismatches is not None}


def _of_the_network(trace: Trace, verify: bool, jobs: int) -> dict[str, Any]:
    """What a report says of the network, whatever the machine; what takes all sums again only where these are
    verified."""
    from archsim.trace.estimate import estimate, total
    from archsim.trace.neurobench import neurobench
    from archsim.trace.work import WORKING, adds, dense_operations

    layers = [operation for operation in trace.operations if operation.op in WORKING]
    estimates = estimate(trace)
    return {
        "estimates": {name: one.energy_pj for name, one in estimates.items()},
        "operations": {one.name: dense_operations(trace, one) * (1 if adds(trace, one) else 2) for one in layers},
        "read_out": layers[-1].name if layers else "",
        "network": {
            "estimate": total(estimates),
            "neurobench": neurobench(trace, updates=verify, jobs=jobs)._asdict(),
        },
    }


def _window(timeline: bool | tuple[int, int]) -> Window | None:
    if isinstance(timeline, bool):
        return WHOLE if timeline else None
    window = Window(*timeline)
    if not 0 <= window.first < window.end <= WHOLE.end:
        raise UsageError(f"timeline: cycles (from, to) must be 0 <= from < to <= {WHOLE.end}, got {tuple(timeline)}")
    return window


def all_overrides(overrides: Sequence[str], settings: Mapping[str, object]) -> tuple[str, ...]:
    """``overrides``, and ``settings`` by keyword in the same form: pe__count=32 is ``"pe.count=32"``.

    UsageError for what is set in both ways: the one would silently go before the other.
    """
    told = {override_path(override) for override in overrides}
    twice = [path for path in (name.replace("__", ".") for name in settings) if path in told]
    if twice:
        raise UsageError([f"{path}: is set twice, by keyword and in overrides" for path in twice])
    return (*overrides, *(f"{name.replace('__', '.')}={yaml_text(value)}" for name, value in settings.items()))


def yaml_text(value: object) -> str:
    """``value`` in one line of YAML; JSON is part of it."""
    try:
        return json.dumps(value, allow_nan=False, default=_plain)
    except (TypeError, ValueError) as error:
        raise UsageError(f"a setting must be a number, a truth value, text, a list or a mapping: {error}") from error


def _plain(value: object) -> object:
    """A number or list of NumPy as Python's own."""
    if not hasattr(value, "tolist"):
        raise TypeError(f"got {type(value).__name__}")
    return value.tolist()


def run_each(hardware: Sequence[str | Path], trace: str | Path, jobs: int, **options: Any) -> Iterator[Report]:
    """:func:`run` of ``trace`` on several machines, in ``jobs`` processes, in the order given.

    ``options`` are those of :func:`run`. Where there are fewer machines than ``jobs``, each has several layers at once.
    Whatever ends the iteration early ends the processes too. Raises UsageError for a machine whose process was killed.
    """
    options["jobs"] = max(1, jobs // len(hardware))
    work = functools.partial(_run_one, trace=trace, options=options)
    reports: dict[int, Report] = {}
    given = iter(range(len(hardware)))
    wanted = next(given, None)
    for place, report in processes.results(work, hardware, jobs):
        if report is None:
            raise UsageError(f"{hardware[place]}: {processes.LOST}")
        reports[place] = report
        while wanted in reports:
            yield reports.pop(wanted)
            wanted = next(given, None)


def _run_one(hardware: str | Path, trace: str | Path, options: dict[str, Any]) -> Report:
    return run(hardware, trace, **options)


def _to_run(accelerator: Accelerator, trace: Trace, layers: Sequence[str] | None, problem: str) -> Sequence[Operation]:
    """The operations that run: all that the machine is able to run, or those called one of ``layers``."""
    able = accelerator.layers(trace)
    chosen = able if layers is None else _chosen(accelerator, trace, able, layers)
    if chosen:
        return chosen
    fused = accelerator.fused(trace, able)
    reasons = [
        f"{name} happens on the way of other layers and is none itself"
        if name in fused
        else f"{name} {accelerator.why_skipped(trace, trace.operation(name))}"
        for name in layers or ()
    ]
    raise UsageError([f"{problem}: {reason}" for reason in reasons or ["no layer is chosen"]])


def _chosen(accelerator: Accelerator, trace: Trace, able: Sequence[Operation], names: Sequence[str]) -> list[Operation]:
    """Those of ``able`` that are called one of ``names``; UsageError for a name that no operation has."""
    known = {operation.name for operation in trace.operations}
    allowed = [operation.name for operation in able]
    unknown = [
        f"no layer '{name}' in {trace.network}; {accelerator.name} runs {', '.join(allowed)}{nearest(name, allowed)}"
        for name in names
        if name not in known
    ]
    if unknown:
        raise UsageError(unknown)
    return [operation for operation in able if operation.name in names]


def _expanded(accelerator: Accelerator, trace: Trace, operations: Sequence[Operation]) -> Iterator[str]:
    """Which layers are larger than in the model and so cost more than they would; not groups, where they are seen."""
    from archsim.trace.expansion import expansion
    from archsim.trace.work import groups_of

    for operation in operations:
        found = expansion(trace, operation)
        if found and accelerator.takes_integers and operation.op == "conv2d" and operation.weight is not None:
            found = None if groups_of(operation.weight) == found.factor else found
        if found:
            why = found.why[:MOST_QUOTED]
            yield (
                f"{operation.name}: {operation.k:,} x {operation.n:,} here, {found.factor:,g} times as large as in the "
                f"model ({why}); its cycles and traffic are overstated"
            )


def _fit(accelerator: Accelerator, overrides: Sequence[str]) -> Iterator[str]:
    """What a fitted machine must say of itself."""
    if accelerator.config.fitted:
        yield "this machine is fitted: its constants reproduce published results and do not describe a chip"
        if overrides:
            yield f"{', '.join(overrides)}: the fit holds for the file as it is, not with other settings"


def _doubts(accelerator: Accelerator, results: Sequence[LayerResult]) -> Iterator[str]:
    """What the events of a run say against its numbers."""
    from archsim.hardware.loading import field_rows

    events: dict[str, int] = {}
    for result in results:
        for name, count in result.events.items():
            events[name] = events.get(name, 0) + count
    if unknown := events.get("output_is_upper_bound", 0):
        yield f"{unknown} of {len(results)} layers: outputs unknown, written as fully dense (upper bound)"
    widths = {row.path.replace(".", "_"): row for row in field_rows(accelerator.config)}
    for name, count in sorted(events.items()):
        register, overflows, _ = name.partition("_overflows")
        if overflows and count:
            row = next(
                (row for path, row in widths.items() if path.replace(".", "_").endswith(f"{register}_bits")), None
            )
            bits, where = (row.value, row.path) if row else (accelerator.sum_bits, name)
            yield f"{count:,} additions exceed {bits} bits ({where}); sums were kept exact"


def _layers(
    accelerator: Accelerator,
    trace: Trace,
    operations: Sequence[Operation],
    engine: EngineName,
    verify: bool,
    window: Window | None,
    progress: Progress | None,
    jobs: int,
) -> Iterator[LayerResult]:
    done: list[LayerResult] = []
    record = window or False
    if progress and engine == "compiled" and accelerator.must_compile():
        progress = _compiling_first(progress)
    options: dict[str, Any] = {"verify": verify, "record": record, "progress": progress, "jobs": jobs}
    for result in accelerator.run_layers(trace, operations, engine, **options):
        done.append(result)
        if window is not None:
            check_size(done, window)  # before more of what nobody can open is recorded
        yield result
    if progress:
        progress("", len(operations), len(operations))


def _compiling_first(progress: Progress) -> Progress:
    """Kernels are compiled in the first step, and that takes longest."""
    begun = itertools.count()

    def show(step: str, done: int, total: int) -> None:
        progress(COMPILING if next(begun) == 0 else step, done, total)

    return show


# --- Workers of a cluster ---------------------------------------------------------------------------------------------


class SharedRun(NamedTuple):
    """A run whose layers workers simulate: its files as the user named them, where they are, and their hashes."""

    hardware: str
    trace: str
    files: tuple[str, str]
    hashes: tuple[str, str]
    overrides: tuple[str, ...]
    engine: EngineName
    verify: bool


def shared_run(
    hardware: str | Path, trace: str | Path, loaded: Trace, overrides: Sequence[str], engine: EngineName, verify: bool
) -> SharedRun:
    """The run of the trace ``loaded`` from ``trace`` on the machine of the file ``hardware``."""
    return SharedRun(
        str(hardware), str(trace), (_everywhere(hardware), _everywhere(trace)),
        (machine_sha256(hardware), loaded.sha256), tuple(overrides), engine, verify,
    )  # fmt: skip


def layers_on_cluster(
    run: SharedRun, accelerator: Accelerator, operations: Sequence[Operation], progress: Progress | None, address: str
) -> Iterator[LayerResult]:
    """Results of ``operations`` in their order, from the workers of the scheduler at ``address``.

    A layer is a piece of work of its own; on a machine that holds a whole network, all layers are one. UsageError for
    layers whose workers died.
    """
    names = [operation.name for operation in operations]
    pieces = [(name,) for name in names] if accelerator.layers_apart else [tuple(names)]
    found: dict[int, list[LayerResult]] = {}
    wanted = 0
    finished = on_cluster.results(functools.partial(_simulated, run), pieces, address)
    for done, (place, piece) in enumerate(finished, 1):
        if isinstance(piece, on_cluster.Lost):
            raise UsageError(f"--cluster {address}: {', '.join(pieces[place])}: its worker died: {piece.why}")
        found[place] = piece
        if progress:
            progress(pieces[place][-1], done, len(pieces))
        while wanted in found:
            yield from found.pop(wanted)
            wanted += 1


def _simulated(run: SharedRun, names: Sequence[str]) -> list[LayerResult]:
    """On a worker: the layers called ``names``."""
    accelerator, trace = _loaded(run.hardware, run.trace, run.files, run.hashes, run.overrides)
    chosen = [operation for operation in accelerator.layers(trace) if operation.name in names]
    return list(accelerator.run_layers(trace, chosen, run.engine, verify=run.verify, record=False))


@functools.lru_cache(maxsize=1)
def _loaded(
    hardware: str, trace: str, files: tuple[str, str], hashes: tuple[str, str], overrides: tuple[str, ...]
) -> tuple[Accelerator, Trace]:
    """The machine, built for the trace, and what it sees of the trace; kept for the next layer of the same run."""
    from archsim.trace import load_trace

    loaded = load_trace(files[1])
    here = (machine_sha256(files[0]), loaded.sha256)
    other = [name for name, one, two in zip((hardware, trace), here, hashes, strict=True) if one != two]
    if other:
        raise UsageError([f"{name}: is another file on a worker than where the run began" for name in other])
    accelerator = accelerator_for(*files, loaded, overrides, whole=False)
    return accelerator, accelerator.visible_trace(loaded)


def _everywhere(path: str | Path) -> str:
    """The path of a file, whatever folder a worker is in; the name of an example, which every archsim has."""
    return str(Path(path).resolve() if Path(path).exists() else path)
