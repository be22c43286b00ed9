"""The integer re-simulation against scalar loops, and against itself at the limits of floating point."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.trace import ImageSet, Neuron, Operation, Requantiser, Trace, check_trace, resimulate
from archsim.trace import resimulation as room
from tests.small_traces import LABELS, attention, build, contents, every_kind, every_operation, kinds, tiny
from tests.twins import neurons
from tests.twins import trace as twin

RESETS = ["hard", "soft", "soft_before_leak", "soft_after_leak"]


def timed(trace, operation):
    rank = 2 + len(operation.input_shapes[0])
    for name in operation.inputs:
        array = trace.tensor(name)
        if trace.kind(name) == "spike_time":
            yield twin.spikes_of_times(array, trace.timesteps)
        else:
            yield array if array.ndim == rank else np.stack([array] * trace.timesteps)


def assert_twin(trace):
    for operation in trace.operations:
        expected = twin.run(operation, list(timed(trace, operation)), trace.timesteps)
        if trace.kind(operation.output) == "spike_time":
            expected = twin.first_spike_times(expected)
        output, mismatches = resimulate(trace, operation)
        np.testing.assert_array_equal(output, expected.astype(output.dtype), err_msg=operation.name)
        assert mismatches == 0


@pytest.mark.parametrize("seed", range(3))
def test_every_operation(seed):
    assert_twin(every_operation(seed))
    assert_twin(tiny(seed, timesteps=seed + 2))


@pytest.mark.parametrize("seed", range(3))
def test_every_kind(seed):
    trace = every_kind(seed, timesteps=seed + 2)
    assert_twin(trace)
    # Later spikes of a neuron that writes a time are left out, and there are some.
    operation = trace.operation("b")
    spikes = room.compute(operation, [trace.operand("times")], trace.timesteps)
    assert (spikes.sum(0) > 1).any()
    assert set(np.unique(trace.tensor("b.out"))) > {0, 255}
    np.testing.assert_array_equal(trace.operand("b.out"), spikes & (spikes.cumsum(0) == 1))


def test_the_earliest_spike_of_a_window_by_hand():
    """T = 4; windows of two: times 3 and 1 give 1, 2 and never give 2, never and never give never."""
    times = np.array([3, 1, 2, 255, 255, 255], np.uint8).reshape(1, 1, 1, 6)
    pool = Operation("a", "pool", ("in",), "out", kernel=(1, 2), stride=(1, 2))
    out = np.array([1, 2, 255], np.uint8).reshape(1, 1, 1, 3)
    trace = Trace(
        network="a", timesteps=4, operations=[pool], tensors={"in": times, "out": out}, provenance=LABELS,
        kinds={"in": "spike_time", "out": "spike_time"},
    )  # fmt: skip
    assert [check.mismatches for check in check_trace(trace)] == [0]


def test_small_traces_test_something():
    """Outputs are mixed, and the rule that masks neurons that fire once has work to do."""
    trace = tiny()
    for name in ("conv1.spikes", "conv2.spikes"):
        assert 0.02 < trace.tensor(name).mean() < 0.98
    operation = trace.operation("conv2")
    plain = Neuron(**(vars(operation.neuron) | {"mask_fire_once": False}))
    currents = room.compute(_bare(operation), [trace.tensor("conv1.spikes")], 4)
    assert (room.fire(plain, currents).sum(0) == 1).any()


def _bare(operation):
    import copy

    bare = copy.copy(operation)
    bare.__dict__["neuron"] = None
    return bare


@settings(max_examples=200, deadline=None)
@given(
    currents=st.lists(st.integers(-(2**20), 2**20), min_size=1, max_size=16), threshold=st.integers(1, 2**20),
    leak_shift=st.integers(0, 8), fraction_bits=st.integers(0, 20), reset=st.sampled_from(RESETS),
    masked=st.booleans(), subtracts=st.booleans(), at_threshold=st.booleans(),
)  # fmt: skip
def test_any_neuron(currents, threshold, leak_shift, fraction_bits, reset, masked, subtracts, at_threshold):
    neuron = Neuron(
        "lif", np.array([threshold]), leak_shift, fraction_bits, reset, masked, subtracts, at_threshold
    )  # fmt: skip
    expected = neurons.masked(neuron, neurons.run(neuron, currents, (0,))[0])
    assert room.fire(neuron, np.array(currents).reshape(-1, 1, 1))[:, 0, 0].tolist() == expected


def test_a_neuron_by_hand():
    """T = 4, h = 10, leak 1/2, f = 3. Currents 8, 8, 3, -9; potentials in eighths.

    t0: X = 64, h << f = 80, no spike, u = 32. t1: X = 64 + 32 = 96 > 80, spike, hard reset: u = 0.
    t2: X = 24, u = 12. t3: X = -72 + 12 = -60, u = -30. With a soft reset u = 16 after t1, X = 40 at t2, no spike.
    A current that meets the threshold exactly does not fire.
    """
    currents = np.array([8, 8, 3, -9]).reshape(4, 1, 1)
    neuron = Neuron("lif", np.array([10]), 1, 3)
    assert room.fire(neuron, currents).ravel().tolist() == [False, True, False, False]
    assert room.fire(Neuron("lif", np.array([10]), 1, 3, mask_fire_once=True), currents).sum() == 0
    assert room.fire(neuron, np.full((1, 1, 1), 10)).sum() == 0
    assert room.fire(neuron, np.full((1, 1, 1), 11)).sum() == 1
    soft = Neuron("lif", np.array([10]), 1, 3, "soft")
    # After t1 u = 16; t2: 9 << 3 = 72, X = 88 > 80: only a soft reset spikes.
    late = np.array([8, 8, 9]).reshape(3, 1, 1)
    assert room.fire(soft, late).ravel().tolist() == [False, True, True]
    assert room.fire(neuron, late).ravel().tolist() == [False, True, False]


def test_leaks_and_resets_by_hand():
    """T = 3, h = 10, three quarters stay (l = 2, subtracts), f = 4. Currents 8, 6, x; potentials in sixteenths.

    t0: X = 128, h << f = 160, u = 128 - 32 = 96. t1: X = 96 + 96 = 192: spike. Then u = 0 (hard), 32 (soft),
    32 - 8 = 24 (before the leak), 192 - 48 - 160 = -16 (after it). At t2 a current of 8, 9, 11 gives
    X = 128, 144, 176 plus u: hard spikes from 11 on, soft at 9 (176) but not at 8 (160), before_leak at 9 (168), not
    at 8, after_leak at 11 only just meets the threshold (160).
    """
    spikes = {}
    for reset in RESETS:
        for at_threshold in (False, True):
            neuron = Neuron("lif", np.array([10]), 2, 4, reset, False, True, at_threshold)
            spikes[reset, at_threshold] = [
                bool(room.fire(neuron, np.array([8, 6, last]).reshape(3, 1, 1))[2, 0, 0]) for last in (8, 9, 11)
            ]
    assert spikes == {
        ("hard", False): [False, False, True], ("hard", True): [False, False, True],
        ("soft", False): [False, True, True], ("soft", True): [True, True, True],
        ("soft_before_leak", False): [False, True, True], ("soft_before_leak", True): [False, True, True],
        ("soft_after_leak", False): [False, False, False], ("soft_after_leak", True): [False, False, True],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("largest", "dtype"),
    [(1, np.float32), (500, np.float32), (2**10, np.float64), (2**37, np.float64), (2**39, np.int64)],
)
def test_exact_at_any_size(largest, dtype):
    """Products whose sum is odd and close to the limit of the type that is chosen."""
    weight = np.full((1, 250), 127, np.int8)
    weight[0, 0] = 1
    values = np.full((1, 1, 250), largest, np.int64)
    assert room._exact_type(weight.size * 128 * largest) is dtype
    layer = Operation("a", "linear", ("in",), "out", weight=weight)
    trace = Trace(network="a", timesteps=1, operations=[layer], tensors={"in": values}, provenance=LABELS)
    output, _ = resimulate(trace, trace.operations[0])
    assert int(output[0, 0, 0]) == largest * (249 * 127 + 1)


def test_large_batches_are_cut_in_blocks(monkeypatch):
    trace = tiny(images=3)
    monkeypatch.setattr(room, "_BLOCK_BYTES", 5000)
    assert [check.mismatches for check in check_trace(trace)] == [0, 0, 0, 0]


@pytest.mark.parametrize("name", ["b.out", "highest.out", "earliest.out", "signs.out"])
def test_a_wrong_output_of_every_kind_is_counted(name):
    trace = every_kind()
    wrong = trace.tensor(name).copy()
    wrong.flat[[3, 17]] = (wrong.flat[[3, 17]] == 0).astype(wrong.dtype)
    changed = Trace(
        network="a", timesteps=3, operations=trace.operations, tensors=contents(trace) | {name: wrong},
        provenance=LABELS, kinds=kinds(trace),
    )  # fmt: skip
    (operation,) = (operation for operation in changed if operation.output == name)
    assert resimulate(changed, operation)[1] == 2


@pytest.mark.parametrize("name", ["conv1.spikes", "conv2.spikes", "pool.spikes", "logits"])
def test_a_wrong_output_is_counted(name):
    trace = tiny()
    tensors = contents(trace)
    wrong = tensors[name].copy()
    wrong.flat[3] = 1 - wrong.flat[3]
    wrong.flat[17] = 1 - wrong.flat[17]
    changed = Trace(
        network="a", timesteps=4, operations=trace.operations, tensors=tensors | {name: wrong}, provenance=LABELS
    )
    found = {check.layer: check.mismatches for check in check_trace(changed)}
    assert found[next(op.name for op in trace.operations if op.output == name)] == 2


def test_what_is_not_stored_is_not_verified():
    trace = tiny()
    tensors = contents(trace)
    del tensors["logits"]
    without = Trace(network="a", timesteps=4, operations=trace.operations, tensors=tensors, provenance=LABELS)
    last = list(check_trace(without))[-1]
    assert last.mismatches is None
    assert last.reason == "not verified: no neuron is known and its output is not stored"
    assert resimulate(without, without.operation("fc"))[1] is None


# ---------------------------------------------------------------------------------- integers of few bits


@pytest.mark.parametrize("seed", range(4))
def test_a_network_without_spikes(seed):
    trace = attention(seed)
    assert_twin(trace)
    # Each requantiser leaves more than its limits, and so do the shares.
    for operation in trace.operations:
        if operation.requantiser is not None or operation.op == "softmax":
            assert len(np.unique(trace.tensor(operation.output))) > 2, operation.name


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_few_bits_at_the_limits(data):
    """Every shift, width and sign, with sums and multipliers up to what 64 bits allow, against Python's integers."""
    shift, bits, signed = data.draw(st.integers(0, 62)), data.draw(st.integers(2, 16)), data.draw(st.booleans())
    largest = data.draw(st.sampled_from([1, 200, 2**20, 2**31 - 1]))
    multiplier = np.array(data.draw(st.lists(st.integers(-largest, largest), min_size=3, max_size=3)))
    limit = ((1 << 62) - 1) // largest
    sums = st.sampled_from([0, 1, -1, limit, -limit]) | st.integers(-limit, limit)
    currents = np.array(data.draw(st.lists(sums, min_size=6, max_size=6))).reshape(1, 2, 3)
    few = Requantiser(multiplier, shift, bits, signed)
    expected = [[twin.requantised(few, int(x), channel) for channel, x in enumerate(row)] for row in currents[0]]
    np.testing.assert_array_equal(room.requantise(few, currents)[0], expected)


