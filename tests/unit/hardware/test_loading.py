"""Hardware files: every kind of mistake is found, placed and explained, and a good file round-trips."""

import json
import os
from pathlib import Path
from typing import Literal, Self

import pytest
import yaml
from pydantic import Field, ValidationError, model_validator

from archsim.errors import ConfigError
from archsim.hardware import extending, plain_yaml
from archsim.hardware.loading import (
    Block,
    CrossFieldError,
    explained_values,
    field_rows,
    json_schema,
    load_block,
    load_machine,
    machine_files,
    resolved_yaml,
)
from archsim.hardware.plain_yaml import MAX_DEPTH, MAX_VALUES


class Cache(Block):
    size_kib: int = Field(256, ge=1, le=4096, description="capacity", json_schema_extra={"source": "LoAS Table III"})
    banks: int = Field(16, ge=1)
    policy: Literal["priority", "lru"] = "priority"

    @model_validator(mode="after")
    def _power_of_two(self) -> Self:
        if self.banks & (self.banks - 1):
            raise CrossFieldError({"banks": "must be a power of two"})
        return self


class Memory(Block):
    ideal: bool = False
    cache: Cache = Cache()
    bandwidth_gb_s: float = Field(128, gt=0)
    window: int | Literal["auto"] = "auto"
    span: tuple[int, int] = (1, 2)


class Config(Block):
    accelerator: Literal["toy"]
    clock_mhz: int = Field(ge=1, le=10_000, description="base clock")
    memory: Memory = Memory()
    note: str = ""


GOOD = "accelerator: toy\nclock_mhz: 800\n"
DEEP = "a: " + "[" * 200


@pytest.fixture
def load(tmp_path):
    def load(content, *overrides):
        path = tmp_path / "hw.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return load_machine(path, {"toy": Config}, overrides)

    return load


