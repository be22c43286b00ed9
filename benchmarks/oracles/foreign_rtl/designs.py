"""Circuits that others wrote: how their cycles are counted, and what archsim says of the same work.

A design has rows, one for each count, in ``counts/NAME.csv``: the sizes of the circuit and of the work, what was
``measured``, the ``cycles``, and the ``source``, a file of its repository or ``run``, by the bench ``NAME.v`` here.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.dataflow.layer import layer_of
from archsim.engine.result import LayerResult
from archsim.errors import UsageError
from archsim.simulate import load_accelerator
from archsim.trace import Neuron, Operation, Trace

HERE = Path(__file__).parent
HARDWARE = HERE.parents[2] / "hwconfigs" / "validation"
Engine = Literal["compiled", "reference"]
Row = Mapping[str, Any]


class Design(NamedTuple):
    """A circuit: where it is published, its files, the ``cases`` that its bench runs, and archsim's count of a row.

    ``instructions`` is a file of ones and zeros that the circuit reads, of which a line is needed for each input.
    """

    repository: str
    commit: str
    licence: str
    sources: tuple[str, ...]
    cases: Sequence[Mapping[str, int]]
    ours: Callable[[Row, Engine], int]
    instructions: str = ""


# --- What archsim says ------------------------------------------------------------------------------------------------


def flywire(row: Row, engine: Engine) -> int:
    """A product: from the command to the last result taken. An update: from one vector of spikes to the next."""
    array = ("rows", "columns", "weight_banks", "weight_buffers", "pipeline_cycles")
    settings = [
        *(f"pe.{name}={row[name]}" for name in array),
        f"neuron.pipeline_cycles={row['neuron_pipeline_cycles']}",
        *(f"receiver.{name}={row[name]}" for name in ("stall_percent", "seed")),
    ]
    size, fires = row["inputs"], row["measured"] == "update"
    result = simulated("flywire", settings, linear(size, size, 1 + fires, size, fires), engine)
    committed = completions(result, "neuron_unit")
    if fires:
        return committed[-1] - committed[size]
    _booted, _taken, command, *_ = completions(result, "sequencer")
    return committed[-1] - command


def ranc(row: Row, engine: Engine) -> int:
    """A tick: what a second one adds."""
    settings = [f"pe.neurons={row['neurons']}", f"pe.axons={row['axons']}"]
    one, two = (
        simulated("ranc", settings, linear(row["neurons"], row["axons"], ticks, row["axons"] // 2), engine)
        for ticks in (1, 2)
    )
    return completions(two, "core")[-1] - completions(one, "core")[-1]


def tinyodin(row: Row, engine: Engine) -> int:
    """All ticks, or the update of all neurons by a spike or by the time reference."""
    trace = linear(row["neurons"], 256, row["ticks"], row["spikes"])
    ended = completions(simulated("tinyodin", [], trace, engine), "core")
    if row["measured"] == "all":
        return ended[-1] - ended[-2 - row["ticks"] * (2 * row["spikes"] + 2)]
    begun = {"spike": -5, "reference": -3}[row["measured"]]
    return ended[begun + 1] - ended[begun]


def metr0jw(row: Row, engine: Engine) -> int:
    """From the first spike to the last scan of all neurons."""
    settings = [f"pe.neurons={row['outputs'] * row['side'] ** 2}"]
    trace = convolution(row["side"], row["inputs"], row["outputs"], row["kernel"], row["spikes"])
    ended = completions(simulated("metr0jw", settings, trace, engine), "core")
    return ended[-4] - ended[-4 - 2 * row["spikes"]] + row["idle"]


def prosperity(row: Row, engine: Engine) -> int:
    """A tile: from when its prefixes are known until its last row is written."""
    fires = (tile(row)[:, None] >> np.arange(16) & 1).astype(np.bool_)[None]
    operation = Operation("fc", "linear", ("in",), "out", weight=np.zeros((8, 16), np.int8))
    trace = _trace(operation, 1, fires, np.zeros((1, row["rows"], 8), np.int64))
    settings = ["scheduler.tiles=across_images"]  # A row is an image here, and a tile has all rows.
    settings += ["dispatcher.cycles_per_row=5"] if row["lif"] else []  # Each row goes through the neurons, too.
    result = simulated("../prosperity_rtl", settings, trace, engine)
    _free, added, *_ = completions(result, "processor")
    return added - completions(result, "detector")[-1]


def tile(row: Row) -> NDArray[np.int64]:
    """Patterns of 16 columns: each the ``draws`` next numbers of a generator that begins with ``seed``, one AND the
    other."""
    found, state = np.full(row["rows"], 0xFFFF), row["seed"]
    for i in range(len(found)):
        for _ in range(row["draws"]):
            state = (state * 1103515245 + 12345) % 2**32
            found[i] &= state >> 16
    return found


def simulated(hardware: str, settings: Sequence[str], trace: Trace, engine: Engine) -> LayerResult:
    """The only layer of ``trace`` on a machine of ``hwconfigs/validation``, verified."""
    machine = load_accelerator(HARDWARE / f"{hardware}.yaml", settings).specialised_for(trace)
    result = machine.run_layer(layer_of(trace, trace.operations[0]), engine, verify=True, record=True)
    assert result.mismatches == 0, "the machine computes something else than the trace"
    return result


def completions(result: LayerResult, agent: str) -> list[int]:
    """When the operations of an agent were done, in order."""
    (number,) = [number for number, name in result.agents.items() if name == agent]
    return [int(cycle) for who, cycle in result.completions if who == number]


def linear(n: int, k: int, timesteps: int, spikes: int, fires: bool = True) -> Trace:
    """A layer of silent neurons, or of sums, of which ``spikes`` inputs spike in each timestep; weights are zero."""
    inputs = np.zeros((timesteps, 1, k), np.bool_)
    inputs[:, :, :spikes] = True
    output = np.zeros((timesteps, 1, n), np.bool_ if fires else np.int64)
    neuron = Neuron("lif", np.full(n, 1), 1, 1) if fires else None
    operation = Operation("fc", "linear", ("in",), "out", weight=np.zeros((n, k), np.int8), neuron=neuron)
    return _trace(operation, timesteps, inputs, output)


def convolution(side: int, channels: int, outputs: int, kernel: int, spikes: int) -> Trace:
    """A padded convolution with silent neurons, of an image with so many spikes; weights are zero."""
    inputs = (np.arange(channels * side**2) < spikes).reshape(1, 1, channels, side, side)
    output = np.zeros((1, 1, outputs, side, side), np.bool_)
    operation = Operation(
        "conv", "conv2d", ("in",), "out", padding=(kernel // 2, kernel // 2),
        weight=np.zeros((outputs, channels, kernel, kernel), np.int8), neuron=Neuron("lif", np.full(outputs, 1), 1, 1),
    )  # fmt: skip
    return _trace(operation, 1, inputs, output)


def _trace(operation: Operation, timesteps: int, inputs: Any, output: Any) -> Trace:
    return Trace(
        network=operation.name, timesteps=timesteps, operations=[operation], tensors={"in": inputs, "out": output},
        provenance={"kind": "synthetic", "weights": "synthetic"},
    )  # fmt: skip


# --- What they say ----------------------------------------------------------------------------------------------------

_SIZES = (2, 3, 4, 5, 8, 13, 16, 31, 32, 64, 100, 128, 255, 256)
_NEURONS = (1, 2, 3, 4, 7, 8, 16, 25, 33, 64, 100, 128, 200, 256)

DESIGNS = {
    "flywire": Design(
        "duydat291007/flywire-fpga-accelerator", "d0dd0b5e687d5b6f111b4c00d06307e5b505676c", "none seen",
        (), (), flywire,
    ),
    "ranc": Design(
        "UA-RCL/RANC", "08ae4bdddc60c6c480708f0b9298cff798fe354f", "MIT",
        ("hardware/IP/RANCNetwork/src/sources/TokenController.v",),
        [{"axons": axons, "neurons": neurons} for axons in _SIZES for neurons in _SIZES if axons * neurons < 20_000]
        + [{"axons": 128, "neurons": 256}, {"axons": 256, "neurons": 128}, {"axons": 256, "neurons": 256}],
        ranc, instructions="instructions.mem",
    ),
    "tinyodin": Design(
        "ChFrenkel/tinyODIN", "18656534162a9de09b9954aea28fbfad7a7f8657", "SHL-2.1",
        tuple(
            f"{name}.v" for name in (
                "aer_out", "controller", "fifo", "lif_neuron", "neuron_core", "scheduler", "spi_slave",
                "synaptic_core", "tinyODIN",
            )
        ),
        [{"neurons": neurons, "spikes": spikes, "ticks": ticks} for neurons in _NEURONS
         for spikes, ticks in ((0, 1), (1, 1), (5, 1), (2, 3), (40, 2))],
        tinyodin,
    ),
    "metr0jw": Design(
        "metr0jw/Event-Driven-Spiking-Neural-Network-Accelerator-for-FPGA", "73fd16c14ba22e029f6bb8327357cb303ef00333",
        "MIT", ("hardware/hdl/rtl/layers/snn_conv2d.v",),
        [{"side": side, "inputs": inputs, "outputs": outputs, "kernel": kernel, "spikes": spikes}
         for side, inputs in ((4, 1), (6, 3), (8, 2), (12, 1)) for outputs in (1, 4, 7) for kernel in (1, 3, 5)
         for spikes in (1, 6)],
        metr0jw,
    ),
    "prosperity": Design(
        "5iri/ProsperityHDL", "d5382cbdf85015e94eb5e24b0deb4ec740b636ef", "MIT",
        ("ppu/pruner.v", "ppu/processor.v", "ppu/lif.v"),
        [{"rows": rows, "draws": draws, "seed": seed, "lif": lif}
         for rows in (16, 32, 64, 128, 256) for draws in (1, 2, 3, 4) for seed in (1, 2) for lif in (0, 1)],
        prosperity,
    ),
}  # fmt: skip


def stored(name: str) -> list[dict[str, Any]]:
    """The rows of ``counts/NAME.csv``; numbers are numbers. None if there is no such file."""
    path = HERE / "counts" / f"{name}.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [
            {key: int(value) if value.isdecimal() else value for key, value in row.items()}
            for row in csv.DictReader(file)
        ]


def measured(name: str, checkout: Path) -> Iterator[dict[str, Any]]:
    """The counts of a checkout of the circuit: of its own report, or of what Icarus Verilog says of each case."""
    design = DESIGNS[name]
    if name == "flywire":
        yield from _reported(checkout)
        return
    sources = [checkout / source for source in design.sources]
    if missing := [str(source) for source in sources if not source.is_file()]:
        raise UsageError(f"{missing[0]}: no such file; needed is a checkout of github.com/{design.repository}")
    if shutil.which("iverilog") is None:
        raise UsageError("iverilog: not found; Icarus Verilog runs the circuit (Debian: apt install iverilog)")
    for case in design.cases:
        for what, cycles in _run(name, sources, case):
            yield {**case, "measured": what, "cycles": cycles, "source": "run"}


def _run(name: str, sources: Sequence[Path], case: Mapping[str, int]) -> list[tuple[str, int]]:
    with tempfile.TemporaryDirectory() as folder:
        program, design = Path(folder) / "circuit", DESIGNS[name]
        if design.instructions:
            (Path(folder) / design.instructions).write_text("00\n" * case["axons"])
        settings = [part for key, value in case.items() for part in ("-P", f"bench.{key.upper()}={value}")]
        command = ["iverilog", "-g2012", "-s", "bench", *settings, "-o", program, HERE / f"{name}.v", *sources]
        subprocess.run(command, check=True, capture_output=True)
        said = subprocess.run(["vvp", program], cwd=folder, check=True, capture_output=True, text=True).stdout
    found = re.findall(r"^(\w+) (\d+)$", said, re.MULTILINE)
    return sorted({(what, int(cycles)) for what, cycles in found})


def _reported(checkout: Path) -> Iterator[dict[str, Any]]:
    """``reports/perf/mvu_cycles.json``, which the circuit's own ``scripts/perf_sweep.py`` writes."""
    path = checkout / "reports" / "perf" / "mvu_cycles.json"
    try:
        report = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read ({error}); scripts/perf_sweep.py of the checkout writes it") from None
    for row in stored("flywire"):
        if row["measured"] == "product":
            key = f"{row['inputs']},{row['stall_percent']}"
            yield row | {"cycles": report.get(row["design"], {}).get(key)}
