"""Ctrl-C while analog arrays are computed: what takes minutes is left within seconds."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.machines import ROOT

ARRAY = """
import numpy as np
from archsim.hardware.analog import effective_conductance
wires = {"r_driver": 0.0, "r_row": 1.0, "r_col": 1.0, "r_sense": 0.0}
effective_conductance(np.ones((2, 2)), **wires)
print("compiled", flush=True)
effective_conductance(np.full((700, 700), 1e-5), **wires)
"""
NODES = """
import numpy as np
from archsim.hardware.analog.nonlinear import nonlinear_currents
wires = {"cubic": 0.1, "r_driver": 0.0, "r_row": 1e6, "r_col": 1e6, "r_sense": 0.0}
nonlinear_currents(np.ones((2, 2)) / 1e6, np.ones((1, 2)) / 2, **wires)
print("compiled", flush=True)
nonlinear_currents(np.ones((400, 400)), np.ones((1, 400)) / 2, **wires)
"""


@pytest.mark.skipif("NUMBA_DISABLE_JIT" in os.environ, reason="Python hears signals everywhere")
@pytest.mark.parametrize("what", [ARRAY, NODES], ids=["array", "nodes"])
def test_a_large_array_is_left(what):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", what], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
        # Whoever started the tests may have had it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"compiled\n"
        time.sleep(1)
        assert process.poll() is None, "it was done before it could be interrupted"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
        assert b"KeyboardInterrupt" in said
    finally:
        process.kill()
        process.communicate()
