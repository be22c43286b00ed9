"""Every function, operator and in-place form of what torch does between modules: exact or refused, never silent.

Each form is a statement on the tensor ``y``, in front of a layer or neuron. What the tracer makes of the model is run
in double precision and must fire as the model does without the tracer, spike for spike.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest

from archsim.errors import UsageError
from archsim.export import SpikingNeuron, from_torch, torch_tracing
from archsim.export.folding import fold
from archsim.export.network import run
from archsim.export.torch_functions import ARITHMETIC, DROPOUTS, JOINS, KEEPS, MOVES, POOLS, PRODUCTS, SUMS, plain_name
from archsim.export.torch_values import VALUES
from tests.export.frameworks import need

torch = need("torch")
nn = torch.nn
T, IMAGES = 3, 4


class Cell(nn.Module):
    """Decay 1/2, soft reset, fires above 1/2."""

    def __init__(self):
        super().__init__()
        self.reset()

    def reset(self):
        self.left = 0.0

    def forward(self, current):
        total = current + self.left
        spikes = (total > 0.5).to(current)
        self.left = 0.5 * (total - 0.5 * spikes)
        return spikes


OWN = {Cell: lambda cell: SpikingNeuron(0.5, 0.5, "soft_before_leak")}


def statements(table):
    """What becomes of them, E (exact) or R (refused), by statement."""
    lines = [line for line in table.strip().splitlines() if not line.startswith("#")]
    return {form: outcome for outcome, form in (line.split(maxsplit=1) for line in lines)}


# Statements on y, with z of the same shape beside it, constants c (one per channel) and e (one per value): what becomes
# of them where y are currents of a convolution, spikes of its neurons, and currents of a linear layer; - where torch
# itself refuses, or where it is as beside.
FORMS = statements("""
# Constants.
EEE y = y * 0.5
EEE y = 0.5 * y
EEE y *= 0.5
EEE y = y.mul(0.5)
EEE y.mul_(0.5)
EEE y = torch.mul(y, 0.5)
EEE y = torch.multiply(input=y, other=0.5)
EEE y.multiply_(0.5)
EEE torch.mul(y, 0.5, out=y)
EEE y = torch.mul(y, 0.5, out=torch.empty_like(y))
EEE y = y * torch.tensor(0.5)
EEE y = y * np.float64(0.5)
EEE y = torch.mul(torch.tensor(0.5), y)
EEE y = y / 2
EEE y /= 2
EEE y = y.div(2)
EEE y.div_(2)
EEE y = torch.divide(y, 2)
EEE y = torch.true_divide(y, 2)
RRR y = y.div(2, rounding_mode='floor')
RRR y = y // 0.3
RRR y = 0.1 / (y + 3)
RRR y = y / 0.0
EEE y = -y
EEE y.neg_()
EEE y = torch.negative(y)
EEE y = torch.neg(y, out=y)
EEE y = y + 0.2
EEE y = 0.2 + y
EEE y += 0.2
EEE y.add_(0.2)
EEE y = y.add(0.1, alpha=2)
EEE y = torch.add(y, 0.2)
EEE torch.add(y, 0.2, out=y)
EEE y = torch.add(torch.tensor(0.2), y, alpha=2)
EEE y = y - 0.2
EEE y -= 0.2
EEE y.sub_(0.1, alpha=2)
EEE y = torch.subtract(y, 0.2)
EEE y = 0.2 - y
EEE y = torch.rsub(y, 0.4, alpha=2)
EEE y = y * c
EEE y *= c
EEE y = c * y
EEE y = y + c
EEE y += c
EEE y = c - y
EEE y = y / c
EEE y = (y - c) / c
RRE y = y * e
RRE y = y + e
RRE y *= e
RR- y = y + torch.ones(1, 1, 1, 1, 1)
EEE y = sum([y, z])
EEE y = 1 * y + 0
EEE y = y * True
# Two tensors.
EEE y = y + z
EEE y += z
EEE y = y.add(z)
EEE y.add_(z)
EEE y = torch.add(y, z)
EEE y = torch.add(y, z, alpha=2)
EEE y.add_(z, alpha=2)
EEE torch.add(y, z, out=y)
EEE y = torch.add(input=y, other=z, alpha=-1)
EEE y = y - z
EEE y -= z
EEE y = torch.sub(y, z)
EEE y = torch.sub(y, z, alpha=2)
EEE y = torch.rsub(y, z)
RRR y = y + z.mean(0, keepdim=True)
RRR y = y + z[:1]
RRR y = y + z.flip(0)
EEE y = y * z
EEE y *= z
EEE y = y * (1 - z)
RRR y = y / (z + 9)
RRR y = torch.maximum(y, z)
RRR y = torch.where(z > 0, y, z)
RRR y = torch.lerp(y, z, 0.5)
RRR y = torch.addcmul(y, z, z)
RRR y = torch.stack([y, z]).sum(0)
RRR y = torch.logical_and(y, z).double()
RRR y.copy_(z)
RRR y.data = z
RRR y.data = y * 0.5
RRR y.set_(z.clone())
EEE y.swap = z
RRR y = torch.einsum('i...,i...->i...', y, z)
RRR y = torch.atan2(y, z)
# In place, by other ways.
RRR y.data.mul_(0.5)
RRR y.detach().mul_(0.5)
EEE y = y.detach().mul_(0.5)
RRR y[...] = 0.5
RRR y[0] = 0.5
RRR y[:, 0] *= 0.5
RRR y[0].mul_(0.5)
RRR y[:].neg_()
RRR y.view(-1)[3:].zero_()
RRR y.flatten()[:9] += 1
RRR y.reshape(-1).mul_(0.5)
RRR v = y.view_as(y); y.mul_(0.5); y = v
RRR v = y.unbind(0)[1]; v.fill_(1)
RRR y.clamp_(0, 0.4)
RER y.relu_()
RER torch.relu_(y)
RER F.relu(y, inplace=True)
RER F.relu_(y)
RRR y.abs_()
RRR y.zero_()
RRR y.fill_(0.7)
RRR y.sigmoid_()
RRR y.masked_fill_(z > 0, 0)
RRR y.pow_(2)
RRR torch._foreach_mul_([y], 0.5)
RRR torch._foreach_add_([y], [z])
RRR (y,) = torch._foreach_add([y], 1)
RRR y.numpy()[:] *= 0.5
RRR np.multiply(y.numpy(), 0.5, out=y.numpy())
RRR y.apply_(lambda v: v / 2)
RRR torch.from_dlpack(y).mul_(0.5)
RRR nn.init.ones_(y)
RRR y.index_fill_(0, torch.tensor([0]), 0.9)
RRR F.dropout(y, 0.5, True, True)
EEE y.requires_grad_(False)
EEE torch.ops.aten.mul_(y, 0.5)
RRR torch.ops.aten.mul_.Scalar(y, 0.5)
EEE y.squeeze_(-1)
EEE y.unsqueeze_(0).squeeze_(0)
RR- y.transpose_(0, 1)
EEE y.transpose_(0, 1).transpose_(0, 1)
RRR y.exponential_()
--E y.t_().t_()
# Values that move.
EEE y = y.clone()
EEE y = y.contiguous()
EEE y = y.detach()
EEE y = y.data
EEE y = y[:]
EEE y = y.view(y.shape)
EEE y = y.view_as(z)
EEE y = y.reshape(IMAGES, -1).reshape(z.shape)
EEE y = y.reshape_as(z)
EEE y = torch.reshape(y, z.shape)
EEE y = torch.flatten(y, 0).view(z.shape)
EEE y = torch.ravel(y).view(z.shape)
EEE y = y.flatten(1).unflatten(1, z.shape[1:])
EE- y = y[:, :, None, ...].squeeze(2)
EEE y = y.unsqueeze(0).squeeze(0)
EEE y = torch.squeeze(torch.unsqueeze(y, 1), dim=1)
EEE y = y.expand(z.shape)
EEE y = y.expand_as(z)
EEE y = y.broadcast_to(z.shape)
EEE y = y.tile(1)
EEE y = y.repeat(*[1] * y.ndim)
EEE y = y.repeat_interleave(1, 0)
EEE y = y.narrow(0, 0, IMAGES)
RRR y = torch.cat(y.split(2))
EEE (y,) = y.chunk(1)
EEE (y,) = torch.tensor_split(y, 1)
EEE (y,) = y.split(IMAGES)
EEE (y,) = y.vsplit(1)
EEE (y,) = y.hsplit(1)
EE- (y,) = torch.dsplit(y, 1)
EEE (y,) = y[None].unbind(0)
EEE y = y[None].select(0, 0)
EEE y = y[None][0]
EEE y = torch.stack([y])[0]
RRR y = torch.stack(list(y))
EEE y = torch.index_select(y, 0, torch.arange(IMAGES))
EEE y = y.take(torch.arange(y.numel())).view(z.shape)
EEE y = y.permute(*range(y.ndim))
EE- y = y.permute(0, 1, 3, 2)
EEE y = y.transpose(0, 0)
EE- y = y.transpose(2, 3)
EEE y = torch.swapaxes(y, 0, 0)
EE- y = y.swapdims(2, 3)
EEE y = y.movedim(1, 1)
EE- y = torch.moveaxis(y, 1, 2).moveaxis(2, 1)
EE- y = torch.movedim(y, 2, 3)
EE- y = y.mT.mT
EE- y = y.mT
--E y = y.t().t()
--E y = y.T.T
EEE y = y.rot90(4, (0, 1))
RR- y = y.rot90(1, (2, 3))
RRR y = y.flip(1)
RRR y = y.fliplr()
RRR y = torch.flipud(y)
RRR y = y.roll(1, 1)
EEE y = torch.roll(y, 0)
RRR y = y[torch.tensor([1, 0, 2, 3])]
-R- y = y[:, ::2]
RRR y = y[:2]
-E- y = y[:, :3]
RRR y = y[y > -9].view(z.shape)
RRR y = y.gather(0, torch.zeros(z.shape, dtype=int))
-E- y = torch.cat([y, z], 1)
EEE y = torch.cat([y], 1)
-E- y = torch.concat((y, z), axis=1)
-E- y = torch.concatenate([y, z], dim=1)
-E- y = torch.cat([y, y], 1)
-E- y = torch.cat(tensors=[z, y], dim=-3)
-E- y = torch.cat([y, z], 2)
-R- y = torch.cat([y, z * 0 + 1], 1)
-R- y = torch.cat([y, torch.zeros_like(y)], 1)
-E- y = torch.cat([y.flatten(1), z.flatten(1)], 1)
-R- y = torch.hstack([y, z])
-R- y = F.pad(y, (1, 1, 1, 1))
RRR y = F.pad(y, (0, 0))
-R- y = nn.ZeroPad2d(1)(y)
-E- y = F.pixel_shuffle(y, 2)
-E- y = F.pixel_unshuffle(y, 2)
-E- y = F.channel_shuffle(y, 2)
-E- y = F.native_channel_shuffle(y, 2)
-E- y = F.interpolate(y, scale_factor=2)
-E- y = F.conv_transpose2d(y, torch.ones(4, 2, 2, 2), stride=2)
--E y = F.conv1d(y[:, None], torch.ones(1, 1, 3))
RRR y = F.silu(y)
RRR y = F.hardswish(y)
-R- y = F.unfold(y, 2)
-R- y = y.repeat(1, 2, 1, 1)
RRR y = y.as_strided(y.shape, y.stride())
RRR y = y.view(torch.int64).double()
-R- y = torch.diagonal(y, 0, 2, 3)
RRR y = torch.broadcast_tensors(y, z)[0]
RRR y = torch.tril(y)
# Types.
EEE y = y.double()
EEE y = y.to(torch.float64)
EEE y = y.cpu()
EEE y = y.to('cpu')
EEE y = y.type(torch.float64)
EEE y = y.type_as(z)
EEE y = y * torch.tensor(0.5, dtype=torch.float32).to(y)
EEE y = y + torch.ones(1).type_as(z)
RRE y = y + torch.ones(z.numel()).view_as(y) * e
EEE y = +y
RER y = y.float().double()
RER y = y.half().double()
RER y = y.bfloat16().double()
RER y = y.bool().double()
RER y = y.int().double()
RER y = y.long().double()
RER y = y.short().double()
RER y = y.byte().double()
RRR y = y.to(torch.complex128).real
RRR y = y.round()
# Dropout.
RRR y = F.dropout(y, 0.5)
EEE y = F.dropout(y, 0.5, training=False)
EEE y = F.dropout(y, 0.5, self.training)
EEE y = F.dropout(y, 0.0)
RRR y = torch.dropout(y, 0.5, True)
EEE y = torch.dropout(y, 0.5, train=False)
RRR y = torch.dropout_(y, 0.5, True)
EEE y = F.dropout1d(y.flatten(1), 0.5, False).view(z.shape)
RRR y = F.dropout1d(y.flatten(1), 0.5).view(z.shape)
RR- y = F.dropout2d(y, 0.5)
EE- y = F.dropout2d(y, 0.5, False)
EE- y = F.dropout3d(y, 0.5, False)
EEE y = F.alpha_dropout(y, 0.5)
RRR y = F.alpha_dropout(y, 0.5, True)
EE- y = F.feature_alpha_dropout(y, 0.5, False)
RR- y = torch.feature_dropout(y, 0.5, True)
EE- y = torch.feature_dropout(y, 0.5, False)
RRR y = F.rrelu(y, training=True)
RRR y = torch.bernoulli(y.clamp(0, 1))
RRR y = y + torch.randn_like(y)
RRR y = F.gumbel_softmax(y)
# Pools.
-E- y = F.max_pool2d(y, 2)
-E- y = F.max_pool2d(y, 2, 2)
-E- y = F.max_pool2d(y, (2,), [1])
-E- y = F.max_pool2d(y, 3, 2, 1)
EE- y = F.max_pool2d(y, 3, 1, 1)
-E- y = torch.max_pool2d(y, 2, 1, 0, 1, False)
-R- y = F.max_pool2d(y, 2, dilation=2)
-E- y = F.max_pool2d(y, 3, 2, 0, 1, True)
-E- y = F.max_pool2d(y, 2, 2, ceil_mode=True)
-R- y, _ = F.max_pool2d(y, 2, return_indices=True)
-E- y = F.max_pool2d(input=y, kernel_size=2)
-E- y = F.avg_pool2d(y, 2)
-E- y = F.avg_pool2d(y, 2, 1)
-E- y = F.avg_pool2d(y, 3, 2, 0, True)
-E- y = F.avg_pool2d(y, 2, 2, 0, True)
-E- y = F.avg_pool2d(y, 2, divisor_override=3)
-E- y = F.avg_pool2d(y, 2, 2, 0, False, True, 1)
-E- y = F.avg_pool2d(y, 2, 2, 1)
-E- y = F.avg_pool2d(y, 2, 2, 1, False, False)
-E- y = F.avg_pool2d(y, 2, count_include_pad=False)
-E- y = F.adaptive_avg_pool2d(y, 1)
-R- y = F.adaptive_avg_pool2d(y, (2, 4))
-E- y = F.adaptive_avg_pool2d(y, (None, 2))
-E- y = F.adaptive_max_pool2d(y, 2)
-E- y = F.adaptive_max_pool2d(y, output_size=(3, None))
-R- y, _ = F.adaptive_max_pool2d(y, 2, True)
-R- y = F.lp_pool2d(y, 2, 2)
-RR y = F.max_pool1d(y.flatten(1), 2)
-R- y = F.avg_pool1d(y.flatten(2), 2)
-R- y = F.fractional_max_pool2d(y, 2, output_size=3)
-R- y = y.amax(3)
-E- y = nn.AvgPool2d(2, divisor_override=1)(y)
-R- y = nn.LPPool2d(2, 2)(y)
# All else.
RER y = y.relu()
RER y = F.relu(y)
RRR y = y.clamp(min=0)
RRR y = y.abs()
RRR y = y ** 2
RRR y = y.square()
RRR y = (y > 0).double()
RRR y = torch.ge(y, 0.1).double()
RRR y = y.sign()
RRR y = torch.heaviside(y, z)
RRR y = F.softmax(y, 1)
RRR y = F.gelu(y)
RRR y = F.threshold(y, 0.3, 0.0)
RRR y = y.exp()
RRR y = y.sin()
RRR y = y.cumsum(0)
RRR y = y - y.mean()
RRR y = y.sum(1, keepdim=True).expand_as(z)
-E- y = y.mean((2, 3))
-E- y = torch.bmm(y.flatten(2), z.flatten(2).transpose(1, 2)).flatten(1)
-E- y = (y.flatten(2).transpose(1, 2) @ z.flatten(2)).flatten(1)
RRR y = y.sort(0)[0]
RRR y = y.nan_to_num(0.0)
RRR y = y @ torch.eye(y.shape[-1])
RRR y = y.matmul(torch.eye(y.shape[-1]))
RRR y = torch.einsum('i...->i...', y)
EEE y = F.linear(y, torch.eye(y.shape[-1]))
EE- y = F.conv2d(y, torch.ones(4, 4, 1, 1))
RRR y = F.batch_norm(y, c.flatten(), c.flatten().abs())
RRR y = F.layer_norm(y, y.shape[1:])
RR- y = F.instance_norm(y)
RRR y = F.group_norm(y, 1)
RRR y = F.normalize(y)
RRR y = y.masked_fill(z > 0, 0)
RRR y = y.index_add(0, torch.tensor([0]), y[:1])
RRR y = torch.func.vmap(lambda v: v * 2)(y)
EEE y = Doubled.apply(y)
RRR y = torch.tensor(y.tolist())
RRR y = torch.from_numpy(y.numpy() * 0.5)
RRR y = copy.deepcopy(y)
RRR y = torch.fft.ifft(torch.fft.fft(y)).real
RRR y = torch.full_like(y, 0.3)
RRR y = y.new_ones(y.shape)
RRR y = torch.zeros(z.shape); y[:] = z
RRR y = y * (self.calls * 0.1 + 0.5)
RRR y = y if self.calls % 2 else -y
RER y = F.relu(y) if self.calls == T else y
""")
PLACES = ("currents", "spikes", "vectors")


class Doubled(torch.autograd.Function):
    """A function of the user's own."""

    @staticmethod
    def forward(context, tensor):
        return tensor * 2


