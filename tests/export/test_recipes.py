"""The recipes' networks: as they are trained, all timesteps at once, and as ``from_torch`` sees them, one by one."""

from __future__ import annotations

import importlib

import pytest

from tests.export.frameworks import need
from tests.machines import ROOT

torch = need("torch")
need("spikingjelly.activation_based")
need("snntorch")


@pytest.fixture(scope="module")
def recipe():
    """A function that imports a recipe."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "workloads" / "recipes")
        yield importlib.import_module


@pytest.mark.parametrize("threshold", [0.5, 1.0])
def test_fused_neurons_are_those_of_spikingjelly(recipe, threshold):
    """Spikes and gradients, also of a potential that just reaches the threshold."""
    fused, spiking = recipe("fused_neurons"), recipe("spiking")
    node = spiking.lif(threshold)
    node.step_mode = "m"
    generator = torch.Generator().manual_seed(0)
    currents = 1.5 * torch.randn(4, 3, 5, 7, generator=generator)
    currents[0, 0, 0, 0] = 2 * threshold
    weights = torch.randn(currents.shape, generator=generator)
    found = []
    for neurons in (node, lambda x: fused.fire(x, node.tau, threshold)):
        given = currents.clone().requires_grad_()
        spikes = neurons(given)
        (spikes * weights).sum().backward()
        found.append((spikes.detach(), given.grad))
    assert found[0][0][0, 0, 0, 0] == 1
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[1][1], found[0][1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["spikformer", "sdt", "qkformer", "depthwise"])
def test_all_timesteps_at_once_are_one_after_the_other(recipe, name):
    from spikingjelly.activation_based import functional

    spiking = recipe("spiking")
    if name == "depthwise":
        build = recipe("train_depthwise").DepthwiseSeparable
    else:
        build = recipe("train_spiking_transformer").NETWORKS[name]
    torch.manual_seed(0)
    network = build().eval()
    for part in network.modules():
        # Nothing is trained: every layer gets spikes to work on.
        if isinstance(part, torch.nn.BatchNorm2d):
            torch.nn.init.constant_(part.bias, 0.7)
    images = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        expected = torch.stack([network(images) for _ in range(4)]).mean(0)
        functional.reset_net(network)
        torch.testing.assert_close(spiking.Unrolled(network, 4)(images), expected)
    assert expected.std() > 0