def test_rounding_by_hand():
    """Halves go up: 5 / 2 = 3, -5 / 2 = -2; without a sign what is below zero is zero, as behind a ReLU."""
    for signed, expected in ((True, [3, -2, 127, -128, 0]), (False, [3, 0, 255, 0, 0])):
        few = Requantiser(np.ones(1, np.int64), 1, 8, signed)
        currents = np.array([5, -5, 1000, -1000, -1]).reshape(1, 5, 1)
        assert room.requantise(few, currents).reshape(-1).tolist() == expected


def test_a_softmax_by_hand():
    """e = 8, 4, 2, 0 for distances 0, 1, 2, from 3: of 8 + 4 + 4 + 0 = 16, 255 8 / 16 = 127.5 goes up."""
    table = np.zeros(256, np.uint16)
    table[:3] = 8, 4, 2
    shares = room.softmax(np.array([[7, 6, 6, -300]]), table)
    assert shares.tolist() == [[128, 64, 64, 0]]
    assert room.softmax(np.array([[5]]), table).tolist() == [[255]]


def test_a_layer_norm_by_hand():
    """x = 1, 3: d = -2, 2, r = isqrt(8 // 2) = 2; 40 d / r = -40, 40. Equal channels have no deviation."""
    norm = Operation(
        "norm", "layer_norm", ("in",), "out", bias=np.array([4, 8]), requantiser=Requantiser(np.array([40, 40]), 2)
    )
    values = np.array([1, 3, 9, 9], np.int8).reshape(2, 2, 1, 1)
    trace = build([norm], {"in": values}, 1)
    assert trace.tensor("out").reshape(-1).tolist() == [-9, 12, 1, 2]


