"""Spiking transformers: attention is products of matrices, masks and sums of a trace, and nothing is rearranged."""

from __future__ import annotations

from collections import Counter

import pytest

from archsim.dataflow.coverage import coverage
from archsim.errors import UsageError
from archsim.export import SpikingNeuron, from_torch
from archsim.simulate import load_accelerator
from tests.export import public_models
from tests.export.frameworks import need, verified
from tests.machines import LOAS

torch = need("torch")
nn = torch.nn

# How many of each, beside layers, pools and residual sums.
MODELS = {
    # Two blocks, each with V K^T and that times Q; queries, keys and values are slices of one layer.
    "spikformer": {"matmul": 4, "slice": 6, "reduce": 1},
    # Two stages of Q-K attention (a sum of Q, a mask of K), one of self-attention, the mean of tokens.
    "qkformer": {"matmul": 2, "multiply": 2, "slice": 7, "reduce": 3},
    "qkformer_channels": {"matmul": 2, "multiply": 2, "slice": 7, "reduce": 3},
    # Two blocks, each with K and V, their sum over tokens, and Q and that; the mean of tokens.
    "spike_driven_transformer": {"multiply": 4, "reduce": 3},
}
OTHERS = ("conv2d", "linear", "add", "pool")


@pytest.mark.parametrize("name", MODELS)
def test_a_public_transformer(name, tmp_path):
    torch.manual_seed(0)
    model, inputs, arguments = getattr(public_models, name)()
    exported = from_torch(model, inputs, **arguments, provenance=public_models.UNTRAINED)
    trace = verified(exported, tmp_path)
    counted = Counter(operation.op for operation in trace if operation.op not in OTHERS)
    assert counted == MODELS[name]
    rows = [row for row in exported.layers if row.alone is not None]
    assert all(row.density > 0.001 for row in rows)
    # Products and sums of spikes are integers: what reads them fires as in the model.
    exact = {operation.name for operation in trace if operation.op in ("matmul", "reduce") and operation.neuron}
    assert exact
    if name != "spike_driven_transformer":  # its read-out is the mean of currents
        assert {row.alone for row in rows if row.layer in exact} == {0.0}
    assert max(row.alone for row in rows) < 0.05
    machine = load_accelerator(LOAS)
    covered = coverage(machine, trace, machine.layers(trace), None)
    assert covered.share == 1


class Cell(nn.Module):
    """Fires where its input is above 1.5, and forgets."""

    def forward(self, current):
        return (current > 1.5).to(current)


class Attention(nn.Module):
    """Spikes of two layers, [images, 2 heads, 4 channels, 6 tokens], neurons that read what ``mix`` makes of them."""

    def __init__(self, mix):
        super().__init__()
        self.mix = mix
        self.layers = nn.ModuleList(nn.Conv2d(2, 8, 1) for _ in range(2))
        self.cells = nn.ModuleList(Cell() for _ in range(2))
        self.last, self.out = Cell(), nn.LazyLinear(3)
        for layer in self.layers:
            layer.weight.data = 6 * torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(3))

    def forward(self, x):
        a, b = (
            cell(layer(x)).flatten(2).unflatten(1, (2, 4)) for layer, cell in zip(self.layers, self.cells, strict=True)
        )
        return self.out(self.last(self.mix(a, b)).flatten(1))


MIXES = {
    "A B^T": lambda a, b: a @ b.mT,
    "A^T B": lambda a, b: a.mT @ b,
    "scores and values": lambda a, b: a @ (a.mT @ b),
    "turned": lambda a, b: (b @ (a.mT @ b).mT).transpose(1, 2),
    "scaled": lambda a, b: 0.5 * (a @ b.mT @ a),
    "a mask of tokens": lambda a, b: a.sum(2, keepdim=True) * b,
    "a mask of channels": lambda a, b: b * a.sum(-1, keepdim=True),
    "a mask in another order": lambda a, b: b.mT * a.sum(2).unsqueeze(-1),
    "sums": lambda a, b: (a + b).sum(-1),
    "of heads": lambda a, b: 2 * a[:, 1] + b[:, 0],
    "of different orders": lambda a, b: a.mT + b.reshape(-1, 2, 6, 4),
}


def mixed(mix):
    model = Attention(mix)
    pictures = torch.rand(5, 2, 3, 2, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        model(pictures)
    own = {Cell: lambda cell: SpikingNeuron(0.0, 1.5)}
    return from_torch(model, pictures, 2, neurons=own, accept_differences=True)


@pytest.mark.parametrize("mix", MIXES)
def test_products_in_any_order(mix, tmp_path):
    """All spikes behind them are those of the model."""
    exported = mixed(MIXES[mix])
    trace = verified(exported, tmp_path)
    name = next(operation.name for operation in trace if operation.output == "last")
    (row,) = [row for row in exported.layers if row.layer == name]
    assert row.alone == 0
    assert 0 < row.density < 1


@pytest.mark.parametrize(
    ("mix", "reason"),
    [
        (
            lambda a, b: a.softmax(-1) @ b.mT,
            r"softmax: a softmax in a network of spiking neurons; allowed: sums, products and neurons",
        ),
        (lambda a, b: a @ b.mT.flip(-1), r"last: reads the output of torch's matmul\(\) \(reads values in another"),
        (lambda a, b: a[..., :3].sum(-1), r"last: reads part of a tensor"),
        (lambda a, b: a * b[:1], r"last: reads a product of two tensors|last: reads part of a tensor"),
    ],
)
def test_what_a_trace_does_not_have(mix, reason):
    with pytest.raises(UsageError, match=reason):
        mixed(mix)
