"""Small runs for the pass with NUMBA_DISABLE_JIT=1, where out-of-range accesses raise; they hold with the JIT too."""

import json

import pytest

from archsim.engine import compiled, reference
from archsim.simulate import load_accelerator
from archsim.simulate import run as run_trace
from archsim.trace import save_trace
from tests.engines.test_engines_agree import assert_same, run
from tests.machines import LOAS, MACHINES, fitting, mlp, simulate


def test_random_machines():
    for seed in range(12):
        assert_same(run(compiled, seed), run(reference, seed))


@pytest.mark.parametrize("overrides", [(), ("memory.ideal=true",), ("pe.laggy=early_stop", "pe.fifo_depth=2")])
def test_loas(overrides):
    trace = mlp(2, m=5, n=3, k=200)
    fast, slow = simulate(trace, *overrides)[0], simulate(trace, *overrides, engine="reference")[0]
    assert fast.mismatches == slow.mismatches == 0
    assert fast.cycles == slow.cycles


def test_a_report_can_be_written(tmp_path):
    """Numbers that come out of plain Python are the same kinds as those of compiled code."""
    save_trace(mlp(4, m=3, n=3, k=90), tmp_path / "trace.npz")
    run_trace(LOAS, tmp_path / "trace.npz").write(tmp_path / "result")
    assert json.loads((tmp_path / "result" / "summary.json").read_text())["mismatches"] == 0


@pytest.mark.parametrize("hardware", MACHINES, ids=lambda path: path.stem)
def test_every_machine(hardware):
    machine = load_accelerator(hardware)
    trace = fitting(machine, 1, m=5, n=3, k=140)
    fast, slow = (simulate(trace, hardware=hardware, engine=engine)[0] for engine in ("compiled", "reference"))
    assert fast.mismatches == slow.mismatches
    assert fast.mismatches == 0 or not machine.exact
    assert fast.cycles == slow.cycles
