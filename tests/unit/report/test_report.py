"""The results folder: complete, consistent, reproducible, and never at the cost of somebody's files."""

import csv
import io
import json
import math
import resource
from pathlib import Path
from typing import NamedTuple

import pytest

from archsim.engine.result import Coverage, LayerResult, LeftOut, Traffic, UnitTime
from archsim.errors import UsageError
from archsim.report import comparison, drawing, files, plots, timeline
from archsim.report.invariants import InvariantError
from archsim.report.report import COLUMNS, Report


class Energy(NamedTuple):
    unit: str
    action: str
    count: int
    energy_pj: float


class Area(NamedTuple):
    unit: str
    instances: int
    area_mm2: float
    source: str


def layer(name: str = "conv1", **changes: object) -> LayerResult:
    """Two units, 100 cycles, 60 of them computing."""
    values: dict[str, object] = {
        "layer": name,
        "op": "conv2d",
        "m": 4,
        "n": 8,
        "k": 128,
        "timesteps": 4,
        "cycles": 100,
        "compute_cycles": 60,
        "stall_cycles": 40,
        "utilization": 0.5,
        "matches": 77,
        "synaptic_operations": 200,
        "performed_operations": 310,
        "actions": {("pe", "add"): 77},
        "traffic": (
            Traffic("dram", "input", "read", 640, 10),
            Traffic("dram", "weight", "read", 64, 1),
            Traffic("dram", "output", "write", 128, 2),
            Traffic("sram", "input", "read", 1280, 20),
        ),
        "units": (UnitTime("pe", 0, 60, 30, 10), UnitTime("pe", 1, 40, 0, 60)),
        "lower_bound_cycles": 60,
        "compulsory_read_bytes": 704,
        "mismatches": 0,
        "engine_wall_s": 0.25,
    }
    return LayerResult(**{**values, **changes})  # type: ignore[arg-type]


def report(*layers: LayerResult, **changes: object) -> Report:
    layers = layers or (layer(), layer("fc", mismatches=None))
    values: dict[str, object] = {
        "accelerator": "toy",
        "workload": "tiny",
        "engine": "compiled",
        "trace_sha256": "ab" * 32,
        "resolved": "accelerator: toy\nclock_mhz: 800\n",
        "clock_mhz": 800,
        "images": 2,
        "layers": layers,
        "energy": tuple([Energy("pe", "add", 77, 0.1), Energy("sram", "leakage", 1, 0.2)] for _ in layers),
        "covered": Coverage(1.0, 1540, len(layers), len(layers)),
        "area": [Area("pe", 16, 0.25, "LoAS Table IV"), Area("sram", 1, 0.5, "CACTI 7")],
    }
    return Report(**{**values, **changes})  # type: ignore[arg-type]


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_summary_is_the_sum_of_the_layers():
    summary = report().summary()
    assert summary["cycles"] == 200
    assert summary["latency_s"] == 200 / 800e6
    assert summary["energy_pj"] == math.fsum([0.1, 0.2, 0.1, 0.2])
    assert summary["leakage_pj"] == 0.4
    assert summary["power_mw"] == pytest.approx(0.6e-12 / (200 / 800e6) * 1e3)
    assert summary["area_mm2"] == 0.75
    assert (summary["dram_read_bytes"], summary["dram_write_bytes"]) == (1408, 256)
    assert (summary["sram_read_bytes"], summary["sram_write_bytes"]) == (2560, 0)
    assert (summary["verified"], summary["mismatches"], summary["layers_verified"]) == (True, 0, 1)


def test_summary_has_the_promised_keys():
    promised = "accelerator workload engine archsim_version trace_sha256 cycles latency_s energy_pj area_mm2 "
    promised += "coverage left_out synaptic_operations energy_per_image_pj images_per_s pj_per_synaptic_operation "
    promised += "dram_read_bytes dram_write_bytes sram_read_bytes sram_write_bytes verified mismatches engine_wall_s"
    assert set(promised.split()) <= set(report().summary())


@pytest.mark.parametrize(
    ("mismatches", "verified", "total"), [((0, 0), True, 0), ((0, 3), False, 3), ((None, None), None, None)]
)
def test_verified_only_when_compared_and_equal(mismatches, verified, total):
    summary = report(*(layer(str(i), mismatches=m) for i, m in enumerate(mismatches))).summary()
    assert (summary["verified"], summary["mismatches"]) == (verified, total)


