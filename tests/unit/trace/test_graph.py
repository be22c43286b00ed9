"""What operations promise to each other, where ``bad_traces`` has no operation of the kind."""

from __future__ import annotations

import pytest

from archsim.trace import check_trace, schema
from archsim.trace.graph import resolve
from tests.small_traces import attention, every_operation


@pytest.fixture
def record():
    """The record of a trace with every operation, by which operations can be found by name."""
    return schema.dump(every_operation().meta)


def problems(record) -> str:
    return "\n".join(resolve(schema.parse(record, "x"), "x").problems)


def operation(record, name):
    return next(entry for entry in record["operations"] if entry["name"] == name)


def test_nothing_is_wrong(record):
    assert problems(record) == ""


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("sum", {"inputs": ["left.out", "features"]}, "shapes differ, got [3, 4, 4], [6]"),
        ("both", {"inputs": ["sum.out", "highest.in"]}, "shapes differ beyond the channels, got [3, 4, 4], [3, 9, 9]"),
        ("both", {"inputs": ["sum.out", "right.out"]}, "concat needs inputs of one kind, got ['int', 'spike']"),
        ("highest", {"padding": [3, 0]}, "operations[4].padding: must be smaller than the kernel, 3, got 3"),
        ("scores", {"transpose": False}, "inner lengths differ, got 6 and 16"),
        ("scores", {"inputs": ["both.out", "left.out"]}, "inner lengths differ, got 6 and 3"),
        ("scores", {"inputs": ["both.out"]}, "matmul reads 2 tensors, got 1"),
        ("scores", {"inputs": ["both.out", "features"]}, "matmul reads [C, H, W] twice, got [6, 4, 4], [6]"),
        ("values", {"neuron": {"kind": "if"}}, "operation 'values' writes 'spike' or 'spike_time', got 'int'"),
    ],
)
def test_misfits(record, name, changes, says):
    record["tensors"]["highest.in"] = {"kind": "spike", "shape": [3, 9, 9]}
    record["tensors"]["features"] = {"kind": "spike", "shape": [6]}
    operation(record, name).update(changes)
    assert says in problems(record)


def test_an_output_that_changes_in_time_cannot_be_stored_without_time(record):
    record["tensors"]["right.out"]["per_timestep"] = False
    assert "tensors.right.out.per_timestep: operation 'right' writes every timestep" in problems(record)


def test_many_large_tensors(record):
    for index in range(9):
        name = f"large{index}"
        record["tensors"][name] = {"kind": "int", "shape": [1 << 20], "dtype": "int64", "per_timestep": False}
        record["operations"].append({"name": name, "op": "concat", "inputs": [name], "output": f"{name}.out"})
    record["images"] = 32
    assert "bytes in all; allowed: at most 2,147,483,648" in problems(record)


def test_operations_without_spikes_read_integers(record):
    for op, more in (("softmax", {}), ("layer_norm", {"requantiser": {"shift": 1, "bits": 8, "signed": True}})):
        record["operations"].append({"name": op, "op": op, "inputs": ["left.out"], "output": f"{op}.out", **more})
        assert f"{op} reads integers, got 'left.out'; allowed: 'int'" in problems(record)


def test_image_sets_belong_to_a_whole_network():
    """A choice of images keeps them, as they are no part of the run; a choice of layers has none."""
    trace = attention()
    assert trace.select(images=[1]).evaluation.labels.tolist() == trace.evaluation.labels.tolist()
    assert trace.select(images=[1]).constants == ("positions",)
    part = trace.select(layers=["scores", "mix"])
    assert part.calibration is None
    assert part.evaluation is None
    assert [check.mismatches for check in check_trace(part)] == [0, 0]
