"""The command line: each verb parses, calls one library function and prints; no modelling here.

Tables go to stdout: for people on a terminal, with full precision and tab-separated in a pipe. What was done, warnings
(``archsim: warning:``) and errors (``archsim: error:``) go to stderr, a line each; progress too, but only to a
terminal. Exit codes: 0 done, 2 the user's input is wrong or a resource is used up, 1 a bug in archsim, 128 plus its
number after a signal (130 Ctrl-C, 143 SIGTERM). Whatever takes long to import is imported where it is used.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from archsim import examples
from archsim._version import __version__
from archsim.errors import ArchsimError, UsageError, nearest, printable

if TYPE_CHECKING:
    from archsim.report.report import Report
    from archsim.trace import ActivationLayer, SyntheticLayer, Trace

app = typer.Typer(
    name="archsim",
    help="What would this machine do with my trained network? Cycles, energy, area and traffic, layer by layer.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=True,
)
# typer exports only one leaf of its usage errors; the base of that leaf is what they share.
USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]

trace_app = typer.Typer(help="Look at, validate, generate and convert traces.", rich_markup_mode=None)
app.add_typer(trace_app, name="trace")


NEEDED_BYTES = 1 << 30
"""Address space of a run: compiling every machine of the comparison takes up to 650 MiB, traces take the rest."""
MOST_LINES = 10
"""Failed points of a sweep that are printed; all are in its file."""


class Engine(StrEnum):
    """Which of the two engines simulates; they agree on every completion time."""

    compiled = "compiled"
    reference = "reference"


def _files_and(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """How a word that is a file's or a shipped one's name may go on, for the shell."""

    def complete(incomplete: str) -> list[str]:
        folder, _, start = incomplete.rpartition("/")
        found = [] if folder else [name for name in names() if name.startswith(start)]
        with contextlib.suppress(OSError):
            for entry in sorted(Path(folder or ".").iterdir()):
                if entry.name.startswith(start):
                    found.append(f"{folder}/{entry.name}" if folder else entry.name)
        return found

    return complete


Hardware = Annotated[
    Path,
    typer.Argument(
        metavar="HW", help="Hardware file (YAML), or the name of one.", autocompletion=_files_and(examples.machines)
    ),
]
TraceFile = Annotated[
    Path,
    typer.Argument(
        metavar="TRACE", help="Trace file (.npz), or the name of one.", autocompletion=_files_and(examples.traces)
    ),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Override, such as pe.count=32.")
]
Engines = Annotated[Engine, typer.Option(help="compiled is fast, reference steps in a debugger.")]
Layers = Annotated[list[str] | None, typer.Option("--layers", metavar="NAME,...", help="Only these layers.")]
Verify = Annotated[bool, typer.Option("--verify/--no-verify", help="Compute every layer again and compare.")]


@app.callback(invoke_without_command=True)
def _archsim(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    # `debug` is declared for the help text; main() takes it from anywhere on the command line.
    if version:
        typer.echo(f"archsim {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
    else:
        _check_limits()


def _check_limits() -> None:
    """UsageError where limits of memory leave no room for compiled code.

    OpenBLAS waits for ever for memory that it does not get while it is loaded, and hears no signal; LLVM aborts.
    """
    for kind, what, option in (
        (resource.RLIMIT_AS, "address space", "-v"),
        (resource.RLIMIT_DATA, "data segment", "-d"),
    ):
        limit = resource.getrlimit(kind)[0]
        if limit == resource.RLIM_INFINITY:
            continue
        if limit < NEEDED_BYTES:
            raise UsageError(
                f"not enough memory: the {what} is limited to {limit >> 20} MiB (ulimit {option});"
                f" archsim needs {NEEDED_BYTES >> 20}"
            )
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # each thread reserves some 100 MiB


@trace_app.callback(invoke_without_command=True)
def _trace(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


# ---------------------------------------------------------------------------------------------------------- simulation


@app.command()
def run(
    hardware: Hardware,
    trace: TraceFile,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Default: results/<hw>__<trace>/.")
    ] = None,
    engine: Engines = Engine.compiled,
    overrides: Overrides = None,
    layers: Layers = None,
    verify: Verify = True,
    timeline: Annotated[bool, typer.Option("--timeline", help="Also write timeline.json for Perfetto.")] = False,
    window: Annotated[
        str | None,
        typer.Option("--timeline-window", metavar="FROM:TO", help="Timeline of these cycles of the run only."),
    ] = None,
    page: Annotated[bool, typer.Option("--report", help="Also draw the figures and write report.html.")] = False,
) -> None:
    """Simulate TRACE on HW, verify the outputs, and write the results folder."""
    from archsim.report import files
    from archsim.report.timeline import parse_window

    recorded = timeline if window is None else parse_window(window)
    _refuse_swapped(hardware)
    folder = output or Path("results") / f"{hardware.stem}__{trace.stem}"
    with files.results_folder(folder) as partial:
        report = _simulate(hardware, trace, overrides, engine, layers, verify=verify, timeline=recorded)
        files.write_texts(partial, report.texts())
        if page:
            files.write_texts(partial, {"report.html": _page(hardware, overrides or (), report, partial)})
    _print_layers(report)
    for warning in report.warnings:
        _warn(warning)
    wrong = _print_verdict(report)
    _note(f"results in {folder}{os.sep}")
    if wrong:
        raise UsageError(wrong)


def _refuse_swapped(hardware: Path) -> None:
    if _is_zip(hardware):
        raise UsageError(f"{hardware}: is a trace; the order is HW TRACE")


def _page(hardware: Path, overrides: Sequence[str], report: Report, folder: Path) -> str:
    """The run in ``folder`` as one page."""
    from archsim import simulate
    from archsim.cost import price_rows
    from archsim.hardware.loading import explained_values
    from archsim.report.page import Sources, page
    from archsim.report.plots import plot

    machine = simulate.load_accelerator(hardware, overrides)
    prices = price_rows(machine.inventory(), simulate.load_prices(machine))
    sources = Sources(
        explained_values(hardware, machine.config, overrides),
        [(p.unit, p.action, p.price, p.quantity, p.confidence, p.source) for p in prices],
    )
    return page(report, sources, [figure for figure in plot(folder) if figure.suffix == ".svg"])


@app.command()
def compare(
    hardware: Annotated[
        list[Path], typer.Argument(metavar="HW...", help="Hardware files; the first is the reference.")
    ],
    trace: Annotated[Path, typer.Option("--trace", metavar="TRACE", help="Trace file (.npz).")],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="DIR",
            help="Default: results/compare__<trace>/. A name that ends in .csv: the table alone.",
        ),
    ] = None,
    engine: Engines = Engine.compiled,
    overrides: Overrides = None,
    layers: Layers = None,
    verify: Verify = True,
) -> None:
    """Simulate TRACE on several machines, in parallel; one table and a bar chart, normalised to the first."""
    from archsim import simulate
    from archsim.report import comparison, files, plots
    from archsim.trace import load_trace

    names = _machine_names(hardware)
    loaded = load_trace(trace)
    _each(hardware, lambda path: simulate.accelerator_for(path, trace, loaded, overrides or (), whole=layers is None))
    place = output or Path("results") / f"compare__{trace.stem}"
    if place.suffix in files.FIGURE_KINDS:
        raise UsageError(f"{place}: is the name of a figure; the comparison is a table, name it .csv")
    alone = place.suffix == ".csv"
    header = files.csv_text((), comparison.COLUMNS).encode()
    with files.result_file(place, header) if alone else files.results_folder(place) as partial:
        _say_if_compiling(engine, hardware)
        reports = {}
        with _progress() as progress:
            runs = simulate.run_each(
                hardware, trace, overrides=overrides or (), engine=engine.value, layers=_chosen(layers), verify=verify
            )
            for name, report in zip(names, runs, strict=True):
                reports[name] = report
                if progress:
                    progress(name, len(reports), len(names))
        rows = comparison.rows(reports)
        table = partial if alone else partial / files.COMPARISON
        files.write_texts(table.parent, {table.name: files.csv_text(rows, comparison.COLUMNS)})
        if not alone:
            plots.plot(partial)
    # Who reads it at a terminal has just typed the trace and the overrides; warnings name what is left out.
    known = {"trace", "overrides", "left_out"}
    known |= {name for name in comparison.SOMETIMES if all(row[name] is None for row in rows)}
    columns = [name for name in comparison.COLUMNS if name not in known or not sys.stdout.isatty()]
    _print_table(columns, [row.values() for row in _ordered(rows, columns)], repeat=2)
    for doubt in comparison.doubts(reports):
        _warn(doubt)
    for note in comparison.notes(reports):
        _note(f"note: {note}")
    _note(f"comparison in {place}{'' if alone else os.sep}")
    warned: dict[str, list[str]] = {}
    for name, report in reports.items():
        for warning in report.warnings:
            warned.setdefault(warning, []).append(name)
    for warning, whose in warned.items():
        _warn(f"{', '.join(whose)}: {warning}")
    wrong = [line for name, report in reports.items() for line in _print_verdict(report, f"{name}: ")]
    if wrong:
        raise UsageError(wrong)


@app.command()
def sweep(
    hardware: Hardware,
    traces: Annotated[list[Path], typer.Argument(metavar="TRACE...", help="Trace files (.npz).")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The CSV, one row a point.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="PATH=V1,V2,...", help="A setting and its values; repeatable.")
    ] = None,
    together: Annotated[
        bool, typer.Option("--zip/--grid", help="First values of all settings, second ones, ...; or all combinations.")
    ] = False,
    sample: Annotated[int | None, typer.Option("--random", metavar="N", help="Only N points, drawn from all.")] = None,
    seed: Annotated[int, typer.Option(help="Of --random.")] = 0,
    pareto: Annotated[
        str | None, typer.Option(metavar="COLUMN,...", help="Mark the points that no other beats in all of these.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(metavar="N", min=1, help="Processes; default: one a core.")] = None,
    cluster: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Run on the workers of this Dask scheduler instead.")
    ] = None,
    engine: Engines = Engine.compiled,
    layers: Layers = None,
    verify: Verify = True,
) -> None:
    """Simulate every combination of settings on every TRACE, in parallel; resumes where it was stopped.

    A point that cannot run is a row with its error. Run the same command again after an interruption: rows that are
    there are not computed again.
    """
    from archsim import sweeping as sweeps

    plan = sweeps.Sweep(
        hardware,
        tuple(traces),
        tuple(sweeps.axis(text) for text in settings or ()),
        "zip" if together else "grid",
        sample,
        seed,
        engine.value,
        None if layers is None else tuple(_chosen(layers) or ()),
        verify,
    )
    minimised = [name.strip() for name in (pareto or "").split(",") if name.strip()]
    _say_if_compiling(engine, [hardware])
    damaged: list[str] = []
    with _progress() as progress:
        steps = sweeps.run(
            plan, output, jobs=jobs or os.cpu_count() or 1, cluster=cluster, pareto=minimised, tell=damaged.append
        )
        for done, total in steps:
            if progress:
                progress("points", done, total)
    rows = sweeps.read(output)
    unseen = ("hardware", *sweeps.IDENTITY, *(("left_out",) if sys.stdout.isatty() else ()))
    shown = [name for name in rows[0] if name not in unseen]
    _print_table(shown, [[row[name] for name in shown] for row in rows])
    _note(f"{len(rows)} points in {output}")
    lacking = sum(bool(row["left_out"]) for row in rows)
    if lacking and layers is None:
        _warn(f"{lacking} of {len(rows)} points leave out a part of the network: see the columns coverage and left_out")
    wrong = [f"{output}: point {row['point']}: {row['error']}" for row in rows if row["error"]]
    more = [f"{output}: and {len(wrong) - MOST_LINES} more points failed"] if len(wrong) > MOST_LINES else []
    wrong = [*wrong[:MOST_LINES], *more]
    wrong += damaged
    wrong += [f"{output}: {problem}" for problem in sweeps.not_on_the_front(rows, minimised)]
    if wrong:
        raise UsageError(wrong)


@app.command()
def adapt(
    hardware: Hardware,
    trace: TraceFile,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Default: results/adapt__<hw>__<trace>/.")
    ] = None,
    overrides: Overrides = None,
    adaptations: Annotated[
        list[str] | None,
        typer.Option("--adaptations", metavar="NAME,...", help="none, statistics, fine_tuned; default: all of them."),
    ] = None,
    images: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Evaluation images; default: the machine's.")
    ] = None,
    calibration: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Calibration images; default: all of the trace.")
    ] = None,
    jobs: Annotated[int, typer.Option(metavar="N", min=1, help="Processes that share the evaluation images.")] = 1,
) -> None:
    """Run TRACE on the analog arrays of HW with each batch-norm adaptation, and say what it gets right.

    Writes a results folder with the accuracies, the gain and offset of every channel, and a figure. Nothing is timed.
    """
    from archsim import adapting
    from archsim.report import files, plots

    _refuse_swapped(hardware)
    folder = output or Path("results") / f"adapt__{hardware.stem}__{trace.stem}"
    with files.results_folder(folder) as partial:
        _say_if_compiling(Engine.compiled, [hardware])
        with _progress() as progress:
            report = adapting.adapt(
                hardware,
                trace,
                overrides=overrides or (),
                adaptations=_chosen(adaptations) or adapting.ADAPTATIONS,
                images=images,
                calibration_images=calibration,
                jobs=jobs,
                progress=progress,
            )
        files.write_texts(partial, report.texts())
        plots.plot(partial)
    _print_table(adapting.COLUMNS, [row.values() for row in report.rows()])
    _note(f"results in {folder}{os.sep}")


@app.command()
def plot(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...",
            help="A results folder, or the CSV of a comparison or a sweep; or comparisons on several networks.",
        ),
    ],
) -> None:
    """Draw the figures of a result as PNG and SVG; prints the files written.

    Several comparisons of the same machines make one figure with a group of bars a network and the geometric mean.
    """
    from archsim.report import plots

    for file in plots.plot(paths[0]) if len(paths) == 1 else plots.plot_networks(paths):
        typer.echo(_one_line(file))


def _simulate(
    hardware: Path,
    trace: Path,
    overrides: Sequence[str] | None,
    engine: Engine,
    layers: Sequence[str] | None,
    *,
    verify: bool,
    timeline: bool | tuple[int, int],
) -> Report:
    from archsim import simulate

    _say_if_compiling(engine, [hardware])
    with _progress() as progress:
        return simulate.run(
            hardware,
            trace,
            overrides=overrides or (),
            engine=engine.value,
            layers=_chosen(layers),
            verify=verify,
            timeline=timeline,
            progress=progress,
        )


def _chosen(given: Sequence[str] | None) -> list[str] | None:
    """Names of layers or adaptations, given with commas or one by one."""
    return [name.strip() for names in given or () for name in names.split(",")] or None


def _say_if_compiling(engine: Engine, hardware: Sequence[Path]) -> None:
    from archsim import simulate

    if engine is Engine.compiled and any(simulate.compiles_first(path) for path in hardware):
        _note("compiling kernels (first run only)")


def _print_layers(report: Report) -> None:
    """The layers of a run and their total."""
    total = report.summary()
    shared = ("cycles", "stall_cycles", "utilization", "energy_pj", "dram_read_bytes", "dram_write_bytes", "mismatches")
    rows = [(row["layer"], *(row[column] for column in shared)) for row in report.rows("layers")]
    _print_table(("layer", *shared), [*rows, ("total", *(total[column] for column in shared))])


def _print_verdict(report: Report, prefix: str = "") -> list[str]:
    """The verdict on a run; returns what is wrong with the trace."""
    from archsim.report.verdict import verdict

    state, text = verdict(report)
    if state == "bad":
        return [f"{prefix}{text}"]
    told = "".join(f"; {name} {value}" for name, value in report.findings.items() if name != "exact")
    _note(f"{prefix}{text}{told}")
    return []


# -------------------------------------------------------------------------------------------------------------- traces


@trace_app.command("info")
def trace_info(trace: TraceFile) -> None:
    """What a trace holds: the operations with shapes and densities, and where it comes from."""
    from archsim.trace import load_trace
    from archsim.trace.density import operations, total

    loaded = load_trace(trace)
    facts = {
        "network": loaded.network,
        "timesteps": loaded.timesteps,
        "images": loaded.images,
        "calibration_images": loaded.meta.calibration_images,
        "evaluation_images": loaded.meta.evaluation_images,
        "sha256": loaded.sha256,
        **_flat(loaded.provenance),
    }
    _print_table(("fact", "value"), [(name, value) for name, value in facts.items() if value is not None])
    typer.echo()
    layers = operations(loaded)
    products, shapes, operands = ["layer", "op", "m", "n", "k"], ["inputs", "output"], ["operand", "operand_bits"]
    densities = ["spike_density", "silent_ratio", "fire_once_ratio", "weight_density", "input_density"]
    trained = ["gradient_density"] if any(layer.gradients is not None for layer in layers) else []
    if not sys.stdout.isatty():
        columns = [*products, *densities, *operands, *shapes, *trained]
        _print_table(columns, [[layer.row()[column] for column in columns] for layer in [*layers, total(layers)]])
        return
    columns = [*products, *shapes]  # all together do not fit 80 characters
    _print_table(columns, [[layer.row()[column] for column in columns] for layer in layers])
    typer.echo()
    columns = ["layer", *densities, *operands, *trained]
    spiking = any(layer.spikes is not None for layer in layers)
    heads = columns if spiking else ["zero_ratio" if name == "silent_ratio" else name for name in columns]
    weighted = [layer for layer in layers if layer.weights]
    _print_table(heads, [[layer.row()[column] for column in columns] for layer in [*weighted, total(weighted)]])


@trace_app.command("check")
def trace_check(trace: TraceFile) -> None:
    """Validate a trace and compute every layer again: its stored outputs must follow from its stored inputs."""
    from archsim.trace import check_trace, load_trace

    loaded = load_trace(trace)
    checks = []
    with _progress() as progress:
        for check in check_trace(loaded):
            checks.append(check)
            if progress:
                progress(check.layer, len(checks), len(loaded.operations))
    _print_table(
        ("layer", "outputs", "mismatches", "note"), [(c.layer, c.outputs, c.mismatches, c.reason) for c in checks]
    )
    wrong = [f"{trace}: {c.layer}: {c.mismatches} of {c.outputs} outputs differ" for c in checks if c.mismatches]
    if wrong:
        raise UsageError(wrong)


Share = Annotated[float | None, typer.Option(metavar="SHARE", help="With --shape: of spikes, from 0 to 1.")]


@trace_app.command("synth")
def trace_synth(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The trace to write (.npz).")],
    preset: Annotated[str | None, typer.Option(metavar="NAME", help="'archsim list' names the presets.")] = None,
    shape: Annotated[
        list[str] | None, typer.Option(metavar="M,N,K", help="A layer M x K by K x N; again for the next layer.")
    ] = None,
    spike_density: Share = None,
    silent_ratio: Share = None,
    fire_once_ratio: Share = None,
    activation_density: Annotated[
        float | None, typer.Option(metavar="SHARE", help="With --shape: 8-bit activations instead of spikes.")
    ] = None,
    weight_density: Annotated[
        float | None, typer.Option(metavar="SHARE", help="From 0 to 1; default: that of the preset.")
    ] = None,
    gradient_density: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Also gradient masks, as of a step of training; from 0 to 1.")
    ] = None,
    timesteps: Annotated[int | None, typer.Option(help="Default: those of the preset, or 4.")] = None,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal traces.")] = 0,
    images: Annotated[int, typer.Option(help="Number of images.")] = 1,
) -> None:
    """Make a synthetic trace: a preset, or layers of given shapes and densities."""
    from archsim.trace import synthesize

    if (preset is None) == (not shape):
        raise UsageError("trace synth: give either --preset or --shape")
    spikes = (spike_density, silent_ratio, fire_once_ratio)
    make = partial(synthesize, seed=seed, images=images, timesteps=timesteps, gradient_density=gradient_density)
    if preset is None:
        layers = _products(shape or (), spikes, activation_density, weight_density)
        _save(partial(make, layers), output)
        return
    if any(share is not None for share in (*spikes, activation_density)):
        raise UsageError("trace synth: densities of inputs go with --shape; a preset brings its own")
    _save(partial(make, preset, weight_density=weight_density), output)


def _products(
    shapes: Sequence[str],
    spikes: tuple[float | None, float | None, float | None],
    activation_density: float | None,
    weight_density: float | None,
) -> list[SyntheticLayer] | list[ActivationLayer]:
    """Layers of given shapes that read either spikes (density, silent ratio, fire-once ratio) or activations."""
    from archsim.trace import activation_product, matrix_product

    sizes = [(f"layer{i}", *_shape(text)) for i, text in enumerate(shapes)]
    if weight_density is not None and activation_density is not None and spikes == (None, None, None):
        return [
            activation_product(*size, activation_density=activation_density, weight_density=weight_density)
            for size in sizes
        ]
    density, silent, once = spikes
    if weight_density is None or activation_density is not None or density is None or silent is None:
        choice = "either --activation-density or --spike-density and --silent-ratio"
        raise UsageError(f"trace synth: --shape needs --weight-density, and {choice}")
    return [
        matrix_product(
            *size, spike_density=density, silent_ratio=silent, fire_once_ratio=once, weight_density=weight_density
        )
        for size in sizes
    ]


def _shape(text: str) -> tuple[int, int, int]:
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() and len(part) <= 9 for part in parts):
        raise UsageError(f"--shape: must be M,N,K, got '{text}'; for example 64,256,3456")
    m, n, k = (int(part) for part in parts)
    return m, n, k


class Format(StrEnum):
    """What kind of file is imported."""

    spikes = "spikes"
    nir = "nir"


class Weights(StrEnum):
    """Where the weights of an import come from."""

    synthetic = "synthetic"


@trace_app.command("import")
def trace_import(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to convert.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The trace to write (.npz).")],
    format: Annotated[
        Format, typer.Option("--format", help="spikes: recorded spikes without weights (.npz); nir: a NIR graph.")
    ],
    weights: Annotated[Weights, typer.Option("--weights", help="synthetic: random weights.")] = Weights.synthetic,
    weight_sparsity: Annotated[
        float | None, typer.Option("--weight-sparsity", metavar="S", help="Share of zero weights; default: the file's.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the random weights.")] = 0,
    max_weights: Annotated[
        int | None, typer.Option(metavar="N", help="Random weights that a file may ask for; default: 2^25.")
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option(metavar="ARRAY", help="For nir: inputs [T, I, ...] or [I, ...], a .npy or an .npz of one array."),
    ] = None,
    timesteps: Annotated[int | None, typer.Option(help="For nir: T, where the inputs have no time.")] = None,
    dt: Annotated[float, typer.Option(help="For nir: seconds of a timestep; 1 if it counts them.")] = 1e-4,
    weight_bits: Annotated[int, typer.Option(help="For nir: width of the integer weights.")] = 8,
    approximate_leak: Annotated[
        bool, typer.Option("--approximate-leak", help="For nir: take the nearest leak that a trace has.")
    ] = False,
    accept_differences: Annotated[
        bool, typer.Option("--accept-differences", help="For nir: take layers whose spikes are not the graph's.")
    ] = False,
) -> None:
    """Convert recorded spikes, or a NIR graph with its inputs, into a trace."""
    from archsim.trace.recorded import MAX_WEIGHTS, import_spikes

    if format is Format.nir:
        _import_nir(
            file, output, inputs, timesteps, dt, weight_bits,
            approximate_leak=approximate_leak, accept_differences=accept_differences,
        )  # fmt: skip
        return
    if inputs is not None or timesteps is not None or approximate_leak or accept_differences:
        options = "--inputs, --timesteps, --approximate-leak and --accept-differences"
        raise UsageError(f"trace import: {options} go with --format nir")
    most = MAX_WEIGHTS if max_weights is None else max_weights
    _save(lambda: import_spikes(file, weight_sparsity, seed, most), output, inputs=[file])


def _import_nir(
    file: Path,
    output: Path,
    inputs: Path | None,
    timesteps: int | None,
    dt: float,
    bits: int,
    *,
    approximate_leak: bool,
    accept_differences: bool,
) -> None:
    from archsim.export import from_nir

    if inputs is None:
        raise UsageError("trace import: a NIR graph needs --inputs, an array [T, I, ...] or [I, ...]")

    def make() -> Trace:
        exported = from_nir(
            file, inputs, timesteps, dt=dt, weight_bits=bits, approximate_leak=approximate_leak,
            accept_differences=accept_differences,
        )  # fmt: skip
        for line in str(exported).splitlines():
            _note(line)
        return exported.trace

    _save(make, output, inputs=[file, inputs])


def _save(make: Callable[[], Trace], path: Path, inputs: Sequence[Path] = ()) -> None:
    from archsim.report.files import result_file
    from archsim.trace import save_trace

    with result_file(path, b"PK", inputs) as partial:
        save_trace(make(), partial)
    typer.echo(_one_line(path))


# ------------------------------------------------------------------------------------------------------------- looking


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Hardware files and traces.")],
    overrides: Overrides = None,
) -> None:
    """Validate hardware files and traces without simulating anything."""
    from archsim.cost import area_rows
    from archsim.simulate import load_accelerator, load_prices

    def load(path: Path) -> str:
        if path.suffix == ".npz" or _is_zip(path):
            from archsim.trace import load_trace

            trace = load_trace(path)
            return f"{path}: ok, {trace.network}, {len(trace.operations)} operations, T = {trace.timesteps}"
        machine = load_accelerator(path, overrides or ())
        area_rows(machine.inventory(), load_prices(machine))
        return f"{path}: ok, a machine of type {machine.name}"

    for line in _each(files, load):
        typer.echo(_one_line(line))


def _is_zip(path: Path) -> bool:
    path = examples.find(path)
    with contextlib.suppress(OSError, ValueError):  # whoever loads the file says what is wrong with it
        if path.is_file():
            with path.open("rb") as file:
                return file.read(2) == b"PK"
    return False


@app.command()
def explain(
    hardware: Hardware,
    overrides: Overrides = None,
    long: Annotated[bool, typer.Option("--long", help="On a terminal: also meanings, and sources of prices.")] = False,
) -> None:
    """Print a machine: what it is built of, every value with its source, its area, and what each action costs."""
    from archsim.cost import area_rows, price_rows
    from archsim.hardware.loading import explained_values, header_of
    from archsim.report import diagram
    from archsim.simulate import load_accelerator, load_prices

    machine = load_accelerator(hardware, overrides or ())
    inventory, table = machine.inventory(), load_prices(machine)
    if sys.stdout.isatty():
        for text in (machine.config.description, header_of(hardware), diagram.draw(inventory)):
            typer.echo("\n".join(_one_line(line) for line in text.splitlines()) + "\n")
    values: list[tuple[object, ...]] = []
    brief = sys.stdout.isatty() and not long
    for path, value, given, description, source in explained_values(hardware, machine.config, overrides or ()):
        if brief and path != "description":
            values.append((path, _as_written(value), source or ("" if given == "file" else given)))
        elif not brief:
            meaning = "" if sys.stdout.isatty() and description in source else description
            values.append((path, _as_written(value), given, meaning, source))
    _print_table(("path", "value", "source") if brief else ("path", "value", "given", "meaning", "source"), values)
    areas, prices = area_rows(inventory, table), price_rows(inventory, table)
    total = sum(row.area_mm2 for row in areas)
    tables: list[tuple[tuple[str, ...], list[tuple[object, ...]]]] = [
        (
            ("unit", "instances", "area_mm2", "source"),
            [*((row.unit, row.instances, row.area_mm2, row.source) for row in areas), ("total", None, total, "")],
        ),
        (
            ("unit", "action", "price", "unit of price", "confidence", "source"),
            [(p.unit, p.action, p.price, p.quantity, p.confidence, p.source) for p in prices],
        ),
    ]
    for columns, rows in tables:
        typer.echo()
        cut = -1 if brief else None
        _print_table(columns[:cut], [row[:cut] for row in rows])
    if brief:
        typer.echo("\nArea 0: part of another row, or off chip. --long has meanings, and sources of areas and prices.")


def _as_written(value: object) -> str:
    """A value as a hardware file would have it."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