class Statement(nn.Module):
    """``form`` between a layer and a neuron, or between a neuron and a layer."""

    def __init__(self, form, place):
        super().__init__()
        self.code, self.place, self.calls = compile(form, form, "exec"), place, 0
        generator = torch.Generator().manual_seed(1)
        self.stem, self.beside = (
            nn.Linear(2 * 6 * 6, 9) if place == "vectors" else nn.Conv2d(2, 4, 3, padding=1) for _ in range(2)
        )
        self.cell, self.cell_beside, self.last = Cell(), Cell(), Cell()
        self.double()
        self.fc = nn.Identity()
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.3
        with torch.no_grad():
            size = self.between(torch.ones(IMAGES, 2, 6, 6, dtype=torch.float64)).flatten(1).shape[1]
        self.fc = nn.Linear(size, 5, dtype=torch.float64)
        self.fc.weight.data = torch.randn(5, size, generator=generator, dtype=torch.float64)
        self.reset()

    def reset(self):
        self.calls = 0
        for cell in (self.cell, self.cell_beside, self.last):
            cell.reset()

    def between(self, x):
        """What the last layer reads."""
        self.calls += 1
        x = x.flatten(1) if self.place == "vectors" else x
        y, z = self.stem(x), self.beside(x)
        if self.place == "spikes":
            y, z = self.cell(y), self.cell_beside(z)
        values = np.random.default_rng(5).uniform(0.2, 1.0, y.shape[1:])
        names = {
            "self": self, "y": y, "z": z, "e": torch.tensor(values), "torch": torch, "nn": nn, "F": nn.functional,
            "c": torch.tensor(values[:, :1, :1] if values.ndim == 3 else values), "np": np, "copy": copy,
            "IMAGES": IMAGES, "T": T, "Doubled": Doubled,
        }  # fmt: skip
        exec(self.code, names)
        return names["y"] if self.place == "spikes" else self.cell(names["y"])

    def forward(self, x):
        return self.last(self.fc(self.between(x).flatten(1)))


