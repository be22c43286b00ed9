"""What is done to the arrays, by table: label and changes to ``arrays.yaml`` as ``--set`` writes them."""

from __future__ import annotations

WIRES = "cells.wires={r_driver_ohm: 1000.0, r_row_ohm: 5.0, r_col_ohm: 10.0, r_sense_ohm: 1000.0}"
ON_OFF_10 = ("cells.device.r_on_ohm=20e3", "cells.device.r_off_ohm=200e3")
LARGE = ("rows=128", "columns=128")
POWER_LAW = (
    "cells.device.drift={t0_s: 1.0, mean: {slope: 0.0, offset: 0.05, least: 0.0, most: 1.0},"
    " spread: {slope: 0.0, offset: 0.015, least: 0.0, most: 1.0}}"
)
"""nu 0.05, 30 % spread from cell to cell."""


RATIOS = {"RRAM": 10, "PCM-i": 40, "PCM-ii": 80}
"""On/off ratios of the paper's devices, by notes; that of its FeFET is not known. They have 4 bits per cell."""


def variation(sigma: float) -> str:
    return f"cells.device.programming.relative={sigma}"


def reads(sigma: float, noise: str) -> tuple[str, str]:
    return f"cells.device.read.relative={sigma}", f"cells.noise={noise}"


TABLES: dict[str, dict[str, tuple[str, ...]]] = {
    "parasitics": {
        "64 x 64": (WIRES, *ON_OFF_10),
        "128 x 128": (WIRES, *ON_OFF_10, *LARGE),
        "64 x 64, variation 0.1": (WIRES, *ON_OFF_10, variation(0.1)),
    },
    "noise": {noise: (*ON_OFF_10, *reads(0.35, noise)) for noise in ("frozen", "per_batch", "per_read")},
    "drift": {f"1e{decade} s": (POWER_LAW, f"cells.time_s=1e{decade}") for decade in (2, 4, 7, 10)},
    "variation": {
        **{f"on/off 100, sigma {sigma}": (variation(sigma),) for sigma in (0.1, 0.2, 0.35, 0.5)},
        **{f"on/off 10, sigma {sigma}": (*ON_OFF_10, variation(sigma)) for sigma in (0.1, 0.2, 0.35)},
    },
    "ratios": {
        f"{name}, on/off {ratio}": (
            *("cells.device.r_on_ohm=20e3", f"cells.device.r_off_ohm={20e3 * ratio:g}", "cells.device.bits=4"),
            variation(0.2),
        )
        for name, ratio in RATIOS.items()
    },
    "devices": {kind: (f"cells.device.kind={kind}",) for kind in ("rram", "pcm", "fefet")},
}
