"""The many-core chip against closed forms, a slow twin, and what must be conserved."""

import csv
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from archsim.accelerators.manycore import ADDED, COLUMN_HOPS, DELIVERED, RECEIVED, ROW_HOPS, SENT, ManyCore
from archsim.dataflow import core_chip as chip
from archsim.dataflow import core_statistics as statistics
from archsim.dataflow import mesh
from archsim.dataflow.core_mapping import balanced
from archsim.dataflow.core_path import Path
from archsim.dataflow.cores import BEGUN, KEPT
from archsim.dataflow.mesh import SIDES, flows
from archsim.dataflow.populations import Population, Synapses, inputs_of, populations_of, reached, received, stored
from archsim.engine.outcome import BUSY
from archsim.engine.result import CoreLoad, LinkLoad
from archsim.errors import ConfigError, UsageError
from archsim.simulate import load_accelerator, run
from archsim.trace import ImageSet, Neuron, Operation, Trace, load_trace, save_trace
from archsim.trace.window import Window
from tests.accelerators.manycore_twin import cycles_of, free_cycles_of
from tests.machines import LABELS, ROOT, conv, mlp, same, simulate
from tests.small_traces import build, lif

MANYCORE = ROOT / "hwconfigs" / "manycore.yaml"
COUNTS = ROOT / "benchmarks" / "oracles" / "foreign_rtl" / "counts"


def machine(*overrides, hardware=MANYCORE):
    """Overrides that come later go before those of the same path."""
    last = {one.split("=")[0]: one for one in ("timesteps=16", *overrides)}
    return load_accelerator(hardware, list(last.values()))


def ran(built, populations, engine="compiled"):
    return built.simulate(engine, built._program(chip.place(built.config, populations)), True)


def chain(sizes, spikes, weights):
    """Linear layers one behind the other; ``spikes`` [layers][sequence, size], ``weights`` [layers - 1] bool [N, K]."""
    found, first = [], 0
    for depth, size in enumerate(sizes):
        synapses = ()
        if depth:
            sources = np.arange(first - sizes[depth - 1], first).reshape(-1, 1, 1)
            synapses = (Synapses(sources, Window(), 1, weights[depth - 1][:, :, None, None], False),)
        found.append(Population(f"l{depth}", first, (size, 1, 1), depth, spikes[depth], synapses))
        first += size
    return found


SMALL = (
    "noc.rows=2", "noc.columns=2", "noc.cores=1", "pe.count=4", "pe.neurons=1", "scheduler.barrier_cycles=0",
    "neuron.access_cycles=0", "neuron.cycles=1", "neuron.spike_cycles=0", "synapse.message_cycles=5",
)  # fmt: skip


@pytest.mark.parametrize("engine", ["compiled", "reference"])
@pytest.mark.parametrize("core", range(4))
def test_one_event_over_h_hops(engine, core):
    """A host port sends one spike to the only neuron, core after core: 4 before it is ready, 1 into the first link,
    7 for a row link, 9 for a column link, 2 out; 5 + 3 at the synapse; and the neuron's step behind it, 1 cycle."""
    built = machine(
        *SMALL, "host.message_cycles=4", "noc.row_cycles=7", "noc.column_cycles=9", "noc.out_cycles=2",
        "synapse.sparse_cycles=3",
    )  # fmt: skip
    fires = [np.array([[True]]), np.array([[False]])]
    populations = chain([1, 1], fires, [np.ones((1, 1), bool)])
    placed = chip.place(built.config, populations)
    moved = chip._placed(built.config, populations, [placed.mapped[0]._replace(cores=(core,))], placed.formats)
    outcome = built.simulate(engine, built._program(moved), True)
    row, column = divmod(core, 2)
    assert outcome.cycles == 4 + 1 + 7 * column + 9 * row + 2 + 5 + 3 + 1
    assert outcome.counts[:, [ROW_HOPS, COLUMN_HOPS, DELIVERED]].sum(0).tolist() == [column, row, 1]


@pytest.mark.parametrize("engine", ["compiled", "reference"])
def test_a_link_takes_a_message_a_cycle(engine):
    """16 spikes of a host that is always ready to a core whose synapses take no time: 1 into the link, 1 out, and one
    message a cycle; then the neuron, 1 cycle."""
    built = machine(
        *SMALL, "host.message_cycles=0", "noc.row_cycles=1", "noc.column_cycles=1", "noc.out_cycles=1",
        "synapse.sparse_cycles=0", "synapse.message_cycles=0",
    )  # fmt: skip
    fires = [np.ones((1, 16), bool), np.zeros((1, 1), bool)]
    outcome = ran(built, chain([16, 1], fires, [np.ones((1, 16), bool)]), engine)
    assert outcome.cycles == 2 + 15 + 1


@pytest.mark.parametrize("engine", ["compiled", "reference"])
def test_a_core_that_is_slower_holds_up_the_mesh(engine):
    """The same with 10 cycles a message at the core: 16 of them behind the first arrival, whatever the buffers."""
    for buffer in (1, 4):
        built = machine(
            *SMALL, "host.message_cycles=0", "noc.row_cycles=1", "noc.column_cycles=1", "noc.out_cycles=1",
            "synapse.sparse_cycles=0", "synapse.message_cycles=10", f"noc.buffer={buffer}", f"pe.queue={buffer}",
        )  # fmt: skip
        fires = [np.ones((1, 16), bool), np.zeros((1, 1), bool)]
        outcome = ran(built, chain([16, 1], fires, [np.ones((1, 16), bool)]), engine)
        assert outcome.cycles == 2 + 160 + 1


def test_a_network_of_d_layers_takes_t_plus_d_minus_one_steps():
    """Three layers of silent neurons, seven timesteps: 9 steps of 1 cycle for a neuron and 20 for the barrier."""
    built = machine(*SMALL[:-1], "scheduler.barrier_cycles=20")
    sizes = [3, 1, 1]
    fires = [np.zeros((7, size), bool) for size in sizes]
    weights = [np.ones((1, 3), bool), np.ones((1, 1), bool)]
    assert ran(built, chain(sizes, fires, weights)).cycles == 9 * 21


