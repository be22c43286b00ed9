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
UNTRAINED = {"weights": "synthetic", "recipe": "initial weights; batch-norms and gains set so that layers fire"}


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
ms_resnet = need("spikingjelly.activation_based.model.ms_resnet")
parametric_lif_net = need("spikingjelly.activation_based.model.parametric_lif_net")


def sew_resnet18():
    """SEW-ResNet-18 (NeurIPS 2021): spikes are added behind the neurons."""
    torch.manual_seed(0)
    model = sew_resnet.sew_resnet18(cnf="ADD", spiking_neuron=neuron.IFNode, num_classes=10)
    functional.set_step_mode(model, "m")
    return model
