"""Writes ``prosperity_attention.csv``: what Prosperity's public simulator counts for small attention blocks.

    python -m tests.reference.prosperity_attention CHECKOUT

CHECKOUT is a clone of github.com/dubcyfor3/Prosperity at the commit that README.md names. Its attention routine runs as
it is; what it prints for each product of a head and a timestep is a row. Needs PyTorch, networkx and pandas.
"""

from __future__ import annotations

import contextlib
import csv
import io
import re
import sys
from pathlib import Path
from types import ModuleType

from tests.attention_operands import CASES, Attention, operands

TYPES = {"kv": "spikformer", "kq": "spikformer", "softmax": "spikingbert"}
COUNTED = {
    "spikes": "ori_nnzs", "spikes_left": "processed_nnzs", "exact_match_rows": "num_EM_row",
    "partial_match_rows": "num_PM_row",
}  # fmt: skip
"""Columns of the file, and the simulator's lists of what each tile has."""
PRINTED = {"adding_cycles": "compute", "searching_cycles": "preprocess", "total_cycles": "total"}
COLUMNS = ("case", "product", "head", "timestep", "m", "k", "n", *COUNTED, "additions", *PRINTED)


def rows(case: str, networks: ModuleType, simulator: ModuleType, accelerator: ModuleType) -> list[dict[str, object]]:
    """Rows of one case."""
    sizes, found = CASES[case], []

    class Recorded(simulator.Simulator):
        def run_fc(self, operator, *stored):
            simulator.clear_global_stats()
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                stats = super().run_fc(operator, *stored)
            printed = output.getvalue()
            t, head, product = re.fullmatch(r"attention_t(\d+)_b0_h(\d+)_(\w+)", operator.name).groups()
            row = {
                "case": case, "product": 0 if product in ("kv", "qk") else 1, "head": head, "timestep": t,
                "m": operator.sequence_length, "k": operator.input_dim, "n": operator.output_dim,
                "additions": stats.num_ops,
            }  # fmt: skip
            row |= {column: sum(getattr(simulator, of)) for column, of in COUNTED.items()}
            row |= {column: re.search(rf"^{of} cycles:\s+(\d+)", printed, re.M)[1] for column, of in PRINTED.items()}
            found.append(row)
            return stats

    machine = accelerator.Accelerator("Prosperity", 128, 32, 256, 16)
    with contextlib.redirect_stdout(None):
        Recorded(machine, [], case).run_attention(attention(case, sizes, networks))
    return found


def attention(case: str, sizes: Attention, networks: ModuleType) -> object:
    """The simulator's operator of a case."""
    import torch

    timesteps, heads, tokens, width = sizes[1:5]
    found = networks.Attention("attention", heads * width, tokens, heads, 1, timesteps, TYPES[sizes.order])
    for name, spikes in operands(case).items():
        # It reads [T, batch, tokens, heads, width], or with no more tokens than width these two the other way round.
        turned = spikes.transpose(0, 3, 1, 2) if sizes.order == "kq" else spikes.transpose(0, 2, 1, 3)
        tensor = getattr(found, f"act_{name}_tensor")
        tensor.sparse_map = torch.from_numpy(turned.copy()).float().unsqueeze(1)
    return found


def main(checkout: str) -> None:
    """Run all cases."""
    sys.path.insert(0, str(Path(checkout) / "simulator"))
    sys.modules["prosparsity_engine"] = ModuleType("its kernels for GPUs, which nothing here calls")
    import accelerator
    import networks
    import simulator

    with (Path(__file__).parent / "prosperity_attention.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for case in CASES:
            writer.writerows(rows(case, networks, simulator, accelerator))


if __name__ == "__main__":
    main(sys.argv[1])
