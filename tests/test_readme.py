"""The README: short, its examples run as they stand, its numbers are what they print."""

import csv
import doctest
import json
import re

import pytest
import yaml

import archsim
from archsim import examples
from archsim.accelerators import registry
from archsim.hardware.loading import explained_values
from archsim.simulate import COMPILING
from tests import pages
from tests.examples_of_pages import clone, run  # noqa: F401
from tests.machines import ROOT

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    "\n".join(line[4:] for line in block.splitlines()).strip()
    for block in re.findall(r"(?:^(?:    .*)?\n)+", re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL), re.MULTILINE)
    if block.strip()
]
INSTALLS = "python3 -m venv .venv && .venv/bin/pip install"
"""How the two commands begin that .ci/run runs: the main job, and the tests."""


def test_it_is_short():
    assert len(TEXT.splitlines()) <= 120


@pytest.mark.slow
def test_the_commands(clone, monkeypatch):  # noqa: F811
    installing = [command for command in COMMANDS if command.startswith(INSTALLS)]
    (examples,) = [command for command in COMMANDS if not command.startswith(INSTALLS)]
    assert len(installing) == 2
    assert len(examples.splitlines()) == 6
    monkeypatch.setenv("XDG_CACHE_HOME", str(clone / "cache"))
    assert run(clone, "bash", "-euc", examples).endswith("guide/sweeps.html\n")


def test_the_output_and_the_numbers_of_the_main_job(clone):  # noqa: F811
    (job,) = [command.rpartition(".venv/bin/")[2] for command in COMMANDS if "archsim run hwconfigs" in command]
    code, printed = pages.shown(job, clone, pages.environment(clone))
    assert code == 0
    output = TEXT.partition("```text\n")[2].partition("```")[0]
    printed = printed.replace(f"{COMPILING}\n", "")  # with a cold cache of kernels
    assert doctest.OutputChecker().check_output(output, printed, pages.LOOSE), printed
    folder = clone / "results" / "loas__vgg16_dual_sparse"
    summary = json.loads((folder / "summary.json").read_text())
    with (folder / "layers.csv").open(newline="") as file:
        outputs = sum(int(row["m"]) * int(row["n"]) * int(row["timesteps"]) for row in csv.DictReader(file))
    assert f"{summary['mismatches']} of {outputs:,} outputs differ" in TEXT


def test_the_numbers_of_machines_and_of_sources():
    assert f" {len(registry())} machines are included" in TEXT
    named = ("accelerator", "description", "fitted", "cost.table")
    values = [
        (path, source)
        for file in examples.machines().values()
        for path, _, _, _, _, source in explained_values(file, archsim.load_accelerator(file).config)
        if path not in named
    ]
    sourced = [path for path, source in values if source]
    assert f"{len(sourced):,} of {len(values):,} values" in TEXT
    lacking = [path for path, source in values if not source]
    assert f"the other {len(lacking)} are those of memory devices" in TEXT
    assert all(path.startswith("analog.cells.device.") for path in lacking)


def test_the_numbers_of_chips():
    with (ROOT / "benchmarks" / "chips" / "results" / "chips.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["ours"]]
    text = " ".join(TEXT.split())
    fitted = sum(row["set"] == "fitted" for row in rows)
    assert f"{len({row['what'] for row in rows})} macros" in text.replace("four", "4")
    assert f"fitted to {fitted} of {len(rows)} published numbers" in text
    tested = [row for row in rows if row["set"] == "tested"]
    for name, is_time in (("throughputs", True), ("energies", False)):
        errors = [abs(float(row["error_percent"])) for row in tested if (row["unit"] == "TOPS") == is_time]
        said = f"{len(errors)} {name} is {sum(errors) / len(errors):.1f} % in the mean and {max(errors):.0f} % at most"
        assert said in text


def test_the_citation_is_of_this_version():
    version = archsim.__version__
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert str(citation["version"]) == version
    assert f"version = {{{version}}}" in TEXT
    assert f"title = {{{citation['title']}}}" in TEXT


def test_the_changelog_begins_with_this_version():
    """Behind what is not released yet; a tag's notes stand before the lists."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version, notes = re.search(r"^## (\d\S*) - \d{4}-\d\d-\d\d\n(.*?)^### ", text, re.MULTILINE | re.DOTALL).groups()
    assert version == archsim.__version__
    assert notes.startswith("\nWhat is new for users:\n\n- ")
