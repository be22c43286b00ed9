"""Layers side by side: the same bytes for every number of threads, on machines of every family."""

import pytest

import archsim
from archsim.dataflow.base import Accelerator
from archsim.trace.work import effort
from tests.machines import ROOT

MACHINES = {
    "loas": "vgg9_dual_sparse",
    "gamma_snn": "vgg9_dual_sparse",
    "prosperity": "spikformer",
    "sata_training": "vgg9_training_step",
    "imc_cnn": "cnn",
    "tt_snn_training": "ms_resnet18_htt_step",
}


@pytest.mark.parametrize("machine", MACHINES)
def test_results_do_not_depend_on_jobs(machine):
    trace = ROOT / "workloads" / f"{MACHINES[machine]}.npz"

    def texts(jobs):
        return {
            name: text for name, text in archsim.run(machine, trace, jobs=jobs).texts().items() if name != "timing.json"
        }

    alone = texts(1)
    assert alone["layers.csv"].count("\n") > 3, "one layer shows nothing"
    assert texts(2) == alone
    assert texts(7) == alone


@pytest.mark.parametrize("jobs", [1, 2, 7])
def test_the_longest_layers_begin_first(jobs):
    """In whichever order they begin, results come in the order of the network."""
    begun = []
    report = archsim.run("loas", "vgg9", jobs=jobs, verify=False, progress=lambda *told: begun.append(told))
    in_order = [result.layer for result in report.layers]
    trace = archsim.load_trace("vgg9")
    longest_first = sorted(in_order, key=lambda name: effort(trace, trace.operation(name)), reverse=True)
    assert in_order != longest_first
    names = in_order if jobs == 1 else longest_first
    assert begun == [(name, done, 9) for done, name in enumerate(names)] + [("", 9, 9)]


def test_layers_of_a_recorded_run_come_one_after_the_other():
    """Where a layer's window begins depends on those before it."""
    trace = ROOT / "workloads" / "vgg9_dual_sparse.npz"
    alone = archsim.run("loas", trace, timeline=(0, 20_000), jobs=1).texts()
    assert archsim.run("loas", trace, timeline=(0, 20_000), jobs=3).texts()["timeline.json"] == alone["timeline.json"]


def test_a_chip_with_all_layers_is_one_simulation():
    """Its layers wait for each other, so that none can run by itself."""
    from archsim.accelerators.imc import Imc
    from archsim.accelerators.loas import LoAS

    assert Accelerator.layers_apart and LoAS.layers_apart and not Imc.layers_apart
