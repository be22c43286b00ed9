"""Circuits of archsim's units in SystemVerilog, run by Verilator: every transfer of every stream with its cycle.

A circuit ``NAME`` is the module ``circuit`` in ``circuits/NAME_top.sv`` and what it is built of; ``harness.cpp`` says
how it is run. Verilator is a Debian package; CI has it, and fails without it (``ARCHSIM_TEST_RTL=all``).
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

HERE = Path(__file__).parent
VERILATOR = shutil.which("verilator")
needs_verilator = pytest.mark.skipif(
    VERILATOR is None and os.environ.get("ARCHSIM_TEST_RTL") != "all",
    reason="needs Verilator, a Debian package that .ci/run installs",
)


class Stream(NamedTuple):
    """Transfers of a stream: ``cycles`` int64 [n], and the words of each, uint32 [n, words]."""

    cycles: np.ndarray
    words: np.ndarray


class Ran(NamedTuple):
    """What a circuit did in a case; ``cycles`` is None where it did not end."""

    cycles: int | None
    inputs: list[Stream]
    outputs: list[Stream]

    @property
    def completions(self) -> int:
        """Items that it gave."""
        return sum(len(stream.cycles) for stream in self.outputs)


class Case(NamedTuple):
    """``inputs``: for each stream the release cycles int64 [n] and the words uint32 [n, words]; ``expected``: how many
    items each output gives; ``limit``: the cycle in which the case is given up."""

    settings: list[int]
    inputs: list[tuple[np.ndarray, np.ndarray]]
    expected: list[int]
    limit: int


class Circuit(NamedTuple):
    """A circuit that was built; numbers of streams, and of words of 32 bits of their items."""

    program: Path
    settings: int
    inputs: int
    in_words: int
    outputs: int
    out_words: int

    def run(self, cases: list[Case]) -> list[Ran]:
        """All ``cases``, one after the other, each from reset."""
        given = subprocess.run([self.program], input=self._said(cases), capture_output=True, check=True).stdout
        words, place = np.frombuffer(given, np.int64), 0
        found = []
        for _ in cases:
            cycles, place = int(words[place]), place + 1
            streams = []
            for width in [0] * self.inputs + [self.out_words] * self.outputs:
                count, place = int(words[place]), place + 1
                table = words[place : place + count * (1 + width)].reshape(count, 1 + width)
                streams.append(Stream(table[:, 0], table[:, 1:].astype(np.uint32)))
                place += table.size
            found.append(Ran(None if cycles < 0 else cycles, streams[: self.inputs], streams[self.inputs :]))
        assert place == len(words), "a case was not read to its end"
        return found

    def _said(self, cases: list[Case]) -> bytes:
        parts = [np.array([len(cases)])]
        for case in cases:
            assert (len(case.settings), len(case.inputs), len(case.expected)) == (
                self.settings, self.inputs, self.outputs,
            ), "streams of the case and of the circuit"  # fmt: skip
            parts.append(np.array([*case.settings, case.limit, *case.expected]))
            for release, words in case.inputs:
                items = np.column_stack([release, np.asarray(words, np.int64).reshape(len(release), self.in_words)])
                parts += [np.array([len(release)]), items.ravel()]
        return np.concatenate(parts).astype(np.int64).tobytes()


def build(
    name: str, folder: Path, *, settings: int, inputs: int, in_words: int, outputs: int, out_words: int,
    options: tuple[str, ...] = (),
) -> Circuit:  # fmt: skip
    """The circuit ``name``, compiled in ``folder``; ``options`` are Verilator's."""
    numbers = {
        "SETTINGS": settings, "INPUTS": inputs, "IN_WORDS": in_words, "OUTPUTS": outputs, "OUT_WORDS": out_words,
    }  # fmt: skip
    assert VERILATOR is not None, "Verilator is not installed"
    done([
        VERILATOR, "--cc", "-O3", *options, "-Wall", "-Wno-DECLFILENAME", "-Wno-UNUSEDSIGNAL", "-Wno-CMPCONST",
        "-Wno-UNSIGNED", "--top-module", "circuit", "--prefix", "Vcircuit", "--Mdir", str(folder), *sources(name),
        str(HERE / "circuits" / f"{name}_top.sv"),
    ])  # fmt: skip
    # In two pieces: what runs once, at reset, need not be fast. Many small ones would each read the same headers.
    written = sorted(folder.glob("*.cpp"))
    slow = [path for path in written if path.stem.endswith("Slow") or path.stem.endswith("Syms")]
    fast = [path for path in written if path not in slow]
    compiled = [
        compiling([HERE / "harness.cpp", *fast], folder / "fast.o", "-O2", folder, numbers),
        compiling(slow, folder / "slow.o", "-O0", folder, numbers),
    ]
    for process in compiled:
        process.wait()
    program = folder / "circuit"
    done(["g++", *(str(folder / piece) for piece in ("fast.o", "slow.o")), *library(folder.parent), "-pthread",
          "-o", str(program)])  # fmt: skip
    return Circuit(program, *numbers.values())