@pytest.fixture
def problems(load, tmp_path):
    """The lines that loading raises, without the folder."""

    def problems(content, *overrides):
        with pytest.raises(ConfigError) as caught:
            load(content, *overrides)
        return [line.replace(f"{tmp_path}{os.sep}", "") for line in caught.value.problems]

    return problems


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("", "hw.yaml: is empty; expected a machine, starting with 'accelerator: NAME'"),
        ("# nothing\n", "hw.yaml: is empty; expected a machine, starting with 'accelerator: NAME'"),
        ("- a\n", "hw.yaml:1:1: must be a block of 'key: value' lines, got ['a']"),
        ("toy\n", "hw.yaml:1:1: must be a block of 'key: value' lines, got 'toy'"),
        ("a: [1\n", "hw.yaml:2:1: while parsing a flow sequence, expected ',' or ']', but got '<stream end>'"),
        ("a: b: c\n", "hw.yaml:1:5: mapping values are not allowed here"),
        (DEEP, "hw.yaml:1:35: nested deeper than 32 levels"),
        (b"a: \xff\n", "hw.yaml:1:4: is not UTF-8 text, got byte 0xff; expected a hardware file (YAML)"),
        ("a: 1\nb: \x01\n", "hw.yaml:2:4: contains the unprintable character U+0001"),
        (GOOD + "---\na: 1\n", "hw.yaml:3:1: must be a single document; remove the second '---'"),
        ("a: !x!y 1\n", "hw.yaml:1:4: while parsing a node, found undefined tag handle '!x!'"),
        ("clock_mhz: 800\n", "hw.yaml:1:1 accelerator: missing; allowed: toy"),
        (
            "accelerator: tpy\n",
            "hw.yaml:1:14 accelerator: unknown accelerator, got 'tpy'; allowed: toy (did you mean 'toy'?)",
        ),
        ("accelerator: 3\n", "hw.yaml:1:14 accelerator: unknown accelerator, got 3; allowed: toy"),
        ("accelerator: toy\n", "hw.yaml:1:1 clock_mhz: missing; expected: base clock"),
        (GOOD + "clock_mhz: 9\n", "hw.yaml:3:1 clock_mhz: is given twice, first at hw.yaml:2:1"),
        (GOOD + "1: 2\n", "hw.yaml:3:1: a key must be a word, got 1"),
        (GOOD + "? [a]\n: 2\n", "hw.yaml:3:3: a key must be a word, got a list or block"),
        (GOOD + "<<: {note: a}\n", "hw.yaml:3:1: merge key '<<' is not allowed; write the keys out"),
        (
            GOOD + "note: &n a\n",
            "hw.yaml:3:7 note: anchor '&n' is not allowed; write the value out where it is used",
        ),
        (GOOD + "memory: *m\n", "hw.yaml:3:9 memory: alias '*m' is not allowed; write the value out"),
        (GOOD + "note: !!str 1\n", "hw.yaml:3:7 note: tag 'tag:yaml.org,2002:str' is not allowed"),
        (GOOD + "memory: 3\n", "hw.yaml:3:9 memory: must be a block of 'key: value' lines, got 3"),
        (GOOD + "memory:\n", "hw.yaml:3:8 memory: must be a block of 'key: value' lines, got nothing"),
        (GOOD + "memory: {ideal: yes}\n", "hw.yaml:3:17 memory.ideal: must be true or false, got 'yes'"),
        (GOOD + "memory: {ideal: 1}\n", "hw.yaml:3:17 memory.ideal: must be true or false, got 1"),
        (GOOD + "memory: {bandwidth_gb_s: .nan}\n", "must be a finite number, got nan"),
        (GOOD + "memory: {bandwidth_gb_s: 1e999}\n", "must be a finite number, got inf"),
        (GOOD + "memory: {bandwidth_gb_s: 0}\n", "hw.yaml:3:26 memory.bandwidth_gb_s: must be more than 0, got 0"),
        (GOOD + "memory: {window: {a: 1}}\n", "memory.window: must be an integer or must be 'auto', got a block"),
        (GOOD + "memory: {window: 1.5}\n", "memory.window: must be an integer or must be 'auto', got 1.5"),
        (GOOD + "memory: {span: [1, 2, 3]}\n", "memory.span: must have at most 2 items, got [1, 2, 3]"),
        (GOOD + "memory: {span: 1}\n", "memory.span: must be a list, such as [1, 2], got 1"),
        (GOOD + "memory: {span: [1, x]}\n", "hw.yaml:3:20 memory.span.1: must be an integer, got 'x'"),
        (GOOD + "note: 3\n", "hw.yaml:3:7 note: must be text, got 3"),
        (
            GOOD + "memory: {cache: {policy: lri}}\n",
            "memory.cache.policy: must be 'priority' or 'lru', got 'lri' (did you mean 'lru'?)",
        ),
        (
            GOOD + "memory:\n  cache:\n    size_kb: 3\n",
            "hw.yaml:5:5 memory.cache.size_kb: unknown key; "
            "allowed: size_kib, banks, policy (did you mean 'memory.cache.size_kib'?)",
        ),
        (
            GOOD + "size_kib: 3\n",
            "hw.yaml:3:1 size_kib: unknown key; "
            "allowed: accelerator, clock_mhz, memory, note (did you mean 'memory.cache.size_kib'?)",
        ),
        (GOOD + "memory: {cache: {banks: 12}}\n", "hw.yaml:3:25 memory.cache.banks: must be a power of two, got 12"),
    ],
)
def test_one_mistake_one_line(problems, content, line):
    (problem,) = problems(content)
    assert problem == line or (not line.startswith("hw.yaml") and problem.endswith(line))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("0", "must be at least 1, got 0"),
        ("-5", "must be at least 1, got -5"),
        ("10001", "must be at most 10000, got 10001"),
        ("800.0", "must be an integer, got 800.0"),
        ("'800'", "must be an integer, got '800'"),
        ("010", "must be an integer, got '010'"),
        ("1_000", "must be an integer, got '1_000'"),
        ("1:30", "must be an integer, got '1:30'"),
        ("true", "must be an integer, got true"),
        ("", "must be an integer, got nothing"),
        ("{a: 1}", "must be an integer, got a block"),
        ("9" * 30, f"is too large for a 64-bit integer, got {'9' * 30}"),
        ("9" * 5000, f"is too large for a 64-bit integer, got {'9' * 38}... (5,000 characters)"),
    ],
)
def test_a_wrong_number_is_the_same_in_file_and_override(problems, value, words):
    assert problems(f"accelerator: toy\nclock_mhz: {value}\n") == [
        f"hw.yaml:2:{12 if value else 11} clock_mhz: {words}"
    ]
    (problem,) = problems(GOOD, f"clock_mhz={value}")
    assert problem.startswith("--set clock_mhz=") and problem.endswith(f": {words}")


