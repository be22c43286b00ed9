"""TT-SNN's machine: engines, closed forms of its products, and its pipeline against a recurrence."""

import csv

import numpy as np
import pytest

from archsim.dataflow.cluster_pipeline import ClusterPipeline, StageWork
from archsim.dataflow.decomposed import Array, by_positions, by_weights, strips_of, wanted_strips, words_of
from archsim.simulate import load_accelerator, run
from archsim.trace import save_trace
from archsim.trace.tensor_train import Convolution, decomposed_in, size_of
from tests.decomposed_traces import LAYER, training_step
from tests.machines import ROOT, same

HARDWARE = ROOT / "hwconfigs" / "tt_snn_training.yaml"
MODES = ("stt", "ptt", "htt")
C1 = f"{LAYER}.c1"
STAGES = ["forward", "potential_gradient", "backward", "update"]


def results(trace, *overrides, engine="compiled", hardware=HARDWARE, record=False):
    machine = load_accelerator(hardware, overrides).specialised_for(trace)
    return list(machine.run_layers(trace, machine.layers(trace), engine, verify=True, record=record))


def works(trace, *overrides):
    machine = load_accelerator(HARDWARE, overrides).specialised_for(trace)
    found = machine.cluster_work(trace, trace.operation(C1), False)
    return machine, [work for work in found if isinstance(work, StageWork)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "overrides", [(), ("memory.ideal=true",), ("scheduler.sparsity=skipping", "pe.rows=16")], ids=str
)
@pytest.mark.parametrize("neuron", [True, False])
def test_engines_agree_and_nothing_differs_from_the_trace(mode, overrides, neuron):
    trace = training_step(mode, 1, neuron=neuron, side=7, outputs=17)
    fast, slow = (results(trace, *overrides, engine=engine, record=True) for engine in ("compiled", "reference"))
    assert [one.layer for one in fast] == [f"{LAYER}.{stage}" for stage in STAGES if neuron or stage != STAGES[1]]
    for one, other in zip(fast, slow, strict=True):
        same(one, other)
        assert one.cycles >= one.lower_bound_cycles
    assert fast[0].mismatches == 0


def test_a_wrong_output_is_found():
    trace = training_step("ptt", 2)
    trace.arrays["tensor.out"][3] ^= 1
    assert results(trace)[0].mismatches == 1


