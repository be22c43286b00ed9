"""The benchmark of the engine: its schedule, its slopes, its tables, and what benchmarks/README.md says of them."""

import itertools
import re
import runpy
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from archsim.trace import check_trace
from tests.machines import ROOT
from tests.studies import modules_of

FOLDER = ROOT / "benchmarks" / "engine"
MODULES = ("clock", "machines", "growth", "cores", "chip", "peers")


@pytest.fixture(scope="module")
def benchmark():
    with modules_of(FOLDER, *MODULES) as found:
        yield found


def stored(name):
    return pd.read_csv(FOLDER / "results" / f"{name}.csv")


def test_schedule_of_layers(benchmark):
    """By hand, one worker, as many as pieces; and never shorter than the longest piece or the mean."""
    makespan = benchmark.cores.makespan
    assert makespan([3, 1, 1, 1, 4], 2) == 7  # 3 | 1 1 1, then the 4 at the first free one
    assert makespan([1, 2, 3], 1) == 6 and makespan([1, 2, 3], 3) == makespan([1, 2, 3], 9) == 3
    draw = np.random.default_rng(0)
    for _ in range(50):
        pieces, workers = draw.integers(1, 50, 12).tolist(), int(draw.integers(1, 8))
        assert max(max(pieces), sum(pieces) / workers) <= makespan(pieces, workers) <= sum(pieces)


def test_exponents(benchmark):
    exponent = benchmark.growth.exponent
    assert exponent([1, 2, 4], [3, 6, 12]) == pytest.approx(1) and exponent([1, 2, 4], [5, 5, 5]) == pytest.approx(0)
    assert exponent([1, 2, 4], [1, 4, 16]) == pytest.approx(2)


def test_stored_growth_adds_up(benchmark):
    growth, table = benchmark.growth, stored("growth")
    groups = {key: table.loc[rows] for key, rows in table.groupby(["machine", "property"]).groups.items()}
    assert set(groups) == set(itertools.product(growth.MACHINES, growth.GROWING))
    for (_, what), group in groups.items():
        assert tuple(group.value) == growth.GROWING[what]
        assert group.exponent.iloc[0] == pytest.approx(growth.exponent(group.value, group.engine_processor_s), abs=2e-3)


def test_growing_layer_grows(benchmark):
    """What is said to double does."""
    growth = benchmark.growth
    small, large = growth.layer(8, 2, 0.2, 4, 64), growth.layer(16, 4, 0.4, 8, 128)
    assert [small.images, small.timesteps] == [8, 2] and [large.images, large.timesteps] == [16, 4]
    assert growth.layer(64, 4, 0.4, 4, 256).tensor("in").mean() == pytest.approx(0.4, abs=0.01)


def test_chip_as_stored(benchmark, monkeypatch):
    """All cores, as many neurons as told, and no wrong output; the trained layers are the network's."""
    table = stored("chip").set_index(["network", "machine"])
    assert set(table.index) == set(itertools.product(("synthetic", "vgg16"), benchmark.chip.MACHINES))
    assert (table.cores == 128).all() and (table.timesteps == 100).all() and (table.mismatches == 0).all()
    assert table.hops_per_s.to_numpy() == pytest.approx(table.hops / table.engine_processor_s, rel=2e-3)
    monkeypatch.setattr(benchmark.chip, "IMAGES", 1)
    trace = benchmark.chip.trained()
    assert [check.mismatches for check in check_trace(trace)] == [0] * len(benchmark.chip.CHAIN)
    neurons = sum(trace.tensor(operation.output)[0].size for operation in trace.operations)
    assert (table.neurons["vgg16"] == neurons).all() and neurons <= 128 * 1024
    assert (table.neurons["synthetic"] == 128 * 1024).all()


def test_schedules_as_stored_follow_from_their_pieces(benchmark):
    """16 workers are ten times one where there are points enough, and not within one network: its longest layer."""
    table = stored("cores").set_index(["what", "workers"])
    schedules = {what for what, _ in table.index if what.startswith("schedule")}
    sweep = f"schedule of 1,000 points of {benchmark.cores.SWEPT}"
    assert {what.split()[-1] for what in schedules - {sweep}} == set(benchmark.cores.SCHEDULED)
    for what in schedules:
        own = table.loc[what]
        assert own.times_one.to_numpy() == pytest.approx(own.processor_s / own.wall_s, rel=2e-3)
        assert own.times_one.is_monotonic_increasing and (own.times_one <= own.index + 0.01).all()
        assert (own.times_one[16] >= 10) == (what == sweep)
    assert table.times_one[sweep, 16] == pytest.approx(1000 / benchmark.cores.makespan([1] * 1000, 16), rel=1e-3)