def test_all_mistakes_at_once_in_the_order_of_the_file(problems):
    content = "accelerator: toy\nclock_mhz: 0\nmemory:\n  ideal: no\n  cache: *c\n" + "\n" * 7 + "nota: 1\n"
    assert [line.split(":")[1] for line in problems(content, "note=3")[:-1]] == ["2", "4", "5", "13"]
    assert problems(content, "note=3")[-1].startswith("--set note=3")


def test_a_small_file_of_very_many_values_is_not_read_to_its_end(problems):
    """Blocks, keys and values are counted: accelerator, toy and the block are 3, a, 2 each its key and its list."""
    wide = f"accelerator: toy\na: [{', '.join(['1'] * (MAX_VALUES - 5))}]\n"
    assert "more than" not in problems(wide)[0]
    wide = wide.replace("]", ", 1]")
    assert problems(wide) == [f"hw.yaml:2:{len(wide.splitlines()[1]) - 1}: more than 5,000 keys and values"]


def test_refused_items_of_a_list_are_not_also_missed(problems):
    assert problems(GOOD + "memory: {span: [a, 1]}\n") == ["hw.yaml:3:17 memory.span.0: must be an integer, got 'a'"]


def test_very_many_mistakes_are_summarised(problems):
    lines = problems(GOOD + "".join(f"k{i}: 1\n" for i in range(70)))
    assert len(lines) == 70
    assert lines[69].startswith("hw.yaml:")


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["foo"], "--set foo: must be PATH=VALUE, such as pe.count=32"),
        (["a..b=1"], "--set a..b=1: must be PATH=VALUE, such as pe.count=32"),
        (["=1"], "--set =1: must be PATH=VALUE, such as pe.count=32"),
        (
            ["memory.cache.bank=8"],
            "--set memory.cache.bank=8: unknown key; "
            "allowed: size_kib, banks, policy (did you mean 'memory.cache.banks'?)",
        ),
        (
            ["clock_mhz.x=1"],
            "--set clock_mhz.x=1: clock_mhz is a value, not a block with keys, got 800",
        ),
        (["memory.span=[1"], "while parsing a flow sequence, expected ',' or ']', but got '<stream end>'"),
        (["note=*a"], "--set note=*a: alias '*a' is not allowed; write the value out"),
        (["note=a", "note=b"], "--set note=b: would undo '--set note=a'; give each path once"),
        (
            ["memory.ideal=true", "memory={}"],
            "--set memory={}: would undo '--set memory.ideal=true'; give each path once",
        ),
        (["memory.cache.banks=12"], "--set memory.cache.banks=12: must be a power of two, got 12"),
        (["accelerator=x"], "--set accelerator=x: unknown accelerator, got 'x'; allowed: toy"),
    ],
)
def test_a_wrong_override_points_to_itself(problems, overrides, line):
    (problem,) = problems(GOOD, *overrides)
    assert problem == line or (not line.startswith("--set") and problem.endswith(line))


def test_overrides_replace_values_and_open_blocks(load):
    config = load(GOOD, "clock_mhz=500", "memory.cache.banks=8", "memory.span=[3, 4]", "memory.bandwidth_gb_s=1e2")
    assert (config.clock_mhz, config.memory.cache.banks, config.memory.span) == (500, 8, (3, 4))
    assert config.memory.bandwidth_gb_s == 100.0
    assert config.memory.cache.size_kib == 256


def test_an_override_mends_a_wrong_value(load):
    assert load("accelerator: toy\nclock_mhz: 0\n", "clock_mhz=1").clock_mhz == 1