# --- Products ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("skips", [False, True])
def test_products_against_loops(mode, skips):
    """Cycles and additions of every strip, element by element."""
    trace, array = training_step(mode, 3, side=5, outputs=7), Array(8, 3, skips)
    one = decomposed_in(trace)[C1]
    for place, part in enumerate(one.passes("forward")):
        steps, sub = int(one.open.sum()) if place in (1, 2) else trace.timesteps, part.sub
        words = words_of(trace, part, part.rows)
        found = by_positions(part, words, 2, array)
        matrix = sub.window.unroll(words)
        for strip, (first, end) in enumerate(strips_of(sub, array.rows)):
            cycles = added = 0
            for row in range(first, end, array.rows):
                live = 0
                for k in range(matrix.shape[1]):
                    for t in range(trace.timesteps):
                        spikes = sum(int(word) >> t & 1 for word in matrix[row : min(row + array.rows, end), k])
                        live += spikes > 0
                        added += spikes * sub.n
                taken = max(1, live) if skips else matrix.shape[1] * steps
                cycles += -(-sub.n // 3) * (taken + -(-steps // 2) * (8 + 3 - 2))
            assert (found.cycles[strip], found.added[strip]) == (cycles, added)


@pytest.mark.parametrize("skips", [False, True])
def test_updates_against_loops(skips):
    trace, array = training_step("htt", 4, side=4, outputs=5), Array(8, 3, skips)
    one = decomposed_in(trace)[C1]
    for place, part in enumerate(one.passes("backward-weight")):
        opened, sub = one.open if place in (1, 2) else np.ones(trace.timesteps, bool), part.sub
        words, gradients = (words_of(trace, part, operand) for operand in (part.rows, part.columns))
        found = by_weights(part, words, gradients, 4, array)
        inputs, errors = sub.window.unroll(words), np.moveaxis(gradients, 1, -1).reshape(-1, sub.n)
        for group, row in enumerate(range(0, sub.k, 8)):
            cycles = added = 0
            for column in range(0, sub.n, 3):
                live = 0
                for position in range(len(inputs)):
                    for t in range(trace.timesteps):
                        left = sum(int(word) >> t & 1 for word in inputs[position, row : row + 8])
                        right = sum(int(word) >> t & 1 for word in errors[position, column : column + 3])
                        live += left > 0 and right > 0
                        added += left * right
                taken = max(1, live) if skips else len(inputs) * int(opened.sum())
                cycles += taken + 8 + 3 - 2
            assert (found.cycles[group], found.added[group]) == (cycles, added)


def test_gating_takes_the_cycles_of_all_multiplications():
    """On an array that is filled, cycles times PEs are the MACs of the closed form, skew apart."""
    trace = training_step("ptt", 5, inputs=8, outputs=16, rank=8, side=8)
    _, (forward, *_) = works(trace)
    macs = size_of([Convolution("conv", 8, 16, 3, 8, 8, rank=8)], "ptt", 4).macs * trace.images
    folds = np.array([1, 1, 1, 2]) * trace.images * 4
    skew, neurons = 16 + 8 - 2, np.array([0, 0, 0, 4])
    assert ((forward.cycles.sum(1) - folds * (skew + neurons)) * 128).sum() == macs


def test_a_vertical_kernel_sees_its_neighbours():
    """By hand: two images of 6 lines, two lines of 6 positions in a strip of up to 16."""
    one = decomposed_in(training_step("ptt", 5))[C1]
    assert strips_of(one.subs[1], 16) == [(0, 12), (12, 24), (24, 36), (36, 48), (48, 60), (60, 72)]
    wanted, released = wanted_strips(one.subs[1], 16)
    assert (wanted.tolist(), released.tolist()) == ([2, 3, 3, 5, 6, 6], [0, 1, 3, 3, 4, 6])
    wanted, released = wanted_strips(one.subs[2], 16)
    assert wanted.tolist() == released.tolist() == [1, 2, 3, 4, 5, 6]


# --- The pipeline -----------------------------------------------------------------------------------------------------


def recurrence(work):
    """When the last cluster ends, where fetching and writing take no time: strip by strip, from the definition."""
    order = [0, 1, 2, 3] if work.stage == "forward" else [3, 2, 1, 0]
    parallel = len(work.joined) > 0
    count = int(work.items[0])
    end, join = np.zeros((4, count + 1), int), np.zeros(count + 1, int)  # [-1] is 0: before everything
    first, last = order[0], order[3]
    before = {order[1]: first, order[2]: order[1], last: order[2]}
    if parallel:
        before = {1: first, 2: first, last: "join"}

    def given_back(cluster, room, number):
        """When the cluster has given back as many strips of its input that number + 1 fit into the room."""
        needed = number + 1 - room
        if needed <= 0:
            return 0
        return end[cluster, int(np.argmax(work.released[cluster] >= needed))]

    for _ in range(4 * count + 8):  # until nothing moves: the equations have one solution
        for number in range(count):
            for cluster in order:
                start = end[cluster, number - 1]
                if cluster in before:
                    strip = work.wanted[cluster, number] - 1
                    source = before[cluster]
                    start = max(start, join[strip] if source == "join" else end[source, strip])
                for link in work.sinks[cluster]:
                    if 0 <= link < 4:
                        start = max(start, given_back(link, work.room[link], number))
                    elif link in (4, 5):
                        start = max(start, join[number - work.room[link]] if number >= work.room[link] else 0)
                end[cluster, number] = start + work.cycles[cluster, number]
            if parallel:
                start = max(join[number - 1], end[1, number], end[2, number])
                join[number] = max(start, given_back(last, work.room[work.join_sink], number)) + work.joined[number]
    return end.max()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "sizes", [{}, {"side": 16, "inputs": 40, "outputs": 9}, {"inputs": 9, "outputs": 70, "side": 9}], ids=str
)
def test_the_pipeline_against_its_recurrence(mode, sizes):
    """With ideal memory only the first fetch and the last write come on top: a cycle per line, and a few."""
    trace = training_step(mode, 6, rank=8, **sizes)
    machine, found = works(trace, "memory.ideal=true", "clusters.link_kib=64")
    for work in found[:2]:
        wanted = recurrence(work)
        cycles = ClusterPipeline(machine).run_work(work, "compiled", False).cycles
        lines = (work.read[work.fed].sum() + work.written.sum(0).max()) // 64
        assert wanted <= cycles <= wanted + lines + 20


