"""Networks as their authors define them, with weights that nobody trained but under which every layer fires.

What is reduced, for time, is the size of the pictures and, where the definition has a parameter for it, the number of
channels; the structure is never touched.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType

import numpy as np

from tests.export.frameworks import need

torch = need("torch")
snn = need("snntorch")
functional = need("spikingjelly.activation_based.functional")
neuron = need("spikingjelly.activation_based.neuron")
UNTRAINED = {
    "kind": "synthetic",
    "weights": "synthetic",
    "recipe": "untrained: initial weights, some times a factor, and settled batch-norms, so that all layers fire",
}


@contextlib.contextmanager
def _without_torchvision() -> Iterator[None]:
    """SpikingJelly's residual networks want torchvision, for one function that downloads weights."""
    name = "torchvision.models.utils"
    stand_in = ModuleType(name)
    stand_in.load_state_dict_from_url = torch.hub.load_state_dict_from_url
    before = sys.modules.get(name)
    sys.modules[name] = stand_in
    try:
        yield
    finally:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before


with _without_torchvision():
    sew_resnet = need("spikingjelly.activation_based.model.sew_resnet")
    spiking_resnet = need("spikingjelly.activation_based.model.spiking_resnet")
    spiking_vgg = need("spikingjelly.activation_based.model.spiking_vgg")
ms_resnet = need("spikingjelly.activation_based.model.ms_resnet")
layer = need("spikingjelly.activation_based.layer")
spikformer_model = need("spikingjelly.activation_based.model.spikformer")
qkformer_model = need("spikingjelly.activation_based.model.qkformer")
sdt_model = need("spikingjelly.activation_based.model.spike_driven_transformer")
parametric_lif_net = need("spikingjelly.activation_based.model.parametric_lif_net")


def _settled(model, inputs):
    """``model`` after three batches in training mode: batch-norms that fit what comes, and lift it a little."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            # The average of all batches.
            module.momentum = None
            module.weight.data.fill_(1.0)
            module.bias.data.fill_(0.25)
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(inputs)
            functional.reset_net(model)
    return model.eval()


def _pictures(images, channels, side, seed=0):
    """Pixels [I, C, H, W] of smooth pictures, multiples of 1/255."""
    generator = np.random.default_rng(seed)
    coarse = generator.random((images, channels, side // 4, side // 4)).repeat(4, 2).repeat(4, 3)
    return torch.as_tensor(np.round(255 * (0.7 * coarse + 0.3 * generator.random(coarse.shape))) / 255).float()


def _events(timesteps, images, side, seed=0):
    """Counts of events of two polarities [T, I, 2, H, W], most of them zero."""
    counts = np.random.default_rng(seed).poisson(0.15, (timesteps, images, 2, side, side))
    return torch.as_tensor(counts).float()


def _residual(model, timesteps=4, side=64):
    functional.set_step_mode(model, "m")
    _settled(model, _pictures(4, 3, side).repeat(timesteps, 1, 1, 1, 1))
    return model, _pictures(2, 3, side, seed=1), {"T": timesteps, "input_scale": 1 / 255}


def _sew(connect, side=64):
    model = sew_resnet.sew_resnet18(cnf=connect, spiking_neuron=neuron.IFNode, num_classes=10)
    return _residual(model, side=side)


def sew_resnet18():
    """SEW-ResNet-18 of SpikingJelly: spikes are added behind the neurons."""
    return _sew("ADD")


def sew_resnet18_and():
    """The same with AND in place of the addition."""
    return _sew("AND", side=32)


def sew_resnet18_iand():
    """The same with (1 - x) y in place of the addition."""
    return _sew("IAND", side=32)


def spiking_vgg16_bn():
    """Spiking VGG-16 with batch-norms of SpikingJelly; an eighth of the neurons of its classifier's hidden layers."""
    model = spiking_vgg.spiking_vgg16_bn(spiking_neuron=neuron.LIFNode, num_classes=10)
    for place, (inputs, outputs) in {0: (512 * 49, 512), 3: (512, 512), 6: (512, 10)}.items():
        model.classifier[place] = layer.Linear(inputs, outputs)
        model.classifier[place].weight.data *= 10
    return _residual(model, side=32)


def spiking_resnet18():
    """Spiking ResNet-18 of SpikingJelly: currents are added before the neurons."""
    return _residual(spiking_resnet.spiking_resnet18(spiking_neuron=neuron.LIFNode, tau=2.0, num_classes=10))


def ms_resnet18():
    """MS-ResNet-18 of SpikingJelly with a quarter of its channels: currents are added, neurons begin each branch."""
    return _residual(ms_resnet.MSResNet(T=4, num_classes=10, base_channels=16))


def dvs_gesture_net():
    """DVSGestureNet of SpikingJelly at T = 20 with its PLIF neurons and an eighth of its channels."""
    model = parametric_lif_net.DVSGestureNet(channels=16, spiking_neuron=neuron.ParametricLIFNode)
    functional.set_step_mode(model, "m")
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.weight.data *= 10
    _settled(model, _events(20, 2, 128))
    return model, _events(20, 1, 128, seed=1), {"T": 20}


def _transformer(model):
    _settled(model, _pictures(8, 3, 32))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            # Products of few spikes are scaled down by 8 and seldom reach a threshold.
            module.bias.data.fill_(1.0)
    return model, _pictures(2, 3, 32, seed=1), {"T": 4, "input_scale": 1 / 255, "loop": True}


def spikformer():
    """Spikformer of SpikingJelly, two blocks, an eighth of its channels, 64 tokens."""
    options = {"img_size_h": 32, "img_size_w": 32, "patch_size": 4, "num_classes": 10}
    return _transformer(spikformer_model.Spikformer(embed_dims=32, num_heads=4, depths=2, **options))