def test_a_config_cannot_be_changed(load):
    with pytest.raises(ValidationError, match="frozen"):
        load(GOOD).clock_mhz = 3


def test_integers_are_numbers_but_not_the_other_way(load):
    assert load(GOOD + "memory: {bandwidth_gb_s: 3}\n").memory.bandwidth_gb_s == 3.0


class TestFiles:
    def read(self, path):
        with pytest.raises(ConfigError) as caught:
            load_machine(path, {"toy": Config})
        return str(caught.value)

    def test_missing_with_the_nearest_name(self, tmp_path):
        (tmp_path / "loas.yaml").write_text(GOOD)
        assert self.read(tmp_path / "laos.yaml").endswith("laos.yaml: no such file (did you mean 'loas.yaml'?)")
        assert self.read(tmp_path / "none" / "x.yaml").endswith("no such file")

    def test_directory(self, tmp_path):
        assert "is a directory" in self.read(tmp_path)

    def test_device(self):
        assert "is not a regular file" in self.read(os.devnull)

    def test_nul_in_the_name(self):
        assert "cannot be read" in self.read("a\0b")

    def test_unreadable(self, tmp_path):
        path = tmp_path / "hw.yaml"
        path.write_text(GOOD)
        path.chmod(0)
        # Root reads everything, so root reads as somebody else.
        user = os.geteuid()
        for folder in [tmp_path, *tmp_path.parents] if user == 0 else []:
            if folder.stat().st_mode & 0o5 != 0o5 and folder != folder.parent:
                folder.chmod(folder.stat().st_mode | 0o5)
        if user == 0:
            os.seteuid(65534)
        try:
            message = self.read(path)
        finally:
            os.seteuid(user)
        assert "cannot be read: Permission denied" in message

    def test_too_large_is_refused_without_reading_it_all(self, tmp_path):
        path = tmp_path / "hw.yaml"
        with path.open("wb") as file:
            file.truncate(1 << 40)  # sparse
        assert "is larger than" in self.read(path)

    def test_byte_order_mark_is_fine(self, load):
        assert load(b"\xef\xbb\xbf" + GOOD.encode()).clock_mhz == 800


@pytest.mark.parametrize("note", ["", "yes", "1e9", "010", "1:30", "null", "a: b", "µ", "~", "0x1F", ".5"])
def test_resolved_yaml_reads_back_equal(load, note):
    config = load(GOOD, "memory.bandwidth_gb_s=1e30", f"note='{note}'")
    assert config.note == note
    assert load(resolved_yaml(config)) == config


def test_resolved_yaml_says_everything(load):
    assert resolved_yaml(load(GOOD)).splitlines()[:6] == [
        *("accelerator: toy", "clock_mhz: 800", "memory:", "  ideal: false", "  cache:", "    size_kib: 256")
    ]


def test_field_rows_know_defaults_and_sources(load):
    rows = {row.path: row for row in field_rows(load(GOOD, "memory.cache.banks=4"))}
    assert list(rows)[:3] == ["accelerator", "clock_mhz", "memory.ideal"]
    assert rows["clock_mhz"] == ("clock_mhz", 800, False, "base clock", "")
    assert rows["memory.cache.size_kib"] == ("memory.cache.size_kib", 256, True, "capacity", "LoAS Table III")
    assert not rows["memory.cache.banks"].is_default
    assert all(row.is_default for path, row in {r.path: r for r in field_rows(load(GOOD))}.items() if "memory" in path)


def test_json_schema_is_json_and_closed():
    schema = json.loads(json.dumps(json_schema(Config)))
    assert schema["additionalProperties"] is False
    assert schema["anyOf"][0] == {"required": ["accelerator", "clock_mhz"]}
    assert schema["$defs"]["Cache"]["properties"]["size_kib"]["maximum"] == 4096


class Item(Block):
    size: int = Field(ge=1)


class Shelf(Block):
    items: tuple[Item, ...]

    @model_validator(mode="after")
    def _sizes_rise(self) -> Self:
        sizes = [item.size for item in self.items]
        if sizes != sorted(sizes):
            raise CrossFieldError({"items.1.size": "must not fall"})
        return self


