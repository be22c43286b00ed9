"""Requantisers with a table: by hand and in files, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from archsim.errors import TraceError
from archsim.trace import Operation, Requantiser, check_trace, load_trace, save_trace
from archsim.trace.resimulation import requantise
from tests.small_traces import build

TABLE = np.array([-7, -5, -2, 0, 1, 4, 6, 7])


def network(table=TABLE, bits=4, second=TABLE):
    """Two linear layers whose sums are looked up, and a read-out; 5 inputs of -128 to 127."""
    draw = np.random.default_rng(1)
    weight = [draw.integers(-20, 21, shape).astype(np.int8) for shape in ((6, 4), (6, 6), (2, 6))]
    few = [
        Requantiser(np.array([5, 6, 7, 8, 9, 10]), shift, bits, True, one) for shift, one in ((13, table), (9, second))
    ]
    operations = [
        Operation("a", "linear", ("x",), "a", weight=weight[0], bias=np.arange(6), requantiser=few[0]),
        Operation("b", "linear", ("a",), "b", weight=weight[1], requantiser=few[1]),
        Operation("c", "linear", ("b",), "c", weight=weight[2]),
    ]
    return build(operations, {"x": draw.integers(-128, 128, (5, 4)).astype(np.int8)}, 1)


def test_by_hand():
    """Eight entries, the middle one of which is at 0: 3 sums of 10 are 30, and with half of 16 38 >> 4 = 2."""
    rule = Requantiser(np.array([3]), 4, 4, True, TABLE)
    sums = np.array([10, 2, 0, -3, -2, 1000, -1000]).reshape(-1, 1, 1)
    # 46 / 16, 14 / 16, 8 / 16, -1 / 16 and 2 / 16, rounded down: places 2, 0, 0, -1 and 0; clipped to 3 and -4.
    assert requantise(rule, sums).ravel().tolist() == [6, 1, 1, 0, 1, 7, -7]


def test_round_trip(tmp_path):
    trace = network()
    save_trace(trace, tmp_path / "a.npz")
    loaded = load_trace(tmp_path / "a.npz")
    assert loaded.operations[0].requantiser.activation.tolist() == TABLE.tolist()
    assert loaded.meta.version == 2
    assert [check.mismatches for check in check_trace(loaded)] == [0, 0, 0]
    assert len(np.unique(loaded.tensor("a"))) >= 6
    with np.load(tmp_path / "a.npz") as file:
        found = {name: file[name] for name in file.files}
    meta = json.loads(found["meta"].tobytes())
    meta["version"] = 1
    np.savez(tmp_path / "b.npz", **found | {"meta": np.frombuffer(json.dumps(meta).encode(), np.uint8)})
    with pytest.raises(TraceError, match=r"operations\[0\].requantiser.activation_bits: came with version 2"):
        load_trace(tmp_path / "b.npz")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"second": np.arange(-8, 8) // 2 + 5}, "'activation.b': writes 1 to 8; allowed: -8 to 7, what 4 bits hold"),
        ({"table": np.arange(-3, 3)}, "array 'activation.a': got int32 [6]; allowed: int32 [8]"),
        ({"table": np.zeros(1, int)}, "array 'activation.a': got int32 [1]; allowed: int32 [2]"),
    ],
)
def test_what_is_refused(given, message):
    with pytest.raises(TraceError) as caught:
        network(**given)
    assert message in str(caught.value)
