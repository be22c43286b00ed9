"""A machine drawn as text: what it is built of, from the memory outside down to the arithmetic."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from archsim.hardware.inventory import Component

LEVELS = (
    ("off chip", ("dram",)),
    ("on-chip memory", ("cache", "cache_tag", "sram", "flip_flops", "register_file")),
    ("on the way", ("switch", "broadcast", "link", "router")),
    ("computes and controls", ()),
)
"""Kinds of blocks by level, outside first; the last level has all others."""

SIZES = {
    "capacity_bytes": "{:g} KiB",
    "ports_in": "{:g} inputs",
    "ports_out": "{:g} outputs",
    "receivers": "to {:g}",
    "bits": "{:g} bits",
    "width_bits": "{:g} bit wide",
    "timesteps": "T = {:g}",
    "channels": "{:g} channels",
}
"""Parameters of a block that are drawn, and how; a tag array, whose sizes are those of its bank, has its ways."""
TAG_SIZES = {"ways": "{:g} ways"}


def draw(inventory: Sequence[Component], width: int = 78) -> str:
    """One box a level, joined by a line; a block as ``instances x unit (sizes)``, several to a line where they fit."""
    placed: dict[str, list[str]] = {name: [] for name, _ in LEVELS}
    for component in inventory:
        level = next((name for name, kinds in LEVELS if component.kind in kinds), LEVELS[-1][0])
        placed[level].append(_block(component))
    boxes = ["\n".join(_box(name, blocks, width)) for name, blocks in placed.items() if blocks]
    joint = "\n" + "|".center(width).rstrip() + "\n"
    return joint.join(boxes)


def _block(component: Component) -> str:
    shown = [
        text.format(float(value) / 1024 if name == "capacity_bytes" else float(value))
        for name, text in (TAG_SIZES if component.kind == "cache_tag" else SIZES).items()
        if isinstance(value := component.parameters.get(name), int | float)
    ]
    return f"{component.instances} x {component.unit}" + (f" ({', '.join(shown)})" if shown else "")


def _box(title: str, blocks: Sequence[str], width: int) -> Iterator[str]:
    inside = width - 4
    yield f"+- {title} ".ljust(width - 1, "-") + "+"
    line = ""
    for block in blocks:
        if line and len(line) + 3 + len(block) > inside:
            yield f"| {line.ljust(inside)} |"
            line = ""
        line = f"{line}   {block}" if line else block[:inside]
    yield f"| {line.ljust(inside)} |"
    yield "+" + "-" * (width - 2) + "+"
