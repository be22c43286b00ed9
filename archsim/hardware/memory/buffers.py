"""Scratchpad buffers in place of a cache: each holds what a program puts there, and has banks of its own.

Every buffer owns a window of the address space: its lines are ``window * 2^WINDOW_SHIFT`` and on, in the order in which
a machine declares its buffers. Line ``l`` of a buffer lives in its bank ``l mod banks``. There are no tags, so only
modes that need none may be used: STREAM_READ fills a line from DRAM, RESIDENT_READ and RESIDENT_WRITE access it,
STREAM_WRITE writes it through to DRAM (:mod:`archsim.hardware.operation`). That a buffer is large enough for what is
in it at any time is up to the program, which cuts its work into tiles of ``usable_bytes``.

A bank serves a beat of ``width_bits`` a cycle; timing is that of :mod:`archsim.hardware.memory.cache`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from pydantic import Field, model_validator

from archsim.hardware.interconnect.crossbar_switch import SwitchSpec
from archsim.hardware.loading import Block, CrossFieldError
from archsim.hardware.memory.cache import NONE, CacheSpec
from archsim.hardware.memory.placement import LineSpec, line_spec
from archsim.hardware.memory.system import MemorySpec, MemorySystemConfig

WINDOW_SHIFT = 26
"""A buffer's window has 2^26 lines, 4 GiB where a line has 64 bytes."""


MAX_BANKS = 64


class BufferTensor(NamedTuple):
    """A tensor in a buffer: its first line, bytes of a tile of it, its row of the traffic table."""

    line: int
    tile_bytes: int
    row: int


class BufferConfig(Block):
    """One buffer."""

    size_kib: int = Field(ge=0, le=65536, description="capacity in KiB; 0: not built")


class BuffersConfig(Block):
    """What all buffers of a machine have in common; a machine adds its buffers, in the order of their windows."""

    banks: int = Field(ge=1, le=MAX_BANKS, description="banks of each buffer, each serving one access per cycle")
    line_bytes: int = Field(ge=16, le=1024, description="bytes of a line: what one fetch from DRAM brings")
    width_bits: int = Field(ge=8, le=512, description="bits that a bank delivers in a cycle")
    access_cycles: int = Field(ge=1, le=64, description="cycles from the grant of an access until data leave the bank")
    fetches: int = Field(ge=1, le=1024, description="lines on their way from DRAM at a time")
    double_buffer: bool = Field(description="true: one half is filled while the other works, so half is usable")

    @model_validator(mode="after")
    def _whole_lines(self) -> BuffersConfig:
        problems = {}
        if self.line_bytes & (self.line_bytes - 1):
            problems["line_bytes"] = "must be a power of two"
        if self.width_bits & (self.width_bits - 1):
            problems["width_bits"] = "must be a power of two"
        elif self.line_bytes * 8 % self.width_bits:
            problems["line_bytes"] = "must be a whole number of accesses of width_bits"
        lines = {name: self.size_bytes(name) // self.line_bytes for name in self.names()}
        if uneven := [f"{name} has {count}" for name, count in lines.items() if count % self.banks]:
            every = math.gcd(*lines.values())
            able = [banks for banks in range(1, MAX_BANKS + 1) if every % banks == 0]
            nearest = min(able, key=lambda banks: abs(banks - self.banks))
            problems["banks"] = (
                f"must divide the lines of every buffer, of {self.line_bytes} bytes: {', '.join(uneven)};"
                f" nearest: {nearest}"
            )
        if problems:
            raise CrossFieldError(problems)
        return self

    @classmethod
    def names(cls) -> list[str]:
        """The machine's buffers, in the order of their windows."""
        return [name for name, field in cls.model_fields.items() if field.annotation is BufferConfig]

    def size_bytes(self, name: str) -> int:
        """Capacity of a buffer."""
        buffer: BufferConfig = getattr(self, name)
        return buffer.size_kib * 1024

    def usable_bytes(self, name: str) -> int:
        """Bytes of a tile of a buffer."""
        return self.size_bytes(name) // (2 if self.double_buffer else 1)

    @classmethod
    def first_line(cls, name: str) -> int:
        """Where a buffer's window begins."""
        return cls.names().index(name) << WINDOW_SHIFT

    def tensor(self, name: str, row: int, *, second: bool = False) -> BufferTensor:
        """A tensor in buffer ``name``, in the ``second`` half of its window if another one lies in the first."""
        line = self.first_line(name) + (second << WINDOW_SHIFT - 1)
        return BufferTensor(line, self.usable_bytes(name), row)


class BufferedMemoryConfig(MemorySystemConfig):
    """Buffers and DRAM; a machine narrows ``buffers`` to its own."""

    buffers: BuffersConfig = Field(description="scratchpad buffers")

    @property
    def line_bytes(self) -> int:
        """Bytes of a line."""
        return self.buffers.line_bytes

    @property
    def lines_in_flight(self) -> int:
        """As many as ``buffers.fetches``."""
        return self.buffers.fetches

    def lines(self, burst: int) -> LineSpec:
        """Lines of the buffers."""
        return line_spec(self.buffers.line_bytes, self.buffers.width_bits, burst, self.lines_in_flight)

    def resolve(self, clock_mhz: float) -> MemorySpec:
        """Buffers as caches without tags, each with paths of its own."""
        buffers = self.buffers
        no_switch = SwitchSpec(1, 1, 0)
        spec = CacheSpec(
            banks=buffers.banks * len(buffers.names()),
            bank_shift=NONE,
            sets=1,
            set_shift=NONE,
            ways=1,
            fill_beats=buffers.line_bytes * 8 // buffers.width_bits,
            beat_bytes=buffers.width_bits // 8,
            access_cycles=buffers.access_cycles,
            conflicts=1,
            mshrs=buffers.fetches,
            keeps_live=0,
            window_shift=WINDOW_SHIFT,
            window_banks=buffers.banks,
        )
        return MemorySpec(
            int(self.ideal), no_switch, no_switch, buffers.access_cycles, buffers.access_cycles,
            max(1, buffers.access_cycles - 1), spec, self.dram.resolve(clock_mhz, buffers.line_bytes),
        )  # fmt: skip
