"""Shapes and sparsities of published workloads, for synthetic traces.

Source of all ratios of spikes: LoAS (Yin, Kim, Wu, Panda; MICRO 2024), Table II, T = 4, CIFAR-10; where the authors'
artifact (``artifact/Table-II/reference.txt``) has more digits, they are used. (ResNet19's weights are 96.8 % sparse in
the table and 96.914 % in the artifact; R-L19's 99.1 % in the table, used here, and 99.674 % in the artifact.)
Published are averages over a network, so every
layer of a network preset gets the average; single layers have numbers of their own. Not published, and inferred here:

- the share of words that fire once is the growth of the silent ratio by the masking of such neurons ("+FT");
- after masking, the density has lost one spike for each word masked;
- in more timesteps, density per timestep and silent ratio stay the same (``Preset.at``).

Layers are those that read spikes: the first convolution, a direct encoder, is left out, as in the authors' artifact.
ResNet19 is its 19 convolutions, three of them 1x1, without the fully connected layers. The same layers are those of
``vgg16_ann``, a network without spikes, with the sparsities of Fig. 18.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from archsim.errors import UsageError
from archsim.trace.published import NETWORKS

MOST_TIMESTEPS = 16
"""Of synthetic spikes: beyond, nothing is known of their ratios."""


@dataclass(frozen=True)
class _Geometry:
    """The shape of a layer to be made up. ``input_shape`` is [C, H, W] for ``conv2d`` and [F] for ``linear``."""

    name: str
    op: str
    input_shape: tuple[int, ...]
    out_channels: int
    kernel: int = field(default=1, kw_only=True)
    stride: int = field(default=1, kw_only=True)
    padding: int = field(default=0, kw_only=True)


@dataclass(frozen=True)
class SyntheticLayer(_Geometry):
    """A layer that reads spikes.

    In the im2col matrix, ``spike_density`` is the share of ones per timestep, ``silent_ratio`` that of words without a
    spike and ``fire_once_ratio`` that of words with exactly one (None: whatever comes of it). ``weight_density`` is the
    share of weights that are not zero.
    """

    spike_density: float
    silent_ratio: float
    weight_density: float
    fire_once_ratio: float | None = None


@dataclass(frozen=True)
class ActivationLayer(_Geometry):
    """A layer of a network without spikes: it reads activations behind a ReLU, uint8, the same at every timestep.

    ``activation_density`` is the share of the feature map that is not zero, ``weight_density`` that of the weights.
    """

    activation_density: float
    weight_density: float


@dataclass(frozen=True)
class Preset:
    """Layers under one name, with their timesteps, where the numbers come from, and what is assumed beyond that."""

    layers: tuple[SyntheticLayer | ActivationLayer, ...]
    timesteps: int
    source: str
    assumed: str | None = None

    @property
    def operand(self) -> str:
        """The kind of tensor that the layers read."""
        return "spike" if any(isinstance(layer, SyntheticLayer) for layer in self.layers) else "int"

    def at(self, timesteps: int) -> Preset:
        """The same in more timesteps, with the same density per timestep and the same silent ratio.

        That is an assumption. LoAS finds the silent ratio after masking at T = 8 to be about that at T = 4 (Fig. 16b)
        and expects it to fall beyond; for networks without masking nothing is published, and how many words fire once
        is left to what comes of the density.
        """
        if timesteps == self.timesteps:
            return self
        layers = tuple(
            replace(layer, fire_once_ratio=0.0 if layer.fire_once_ratio == 0 else None)
            for layer in self.layers
            if isinstance(layer, SyntheticLayer)
        )
        if not layers:
            raise UsageError(f"timesteps: got {timesteps}; allowed: 1, as activations do not change in time")
        if not self.timesteps <= timesteps <= MOST_TIMESTEPS:
            allowed = f"{self.timesteps} to {MOST_TIMESTEPS}"
            raise UsageError(f"timesteps: got {timesteps}; allowed: {allowed}, as ratios for fewer are not known")
        assumed = (
            f"density per timestep and silent ratio are those of T = {self.timesteps}; LoAS (Fig. 16b) finds the latter"
            " about right for T = 8 after masking, and expects it to fall beyond"
        )
        return replace(self, layers=layers, timesteps=timesteps, assumed=assumed)


@dataclass(frozen=True)
class _Sparsity:
    """A row of Table II; ``masked`` is the silent ratio after masking and fine-tuning."""

    spike_sparsity: float
    silent: float
    masked: float
    weight_sparsity: float


def matrix_product(
    name: str,
    m: int,
    n: int,
    k: int,
    *,
    spike_density: float,
    silent_ratio: float,
    weight_density: float,
    fire_once_ratio: float | None = None,
) -> SyntheticLayer:
    """A plain M x K by K x N layer: a 1x1 convolution over M x 1 pixels with K channels."""
    return SyntheticLayer(
        name, "conv2d", (k, m, 1), n, spike_density, silent_ratio, weight_density, fire_once_ratio
    )  # fmt: skip


def activation_product(
    name: str, m: int, n: int, k: int, *, activation_density: float, weight_density: float
) -> ActivationLayer:
    """The same M x K by K x N layer for activations."""
    return ActivationLayer(name, "conv2d", (k, m, 1), n, activation_density, weight_density)


# Table II, and in the fourth digit the artifact.
_NETWORKS = {
    "alexnet": _Sparsity(0.81195, 0.71256, 0.76683, 0.98264),
    "vgg16": _Sparsity(0.82325, 0.74090, 0.79581, 0.98228),
    "resnet19": _Sparsity(0.68667, 0.59594, 0.66081, 0.96914),
}
# Table II, lower half: (M, N, K) and the row. R-L19 has the K that is printed; the network's last layer has 4608.
_LAYERS = {
    "A-L4": ((64, 256, 3456), _Sparsity(0.75830, 0.632, 0.697, 0.98871)),
    "V-L8": ((16, 512, 2304), _Sparsity(0.88073, 0.765, 0.868, 0.96754)),
    "R-L19": ((16, 512, 2304), _Sparsity(0.57853, 0.514, 0.557, 0.991)),
}
# The hidden feed-forward layer of the Spike-driven Transformer; Table II gives it the sparsities of V-L8 after masking.
_T_HFF = (784, 3072, 3072)
# Fig. 18: VGG16 as a network without spikes, in 8 bits; activations 43.9 % and weights 98.2 % sparse.
_ANN = {"activation_density": 1 - 0.439, "weight_density": 1 - 0.982}


def _averages(sparsity: _Sparsity, masked: bool, timesteps: int = 4) -> dict[str, float]:
    once = sparsity.masked - sparsity.silent
    density = 1 - sparsity.spike_sparsity
    return {
        "spike_density": density - once / timesteps if masked else density,
        "silent_ratio": sparsity.masked if masked else sparsity.silent,
        "fire_once_ratio": 0.0 if masked else once,
        "weight_density": 1 - sparsity.weight_sparsity,
    }


def _convolutions(shapes: Sequence[tuple[int, int, int]]) -> list[SyntheticLayer]:
    """3x3 layers conv2, conv3, ... of (channels, side, output channels)."""
    return [
        SyntheticLayer(f"conv{index}", "conv2d", (channels, side, side), out, 0, 0, 0, kernel=3, padding=1)
        for index, (channels, side, out) in enumerate(shapes, 2)
    ]


def _alexnet() -> list[SyntheticLayer]:
    layers = _convolutions([(64, 8, 192), (192, 8, 384), (384, 8, 256), (256, 8, 256)])
    return [*layers, SyntheticLayer("fc1", "linear", (1024,), 10, 0, 0, 0)]


def _vgg16() -> list[SyntheticLayer]:
    layers = _convolutions(
        [
            (64, 32, 64), (64, 16, 128), (128, 16, 128), (128, 8, 256), (256, 8, 256), (256, 8, 256),
            (256, 4, 512), (512, 4, 512), (512, 4, 512), (512, 2, 512), (512, 2, 512), (512, 2, 512),
        ]
    )  # fmt: skip
    return [*layers, SyntheticLayer("fc1", "linear", (512,), 10, 0, 0, 0)]


def _resnet19() -> list[SyntheticLayer]:
    """Stages of (128, 3 blocks), (256, 3), (512, 2), each halving the side in its first block; 1x1 shortcuts."""
    layers = []
    channels, side = 64, 32
    for stage, (out, blocks) in enumerate([(128, 3), (256, 3), (512, 2)], 1):
        for block in range(1, blocks + 1):
            stride = 2 if block == 1 else 1
            name = f"stage{stage}.block{block}"
            base = SyntheticLayer(f"{name}.conv1", "conv2d", (channels, side, side), out, 0, 0, 0, kernel=3, padding=1)
            half = (out, side // stride, side // stride)
            layers.append(replace(base, stride=stride))
            layers.append(replace(base, name=f"{name}.conv2", input_shape=half))
            if block == 1:
                layers.append(replace(base, name=f"{name}.shortcut", stride=2, kernel=1, padding=0))
            channels, side = out, side // stride
    return layers


def _presets() -> dict[str, Preset]:
    presets = {}
    shapes = {"alexnet": _alexnet(), "vgg16": _vgg16(), "resnet19": _resnet19()}
    for masked, suffix, row in ((False, "", "original"), (True, "-ft", "after masking and fine-tuning")):
        source = f"LoAS (MICRO 2024), Table II, {row}"
        for name, sparsity in _NETWORKS.items():
            averages = _averages(sparsity, masked)
            layers = tuple(replace(layer, **averages) for layer in shapes[name])  # type: ignore[arg-type]
            presets[f"{name}{suffix}"] = Preset(layers, 4, f"{source}, network averages")
        for name, (shape, sparsity) in _LAYERS.items():
            m, n, k = shape
            layer = matrix_product(name, m, n, k, **_averages(sparsity, masked))
            presets[f"{name}{suffix}"] = Preset((layer,), 4, source)
    m, n, k = _T_HFF
    hidden = matrix_product("T-HFF", m, n, k, **_averages(_LAYERS["V-L8"][1], masked=True))
    presets["T-HFF"] = Preset((hidden,), 4, "LoAS (MICRO 2024), Table II; spike density inferred from V-L8")
    presets["vgg16_ann"] = Preset(
        tuple(
            ActivationLayer(
                layer.name, layer.op, layer.input_shape, layer.out_channels, **_ANN,
                kernel=layer.kernel, stride=layer.stride, padding=layer.padding,
            )
            for layer in shapes["vgg16"]
        ),
        1,
        "LoAS (MICRO 2024), Fig. 18, network averages",
    )  # fmt: skip
    return presets


PRESETS = _presets()


def how_to_make(path: Path) -> str:
    """The command that makes the trace ``path``, as the end of a sentence, where it is called as a preset is."""
    if path.stem not in (*PRESETS, *NETWORKS):
        return ""
    return f"; 'archsim trace synth --preset {path.stem} -o {path.stem}.npz' makes a synthetic one"