def test_what_is_derived_from_the_work():
    """Two images in 200 cycles of 800 MHz; 1540 operations for 0.6 pJ."""
    summary = report().summary()
    assert summary["images_per_s"] == pytest.approx(8e6)
    assert summary["pj_per_synaptic_operation"] == pytest.approx(0.6 / 1540)
    assert report(covered=Coverage(1.0, 0, 2, 2)).summary()["pj_per_synaptic_operation"] is None


def estimated(*layers, **changes):
    """Estimates of two layers that run and of one that does not; 0.6 pJ are simulated, for two images."""
    prices = {"technology_nm": 45, "pj_per_accumulation": 0.9, "pj_per_multiply_accumulate": 4.6}
    values = {
        "estimates": {"encoder": 0.5, "conv1": 0.2, "fc": 0.1}, "operations": {"encoder": 100, "conv1": 60, "fc": 12},
        "read_out": "fc",
        "network": {"estimate": {"energy_pj": 0.8, "multiply_accumulates": 0.1, **prices},
                    "neurobench": {"parameter_count": 7}},
    }  # fmt: skip
    return report(*layers, **values | changes)


def test_the_estimate_is_that_of_the_simulated_layers():
    found = estimated()
    summary = found.summary()
    assert summary["estimate_pj"] == pytest.approx(0.3)
    assert summary["energy_over_estimate"] == pytest.approx(0.6 / 0.3)
    assert [row["estimate_pj"] for row in found.rows("layers")] == [0.2, 0.1]
    assert summary["neurobench"] == {"parameter_count": 7}
    prices = "45 nm, 0.9 pJ per AC, 4.6 pJ per MAC"
    told = f"estimated as in papers ({prices}): 0.150 pJ"
    assert found.as_estimated() == f"{told} (57.5 % of it MACs), simulated 2.00 times that"
    part = Coverage(0.75, 10, 2, 3, (LeftOut("encoder", "reads pixels", 0.25, True, False),))
    whole = "0.400 pJ for the whole network (57.5 % of it MACs)"
    assert estimated(covered=part).as_estimated() == f"{told}, simulated 2.00 times that; {whole}"


def test_operations_per_second_and_per_watt():
    """72 operations in 250 ns for 0.6 pJ: the layer that does not run has none of them."""
    summary = estimated().summary()
    assert summary["tops"] == pytest.approx(72e-12 / 250e-9)
    assert summary["tops_per_w"] == pytest.approx(72 / 0.6)


def test_nothing_is_estimated_of_training_or_of_what_does_not_spike():
    """Stages of training have names of their own; a layer of several rows is estimated once."""
    training = estimated(layer("conv1.forward"), layer("conv1.update"))
    summary = training.summary()
    names = ("estimate_pj", "energy_over_estimate", "tops", "tops_per_w", "first_response_cycles", "first_response_s")
    assert [summary[name] for name in names] == [None] * 6
    assert training.as_estimated() == ""
    rows = estimated(layer("conv1"), layer("conv1")).rows("layers")
    assert [row["estimate_pj"] for row in rows] == [0.2, None]
    silent = estimated(estimates={"conv1": 0.0, "fc": 0.0})
    assert (silent.summary()["energy_over_estimate"], silent.as_estimated()) == (None, "")


@pytest.mark.parametrize(
    ("layers", "cycles"),
    [
        ((layer("conv1"), layer("fc")), 200),
        ((layer("conv1"), layer("fc", response_cycles=30)), 130),
        ((layer("fc"), layer("conv1")), 100),
        ((layer("conv1", start_cycle=0, elapsed_cycles=60), layer("fc", start_cycle=20, elapsed_cycles=60)), 120),
        (
            (
                layer("conv1", start_cycle=0, elapsed_cycles=60),
                layer("fc", start_cycle=20, elapsed_cycles=60, response_cycles=30),
            ),
            50,
        ),
        ((layer("conv1"),), None),
    ],
)
def test_the_first_response(layers, cycles):
    summary = estimated(*layers).summary()
    assert summary["first_response_cycles"] == cycles
    assert summary["first_response_s"] == (None if cycles is None else cycles / 800e6)


def test_shares_add_up():
    with pytest.raises(InvariantError, match="do not add up to 1"):
        report(covered=Coverage(0.5, 10, 1, 2, (LeftOut("fc", "reads pixels", 0.25, True, False),)))


