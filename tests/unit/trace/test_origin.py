"""What a tensor holds, in words, against its values."""

import numpy as np
import pytest

from archsim.trace import Neuron, Operation, Requantiser
from archsim.trace.origin import origin
from tests.small_traces import attention, build, every_kind, every_operation, recurrent, tiny, version_2

IF = Neuron("if", np.full(2, 4))


def one_to_one(name, source, **more):
    """A convolution of two channels, weights 1 and -2."""
    return Operation(
        name, "conv2d", (source,), name, weight=np.array([[1, -2], [0, 3]], np.int8)[..., None, None], **more
    )


def test_by_who_wrote_it():
    """Spikes of ones and nothing else, so that sums are known: x = 1 everywhere, a = 0 or 1."""
    spikes = np.ones((3, 1, 2, 2, 2), bool)
    pool = {"kernel": (2, 2), "stride": (2, 2)}
    trace = build(
        [
            one_to_one("sums", "x"),
            one_to_one("a", "x", neuron=IF),
            Operation("twice", "add", ("x", "x"), "twice"),
            Operation("thrice", "add", ("twice", "x"), "thrice"),
            Operation("mixed", "add", ("x", "sums"), "mixed"),
            Operation("pooled", "pool", ("thrice",), "pooled", **pool),
            Operation("both", "concat", ("sums", "twice"), "both"),
            Operation("late", "pool", ("both",), "late", **pool),
            Operation("fired", "pool", ("a",), "fired", **pool),
        ],
        {"x": spikes}, 3,
    )  # fmt: skip
    assert {name: origin(trace, name) for name in trace.tensors} == {
        "x": "spikes",
        "sums": "full sums of sums (integers -1 to 3)",
        "a": "spikes of a",
        "twice": "sums of spikes 2 to 2",
        "thrice": "sums of spikes 3 to 3",
        "mixed": "the sums of mixed (integers 0 to 4)",
        "pooled": "pooled sums of spikes 3 to 3",
        "both": "full sums of sums and 1 more (integers -1 to 3)",
        "late": "pooled full sums of sums and 1 more (integers -1 to 3)",
        "fired": "pooled spikes of a",
    }


def test_operations_of_version_2():
    trace = version_2()
    counts = trace.tensor("counts.out")
    assert {name: origin(trace, name).split(" (")[0] for name in trace.tensors} == {
        "spikes": "spikes",
        "depthwise.out": "spikes of depthwise",
        "larger.out": "full sums of larger",
        "average.out": "spikes of average",
        "twice.out": "spikes of average",
        "cut.out": "spikes of average",
        "chosen.out": "spikes of chosen",
        "masked.out": "spikes of masked",
        "context.out": "full sums of context",
        "attended.out": "spikes of attended",
        "shuffled.out": "spikes of attended",
        "counts.out": f"sums of spikes {counts.min()} to {counts.max()}",
    }
    assert origin(recurrent(), "later.out") == "spikes of hidden"
    alone = Operation("alone", "delay", ("alone",), "alone")
    trace = build(
        [one_to_one("a", "x"), alone], {"x": np.ones((3, 1, 2, 2, 2), bool), "alone": counts[..., :1] > 99}, 3
    )
    assert origin(trace, "alone") == "nothing but delays of itself"


def test_integers_that_neurons_or_products_write():
    counts = np.full((3, 1, 2, 2, 2), 3, np.int16)
    trace = build(
        [
            Operation("product", "multiply", ("x", "x"), "product"),
            Operation("levels", "add", ("x",), "levels", neuron=Neuron("if", np.full(2, 2), fires="integer", most=4)),
            Operation("left", "add", ("x",), "left", neuron=Neuron("if", None, fires="nothing")),
        ],
        {"x": counts}, 3,
    )  # fmt: skip
    assert origin(trace, "product") == "products of product (integers 9 to 9)"
    assert origin(trace, "levels") == "integer spikes of levels (integers 2 to 2)"  # 3 / 2, a half to the even one
    assert origin(trace, "left") == "potentials of left (integers 3 to 9)"


@pytest.mark.parametrize(("least", "told"), [(0, "event counts 0 to 5"), (-3, "signed event counts -3 to 5")])
def test_inputs_that_change_are_events(least, told):
    counts = np.full((3, 1, 2, 2, 2), least, np.int16)
    counts[1] = 5
    assert origin(build([one_to_one("a", "x", neuron=IF)], {"x": counts}, 3), "x") == told


def test_inputs_that_do_not_change():
    """Pixels are what a spiking network reads first, and nothing else is: not a second input, not an ANN's."""
    still = np.array([[[[7]], [[0]]]], np.uint8)
    first = one_to_one("a", "x", neuron=IF)
    late = Operation("b", "add", ("a", "y"), "b", neuron=IF)
    trace = build([first, late], {"x": still, "y": still}, 3)
    assert origin(trace, "x") == "pixels 0 to 7"
    assert origin(trace, "y") == "integers 0 to 7"
    few = Requantiser(np.ones(2, np.int64), 0, 8, signed=True)
    ann = build([one_to_one("a", "x", requantiser=few)], {"x": still}, 1)
    assert origin(ann, "x") == "integers 0 to 7"
    assert origin(ann, "a") == "the output of a (integers 0 to 7)"
    assert origin(tiny(), "pixels").startswith("pixels 0 to 25")


def test_other_kinds():
    trace = every_kind()
    assert origin(trace, "ternary") == "signed events"
    assert origin(trace, "times") == "spike times"
    assert origin(trace, "highest.out") == "pooled signed events"
    assert origin(trace, "b.out") == "spike times of b"
    assert origin(attention(), "shares.out").startswith("the output of shares (integers ")


def test_every_tensor_has_words():
    for trace in (every_operation(), every_kind(), attention(), tiny()):
        for name in trace.tensors:
            told = origin(trace, name)
            if trace.kind(name) == "int":
                values = trace.tensor(name)
                assert f"{values.min()} to {values.max()}" in told


def test_sums_that_double_are_seen_through_once():
    """Sixty additions of a tensor to itself, 2^60 ways back."""
    operations = [
        Operation(f"s{i}", "add", (f"s{i - 1}", f"s{i - 1}") if i else ("x", "x"), f"s{i}") for i in range(40)
    ]
    trace = build(operations, {"x": np.ones((2, 1, 1), bool)}, 2)
    assert origin(trace, "s39") == f"sums of spikes {2**40} to {2**40}"
