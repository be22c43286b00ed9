"""Products on arrays: the integer product without effects, and each effect by itself against plain numpy."""

import numba
import numpy as np
import pytest

from archsim.hardware.analog import effective_conductance
from archsim.hardware.analog.crossbar_array import cut_rows
from archsim.hardware.analog.product import Product, ProductConfig, _Numbers

IDEAL = {"kind": "rram", "bits": 2}
NO_WIRES = {"r_driver_ohm": 0.0, "r_row_ohm": 0.0, "r_col_ohm": 0.0, "r_sense_ohm": 0.0}
WIRES = {"r_driver_ohm": 1000.0, "r_row_ohm": 5.0, "r_col_ohm": 10.0, "r_sense_ohm": 1000.0}
LOSSLESS = {
    "bits": "lossless", "columns": 8, "range": "maximum", "percentile": 100.0, "offset_lsb": 0.0, "noise_lsb": 0.0,
}  # fmt: skip
NO_FLICKER = {"read": {"flicker": None}}
GROUP = cut_rows(5, (3, 3), 3)


def config(device=IDEAL, wires=NO_WIRES, noise="frozen", adc=None, age=0.0, **said):
    cells = {"noise": noise, "seed": 3, "time_s": age, "device": device, "wires": wires}
    fields = {"rows": 8, "columns": 20, "signed": "differential", "driver_bits": 1, "digital_gain": "none"}
    fields |= {"adaptation": "none", "batch_images": 4, "dynamic": {"alpha": 0.0, "beta": 1.0}}
    return ProductConfig.model_validate({**fields, **said, "cells": cells, "adc": {**LOSSLESS, **(adc or {})}})


def layer(seed=0, n=7, input_bits=1, batch=9, lowest=-127):
    draw = np.random.default_rng(seed)
    return draw.integers(lowest, 128, (n, 45)), draw.integers(0, 1 << input_bits, (batch, 45))


def product(weight, config, input_bits=1, number=0, written=None):
    return Product(weight, GROUP, config, weight_bits=8, input_bits=input_bits, layer=number, written=written)


@pytest.mark.parametrize("signed", ["differential", "offset_column"])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 7, 8])
@pytest.mark.parametrize(("driver_bits", "input_bits"), [(1, 1), (1, 5), (2, 5), (8, 8)])
def test_without_effects_it_is_the_integer_product(signed, bits, driver_bits, input_bits):
    """Finite on/off ratios, bit slices, input cycles, arrays of rows and of columns: all cancel or add up exactly."""
    # A pair of cells of 1 or 7 bits holds 127, all others more.
    lowest = -127 if signed == "differential" and bits in (1, 7) else -128
    weight, inputs = layer(bits, input_bits=input_bits, lowest=lowest)
    weight[0, :3] = lowest
    for noise in ("frozen", "per_batch", "per_read"):
        one = product(
            weight, config({"kind": "rram", "bits": bits}, noise=noise, signed=signed, driver_bits=driver_bits),
            input_bits,
        )  # fmt: skip
        found = one.multiply(inputs, 0)
        assert found.dtype == np.float64
        assert np.array_equal(found, inputs @ weight.T)


@pytest.mark.parametrize("signed", ["differential", "offset_column"])
@pytest.mark.parametrize("input_bits", [2, 5, 8, 12])
def test_inputs_in_twos_complement(signed, input_bits):
    """The top bit's cycle counts negative, whatever the bytes that inputs come in."""
    weight, _ = layer(input_bits)
    low = -(1 << input_bits - 1)
    inputs = np.random.default_rng(1).integers(low, -low, (9, 45))
    inputs[0, :2] = low, -low - 1
    one = Product(
        weight, GROUP, config(signed=signed), weight_bits=8, input_bits=input_bits, signed_inputs=True, layer=0
    )
    found = one.multiply(inputs.astype(np.int8) if input_bits <= 8 else inputs, 0)
    assert np.array_equal(found, inputs @ weight.T)
    with pytest.raises(ValueError, match=f"allowed: {low} to {-low - 1}"):
        one.multiply(np.full((1, 45), -low), 0)
    with pytest.raises(ValueError, match="drivers of 1 bit, got 2"):
        Product(weight, GROUP, config(driver_bits=2), weight_bits=8, input_bits=4, signed_inputs=True, layer=0)