def overlapping(second_share: int) -> Report:
    return report(
        layer("a", start_cycle=0, elapsed_cycles=60), layer("b", start_cycle=20, elapsed_cycles=second_share),
        exact=False, findings={"exact": False, "accuracy": 0.5},
    )  # fmt: skip


def test_layers_that_overlap_share_the_run():
    """Two layers of 100 cycles, the second 20 later: 120 cycles, not 200; the busiest unit computed for 60 of them."""
    summary = overlapping(60).summary()
    assert (summary["cycles"], summary["compute_cycles"], summary["stall_cycles"]) == (120, 60, 60)
    assert summary["latency_s"] == 120 / 800e6
    assert summary["utilization"] == pytest.approx((0.5 * 100 + 0.5 * 100) / 120)
    assert (summary["exact"], summary["accuracy"]) == (False, 0.5)
    slices = json.loads(timeline.trace_events(overlapping(60).layers))["traceEvents"]
    assert [(s["name"], s["ts"], s["dur"]) for s in slices if s["ph"] == "X"] == [("a", 0, 100), ("b", 20, 100)]
    with pytest.raises(InvariantError, match="shares of 119 cycles in a run that ends in 120"):
        overlapping(59)


def test_files_read_back_equal(tmp_path):
    original = report()
    original.write(tmp_path / "results" / "toy__tiny")
    folder = tmp_path / "results" / "toy__tiny"
    assert sorted(file.name for file in folder.iterdir()) == sorted(
        set(files.RESULT_FILES)
        - {"timeline.json", "timesteps.csv", "cores.csv", "links.csv", "report.html"}
        - {"adaptation.csv", "corrections.csv", "comparison.csv"}
    )
    told = [json.loads((folder / name).read_text()) for name in ("summary.json", "timing.json")]
    assert told[0] | told[1] == original.summary()
    for name, columns in COLUMNS.items():
        rows = read_csv((folder / f"{name}.csv").read_text())
        assert list(rows[0]) == list(columns)
        expected = [{k: "" if v is None else str(v) for k, v in row.items()} for row in original.rows(name)]
        assert rows == expected
    assert (folder / "resolved.yaml").read_text().endswith(original.resolved)
    assert "ab" * 32 in (folder / "resolved.yaml").read_text()


def test_frames_hold_the_same_rows():
    frame = report().frame("layers")
    assert list(frame.columns) == list(COLUMNS["layers"])
    assert frame["mismatches"].tolist()[0] == 0
    assert frame["mismatches"].isna().tolist() == [False, True]
    assert frame["dram_read_bytes"].sum() == 1408


def test_events_get_their_own_column():
    texts = report(layer(), layer("fc", events={"accumulator_overflows": 3})).texts()
    assert [row["accumulator_overflows"] for row in read_csv(texts["layers.csv"])] == ["0", "3"]
    assert json.loads(texts["summary.json"])["events"] == {"accumulator_overflows": 3}


def test_same_run_same_bytes(tmp_path):
    contents = []
    for wall in (0.25, 0.5):
        report(layer(engine_wall_s=wall)).write(tmp_path / "again")
        texts = {file.name: file.read_bytes() for file in (tmp_path / "again").iterdir()}
        assert json.loads(texts.pop("timing.json")) == {"engine_wall_s": wall}
        contents.append(texts)
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"utilization": 1.01}, "utilization"),
        ({"utilization": math.nan}, "utilization"),
        ({"synaptic_operations": 4 * 77 + 1}, "309 synaptic operations of 77 matches in 4 timesteps"),
        ({"synaptic_operations": -1}, "-1 synaptic operations"),
        ({"performed_operations": -1}, "-1 operations performed"),
        ({"cycles": 101}, "is not 101 cycles"),
        ({"compute_cycles": 101, "stall_cycles": -1}, "stall -1"),
        ({"lower_bound_cycles": 101}, "lower bound of 101"),
        ({"units": (UnitTime("pe", 3, 60, 30, 11),)}, "pe 3"),
        ({"actions": {("pe", "add"): -1}}, "pe did add -1"),
        ({"traffic": (Traffic("dram", "input", "read", -1, 1),)}, "negative traffic"),
        ({"timestep_counts": {("pe", "add"): (70, 8)}}, "pe did add 77 times, of them 70, 8 in the timesteps"),
        ({"timestep_counts": {("pe", "add"): (-1, 8)}}, "of them -1, 8 in the timesteps"),
        ({"timestep_counts": {("pe", "sub"): (1,)}}, "pe did sub 0 times"),
    ],
)
def test_a_contradiction_is_a_bug(changes, words):
    with pytest.raises(InvariantError, match=words):
        report(layer(**changes))