def test_other_files_and_lists_of_blocks_are_read_the_same_way(tmp_path):
    path = tmp_path / "shelf.yaml"

    def lines(content, *overrides):
        path.write_text(content)
        with pytest.raises(ConfigError) as caught:
            load_block(path, Shelf, "a shelf", overrides)
        return [line.removeprefix(f"{path}") for line in caught.value.problems]

    assert lines("") == [": is empty; expected a shelf"]
    assert lines("items:\n- {sise: 1}\n- {size: 0}\n") == [
        ":2:3 items.0.size: missing",
        ":2:4 items.0.sise: unknown key; allowed: size (did you mean 'items.0.size'?)",
        ":3:10 items.1.size: must be at least 1, got 0",
    ]
    assert lines("items:\n- {size: 2}\n- {size: 1}\n") == [":3:10 items.1.size: must not fall, got 1"]
    path.unlink()
    with pytest.raises(ConfigError, match="no such file"):
        load_block(path, Shelf, "a shelf")
    tmp_path.joinpath("shelf.yaml").mkdir()
    with pytest.raises(ConfigError, match=r"is a directory; expected a shelf \(YAML\)"):
        load_block(path, Shelf, "a shelf")
    path.rmdir()
    path.write_text("items: [{size: 1}, {size: 2}]\n")
    assert [item.size for item in load_block(path, Shelf, "a shelf").items] == [1, 2]


def test_the_path_of_an_override_is_no_deeper_than_a_file(problems):
    (problem,) = problems(GOOD, f"{'a.' * 40_000}b=3")
    assert problem.startswith("--set a.a.a.")
    assert problem.endswith(f"nested deeper than {MAX_DEPTH} levels")
    assert len(problem) < 200


class Lanes(Block):
    count: int = Field(ge=1, description="lanes")
    names: tuple[str, ...] = Field((), description="their names")


class Core(Block):
    width: int = Field(ge=1, description="width")
    lanes: Lanes = Field(description="lanes")


class Chip(Block):
    accelerator: Literal["chip"]
    clock_mhz: int = Field(ge=1, description="clock")
    core: Core = Field(description="core")
    other: Core = Field(description="another core")


CHIP = """
accelerator: chip
clock_mhz: 5   # a paper
core:
  width: 3     # a figure
  lanes: {count: 2, names: [a, b]}
other:
  width: 4
  lanes: {count: 1}
"""


def chips(folder, **texts):
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    return lambda name, *overrides: load_machine(folder / f"{name}.yaml", {"chip": Chip}, overrides)


