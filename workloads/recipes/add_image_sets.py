"""Add image sets to a trace of a network for Fashion-MNIST: the first training images and the first test images.

The traced run stays as it is; the trace gets a hash of its own.

    python add_image_sets.py vgg9_dual_sparse.npz --data DIR -o vgg9_evaluation.npz
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training import fashion_mnist

from archsim.trace import ImageSet, Trace, load_trace, save_trace
from archsim.trace.resimulation import accuracy


def with_more(trace: Trace, provenance: Mapping[str, Any], **sets: ImageSet) -> Trace:
    """``trace`` with another ``provenance`` and with the image sets ``calibration`` and ``evaluation``."""
    integers = {name: record for name, record in trace.meta.tensors.items() if record.kind == "int"}
    tensors = {name: trace.tensor(name) for name in trace.tensors}
    return Trace(
        network=trace.network,
        timesteps=trace.timesteps,
        operations=trace.operations,
        tensors=tensors | {name: tensors[name].astype(record.dtype) for name, record in integers.items()},
        kinds={name: trace.kind(name) for name in trace.tensors},
        bits={name: record.bits for name, record in integers.items() if record.bits},
        scales={name: record.scale for name, record in integers.items()},
        provenance=provenance,
        **sets,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder with the four Fashion-MNIST .gz files")
    parser.add_argument("--calibration-images", type=int, default=512)
    parser.add_argument("--evaluation-images", type=int, default=1000)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    trace = load_trace(arguments.trace)
    side = trace.operations[0].input_shapes[0][-1]
    sets = {}
    for name, part in (("calibration", "train"), ("evaluation", "t10k")):
        count = getattr(arguments, f"{name}_images")
        images, labels = (values[:count].numpy() for values in fashion_mnist(arguments.data, part, side))
        sets[name] = ImageSet(images, labels)
    recipe = trace.provenance.get("recipe")
    recipes = ", ".join(filter(None, (recipe, "workloads/recipes/add_image_sets.py")))
    found = with_more(trace, provenance=trace.provenance | {"recipe": recipes}, **sets)
    save_trace(found, arguments.output)
    share = accuracy(found, sets["evaluation"])
    print(f"{arguments.output}: {share:.4f} of {len(sets['evaluation'])} evaluation images are classified correctly")


if __name__ == "__main__":
    main()