@pytest.mark.parametrize("signed", ["differential", "offset_column"])
@pytest.mark.parametrize("wires", [NO_WIRES, WIRES])
def test_noise_of_reads_is_that_of_columns_drawn_one_by_one(signed, wires):
    """Variance and, behind a shared reference, covariance of products, against cells of every column by themselves.

    Converters of 20 bits; y = factors (I_plus - I_minus), each column's current varying by itself.
    """
    weight, inputs = layer(2, n=4, input_bits=4)
    device = {**IDEAL, "read": {"relative": 0.2}}
    one = Product(
        weight, GROUP, config(device, wires, noise="per_read", signed=signed, adc={"bits": 20}), weight_bits=8,
        input_bits=4, layer=0,
    )  # fmt: skip
    reads = 4000
    found = one.multiply(np.repeat(inputs[:1], reads, 0), 0)
    expected = np.zeros((4, 4))
    for group in one._groups:
        for cycle in range(4):
            driven = inputs[0, group.rows] >> cycle & 1
            for part in group.parts:
                variance = part.tile.variance()[: len(group.rows)] / one.config.cells.device.g_level**2
                columns = driven @ variance
                # How much of every column's current is in every product.
                share = np.zeros((4, len(columns)))
                for j, (plus, minus) in enumerate(zip(part.plus, part.minus, strict=True)):
                    n, s = divmod(part.at.start + j, one.slices)
                    share[n, plus] += float(one.factor[s]) * 2**cycle
                    share[n, minus] -= float(one.factor[s]) * 2**cycle
                expected += share * columns @ share.T
    scale = np.sqrt(np.outer(expected.diagonal(), expected.diagonal()))
    np.testing.assert_allclose(np.cov(found.T) / scale, expected / scale, atol=0.08)
    if signed == "offset_column":
        assert np.abs(expected / scale - np.eye(4)).max() > 0.2


@pytest.mark.parametrize("kind", ["rram", "sram"])
def test_shipped_devices_without_noise_are_exact(kind):
    weight, inputs = layer()
    assert np.array_equal(product(weight, config({"kind": kind})).multiply(inputs, 0), inputs @ weight.T)


EFFECTS = [
    *({"device": {"stuck": {end: 0.1}}} for end in ("on", "off")),
    {"device": {"programming": {"relative": 0.3}}},
    {"device": {"programming": {"by_state": (0.1,)}}},
    {"device": {"write_noise": {"gamma": 5.0, "sigma": 0.2}}},
    {"device": {"read": {"relative": 0.3}}},
    {"device": {"read": {"cubic_per_v2": 0.9, "voltage_v": 0.6}}},
    *({"device": {"kind": "pcm", "programming": {"by_state": ()}, **rest}} for rest in ({"drift": None}, NO_FLICKER)),
    *({"wires": {**NO_WIRES, name: 3e4}} for name in NO_WIRES),
    *({"adc": one} for one in ({"bits": 2}, {"offset_lsb": 1.0}, {"noise_lsb": 1.0})),
]


@pytest.mark.parametrize("effect", EFFECTS, ids=str)
def test_each_effect_alone_is_seen(effect):
    """A configuration says whether it is exact, and each effect by itself changes products."""
    one = config(**{**effect, "device": {**IDEAL, **effect.get("device", {})}}, age=3e7)
    weight, inputs = layer()
    assert not one.exact
    assert not np.array_equal(product(weight, one, written=0).multiply(inputs, 0), inputs @ weight.T)
    # Weights that stay have no write noise.
    stays = np.array_equal(product(weight, one).multiply(inputs, 0), inputs @ weight.T)
    assert stays == ("write_noise" in effect.get("device", {}))
    assert config(age=3e7).exact
    assert np.array_equal(product(weight, config(age=3e7)).multiply(inputs, 0), inputs @ weight.T)


def test_what_decides_results_is_told():
    assert config(noise="per_read").findings() == {
        "noise": "per_read", "noise_seed": 3, "device": "rram", "age_s": 0.0, "adc_range": "maximum",
        "digital_gain": "none", "adaptation": "none",
    }  # fmt: skip


