"""Published points of silicon and boards, ours beside them; constants are fitted to one half of them.

    python benchmarks/chips [--fit] [-o FOLDER]

Writes ``FOLDER/chips.csv`` and prints the split, the errors of each half and what is not run, and why. With ``--fit``
it prints the constants that the fitted half gives, which ``points.yaml`` and the hardware files must have. README.md
says what a point takes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT), str(ROOT / "benchmarks" / "papers")]

import macros  # noqa: E402
from command_line import command  # noqa: E402

COLUMNS = (
    "what", "point", "quantity", "unit", "ours", "theirs", "source", "kind", "mark", "technology_nm", "set",
    "error_percent", "takes", "why_not",
)  # fmt: skip


def table() -> pd.DataFrame:
    """A row for each number of each point; those that are not run have no number of ours."""
    found = []
    for macro in macros.POINTS["macros"].values():
        for name, group in macro["groups"].items():
            for index, point in enumerate(group["points"]):
                for key in macros.UNITS.keys() & point.keys():
                    ours, (quantity, unit) = macros.ours(macro, group, point, key), macros.UNITS[key]
                    found.append(
                        {
                            "what": macro["title"], "point": f"{name}, {point['point']}", "quantity": quantity,
                            "unit": unit, "ours": ours, "theirs": point[key], "source": macro["source"],
                            "kind": "silicon", "mark": macro["mark"], "technology_nm": macro["technology_nm"],
                            "set": "fitted" if macros.is_fitted(index) else "tested",
                            "error_percent": round(100 * (ours - point[key]) / point[key], 6), "takes": macro["takes"],
                        }
                    )  # fmt: skip
    for other in macros.POINTS["others"]:
        found.append(
            {
                "what": other["chip"], "point": other["point"], "quantity": other["quantity"], "unit": other["unit"],
                "theirs": other["value"], "source": other["source"], "kind": other["kind"], "mark": other["mark"],
                "technology_nm": other.get("technology_nm"), "set": "not run", "why_not": other["why"],
            }
        )  # fmt: skip
    return pd.DataFrame(found, columns=list(COLUMNS)).sort_values(["what", "quantity"], kind="stable")


def errors(points: pd.DataFrame) -> pd.DataFrame:
    """Mean and largest absolute error [%] by chip, quantity and half."""
    run = points[points["set"] != "not run"].assign(error=lambda one: one.error_percent.abs())
    whole = run.assign(what="all", quantity="all")
    parts = pd.concat([run, whole]).groupby(["what", "quantity", "set"], sort=False).error
    return parts.agg(points="size", mean_percent="mean", largest_percent="max").round(2).reset_index()


def fits() -> list[str]:
    """A line for each group with what its fitted half gives."""
    lines = []
    for macro in macros.POINTS["macros"].values():
        clock_ghz = yaml.safe_load(macros.hardware(macro).read_text())["clock_mhz"] / 1e3
        for name, group in macro["groups"].items():
            if "tops" in group["points"][0]:
                lines.append(f"{macro['title']}, {name}: {macros.fitted_steps(macro, group, clock_ghz)} cycles")
            if "prices_pj" in group:
                lines.append(f"{macro['title']}, {name}: {macros.fitted_prices(macro, group)} pJ")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--fit", action="store_true", help="print the constants that the fitted half gives")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_name("results"), metavar="FOLDER")
    given = parser.parse_args(arguments)
    if given.fit:
        print("\n".join(fits()))
        return
    points = table()
    given.output.mkdir(parents=True, exist_ok=True)
    points.to_csv(given.output / "chips.csv", index=False)
    for half, part in points[points["set"] != "not run"].groupby("set"):
        named = part[["what", "point"]].drop_duplicates()
        print(f"{half}: {'; '.join(f'{row.what}, {row.point}' for row in named.itertuples())}")
    print(errors(points).to_string(index=False))
    for row in points[points["set"] == "not run"].itertuples():
        print(f"not run: {row.what}, {row.point}: {row.why_not}")


if __name__ == "__main__":
    sys.exit(command(main))