def test_peers_as_stored_add_up(benchmark):
    """Sums of times and not of ratios, in processor time, and no part of a simulation in a whole."""
    table = stored("peers")
    sums = table.point.str.match(r"all \d+$")
    assert sums.sum() == 4
    for row in table[sums].to_dict("records"):
        own = table[(table.peer == row["peer"]) & (table.part == row["part"]) & ~sums & (table.point != "vgg16")]
        assert len(own) == int(row["point"].split()[1])
        again = benchmark.peers.total(row["peer"], row["point"], row["part"], own.to_dict("records"))
        assert list(again.values())[3:] == pytest.approx(list(row.values())[3:], rel=2e-3)
        assert row["theirs_to_ours"] == pytest.approx(row["theirs_processor_s"] / row["ours_processor_s"], rel=2e-3)


def test_rows_of_a_peer_that_is_missing_stay(benchmark, tmp_path, monkeypatch, capsys):
    """Byte for byte, in their places; those of one that is here are measured anew."""
    installed = SimpleNamespace(load=lambda _: None, CASES={"a layer": 3}, ours=abs, theirs=lambda _, case: abs(case))
    missing = SimpleNamespace(load=_not_here, INSTALL="how to get it")
    for name in benchmark.peers.PEERS:
        monkeypatch.setitem(sys.modules, name, installed if name == "sana_fe" else missing)
    monkeypatch.setitem(sys.modules, "command_line", SimpleNamespace(command=None))
    monkeypatch.setattr(sys, "path", [*sys.path])
    main = runpy.run_path(str(FOLDER / "__main__.py"))["main"]
    earlier = (FOLDER / "results" / "peers.csv").read_bytes().splitlines(keepends=True)
    (tmp_path / "peers.csv").write_bytes(b"".join(earlier))
    main(["peers", "-o", str(tmp_path)])
    written = (tmp_path / "peers.csv").read_bytes().splitlines(keepends=True)
    kept = [line for line in earlier if not line.startswith(b"sana_fe,")]
    assert len(kept) > 50 and written[: len(kept)] == kept
    assert [line.split(b",")[:3] for line in written[len(kept) :]] == [
        [b"sana_fe", b"a layer", b"whole"], [b"sana_fe", b"all 1", b"whole"]
    ]  # fmt: skip
    assert capsys.readouterr().err.count("is not here, and its rows stay as they are: how to get it") == 2
    (tmp_path / "peers.csv").unlink()
    main(["peers", "-o", str(tmp_path)])
    assert len((tmp_path / "peers.csv").read_text().splitlines()) == 3


def _not_here(_):
    raise ImportError


def schedules(cores):
    """Stored ratios by number of workers, for each network and its number of layers, and for the points of a sweep."""
    found = {}
    for what, own in cores.groupby(level=0):
        if layers := re.match(r"schedule of the (\d+) layers of (\w+)", what):
            found[layers[2], layers[1]] = own.times_one[what]
        elif what.startswith("schedule"):
            found[what, ""] = own.times_one[what]
    return found


def test_readme_says_what_is_stored():
    text = (ROOT / "benchmarks" / "README.md").read_text()
    machines, cores, peers = stored("machines"), stored("cores").set_index(["what", "workers"]), stored("peers")
    for row in machines.itertuples():
        line = next(line for line in text.splitlines() if line.startswith(f"| {row.machine} |"))
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[2:4] == [f"{row.engine_processor_s * 1e3:,.0f}", f"{row.reference_to_compiled:,.0f}"]
        assert cells[4:] == [
            f"{row.first_run_processor_s:.1f}",
            f"{row.next_run_wall_s:.2f}",
            f"{row.next_run_processor_s:.2f}",
            f"{row.next_run_memory_mib:.0f}",
        ]
    peers = peers.set_index(["peer", "point", "part"]).theirs_to_ours
    for key, digits in ((("prosperity", "vgg16", "whole"), 0), (("scale_sim", "all 48", "whole"), 0),
                        (("sana_fe", "all 9", "whole"), 0), (("sana_fe", "all 9", "simulation"), 2)):  # fmt: skip
        assert f"{peers[key]:.{digits}f} times" in text
    for what in ("layers of vgg16_dual_sparse", "run of vgg16_dual_sparse"):
        assert f"{cores.times_one[what, 2]:.2f}" in text
    for (what, layers), own in schedules(cores).items():
        name = f"`{what}` | {layers}" if layers else "1,000 points of VGG9 in a sweep | "
        assert f"| {name} | {' | '.join(f'{own[workers]:.1f}' for workers in (2, 4, 8, 16))} |" in text
    for name in re.findall(r"\]\(([\w/.]+)\)", text):
        assert (ROOT / "benchmarks" / name).exists(), name


def test_part_that_is_not_there_is_refused(tmp_path):
    command = [sys.executable, str(FOLDER), "growht", "-o", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and not (tmp_path / "out").exists()
    assert done.stderr == "no part 'growht'; allowed: machines, growth, cores, chip, peers (did you mean 'growth'?)\n"
