"""From the device to the system: one sweep of crossbar chips over device, size of arrays, converters and timesteps.

    python benchmarks/papers/imc_exploration [-o DIR] [--images N] [--jobs N]

144 points on the trained VGG9, each on a chip that is built for it. Writes ``sweep.csv`` and its figures, and goes on
where it was killed. What was measured, and what follows, is in ``README.md``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # what all papers' commands share

from command_line import command, count
from paper_tables import cores

import archsim
from archsim.report import plots

ROOT = Path(__file__).resolve().parents[3]
SETTINGS: dict[str, list[object]] = {
    "analog.cells.device": [
        *(f"{{kind: rram, bits: {bits}, programming: {{relative: 0.1}}}}" for bits in (1, 2, 4)),
        *(f"{{kind: {kind}}}" for kind in ("pcm", "fefet", "sram")),
    ],
    "analog.rows": [64, 128],
    "analog.columns": [64, 128],
    "analog.adc.bits": [4, 6],
    "scheduler.first_timesteps": [1, 2, 4],
    "noc.rows": ["fit"],
}


def main(arguments: Sequence[str] | None = None) -> None:
    made = argparse.ArgumentParser(
        prog="imc_exploration",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("-o", "--output", type=Path, metavar="DIR", default=Path("results/imc_exploration"))
    made.add_argument("--images", type=count, metavar="N", default=100, help="test images (default: %(default)s)")
    made.add_argument("--jobs", type=count, metavar="N", default=cores(), help="processes (default: one per core)")
    given = made.parse_args(arguments)
    given.output.mkdir(parents=True, exist_ok=True)
    settings = SETTINGS if given.images == 100 else SETTINGS | {"evaluation_images": [given.images]}
    archsim.sweep(
        ROOT / "hwconfigs" / "imc_cnn.yaml", ROOT / "workloads" / "vgg9_evaluation.npz",
        scheduler__encoder=["skipped"],
        pareto=["accuracy", "edap_j_s_mm2"], jobs=given.jobs, path=given.output / "sweep.csv",
        **{path.replace(".", "__"): values for path, values in settings.items()},
    )  # fmt: skip
    for figure in plots.plot(given.output / "sweep.csv"):
        print(figure)


if __name__ == "__main__":
    sys.exit(command(main))
