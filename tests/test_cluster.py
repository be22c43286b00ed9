"""Runs and comparisons on a Dask cluster: the same bytes as on one machine, whatever dies."""

import pytest

import archsim
from archsim import cluster as on_cluster
from archsim.cli import main
from archsim.errors import UsageError
from archsim.simulate import layers_on_cluster, load_accelerator, shared_run
from archsim.trace import load_trace, save_trace
from tests.clusters import two_workers
from tests.machines import LOAS, ROOT
from tests.small_traces import tiny

VGG9 = ROOT / "workloads" / "vgg9_dual_sparse.npz"


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    path = tmp_path_factory.mktemp("traces") / "tiny.npz"
    save_trace(tiny(), path)
    return path


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with two_workers(tmp_path_factory.mktemp("cluster")) as running:
        yield running


def texts(report):
    """What a run writes, without its times."""
    return {name: text for name, text in report.texts().items() if name != "timing.json"}


@pytest.mark.parametrize("machine", ["loas", "spikesim_lossless"])
def test_a_run_on_a_cluster_is_that_of_one_machine(machine, cluster):
    """Layers apart, and a chip that holds the network."""
    told = []
    there = archsim.run(machine, VGG9, cluster=cluster.address, progress=lambda *step: told.append(step))
    assert texts(there) == texts(archsim.run(machine, VGG9))
    pieces = len(there.layers) if machine == "loas" else 1
    assert [step[1:] for step in told] == [(done + 1, pieces) for done in range(pieces)]


def test_chosen_layers_and_settings_go_with_it(cluster, trace, tmp_path, monkeypatch):
    """From another folder than the workers', by a path that holds here alone."""
    monkeypatch.chdir(trace.parent)
    options = {"layers": ["fc"], "pe__count": 2, "verify": False}
    there = archsim.run(LOAS, trace.name, cluster=cluster.address, **options)
    assert [layer.layer for layer in there.layers] == ["fc"]
    assert texts(there) == texts(archsim.run(LOAS, trace.name, **options))


def test_a_comparison_on_a_cluster_is_that_of_one_machine(cluster, trace, tmp_path):
    def table(name, *options):
        path = tmp_path / f"{name}.csv"
        assert main(["compare", "loas", "sparten_snn", "--trace", str(trace), "-o", str(path), *options]) == 0
        return path.read_bytes()

    assert table("there", "--cluster", cluster.address) == table("here")


def test_a_layer_whose_worker_is_killed_is_simulated_by_another(tmp_path):
    """One of two workers dies when the first layer is there."""
    killed = []
    with two_workers(tmp_path) as cluster:

        def kill(*_):
            if not killed:
                killed.append(cluster.workers[0])
                cluster.workers[0].kill()

        there = archsim.run("loas", VGG9, cluster=cluster.address, progress=kill)
    assert killed
    assert texts(there) == texts(archsim.run("loas", VGG9))


def test_a_layer_that_kills_all_workers_is_named(cluster, trace, monkeypatch):
    loaded, accelerator = load_trace(trace), load_accelerator(LOAS)
    monkeypatch.setattr(on_cluster, "results", lambda work, pieces, address: iter([(0, on_cluster.Lost("no memory"))]))
    shared = shared_run(LOAS, trace, loaded, (), "compiled", True)
    with pytest.raises(UsageError, match=r"^--cluster tcp://a:1: fc: its worker died: no memory$"):
        list(layers_on_cluster(shared, accelerator, accelerator.layers(loaded)[-1:], None, "tcp://a:1"))


def test_a_worker_that_reads_other_files_is_told(cluster, trace):
    loaded, accelerator = load_trace(trace), load_accelerator(LOAS)
    shared = shared_run("mine.yaml", trace, loaded, (), "compiled", True)
    shared = shared._replace(files=(str(LOAS), shared.files[1]))
    with pytest.raises(UsageError, match=r"^mine\.yaml: is another file on a worker than where the run began$"):
        list(layers_on_cluster(shared, accelerator, accelerator.layers(loaded), None, cluster.address))


def test_a_worker_with_another_archsim_is_told(cluster, monkeypatch):
    monkeypatch.setattr(on_cluster, "__version__", "9.9")
    with pytest.raises(UsageError, match=r"^--cluster: a worker has archsim .*, this is 9\.9; install the same"):
        list(on_cluster.results(str, [1], cluster.address))


def test_what_a_cluster_cannot_do_is_one_line(trace, tmp_path, capsys):
    run = ["run", str(LOAS), str(trace), "-o", str(tmp_path / "there"), "--cluster", "tcp://127.0.0.1:9"]
    assert main([*run, "--timeline"]) == 2
    assert "--timeline: is recorded on this machine alone; leave --cluster away" in capsys.readouterr().err
    assert main(run) == 2
    assert "--cluster tcp://127.0.0.1:9: no scheduler answers" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