class TestExtends:
    def test_a_machine_of_two_keys(self, tmp_path):
        load = chips(tmp_path, base=CHIP, mine="extends: base.yaml\ncore.lanes.count: 7\n")
        assert load("mine") == load("base", "core.lanes.count=7")
        assert load("mine", "core.width=1") == load("base", "core.lanes.count=7", "core.width=1")

    def test_a_block_of_another_machine(self, tmp_path):
        mine = "accelerator: chip\nclock_mhz: 1\nother: {extends: base.yaml}\ncore: {extends: base.yaml, width: 9}\n"
        load = chips(tmp_path, base=CHIP, mine=mine)
        assert load("mine") == load("base", "clock_mhz=1", "core.width=9")

    def test_blocks_are_laid_over_each_other_and_lists_replaced(self, tmp_path):
        mine = "extends: base.yaml\ncore:\n  lanes: {names: [c]}\n  lanes.count: 4\nother.lanes: {count: 3}\n"
        load = chips(tmp_path, base=CHIP, mine=mine.replace("  lanes.count: 4\n", ""))
        assert load("mine") == load("base", "core.lanes.names=[c]", "other.lanes.count=3")

    def test_an_extension_of_an_extension(self, tmp_path):
        load = chips(tmp_path, base=CHIP, one="extends: base.yaml\nclock_mhz: 6\n", two="extends: one.yaml\n")
        assert load("two") == load("base", "clock_mhz=6")

    def test_a_shipped_machine_by_name(self, tmp_path):
        from archsim.simulate import load_accelerator

        (tmp_path / "mine.yaml").write_text("extends: loas\npe.count: 32\n")
        assert load_accelerator(tmp_path / "mine.yaml").config == load_accelerator("loas", ["pe.count=32"]).config

    def test_the_folder_that_one_happens_to_be_in_says_nothing(self, tmp_path, monkeypatch):
        from archsim.simulate import load_accelerator

        (tmp_path / "machines").mkdir()
        monkeypatch.chdir(tmp_path)
        for name in ("base.yaml", "loas"):
            (tmp_path / name).write_text("extends: ptb\n")
        (tmp_path / "machines" / "one.yaml").write_text("extends: base.yaml\n")
        (tmp_path / "machines" / "two.yaml").write_text("extends: loas\n")
        with pytest.raises(ConfigError, match=r"base\.yaml: no such file"):
            load_accelerator("machines/one.yaml")
        assert load_accelerator("machines/two.yaml").name == "loas"

    def test_what_came_from_where(self, tmp_path):
        load = chips(tmp_path, base=CHIP, mine="extends: base.yaml\ncore.width: 8   # measured\n")
        rows = explained_values(tmp_path / "mine.yaml", load("mine", "other.width=2"), ["other.width=2"])
        found = {path: (value, given, source) for path, value, given, _, _, source in rows}
        assert found["clock_mhz"] == (5, "base.yaml", "a paper")
        assert found["core.width"] == (8, "file", "measured")
        assert found["core.lanes.count"] == (2, "base.yaml", "")
        assert found["other.width"] == (2, "override", "")
        assert found["other.lanes.names"] == ((), "default", "")

    def test_the_files_of_a_machine(self, tmp_path):
        chips(tmp_path, base=CHIP, one="extends: base.yaml\n", two="extends: one.yaml\nother: {extends: base.yaml}\n")
        names = [file.name for file in machine_files(tmp_path / "two.yaml")]
        assert names == ["two.yaml", "one.yaml", "base.yaml"]

    @pytest.mark.parametrize(("text", "wrong"), [
        ("extends: nowhere.yaml\n", "nowhere.yaml: no such file"),
        ("extends: bose.yaml\n", "bose.yaml: no such file (did you mean 'base.yaml'?)"),
        ("extends: 3\n", "mine.yaml:1:10 extends: must be the name or path of a hardware file, got 3"),
        ('extends: ""\n', "mine.yaml:1:10 extends: must be the name or path of a hardware file, got ''"),
        ("core: {extends: ' '}\n", "mine.yaml:1:17 core.extends: must be the name or path of a hardware file, got ' '"),
        ("extends: [base.yaml]\n", "mine.yaml:1:10 extends: must be the name or path"),
        (f"extends: {'a' * 300}\n", "cannot be read: File name too long"),
        ('extends: "a\\0b"\n', "mine.yaml:1:10 extends: must be the name or path"),
        ("extends: loop.yaml\n", "loop.yaml: cannot be read: Too many levels of symbolic links"),
        ("extends: mine.yaml\n", "mine.yaml:1:10 extends: mine.yaml extends this file, or is it"),
        ("extends: circle.yaml\n", "mine.yaml:1:10 extends: circle.yaml:1:10 extends: mine.yaml extends this file, or"),
        ("extends: base.yaml\nclock_mhz: {extends: base.yaml}\n", "base.yaml has no block there"),
        ("extends: base.yaml\nclock_mhz: 0\n", "mine.yaml:2:12 clock_mhz: must be at least 1, got 0"),
        ("extends: base.yaml\ncore.widht: 3\n", "mine.yaml:2:1 core.widht: unknown key; allowed: width, lanes"),
        ("extends: base.yaml\ncore.width: 3\ncore: {width: 4}\n", "core.width: is given twice, first at"),
        ("extends: base.yaml\nclock_mhz: 1\nclock_mhz.x: 4\n", "clock_mhz.x: is given twice, first at"),
        ("extends: base.yaml\n.width: 3\n", "a path is words with dots between them"),
        ("accelerator: chip\ncore.width: 3\n", "mine.yaml:2:1 core.width: unknown key"),
        ("extends: broken.yaml\n", "broken.yaml:3:12 clock_mhz: must be at least 1, got 0"),
        ("extends: damaged.yaml\n", "mine.yaml:1:10 extends: damaged.yaml:1:8"),
    ])  # fmt: skip
    def test_what_is_wrong_with_it(self, text, wrong, tmp_path):
        (tmp_path / "loop.yaml").symlink_to("loop.yaml")
        load = chips(
            tmp_path, base=CHIP, mine=text, circle="extends: mine.yaml\n",
            broken=CHIP.replace("clock_mhz: 5", "clock_mhz: 0"), damaged="core: [",
        )  # fmt: skip
        with pytest.raises(ConfigError) as caught:
            load("mine")
        assert wrong in str(caught.value)
        assert "accelerator: missing" not in str(caught.value)

    def test_each_file_is_read_once(self, tmp_path, monkeypatch):
        """Two ways to every file double the ways at each level."""
        read, real = [], extending.read_text
        monkeypatch.setattr(extending, "read_text", lambda path, *kind: (read.append(path.name), real(path, *kind))[1])
        levels = {f"level{i}": f"extends: level{i + 1}.yaml\ncore: {{extends: level{i + 1}.yaml}}\n" for i in range(7)}
        load = chips(tmp_path, base=CHIP, level7="extends: base.yaml\n", **levels)
        expected = load("base", "core.width=1", "other.width=2")
        read.clear()
        assert load("level0", "core.width=1", "other.width=2") == expected
        assert sorted(read) == ["base.yaml", *(f"level{i}.yaml" for i in range(8))]

    def test_a_long_chain(self, tmp_path):
        load = chips(tmp_path, **{f"link{i}": f"extends: link{i + 1}.yaml\n" for i in range(20)})
        with pytest.raises(ConfigError, match="more than 8 files that extend each other"):
            load("link0")

    def test_extends_is_no_override(self, tmp_path):
        load = chips(tmp_path, base=CHIP)
        with pytest.raises(ConfigError, match="unknown key"):
            load("base", "extends=base.yaml")

    def test_the_schema_knows_it(self):
        schema = json_schema(Chip)
        assert schema["properties"]["extends"]["type"] == "string"
        assert {"required": ["extends"]} in schema["anyOf"]
        assert {"required": ["width", "lanes"]} in schema["$defs"]["Core"]["anyOf"]


