"""ClipFormer (TCAD 2024) tried on small vision transformers: does limiting K and V help against noisy writes?

    python benchmarks/papers/clipformer_tcad24 [-o DIR] [--only NAME ...] [--traces NAME ...] [--images N] [--draws N]

Writes a CSV for each table and figures. Points that a CSV of the folder holds already are not computed again, so that
a run that was killed goes on. What was measured, and what follows, is in ``README.md``.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import experiment
import figures
from command_line import command, count

from archsim.errors import UsageError


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="clipformer_tcad24",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", default=Path("results/clipformer_tcad24"))
    parser.add_argument("--only", nargs="+", metavar="NAME", default=list(experiment.TABLES),
                        choices=list(experiment.TABLES), help="these tables (default: %(default)s)")  # fmt: skip
    parser.add_argument("--traces", nargs="+", metavar="NAME", default=list(experiment.TRACES),
                        choices=experiment.TRACES, help="these networks (default: %(default)s)")  # fmt: skip
    parser.add_argument("--images", type=count, default=1000, help="test images of a point of accuracy")
    parser.add_argument("--draws", type=count, default=1, help="draws of the noise of what carries the conclusions")
    chosen = parser.parse_args(arguments)
    chosen.output.mkdir(parents=True, exist_ok=True)
    for name in chosen.only:
        points, measure = experiment.TABLES[name]
        fill(chosen.output / f"{name}.csv", points(chosen), measure)
    found = experiment.summary(read(chosen.output / "draws.csv"))
    if found:
        write(chosen.output / "accuracy.csv", found)
    figures.draw(chosen.output)


def fill(path: Path, points: Iterable[dict[str, Any]], measure: Callable[..., dict[str, Any]]) -> None:
    """Measure every point that the CSV ``path`` does not hold, and append it there."""
    rows = read(path)
    points = list(points)
    foreign = [name for name in points[0] if rows and name not in rows[0]]
    if foreign:
        raise UsageError(f"{path}: is not of this command; move it away or choose another folder with -o")
    for number, point in enumerate(points, 1):
        key = {name: str(value) for name, value in point.items()}
        if any(all(row.get(name) == value for name, value in key.items()) for row in rows):
            continue
        row = {**point, **measure(**point)}
        rows.append({name: str(value) for name, value in row.items()})
        write(path, rows)
        print(f"{path.stem}: {number} of {len(points)}: {row}", file=sys.stderr, flush=True)


def write(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """Make ``rows`` the CSV ``path``, at once."""
    temporary = path.with_suffix(".part")
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(path)


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV; none if there is no such file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    sys.exit(command(main))
