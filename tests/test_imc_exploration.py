"""The exploration of crossbar chips: its page has the numbers of its sweep, and the sweep is of chips built for it."""

import csv
import importlib.util
import itertools
from pathlib import Path

import pytest

from archsim.dataflow.crossbar_mapping import map_layer
from archsim.dataflow.pipeline import stages_of
from archsim.report.plots import value_labels
from archsim.simulate import load_accelerator
from archsim.trace import load_trace

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "benchmarks" / "papers" / "imc_exploration"
PAGE = (FOLDER / "README.md").read_text(encoding="utf-8")
with (FOLDER / "results" / "sweep.csv").open(newline="", encoding="utf-8") as file:
    ROWS = list(csv.DictReader(file))
SETTINGS = [name for name in ROWS[0] if "." in name]
DEVICES = list(dict.fromkeys(row["analog.cells.device"] for row in ROWS))
LABELS = dict(zip(DEVICES, value_labels(DEVICES), strict=True))
CHIPS = {(row["analog.cells.device"], row["analog.rows"], row["analog.columns"]): row for row in ROWS}


def lines():
    """Of the first table: for a device and an array accuracy and energy-delay-area product of every other setting."""
    for device, rows, columns in CHIPS:
        cells = [
            f"{100 * float(row['accuracy']):.0f}, {float(row['edap_j_s_mm2']) * 1e6:.3g}"
            for row in sorted(ROWS, key=lambda row: (row["scheduler.first_timesteps"], row["analog.adc.bits"]))
            if (row["analog.cells.device"], row["analog.rows"], row["analog.columns"]) == (device, rows, columns)
        ]
        yield f"| {LABELS[device]} | {rows} x {columns} | {' | '.join(cells)} |"


def chip_lines(trace):
    """Of the second: slices, tiles that are needed and built, and area with converters of 4 and 6 bits."""
    for device, rows, columns in CHIPS:
        areas = {
            row["analog.adc.bits"]: f"{float(row['area_mm2']):.3g}"
            for row in ROWS
            if (row["analog.cells.device"], row["analog.rows"], row["analog.columns"]) == (device, rows, columns)
        }
        settings = (f"analog.cells.device={device}", f"analog.rows={rows}", f"analog.columns={columns}", "noc.rows=fit")
        settings += ("scheduler.encoder=skipped",)
        chip = load_accelerator(ROOT / "hwconfigs" / "imc_cnn.yaml", settings).specialised_for(trace)
        needed = sum(len(map_layer(chip.config, stage).shares) for stage in stages_of(trace, chip.layers(trace)))
        tiles = f"{chip.config.analog.slices(8)} | {needed} of {chip.config.tiles}"
        yield f"| {LABELS[device]} | {rows} x {columns} | {tiles} | {areas['4']} | {areas['6']} |"


@pytest.fixture
def command(monkeypatch):
    """The study's command."""
    spec = importlib.util.spec_from_file_location("imc_exploration", FOLDER / "__main__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_command_asks_for_the_points_of_the_sweep(command):
    points = itertools.product(*([str(value) for value in values] for values in command.SETTINGS.values()))
    assert [tuple(row[name] for name in command.SETTINGS) for row in ROWS] == list(points)


def test_the_command_sweeps_and_draws(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "SETTINGS", {"analog.adc.bits": [4, 6], "scheduler.first_timesteps": [1]})
    command.main(["-o", str(tmp_path), "--images", "2", "--jobs", "1"])
    with (tmp_path / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["analog.adc.bits"], row["evaluation_images"], row["error"]) for row in rows] == [
        ("4", "2", ""),
        ("6", "2", ""),
    ]
    assert "sweep_accuracy.png" in capsys.readouterr().out


def test_the_page_has_the_numbers_of_its_sweep():
    assert [line for line in lines() if line not in PAGE] == []
    assert all(f"--set {name}=" in PAGE or f'--set "{name}=' in PAGE for name in SETTINGS)
    assert all(device in PAGE for device in DEVICES)


def test_the_page_has_the_chips_that_were_built():
    trace = load_trace(ROOT / "workloads" / "vgg9_evaluation.npz")
    assert [line for line in chip_lines(trace) if line not in PAGE] == []


@pytest.mark.parametrize("timesteps", ["1", "4"])
def test_the_exact_network_is_the_same_in_all_points(timesteps):
    exact = {row["exact_accuracy"] for row in ROWS if row["scheduler.first_timesteps"] == timesteps}
    assert len(exact) == 1
    assert f"{100 * float(exact.pop()):.0f} %" in PAGE
    assert not any(row["error"] for row in ROWS)