PLAIN_TEXTS = (
    *(path.read_text() for path in sorted((Path(__file__).parents[3] / "hwconfigs").rglob("*.yaml"))),
    "a: b\n  c # behind two lines\nd: 1",
    "a: |\n  x\n  y\nb: >\n  folded\n  text\nc: 'é' # ü\n",
    "a:\n- 1\n- {b: c, d: [e,\n  f]}\n# end\n",
    "a: &name 1\nb: *name\nc: !tag 2\n<<: 3\n",
    "",
)


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="this PyYAML has no libyaml, so there is nothing to compare")
@pytest.mark.parametrize("text", PLAIN_TEXTS, ids=lambda text: text[:30])
def test_libyaml_finds_what_python_finds(text, monkeypatch):
    """Values, kinds and positions; a comment is found by where a value ends."""

    def described(node):
        if node is None:
            return None
        value = node.value
        if isinstance(node, yaml.MappingNode):
            value = [(described(key), described(item)) for key, item in value]
        elif isinstance(node, yaml.SequenceNode):
            value = [described(item) for item in value]
        marks = [(mark.line, mark.column) for mark in (node.start_mark, node.end_mark)]
        return type(node), node.tag, value, marks

    loader, node = plain_yaml.nodes_of(text)
    monkeypatch.setattr(yaml, "__with_libyaml__", False)
    slow, expected = plain_yaml.nodes_of(text)
    assert described(node) == described(expected)
    assert sorted(loader.complaints.values()) == sorted(slow.complaints.values())
    assert (type(loader) is type(slow)) == ("two lines" in text)  # else both are read by the same one