@pytest.fixture(autouse=True)
def double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def spikes_of(model, inputs):
    """What the cells of the model fire without the tracer, by name [T, I, ...]."""
    fired = {name: [] for name, module in model.named_modules() if isinstance(module, Cell)}
    handles = [
        module.register_forward_hook(lambda module, given, spikes, name=name: fired[name].append(spikes.clone()))
        for name, module in model.named_modules()
        if isinstance(module, Cell)
    ]
    model.reset()
    model.eval()
    with torch.no_grad():
        for values in inputs:
            model(values.clone())
    for handle in handles:
        handle.remove()
    model.reset()
    return {name: torch.stack(spikes).numpy() for name, spikes in fired.items() if spikes}


def traced(model, inputs, monkeypatch, **more):
    """The float network that the tracer reads, and again after folding; raises what ``from_torch`` raises."""
    found = []
    export = torch_tracing.export

    def watched(network, **options):
        found.append(copy.deepcopy(network))
        return export(network, **options)

    monkeypatch.setattr(torch_tracing, "export", watched)
    from_torch(model, inputs, T, neurons=OWN, **more)
    folded = copy.deepcopy(found[0])
    fold(folded)
    return found[0], folded


def in_order(found, expected, form, name):
    """Are they the same? A network keeps a layer's neurons in the order of the layer, which a model may transpose."""
    turned = name == "cell" and any(word in form for word in ("permute", "transpose", "swap", "move", "mT", "eye"))
    order = np.sort if turned else np.asarray
    return np.array_equal(*(order(values.reshape(T, IMAGES, -1)) for values in (found, expected)))


