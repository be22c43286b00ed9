"""The table of columns against everything that archsim writes: nothing is missing there, and nothing in it is made up.

The machines are those that write something that no other does; small traces, on the reference engine.
"""

import csv
import json

import numpy as np
import pytest

from archsim import adapting, sweeping
from archsim.cli import main
from archsim.report import columns as table
from archsim.report import comparison, files
from archsim.simulate import load_accelerator, run
from archsim.trace import ImageSet, Operation, save_trace
from archsim.trace.synthetic import first_spike_layer
from tests.decomposed_traces import training_step
from tests.machines import MACHINES, ROOT, ann, fitting
from tests.small_traces import attention, build, tiny, trained

DEFINED = {(column.name, file) for column in table.columns() for file in column.files}
FIT = ("noc.rows=fit",)
CASES = {
    "loas": (tiny, ()),
    "loas, no speculation": (tiny, ("pe.speculation=false",)),
    "gospa_snn": (tiny, ()),
    "gamma": (lambda: ann(1, m=3, n=4, k=40), ()),
    "prosperity": (tiny, ()),
    "stellar": (tiny, ()),
    "spinalflow": (tiny, ()),
    "ttfs": (lambda: first_spike_layer(5, 4, 40), ()),
    "manycore": (tiny, ()),
    "sata_training": (trained, ()),
    "tt_snn_training": (lambda: training_step("ptt"), ()),
    "spikesim": (tiny, FIT),
    "imc_ideal": (attention, FIT),
}


def hardware(case):
    return ROOT / "hwconfigs" / f"{case.partition(',')[0]}.yaml"


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    """The trace of each case, as a file."""
    folder = tmp_path_factory.mktemp("traces")
    made = {case: folder / f"{case}.npz" for case in CASES}
    for case, (make, _) in CASES.items():
        save_trace(make(), made[case])
    return made


@pytest.fixture(scope="module")
def reports(traces):
    """A run of each case."""
    found = {}
    for case, (make, overrides) in CASES.items():
        timesteps = f"timesteps={make().timesteps}"
        found[case] = run(hardware(case), traces[case], overrides=(timesteps, *overrides), engine="reference")
    return found


def written(texts):
    """(name, file) of all columns and keys in the files of a results folder."""
    found = set()
    for file, text in texts.items():
        if file.endswith(".csv"):
            found |= {(name, file) for name in next(csv.reader([text.splitlines()[0]]))}
        if file.endswith(".json"):
            content = json.loads(text)
            found |= {(name, file) for name in content}
            found |= {(name, table.EVENTS) for name in content.get("events", ())}
            found |= {(name, table.LEFT_OUT) for one in content.get("left_out", ()) for name in one}
            found |= {(name, table.EVIDENCE) for one in content.get("evidence", ()) for name in one}
            found |= {(name, table.ESTIMATE) for name in content.get("estimate", ())}
            found |= {(name, table.NEUROBENCH) for name in content.get("neurobench", ())}
    return found


def of_runs(reports):
    return {pair for report in reports.values() for pair in written(report.texts())}


def of_comparisons(reports):
    text = files.csv_text(comparison.rows(reports), comparison.COLUMNS)
    return written({table.COMPARISON: text})


def of_sweeps():
    """A setting's column has the setting's name; the table has an entry for all of them."""
    plan = sweeping.Sweep(hardware("loas"), (), (sweeping.Axis("pe.count", ("8",)),))
    names = sweeping.columns(plan, ("cycles",))
    return {(table.SETTING if name == "pe.count" else name, table.SWEEP) for name in names}


def of_adaptations(path):
    """Of a layer of pixels, with images to find corrections with and to judge them by."""
    draw = np.random.default_rng(0)
    images, more = (draw.integers(0, 256, (count, 1, 2, 3), dtype=np.uint8) for count in (2, 6))
    layer = Operation("fc", "linear", ("pixels",), "logits", weight=draw.integers(-9, 10, (3, 6), dtype=np.int8))
    known = ImageSet(more, draw.integers(0, 3, 6))
    save_trace(build([layer], {"pixels": images}, 1, calibration=known, evaluation=known), path)
    return written(adapting.adapt(hardware("imc_ideal"), path, overrides=("timesteps=1",)).texts())


def of_commands(traces, capsys):
    """Heads of the tables that commands write into pipes, which empty lines separate."""
    found = set()
    for file, command in (
        (table.INFO, ["trace", "info", str(traces["sata_training"])]),
        (table.INFO, ["trace", "info", str(traces["tt_snn_training"])]),
        (table.CHECK, ["trace", "check", str(traces["loas"])]),
        (table.EXPLAIN, ["explain", "loas"]),
        (table.EXPLAIN, ["explain", "manycore", "--trace", str(traces["manycore"])]),
    ):
        assert main(command) == 0
        blocks = capsys.readouterr().out.split("\n\n")
        found |= {(name, file) for block in blocks for name in block.splitlines()[0].split("\t")}
    return found


def test_the_table_is_what_is_written(reports, traces, tmp_path, capsys):
    found = of_runs(reports) | of_comparisons(reports) | of_sweeps() | of_adaptations(tmp_path / "adapted.npz")
    found |= of_commands(traces, capsys)
    assert found - DEFINED == set(), "written, but not in archsim/report/columns.py"
    assert DEFINED - found == set(), "in archsim/report/columns.py, but never written"


@pytest.mark.parametrize("path", MACHINES, ids=lambda path: path.stem)
def test_every_event_of_every_machine_is_defined(path):
    machine = load_accelerator(path)
    trace = fitting(machine, 1, m=3, n=4, k=40)
    machine = machine.specialised_for(trace)
    results = machine.run_layers(trace, machine.layers(trace), "reference", verify=False, record=False)
    assert {(name, table.EVENTS) for result in results for name in result.events} <= DEFINED


def test_the_command_says_what_a_name_means(capsys):
    assert main(["columns"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(table.columns())
    assert main(["columns", "cycles", "timing.json"]) == 0
    head, *rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert head == ["name", "unit", "files", "meaning"]
    assert [(row[0], row[1]) for row in rows] == [("cycles", "cycles")] * 2 + [("engine_wall_s", "s")]
    assert rows[0][2] == "layers.csv"


def test_the_command_knows_no_other_name(capsys):
    assert main(["columns", "cycle", "layerz.csv"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "'cycle' (did you mean 'cycles'?)" in lines[0]
    assert "'layerz.csv' (did you mean 'layers.csv'?)" in lines[1]
