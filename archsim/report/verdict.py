"""What a run is worth, in words: how much of the network it simulated, and whether the outputs are the network's.

Layers are those of the whole network: operations with weights, and products of two tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from archsim.engine.result import Coverage, LayerResult, LeftOut

MOST_NAMES = 4
"""Layers that one line names."""


class Judged(Protocol):
    """What a verdict needs of a :class:`archsim.report.report.Report`."""

    @property
    def layers(self) -> Sequence[LayerResult]: ...  # noqa: D102
    @property
    def covered(self) -> Coverage: ...  # noqa: D102
    @property
    def exact(self) -> bool: ...  # noqa: D102
    @property
    def moved(self) -> Mapping[str, int]: ...  # noqa: D102
    @property
    def verify(self) -> bool: ...  # noqa: D102
    @property
    def findings(self) -> Mapping[str, Any]: ...  # noqa: D102


class Verdict(NamedTuple):
    """``state``: good where all outputs that were compared are the trace's, bad where one is not and should be, open
    where that cannot be said."""

    state: Literal["good", "open", "bad"]
    text: str


def verdict(report: Judged) -> Verdict:
    """The verdict on a run."""
    results = report.layers
    differing = [layer.layer for layer in results if layer.mismatches]
    unknown = [layer.layer for layer in results if layer.mismatches is None]
    wrong = sum(layer.mismatches or 0 for layer in results)
    if differing and report.exact:
        return Verdict(
            "bad",
            f"{len(differing)} of {len(results)} layers: {wrong:,} outputs differ from the trace's, in "
            f"{listed(differing)}; they do not follow from its inputs and weights",
        )
    if strays := [name for name, count in report.moved.items() if count]:
        astray = sum(report.moved.values())
        return Verdict(
            "bad",
            f"{astray:,} stored values differ from what {listed(strays)} must write, on the way of the layers; they do "
            "not follow from what is read there",
        )
    if differing:
        found = f"; {wrong:,} outputs differ from the trace's, as this machine may lose precision"
    elif not report.verify:
        found = "; not verified: --no-verify"
    elif len(unknown) == len(results):
        found = "; not verified: the trace stores no outputs"
    elif unknown:
        number = len(results) - len(unknown)
        found = f"; {number} of {len(results)} verified bit for bit, the trace stores no outputs of {listed(unknown)}"
    elif _whole(report.covered):
        found = " and verified bit for bit"
    else:
        found = "; those verified bit for bit"
    verified = report.verify and not differing and len(unknown) < len(results)
    lossy = "" if report.exact else _lossy(report.findings)
    told = f"{_simulated(report.covered, len(results))}{found}{_others(report.covered)}{_right(report.findings)}{lossy}"
    return Verdict("good" if verified else "open", told)


def _right(findings: Mapping[str, Any]) -> str:
    """How many images are classified as their labels say, or as the exact network does, where that was found."""
    accuracy, exact, agreement = (findings.get(name) for name in ("accuracy", "exact_accuracy", "agreement"))
    if accuracy is not None and exact is not None:
        return f"; accuracy {percent(accuracy)}, with exact arithmetic {percent(exact)}"
    if agreement is not None:
        return f"; {percent(agreement)} of the images classified as with exact arithmetic"
    return ""


def _lossy(findings: Mapping[str, Any]) -> str:
    """When noise is drawn, which decides what a run is worth."""
    return f"; noise {findings['noise']}, seed {findings['noise_seed']}" if "noise" in findings else ""


def left_out(covered: Coverage) -> list[str]:
    """The warning of a run that left out what nobody asked to leave out: one line that names the largest, or none."""
    missing = [one for one in covered.left_out if not one.asked]
    if not missing:
        return []
    layers = [one for one in missing if one.is_layer]
    heads = []
    if layers:
        share = percent(sum(one.share for one in layers))
        heads.append(f"{len(layers)} of {_layers(covered.network_layers)}, {share} of the operations")
    if others := len(missing) - len(layers):
        heads.append(_without_weights(others))
    named = sorted(missing, key=lambda one: -one.share)[:MOST_NAMES]
    told = "; ".join(map(_told, named))
    rest = f"; and {len(missing) - len(named)} more" * (len(missing) > len(named))
    return [f"left out: {', and '.join(heads)}: {told}{rest}: see left_out in the summary"]


def percent(share: float) -> str:
    """A share with three digits; what is not all, or not nothing, never looks like it."""
    if 0 < share < 0.001:
        return "under 0.1 %"
    if 0.999 < share < 1:
        return "over 99.9 %"
    return f"{100 * share:.3g} %"


def _whole(covered: Coverage) -> bool:
    return covered.layers == covered.network_layers


def _simulated(covered: Coverage, results: int) -> str:
    if not _whole(covered):
        share = percent(covered.share)
        return f"{covered.layers} of {_layers(covered.network_layers)} simulated, {share} of the operations"
    return f"all {counted(covered, results)} simulated" if covered.layers > 1 else "the only layer simulated"


def counted(covered: Coverage, results: int) -> str:
    """Layers that were simulated, and how many of the ``results`` are what lies between them."""
    more = results - covered.layers
    return _layers(covered.layers) + (f" and {more} operation{'s' * (more != 1)} between them" if more > 0 else "")


def _others(covered: Coverage) -> str:
    """What a whole network still lacks: neurons, sums and pools."""
    return f"; left out: {_without_weights(len(covered.left_out))}" if _whole(covered) and covered.left_out else ""


def _told(one: LeftOut) -> str:
    return f"{one.layer}{f' ({percent(one.share)})' if one.share else ''} {one.reason}"


def _layers(number: int) -> str:
    return f"{number} layer{'s' * (number != 1)}"


def _without_weights(number: int) -> str:
    return f"{number} operation{'s' * (number != 1)} without weights"


def listed(names: Sequence[str]) -> str:
    """The first of ``names``, and how many more there are."""
    more = len(names) - MOST_NAMES
    return ", ".join(names) if more <= 0 else f"{', '.join(names[:MOST_NAMES])} and {more} more"