CASES = [
    (form, place, outcome)
    for form, outcomes in FORMS.items()
    for place, outcome in zip(PLACES, outcomes, strict=True)
    if outcome != "-"
]


@pytest.mark.parametrize(("form", "place", "outcome"), CASES)
@pytest.mark.filterwarnings("ignore:The use of `x.T` on tensors:UserWarning")
def test_exact_or_refused(form, place, outcome, monkeypatch):
    torch.manual_seed(0)
    model = Statement(form, place)
    inputs = torch.rand(T, IMAGES, 2, 6, 6, generator=torch.Generator().manual_seed(2))
    expected = spikes_of(model, inputs)
    try:
        networks = traced(model, inputs, monkeypatch)
    except UsageError as error:
        assert outcome == "R", error
        assert all(len(problem) < 400 and "the model failed" not in problem for problem in error.problems)
        return
    assert outcome == "E", "another network is exported, or the table is wrong"
    for network in networks:
        run(network)
        for name, spikes in expected.items():
            if name in network.nodes:
                assert in_order(network.recorded[name], spikes, form, name), name
    assert {"last", "cell"} <= networks[0].nodes.keys()
    assert 0 < expected["last"].mean() < 1


def test_statements_in_any_order(monkeypatch):
    """Pairs and triples of statements: never another network; some are exact, some refused."""
    generator = np.random.default_rng(0)
    kept = [form for form, outcomes in FORMS.items() if outcomes[0] == "E"]
    kept += [form for form, outcomes in FORMS.items() if outcomes[0] == "R" and ("_(" in form or "[" in form)]
    inputs = torch.rand(T, IMAGES, 2, 6, 6, generator=torch.Generator().manual_seed(3))
    outcomes = {"exact": 0, "refused": 0}
    for count in (2, 3) * 60:
        try:
            model = Statement("\n".join(generator.choice(kept, count)), "currents")
        except RuntimeError:
            # One changes a shape that the next relies on: torch itself refuses.
            continue
        expected = spikes_of(model, inputs)
        try:
            networks = traced(model, inputs, monkeypatch)
        except UsageError:
            outcomes["refused"] += 1
            continue
        finally:
            monkeypatch.undo()
        outcomes["exact"] += 1
        for network in networks:
            run(network)
            # The cell may hold its neurons in another order; what reads them undoes it.
            assert np.array_equal(network.recorded["last"], expected["last"]), model.code.co_filename
    assert min(outcomes.values()) > 10


