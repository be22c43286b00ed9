"""The estimate of papers, rule by rule, against loops and by hand; products of a network that has no zeros."""

import math
from dataclasses import replace

import numpy as np
import pytest

from archsim.trace import Neuron, Operation, Trace
from archsim.trace.estimate import estimate, prices, total
from archsim.trace.work import adds, dense_operations
from tests import networks, small_traces
from tests.twins import work as twin

MAKERS = [
    small_traces.tiny, small_traces.every_operation, small_traces.every_kind, small_traces.attention,
    lambda seed: networks.pixels(seed=seed), lambda seed: networks.recurrent(seed=seed),
    lambda seed: networks.attention(seed=seed),
]  # fmt: skip


def by_loops(trace, operation):
    """Accumulations and multiply-accumulates: the rule, with FLOPs from the shapes."""
    sizes = (trace.images, *operation.output_shape, *(operation.weight_shape or (0, 0))[1:])
    flops = math.prod(sizes) if operation.op != "matmul" else sum(1 for _ in twin.pairs(trace, operation))
    shown = [trace.operand(name) for name in operation.inputs]
    several = {other.output for other in trace if other.neuron and other.neuron.fires == "integer"}
    rates = [
        sum(int(value) if name in several else bool(value) for value in values.flat) / values.size
        for values, name in zip(shown, operation.inputs, strict=True)
        if trace.kind(name) != "int" or name in several
    ]
    if rates:
        return min(rates) * trace.timesteps * flops, 0
    changes = any(
        values.ndim == len(shape) + 2 for values, shape in zip(shown, operation.input_shapes, strict=True)
    )  # fmt: skip
    return 0, flops * (trace.timesteps if changes else 1)


@pytest.mark.parametrize("make", MAKERS)
def test_equal_loops(make):
    trace = make(1)
    found = estimate(trace)
    worked = [operation for operation in trace if operation.op in ("conv2d", "linear", "matmul")]
    assert list(found) == [operation.name for operation in worked]
    for operation in worked:
        one = found[operation.name]
        accumulations, multiply_accumulates = by_loops(trace, operation)
        assert one.accumulations == pytest.approx(accumulations, rel=1e-12), operation.name
        assert one.multiply_accumulates == multiply_accumulates, operation.name
        assert one.energy_pj == pytest.approx(0.9 * accumulations + 4.6 * multiply_accumulates, rel=1e-12)
        assert adds(trace, operation) == any(trace.kind(name) != "int" for name in operation.inputs)


def test_by_hand():
    """A direct encoder of 3 pixels and 2 neurons, then 2 inputs of 4 timesteps, 3 spikes of 8, and 5 neurons."""
    pixels = np.array([[10, 0, 30]], np.uint8)
    spikes = np.array([[1, 0], [1, 0], [1, 0], [0, 0]], bool)[:, None]
    encoder = Operation("encoder", "linear", ("pixels",), "spikes", weight=np.zeros((2, 3), np.int8),
                        neuron=small_traces.lif(2))  # fmt: skip
    hidden = Operation("hidden", "linear", ("spikes",), "sums", weight=np.zeros((5, 2), np.int8))
    trace = Trace(network="small", timesteps=4, operations=[encoder, hidden], provenance=small_traces.LABELS,
                  tensors={"pixels": pixels, "spikes": spikes})  # fmt: skip
    found = estimate(trace)
    assert found["encoder"] == (0, 6, pytest.approx(6 * 4.6))  # once, whatever is zero
    assert found["hidden"] == (3 / 8 * 4 * 10, 0, pytest.approx(15 * 0.9))
    together = total(found)
    assert (together["accumulations"], together["multiply_accumulates"]) == (15, 6)
    assert together["energy_pj"] == pytest.approx(6 * 4.6 + 15 * 0.9)


