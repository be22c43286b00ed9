"""How the time of the engine grows: one layer of random spikes, of which one property doubles again and again.

The exponent is the slope of log time over log property: 1 where twice as much takes twice as long.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from clock import Row
from machines import engine
from matplotlib.ticker import FixedLocator, NullLocator

from archsim.report import drawing
from archsim.report.names import readable
from archsim.simulate import load_accelerator
from archsim.trace import Trace
from tests.machines import mlp

MACHINES = ("loas", "sparten_snn", "gamma_snn", "prosperity")
BASE = {"images": 128, "timesteps": 4, "density": 0.1, "n": 64, "k": 1024}
GROWING = {
    "images": (64, 128, 256, 512), "timesteps": (2, 4, 8, 16), "density": (0.05, 0.1, 0.2, 0.4), "pes": (4, 8, 16, 32),
    "n": (32, 64, 128, 256), "k": (512, 1024, 2048, 4096),
}  # fmt: skip
"""Images of a fully connected layer, timesteps, share of spikes, PEs, outputs and inputs of a neuron."""
NAMES = {
    "images": "images", "timesteps": "timesteps", "density": "share of spikes", "pes": "PEs", "n": "neurons",
    "k": "inputs of a neuron",
}  # fmt: skip


def rows() -> Iterator[Row]:
    """A row for each machine, property and value; ``exponent`` is that of the whole curve."""
    for machine in MACHINES:
        for what, values in GROWING.items():
            found = [_measured(machine, what, value) for value in values]
            slope = exponent(values, [row["engine_processor_s"] for row in found])
            for row in found:
                yield row | {"exponent": slope}


def _measured(name: str, what: str, value: float) -> Row:
    settings = [f"pe.count={value}"] if what == "pes" else []
    trace = layer(**BASE | ({} if what == "pes" else {what: value}))
    machine = load_accelerator(name, settings).specialised_for(trace)
    cycles, spent = engine(machine, trace)
    return {"machine": name, "property": what, "value": value, "cycles": cycles, "engine_processor_s": spent}


def layer(images: int, timesteps: int, density: float, n: int, k: int) -> Trace:
    """A fully connected layer of random spikes, with a tenth of its weights."""
    return mlp(0, m=images, n=n, k=k, timesteps=timesteps, density=density, weight_density=0.1)


def exponent(values: Sequence[float], seconds: Sequence[float]) -> float:
    """The slope of the straight line through the logarithms."""
    return float(np.polyfit(np.log(values), np.log(seconds), 1)[0])


def draw(found: Sequence[Row], stem: Path) -> None:
    """A panel for each property, a line for each machine: times of the first, over times of the first."""
    table = pd.DataFrame(found)

    def panels(axes: Any) -> None:
        for what, one in zip(GROWING, axes.flat, strict=True):
            for place, name in enumerate(MACHINES):
                own = table[(table.machine == name) & (table.property == what)]
                style = {"color": drawing.FILLS[drawing.LINES[place]][0], "marker": drawing.MARKERS[place]}
                more, longer = (own[column] / own[column].iloc[0] for column in ("value", "engine_processor_s"))
                text = f"{readable(name)} {own.exponent.iloc[0]:.2f}"
                one.plot(more, longer, markersize=3, linewidth=1, label=text, **style)
            one.set(xscale="log", yscale="log", ylim=(0.1, 16), title=NAMES[what])
            for axis, ticks in ((one.xaxis, (1, 2, 4, 8)), (one.yaxis, (0.125, 1, 8))):
                axis.set_major_locator(FixedLocator(ticks))
                axis.set_major_formatter(lambda value, _: f"{value:g}")
                axis.set_minor_locator(NullLocator())
            one.legend(fontsize=drawing.letters(2.5), loc="lower left" if what != "pes" else "upper left")
        for one in axes[:, 0]:
            one.set_ylabel("engine time (log)")
        for one in axes[-1]:
            one.set_xlabel("times the least (log)")

    drawing.save(stem, panels, (7.16, 4.6), (2, 3), formats=("png",))