# Statements that take currents y [T, I, F] apart into `steps`, and that put spikes `outs` together into s [T, I, F].
TAKEN_APART = statements("""
E steps = y
E steps = list(y)
E steps = y.unbind(0)
E steps = torch.unbind(y, dim=-3)
E steps = [y[t] for t in range(T)]
E steps = [y[t - T] for t in range(T)]
E steps = [y[t, :, :] for t in range(T)]
E steps = [y.select(0, t) for t in range(T)]
E steps = [torch.select(y, 0, t).clone() for t in range(T)]
E steps = [y.narrow(0, t, 1)[0] for t in range(T)]
E steps = y.chunk(T)
E steps = torch.split(y, 1)
E steps = y.tensor_split(T)
E steps = y.flatten(0, 1).split(len(y[0]))
E steps = y.view(T, -1).view(y.shape)
E steps = y[torch.arange(T)]
E steps = [y[t : t + 1] for t in range(T)]
E y *= 0.5; steps = y
E steps = [step * 0.5 for step in y]
E steps = [step.mul_(0.5) for step in y]
E steps = (y + 0.1).unbind()
E steps = [y[t] + z[t] for t in range(T)]
E steps = (y + z).unbind()
R steps = [y[t] + z[0] for t in range(T)]
R steps = [y[t] + z[t - 1] for t in range(T)]
R steps = y.flip(0)
R steps = list(y)[::-1]
R steps = y.roll(1, 0)
R steps = y[[1, 0, 2]]
R steps = [y[0]] * T
R steps = y[:1].expand_as(y)
R steps = y.transpose(0, 1)
E steps = y.transpose(0, 1).unbind(1)
R steps = y.cumsum(0)
R y[1] *= 0.5; steps = y
R steps = y; y[0].zero_()
R steps = y.unbind(0); y.data *= 2
R steps = [y[t] * (t + 1) for t in range(T)]
R steps = y.swapaxes(0, 1)
R steps = y.mean(0, keepdim=True).expand_as(y)
R steps = torch.stack([y[0], y[2], y[1]])
E steps = y[::1]
""")
PUT_TOGETHER = statements("""
E s = torch.stack(outs)
E s = torch.stack(tuple(outs), dim=0)
E s = torch.cat([out[None] for out in outs])
E s = torch.cat(outs).view(y.shape)
E s = torch.stack(outs)[:]
E s = torch.concat(tensors=outs).reshape(y.shape)
R s = torch.stack(outs, 1)
R s = torch.stack(outs, 1).transpose(0, 1)
R s = torch.stack(outs[::-1])
R s = torch.stack(outs).flip(0)
R s = torch.stack([outs[0]] * T)
R s = torch.stack([outs[0], outs[0], *outs[:1]])
R s = torch.stack([torch.zeros_like(outs[0]), *outs[:-1]])
R s = torch.stack(outs); s[1] = 0
R s = torch.stack(outs).cumsum(0)
R s = torch.zeros(y.shape); [s.__setitem__(t, out) for t, out in enumerate(outs)]
E s = torch.stack(outs) * 0.5
R s = torch.vstack(outs).view(y.shape)
R s = sum(outs).expand(y.shape)
E s = torch.stack([out.data for out in outs])
R outs[0].zero_(); s = torch.stack(outs)
""")
# Statements that show the same currents y [I, F] at all timesteps.
REPEATED = statements("""
E steps = [y] * T
E steps = y.unsqueeze(0).repeat(T, 1, 1)
E steps = y.expand(T, -1, -1)
E steps = torch.stack([y] * T)
E steps = y.broadcast_to(T, *y.shape)
E steps = y.tile(T, 1).view(T, *y.shape)
E steps = torch.cat([y] * T).view(T, *y.shape)
R steps = y.repeat_interleave(T, 0).view(T, *y.shape)
R steps = y.unsqueeze(1).repeat(1, T, 1)
E steps = y[None].repeat_interleave(T, 0)
E steps = [y * 0.5 for t in range(T)]
R steps = [y * (t + 1) for t in range(T)]
E steps = [y.mul_(0.5) for t in range(T)]
R steps = [y.mul_(0.5).clone() for t in range(T)]
E steps = torch.stack([y, y.clone(), y + 0])
R steps = [y, y, y.flip(0)]
""")


