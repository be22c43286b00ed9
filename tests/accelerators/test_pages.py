"""Pages of whole runs: they need nothing else, and mark what the user overrode."""

import pytest

from archsim.cli import main
from archsim.trace import save_trace
from tests.machines import LOAS, mlp
from tests.unit.report.test_page import Reader


def test_a_run_writes_a_page_that_needs_nothing_else(tmp_path, capsys):
    trace = tmp_path / "tiny.npz"
    save_trace(mlp(1), trace)
    output = tmp_path / "out"
    for _ in range(2):  # the second replaces the first
        assert main(["run", str(LOAS), str(trace), "-o", str(output), "--report"]) == 0
    text = (output / "report.html").read_text()
    found = Reader(text)
    assert found.outside == []
    assert text.count("<svg") == 5 == len(list((output / "figures").glob("*.svg")))
    assert "section V: 800 MHz" in text
    assert "url(http" not in text


@pytest.mark.parametrize("extra", [(), ("--set", "pe.count=8")])
def test_overrides_are_marked(extra, tmp_path, capsys):
    trace = tmp_path / "tiny.npz"
    save_trace(mlp(1), trace)
    assert main(["run", str(LOAS), str(trace), "-o", str(tmp_path / "out"), "--report", *extra]) == 0
    tables = Reader((tmp_path / "out" / "report.html").read_text()).tables
    rows = {row[0][1]: [text for _, text in row] for table in tables for row in table}
    assert rows["pe.count"][1:3] == (["8", "override"] if extra else ["16", "file"])
