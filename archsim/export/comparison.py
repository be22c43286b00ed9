"""How far the spikes of a trace are from the model's, and when the trace is another network.

Rounding turns some spikes, and each of them turns others behind it: in a deep network with weights that nobody trained
the last layers may have hardly a spike in common with the model although every layer is right. So a layer is judged by
what it makes of the *model's own* spikes (``alone``), in which no other layer's error is. A layer that was read wrongly
stands out there, and only there.

Shares are of spikes. In a sparse layer few of all outputs differ even where no spike is right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Spikes = NDArray[np.bool_]

WARNED = 0.05
REFUSED = 0.20
# A layer with less than this share of spikes hardly fires.
RARE = 0.001
# Integers without spikes that are further from the model's values than this share of them.
FAR = 0.20


@dataclass(frozen=True)
class LayerError:
    """How a layer of the trace differs from the float model's, on the inputs of the export.

    ``weight_error`` is the root mean square of what rounding did to the weights, over that of the weights. Of neurons,
    ``differing`` is the share of all outputs, silent ones too, that are not the float model's; ``lost`` the share of
    the model's spikes that the trace does not have, ``gained`` the share of the trace's that the model does not have.

    What is judged is the largest of the three, with n outputs counting as n - sqrt(n), so that a few spikes of a small
    run, which chance may turn, are not taken for a rule: ``difference`` in the trace, and ``alone`` where the layer
    reads the model's own spikes. A layer is warned of if one of them is above ``WARNED``, and refused if ``alone`` is
    above ``REFUSED``.

    Of a layer of a network without spikes ``error`` is the root mean square of what all rounding up to its output did,
    over that of the model's output; more than ``FAR`` is a warning.
    """

    layer: str
    op: str
    weight_error: float | None
    float_density: float | None
    density: float | None
    differing: float | None
    lost: float | None = None
    gained: float | None = None
    difference: float | None = None
    alone: float | None = None
    error: float | None = None

    def __str__(self) -> str:
        shares = [_percent(share or 0) for share in (self.lost, self.gained, self.differing, self.alone)]
        return (
            f"{self.layer}: the trace lacks {shares[0]} of the model's spikes, {shares[1]} of its own are not the"
            f" model's, {shares[2]} of all outputs differ; with the model's spikes as its input, {shares[3]} differ"
        )


def compared(row: LayerError, model: Spikes, trace: Spikes, alone: Spikes) -> LayerError:
    """``row`` of a layer with neurons, with what its spikes of the ``model`` and of the ``trace`` have in common.

    ``alone`` are its spikes where it reads the model's.
    """
    counts = _counts(model, trace)
    differing, lost, gained = (count / max(total, 1) for count, total in counts)
    return replace(
        row, float_density=float(model.mean()), differing=differing, lost=lost, gained=gained,
        difference=_largest(counts), alone=_largest(_counts(model, alone)),
    )  # fmt: skip


def _counts(model: Spikes, other: Spikes) -> tuple[tuple[int, int], ...]:
    """How many differ of all outputs, how many of the model's spikes are lost, how many of the others are gained."""
    lost, gained = int((model & ~other).sum()), int((other & ~model).sum())
    return (lost + gained, model.size), (lost, int(model.sum())), (gained, int(other.sum()))


def _largest(counts: Sequence[tuple[int, int]]) -> float:
    """The largest share, less what chance may do."""
    return max((count - math.sqrt(count)) / max(total, 1) for count, total in counts)


def refusals(layers: Sequence[LayerError]) -> list[str]:
    """A line for each layer that is another one than the model's."""
    return [
        f"{row}; allowed: {_percent(REFUSED)}, or any with accept_differences"
        for row in layers
        if (row.alone or 0) > REFUSED
    ]


def warnings(layers: Sequence[LayerError]) -> list[str]:
    """What to say of layers that never or hardly fire, and of those that differ."""
    firing = [row for row in layers if row.density is not None]
    silent = [row for row in firing if not row.density]
    rare = [row for row in firing if 0 < (row.density or 0) < RARE]
    if silent and len(silent) == len(firing):
        found = [f"no layer ever fires on these inputs, {_as_in_the_model(silent)}"]
    else:
        found = [f"{row.layer}: never fires on these inputs, {_as_in_the_model([row])}" for row in silent]
    found += [f"{row.layer}: hardly fires, {_percent(row.density or 0)} of its outputs are spikes" for row in rare]
    far = [row for row in layers if (row.error or 0) > FAR]
    found += [f"{row.layer}: its values differ from the model's by {_percent(row.error or 0)} of them" for row in far]
    return found + [str(row) for row in layers if max(row.difference or 0, row.alone or 0) > WARNED]


def _as_in_the_model(silent: Sequence[LayerError]) -> str:
    return "unlike in the model" if any(row.float_density for row in silent) else "as in the model"


def table(layers: Sequence[LayerError]) -> list[str]:
    """The layers in lines of equal columns."""
    if any(row.error is not None for row in layers):
        plain = "{:24} {:8} {:>12} {:>8}".format
        return [
            plain("layer", "op", "weight error", "error"),
            *(plain(row.layer, row.op, _percent(row.weight_error or 0), _percent(row.error or 0)) for row in layers),
        ]
    form = "{:24} {:8} {:>12} {:>8} {:>8} {:>9} {:>8} {:>8} {:>8}".format
    lines = [form("layer", "op", "weight error", "density", "in float", "differing", "lost", "gained", "alone")]
    for row in layers:
        shares = (row.weight_error, row.density, row.float_density, row.differing, row.lost, row.gained, row.alone)
        lines.append(form(row.layer, row.op, *["" if share is None else _percent(share) for share in shares]))
    return lines


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
