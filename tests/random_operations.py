"""Operations of every kind with random geometry, and tensors of every kind for them to read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from archsim.trace import Neuron, Operation, Requantiser
from tests.twins import trace as twin

OPS = (
    "conv2d", "linear", "pool", "add", "multiply", "reduce", "concat", "slice", "upsample", "rearrange", "delay",
    "matmul",
)  # fmt: skip
TIMES_READ = ("conv2d", "linear", "pool", "concat", "slice", "upsample", "rearrange", "delay")
KINDS = ("spike", "signed_spike", "int", "still", "spike_time")


@st.composite
def cases(draw, ops=OPS, timesteps=(1, 4)):
    """An operation, the tensors that it reads, their kinds, and how many timesteps they have."""
    steps, images = draw(st.integers(*timesteps)), draw(st.integers(1, 2))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    op = draw(st.sampled_from(ops))
    keys, shapes, sums = _MAKERS[op](draw, rng)
    allowed = KINDS if op in TIMES_READ and not sums_up(keys) else KINDS[:-1]
    kinds = [draw(st.sampled_from(allowed)) for _ in shapes]
    kinds = kinds[:1] * len(kinds) if op == "concat" else kinds
    tensors = {f"in{i}": tensor(rng, *pair, steps, images) for i, pair in enumerate(zip(kinds, shapes, strict=True))}
    if sums:
        keys |= draw(st.sampled_from([{}, {"neuron": Neuron("if", int(rng.integers(1, 9)))}, {"requantiser": True}]))
    operation = Operation("op", op, tuple(tensors), "out", **keys)
    told = {name: kind for name, kind in zip(tensors, kinds, strict=True) if kind not in ("int", "still")}
    return operation, tensors, told, steps


def sums_up(keys):
    return keys.get("reduction") == "sum"


def tensor(rng, kind, shape, timesteps, images):
    """A tensor of ``kind``; ``still`` are integers that do not change in time."""
    timed, still = (timesteps, images, *shape), (images, *shape)
    if kind == "spike":
        return rng.random(timed) < 0.4
    if kind == "signed_spike":
        return rng.integers(-1, 2, timed, np.int8)
    if kind == "int":
        return rng.integers(-99, 100, timed, np.int16)
    if kind == "still":
        return rng.integers(0, 256, still, np.uint8)
    times = rng.integers(0, timesteps + 1, still)
    return np.where(times == timesteps, twin.never(timesteps), times)


def ended(operation, channels):
    """The operation with thresholds or multipliers for as many channels as it turned out to have."""
    if operation.requantiser is True:
        return replace(operation, requantiser=Requantiser(np.arange(1, channels + 1) * 3, 4, 5, signed=False))
    if operation.neuron is not None:
        return replace(operation, neuron=Neuron("if", np.full(channels, operation.neuron.threshold)))
    return operation


def _map(draw, most=6, channels=None):
    sides = draw(st.integers(1, most)), draw(st.integers(1, most))
    return (draw(st.integers(1, 4)) if channels is None else channels, *sides)


def _pair(draw, low, high):
    return draw(st.integers(low, high)), draw(st.integers(low, high))


def _around(draw, spans, sizes, most):
    """Padding of four sides, at most ``most`` of the span, under which the kernel fits."""
    found = []
    for span, size in zip(spans, sizes, strict=True):
        before, after = _pair(draw, 0, most(span))
        lacking = max(0, span - size - before - after)
        found += [before + -(-lacking // 2), after + lacking // 2]
    return tuple(found)


def _convolution(draw, rng):
    groups = draw(st.integers(1, 3))
    shape = _map(draw, channels=groups * draw(st.integers(1, 2)))
    kernel, dilation, stretch = _pair(draw, 1, 3), _pair(draw, 1, 3), _pair(draw, 1, 3)
    spans = [(side - 1) * apart + 1 for side, apart in zip(kernel, dilation, strict=True)]
    sizes = [(side - 1) * by + 1 for side, by in zip(shape[1:], stretch, strict=True)]
    n = groups * draw(st.integers(1, 2))
    keys = {
        "weight": rng.integers(-20, 21, (n, shape[0] // groups, *kernel), np.int8), "groups": groups,
        "stride": _pair(draw, 1, 3), "dilation": dilation, "input_dilation": stretch,
        "padding": _around(draw, spans, sizes, lambda span: span),
    }  # fmt: skip
    return keys | _bias(draw, rng, n), [shape], True


def _bias(draw, rng, n):
    return {"bias": rng.integers(-9, 10, n)} if draw(st.booleans()) else {}


def _linear(draw, rng):
    shape = _map(draw, 3) if draw(st.booleans()) else (draw(st.integers(1, 9)),)
    n = draw(st.integers(1, 4))
    weight = rng.integers(-20, 21, (n, int(np.prod(shape))), np.int8)
    return {"weight": weight} | _bias(draw, rng, n), [shape], True


def _pool(draw, rng):
    shape, kernel = _map(draw), _pair(draw, 1, 4)
    # Of a maximum no window may be all padding.
    kernel = tuple(min(side, 2 * size - 1) for side, size in zip(kernel, shape[1:], strict=True))
    around = _around(draw, kernel, shape[1:], lambda span: span - 1)
    reduction = draw(st.sampled_from(["max", "sum"]))
    keys = {"kernel": kernel, "stride": _pair(draw, 1, 3), "padding": around, "reduction": reduction}
    return keys, [shape], sums_up(keys)


def _add(draw, rng):
    return {}, [_map(draw, 3)] * draw(st.integers(1, 3)), True


def _multiply(draw, rng):
    shared = _map(draw, 3)
    repeats = draw(st.integers(1, 3))
    second = tuple(draw(st.sampled_from([1, side])) for side in shared[1:])
    return {}, [(shared[0] * repeats, *shared[1:]), (shared[0], *second)], True


def _reduce(draw, rng):
    groups, own = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    axis = draw(st.sampled_from(["channels", "positions"]))
    if axis == "positions":
        return {"axis": axis}, [_map(draw)], True
    shape = (groups * own,) if draw(st.booleans()) else _map(draw, channels=groups * own)
    return {"axis": axis, "groups": groups}, [shape], True


def _concat(draw, rng):
    _, *sides = _map(draw, 3)
    return {}, [(draw(st.integers(1, 3)), *sides) for _ in range(draw(st.integers(1, 3)))], False


def _slice(draw, rng):
    shape = _map(draw) if draw(st.booleans()) else (draw(st.integers(1, 9)),)
    axis = draw(st.integers(0, len(shape) - 1))
    start = draw(st.integers(0, shape[axis] - 1))
    return {"axis": axis, "start": start, "stop": draw(st.integers(start + 1, shape[axis]))}, [shape], False


def _upsample(draw, rng):
    return {"factor": _pair(draw, 1, 3)}, [_map(draw, 4)], False


def _rearrange(draw, rng):
    view = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    order = draw(st.permutations(range(len(view))))
    size = int(np.prod(view))
    shapes = [(size,), (size, 1, 1), (1, *(view[0], size // view[0])), (view[0], 1, size // view[0])]
    read, written = draw(st.sampled_from(shapes)), draw(st.sampled_from(shapes))
    return {"view": tuple(view), "order": tuple(order), "shape": written}, [read], False


def _delay(draw, rng):
    shape = _map(draw, 3) if draw(st.booleans()) else (draw(st.integers(1, 4)),)
    steps = draw(st.integers(1, 6)) if draw(st.booleans()) else rng.integers(1, 6, shape[0])
    return {"steps": steps}, [shape], False


def _matmul(draw, rng):
    heads, inner = draw(st.integers(1, 3)), _pair(draw, 1, 3)
    turned, first_turned = draw(st.booleans()), draw(st.booleans())
    # Either the positions of a matrix or its columns of a head are what both have.
    first = (heads * draw(st.integers(1, 3)), *inner) if first_turned else _map(draw, 3, heads * inner[0] * inner[1])
    second = _map(draw, 3, heads * inner[0] * inner[1]) if turned else (heads * draw(st.integers(1, 3)), *inner)
    return {"heads": heads, "transpose": turned, "transpose_first": first_turned}, [first, second], True


_MAKERS = {
    "conv2d": _convolution, "linear": _linear, "pool": _pool, "add": _add, "multiply": _multiply, "reduce": _reduce,
    "concat": _concat, "slice": _slice, "upsample": _upsample, "rearrange": _rearrange, "delay": _delay,
    "matmul": _matmul,
}  # fmt: skip