def slow(weight, inputs, signed, bits, quantise, solve, g_off=1e-7, g_on=1e-5, rows=8, columns=20):
    """Array by array, conversion by conversion, with cells as numbers; spikes only."""
    top, half = (1 << bits) - 1, 128
    g_level = (g_on - g_off) / top
    slices = -(-7 // bits) if signed == "differential" else -(-8 // bits)
    per_array = columns // (2 * slices) if signed == "differential" else (columns - slices) // slices
    found = np.zeros((len(inputs), len(weight)))
    for g in np.unique(GROUP):
        at = np.flatnonzero(g == GROUP)
        for first in range(0, len(weight), per_array):
            neurons = range(first, min(first + per_array, len(weight)))
            cells = np.full((rows, columns), g_off)
            pairs = []
            for number, n in enumerate(neurons):
                for s in range(slices):
                    if signed == "differential":
                        plus = 2 * (number * slices + s)
                        minus = plus + 1
                    else:
                        plus = number * slices + s
                        minus = len(neurons) * slices + s
                    pairs.append((n, s, plus, minus))
                    for i, k in enumerate(at):
                        w = int(weight[n, k])
                        values = (max(w, 0), max(-w, 0)) if signed == "differential" else (w + half, half)
                        for column, value in zip((plus, minus), values, strict=True):
                            cells[i, column] = g_off + g_level * ((value >> (bits * s)) & top)
            voltage = np.zeros((len(inputs), rows))
            voltage[:, : len(at)] = inputs[:, at]
            current = voltage @ solve(cells)
            for n, s, plus, minus in pairs:
                found[:, n] += (1 << (bits * s)) * quantise((current[:, plus] - current[:, minus]) / g_level)
    return found


def effective(wires):
    ohms = {name.removesuffix("_ohm"): value for name, value in wires.items()}
    return lambda cells: effective_conductance(cells, **ohms)


@pytest.mark.parametrize("signed", ["differential", "offset_column"])
def test_wires_against_cells_one_by_one(signed):
    """Converters of 24 bits, which no one sees: a step is 1e-5 levels, a weight's slices are worth 85 at most."""
    weight, inputs = layer(4)
    found = product(weight, config(wires=WIRES, signed=signed, adc={"bits": 24})).multiply(inputs, 0)
    np.testing.assert_allclose(found, slow(weight, inputs, signed, 2, np.asarray, effective(WIRES)), atol=0.01)
    assert error(found, inputs, weight) > 0.01


@pytest.mark.parametrize("wires", [NO_WIRES, WIRES])
def test_steps_against_cells_one_by_one(wires):
    """Three bits in steps of a level: -4 to 3, so that 3 inputs of 3 levels are clipped."""
    weight, inputs = layer(4)
    found = product(weight, config(wires=wires, adc={"bits": 3, "range": "granular"})).multiply(inputs, 0)
    steps = lambda sums: np.clip(np.floor(sums + 0.5), -4, 3)  # noqa: E731
    np.testing.assert_allclose(found, slow(weight, inputs, "differential", 2, steps, effective(wires)), atol=1e-9)
    assert error(found, inputs, weight) > 0.01


def error(found, inputs, weight):
    exact = inputs @ weight.T
    return np.sqrt(((found - exact) ** 2).mean() / exact.var())


def test_more_bits_are_closer():
    weight, inputs = layer(5, batch=60)
    errors = []
    for bits in (2, 3, 6, 10):
        one = product(weight, config(adc={"bits": bits, "range": "calibrated"}))
        one.calibrate(inputs)
        errors.append(error(one.multiply(inputs, 0), inputs, weight))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.05 < errors[0]


@pytest.mark.parametrize("signed", ["differential", "offset_column"])
def test_digital_gain_takes_back_what_wires_took(signed):
    """Wires are almost a gain for each column: errors fall from none to global to per column."""
    weight, inputs = layer(6, batch=400)
    errors = {}
    for gain in ("none", "global", "per_column"):
        adc = {"bits": 12, "range": "calibrated"}
        device = {"kind": "rram", "r_on_ohm": 20e3, "r_off_ohm": 200e3}
        one = product(weight, config(device, WIRES, signed=signed, digital_gain=gain, adc=adc))
        if gain != "none":
            with pytest.raises(ValueError, match="calibration first"):
                one.multiply(inputs, 0)
        one.calibrate(inputs[:200])
        errors[gain] = error(one.multiply(inputs[200:], 0), inputs[200:], weight)
    assert errors["none"] > 2 * errors["global"] > 2 * errors["per_column"]


def test_a_global_gain_is_the_best_of_all():
    """No other factor has a smaller squared error of what was converted, over all arrays."""
    weight, inputs = layer(7, batch=50)
    one = product(weight, config(wires=WIRES, digital_gain="global", adc={"bits": 12, "range": "calibrated"}))
    one.calibrate(inputs)
    best = one._gains[0][0]
    unit = np.ones(7 * one.slices)

    def squared(gain):
        total = 0.0
        for group in one._groups:
            seen = one._seen(group, inputs, _Numbers(0, 0), unit)[:, 0]
            read = np.stack([one._quantisers[j % one.slices].read(seen[:, j]) for j in range(len(unit))], 1)
            total += ((gain * read - inputs[:, group.rows] @ group.ideal) ** 2).sum()
        return total

    assert squared(best) < min(squared(best * 0.999), squared(best * 1.001))
    assert best > 1.05


def test_offsets_last_and_noise_does_not():
    weight, inputs = layer(8)
    offset = product(weight, config(adc={"bits": 10, "offset_lsb": 3.0}))
    assert np.array_equal(offset.multiply(inputs, 0), offset.multiply(inputs, 1))
    silent = offset.multiply(np.zeros_like(inputs), 0)
    assert silent.any() and (silent == silent[0]).all()
    noisy = product(weight, config(adc={"bits": 10, "noise_lsb": 1.0}))
    assert np.array_equal(noisy.multiply(inputs, 0), noisy.multiply(inputs, 0))
    assert not np.array_equal(noisy.multiply(inputs, 0), noisy.multiply(inputs, 1))


def test_noise_semantics_reach_the_product():
    weight, inputs = layer(9, input_bits=4)
    twice = np.concatenate([inputs, inputs])
    for noise, in_batch in (("frozen", True), ("per_batch", True), ("per_read", False)):
        device = {**IDEAL, "read": {"relative": 0.2}}
        one = product(weight, config(device, noise=noise, adc={"bits": 10}), 4)
        found = one.multiply(twice, 0)
        assert np.array_equal(found[:9], found[9:]) == in_batch
        # What is drawn for an input does not depend on those that come after it.
        assert np.array_equal(found[:9], product(weight, one.config, 4).multiply(inputs, 0))
        assert not np.array_equal(found, product(weight, one.config, 4, number=1).multiply(twice, 0))


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="slow as plain Python")
def test_wires_take_what_they_were_measured_to_take():
    """64 x 64 cells of four levels, 20 kohm and on/off 10, random spikes: 0.199 of the ideal current is left."""
    draw = np.random.default_rng(0)
    cells = 1 / 200e3 + (1 / 20e3 - 1 / 200e3) / 3 * draw.integers(0, 4, (64, 64))
    spikes = draw.integers(0, 2, (200, 64))
    found = spikes @ effective_conductance(cells, r_driver=1000.0, r_row=5.0, r_col=10.0, r_sense=1000.0)
    assert (found / (spikes @ cells)).mean() == pytest.approx(0.199, abs=0.005)


