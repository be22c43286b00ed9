"""Statistics against the im2col matrix itself; im2col against scalar loops."""

from __future__ import annotations

import numpy as np
import pytest

from archsim.cli import main
from archsim.trace import Operation, Trace, save_trace, statistics, total
from archsim.trace.density import operations
from archsim.trace.resimulation import im2col
from tests.small_traces import LABELS, attention, every_kind, every_operation, tiny
from tests.twins import trace as twin

SHAPES = [
    # kernel, stride, padding
    ((3, 3), (1, 1), (1, 1)),
    ((3, 2), (2, 1), (1, 0)),
    ((1, 1), (2, 3), (0, 0)),
    ((5, 4), (1, 2), (3, 4)),
    ((2, 7), (3, 1), (0, 2)),
]


def one_layer(kernel, stride, padding, seed=0):
    generator = np.random.default_rng(seed)
    spikes = generator.random((5, 2, 3, 6, 7)) < generator.random((1, 2, 3, 6, 7)) * 0.6
    weight = generator.integers(-1, 2, (4, 3, *kernel), dtype=np.int8)
    layer = Operation("a", "conv2d", ("in",), "out", stride=stride, padding=padding, weight=weight)
    return Trace(network="a", timesteps=5, operations=[layer], tensors={"in": spikes}, provenance=LABELS)


@pytest.mark.parametrize(("kernel", "stride", "padding"), SHAPES)
def test_counts_are_those_of_the_matrix(kernel, stride, padding):
    trace = one_layer(kernel, stride, padding)
    operation = trace.operations[0]
    matrix = twin.im2col(operation, trace.tensor("in"))
    times = matrix.sum(0)
    (layer,) = statistics(trace)
    assert matrix.shape[1:] == (layer.m, layer.k)
    assert layer.words == times.size
    assert layer.spikes == times.sum()
    assert layer.active_words == (times > 0).sum()
    assert layer.fire_once_words == (times == 1).sum()
    assert layer.weight_nonzeros == sum(int(w) != 0 for w in operation.weight.flat)
    assert layer.spike_density == pytest.approx(matrix.mean())
    assert layer.silent_ratio == pytest.approx((times == 0).mean())
    assert layer.fire_once_ratio == pytest.approx((times == 1).mean())
    assert layer.input_density == pytest.approx(trace.tensor("in").mean())
    for t in range(5):
        np.testing.assert_array_equal(im2col(trace.tensor("in")[t], operation), matrix[t])


@pytest.mark.parametrize("seed", range(3))
def test_every_kind(seed):
    trace = every_kind(seed, timesteps=4)
    layers = {layer.layer: layer for layer in statistics(trace)}
    for name, layer in layers.items():
        operation = trace.operation(name)
        tensor = trace.tensor(operation.inputs[0])
        if layer.operand == "spike_time":
            tensor = twin.spikes_of_times(tensor, 4)
        matrix = twin.im2col(operation, tensor)
        times = (matrix != 0).sum(0)
        assert (layer.words, layer.active_words) == (times.size, (times > 0).sum())
        assert (layer.spikes, layer.fire_once_words) == (times.sum(), (times == 1).sum())
        assert layer.input_density == pytest.approx((tensor != 0).mean())
    # At most one spike a neuron: all words that are not silent fire once. Four times and never take three bits.
    assert layers["b"].fire_once_ratio == 1 - layers["b"].silent_ratio
    assert [layers[name].operand_bits for name in ("a", "b")] == [2, 3]


def test_integers_that_change_in_time():
    """A word of integers is silent if all T of them are zero."""
    levels = np.random.default_rng(0).integers(-1, 2, (3, 2, 4, 5, 5))
    weight = np.ones((2, 4, 3, 3), np.int8)
    layer = Operation("a", "conv2d", ("in",), "out", padding=(1, 1), weight=weight)
    trace = Trace(network="a", timesteps=3, operations=[layer], tensors={"in": levels}, provenance=LABELS)
    times = (twin.im2col(trace.operations[0], levels) != 0).sum(0)
    (found,) = statistics(trace)
    assert (found.active_words, found.spikes, found.fire_once_words) == ((times > 0).sum(), None, None)
    assert (found.operand, found.operand_bits) == ("int", 64)


def test_layers_of_a_network():
    first, second, last = statistics(tiny())
    assert [layer.layer for layer in (first, second, last)] == ["conv1", "conv2", "fc"]
    assert (first.spikes, first.spike_density, first.fire_once_ratio) == (None, None, None)
    assert (first.operand, first.operand_bits, second.operand, second.operand_bits) == ("int", 8, "spike", 1)
    pixels = np.stack([tiny().tensor("pixels")])
    assert first.silent_ratio == pytest.approx((twin.im2col(tiny().operations[0], pixels) == 0).mean())
    times = tiny().tensor("pool.spikes").sum(0)
    assert (last.m, last.n, last.k, last.words) == (2, 4, 10, 20)
    assert last.active_words == (times > 0).sum()
    assert set(last.row()) >= {"layer", "m", "n", "k", "spike_density", "silent_ratio", "weight_density"}
    nothing = total([])
    assert (nothing.words, nothing.silent_ratio, nothing.spike_density, nothing.weight_density) == (0, None, None, None)
    assert total([first]).silent_ratio == first.silent_ratio
    assert total([first]).spikes is None
    both = total([first, second, last])
    assert both.words == second.words + last.words
    assert both.weights == second.weights + last.weights
    assert both.silent_ratio == pytest.approx(1 - (second.active_words + last.active_words) / both.words)


def test_all_operations_have_shapes():
    """Products of matrices M, N and K too; densities are those of layers with weights, and of their total."""
    trace = attention()
    found = operations(trace)
    assert [one.layer for one in found] == [operation.name for operation in trace.operations]
    assert [one for one in found if one.weights] == statistics(trace)
    assert total(found) == total(statistics(trace))
    rows = {one.layer: one.row() for one in found}
    shown = ("op", "m", "n", "k", "inputs", "output", "operand", "operand_bits", "silent_ratio")
    assert [rows["scores"][name] for name in shown] == [
        "matmul", 2 * 6, 6, 4, "4x3x2, 4x3x2", "6x3x2", "int", 64, None,
    ]  # fmt: skip
    assert [rows["shares"][name] for name in shown[:6]] == ["softmax", None, None, None, "6x3x2", "6x3x2"]
    assert [rows["fc"][name] for name in shown[:6]] == ["linear", 2, 3, 30, "5x3x2", "3"]
    assert {one.layer: one.operand for one in operations(every_operation())}["sum"] == "spike, int"


def test_info_names_every_operation(tmp_path, capsys):
    path = tmp_path / "attention.npz"
    save_trace(attention(), path)
    assert main(["trace", "info", str(path)]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert ["calibration_images", "3"] in rows and ["evaluation_images", "5"] in rows
    first = next(place for place, row in enumerate(rows) if row[0] == "layer")
    shapes = {row[0]: (row[1], *row[-2:]) for row in rows[first + 1 :]}
    assert shapes["norm"] == ("layer_norm", "4x3x2", "4x3x2")
    assert shapes["embed"] == ("add", "4x3x2, 4x3x2", "4x3x2")
    assert len({len(row) for row in rows[first:]}) == 1
