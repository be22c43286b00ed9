"""SATA: hand-traced case, closed form and SATA_Sim's cycles, what silence saves, potentials, buffers, prices."""

from dataclasses import replace

import numpy as np
import pytest

from archsim.cost import area_rows, energy_rows, load_table
from archsim.errors import ArchsimError
from archsim.simulate import load_accelerator, run
from archsim.trace import Operation, Trace, save_trace
from tests.machines import LABELS, ROOT, conv, dense, layers, mlp, same, simulate

SATA = ROOT / "hwconfigs" / "sata.yaml"
VGG9 = ROOT / "workloads" / "vgg9_dual_sparse.npz"
VGG16 = ROOT / "workloads" / "vgg16_dual_sparse.npz"
IDEAL = "memory.ideal=true"
SKIPPING = "scheduler.sparsity=skipping"
THIRDS = ("memory.buffers.input.size_kib=33", "memory.buffers.output.size_kib=33")
"""Sizes that three banks share."""
POTENTIALS = ("memory.buffers.potential.size_kib=16",)


def two_positions():
    """Two positions, one neuron, K = 3, T = 2; spikes of position 0 at (k, t) = (0, 0), of position 1 at (1, 1)."""
    spikes = np.zeros((2, 2, 3), bool)
    spikes[0, 0, 0] = spikes[1, 1, 1] = True
    weight = np.array([[3, 5, 7]], np.int8)
    sums = np.einsum("tmk,nk->tmn", spikes.astype(int), weight.astype(int))
    return Trace(
        network="two", timesteps=2, operations=[Operation("fc", "linear", ("in",), "out", weight=weight)],
        tensors={"in": spikes, "out": sums}, provenance=LABELS,
    )  # fmt: skip


def traffic(result, level, tensor, direction):
    return next(
        row for row in result.traffic if (row.level, row.tensor, row.direction) == (level, tensor, direction)
    )  # fmt: skip


def test_hand_traced_example():
    """2 x 1 array, two weights a scratchpad, so a step in each half.

    Gating: 3 steps of 2 timesteps, skew 2 + 1 - 2 = 1: 7 cycles, 1 for the first access before, 2 timesteps of neurons
    and 1 to write behind: 11. Skipping: step 0 is live at t = 0, step 1 at t = 1, step 2 never, which takes the cycle
    in which it is looked at: 3 + 1 = 4 cycles, 8 in all. Each position adds one weight.
    """
    array = ("pe.rows=2", "pe.columns=1", "pe.weight_bytes=2", IDEAL)
    for sparsity, cycles in (("gating", (11, 7)), ("skipping", (8, 4))):
        for engine in ("compiled", "reference"):
            options = (*array, f"scheduler.sparsity={sparsity}")
            result = simulate(two_positions(), *options, hardware=SATA, engine=engine)[0]
            assert (result.cycles, result.compute_cycles) == cycles
            assert (result.performed_operations, result.mismatches) == (2, 0)
            elements = [unit for unit in result.units if unit.unit == "pe"]
            assert [(unit.busy_cycles, unit.instance) for unit in elements] == [(1, 0), (1, 1)]


SHAPES = [
    {"m": 20, "n": 19, "k": 50}, {"m": 5, "n": 3, "k": 33, "timesteps": 16, "density": 0.05},
    {"m": 33, "n": 9, "k": 30, "timesteps": 1, "density": 0.1}, {"m": 4, "n": 9, "k": 40, "timesteps": 7},
]  # fmt: skip


