"""Networks on arrays: the integer network without effects, and what is drawn for whom."""

import numpy as np
import pytest

from archsim.analog_network.network import AnalogNetwork, matrices_per_image
from archsim.errors import UsageError
from archsim.hardware.analog.product import ProductConfig
from archsim.trace import Trace
from archsim.trace.resimulation import currents_of, run_images
from tests import networks, small_traces
from tests.analog.test_product import LOSSLESS, NO_WIRES

NOISY = {"kind": "rram", "programming": {"relative": 0.2}, "read": {"relative": 0.2}}


def config(device=None, wires=NO_WIRES, noise="frozen", adc=None, seed=3, time_s=0.0, **said):
    cells = {"noise": noise, "seed": seed, "time_s": time_s, "device": device or {"kind": "rram"}, "wires": wires}
    fields = {"rows": 8, "columns": 20, "signed": "differential", "driver_bits": 1, "digital_gain": "none"}
    fields |= {"adaptation": "none", "batch_images": 2, "dynamic": {"alpha": 0.0, "beta": 1.0}}
    return ProductConfig.model_validate({**fields, **said, "cells": cells, "adc": {**LOSSLESS, **(adc or {})}})


def attention():
    """Integers stored in as few bytes as their requantisers allow."""
    trace = small_traces.attention()
    tensors = small_traces.contents(trace)
    for operation in trace.operations:
        if operation.op == "softmax":
            tensors[operation.output] = tensors[operation.output].astype(np.uint8)
        elif operation.requantiser is not None:
            bits, signed = operation.requantiser.bits, operation.requantiser.signed
            tensors[operation.output] = tensors[operation.output].astype(
                f"{'' if signed else 'u'}int{8 if bits <= 8 else 16}"
            )
    return Trace(
        network="small", timesteps=1, operations=trace.operations, tensors=tensors, provenance=small_traces.LABELS,
        calibration=trace.calibration, evaluation=trace.evaluation,
    )  # fmt: skip


TRACES = {
    "spikes": (small_traces.tiny, ("conv1", "conv2", "fc")),
    "attention": (attention, ("patches", "query", "key", "value", "scores", "mix", "hidden", "fc")),
    "every operation": (small_traces.every_operation, ("left", "right", "scores", "values")),
    "every kind": (small_traces.every_kind, ("a", "b", "c", "d")),
    "heads and groups": (networks.attention, ("q", "k", "v", "kv", "qkv", "qk", "mix", "depthwise", "fc")),
    "recurrence": (networks.recurrent, ("fc", "own", "out")),
    "pixels": (networks.pixels, ("c1", "c2", "t", "last")),
}


def network(name, config, on_arrays=None):
    make, everything = TRACES[name]
    return AnalogNetwork(make(), config, weight_bits=8, on_arrays=everything if on_arrays is None else on_arrays)


def inputs(trace):
    written = {operation.output for operation in trace.operations}
    return {name: trace.operand(name) for name in trace.tensors if name not in written}


@pytest.mark.parametrize("signed", ["differential", "offset_column"])
@pytest.mark.parametrize("name", TRACES)
def test_without_effects_it_is_the_integer_network(name, signed):
    """Spikes, signed spikes, pixels, signed integers, matrices that are written: every tensor, bit for bit."""
    for adaptation in ("none", "statistics")[: 1 if name == "recurrence" else 2]:
        one = network(name, config(signed=signed, adaptation=adaptation))
        assert one.config.exact
        one.calibrate()
        made = one.run_batch(inputs(one.trace), 0)
        for operation in one.trace.operations:
            assert np.array_equal(made[operation.output], one.trace.operand(operation.output)), operation.name


def test_what_has_no_correction():
    with pytest.raises(UsageError, match="reads its own past; allowed: none"):
        network("recurrence", config(adaptation="statistics")).calibrate()


@pytest.mark.parametrize("name", ["heads and groups", "recurrence"])
def test_reads_with_noise_come_to_an_end_and_are_the_same_again(name):
    """A cycle is read until nothing changes; groups and heads have cells of their own, each with its own draw."""
    noisy = config(NOISY, noise="per_read", adc={"bits": 4, "range": "calibrated"}, digital_gain="per_column")
    one, other = (network(name, noisy) for _ in range(2))
    for each in (one, other):
        each.calibrate()
    made, again = (each.run_batch(inputs(one.trace), 0) for each in (one, other))
    last = one.trace.operations[-1].output
    assert np.array_equal(made[last], again[last])
    assert not np.array_equal(made[last], one.trace.operand(last))


def test_clusters_of_groups_have_arrays_and_draws_of_their_own():
    one = network("heads and groups", config(NOISY))
    # Pairs of columns in four slices: two outputs an array of 20 columns, so that no two channels but two share one.
    assert one.arrays["depthwise"] == 4 * 9
    layers = [product.programmed_cells() for product in one._layers["depthwise"]._products]
    assert len(layers) == 4
    first, second = (product.layer for product in one._layers["depthwise"]._products[:2])
    assert first != second


def test_images_of_a_set_in_batches():
    """Five images in batches of two."""
    one = network("attention", config())
    images = one.trace.evaluation.images
    assert np.array_equal(one.run(images)["logits"], run_images(one.trace, images)["logits"])


