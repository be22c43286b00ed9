"""What a register would cost where archsim takes no time: cycles of networks with a cycle put there, against without.

    python benchmarks/accuracy/registers.py [NAME ...]        a row for each name, machine and network, in per cent

Each register is a change of a line or two in a copy of the package, which the compiled engine runs. Kernels compile
anew for every copy, so all of it takes a quarter of an hour on an idle machine.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
REQUESTS, LOOP, WHEEL = "engine/requests.py", "engine/compiled.py", "engine/wheel.py"
TILES = "dataflow/crossbar_agents.py"
NETWORKS = ("vgg9_dual_sparse", "vgg16_dual_sparse")
LOAS, SPARTEN_SNN, PROSPERITY, SYSTOLIC = (("loas",), ("sparten_snn",), ("prosperity",), ("systolic",))
SKIPPING = ("spikesim", "--set", "scheduler.skip=row_group")


class Edit(NamedTuple):
    """``old``, which is once in ``file``, becomes ``new``."""

    file: str
    old: str
    new: str


class Register(NamedTuple):
    """Edits that put a cycle somewhere, and machines with their settings that have it."""

    edits: tuple[Edit, ...]
    machines: tuple[tuple[str, ...], ...]


def in_line(file: str, old: str, *more: str) -> Edit:
    """``more`` lines before a line, as far in."""
    indent = old[: len(old) - len(old.lstrip())]
    return Edit(file, old, "".join(f"{indent}{line}\n" for line in more) + old)


REGISTERS = {
    "decision": Register(
        (
            Edit(
                LOOP,
                "        _end_operation(machine, agent, now)\n        place = ASK\n",
                "        _end_operation(machine, agent, now)\n"
                "        agents.place[agent] = ASK\n"
                "        agents.times[agent, IDLE] += 1\n"
                "        wake(wheel, agents, agent, now + 1)\n"
                "        return asked\n",
            ),
        ),
        (LOAS, PROSPERITY),
    ),
    "freed MSHR": Register(
        (
            Edit(
                WHEEL,
                "np.array([cache_spec.mshrs, 0, 0], np.int64)",
                "np.array([cache_spec.mshrs, 0, 0, 0, 0], np.int64)",
            ),
            # It is taken in the next cycle: by one that waits, or by one that comes when no other is free.
            Edit(
                REQUESTS,
                "arrive(wheel, requests, waiting, AT_CHANNEL, now + MISS_CYCLES)",
                "arrive(wheel, requests, waiting, AT_CHANNEL, now + MISS_CYCLES + 1)",
            ),
            Edit(
                REQUESTS,
                "        resources.mshr[FREE] += 1\n",
                "        resources.mshr[FREE] += 1\n"
                "        resources.mshr[4] = resources.mshr[4] + 1 if resources.mshr[3] == now else 1\n"
                "        resources.mshr[3] = now\n",
            ),
            Edit(
                REQUESTS,
                "        resources.mshr[FREE] -= 1\n"
                "        arrive(wheel, requests, request, AT_CHANNEL, now + MISS_CYCLES)\n",
                "        fresh = int(resources.mshr[3] == now and resources.mshr[FREE] <= resources.mshr[4])\n"
                "        resources.mshr[4] -= fresh\n"
                "        resources.mshr[FREE] -= 1\n"
                "        arrive(wheel, requests, request, AT_CHANNEL, now + MISS_CYCLES + fresh)\n",
            ),
        ),
        (LOAS, SPARTEN_SNN),
    ),
    "waiting list": Register(
        (
            Edit(
                REQUESTS,
                "arrive(wheel, requests, waiting, AT_CHANNEL, now + MISS_CYCLES)",
                "arrive(wheel, requests, waiting, AT_CHANNEL, now + MISS_CYCLES + 1)",
            ),
            Edit(
                REQUESTS,
                "requests.following[request], granted + hold)",
                "requests.following[request], granted + hold + int(requests.following[request] != NONE))",
            ),
        ),
        (LOAS, SPARTEN_SNN),
    ),
    "request": Register(
        (
            Edit(
                REQUESTS,
                "ready = now + place if memory.cache.conflicts else now",
                "ready = (now + place if memory.cache.conflicts else now) + 1",
            ),
            Edit(
                REQUESTS,
                "arrive(wheel, requests, request, AT_CHANNEL, now + MISS_CYCLES)",
                "arrive(wheel, requests, request, AT_CHANNEL, now + MISS_CYCLES + 1)",
            ),
        ),
        (LOAS, PROSPERITY, SYSTOLIC),
    ),
    "path of a fill": Register((Edit(REQUESTS, "AT_FILL, data)", "AT_FILL, data + 1)"),), (LOAS, PROSPERITY, SYSTOLIC)),
    "own path": Register(
        (
            in_line(
                REQUESTS, "    if filling:\n        hold = _fill_in", "if lane < 0 and lane != BUS:", "    arrives += 1"
            ),
        ),
        (LOAS, SYSTOLIC),
    ),
    "skipped bit": Register(
        (
            Edit(TILES, "m.read_cycles if active > 0 else 0", "m.read_cycles if active > 0 else 1"),
            Edit(TILES, "own.cycles if sets > 0 else 0", "own.cycles if sets > 0 else 1"),
        ),
        (SKIPPING,),
    ),
    "credit of the network": Register(
        (
            Edit(TILES, "yield op(pop=own.credit, push=own.sums", "yield op(pop=own.credit, pause=1, push=own.sums"),
            Edit(TILES, "yield op(pop=x.ports[credit], push=", "yield op(pop=x.ports[credit], pause=1, push="),
        ),
        (("spikesim",),),
    ),
}
"""Names as in the table of ``README.md``. A credit's cycle comes also where it has waited, so that is a bound."""


