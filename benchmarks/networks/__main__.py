"""Which public networks run whole on which machines, and what is left out or refused.

    python benchmarks/networks [--presets] [--networks NAME,...] [--machines NAME,...] [-o FOLDER]

Networks are those of ``tests/export/public_models.py`` and ``plain_models.py``, as their authors define them, exported
from PyTorch, and the trained traces of ``workloads/``. Every network is run on every machine, and every output is
compared with the trace. The table goes to ``FOLDER/networks.csv``, a row for each network and machine; what is printed
has a column for each machine:

    1.0     all synaptic operations were simulated, and no output differs from the trace's
    0.87    so much of them was simulated (what was left out, and why, stands in the file)
    wrong   outputs differ
    -       the machine refuses the network (why stands in the file)

With ``--presets`` the networks are those of ``archsim trace synth --preset``, at their published sizes with made-up
weights and spikes. The table goes to ``FOLDER/presets.csv``, and says too what each run takes: its processor time and
its largest memory.

Needs PyTorch, SpikingJelly and snnTorch for the public networks (``pip install 'archsim[spikingjelly,snntorch]'``, and
``pip install --no-deps norse``).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
# Before what is installed: other packages have a "tests" too.
sys.path[1:1] = [str(ROOT), str(ROOT / "benchmarks" / "papers")]

from command_line import command  # noqa: E402
from presets import LARGE_ON, PRESETS, SMALL, outcome  # noqa: E402
from presets import rows as preset_rows  # noqa: E402

from archsim import load_trace, run  # noqa: E402
from archsim.errors import ArchsimError, UsageError  # noqa: E402
from archsim.trace import Trace, save_trace  # noqa: E402

MACHINES = (
    "loas", "sparten_snn", "gospa_snn", "gamma_snn", "ptb", "stellar", "spinalflow", "prosperity", "gustav_snn", "sata",
    "systolic", "sparten", "gamma", "spikesim_lossless", "imc_ideal", "manycore",
)  # fmt: skip
PUBLIC = (
    "spiking_vgg16_bn", "spiking_resnet18", "sew_resnet18", "sew_resnet18_and", "sew_resnet18_iand", "ms_resnet18",
    "dvs_gesture_net", "snntorch_tutorial5", "snntorch_tutorial6", "snntorch_synaptic", "snntorch_rleaky", "norse_lif",
    "norse_lif_recurrent",
)  # fmt: skip
TRANSFORMERS = {
    "spikingjelly_spikformer": "spikformer", "spikingjelly_sdt": "spike_driven_transformer",
    "spikingjelly_qkformer": "qkformer",
}  # fmt: skip
"""Public ones too, and what the functions that build them are called."""
PLAIN = {"torch_cnn": "cnn", "torch_resnet18": "resnet18", "torch_vit": "vit", "torch_deit": "deit"}
"""Networks without spikes, and what the functions that build them are called."""
TRAINED = ("vgg9_dual_sparse", "cnn", "vit", "recurrent", "spikformer", "sdt", "qkformer", "depthwise")


def networks() -> dict[str, Callable[[], Trace]]:
    """How to get the trace of each network, by name."""
    public = {name: name for name in PUBLIC} | TRANSFORMERS
    return {
        **{name: partial(_public, function) for name, function in public.items()},
        **{name: partial(_plain, function) for name, function in PLAIN.items()},
        **{name: partial(load_trace, ROOT / "workloads" / f"{name}.npz") for name in TRAINED},
    }


def _public(function: str) -> Trace:
    """A public spiking model, exported."""
    import torch

    from archsim.export import from_torch
    from tests.export import public_models

    torch.manual_seed(0)
    model, inputs, arguments = getattr(public_models, function)()
    return from_torch(model, inputs, **arguments, provenance=public_models.UNTRAINED).trace


def _plain(function: str) -> Trace:
    """A model without spikes, exported as 8-bit integers."""
    import torch

    from archsim.export import from_torch
    from tests.export import plain_models, public_models

    torch.manual_seed(0)
    model = getattr(plain_models, function)()
    inputs = plain_models.pictures(4, 32 if function == "resnet18" else 16, seed=1)
    return from_torch(model, inputs, 1, input_scale=1 / 255, provenance=public_models.UNTRAINED).trace


def rows(name: str, trace: Trace, machines: Iterable[str]) -> Iterable[dict[str, object]]:
    """A row for each machine: what came of the first image."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.npz"
        save_trace(trace.select(images=[0]), path)
        for machine in machines:
            row: dict[str, object] = {"network": name, "machine": machine, "timesteps": trace.timesteps}
            try:
                report = run(machine, path)
            except ArchsimError as error:
                yield row | {"verdict": "refused", "reason": " / ".join(error.problems).replace(f"{path}", name)}
                continue
            yield row | outcome(report.summary())


def _told(row: Any) -> str:
    if row.verdict != "runs":
        return {"refused": "-"}.get(row.verdict, row.verdict)
    return f"{row.coverage:.3g}" if row.coverage < 1 else "1.0"


def matrix(table: pd.DataFrame) -> pd.DataFrame:
    """Networks by machines, with the words of the module's text."""
    shown = table.assign(told=[_told(row) for row in table.itertuples()])
    order = list(dict.fromkeys(table.machine))
    return shown.pivot(index="network", columns="machine", values="told").loc[list(dict.fromkeys(table.network)), order]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--presets", action="store_true", help="networks of archsim trace synth --preset")
    parser.add_argument("--networks", metavar="NAME,...", help="default: all")
    parser.add_argument(
        "--machines", metavar="NAME,...", help=f"default: all; of large presets {' and '.join(LARGE_ON)}"
    )
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results", metavar="FOLDER")
    given = parser.parse_args(arguments)
    known = PRESETS if given.presets else networks()
    names = given.networks.split(",") if given.networks else known
    for name in names:
        if name not in known:
            raise UsageError(f"no network {name!r}; allowed: {', '.join(known)}")
    found = []
    for name in names:
        default = LARGE_ON if given.presets and name not in SMALL else MACHINES
        machines = given.machines.split(",") if given.machines else default
        for row in preset_rows(name, machines) if given.presets else rows(name, networks()[name](), machines):
            print(f"{row['network']} on {row['machine']}: {row['verdict']}", file=sys.stderr)
            found.append(row)
    table = pd.DataFrame(found)
    given.output.mkdir(parents=True, exist_ok=True)
    table.to_csv(given.output / ("presets.csv" if given.presets else "networks.csv"), index=False)
    print(matrix(table).to_string())


if __name__ == "__main__":
    sys.exit(command(main))