@cache
def library(folder: Path) -> list[str]:
    """What Verilator links to every circuit, compiled once for all of them."""
    names = "verilated", "verilated_threads"
    found = [folder / f"{name}.o" for name in names]
    compiled = [
        compiling([includes() / f"{name}.cpp"], path, "-O1", folder, {})
        for name, path in zip(names, found, strict=True)
    ]
    for process in compiled:
        process.wait()
    return [str(path) for path in found]


def includes() -> Path:
    """Where Verilator's headers are."""
    return Path(done([str(VERILATOR), "--getenv", "VERILATOR_ROOT"]).strip()) / "include"


def compiling(
    paths: list[Path], target: Path, level: str, folder: Path, numbers: dict[str, int]
) -> subprocess.Popen[bytes]:
    """A compiler at work on ``paths`` as one piece."""
    first, *others = map(str, paths)
    return subprocess.Popen([
        "g++", level, "-std=gnu++17", "-w", "-faligned-new", f"-I{folder}", f"-I{includes()}",
        f"-I{includes() / 'vltstd'}", *(f"-D{key}={value}" for key, value in numbers.items()),
        *(f"-D{name}=0" for name in ("VM_COVERAGE", "VM_SC", "VM_TRACE")),
        *(part for path in others for part in ("-include", path)), "-c", first, "-o", str(target),
    ])  # fmt: skip


def done(command: list[str]) -> str:
    """What ``command`` writes; a failure shows what it complains about."""
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def sources(name: str) -> list[str]:
    """Files that ``circuits/NAME_top.sv`` names in a line ``// needs: a.sv b.sv``."""
    text = (HERE / "circuits" / f"{name}_top.sv").read_text()
    lines = [line.removeprefix("// needs:") for line in text.splitlines() if line.startswith("// needs:")]
    return [str(HERE / "circuits" / file) for line in lines for file in line.split()]


CASES = int(os.environ.get("ARCHSIM_RTL_CASES", "2000"))
"""Random cases of each unit; many more than these take a night."""
LAYERS = -(-CASES * 3 // 20)
"""Random layers of each whole machine."""


def batches(size: int = 500, cases: int = CASES) -> Iterator[tuple[int, int]]:
    """Seeds, and how many of the ``cases`` are drawn with each."""
    for seed in range(-(-cases // size)):
        yield seed, min(size, cases - seed * size)


@contextmanager
def drawn(seed: int, number: int, what: object) -> Iterator[None]:
    """A comparison that fails in here says which case of which seed it was."""
    try:
        yield
    except AssertionError as error:
        error.add_note(f"seed {seed}, case {number}: {what}")
        raise


COMPARED: list[int] = []
"""Completions of each case that the test under way has compared; ``conftest.py`` writes down how many they are."""


def compare_all(
    circuit: Circuit, draw_case: Callable[[Any, int], Any], case_of: Callable[[Any], Case],
    compare: Callable[[Any, Ran], None], told: Callable[[Any], object] = lambda case: case, size: int = 500,
    cases: int = CASES,
) -> None:  # fmt: skip
    """Draw all ``cases``, run them in ``circuit`` and ``compare`` each; ``told`` is what a failure says of a case."""
    for seed, number in batches(size, cases):
        draw = np.random.default_rng(seed)
        batch = [draw_case(draw, i) for i in range(number)]
        for i, (case, ran) in enumerate(zip(batch, circuit.run([case_of(case) for case in batch]), strict=True)):
            with drawn(seed, i, told(case)):
                compare(case, ran)
            COMPARED.append(ran.completions)