def test_compulsory_bytes_must_be_read():
    report(compulsory_read_bytes={"conv1": 704})
    with pytest.raises(InvariantError, match="704 bytes read from DRAM, 705 are compulsory"):
        report(compulsory_read_bytes={"conv1": 705})


def test_every_layer_has_its_energy():
    with pytest.raises(InvariantError, match="1 layers have energy rows, 2 were run"):
        report(energy=([Energy("pe", "add", 1, 1.0)],))


class TestFolder:
    def test_earlier_results_are_replaced_as_a_whole(self, tmp_path):
        out = tmp_path / "out"
        report().write(out)
        (out / files.FIGURES).mkdir()
        (out / files.FIGURES / "latency.png").touch()
        report(layer("other")).write(out)
        assert "other" in (out / "layers.csv").read_text()
        assert not (out / files.FIGURES).exists()
        assert [entry.name for entry in tmp_path.iterdir()] == ["out"]

    @pytest.mark.parametrize("foreign", ["notes.txt", "summary.csv", "figures"])
    def test_foreign_files_are_never_deleted(self, tmp_path, foreign):
        report().write(tmp_path / "out")
        (tmp_path / "out" / foreign).write_text("mine")
        with pytest.raises(UsageError, match=f"did not write, such as '{foreign}'"):
            report().write(tmp_path / "out")
        assert (tmp_path / "out" / foreign).read_text() == "mine"

    def test_own_figures_are_never_deleted(self, tmp_path):
        report().write(tmp_path / "out")
        (tmp_path / "out" / files.FIGURES).mkdir()
        (tmp_path / "out" / files.FIGURES / "thesis.png").write_text("mine")
        with pytest.raises(UsageError, match="did not write, such as 'figures'"):
            report().write(tmp_path / "out")

    def test_a_folder_that_only_looks_like_results_is_left_alone(self, tmp_path):
        (tmp_path / "summary.json").write_text("{}")
        with pytest.raises(UsageError, match="is not a results folder"):
            report().write(tmp_path)
        assert (tmp_path / "summary.json").read_text() == "{}"

    def test_an_empty_folder_is_used(self, tmp_path):
        (tmp_path / "out").mkdir()
        report().write(tmp_path / "out")
        assert (tmp_path / "out" / "summary.json").exists()

    def test_a_file_in_the_way(self, tmp_path):
        (tmp_path / "out").write_text("mine")
        with pytest.raises(UsageError, match="is a file"):
            report().write(tmp_path / "out")
        with pytest.raises(UsageError, match="cannot be written"):
            report().write(tmp_path / "out" / "below")

    @pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
    def test_nothing_is_left_of_a_failed_run(self, tmp_path, error):
        with pytest.raises(error), files.results_folder(tmp_path / "a" / "b") as folder:
            (folder / "layers.csv").write_text("half")
            raise error
        assert list(tmp_path.iterdir()) == []

    def test_earlier_results_survive_a_failed_run(self, tmp_path):
        report().write(tmp_path / "out")
        with pytest.raises(KeyboardInterrupt), files.results_folder(tmp_path / "out"):
            raise KeyboardInterrupt
        assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
        assert (tmp_path / "out" / "summary.json").exists()

    def test_a_single_file_is_complete_or_absent(self, tmp_path):
        with files.result_file(tmp_path / "c" / "table.csv", b"a") as partial:
            partial.write_text("whole")
        assert (tmp_path / "c" / "table.csv").read_text() == "whole"
        with pytest.raises(RuntimeError), files.result_file(tmp_path / "d" / "table.csv", b"a") as partial:
            partial.write_text("half")
            raise RuntimeError
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["c"]
        with pytest.raises(UsageError, match="is a directory"), files.result_file(tmp_path, b"a"):
            pass


def test_comparison_is_normalised_to_the_first():
    fast = report(layer(cycles=50, compute_cycles=50, stall_cycles=0, lower_bound_cycles=0, units=()))
    rows = comparison.rows({"slow": report(layer()), "fast": fast})
    assert [row["speedup"] for row in rows] == [1.0, 2.0]
    assert [row["energy_gain"] for row in rows] == [1.0, 1.0]
    assert all(tuple(sorted(row)) == tuple(sorted(comparison.COLUMNS)) for row in rows)


