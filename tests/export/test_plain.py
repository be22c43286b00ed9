"""Networks without spikes: exported whole at T = 1, every layer close to the model's, and verified on machines."""

from __future__ import annotations

import numpy as np
import pytest

from archsim.dataflow.coverage import coverage
from archsim.errors import UsageError
from archsim.export import from_torch
from archsim.simulate import load_accelerator, run
from archsim.trace import save_trace
from tests.export import plain_models
from tests.export.frameworks import need, verified
from tests.export.plain_models import pictures
from tests.machines import ROOT

torch = need("torch")
nn = torch.nn
UNTRAINED = {"kind": "synthetic", "weights": "synthetic"}
# Side of the pictures, layers with weights, sums of two tensors, softmaxes of attention, norms, and what the error of a
# layer stays below, of values: 8 bits in each of so many layers.
NETWORKS = {
    "cnn": (16, 8, 0, 0, 0, 0.04),
    "resnet18": (32, 21, 8, 0, 0, 0.15),
    "vit": (16, 10, 5, 2, 5, 0.03),
    "deit": (16, 10, 5, 2, 5, 0.03),
    "deit_fused": (16, 10, 5, 2, 5, 0.03),
    "encoder": (16, 10, 4, 2, 4, 0.03),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_activations(name, tmp_path):
    side, layers, sums, softmaxes, norms, error = NETWORKS[name]
    torch.manual_seed(0)
    model = getattr(plain_models, name)()
    inputs = pictures(4, side, seed=1)
    exported = from_torch(model, inputs, 1, input_scale=1 / 255, provenance=UNTRAINED)
    trace = verified(exported, tmp_path)
    weighted = [operation for operation in trace if operation.weight is not None]
    assert len(weighted) == layers == len(exported.layers)
    assert sum(operation.op == "add" and len(operation.inputs) == 2 for operation in trace) == sums
    shares = [operation for operation in trace if operation.op == "softmax"]
    assert sum(not operation.name.endswith(".shares") for operation in shares) == softmaxes
    assert sum(operation.op == "layer_norm" for operation in trace) == norms
    # What is multiplied has 8 bits, and nothing but the last layer gives whole sums.
    for operation in trace:
        if operation.op in ("conv2d", "linear", "matmul", "multiply", "softmax"):
            assert all(trace.tensor(source).dtype.itemsize == 1 for source in operation.inputs), operation.name
    assert trace.tensor(weighted[-1].output).dtype == np.int32
    assert 0 < max(row.error for row in exported.layers) < error
    with torch.no_grad():
        logits = model(inputs).numpy()
    scale = trace.meta.tensors[weighted[-1].output].scale
    off = scale * trace.tensor(weighted[-1].output) - logits
    assert np.sqrt((off**2).mean()) < error * np.sqrt((logits**2).mean())
    assert exported.class_agreement >= 0.75
    assert f"{100 * exported.class_agreement:.2f} % of 4 inputs" in str(exported)
    machine = load_accelerator(ROOT / "hwconfigs" / "systolic.yaml")
    covered = coverage(machine, trace, machine.layers(trace), None)
    assert covered.share == 1
    assert covered.left_out == ()


@pytest.mark.parametrize(("name", "machine"), [("cnn", "sparten"), ("vit", "systolic"), ("vit", "gamma")])
def test_a_run_of_a_network_of_activations(name, machine, tmp_path):
    """Heads, norms and activations, too: the requantiser of a product is that of its head's channels."""
    torch.manual_seed(0)
    exported = from_torch(getattr(plain_models, name)(), pictures(1, 16, seed=1), 1, provenance=UNTRAINED)
    save_trace(exported.trace, tmp_path / "plain.npz")
    summary = run(ROOT / "hwconfigs" / f"{machine}.yaml", tmp_path / "plain.npz").summary()
    assert summary["coverage"] == 1
    assert summary["left_out"] == []
    assert summary["mismatches"] == 0
    assert summary["layers_verified"] == summary["layers"]


def exported_of(module, inputs, **more):
    """``module`` between a layer that keeps what it reads and one that sums it up, and its output in the trace."""
    torch.manual_seed(0)
    return from_torch(module, inputs, 1, provenance=UNTRAINED, **more)


@pytest.mark.parametrize("gate", ["GELU()", "GELU(approximate='tanh')", "SiLU()", "Hardswish()", "ReLU()"])
def test_an_activation(gate, tmp_path):
    """Its integers are the real function's, but for a share of a half in 255 and roundings."""
    first, last = nn.Linear(1, 64), nn.Linear(64, 2)
    first.weight.data[:, 0], first.bias.data[:] = torch.linspace(-5, 5, 64), 0.0
    module = eval(f"nn.{gate}")
    exported = exported_of(nn.Sequential(first, module, last), torch.ones(1, 1))
    trace = verified(exported, tmp_path)
    output = next(operation.inputs[0] for operation in trace if operation.name == "2")
    scale = trace.meta.tensors[output].scale
    values = torch.linspace(-5, 5, 64)
    off = np.abs(scale * trace.tensor(output)[0] - module(values).numpy())
    assert off.max() < 5 / 255 + scale
    assert off.mean() < 0.015


class Joined(nn.Module):
    """Layers of other units side by side, as in DenseNet and Inception, and the pixels beside them."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1), nn.Conv2d(11, 6, 3)
        self.b.weight.data *= 20
        self.last = nn.Linear(6 * 36, 5)

    def forward(self, x):
        x = torch.cat([self.a(x).relu(), x, self.b(x)], 1)
        return self.last(nn.functional.relu(self.c(x)).flatten(1))


class Decoder(nn.Module):
    """Transposed convolution, nearest upsampling, pixel shuffle, and averages with several divisors at the edges."""

    def __init__(self):
        super().__init__()
        self.down, self.pool = nn.Conv2d(3, 8, 3, 2, 1), nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False)
        self.up = nn.ConvTranspose2d(8, 8, 3, 2, 1, output_padding=1)
        self.wide, self.shuffle, self.out = nn.Upsample(scale_factor=2), nn.PixelShuffle(2), nn.Conv2d(2, 1, 3)

    def forward(self, x):
        x = self.wide(torch.relu(self.up(self.pool(torch.relu(self.down(x))))))
        return self.out(self.shuffle(x))


class Functional(nn.Module):
    """Layers that are functions of parameters, and a learned map that is multiplied and one that is added."""

    def __init__(self):
        super().__init__()
        self.kernel, self.matrix = nn.Parameter(torch.randn(4, 3, 3, 3)), nn.Parameter(torch.randn(5, 256))
        self.mask, self.map = nn.Parameter(torch.rand(8, 8)), nn.Parameter(torch.randn(4, 8, 8))
        self.norm = nn.LayerNorm(8)
        self.norm.weight.data.normal_(), self.norm.bias.data.normal_()

    def forward(self, x):
        x = nn.functional.conv2d(x, self.kernel, stride=2, padding=1)
        x = self.norm(torch.relu(x * self.mask + self.map))
        return nn.functional.linear(x.flatten(1), self.matrix)


@pytest.mark.parametrize(("model", "side"), [(Joined, 8), (Decoder, 8), (Functional, 16)])
def test_what_else_models_are_made_of(model, side, tmp_path):
    torch.manual_seed(0)
    module, inputs = model().eval(), pictures(4, side, seed=2)
    exported = from_torch(module, inputs, 1, input_scale=1 / 255, provenance=UNTRAINED)
    trace = verified(exported, tmp_path)
    last = trace.operations[-1]
    with torch.no_grad():
        expected = module(inputs).numpy()
    off = trace.meta.tensors[last.output].scale * trace.tensor(last.output) - expected
    assert 0 < np.sqrt((off**2).mean()) < 0.03 * np.sqrt((expected**2).mean())
    assert exported.warnings == ()


def test_few_bits_are_far_from_the_model(tmp_path):
    torch.manual_seed(0)
    model, inputs = plain_models.cnn(), pictures(4, 16, seed=1)
    errors = []
    for bits in (8, 5, 3):
        exported = from_torch(model, inputs, 1, weight_bits=bits, provenance=UNTRAINED)
        verified(exported, tmp_path)
        errors.append(max(row.error for row in exported.layers))
    assert errors[0] < 0.04 < errors[1] < 0.4 < errors[2]
    assert any("its values differ from the model's by" in warning for warning in exported.warnings)


class Masked(nn.Module):
    """Causal attention."""

    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 3)

    def forward(self, x):
        q, k, v = self.qkv(x.flatten(2).transpose(1, 2)).chunk(3, -1)
        return self.out(nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)).mean(1)


@pytest.mark.parametrize(
    ("model", "timesteps", "told"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(128, 4), nn.ReLU(), nn.Linear(4, 2)), 2, "T = 1 exports a network"),
        (nn.Sequential(nn.Flatten(), nn.Linear(128, 4), nn.Softplus(), nn.Linear(4, 2)), 1, "3: reads the output of 2"),
        (nn.Sequential(nn.Conv2d(8, 4, 1), nn.Softmax(1), nn.Conv2d(4, 2, 1)), 1, "2: reads the output of .*the last"),
        (nn.Sequential(nn.Conv2d(8, 4, 1), nn.LayerNorm([4, 4, 4]), nn.Conv2d(4, 2, 1)), 1, "2: reads the output of"),
        (nn.Sequential(nn.MaxPool2d(2), nn.ReLU()), 1, "no layers with weights"),
        (Masked(), 1, r"out: reads the output of torch's scaled_dot_product_attention\(\)"),
    ],
)  # fmt: skip
def test_refusals(model, timesteps, told):
    with pytest.raises(UsageError, match=told) as caught:
        from_torch(model, torch.rand(2, 8, 4, 4), timesteps)
    assert len(caught.value.problems) == 1
