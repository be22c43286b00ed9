"""What machines say that they run, against what they say of traces."""

from dataclasses import replace

import numpy as np
import pytest

from archsim.cli import main
from archsim.dataflow.networks import INTEGERS, SPIKES, TIMES, TRANSFORMERS, kinds
from archsim.simulate import load_accelerator
from archsim.trace import Requantiser
from tests.analog.test_network import attention
from tests.machines import MACHINES, ann, mlp, timed
from tests.small_traces import build


def requantised():
    """A layer of integers of 8 bits that makes integers of 8 bits."""
    trace = ann(0)
    operation = replace(trace.operations[0], requantiser=Requantiser(np.full(7, 1), 8, signed=False))
    return build([operation], {"in": trace.tensor("in")}, 1)


TRACES = {SPIKES: mlp(0, timesteps=4), INTEGERS: requantised(), TRANSFORMERS: attention(), TIMES: timed(0, timesteps=4)}


@pytest.mark.parametrize("path", MACHINES, ids=lambda path: path.stem)
def test_a_machine_runs_what_it_says(path):
    machine = load_accelerator(path)
    machine = load_accelerator(path, () if machine.operand == "spike_time" else ("timesteps=4",))
    able = {
        kind
        for kind, trace in TRACES.items()
        if not machine.problems(trace) and len(machine.layers(trace)) == len(trace.operations)
    }
    assert set(kinds(machine)) == able
    assert able


def test_the_list_says_who_runs_what(capsys):
    assert main(["list"]) == 0
    rows = {tuple(line.split("\t")[:2]): line.split("\t")[2] for line in capsys.readouterr().out.splitlines()[1:]}
    assert rows["accelerator", "imc"].endswith(" Runs spiking networks, CNNs of 8 bits, transformers of 8 bits.")
    assert rows["accelerator", "systolic"].endswith(" Runs spiking networks, CNNs of 8 bits, transformers of 8 bits.")
    assert rows["accelerator", "gamma"].endswith(" Runs CNNs of 8 bits, transformers of 8 bits.")
    assert rows["synthetic trace", "vgg16_ann"].endswith("; not for manycore, spikesim, tt_snn, ttfs")
    assert "not for" not in rows["synthetic trace", "vgg16"]
