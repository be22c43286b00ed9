"""The table of networks and machines, in a reduced form."""

import subprocess
import sys

import pandas as pd
import pytest

from archsim.trace.published import NETWORKS
from tests.machines import ROOT

pytestmark = pytest.mark.slow


def table(folder, *arguments):
    return subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "networks", "-o", folder, *arguments], capture_output=True, text=True
    )  # fmt: skip


def test_the_table_says_what_runs_what_is_refused_and_what_is_left_out(tmp_path):
    done = table(tmp_path, "--networks", "cnn,vgg9_dual_sparse", "--machines", "systolic,sparten,prosperity")
    assert done.returncode == 0, done.stderr
    found = pd.read_csv(tmp_path / "networks.csv").set_index(["network", "machine"])
    assert found.verdict["cnn", "systolic"] == found.verdict["cnn", "sparten"] == "runs"
    assert found.coverage["vgg9_dual_sparse", "prosperity"] == 1.0
    assert found.mismatches["vgg9_dual_sparse", "prosperity"] == 0
    assert found.verdict["vgg9_dual_sparse", "sparten"] == "refused"
    assert "ANN traces" in found.reason["vgg9_dual_sparse", "sparten"]
    assert done.stdout.splitlines()[0].split() == ["machine", "systolic", "sparten", "prosperity"]
    assert done.stdout.splitlines()[-1].split() == ["vgg9_dual_sparse", "1.0", "-", "1.0"]


def test_presets_run_in_processes_whose_time_and_memory_are_told(tmp_path):
    done = table(tmp_path, "--presets", "--networks", "shd", "--machines", "prosperity,sparten")
    assert done.returncode == 0, done.stderr
    found = pd.read_csv(tmp_path / "presets.csv").set_index("machine")
    assert list(found.verdict) == ["made", "runs", "refused"]
    assert found.coverage["prosperity"] == 1.0 and found.mismatches["prosperity"] == 0
    assert found.reason["sparten"].startswith("sparten cannot run shd: ")
    assert (found.processor_s.dropna() > 0.1).all() and (found.peak_mb.dropna() > 30).all()
    assert done.stdout.splitlines()[-1].split() == ["shd", "made", "1.0", "-"]


def test_the_stored_table_has_every_preset_whole():
    """What ran, ran whole and as the trace says; what is refused says why, and neither LoAS nor Prosperity refuse."""
    stored = ROOT / "benchmarks" / "networks" / "results"
    found, machines = pd.read_csv(stored / "presets.csv"), set(pd.read_csv(stored / "networks.csv").machine)
    on = found.groupby("network").machine.apply(set)
    assert set(on.index) == set(NETWORKS)
    assert all(names >= {"trace synth", "prosperity"} for names in on)
    assert all(on[name] == machines | {"trace synth"} for name in ("shd", "sdt-2-512", "spikformer-4-384"))
    ran, refused = found[found.verdict == "runs"], found[found.verdict == "refused"]
    assert len(ran) + len(refused) + len(on) == len(found)
    assert (ran.coverage == 1.0).all() and (ran.mismatches == 0).all()
    assert refused.reason.notna().all() and not refused.machine.isin(["loas", "prosperity"]).any()


@pytest.mark.parametrize(
    ("arguments", "allowed"), [([], "spiking_vgg16_bn"), (["--presets"], "shd, dvs-gesture, sdt-2-512")]
)
def test_an_unknown_network_is_named(tmp_path, arguments, allowed):
    done = table(tmp_path, *arguments, "--networks", "vgg99")
    assert done.returncode == 2 and f"no network 'vgg99'; allowed: {allowed}" in done.stderr
