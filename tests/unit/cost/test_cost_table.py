"""Cost tables: every number has its source, and a wrong table is one clear error."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from archsim.cost import area_rows, load_table, price_rows, table_file, table_names
from archsim.errors import ConfigError
from archsim.simulate import load_accelerator
from tests.machines import LOAS
from tests.unit.report import damaged

TABLE = """\
name: tiny
title: for tests
families:
  wire:
    area_mm2: {value: 0, unit: mm2, node_nm: 32, confidence: assumed, source: "a wire takes no area"}
    energy_pj:
      transfer: {value: 0.1, unit: pJ/bit, per: [bits], node_nm: 32, confidence: assumed, source: "made up for tests"}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_tables_exist() -> None:
    assert table_names() == [
        "imc_32nm", "loas_32nm", "loas_constant_power", "manycore_14nm", "sata_32nm", "spikesim_65nm",
    ]  # fmt: skip


@pytest.mark.parametrize("name", table_names())
def test_every_entry_says_where_it_comes_from(name: str) -> None:
    table = load_table(name)
    assert table.name == name
    entries = list(table.entries())
    assert len(entries) >= 10
    for path, entry in entries:
        assert len(entry.source) >= 10, path
        assert entry.confidence in ("published", "cacti", "derived", "assumed"), path
        assert entry.unit, path
        if entry.confidence == "cacti":
            assert "CACTI" in entry.source, path
        if entry.node_nm is None:
            # Of no node: DRAM, and what the machine hands over (V^2 G t of its cells).
            assert path.startswith("dram.") or entry.unit == "pJ/pJ", path


def test_a_table_of_the_user(tmp_path: Path) -> None:
    table = load_table(write(tmp_path, TABLE))
    (entry,) = table.families["wire"].energy_pj["transfer"]
    assert (entry.value, entry.per, entry.node_nm) == (0.1, ("bits",), 32)


def test_unknown_name() -> None:
    with pytest.raises(ConfigError, match=r"unknown name, got 'loas_32'; allowed: .*did you mean 'loas_32nm'"):
        load_table("loas_32")


