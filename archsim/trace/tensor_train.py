"""Convolutions decomposed by a tensor train (TT-SNN, Li, Kim, Lee, Panda; DATE 2024): by their shapes, and in a trace.

A 3x3 convolution of I to O channels becomes four sub-convolutions with one common rank r::

    c1   1x1   I to r     c2   3x1   r to r     c3   1x3   r to r     c4   1x1   r to O

``stt``    sequential: y = c4(c3(c2(c1(x))))
``ptt``    parallel: h = c1(x), y = c4((c2(h) + c3(h)) / 2)
``htt``    half: as ``ptt`` at the first T // 2 timesteps, y = c4(c1(x)) at all later ones
``dense``  the convolution as it is

Only x is spikes; from c1 on operands are real. Multiply-accumulate operations (MACs) per output position and T
timesteps, of which ``full`` = T // 2 in ``htt`` and T otherwise have c2 and c3::

    T r (I + O) + full 6 r^2

so that those of ``ptt`` equal those of ``stt``, and ``htt`` has (r (I + O) + 3 r^2) / (r (I + O) + 6 r^2) of them
where T is even.

A step of training computes three products of each sub-convolution, its *passes*, at the timesteps at which it works.
With P positions of all images, C inputs, N outputs and a kernel of R elements:

    pass              [m, k] x [k, n]            rows                    columns
    forward           [P, C R] x [C R, N]        inputs                  weights
    backward-data     [P, N R] x [N R, C]        gradients of outputs    weights, transposed
    backward-weight   [C R, P] x [P, N]          inputs                  gradients of outputs

The third is summed over timesteps, too. m n k is the same in all of them, so that training has three times the MACs of
the forward pass. A trace of a step holds the forward operations and where gradients of their outputs are not zero;
:func:`decomposed_in` finds the decomposed convolutions, and :meth:`Decomposed.passes` gives the passes that follow,
with the operands by name. Inputs of c1 are spikes; inputs of c2 to c4 and all gradients are real.

The networks are the authors' MS-ResNet18 and 34 (github.com/donghyunli/TT-SNN, models/MS_ResNet.py): a 3x3 convolution
to ``width`` channels, four stages of blocks of two 3x3 convolutions, a 1x1 convolution as shortcut where the shape
changes, a linear layer. The first convolution, the shortcuts and the linear layer are not decomposed, and a decomposed
convolution of stride 2 is one of stride 1 with a 2x2 maximum behind it: it works at the resolution of its input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.errors import UsageError
from archsim.trace.model import Trace
from archsim.trace.operation import Operation

Mode = Literal["dense", "stt", "ptt", "htt"]
PassName = Literal["forward", "backward-data", "backward-weight"]
PASSES: tuple[PassName, ...] = ("forward", "backward-data", "backward-weight")
MODES: tuple[Mode, ...] = ("dense", "stt", "ptt", "htt")
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
"""Blocks of each stage, by the network's depth."""
RHO = 0.29
"""The rank rule where nothing else is said, r = rho min(I, O): with ``htt`` on MS-ResNet34 it comes closest to the
reductions that the paper's abstract names. The paper's own ranks are not published."""