@pytest.mark.parametrize("noise", ["frozen", "per_batch", "per_read"])
def test_number_of_images_at_a_time_decides_nothing(noise):
    """Two batches in one run and one after the other; other numbers of batches only where noise is drawn anew."""
    for name in ("spikes", "attention"):
        one = network(name, config(NOISY, noise=noise, adc={"noise_lsb": 0.2 if noise == "per_read" else 0.0}))
        images = np.tile(one.trace.operand("pixels"), (2, 1, 1, 1))
        whole = one.run(images)["logits"]
        parts = [one.run(images[:2], 0)["logits"], one.run(images[2:], 1)["logits"]]
        assert np.array_equal(whole, np.concatenate(parts, 1))
        exact = run_images(one.trace, images)["logits"]
        assert not np.array_equal(whole, exact)
        # Written matrices are programmed anew for every image, whatever the noise of reads.
        again = name == "spikes" and noise == "frozen"
        assert np.array_equal(parts[0], parts[1]) == again


def test_number_of_processes_decides_nothing():
    one = network("attention", config(NOISY, noise="per_read", adc={"noise_lsb": 0.3}))
    images = np.random.default_rng(0).integers(0, 256, (7, 1, 3, 4), dtype=np.uint8)
    assert np.array_equal(one.predict(images, jobs=2), one.predict(images))


def test_a_written_matrix_is_drawn_for_every_image():
    one = network("attention", config(NOISY), on_arrays=("scores",))
    operation = one.trace.operation("scores")
    operands = [one.trace.operand(name) for name in operation.inputs]
    twice = [np.concatenate([values[:, :1], values[:, :1]], 1) for values in operands]
    found = one.currents(operation, twice, 0)
    assert not np.array_equal(found[:, 0], found[:, 1])
    assert np.array_equal(found, one.currents(operation, twice, 0))


@pytest.mark.parametrize(
    ("noise", "adc", "alike"),
    [("per_read", {}, False), ("per_batch", {}, True), ("per_batch", {"noise_lsb": 0.5}, False)],
)
@pytest.mark.parametrize("cubic", [0.0, 0.25])
def test_reads_of_written_matrices_from_timestep_to_timestep(noise, adc, alike, cubic):
    """The same matrix and inputs at every timestep: reads differ by what each has of its own, not by what they share.

    Images always differ, and the same numbers always give the same.
    """
    device = {"kind": "rram", "read": {"relative": 0.2, "cubic_per_v2": cubic}}
    one = network("every operation", config(device, noise=noise, adc=adc), on_arrays=("scores",))
    operation = one.trace.operation("scores")
    operands = [np.repeat(np.repeat(one.trace.operand(name)[:1, :1], 2, 1), 3, 0) for name in operation.inputs]
    sums = one.sums(operation, operands, 1)
    different = {values.tobytes() for values in sums.reshape(6, -1)}
    assert len(different) == (2 if alike else 6)
    assert np.array_equal(sums, one.sums(operation, operands, 1))
    assert np.array_equal(sums[:, :1], one.sums(operation, [values[:, :1] for values in operands], 1))


def test_what_an_image_writes():
    """Key: 4 channels by 6 positions; value: 6 by 4; a differential pair of 4 slices, 8 x 20 cells: 2 weights."""
    one = network("attention", config({"kind": "rram", "write": {"pulses": 5}}))
    assert one.writes == {"scores": (1, 3, 4 * 6 * 8, 5), "mix": (1, 2, 6 * 4 * 8, 5)}
    assert one.arrays["scores"] == 3
    clipped = network("attention", config(dynamic={"alpha": 0.0, "beta": 0.25}))
    assert clipped.writes["scores"].cells == 4 * 6 * 6
    timed = network("every operation", config())
    assert timed.writes["scores"].matrices == 3


@pytest.mark.parametrize(("name", "matrices"), [("attention", 1), ("every operation", 3)])
def test_a_cell_is_written_once_a_matrix(name, matrices):
    """A matrix that changes every timestep wears its cells as often; pulses are of one write."""
    one = network(name, config({"kind": "rram", "write": {"pulses": 5, "endurance": 100}}))
    for operation in one.trace.operations:
        if operation.op == "matmul":
            assert matrices_per_image(one.trace, operation) == one.writes[operation.name].matrices == matrices
    assert one.config.cells.device.lifetime(matrices) == 100 // matrices


def test_a_clipped_matrix_is_what_the_products_are_made_with():
    one = network("attention", config(dynamic={"alpha": 2.0, "beta": 0.25}), on_arrays=("scores",))
    operation = one.trace.operation("scores")
    query, key = (one.trace.operand(name).astype(np.int64) for name in operation.inputs)
    written = one.config.dynamic.transformed(np.abs(key), 128, one.config.cells.device) * np.sign(key)
    expected = currents_of(operation, [query, written], 1)
    assert np.array_equal(one.currents(operation, [query, key], 0), expected)


def test_write_noise_disturbs_only_what_is_written():
    one = network("attention", config({"kind": "rram", "write_noise": {"gamma": 3.0, "sigma": 0.5}}))
    made = inputs(one.trace) | {operation.output: one.trace.operand(operation.output) for operation in one.trace}
    disturbed = set()
    for name in one.on_arrays:
        operation = one.trace.operation(name)
        operands = [made[name] for name in operation.inputs]
        exact = currents_of(operation, operands, 1)
        if not np.array_equal(one.currents(operation, operands, 0), exact):
            disturbed.add(name)
    assert disturbed == {"scores", "mix"}


def test_only_what_is_on_arrays_is_disturbed():
    one = network("spikes", config(NOISY), on_arrays=("fc",))
    made = one.run_batch(inputs(one.trace), 0)
    assert np.array_equal(made["pool.spikes"], one.trace.operand("pool.spikes"))
    assert not np.array_equal(made["logits"], one.trace.operand("logits"))


def test_what_is_not_for_arrays():
    with pytest.raises(UsageError, match="'pool' is not for arrays; allowed: conv1, conv2, fc"):
        network("spikes", config(), on_arrays=("pool",))
    with pytest.raises(UsageError, match="signed inputs need drivers of 1 bit"):
        network("attention", config(driver_bits=2))
