"""A machine drawn as text: every unit once, in boxes of one width; its agents, and who writes and reads which FIFO."""

from typing import NamedTuple

import numpy as np
import pytest

from archsim import simulate
from archsim.engine.result import CoreLoad
from archsim.engine.wiring import AgentBox, Wire, watch
from archsim.hardware.agent import Coroutines, op
from archsim.hardware.diagram import Diagram, Fifo
from archsim.hardware.inventory import Component
from archsim.hardware.operation import CACHED_READ, PREFETCH
from archsim.report.diagram import connections, draw, placement
from archsim.simulate import load_accelerator
from tests.machines import MACHINES


def test_by_hand():
    assert draw(
        [
            Component("adder", "logic", 4, {"block": "adder", "timesteps": 2}),
            Component("dram", "dram", 1, {"channels": 8}),
            Component("bank", "cache", 16, {"capacity_bytes": 2048, "width_bits": 64}),
            Component("tag", "cache_tag", 16, {"capacity_bytes": 2048, "width_bits": 64, "ways": 4}),
        ],
        width=35,
    ).splitlines() == [
        "+- off chip ----------------------+",
        "| 1 x dram (8 channels)           |",
        "+---------------------------------+",
        "                 |",
        "+- on-chip memory ----------------+",
        "| 16 x bank (2 KiB, 64 bit wide)  |",
        "| 16 x tag (4 ways)               |",
        "+---------------------------------+",
        "                 |",
        "+- computes and controls ---------+",
        "| 4 x adder (T = 2)               |",
        "+---------------------------------+",
    ]


@pytest.mark.parametrize("path", MACHINES, ids=lambda path: path.stem)
def test_every_unit_of_every_machine_is_drawn(path):
    inventory = load_accelerator(path).inventory()
    text = draw(inventory)
    assert {len(line) for line in text.splitlines() if line[0] in "+|"} == {78}
    assert all(f"{part.instances} x {part.unit}" in text for part in inventory)


class Numbers(NamedTuple):
    """What two agents know of their FIFOs."""

    ready: Fifo
    credit: Fifo
    together: int


def producer(a, m, x):
    for _ in range(4):
        a.request(line=0, beats=1, useful_bytes=8, mode=PREFETCH, tensor=1, epoch=0)
        yield op(pop=m.credit.port, push=m.ready.fifo, value=7)


def consumer(a, m, x):
    for _ in range(4):
        yield op(pop=m.ready.port)
        assert a.value == 7
        a.request(line=0, beats=1, useful_bytes=8, mode=CACHED_READ, tensor=0, epoch=0)
        yield op(push=m.credit.fifo, barrier=m.together)


def test_agents_are_watched():
    """Two readers of one FIFO; each gives credits back through a FIFO of its own, of which the producer reads one."""
    diagram = Diagram()
    diagram.agent(producer, requests=1)
    diagram.agent(consumer, 2, name="pe", built=3, requests=1, lanes=range(2))
    m = Numbers(diagram.fifo(4, readers=2), diagram.fifo(2, full=True), diagram.barrier(2))

    def both(a, m, x):
        yield from consumer(a, m._replace(ready=m.ready.reader(a.me)), x)

    step = Coroutines([(1, producer), (2, both)], 0)
    zeros = np.zeros((3, 1), np.int64)
    wiring = watch(step, m, None, diagram.topology, zeros, zeros, ("input", "weight"), diagram.kinds)
    assert wiring.agents == (
        AgentBox("producer", 1, (("fetches", ("weight",)),), switched=False),
        AgentBox("pe", 3, (("reads", ("input",)),), switched=True),
    )
    assert wiring.fifos == (
        Wire("ready", 1, 4, False, ("producer",), ("pe",)),
        Wire("credit", 1, 2, True, ("pe",), ("producer",)),
    )
    assert wiring.barriers == (("pe",),)


def test_the_diagram_of_loas_is_that_of_its_dataflow():
    """Agents, FIFOs and memory paths as the docstring of the inner-product dataflow has them."""
    wiring = simulate.wiring(load_accelerator("loas"))
    assert {box.name: box.built for box in wiring.agents} == {
        "tppe": 16, "p_lif": 16, "fetcher": 4, "broadcaster": 1, "row_fetcher": 1
    }  # fmt: skip
    ends = {(wire.name, *wire.writers, "to", *wire.readers) for wire in wiring.fifos}
    assert ends == {
        ("chunk", "broadcaster", "to", "tppe"),
        ("fiber", "fetcher", "to", "broadcaster"),
        ("credit", "broadcaster", "to", "fetcher"),
        ("sum", "tppe", "to", "p_lif"),
        ("begun", "tppe", "to", "row_fetcher"),
    }
    drawn = connections(wiring)
    assert "tppe        --[ sum: 16 x 5 ]---> p_lif" in drawn
    assert "16 x p_lif         writes output_format (through the switch)" in drawn
    assert max(map(len, drawn.splitlines())) <= 80


@pytest.mark.parametrize("name", ["spikesim", "imc_vit"])
def test_the_diagram_of_a_chip_of_crossbar_arrays(name):
    """From the arrays over converters, the tree and the mesh to the neurons; its FIFOs have no names."""
    wiring = simulate.wiring(load_accelerator(name))
    built = {box.name: box.built for box in wiring.agents}
    assert list(built) == ["link", "mover", "array", "adc", "h_tree", "neuron"]
    assert (built["mover"], built["array"], built["adc"]) == (2, 1, 1)
    ends = {(*wire.writers, "to", *wire.readers) for wire in wiring.fifos}
    assert {("array", "to", "adc"), ("adc", "to", "h_tree"), ("h_tree", "to", "link"), ("link", "to", "neuron")} <= ends
    assert {("mover", "to", "link"), ("link", "to", "array"), ("neuron", "to", "mover")} <= ends
    assert not any(wire.name for wire in wiring.fifos)
    assert "  array  --[ " in connections(wiring)


@pytest.mark.parametrize("timesteps", [1, 2, 3, 16])
@pytest.mark.parametrize("name", ["loas", "gustav_snn"])
def test_the_number_of_timesteps_does_not_keep_a_machine_from_being_drawn(name, timesteps):
    assert simulate.wiring(load_accelerator(name, [f"timesteps={timesteps}"])).agents


def test_where_layers_are_on_a_mesh():
    """Two layers on three of the cores of a mesh of two columns; the router between them has none."""
    cores = [("conv", CoreLoad(0, 0, 0, 0, 8, 3, 1000)), ("conv", CoreLoad(1, 0, 0, 8, 4, 3, 24))]
    cores.append(("fc", CoreLoad(6, 1, 1, 0, 5, 1, 7)))
    assert placement(cores).splitlines() == [
        "routers of the mesh, each with the layers of its cores",
        "1 1 | -",
        "-   | 2",
        "",
        "1 conv: 2 cores, 12 neurons, 1,024 synaptic operations",
        "2 fc: 1 core, 5 neurons, 7 synaptic operations",
    ]