def cycles_of(trace, rows, columns, span, steps, skips, neuron_cycles=1):
    """Cycles of the array, by plain numpy from the words of the docstrings."""
    spikes = trace.tensor("in")
    timesteps, m, k = spikes.shape
    n = len(trace.operations[0].weight)
    total = 0
    for first in range(0, m, rows):
        for begin in range(0, timesteps, span):
            live = spikes[begin : begin + span, first : first + rows].any(1)
            halves = [live[:, a : a + steps] for a in range(0, k, steps)]
            total += sum(max(1, int(half.sum())) if skips else half.size for half in halves) + rows + columns - 2
    return total * -(-n // columns)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("rows", "columns"), [(16, 8), (3, 5), (1, 1)])
@pytest.mark.parametrize("skips", [False, True])
def test_ideal_memory_is_the_closed_form(shape, rows, columns, skips):
    """Folds of K S (or live pairs) and R + C - 2 cycles; first access, last neurons and last write around them."""
    trace = mlp(7, **shape)
    array = (f"pe.rows={rows}", f"pe.columns={columns}", *([SKIPPING] if skips else []))
    result = simulate(trace, *array, IDEAL, hardware=SATA)[0]
    span = min(trace.timesteps, 4)
    last = (trace.timesteps - 1) % span + 1
    assert result.compute_cycles == cycles_of(trace, rows, columns, span, 4, skips)
    if rows * columns > 1:  # else neurons of four timesteps are slower than a fold of one pair
        assert result.cycles == 1 + result.compute_cycles + last + 1
    assert result.mismatches == 0
    if not skips:
        folds = -(-shape["m"] // rows) * -(-shape["n"] // columns)
        spans = -(-trace.timesteps // span)
        assert result.compute_cycles == folds * (shape["k"] * trace.timesteps + spans * (rows + columns - 2))


SATA_SIM = [  # H, C_in, N, cyc_os: the layers of SATA_Sim's VGG9-like example
    (32, 3, 64, 22_343), (8, 128, 128, 56_351), (4, 128, 256, 37_567), (4, 256, 256, 74_431), (1, 1024, 512, 66_943),
]  # fmt: skip


@pytest.mark.parametrize(("size", "channels", "filters", "expected"), SATA_SIM)
@pytest.mark.parametrize("timesteps", [1, 4])
def test_cycles_are_those_of_sata_sim_but_for_the_skew_of_later_timesteps(
    size, channels, filters, expected, timesteps
):  # fmt: skip
    """T cyc_os of SATA_Sim = ours + (T - 1) F (R + C - 2) - T, without padding; eight filters are simulated."""
    out = 1 if size == 1 else size - 2
    k = channels * (1 if size == 1 else 9)
    folds = -(-out * out // 16) * -(-filters // 8)
    simulated = min(filters, 8)
    spikes = np.zeros((timesteps, 1, channels, size, size), bool)
    weight = np.zeros((simulated, channels, *((1, 1) if size == 1 else (3, 3))), np.int8)
    sums = np.zeros((timesteps, 1, simulated, out, out), np.int64)
    trace = Trace(
        network="quiet", timesteps=timesteps,
        operations=[Operation("conv", "conv2d", ("in",), "out", weight=weight)],
        tensors={"in": spikes, "out": sums}, provenance=LABELS,
    )  # fmt: skip
    ours = simulate(trace, IDEAL, hardware=SATA)[0].compute_cycles * (filters // simulated)
    assert ours == folds * (k * timesteps + 22)
    assert timesteps * expected == ours + (timesteps - 1) * folds * 22 - timesteps


def test_gating_does_not_see_spikes_and_skipping_does():
    """Cycles and bytes under gating are the same whatever spikes, energy is not; under skipping all of them fall."""
    machine = load_accelerator(SATA)
    table = load_table(machine.cost_table)
    found = {}
    for sparsity in ("gating", "skipping"):
        rows = []
        for density in (0.5, 0.2, 0.05, 0.0):
            trace = mlp(3, m=20, n=20, k=150, density=density)
            result = simulate(trace, f"scheduler.sparsity={sparsity}", hardware=SATA)[0]
            energy = energy_rows(result.actions, machine.inventory(), table, result.cycles, 400)
            weights = traffic(result, "sram", "weight", "read").bytes
            rows.append((result.cycles, weights, sum(row.energy_pj for row in energy)))
        found[sparsity] = rows
    cycles, weights, energy = zip(*found["gating"], strict=True)
    assert len(set(cycles)) == len(set(weights)) == 1
    assert list(energy) == sorted(energy, reverse=True)
    assert len(set(energy)) == 4
    for column in zip(*found["skipping"], strict=True):
        assert list(column) == sorted(column, reverse=True)
        assert len(set(column)) == 4
    assert found["skipping"][-1][1] == 0
    assert all(skipping <= gating for gating, skipping in zip(*found.values(), strict=True))


@pytest.mark.parametrize("skips", [False, True])
def test_elements_are_busy_with_their_own_spikes(skips):
    """PE (r, c) adds once for every spike of a position r modulo R and filter c modulo C; nothing is lost."""
    trace = mlp(9, m=21, n=11, k=40, density=0.2)
    result = simulate(trace, "pe.rows=4", "pe.columns=3", *([SKIPPING] if skips else []), hardware=SATA)[0]
    spikes = trace.tensor("in").sum((0, 2))
    expected = np.array([[spikes[r::4].sum() * len(range(c, 11, 3)) for c in range(3)] for r in range(4)])
    elements = [unit for unit in result.units if unit.unit == "pe"]
    assert [unit.busy_cycles for unit in elements] == expected.ravel().tolist()
    assert result.performed_operations == expected.sum() == result.actions["pe", "add"] == trace.tensor("in").sum() * 11
    assert all(unit.busy_cycles + unit.stall_cycles + unit.idle_cycles == result.cycles for unit in elements)


def words_read(trace, layer, rows, span=range(16), width_bits=256):
    """Accesses and bits of the input buffer for the timesteps ``span``, row by row and step by step, on a map
    [line, channel, pixel, timestep]."""
    timesteps, span = trace.timesteps, [t for t in span if t < trace.timesteps]
    _, images, channels, height, width = trace.tensor("in").shape
    places = np.full((images, channels, height + 2, width + 2), -1)
    places[:, :, 1:-1, 1:-1] = (
        np.arange(images * height * channels * width).reshape(images, height, channels, width).transpose(0, 2, 1, 3)
    )
    out = layer.m // images
    side = int(out**0.5)
    accesses = bits = 0
    positions = [(i, y, x) for i in range(images) for y in range(side) for x in range(side)]
    for first in range(0, len(positions), rows):
        for c in range(channels):
            for ky in range(3):
                for kx in range(3):
                    here = [places[i, c, y + ky, x + kx] for i, y, x in positions[first : first + rows]]
                    here = [place for place in here if place >= 0]
                    bits += len(here) * len(span)
                    found = {(p * timesteps + t) // width_bits for p in here for t in span}
                    accesses += len(found)
    return accesses, bits


def test_traffic_of_a_convolution():
    """By independent counting: accesses of both buffers, lines of DRAM; every weight comes from DRAM once."""
    trace = conv(3, channels=7, size=8, out_channels=19)
    layer = layers(trace, SATA)[0]
    result = simulate(trace, hardware=SATA)[0]
    accesses, bits = words_read(trace, layer, 16)
    sets = 3  # of 8 filters
    read = traffic(result, "sram", "input", "read")
    assert read.accesses == accesses * sets
    halves = -(-layer.k // 4) * (layer.m // 16) * sets
    assert bits * sets / 8 <= read.bytes < bits * sets / 8 + halves
    weights = traffic(result, "sram", "weight", "read")
    assert weights.accesses == (layer.m // 16) * sets * -(-layer.k * 64 // 256)
    chunk = -(-layer.k * 8 // 64)
    assert traffic(result, "dram", "weight", "read").accesses == chunk * sets
    assert traffic(result, "dram", "input", "read").accesses == -(-2 * 8 * 8 * 7 * 4 // 8 // 64)
    written = traffic(result, "dram", "output", "write")
    folds = [(8, 16)] * 2 + [(3, 16)]
    assert written.accesses == -(-sum(c * r * 4 * 2 for c, r in folds) * (layer.m // 16) // 64)


def test_spans_of_timesteps_read_weights_again():
    """Sixteen timesteps of 16-bit sums take four spans of the 8-byte scratchpad, one of a scratchpad of 32 bytes."""
    trace = mlp(5, m=9, n=6, k=140, timesteps=16, density=0.2)
    read = []
    for size in (2, 8, 16, 32):
        result = simulate(trace, f"pe.psum_bytes={size}", "pe.spike_bytes=64", hardware=SATA)[0]
        read.append(traffic(result, "sram", "weight", "read").bytes / (140 * 6))
    assert read == [16, 4, 2, 1]


@pytest.mark.parametrize("timesteps", [1, 4, 6])
@pytest.mark.parametrize("place", ["pe", "sram", "dram"])
def test_potentials_move_between_timesteps(place, timesteps):
    """Outside, T - 1 reads and writes of two bytes a neuron; in the PEs none. Outputs are the same."""
    trace = mlp(6, m=20, n=11, k=30, timesteps=timesteps)
    result = simulate(trace, f"membrane.place={place}", *POTENTIALS, hardware=SATA)[0]
    assert result.mismatches == 0
    moved = 0 if place == "pe" else 20 * 11 * 2 * (timesteps - 1)
    assert traffic(result, "sram", "membrane", "read").bytes == moved
    written = traffic(result, "sram", "membrane", "write").bytes
    assert written == moved * (2 if place == "dram" else 1)  # what comes from DRAM is written into the buffer first
    lines = sum(-(-rows * columns * 2 // 64) for rows in (16, 4) for columns in (8, 3)) * (timesteps - 1)
    expected = lines if place == "dram" else 0
    assert traffic(result, "dram", "membrane", "read").accesses == expected
    assert traffic(result, "dram", "membrane", "write").accesses == expected


def test_input_tiles_have_room_and_weights_come_in_pieces():
    """Small buffers: lines of the input that two tiles share are fetched twice, weights once a fold; outputs stay."""
    trace = conv(5, channels=16, size=16, out_channels=9)
    large = simulate(trace, hardware=SATA)[0]
    tiled = simulate(trace, "memory.buffers.input.size_kib=2", hardware=SATA)[0]
    line = 16 * 16 * 4 // 8  # bytes of a line of the image
    lines = 1024 // line
    tiles, first = 0, 0
    places = [
        sorted({m // 256 * 16 + min(15, max(0, m % 256 // 16 + d)) for d in (-1, 0, 1)}) for m in range(0, 512, 16)
    ]
    needed = []
    while first < len(places):
        end = first
        while end < len(places) and places[end][-1] - places[first][0] < lines:
            end += 1
        needed.append(places[end - 1][-1] - places[first][0] + 1)
        tiles, first = tiles + 1, end
    assert tiles > 2
    assert traffic(tiled, "dram", "input", "read").bytes == sum(needed) * line
    assert traffic(large, "dram", "input", "read").bytes == 32 * line
    turns = simulate(trace, "memory.buffers.weight.size_kib=3", hardware=SATA)[0]  # one set of filters at a time
    for tensor in ("input", "weight"):
        assert traffic(turns, "dram", tensor, "read") == traffic(large, "dram", tensor, "read")
    both = simulate(trace, "memory.buffers.weight.size_kib=3", "memory.buffers.input.size_kib=2", hardware=SATA)[0]
    assert traffic(both, "dram", "input", "read").bytes == 2 * sum(needed) * line
    pieces = simulate(trace, "memory.buffers.weight.size_kib=1", hardware=SATA)[0]
    folds = 32 * 2
    assert traffic(large, "dram", "weight", "read").bytes == 2 * 16 * 9 * 8
    assert traffic(pieces, "dram", "weight", "read").bytes >= folds * 16 * 9 * 8
    assert {large.mismatches, tiled.mismatches, pieces.mismatches} == {0}


OPTIONS = [
    (SKIPPING,), ("membrane.place=sram", *POTENTIALS), ("membrane.place=dram", SKIPPING, *POTENTIALS),
    ("pe.columns=3", SKIPPING), ("pe.rows=5",), ("pe.weight_bytes=2",), ("pe.psum_bytes=2", SKIPPING),
    ("memory.buffers.banks=1",), ("memory.buffers.banks=3", "memory.buffers.width_bits=64", *THIRDS),
    ("memory.buffers.input.size_kib=1",), ("memory.buffers.weight.size_kib=1", SKIPPING),
    ("memory.buffers.double_buffer=false",), ("neuron.cycles=9", SKIPPING), ("pe.weight_bits=9",),
    ("memory.buffers.fetches=2", "memory.buffers.line_bytes=32"), ("pe.clocking=always",),
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_engines_agree_with_every_option(options):
    for trace in (mlp(5, m=19, n=11, k=50, density=0.1), conv(2, channels=4, size=5)):
        fast, slow = (
            simulate(trace, *options, hardware=SATA, engine=engine, record=True)[0]
            for engine in ("compiled", "reference")
        )
        same(fast, slow)
        assert fast.mismatches == 0


def test_ungated_units_are_charged_only_when_asked_for():
    """SATA_Sim's ungated power of a PE: AND and adder 0.01924, LIF 0.05625, scratchpads 0.21233 mW, in every cycle."""
    result = simulate(mlp(4), hardware=SATA)[0]
    ungated = {}
    for clocking in ("gated", "always"):
        machine = load_accelerator(SATA, (f"pe.clocking={clocking}",))
        rows = energy_rows(result.actions, machine.inventory(), load_table(machine.cost_table), result.cycles, 400)
        ungated[clocking] = {row.unit: row.energy_pj for row in rows if row.action == "ungated"}
    assert ungated["gated"] == {}
    expected = {"pe": 0.01924, "lif": 0.05625, "scratchpad": 0.21233}
    for unit, power_mw in expected.items():
        assert ungated["always"][unit] == pytest.approx(power_mw * 128 * result.cycles / 400 * 1e3, rel=1e-5)


def test_prices_of_an_addition_and_an_update_are_those_of_the_gates():
    """Addition: AND 8 b, adder 8 b, register 16 b; update: comparator, subtractor 16 b, registers 4 and 16 b."""
    inventory = load_accelerator(SATA).inventory()
    actions = {("pe", "add"): 1, ("lif", "update"): 1, ("lif", "leak"): 1}
    rows = {
        (row.unit, row.action): row.energy_pj
        for row in energy_rows(actions, inventory, load_table("sata_32nm"), 0, 400)
    }
    assert rows["pe", "add"] == pytest.approx((0.00235 + 0.01689 + 0.02511) * 2.5, rel=1e-5)
    assert rows["lif", "update"] == pytest.approx((0.01955 + 0.0367 + 2 * 0.01249 + 0.00637) * 2.5, rel=1e-5)
    assert rows["lif", "leak"] == pytest.approx(0.00605, rel=1e-5)


@pytest.mark.parametrize(("shift", "subtracts", "leaks"), [(0, False, False), (1, False, True), (4, True, True)])
def test_a_neuron_pays_for_its_leak_only_if_it_leaks(shift, subtracts, leaks):
    trace = mlp(4)
    neuron = replace(trace.operations[0].neuron, leak_shift=shift, leak_subtracts=subtracts)
    object.__setattr__(trace.operations[0], "neuron", neuron)
    (result,) = simulate(trace, hardware=SATA)
    assert result.actions["lif", "update"] == 4 * 5 * 7
    assert result.actions["lif", "leak"] == (4 * 5 * 7 if leaks else 0)
    assert list(result.timestep_counts["lif", "leak"]) == [5 * 7 * leaks] * 4


def test_sums_and_potentials_that_do_not_fit_are_counted():
    trace = mlp(4, density=0.6)
    sums = np.einsum("tmk,nk->tmn", trace.tensor("in").astype(int), trace.operations[0].weight.astype(int))
    narrow = simulate(trace, "pe.accumulator_bits=4", "membrane.bits=6", hardware=SATA)[0]
    assert narrow.mismatches == 0
    potential, over, behind = np.zeros(sums.shape[1:], int), 0, 0
    for t in range(4):
        potential += sums[t] << 3
        before = (potential < -32) | (potential > 31)
        potential = np.where(potential > 60 << 3, 0, potential >> 1)
        after = (potential < -32) | (potential > 31)
        over, behind = over + int((before | after).sum()), behind + int(after.sum())
    assert narrow.events["membrane_overflows"] == over > behind > 0  # a reset does not hide what it clears
    assert narrow.events["accumulator_overflows"] > 0
    wide = simulate(trace, "pe.accumulator_bits=24", "membrane.bits=24", hardware=SATA)[0]
    assert (wide.events["membrane_overflows"], wide.events["accumulator_overflows"]) == (0, 0)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("pe.weight_bits=99", "pe.weight_bits"), ("pe.rows=0", "pe.rows"), ("pe.columns=9999", "pe.columns"),
        ("membrane.bits=1", "membrane.bits"), ("membrane.place=cache", "membrane.place"),
        ("pe.psum_bytes=1", "too small for the timesteps"), ("pe.weight_bytes=1", "must hold two weights"),
        ("membrane.place=sram", "too small for a tile: 0 bytes are usable, potentials of the array"),
        ("memory.buffers.weight.size_kib=0", "size_kib=0: too small for a tile"),
        ("memory.buffers.output.size_kib=0", "size_kib=0: too small for a tile"),
        ("memory.buffers.banks=3", "lines of every buffer, of 64 bytes: input has 512, output has 512; nearest: 2"),
        ("memory.buffers.width_bits=48", "power of two"), ("scheduler.sparsity=skip", "did you mean 'skipping'"),
        ("memory.cache.size_kib=256", "memory.cache"),
    ],
)  # fmt: skip
def test_impossible_machines_are_refused(override, words):
    with pytest.raises(ArchsimError) as error:
        load_accelerator(SATA, (override,))
    assert len(error.value.problems) == 1
    assert words in error.value.problems[0]


def test_a_layer_that_has_no_tile_is_refused_with_a_remedy(tmp_path):
    path = tmp_path / "wide.npz"
    save_trace(mlp(1, m=16, n=3, k=4096), path)
    with pytest.raises(ArchsimError) as error:
        run(SATA, path)
    problem = error.value.problems[0]
    assert "memory.buffers.input.size_kib: 16384 bytes are usable, a tile of layer fc needs 32768" in problem
    remedy = problem.partition("--set ")[2].split()[0]
    assert run(SATA, path, overrides=(remedy,)).summary()["mismatches"] == 0


def test_every_table_says_what_silence_saves(tmp_path):
    path = tmp_path / "small.npz"
    save_trace(mlp(1), path)
    for sparsity in ("gating", "skipping"):
        report = run(SATA, path, overrides=(f"scheduler.sparsity={sparsity}",))
        tables = [name.removesuffix(".csv") for name in report.texts() if name.endswith(".csv")]
        assert {"layers", "traffic", "energy", "area", "units", "timesteps"} == set(tables)
        for table in tables:
            assert {row["sparsity"] for row in report.rows(table)} == {sparsity}
            assert "sparsity" in report.columns(table)
        assert report.summary()["sparsity"] == sparsity


def test_vgg9_skips_cycles_and_weights_at_the_same_additions():
    gating, skipping = (run(SATA, VGG9, overrides=o) for o in ((), (SKIPPING,)))
    assert gating.summary()["mismatches"] == skipping.summary()["mismatches"] == 0
    assert gating.summary()["performed_operations"] == skipping.summary()["performed_operations"]
    assert skipping.summary()["cycles"] < 0.8 * gating.summary()["cycles"]
    assert skipping.summary()["energy_pj"] < gating.summary()["energy_pj"]


def test_dense_matrix_is_what_the_array_adds():
    """Additions of a layer are the spikes of its unrolled rows times the filters."""
    trace = conv(8)
    words, _ = dense(layers(trace, SATA)[0])
    assert simulate(trace, hardware=SATA)[0].performed_operations == int(np.bitwise_count(words).sum()) * 9


@pytest.mark.parametrize("skips", [False, True])
def test_timesteps_add_up_to_the_layer(skips):
    """Additions, spikes looked at and neurons of every timestep: by plain numpy, and together those of the array."""
    trace = mlp(8, m=21, n=11, k=40, density=0.05)
    result = simulate(trace, *([SKIPPING] if skips else []), hardware=SATA)[0]
    spikes = trace.tensor("in")
    assert list(result.timestep_counts["pe", "add"]) == (spikes.sum((1, 2)) * 11).tolist()
    looked_at = [
        sum(len(plane[g : g + 16]) * 11 * (plane[g : g + 16].any(0).sum() if skips else 40) for g in range(0, 21, 16))
        for plane in spikes
    ]
    assert list(result.timestep_counts["scratchpad", "spike_read"]) == looked_at
    entered = sum(  # for all timesteps, if for any of them
        spikes[0, g : g + 16].shape[0] * 11 * (spikes[:, g : g + 16].any((0, 1)).sum() if skips else 40)
        for g in range(0, 21, 16)
    )
    assert list(result.timestep_counts["scratchpad", "spike_write"]) == [entered] * 4


WEIGHTS = [("scratchpad", "weight_write"), ("weight_buffer", "read"), ("weight_buffer", "write")]
MOVES = [
    (), (SKIPPING, "pe.rows=5"), ("membrane.place=sram", *POTENTIALS), ("membrane.place=dram", *POTENTIALS, SKIPPING),
    ("pe.psum_bytes=6", "membrane.place=dram", *POTENTIALS), ("memory.buffers.width_bits=32", "pe.columns=3"), (IDEAL,),
]  # fmt: skip


@pytest.mark.parametrize("timesteps", [1, 7])
@pytest.mark.parametrize("options", MOVES, ids=str)
def test_timesteps_share_weights_only(options, timesteps):
    """All that is done belongs to timesteps, except for weights on their way to the scratchpads."""
    for trace in (mlp(3, m=20, n=11, k=30, timesteps=timesteps), conv(2, channels=4, size=5, timesteps=timesteps)):
        result = simulate(trace, *options, hardware=SATA)[0]
        left = {action: n - sum(result.timestep_counts.get(action, ())) for action, n in result.actions.items()}
        weights = {action: result.actions[action] for action in WEIGHTS}
        weights["dram", "read_bits"] = 8 * traffic(result, "dram", "weight", "read").bytes
        assert left == dict.fromkeys(left, 0) | weights


def test_timesteps_share_what_is_read_for_several():
    """Accesses of the input buffer are those of the span, by plain loops; bits of the whole map, fetched at once."""
    trace = conv(3, channels=5, size=6, out_channels=9, timesteps=7)
    layer, result = layers(trace, SATA)[0], simulate(trace, "pe.psum_bytes=8", hardware=SATA)[0]
    sets, reads = 2, result.timestep_counts["input_buffer", "read"]
    for span in (range(4), range(4, 7)):
        accesses, _ = words_read(trace, layer, 16, span)
        assert sum(reads[t] for t in span) == accesses * sets
        assert max(reads[t] for t in span) - min(reads[t] for t in span) <= 1
    assert sum(reads[:4]) / 4 != sum(reads[4:]) / 3
    lines = -(-2 * 6 * 6 * 5 * 7 // 8 // 64)
    fetched = result.timestep_counts["dram", "read_bits"]
    assert sum(fetched) == lines * 512
    assert max(fetched) - min(fetched) <= 1


@pytest.mark.parametrize("timesteps", [1, 6])
@pytest.mark.parametrize("place", ["sram", "dram"])
def test_a_potential_belongs_to_the_timestep_that_reads_or_writes_it(place, timesteps):
    """By plain loops over folds and timesteps: read before all but the first, written behind all but the last."""
    trace = mlp(6, m=20, n=11, k=30, timesteps=timesteps)
    found = simulate(trace, f"membrane.place={place}", *POTENTIALS, hardware=SATA)[0].timestep_counts
    without = simulate(trace, hardware=SATA)[0].timestep_counts
    sizes = [rows * columns * 2 for rows in (16, 4) for columns in (8, 3)]
    accesses = sum(-(-min(64, size - line) // 32) for size in sizes for line in range(0, size, 64))
    lines = sum(-(-size // 64) for size in sizes)
    reads, writes, fetched, stored = np.zeros((4, timesteps), int)
    for t in range(timesteps):
        if t > 0:
            reads[t] += accesses
            if place == "dram":
                writes[t] += lines * 2  # what is fetched is written into the buffer, a line in two accesses
                fetched[t] += lines * 512
        if t < timesteps - 1:
            writes[t] += accesses
            stored[t] += lines * 512 * (place == "dram")
    assert list(found.get(("potential_buffer", "read"), [0])) == reads.tolist()
    assert list(found.get(("potential_buffer", "write"), [0])) == writes.tolist()
    for action, moved in {"read_bits": fetched, "write_bits": stored}.items():
        assert (np.array(found["dram", action]) - without["dram", action]).tolist() == moved.tolist()


def test_energies_of_timesteps_and_what_they_share_are_the_energy(tmp_path):
    path = tmp_path / "conv.npz"
    save_trace(conv(2, channels=4, size=5, timesteps=7), path)
    report = run(SATA, path, overrides=("membrane.place=dram", *POTENTIALS, "timesteps=7"))
    summary, rows = report.summary(), report.rows("timesteps")
    by_timestep = summary["energy_by_timestep_pj"]
    assert list(by_timestep) == [*"0123456", "none"]
    assert sum(by_timestep.values()) == pytest.approx(summary["energy_pj"], rel=1e-12)
    for row in report.rows("energy"):
        split = [r for r in rows if (r["unit"], r["action"]) == (row["unit"], row["action"])]
        assert sum(r["count"] for r in split) == row["count"]
        assert sum(r["energy_pj"] for r in split) == pytest.approx(row["energy_pj"], rel=1e-12)
    left = {(r["unit"], r["action"]) for r in rows if r["timestep"] is None and r["energy_pj"]}
    assert {unit for unit, action in left if action != "leakage"} == {"scratchpad", "weight_buffer", "dram"}


@pytest.mark.parametrize("shared", [2, 4, 8])
def test_channels_that_share_neuron_logic_take_turns(shared):
    """Cycles are those of neurons that are so much slower; comparator, subtractor and leak are there once for all."""
    trace = mlp(0, m=20, n=19, k=10)
    option = f"neuron.shared_by={shared}"
    slow, turns = (simulate(trace, o, IDEAL, hardware=SATA) for o in (f"neuron.cycles={shared}", option))
    assert [result.cycles for result in turns] == [result.cycles for result in slow]
    assert [result.actions for result in turns] == [result.actions for result in slow]
    assert turns[0].cycles > simulate(trace, IDEAL, hardware=SATA)[0].cycles
    table = load_table("sata_32nm")
    one, many = (area_of(load_accelerator(SATA, o).inventory(), table, "lif") for o in ((), (option,)))
    logic, registers = 128 * (32.42 + 45.02) * 1e-6, 128 * (2 * 34.27 + 34.27 / 2) * 1e-6
    assert one == pytest.approx(logic + registers, rel=1e-5)
    assert many == pytest.approx(logic / shared + registers, rel=1e-5)


def area_of(inventory, table, unit):
    return next(row.area_mm2 for row in area_rows(inventory, table) if row.unit == unit)


def test_sharing_needs_whole_groups_and_inference():
    with pytest.raises(ArchsimError, match=r"must divide pe\.columns, 8"):
        load_accelerator(SATA, ("neuron.shared_by=3",))
    with pytest.raises(ArchsimError, match=r"must be 1 for training"):
        load_accelerator(ROOT / "hwconfigs" / "sata_training.yaml", ("neuron.shared_by=2",))


def test_vgg16_is_computed_exactly():
    report = run(SATA, VGG16)
    summary = report.summary()
    assert (summary["mismatches"], summary["layers_verified"]) == (0, 14)
