"""Adaptations side by side: what each is worth is what a run says of it, and the files say the same."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import archsim
from archsim.adapting import ADAPTATIONS, COLUMNS, CORRECTION_COLUMNS, adapt
from archsim.analog_network.network import AnalogNetwork
from archsim.cli import main
from archsim.errors import ArchsimError, UsageError
from archsim.report import plots
from archsim.simulate import load_accelerator
from archsim.trace import ImageSet, Operation, Requantiser, load_trace, save_trace
from archsim.trace.resimulation import accuracy, run_images
from tests import small_traces
from tests.machines import LOAS, ROOT

IMC = ROOT / "hwconfigs" / "imc_cnn.yaml"
CLASSES = 6
SMALL = (
    *("analog.rows=32", "analog.columns=32", "analog.batch_images=20", "analog.digital_gain=none"),
    "analog.adc.bits=8",
)
NO_WIRES = "analog.cells.wires={r_driver_ohm: 0, r_row_ohm: 0, r_col_ohm: 0, r_sense_ohm: 0}"
WIRES = (
    "analog.cells.wires={r_driver_ohm: 1000, r_row_ohm: 5, r_col_ohm: 10, r_sense_ohm: 1000}",
    *("analog.cells.device.programming.relative=0", "analog.cells.device.r_on_ohm=5000"),
    "analog.cells.device.r_off_ohm=50000",
)
"""Cells of little resistance, so that most of the voltage is lost on the way."""
VARIATION = (NO_WIRES, "analog.cells.device.programming.relative=0.7")


def classifier():
    """Noisy templates of 4 x 8 pixels and a network of bytes that tells them apart: random neurons, a fitted layer."""
    generator = np.random.default_rng(5)
    templates = generator.uniform(0, 255, (CLASSES, 1, 4, 8))

    def draw(count):
        labels = generator.integers(0, CLASSES, count)
        pixels = np.clip(templates[labels] + generator.normal(0, 70, (count, 1, 4, 8)), 0, 255)
        return ImageSet(pixels.astype(np.uint8), labels)

    train, calibration, evaluation = draw(2000), draw(40), draw(110)
    hidden = Operation(
        "hidden", "linear", ("pixels",), "rates", weight=generator.integers(-90, 91, (48, 32), dtype=np.int8),
        requantiser=Requantiser(np.full(48, 5), 10, 8, False),
    )  # fmt: skip
    alone = small_traces.build([hidden], {"pixels": train.images}, 1)
    rates = run_images(alone, train.images)["rates"][0].astype(np.float64)
    fitted = np.linalg.lstsq(rates - rates.mean(0), np.eye(CLASSES)[train.labels] - 1 / CLASSES, rcond=None)[0].T
    scale = 120 / np.abs(fitted).max()
    readout = Operation(
        "readout", "linear", ("rates",), "logits", weight=np.round(scale * fitted).astype(np.int8),
        bias=np.round(-scale * fitted @ rates.mean(0)).astype(np.int64),
    )  # fmt: skip
    built = small_traces.build([hidden, readout], {"pixels": evaluation.images[:2]}, 1)
    contents = small_traces.contents(built)
    contents["rates"] = contents["rates"][0].astype(np.uint8)
    return small_traces.Trace(
        network="classifier", timesteps=1, operations=[hidden, readout], tensors=contents,
        provenance=small_traces.LABELS, calibration=calibration, evaluation=evaluation,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    path = tmp_path_factory.mktemp("adapting") / "classifier.npz"
    save_trace(classifier(), path)
    return path


@pytest.fixture(scope="module")
def varied(trace):
    return adapt(IMC, trace, overrides=(*SMALL, *VARIATION), images=70)


def worth(report):
    return {one.adaptation: one.accuracy for one in report.adapted}


def corrections(report):
    """By adaptation and layer, as lists."""
    return {
        (one.adaptation, layer): (found.gain.tolist(), found.offset.tolist())
        for one in report.adapted
        for layer, found in one.corrections.items()
    }


def test_accuracies_are_those_of_runs(trace, varied):
    """As a run finds them with the field set by hand; the machine has what the arrays before were calibrated with."""
    loaded = load_trace(trace)
    settings = (*SMALL, *VARIATION, "evaluation_images=70")
    for name, found in worth(varied).items():
        findings = load_accelerator(IMC, (*settings, f"analog.adaptation={name}")).metrics(loaded)
        assert found == findings["accuracy"], name
        assert varied.exact_accuracy == findings["exact_accuracy"]
        assert findings["evaluated_images"] == 70
    assert len(set(worth(varied).values())) == 3, "an accuracy that stands still tells nothing"
    assert varied.exact_accuracy == accuracy(loaded, loaded.evaluation.first(70))


def test_a_chip_that_is_fitted_to_the_network_has_the_same_arrays(trace):
    chosen = {"adaptations": ["none"], "images": 20}
    few, fit = (adapt(IMC, trace, overrides=(*SMALL, *VARIATION, *more), **chosen) for more in ((), ("noc.rows=fit",)))
    assert worth(fit) == worth(few)
    assert "rows: fit" not in fit.resolved.split("noc:")[1]


def test_it_is_the_run_of_the_door(trace):
    """The public names, the machine's own number of images, settings by keyword."""
    settings = {"analog__cells__device__programming__relative": 0.7, "evaluation_images": 20}
    found = archsim.adapt(IMC, trace, overrides=(*SMALL, NO_WIRES), adaptations=["statistics"], **settings)
    report = archsim.run(
        IMC, trace, overrides=(*SMALL, NO_WIRES, "analog.adaptation=statistics"), engine="reference", **settings
    )
    assert worth(found) == {"statistics": report.findings["accuracy"]}
    assert found.rows()[0]["images"] == 20
    assert set(found.summary()) - set(report.summary()) == {"calibration_images"}, (
        "names that mean what they mean there"
    )


