"""The mesh network in both engines: closed form of an empty network, two flows on one link by hand, conservation."""

import itertools
from typing import Any, NamedTuple

import numpy as np
import pytest

from archsim.engine import compiled, reference
from archsim.engine.lowering import loop_of, lower
from archsim.hardware.agent import op
from archsim.hardware.diagram import Diagram
from archsim.hardware.integers import table_of
from archsim.hardware.interconnect.noc import Hop, Link, Mesh, MeshConfig, cross, multicast, xy_route
from tests.engines.test_crossbar_switch import memory


class Sender(NamedTuple):
    """Sends packets of ``flits`` flits, ``period`` cycles apart."""

    packets: int
    period: int
    entry: int
    flits: int


class Receiver(NamedTuple):
    """Takes packets from a port, and counts when the n-th one came as its number n."""

    packets: int
    arrival: int


class Network(NamedTuple):
    """Tables of the agents."""

    hops: Any
    senders: Any
    receivers: Any


class Machine(NamedTuple):
    """What agents see: who is asked, and the cycles of a router."""

    agents: Any
    router_cycles: int


FLITS = 9  # a counter behind those of packets


def hop(a, m, x):
    own = x.hops[a.me]
    for _ in range(own.packets):
        yield from cross(a, m.router_cycles, own, FLITS)


def sender(a, m, x):
    own = x.senders[a.me]
    for _ in range(own.packets):
        yield op(pause=own.period, push=own.entry, value=own.flits)


def receiver(a, m, x):
    own = x.receivers[a.me]
    for packet in range(own.packets):
        yield op(pop=own.arrival)
        a.count[packet] += a.start


AGENTS = (hop, sender, receiver)
LOWERED = lower(AGENTS)
LOOP = loop_of(AGENTS, __name__, in_turns=True)


@pytest.fixture(params=["compiled", "reference"])
def engine(request):
    return request.param


def arrivals(engine, flows, router_cycles=3):
    """Cycles in which packets arrive: ``flows`` are (source, targets, packets, flits, cycles between packets)."""
    diagram, rows, found = Diagram(), {function: [] for function in AGENTS}, []
    mesh = Mesh(diagram)

    def draw(function, own):
        diagram.agent(function)
        rows[function].append(own)

    for source, targets, packets, flits, period in flows:
        entry, ports = mesh.flow(source, targets, packets, packets, lambda own: draw(hop, own))
        draw(sender, Sender(packets, period, entry, flits))
        for port in ports:
            found.append((len(diagram.kinds), packets))
            draw(receiver, Receiver(packets, port))
    kinds = (Hop, Sender, Receiver)
    network = Network(*(table_of(kind, rows[function]) for kind, function in zip(kinds, AGENTS, strict=True)))
    count = len(diagram.kinds)
    counts, state = np.zeros((count, FLITS + 1), np.int64), np.zeros((count, LOWERED.kept), np.int64)
    m = Machine(diagram.table(AGENTS), router_cycles)
    rest = (m, network, diagram.topology, memory(), state, counts, 1)
    if engine == "compiled":
        compiled.simulate(LOOP, *rest)
    else:
        reference.simulate(diagram.coroutines(LOWERED.kept), *rest)
    sent = [
        packets * flits for source, targets, packets, flits, _ in flows for _ in multicast(source, targets)
    ]  # what each link of each flow carries
    assert counts[m.agents[:, 0] == 0, FLITS].tolist() == sent
    return [counts[agent, :packets].tolist() for agent, packets in found]


def test_routes():
    assert list(xy_route((0, 0), (2, 1))) == [Link((0, 0), (0, 1)), Link((0, 1), (1, 1)), Link((1, 1), (2, 1))]
    path = list(multicast((0, 0), [(0, 1), (1, 1)]))
    assert path == [
        (Link(None, (0, 0)), None), (Link((0, 0), (0, 1)), None), (Link((0, 1), None), 0),
        (Link((0, 1), (1, 1)), None), (Link((1, 1), None), 1),
    ]  # fmt: skip


