"""Networks as the old tools see them: shapes, timesteps and a few averages, in YAML; and what their reports share.

The tools read no spikes. A network file holds what all of them want, so that one file serves each::

    name: small
    timesteps: 4
    sparsity: {spikes: 0.9}
    layers:
      - {name: conv1, type: 2dconv, in_channels: 3, out_channels: 64, input: [32, 32], kernel: [3, 3], padding: [1, 1]}
      - {name: fc, type: linear, in_channels: 65536, out_channels: 10}

The tools' own examples are in the folder ``networks`` of each. Layers of other types are passed over, as the tools do,
and said to be.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from math import prod
from operator import add
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import Field, model_validator

from archsim.hardware.loading import Block, CrossFieldError, load_block
from archsim.report.files import json_text

CONVOLUTION, LINEAR = "2dconv", "linear"  # SATA_Sim's words

Pair = tuple[int, int]


class Sparsity(Block):
    """Shares of zeros, one number for all layers."""

    spikes: float = Field(0.9, ge=0, le=1, description="s_s; default: SATA_Sim's")
    potential_gradients: float = Field(0.7, ge=0, le=1, description="s_du; default: SATA_Sim's")
    surrogate_gradients: float = Field(0.6, ge=0, le=1, description="s_df; default: SATA_Sim's")


class Precision(Block):
    """Widths [bits]."""

    forward: int = Field(2, ge=1, le=64, description="b, of the forward pass in training; default: SATA_Sim's")
    spikes: int = Field(1, ge=1, le=64, description="in inference; default: archs/sata-config.yaml")
    weights: int = Field(8, ge=1, le=64, description="in inference; default: archs/sata-config.yaml")
    outputs: int = Field(1, ge=1, le=64, description="in inference; default: archs/sata-config.yaml")


class Crossbar(Block):
    """SpikeSim's crossbar arrays."""

    size: int = Field(64, ge=8, le=4096, multiple_of=8, description="rows and columns; default: SpikeSim's")
    device: Literal["rram", "sram"] = "rram"


class Layer(Block):
    """``2dconv`` needs channels, ``input`` and ``kernel``, ``linear`` only channels; other types are passed over."""

    name: str = Field(min_length=1)
    type: str = Field(min_length=1)
    in_channels: int = Field(1, ge=1, le=1 << 24)
    out_channels: int = Field(1, ge=1, le=1 << 24)
    input: tuple[int, int] = Field((1, 1), description="rows and columns of the input map")
    kernel: tuple[int, int] = (1, 1)
    stride: int = Field(1, ge=1, le=1 << 12)
    padding: tuple[int, int] = (0, 0)
    pool: int = Field(1, ge=1, le=1 << 12, description="the output map is pooled by so much, rows and columns")
    dram_ifmap_reads: int | None = Field(None, ge=0, description="SATA_Sim, inference: measured with the tool")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if not self.is_convolution and not self.is_linear:
            return self
        wanted = {"in_channels", "out_channels"} | ({"input", "kernel"} if self.is_convolution else set())
        problems = dict.fromkeys(sorted(wanted - self.model_fields_set), f"missing; a {self.type} needs it")
        for key, least in {"input": 1, "kernel": 1, "padding": 0}.items():
            if not all(least <= side <= 1 << 16 for side in getattr(self, key)):
                problems[key] = f"must be rows and columns from {least} to {1 << 16}"
        if self.is_linear:
            maps = {"input", "kernel", "stride", "padding", "pool"} & self.model_fields_set
            problems |= dict.fromkeys(sorted(maps), f"a {LINEAR} has none; remove it")
        if not problems and min(self.output) // self.pool < 1:
            problems["input"] = "leaves no output: too small for kernel, padding and pool"
        if problems:
            raise CrossFieldError(problems)
        return self

    @property
    def is_convolution(self) -> bool:
        """Whether it is a convolution to the tools."""
        return self.type == CONVOLUTION

    @property
    def is_linear(self) -> bool:
        """Whether it is fully connected to the tools."""
        return self.type == LINEAR

    @property
    def weights(self) -> int:
        """W, how many weights it has."""
        return self.out_channels * self.in_channels * prod(self.kernel)

    @property
    def output(self) -> Pair:
        """Rows and columns of the output map, before a pool."""
        rows, columns = (
            (side + 2 * around - window) // self.stride + 1
            for side, around, window in zip(self.input, self.padding, self.kernel, strict=True)
        )
        return rows, columns

    @property
    def pooled(self) -> Pair:
        """Rows and columns of the output map, after the pool."""
        return self.output[0] // self.pool, self.output[1] // self.pool