def test_wires_are_recovered(trace):
    found = adapt(IMC, trace, overrides=(*SMALL, *WIRES))
    assert found.exact_accuracy > 0.9
    assert worth(found)["none"] < 0.5
    assert worth(found)["statistics"] >= found.exact_accuracy - 0.03
    assert worth(found)["fine_tuned"] >= found.exact_accuracy - 0.03
    gains = np.array(corrections(found)["statistics", "hidden"][0])
    assert (gains > 1).all(), "wires take current away"


def test_what_is_asked_for_first_does_not_matter(trace, varied):
    """The arrays that all share keep nothing of an adaptation; and rows are in the order that was asked for."""
    again = adapt(
        IMC, trace, overrides=(*SMALL, *VARIATION), images=70, adaptations=("fine_tuned", "none", "statistics")
    )
    assert list(worth(again)) == ["fine_tuned", "none", "statistics"]
    assert worth(again) == worth(varied)
    assert corrections(again) == corrections(varied)


def test_processes_share_images_and_change_nothing(trace):
    """Not even where every batch draws its own noise."""
    noise = ("analog.cells.noise=per_batch", NO_WIRES, "analog.cells.device.read.relative=1")
    asked = {"overrides": (*SMALL, *noise), "adaptations": ["statistics"]}
    one, two = (adapt(IMC, trace, **asked, jobs=jobs) for jobs in (1, 2))
    assert two.rows() == one.rows()
    assert corrections(two) == corrections(one)