def qkformer(kind="token"):
    """QKFormer of SpikingJelly, three stages of a block, an eighth of its channels."""
    options = {"num_classes": 10, "num_heads": (3, 6, 6), "depths": (1, 1, 1), "qka_type": kind}
    return _transformer(qkformer_model.QKFormer(embed_dims=48, **options))


def qkformer_channels():
    """The same with attention over channels."""
    return qkformer("channel")


def spike_driven_transformer():
    """Spike-driven transformer of SpikingJelly, two blocks, a twelfth of its channels."""
    options = {"num_classes": 10, "pooling_stat": "0011"}
    return _transformer(sdt_model.SpikeDrivenTransformer(embed_dims=32, num_heads=4, depths=2, **options))


class Tutorial6(torch.nn.Module):
    """The convolutional network of snnTorch's tutorial 6, 12C5-MP2-64C5-MP2-1024FC10."""

    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(1, 12, 5)
        self.lif1 = snn.Leaky(beta=0.5, spike_grad=snn.surrogate.fast_sigmoid(slope=25))
        self.conv2 = torch.nn.Conv2d(12, 64, 5)
        self.lif2 = snn.Leaky(beta=0.5, spike_grad=snn.surrogate.fast_sigmoid(slope=25))
        self.fc1 = torch.nn.Linear(64 * 4 * 4, 10)
        self.lif3 = snn.Leaky(beta=0.5, spike_grad=snn.surrogate.fast_sigmoid(slope=25))

    def forward(self, x):
        mem1, mem2, mem3 = self.lif1.init_leaky(), self.lif2.init_leaky(), self.lif3.init_leaky()
        spikes = []
        for _ in range(25):
            cur1 = torch.nn.functional.max_pool2d(self.conv1(x), 2)
            spk1, mem1 = self.lif1(cur1, mem1)
            cur2 = torch.nn.functional.max_pool2d(self.conv2(spk1), 2)
            spk2, mem2 = self.lif2(cur2, mem2)
            cur3 = self.fc1(spk2.view(x.size(0), -1))
            spk3, mem3 = self.lif3(cur3, mem3)
            spikes.append(spk3)
        return torch.stack(spikes)


def snntorch_tutorial6():
    """It has no batch-norms: weights three times as large let its layers fire."""
    model = Tutorial6()
    for layer in (model.conv1, model.conv2, model.fc1):
        layer.weight.data *= 3
    return model, _pictures(4, 1, 28), {"T": 25, "input_scale": 1 / 255}


class Tutorial5(torch.nn.Module):
    """The network of snnTorch's tutorial 5, 784-1000-10 at T = 25, with an eighth of its hidden neurons, which
    ``cell`` makes."""

    def __init__(self, cell, hidden=125):
        super().__init__()
        self.fc1, self.lif1 = torch.nn.Linear(28 * 28, hidden), cell()
        self.fc2, self.lif2 = torch.nn.Linear(hidden, 10), cell()

    def forward(self, x):
        first, second = self.lif1.reset_mem(), self.lif2.reset_mem()
        first, second = (state if isinstance(state, tuple) else (state,) for state in (first, second))
        spikes, potentials = [], []
        for _ in range(25):
            spk1, *first = self.lif1(self.fc1(x), *first)
            spk2, *second = self.lif2(self.fc2(spk1), *second)
            spikes.append(spk2)
            potentials.append(second[-1])
        return torch.stack(spikes), torch.stack(potentials)


def _tutorial5(cell, times):
    model = Tutorial5(cell)
    for module in (model.fc1, model.fc2):
        module.weight.data *= times
    return model, _pictures(4, 1, 28).flatten(1), {"T": 25, "input_scale": 1 / 255}


def snntorch_tutorial5():
    return _tutorial5(lambda: snn.Leaky(beta=0.95), 3)


def snntorch_synaptic():
    """The same with second-order neurons, as in snnTorch's tutorial 4."""
    return _tutorial5(lambda: snn.Synaptic(alpha=0.9, beta=0.8), 1)


class Recurrent(torch.nn.Module):
    """snnTorch's recurrent neurons, as its documentation writes them, with a leaky read-out: 784-64-10 at T = 25."""

    def __init__(self):
        super().__init__()
        self.fc1, self.lif1 = torch.nn.Linear(28 * 28, 64), snn.RLeaky(beta=0.9, linear_features=64)
        self.fc2, self.lif2 = torch.nn.Linear(64, 10), snn.Leaky(beta=0.9, reset_mechanism="none")

    def forward(self, x):
        (spk1, mem1), mem2 = self.lif1.init_rleaky(), self.lif2.init_leaky()
        potentials = []
        for _ in range(25):
            spk1, mem1 = self.lif1(self.fc1(x), spk1, mem1)
            _, mem2 = self.lif2(self.fc2(spk1), mem2)
            potentials.append(mem2)
        return torch.stack(potentials)


def snntorch_rleaky():
    return Recurrent(), _pictures(4, 1, 28).flatten(1), {"T": 25, "input_scale": 1 / 255}


def _norse(recurrent):
    """Norse's neurons in a network that steps through events by itself, with a leaky read-out."""
    norse = need("norse.torch")
    hidden = norse.LIFRecurrent(32, 32) if recurrent else norse.LIF()
    model = norse.SequentialState(torch.nn.Linear(64, 32), hidden, torch.nn.Linear(32, 10), norse.LI())
    for module in (model[0], model[2]):
        module.weight.data *= 4
    return model, _events(16, 4, 8)[:, :, :1].flatten(2), {"T": 16, "loop": True}


def norse_lif():
    return _norse(recurrent=False)


def norse_lif_recurrent():
    return _norse(recurrent=True)