@app.command("list")
def list_() -> None:
    """List the accelerators, hardware files, traces, presets of synthetic traces and cost tables of archsim."""
    from archsim.accelerators import registry
    from archsim.cost import load_table, table_names
    from archsim.dataflow import networks
    from archsim.simulate import load_accelerator
    from archsim.trace.presets import PRESETS

    shipped = {name: load_accelerator(path) for name, path in examples.machines().items()}
    runs: dict[str, list[str]] = {name: [] for name in sorted(registry())}
    for machine in shipped.values():
        runs[machine.name] += [kind for kind in networks.kinds(machine) if kind not in runs[machine.name]]
    rows = []
    for name, kinds in runs.items():
        what = f" Runs {', '.join(kinds)}." if kinds else ""
        rows.append(("accelerator", name, f"{_first_line(registry()[name])}{what}"))
    rows += [("hardware file", name, machine.config.description) for name, machine in shipped.items()]
    rows += [("trace", name, path.name) for name, path in examples.traces().items()]
    for name, preset in PRESETS.items():
        able = [machine for machine, kinds in runs.items() if networks.INTEGERS in kinds]
        whose = f"; only for {', '.join(able)}" if preset.operand == "int" else ""
        rows.append(("synthetic trace", name, f"{preset.source}{whose}"))
    rows += [("cost table", name, load_table(name).title) for name in table_names()]
    if not sys.stdout.isatty():
        _print_table(("kind", "name", "what it is"), rows)
        return
    for kind in dict.fromkeys(row[0] for row in rows):
        _print_table((kind, "what it is"), [row[1:] for row in rows if row[0] == kind])
        typer.echo()