def test_a_filled_pipeline_is_bound_by_its_slowest_cluster():
    """Many strips: the slowest cluster never waits but for the first strips."""
    for mode in MODES:
        trace = training_step(mode, 7, inputs=16, outputs=16, rank=5, side=14, images=3)
        _, (forward, backward, _) = works(trace)
        for work in (forward, backward):
            slowest = int(work.cycles.sum(1).max())
            cycles = recurrence(work)
            assert slowest <= cycles <= slowest + 3 * int(work.cycles[:, :2].sum())


def test_parallel_takes_fewer_cycles_than_sequential():
    """With the same MACs: the way through the pipeline is shorter, and nothing else differs."""
    sizes = {"inputs": 16, "outputs": 16, "rank": 5, "side": 14, "images": 1}
    sequential, parallel = (works(training_step(mode, 8, **sizes))[1][:2] for mode in ("stt", "ptt"))
    for one, other in zip(sequential, parallel, strict=True):
        np.testing.assert_array_equal(one.cycles, other.cycles)
        assert recurrence(other) < recurrence(one)


def test_closed_timesteps_take_no_cycles():
    """c2 and c3 of htt take half the cycles of ptt, in every stage; c1 and c4 as many."""
    for half, whole in zip(*(works(training_step(mode, 9))[1] for mode in ("htt", "ptt")), strict=True):
        assert (half.cycles[[0, 3]] == whole.cycles[[0, 3]]).all()
        assert (half.cycles[[1, 2]] < whole.cycles[[1, 2]]).sum() == whole.items[[1, 2]].sum()


# --- Around -----------------------------------------------------------------------------------------------------------


def test_a_link_that_is_too_small_is_refused():
    trace = training_step("ptt", 10, outputs=300, rank=200, side=16)
    machine = load_accelerator(HARDWARE, ("clusters.link_kib=16",)).specialised_for(trace)
    (problem,) = [one for one in machine.unsupported(trace) if "link_kib" in one]
    assert "the strips of conv need" in problem
    needed = problem.split("--set clusters.link_kib=")[1].split()[0]
    able = load_accelerator(HARDWARE, (f"clusters.link_kib={needed}",)).specialised_for(trace)
    assert not [one for one in able.unsupported(trace) if "link_kib" in one]


def test_a_run_reports_every_cluster(tmp_path):
    """Units, traffic, energy and coverage of a run, whose invariants hold; c1 to c4 count as simulated."""
    path = tmp_path / "step.npz"
    save_trace(training_step("htt", 11), path)
    report = run(HARDWARE, path)
    summary = report.summary()
    assert summary["coverage"] == 1.0
    assert (summary["mismatches"], summary["verified"]) == (0, True)
    report.write(tmp_path / "out")
    with (tmp_path / "out" / "units.csv").open() as file:
        units = {(row["unit"], row["instance"]) for row in csv.DictReader(file)}
    assert {("cluster", str(number)) for number in range(4)} | {("adder", "0")} <= units
    with (tmp_path / "out" / "energy.csv").open() as file:
        actions = {(row["unit"], row["action"]) for row in csv.DictReader(file) if int(row["count"]) > 0}
    assert {("adder", "add"), ("link_buffer", "read"), ("link_buffer", "write"), ("pgu", "update")} <= actions
