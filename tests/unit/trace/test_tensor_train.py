"""Parameters and operations of tensor-train decomposed networks against closed forms and a count of its own."""

import re

import numpy as np
import pytest

from archsim.cli import main
from archsim.errors import UsageError
from archsim.export.sub_convolutions import decomposed
from archsim.trace import save_trace
from archsim.trace.tensor_train import (
    MODES,
    PASSES,
    Convolution,
    decomposed_at,
    decomposed_in,
    ms_resnet,
    passes_in,
    rank_of,
    size_of,
)
from tests.decomposed_traces import LAYER, merged, training_step

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


# --- Passes of a step of training -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES[1:])
def test_every_pass_has_the_multiplications_of_the_closed_form(mode):
    trace = training_step(mode, inputs=6, outputs=9, rank=4, side=6, images=2)
    subs = Convolution("conv", 6, 9, 3, 6, 6, rank=4).subs(mode, 4)
    parts = passes_in(trace)
    assert [(part.name, part.sub.name) for part in parts] == [(name, sub.name) for name in PASSES for sub in subs]
    assert [part.macs for part in parts] == 3 * [2 * sub.macs for sub in subs]


@pytest.mark.parametrize("mode", MODES[1:])
def test_sizes_are_those_of_the_operands(mode):
    """Rows unrolled are [m, k]; of the gradients of weights, both operands have a row for each of the k positions."""
    trace = training_step(mode, outputs=7, side=5)
    for part in passes_in(trace):
        rows = part.sub.window.unroll(part.live(trace, part.rows)[0].astype(np.uint16))
        if part.name == "backward-weight":
            columns = np.moveaxis(part.live(trace, part.columns)[0], 1, -1)
            assert rows.shape == (part.k, part.m)
            assert (columns[..., 0].size, columns.shape[-1]) == (part.k, part.n)
        else:
            assert rows.shape == (part.m, part.k)
            assert part.n == (part.sub.n if part.name == "forward" else part.sub.input_shapes[0][0])


def test_operands_by_hand():
    """Half: c2 and c3 read what the gate passes, c4 the sum; only c1 reads spikes."""
    one = decomposed_in(training_step("htt"))[f"{LAYER}.c1"]
    kinds = [("spike", "spikes"), ("int", "conv.first"), ("int", "conv.first"), ("int", "conv.join")]
    forward, data, weight = (one.passes(name) for name in PASSES)
    assert [part.rows for part in forward] == [part.rows for part in weight] == kinds
    errors = [("gradient", f"conv.c{number}") for number in (1, 2, 3, 4)]
    assert [part.rows for part in data] == [part.columns for part in weight] == errors
    assert [part.columns for part in forward] == [part.columns for part in data] == [
        ("weight", f"conv.c{number}") for number in (1, 2, 3, 4)
    ]  # fmt: skip
    assert [part.timesteps for part in forward] == [4, 2, 2, 4]


def test_gradients_are_those_of_the_mask_or_all_while_the_gate_is_open():
    whole, cores, _ = merged("htt")
    for trace in (training_step("htt", gradient_density=1.0), decomposed(whole, cores, "htt")):
        (second,) = [part for part in passes_in(trace) if (part.sub.name, part.name) == ("conv.c2", PASSES[1])]
        live = second.live(trace, second.rows)
        assert live.shape == (4, trace.images, *second.sub.output_shape)
        assert live[:2].all() and not live[2:].any()


def test_only_c1_begins_a_decomposed_convolution():
    trace = training_step("ptt")
    found = [operation.name for operation in trace.operations if decomposed_at(trace, operation)]
    assert found == [f"{LAYER}.c1"]


def test_trace_info_tells_the_passes(tmp_path, capsys):
    path = tmp_path / "step.npz"
    trace = training_step("stt")
    save_trace(trace, path)
    assert main(["trace", "info", str(path)]) == 0
    head, *rows = capsys.readouterr().out.split("\n\n")[-1].splitlines()
    told = [dict(zip(head.split("\t"), row.split("\t"), strict=True)) for row in rows]
    assert told == [{name: str(value) for name, value in part.row().items()} for part in passes_in(trace)]
    assert len(told) == 12