@app.command()
def schema(
    accelerator: Annotated[str, typer.Argument(metavar="ACCELERATOR", help="'archsim list' names them.")],
) -> None:
    """Print the JSON Schema of an accelerator's hardware files, for editors."""
    from archsim.accelerators import registry
    from archsim.hardware.loading import json_schema
    from archsim.report.files import json_text

    known = registry()
    if accelerator not in known:
        allowed = ", ".join(sorted(known))
        raise UsageError(f"unknown accelerator, got '{accelerator}'; allowed: {allowed}{nearest(accelerator, known)}")
    typer.echo(json_text(json_schema(known[accelerator].Config)), nl=False)


def _machine_names(paths: Sequence[Path]) -> list[str]:
    """What to call each machine of a comparison: the stem of its file, or its path where stems are equal."""
    stems = [path.stem for path in paths]
    names = [_one_line(stem if stems.count(stem) == 1 else str(path)) for stem, path in zip(stems, paths, strict=True)]
    files = [os.path.realpath(examples.find(path)) for path in paths]
    twice = [name for name, file in zip(names, files, strict=True) if files.count(file) > 1]
    if twice:
        raise UsageError(f"compare: '{twice[-1]}' is given twice")
    return names


def _each(paths: Iterable[Path], load: Callable[[Path], Any]) -> list[Any]:
    """``load`` of every path; the problems of all of them are raised together."""
    loaded: list[Any] = []
    problems: list[str] = []
    for path in paths:
        try:
            loaded.append(load(path))
        except ArchsimError as error:
            problems += error.problems
    if problems:
        raise UsageError(problems)
    return loaded