def test_nodes_follow_the_rows_back_and_forth():
    mesh = MeshConfig(rows=2, columns=3, flit_bits=64, router_cycles=3)
    assert [mesh.place(node) for node in range(6)] == [(0, 0), (0, 1), (0, 2), (1, 2), (1, 1), (1, 0)]
    assert [mesh.flits(bits) for bits in (0, 1, 64, 65)] == [1, 1, 1, 2]


@pytest.mark.parametrize(
    ("target", "flits", "router_cycles"), [((0, 1), 1, 1), ((0, 1), 5, 3), ((3, 2), 8, 3), ((2, 0), 17, 2)]
)
def test_an_empty_network(engine, target, flits, router_cycles):
    """H links, two of them to and from the routers: H (R + 1) + F - 1 cycles."""
    links = sum(target) + 2
    (got,) = arrivals(engine, [((0, 0), [target], 1, flits, 0)], router_cycles)
    assert got == [links * (router_cycles + 1) + flits - 1]


def test_packets_follow_each_other_at_the_rate_of_a_link(engine):
    """Every F + 1 cycles: F on the link and one to be granted it; with R = 1 a router does not hold them up."""
    (got,) = arrivals(engine, [((0, 0), [(0, 2)], 5, 4, 0)], router_cycles=1)
    assert np.diff(got).tolist() == [5] * 4


def test_two_flows_share_a_link(engine):
    """Both want the link (0, 1) -> (0, 2) and no other; R = 1, so H hops are 2 H cycles. Flow A of 6 flits goes from
    (0, 0) to (0, 2), B of 3 flits from (0, 1) to (1, 2).

    B: into its router, link granted in 0, header there in 2; wants the shared link in 2, holds it from 3 to 5, free in
    6; arrives in 4 x 2 + 3 - 1 = 10, undisturbed.
    A: enters in 0, header at (0, 0) in 2, at (0, 1) in 4; wants the shared link in 4, which is free in 6, granted in 6
    instead of 4: 2 cycles late, 4 x 2 + 6 - 1 + 2 = 15.
    """
    a, b = arrivals(engine, [((0, 0), [(0, 2)], 1, 6, 0), ((0, 1), [(1, 2)], 1, 3, 0)], router_cycles=1)
    assert (a, b) == ([15], [10])


def test_a_packet_for_several_nodes(engine):
    """Each node hears it H (R + 1) + F - 1 cycles after the start, H the links on the path up to it."""
    got = arrivals(engine, [((0, 0), [(0, 1), (0, 3), (1, 3)], 3, 4, 40)])
    assert [one[0] - 40 for one in got] == [3 * 4 + 3, 5 * 4 + 3, 6 * 4 + 3]
    assert all(np.diff(one).tolist() == [40, 40] for one in got)


def test_random_traffic_arrives_and_is_never_early(engine):
    """Ten flows on a mesh of 3 x 3: all packets arrive, in order, none before an empty network would bring it, and the
    engines agree."""
    draw = np.random.default_rng(0)
    flows, bounds = [], []
    while len(flows) < 10:
        source, target = (tuple(int(x) for x in draw.integers(0, 3, 2)) for _ in range(2))
        if source == target:
            continue
        packets, flits = int(draw.integers(1, 9)), int(draw.integers(1, 12))
        flows.append((source, [target], packets, flits, 0))
        links = abs(source[0] - target[0]) + abs(source[1] - target[1]) + 2
        bounds.append(links * 4 + flits - 1)
    got = arrivals(engine, flows)
    for times, bound, (_, _, packets, flits, _) in zip(got, bounds, flows, strict=True):
        assert len(times) == packets
        assert times[0] >= bound
        assert all(later - earlier > flits for earlier, later in itertools.pairwise(times))
    assert got == arrivals("reference" if engine == "compiled" else "compiled", flows)
    assert any(times[0] > bound for times, bound in zip(got, bounds, strict=True))
