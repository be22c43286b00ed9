"""The study of GenQ: filters and synthesis against slow twins, stored tables that add up, sentences of the README."""

import importlib
import sys

import numpy as np
import pandas as pd
import pytest
import yaml

from archsim.trace import load_trace
from archsim.trace.resimulation import check_trace
from tests.machines import ROOT
from tests.studies import modules_of, rows_of

FOLDER = ROOT / "benchmarks" / "papers" / "genq_eccv24"
RESULTS = FOLDER / "results"
README = " ".join((FOLDER / "README.md").read_text(encoding="utf-8").split())


@pytest.fixture
def study():
    with modules_of(FOLDER, "tables", "sentences") as modules:
        yield modules


@pytest.fixture
def sources(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(FOLDER)
    yield importlib.import_module("sources")
    sys.modules.pop("sources", None)


def stored(name):
    return rows_of(RESULTS / f"{name}.csv")


def test_every_published_number_says_how_it_is_known():
    published = yaml.safe_load((FOLDER / "published.yaml").read_text(encoding="utf-8"))
    assert all(set(entry) == {"value", "mark", "source"} and entry["mark"] == "S" for entry in published.values())


@pytest.mark.parametrize("name", ["bits", "search", "limits", "energy", "sources"])
def test_the_readme_says_what_the_tables_say(study, name):
    assert name in study.sentences.SENTENCES
    said = study.sentences.text(name, {name: stored(name)})
    assert " ".join(said.split()) in README


def test_the_table_of_sources_is_that_of_the_measurements(study):
    _, rows = study.tables.calibration(pd.read_csv(RESULTS / "calibration.csv"))
    found = pd.DataFrame(rows)
    expected = pd.read_csv(RESULTS / "sources.csv").fillna({"filters": ""})
    for column in ("accuracy_percent", "of_real_points", "seeds", "images"):
        np.testing.assert_allclose(found[column].astype(float), expected[column].astype(float), atol=1e-6)
    assert (expected.seeds >= 3).all()
    settings = expected.groupby(["network", "source", "filters", "images"]).weight_bits.nunique()
    assert len(settings) == 2 * 9 and (settings == 3).all()


def test_traces_are_exact_and_have_their_bits():
    paths = sorted((FOLDER / "traces").glob("*.npz"))
    assert len(paths) == 21
    for path in paths:
        trace = load_trace(path)
        weights, activations = path.stem.removeprefix("w").split("_a")
        inner = [operation for operation in trace.operations if operation.op == "conv2d"][1:]
        assert [operation.weight_bits for operation in inner] == [int(bits) for bits in weights]
        written = {operation.output: operation for operation in trace.operations}
        for operation in inner:
            source = written[operation.inputs[0]]
            source = written[source.inputs[0]] if source.op == "pool" else source
            assert source.requantiser.bits == int(activations)
        assert [check.mismatches for check in check_trace(trace)] == [0] * len(trace.operations)


def test_stored_ratios_are_those_of_the_rows():
    table = pd.read_csv(RESULTS / "bits.csv")
    for _, group in table.groupby("machine"):
        first = group[group.bits == "W8A8"].iloc[0]
        np.testing.assert_allclose(group.cycles_relative, group.cycles / first.cycles)
        np.testing.assert_allclose(group.energy_relative, group.energy_uj / first.energy_uj)
        assert (group.mismatches == 0).all()
        for row in group.itertuples():
            better = group[(group.accuracy_percent >= row.accuracy_percent) & (group.energy_uj <= row.energy_uj)]
            assert row.on_front == (len(better) == 1)


def network():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.BatchNorm2d(4), torch.nn.ReLU(),
              torch.nn.Conv2d(4, 6, 3, stride=2), torch.nn.BatchNorm2d(6), torch.nn.ReLU(), torch.nn.Flatten(),
              torch.nn.Linear(6 * 9, 3)]  # fmt: skip
    model = torch.nn.Sequential(*layers)
    for _ in range(50):  # what batch norms remember
        model(torch.rand(20, 1, 8, 8) ** 2)
    return model.eval()


def test_the_second_filter_leaves_out_each_image_in_turn(sources):
    torch = pytest.importorskip("torch")
    model = network()
    images = torch.randint(0, 256, (7, 1, 8, 8), dtype=torch.uint8)

    def distance(chosen):
        total = 0.0
        with sources.watched(model) as seen, torch.no_grad():
            model(chosen.float() / 255)
        for norm, read in seen.items():
            mean, variance = read.mean((0, 2, 3)), read.var((0, 2, 3), correction=0)
            total += float(sources.distance(norm, mean, variance))
        return total

    found = sources.sensitivity(model, images)
    for place in range(len(images)):
        without = torch.cat([images[:place], images[place + 1 :]])
        assert float(found[place]) == pytest.approx(distance(images) - distance(without), abs=1e-4)


def test_the_first_filter_is_the_energy_of_the_logits(sources):
    torch = pytest.importorskip("torch")
    model = network()
    images = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    logits = model(images.float() / 255).detach().numpy()
    np.testing.assert_allclose(sources.energy(model, images), -np.log(np.exp(logits).sum(1)), rtol=1e-5)
    assert sources.kept(torch.tensor([3.0, 1.0, 2.0]), 2).tolist() == [1, 2]


def test_synthesised_images_are_what_the_network_remembers(sources):
    """Nearer to the batch norms than noise, and of the classes that were asked for."""
    torch = pytest.importorskip("torch")
    model = network()
    made = sources.synthesised(model, 12, 8, 3, seed=1)
    noise = sources.noise(12, 8, seed=1)

    def distance(images):
        with sources.watched(model) as seen, torch.no_grad():
            logits = model(images.float() / 255)
        norms = sum(float(sources.distance(n, x.mean((0, 2, 3)), x.var((0, 2, 3)))) for n, x in seen.items())
        return norms, logits.argmax(1)

    (near, classes), (far, _) = distance(made), distance(noise)
    assert near < 0.5 * far
    assert (classes == torch.arange(12) % 3).float().mean() >= 0.75


def test_one_image_of_each_class(sources):
    torch = pytest.importorskip("torch")
    labels = torch.tensor([2, 0, 1, 1, 2, 0])
    images = torch.arange(6, dtype=torch.uint8).reshape(6, 1, 1, 1)
    found = sources.first_of_each(images, labels, 3, seed=4)
    assert labels[found.flatten().long()].tolist() == [0, 1, 2]
