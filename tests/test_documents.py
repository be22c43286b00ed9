"""What the documents promise: every example runs, every trace has its table, every decision is found."""

import re

import numpy as np
import pytest

from archsim.docs.gallery import decisions, references
from archsim.trace import import_spikes, load_trace
from tests.machines import ROOT

PAGES = ROOT / "archsim" / "docs"


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


def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    text = (PAGES / "guide" / "python.md").read_text(encoding="utf-8")
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "archsim.run(" in block]
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    told = capsys.readouterr().out
    assert told.startswith("<Report: vgg9 on loas, ")
    assert "verified bit for bit" in told
    assert (tmp_path / "results" / "mine" / "summary.json").exists()


def test_every_trace_has_its_table():
    """workloads/README.md names every trace with its own hash and accuracy; what solves an equation has an error."""
    text = (ROOT / "workloads" / "README.md").read_text(encoding="utf-8")
    for path in (ROOT / "workloads").glob("*.npz"):
        if "_masked" in path.name:
            continue  # variants, described in a sentence
        table = text.partition(f"### {path.name}\n")[2].partition("\n### ")[0]
        trace = load_trace(path)
        assert f"| sha256 | {trace.sha256} |" in table, path.name
        error = trace.provenance.get("details", {}).get("relative_error")
        good = (
            f"| accuracy | {trace.provenance['accuracy']:.4f}"
            if error is None
            else f"| details.relative_error | {error:.4f}"
        )
        assert f"{good} |" in table, path.name


def referred(path):
    """Decisions that a hardware file or a cost table refers to."""
    return [name for _, names in references(path.read_text(encoding="utf-8")) for name in names]


@pytest.mark.parametrize(
    "path",
    sorted([*(ROOT / "hwconfigs").glob("*.yaml"), *(ROOT / "archsim" / "cost" / "tables").glob("*.yaml")]),
    ids=lambda path: path.stem,
)
def test_every_decision_that_is_referred_to_has_a_section(path):
    assert set(referred(path)) <= decisions().keys()


def test_decisions_are_referred_to():
    files = (ROOT / "hwconfigs").glob("*.yaml")
    assert len({decision for path in files for decision in referred(path)}) >= 30


def test_numbers_of_decisions_are_used_once_and_without_gaps():
    found = [
        (kind, int(number))
        for page in sorted((PAGES / "deviations").glob("*.md"))
        for kind, number in re.findall(r"^### (\w+) (\d+): ", page.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    for kind in {kind for kind, _ in found}:
        numbers = [number for one, number in found if one == kind]
        assert numbers == list(range(1, len(numbers) + 1)), kind


def test_the_index_of_deviations_names_every_page():
    text = (ROOT / "DEVIATIONS.md").read_text(encoding="utf-8")
    pages = {path.name for path in (PAGES / "deviations").glob("*.md")} - {"index.md"}
    assert set(re.findall(r"archsim/docs/deviations/(\w+\.md)", text)) == pages


@pytest.mark.parametrize(
    "name", ["README.md", "DEVIATIONS.md", "CONTRIBUTING.md", "hwconfigs/README.md", "workloads/README.md"]
)
def test_links_of_documents_lead_somewhere(name):
    path = ROOT / name
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    assert not [link for link in links if "://" not in link and not (path.parent / link).exists()]


def test_what_happens_in_no_time():
    """Everything that a docstring says to happen "in no time" has a row, with its effect, and every row a docstring."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "archsim").rglob("*.py")))
    marked = {" ".join(name.split()) for name in re.findall(r"in\s+no\s+time:\s+\*([^*]+)\*", text)}
    table = (ROOT / "tests" / "rtl" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \*([^*]+)\* \| [^|]+ \| [^|]+ \|$", table, re.MULTILINE)
    assert len(rows) == len(set(rows))
    assert marked == set(rows)