class Network(Block):
    """A network file; a tool checks more in its own kind."""

    name: str = Field(min_length=1)
    timesteps: int = Field(ge=1, le=1 << 16)
    sparsity: Sparsity = Sparsity()
    precision: Precision = Precision()
    crossbar: Crossbar = Crossbar()
    layers: tuple[Layer, ...] = Field(max_length=4096)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [layer.name for layer in self.layers]
        twice = [i for i, name in enumerate(names) if name in names[:i]]
        if twice:
            raise CrossFieldError({f"layers.{i}.name": "is the name of an earlier layer too" for i in twice})
        return self


NetworkT = TypeVar("NetworkT", bound=Network)


def load_network(path: str | Path, kind: type[NetworkT], overrides: Sequence[str] = ()) -> NetworkT:
    """The network of the file at ``path`` with ``overrides`` (``timesteps=8``); ConfigError with every problem."""
    return load_block(path, kind, "a network", overrides)


@dataclass(frozen=True)
class Counter:
    """How often something happens, and its price: ``n`` times ``energy_each``."""

    n: float
    energy_each: float

    @property
    def energy(self) -> float:
        """E, in the unit of ``energy_each``."""
        return self.n * self.energy_each


def added(numbers: Iterable[float]) -> float:
    """The sum from left to right, as the tools add; ``sum`` makes up for rounding errors since Python 3.12."""
    return reduce(add, numbers, 0)


def counter_rows(counters: Mapping[str, Counter], unit: str) -> list[dict[str, Any]]:
    """``counters`` with their names; ``unit`` (pJ, nJ) ends the keys that are energies."""
    return [
        {"counter": name, "n": c.n, f"energy_each_{unit}": c.energy_each, f"energy_{unit}": c.energy}
        for name, c in counters.items()
    ]


def show(rows: Sequence[Mapping[str, object]]) -> None:
    """``rows`` as a table on stdout: aligned on a terminal, tab-separated with full precision in a pipe."""
    columns = list(rows[0]) if rows else []
    if not sys.stdout.isatty():
        for cells in (columns, *(row.values() for row in rows)):
            print("\t".join("" if cell is None else str(cell) for cell in cells))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        is_number = all(isinstance(row[column], int | float) for row in rows)
        table.add_column(column.replace("_", " "), justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_for_people(cell) for cell in row.values()))
    Console(markup=False, emoji=False, highlight=False).print(table)


def _for_people(cell: object) -> str:
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        return f"{cell:,.2f}" if abs(cell) >= 1000 else f"{cell:.6g}"
    return "" if cell is None else str(cell)


def parser(documentation: str | None, epilogue: str) -> argparse.ArgumentParser:
    """What both commands take: a network, timesteps, overrides, ``--json``."""
    made = argparse.ArgumentParser(
        description=(documentation or "").partition("\n")[0],
        epilog=epilogue,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("network", metavar="NETWORK.yaml", help="see legacy_network.py; examples are in networks/")
    made.add_argument("--timesteps", metavar="T", help="instead of the file's")
    made.add_argument("--set", metavar="PATH=VALUE", action="append", default=[], help="such as precision.forward=8")
    made.add_argument("--json", action="store_true", help="every counter, of the network and of each layer")
    return made


def overrides_of(arguments: argparse.Namespace, paths: Mapping[str, str]) -> list[str]:
    """The options that were given as overrides of a network file: ``paths`` says where each option belongs."""
    given = [(path, getattr(arguments, option)) for option, path in paths.items()]
    return [*arguments.set, *(f"{path}={value}" for path, value in given if value is not None)]


def tell(report: Mapping[str, Any], tables: Iterable[Sequence[Mapping[str, object]]], *, as_json: bool) -> None:
    """Print ``report`` as JSON, or its ``tables``, its totals and its notes."""
    if as_json:
        print(json_text(report), end="")
        return
    totals = [{"total": name, "value": value} for name, value in report["totals"].items()]
    for table in (*tables, totals):
        show(table)
        print()
    for note in report["notes"]:
        print(f"note: {note}")


def skipped_note(layers: Iterable[Layer]) -> list[str]:
    """A note that names the layers a tool passes over, if there are any."""
    skipped = [f"{layer.name} ({layer.type})" for layer in layers]
    return [f"skipped, as the tool does: {', '.join(skipped)}"] if skipped else []
