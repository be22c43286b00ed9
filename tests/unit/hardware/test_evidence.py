"""Evidence of constants: every shipped one has a grade by its own words, and nobody's own value has more than said."""

import pytest

from archsim import examples
from archsim.docs.gallery import decisions
from archsim.hardware.evidence import DECISIONS, GRADES, grade, weakest
from archsim.hardware.loading import NO_CONSTANTS, explained_values, resolved_yaml
from archsim.simulate import load_accelerator

MACHINES = examples.machines()


def explained(path, *overrides):
    return explained_values(path, load_accelerator(path, overrides).config, overrides)


def by_path(path, *overrides):
    return {row.path: row for row in explained(path, *overrides)}


@pytest.mark.parametrize("name", MACHINES)
def test_every_constant_that_is_shipped_says_its_source_and_so_its_grade(name):
    """What fails here has no comment behind it: hwconfigs/README.md says what one looks like."""
    rows = [row for row in explained(MACHINES[name]) if row.path not in NO_CONSTANTS]
    assert [row.path for row in rows if row.evidence not in GRADES] == []
    assert [row.path for row in rows if not row.source and ".device." not in row.path] == []


@pytest.mark.parametrize(("source", "expected"), [
    ("Table III: 16 TPPEs", "paper"),
    ("section V: 800 MHz", "paper"),
    ("Fig. 10", "paper"),
    ("Fig. 10, open 11: next fiber of B fetched while this one is used", "assumed"),
    ("open 11, 12: 100 cycles; 88 to 103 inferred from the paper's miss rates", "inferred"),
    ("section V: 800 MHz for LoAS; assumed here, for equal terms", "assumed"),
    ("LoAS, section V, for equal terms", "assumed"),
    ("as LoAS, Table III: 8-bit weights", "assumed"),
    ("LoAS, section VI-B: 16 x 4, as PTB", "paper"),
    ("sata 3: 16 bits in every cycle of 400 MHz", "assumed"),
    ("F40: no pointers", "assumed"),
    ("SATA_Sim: 16 banks", "paper"),
    ("SCALE-Sim: operand buffers are double-buffered", "paper"),
    ("tool", "paper"),
    ("secondary: 8 tiles x 8 PEs", "inferred"),
    ("circuit: a result a cycle", "rtl"),
    ("as LoAS, section V, for equal prices; circuit: 28 nm", "assumed"),
    ("CACTI 7: below 1 ns of 2.5 ns", "inferred"),
    ("column | chunk | none", "assumed"),
    ("", "assumed"),
    ("rtl, of a public circuit: four cycles a task", "rtl"),
    ("silicon: measured at 0.8 V, Table II", "silicon"),
    ("assumed, Table II has no such row", "assumed"),
])  # fmt: skip
def test_words_of_a_source(source, expected):
    assert grade(source) == expected


def test_only_the_first_word_counts_in_a_users_file():
    assert grade("Table III: 16 TPPEs", shipped=False) == "assumed"
    assert grade("paper, Table III: 16 TPPEs", shipped=False) == "paper"
    assert grade("papers say 16", shipped=False) == "assumed"


def test_all_kinds_of_decisions_are_known():
    assert {name.partition(" ")[0] for name in decisions()} <= set(DECISIONS)


def test_the_weakest_decides():
    assert weakest(["rtl", "inferred", "paper"]) == "inferred"
    assert [weakest([one, "paper"]) for one in GRADES] == ["paper", "paper", "paper", "inferred", "assumed"]


def test_what_the_user_gives_is_assumed(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("extends: loas\npe.count: 32   # Table III: 16 TPPEs\npe.fifo_depth: 4   # silicon: our chip\n")
    found = by_path(mine, "memory.cache.ways=8")
    assert {path: found[path].evidence for path in ("pe.count", "pe.fifo_depth", "memory.cache.ways", "clock_mhz")} == {
        "pe.count": "assumed", "pe.fifo_depth": "silicon", "memory.cache.ways": "assumed", "clock_mhz": "paper",
    }  # fmt: skip
    assert by_path("loas")["pe.count"].evidence == by_path("loas")["memory.cache.ways"].evidence == "paper"


def test_what_another_machine_lends_is_assumed_to_suit(tmp_path):
    """SparTen-SNN has LoAS's memory, for equal terms; a variant of LoAS has its own."""
    size = "memory.cache.size_kib"
    assert [by_path(name)[size].evidence for name in ("loas", "loas_literal_laggy", "loas_f40")] == ["paper"] * 3
    assert [by_path(name)[size].evidence for name in ("sparten_snn", "sparten_snn_f40", "ptb_16x4")] == ["assumed"] * 3
    mine = tmp_path / "mine.yaml"
    mine.write_text("extends: sparten_snn\n")
    assert by_path(mine)[size].evidence == "assumed"


@pytest.mark.parametrize("name", MACHINES)
def test_a_resolved_machine_keeps_what_was_graded(name, tmp_path):
    """Its comments say the grades, in the words that count in every file; a value that was overridden stays assumed."""
    rows = explained(name, "memory.dram.channels=8")
    config = load_accelerator(name, ["memory.dram.channels=8"]).config
    path = tmp_path / "resolved.yaml"
    path.write_text(resolved_yaml(config, rows), encoding="utf-8")
    assert load_accelerator(path).config == config
    again = by_path(path)
    lost = [row.path for row in rows if row.evidence != again[row.path].evidence]
    assert [one for one in lost if not isinstance(again[one].value, tuple)] == []
    assert "assumed, given by the user" in path.read_text()
    assert again["memory.dram.channels"].evidence == "assumed"


def test_a_comment_is_never_a_part_of_a_value(tmp_path):
    """Texts of several words or lines get none."""
    config = load_accelerator("loas").config
    odd = config.model_copy(update={"description": "two\n  lines: 3\n\n  pe: 4 # no"})
    path = tmp_path / "resolved.yaml"
    path.write_text(resolved_yaml(odd, explained("loas")))
    assert load_accelerator(path).config == odd
