"""The gallery: a page for each machine, made of its files and its code."""

from __future__ import annotations

import csv
import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from archsim import examples
from archsim.accelerators import registry
from archsim.dataflow import networks
from archsim.dataflow.base import Accelerator
from archsim.dataflow.machine import DrawnMachine
from archsim.docs.markdown import code, plain, prose, table
from archsim.docs.site import SOURCES
from archsim.hardware.loading import explained_values, header_of
from archsim.report import diagram
from archsim.report.names import readable
from archsim.report.rounding import rounded
from archsim.simulate import load_accelerator, wiring

PACKAGE = SOURCES.parent
RESULTS = PACKAGE.parent / "benchmarks" / "papers"
ORDER = (
    *("loas", "sparten_snn", "sparten", "gospa_snn", "gamma_snn", "gamma", "ptb", "stellar", "gustav_snn"),
    *("spinalflow", "ttfs", "prosperity", "systolic", "bit_composable", "flywire", "neuron_core", "sata", "tt_snn"),
    *("manycore", "spikesim", "imc"),
)
"""Machines in the order of the gallery; those that are not named here come last."""
DEVIATIONS = {
    "sparten_snn": ("loas",),
    "sparten": ("loas",),
    "gamma_snn": ("gamma", "loas"),
    "gamma": ("gamma", "loas"),
    "gospa_snn": ("gospa_snn", "loas"),
    "systolic": ("systolic", "streams", "loas"),
    "bit_composable": ("systolic", "streams", "loas"),
    "ptb": ("ptb", "systolic", "streams", "loas"),
    "stellar": ("stellar", "systolic", "streams", "loas"),
    "spinalflow": ("spinalflow", "streams", "loas"),
    "ttfs": ("ttfs", "spinalflow", "streams", "loas"),
    "prosperity": ("prosperity", "streams", "loas"),
    "gustav_snn": ("gustav_snn", "streams", "loas"),
    "flywire": ("flywire", "loas"),
    "neuron_core": ("neuron_core", "loas"),
    "manycore": ("manycore", "loas"),
    "tt_snn": ("tt_snn", "sata"),
    "spikesim": ("spikesim", "analog"),
    "imc": ("imc", "analog", "spikesim"),
}
"""Pages of deviations that a machine's values refer to, where it is not one of its own name."""


class Compared(NamedTuple):
    """A stored table: what its ``quantity`` is, as a form of its columns, and which columns have what.

    ``machine`` is the column that names machines; a table without one is about the machine ``about``. A table of ratios
    to a ``reference`` machine is also on that machine's page. ``network`` is what ran where no column says it.
    """

    file: str
    machine: str
    quantity: str
    reference: str = ""
    about: str = ""
    network: str = "VGG16 (recorded)"
    paper: str = "paper"
    ours: str = "ours"


def _study(machine: str) -> Compared:
    """The works that the study of ICASSP 2024 compares, on one of its two machines."""
    return Compared(
        *("works.csv", "work", "energy of a work's baseline / of {work}"),
        about=machine,
        network="VGG9 (synthetic)",
        paper=f"study_{machine}",
        ours=f"archsim_{machine}",
    )


COMPARED = {
    "loas_micro24": (
        Compared("fig12_speedup.csv", "baseline", "speedup of LoAS over {baseline}", "loas"),
        Compared("fig12_masking.csv", "", "gain of masking neurons that fire once [%]", about="loas"),
        Compared("fig17_scaling.csv", "", "change of performance, {change} [%]", about="loas"),
        Compared("fig13_traffic.csv", "baseline", "{level} bytes / LoAS's"),
        Compared("energy.csv", "baseline", "energy / LoAS's"),
        Compared("fig18_ann.csv", "machine", "{quantity}"),
        Compared("fig19_dense.csv", "machine", "{quantity} / LoAS's"),
    ),
    "snn_energy_icassp24": (_study("sata"), _study("spikesim")),
}
NAMES = {readable(name): name for name in ORDER} | {
    "SparTen-ANN": "sparten",
    "Gamma-ANN": "gamma",
    "PTB (16 x 4)": "ptb",
    "Stellar (16 x 4, approximate)": "stellar",
}
"""Machines as those tables call them."""


class File(NamedTuple):
    """A shipped hardware file and the machine that it describes."""

    name: str
    path: Path
    machine: Accelerator


def pages() -> dict[str, str]:
    """All pages by path."""
    files: dict[str, list[File]] = {}
    for name, path in examples.machines().items():
        machine = load_accelerator(path)
        files.setdefault(machine.name, []).append(File(name, path, machine))
    order = [*ORDER, *sorted(files.keys() - set(ORDER))]
    made = {f"machines/{name}.md": "\n".join(_page(name, _shipped(name, files[name]))) for name in order}
    return {"machines/index.md": _index(order, files), **made}


def _shipped(name: str, files: Sequence[File]) -> list[File]:
    """The file that is named like the machine first."""
    return sorted(files, key=lambda file: (file.name != name, file.name))


def _index(order: Sequence[str], files: Mapping[str, Sequence[File]]) -> str:
    rows = [
        (f"[{readable(name)}]({name}.md)", prose(_module(name).__doc__ or "").partition("\n")[0], len(files[name]))
        for name in order
    ]
    contents = "\n".join(f"{readable(name)} <{name}>" for name in order)
    return (
        "# Machines\n\nEach page is generated from the machine's hardware files and its code.\n\n"
        f"{table(('machine', 'what it is', 'hardware files'), rows)}\n"
        f"```{{toctree}}\n:hidden:\n\n{contents}\n```\n"
    )


def _module(name: str) -> object:
    return sys.modules[registry()[name].__module__]


