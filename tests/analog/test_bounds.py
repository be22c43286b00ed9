"""Whatever a hardware file may say of cells and wires: conductances, matrices and accuracies are numbers."""

import typing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.errors import ConfigError
from archsim.hardware.analog import device as cell
from archsim.hardware.analog.tile import CellsConfig, Tile
from archsim.hardware.analog.wires import LEAST_OHM
from archsim.hardware.loading import Block, load_machine
from tests.analog.test_network import config as product_config
from tests.analog.test_network import network


class Machine(Block):
    accelerator: str
    cells: CellsConfig


def numbers(metadata, whole):
    """Both bounds of a field, and anything between them, small ones as often as large ones."""
    low = next(bound.ge for bound in metadata if hasattr(bound, "ge"))
    high = next(
        getattr(bound, "le", None) or bound.lt - 1 for bound in metadata if hasattr(bound, "le") or hasattr(bound, "lt")
    )
    least = low if low > 0 else 1 if whole else 1e-9
    between = st.floats(np.log(least), np.log(high)).map(np.exp)
    found = st.sampled_from([low, high]) | between.map(lambda x: min(max(x, low), high))
    if low < 0:
        found |= between.map(lambda x: max(-x, low))
    return found.map(lambda x: int(x) if whole else float(x))


def annotated(annotation, metadata):
    """Values of an annotation, by the bounds that its field has."""
    if typing.get_origin(annotation) is typing.Literal:
        return st.sampled_from(typing.get_args(annotation))
    arguments = [one for one in typing.get_args(annotation) if one is not type(None)]
    if len(arguments) < len(typing.get_args(annotation)):
        return st.none() | annotated(arguments[0], metadata)
    if isinstance(annotation, type) and issubclass(annotation, Block):
        return values(annotation)
    if typing.get_origin(annotation) is tuple:
        return st.lists(st.floats(0, 10), max_size=8).map(lambda c: tuple(x / max(1, len(c)) for x in c))
    return numbers(metadata, annotation is int)


def values(block):
    fields = {name: annotated(info.annotation, info.metadata) for name, info in block.model_fields.items()}
    return st.fixed_dictionaries(fields)


