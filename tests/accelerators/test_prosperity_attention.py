"""Prosperity's counts for attention against those of its public simulator, for each head and timestep.

``tests/reference/prosperity_attention.csv`` holds what the simulator prints; README.md there says which one.
"""

import csv

import numpy as np
import pytest

from archsim.dataflow.layer import Layer
from archsim.simulate import load_accelerator
from archsim.trace import Operation
from tests.accelerators.test_prosperity import PROSPERITY, pipeline
from tests.attention_operands import CASES, operands
from tests.machines import ROOT, dense
from tests.small_traces import build

COUNTS = ("spikes", "spikes_left", "exact_match_rows", "partial_match_rows")


def as_stored(heads):
    """Matrices [T, heads, tokens, width] as a trace has them, [T, 1, heads * width, tokens, 1]."""
    return np.ascontiguousarray(heads.swapaxes(2, 3).reshape(len(heads), 1, -1, heads.shape[2], 1))


def block(name):
    """The two products of a case as a trace."""
    case, tensors = CASES[name], {tensor: as_stored(spikes) for tensor, spikes in operands(name).items()}
    if case.order == "kv":
        operations = [
            Operation("first", "matmul", ("k", "v"), "kv", transpose_first=True, heads=case.heads),
            Operation("second", "matmul", ("q", "kv"), "out", heads=case.heads),
        ]
        return build(operations, tensors, case.timesteps)
    weights = "kq"
    if case.order == "softmax":
        draw, weights = np.random.default_rng(0), "softmax"
        tensors["q"] = draw.integers(-128, 128, tensors["q"].shape).astype(np.int8)
        shape = case.timesteps, case.heads, case.tokens, case.tokens
        tensors["softmax"] = as_stored(draw.integers(0, 128, shape).astype(np.int8))
    operations = [
        Operation("first", "matmul", ("k", "q"), "kq", transpose=True, heads=case.heads),
        Operation("second", "matmul", ("v", weights), "out", transpose_first=True, heads=case.heads),
    ]
    return build(operations, tensors, case.timesteps)


def products(trace, operation):
    """The products of ``operation`` in order of heads and timesteps, with their results."""
    machine = load_accelerator(PROSPERITY, ("memory.ideal=true",)).specialised_for(trace)
    assert not machine.problems(trace)
    for piece in machine.pieces(trace, operation, True):
        if isinstance(piece, Layer):
            yield piece, machine.run_layer(piece, "compiled", verify=True, record=False)


def simulated(name, product):
    """Rows of the simulator in order of heads and timesteps."""
    with (ROOT / "tests" / "reference" / "prosperity_attention.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row.pop("case"), row.pop("product")) == (name, str(product))]
    return sorted(
        ({column: int(value) for column, value in row.items()} for row in rows),
        key=lambda row: (row["head"], row["timestep"]),
    )


@pytest.mark.parametrize("product", [0, 1])
@pytest.mark.parametrize("name", CASES)
def test_counts_are_those_of_the_public_simulator(name, product):
    """It counts rows and spikes again for every tile of columns, and spikes of fewer than 8 rows in no cycle."""
    trace, theirs = block(name), simulated(name, product)
    assert len(theirs) == CASES[name].heads * CASES[name].timesteps
    ours = list(products(trace, trace.operations[product]))
    for (piece, result), row in zip(ours, theirs, strict=True):
        assert (piece.m, piece.k, piece.n, result.mismatches) == (row["m"], row["k"], row["n"], 0)
        tiles = -(-piece.n // 128)
        assert {count: tiles * result.events[count] for count in COUNTS} == {count: row[count] for count in COUNTS}
        assert result.performed_operations == row["additions"]
        assert result.compute_cycles == row["adding_cycles"]
        rows = [min(256, piece.m - first) for first in range(0, piece.m, 256)]
        counting = sum(count // 8 for count in rows) * -(-piece.k // 16) * tiles
        assert result.actions["detector", "search"] + counting == row["searching_cycles"]


@pytest.mark.parametrize("product", [0, 1])
@pytest.mark.parametrize("name", CASES)
def test_cycles_are_a_pipeline_over_what_the_simulator_adds_up(name, product):
    """The simulator takes the larger of all adding and all searching, without filling or writing: a lower bound."""
    trace, theirs = block(name), simulated(name, product)
    for (piece, result), row in zip(products(trace, trace.operations[product]), theirs, strict=True):
        spikes = dense(piece)[0][np.newaxis] != 0
        assert result.cycles == pipeline(spikes, piece.n, output_bits=16)
        assert result.cycles > max(row["adding_cycles"], row["searching_cycles"])


def test_products_beyond_a_weight_take_two_slices():
    """300 tokens that nearly all spike: K^T V reaches 265. The simulator takes it as 8 bits, and half the cycles."""
    draw = np.random.default_rng(0)
    tensors = {name: as_stored(draw.random((1, 1, 300, 40)) < 0.9) for name in "qkv"}
    trace = build(
        [
            Operation("first", "matmul", ("k", "v"), "kv", transpose_first=True),
            Operation("second", "matmul", ("q", "kv"), "out"),
        ],
        tensors,
        1,
    )
    assert trace.tensor("kv").max() > 127
    low, high = (result.compute_cycles for _, result in products(trace, trace.operations[1]))
    assert low == high