def test_a_comparison_says_what_silence_saves():
    """Of machines that have the choice; a variant that differs from layer to layer is none of the machine."""
    gating = report(layer(variant={"sparsity": "gating", "stage": "forward"}))
    rows = comparison.rows({"gating": gating, "none": report(layer())})
    assert [row["sparsity"] for row in rows] == ["gating", None]
    assert gating.summary()["sparsity"] == "gating"
    both = report(layer(variant={"sparsity": "gating"}), layer("conv2", variant={"sparsity": "skipping"}))
    assert "sparsity" not in both.summary()


def test_a_comparison_says_when_noise_is_drawn():
    noisy = report(layer(), exact=False, findings={"exact": False, "noise": "per_read"})
    assert [row["noise"] for row in comparison.rows({"noisy": noisy, "exact": report(layer())})] == ["per_read", None]


def test_different_layers_are_told_apart():
    """A warning names both machines, layers that only one of them ran and both coverages; a column marks the row."""
    part = Coverage(0.75, 10, 2, 3, (LeftOut("conv2", "reads pixels", 0.25, True, False),))
    reports = {
        "loas": report(layer("conv2"), layer("fc")),
        "other": report(layer("conv1"), layer("fc"), covered=part),
        "same": report(layer("conv2"), layer("fc")),
    }
    rows = comparison.rows(reports)
    assert [(row["same_layers"], row["coverage"], row["left_out"]) for row in rows] == [
        (True, 1.0, ""), (False, 0.75, "conv2"), (True, 1.0, ""),
    ]  # fmt: skip
    assert comparison.doubts(reports) == [
        "loas and other simulate different layers (conv2 against conv1), 100 % and 75 % of the operations: the totals "
        "are of different parts of the network; --layers chooses layers that both run"
    ]


def test_a_figure_marks_other_layers(tmp_path):
    reports = {"loas": report(layer("conv2")), "other": report(layer("conv1"))}
    (tmp_path / "table.csv").write_text(files.csv_text(comparison.rows(reports), comparison.COLUMNS))
    plots.plot(tmp_path / "table.csv")
    drawn = (tmp_path / "table.svg").read_text()
    assert "other (other layers)" in drawn
    assert "LoAS (other layers)" not in drawn


def test_a_comparison_says_what_is_not_equal():
    stored = Traffic("dram", "weight_format", "read", 640, 10)
    sparse = report(layer(traffic=(*layer().traffic, stored)), clock_mhz=500, sram_size_kib=256)
    assert comparison.notes({"a": sparse, "b": sparse}) == [
        "area is that of the chip, without DRAM",
        "cycles are those of all 2 images together, energy is that of one",
    ]
    assert len(comparison.notes({"a": report(images=1)})) == 1
    assert comparison.notes({"a": sparse, "b": report(layer(), sram_size_kib=352)})[2:] == [
        "every weight is stored and moved, zeros too, on b; not on the others",
        "clock: 500 MHz on a; 800 MHz on b",
        "SRAM: 256 KiB on a; 352 KiB on b",
    ]