@st.composite
def cells(draw):
    """Cells and wires by the bounds of their fields, put right where fields go together."""
    said = draw(values(CellsConfig))
    device, wires = said["device"], said["wires"]
    device["r_on_ohm"], device["r_off_ohm"] = sorted((device["r_on_ohm"], device["r_off_ohm"]))
    device["r_off_ohm"] = max(device["r_off_ohm"], cell.LEAST_RATIO * device["r_on_ohm"])
    device["stuck"]["on"] *= 1 - device["stuck"]["off"]
    device["write"]["pulses"] = min(device["write"]["pulses"], cell.MOST_WRITE_NS // device["write"]["pulse_ns"])
    for line in (device["drift"] or {}).values():
        if isinstance(line, dict):
            line["least"], line["most"] = sorted((line["least"], line["most"]))
    for name, ohm in wires.items():
        wires[name] = ohm if ohm >= LEAST_OHM else 0.0
    # Cells that are not linear are solved node by node, which is a matter of its own.
    device["read"]["cubic_per_v2"] = 0.0
    return said


@settings(max_examples=60, deadline=None)
@given(cells())
def test_conductances_and_matrices_are_numbers(said):
    config = CellsConfig.model_validate(said)
    levels = np.arange(12).reshape(4, 3) % (1 << config.device.bits)
    one = Tile(levels, config, layer=0, tile=0)
    found = [one.conductance, one.deviation, one.matrix(0), one.read(np.ones((2, 4)), 0)]
    found += [one.variance()] if one.variance() is not None else []
    for array in found:
        assert np.isfinite(array).all()
    assert (one.conductance >= 0).all() and (one.matrix(0) >= 0).all()
    energies = config.device.pulse_pj(config.device.g_on), config.device.g_on, config.device.g_level
    assert np.isfinite(energies).all() and config.device.g_level > 0


@settings(max_examples=6, deadline=None)
@given(cells(), st.sampled_from(["differential", "offset_column"]), st.sampled_from(["none", "global", "per_column"]))
def test_a_network_has_an_accuracy(said, signed, gain):
    adc = {"bits": 6, "range": "calibrated"}
    whole = product_config(signed=signed, digital_gain=gain, adc=adc, columns=40)
    whole = whole.model_copy(update={"cells": CellsConfig.model_validate(said)})
    if not whole.weights_per_array(8):
        return
    one = network("attention", whole)
    one.calibrate()
    with np.errstate(all="raise", under="ignore"):
        assert 0 <= one.accuracy(one.trace.evaluation) <= 1


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("device.r_on_ohm", "1e-300", "must be at least 1, got 1e-300"),
        ("device.r_on_ohm", "1e300", "must be at most 1000000000000, got 1e+300"),
        ("device.r_off_ohm", "100001", "must be above r_on_ohm, 100000, by a factor of 1.01 at least, got 100001"),
        ("device.programming.by_state", "[1e300]", "must be at most 100, got 1e+300"),
        ("device.programming.by_state", "[0.1, -0.2]", "must be 0 to 10 for every G / G_on from 0 to 1, got -0.1 to"),
        ("device.programming.by_state", "[0, 100]", "must be 0 to 10 for every G / G_on from 0 to 1, got 0 to 100"),
        ("device.drift.mean.slope", "-1e300", "must be at least -10, got -1e+300"),
        ("device.drift.spread.offset", "1e300", "must be at most 10, got 1e+300"),
        ("device.drift.mean.most", "1e300", "must be at most 1, got 1e+300"),
        ("device.drift.t0_s", "1e-300", "must be at least 1e-09, got 1e-300"),
        ("device.read.voltage_v", "1e-300", "must be at least 0.001, got 1e-300"),
        ("device.read.cubic_per_v2", "9", "must be below 8.33, so that currents rise up to voltage_v, got 9"),
        (
            "device.write",
            "{pulses: 100, pulse_ns: 100000000}",
            "must be at most 10, a second in all with pulse_ns, got 100",
        ),
        (
            "device.write.endurance",
            "9000000000000000000",
            "must be at most 1000000000000000000, got 9000000000000000000",
        ),
        ("time_s", "1e300", "must be at most 10000000000, got 1e+300"),
        ("wires.r_row_ohm", "1e300", "must be at most 1000000, got 1e+300"),
        ("wires.r_sense_ohm", "1e-300", "must be 0 or at least 1e-06, got 1e-300"),
    ],
)
def test_what_no_cell_is(path, value, problem, tmp_path):
    path_of = tmp_path / "machine.yaml"
    path_of.write_text(
        "accelerator: analog\ncells: {noise: frozen, seed: 1, time_s: 0, device: {kind: pcm, r_on_ohm: 100e3},"
        " wires: {r_driver_ohm: 0, r_row_ohm: 1, r_col_ohm: 1, r_sense_ohm: 0}}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_machine(path_of, {"analog": Machine}, [f"cells.{path}={value}"])
    assert problem in str(caught.value)


def test_wires_of_cells_that_are_not_linear(tmp_path):
    said = {"noise": "frozen", "seed": 1, "time_s": 0.0, "device": {"kind": "rram", "read": {"cubic_per_v2": 0.25}}}
    wires = dict.fromkeys(("r_driver_ohm", "r_row_ohm", "r_col_ohm", "r_sense_ohm"), 0.0)
    CellsConfig.model_validate(said | {"wires": wires})
    with pytest.raises(ValueError, match=r"wires\.r_row_ohm: must be above 0 beside cells that are not linear"):
        CellsConfig.model_validate(said | {"wires": wires | {"r_col_ohm": 1.0}})