def test_attention_by_hand():
    """Of two tensors that spike the sparser counts; of a tensor that spikes and one of sums the first."""
    trace = small_traces.every_operation()
    rates = {name: float(trace.operand(name).mean()) for name in ("both.out", "scores.out")}
    scores, values = trace.operation("scores"), trace.operation("values")
    assert [trace.kind(name) for name in (*scores.inputs, *values.inputs)] == ["spike"] * 4
    found = estimate(trace)
    assert found["scores"].accumulations == pytest.approx(rates["both.out"] * 3 * scores.m * scores.n * scores.k)
    assert found["values"].accumulations == pytest.approx(min(rates.values()) * 3 * values.m * values.n * values.k)


def test_groups_heads_and_integers_that_neurons_fire():
    """A depthwise convolution reads its own channels alone, a product of two heads half of them. Integer neurons fire
    several spikes at a time, and pools of the largest make nothing else of them; sums are no spikes."""
    generator = np.random.default_rng(0)
    weights = generator.integers(1, 21, (4, 1, 3, 3)).astype(np.int8)
    neuron = Neuron("lif", np.full(4, 900), 1, 2, fires="integer", most=3)
    operations = [
        Operation("fires", "conv2d", ("levels",), "a", weight=weights, padding=(1, 1), groups=4, neuron=neuron),
        Operation("largest", "pool", ("a",), "b", kernel=(2, 2)),
        Operation("reads", "conv2d", ("b",), "c", weight=weights, groups=4),
        Operation("twice", "matmul", ("b", "b"), "d", transpose=True, heads=2),
        Operation("summed", "pool", ("b",), "e", kernel=(2, 2), reduction="sum"),
        Operation("reads.sums", "conv2d", ("e",), "f", weight=weights, groups=4),
    ]
    levels = generator.integers(0, 30, (3, 2, 4, 5, 5)).astype(np.int16)
    trace = small_traces.build(operations, {"levels": levels}, 3)
    mean, product = trace.tensor("b").mean(), trace.operation("twice")
    assert 0 < mean < 3 and trace.tensor("b").max() > 1 and trace.kind("b") == "int"
    found = {name: (one.accumulations, one.multiply_accumulates) for name, one in estimate(trace).items()}
    assert found == {
        "fires": (0, 3 * 2 * 4 * 25 * 9),
        "reads": (pytest.approx(mean * 3 * 2 * 4 * 4 * 9), 0),
        "twice": (pytest.approx(mean * 3 * 2 * 16 * 32 * 2), 0),
        "reads.sums": (0, 3 * 2 * 4 * 9),
    }
    assert (product.m, product.n, product.k) == (2 * 16, 32, 2)
    dense = {name: dense_operations(trace, trace.operation(name)) for name in found}
    assert dense == {
        "fires": 3 * 2 * 4 * (5 + 4 + 4) ** 2, "reads": 3 * 2 * 4 * 4 * 9, "twice": 3 * 2 * 16 * 32 * 2,
        "reads.sums": 3 * 2 * 4 * 9,
    }  # fmt: skip


def test_the_prices_are_those_of_papers_and_name_their_source():
    used = prices()
    assert (used.pj_per_accumulation.value, used.pj_per_multiply_accumulate.value) == (0.9, 4.6)
    assert used.technology_nm == 45 and "Horowitz" in used.source and "ISSCC 2014" in used.source
    assert total({})["energy_pj"] == 0


@pytest.mark.parametrize("make", MAKERS)
def test_dense_operations_are_those_of_a_network_without_zeros(make):
    trace = make(0)
    ones = [
        operation if operation.weight is None else replace(operation, weight=np.ones_like(operation.weight))
        for operation in trace
    ]
    tensors = {name: np.ones_like(trace.operand(name)) for name in trace.tensors}
    full = Trace(network="full", timesteps=trace.timesteps, operations=ones, tensors=tensors,
                 provenance=small_traces.LABELS)  # fmt: skip
    for operation in full:
        found = dense_operations(trace, trace.operation(operation.name))
        assert found == twin.synaptic_operations(full, operation), operation.name
        if operation.op == "matmul" or (operation.op == "conv2d" and not any(operation.padding)):
            assert found == trace.timesteps * operation.m * operation.n * operation.k
    assert math.prod(dense_operations(trace, operation) for operation in trace if operation.weight is not None)
