"""Integer thresholds of neurons that read integers without weights: spikes, their sums and maxima, event counts.

Weights give the sums in front of a neuron a scale that is free, and with it an exact threshold (``quantisation``).
Spikes count as one, so a threshold of 0.3 or 1.5 is no integer. But only finitely many potentials can occur in T
timesteps. With A what the inputs add to a potential, leaks included, and B how often a soft reset has taken the
threshold r from it, leaks included, a neuron compares ``A > r (1 + B)``, or ``A / (1 + B) > r``. Every threshold
between the largest such ratio that must not fire and the smallest that must gives the same spikes, on all inputs. The
ratios are followed through the T timesteps; where there are too many, hard resets go by the lattice of the leak,
multiples of 2^-(l (T-1)), and soft ones need r itself.

So a neuron gets the smallest number of units c, and with it an integer h, for which h / c lies there in every channel;
``>`` may become ``>=`` for that. What the neuron reads is added up c times, by an ``add`` that reads it c times: the
format has no other exact way but a layer of weights, which machines would run, store and charge, and whose few bits
limit c. An ``add`` has at most ``MAX_OPERANDS`` operands; beyond, c is a power of two and several of them multiply.
Where no c up to ``MOST_COPIES`` is exact, it is ``ROUNDED_COPIES``, and the rounding is stated.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from archsim.export.network import Real, SpikingNeuron
from archsim.trace.operation import Operation

# The schema's limit for the inputs of an operation.
MAX_OPERANDS = 64
MOST_COPIES = 1 << 24
ROUNDED_COPIES = 1 << 18
# Ratios that are followed, of each threshold; T = 16 has 2^16 histories of spikes.
MOST_RATIOS = 1 << 17
# Sums and thresholds are int32.
_LARGEST = (1 << 31) - 1

Range = tuple[int, int]
Cell = tuple[Fraction, Fraction | None]


@dataclass(frozen=True, eq=False)
class Units:
    """What a neuron reads is added up ``copies`` times and compared with the integers ``threshold`` [C].

    ``rounded`` is the largest error of a threshold, relative to it; 0 where every spike is exact.
    """

    copies: int
    threshold: NDArray[np.int64]
    fires_at_threshold: bool
    rounded: float


def units(
    neuron: SpikingNeuron, thresholds: Real, ranges: Sequence[Range | None], timesteps: int, summands: int
) -> Units:
    """Integers for the real ``thresholds`` [C] of a neuron whose decay is a shift.

    ``ranges`` are the least and the largest value that it reads in each channel, None where these are weighted sums, in
    whose units the threshold is rounded. ``summands`` tensors are added up in front of it anyway.
    """
    channels = list(zip(thresholds.tolist(), ranges, strict=True))
    kinds = set(channels)
    cells = {(real, reads): _cell(neuron, real, reads, timesteps) for real, reads in kinds if reads is not None}
    weighted = [real for real, reads in kinds if reads is None]
    own = neuron.fires_at_threshold
    reach = max([*(max(-low, high) for _, (low, high) in cells), *weighted], default=1)
    most = min(MOST_COPIES, int(_LARGEST / (timesteps * max(reach, 1))))
    # Sums of weights are compared as the model compares them, and are in their smallest unit already.
    for copies in _candidates(summands, most) if cells else ():
        for at_threshold in (own,) if weighted else (own, not own):
            found = {kind: _between(cell, kind[0], copies, at_threshold) for kind, cell in cells.items()}
            if None not in found.values():
                return _units(channels, found, copies, at_threshold)
    copies = 1 << min(most, ROUNDED_COPIES).bit_length() - 1 if cells else 1
    return _units(channels, {}, copies, own)


def _units(
    channels: Sequence[tuple[float, Range | None]], exact: Mapping[tuple[float, Range], int | None], copies: int,
    at_threshold: bool,
) -> Units:  # fmt: skip
    """The integers of ``exact``, and beside them the nearest."""
    whole, rounded = [], 0.0
    for real, reads in channels:
        integer = None if reads is None else exact.get((real, reads))
        if integer is None:
            # No sum goes beyond 32 bits, so that larger thresholds are never reached either.
            integer = min(max(round(real * copies), 1), _LARGEST)
            rounded = max(rounded, abs(integer / (real * copies) - 1))
        whole.append(integer)
    return Units(copies, np.array(whole, np.int64), at_threshold, rounded)


def _candidates(summands: int, most: int) -> Iterator[int]:
    """Numbers of copies, fewest first: those of one sum, then powers of two."""
    alone = max(MAX_OPERANDS // summands, 1)
    yield from range(1, min(alone, most) + 1)
    copies = 1 << alone.bit_length()
    while copies <= most:
        yield copies
        copies *= 2


def _between(cell: Cell, threshold: float, copies: int, at_threshold: bool) -> int | None:
    """The integer h with h / ``copies`` inside the cell that is nearest to the threshold; None where there is none."""
    low, high = cell[0] * copies, None if cell[1] is None else cell[1] * copies
    least = math.floor(low) + 1 if at_threshold else max(math.ceil(low), 1)
    nearest = max(round(threshold * copies), least)
    if high is None:
        return min(nearest, _LARGEST)
    most = math.floor(high) if at_threshold else math.ceil(high) - 1
    return min(nearest, most) if least <= most else None


def _cell(neuron: SpikingNeuron, threshold: float, reads: Range, timesteps: int) -> Cell:
    """The largest ratio that must not fire, at least 0, and the smallest that must (None: there is none)."""
    # A ratio's A and B are the parts of a complex number: both leak alike.
    levels = np.arange(min(reads[0], 0), max(reads[1], 0) + 1).astype(np.complex128)
    states = np.zeros(1, np.complex128)
    below, above = Fraction(0), None
    for _ in range(timesteps):
        if len(states) * len(levels) > MOST_RATIOS:
            return _lattice_cell(neuron, threshold, timesteps)
        states = np.unique(np.add.outer(states, levels))
        ratios = states.real / (1 + states.imag)
        fired = ratios >= threshold if neuron.fires_at_threshold else ratios > threshold
        if not fired.all():
            below = max(below, _exact(states[~fired][ratios[~fired].argmax()]))
        if fired.any():
            least = _exact(states[fired][ratios[fired].argmin()])
            above = least if above is None else min(above, least)
        after = {
            "hard": np.zeros_like(states),
            "soft_before_leak": neuron.decay * (states + 1j),
            "soft_after_leak": neuron.decay * states + 1j,
        }[neuron.reset]
        states = np.where(fired, after, neuron.decay * states)
    return below, above


def _exact(state: np.complex128) -> Fraction:
    return Fraction(float(state.real)) / (1 + Fraction(float(state.imag)))


def _lattice_cell(neuron: SpikingNeuron, threshold: float, timesteps: int) -> Cell:
    """The same without following them: potentials of hard resets are multiples of the smallest that leaks make."""
    finest = Fraction(1, Fraction(neuron.decay).denominator ** (timesteps - 1))
    spacing = finest if neuron.reset == "hard" else Fraction(math.ulp(threshold))
    steps = Fraction(threshold) / spacing
    if neuron.fires_at_threshold:
        return (math.ceil(steps) - 1) * spacing, math.ceil(steps) * spacing
    return math.floor(steps) * spacing, (math.floor(steps) + 1) * spacing


def repeated(name: str, operands: tuple[str, ...], copies: int) -> tuple[list[Operation], tuple[str, ...]]:
    """The ``operands`` of a sum ``copies`` times: sums that come before it, and what it then reads."""
    before: list[Operation] = []
    while copies * len(operands) > MAX_OPERANDS:
        part = 1 << max(MAX_OPERANDS // len(operands), 1).bit_length() - 1
        output = f"{name}.{len(before) + 1}"
        before.append(Operation(output, "add", operands * part, output))
        operands, copies = (output,), copies // part
    return before, operands * copies
