"""The machine for first spikes: its time in closed form, its early exits, and its sums against the trace's rule."""

import numpy as np
import pytest

from archsim.hardware.compute.first_spike import ALL, FIRST, NONE
from archsim.simulate import load_accelerator, run
from archsim.trace import Neuron, Operation, Requantiser, Trace
from archsim.trace.joins import joined_spikes
from archsim.trace.resimulation import run_times
from tests.machines import LABELS, MACHINES, ROOT, mlp, same, simulate, timed

TTFS = ROOT / "hwconfigs" / "ttfs.yaml"


def ttfs(trace, *overrides, **options):
    return simulate(trace, *overrides, hardware=TTFS, **options)[0]


def hand(times, weight, threshold, timesteps=8):
    """A layer of four inputs, one time constant per tick, E with 10 bits; its output is not stored."""
    neuron = Neuron("first_spike", np.array(threshold), time_constant=1, fraction_bits=10)
    operation = Operation("fc", "linear", ("in",), "out", weight=np.array(weight, np.int8), neuron=neuron)
    return Trace(network="hand", timesteps=timesteps, operations=[operation], tensors={"in": np.array(times)},
                 kinds={"in": "spike_time"}, provenance=LABELS)  # fmt: skip


def slow_visit(times, weights, threshold, table, stop):
    """Ticks of all neurons, spikes taken, ticks scanned and whether the last tick was looked at, tick by tick."""
    order = np.argsort(times, kind="stable")
    order = order[times[order] < len(table)]
    n, last = len(weights), len(table) - 1
    fired, scanned = np.full(n, last + 1), 0
    for taken in range(len(order) + 1):
        behind = taken == len(order)
        end = last if behind else times[order[taken]]
        begin = times[order[taken - 1]] if taken else 0
        own = order[:taken]
        ticks = {}
        for column in np.flatnonzero(fired > last):
            for tick in range(begin, end + 1):
                total = int(weights[column, own].sum()) - int(threshold[column])
                moment = sum(int(weights[column, k]) * int(table[times[k]]) for k in own)
                if total * int(table[tick]) >= moment:
                    ticks[column] = tick
                    break
        if ticks and stop == FIRST:
            least = min(ticks.values())
            ticks = {column: tick for column, tick in ticks.items() if tick == least}
        for column, tick in ticks.items():
            fired[column] = tick
        scanned += max(ticks.values()) - begin if ticks else 0
        if behind or (ticks and (stop == FIRST or (stop == ALL and (fired <= last).all()))):
            return fired, taken, scanned, behind
    raise AssertionError


@pytest.mark.parametrize("early_exit, stop", [("none", NONE), ("fired", ALL), ("decision", FIRST)])
@pytest.mark.parametrize("pes", [16, 128])
def test_ideal_cycles(early_exit, stop, pes):
    """A visit takes its spikes, the ticks of its scans, and one cycle where it looks at the last tick: nothing else
    where the array is the slowest. Two of 40 channels' worth of PEs make three tiles."""
    trace = timed(3, m=12, n=40, k=60, density=0.9)
    result = ttfs(trace, "memory.ideal=true", f"scheduler.early_exit={early_exit}", f"pe.count={pes}")
    operation = trace.operations[0]
    neuron = operation.neuron
    table = np.array([round(2**6 * np.exp(tick / 16)) for tick in range(96)])
    times, weights = trace.tensor("in").astype(int), operation.weight.astype(int)
    work = spikes = 0
    for begin in range(0, 40, pes):
        tile = slice(begin, begin + pes)
        for row in times:
            _, taken, scanned, behind = slow_visit(row, weights[tile], neuron.threshold[tile], table, stop)
            work += taken + scanned + (behind and taken > 0)
            spikes += taken
    assert result.mismatches == 0
    assert result.actions["merger", "spike"] == spikes
    assert result.compute_cycles == work
    assert result.events["scanned_ticks"] == work - spikes
    assert result.cycles == work + result.stall_cycles
    assert result.lower_bound_cycles == work


def test_by_hand():
    """Inputs 0 and 1 at tick 0 with weight 3, threshold 4: the neuron crosses on the way to input 2 at tick 5, and the
    scan finds tick 2. Two spikes, two ticks; the third spike is never taken. With no early exit it is, and so is the
    last look."""
    trace = hand([[0, 0, 5, 255]], [[3, 3, 1, 1]], [4])
    early, whole = (ttfs(trace, "memory.ideal=true", f"scheduler.early_exit={exit}") for exit in ("fired", "none"))
    assert (early.actions["merger", "spike"], early.compute_cycles) == (2, 4)
    assert (whole.actions["merger", "spike"], whole.compute_cycles) == (3, 6)


