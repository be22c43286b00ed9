"""Machines run neurons of every rule that spikes, and refuse with a reason what they cannot do."""

from __future__ import annotations

import numpy as np
import pytest

from archsim.cost import area_rows, energy_rows, price_rows
from archsim.dataflow.activation_unit import activation_units, with_look_ups
from archsim.dataflow.coverage import coverage
from archsim.dataflow.layer import layer_of
from archsim.simulate import load_accelerator, load_prices
from archsim.trace import Neuron, Operation, Requantiser
from archsim.trace.neurons import state_fields
from tests.machines import MACHINES, ROOT, same
from tests.small_traces import build

CHANNELS = 4
FRACTION_BITS = 6


def units(low, high, *shape):
    """Random parameters in the units of potentials."""
    return np.random.default_rng(5).integers(low << FRACTION_BITS, high << FRACTION_BITS, (CHANNELS, *shape))


RULES = {
    "a leak with a multiplier": {"leak_shift": 10, "leak_multiplier": np.array([922, 973, 512, 1024])},
    "a synaptic current": {"leak_shift": 1, "current_shift": 4, "current_multiplier": np.array([15, 8, 0, 16])},
    "an adaptive threshold": {
        "leak_shift": 1, "adaptation_shift": 4, "adaptation_multiplier": np.full(CHANNELS, 14),
        "adaptation": units(5, 30),
    },
    "a reset to a value": {"leak_shift": 1, "reset_value": units(-9, 9)},
    "no reset": {"leak_shift": 1, "reset": "none"},
    "a refractory time": {"leak_shift": 1, "refractory": 1},
    "a start potential": {
        "leak_shift": 1, "threshold": units(20, 40, 6, 6), "threshold_in_fractions": True, "start": units(0, 20, 6, 6),
    },
}  # fmt: skip


OUTPUTS = {
    "signed spikes": {"leak_shift": 1, "fires": "signed"},
    "integer spikes": {"leak_shift": 1, "fires": "integer", "most": 4},
    "potentials instead of spikes": {"leak_shift": 1, "fires": "nothing", "threshold": None},
}


FOLLOWS = {
    "an activation": {
        "kind": "if", "fraction_bits": 0, "reset": "none", "fires": "signed", "rounding": "down",
        "threshold": np.full(CHANNELS, 60), "activation": np.round(60 * np.tanh(np.arange(-16, 16) / 6)).astype(int),
        "activation_multiplier": np.array([3, 4, 5, 6]), "activation_shift": 4, "start": np.array([30, 0, 20, -10]),
    },
}  # fmt: skip


def network(rule, timesteps=4):
    """A convolution of spikes whose neurons have that rule, and one behind it; two images of 6 x 6."""
    draw = np.random.default_rng(3)
    weight = [draw.integers(-20, 21, (CHANNELS, CHANNELS, 3, 3)).astype(np.int8) for _ in "ab"]
    first = Neuron(**{"kind": "lif", "threshold": np.full(CHANNELS, 30), "fraction_bits": FRACTION_BITS} | rule)
    kind = {"signed": "signed_spike", "integer": "int", "nothing": "int"}.get(first.fires, "spike")
    operations = [
        Operation("a", "conv2d", ("x",), "a", padding=(1, 1), weight=weight[0], neuron=first),
        Operation("b", "conv2d", ("a",), "b", padding=(1, 1), weight=weight[1], neuron=Neuron("if", np.full(4, 30))),
    ]
    return build(operations, {"x": draw.random((timesteps, 2, CHANNELS, 6, 6)) < 0.3}, timesteps, {"a": kind})


def left_out(name, trace):
    chosen = machine(name)
    return [(one.layer, one.reason) for one in coverage(chosen, trace, chosen.layers(trace), None).left_out]


def machine(name, encoder="skipped"):
    return load_accelerator(ROOT / "hwconfigs" / f"{name}.yaml", [f"scheduler.encoder={encoder}"])


@pytest.mark.parametrize("name", ["loas", "spikesim_lossless"])
@pytest.mark.parametrize("rule", RULES)
def test_neurons_that_spike(name, rule):
    """Every output is the trace's, where the same neurons without that rule would have others."""
    trace = network(RULES[rule])
    chosen = machine(name)
    computed = [chosen.compute(layer_of(trace, operation), verify=True) for operation in chosen.layers(trace)]
    assert [one.mismatches for one in computed] == [0, 0]
    plain = network({"leak_shift": 1})
    assert (plain.tensor("a") != trace.tensor("a")).mean() > 0.005
    assert trace.tensor("a").any()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ["sata", "stellar"])
def test_machines_with_neurons_of_their_own(name, rule):
    """SATA's unit is a comparator, a subtractor and a shift; Stellar's few-spikes neurons know a threshold."""
    reason = "a threshold in fractions" if rule == "a start potential" else rule
    assert left_out(name, network(RULES[rule])) == [("a", f"has neurons with {reason}")]


@pytest.mark.parametrize("name", ["loas", "prosperity", "spikesim_lossless"])
@pytest.mark.parametrize("output", OUTPUTS)
def test_what_machines_of_single_bits_do_not_write(name, output):
    assert left_out(name, network(OUTPUTS[output]))[0] == ("a", f"has neurons with {output}")


