"""Convolutions decomposed by a tensor train (TT-SNN, Li, Kim, Lee, Panda; DATE 2024), by their shapes.

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
where T is even. A pass for the gradients of inputs and one for those of weights have as many MACs each as the forward
pass.

The networks are the authors' MS-ResNet18 and 34 (github.com/donghyunli/TT-SNN, models/MS_ResNet.py): a 3x3 convolution
to ``width`` channels, four stages of blocks of two 3x3 convolutions, a 1x1 convolution as shortcut where the shape
changes, a linear layer. The first convolution, the shortcuts and the linear layer are not decomposed, and a decomposed
convolution of stride 2 is one of stride 1 with a 2x2 maximum behind it: it works at the resolution of its input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from archsim.errors import UsageError

Mode = Literal["dense", "stt", "ptt", "htt"]
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
