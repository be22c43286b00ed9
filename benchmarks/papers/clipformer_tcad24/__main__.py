"""ClipFormer (TCAD 2024) tried on small vision transformers: does limiting K and V help against noisy writes?

    python benchmarks/papers/clipformer_tcad24 [-o DIR] [--only NAME ...] [--traces NAME ...] [--images N] [--draws N]

Writes a CSV for each table and figures. Points that a CSV of the folder holds already are not computed again, so that
a run that was killed goes on. What was measured, and what follows, is in ``README.md``.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent))

import experiment
import figures

from archsim import ArchsimError


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="clipformer_tcad24", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", default=Path("results/clipformer_tcad24"))
    parser.add_argument("--only", nargs="+", metavar="NAME", default=list(experiment.TABLES),
                        choices=list(experiment.TABLES), help="these tables (default: %(default)s)")  # fmt: skip
    parser.add_argument("--traces", nargs="+", metavar="NAME", default=list(experiment.TRACES),
                        choices=experiment.TRACES, help="these networks (default: %(default)s)")  # fmt: skip
    parser.add_argument("--images", type=int, default=1000, help="test images of a point of accuracy")
    parser.add_argument("--draws", type=int, default=1, help="draws of the noise of a point of accuracy")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    try:
        for name in arguments.only:
            points, measure = experiment.TABLES[name]
            fill(arguments.output / f"{name}.csv", points(arguments), measure)
        figures.draw(arguments.output)
    except ArchsimError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


def fill(path: Path, points: Iterable[dict[str, Any]], measure: Callable[..., dict[str, Any]]) -> None:
    """Measure every point that the CSV ``path`` does not hold, and append it there."""
    rows = read(path)
    points = list(points)
    for number, point in enumerate(points, 1):
        key = {name: str(value) for name, value in point.items()}
        if any(all(row.get(name) == value for name, value in key.items()) for row in rows):
            continue
        row = {**point, **measure(**point)}
        rows.append({name: str(value) for name, value in row.items()})
        temporary = path.with_suffix(".part")
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            writer.writeheader()
            writer.writerows(rows)
        temporary.replace(path)
        print(f"{path.stem}: {number} of {len(points)}: {row}", file=sys.stderr, flush=True)


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV; none if there is no such file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
