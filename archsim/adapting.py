"""Batch-norm adaptation: what a network on a machine's analog arrays gets right, without it and with each kind of it.

Function only, nothing is timed. The arrays are programmed once and read by all adaptations: they meet the same cells,
and where noise is drawn per batch or per read also the same draws. An accuracy is the one that :func:`archsim.run`
finds with ``analog.adaptation`` set to its name; whatever the hardware file says there counts for nothing. Equations
and sources are in :mod:`archsim.analog_network.batch_norm`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

from archsim import arguments
from archsim._version import __version__
from archsim.accelerators import registry
from archsim.accelerators.imc import Imc
from archsim.analog_network.batch_norm import Correction
from archsim.analog_network.network import AnalogNetwork
from archsim.dataflow.base import Progress
from archsim.errors import ArchsimError, UsageError, nearest
from archsim.hardware.analog.product import AdaptationName
from archsim.hardware.document import override_path
from archsim.hardware.loading import explained_values, resolved_yaml
from archsim.report import files
from archsim.simulate import all_overrides, load_accelerator, specialised_for
from archsim.trace import ImageSet, Trace, load_trace
from archsim.trace.resimulation import predict

ADAPTATIONS: tuple[AdaptationName, ...] = get_args(AdaptationName)
SETTING = "analog.adaptation"
"""What ``adaptations`` stands for, and no override may say."""
COLUMNS = (
    *("adaptation", "accuracy", "exact_accuracy", "standard_error", "images", "calibration_images"),
    *("noise", "noise_seed"),
)
CORRECTION_COLUMNS = ("adaptation", "layer", "channel", "gain", "offset")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Adapted:
    """A network on arrays with one adaptation: the share of ``images`` that it classifies as their labels say.

    ``corrections`` are those of every layer on arrays; none without adaptation.
    """

    adaptation: AdaptationName
    accuracy: float
    images: int
    corrections: Mapping[str, Correction]

    @property
    def standard_error(self) -> float:
        """Of the accuracy a, by n images that are drawn from all there are: sqrt(a (1 - a) / n)."""
        return math.sqrt(self.accuracy * (1 - self.accuracy) / self.images)


@dataclass(frozen=True)
class AdaptationReport:
    """What was run, and what came out, an entry of ``adapted`` for each adaptation.

    ``findings`` are what decides results (when noise is drawn, its seed, ...), ``exact_accuracy`` that of the integer
    network on the same images.
    """

    accelerator: str
    fitted: bool
    hardware: str
    overrides: tuple[str, ...]
    workload: str
    trace: str
    trace_sha256: str
    labels: Mapping[str, Any]
    timesteps: int
    images: int
    calibration_images: int
    findings: Mapping[str, Any]
    resolved: str
    exact_accuracy: float
    adapted: tuple[Adapted, ...]

    def rows(self) -> list[dict[str, Any]]:
        """A row for each adaptation, with COLUMNS."""
        shared = self.summary()
        found = [
            {"adaptation": one.adaptation, "accuracy": one.accuracy, "standard_error": one.standard_error, **shared}
            for one in self.adapted
        ]
        return [{column: row[column] for column in COLUMNS} for row in found]

    def correction_rows(self) -> list[dict[str, Any]]:
        """A row for each channel of each layer on arrays, with CORRECTION_COLUMNS; none without adaptation."""
        return [
            {"adaptation": one.adaptation, "layer": layer, "channel": channel, "gain": gain, "offset": offset}
            for one in self.adapted
            for layer, found in one.corrections.items()
            for channel, (gain, offset) in enumerate(zip(found.gain.tolist(), found.offset.tolist(), strict=True))
        ]

    def summary(self) -> dict[str, Any]:
        """What all adaptations share, as in ``summary.json``."""
        return {
            "accelerator": self.accelerator,
            "fitted": self.fitted,
            "hardware": self.hardware,
            "overrides": list(self.overrides),
            "workload": self.workload,
            "trace": self.trace,
            "trace_sha256": self.trace_sha256,
            "labels": dict(self.labels),
            "archsim_version": __version__,
            "timesteps": self.timesteps,
            "images": self.images,
            "calibration_images": self.calibration_images,
            "exact_accuracy": self.exact_accuracy,
            **self.findings,
        }

    def texts(self) -> dict[str, str]:
        """The files of the results folder but for its figure."""
        return {
            "summary.json": files.json_text(self.summary()),
            "resolved.yaml": self.resolved,
            "adaptation.csv": files.csv_text(self.rows(), COLUMNS),
            "corrections.csv": files.csv_text(self.correction_rows(), CORRECTION_COLUMNS),
        }


def adapt(
    hardware: str | Path,
    trace: str | Path,
    *,
    overrides: Sequence[str] = (),
    adaptations: Sequence[str] = ADAPTATIONS,
    images: int | None = None,
    calibration_images: int | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
    **settings: object,
) -> AdaptationReport:
    """Run the network of ``trace`` on the arrays of the machine ``hardware``, once for each of ``adaptations``.

    They are found with the first ``calibration_images`` of the trace's calibration set (None: all) and judged by the
    first ``images`` of its evaluation set (None: the machine's ``evaluation_images``), which ``jobs`` processes share.
    ``overrides`` and ``settings`` are those of :func:`archsim.run`. Raises ConfigError, TraceError or UsageError for
    what is wrong with the input, as many problems at once as can be seen.

    A script that calls this with several jobs needs the usual ``if __name__ == "__main__":``, as whatever starts
    processes does.
    """
    arguments.check(
        hardware=(hardware, arguments.PATH),
        trace=(trace, arguments.PATH),
        overrides=(overrides, arguments.TEXTS),
        adaptations=(adaptations, arguments.TEXTS),
        images=(images, arguments.optional(arguments.WHOLE)),
        calibration_images=(calibration_images, arguments.optional(arguments.WHOLE)),
        jobs=(jobs, arguments.WHOLE),
        progress=(progress, arguments.optional(arguments.FUNCTION)),
    )
    overrides = all_overrides(overrides, settings)
    problems = _wrong_arguments(adaptations, overrides, images, calibration_images, jobs)
    loaded = _collected(problems, load_trace, trace)
    machine = _collected(problems, _analog_machine, hardware, overrides)
    if loaded is not None:
        problems += _missing_images(trace, loaded, images, calibration_images)
    if loaded is not None and machine is not None:
        machine = _collected(problems, specialised_for, machine, hardware, trace, loaded)
    if problems or loaded is None or machine is None:
        raise UsageError(problems)
    loaded = machine.visible_trace(loaded)
    evaluation, calibration = loaded.evaluation, loaded.calibration
    assert evaluation is not None and calibration is not None, "sets were looked for"
    evaluation = evaluation.first(images or machine.config.evaluation_images)
    calibration = calibration.first(calibration_images or len(calibration))
    chosen = [known for name in adaptations for known in ADAPTATIONS if known == name]
    found: list[Adapted] = []
    steps = adapted(machine.network(loaded, progress), chosen, calibration, evaluation, jobs)
    for name in chosen:
        if progress:
            progress(name, len(found), len(chosen))
        found.append(next(steps))
    if progress:
        progress("", len(found), len(chosen))
    findings = machine.config.analog.findings()
    del findings["adaptation"]
    return AdaptationReport(
        accelerator=machine.name,
        fitted=machine.config.fitted,
        hardware=str(hardware),
        overrides=overrides,
        workload=loaded.network,
        trace=str(trace),
        trace_sha256=loaded.sha256,
        labels=loaded.provenance,
        timesteps=loaded.timesteps,
        images=len(evaluation),
        calibration_images=len(calibration),
        findings=findings,
        resolved=resolved_yaml(machine.config, explained_values(hardware, machine.config, overrides)),
        exact_accuracy=float((predict(loaded, evaluation.images) == evaluation.labels).mean()),
        adapted=tuple(found),
    )


def adapted(
    network: AnalogNetwork,
    adaptations: Sequence[AdaptationName],
    calibration: ImageSet,
    evaluation: ImageSet,
    jobs: int = 1,
) -> Iterator[Adapted]:
    """The same arrays with one adaptation after the other, found with ``calibration``, judged by ``evaluation``."""
    for adaptation in adaptations:
        network.calibrate(calibration, adaptation)
        accuracy = network.accuracy(evaluation, jobs)
        yield Adapted(adaptation, accuracy, len(evaluation), dict(network.corrections))


def _wrong_arguments(
    adaptations: Sequence[str],
    overrides: Sequence[str],
    images: int | None,
    calibration_images: int | None,
    jobs: int,
) -> list[str]:
    """What is wrong whatever the machine and the trace are."""
    allowed = ", ".join(ADAPTATIONS)
    problems = [
        f"adaptations: unknown adaptation, got '{name}'; allowed: {allowed}{nearest(name, ADAPTATIONS)}"
        for name in adaptations
        if name not in ADAPTATIONS
    ]
    if not adaptations:
        problems.append(f"adaptations: none is chosen; allowed: {allowed}")
    names = list(adaptations)
    problems += [f"adaptations: {name} is given twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    if SETTING in map(override_path, overrides):
        problems.append(f"--set {SETTING}: is what adapt compares; name those that you want with --adaptations instead")
    counts = {"images": images, "calibration images": calibration_images, "jobs": jobs}
    problems += [f"{name}: must be at least 1, got {n}" for name, n in counts.items() if n is not None and n < 1]
    return problems


def _missing_images(
    path: str | Path, trace: Trace, images: int | None, calibration_images: int | None
) -> Iterator[str]:
    """Image sets that a trace does not have, or that have fewer images than are asked for."""
    sets = {
        "calibration": (trace.meta.calibration_images, calibration_images),
        "evaluation": (trace.meta.evaluation_images, images),
    }
    missing = [name for name, (held, _) in sets.items() if not held]
    if missing:
        yield (
            f"{path}: has no {' and no '.join(missing)} images, which adaptations are found with and judged by; "
            "workloads/recipes/add_image_sets.py adds them to a trace, workloads/README.md names traces that have them"
        )
    for name, (held, asked) in sets.items():
        if held and asked is not None and asked > held:
            yield f"{path}: has {held} {name} images, got {asked}; allowed: 1 to {held}"


def _analog_machine(path: str | Path, overrides: Sequence[str]) -> Imc:
    """The machine of a hardware file, if its arrays are analog; ConfigError or UsageError if not."""
    machine = load_accelerator(path, overrides)
    if not isinstance(machine, Imc):
        able = [name for name, kind in registry().items() if issubclass(kind, Imc)]
        raise UsageError(
            f"{path}: {machine.name} has no analog arrays that could be adapted; accelerators that have: "
            f"{', '.join(able)}; 'archsim list' names hardware files"
        )
    return machine


def _collected(problems: list[str], work: Callable[..., Result], *arguments: object) -> Result | None:
    """What ``work`` returns for ``arguments``, or None and its problems with all others."""
    try:
        return work(*arguments)
    except ArchsimError as error:
        problems += error.problems
        return None
