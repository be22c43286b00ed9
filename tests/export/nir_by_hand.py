"""NIR graphs computed by hand: the equations of NIR's own documentation by Euler's method, one timestep at a time.

Only for flat graphs whose nodes stand in an order in which they can run; an edge back gives what was there before.
"""

from __future__ import annotations

import numpy as np
import torch

F = torch.nn.functional


class Neurons:
    """The state of a node's neurons."""

    def __init__(self, node, dt):
        self.node, self.dt = node, dt
        self.kind = type(node).__name__
        self.v = self.i = None

    def step(self, x):
        """What the neurons give for ``x`` [I, ...]."""
        node, dt = self.node, self.dt
        if self.kind == "Threshold":
            return (x > node.threshold).astype(float)
        rest = getattr(node, "v_leak", 0.0)
        if self.v is None:
            self.v, self.i = np.zeros(x.shape) + rest, np.zeros(x.shape)
        if self.kind in ("CubaLIF", "CubaLI"):
            self.i = self.i + dt / node.tau_syn * (node.w_in * x - self.i)
            x = self.i
        if self.kind in ("IF", "I"):
            self.v = self.v + dt * node.r * x
        else:
            self.v = self.v + dt / (node.tau if "tau" in vars(node) else node.tau_mem) * (rest - self.v + node.r * x)
        if "v_threshold" not in vars(node):
            return self.v
        fired = self.v > node.v_threshold
        self.v = np.where(fired, node.v_reset, self.v)
        return fired.astype(float)


def stateless(node, x):
    """What a node without a state gives for ``x`` [I, ...]."""
    given = torch.as_tensor(x)
    match type(node).__name__:
        case "Linear" | "Affine":
            return x @ node.weight.T + getattr(node, "bias", 0.0)
        case "Conv1d" | "Conv2d" as kind:
            call = F.conv1d if kind == "Conv1d" else F.conv2d
            weight, bias = torch.as_tensor(node.weight), None if node.bias is None else torch.as_tensor(node.bias)
            return call(given, weight, bias, node.stride, node.padding, node.dilation, node.groups).numpy()
        case "SumPool2d" | "AvgPool2d" as kind:
            kernel, stride, padding = (tuple(map(int, part)) for part in (node.kernel_size, node.stride, node.padding))
            mean = F.avg_pool2d(given, kernel, stride, padding).numpy()
            return mean * (np.prod(kernel) if kind == "SumPool2d" else 1)
        case "Flatten":
            return x.reshape(len(x), -1)
        case "Scale":
            return x * node.scale
        case "Input" | "Output":
            return x
    raise AssertionError(type(node))


def simulate(graph, inputs, dt):
    """What every node gives at every timestep, [T, I, ...] by name, for ``inputs`` of that shape."""
    sources = {name: [before for before, after in graph.edges if after == name] for name in graph.nodes}
    firing = {name: Neurons(node, dt) for name, node in graph.nodes.items()}
    given = {name: [] for name in graph.nodes}
    for t, now in enumerate(inputs):
        for name, node in graph.nodes.items():
            if type(node).__name__ == "Input":
                given[name].append(now.astype(float))
                continue
            # What comes back is not there yet at this timestep, and nothing is at the first one.
            parts = [
                given[source][t] if len(given[source]) > t else (given[source] or [0.0])[-1] for source in sources[name]
            ]
            x = sum(parts)
            kind = type(node).__name__
            if kind == "Delay":
                steps = np.broadcast_to(np.round(node.delay / dt).astype(int), x.shape[1:])
                delays = [np.where(steps == by, before(given, sources[name], t - by), 0.0) for by in np.unique(steps)]
                given[name].append(sum(delays))
            elif hasattr(node, "r") or kind == "Threshold":
                given[name].append(firing[name].step(x))
            else:
                given[name].append(stateless(node, x))
    return {name: np.stack(values) for name, values in given.items()}


def before(given, sources, t):
    """The sum of what ``sources`` gave at the timestep ``t``; nothing if that was before the first."""
    return sum(given[source][t] for source in sources) if t >= 0 else np.zeros(given[sources[0]][0].shape)