def random_case(seed, **more):
    """(machine, populations, layers for the twin)."""
    draw = np.random.default_rng(seed)
    integer = lambda low, high: int(draw.integers(low, high + 1))  # noqa: E731
    rows, columns, cores = integer(1, 3), integer(1, 3), integer(1, 2)
    count = rows * columns * cores
    sizes = [integer(1, 12)] + [integer(1, 9) for _ in range(integer(1, min(3, count)))]
    room = max(1, -(-sum(sizes[1:]) // count) + integer(0, 3))
    while sum(-(-size // room) for size in sizes[1:]) > count:
        room += 1
    settings = {
        "noc.rows": rows, "noc.columns": columns, "noc.cores": cores, "pe.count": count, "pe.neurons": room,
        "noc.buffer": integer(1, 3), "pe.queue": integer(1, 3), "noc.row_cycles": integer(1, 4),
        "noc.column_cycles": integer(1, 4), "noc.out_cycles": integer(1, 3), "host.ports": integer(1, rows),
        "host.message_cycles": integer(0, 2), "neuron.access_cycles": integer(0, 2), "neuron.cycles": integer(1, 2),
        "neuron.spike_cycles": integer(0, 3), "neuron.message_cycles": integer(0, 2),
        "synapse.message_cycles": integer(0, 3), "synapse.sparse_cycles": integer(0, 2),
        "scheduler.barrier_cycles": integer(0, 5),
        "scheduler.mapping": ["in_order", "neurons", "operations", "traffic"][seed % 4],
        **{path.replace("__", "."): value for path, value in more.items()},
    }  # fmt: skip
    built = machine(*(f"{path}={value}" for path, value in settings.items()))
    sequence = integer(1, 4)
    fires = [draw.random((sequence, size)) < draw.choice([0.2, 0.6, 1.0]) for size in sizes]
    weights = [draw.random((after, before)) < 0.7 for before, after in pairwise(sizes)]
    populations = chain(sizes, fires, weights)
    placed = chip.place(built.config, populations)
    layers, first = [(None, sizes[0])], 0
    for depth, (weight, mapped) in enumerate(zip(weights, placed.mapped, strict=True), 1):
        sources = list(range(first, first + sizes[depth - 1]))
        layers.append((sources, weight, mapped.ends, mapped.cores, built.config.synapse.sparse_cycles, depth))
        first += sizes[depth - 1]
    spikes = [[np.flatnonzero(row).tolist() for row in fired] for fired in fires]
    return built, placed, layers, spikes, sequence + len(sizes) - 1


def agree(fast, slow):
    """Both engines ended every operation in the same cycle, and counted the same."""
    assert fast.cycles == slow.cycles
    np.testing.assert_array_equal(fast.times, slow.times)
    np.testing.assert_array_equal(fast.counts, slow.counts)
    for agent in range(len(fast.times)):
        ends = (outcome.completions[outcome.completions[:, 0] == agent, 1] for outcome in (fast, slow))
        np.testing.assert_array_equal(*ends)


@pytest.mark.parametrize("seed", range(60))
def test_random_meshes_take_the_cycles_of_the_slow_twin_in_both_engines(seed):
    built, placed, layers, spikes, steps = random_case(seed)
    fast, slow = (built.simulate(engine, built._program(placed), True) for engine in ("compiled", "reference"))
    assert fast.cycles == cycles_of(built.config, layers, spikes, steps)
    agree(fast, slow)
    # What is sent arrives, and takes the links of its way; spikes times fan-out are the synapses that are added.
    counts = fast.counts.sum(0)
    assert counts[SENT] == counts[DELIVERED] == counts[RECEIVED] == placed.events.sent.sum()
    fan_out = sum(
        int(layer[1][:, spikes[depth][place]].sum())
        for depth, layer in enumerate(layers[1:]) for place in range(len(spikes[depth]))
    )  # fmt: skip
    assert counts[ADDED] == fan_out
    _, hops = flows(built.config.noc, placed.events.sent)
    assert counts[[ROW_HOPS, COLUMN_HOPS]].tolist() == (placed.events.sent[..., None] * hops).sum((0, 1)).tolist()
    check_statistics(built, placed, fast)


def check_statistics(built, placed, outcome):
    """Work in closed form is what agents were busy, step by step; causes add up to the run; loads are those counted."""
    program = built._program(placed)
    assert built.simulate("compiled", program, False).cycles == outcome.cycles
    meeting = program.diagram.ends["router"]
    used = [core for part in placed.mapped for core in part.cores]
    worked = statistics.working(built.config, placed.events, placed.rows, used, built._synapse_cycles(placed))
    np.testing.assert_array_equal(worked.sum(1), outcome.times[meeting:, BUSY])
    ends = program.state[meeting:, built.columns() :]
    barrier = built.config.scheduler.barrier_cycles
    begin = np.concatenate([[0], ends.max(0)[:-1] + barrier])
    assert (ends - begin >= worked).all()
    told = list(built._told(placed, program))
    events = [one["events"] for one in told]
    causes = [sum(count for name, count in one.items() if name.startswith("critical_")) for one in events]
    assert sum(causes) == outcome.cycles
    assert sum(one["critical_barrier_cycles"] for one in events) == barrier * ends.shape[1]
    loads = [core for one in told for core in one["cores"]]
    synapses = outcome.counts[program.diagram.ends["host"] :]
    assert [core.operations for core in loads] == synapses[:, ADDED].tolist()
    assert [core.messages for core in loads] == synapses[:, RECEIVED].tolist()
    by_step = placed.events.added.max(0).sum()
    assert sum(one["busiest_core_step_operations"] for one in events) == by_step >= max(synapses[:, ADDED], default=0)
    over, _ = flows(built.config.noc, placed.events.sent)
    taken = np.zeros_like(over)
    for link in (link for one in told for link in one["links"]):
        taken[4 * (link.row * built.config.noc.columns + link.column) + SIDES.index(link.side)] += link.messages
    np.testing.assert_array_equal(taken, over)
    from_host = placed.events.sent[built.config.pe.count :].sum()
    assert taken.sum() == outcome.counts[:, [ROW_HOPS, COLUMN_HOPS]].sum() + from_host


@pytest.mark.parametrize("core", range(4))
def test_what_a_step_waits_for(core):
    """The one event over h hops: the synapses are last in the first step, with 5 + 3 cycles of work and a wait of 4 for
    the host, 1 into the first link and those of the way; in the second step it is the neuron, with 1. Barriers take 6.
    """
    built = machine(
        *SMALL[:5], *SMALL[6:], "host.message_cycles=4", "noc.row_cycles=7", "noc.column_cycles=9", "noc.out_cycles=2",
        "synapse.sparse_cycles=3", "scheduler.barrier_cycles=6",
    )  # fmt: skip
    fires = [np.array([[True]]), np.array([[False]])]
    populations = chain([1, 1], fires, [np.ones((1, 1), bool)])
    placed = chip.place(built.config, populations)
    moved = chip._placed(built.config, populations, [placed.mapped[0]._replace(cores=(core,))], placed.formats)
    row, column = divmod(core, 2)
    for engine in ("compiled", "reference"):
        program = built._program(moved)
        built.simulate(engine, program, False)
        (told,) = built._told(moved, program)
        assert {name: count for name, count in told["events"].items() if name.startswith("critical_")} == {
            "critical_synapse_cycles": 8, "critical_soma_cycles": 1, "critical_host_cycles": 0,
            "critical_network_cycles": 4 + 1 + 7 * column + 9 * row + 2, "critical_barrier_cycles": 12,
        }  # fmt: skip


def test_a_host_port_that_is_last_is_what_a_step_waits_for():
    """Synapses without time wait for the 30 cycles of the port, 1 into the link and 1 out; of a table of ends, the
    port is last in the first of two steps."""
    built = machine(
        *SMALL, "host.message_cycles=30", "noc.row_cycles=1", "noc.column_cycles=1", "noc.out_cycles=1",
        "synapse.sparse_cycles=0", "synapse.message_cycles=0",
    )  # fmt: skip
    fires = [np.ones((1, 1), bool), np.zeros((1, 1), bool)]
    placed = chip.place(built.config, chain([1, 1], fires, [np.ones((1, 1), bool)]))
    program = built._program(placed)
    built.simulate("compiled", program, False)
    (told,) = built._told(placed, program)
    assert told["events"]["critical_network_cycles"] == 32 and told["events"]["critical_soma_cycles"] == 1
    ends = np.array([[9, 25], [7, 31]])
    found = statistics.critical(ends, np.array([[4, 2], [5, 6]]), 10)
    assert [numbers.tolist() for numbers in found] == [[0, 1], [4, 6], [5, 6], [10, 10]]
    members = {"synapse": np.array([1]), "host": np.array([0])}
    assert statistics.by_cause(found, members) == {
        "critical_synapse_cycles": 6, "critical_host_cycles": 4, "critical_network_cycles": 11,
        "critical_barrier_cycles": 20,
    }  # fmt: skip


def test_how_even_a_chip_is_loaded():
    """Two layers: cores of 6, 2 and 1 operations, 3 on average; links of 4 + 2 and 3 messages."""
    trace = mlp(1)
    (result,) = simulate(trace, hardware=MANYCORE)
    loads = [CoreLoad(core, 0, core, 0, 1, 1, operations) for core, operations in enumerate((6, 2, 1))]
    ways = [LinkLoad(0, 1, "west", 4), LinkLoad(1, 1, "west", 3), LinkLoad(0, 1, "west", 2)]
    events = {"busiest_core_step_operations": 4, "hops": 3, "messages": 2}
    layers = [
        replace(result, cores=tuple(loads[:1]), links=tuple(ways[:1]), events=events),
        replace(result, cores=tuple(loads[1:]), links=tuple(ways[1:]), events={**events, "messages": 1}),
    ]
    assert statistics.evenness(layers) == {
        "busiest_over_mean_core": 2.0, "busiest_over_mean_core_by_step": 8 / 3, "hops_per_message": 2.0,
        "busiest_over_mean_link": 6 / 4.5,
    }  # fmt: skip
    idle = replace(result, cores=(), links=(), events={"busiest_core_step_operations": 0, "hops": 0, "messages": 0})
    assert set(statistics.evenness([idle]).values()) == {None}


def begin_by_what_they_wait_for(built, placed, program):
    """Every step of a soma or a host that runs freely begins when the last of what it waits for has come."""
    kept = program.state[program.diagram.ends["router"] :, built.columns() :]
    path = Path(built.config, placed, kept.reshape(len(kept), KEPT, -1), np.zeros((len(kept), 0)))
    for row, begun in enumerate(path.kept[: len(placed.rows), BEGUN]):
        for step in range(1, len(begun)):
            assert begun[step] == max(place.time for place in path.before(row, step)), (row, step)


@pytest.mark.parametrize("seed", range(30))
def test_cores_that_run_freely_take_the_cycles_of_their_slow_twin_and_do_the_same_work(seed):
    free = {"scheduler__steps": "free", "scheduler__buffers": 2 + seed % 3, "scheduler__token_cycles": seed % 4}
    built, placed, *network = random_case(seed, **free)
    programs = [built._program(placed) for _ in range(2)]
    fast, slow = (
        built.simulate(engine, program, True)
        for engine, program in zip(("compiled", "reference"), programs, strict=True)
    )
    agree(fast, slow)
    assert fast.cycles == free_cycles_of(built.config, *network)
    told, same_told = ([one["events"] for one in built._told(placed, program)] for program in programs)
    assert told == same_told
    causes = [count for one in told for name, count in one.items() if name.startswith("critical_")]
    assert len(causes) == 5 * len(placed.layers) and min(causes) >= 0 and sum(causes) == fast.cycles
    begin_by_what_they_wait_for(built, placed, programs[0])
    barrier = random_case(seed)[0]
    np.testing.assert_array_equal(fast.counts, barrier.simulate("compiled", barrier._program(placed), True).counts)


@pytest.mark.parametrize("seed", range(10))
def test_a_shared_datapath_does_the_same_work_in_both_engines(seed):
    built, placed, *_ = random_case(seed, neuron__datapath="shared")
    agree(*(built.simulate(engine, built._program(placed), True) for engine in ("compiled", "reference")))


def test_cores_of_one_datapath_do_not_run_freely():
    """Events would wait for neurons that wait for events behind them."""
    with pytest.raises(ConfigError, match=r"must be 'barrier' where neuron.datapath is 'shared', got 'free'"):
        machine("neuron.datapath=shared", "scheduler.steps=free")


@pytest.mark.parametrize("engine", ["compiled", "reference"])
@pytest.mark.parametrize("token", [0, 1, 3])
@pytest.mark.parametrize("timesteps", [1, 2, 8])
def test_a_silent_chain_that_runs_freely(engine, token, timesteps):
    """The core between two others updates its neuron and sends a token to each of them in every step, but in the first
    no sums have been read: steps (10 + 2 token) - token."""
    built = machine(*SMALL, "neuron.cycles=10", "scheduler.steps=free", f"scheduler.token_cycles={token}")
    fires = [np.zeros((timesteps, 1), bool) for _ in range(3)]
    placed = chip.place(built.config, chain([1, 1, 1], fires, [np.ones((1, 1), bool)] * 2))
    outcome = built.simulate(engine, built._program(placed), True)
    assert outcome.cycles == (timesteps + 2) * (10 + 2 * token) - token
    assert causes_of(built, placed, engine) == {
        "soma": (timesteps + 2) * 10, "barrier": (timesteps + 2) * 2 * token - token, "synapse": 0, "host": 0,
        "network": 0,
    }  # fmt: skip


def causes_of(built, placed, engine="compiled"):
    """What the run of one layer waited for, by cause."""
    program = built._program(placed)
    built.simulate(engine, program, False)
    told = [one["events"] for one in built._told(placed, program)]
    return {
        cause: sum(one[f"critical_{cause}_cycles"] for one in told)
        for cause in ("synapse", "soma", "host", "network", "barrier")
    }


@pytest.mark.parametrize("engine", ["compiled", "reference"])
@pytest.mark.parametrize("core", range(4))
def test_what_a_core_that_runs_freely_waits_for(engine, core):
    """One event over h hops: 4 cycles of the host, 1 into the first link, those of the way, 5 + 3 of the synapses, 1 of
    the neuron, and 6 of its token, which says that it has read its sums."""
    built = machine(
        *SMALL, "scheduler.steps=free", "scheduler.token_cycles=6", "host.message_cycles=4", "noc.row_cycles=7",
        "noc.column_cycles=9", "noc.out_cycles=2", "synapse.sparse_cycles=3",
    )  # fmt: skip
    fires = [np.array([[True]]), np.array([[False]])]
    populations = chain([1, 1], fires, [np.ones((1, 1), bool)])
    placed = chip.place(built.config, populations)
    moved = chip._placed(built.config, populations, [placed.mapped[0]._replace(cores=(core,))], placed.formats)
    row, column = divmod(core, 2)
    assert causes_of(built, moved, engine) == {
        "host": 4, "network": 1 + 7 * column + 9 * row + 2, "synapse": 8, "soma": 1, "barrier": 6,
    }  # fmt: skip


def test_the_path_takes_a_sender_up_to_the_message_that_was_waited_for():
    """Two of three inputs fire, each with a message to two cores, 50 cycles of the host each, and one into the link;
    the second core waits for the last one. Another layer waits for the spike of the second of two neurons, 10 cycles
    each, 7 to fire."""
    built = machine(
        *SMALL[:5], "pe.neurons=2", "scheduler.steps=free", "scheduler.token_cycles=0", "host.message_cycles=50",
        "neuron.access_cycles=0", "neuron.cycles=10", "neuron.spike_cycles=7", "neuron.message_cycles=4",
        "synapse.message_cycles=5", "synapse.sparse_cycles=0", "noc.row_cycles=3", "noc.out_cycles=3",
    )  # fmt: skip
    fires = [np.array([[True, True, False]]), np.zeros((1, 4), bool)]
    placed = chip.place(built.config, chain([3, 4], fires, [np.ones((4, 3), bool)]))
    assert causes_of(built, placed) == {"host": 4 * 50, "network": 4 + 3 + 3, "synapse": 5, "soma": 20, "barrier": 0}
    fires = [np.zeros((1, 1), bool), np.array([[False, True]]), np.zeros((1, 1), bool)]
    placed = chip.place(built.config, chain([1, 2, 1], fires, [np.ones((2, 1), bool), np.ones((1, 2), bool)]))
    assert causes_of(built, placed) == {
        "soma": 2 * 20 + 7 + 4 + 10, "network": 3 + 3, "synapse": 5, "host": 0, "barrier": 0,
    }  # fmt: skip


@pytest.mark.parametrize("slowest", ["host", "soma", "synapse", "network"])
def test_cores_that_run_freely_wait_for_what_is_slow(slowest):
    """A host that sends 4 spikes in each of 12 steps to a core; one of all takes a hundred times the cycles of the
    others, and nobody is more than a step ahead of it. Of the mesh it is the way, which takes one message at a time."""
    path = {
        "host": "host.message_cycles", "soma": "neuron.cycles", "synapse": "synapse.message_cycles",
        "network": "noc.out_cycles",
    }  # fmt: skip
    settings = {**dict.fromkeys(path.values(), 1), "synapse.sparse_cycles": 0, path[slowest]: 100}
    built = machine(*SMALL, "scheduler.steps=free", *(f"{name}={value}" for name, value in settings.items()))
    fires = [np.ones((12, 4), bool), np.zeros((12, 1), bool)]
    causes = causes_of(built, chip.place(built.config, chain([4, 1], fires, [np.ones((1, 4), bool)])))
    assert causes[slowest] > 0.85 * sum(causes.values()), causes


@pytest.mark.parametrize("buffers", [2, 3, 12])
def test_cores_that_run_freely_overlap_steps(buffers):
    """Two layers that work in turn: with a barrier a step takes the cycles of one of them; freely both work at once."""
    took = {}
    for steps in ("free", "barrier"):
        built = machine(
            *SMALL[:-1], "synapse.message_cycles=100", "host.message_cycles=0", f"scheduler.steps={steps}",
            f"scheduler.buffers={buffers}", "scheduler.token_cycles=0",
        )  # fmt: skip
        fires = [np.zeros((12, 1), bool) for _ in range(3)]
        fires[0][::2] = fires[1][::2] = True
        took[steps] = ran(built, chain([1, 1, 1], fires, [np.ones((1, 1), bool)] * 2)).cycles
    assert took["barrier"] > 12 * 100
    assert 6 * 100 < took["free"] < 0.62 * took["barrier"]


@pytest.mark.parametrize("engine", ["compiled", "reference"])
def test_no_sender_is_further_ahead_than_there_are_buffers(engine):
    """A fast host, a core with 1,000 cycles per step: the host begins step s when the core has ended step
    s - buffers + 1."""
    for buffers in (2, 3, 5):
        settings = ("scheduler.steps=free", f"scheduler.buffers={buffers}", "scheduler.token_cycles=0")
        built = machine(*SMALL, *settings, "neuron.cycles=1000", "host.message_cycles=0")
        fires = [np.ones((8, 1), bool), np.zeros((8, 1), bool)]
        program = built._program(chip.place(built.config, chain([1, 1], fires, [np.ones((1, 1), bool)])))
        built.simulate(engine, program, True)
        ends = program.state[:, built.columns() :]
        host = program.diagram.ends["soma"]
        assert program.diagram.ends["host"] == host + 1
        core = program.diagram.ends["router"]
        for step in range(1, 9):
            assert ends[host, step] >= (ends[core, step - buffers + 1] if step >= buffers else 0)
            assert ends[host, step] < ends[core, max(0, step - buffers + 1)] + 50


@pytest.mark.parametrize("engine", ["compiled", "reference"])
@pytest.mark.parametrize("n", [1, 5, 256])
def test_tinyodin_works_on_events_and_neurons_in_turn(engine, n):
    """16 events of 2 n + 1 cycles each behind the 2 n of the step's neurons; 2 n of the next step; 20 for its barrier.

    Events that are on their way when a core of few neurons begins come later: a cycle for each of what is between."""
    built = machine(f"pe.neurons={n}", hardware=ROOT / "hwconfigs" / "validation" / "manycore_tinyodin.yaml")
    assert built.config.neuron.datapath == "shared"
    fires = [np.ones((1, 16), bool), np.zeros((1, n), bool)]
    outcome = ran(built, chain([16, n], fires, [np.zeros((n, 16), bool)]), engine)
    arrives = 1 + 1 + built.config.noc.out_cycles
    assert outcome.cycles == max(2 * n, arrives) + 16 * (2 * n + 1) + 2 * n + 2 * 20


@pytest.mark.parametrize("engine", ["compiled", "reference"])
@pytest.mark.parametrize("datapath", ["own", "shared"])
@pytest.mark.parametrize("spike", [0, 7])
def test_a_spike_takes_its_cycles_on_every_datapath(engine, datapath, spike):
    """A silent input and a neuron that fires in three of five steps, to nobody: each step takes its update."""
    built = machine(*SMALL, f"neuron.datapath={datapath}", "neuron.cycles=10", f"neuron.spike_cycles={spike}")
    fires = [np.zeros((5, 1), bool), np.array([[1], [0], [1], [1], [0]], bool)]
    outcome = ran(built, chain([1, 1], fires, [np.ones((1, 1), bool)]), engine)
    assert outcome.cycles == 6 * 10 + 3 * spike


@pytest.mark.parametrize("seed", range(20))
def test_synapses_of_a_convolution_are_those_of_its_unrolled_matrix(seed):
    """Every format, groups, strides, dilation, padding; against a loop over outputs, taps and channels."""
    draw = np.random.default_rng(seed)
    groups, per, n = int(draw.integers(1, 3)), int(draw.integers(1, 3)), int(draw.integers(1, 4))
    window = Window(
        tuple(draw.integers(1, 4, 2).tolist()), tuple(draw.integers(1, 3, 2).tolist()),
        tuple(draw.integers(0, 2, 4).tolist()), tuple(draw.integers(1, 3, 2).tolist()),
    )  # fmt: skip
    height, width = int(draw.integers(6, 8)), int(draw.integers(6, 8))
    present = draw.random((groups * n, per, *window.kernel)) < 0.5
    out = (groups * n, *window.output((height, width)))
    sources = np.arange(groups * per * height * width).reshape(groups * per, height, width)
    synapses = Synapses(sources, window, groups, present, True)
    one = Population("conv", 0, out, 1, None, (synapses,))
    size = one.size
    ends = [0, *sorted(draw.choice(np.arange(1, size), min(3, size - 1), replace=False).tolist()), size]
    matrix = {kind: np.zeros((size, sources.size), np.int64) for kind in ("sparse", "dense")}
    rows, columns = window.taps((height, width))
    for o, y, x in np.ndindex(out):
        for c, i, j in np.ndindex(per, *window.kernel):
            r, s = rows[y, i], columns[x, j]
            if r >= 0 and s >= 0:
                source = sources[o // n * per + c, r, s]
                neuron = np.ravel_multi_index((o, y, x), out)
                matrix["dense"][neuron, source] += 1
                matrix["sparse"][neuron, source] += present[o, c, i, j]
    sent = draw.integers(0, 4, sources.shape)
    for kind, name in (("sparse", "sparse"), ("dense", "dense"), ("convolutional", "dense")):
        found = reached(one, synapses, ends, kind).reshape(len(ends) - 1, -1)
        np.testing.assert_array_equal(found, np.add.reduceat(matrix[name], ends[:-1], axis=0))
        np.testing.assert_array_equal(received(one, synapses, sent, kind), matrix[name] @ sent.reshape(-1))
        axons = [inputs_of(one, first, end, kind) for first, end in pairwise(ends)]
        assert axons == (np.add.reduceat(matrix[name], ends[:-1], axis=0) > 0).sum(1).tolist()


@pytest.mark.parametrize("mapping", ["in_order", "neurons", "operations", "traffic"])
def test_a_mapping_changes_time_and_nothing_else(mapping):
    small = (
        "pe.neurons=40",
        "noc.rows=3",
        "noc.columns=3",
        "noc.cores=1",
        "pe.count=9",
        f"scheduler.mapping={mapping}",
    )
    for trace in (mlp(3, m=2, n=90), conv(4)):
        options = {"hardware": MANYCORE, "record": True}
        fast, slow = (simulate(trace, *small, engine=engine, **options)[0] for engine in ("compiled", "reference"))
        same(fast, slow)
        plain = simulate(trace, hardware=MANYCORE)[0]
        assert fast.mismatches == plain.mismatches == 0
        assert (
            fast.actions["synapse", "sparse" if trace.network == "mlp" else "convolutional"]
            == (plain.actions["synapse", "sparse" if trace.network == "mlp" else "convolutional"])
        )


def test_every_neuron_is_in_one_core_and_no_core_is_too_full():
    draw = np.random.default_rng(0)
    for mapping in ("in_order", "neurons", "operations", "traffic"):
        built = machine("pe.neurons=20", f"scheduler.mapping={mapping}")
        sizes = [30, 70, 130, 9]
        fires = [draw.random((3, size)) < 0.3 for size in sizes]
        weights = [draw.random((b, a)) < draw.random((b, 1)) for a, b in pairwise(sizes)]
        placed = chip.place(built.config, chain(sizes, fires, weights))
        cores = [core for part in placed.mapped for core in part.cores]
        assert len(set(cores)) == len(cores) and max(cores) < built.config.pe.count
        for size, part in zip(sizes[1:], placed.mapped, strict=True):
            assert part.ends[0] == 0 and part.ends[-1] == size
            assert 0 < min(np.diff(part.ends)) <= max(np.diff(part.ends)) <= 20


def test_balancing_operations_makes_the_busiest_core_less_busy():
    """Weights of the first neurons are dense, those of the last ones sparse."""
    draw = np.random.default_rng(1)
    fires = [draw.random((4, 64)) < 0.5, np.zeros((4, 256), bool)]
    weights = [draw.random((256, 64)) < np.linspace(1, 0.02, 256)[:, None]]
    busiest = {}
    for mapping in ("neurons", "operations"):
        mesh = ("noc.rows=2", "noc.columns=2", "noc.cores=2", "pe.count=8", "pe.neurons=128")
        outcome = ran(machine(*mesh, f"scheduler.mapping={mapping}"), chain([64, 256], fires, weights))
        busiest[mapping] = int(outcome.counts[:, ADDED].max())
    assert busiest["operations"] < 0.7 * busiest["neurons"]


def test_annealing_shortens_the_ways():
    draw = np.random.default_rng(2)
    sizes = [16, 320, 320, 320]
    fires = [draw.random((2, size)) < 0.1 for size in sizes]
    weights = [np.kron(np.eye(20, a // 16 or 1), np.ones((16, 16)))[:, :a] > 0 for a in sizes[:-1]]
    hops = {}
    for mapping in ("in_order", "traffic"):
        built = machine(f"scheduler.mapping={mapping}", "pe.neurons=16")
        placed = chip.place(built.config, chain(sizes, fires, weights))
        _, ways = flows(machine().config.noc, placed.events.sent)
        hops[mapping] = int((placed.events.sent * ways.sum(-1)).sum())
    assert hops["traffic"] < 0.7 * hops["in_order"]


def test_a_run_keeps_four_bytes_of_a_spike():
    """Of twice the timesteps: those of the spikes that are more, and four numbers of each core or port and step."""
    draw, built, kept, spikes = np.random.default_rng(0), machine("pe.neurons=20"), [], []
    weights = [np.ones((after, before), bool) for before, after in ((50, 60), (60, 40))]
    for timesteps in (8, 16):
        fires = [draw.random((timesteps, size)) < 0.4 for size in (50, 60, 40)]
        placed = chip.place(built.config, chain([50, 60, 40], fires, weights))
        assert all(one.spikes is None for one in placed.populations)
        kept.append(sum(array.nbytes for array in placed.events))
        spikes.append(sum(int(fired.sum()) for fired in fires))
    numbers = 2 * len(placed.rows) + 2 * built.config.pe.count
    assert kept[1] - kept[0] == 4 * (spikes[1] - spikes[0]) + 8 * 8 * numbers


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ranc", "tinyodin"])
def test_cores_take_the_cycles_of_the_circuits(kind):
    """Every count of a tick of RANC; of a spike, and of the time reference, of tinyODIN without its handshake."""
    with (COUNTS / f"{kind}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    seen = 0
    for row in rows:
        n = int(row["neurons"])
        hardware = ROOT / "hwconfigs" / "validation" / f"manycore_{kind}.yaml"
        settings = [f"pe.neurons={n}", *([f"pe.axons={row['axons']}"] if kind == "ranc" else [])]
        built = machine(*settings, hardware=hardware)
        inputs = int(row["axons"]) if kind == "ranc" else 256
        fires = [np.zeros((2, inputs), bool), np.zeros((2, n), bool)]
        fires[0][:, : inputs // 2 if kind == "ranc" else 1] = True
        outcome = ran(built, chain([inputs, n], fires, [np.zeros((n, inputs), bool)]))
        somas = [agent for agent in range(len(outcome.times)) if outcome.counts[agent, ManyCore.counted["updated"]]]
        ends = outcome.completions[outcome.completions[:, 0] == somas[0], 1]
        if kind == "ranc":
            assert int(row["axons"]) > 1
            assert ends[-1] - ends[-4] == int(row["cycles"]) == n * (int(row["axons"]) + 2) + 3
            seen += 1
        elif row["measured"] in ("spike", "reference"):
            if row["measured"] == "spike":
                (synapse,) = np.flatnonzero(outcome.counts[:, RECEIVED])
                taken = outcome.times[synapse, 0] // 2
                assert taken == 2 * n + 1
            else:
                taken = int(ends[0])
                assert taken == 2 * n
            seen += 1
            assert int(row["cycles"]) == taken
    assert seen >= 100


def test_what_has_no_place_is_refused():
    trace = mlp(1, n=50)
    small = machine("pe.count=4", "noc.rows=2", "noc.columns=2", "noc.cores=1", "pe.neurons=10")
    assert small.holes(trace) == [
        "pe.count: the network takes 5 cores of 10 neurons, the chip has 4; --set noc.columns=3 --set pe.count=6 "
        "builds a machine that can"
    ]
    assert small.problems(trace) == []  # layers that are chosen may have a place
    few, full = machine("pe.axons=100"), mlp(1, n=50, weight_density=1.0)
    assert few.holes(trace) == [] and few.holes(full) == [
        "pe.axons: a neuron of fc has 150 inputs, a core 100 axons; --set pe.axons=150 builds a machine that can"
    ]


def test_chosen_layers_need_only_their_own_place():
    """A read-out of one neuron on a chip of one core, on which its network has no place."""
    trace = ROOT / "workloads" / "pinn_poisson.npz"
    alone = ["noc.rows=1", "noc.columns=1", "noc.cores=1", "pe.count=1"]
    found = run(MANYCORE, trace, overrides=alone, layers=["6"])
    assert [(one.layer, one.mismatches, one.events["cores"]) for one in found.layers] == [("6", 0, 1)]
    with pytest.raises(UsageError, match="takes 3 cores"):
        run(MANYCORE, trace, overrides=alone)
    with pytest.raises(UsageError, match="takes 2 cores"):
        run(MANYCORE, trace, overrides=alone, layers=["4", "6"])


def test_only_machines_with_planes_are_told_to_run_windows():
    trace = mlp(1)
    for hardware, told in ((MANYCORE, False), (ROOT / "hwconfigs" / "loas.yaml", True)):
        settings = ("timesteps=1", "scheduler.encoder=skipped")
        (problem,) = load_accelerator(hardware, settings[: 1 + told]).problems(trace)
        assert problem.startswith(f"timesteps: the trace has {trace.timesteps}") and ("in windows" in problem) == told


def test_a_message_has_room_for_the_largest_chip_and_any_axon():
    noc = machine().config.noc.model_copy(update={"rows": 64, "columns": 64, "cores": 16})
    assert mesh.AXON_MASK > 1 << 31 and (mesh.AXON_MASK + 1) << mesh.AXON_SHIFT == 1 << mesh.STEP_SHIFT
    assert (mesh.STEP_MASK << mesh.STEP_SHIFT) < 1 << 63
    for core in (0, 15, 16, 16 * 64 - 1, 16 * 64 * 64 - 1):
        value = mesh.STEP_MASK << mesh.STEP_SHIFT | mesh.AXON_MASK << mesh.AXON_SHIFT | noc.address(core)
        row, column = value >> mesh.ROW_SHIFT & mesh.PLACE_MASK, value & mesh.PLACE_MASK
        assert (row, column) == noc.place(core)
        assert value >> mesh.CORE_SHIFT & mesh.CORE_MASK == core % 16 and noc.address(core) < 1 << mesh.AXON_SHIFT


def test_axons_of_a_core_are_a_limit():
    """Those that its own neurons read, not those of the layer: a convolution takes more cores, of fewer rows."""
    trace, parts = conv(3), []
    for axons in (180, 179, 120, 60, 45):
        built = machine(f"pe.axons={axons}", "pe.count=512", "noc.rows=16", "noc.columns=8")
        populations = populations_of(trace, built.layers(trace))
        (part,) = chip.place(built.config, populations).mapped
        (synapses,) = populations[-1].synapses
        read = reached(populations[-1], synapses, part.ends, "convolutional").reshape(len(part.cores), -1)
        assert (read > 0).sum(1).max() <= axons
        parts.append(len(part.cores))
    assert parts == sorted(parts) and (parts[0], parts[-1]) == (1, 9 * 6 * 6)
    few = machine("pe.axons=44", "pe.count=512", "noc.rows=16", "noc.columns=8")
    assert few.holes(trace) == [
        "pe.axons: a neuron of conv has 45 inputs, a core 44 axons; --set pe.axons=45 builds a machine that can"
    ]


@pytest.mark.parametrize("mapping", ["neurons", "operations"])
@pytest.mark.parametrize(("axons", "bits"), [(140, 1 << 20), (1 << 16, 720)])
def test_balanced_parts_respect_the_limits_of_a_core(mapping, axons, bits):
    """A chip of just as many cores as are needed in order. Parts that begin within a row or a channel share more of
    them than those that are filled in order; cut by load alone, some are too large."""
    trace = conv(3)
    limits = (f"pe.axons={axons}", f"pe.synapse_bits={bits}", f"scheduler.mapping={mapping}")
    built = machine(*limits, "scheduler.calibration=run")
    populations = populations_of(trace, built.layers(trace))
    one = populations[-1]
    room = chip.room(built.config, one)
    cores = -(-one.size // room)
    mesh = (f"noc.rows={cores}", "noc.columns=1", "noc.cores=1", f"pe.count={cores}")
    built = machine(*limits, *mesh, "scheduler.calibration=run")
    assert built.holes(trace) == []

    def too_large(ends):
        return [
            (first, end)
            for first, end in pairwise(ends)
            if inputs_of(one, first, end, "convolutional") > axons
            or stored(one, (first, end), "convolutional", 8, 10)[0] > bits
        ]

    (careless,) = balanced([np.ones(one.size)], [room], [lambda first, end: True], cores)
    assert too_large(careless)
    (part,) = chip.place(built.config, populations).mapped
    assert (part.ends[0], part.ends[-1], len(part.cores)) == (0, one.size, cores)
    assert not too_large(part.ends) and min(np.diff(part.ends)) > 0
    assert simulate(trace, *limits, *mesh, "scheduler.calibration=run", hardware=MANYCORE)[0].mismatches == 0


@pytest.mark.parametrize("seed", range(30))
def test_a_balanced_cut_finds_parts_that_fit_where_there_are_any(seed):
    """Neurons have a weight, and those of every so many share a memory that a part needs once."""
    draw = np.random.default_rng(seed)
    size, group = int(draw.integers(5, 60)), int(draw.integers(1, 9))
    weights, shared = draw.integers(1, 5, size), int(draw.integers(1, 20))

    def need(first, end):
        return int(weights[first:end].sum()) + shared * len({neuron // group for neuron in range(first, end)})

    most = max(need(first, min(size, first + group)) for first in range(0, size, group))
    parts = len(range(0, size, group))
    (ends,) = balanced([draw.random(size)], [group], [lambda first, end: need(first, end) <= most], parts)
    assert ends[0] == 0 and ends[-1] == size and len(ends) == parts + 1
    assert all(first < end and need(first, end) <= most for first, end in pairwise(ends))


def settings_told(problems):
    """What refusals say to set, all of it together."""
    found = {}
    for path, value in re.findall(r"--set (\S+)=(\d+)", " ".join(problems)):
        found[path] = max(int(value), found.get(path, 0))
    return [f"{path}={value}" for path, value in found.items()]


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("vgg9_dual_sparse", ("pe.count=16", "noc.rows=2", "noc.columns=2")),
        ("vgg9_dual_sparse", ("pe.count=5", "noc.rows=1", "noc.columns=1", "noc.cores=5", "pe.axons=1500")),
        ("spikformer", ("pe.axons=900",)),
        ("vgg9_dual_sparse", ("pe.synapse_bits=30000", "scheduler.mapping=neurons")),
    ],
)
def test_a_refusal_says_what_suffices(name, given):
    trace = load_trace(ROOT / "workloads" / f"{name}.npz")
    problems = machine(*given).holes(trace)
    assert problems and problems[-1].endswith(" builds a machine that can")
    assert not any("--set" in problem for problem in problems[:-1])
    larger = machine(*given, *settings_told(problems))
    assert larger.holes(trace) == []
    placed = chip.place(larger.config, populations_of(trace, larger.layers(trace)))
    assert sum(len(part.cores) for part in placed.mapped) <= larger.config.pe.count


def test_a_larger_mesh_is_as_small_and_as_square_as_it_gets():
    """Cores of a router stay while they can, and so do sides; ports of the host have rows."""
    built = machine().config
    assert chip._on_a_mesh(built, 65) == {"noc.columns": 5, "pe.count": 80}
    assert chip._on_a_mesh(built, 105) == {"noc.columns": 7, "pe.count": 112}
    assert chip._on_a_mesh(built, 1024) == {"noc.rows": 16, "noc.columns": 16, "pe.count": 1024}
    odd = machine("noc.cores=5", "pe.count=80").config
    assert chip._on_a_mesh(odd, 1020) == {"noc.rows": 12, "noc.columns": 17, "pe.count": 1020}
    found = chip._on_a_mesh(odd, 1023)
    assert found["noc.cores"] != 5 and 1023 <= found["pe.count"] <= 1024


def test_synapse_memory_is_a_limit():
    """A layer of 50 neurons and 150 inputs, dense: 1,200 bits a neuron. 7 neurons fill 8,400 bits; less than 1,200 hold
    no neuron."""
    trace = mlp(1, n=50)
    placed = {}
    for bits in (60_000, 8_400, 8_399):
        built = machine("synapse.linear=dense", f"pe.synapse_bits={bits}")
        assert not built.holes(trace)
        placed[bits] = chip.place(built.config, populations_of(trace, built.layers(trace))).mapped[0]
    assert [len(placed[bits].cores) for bits in placed] == [1, 8, 9]
    assert simulate(trace, "synapse.linear=dense", "pe.synapse_bits=8400", hardware=MANYCORE)[0].mismatches == 0
    assert machine("synapse.linear=dense", "pe.synapse_bits=1199").holes(trace) == [
        "pe.synapse_bits: a neuron of fc needs 1200 bits of dense synapses, a core has 1199; "
        "--set pe.synapse_bits=1200 builds a machine that can"
    ]
    small = machine(
        "synapse.linear=dense", "pe.synapse_bits=8400", "pe.count=4", "noc.rows=2", "noc.columns=2", "noc.cores=1"
    )
    assert small.holes(trace) == [
        "pe.count: the network takes 8 cores of 1024 neurons, 65536 axons and 8400 bits of synapses, which fc fills "
        "first, the chip has 4; --set noc.columns=4 --set pe.count=8 builds a machine that can"
    ]


@pytest.mark.parametrize("seed", range(10))
def test_bits_of_synapses_are_those_of_the_unrolled_matrix(seed):
    """Sparse: weights that are not zero, with an index. Dense: those of the geometry. Convolutional: kernels of the
    channels that a part touches."""
    draw = np.random.default_rng(seed)
    present = draw.random((4, 3, 3, 3)) < 0.5
    window = Window((3, 3), (1, 1), (1, 1, 1, 1))
    synapses = Synapses(np.arange(3 * 4 * 4).reshape(3, 4, 4), window, 1, present, True, bits=5)
    one = Population("conv", 48, (4, 4, 4), 1, None, (synapses,))
    ends = [0, *sorted(draw.choice(np.arange(1, 64), 2, replace=False).tolist()), 64]
    rows, columns = window.taps((4, 4))
    wanted = {"sparse": [], "dense": [], "convolutional": []}
    for first, end in pairwise(ends):
        pairs = nonzero = 0
        for neuron in range(first, end):
            n, y, x = np.unravel_index(neuron, one.shape)
            for c, i, j in np.ndindex(3, 3, 3):
                inside = rows[y, i] >= 0 and columns[x, j] >= 0
                pairs, nonzero = pairs + inside, nonzero + (inside and present[n, c, i, j])
        wanted["sparse"].append(nonzero * (8 + 10))
        wanted["dense"].append(pairs * 8)
        wanted["convolutional"].append(len({neuron // 16 for neuron in range(first, end)}) * 27 * 8)
    for kind, bits in wanted.items():
        assert stored(one, ends, kind, 8, 10) == bits
    assert stored(one, ends, "dense", 4, 10) == [bits // 8 * 5 for bits in wanted["dense"]]


def calibrated_network(images):
    """Pixels, an encoder that spikes where a pixel is bright, a layer with neurons; calibration ``images`` uint8."""
    weights = [np.eye(64, dtype=np.int8), np.ones((48, 64), np.int8)]
    weights[1][24:, 32:] = 0
    weights[1][:24, :32] = 0
    operations = [
        Operation("encoder", "linear", ("pixels",), "s", weight=weights[0], neuron=lif(64, 100)),
        Operation("fc", "linear", ("s",), "out", weight=weights[1], neuron=lif(48, 20)),
    ]
    bright = np.zeros((2, 64), np.uint8)
    bright[:, :32] = 255
    return build(operations, {"pixels": bright}, 4, calibration=ImageSet(images, np.zeros(len(images), np.int64)))


@pytest.mark.parametrize("mapping", ["operations", "traffic"])
def test_a_mapping_is_found_with_calibration_images_and_used_for_others(mapping, tmp_path):
    """Images that are run light the first half of the pixels, and so the second half of the neurons' synapses stay
    silent. Calibrated on its opposite a mapping is that of the opposite; on the run itself, that of the run."""
    dark = np.zeros((2, 64), np.uint8)
    dark[:, 32:] = 255
    overrides = ("noc.rows=2", "noc.columns=2", "noc.cores=1", "pe.count=4", "pe.neurons=24", "synapse.linear=sparse")
    trace = calibrated_network(dark)
    found = {}
    for calibration in ("images", "run"):
        built = machine(*overrides, f"scheduler.mapping={mapping}", f"scheduler.calibration={calibration}")
        chosen = built.layers(trace)
        known = chip.known_of(built.config, trace, chosen)
        (source,) = (one for one in known if not one.synapses)
        assert source.spikes[:, 32:].any() == (calibration == "images") != source.spikes[:, :32].any()
        found[calibration] = chip.place(built.config, populations_of(trace, chosen), known).mapped
        same_images = calibrated_network(trace.tensor("pixels"))
        built = machine(*overrides, f"scheduler.mapping={mapping}")
        again = chip.known_of(built.config, same_images, chosen)
        assert (
            chip.place(built.config, populations_of(same_images, chosen), again).mapped
            == chip.place(built.config, populations_of(same_images, chosen)).mapped
        )
    assert found["images"] != found["run"]
    path = tmp_path / "trace.npz"
    save_trace(trace, path)
    cycles = {
        calibration: run(MANYCORE, path, overrides=(*overrides, "scheduler.mapping=operations", "timesteps=4"),
                         scheduler__calibration=calibration).summary()["cycles"]
        for calibration in ("images", "run")
    }  # fmt: skip
    assert cycles["run"] < cycles["images"]


def test_only_so_many_calibration_images_are_looked_at():
    dark = np.zeros((3, 64), np.uint8)
    dark[1:, 32:] = 255
    trace = calibrated_network(dark)
    for count, steps in ((1, 4), (2, 8), (9, 12)):
        built = machine("scheduler.mapping=operations", f"scheduler.calibration_images={count}")
        source, _ = chip.known_of(built.config, trace, built.layers(trace))
        assert len(source.spikes) == steps
        assert source.spikes.any() == (count > 1)


def test_a_trace_without_calibration_images_is_refused_where_they_count():
    trace = mlp(1)
    (problem,) = machine("scheduler.mapping=traffic").problems(trace)
    assert problem.startswith("scheduler.calibration: mapping 'traffic' counts over calibration images")
    assert not machine("scheduler.mapping=traffic", "scheduler.calibration=run").problems(trace)
    assert not machine("scheduler.mapping=neurons").problems(trace)


SIGNED = Neuron("if", np.full(20, 25), reset="soft", fires="signed")
SILENT = Neuron("if", None, fires="nothing", fraction_bits=3)


def signed_network(seed=0, timesteps=6, images=2):
    """Signed spikes on 12 inputs, two layers of neurons with signed spikes, and a read-out of potentials."""
    draw = np.random.default_rng(seed)
    inputs = draw.integers(-1, 2, (timesteps, images, 12)).astype(np.int8)
    sizes = {"a": (12, 20), "b": (20, 20), "c": (20, 3)}
    weight = {name: draw.integers(-20, 21, (n, k)).astype(np.int8) for name, (k, n) in sizes.items()}
    operations = [
        Operation("a", "linear", ("x",), "a", weight=weight["a"], neuron=SIGNED),
        Operation("b", "linear", ("a",), "b", weight=weight["b"], neuron=SIGNED),
        Operation("c", "linear", ("b",), "c", weight=weight["c"], neuron=SILENT),
    ]
    kinds = {"x": "signed_spike", "a": "signed_spike", "b": "signed_spike"}
    return build(operations, {"x": inputs}, timesteps, kinds)


def whole(built, trace, engine="compiled"):
    return list(built.run_layers(trace, built.layers(trace), engine, verify=True, record=True))


def test_signed_spikes_travel_as_messages_with_a_sign():
    """Every spike of either sign is one event with its synapses; engines agree; outputs are the trace's."""
    trace, built = signed_network(), machine()
    assert [layer.name for layer in built.layers(trace)] == ["a", "b", "c"]
    fast, slow = whole(built, trace), whole(built, trace, "reference")
    for left, right in zip(fast, slow, strict=True):
        same(left, right)
        assert left.mismatches == right.mismatches == 0
    assert min(np.count_nonzero(trace.tensor(name) == sign) for name in "xab" for sign in (-1, 1)) > 5
    for layer, read in zip(fast, "xab", strict=True):
        weight = trace.operation(layer.layer).weight
        spikes = np.abs(trace.tensor(read).astype(int)).reshape(-1, weight.shape[1])
        assert layer.events["messages"] == spikes.sum()
        assert layer.actions["synapse", "sparse"] == (spikes @ (weight != 0).T).sum()


def test_a_sign_takes_no_time():
    """The same spikes without signs, at the same places: the same cycles, and another network."""
    signed, built = signed_network(), machine()
    spikes = {name: signed.tensor(name) != 0 for name in "xab"}
    first, second, last = signed.operations
    operations = [replace(one, neuron=replace(SIGNED, fires="spike")) for one in (first, second)] + [last]
    plain = Trace(
        network="plain", timesteps=6, operations=operations, tensors=spikes, kinds=dict.fromkeys(spikes, "spike"),
        provenance=LABELS,
    )  # fmt: skip
    with_sign, without = (
        list(built.run_layers(trace, built.layers(trace), "compiled", verify=False, record=True))
        for trace in (signed, plain)
    )
    assert [layer.cycles for layer in with_sign] == [layer.cycles for layer in without]
    assert [layer.actions for layer in with_sign] == [layer.actions for layer in without]


@pytest.mark.parametrize("hardware", ["loihi1", "manycore"])
def test_messages_without_a_sign(hardware):
    """Signed spikes are refused, unless it is said that there is a bit for the sign."""
    trace, path = signed_network(), ROOT / "hwconfigs" / f"{hardware}.yaml"
    assert machine("noc.signed=false", hardware=path).problems(trace) == [
        "no layer to simulate: a has neurons with signed spikes; manycore runs layers that are made of spikes without "
        "a sign (noc.signed: false) and end in neurons, or in sums, and maxima over spikes; 'archsim list' says what "
        "machines run"
    ]
    assert machine(hardware=path).config.noc.signed == (hardware == "manycore")
    assert [layer.mismatches for layer in whole(machine("noc.signed=true", hardware=path), trace)] == [0, 0, 0]
    integers = replace(SIGNED, fires="integer", most=3)
    graded = build([replace(trace.operations[0], neuron=integers)], {"x": trace.tensor("x")}, 6, {"x": "signed_spike"})
    assert "a has neurons with integer spikes" in machine(hardware=path).problems(graded)[0]
