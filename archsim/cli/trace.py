"""``archsim trace``: look at, validate, generate and convert traces."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archsim.cli.options import TraceFile
from archsim.cli.printing import note, one_line, print_table, progress_bar
from archsim.errors import UsageError

if TYPE_CHECKING:
    from archsim.trace import ActivationLayer, LayerStatistics, SyntheticLayer, Trace


def trace_info(trace: TraceFile) -> None:
    """What a trace holds: the operations with shapes and densities, where it comes from, and what it is estimated to
    cost; of a step of training of tensor trains also the three passes of each sub-convolution."""
    from archsim.trace import load_trace
    from archsim.trace.density import operations, total
    from archsim.trace.estimate import estimate
    from archsim.trace.estimate import total as whole
    from archsim.trace.neurobench import neurobench
    from archsim.trace.tensor_train import passes_in

    loaded = load_trace(trace)
    estimates = estimate(loaded)
    together = whole(estimates)
    facts = {
        "network": loaded.network,
        "timesteps": loaded.timesteps,
        "images": loaded.images,
        "calibration_images": loaded.meta.calibration_images,
        "evaluation_images": loaded.meta.evaluation_images,
        "sha256": loaded.sha256,
        **_flat({**loaded.provenance, "estimate": together, "neurobench": neurobench(loaded)._asdict()}),
    }
    print_table(("fact", "value"), [(name, value) for name, value in facts.items() if value is not None])
    typer.echo()
    layers = operations(loaded)
    products, shapes, operands = ["layer", "op", "m", "n", "k"], ["inputs", "output"], ["operand", "operand_bits"]
    densities = ["spike_density", "silent_ratio", "fire_once_ratio", "weight_density", "input_density"]
    trained = ["gradient_density"] if any(layer.gradients is not None for layer in layers) else []
    energy = {**{name: one.energy_pj for name, one in estimates.items()}, "total": together["energy_pj"]}

    def rows(of: Sequence[LayerStatistics], columns: Sequence[str]) -> list[list[Any]]:
        return [[(layer.row() | {"estimate_pj": energy.get(layer.layer)})[name] for name in columns] for layer in of]

    if not sys.stdout.isatty():
        columns = [*products, *densities, "estimate_pj", *operands, *shapes, *trained]
        print_table(columns, rows([*layers, total(layers)], columns))
    else:
        columns = [*products, *shapes]  # all together do not fit 80 characters
        print_table(columns, rows(layers, columns))
        typer.echo()
        columns = ["layer", *densities, "estimate_pj", *operands, *trained]
        spiking = any(layer.spikes is not None for layer in layers)
        heads = columns if spiking else ["zero_ratio" if name == "silent_ratio" else name for name in columns]
        weighted = [layer for layer in layers if layer.layer in estimates]
        print_table(heads, rows([*weighted, total(weighted)], columns))
    passes = [part.row() for part in passes_in(loaded)] if trained else []
    if passes:
        typer.echo()
        print_table(list(passes[0]), [list(row.values()) for row in passes])


def _flat(mapping: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in mapping.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def trace_check(trace: TraceFile) -> None:
    """Validate a trace and compute every layer again: its stored outputs must follow from its stored inputs."""
    from archsim.trace import check_trace, load_trace

    loaded = load_trace(trace)
    checks = []
    with progress_bar() as progress:
        for check in check_trace(loaded):
            checks.append(check)
            progress(check.layer, len(checks), len(loaded.operations))
    print_table(
        ("layer", "outputs", "mismatches", "note"), [(c.layer, c.outputs, c.mismatches, c.reason) for c in checks]
    )
    wrong = [f"{trace}: {c.layer}: {c.mismatches} of {c.outputs} outputs differ" for c in checks if c.mismatches]
    if wrong:
        raise UsageError(wrong)


Share = Annotated[float | None, typer.Option(metavar="SHARE", help="With --shape: of spikes, from 0 to 1.")]


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
    """Make a synthetic trace: a preset (layers, or a whole network), or layers of given shapes and densities."""
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


_OPTIONS = {
    Format.spikes: ("weights", "weight_sparsity", "seed", "max_weights"),
    Format.nir: (
        "inputs", "timesteps", "dt", "late_current", "weight_bits", "approximate_leak", "accept_differences",
    ),
}  # fmt: skip
"""What each kind of file alone has a use for."""


def trace_import(
    context: typer.Context,
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
    late_current: Annotated[
        bool,
        typer.Option("--late-current", help="For nir: currents reach potentials a timestep later, as in Norse's LSNN."),
    ] = False,
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

    for other in (other for other in Format if other is not format):
        if unfit := [f"--{name.replace('_', '-')}" for name in _OPTIONS[other] if _is_given(context, name)]:
            used = ", ".join(unfit)
            raise UsageError(f"trace import: only --format {other} has a use for {used}; got --format {format}")
    if format is Format.nir:
        _import_nir(
            file, output, inputs, timesteps, dt, weight_bits, late_current=late_current,
            approximate_leak=approximate_leak, accept_differences=accept_differences,
        )  # fmt: skip
        return
    most = MAX_WEIGHTS if max_weights is None else max_weights
    _save(lambda: import_spikes(file, weight_sparsity, seed, most), output, inputs=[file])


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _import_nir(
    file: Path,
    output: Path,
    inputs: Path | None,
    timesteps: int | None,
    dt: float,
    bits: int,
    *,
    late_current: bool,
    approximate_leak: bool,
    accept_differences: bool,
) -> None:
    from archsim.export import from_nir

    if inputs is None:
        raise UsageError("trace import: a NIR graph needs --inputs, an array [T, I, ...] or [I, ...]")

    def make() -> Trace:
        exported = from_nir(
            file, inputs, timesteps, dt=dt, late_current=late_current, weight_bits=bits,
            approximate_leak=approximate_leak, accept_differences=accept_differences,
        )  # fmt: skip
        for line in str(exported).splitlines():
            note(line)
        return exported.trace

    _save(make, output, inputs=[file, inputs])


def _save(make: Callable[[], Trace], path: Path, inputs: Sequence[Path] = ()) -> None:
    from archsim.report.files import result_file
    from archsim.trace import save_trace

    with result_file(path, b"PK", inputs) as partial:
        save_trace(make(), partial)
    typer.echo(one_line(path))