@pytest.mark.parametrize("rule", [*RULES, *OUTPUTS, *FOLLOWS])
def test_windows_of_timesteps(rule):
    """T = 10 on a machine of 4: three windows, the state between them carried, each output the trace's."""
    trace = network((RULES | OUTPUTS | FOLLOWS)[rule], timesteps=10)
    loas = machine("loas", "bit_planes")
    assert loas.config.timesteps == 4
    for operation in loas.layers(trace):
        found = [loas.compute(piece, verify=True) for stage in loas.stages(trace, operation) for piece in stage]
        assert len(found) >= 3
        assert sum(one.mismatches for one in found) == 0
    assert trace.tensor("a")[4:].any()
    first = trace.operation("a")
    carried = len(state_fields(first.neuron)) * loas.limits.state_bytes
    taken = [piece.taken_bytes for stage in loas.stages(trace, first) for piece in stage]
    assert taken == [0, carried, carried]


NO_ACTIVATION = {
    "gamma": "runs ANN traces", "sparten": "runs ANN traces", "loihi1": "neurons with signed spikes",
    "sata_training": "neurons with an activation", "tt_snn_training": "neurons with an activation",
    "ttfs": "other rules than that of first spikes",
}  # fmt: skip
"""Machines that refuse neurons with an activation, and why."""


@pytest.mark.slow
@pytest.mark.parametrize("path", MACHINES, ids=lambda path: path.stem)
def test_every_machine_follows_an_activation_or_says_why_not(path):
    """Both engines agree on all of it, outputs are the trace's, and dividers and tables have a price everywhere."""
    trace = network(FOLLOWS["an activation"], timesteps=3)
    planes = () if path.stem in ("manycore", "loihi1", "ttfs") else ("scheduler.encoder=bit_planes",)
    chosen = load_accelerator(path, planes).specialised_for(trace)
    if path.stem in NO_ACTIVATION:
        assert NO_ACTIVATION[path.stem] in chosen.problems(trace)[0]
        return
    assert not chosen.problems(trace)
    layers = chosen.layers(trace)
    assert [layer.name for layer in layers] == ["a", "b"]
    fast, slow = (
        list(chosen.run_layers(trace, layers, engine, verify=True, record=True)) for engine in ("compiled", "reference")
    )
    for left, right in zip(fast, slow, strict=True):
        same(left, right)
        assert left.mismatches == right.mismatches
        assert left.mismatches == 0 or not chosen.exact
    inventory, prices = [*chosen.inventory(), *activation_units(chosen, trace, layers)], load_prices(chosen)
    assert [row.unit for row in area_rows(inventory, prices)][-2:] == ["activation", "activation_table"]
    first = with_look_ups(fast[0], trace, layers)
    done = {row.action: row for row in energy_rows(first.actions, inventory, prices, 1, 1) if "activation" in row.unit}
    assert {name: done[name].count for name in ("scale", "divide", "track", "read")} == dict.fromkeys(
        ("scale", "divide", "track", "read"), trace.tensor("a").size
    )
    assert all(done[name].energy_pj > 0 for name in ("scale", "divide", "track", "read"))
    assert with_look_ups(fast[1], trace, layers) is fast[1]
    assert activation_units(chosen, trace, layers[1:]) == ()


def test_an_activation_is_built_as_wide_as_it_must_be():
    """By hand: 32 entries up to 60 (6 bits and a sign), multipliers up to 6 (3 bits), 5 timesteps (3 bits)."""
    chosen, trace = machine("loas", "bit_planes"), network(FOLLOWS["an activation"], timesteps=5)
    unit, table = activation_units(chosen, trace, chosen.layers(trace))
    sizes = {"sum_bits": chosen.sum_bits, "multiplier_bits": 3, "index_bits": 5, "time_bits": 3, "entry_bits": 7}
    assert unit.parameters == {"block": "activation", **sizes}
    assert (unit.instances, table.instances, table.parameters["width_bits"]) == (16, 1, 8)
    prices = {row.action: row.price for row in price_rows([unit], load_prices(chosen))}
    assert prices["scale"] == pytest.approx(0.003207 * chosen.sum_bits * 3)
    assert prices["divide"] == pytest.approx((0.04 / 12 + 0.009) * 5 * 3)
    assert prices["track"] == pytest.approx(0.003207 * 7 * 3 + 2 * 0.04 / 12 * 7)


def test_a_requantiser_with_an_activation_has_no_divider():
    requantiser = Requantiser(np.array([3, 4]), 4, 4, True, np.arange(-7, 9).clip(-7, 7))
    weight = np.random.default_rng(0).integers(-9, 9, (2, 5)).astype(np.int8)
    operation = Operation("fc", "linear", ("x",), "y", weight=weight, requantiser=requantiser)
    trace = build([operation], {"x": np.arange(30, dtype=np.uint8).reshape(6, 5)}, 1)
    chosen = machine("systolic", "bit_planes").specialised_for(trace)
    layers = chosen.layers(trace)
    unit, _ = activation_units(chosen, trace, layers)
    assert unit.parameters["time_bits"] == 0
    (result,) = chosen.run_layers(trace, layers, "compiled", verify=True, record=False)
    done = with_look_ups(result, trace, layers).actions
    assert {name: count for (part, name), count in done.items() if "activation" in part} == {"scale": 12, "read": 12}
    assert result.mismatches == 0
