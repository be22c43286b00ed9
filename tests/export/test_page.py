"""The examples of the page about traces, word for word."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

from archsim.dataflow.coverage import coverage
from archsim.simulate import load_accelerator
from archsim.trace import check_trace, load_trace
from tests.export.frameworks import need
from tests.machines import ROOT

PAGE = Path(__file__).parents[2] / "archsim" / "docs" / "guide" / "traces.md"


def examples():
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_example(tmp_path, monkeypatch, capsys):
    need("torch").manual_seed(0)
    need("snntorch")
    example, *_ = examples()
    monkeypatch.chdir(tmp_path)
    exec(compile(example, PAGE.name, "exec"), {})
    assert "same class as the float model" in capsys.readouterr().out
    trace = load_trace(tmp_path / "mine.npz")
    assert (trace.images, trace.timesteps) == (4, 4)
    assert {check.mismatches for check in check_trace(trace)} == {0}
    assert trace.tensor("2").any()


def test_a_public_model_is_covered_whole(tmp_path, monkeypatch):
    need("torch").manual_seed(0)
    public_models = importlib.import_module("tests.export.public_models")
    assert public_models.sew_resnet18, "SpikingJelly's models are imported there, without torchvision"
    _, example, *_ = examples()
    monkeypatch.chdir(tmp_path)
    exec(compile(example, PAGE.name, "exec"), {})
    trace = load_trace(tmp_path / "sew_resnet18.npz")
    machine = load_accelerator(ROOT / "hwconfigs" / "loas.yaml")
    covered = coverage(machine, trace, machine.layers(trace), None)
    assert (covered.share, covered.layers, covered.left_out) == (1, 21, ())


def test_a_network_of_few_bits(tmp_path, monkeypatch):
    need("torch").manual_seed(0)
    _, _, example, _ = examples()
    monkeypatch.chdir(tmp_path)
    known = {}
    exec(compile(example, PAGE.name, "exec"), known)
    trace = load_trace(tmp_path / "few_bits.npz")
    assert [operation.weight_bits for operation in trace.operations if operation.weight is not None] == [8, 2, 8]
    assert {check.mismatches for check in check_trace(trace)} == {0}
    assert known["logits"].shape == (100, 10)


def test_a_converted_network(tmp_path, monkeypatch, capsys):
    need("torch").manual_seed(0)
    *_, example = examples()
    monkeypatch.chdir(tmp_path)
    known = {}
    exec(compile(example, PAGE.name, "exec"), known)
    assert "rate" in capsys.readouterr().out
    trace = load_trace(tmp_path / "pinn.npz")
    assert trace.timesteps == 16
    assert {check.mismatches for check in check_trace(trace)} == {0}
    assert known["values"].shape == known["converted"].float_outputs.shape == (129, 1)