def apply(register: Register, package: Path) -> None:
    """Put the register into a copy of the package."""
    for edit in register.edits:
        file = package / edit.file
        text = file.read_text(encoding="utf-8")
        if text.count(edit.old) != 1:
            raise SystemExit(f"{edit.file} has changed: {edit.old!r}")
        file.write_text(text.replace(edit.old, edit.new), encoding="utf-8")


def cycles(package: Path, machine: Sequence[str], network: str) -> int:
    """Of a network on a machine, by the package in a folder."""
    name, *settings = machine
    hardware, trace = ROOT / "hwconfigs" / f"{name}.yaml", ROOT / "workloads" / f"{network}.npz"
    command = [sys.executable, "-m", "archsim", "run", str(hardware), str(trace), *settings, "--no-verify"]
    with tempfile.TemporaryDirectory() as scratch:
        results = Path(scratch) / "results"
        path = {**os.environ, "PYTHONPATH": str(package)}
        subprocess.run([*command, "-o", str(results)], cwd=scratch, env=path, check=True, capture_output=True)
        return int(json.loads((results / "summary.json").read_text(encoding="utf-8"))["cycles"])


def main(names: Sequence[str]) -> None:
    """Print a row for each name, machine and network."""
    without = functools.cache(functools.partial(cycles, ROOT))
    for name in names:
        with tempfile.TemporaryDirectory() as package:
            shutil.copytree(ROOT / "archsim", Path(package) / "archsim")
            (Path(package) / "hwconfigs").symlink_to(ROOT / "hwconfigs")
            apply(REGISTERS[name], Path(package) / "archsim")
            for machine in REGISTERS[name].machines:
                for network in NETWORKS:
                    before, after = without(machine, network), cycles(Path(package), machine, network)
                    print(name, *machine, network, before, after, f"{100 * (after / before - 1):.2f} %", sep="  ")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("name", nargs="*", help=", ".join(REGISTERS))
    main(parser.parse_args().name or list(REGISTERS))
