"""OS-Prompt: the traces do what they say, machines compute them, and stored tables and sentences are of one piece."""

from __future__ import annotations

import statistics

import numpy as np
import pandas as pd
import pytest

from archsim import run
from archsim.trace import load_trace, save_trace
from archsim.trace.calibrated import calibrated
from archsim.trace.prompted import VIT_B16, Transformer, part, passes, total
from archsim.trace.resimulation import check_trace
from tests.machines import ROOT
from tests.studies import modules_of

FOLDER = ROOT / "benchmarks" / "papers" / "os_prompt_eccv24"
TRACES = {"two_stage": "two_stage_prompt", "os": "os_prompt"}
MODULES = ("jobs", "tables", "sentences")
LABELS = {"kind": "synthetic", "weights": "synthetic"}


@pytest.fixture(scope="module")
def study():
    with modules_of(FOLDER, *MODULES) as modules:
        yield modules


@pytest.fixture(scope="module")
def stored():
    """The rows of every table, as the command wrote them."""
    names = ("macs", "streamed", "small", "resident", "class_incremental")
    return {name: pd.read_csv(FOLDER / "results" / f"{name}.csv") for name in names}


def trace_of(variant):
    return load_trace(ROOT / "workloads" / f"{TRACES[variant]}.npz")


@pytest.mark.parametrize("variant", TRACES)
def test_traces_are_the_plan(variant, study):
    """Operation by operation the shapes of the generator, and nothing differs when it is computed again."""
    trace, plan = trace_of(variant), passes(study.jobs.SMALL, variant, "inference")
    assert [operation.name for operation in trace.operations] == [step.name for step in plan.steps]
    for operation, step in zip(trace.operations, plan.steps, strict=True):
        assert (operation.op, list(operation.inputs)) == (step.record["op"], step.record["inputs"])
        assert (operation.output_shape, operation.k) == (step.shapes.output, step.shapes.k)
    assert all(row.mismatches == 0 for row in check_trace(trace))
    assert trace.provenance["kind"] == "trained"


@pytest.mark.parametrize("variant", TRACES)
def test_a_prompt_is_the_sum_that_its_cosines_say(variant, study):
    """In real numbers, from the token that asks: cosines with the keys, and the sum of components they weight."""
    trace, network = trace_of(variant), study.jobs.SMALL
    for number in range(network.blocks):
        at = f"encoder{number}.prompt"
        asking = f"{at}.token" if variant == "os" else "query.norm"
        token = trace.operand(asking)[0, :, 0, 0].astype(float)
        keys, components = (trace.operation(f"{at}.{name}").weight[:, :, 0, 0] for name in ("near", "prefix"))
        keys = keys / np.linalg.norm(keys, axis=1, keepdims=True)
        near = trace.operand(f"{at}.near")[0, :, 0, 0] * trace.scale(f"{at}.near")
        assert np.abs(near - keys @ (token / np.linalg.norm(token))).max() < 0.03
        # Each row of components has a scale of its own, so that only one factor a row is free.
        prefix = trace.operand(f"{at}.prefix")[0, :, 0, 0].astype(float)
        few = trace.operation(f"{at}.prefix").requantiser
        wanted = components.astype(float) @ trace.operand(f"{at}.near")[0, :, 0, 0] * few.multiplier / 2.0**few.shift
        assert np.abs(prefix - np.clip(wanted, -128, 127)).max() <= 1
        first = trace.operand(f"encoder{number}.key.joined")[0, : network.length, :, 0]
        assert np.array_equal(first.ravel(), prefix[: network.length * network.width])


@pytest.mark.slow
@pytest.mark.parametrize("machine", ["systolic", "sparten", "gamma", "imc_ideal"])
@pytest.mark.parametrize("variant", TRACES)
def test_machines_compute_it(variant, machine, study):
    more = study.tables.FIT if machine == study.tables.IMC else ()
    path = ROOT / "workloads" / f"{TRACES[variant]}.npz"
    summary = run(ROOT / "hwconfigs" / f"{machine}.yaml", path, overrides=more).summary()
    assert (summary["mismatches"], summary["coverage"]) == (0, 1)