def test_corrections_are_those_of_the_images_asked_for(trace, varied):
    """The first of the calibration set; none has no corrections, the others one for each channel of each layer."""
    few = adapt(IMC, trace, overrides=(*SMALL, *VARIATION), calibration_images=7, adaptations=["statistics"], images=1)
    assert few.rows()[0]["calibration_images"] == 7
    loaded, machine = load_trace(trace), load_accelerator(IMC, (*SMALL, *VARIATION))
    network = AnalogNetwork(loaded, machine.config.analog, weight_bits=8, on_arrays=("hidden", "readout"))
    network.calibrate(loaded.calibration.first(7), "statistics")
    found = corrections(few)
    for layer, correction in network.corrections.items():
        assert found["statistics", layer] == (correction.gain.tolist(), correction.offset.tolist())
    assert found["statistics", "hidden"] != corrections(varied)["statistics", "hidden"]
    assert {key: len(gain) for key, (gain, _) in corrections(varied).items()} == {
        (name, layer): channels
        for name in ("statistics", "fine_tuned")
        for layer, channels in (("hidden", 48), ("readout", CLASSES))
    }


def test_the_standard_error_is_that_of_a_share(varied):
    for row in varied.rows():
        wrong = np.repeat([1.0, 0.0], [round(70 * row["accuracy"]), 70 - round(70 * row["accuracy"])])
        assert row["standard_error"] == pytest.approx(wrong.std() / np.sqrt(70))
        assert row["standard_error"] > 0


