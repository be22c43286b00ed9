"""PTB: hand-traced case, closed form, which inputs enter and which share a slot, the preset that LoAS compares with."""

import numpy as np
import pytest

from archsim.simulate import load_accelerator, run
from archsim.trace import Operation, Trace, save_trace
from tests.machines import LABELS, ROOT, conv, layers, mlp, needs_recorded, recorded, same, simulate

PTB = ROOT / "hwconfigs" / "ptb.yaml"
DENSE = ROOT / "hwconfigs" / "ptb_16x4.yaml"
ENTERING = ["all", "active", "packed"]


def windows(spikes, columns, window):
    """Activity, bool [fold, K, column], of every group of positions and block of windows, by plain numpy."""
    timesteps, m, k = spikes.shape
    window = min(window, timesteps)
    count = -(-timesteps // window)
    padded = np.zeros((count * window, m, k), bool)
    padded[:timesteps] = spikes
    active = padded.reshape(count, window, m, k).any(1)
    positions = max(1, columns // count)
    found = []
    for first in range(0, m, positions):
        for block in range(0, count, columns):
            part = active[block : block + columns, first : first + positions]
            found.append(part.transpose(2, 1, 0).reshape(k, -1))
    return found


def packed(active, reach):
    """Slots, tuples of inputs, by the words of the docstring."""
    slots, waiting = [], []
    for k in np.flatnonzero(active.any(1)):
        if active[k].all():
            slots.append([k])
            continue
        partner = next((slot for slot in waiting if not (active[slot[0]] & active[k]).any()), None)
        if partner is None:
            slots.append([k])
            waiting = [*waiting, slots[-1]][-reach:]
        else:
            partner.append(k)
            waiting = [slot for slot in waiting if slot is not partner]
    return slots


def test_hand_traced_example():
    """The example of the docstring of archsim.accelerators.ptb: two inputs in one slot, 11 cycles."""
    spikes = np.zeros((2, 2, 3), bool)
    spikes[0, 0, 0] = spikes[1, 1, 1] = True
    weight = np.array([[3, 5, 7]], np.int8)
    operation = Operation("fc", "linear", ("in",), "out", weight=weight)
    sums = np.einsum("tmk,nk->tmn", spikes.astype(int), weight.astype(int))
    trace = Trace(
        network="two", timesteps=2, operations=[operation], tensors={"in": spikes, "out": sums}, provenance=LABELS
    )
    array = ("pe.rows=2", "pe.columns=2", "pe.window=2", "memory.ideal=true")
    cycles = {}
    for entering in ENTERING:
        result = simulate(trace, *array, f"scheduler.entering={entering}", hardware=PTB)[0]
        assert result.mismatches == 0
        cycles[entering] = result.cycles, result.performed_operations
    assert cycles == {"packed": (11, 2), "active": (13, 2), "all": (15, 12)}


SHAPES = [
    {"m": 20, "n": 19, "k": 150}, {"m": 5, "n": 3, "k": 70, "timesteps": 16, "density": 0.05},
    {"m": 9, "n": 17, "k": 130, "timesteps": 1, "density": 0.1}, {"m": 4, "n": 9, "k": 90, "timesteps": 7},
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("rows", "columns", "window"), [(16, 8, 4), (16, 4, 1), (3, 5, 2), (4, 64, 1)])
@pytest.mark.parametrize("entering", ENTERING)
def test_ideal_memory_is_the_closed_form_of_the_slots(shape, rows, columns, window, entering):
    """A fold takes W cycles a slot, the skew and W cycles a row; first access, neuron and write around all of them."""
    trace = mlp(7, **shape)
    array = (f"pe.rows={rows}", f"pe.columns={columns}", f"pe.window={window}", "pe.packing_reach=5")
    result = simulate(trace, *array, f"scheduler.entering={entering}", "memory.ideal=true", hardware=PTB)[0]
    ticks = min(window, trace.timesteps)
    slots = {
        "all": lambda active: len(active),
        "active": lambda active: int(active.any(1).sum()),
        "packed": lambda active: len(packed(active, 5)),
    }[entering]
    per_row = sum(
        slots(active) * ticks + rows + columns - 2 + ticks * rows
        for active in windows(trace.tensor("in"), columns, window)
    )
    assert result.compute_cycles == per_row * -(-shape["n"] // rows)
    assert result.cycles == result.compute_cycles + 3
    assert result.mismatches == 0


@pytest.mark.parametrize("reach", [1, 3, 1024])
def test_slots_are_those_of_the_twin_and_lose_nothing(reach):
    """Every input that is active enters once; two that share a slot are never active in the same column."""
    trace = mlp(9, m=21, n=5, k=200, density=0.06)
    machine = load_accelerator(PTB, (f"pe.packing_reach={reach}",))
    slots = machine.slots(layers(trace, PTB)[0])
    shared = 0
    for fold, active in enumerate(windows(trace.tensor("in"), 8, 4)):
        found = [slots.inputs[slots.slot[s] : slots.slot[s + 1]].tolist() for s in range(*slots.first[fold : fold + 2])]
        assert found == [list(map(int, slot)) for slot in packed(active, reach)]
        assert sorted(k for slot in found for k in slot) == np.flatnonzero(active.any(1)).tolist()
        for slot in found:
            assert active[slot].sum(0).max() == 1 or len(slot) == 1
            shared += len(slot) == 2
    assert shared > 0
    assert slots.spikes.sum() == trace.tensor("in").sum()


@pytest.mark.parametrize("m", [7, 16, 21, 64])
def test_strided_positions_fill_the_slots_of_rows_in_that_order(m):
    """Column b of group g of G = M / 8 has position b G + g; what is left stands in the last group."""
    trace = mlp(9, m=m, n=5, k=200, density=0.06)
    machine = load_accelerator(PTB, ("scheduler.positions=strided",))
    slots, groups = machine.slots(layers(trace, PTB)[0]), m // 8
    order = [b * groups + g for g in range(groups) for b in range(8)] + list(range(groups * 8, m))
    expected = [packed(active, 64) for active in windows(trace.tensor("in")[:, order], 8, 4)]
    assert np.diff(slots.first).tolist() == [len(fold) for fold in expected]
    for fold, found in enumerate(expected):
        for slot, inputs in zip(range(*slots.first[fold : fold + 2]), found, strict=True):
            assert slots.inputs[slots.slot[slot] : slots.slot[slot + 1]].tolist() == list(map(int, inputs))


def test_weights_of_silent_inputs_are_not_read():
    """Of 100 inputs the last 60 are silent: 40 weights of every row cross the edge, all spikes do."""
    trace = mlp(3, m=16, n=16, k=100, density=0.9, neuron=False)
    spikes = trace.tensor("in")
    spikes[:, :, 40:] = False
    operation = trace.operations[0]
    sums = np.einsum("tmk,nk->tmn", spikes.astype(int), operation.weight.astype(int))
    trace = Trace(
        network="quiet", timesteps=4, operations=[Operation("fc", "linear", ("in",), "out", weight=operation.weight)],
        tensors={"in": spikes, "out": sums}, provenance=LABELS,
    )  # fmt: skip
    read = {}
    for entering in ("all", "active"):
        result = simulate(trace, f"scheduler.entering={entering}", hardware=PTB)[0]
        assert result.mismatches == 0
        read[entering] = [
            sum(row.bytes for row in result.traffic if (row.level, row.tensor, row.direction) == ("sram", name, "read"))
            for name in ("weight", "input")
        ]
    folds = 16 // 8
    assert read == {"all": [folds * 16 * 100, 800], "active": [folds * 16 * 40, 800]}


OPTIONS = [
    "scheduler.entering=all", "scheduler.entering=active", "pe.window=1", "pe.window=16", "pe.columns=3", "pe.rows=5",
    "pe.buffer_steps=7", "pe.packing_reach=2", "scheduler.prefetch_folds=0", "scheduler.tile_fill=0.001",
    "pe.weight_bits=9", "memory.cache.line_bytes=16", "scheduler.positions=strided",
]  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS)
def test_engines_agree_with_every_option(option):
    trace = mlp(5, m=19, n=35, k=150, density=0.1)
    small = ("memory.cache.size_kib=16", "memory.cache.ways=4", option)
    fast, slow = (
        simulate(trace, *small, hardware=PTB, engine=engine, record=True)[0] for engine in ("compiled", "reference")
    )
    assert fast.mismatches == 0
    same(fast, slow)


def test_skipping_pays_and_packing_pays_more():
    """A convolution whose spikes are rare: fewer cycles each time, the same function, fewer weights read."""
    trace = conv(5, channels=30, density=0.02)
    results = [simulate(trace, f"scheduler.entering={entering}", hardware=PTB)[0] for entering in ENTERING]
    assert [result.mismatches for result in results] == [0, 0, 0]
    assert results[0].compute_cycles > results[1].compute_cycles > results[2].compute_cycles
    assert results[1].performed_operations == results[2].performed_operations < results[0].performed_operations


@needs_recorded
def test_vgg16_as_loas_compares_with_it(tmp_path):
    """Dense, 16 x 4, T = 4: sum over 12 convolutions of ceil(N / 16) M (K + 2 * 16 + 4 - 2) = 19.9 M cycles."""
    path = tmp_path / "trace.npz"
    save_trace(recorded("vgg16"), path)
    convolutions = [
        layer for layer in run(DENSE, path, overrides=("memory.ideal=true",)).layers if layer.op == "conv2d"
    ]
    assert len(convolutions) == 12
    expected = [-(-layer.n // 16) * layer.m * (layer.k + 34) for layer in convolutions]
    assert [layer.compute_cycles for layer in convolutions] == expected
    total = sum(layer.cycles for layer in convolutions)
    assert total == sum(expected) + 3 * 12
    assert round(total / 1e6, 1) == 19.9


def test_a_weight_is_handed_on_once_for_all_timesteps_of_its_window():
    """16 x 8 places, one fold: 20 inputs of 4 cycles, 22 until the last has spread, 64 to shift sums out."""
    result = simulate(mlp(1, m=5, n=7, k=20), "scheduler.entering=all", hardware=PTB)[0]
    assert result.actions["pe", "shift_weight"] == (20 + -(-22 // 4)) * 128
    assert result.actions["pe", "shift_spike"] == (4 * 20 + 22) * 128
    assert result.actions["pe", "shift_sum"] == 4 * 16 * 128


def test_slots_of_two_inputs_have_room_for_two_weights_and_say_which():
    """A packed step: 16 rows of 16 bits, 8 columns of 4 spikes and a choice; without packing 16 of 8 and 8 of 4."""
    for entering, weights, spikes, bits in (("packed", 16, 2, 16 * 16 + 8 * 5), ("active", 8, 1, 16 * 8 + 8 * 4)):
        machine = load_accelerator(PTB, (f"scheduler.entering={entering}",))
        parts = {part.unit: part.parameters for part in machine.inventory()}
        assert parts["pe"]["weight_register_bits"] == weights
        assert parts["pe"]["spike_register_bits"] == spikes
        assert parts["operand_buffer"] == {"bits": 2 * 64 * bits, "width_bits": bits}
