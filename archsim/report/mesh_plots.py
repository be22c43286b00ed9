"""Figures of a chip with a mesh of cores: which layer each core has, and how many messages each link took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.patches import FancyArrow, Rectangle

from archsim.report.drawing import inches, label, letters, remark

CORES = ("core", "row", "column", "layer", "operations")
LINKS = ("row", "column", "side", "messages")
"""Columns that are drawn."""
WAYS: Mapping[str, tuple[int, int]] = {"west": (1, 0), "east": (-1, 0), "north": (0, 1), "south": (0, -1)}
"""Columns and rows that a message goes, by where a link comes from."""
ROUTER = 0.3
"""Half the side of a router, by the distance of two."""


def draw_placement(axes: Axes, cores: pd.DataFrame) -> None:
    """Routers in their places, each with its cores: the number of the layer that a core has, on a ground that is the
    darker the more synaptic operations it performs."""
    layers = list(dict.fromkeys(cores["layer"]))
    routers = cores.sort_values("core").groupby(["row", "column"])
    side = int(np.ceil(np.sqrt(routers.size().max())))
    shades = cores["operations"] / max(cores["operations"].max(), 1)
    width = 0.9 / side
    patches, dark = [], []
    room = 0.9 * inches(axes) / (cores["column"].max() + 1) * width * 72
    size = min(letters(1), 0.6 * room)
    for _, own in routers:
        row, column = own["row"].iloc[0], own["column"].iloc[0]
        for place, core in enumerate(own.index):
            x, y = column - 0.45 + place % side * width, row - 0.45 + place // side * width
            patches.append(Rectangle((x, y), width, width))
            dark.append(shades[core])
            text, colour = str(layers.index(own["layer"][core]) + 1), "white" if shades[core] > 0.55 else "black"
            axes.text(x + width / 2, y + width / 2, text, fontsize=size, color=colour, ha="center", va="center")
    _shaded(axes, patches, dark, cores)
    names = ", ".join(f"{number}\N{NO-BREAK SPACE}{label(name)}" for number, name in enumerate(layers, 1))
    remark(axes, f"layers: {names}; darker: more synaptic operations")


def draw_link_load(axes: Axes, links: pd.DataFrame) -> None:
    """Routers in their places, and an arrow for every link that took messages, the darker the more."""
    loads = links.groupby(["row", "column", "side"])["messages"].sum().reset_index()
    patches = []
    for row, column, side in zip(loads["row"], loads["column"], loads["side"], strict=True):
        across, down = WAYS[side]
        length = 1 - 2 * ROUTER
        # Links of both ways side by side: on the right hand of who goes.
        x = column - across * (1 - ROUTER) - 0.13 * down
        y = row - down * (1 - ROUTER) + 0.13 * across
        patches.append(
            FancyArrow(x, y, across * length, down * length, width=0.12, head_width=0.22, head_length=0.16,
                       length_includes_head=True)
        )  # fmt: skip
    places = sorted({*zip(loads["row"], loads["column"], strict=True)})
    for row, column in places:
        corner = (column - ROUTER, row - ROUTER)
        axes.add_patch(Rectangle(corner, 2 * ROUTER, 2 * ROUTER, facecolor="white", edgecolor="0.3", linewidth=0.6))
    drawn = _shaded(axes, patches, loads["messages"], loads)
    if loads["side"].eq("west").any():
        axes.set_xlim(left=-1)
    bar = axes.figure.colorbar(drawn, ax=axes, pad=0.02, aspect=12, shrink=0.8, format="{x:,.0f}")
    bar.set_label("messages")
    remark(axes, "squares: routers; arrows: links that took messages; from the left of a row come those of the host")


def _shaded(axes: Axes, patches: Any, values: Any, places: pd.DataFrame) -> PatchCollection:
    """The ``patches`` with a grey for each of the ``values``, on axes as large as the mesh in use."""
    drawn = PatchCollection(patches, cmap="Greys", edgecolor="0.6", linewidth=0.6)
    drawn.set_array(np.asarray(values, float))
    drawn.set_clim(0, max(float(np.max(values)), 1e-9))
    axes.add_collection(drawn)
    axes.set_xlim(-0.55, places["column"].max() + 0.55)
    axes.set_ylim(places["row"].max() + 0.55, -0.55)
    axes.set_aspect("equal")
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([])
    return drawn