class Sequence(nn.Module):
    """A model that takes time apart and puts it together; as many images as timesteps, to mix them up."""

    def __init__(self, taken, put):
        super().__init__()
        self.codes = [compile(form, form, "exec") for form in (taken, put)]
        self.first, self.beside, self.fc = nn.Linear(8, 9), nn.Linear(8, 9), nn.Linear(9, 5)
        self.cell, self.last = Cell(), Cell()
        generator = torch.Generator().manual_seed(4)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)

    def reset(self):
        self.cell.reset()
        self.last.reset()

    def forward(self, x):
        names = {"y": self.first(x), "z": self.beside(x), "T": T, "torch": torch}
        exec(self.codes[0], names)
        names["outs"] = [self.cell(step) for step in names["steps"]]
        exec(self.codes[1], names)
        return [self.last(out) for out in self.fc(names["s"])]


@pytest.mark.parametrize(
    ("taken", "put", "static", "outcome"),
    [(form, "s = torch.stack(outs)", False, outcome) for form, outcome in TAKEN_APART.items()]
    + [("steps = y", form, False, outcome) for form, outcome in PUT_TOGETHER.items()]
    + [(form, "s = torch.stack(outs)", True, outcome) for form, outcome in REPEATED.items()],
)
def test_time_exact_or_refused(taken, put, static, outcome, monkeypatch):
    model = Sequence(taken, put)
    inputs = torch.rand(*(() if static else (T,)), T, 8, generator=torch.Generator().manual_seed(2))
    expected = spikes_of(model, [inputs])
    try:
        networks = traced(model, inputs, monkeypatch, loop=True)
    except UsageError as error:
        assert outcome == "R", error
        assert all(len(problem) < 400 and "the model failed" not in problem for problem in error.problems)
        return
    assert outcome == "E", "another network is exported, or the table is wrong"
    for network in networks:
        run(network)
        for name in ("cell", "last"):
            assert np.array_equal(network.recorded[name].reshape(-1), expected[name].reshape(-1))


