"""Which node's values the tensors of a running PyTorch model hold, and of which timestep.

A tensor that is read must hold the values that it had when its place was noted: in-place operations of any kind show
there, as the fingerprint of its values is another one then.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from archsim.errors import UsageError

ALL = -1
MEAN = -2


class Place(NamedTuple):
    """Which node's values a tensor holds: at timestep ``time``, at all of them (ALL), their
    mean over all (MEAN, of a read-out), or the same at every one (None).

    ``node`` is None where they are no node's; ``why`` then says what they are. ``order`` says where in the node each
    value of an image is, if not in the node's own order (:mod:`archsim.export.torch_orders`).

    Values of one node that are not image after image (the images moved behind another axis) are no node's either, but
    what moves them on may bring them back: ``scattered`` is the operand that they came from, and their numbers.
    """

    node: str | None
    time: int | None = None
    why: str = ""
    order: Any = None
    scattered: Any = None

    @property
    def known(self) -> bool:
        """Are the values a node's, in any way?"""
        return self.node is not None or self.scattered is not None


@dataclass(frozen=True)
class Operand:
    """A tensor that a module or function reads, as it was before that ran: it may change it."""

    tensor: Any
    place: Place
    shape: tuple[int, ...]
    values: Any


class Followed:
    """The living tensors whose place is known."""

    def __init__(self) -> None:
        from torch.utils.weak import WeakTensorKeyDictionary

        # Of each tensor its place, and the fingerprint of the values that it had there.
        self._places: Any = WeakTensorKeyDictionary()

    def follow(self, tensor: Any, place: Place) -> Any:
        """``tensor`` is at ``place`` from now on."""
        self._places[tensor] = (place, _fingerprint(doubles(tensor)) if place.known else None)
        return tensor

    def operands(self, items: Any, kept: bool = False) -> list[Operand]:
        """The tensors among ``items`` that are followed, with a copy of their values if those must be ``kept``."""
        found = []
        for item in flat(items):
            if isinstance(item, load_torch().Tensor) and item in self._places:
                place, fingerprint = self._places[item]
                if place.known and _fingerprint(doubles(item)) != fingerprint:
                    node = place.node or place.scattered[0].place.node
                    place = Place(None, None, f"{node} after something changed its values in place")
                    self.follow(item, place)
                found.append(Operand(item, place, tuple(item.shape), item.detach().clone() if kept else item))
        return found

    def place(self, tensor: Any) -> Place | None:
        """What is known of a tensor."""
        place: Place | None = self._places.get(tensor, (None,))[0]
        return place


def load_torch() -> Any:
    """PyTorch, which is optional."""
    try:
        import torch
    except ImportError:
        raise UsageError("from_torch needs PyTorch; pip install 'archsim[torch]'") from None
    return torch


def flat(items: Any) -> Iterator[Any]:
    """What is in lists, tuples and dictionaries, however nested."""
    if isinstance(items, list | tuple):
        for item in items:
            yield from flat(item)
    elif isinstance(items, dict):
        yield from flat(tuple(items.values()))
    else:
        yield items


def doubles(tensor: Any) -> np.ndarray:
    """The values of a tensor in double precision; they may be the tensor's own memory."""
    array: np.ndarray = tensor.detach().cpu().double().numpy()
    return array


def samples(values: Any, order: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Values [..., *shape] of a tensor that holds a node of ``shape`` in some ``order``."""
    rows = doubles(values).reshape(-1, int(np.prod(shape)))
    if order is not None:
        placed = np.empty_like(rows)
        placed[:, order] = rows
        rows = placed
    return rows.reshape(-1, *shape)


def _fingerprint(array: np.ndarray) -> int:
    """A number that changes with the values; not with the sign of a zero."""
    return zlib.crc32(np.ascontiguousarray(array + 0.0))


def same_values(first: Any, second: Any) -> bool:
    """Do they hold the same real numbers in the same order?"""
    return not second.is_complex() and bool(np.array_equal(doubles(first).reshape(-1), doubles(second).reshape(-1)))
