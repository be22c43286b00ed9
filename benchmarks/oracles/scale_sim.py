"""SCALE-Sim (PyPI scalesim 3): cycles of dense products and convolutions on a systolic array without memory.

Its array is ours transposed: its rows hold outputs, ours output channels (``systolic_array.py``). Its count begins at
0, so it is one less a layer. In its output-stationary dataflow no sum is shifted out, which its paper's 2 R + C + T - 2
cycles a fold has: R cycles less a fold. Outputs of strided convolutions are rounded up there, and down here as in all
frameworks, so cases whose sizes differ have more positions there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from importlib import metadata
from math import ceil
from types import ModuleType
from typing import NamedTuple

import numpy as np
from comparison import Rule

from archsim.dataflow.layer import layer_of
from archsim.simulate import load_accelerator
from archsim.trace import Operation, Trace

TITLE = "SCALE-Sim"
INSTALL = "pip install --no-deps scalesim && pip install tqdm absl-py configparser"


class Case(NamedTuple):
    """A convolution of ``side`` x ``side`` pixels, or with ``side`` 0 a product of M x K and K x N."""

    dataflow: str
    rows: int
    columns: int
    m: int
    n: int
    k: int
    side: int = 0
    kernel: int = 1
    stride: int = 1

    @property
    def positions(self) -> int:
        """Positions of the output, without padding."""
        return ((self.side - self.kernel) // self.stride + 1) ** 2 if self.side else self.m

    @property
    def their_positions(self) -> int:
        """The same, rounded up."""
        return (ceil((self.side - self.kernel) / self.stride) + 1) ** 2 if self.side else self.m

    @property
    def depth(self) -> int:
        """Products of an output: K, or the channels times the kernel."""
        return self.k * self.kernel**2

    def folds(self, positions: int) -> int:
        """Parts into which the operands that stay in the array are cut."""
        held = {
            "output": (self.n, positions), "weight": (self.depth, self.n), "input": (self.depth, positions),
        }[self.dataflow]  # fmt: skip
        return ceil(held[0] / self.rows) * ceil(held[1] / self.columns)

    def streamed(self, positions: int) -> int:
        """Steps of a fold."""
        return {"output": self.depth, "weight": positions, "input": self.n}[self.dataflow]


PRODUCTS = (
    (1, 1, 1), (8, 8, 8), (16, 16, 16), (64, 32, 48), (100, 70, 50), (256, 16, 9), (33, 129, 65), (7, 5, 300),
    (40, 100, 12), (128, 10, 64),
)  # fmt: skip
CONVOLUTIONS = (
    (8, 3, 1, 4, 8),
    (10, 3, 1, 3, 5),
    (18, 3, 2, 4, 8),
    (9, 1, 1, 16, 12),
    (12, 5, 1, 2, 6),
    (17, 3, 2, 3, 7),
)
"""Side, kernel, stride, channels, output channels."""
ARRAYS = ((8, 8), (16, 4), (5, 7))


def _cases() -> Iterable[tuple[str, Case]]:
    for dataflow in ("output", "weight", "input"):
        for rows, columns in ARRAYS:
            for m, n, k in PRODUCTS:
                yield f"{dataflow} {rows}x{columns} {m}x{n}x{k}", Case(dataflow, rows, columns, m, n, k)
            for side, kernel, stride, channels, n in CONVOLUTIONS:
                name = f"{dataflow} {rows}x{columns} conv {side} {kernel}x{kernel}/{stride} {channels}-{n}"
                yield name, Case(dataflow, rows, columns, 0, n, channels, side, kernel, stride)


CASES = dict(_cases())


def load(checkout: str | None) -> ModuleType:
    import scalesim.single_layer_sim
    from scalesim.memory import double_buffered_scratchpad_mem

    # Its own largest one is an array of one number, which numpy has not taken for a number since version 2.
    double_buffered_scratchpad_mem.max = lambda *values: np.max(values)
    return scalesim


def version(peer: ModuleType) -> str:
    return f"scalesim {metadata.version('scalesim')}"


def theirs(peer: ModuleType, case: Case) -> dict[str, float]:
    from scalesim.layout_utils import layouts
    from scalesim.scale_config import scale_config
    from scalesim.single_layer_sim import single_layer_sim
    from scalesim.topology_utils import topologies

    config, shapes, simulator = scale_config(), topologies(), single_layer_sim()
    # In its output-stationary dataflow positions lie along the rows, in the others as here.
    rows, columns = (case.columns, case.rows) if case.dataflow == "output" else (case.rows, case.columns)
    config.update_from_list(
        ["", rows, columns, 512, 512, 256, 0, 10_000_000, 20_000_000, f"{case.dataflow[0]}s", "CALC", [10]]
    )
    layer = (case.side, case.side, case.kernel, case.kernel, case.k, case.n, case.stride, case.stride)
    product = (case.m, case.k, 1, case.k, 1, case.n, 1, 1)
    shapes.append_topo_arrays("layer", ["layer", *(layer if case.side else product), 1, 1])
    shapes.num_layers, shapes.topo_load_flag = 1, True
    with contextlib.redirect_stdout(None):
        simulator.set_params(0, config, shapes, layouts(), verbose=False)
        simulator.run()
    return {"cycles": simulator.memory_system.get_total_compute_cycles()}


def ours(case: Case) -> dict[str, float]:
    if case.side:
        shape, weight = (case.k, case.side, case.side), (case.n, case.k, case.kernel, case.kernel)
        output = (case.n, *2 * [(case.side - case.kernel) // case.stride + 1])
    else:
        shape, weight, output = (case.k,), (case.n, case.k), (case.n,)
    images = 1 if case.side else case.m
    operation = Operation(
        "layer", "conv2d" if case.side else "linear", ("in",), "out", weight=np.ones(weight, np.int8),
        **({"stride": (case.stride, case.stride), "padding": (0, 0)} if case.side else {}),
    )  # fmt: skip
    sums = np.full((1, images, *output), case.depth)
    trace = Trace(
        network="layer", timesteps=1, operations=[operation], provenance={"kind": "synthetic", "weights": "synthetic"},
        tensors={"in": np.ones((1, images, *shape), bool), "out": sums},
    )  # fmt: skip
    array = (f"pe.rows={case.rows}", f"pe.columns={case.columns}", f"dataflow={case.dataflow}", "memory.ideal=true")
    machine = load_accelerator("systolic", array).specialised_for(trace)
    (found,) = machine.layers(trace)
    return {"cycles": machine.run_layer(layer_of(trace, found), "compiled", verify=True, record=False).compute_cycles}


def rules(case: Case, theirs: Mapping[str, float]) -> Iterable[Rule]:
    expected = theirs["cycles"] + 1
    reasons = ["theirs counts from 0"]
    if case.dataflow == "output":
        expected += case.rows * case.folds(case.their_positions)
        reasons.append("its program never shifts sums out, its paper does: R cycles a fold")
    if case.positions != case.their_positions:
        a_fold = 2 * case.rows + case.columns - 2
        here = case.folds(case.positions) * (a_fold + case.streamed(case.positions))
        there = case.folds(case.their_positions) * (a_fold + case.streamed(case.their_positions))
        expected += here - there
        reasons.append("theirs rounds the output's size up")
    yield Rule("cycles", "cycles", expected, f"ours: {'; '.join(reasons)}")