def test_temperature(tmp_path: Path) -> None:
    """A table says at which temperature its memories are; outside of what CACTI was run at is an error."""
    text = table_file("loas_32nm").read_text(encoding="utf-8")
    cool = load_table(write(tmp_path, text.replace("temperature_k: 360", "temperature_k: 300")))
    assert cool.sram is not None
    assert cool.sram.temperature_k == 300
    with pytest.raises(ConfigError, match=r"sram\.temperature_k: must be at most 400, got 500"):
        load_table(write(tmp_path, text.replace("temperature_k: 360", "temperature_k: 500")))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (', source: "made up for tests"', "", ":7:7 families.wire.energy_pj.transfer.source: missing"),
        ('"made up for tests"', '""', "families.wire.energy_pj.transfer.source: must have at least 10 characters"),
        ("value: 0.1", "value: -0.1", ":7:25 families.wire.energy_pj.transfer.value: must be at least 0, got -0.1"),
        ("value: 0.1", "value: .nan", "transfer.value: must be a finite number"),
        ("value: 0.1", "value: '0.1'", "transfer.value: must be a number, got '0.1'"),
        ("unit: pJ/bit", "unit: nJ/bit", "transfer.unit: wrong unit, got nJ/bit; allowed: pJ..."),
        ("unit: mm2", "unit: um2", "wire.area_mm2.unit: wrong unit, got um2; allowed: mm2..."),
        (
            "per: [bits]",
            "pre: [bits]",
            "families.wire.energy_pj.transfer.pre: unknown key; allowed: value, unit, node_nm",
        ),
        (
            "unit: pJ/bit, per: [bits]",
            "unit: '1', cacti: area_mm2",
            "sram: missing; wire.energy_pj.transfer needs a CACTI figure from it",
        ),
        ('confidence: assumed, source: "made', 'confidence: sure, source: "made', "transfer.confidence"),
        ("    area_mm2:", "    area:", "families.wire.area_mm2: missing"),
        ("title: for tests", "title: for tests\nname: twice", ":3:1 name: is given twice"),
        ("title: for tests", "title: &x for tests\nother: *x", ":3:8 other: alias '*x' is not allowed"),
        ("title: for tests", "title: [", "tiny.yaml:"),
        (TABLE, "", "is empty; expected a cost table"),
        ("title: for tests", "title: \x07", ":2:8: contains the unprintable character U+0007"),
        ("value: 0.1", "value: " + "9" * 5000, "transfer.value: is too large for a 64-bit integer"),
        (TABLE, "[1, 2]", ":1:1: must be a block of 'key: value' lines"),
        (TABLE, "[" * 50_000, ":1:33: nested deeper than 32 levels"),
        (TABLE, "[" * 500_000, "is larger than 65536 bytes"),
        ("value: 0.1", "value: !!int ''", "tag 'tag:yaml.org,2002:int' is not allowed"),
        ("value: 0.1", "value: !!timestamp x", "tag 'tag:yaml.org,2002:timestamp' is not allowed"),
        ("per: [bits]", f"per: [{', '.join(['bits'] * 9)}]", "transfer.per: must have at most 8 items"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in TABLE
    path = write(tmp_path, TABLE.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load_table(path)
    assert expected in str(caught.value)
    assert all(problem.startswith(str(path)) for problem in caught.value.problems)


def test_all_problems_of_a_table_at_once(tmp_path: Path) -> None:
    text = TABLE.replace("value: 0.1", "value: -1").replace("value: 0,", "value: x,").replace("node_nm: 32, ", "", 1)
    with pytest.raises(ConfigError) as caught:
        load_table(write(tmp_path, text))
    assert len(caught.value.problems) == 3


def test_a_table_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConfigError):
            load_table(path if path.suffix else f"{path}/")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "big.yaml").write_bytes(b"# " + b"x" * (1 << 20))
    for name, why in (("folder", "is a directory"), ("binary", "UTF-8"), ("big", "larger")):
        with pytest.raises(ConfigError, match=why):
            load_table(tmp_path / f"{name}.yaml")


@pytest.mark.parametrize("value", ["010", "1:30", "1e307", "0b11", "1_000"])
def test_a_number_is_what_it_is_in_a_hardware_file(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigError, match=r"value: must be .*, got"):
        load_table(write(tmp_path, TABLE.replace("value: 0.1", f"value: {value}")))
    path = write(tmp_path, TABLE.replace("value: 0.1", "value: 1e-3"))
    assert load_table(path).families["wire"].energy_pj["transfer"][0].value == 0.001


def test_damage_of_every_kind(tmp_path: Path) -> None:
    """Prices that are finite, or one refusal in printable lines that name the file; never another exception."""
    text = table_file("loas_constant_power").read_text("utf-8")
    inventory = load_accelerator(LOAS).inventory()
    path = tmp_path / "torn.yaml"
    outcomes = {True: 0, False: 0}
    for seed in range(150):
        draw = random.Random(seed)
        torn = damaged.content(text.encode(), seed)
        if seed % 2:  # a value is replaced
            words = sorted({word for line in text.splitlines() for word in line.replace(",", " ").split()})
            torn = text.replace(
                draw.choice(words), draw.choice((*damaged.WORDS, "!!bool x", "!!int ''", "&a", "<<")), 1
            )
            torn = torn.encode("utf-8", "surrogatepass")
        path.write_bytes(torn)
        try:
            table = load_table(path)
            found = [row.area_mm2 for row in area_rows(inventory, table)]
            found += [row.price for row in price_rows(inventory, table)]
            assert all(map(math.isfinite, found))
            outcomes[True] += 1
        except ConfigError as error:
            outcomes[False] += 1
            assert all(line.isprintable() and len(line) <= 1_000 for line in error.lines())
    assert min(outcomes.values()) > 20