def _first_line(documented: object) -> str:
    return (documented.__doc__ or "").strip().partition("\n")[0]


def _flat(mapping: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in mapping.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _ordered(rows: Iterable[dict[str, Any]], columns: Sequence[str]) -> list[dict[str, Any]]:
    return [{column: row[column] for column in columns} for row in rows]


# ------------------------------------------------------------------------------------------------------------ printing


def _print_table(columns: Sequence[str], rows: Iterable[Iterable[object]], repeat: int = 1) -> None:
    """A table on stdout: for people on a terminal, tab-separated with full precision otherwise."""
    if sys.stdout.isatty():
        from archsim.report.terminal import print_table

        print_table(columns, ([_one_line(c) if isinstance(c, str) else c for c in cells] for cells in rows), repeat)
        return
    for cells in (columns, *rows):
        typer.echo("\t".join("" if cell is None else _one_line(str(cell)) for cell in cells))


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None] | None]:
    """A progress bar on stderr, or None when stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    left = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), *left)
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None)

        def show(step: str, done: int, total: int) -> None:
            bar.update(task, description=printable(step, 60), completed=done, total=total)

        yield show


def _note(message: str) -> None:
    """Something worth knowing about what was done. Where nobody can be told, the work goes on."""
    with contextlib.suppress(OSError):
        typer.echo(_one_line(message), err=True)


def _warn(message: str) -> None:
    _note(f"archsim: warning: {message}")


def _one_line(text: object) -> str:
    """``text`` with control characters, such as line breaks in a file name, written out, and not without end."""
    return printable(text, 10_000)


# ---------------------------------------------------------------------------------------------------------------- main


def main(arguments: Sequence[str] | None = None, interrupted: Callable[[], bool] = lambda: False) -> int:
    """Run the command line ``arguments`` (default: those of the process) and return the exit code.

    Where a signal has ``interrupted`` the process, whatever fails does so for that reason, and nothing is said of it.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = typer.main.get_command(app)
    if "_ARCHSIM_COMPLETE" in os.environ and arguments is None:
        command(prog_name="archsim")  # the shell asks how a word may go on
    # A stream that was closed before the start is None.
    sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        # A file name that the terminal's encoding does not know is no reason to fail.
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    code, failed = 0, None
    try:
        try:
            with command.make_context("archsim", [argument for argument in given if argument != "--debug"]) as context:
                command.invoke(context)
        except typer.Exit as done:
            code = done.exit_code
        except KeyboardInterrupt:
            return 130
        except Exception as error:
            failed = error
        failed = failed or _unwritten(sys.stdout)
        if failed is None:
            return code
        if isinstance(failed, BrokenPipeError):
            return 0  # whoever read our output has seen enough
        if "--debug" in given:
            traceback.print_exception(failed)
        return 1 if interrupted() else _report_error(failed)
    finally:
        for stream in (sys.stdout, sys.stderr):
            _unwritten(stream)


