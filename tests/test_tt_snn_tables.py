"""The tables of TT-SNN: stored rows against the package, and a README that says what they say."""

import importlib
import sys

import pandas as pd
import pytest
import yaml

from archsim.trace import check_trace, load_trace
from archsim.trace.tensor_train import decomposed_in, ms_resnet, size_of
from tests.machines import ROOT

FOLDER = ROOT / "benchmarks" / "papers" / "tt_snn_date24"
MODULES = ("networks", "sentences", "paper_tables", "command_line")


@pytest.fixture(scope="module")
def study():
    """The folder's modules, by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER.parent)
        patch.syspath_prepend(FOLDER)
        yield {name: importlib.import_module(name) for name in MODULES}
        for name in MODULES:
            sys.modules.pop(name, None)


def stored(name):
    return pd.read_csv(FOLDER / "results" / f"{name}.csv")


def test_sizes_are_those_of_the_package():
    published = yaml.safe_load((FOLDER / "published.yaml").read_text())
    table = stored("sizes")
    (row,) = table[table.paper_macs_ratio.notna()].itertuples()
    network = ms_resnet(34, side=48, classes=101, channels=2)
    base, half = size_of(network, "dense", 6), size_of(network, "htt", 6)
    assert (row.parameters, row.macs) == half
    assert row.macs_ratio == pytest.approx(base.macs / half.macs)
    assert (row.paper_parameters_ratio, row.paper_macs_ratio) == (
        published["parameters_ratio"], published["macs_ratio"],
    )  # fmt: skip


def test_stages_and_percentages_add_up():
    table = stored("training")
    stages = [name for name in table if name.endswith("_cycles")]
    assert (table[stages].sum(axis=1) == table.cycles).all()
    assert (table.mismatches == 0).all()
    base = table[(table["mode"] == "dense") & (table.machine == "tt_snn_training")].iloc[0]
    assert (100 * (table.cycles / base.cycles - 1) - table.time_percent).abs().max() < 1e-5
    assert (100 * (table.energy_uj / base.energy_uj - 1) - table.energy_percent).abs().max() < 1e-5


def test_merged_networks_are_ordinary_ones_and_verified(study):
    """What was merged differs in rounding alone, and every output of every machine is the trace's."""
    table = stored("merged")
    networks = study["networks"]
    assert set(zip(table["mode"], table.machine, strict=True)) == {
        (mode, machine) for mode in ("stt", "ptt", "htt") for machine in networks.INFERENCE
    }
    assert (table.mismatches == 0).all() and (table.coverage == 1).all() and (table.differs_by < 1e-5).all()
    for mode in ("stt", "ptt", "htt"):
        trace = load_trace(networks.Merged(mode).path(FOLDER))
        assert not decomposed_in(trace) and all(check.mismatches == 0 for check in check_trace(trace))
        assert (table[table["mode"] == mode].accuracy - trace.provenance["accuracy"]).abs().max() < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["stt", "ptt"])
def test_a_merged_row_is_found_again(study, mode):
    networks, table = study["networks"], stored("merged")
    for machine in networks.INFERENCE:
        row = table[(table["mode"] == mode) & (table.machine == machine)].iloc[0]
        found = networks.Inference(networks.Merged(mode), machine).perform(FOLDER)
        assert (found["cycles"], found["mismatches"], found["verified"]) == (row.cycles, 0, True)


def test_parallel_is_faster_and_half_is_faster_still():
    """Whatever the memory and the number of images."""
    table = stored("pipeline")
    assert (table.htt_cycles < table.ptt_cycles).all() and (table.ptt_cycles < table.stt_cycles).all()


def test_the_readme_says_what_the_tables_say(study):
    text = " ".join((FOLDER / "README.md").read_text(encoding="utf-8").split())
    for name, sentence in study["sentences"].SENTENCES.items():
        rows = [
            {key: None if pd.isna(value) else value for key, value in row.items()}
            for row in stored(name).to_dict("records")
        ]  # fmt: skip
        assert " ".join(sentence(rows).split()) in text, name


def test_a_stored_row_is_found_again(study):
    """htt drawn as in the table `pipeline`, for one image with ideal memory."""
    networks = study["networks"]
    table = stored("pipeline")
    wanted = table[(table.images == 1) & table.ideal_memory].iloc[0].htt_cycles
    machine = (*networks.CLUSTERS, "memory.ideal=true")

    trace = networks.Drawn("htt").trace()
    loaded = networks.load_accelerator(networks.HARDWARE / f"{machine[0]}.yaml", machine[1:]).specialised_for(trace)
    results = loaded.run_layers(trace, loaded.layers(trace), "compiled", verify=False, record=False)
    assert sum(result.cycles for result in results) == wanted


@pytest.mark.parametrize("mode", ["dense", "stt", "ptt", "htt"])
def test_drawn_networks_have_the_operations_of_the_closed_form(study, mode):
    """MACs of the drawn 3x3 convolutions are those of the generator: output positions, channels and open timesteps."""
    networks = study["networks"]
    trace = networks.Drawn(mode, side=8, width=4).trace()
    layers = [layer for layer in ms_resnet(18, side=8, classes=10, channels=1, width=4) if layer.rank is not None]
    macs = 0
    for operation in trace.operations:
        if operation.op == "conv2d":
            inner = operation.name.endswith((".c2", ".c3")) and mode == "htt"
            macs += operation.m * operation.n * operation.k * (2 if inner else 4)
    assert macs == size_of(layers, mode, 4).macs
