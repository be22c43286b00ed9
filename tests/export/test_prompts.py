"""The recipes of prompts: what learns and what stays, and integers that are near the float model."""

from __future__ import annotations

import importlib
from types import SimpleNamespace

import numpy as np
import pytest

from tests.export.frameworks import need
from tests.machines import ROOT

torch = need("torch")


@pytest.fixture(scope="module")
def recipes():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "workloads" / "recipes")
        yield SimpleNamespace(**{name: importlib.import_module(f"{name}_prompts") for name in ("train", "export")})


def images(count):
    """Pixels uint8 [count, 1, 28, 28], labels of two classes, and no query yet."""
    generator = torch.Generator().manual_seed(2)
    pixels = torch.randint(0, 256, (count, 1, 28, 28), generator=generator, dtype=torch.uint8)
    return pixels, torch.arange(count) % 2


@pytest.mark.parametrize("method", ["hard", "soft", "coda", "os", "os++"])
def test_a_task_leaves_the_backbone_and_earlier_components(recipes, method):
    train = recipes.train
    torch.manual_seed(1)
    learner = train.Learner(train.Backbone(), method)
    given = train.with_queries(learner.backbone, *images(64))
    before = {name: values.clone() for name, values in learner.state_dict().items()}
    train.learn(learner, given, torch.tensor([0, 1]), 0, 128)
    first = {name: values.clone() for name, values in learner.state_dict().items()}
    train.learn(learner, given, torch.tensor([1, 0]), 1, 128)
    after = learner.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in after if name.startswith("backbone."))
    assert not torch.equal(first["classifier.weight"], after["classifier.weight"])
    share = train.POOL // train.TASKS
    attention = ("prompts.attention",) if method == "coda" else ()
    for pool in ("prompts.components", "prompts.keys", *attention):
        assert not torch.equal(first[pool], before[pool])
        if method == "hard":
            continue
        assert torch.equal(after[pool][:, :share], first[pool][:, :share])
        assert not after[pool][:, 2 * share :].any() and after[pool][:, share : 2 * share].any()


def test_new_components_are_orthonormal_to_those_before(recipes):
    pool = torch.zeros(6, 9)
    torch.manual_seed(0)
    recipes.train.extend(pool, 0, 2)
    pool[:2] *= 3.0  # training changes lengths and angles
    pool[1] += pool[0]
    recipes.train.extend(pool, 2, 5)
    torch.testing.assert_close(pool[2:5] @ pool[2:5].T, torch.eye(3), atol=1e-5, rtol=0)
    assert (pool[2:5] @ pool[:2].T).abs().max() < 1e-5 and not pool[5].any()


def test_the_query_of_one_stage_is_the_token_of_the_pass(recipes):
    """Changing the first stage's query changes two stages, and one stage not at all."""
    train = recipes.train
    shown = images(3)[0].float() / 255
    for method, changes in (("soft", True), ("hard", True), ("coda", True), ("os", False), ("os++", False)):
        torch.manual_seed(1)
        learner = train.Learner(train.Backbone(), method).eval()
        learner.prompts.start(0)
        with torch.no_grad():
            one, other = (learner(shown, queries) for queries in (torch.ones(3, 64), torch.eye(64)[:3]))
        assert (not torch.allclose(one, other)) == changes


def test_an_attention_vector_chooses_channels(recipes):
    """cos(q * a_m, k_m), component by component."""
    generator = torch.Generator().manual_seed(4)
    query, keys, attention = (torch.randn(count, 6, generator=generator) for count in (3, 5, 5))
    found = recipes.train.cosine(query, keys, attention)
    for image in range(3):
        for component in range(5):
            seen = query[image] * attention[component]
            wanted = seen @ keys[component] / (seen.norm() * keys[component].norm())
            assert found[image, component] == pytest.approx(float(wanted), abs=1e-6)
    torch.testing.assert_close(recipes.train.cosine(query, keys, torch.ones(5, 6)), recipes.train.cosine(query, keys))


@pytest.mark.parametrize("method", ["soft", "os"])
def test_integers_are_near_the_float_model(recipes, method):
    train, export = recipes.train, recipes.export
    torch.manual_seed(3)
    learner = train.Learner(train.Backbone(), method)
    for task in range(train.TASKS):
        learner.prompts.start(task)
    with torch.no_grad():
        learner.prompts.components *= 8  # as long as trained ones
    pixels = images(12)[0]
    network = export.Quantised(learner, method, pixels.numpy()).network
    learner.eval()
    with torch.no_grad():
        shown = pixels.float() / 255
        wanted = learner(shown, learner.backbone(shown)).numpy()
    found = network.values["classifier"][0] * network.scales["classifier"]
    assert np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max()