# Modules between neurons and a linear layer.
MODULES = statements("""
E nn.Identity()
E nn.Dropout(0.5)
E nn.Dropout(0.5, inplace=True)
E nn.Dropout2d(0.5)
E nn.Dropout3d(0.5)
E nn.AlphaDropout(0.5)
E nn.FeatureAlphaDropout(0.5)
E nn.Flatten(1, 2)
E nn.Unflatten(1, (2, 2))
E nn.MaxPool2d(2)
E nn.MaxPool2d(3, 2, 1)
E nn.MaxPool2d((2, 3), stride=(2, 1))
R nn.MaxPool2d(2, dilation=2)
E nn.MaxPool2d(3, 2, ceil_mode=True)
E nn.MaxPool2d(2, ceil_mode=True)
E nn.AvgPool2d(2)
E nn.AvgPool2d(2, divisor_override=1)
E nn.AvgPool2d((2, 3), divisor_override=7)
E nn.AvgPool2d(2, 1)
E nn.AvgPool2d(3, 2, 0, True)
E nn.AvgPool2d(2, 2, 1)
E nn.AvgPool2d(2, 2, 1, count_include_pad=False)
E nn.AvgPool2d(3, 2, 1, ceil_mode=True)
E nn.AvgPool2d(3, (2, 3), 1, True, False)
E nn.AvgPool2d(3, 2, 1, True, divisor_override=5)
E nn.AvgPool2d(2, count_include_pad=False)
E nn.AdaptiveAvgPool2d(1)
E nn.AdaptiveAvgPool2d((None, 2))
R nn.AdaptiveAvgPool2d(4)
E nn.AdaptiveMaxPool2d(2)
R nn.AdaptiveMaxPool2d(4)
R nn.LPPool2d(2, 2)
R nn.FractionalMaxPool2d(2, output_size=3)
E nn.BatchNorm2d(4)
E nn.BatchNorm2d(4, affine=False)
R nn.BatchNorm2d(4, track_running_stats=False)
R nn.InstanceNorm2d(4)
R nn.GroupNorm(2, 4)
R nn.ZeroPad2d(1)
E nn.ReLU()
E nn.ReLU(inplace=True)
R nn.RReLU()
R nn.Hardtanh(inplace=True)
R nn.Softmax(1)
E nn.Upsample(scale_factor=2)
E nn.Upsample(size=(12, 18), mode='nearest-exact')
R nn.Upsample(size=(9, 12))
R nn.Upsample(scale_factor=2, mode='bilinear')
E nn.PixelUnshuffle(2)
E nn.PixelShuffle(2)
E nn.ChannelShuffle(2)
E nn.ConvTranspose2d(4, 4, 2)
E nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1)
E nn.ConvTranspose2d(4, 6, (3, 2), stride=(2, 3), groups=2, dilation=(2, 1))
R nn.ConvTranspose2d(4, 4, 2, padding=2)
E nn.Conv2d(4, 4, 3, dilation=2)
E nn.Conv2d(4, 4, 3, padding="same")
E nn.Conv2d(4, 4, (2, 3), padding="same", dilation=2)
E nn.Conv2d(4, 4, 3, padding="valid")
R nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular")
E nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3))
E nn.LazyConv2d(4, 3)
E Doubling()
R Shuffling()
""")


