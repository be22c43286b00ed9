"""Network-on-chip: a two-dimensional mesh of routers, XY routing, packets of flits, end-to-end credits.

A *link* carries a flit a cycle one way: between neighbouring routers, into a router from its node, or out of it. A
packet of F flits takes the links of its route one by one, first along the row, then along the column. At each of them
an agent of the flow (:func:`hop`), which stands for the flow's buffer at that router, does

    a                      the header arrives
    a + router_cycles - 1  it is routed and asks for the link (a FIFO of one token, longest waiting first)
    g >= that              the link is granted and held from g + 1 on
    g + 2                  the header is at the next router
    g + 1 + F              the link is free again and can be granted

so with H links and nothing in the way, from injection to the last flit (virtual cut-through):

    latency = H (router_cycles + 1) + F - 1,      and a link moves a packet every F + 1 cycles at most.

A packet is injected only when its flow has a credit, that is room for it at the destination. A buffer on the way
therefore always has room for it, no packet waits while it holds a link, and the network cannot deadlock. Credits
travel on wires of their own, at once. A flow to several nodes (*multicast*) visits them along one path; a router on it
hands the packet out and on.

Sources: router pipeline of MNSIM's BookSim configuration (k x k mesh, dimension-order routing; route, allocate virtual
channel, allocate switch, traverse: a cycle each); that SpikeSim has a network between its tiles is published, its
parameters are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from archsim.hardware.loading import Block
from archsim.hardware.operation import COMPUTE, PAUSE, POP, POP_COUNT, PUSH, PUSH_COUNT, VALUE, VALUE_OUT
from archsim.jit import inlined

ARRIVE, CROSS, LEAVE = range(3)
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


@inlined
def hop(o: Any, agent: int, phase: int, flits: int, packet_port: int, link_port: int, link: int, onward: int,
        router_cycles: int, is_last: int) -> tuple[int, int]:  # fmt: skip
    """One step of a packet over one link; (next phase, flits of the packet, whose number is the token's value).

    A packet arrives at ``packet_port`` and goes to the FIFO ``onward``: as a header after a cycle, complete if
    ``is_last``. The link's token is taken at ``link_port`` and returned to the FIFO ``link``.
    """
    if phase == ARRIVE:
        o[agent, POP] = packet_port
        o[agent, POP_COUNT] = 1
        o[agent, PAUSE] = router_cycles - 1
        return CROSS, 0
    if phase == CROSS:
        flits = o[agent, VALUE]
        o[agent, POP] = link_port
        o[agent, POP_COUNT] = 1
        o[agent, COMPUTE] = flits if is_last else 1
        o[agent, PUSH] = onward
        o[agent, PUSH_COUNT] = 1
        o[agent, VALUE_OUT] = flits
        return LEAVE, flits
    o[agent, COMPUTE] = 0 if is_last else flits - 1
    o[agent, PUSH] = link
    o[agent, PUSH_COUNT] = 1
    return ARRIVE, flits