class Sub(NamedTuple):
    """One convolution as it is computed: ``positions`` of its output, and ``timesteps`` at which it works."""

    name: str
    inputs: int
    outputs: int
    kernel: tuple[int, int]
    positions: int
    timesteps: int

    @property
    def parameters(self) -> int:
        """Weights."""
        return self.inputs * self.outputs * self.kernel[0] * self.kernel[1]

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations of a forward pass of one image; positions at the border count like others."""
        return self.parameters * self.positions * self.timesteps


@dataclass(frozen=True)
class Convolution:
    """A convolution of a network: input and output channels, the sides of its (square) input and output.

    ``rank`` is that of its decomposition, None where it is not decomposed.
    """

    name: str
    inputs: int
    outputs: int
    kernel: int
    side_in: int
    side: int
    rank: int | None = None

    def subs(self, mode: Mode, timesteps: int, *, strided: bool = False) -> list[Sub]:
        """What is computed in ``mode``; ``strided``: c2 and c3 have the stride, instead of a maximum behind c4.

        Then c1 works at the resolution of the input still. In ``stt`` c2 has the stride of rows and c3 that of columns;
        where they are parallel each has both.
        """
        if self.rank is None or mode == "dense":
            return [Sub(self.name, self.inputs, self.outputs, (self.kernel,) * 2, self.side**2, timesteps)]
        wide, narrow, rank = self.side_in**2, self.side**2, self.rank
        full = timesteps // 2 if mode == "htt" else timesteps
        second = third = last = wide
        if strided:
            second, third, last = self.side_in * self.side if mode == "stt" else narrow, narrow, narrow
        return [
            Sub(f"{self.name}.c1", self.inputs, rank, (1, 1), wide, timesteps),
            Sub(f"{self.name}.c2", rank, rank, (3, 1), second, full),
            Sub(f"{self.name}.c3", rank, rank, (1, 3), third, full),
            Sub(f"{self.name}.c4", rank, self.outputs, (1, 1), last, timesteps),
        ]


class Size(NamedTuple):
    """Weights of a network, and multiply-accumulate operations of a forward pass of one image."""

    parameters: int
    macs: int


def ms_resnet(
    depth: int, *, side: int, classes: int, channels: int = 3, width: int = 64, ranks: float | Sequence[int] = RHO
) -> list[Convolution]:
    """The layers of MS-ResNet of this ``depth`` for images [channels, side, side]; the linear layer is the last.

    ``ranks`` is rho of the rule r = rho min(I, O), rounded and at least 1, or a rank for each decomposed convolution in
    their order. Raises UsageError where depth or ranks are wrong.
    """
    if depth not in BLOCKS:
        raise UsageError(f"depth: got {depth}; allowed: {', '.join(map(str, BLOCKS))}")
    first, shapes, inputs = Convolution("encoder", channels, width, 3, side, side), [], width
    for stage, count in enumerate(BLOCKS[depth]):
        outputs = width << stage
        for block in range(count):
            side_out = -(-side // 2) if stage and not block else side
            name = f"stage{stage + 1}.block{block + 1}"
            shapes.append((f"{name}.conv1", inputs, outputs, 3, side, side_out))
            shapes.append((f"{name}.conv2", outputs, outputs, 3, side_out, side_out))
            if inputs != outputs:
                shapes.append((f"{name}.shortcut", inputs, outputs, 1, side, side_out))
            inputs, side = outputs, side_out
    given = iter(_ranks(ranks, [shape for shape in shapes if shape[3] == 3]))
    return [
        first,
        *(Convolution(*shape, rank=next(given) if shape[3] == 3 else None) for shape in shapes),
        Convolution("classifier", inputs, classes, 1, 1, 1),
    ]


def size_of(network: Sequence[Convolution], mode: Mode, timesteps: int, *, strided: bool = False) -> Size:
    """Parameters and MACs of ``network`` in ``mode``."""
    subs = [sub for layer in network for sub in layer.subs(mode, timesteps, strided=strided)]
    return Size(sum(sub.parameters for sub in subs), sum(sub.macs for sub in subs))


def rank_of(rho: float, inputs: int, outputs: int) -> int:
    """The rank by the rule r = rho min(I, O), rounded, at least 1."""
    return max(1, round(rho * min(inputs, outputs)))


def _ranks(ranks: float | Sequence[int], shapes: Sequence[tuple[str, int, int, int, int, int]]) -> list[int]:
    if isinstance(ranks, int | float):
        if not 0 < ranks <= 1:
            raise UsageError(f"ranks: got {ranks}; allowed: a rho above 0 and up to 1, or {len(shapes)} ranks")
        return [rank_of(ranks, inputs, outputs) for _, inputs, outputs, *_ in shapes]
    wrong = [
        f"{name}: got {rank}; allowed: 1 to {min(inputs, outputs)}"
        for rank, (name, inputs, outputs, *_) in zip(ranks, shapes, strict=False)
        if not 1 <= rank <= min(inputs, outputs)
    ]
    if len(ranks) != len(shapes):
        wrong.append(f"got {len(ranks)} ranks; allowed: {len(shapes)}, one for each decomposed convolution")
    if wrong:
        raise UsageError("ranks: " + "; ".join(wrong))
    return list(ranks)


class Operand(NamedTuple):
    """An operand of a pass. ``kind`` is that of the tensor ``name`` of the trace, or ``weight`` of the operation
    ``name``, or ``gradient`` of its output."""

    kind: str
    name: str


@dataclass(frozen=True, eq=False)
class Pass:
    """A product of one step of training, [m, k] x [k, n] at each timestep that is ``open``, bool [T]."""

    name: PassName
    sub: Operation
    open: NDArray[np.bool_]
    rows: Operand
    columns: Operand
    m: int
    n: int
    k: int

    @property
    def timesteps(self) -> int:
        """At which it is computed."""
        return int(self.open.sum())

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations; positions at the border count like others."""
        return self.m * self.n * self.k * self.timesteps

    def row(self) -> dict[str, str | int]:
        """Sizes and operands, for a table."""
        return {
            "layer": self.sub.name, "pass": self.name, "timesteps": self.timesteps, "m": self.m, "n": self.n,
            "k": self.k, "macs": self.macs, "rows": f"{self.rows.kind} {self.rows.name}",
            "columns": f"{self.columns.kind} {self.columns.name}",
        }  # fmt: skip

    def live(self, trace: Trace, operand: Operand) -> NDArray[np.bool_]:
        """Where a tensor or a gradient is not zero, bool [T, I, C, H, W].

        A gradient without a mask is nowhere zero at the timesteps that are open: an upper bound.
        """
        if operand.kind != "gradient":
            return np.asarray(trace.operand(operand.name) != 0)
        opened, mask = self.open[:, None, None, None, None], self.sub.gradient_mask
        if mask is None:
            return np.broadcast_to(opened, (trace.timesteps, self.sub.images, *self.sub.output_shape))
        return np.asarray(mask & opened)