def test_what_is_written_at_run_time():
    """ClipFormer's transform on conductances: on/off 100, top 128, steps of 128 / 99 of G_off."""
    device = config().cells.device
    magnitude = np.arange(129)
    same = config().dynamic.transformed(magnitude, 128, device)
    assert np.array_equal(same, magnitude)
    clip = config(dynamic={"alpha": 2.0, "beta": 0.25})
    found = clip.dynamic.transformed(magnitude, 128, device)
    g_off, g_on = 1e-7, 1e-5
    meant = g_off + (g_on - g_off) * magnitude / 128
    changed = np.minimum(np.maximum(meant - 2 * g_off, g_off), 0.25 * g_on)
    assert np.array_equal(found, np.floor((changed - g_off) / (g_on - g_off) * 128 + 0.5))
    # 31 takes five bits: three slices of two bits instead of four.
    assert found.max() == 31
    assert clip.slices(1 + 5) == 3 < clip.slices(8) == 4
    assert config().exact
    assert not clip.exact


def test_counts():
    """Differential, 4 slices: two weights of 20 columns; 45 inputs in arrays of 3 rows by kernel position."""
    weight, _ = layer()
    one = product(weight, config())
    assert one.tiles == 9 * 2 * 4
    assert one.programmed_cells() == 45 * 7 * 8
    assert product(weight, config(signed="offset_column")).programmed_cells() == 45 * (7 * 4 + 2 * 4)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"weight": np.full((1, 45), -129)}, "allowed: -128 to 127"),
        ({"weight": np.full((1, 45), -128), "config": config({"kind": "rram", "bits": 1})}, "allowed: -127 to 127"),
        ({"weight": np.full((1, 45), 128)}, "allowed: -128 to 127"),
        ({"config": config(columns=6)}, "6 columns do not hold"),
        ({"config": config(rows=2)}, "3 inputs share an array of 2 rows"),
    ],
)
def test_what_does_not_fit(change, problem):
    weight, _ = layer()
    with pytest.raises(ValueError, match=problem):
        product(change.get("weight", weight), change.get("config", config()))


def test_inputs_that_no_driver_knows():
    weight, _ = layer()
    with pytest.raises(ValueError, match="inputs from 0 to 2; allowed: 0 to 1"):
        product(weight, config()).multiply(np.tile([0, 1, 2], 15)[None], 0)
    with pytest.raises(ValueError, match="calibration first"):
        product(weight, config(adc={"bits": 4, "range": "calibrated"})).multiply(np.zeros((1, 45), int), 0)
