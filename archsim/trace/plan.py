"""Plans of networks whose weights and tensors are yet to be made up: operations with shapes, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from archsim.trace import schema
from archsim.trace.shapes import Shape, Shapes, shapes_of

Fires = Literal["", "spikes", "potentials"]


class Given(NamedTuple):
    """An input of a network: ``pixels`` and ``counts`` are uint8, the former the same at every timestep.

    ``mean`` is that of counts. Spikes have the density of the network; those that are ``still`` are the same at every
    timestep.
    """

    shape: Shape
    kind: Literal["pixels", "counts", "spikes"]
    mean: float = 0.0
    still: bool = False


class Step(NamedTuple):
    """An operation: its ``record`` as a trace has it, but for its neurons.

    ``fires`` says what its neurons write. With ``centred`` a bias makes the sums of each channel zero on average, as a
    batch norm does. ``requantised`` integers get a multiplier that makes 8 bits of them.
    """

    record: dict[str, Any]
    shapes: Shapes
    fires: Fires = ""
    centred: bool = False
    requantised: bool = False

    @property
    def name(self) -> str:
        """The name of the operation, and of what it writes."""
        return str(self.record["name"])


class Plan:
    """A network, built operation by operation; every method returns the name of the tensor that the operation writes.

    ``neuron`` are the keys of its neurons that a record has, such as ``kind`` and ``leak_shift``.
    """

    def __init__(self, weight_bits: int = 8, **neuron: Any) -> None:
        self.weight_bits = weight_bits
        self.neuron = neuron or {"kind": "lif", "leak_shift": 1}
        self.given: dict[str, Given] = {}
        self.steps: list[Step] = []
        self.shapes: dict[str, Shape] = {}

    @property
    def weights(self) -> int:
        """Weights of all layers."""
        return sum(math.prod(step.shapes.weight) for step in self.steps if step.shapes.weight is not None)

    def input(self, name: str, given: Given) -> str:
        """A tensor that no operation writes."""
        self.given[name], self.shapes[name] = given, given.shape
        return name

    def add(
        self, op: str, name: str, *inputs: str, fires: Fires = "", centred: bool = False, requantised: bool = False,
        **keys: Any,
    ) -> str:  # fmt: skip
        """Any operation, with the ``keys`` of its record."""
        record = {"name": name, "op": op, "inputs": list(inputs), "output": name, **keys}
        if op == "layer_norm" or requantised:
            record["requantiser"] = {"shift": 8 if op == "layer_norm" else 20, "bits": 8, "signed": True}
        shapes = shapes_of(
            schema.RECORDS[op].model_validate(record), tuple(self.shapes[source] for source in inputs), _impossible
        )
        self.steps.append(Step(record, shapes, fires, centred, requantised))
        self.shapes[name] = shapes.output
        return name

    def conv(
        self, name: str, source: str, channels: int, kernel: int = 1, stride: int = 1, *, fires: Fires = "spikes"
    ) -> str:
        """A convolution with a batch norm, padded so that a stride of 1 keeps the map."""
        square: dict[str, Any] = {"kernel": (kernel,) * 2, "stride": (stride,) * 2, "padding": (kernel // 2,) * 2}
        return self.add("conv2d", name, source, out_channels=channels, fires=fires, centred=True, **square)

    def linear(self, name: str, source: str, features: int, *, fires: Fires = "") -> str:
        """A fully connected layer."""
        return self.add("linear", name, source, out_channels=features, fires=fires, centred=bool(fires))

    def maximum(self, name: str, source: str, kernel: int, stride: int) -> str:
        """A pool of maxima, padded where its windows overlap."""
        around = (kernel - stride,) * 2
        return self.add("pool", name, source, kernel=(kernel,) * 2, stride=(stride,) * 2, padding=around)

    def fire(self, name: str, source: str) -> str:
        """Neurons that read integers which something else wrote."""
        return self.add("add", name, source, fires="spikes")

    def delay(self, name: str, source: str, shape: Sequence[int]) -> str:
        """What ``source``, of ``shape`` and written later, was a timestep ago."""
        self.shapes[source] = tuple(shape)
        return self.add("delay", name, source, steps=1)

    def head(self, source: str, classes: int) -> str:
        """The sum over all positions, which is a mean but for its scale, and a fully connected layer."""
        whole = self.shapes[source][1:]
        pooled = self.add("pool", "head.pool", source, kernel=whole, stride=whole, reduction="sum")
        return self.linear("head", pooled, classes)


def _impossible(key: str, text: str) -> None:
    raise ValueError(f"{key}: {text}")
