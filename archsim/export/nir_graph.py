"""From a graph of the Neuromorphic Intermediate Representation (NIR) to a trace.

NIR describes neurons in continuous time; a trace has timesteps. With the step ``dt`` Euler's method gives, for
``tau dv/dt = (v_leak - v) + r I``, ``H = v + dt / tau (v_leak - v + r I)``: a decay of 1 - dt / tau and a gain of
r dt / tau; for ``dv/dt = r I`` a decay of 1 and a gain of r dt. Neurons spike above their threshold and are reset to
``v_reset``, which must be where they rest. SpikingJelly and snnTorch write graphs for dt = 1e-4. Several edges into a
node add up.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from archsim.errors import TraceError, UsageError
from archsim.export.network import Network, Node, SpikingNeuron, check_timesteps, run
from archsim.export.quantisation import Exported, export, leak_problems
from archsim.export.torch_modules import Inexpressible, pair, pool_fields, ungrouped

_KINDS = ("Output", "Flatten", "Conv2d", "Linear", "Affine", "Scale", "SumPool2d", "AvgPool2d", "IF", "LIF")


def from_nir(
    graph: Any,
    inputs: Any,
    T: int | None = None,  # noqa: N803 - the field's name for the number of timesteps
    *,
    dt: float = 1e-4,
    weight_bits: int = 8,
    input_bits: int = 8,
    input_scale: float | None = None,
    approximate_leak: bool = False,
    accept_differences: bool = False,
    name: str = "nir",
    provenance: Mapping[str, Any] | None = None,
) -> Exported:
    """A NIR graph (``nir.NIRGraph``, or the path of one), run on ``inputs``, as an integer trace.

    ``inputs`` and the other arguments are those of ``from_torch``; inputs that change in time say how many timesteps
    there are. The stated error is against the same graph in float64. Raises ``UsageError`` with every node that a trace
    cannot express, and why.
    """
    if not isinstance(dt, int | float) or not dt > 0:
        raise UsageError(f"dt: got {dt!r}; allowed: seconds above zero")
    if isinstance(graph, str | os.PathLike):
        name, graph = Path(graph).stem if name == "nir" else name, read_graph(graph)
    values = np.asarray(inputs)
    if values.ndim not in (2, 3, 4, 5) or not values.size or values.dtype.kind not in "biuf":
        raise UsageError(f"inputs: got {values.dtype} {list(values.shape)}; allowed: numbers [I, ...] or [T, I, ...]")
    if not np.isfinite(values).all():
        raise UsageError("inputs: got a value that is not finite; allowed: finite numbers")
    timed = values.ndim in (3, 5)
    if T is None and not timed:
        raise UsageError(f"T: inputs {list(values.shape)} have no time, so the number of timesteps is needed")
    timesteps = len(values) if T is None else T
    check_timesteps(timesteps)
    if timed and len(values) != timesteps:
        raise UsageError(f"inputs: got {len(values)} timesteps; allowed: T = {timesteps}")
    values = values.astype(np.float64)
    reader = _Reader(graph, values.shape[2:] if timed else values.shape[1:], dt)
    reader.read()
    if reader.problems:
        raise UsageError([*reader.problems, *leak_problems(reader.found, approximate_leak)])
    network = Network(timesteps, values, reader.found)
    run(network)
    return export(
        network, name=name, weight_bits=weight_bits, input_bits=input_bits, input_scale=input_scale,
        approximate_leak=approximate_leak, accept_differences=accept_differences,
        provenance={"source": f"NIR, dt = {dt:g} s", **(provenance or {})},
    )  # fmt: skip


def read_graph(path: str | os.PathLike[str]) -> Any:
    """The graph in a NIR file (HDF5)."""
    try:
        import nir
    except ImportError:
        raise UsageError("NIR files need the package nir; pip install 'archsim[nir]'") from None
    try:
        return nir.read(path)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    # Whatever the package and HDF5 raise on a file that is no graph.
    except Exception as error:
        raise TraceError(f"{path}: not a NIR graph, {str(error).splitlines()[0] if str(error) else error!r}") from None


def read_inputs(path: str | os.PathLike[str]) -> Any:
    """The array in a .npy file, or the only one of an .npz file; pickled objects are never loaded."""
    try:
        with Path(path).open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            if len(loaded.files) != 1:
                raise UsageError(f"{path}: got the arrays {', '.join(loaded.files) or 'none'}; allowed: one array")
            return loaded[loaded.files[0]]
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except UsageError:
        raise
    # numpy and zipfile raise many kinds of errors on damaged files.
    except Exception as error:
        raise UsageError(f"{path}: not an array file (.npy or .npz), {str(error).splitlines()[0]}") from None


class _Reader:
    """Puts the nodes of a graph in order and translates them one by one."""

    def __init__(self, graph: Any, input_shape: tuple[int, ...], dt: float) -> None:
        self.graph = graph
        self.dt = dt
        self.input_shape = input_shape
        self.problems: list[str] = []
        self.found: dict[str, Node] = {}
        # What stands for a node: the node before it, where it changes nothing.
        self.stands: dict[str, str] = {}

    def read(self) -> None:
        """Fill ``found`` with the nodes of the network, and ``problems`` with all that a trace cannot express."""
        sources: dict[str, list[str]] = {name: [] for name in self.graph.nodes}
        for source, target in self.graph.edges:
            sources[target].append(source)
        waiting = dict(self.graph.nodes)
        while waiting:
            ready = [name for name in waiting if not any(source in waiting for source in sources[name])]
            if not ready:
                self.problems.append(f"{', '.join(waiting)}: feed each other (recurrent); a trace runs layer by layer")
                break
            for name in ready:
                self._one(name, waiting.pop(name), [self.stands.get(source, source) for source in sources[name]])
        inputs = [name for name, node in self.found.items() if node.op == "input"]
        if len(inputs) != 1:
            self.problems.append(f"the graph has {len(inputs)} inputs; allowed: 1")

    def _one(self, name: str, node: Any, sources: list[str]) -> None:
        kind = type(node).__name__
        if kind == "Input":
            self.found[name] = Node(name, "input", (), self.input_shape)
            return
        if kind not in _KINDS:
            text = f"a trace does not have this kind of node; allowed: {', '.join(_KINDS)}"
            self.problems.append(f"{name} ({kind}): {text}")
            return
        if not sources:
            self.problems.append(f"{name}: no edge leads to it")
        if any(source not in self.found for source in sources) or not sources:
            return
        if len(sources) > 1:
            # Named after the node, which reads the sum.
            shape = self.found[sources[0]].shape
            if any(self.found[source].shape != shape for source in sources):
                self.problems.append(f"{name}: adds up {', '.join(sources)}, which have different shapes")
                return
            self.found[f"{name}.sum"] = Node(f"{name}.sum", "add", tuple(sources), shape)
            sources = [f"{name}.sum"]
        (source,) = sources
        if kind in ("Output", "Flatten"):
            self.stands[name] = source
            return
        try:
            self.found[name] = self._translated(name, kind, node, source)
        except Inexpressible as reason:
            self.problems.append(f"{name} ({kind}): {reason}")

    def _translated(self, name: str, kind: str, node: Any, source: str) -> Node:
        shape = self.found[source].shape
        match kind:
            case "Linear" | "Affine":
                weight = np.asarray(node.weight, np.float64)
                if weight.ndim != 2 or weight.shape[1] != int(np.prod(shape)):
                    raise Inexpressible(f"weights {list(weight.shape)} on an input {list(shape)}")
                bias = np.asarray(node.bias, np.float64).reshape(-1) if kind == "Affine" else None
                return Node(name, "linear", (source,), (len(weight),), weight=weight, bias=bias)
            case "Conv2d":
                return self._convolution(name, node, source, shape)
            case "SumPool2d" | "AvgPool2d":
                _maps(shape)
                kernel, stride = _pair(node.kernel_size), _pair(node.stride)
                fields = pool_fields("sum_pool", shape, kernel, stride, _pair(node.padding))
                factor = 1.0 if kind == "SumPool2d" else 1 / (kernel[0] * kernel[1])
                sides = _sides(shape, kernel, stride, fields["padding"])
                return Node(name, "sum_pool", (source,), (shape[0], *sides), **(fields | {"weight": np.array(factor)}))
            case "Scale":
                return Node(name, "affine", (source,), shape, weight=_by_channel(node.scale, shape, "scales"))
        return Node(name, "neuron", (source,), shape, neuron=self._neuron(kind, node, shape))

    def _convolution(self, name: str, node: Any, source: str, shape: tuple[int, ...]) -> Node:
        _maps(shape)
        weight = ungrouped(np.asarray(node.weight, np.float64), int(node.groups))
        if _pair(node.dilation) != (1, 1):
            raise Inexpressible(f"dilation {list(_pair(node.dilation))}; allowed: 1")
        if weight.shape[1] != shape[0]:
            raise Inexpressible(f"weights {list(weight.shape)} on an input {list(shape)}")
        kernel, stride = (int(weight.shape[2]), int(weight.shape[3])), _pair(node.stride)
        padding = node.padding.decode() if isinstance(node.padding, bytes) else node.padding
        if isinstance(padding, str):
            if padding == "same" and (stride != (1, 1) or any(width % 2 == 0 for width in kernel)):
                raise Inexpressible("padding 'same' of an even kernel or a stride; allowed: numbers of zeros around")
            padding = (kernel[0] // 2, kernel[1] // 2) if padding == "same" else (0, 0)
        padding = _pair(padding)
        bias = None if node.bias is None else np.broadcast_to(np.asarray(node.bias, np.float64), len(weight))
        sides = _sides(shape, kernel, stride, padding)
        return Node(name, "conv2d", (source,), (len(weight), *sides), weight, bias, kernel, stride, padding)

    def _neuron(self, kind: str, node: Any, shape: tuple[int, ...]) -> SpikingNeuron:
        resistance, threshold, reset = (
            _spread(values, shape) for values in (node.r, node.v_threshold, node.v_reset)
        )  # fmt: skip
        if kind == "IF":
            return SpikingNeuron(1.0, (threshold - reset) / _positive(resistance * self.dt))
        tau, leak = _spread(node.tau, shape), _spread(node.v_leak, shape)
        if (reset != leak).any():
            raise Inexpressible("v_reset differs from v_leak; allowed: a reset to where it rests")
        if (tau != tau.flat[0]).any():
            raise Inexpressible("a tau for each neuron; allowed: one a layer")
        decay = 1 - self.dt / float(tau.flat[0])
        if not 0 <= decay <= 1:
            raise Inexpressible(
                f"tau {float(tau.flat[0]):g} s with timesteps of dt = {self.dt:g} s; allowed: dt and longer"
            )
        return SpikingNeuron(decay, (threshold - leak) / _positive(resistance * self.dt / tau))


def _pair(value: Any) -> tuple[int, int]:
    array = np.asarray(value).reshape(-1)
    return pair(int(array[0])) if array.size == 1 else pair(array.tolist())


def _maps(shape: tuple[int, ...]) -> None:
    if len(shape) != 3:
        raise Inexpressible(f"reads [C, H, W], got the shape {list(shape)}")


def _sides(
    shape: tuple[int, ...], kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> tuple[int, ...]:
    return tuple(
        (size + 2 * pad - width) // step + 1
        for size, width, step, pad in zip(shape[1:], kernel, stride, padding, strict=True)
    )


def _spread(values: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A parameter for each neuron of ``shape``."""
    array = np.asarray(values, np.float64)
    if array.size == 1:
        return np.full(shape, array.item())
    if array.shape == shape[:1]:
        array = array.reshape(-1, *(1,) * (len(shape) - 1))
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise Inexpressible(f"parameters {list(array.shape)} for neurons {list(shape)}") from None


def _positive(gain: np.ndarray) -> np.ndarray:
    if gain.min() <= 0:
        raise Inexpressible(f"a resistance that gives the gain {gain.min():g}; allowed: above zero")
    return gain


def _by_channel(values: Any, shape: tuple[int, ...], what: str) -> np.ndarray:
    columns = _spread(values, shape).reshape(shape[0], -1)
    if (columns != columns[:, :1]).any():
        raise Inexpressible(f"{what} differ within a channel; allowed: one a channel")
    first: np.ndarray = columns[:, 0].copy()
    return first