class Decomposed(NamedTuple):
    """A decomposed convolution: its ``subs`` c1 to c4, whether c2 and c3 are ``parallel``, the timesteps at which they
    are ``open`` (bool [T]), the kinds of what the subs read (``inputs``), the ``neurons`` behind c4, and all its
    operations."""

    name: str
    subs: tuple[Operation, ...]
    parallel: bool
    open: NDArray[np.bool_]
    inputs: tuple[str, ...]
    neurons: Operation | None
    members: tuple[Operation, ...]

    def passes(self, name: PassName) -> list[Pass]:
        """This pass of c1 to c4."""
        return [self._pass(name, place) for place in range(len(self.subs))]

    def _pass(self, name: PassName, place: int) -> Pass:
        sub = self.subs[place]
        given, weights = Operand(self.inputs[place], sub.inputs[0]), Operand("weight", sub.name)
        errors, channels = Operand("gradient", sub.name), sub.input_shapes[0][0]
        rows, columns, sizes = {
            "forward": (given, weights, (sub.m, sub.n, sub.k)),
            "backward-data": (errors, weights, (sub.m, channels, sub.n * math.prod(sub.kernel))),
            "backward-weight": (given, errors, (sub.k, sub.n, sub.m)),
        }[name]
        opened = self.open if place in (1, 2) else np.ones_like(self.open)
        return Pass(name, sub, opened, rows, columns, *sizes)


def passes_in(trace: Trace) -> list[Pass]:
    """All passes of the decomposed convolutions of ``trace``: those of a convolution one after the other."""
    return [part for one in decomposed_in(trace).values() for name in PASSES for part in one.passes(name)]


def decomposed_in(trace: Trace) -> dict[str, Decomposed]:
    """All decomposed convolutions of ``trace``, by the name of c1."""
    found = (decomposed_at(trace, operation) for operation in trace.operations)
    return {one.subs[0].name: one for one in found if one is not None}


def decomposed_at(trace: Trace, first: Operation) -> Decomposed | None:
    """The decomposed convolution that begins with ``first``, if one does.

    A 1x1 convolution that reads spikes (c1), a 3x1 (c2) and a 1x3 (c3) one behind the other or side by side, and a 1x1
    (c4), all of stride 1. A product with a stored spike tensor between c1 and c2 is a gate: c2 and c3 work at the
    timesteps at which it is open (``archsim.export.sub_convolutions``).
    """
    if not _is(first, (1, 1)) or first.neuron is not None or trace.kind(first.inputs[0]) != "spike":
        return None
    source, gates = first.output, [one for one in trace.readers(first.output) if one.op == "multiply"]
    opened: NDArray[np.bool_] = np.ones(trace.timesteps, np.bool_)
    for gate in gates:
        if any(_is(one, (3, 1)) for one in trace.readers(gate.output)):
            source = gate.output
            opened = np.asarray(trace.operand(gate.inputs[1]).reshape(trace.timesteps, -1).any(1), np.bool_)
    second = next((one for one in trace.readers(source) if _is(one, (3, 1))), None)
    if second is None:
        return None
    beside = next((one for one in trace.readers(source) if _is(one, (1, 3))), None)
    third = beside or next((one for one in trace.readers(second.output) if _is(one, (1, 3))), None)
    if third is None:
        return None
    joins = [one for one in trace.readers(third.output) if one.op == "add" and second.output in one.inputs]
    read = joins[0].output if beside is not None and joins else third.output
    last = next((one for one in trace.readers(read) if _is(one, (1, 1))), None)
    if last is None:
        return None
    behind = trace.readers(last.output)
    neurons = behind[0] if len(behind) == 1 and behind[0].neuron is not None and len(behind[0].inputs) == 1 else None
    members = [first, *gates, second, third, *joins[: beside is not None], last]
    members += [neurons] if neurons else []
    subs = (first, second, third, last)
    kinds = tuple(trace.kind(sub.inputs[0]) for sub in subs)
    name = first.name.removesuffix(".c1")
    return Decomposed(name, subs, beside is not None, opened, kinds, neurons, tuple(members))


def _is(operation: Operation, kernel: tuple[int, int]) -> bool:
    """Whether it is a convolution with this kernel that keeps the size of the map."""
    same = operation.op == "conv2d" and operation.kernel == kernel and operation.stride == (1, 1)
    return same and operation.groups == 1 and operation.output_shape[1:] == operation.input_shapes[0][1:]