def test_a_decision_ends_the_last_layer():
    """Four neurons fire at ticks 1 to 4 or so; the first one decides, and what comes behind it is not taken."""
    trace = timed(9, m=6, n=10, k=80, density=1.0)
    whole, decided = (
        ttfs(trace, "memory.ideal=true", f"scheduler.early_exit={exit}") for exit in ("fired", "decision")
    )
    assert decided.mismatches == whole.mismatches == 0
    assert decided.compute_cycles < whole.compute_cycles


@pytest.mark.parametrize("overrides", [(), ("memory.ideal=true",), ("pe.count=16", "merger.buffer_kib=1")])
def test_engines_agree(overrides):
    trace = timed(5, n=20, size=7, stride=2)
    fast, slow = (ttfs(trace, *overrides, engine=engine, record=True) for engine in ("compiled", "reference"))
    same(fast, slow)
    assert fast.mismatches == 0


def test_narrow_registers_are_counted():
    trace = timed(5, m=6, n=10, k=80)
    narrow, wide = (
        ttfs(trace, f"pe.accumulator_bits={bits}", f"pe.potential_bits={more}") for bits, more in ((8, 12), (20, 48))
    )
    assert narrow.mismatches == wide.mismatches == 0
    assert narrow.events["accumulator_overflows"] > wide.events["accumulator_overflows"] == 0
    assert narrow.events["potential_overflows"] > wide.events["potential_overflows"] == 0


def test_more_ticks_than_lists_have():
    trace = timed(1, timesteps=96)
    problems = load_accelerator(TTFS, ("format.time_bits=4", "timesteps=16")).problems(trace)
    assert [problem.split(":")[0] for problem in problems] == ["timesteps", "format.time_bits"]


@pytest.mark.parametrize(
    "hardware",
    [path for path in MACHINES if load_accelerator(path).name not in ("ttfs", "manycore")],
    ids=lambda path: path.stem,
)
def test_other_machines_refuse_such_neurons(hardware):
    """Whatever they make of operands that are no single bits, they say what their neurons have not."""
    machine = load_accelerator(hardware)
    trace = timed(1, m=3, n=4, k=20)
    problems = machine.problems(trace)
    assert len(problems) == 1
    assert "exponential synapses and a first spike" in problems[0] or "runs ANN traces" in problems[0], problems


def test_it_refuses_other_neurons():
    (problem,) = load_accelerator(TTFS).problems(mlp(1))
    assert "ttfs runs layers of first-spike neurons that read spike times" in problem


def joined_trace(join):
    """A 3 x 3 image: each of four windows of stride 2 sees a corner, two middles of edges, and the centre; a layer, and
    beside it the earliest times of these windows, delayed; two layers behind read the join."""
    draw, channels = np.random.default_rng(4), 2 if join == "add" else 4
    neuron = Neuron("first_spike", np.array([60, 60]), time_constant=16, fraction_bits=6)

    def layer(name, op, source, *shape, **keys):
        weight = draw.integers(-20, 90, shape).astype(np.int8)
        return Operation(name, op, (source,), name, weight=weight, neuron=neuron, **keys)

    window = {"stride": (2, 2), "padding": (1, 1)}
    made = [
        Operation("encoder", "conv2d", ("pixels",), "in", weight=np.ones((2, 1, 1, 1), np.int8),
                  requantiser=Requantiser(np.array([1, 2]), 0, 8, signed=False)),
        layer("inside", "conv2d", "in", 2, 2, 3, 3, **window),
        Operation("earliest", "pool", ("in",), "beside", kernel=(3, 3), **window),
        Operation("late", "delay", ("beside",), "delayed", steps=np.array([3, 40])),
        Operation("join", join, ("inside", "delayed"), "joined", times=join == "add"),
        layer("one", "linear", "joined", 2, 4 * channels),
        layer("other", "linear", "joined", 2, 4 * channels),
    ]  # fmt: skip
    shapes = {"in": (2, 3, 3), "inside": (2, 2, 2), "beside": (2, 2, 2), "delayed": (2, 2, 2),
              "joined": (channels, 2, 2), "one": (2,), "other": (2,)}  # fmt: skip
    pixels = draw.integers(0, 130, (2, 1, 3, 3)).astype(np.uint8)
    keys = {"network": "joins", "timesteps": 96, "operations": made, "kinds": dict.fromkeys(shapes, "spike_time")}
    keys["provenance"] = LABELS
    blank = Trace(
        tensors={name: np.full((2, *shape), 255) for name, shape in shapes.items()} | {"pixels": pixels}, **keys
    )
    return Trace(tensors=run_times(blank, pixels) | {"pixels": pixels}, **keys)


