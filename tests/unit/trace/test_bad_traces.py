"""Every fault of a trace file is one readable error."""

from __future__ import annotations

import json
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.errors import TraceError, UsageError
from archsim.trace import Neuron, Operation, Trace, load_trace, save_trace
from tests.bad_traces import FAULTS, Raw, bad_trace, good_trace, write
from tests.small_traces import attention, every_kind, long, recurrent, version_2


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return good_trace(tmp_path_factory.mktemp("traces"))


def test_the_good_trace_loads(good):
    assert load_trace(good).network == "small"


def test_the_hash_is_the_one_specified(good):
    """``Raw`` computes it from the text of ``workloads/README.md`` and not with ``archsim``."""
    assert json.loads(Raw(good).sealed())["sha256"] == load_trace(good).sha256


@pytest.mark.parametrize("make", [every_kind, attention, version_2, recurrent, long])
def test_other_good_traces_load(make, tmp_path):
    save_trace(make(), tmp_path / "other.npz")
    assert json.loads(Raw(tmp_path / "other.npz").sealed())["sha256"] == load_trace(tmp_path / "other.npz").sha256


@pytest.mark.parametrize("fault", FAULTS)
def test_one_error_that_names_file_and_fault(fault, good, monkeypatch):
    monkeypatch.setattr(pickle, "loads", lambda *_: pytest.fail("unpickled"))
    monkeypatch.setattr(pickle, "load", lambda *_: pytest.fail("unpickled"))
    path = bad_trace(fault, good)
    with pytest.raises(TraceError) as caught:
        load_trace(path)
    assert FAULTS[fault][1] in str(caught.value)
    for problem in caught.value.problems:
        assert str(path) in problem
        assert "\n" not in problem
        assert len(problem) < len(str(path)) + 400


def test_many_problems_are_told_at_once(good):
    raw = Raw(good)
    raw.meta["timesteps"] = 0
    raw.meta["operations"][1]["stride"] = [0, 1]
    raw.meta["operations"][2]["colour"] = "red"
    path = good.parent / "many.npz"
    write(path, raw.sealed(), raw.arrays)
    with pytest.raises(TraceError) as caught:
        load_trace(path)
    assert len(caught.value.problems) == 3


def test_a_refused_operation_is_not_also_missed():
    """Leak shift 9 is one mistake; that fewer operations are left than a network needs is none."""
    operation = Operation("fc", "linear", ("x",), "y", weight=np.ones((4, 6), np.int8), neuron=Neuron("lif", 50, 9, 3))
    with pytest.raises(TraceError) as caught:
        Trace(
            network="n", timesteps=4, operations=[operation], tensors={"x": np.zeros((4, 2, 6), bool)},
            provenance={"kind": "synthetic", "weights": "synthetic"},
        )  # fmt: skip
    assert len(caught.value.problems) == 1
    assert "operations[0].neuron.leak_shift: input should be less than or equal to 8, got 9" in str(caught.value)


def test_no_operations_are_missed():
    with pytest.raises(TraceError, match="operations: tuple should have at least 1 item"):
        Trace(
            network="n", timesteps=4, operations=[], tensors={"x": np.zeros((4, 2, 6), bool)},
            provenance={"kind": "synthetic", "weights": "synthetic"},
        )  # fmt: skip


def test_a_user_who_trusts_a_file_raises_the_limit_of_its_work(good, monkeypatch):
    path = bad_trace("outer product beyond measure", good)
    with pytest.raises(TraceError, match="ARCHSIM_MAX_STEPS"):
        load_trace(path)
    monkeypatch.setenv("ARCHSIM_MAX_STEPS", "100000000")
    assert load_trace(path).operations[-1].name == "x"
    monkeypatch.setenv("ARCHSIM_MAX_STEPS", "many")
    with pytest.raises(UsageError, match="must be a number of steps"):
        load_trace(path)


def test_thousands_of_names_are_told_shortly(good):
    """Each is compared with the others for a hint only as long as the hint is told."""
    raw = Raw(good)
    names = [f"tensor_{i}" for i in range(2_000)]
    raw.meta["tensors"].update({name: {"kind": "spike", "shape": [8]} for name in names})
    path = good.parent / "unread.npz"
    write(path, raw.sealed(), raw.arrays)
    with pytest.raises(TraceError) as caught:
        load_trace(path)
    assert len(caught.value.problems) == 2_000
    assert caught.value.lines()[-1] == "and 1,950 more problems"


def test_many_array_problems_are_told_at_once(good):
    raw = Raw(good)
    raw.arrays["threshold.conv1"][0] = 0
    raw.arrays["weight.conv2"] = raw.arrays["weight.conv2"].view("u1")
    raw.arrays["tensor.conv2.spikes"][-1] = 0x80
    path = good.parent / "many_arrays.npz"
    write(path, raw.sealed(), raw.arrays)
    with pytest.raises(TraceError) as caught:
        load_trace(path)
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    "fault", ["zip bomb", "zip bomb that lies", "absurd shape", "header that lies about the shape"]
)
def test_a_bomb_takes_no_memory(fault, good):
    path = bad_trace(fault, good)
    tracemalloc.start()
    with pytest.raises(TraceError):
        load_trace(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_any_damage_is_a_trace_error_or_harmless(good, data):
    """Flip, insert or cut bytes anywhere: an error, or a trace with the very same contents."""
    whole = good.read_bytes()
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, max(0, len(damaged) - 1)))
        match data.draw(st.sampled_from(["flip", "insert", "cut", "truncate"])):
            case "flip" if damaged:
                damaged[place] ^= data.draw(st.integers(1, 255))
            case "insert":
                damaged[place:place] = data.draw(st.binary(min_size=1, max_size=8))
            case "cut":
                del damaged[place : place + data.draw(st.integers(1, 8))]
            case "truncate":
                del damaged[place + 1 :]
    path = good.parent / "damaged.npz"
    path.write_bytes(bytes(damaged))
    try:
        trace = load_trace(path)
    except TraceError as error:
        assert all(str(path) in problem for problem in error.problems)
    else:
        assert trace.sha256 == load_trace(good).sha256


def test_damage_to_the_directory(good):
    """Every single byte of the central directory, where names, sizes and offsets are."""
    whole = good.read_bytes()
    start = whole.index(b"PK\x01\x02")
    path = good.parent / "central_directory.npz"
    expected = load_trace(good).sha256
    for place in range(start, len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        path.write_bytes(bytes(damaged))
        try:
            trace = load_trace(path)
        except TraceError:
            continue
        assert trace.sha256 == expected


def test_a_file_that_changes_while_in_use(good):
    path = good.parent / "changing.npz"
    path.write_bytes(good.read_bytes())
    trace = load_trace(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("more.npy", b"x")
    with pytest.raises(TraceError, match="was replaced or changed"):
        trace.tensor("conv1.spikes")
