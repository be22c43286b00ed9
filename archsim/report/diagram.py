"""A machine drawn as text: what it is built of, from the memory outside down to the arithmetic, and how its agents are
connected."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from archsim.engine.result import CoreLoad
from archsim.engine.wiring import AgentBox, Wire, Wiring
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


def connections(wiring: Wiring) -> str:
    """The agents with what they ask the memory for, then a line for each FIFO: writer, name and size, reader.

    Agents and FIFOs that this configuration does not use are left out.
    """
    wires = [wire for wire in wiring.fifos if wire.writers or wire.readers]
    used = {name for wire in wires for name in (*wire.writers, *wire.readers)}
    boxes = [box for box in wiring.agents if box.memory or box.name in used]
    agents = [f"{box.built:>4} x {box.name}" for box in boxes]
    width = max(map(len, agents), default=0)
    lines = ["agents, in the order in which they are served"]
    lines += [f"{head.ljust(width)}   {memory_words(box)}".rstrip() for head, box in zip(agents, boxes, strict=True)]
    if wires:
        ends = [(_names(wire.writers), f"[ {wire_words(wire)} ]", _names(wire.readers)) for wire in wires]
        left, middle = (max(len(end[place]) for end in ends) for place in (0, 1))
        lines += ["", "FIFOs of a small layer, from writer to reader, with their entries"]
        lines += [f"  {writer.ljust(left)} --{fifo.ljust(middle, '-')}-> {reader}" for writer, fifo, reader in ends]
    for members in wiring.barriers:
        lines += ["", f"{' and '.join(members)} meet at a barrier"]
    return "\n".join(lines)


def placement(cores: Sequence[tuple[str, CoreLoad]]) -> str:
    """Routers of a mesh in their places, each with the numbers of the layers that its cores have; then the layers."""
    layers = list(dict.fromkeys(layer for layer, _ in cores))
    routers: dict[tuple[int, int], list[str]] = {}
    for layer, core in sorted(cores, key=lambda pair: pair[1].core):
        routers.setdefault((core.row, core.column), []).append(str(layers.index(layer) + 1))
    rows, columns = (max(place[axis] for place in routers) + 1 for axis in (0, 1))
    digits = len(str(len(layers)))
    texts = {place: " ".join(name.rjust(digits) for name in names) for place, names in routers.items()}
    width = max(map(len, texts.values()))
    lines = ["routers of the mesh, each with the layers of its cores"]
    lines += [
        " | ".join(texts.get((row, column), "-").ljust(width) for column in range(columns)).rstrip()
        for row in range(rows)
    ]
    lines.append("")
    for number, layer in enumerate(layers, 1):
        own = [core for name, core in cores if name == layer]
        neurons, operations = sum(core.neurons for core in own), sum(core.operations for core in own)
        told = f"{len(own)} core{'s' * (len(own) > 1)}, {neurons:,} neurons, {operations:,} synaptic operations"
        lines.append(f"{number:>{digits}} {layer}: {told}")
    return "\n".join(lines)


def _names(names: Sequence[str]) -> str:
    return ", ".join(names) or "(none)"


def memory_words(box: AgentBox) -> str:
    """What an agent asks the memory for."""
    asked = "; ".join(f"{verb} {', '.join(tensors)}" for verb, tensors in box.memory)
    return f"{asked} (through the switch)" if asked and box.switched else asked


def wire_words(wire: Wire) -> str:
    """Name and size of a FIFO."""
    size = f"{wire.number} x {wire.capacity}" if wire.number > 1 else f"{wire.capacity}"
    return f"{wire.name}{': ' * bool(wire.name)}{size}{' credits' if wire.full else ''}"