def ticks_of_joins(trace):
    """By hand: spikes that are joined at each position of both images, and of what the join waits for there."""
    fired = {name: (trace.tensor(name) < 96).sum(1) for name in ("in", "inside", "beside", "delayed")}
    seen = np.pad(fired["in"], ((0, 0), (1, 1), (1, 1)))
    windows = np.array([[seen[:, 2 * y : 2 * y + 3, 2 * x : 2 * x + 3].sum((1, 2)) for x in (0, 1)] for y in (0, 1)])
    summed = fired["inside"] + fired["delayed"] if trace.operation("join").op == "add" else 0
    return (windows.transpose(2, 0, 1) + fired["beside"] + summed).ravel()


def layers_of(trace, *overrides, engine="compiled"):
    machine = load_accelerator(TTFS, overrides).specialised_for(trace)
    return list(machine.run_layers(trace, machine.layers(trace), engine, verify=True, record=True))


@pytest.mark.parametrize("join", ["add", "concat"])
def test_spikes_of_joins_are_counted(join):
    """A window compares all that spike in it, a delay or a sum takes each spike once; once, whoever reads them, and
    beside the layer before."""
    trace = joined_trace(join)
    results = layers_of(trace)
    assert [result.mismatches for result in results] == [0, 0, 0]
    assert [result.actions["join", "spike"] for result in results] == [ticks_of_joins(trace).sum(), 0, 0]


@pytest.mark.parametrize("join", ["add", "concat"])
@pytest.mark.parametrize("cycles", [1, 64])
def test_a_layer_ends_with_its_last_join(join, cycles):
    """With an ideal memory the array is through with position p at some cycle, the drain lets its spikes out, a cycle
    each, and writes a line, and the join has it behind those before. As long as positions wait for it."""
    trace = joined_trace(join)
    result = layers_of(trace, "memory.ideal=true", f"join.cycles_per_spike={cycles}", "join.positions=64")[0]
    work = cycles * ticks_of_joins(trace)
    units = {unit.unit: unit for unit in result.units}
    assert units["join"].busy_cycles == work.sum() <= result.lower_bound_cycles
    assert units["join"].idle_cycles == 0, "the last join ends the layer"
    if cycles == 64:
        assert result.cycles - work.sum() == units["join"].stall_cycles < work[0], "which waits for the first list only"


def test_positions_that_wait_for_the_join_hold_up_the_array():
    """With room for all of them it is through as if there were no join; with room for one not."""
    trace = joined_trace("concat")
    free, held = (
        {unit.unit: unit for unit in layers_of(
            trace, "memory.ideal=true", "join.cycles_per_spike=64", f"join.positions={places}", "drain.positions=1",
        )[0].units} for places in (64, 1)
    )  # fmt: skip
    assert free["array"].busy_cycles == held["array"].busy_cycles
    assert free["array"].idle_cycles > held["array"].idle_cycles
    assert free["drain"].idle_cycles > held["drain"].idle_cycles


@pytest.mark.parametrize("overrides", [(), ("memory.ideal=true", "join.cycles_per_spike=9", "join.positions=1")])
def test_engines_agree_on_joins(overrides):
    trace = joined_trace("add")
    both = (layers_of(trace, *overrides, engine=engine) for engine in ("compiled", "reference"))
    for fast, slow in zip(*both, strict=True):
        same(fast, slow)


def test_a_join_waits_for_the_last_of_its_positions():
    """Of three images of two positions each, joined in one, two and four positions an image."""
    for positions, wanted in ((1, [0, 5, 0, 5, 0, 5]), (2, [5] * 6), (4, [10] * 6)):
        delay = Operation("late", "delay", ("in",), "out", steps=np.ones(5, int))
        trace = Trace(network="hand", timesteps=8, operations=[delay], kinds={"in": "spike_time"}, provenance=LABELS,
                      tensors={"in": np.zeros((3, 5, positions, 1), int)})  # fmt: skip
        assert joined_spikes(trace, delay, 6).tolist() == wanted


def test_what_the_join_takes_in_the_shipped_network():
    """What the page of deviations says of it: spikes to join, how busy it is, and what the layer before takes more."""
    report = run(TTFS, ROOT / "workloads" / "first_spikes_delay.npz", overrides=["timesteps=trace"])
    page = (ROOT / "archsim" / "docs" / "deviations" / "ttfs.md").read_text()
    joins = [layer for layer in report.layers if layer.actions["join", "spike"]]
    assert [layer.layer for layer in joins] == ["block1.conv2", "block2.conv2"]
    shares = []
    for layer in joins:
        joined = layer.actions["join", "spike"]
        assert f"{joined:,}" in page and f"{layer.cycles:,}" in page
        shares.append(f"{100 * joined / layer.cycles:.0f}")
    assert f"{' and '.join(shares)} % busy" in page