def test_attention_waits_for_its_prompt(tmp_path):
    """On the chip whose layers all work at once: prompts that are there from the start make the pass shorter."""
    tiny = Transformer(
        side=4, patch=2, colours=1, width=8, heads=2, hidden=8, depth=2, classes=3, blocks=2, pool=6, length=2
    )
    steps = passes(tiny, "os", "inference").steps
    cycles = []
    for name, chosen in (("os", steps), ("given", [step for step in steps if ".prompt." not in step.name])):
        path = tmp_path / f"{name}.npz"
        save_trace(calibrated(part(chosen), 0.5, LABELS, network=name, timesteps=1, images=1, seed=0), path)
        cycles.append(run(ROOT / "hwconfigs" / "imc_ideal.yaml", path, overrides=["noc.rows=fit"]).summary()["cycles"])
    assert cycles[0] > cycles[1]


def test_macs_are_those_of_the_shapes(stored):
    for row in stored["macs"].itertuples():
        ours = total(passes(VIT_B16, row.variant, row.phase))
        assert row.gmacs == pytest.approx(ours / 1e9, rel=1e-5)
        assert row.ratio == pytest.approx(ours / total(passes(VIT_B16, "two_stage", row.phase)), rel=1e-5)
    deviations = stored["macs"].deviation_percent.abs()
    assert deviations.max() < 0.5


@pytest.mark.parametrize(("name", "group"), [("streamed", ["array", "phase"]), ("small", ["machine", "phase"])])
def test_ratios_are_of_two_stages(stored, name, group):
    table = stored[name]
    moved = table.dram_read_bytes + table.dram_write_bytes
    for _, rows in table.groupby(group):
        base = rows[(rows.variant == "two_stage")].index[0]
        energy = next(column for column in ("energy_mj", "energy_uj") if column in table)
        for column, values in (("cycles", table.cycles), ("energy", table[energy]), ("dram", moved)):
            ratios = table[f"{column}_ratio"][rows.index]
            assert ratios.to_numpy() == pytest.approx((values[rows.index] / values[base]).to_numpy(), rel=1e-4)
    if name == "small":
        assert (table.mismatches == 0).all()


def test_what_remains_of_a_half(stored):
    """Streamed, all that is moved and done comes twice; resident, only the area is spared."""
    one = stored["streamed"].set_index(["array", "phase", "variant"]).loc[("8 x 8", "inference", "os")]
    for column, near in (("cycles_ratio", 0.005), ("energy_ratio", 0.005), ("dram_ratio", 0.01)):
        assert one[column] == pytest.approx(0.5, abs=near)
    resident = stored["resident"].set_index(["variant", "weights"])
    os, twice, once = (resident.loc[key] for key in (("os", "once"), ("two_stage", "twice"), ("two_stage", "once")))
    assert os.interval_cycles / twice.interval_cycles > 0.85 > 0.65 > os.interval_cycles / once.interval_cycles
    assert resident.loc["given", "once"].latency_cycles < os.latency_cycles
    assert twice.area_mm2 > 1.7 * os.area_mm2


def test_accuracies_are_those_of_the_runs(stored, study):
    runs = pd.read_csv(FOLDER / "results" / "class_incremental_runs.csv")
    assert (runs.groupby("method").seed.nunique() >= 3).all()
    for method, name in study.tables.METHODS.items():
        own = runs[runs.method == method]
        row = stored["class_incremental"].set_index("method").loc[name]
        for what in ("accuracy", "forgetting"):
            values = [100 * value for value in own[what]]
            assert row[f"{what}_percent"] == pytest.approx(statistics.mean(values), rel=1e-4)
            assert row[f"{what}_deviation"] == pytest.approx(statistics.stdev(values), rel=1e-3)
    names = [study.tables.METHODS[method] for method in ("soft", "coda", "os", "os++")]
    four = stored["class_incremental"].set_index("method").loc[names]
    assert np.ptp(four.accuracy_percent) < four.accuracy_deviation.min()  # as the sentence says
    for run_ in runs.to_dict("records"):
        last = [run_[f"task{task}_after_5"] for task in range(1, 6)]
        assert run_["accuracy"] == pytest.approx(np.mean(last), abs=1e-4)
        gone = [
            max(run_[f"task{task}_after_{after}"] for after in range(task, 6)) - last[task - 1] for task in range(1, 5)
        ]
        assert run_["forgetting"] == pytest.approx(np.mean(gone), abs=1e-4)


def test_sentences_are_those_of_the_tables(stored, study):
    readme = " ".join((FOLDER / "README.md").read_text(encoding="utf-8").split())
    rows = {name: table.astype(object).where(table.notna(), None).to_dict("records") for name, table in stored.items()}
    for sentence in study.sentences.sentences(rows):
        assert " ".join(sentence.split()) in readme
