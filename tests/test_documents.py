"""What the documents promise: every example runs, every trace has its table."""

import re

import numpy as np

from archsim.trace import import_spikes, load_trace
from tests.machines import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_writer_of_recorded_spikes(tmp_path, monkeypatch):
    """The code of workloads/README.md, run as it stands, makes a file that is imported."""
    text = (ROOT / "workloads" / "README.md").read_text(encoding="utf-8")
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "write_recording" in block]
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    trace = import_spikes(tmp_path / "recorded.npz")
    spikes = np.random.default_rng(0).random((4, 8, 6, 6)) < 0.2
    np.testing.assert_array_equal(trace.tensor("conv2.input")[:, 0], spikes)
    assert trace.operation("conv2").weight.shape == (16, 8, 3, 3)


def test_the_python_example_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    section = README.partition("## From Python")[2].partition("\n## ")[0]
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", section, re.DOTALL) if "archsim.run(" in block]
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    told = capsys.readouterr().out
    assert told.startswith("<Report: vgg9 on loas, ")
    assert "verified bit for bit" in told
    assert (tmp_path / "results" / "mine" / "summary.json").exists()


def test_every_trace_has_its_table():
    """workloads/README.md names every trace with its own hash and accuracy."""
    text = (ROOT / "workloads" / "README.md").read_text(encoding="utf-8")
    for path in (ROOT / "workloads").glob("*.npz"):
        if "_masked" in path.name:
            continue  # variants, described in a sentence
        table = text.partition(f"### {path.name}\n")[2].partition("\n### ")[0]
        trace = load_trace(path)
        assert f"| sha256 | {trace.sha256} |" in table, path.name
        assert f"| accuracy | {trace.provenance['accuracy']:.4f} |" in table, path.name
