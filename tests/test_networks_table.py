"""The table of networks and machines, in a reduced form."""

import subprocess
import sys

import pandas as pd
import pytest

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


def test_an_unknown_network_is_named(tmp_path):
    done = table(tmp_path, "--networks", "vgg99")
    assert done.returncode == 2 and "no network 'vgg99'; allowed: spiking_vgg16_bn" in done.stderr