def _page(name: str, files: Sequence[File]) -> Iterator[str]:
    first, module = files[0], _module(name)
    summary, _, specification = prose(module.__doc__ or "").partition("\n")
    yield f"# {readable(name)}\n\n{summary}\n"
    yield _commands(first)
    yield table(
        ("hardware file", "what it describes", "constants"),
        [
            (code(file.name), plain(file.machine.config.description), "fitted" if file.machine.config.fitted else "")
            for file in files
        ],
    )
    yield f"## How it works\n\n{specification.strip()}\n"
    yield f"## What it is built of\n\n```text\n{diagram.draw(first.machine.inventory())}\n```\n"
    connected = diagram.connections(wiring(first.machine))
    yield f"## How its agents are connected\n\n```text\n{connected}\n```\n"
    yield from _agents(type(first.machine))
    yield from _comparison(name)
    yield from _deviations(name)
    yield from _sources(first)


def _commands(file: File) -> str:
    """The command that runs a machine on something that comes with archsim."""
    explain = f"archsim explain {file.name}"
    if networks.SPIKES in networks.kinds(file.machine):
        return f"```bash\narchsim run {file.name} vgg9\n{explain}\n```\n"
    synth = "archsim trace synth --preset vgg16_ann -o vgg16_ann.npz"
    return f"```bash\n{synth}\narchsim run {file.name} vgg16_ann.npz\n{explain}\n```\n"


def _agents(machine: type[Accelerator]) -> Iterator[str]:
    """The agents as they stand in the code, read when the pages are built."""
    if not issubclass(machine, DrawnMachine):
        return
    yield "## Agents\n"
    yield "The simulation runs these loop nests; together they are the dataflow.\n"
    for agent in machine.agents:
        yield f"```{{literalinclude}} {_source(agent)}\n:pyobject: {agent.__name__}\n:language: python\n```\n"


def _source(function: Callable[..., object]) -> str:
    file = Path(inspect.getsourcefile(function) or "").relative_to(PACKAGE)
    return f"../../{file.as_posix()}"


def _comparison(name: str) -> Iterator[str]:
    """What the stored tables of the papers say of this machine, where the paper has a number."""
    rows = [row for study, tables in COMPARED.items() for one in tables for row in _rows(study, one, name)]
    if rows:
        links = ", ".join(f"[{study}](../papers/{study}.md)" for study in dict.fromkeys(row[-1] for row in rows))
        yield f"## Beside the paper\n\nWhat the numbers are of, and why they differ: {links}.\n"
        yield table(("quantity", "network", "constants", "paper", "ours", "deviation"), [row[:-1] for row in rows])


def _rows(study: str, compared: Compared, name: str) -> Iterator[tuple[str, ...]]:
    path = RESULTS / study / "results" / compared.file
    with path.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            about = compared.about or NAMES.get(row[compared.machine], "")
            if not row[compared.paper] or name not in (about, compared.reference):
                continue
            paper, ours = float(row[compared.paper]), float(row[compared.ours])
            quantity = compared.quantity.format(**row)
            if name != about and row[compared.machine] not in quantity:
                quantity += f", {row[compared.machine]}"
            network = row.get("network") or row.get("workload") or compared.network
            off = f"{100 * (ours / paper - 1):+.0f} %"
            yield quantity, network, row.get("set", "default"), f"{paper:g}", rounded(ours), off, study


def _deviations(name: str) -> Iterator[str]:
    links = [f"[{readable(page)}](../deviations/{page}.md)" for page in DEVIATIONS.get(name, (name,))]
    yield f"## Deviations\n\nWhat the model decides where the paper is silent, or does otherwise: {', '.join(links)}.\n"


def _sources(file: File) -> Iterator[str]:
    yield f"## Values and their sources\n\n{_header(file.path)}\n"
    rows = []
    for row in explained_values(file.path, file.machine.config):
        if row.evidence:
            origin = row.source if row.given != "default" else "default"
            value = code(_written(row.value))
            rows.append((code(row.path), value, row.evidence, _linked(plain(origin)), plain(row.meaning)))
    yield "How far to trust a value: [evidence](../guide/evidence.md).\n"
    yield table(("path", "value", "evidence", "source", "meaning"), rows)
    yield f"What else each may be: [schema of its files](../reference/hardware/{file.machine.name}.md).\n"


@functools.cache
def decisions() -> dict[str, str]:
    """Where each numbered decision stands, such as ``open 12``: page and heading, as a link from a machine's page."""
    found = {}
    for page in sorted((SOURCES / "deviations").glob("*.md")):
        for heading in re.findall(r"^### (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE):
            anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            found[heading.partition(":")[0]] = f"../deviations/{page.name}#{anchor}"
    return found


def references(text: str) -> Iterator[tuple[re.Match[str], list[str]]]:
    """Where a text names decisions, and which: ``open 11, 12`` is two."""
    kinds = {name.partition(" ")[0] for name in decisions()}
    for found in re.finditer(rf"\b({'|'.join(sorted(kinds))}) (\d+)((?:, \d+)*)", text):
        yield found, [f"{found[1]} {number}" for number in (found[2], *found[3].split(", ")[1:])]


def _linked(source: str) -> str:
    """A source whose numbers of decisions lead to them."""

    for found, names in reversed(list(references(source))):
        links = ", ".join(f"[{name}]({decisions()[name]})" for name in names)
        source = source[: found.start()] + links + source[found.end() :]
    return source


def _header(path: Path) -> str:
    """The comment at the head of a hardware file, its paragraphs kept."""
    return plain(header_of(path))


def _written(value: object) -> str:
    """A value as a hardware file would have it."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
