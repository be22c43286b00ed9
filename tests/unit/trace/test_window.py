"""Windows against places counted one by one, and against the convolutions of PyTorch where it is installed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from archsim.trace import Operation
from archsim.trace.resimulation import currents_of
from archsim.trace.window import Window, sides
from tests.small_traces import build

PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))
WINDOWS = st.builds(
    Window, PAIRS, PAIRS, st.tuples(*[st.integers(0, 4)] * 4), st.sampled_from([(1, 1), (2, 1), (2, 3)]),
    st.sampled_from([(1, 1), (1, 2), (3, 2)]),
)  # fmt: skip
SIZES = st.tuples(st.integers(1, 7), st.integers(1, 7))


def places(window, sizes, axis):
    """For each output along an axis, the places in the padded, stretched input that its taps see, first to last."""
    zeros = window.input_dilation[axis] - 1
    row = []
    for number in range(sizes[axis]):
        row += [number] if number == 0 else [-1] * zeros + [number]
    row = [-1] * window.padding[2 * axis] + row + [-1] * window.padding[2 * axis + 1]
    taps = [tap * window.dilation[axis] for tap in range(window.kernel[axis])]
    starts = range(0, len(row) - taps[-1], window.stride[axis])
    return [[row[start + tap] for tap in taps] for start in starts]


@settings(max_examples=200, deadline=None)
@given(window=WINDOWS, sizes=SIZES)
def test_any_window(window, sizes):
    assume(all(places(window, sizes, axis) for axis in (0, 1)))
    rows, columns = places(window, sizes, 0), places(window, sizes, 1)
    assert window.output(sizes) == (len(rows), len(columns))
    found = window.taps(sizes)
    assert (found[0].tolist(), found[1].tolist()) == (rows, columns)

    values = np.arange(1, 2 * sizes[0] * sizes[1] + 1).reshape(2, *sizes)
    seen = window.windows(values, -7)
    for c, y, x, ky, kx in np.ndindex(seen.shape):
        row, column = rows[y][ky], columns[x][kx]
        assert seen[c, y, x, ky, kx] == (-7 if min(row, column) < 0 else values[c, row, column])
    matrix = window.unroll(values[None])
    np.testing.assert_array_equal(matrix, np.where(seen == -7, 0, seen).transpose(1, 2, 0, 3, 4).reshape(matrix.shape))


@settings(max_examples=100, deadline=None)
@given(window=WINDOWS, sizes=SIZES)
def test_reach_and_start(window, sizes):
    """As many rows have been touched as stand in front of the last touched one; none before the start is needed."""
    assume(all(places(window, sizes, axis) for axis in (0, 1)))
    around = [[place for place in taps if place >= 0] for taps in places(window, sizes, 0)]
    reach, start = window.reach(sizes[0]), window.start(sizes[0])
    for y, inputs in enumerate(around):
        assert all(start[y] <= place < reach[y] for place in inputs)
    assert (np.diff(reach) >= 0).all()
    assert (np.diff(start) >= 0).all()
    if window.dilation == window.input_dilation == (1, 1):
        # Between first and last tap there is no other place, so that both are exact.
        assert all((start[y], reach[y]) == (min(ps), max(ps) + 1) for y, ps in enumerate(around) if ps)


def test_sides():
    assert sides((1, 2)) == (1, 1, 2, 2)
    assert sides((1, 2, 3, 4)) == (1, 2, 3, 4)


@pytest.mark.parametrize("seed", range(6))
def test_convolutions_of_pytorch(seed):
    """Grouped, dilated and transposed ones, with the keys that ``workloads/README.md`` gives for them."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    stride, dilation, groups = rng.integers(1, 4, 2).tolist(), rng.integers(1, 3, 2).tolist(), 2
    values = rng.integers(-9, 10, (1, 1, 4, 9, 8), dtype=np.int16)
    weight = rng.integers(-9, 10, (4, 2, 3, 2), dtype=np.int8)
    plain = Operation(
        "a", "conv2d", ("x",), "y", weight=weight, stride=tuple(stride), padding=(2, 1), dilation=tuple(dilation),
        groups=groups,
    )  # fmt: skip
    expected = torch.nn.functional.conv2d(
        torch.tensor(values[0]).double(), torch.tensor(weight).double(), None, stride, (2, 1), dilation, groups
    )
    np.testing.assert_array_equal(currents(plain, values), expected.numpy())

    # The layout of a transposed one is [C, N / groups, kh, kw]: turned, and other channels first in each group.
    extra = [int(rng.integers(0, max(step, apart))) for step, apart in zip(stride, dilation, strict=True)]
    expected = torch.nn.functional.conv_transpose2d(
        torch.tensor(values[0]).double(), torch.tensor(weight).double(), None, stride, (1, 0), extra, groups, dilation
    )
    turned = weight.reshape(groups, 2, 2, 3, 2).swapaxes(1, 2).reshape(4, 2, 3, 2)[:, :, ::-1, ::-1]
    top, left = 2 * dilation[0] - 1, dilation[1]
    transposed = Operation(
        "a", "conv2d", ("x",), "y", weight=turned.copy(), input_dilation=tuple(stride), dilation=tuple(dilation),
        padding=(top, top + extra[0], left, left + extra[1]), groups=groups,
    )  # fmt: skip
    np.testing.assert_array_equal(currents(transposed, values), expected.numpy())


def currents(operation, values):
    (operation,) = build([operation], {"x": values}, 1).operations
    return currents_of(operation, [values.astype(np.int64)], 1)[0]


def test_padding_of_four_sides_in_python():
    """It is read as it was given, in two numbers where sides are alike."""
    weight = np.ones((1, 1, 1, 1), np.int8)
    for given_, kept in (((1, 1, 2, 2), (1, 2)), ((1, 0, 2, 2), (1, 0, 2, 2)), ((3, 0), (3, 0))):
        layer = Operation("a", "conv2d", ("x",), "y", weight=weight, padding=given_)
        trace = build([layer], {"x": np.ones((1, 1, 1, 4, 4), bool)}, 1)
        assert trace.operations[0].padding == kept
        assert trace.operations[0].window.padding == sides(given_)
        assert trace.meta.version == (2 if len(kept) == 4 else 1)
