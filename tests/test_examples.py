"""Machines and a trace that can be named without a path, from any folder."""

import os
import subprocess
import sys

import pytest

from archsim import examples, load_accelerator, load_trace, run
from archsim.cli import main
from archsim.errors import UsageError
from archsim.trace import save_trace
from tests.machines import MACHINES, ROOT, mlp


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


def test_a_folder_of_that_name_is_in_nobodys_way(tmp_path, monkeypatch):
    (tmp_path / "loas").mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("extends: loas\npe: {count: 8}\n")
    assert load_accelerator("loas").config.accelerator == "loas"
    assert load_accelerator("mine.yaml").config.pe.count == 8


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


def test_settings_by_keyword_and_what_a_report_says_of_itself(tmp_path):
    trace = tmp_path / "tiny.npz"
    save_trace(mlp(1), trace)
    report = run("loas", trace, pe__count=8, memory__ideal=True, clock_mhz=400)
    same = run("loas", trace, overrides=["pe.count=8", "memory.ideal=true", "clock_mhz=400"])
    assert report.summary()["cycles"] == same.summary()["cycles"]
    assert report.overrides[0] == "pe.count=8"
    told = f"{report.summary()['cycles']:,} cycles"
    assert told in repr(report)
    assert repr(report).endswith("verified bit for bit>")
    assert report.per_image().endswith("; the spikes and weights are synthetic")
    assert "synthetic" not in run("loas", "vgg9", layers=["fc"]).per_image()
    assert told in report._repr_html_()
    assert report._repr_html_().count("<tr") == 4
    with pytest.raises(UsageError, match="a setting must be"):
        run("loas", trace, pe__count=object())


def test_the_shell_completes_names_and_files(tmp_path):
    (tmp_path / "local.yaml").touch()
    words = {**os.environ, "_ARCHSIM_COMPLETE": "complete_bash", "PYTHONPATH": str(ROOT)}

    def complete(line):
        environment = {**words, "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
        command = [sys.executable, "-m", "archsim"]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True).stdout.split()

    assert complete("archsim expl") == ["explain"]
    assert complete("archsim run lo") == [
        "loas", "loas_f40", "loas_literal_laggy", "loas_one_laggy_unit", "loihi1", "local.yaml",
    ]  # fmt: skip
    assert complete("archsim run loas vg") == ["vgg9"]
    assert complete("archsim compare loas --trace vg") == ["vgg9"]
    assert complete("archsim run loas vgg9 --set pe.la") == ["pe.laggy=", "pe.laggy_adders=", "pe.laggy_units="]
    assert complete("archsim run loas vgg9 --set pe.laggy=e") == ["pe.laggy=early_stop"]
    assert complete("archsim sweep loas vgg9 --set memory.ideal=true,") == [
        "memory.ideal=true,true",
        "memory.ideal=true,false",
    ]
    assert complete("archsim explain loas --set pe.count=") == ["pe.count=16"]
    assert complete("archsim explain nothing --set pe.count=") == []
    assert complete("archsim run loas vgg9 --layers conv3,f") == ["conv3,fc"]
