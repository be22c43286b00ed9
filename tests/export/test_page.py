"""The example of the page about traces, word for word."""

from __future__ import annotations

import re
from pathlib import Path

from archsim.trace import check_trace, load_trace
from tests.export.frameworks import need

PAGE = Path(__file__).parents[2] / "archsim" / "docs" / "guide" / "traces.md"


def test_the_example(tmp_path, monkeypatch, capsys):
    need("torch").manual_seed(0)
    need("snntorch")
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, PAGE.name, "exec"), {})
    assert "same class as the float model" in capsys.readouterr().out
    trace = load_trace(tmp_path / "mine.npz")
    assert (trace.images, trace.timesteps) == (4, 4)
    assert {check.mismatches for check in check_trace(trace)} == {0}
    assert trace.tensor("2").any()
