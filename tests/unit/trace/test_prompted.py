"""Prompt continual learning by shapes: closed forms, what waits for what, and plans that run."""

from __future__ import annotations

from collections import Counter

import pytest

from archsim.trace.calibrated import calibrated
from archsim.trace.prompted import (
    PHASES,
    VARIANTS,
    VIT_B16,
    Transformer,
    alone,
    kind,
    macs,
    part,
    passes,
    total,
)
from archsim.trace.resimulation import check_trace

TINY = Transformer(
    side=4, patch=2, colours=1, width=8, heads=2, hidden=12, depth=3, classes=5, blocks=2, pool=6, length=2
)
ODD = Transformer(
    side=15, patch=5, colours=3, width=12, heads=3, hidden=20, depth=4, classes=7, blocks=4, pool=9, length=3
)
LABELS = {"kind": "synthetic", "weights": "synthetic"}


def by_hand(x: Transformer, variant: str, phase: str) -> int:
    """Products, counted from the definitions: nothing here knows of operations."""
    n, d, h = 1 + (x.side // x.patch) ** 2, x.width, x.hidden
    layers = 4 * n * d * d + 2 * n * d * h
    plain = (n - 1) * x.colours * x.patch**2 * d + x.depth * (layers + 2 * n * n * d)
    prompts = x.blocks * (x.pool * d + x.pool * 2 * x.length * d + 2 * n * x.length * d)
    inference = plain + prompts + d * x.classes + plain * (variant == "two_stage")
    if phase == "inference":
        return inference
    keys = [n + x.length * (block < x.blocks) for block in range(x.depth)]
    # In the first block neither Q nor what is in front of it has a gradient: two layers, a projection, three products.
    backward = (x.depth - 1) * layers + n * d * d + 2 * n * d * h
    backward += sum(4 * n * d * one for one in keys[1:]) + 3 * n * d * keys[0] + d * x.classes
    backward += x.blocks * (2 * x.pool * 2 * x.length * d + x.pool * d)
    if variant != "two_stage":
        backward += (x.blocks - 1) * x.pool * d
    if variant == "os++":
        backward += plain + x.blocks * 2 * x.pool * d
    return inference + backward


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("network", [TINY, ODD, VIT_B16])
def test_products_are_those_of_the_definitions(network, variant, phase):
    assert total(passes(network, variant, phase)) == by_hand(network, variant, phase)


def test_vit_b16():
    """17.56 G for a pass; half of two in inference, two thirds and all of them in training."""
    two, one = (passes(VIT_B16, variant, "inference") for variant in ("two_stage", "os"))
    assert total(two, "query.") / 1e9 == pytest.approx(17.56, abs=0.005)
    assert total(one) / total(two) == pytest.approx(0.5, abs=0.005)
    base = total(passes(VIT_B16, "two_stage", "training"))
    ratios = [total(passes(VIT_B16, variant, "training")) / base for variant in ("os", "os++")]
    assert ratios == pytest.approx([0.67, 1.0], abs=0.005)
    weights = passes(VIT_B16, "os", "inference").weights
    assert weights == pytest.approx(85.6e6 + 5 * 100 * (8 * 768 + 768), rel=2e-3)


def ancestors(plan, name):
    """All operations and inputs that ``name`` needs."""
    inputs = {step.name: step.record["inputs"] for step in plan.steps}
    found, waiting = set(), [name]
    while waiting:
        for source in inputs.get(waiting.pop(), ()):
            if source not in found:
                found.add(source)
                waiting.append(source)
    return found


@pytest.mark.parametrize("variant", VARIANTS)
def test_attention_waits_for_its_prompt(variant):
    plan = passes(ODD, variant, "inference")
    places = {step.name: place for place, step in enumerate(plan.steps)}
    for number in range(ODD.depth):
        needed = ancestors(plan, f"encoder{number}.scores")
        prompt = f"encoder{number}.prompt.prefix"
        assert (prompt in needed) == (number < ODD.blocks)
        if number >= ODD.blocks:
            continue
        assert places[prompt] < places[f"encoder{number}.scores"] < places[f"encoder{number}.mix"]
        asked = ancestors(plan, prompt)
        before = f"encoder{number - 1}.add2" if number else "embed"
        # Two stages ask with the end of a first pass, one stage with what is in front of the block.
        assert (before in asked) == (variant != "two_stage")
        assert (f"query.encoder{ODD.depth - 1}.add2" in asked) == (variant == "two_stage")


def test_the_sequence_stays_as_it_is():
    plan = passes(ODD, "os", "training")
    assert all(plan.shapes[f"encoder{number}.add2"] == (12, 10, 1) for number in range(4))
    assert plan.shapes["encoder0.key.prompted"] == (12, 13, 1)
    assert plan.shapes["encoder0.prompt.components.gradient"] == (2 * 3 * 12, 9, 1)
    assert plan.shapes["encoder0.prompt.keys.gradient"] == (12, 9, 1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_kinds_and_stages_add_up(variant):
    steps = passes(ODD, variant, "training").steps
    counts = Counter(map(kind, steps))
    apart = {step.name for step in alone(steps).steps}
    first = [next(step for step in steps if kind(step) == one) for one in counts]
    assert apart == {step.name for step in first}
    assert sum(counts[kind(step)] * macs(step) for step in first) == total(passes(ODD, variant, "training"))
    stages = [[step for step in steps if step.name.startswith("query.") == chosen] for chosen in (True, False)]
    assert sum(map(total, map(part, stages))) == total(passes(ODD, variant, "training"))
    assert (total(part(stages[0])) > 0) == (variant != "os")


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_plans_run(variant, phase):
    trace = calibrated(passes(TINY, variant, phase), 0.5, LABELS, network="tiny", timesteps=1, images=2, seed=1)
    assert all(row.mismatches == 0 for row in check_trace(trace))


def test_kinds_alone_run():
    steps = [step for phase in PHASES for variant in VARIANTS for step in passes(TINY, variant, phase).steps]
    plan = alone(steps)
    trace = calibrated(plan, 0.5, LABELS, network="kinds", timesteps=1, images=1, seed=1)
    assert len(trace.operations) == len({kind(step) for step in steps})
    assert all(row.mismatches == 0 for row in check_trace(trace))
