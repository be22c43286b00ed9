"""Network-on-chip: a two-dimensional mesh of routers, XY routing, packets of flits, end-to-end credits.

A *link* carries one flit per cycle one way: between neighbouring routers, into a router from its node, or out of it. A
packet of F flits takes the links of its route one by one, first along the row, then along the column. At each of them
an agent of the flow (:func:`cross`), which stands for the flow's buffer at that router, does

    a                      the header arrives
    a + router_cycles - 1  it is routed and asks for the link (a FIFO of one token, longest waiting first)
    g >= that              the link is granted and held from g + 1 on
    g + 2                  the header is at the next router
    g + 1 + F              the link is free again and can be granted

so with H links and nothing in the way, from injection to the last flit (virtual cut-through):

    latency = H (router_cycles + 1) + F - 1,      and a link moves a packet every F + 1 cycles at most.

A packet is injected only when its flow has a credit, that is room for it at the destination. A buffer on the way
therefore always has room for it, no packet waits while it holds a link, and the network cannot deadlock. Credits
travel on wires of their own (in no time: *credit of the network*). A flow to several nodes (*multicast*) visits them
along one path; a router on it hands the packet out and on.

Sources: router pipeline of MNSIM's BookSim configuration (k x k mesh, dimension-order routing; route, allocate virtual
channel, allocate switch, traverse: a cycle each); that SpikeSim has a network between its tiles is published, its
parameters are not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from archsim.hardware.agent import Agent, Operations, op
from archsim.hardware.diagram import Diagram, Fifo
from archsim.hardware.loading import Block
from archsim.hardware.operation import SHARED

MAX_SIDE = 64


class MeshConfig(Block):
    """The network between tiles and neuron modules."""

    rows: Annotated[int, Field(ge=1, le=MAX_SIDE)] | Literal["fit"] = Field(
        description="rows of the mesh; fit: as few as hold the neuron modules and all tiles of the network"
    )
    columns: int = Field(ge=1, le=MAX_SIDE, description="columns of the mesh")
    flit_bits: int = Field(ge=1, le=4096, description="bits that a link carries in a cycle")
    router_cycles: int = Field(ge=1, le=64, description="cycles of a header in a router, arbitration included")

    def flits(self, bits: int) -> int:
        """Flits of a packet of ``bits`` bits, at least one."""
        return max(1, -(-bits // self.flit_bits))

    def place(self, node: int) -> tuple[int, int]:
        """Row and column of a node; nodes are counted along the rows back and forth, so successors are neighbours."""
        row, column = divmod(node, self.columns)
        return row, column if row % 2 == 0 else self.columns - 1 - column


class Link(NamedTuple):
    """A link by its ends, (row, column) each; one end is None where it leads to or from a router's own node."""

    source: tuple[int, int] | None
    target: tuple[int, int] | None


def xy_route(source: tuple[int, int], target: tuple[int, int]) -> Iterator[Link]:
    """The links between two routers: along the row, then along the column."""
    at = source
    while at != target:
        row, column = at
        if column != target[1]:
            following = (row, column + (1 if target[1] > column else -1))
        else:
            following = (row + (1 if target[0] > row else -1), column)
        yield Link(at, following)
        at = following


def multicast(source: tuple[int, int], targets: Sequence[tuple[int, int]]) -> Iterator[tuple[Link, int | None]]:
    """Links of a path from the node at ``source`` to those at ``targets`` in turn; with a link out of a router the
    number of the target that it leads to, else None."""
    yield Link(None, source), None
    at = source
    for number, target in enumerate(targets):
        for link in xy_route(at, target):
            yield link, None
        yield Link(target, None), number
        at = target


class Hop(NamedTuple):
    """A flow of ``packets`` packets at one link.

    A packet comes in at the port ``arrival`` and goes to the FIFO ``onward``: as a header after a cycle, or complete if
    the link ``is_last``, which leads out of a router. The link's token is taken at the port ``grant`` and returned to
    the FIFO ``link``.
    """

    packets: int
    arrival: int
    grant: int
    link: int
    onward: int
    is_last: int


def cross(a: Agent, router_cycles: int, own: Hop, counter: int) -> Operations:
    """One packet over the link of ``own``; the packet's token is the number of its flits, which ``counter`` adds up."""
    yield op(pop=own.arrival, pause=router_cycles - 1)
    flits = a.value
    a.count[counter] += flits
    yield op(pop=own.grant, compute=flits if own.is_last else 1, push=own.onward, value=flits)
    yield op(compute=0 if own.is_last else flits - 1, push=own.link)


class Mesh:
    """Draws flows into a diagram; flows that go the same way share its links."""

    def __init__(self, diagram: Diagram) -> None:
        self._diagram = diagram
        self._links: dict[Link, Fifo] = {}

    def flow(
        self,
        source: tuple[int, int],
        targets: Sequence[tuple[int, int]],
        packets: int,
        credits: int,
        draw: Callable[[Hop], None],
    ) -> tuple[int, list[int]]:
        """A flow of ``packets`` packets with ``credits`` under way at most, from the node at ``source`` to those at
        ``targets``: (FIFO to give packets to, ports of their arrival). ``draw`` adds the agent of a link.
        """
        entry = at = self._diagram.fifo(credits)
        path = list(multicast(source, targets))
        arrivals = []
        for place, (link, target) in enumerate(path):
            is_last = target is not None
            forks = not is_last and path[place + 1][1] is not None and place + 2 < len(path)
            onward = self._diagram.fifo(credits, readers=2 if forks else 1)
            token = self._token(link)
            draw(Hop(packets, at.port, token.port, token.fifo, onward.fifo, int(is_last)))
            if is_last:
                arrivals.append(onward.port)
                at = at.reader(1)  # the router that the target hangs on hands the packet on, too
            else:
                at = onward
        return entry.fifo, arrivals

    def _token(self, link: Link) -> Fifo:
        if link not in self._links:
            self._links[link] = self._diagram.fifo(1, full=True, readers=SHARED)
        return self._links[link]