class TestPlots:
    def test_comparisons_on_several_networks_have_their_geometric_mean(self, tmp_path):
        for name, clock_mhz in (("vgg9", 1600), ("vgg16", 400)):
            reports = {
                "a": report(trace=f"{name}.npz"),
                "b": report(trace=f"{name}.npz", clock_mhz=clock_mhz),
            }
            text = files.csv_text(comparison.rows(reports), comparison.COLUMNS)
            (tmp_path / f"{name}.csv").write_text(text)
        both = [tmp_path / "vgg9.csv", tmp_path / "vgg16.csv"]
        written = plots.plot_networks(both)
        assert [file.name for file in written] == [
            f"networks_{name}.{kind}" for name in ("speedup", "energy_gain") for kind in ("png", "svg")
        ]
        drawn = written[1].read_text()
        for text in ("VGG9", "VGG16", "geomean", "speedup over a", ">2.0<", ">0.50<"):
            assert text in drawn
        assert drawn.count(">1.0<") == 5  # the references, both means of 2 and 1/2, and a number of the axis
        (tmp_path / "again.csv").write_bytes(both[0].read_bytes())
        with pytest.raises(UsageError, match="vgg9: is compared twice"):
            plots.plot_networks([*both, tmp_path / "again.csv"])
        with pytest.raises(UsageError, match="vgg9: is compared twice"):
            plots.plot_networks([both[0]] * 2)

    def test_comparisons_of_other_machines_do_not_mix(self, tmp_path):
        for name, second in (("vgg9", "b"), ("vgg16", "c")):
            reports = {machine: report(trace=f"{name}.npz") for machine in ("a", second)}
            (tmp_path / f"{name}.csv").write_text(files.csv_text(comparison.rows(reports), comparison.COLUMNS))
        with pytest.raises(UsageError, match=r"vgg16.csv: compares a, c; .*vgg9.csv compares a, b"):
            plots.plot_networks([tmp_path / "vgg9.csv", tmp_path / "vgg16.csv"])

    def test_figures_of_a_run_are_reproducible(self, tmp_path):
        report(*(layer(f"conv{i}") for i in range(9))).write(tmp_path / "out")
        written = plots.plot(tmp_path / "out")
        names = sorted(f"{name}{suffix}" for name in plots._RUN_FIGURES for suffix in (".png", ".svg"))
        assert sorted(file.name for file in written) == names
        before = [file.read_bytes() for file in written]
        assert [file.read_bytes() for file in plots.plot(tmp_path / "out")] == before
        report().write(tmp_path / "out")  # figures do not stand in the way of the next run

    def test_figures_say_what_was_run(self, tmp_path):
        """Machine, changes, trace, T, images; in SVG text is text."""
        changed = report(hardware="hw/loas.yaml", overrides=("pe.count=8",), trace="t/vgg9.npz")
        changed.write(tmp_path / "out")
        (tmp_path / "table.csv").write_text(files.csv_text(comparison.rows({"loas": changed}), comparison.COLUMNS))
        texts = {file.stem: file.read_text() for file in plots.plot(tmp_path / "out") if file.suffix == ".svg"}
        assert all("LoAS, with pe.count=8, VGG9, T = 4, 2 images" in text for text in texts.values())
        (_, svg) = plots.plot(tmp_path / "table.csv")
        assert "VGG9, 2 layers, T = 4, 2 images" in svg.read_text()

    def test_units_that_only_move_data_are_left_out(self, tmp_path):
        units = (UnitTime("pe", 0, 60, 30, 10), UnitTime("fetcher", 0, 0, 90, 10))
        report(layer(units=units)).write(tmp_path / "out")
        (text,) = [file.read_text() for file in plots.plot(tmp_path / "out") if file.name == "utilization.svg"]
        assert ">PE<" in text
        assert "fetcher" not in text

    def test_traffic_has_its_totals(self, tmp_path):
        """3 MiB and 1 MiB from DRAM, 40 MiB from SRAM: the sums stand on the bars."""
        rows = [("dram", "input", 3), ("dram", "weight", 1), ("sram", "input", 40)]
        traffic = tuple(Traffic(level, tensor, "read", mib << 20, 1) for level, tensor, mib in rows)
        report(layer(traffic=traffic)).write(tmp_path / "out")
        (text,) = [file.read_text() for file in plots.plot(tmp_path / "out") if file.name == "traffic.svg"]
        assert ">4.0</text>" in text and ">40</text>" in text

    def test_small_gains_are_seen(self, tmp_path):
        """A speedup of 1/200 has its number, on a logarithmic axis."""
        slow = report(layer(cycles=20_000, stall_cycles=19_940, units=()))
        path = tmp_path / "compare.csv"
        path.write_text(files.csv_text(comparison.rows({"a": report(layer()), "b": slow}), comparison.COLUMNS))
        (_, svg) = plots.plot(path)
        assert ">0.005</text>" in svg.read_text()
        assert "(log)" in svg.read_text()

    def test_fills_differ_in_grey(self):
        """Plain fills by a fifth of the scale; of two that do not, one is hatched."""
        tones = [
            (sum(w * int(colour[i : i + 2], 16) for w, i in ((0.299, 1), (0.587, 3), (0.114, 5))) / 255, hatch)
            for colour, hatch, _ in drawing.FILLS
        ]
        plain = [tone for tone, hatch in tones if not hatch]
        assert min(abs(a - b) for i, a in enumerate(plain) for b in plain[:i]) > 0.2
        hatches = [hatch for _, hatch in tones if hatch]
        assert len(hatches) == len(set(hatches)) == len(tones) - len(plain)

    @pytest.mark.parametrize("content", ["[]", "{}", "{", '{"hardware": 3}'])
    def test_a_summary_of_another_version(self, tmp_path, content):
        report().write(tmp_path / "out")
        (tmp_path / "out" / "summary.json").write_text(content)
        with pytest.raises(UsageError, match="is not the summary of a run of this version"):
            plots.plot(tmp_path / "out")

    def test_figure_of_a_comparison(self, tmp_path):
        rows = comparison.rows({"first": report(), "second": report()})
        path = tmp_path / "compare.csv"
        path.write_text(files.csv_text(rows, comparison.COLUMNS))
        assert [file.name for file in plots.plot(path)] == ["compare.png", "compare.svg"]

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("", "has no column 'machine'"),
            ("a,b\n1,2\n", "has no column 'machine'"),
            (",".join(comparison.COLUMNS) + "\n", "has no rows"),
            (",".join(comparison.COLUMNS) + "\n" + ",".join("x" * len(comparison.COLUMNS)) + "\n", "must be a number"),
            ("\0", "no column|cannot be plotted"),
        ],
    )
    def test_not_a_table_of_ours(self, tmp_path, content, words):
        path = tmp_path / "table.csv"
        path.write_text(content)
        with pytest.raises(UsageError, match=words):
            plots.plot(path)
        assert [entry.name for entry in tmp_path.iterdir()] == ["table.csv"]

    @pytest.mark.parametrize("path", ["missing", "."])
    def test_not_a_result(self, tmp_path, path):
        with pytest.raises(UsageError, match="cannot be read: No such file"):
            plots.plot(tmp_path / Path(path))
        assert list(tmp_path.iterdir()) == []