class Doubling(nn.Module):
    """A module of the user's own that is followed."""

    def forward(self, x):
        return x * 2


class Shuffling(nn.Module):
    """One that is not."""

    def forward(self, x):
        return x.flip(1)


@pytest.mark.parametrize(("module", "outcome"), MODULES.items())
def test_modules_exact_or_refused(module, outcome, monkeypatch):
    torch.manual_seed(0)
    made = eval(module, {**globals(), "nn": nn})
    if isinstance(made, nn.BatchNorm2d) and made.running_mean is not None:
        made.running_mean.uniform_(), made.running_var.uniform_(0.5, 1)
    sample = made(torch.rand(2, 4, 6, 6))
    last = nn.Linear(sample.flatten(1).shape[1], 5)
    last.weight.data.normal_()
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), Cell(), made, nn.Flatten(), last, Cell())
    model[0].weight.data.normal_()
    model.reset = lambda: (model[1].reset(), model[5].reset())
    inputs = torch.rand(T, IMAGES, 2, 6, 6)
    try:
        networks = traced(model, inputs, monkeypatch)
    except UsageError as error:
        assert outcome == "R", error
        assert {problem.replace(":", " ").split()[0] for problem in error.problems} <= {"2", "3", "4"}
        return
    assert outcome == "E", "another network is exported, or the table is wrong"
    expected = spikes_of(model, inputs)
    for network in networks:
        run(network)
        for name in ("1", "5"):
            assert np.array_equal(network.recorded[name], expected[name])
    assert 0 < expected["5"].mean() < 1


def test_every_function_that_is_known_has_a_statement():
    from torch.overrides import TorchFunctionMode

    seen = set()

    class Names(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            seen.add(plain_name(function))
            return function(*args, **(kwargs or {}))

    with Names(), torch.no_grad():
        for form, place, _ in CASES:
            Statement(form, place)
        for form in TAKEN_APART:
            Sequence(form, "s = torch.stack(outs)")(torch.ones(T, T, 8))
    known = {*MOVES, *JOINS, *KEEPS, *DROPOUTS, *ARITHMETIC, *POOLS, *SUMS, *PRODUCTS, *VALUES}
    # Only machines that have it can show it.
    assert known - seen <= {"cuda"}


@pytest.mark.parametrize(
    ("change", "padding", "outcome"),
    [
        ("x /= 255.0", 1, "E"), ("x = x / 255.0", 1, "E"), ("x.div_(255)", 1, "E"), ("x.mul_(1 / 255)", 1, "E"),
        ("x = (x / 255.0 - 0.5) / 0.25", 0, "E"), ("x = (x / 255.0 - 0.5) / 0.25", 1, "E"), ("x.data /= 255", 1, "R"),
        ("x.clamp_(0, 99)", 1, "R"), ("x[:] = x / 255", 1, "R"), ("x = x.flip(3) / 255.0", 1, "R"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("timed", [False, True])
def test_inputs_that_the_model_changes(change, padding, outcome, timed, monkeypatch):
    """The same pictures are shown T times, each time as they were."""

    class Pixels(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.cell = nn.Conv2d(2, 8, 3, padding=padding), Cell()

        def reset(self):
            self.cell.reset()

        def forward(self, x):
            names = {"x": x}
            exec(change, names)
            return self.cell(self.conv(names["x"]))

    inputs = torch.randint(
        0, 256, (*((T,) if timed else ()), IMAGES, 2, 6, 6), generator=torch.Generator().manual_seed(1)
    )
    model, inputs = Pixels(), inputs.double()
    before = inputs.clone()
    expected = spikes_of(model, inputs if timed else [inputs] * T)
    try:
        networks = traced(model, inputs, monkeypatch)
    except UsageError as error:
        assert outcome == "R", error
        return
    finally:
        assert torch.equal(inputs, before)
    assert outcome == "E"
    for network in networks:
        run(network)
        assert np.array_equal(network.recorded["cell"], expected["cell"])