def _unwritten(stream: TextIO) -> OSError | None:
    """Why what was printed on ``stream`` cannot be written, if it cannot; then it is forgotten.

    Python would try again at its end, complain, and have an exit code of its own.
    """
    try:
        stream.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return error
    return None


def _report_error(error: Exception) -> int:
    """Print the lines that say what went wrong; the exit code."""
    if isinstance(error, ArchsimError):
        problems: Sequence[str] = error.problems
    elif isinstance(error, USAGE_ERROR):
        problems = [_command_line_problem(error)]
    elif (scarce := _out_of_memory(error)) is not None:
        problems = [f"not enough memory: {str(scarce) or 'no reason given'}"]
    elif isinstance(error, OSError):
        problems = [f"{error.filename or 'input or output'}: {error.strerror or error}"]
    else:
        what = printable(f"{type(error).__name__}: {error}")
        _note(f"archsim: error: this is a bug in archsim ({what}); run with --debug and report the traceback")
        return 1
    for line in ArchsimError(problems).lines():
        _note(f"archsim: error: {line}")
    return 2


def _out_of_memory(error: BaseException | None) -> BaseException | None:
    """What in the history of ``error`` says that there was no memory, for an array or for a thread; else None."""
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "start new thread" in str(error)):
            return error
        error = error.__cause__ or error.__context__
    return None


def _command_line_problem(error: Any) -> str:
    """typer's complaint in one line, with the nearest option and where to read on."""
    message = " ".join(error.format_message().split()).rstrip(".")
    option = getattr(error, "option_name", None)
    if option and message.startswith("No such option"):
        known = [name for parameter in error.ctx.command.params for name in parameter.opts] if error.ctx else []
        message = f"No such option: {option}{nearest(option, [*known, '--help'])}"
    where = error.ctx.command_path if error.ctx else "archsim"
    return f"{where}: {message[:1].lower()}{message[1:]}; see '{where} --help'"
