"""Hardware files that somebody spoilt at random: a ConfigError in printable lines with their place, or a machine."""

import random
import re
from pathlib import Path

import pytest

from archsim.accelerators import registry
from archsim.errors import MOST_CHARACTERS, ConfigError
from archsim.hardware.loading import load_machine, resolved_yaml

MACHINES = sorted((Path(__file__).parents[3] / "hwconfigs").glob("*.yaml"))
SEEDS = 25
WORDS = (
    "!!bool x",
    "!!int ''",
    "!!float",
    "!!timestamp 1",
    "!!binary =",
    "!!set {a}",
    "!!python/object:os.system x",
    "!x y",
    "&a 1",
    "*a",
    "<<: {a: 1}",
    "0x",
    "010",
    "1:30",
    "2001-01-01",
    ".nan",
    "-.inf",
    "9" * 5000,
    "x" * 60_000,
    "null",
    "''",
    "[]",
    "{}",
    "[[1], {a: 2}]",
    "{a: " * 40,
    '"\\ud800"',
    '"\\x1b[2J"',
    "- 1",
    "? a",
    "|",
    ": :",
    "\t",
    "true",
    "-1",
    "1e400",
)


def spoilt(text, draw):
    """``text`` changed in one to three ways: bytes, lines, values."""
    for _ in range(draw.randint(1, 3)):
        lines = text.split("\n")
        place = draw.randrange(len(lines))
        key, colon, _ = lines[place].partition(":")
        match draw.randrange(7):
            case 0:
                del lines[place]
            case 1:
                lines.insert(place, lines[draw.randrange(len(lines))])
            case 2:
                lines[place] = f"{draw.choice([' ', '  ', '-', '!!int '])}{lines[place]}"
            case 3:
                at = draw.randrange(len(text))
                lines = [f"{text[:at]}{draw.choice(WORDS)}{text[at + draw.randrange(3) :]}"]
            case 4:
                at = draw.randrange(len(text))
                lines = [f"{text[:at]}{chr(draw.choice([0, 7, 27, 0x85, 0xFEFF, 0x202E, 0x2028, 0xFFFF]))}{text[at:]}"]
            case _:
                lines[place] = f"{key}{colon} {draw.choice(WORDS)}"
        text = "\n".join(lines)
    return text


@pytest.mark.parametrize("machine", MACHINES, ids=lambda path: path.stem)
def test_a_changed_file_is_refused_in_words_or_a_machine(machine, tmp_path):
    """Also values of overrides. What is a machine is one again when it is written and read."""
    configs = {name: kind.Config for name, kind in registry().items()}
    path = tmp_path / "machine.yaml"
    refused = 0
    for seed in range(SEEDS):
        draw = random.Random(seed)
        path.write_text(spoilt(machine.read_text(), draw), encoding="utf-8", errors="surrogatepass")
        overrides = [f"{draw.choice(['clock_mhz', 'memory.ideal', 'memory', 'x.y'])}={draw.choice(WORDS)}"] * (seed % 2)
        try:
            config = load_machine(path, configs, overrides)
        except ConfigError as error:
            refused += 1
            assert all(problem.isprintable() and len(problem) <= MOST_CHARACTERS for problem in error.problems)
            start = rf"{re.escape(str(path))}(:\d+:\d+|:)|(loas|manycore):\d+:\d+ |--set "  # what others extend
            assert all(re.match(start, problem) for problem in error.problems), error.problems
        else:
            path.write_text(resolved_yaml(config), encoding="utf-8")
            assert load_machine(path, configs) == config
    assert refused > SEEDS // 3