@given(st.integers(0, (1 << 62) - 1) | st.integers(0, (1 << 31) - 1).map(lambda root: root * root))
def test_integer_roots(square):
    """Also just below a square, where floating point is one too high."""
    for value in (square, max(square - 1, 0)):
        assert int(room._integer_root(np.array([value]))[0]) == math.isqrt(value)


def test_other_images_run_through_the_network():
    """The images of the trace give its tensors; a constant serves any number of images."""
    trace = attention()
    for name, values in room.run_images(trace, trace.tensor("pixels")).items():
        np.testing.assert_array_equal(
            values[0] if trace.tensor(name).ndim < values.ndim else values, trace.tensor(name)
        )
    sets = trace.evaluation
    one_by_one = [int(room.predict(trace, sets.images[i : i + 1])[0]) for i in range(len(sets))]
    assert room.predict(trace, sets.images, batch=2).tolist() == one_by_one
    assert room.accuracy(trace, sets) == np.mean(one_by_one == sets.labels)
    perfect = ImageSet(sets.images, np.array(one_by_one))
    assert room.accuracy(trace, perfect) == 1


def test_other_images_run_through_a_spiking_network():
    """Times, too, are those of first spikes; the class has the most in all timesteps."""
    trace = tiny()
    for name, values in room.run_images(trace, trace.tensor("pixels")).items():
        np.testing.assert_array_equal(values, trace.operand(name))
    logits = trace.tensor("logits").sum(0)
    np.testing.assert_array_equal(room.predict(trace, trace.tensor("pixels")), logits.argmax(1))
