"""Systolic arrays, cycle by cycle: registers are shifted until the last sum has left; then the machine."""

import numpy as np
import pytest

from tests.machines import ROOT, dense, layers, mlp, simulate

SYSTOLIC = ROOT / "hwconfigs" / "systolic.yaml"


def output_stationary(west, north, rows, columns):
    """``west`` [R, K] and ``north`` [K, C] meet in place (i, j); sums leave southwards. Product and cycles."""
    used_rows, length = west.shape
    used_columns = north.shape[1]
    east, south = np.zeros((rows, columns), int), np.zeros((rows, columns), int)
    sums = np.zeros((rows, columns), int)
    cycles = 0
    # The corner that is reached last works in cycle length + rows + columns - 2.
    while cycles < length + rows + columns - 2:
        east[:, 1:], south[1:] = east[:, :-1].copy(), south[:-1].copy()
        for i in range(rows):
            k = cycles - i
            east[i, 0] = west[i, k] if i < used_rows and 0 <= k < length else 0
        for j in range(columns):
            k = cycles - j
            south[0, j] = north[k, j] if j < used_columns and 0 <= k < length else 0
        sums += east * south
        cycles += 1
    left = []
    for _ in range(rows):
        left.append(sums[-1].copy())
        sums[1:] = sums[:-1].copy()
        sums[0] = 0
        cycles += 1
    return np.array(left[::-1])[:used_rows, :used_columns], cycles


def operand_stationary(north, west, rows, columns):
    """``north`` [R, C] is shifted in; ``west`` [D, R] streams; sums run southwards from row to row."""
    used_rows, used_columns = north.shape
    length = len(west)
    held = np.zeros((rows, columns), int)
    cycles = 0
    for row in reversed(range(rows)):
        held[1:] = held[:-1].copy()
        held[0] = 0
        if row < used_rows:
            held[0, :used_columns] = north[row]
        cycles += 1
    east, psum = np.zeros((rows, columns), int), np.zeros((rows, columns), int)
    product = np.zeros((length, used_columns), int)
    arrived = 0
    streamed = 0
    while arrived < length * columns:
        east[:, 1:] = east[:, :-1].copy()
        for i in range(rows):
            d = streamed - i
            east[i, 0] = west[d, i] if i < used_rows and 0 <= d < length else 0
        above = np.vstack([np.zeros((1, columns), int), psum[:-1]])
        psum = above + held * east
        for j in range(columns):
            d = streamed - (rows - 1) - j
            if 0 <= d < length:
                arrived += 1
                if j < used_columns:
                    product[d, j] = psum[-1, j]
        streamed += 1
        cycles += 1
    return product, cycles


@pytest.mark.parametrize("dataflow", ["output", "weight", "input"])
@pytest.mark.parametrize("streamed", [1, 2, 9])
@pytest.mark.parametrize(
    ("rows", "columns", "used_rows", "used_columns"),
    [(1, 1, 1, 1), (2, 3, 2, 3), (4, 3, 3, 3), (3, 5, 3, 2), (4, 4, 2, 1), (5, 2, 5, 2)],
)
def test_one_fold_takes_the_cycles_of_the_array_shifted_by_hand(
    dataflow, streamed, rows, columns, used_rows, used_columns
):
    """Streams of any length; operands that fill the array and operands that do not."""
    sizes = {
        "output": {"n": used_rows, "m": used_columns, "k": streamed},
        "weight": {"k": used_rows, "n": used_columns, "m": streamed},
        "input": {"k": used_rows, "m": used_columns, "n": streamed},
    }[dataflow]
    trace = mlp(3, **sizes, timesteps=1, density=0.6, weight_density=0.7, neuron=False)
    a, b = (matrix.astype(int) for matrix in dense(layers(trace, SYSTOLIC)[0]))
    if dataflow == "output":
        product, cycles = output_stationary(b, a.T, rows, columns)
        product = product.T
    elif dataflow == "weight":
        product, cycles = operand_stationary(b.T, a, rows, columns)
    else:
        product, cycles = operand_stationary(a.T, b, rows, columns)
        product = product.T
    np.testing.assert_array_equal(product, a @ b.T)
    assert cycles == 2 * rows + columns + streamed - 2
    array = (f"pe.rows={rows}", f"pe.columns={columns}", f"dataflow={dataflow}", "memory.ideal=true")
    assert simulate(trace, *array, hardware=SYSTOLIC)[0].compute_cycles == cycles
