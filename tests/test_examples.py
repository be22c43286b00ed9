"""Machines and a trace that can be named without a path, from any folder."""

import pytest

from archsim import examples, load_accelerator, load_trace
from archsim.cli import main
from tests.machines import MACHINES, ROOT


def test_every_shipped_machine_has_its_name():
    assert sorted(examples.machines().values()) == MACHINES
    assert examples.find("loas") == ROOT / "hwconfigs" / "loas.yaml"
    assert load_accelerator("ptb_16x4").config.accelerator == "ptb"
    assert load_trace("vgg9").sha256 == load_trace(ROOT / "workloads" / "vgg9_dual_sparse.npz").sha256


def test_a_file_comes_before_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loas").write_text("accelerator: nothing\n")
    assert str(examples.find("loas")) == "loas"
    assert str(examples.find("sub/ptb")) == "sub/ptb"


@pytest.mark.parametrize("verb", [("run", "laos", "vgg9"), ("explain", "laos"), ("check", "laos")])
def test_a_wrong_name_is_one_line(verb, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(list(verb)) == 2
    assert "laos: no such file (did you mean 'loas'?)" in capsys.readouterr().err


def test_explain_and_check_take_names(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["explain", "loas"]) == 0
    assert "section V: 800 MHz" in capsys.readouterr().out
    assert main(["check", "loas", "vgg9"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "loas: ok, a machine of type loas",
        "vgg9: ok, vgg9, 13 operations, T = 4",
    ]
