"""The recipes of time-coded networks: kernels against integers of traces, gradients against differences, the wave."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from archsim.trace.first_spikes import exponentials, fire_rows
from tests.export.frameworks import need
from tests.machines import ROOT

torch = need("torch")


@pytest.fixture(scope="module")
def recipe():
    """A function that imports a recipe."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "workloads" / "recipes")
        yield importlib.import_module


def drawn(recipe, timesteps):
    """Ticks [200, 30] with some that never spike, integer weights [9, 30], their threshold."""
    draw = np.random.default_rng(2)
    ticks = draw.integers(0, timesteps // 2, (200, 30)).astype(np.float32)
    ticks[draw.random(ticks.shape) < 0.1] = recipe("first_spikes").NEVER
    weights = np.clip(np.round(50 * draw.normal(0.1, 0.3, (9, 30))), -127, 127).astype(np.int8)
    return ticks, weights, 50


def test_training_fires_as_the_trace_does(recipe):
    """All but some in a thousand neurons fire at the same tick: the exponentials of a trace are rounded to integers."""
    first_spikes, timesteps = recipe("first_spikes"), 254
    ticks, weights, threshold = drawn(recipe, timesteps)
    real = torch.from_numpy(weights.T.astype(np.float32) / threshold)
    found = first_spikes._FirstSpike.apply(torch.from_numpy(ticks), real, timesteps).numpy()
    table = exponentials(timesteps, first_spikes.TICKS, 16)
    exact = fire_rows(ticks.astype(np.int64), weights, np.full(9, threshold), table).ticks
    found = np.where(found < timesteps, found, timesteps).astype(np.int64)
    assert ((found < timesteps) == (exact < timesteps)).mean() > 0.998
    fired = (found < timesteps) & (exact < timesteps)
    assert 0.2 < fired.mean() < 0.95
    assert (found == exact)[fired].mean() > 0.995
    assert np.abs(found - exact)[fired].max() <= 1


def test_gradients_are_those_of_the_closed_form(recipe):
    """dt of z = sum w z / (sum w - 1) over the inputs that came before, by central differences in double precision."""
    first_spikes, timesteps = recipe("first_spikes"), 254
    ticks, weights, threshold = drawn(recipe, timesteps)
    ticks, real = ticks[:20], weights.T / threshold
    given = torch.from_numpy(ticks).requires_grad_()
    through = torch.from_numpy(real.astype(np.float32)).requires_grad_()
    out = first_spikes._FirstSpike.apply(given, through, timesteps)
    fired = out.detach().numpy() < timesteps
    above = np.zeros(fired.shape)
    for row, column in np.argwhere(fired):
        above[row, column] = real[ticks[row] < out[row, column].item(), column].sum() - 1
    # Where sum w is hardly above 1, gradients are limited on purpose.
    chosen = fired & (above > 0.2)
    (out * torch.from_numpy(chosen)).sum().backward()

    def times(ticks, real):
        total = 0.0
        for row, column in np.argwhere(chosen):
            before = ticks_at[row] < out[row, column].item()
            z = np.exp(ticks[row, before] / first_spikes.TICKS)
            w = real[before, column]
            total += np.log((w * z).sum() / (w.sum() - 1)) * first_spikes.TICKS
        return total

    ticks_at, exact = ticks.copy(), ticks.astype(float)
    for row, k in [(0, 0), (3, 7), (11, 29), (19, 4)]:
        step = np.zeros_like(exact)
        step[row, k] = 1e-4
        slope = (times(exact + step, real) - times(exact - step, real)) / 2e-4
        assert given.grad[row, k].item() == pytest.approx(slope, rel=2e-3, abs=1e-4)
    for k, column in [(0, 0), (7, 3), (29, 8)]:
        step = np.zeros_like(real)
        step[k, column] = 1e-6
        slope = (times(exact, real + step) - times(exact, real - step)) / 2e-6
        assert through.grad[k, column].item() == pytest.approx(slope, rel=2e-3, abs=1e-2)


def test_the_wave_is_the_same_from_the_other_side(recipe):
    """A source mirrored or transposed makes the field mirrored or transposed; nothing leaves the fixed edges."""
    wave = recipe("wave")
    last = wave.POINTS - 1
    fields = wave.fields(np.array([20, last - 20, 33]), np.array([33, 33, 20]))
    np.testing.assert_allclose(fields[1], fields[0][::-1], atol=1e-12)
    np.testing.assert_allclose(fields[2], fields[0].T, atol=1e-12)
    assert np.abs(fields[:, 0]).max() == 0
    assert 0.05 < np.abs(fields).max() < 1


def test_every_source_is_used_once(recipe):
    images, labels, more, others = recipe("wave").sources()
    assert len(images) + len(more) == 44 * 44
    assert np.bincount(np.concatenate((labels, others))).sum() == 1936
    assert set(labels.tolist()) == set(range(9))


def test_sources_between_points_are_others(recipe):
    """Each is like the sources around it, of their class where they are of one, and equal to none."""
    wave = recipe("wave")
    images, labels = wave.between()
    corners = np.array([10, 10, 11, 11]), np.array([10, 11, 10, 11])
    around = wave.fields(*corners)[:, ::2, ::2]
    middle = wave.fields(np.array([10.5]), np.array([10.5]))[0, ::2, ::2]
    assert np.abs(middle - around.mean(0)).max() < 0.05 * np.abs(middle).max()
    shown = images[0, 0].numpy() - 127.5
    off = [np.abs(shown * np.abs(one).max() / np.abs(shown).max() - one).max() for one in (middle, *around)]
    assert off[0] < 0.2 * min(off[1:]), off
    assert (len(images), set(labels.tolist()), int(labels[0]), int(labels[-1])) == (43 * 43, set(range(9)), 0, 8)
    assert torch.bincount(labels).min() > 150


def test_delays_learn_faster(recipe):
    """All parameters are trained, those of delays in a group of their own."""
    for join, delays in (("delay", 2), ("concatenation", 0)):
        model = recipe("first_spikes").FirstSpikes(join, 4)
        assert len(list(model.delays.parameters())) == delays
        assert len(model.undelayed()) + delays == len(list(model.parameters()))


@pytest.mark.parametrize("join", ["base", "addition", "concatenation", "delay"])
def test_an_exported_network_is_the_one_that_was_trained(recipe, join):
    """Untrained: all tensors but few are those of the model, tick by tick, from the encoder's on."""
    first_spikes, export = recipe("first_spikes"), recipe("export_first_spikes")
    torch.manual_seed(0)
    model = first_spikes.FirstSpikes(join, 4).eval()
    images = torch.randint(0, 256, (3, 1, 32, 32), dtype=torch.uint8)
    operations = export.operations_of(model, 4)
    shapes = export.shapes_of(model, images, operations)
    never = 255 if model.timesteps < 255 else 65535
    empty = {name: np.full((1, *shape), never) for name, shape in shapes.items()}
    labels = {"kind": "synthetic", "weights": "synthetic"}
    trace = export.trace_of(operations, empty | {"pixels": images[:1].numpy()}, model.timesteps, labels, "untrained")
    found = export.run_times(trace, images.numpy())
    model(images.float() / 255)
    pairs = {"encoder": "encoder.times", "block1.conv1": "block1.conv1", "block2.conv2": "block2.conv2"}
    for mine, theirs in pairs.items():
        ticks = model.last[mine].detach().numpy()
        ticks = np.where(ticks < model.timesteps, ticks, never)
        assert np.abs(ticks - found[theirs])[(ticks != never) & (found[theirs] != never)].mean() < 1, mine
        assert ((ticks == never) == (found[theirs] == never)).mean() > 0.9, mine