def arguments(*settings):
    return [part for setting in settings for part in ("--set", setting)]


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_files_of_the_command(trace, varied, tmp_path, monkeypatch, capsys):
    """The table in a pipe and the files have what the function returns, digit for digit; the figure is redrawn."""
    monkeypatch.chdir(tmp_path)
    command = ["adapt", str(IMC), str(trace), *arguments(*SMALL, *VARIATION), "--images", "70"]
    assert main(command) == 0
    folder = Path("results") / "adapt__imc_cnn__classifier"
    written = capsys.readouterr()
    told = [line for line in written.err.splitlines() if not line.startswith("compiling")]
    assert told == [f"results in {folder}/"]
    rows = [{name: str(value) for name, value in row.items()} for row in varied.rows()]
    assert table(folder / "adaptation.csv") == rows
    assert written.out.splitlines() == ["\t".join(COLUMNS), *("\t".join(row.values()) for row in rows)]
    found = {}
    for row in table(folder / "corrections.csv"):
        assert tuple(row) == CORRECTION_COLUMNS
        gains, offsets = found.setdefault((row["adaptation"], row["layer"]), ([], []))
        assert int(row["channel"]) == len(gains)
        gains.append(float(row["gain"]))
        offsets.append(float(row["offset"]))
    assert found == corrections(varied)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["overrides"] == [*SMALL, *VARIATION]
    assert (summary["noise"], summary["noise_seed"], summary["device"]) == ("frozen", 1, "rram")
    assert load_accelerator(folder / "resolved.yaml").config.analog.rows == 32
    figures = [folder / "figures" / f"adaptation.{kind}" for kind in ("png", "svg")]
    for figure in figures:
        figure.unlink()
    assert main(["plot", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines() == [str(figure) for figure in figures]
    drawn = figures[1].read_text()
    for row in varied.rows():
        assert f"{100 * row['accuracy']:.1f} ± {100 * row['standard_error']:.1f}" in drawn
    assert f"exact arithmetic: {100 * varied.exact_accuracy:.1f}" in drawn
    few = [*command, "--adaptations", "none", "--calibration", "9", "-o", str(folder)]
    assert main(few) == 0, "an earlier folder is replaced"
    assert [row["calibration_images"] for row in table(folder / "adaptation.csv")] == ["9"]
    assert table(folder / "corrections.csv") == []


def test_nothing_half_written(trace, tmp_path, monkeypatch):
    def fail(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(plots, "plot", fail)
    command = ["adapt", str(IMC), str(trace), *arguments(*SMALL, NO_WIRES), "--images", "1", "--adaptations", "none"]
    assert main([*command, "-o", str(tmp_path / "results" / "out")]) == 130
    assert not list(tmp_path.iterdir())


def test_a_table_that_is_none(tmp_path, capsys):
    (tmp_path / "adaptation.csv").write_text("adaptation,accuracy,exact_accuracy,standard_error\nnone,much,1,0\n")
    assert main(["plot", str(tmp_path)]) == 2


def test_the_adaptation_of_the_file_counts_for_nothing(trace, varied, tmp_path):
    tuned = tmp_path / "tuned.yaml"
    tuned.write_text("extends: imc_cnn\nanalog.adaptation: fine_tuned\n")
    assert load_accelerator(tuned).config.analog.adaptation == "fine_tuned"
    assert adapt(tuned, trace, overrides=(*SMALL, *VARIATION), images=70).rows() == varied.rows()


def test_all_that_is_wrong_is_said_at_once(trace):
    """What is wrong with the call, the machine's settings and the trace; each a line that can be read alone."""
    with pytest.raises(UsageError) as refused:
        adapt(
            IMC, trace, overrides=["analog.adaptation=none", "pe.cuont=3"],
            adaptations=("statistic", "none", "none"), images=111, calibration_images=41, jobs=0,
        )  # fmt: skip
    assert [problem.partition("; allowed")[0] for problem in refused.value.problems] == [
        "adaptations: unknown adaptation, got 'statistic'",
        "adaptations: none is given twice",
        "--set analog.adaptation: is what adapt compares; name those that you want with --adaptations instead",
        "jobs: must be at least 1, got 0",
        "--set pe.cuont=3: unknown key",
        f"{trace}: has 40 calibration images, got 41",
        f"{trace}: has 110 evaluation images, got 111",
    ]
    assert refused.value.problems[0].endswith("none, statistics, fine_tuned (did you mean 'statistics'?)")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"hardware": LOAS}, "loas has no analog arrays that could be adapted; accelerators that have: imc"),
        ({"trace": "vgg9"}, "has no calibration and no evaluation images, which adaptations are found with and judged "
                            "by; workloads/recipes/add_image_sets.py adds them"),
        ({"trace": "nothing.npz"}, "nothing.npz"),
        ({"adaptations": "none"}, "adaptations: must be a list of texts, got 'none'"),
        ({"adaptations": ()}, "adaptations: none is chosen; allowed: none, statistics, fine_tuned"),
        ({"images": 0}, "images: must be at least 1, got 0"),
        ({"calibration_images": -1}, "calibration images: must be at least 1, got -1"),
        ({"pe__weight_bits": 4}, "imc_cnn.yaml cannot run"),
        ({"analog__adaptation": "none"}, "--set analog.adaptation: is what adapt compares"),
        ({"job": 2}, "--set job"),
    ],
)  # fmt: skip
def test_what_is_wrong(wrong, says, trace):
    with pytest.raises(ArchsimError) as refused:
        adapt(**{"hardware": IMC, "trace": trace, **wrong})
    assert any(says in problem for problem in refused.value.problems), refused.value.problems


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--adaptations", "none,fine-tuned"], "unknown adaptation, got 'fine-tuned'; allowed: none, statistics, "
                                               "fine_tuned (did you mean 'fine_tuned'?)"),
        (["--images", "0"], "--images"),
        (["--images", "1000"], "has 110 evaluation images, got 1000"),
        (["--set", "analog.adaptation=none"], "--adaptations instead"),
    ],
)  # fmt: skip
def test_a_wrong_command_writes_nothing(more, says, trace, tmp_path, capsys):
    assert main(["adapt", str(IMC), str(trace), *more, "-o", str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("archsim: error: ")
    assert says in lines[0]
    assert not list(tmp_path.iterdir())


def test_machine_and_trace_swapped(trace, capsys):
    assert main(["adapt", str(trace), str(IMC)]) == 2
    assert "the order is HW TRACE" in capsys.readouterr().err


def test_all_adaptations_are_known():
    assert ADAPTATIONS == ("none", "statistics", "fine_tuned")
