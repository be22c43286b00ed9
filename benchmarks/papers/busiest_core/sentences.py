"""What this folder's README says of the tables, with the numbers of these."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml
from paper_tables import Row
from runs import MAPPINGS, NETWORKS

from archsim.report import files

WIDTH = 120
PUBLISHED = yaml.safe_load((Path(__file__).parent / "published.yaml").read_text(encoding="utf-8"))
MACHINES = ("loihi1", "manycore")


def _runs(rows: Sequence[Row]) -> str:
    images, networks = (len({row[name] for row in rows}) for name in ("image", "network"))
    return (
        f"*Runs.* {len(rows)} runs: {networks} trained networks, {images} test images one by one, {len(MAPPINGS)}"
        f" mappings, two machines of 128 cores. All outputs equal the trace's:"
        f" {sum(row['mismatches'] for row in rows)} mismatches."
    )


def _predicting(machine: str, rows: Sequence[Row]) -> str:
    of = {(row["differs"], row["predictor"]): row for row in rows if row["machine"] == machine}
    names = list(dict.fromkeys(predictor for _, predictor in of))
    both = "images and mappings"

    def r(scope: str, predictor: str) -> str:
        row = of[scope, predictor]
        return f"{row['r']:.2f} ({row['r_low']:.2f} to {row['r_high']:.2f})"

    def off(scope: str, predictor: str) -> str:
        return f"{of[scope, predictor]['error_percent']:.0f} %"

    spikes, total, whole, step, link = names
    best = max(names, key=lambda name: of[both, name]["r"])
    return (
        f"*{machine}.* Where one mapping of a network runs several images, the logarithm of cycles correlates with that"
        f" of spikes with r = {r('images', spikes)}, of all operations {r('images', total)}, of operations of the"
        f" busiest core {r('images', whole)}, and of those of the busiest core of each step {r('images', step)}. Where"
        " an image is mapped in several ways, spikes and operations are the same and cycles are not; with the busiest"
        f" core r = {r('mappings', whole)}, with that of each step {r('mappings', step)}, with the busiest link"
        f" {r('mappings', link)}. Where both differ: spikes {r(both, spikes)}, all operations {r(both, total)}, busiest"
        f" core {r(both, whole)}, that of each step {r(both, step)}, busiest link {r(both, link)}; the best of them:"
        f" {best}. Over all networks: spikes {r('all', spikes)}, all operations {r('all', total)}, busiest core of each"
        f" step {r('all', step)}; a multiple of all operations misses the cycles by {off('all', total)} on average, of"
        f" those of the busiest core of each step by {off('all', step)}."
    )


def _predictors(rows: Sequence[Row]) -> str:
    return "\n\n".join(_predicting(machine, rows) for machine in MACHINES)


def _balancing(machine: str, rows: Sequence[Row]) -> str:
    own = {(row["network"], row["mapping"]): row for row in rows if row["machine"] == machine}
    networks = list(dict.fromkeys(network for network, _ in own))

    def gains(mapping: str, base: str) -> str:
        rows = {network: own[network, mapping] for network in networks}
        return ", ".join(
            f"{NETWORKS[network]} {row[f'over_{base}']:.2f} ± {row[f'over_{base}_error']:.2f}"
            for network, row in rows.items()
        )

    def mean(mapping: str, base: str) -> str:
        logarithms = [np.log(own[network, mapping][f"over_{base}"]) for network in networks]
        return f"{np.exp(np.mean(logarithms)):.2f}"

    most = max(networks, key=lambda network: own[network, "operations"]["over_in_order"])
    waited = ", ".join(
        f"{NETWORKS[one]} {own[one, 'in_order']['network_percent']:.0f} % and"
        f" {own[one, 'operations']['network_percent']:.0f} %"
        for one in networks
    )
    return (
        f"*Balancing on {machine}.* Cores balanced by operations of training images run, against filling them in order,"
        f" at {gains('operations', 'in_order')} times the speed ({mean('operations', 'in_order')} as geometric mean);"
        f" calibrated on the very image that runs it would be {mean('operations_of_run', 'in_order')}. Against as many"
        f" neurons in each core of a layer, which uses all cores too, it is {gains('operations', 'neurons')}"
        f" ({mean('operations', 'neurons')}). Places by annealing gain {gains('traffic', 'in_order')}"
        f" ({mean('traffic', 'in_order')}). Most is gained by {NETWORKS[most]}, whose busiest core has"
        f" {own[most, 'in_order']['busiest_over_mean']:.1f} times the operations of the mean core in order, and"
        f" {own[most, 'operations']['busiest_over_mean']:.1f} times when balanced. The critical core of a step waits"
        f" for messages or room, in order and balanced, in so many of the cycles: {waited}."
    )


def _mappings(rows: Sequence[Row]) -> str:
    high, low = PUBLISHED["gains"]["value"]
    silicon = (
        f"Silicon is reported to gain {high} and {low} times by balancing ({PUBLISHED['gains']['mark']}: read in the"
        " source); its networks, and what it is against, are not known here, so no deviation is given."
    )
    return "\n\n".join([*(_balancing(machine, rows) for machine in MACHINES), silicon])


SENTENCES: Mapping[str, Callable[[Sequence[Row]], str]] = {
    "runs": _runs, "predictors": _predictors, "mappings": _mappings,
}  # fmt: skip


def write_sentences(output: Path, filled: Mapping[str, Sequence[Row]]) -> None:
    """``sentences.md``: paragraphs for each table that was filled."""
    told = "\n\n".join(SENTENCES[name](rows) for name, rows in filled.items())
    text = "\n\n".join(textwrap.fill(one, WIDTH, break_on_hyphens=False) for one in told.split("\n\n")) + "\n"
    files.write_texts(output, {"sentences.md": text})
