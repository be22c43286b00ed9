"""Buffers: windows of the address space, banks of their own, contention only within a buffer."""

import numpy as np
import pytest
from pydantic import Field, ValidationError

from archsim.hardware.memory.buffers import BufferConfig, BufferedMemoryConfig, BuffersConfig
from archsim.hardware.memory.cache import place_of

DRAM = {
    "channels": 1, "bandwidth_gb_s": 6.4, "row_hit_ns": 10, "row_miss_ns": 20, "row_bytes": 1024,
    "banks_per_channel": 2, "interleave_bytes": 64, "refresh_interval_ns": 0, "refresh_ns": 0,
}  # fmt: skip
BUFFERS = {
    "banks": 3, "line_bytes": 64, "width_bits": 128, "access_cycles": 2, "fetches": 4, "double_buffer": True,
    "left": {"size_kib": 6}, "right": {"size_kib": 0},
}  # fmt: skip


class Two(BuffersConfig):
    """Two buffers."""

    left: BufferConfig = Field(description="one")
    right: BufferConfig = Field(description="the other")


class Memory(BufferedMemoryConfig):
    """Both and DRAM."""

    buffers: Two = Field(description="two")


def memory(**changes):
    return Memory.model_validate({"ideal": False, "buffers": {**BUFFERS, **changes}, "dram": DRAM})


@pytest.mark.parametrize("banks", [1, 2, 3, 4, 6, 32, 48])
def test_banks_are_equal_and_hold_the_whole_buffer(banks):
    assert memory(banks=banks).buffers.size_bytes("left") % (banks * 64) == 0


def test_each_buffer_has_a_window_and_banks_of_its_own():
    spec = memory().resolve(400).cache
    assert (spec.banks, spec.window_banks, spec.fill_beats, spec.beat_bytes) == (6, 3, 4, 16)
    assert Two.names() == ["left", "right"]
    for number, name in enumerate(Two.names()):
        lines = Two.first_line(name) + np.arange(7)
        banks = [place_of(spec, int(line))[0] for line in lines]
        assert sorted(banks) == sorted(number * 3 + (line % 3) for line in lines)
        assert set(banks) == {3 * number, 3 * number + 1, 3 * number + 2}


def test_half_of_a_buffer_is_usable_if_the_other_is_filled():
    assert memory().buffers.usable_bytes("left") == 3072
    assert memory(double_buffer=False).buffers.usable_bytes("left") == memory().buffers.size_bytes("left") == 6144
    assert memory().buffers.size_bytes("right") == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"line_bytes": 48}, "power of two"), ({"width_bits": 48}, "power of two"),
        ({"line_bytes": 16, "width_bits": 256}, "whole number of accesses"), ({"banks": 0}, "greater than or equal"),
        ({"banks": 5}, "must divide the lines of every buffer, of 64 bytes: left has 96; nearest: 4"),
        ({"banks": 64, "right": {"size_kib": 1}}, "left has 96, right has 16; nearest: 16"),
    ],
)  # fmt: skip
def test_what_cannot_be(changes, words):
    with pytest.raises(ValidationError, match=words):
        memory(**changes)