def test_variants_are_columns_of_every_table():
    """What all layers share stands in the area table too; what differs is summed up by value."""
    found = report(
        *(layer(f"conv1.{stage}", variant={"sparsity": "gating", "stage": stage}) for stage in ("forward", "update"))
    )
    for name in ("layers", "traffic", "energy", "units"):
        rows = read_csv(found.texts()[f"{name}.csv"])
        assert {(row["layer"], row["stage"], row["sparsity"]) for row in rows} == {
            ("conv1.forward", "forward", "gating"), ("conv1.update", "update", "gating")
        }  # fmt: skip
    area = read_csv(found.texts()["area.csv"])
    assert [row["sparsity"] for row in area] == ["gating"] * 2
    assert "stage" not in area[0]
    summary = found.summary()
    assert summary["energy_by_stage_pj"] == {"forward": pytest.approx(0.3), "update": pytest.approx(0.3)}
    assert summary["energy_by_unit_pj"] == {"pe": pytest.approx(0.2), "sram": pytest.approx(0.4)}
    assert summary["energy_per_image_pj"] == pytest.approx(0.3)
    assert "energy_by_sparsity_pj" not in summary


def test_actions_are_split_by_timestep_where_a_machine_does_it():
    """77 additions for 0.1 pJ, 70 of them at timesteps 0 and 2; what is left, leakage too, belongs to no timestep."""
    found = report(layer(timestep_counts={("pe", "add"): (40, 0, 30)}))
    rows = read_csv(found.texts()["timesteps.csv"])
    assert [(row["timestep"], row["unit"], row["action"], row["count"]) for row in rows] == [
        ("0", "pe", "add", "40"), ("1", "pe", "add", "0"), ("2", "pe", "add", "30"), ("", "pe", "add", "7"),
        ("", "sram", "leakage", "1"),
    ]  # fmt: skip
    assert math.fsum(float(row["energy_pj"]) for row in rows) == pytest.approx(found.summary()["energy_pj"])
    by_timestep = found.summary()["energy_by_timestep_pj"]
    assert by_timestep == {
        "0": pytest.approx(0.1 * 40 / 77), "1": 0, "2": pytest.approx(0.1 * 30 / 77),
        "none": pytest.approx(0.1 * 7 / 77 + 0.2),
    }  # fmt: skip


def test_a_full_disk_is_that_of_the_file_that_is_added_to(tmp_path):
    """Also when the file is closed, which writes again what it could not write."""
    path = tmp_path / "sweep.csv"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(UsageError) as refused, files.open_to_append(path, b"point,") as file:
            file.write(b"point,hardware,trace")
            file.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(refused.value) == f"{path}: cannot be written: File too large"
