"""A machine drawn as text: every unit once, in boxes of one width."""

import pytest

from archsim.hardware.inventory import Component
from archsim.report.diagram import draw
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
