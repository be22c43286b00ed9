"""The networks of ``archsim trace synth --preset`` on the machines, and what a run takes.

Every command runs in a process of its own, as users run it, with the comparison of all outputs; ``spent`` tells its
processor time and its largest memory. Kernels that are not in the cache are compiled, and their time is counted: run it
twice.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from archsim.errors import UsageError
from archsim.trace.published import NETWORKS

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("shd", "dvs-gesture", "sdt-2-512", "spikformer-4-384")
"""These run on all machines, all others on ``LARGE_ON``."""
LARGE_ON = ("loas", "prosperity")
PRESETS = (*SMALL, *(name for name in NETWORKS if name not in SMALL))


def outcome(summary: Mapping[str, object]) -> dict[str, object]:
    """What came of a run, from its summary."""
    left_out = [f"{item['layer']} {item['reason']}" for item in summary["left_out"]]
    return {
        "verdict": "wrong" if summary["mismatches"] else "runs",
        **{key: summary[key] for key in ("coverage", "mismatches", "layers", "cycles", "energy_pj")},
        "reason": "; ".join(left_out),
    }


def rows(name: str, machines: Iterable[str]) -> Iterable[dict[str, object]]:
    """A row for making the trace of a preset, as if that were a machine, and one for each machine that it runs on."""
    with tempfile.TemporaryDirectory() as folder:
        path, results = Path(folder) / f"{name}.npz", Path(folder) / "results"
        problem, spent = _run("trace", "synth", "--preset", name, "-o", path)
        if problem:
            raise UsageError(problem)
        yield {"network": name, "machine": "trace synth", "verdict": "made", **spent}
        for machine in machines:
            problem, spent = _run("run", machine, path, "-o", results)
            row = {"network": name, "machine": machine}
            if problem:
                yield row | {"verdict": "refused", "reason": problem.replace(f"{path}", name)}
            else:
                yield row | spent | outcome(json.loads((results / "summary.json").read_text()))


def _run(*arguments: str | Path) -> tuple[str, dict[str, float]]:
    """What a command of archsim says when it refuses (nothing when it does not), and what it took."""
    command = [sys.executable, "-m", "archsim", *map(str, arguments)]
    with tempfile.TemporaryDirectory() as folder:
        spent = Path(folder) / "spent.json"
        measured = [sys.executable, str(Path(__file__).with_name("spent.py")), str(spent), *command]
        done = subprocess.run(measured, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        said = " / ".join(line.removeprefix("archsim: error: ") for line in done.stderr.splitlines())
        if done.returncode not in (0, 2):
            raise RuntimeError(f"{' '.join(command)}: {said}")
        return said if done.returncode else "", json.loads(spent.read_text())
