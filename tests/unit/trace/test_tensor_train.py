"""Parameters and operations of tensor-train decomposed networks against closed forms and a count of its own."""

import re

import pytest

from archsim.errors import UsageError
from archsim.trace.tensor_train import MODES, Convolution, ms_resnet, rank_of, size_of

CIFAR10 = ms_resnet(18, side=32, classes=10)


def counted(layer, mode, timesteps):
    """Weights and MACs of a decomposed layer, output by output: the loops of its sub-convolutions."""
    kernels = {"c1": ((1, 1), layer.inputs, layer.rank), "c4": ((1, 1), layer.rank, layer.outputs)}
    kernels |= {"c2": ((3, 1), layer.rank, layer.rank), "c3": ((1, 3), layer.rank, layer.rank)}
    weights = macs = 0
    for name, ((height, width), inputs, outputs) in kernels.items():
        weights += height * width * inputs * outputs
        for t in range(timesteps):
            if mode == "htt" and t >= timesteps // 2 and name in ("c2", "c3"):
                continue
            for _position in range(layer.side_in**2):
                macs += height * width * inputs * outputs
    return weights, macs


@pytest.mark.parametrize("mode", MODES[1:])
@pytest.mark.parametrize("timesteps", [1, 4, 5])
@pytest.mark.parametrize("sides", [(6, 6), (7, 4)])
def test_a_layer_against_its_loops(mode, timesteps, sides):
    layer = Convolution("conv", 8, 12, 3, *sides, rank=3)
    subs = layer.subs(mode, timesteps)
    assert (sum(sub.parameters for sub in subs), sum(sub.macs for sub in subs)) == counted(layer, mode, timesteps)


def test_parallel_costs_what_sequential_costs():
    for depth in (18, 34):
        network = ms_resnet(depth, side=32, classes=10, ranks=0.3)
        assert size_of(network, "ptt", 4) == size_of(network, "stt", 4)


def test_half_of_every_layer():
    """(r (I + O) + 3 r^2) / (r (I + O) + 6 r^2), exactly, and the same parameters."""
    for layer in CIFAR10:
        if layer.rank is not None:
            half, whole = size_of([layer], "htt", 4), size_of([layer], "ptt", 4)
            ends, middle = layer.rank * (layer.inputs + layer.outputs), 3 * layer.rank**2
            assert half.macs * (ends + 2 * middle) == whole.macs * (ends + middle)
            assert half.parameters == whole.parameters


def test_what_is_published():
    """Base of the paper: 11.164 M parameters, 2.222 G at T = 4. ResNet34 on N-Caltech101: 7.98 and 9.25 times fewer.

    The paper's ranks are not published; rho = 0.29 is the rule that comes closest.
    """
    base = size_of(CIFAR10, "dense", 4)
    assert (base.parameters, base.macs) == (11_164_352, 2_221_690_880)
    network = ms_resnet(34, side=48, classes=101, channels=2, ranks=0.29)
    base, half = size_of(network, "dense", 6), size_of(network, "htt", 6)
    assert base.parameters / half.parameters == pytest.approx(7.93, abs=0.005)
    assert base.macs / half.macs == pytest.approx(9.40, abs=0.005)


def test_strides_in_the_sub_convolutions():
    """By hand, 4 x 4 to 2 x 2, I = 4, O = 8, r = 2: c1 at 16 positions, sequential c2 at 8, all others at 4."""
    layer = Convolution("conv", 4, 8, 3, 4, 2, rank=2)
    sequential, parallel = (size_of([layer], mode, 1, strided=True).macs for mode in ("stt", "ptt"))
    assert sequential == 8 * 16 + 12 * 8 + 12 * 4 + 16 * 4
    assert parallel == 8 * 16 + 12 * 4 + 12 * 4 + 16 * 4


def test_given_ranks():
    count = sum(layer.rank is not None for layer in CIFAR10)
    assert count == 16
    network = ms_resnet(18, side=32, classes=10, ranks=range(1, 17))
    assert [layer.rank for layer in network if layer.rank] == list(range(1, 17))
    assert [rank_of(0.29, 64, 128), rank_of(0.01, 8, 8)] == [19, 1]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"ranks": [1] * 15}, "got 15 ranks; allowed: 16"),
        ({"ranks": [65] + [1] * 15}, "stage1.block1.conv1: got 65; allowed: 1 to 64"),
        ({"ranks": 0.0}, "got 0.0; allowed: a rho above 0 and up to 1"),
        ({"depth": 50}, "depth: got 50; allowed: 18, 34"),
    ],
)
def test_what_is_refused(options, text):
    with pytest.raises(UsageError, match=re.escape(text)):
        ms_resnet(**{"depth": 18, "side": 32, "classes": 10} | options)
