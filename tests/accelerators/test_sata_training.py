"""Training on SATA: arithmetic against slow twins, closed forms of stages, traffic from one to the next, sparsity."""

from dataclasses import replace

import numpy as np
import pytest

from archsim.cost import energy_rows, load_table
from archsim.dataflow import training
from archsim.errors import ArchsimError
from archsim.hardware.compute.lif import HARD, SOFT, Rule
from archsim.simulate import load_accelerator, run
from archsim.trace import Trace, save_trace
from tests.machines import LABELS, ROOT, conv, dense, layers, mlp, same
from tests.small_traces import lif, tiny

SATA = ROOT / "hwconfigs" / "sata_training.yaml"
VGG9 = ROOT / "workloads" / "vgg9_dual_sparse.npz"
IDEAL = "memory.ideal=true"
SKIPPING = "scheduler.sparsity=skipping"
THIRDS = tuple(
    f"memory.buffers.{name}.size_kib={size}"
    for name, size in {"input": 33, "output": 66, "potential": 258, "mask": 9}.items()
)
"""Sizes that three banks share."""
STAGES = ("forward", "potential_gradient", "backward", "update")


def fired(trace):
    """The same layer with neurons that fire, whose outputs nobody compares."""
    operation = trace.operations[0]
    return Trace(
        network="fired", timesteps=trace.timesteps, operations=[replace(operation, neuron=lif(len(operation.weight)))],
        tensors={"in": trace.tensor("in")}, provenance=LABELS,
    )  # fmt: skip


def stages(layer, gradients, *options):
    machine = load_accelerator(SATA, (f"timesteps={max(4, layer.timesteps)}", *options))
    return machine, {stage.stage: stage for stage in machine.training_stages(layer, gradients)}


def drawn(seed, layer, density):
    """Random masks, words [M, N]."""
    draw = np.random.default_rng(seed)
    bits = draw.random((layer.timesteps, layer.m, layer.n)) < density
    return (bits << np.arange(layer.timesteps)[:, None, None]).sum(0).astype(np.uint16)


def simulated(layer, gradients, *options, engine="compiled", record=False):
    machine, made = stages(layer, gradients, *options)
    return {name: machine.run_layer(s, engine, verify=True, record=record) for name, s in made.items()}


def traffic(result, level, tensor, direction):
    return next(
        row for row in result.traffic if (row.level, row.tensor, row.direction) == (level, tensor, direction)
    )  # fmt: skip


def bits_of(words, timesteps):
    return (words[..., None] >> np.arange(timesteps)) & 1


# --- Arithmetic -------------------------------------------------------------------------------------------------------


def updated(words, gradients):
    """Weight gradients [K, N] of packed spikes [M, K] and gradients [T, M, N]."""
    return np.einsum("mkt,tmn->kn", bits_of(words, len(gradients)).astype(np.int64), gradients)


@pytest.mark.parametrize("stride", [1, 2])
def test_backward_and_update_are_those_of_a_convolution(stride):
    """Integer gradients flow back along every connection once, and every weight collects its own: by plain loops."""
    trace = conv(3, channels=3, size=5, out_channels=4, timesteps=3, stride=stride)
    layer, operation = layers(trace, SATA)[0], trace.operations[0]
    geometry = training.Geometry.of(layer, 16)
    draw = np.random.default_rng(1)
    gradients = draw.integers(-90, 91, (3, layer.m, 4)) * (draw.random((3, layer.m, 4)) < 0.4)
    spikes, out = trace.tensor("in").astype(int), geometry.output
    errors, update = np.zeros(spikes.shape, int), np.zeros(operation.weight.shape, int)
    by_place = gradients.reshape(3, 2, *out, 4)
    for t, i, y, x, n, ky, kx in np.ndindex(3, 2, *out, 4, 3, 3):
        row, column = y * stride + ky - 1, x * stride + kx - 1
        if 0 <= row < 5 and 0 <= column < 5:
            errors[t, i, :, row, column] += by_place[t, i, y, x, n] * operation.weight[n, :, ky, kx]
            update[n, :, ky, kx] += by_place[t, i, y, x, n] * spikes[t, i, :, row, column]
    rows = np.stack([training.unrolled_gradients(geometry, plane) for plane in gradients])
    weights = operation.weight.astype(np.int64).transpose(0, 2, 3, 1).reshape(-1, 3)
    np.testing.assert_array_equal((rows @ weights).reshape(3, 2, 5, 5, 3).transpose(0, 1, 4, 2, 3), errors)
    np.testing.assert_array_equal(updated(dense(layer)[0], gradients).T.reshape(update.shape), update)


def test_backward_is_the_adjoint_of_forward():
    """<dX, s W> = <dX W^T, s> = <dW, W>: one number in three ways, of a linear layer."""
    trace = mlp(4, m=6, n=5, k=30, timesteps=3, neuron=False)
    layer = layers(trace, SATA)[0]
    geometry, weight = training.Geometry.of(layer, 4), trace.operations[0].weight.astype(np.int64)
    gradients = np.random.default_rng(2).integers(-9, 10, (3, 6, 5))
    forward = trace.tensor("out").astype(np.int64)
    rows = np.stack([training.unrolled_gradients(geometry, plane) for plane in gradients])
    expected = int((gradients * forward).sum())
    assert int((rows @ weight * trace.tensor("in")).sum()) == expected
    assert int((updated(dense(layer)[0], gradients).T * weight).sum()) == expected != 0


@pytest.mark.parametrize("soft", [False, True])
def test_windows_are_open_near_the_threshold_and_for_what_flows_back(soft):
    draw = np.random.default_rng(5)
    sums, bias, threshold = draw.integers(-60, 90, (9, 4, 5)), np.array([0, 5, -5, 1]), np.array([40, 30, 60, 20])
    width, words = np.array([80, 100, 1, 400]), np.zeros((9, 4), np.uint16)
    rule = Rule(3, 1, False, SOFT if soft else HARD, False)
    training.open_windows(sums, bias, threshold, width, rule, words)
    for m, n in np.ndindex(9, 4):
        potential, near, fires = 0, [], []
        for t in range(5):
            potential += (int(sums[m, n, t]) + int(bias[n])) * 8
            near.append(abs(potential - threshold[n] * 8) < width[n])
            fires.append(potential > threshold[n] * 8)
            potential = (potential - threshold[n] * 8 if soft else 0) if fires[-1] else potential // 2
        for t in range(5):
            # The gradient at t comes from any t' >= t with an open window that no reset cuts off.
            expected = any(near[u] and (soft or not any(fires[t:u])) for u in range(t, 5))
            assert (words[m, n] >> t & 1) == expected
    assert 0 < np.bitwise_count(words).sum() < 9 * 4 * 5


# --- Time -------------------------------------------------------------------------------------------------------------


def fold_cycles(row_words, column_words, n, timesteps, span, steps, skips, rows=16, columns=8):
    """Cycles of the array, by plain numpy from the words of the docstrings."""
    live_rows = bits_of(row_words, timesteps).astype(bool)
    live_columns = None if column_words is None else bits_of(column_words, timesteps).astype(bool)
    total = 0
    for g in range(0, len(row_words), rows):
        for c in range(0, n, columns):
            live = live_rows[g : g + rows].any(0)
            if live_columns is not None:
                live = live & live_columns[c : c + columns].any(0)
            for b in range(0, timesteps, span):
                for h in range(0, live.shape[0], steps):
                    half = live[h : h + steps, b : b + span]
                    total += max(1, int(half.sum())) if skips else half.size
                total += rows + columns - 2
    return total


CASES = {"linear": lambda: mlp(7, m=20, n=11, k=19, timesteps=5), "convolution": lambda: fired(conv(5, stride=2))}


@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_every_stage_takes_the_cycles_of_its_folds(case, skips):
    """With ideal memory. Scratchpads hold 4 sums of 32 bits; 64 weights; 32 gradients of 16 bits, in two halves."""
    trace = CASES[case]()
    layer = layers(trace, SATA)[0]
    gradients = drawn(3, layer, 0.1)
    results = simulated(layer, gradients, IDEAL, *([SKIPPING] if skips else []))
    words, timesteps = dense(layer)[0], layer.timesteps
    unrolled = training.unrolled_gradients(training.Geometry.of(layer, 16), gradients)
    channels = results["backward"].n
    neurons = np.full((-(-layer.m * layer.n // 8), 1), (1 << timesteps) - 1)
    expected = {
        "forward": fold_cycles(words, None, layer.n, timesteps, timesteps, 32, skips),
        "potential_gradient": fold_cycles(neurons, None, 8, timesteps, timesteps, 1, skips),
        "backward": fold_cycles(unrolled, None, channels, timesteps, 4, 4, skips),
        "update": fold_cycles(words.T, gradients.T, layer.n, timesteps, timesteps, 32 // timesteps // 2, skips),
    }
    assert {name: result.compute_cycles for name, result in results.items()} == expected
    spikes, open_bits = bits_of(words, timesteps), bits_of(gradients, timesteps)
    assert {name: result.performed_operations for name, result in results.items()} == {
        "forward": spikes.sum() * layer.n,
        "potential_gradient": 0,
        "backward": bits_of(unrolled, timesteps).sum() * channels,
        "update": np.einsum("mkt,mnt->", spikes, open_bits),
    }
    for name, result in results.items():
        elements = [unit for unit in result.units if unit.unit == "pe"]
        if name != "potential_gradient":
            assert sum(unit.busy_cycles for unit in elements) == result.performed_operations
        assert result.cycles >= result.lower_bound_cycles


@pytest.mark.parametrize("sparsity", ["gating", "skipping"])
def test_sparse_gradients_save_what_the_mode_says(sparsity):
    layer = layers(mlp(2, m=20, n=12, k=30), SATA)[0]
    machine = load_accelerator(SATA)
    found = []
    for density in (0.5, 0.1, 0.02):
        results = simulated(layer, drawn(1, layer, density), f"scheduler.sparsity={sparsity}")
        energy = {
            name: sum(
                row.energy_pj
                for row in energy_rows(result.actions, machine.inventory(), load_table("sata_32nm"), result.cycles, 400)
            )
            for name, result in results.items()
        }
        found.append([(results[name].cycles, energy[name]) for name in STAGES])
    for number, name in enumerate(STAGES):
        cycles, energy = zip(*(row[number] for row in found), strict=True)
        if name in ("forward", "potential_gradient"):
            assert len(set(cycles)) == len(set(energy)) == 1
        else:
            assert energy[0] > energy[1] > energy[2]
            assert (len(set(cycles)) == 1) == (sparsity == "gating")
            assert list(cycles) == sorted(cycles, reverse=True)


OPTIONS = [
    (), (SKIPPING,), ("pe.columns=3", "pe.rows=5", SKIPPING), ("training.gradient_bits=8",),
    ("pe.psum_bytes=4", SKIPPING), ("membrane.place=sram",), ("memory.buffers.banks=3", *THIRDS),
    ("pe.spike_bytes=9", "pe.weight_bytes=9"),
    ("memory.buffers.potential.size_kib=3", SKIPPING), ("memory.buffers.fetches=3", "memory.buffers.line_bytes=32"),
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_engines_agree_on_all_stages(case, options):
    layer = layers(CASES[case](), SATA)[0]
    gradients = drawn(8, layer, 0.2)
    fast, slow = (simulated(layer, gradients, *options, engine=e, record=True) for e in ("compiled", "reference"))
    for name in STAGES:
        same(fast[name], slow[name])


# --- Traffic ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_what_one_stage_writes_another_reads(case):
    """Potentials, gradients and masks of all timesteps, once each; weights are read and written by the update."""
    layer = layers(CASES[case](), SATA)[0]
    results = simulated(layer, drawn(4, layer, 0.2))
    states = layer.m * layer.n * layer.timesteps
    kept = traffic(results["forward"], "sram", "membrane", "write")
    assert kept.bytes == states * 2
    folds = [
        min(16, layer.m - g) * min(8, layer.n - c) for g in range(0, layer.m, 16) for c in range(0, layer.n, 8)
    ]  # fmt: skip
    assert traffic(results["forward"], "dram", "membrane", "write").accesses == layer.timesteps * sum(
        -(-size * 2 // 64) for size in folds
    )
    pgu = results["potential_gradient"]
    padded = -(-layer.m * layer.n // 8) * 8 * layer.timesteps  # the last row of the array is full of neurons or not
    assert 0 <= traffic(pgu, "sram", "membrane", "read").bytes - padded * 2 < -(-padded // 128) * 4
    assert traffic(pgu, "sram", "error", "read").bytes >= states * 2
    assert traffic(pgu, "sram", "gradient", "write").bytes == padded * 2
    written = traffic(pgu, "dram", "gradient", "write").bytes
    assert written == -(-padded * 2 // 64) * 64
    assert traffic(pgu, "dram", "mask", "write").bytes == -(-written // 1024) * 64
    assert pgu.actions["pgu", "update"] == states
    read = traffic(results["backward"], "dram", "gradient", "read").bytes
    positions = -(-layer.m // 16) * 16 if case == "linear" else layer.m  # in images of a row of 16
    assert read == -(-positions * layer.n * layer.timesteps * 2 // 64) * 64
    assert traffic(results["backward"], "dram", "mask", "read").bytes == -(-read // 1024) * 64
    new = traffic(results["update"], "dram", "weight", "write")
    old = traffic(results["update"], "dram", "weight", "read")
    tiles = [
        min(16, layer.k - g) * min(8, layer.n - c) for g in range(0, layer.k, 16) for c in range(0, layer.n, 8)
    ]  # fmt: skip
    assert new.accesses == old.accesses == sum(-(-size // 64) for size in tiles)
    assert traffic(results["update"], "sram", "weight", "write").bytes == 2 * layer.k * layer.n


def test_gradients_that_are_zero_are_not_read_when_skipping():
    """Rows of a step without a gradient stay in the buffer, and so do its weights; its mask is read."""
    layer = layers(mlp(2, m=16, n=10, k=16, timesteps=4), SATA)[0]
    gradients = np.zeros((16, 10), np.uint16)
    gradients[:, :3] = 5
    read = {}
    for options in ((), (SKIPPING,)):
        result = simulated(layer, gradients, *options)["backward"]
        read[options] = [traffic(result, "sram", name, "read").bytes for name in ("gradient", "weight", "mask")]
    sets = 2  # of 8 channels
    assert read[()] == [sets * 16 * 10 * 4 * 2, 16 * 10, sets * 16 * 10 * 4 // 8]
    assert read[SKIPPING,] == [sets * 16 * 3 * 4 * 2, 16 * 3, sets * 16 * 10 * 4 // 8]


def test_gradients_are_read_where_a_connection_is():
    """Stride 2: of the nine places that a pixel looks back to, only those with a gradient are read."""
    layer = layers(CASES["convolution"](), SATA)[0]
    result = simulated(layer, drawn(4, layer, 0.2))["backward"]
    connections = 2 * (3 * 3 - 1) ** 2  # of two images; on each axis three outputs see three inputs, the first one two
    bits = connections * layer.n * layer.timesteps
    assert traffic(result, "sram", "gradient", "read").bytes == bits * 2
    assert traffic(result, "sram", "mask", "read").bytes >= bits // 8


def test_a_tile_of_gradients_comes_with_its_masks():
    """Tiles that begin within a line of the mask: whoever needs a part of the line fetches it."""
    layer = layers(fired(conv(5, channels=4, size=16, out_channels=5)), SATA)[0]
    small = ("memory.buffers.potential.size_kib=16",)
    machine, made = stages(layer, drawn(4, layer, 0.2), *small)
    program = machine.program(made["backward"], np.zeros(0, np.int64))
    result = machine.run_layer(made["backward"], "compiled", verify=True, record=False)
    lines, masks = 0, 0
    for first, end in program.operands.row_tile.tolist():
        lines += -(-end // 64) - first // 64
        masks += -(-end // 1024) - first // 1024
    assert len(program.operands.row_tile) > 2
    assert any(first % 1024 for first, _ in program.operands.row_tile.tolist())
    assert traffic(result, "dram", "gradient", "read").accesses == lines
    assert traffic(result, "dram", "mask", "read").accesses == masks


@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_timesteps_of_a_stage_share_weights_only(case, skips):
    """What is left of every action: weights, old ones that the update adds to its sums, and nothing else."""
    layer = layers(CASES[case](), SATA)[0]
    results = simulated(layer, drawn(4, layer, 0.2), "pe.psum_bytes=8", *([SKIPPING] if skips else []))
    weights = layer.k * layer.n
    for name, result in results.items():
        left = {action: n - sum(result.timestep_counts.get(action, ())) for action, n in result.actions.items()}
        expected = {}
        for way in ("read", "write"):
            expected["dram", f"{way}_bits"] = 8 * traffic(result, "dram", "weight", way).bytes
            expected["weight_buffer", way] = traffic(result, "sram", "weight", way).accesses
        if name in ("forward", "backward"):
            expected["scratchpad", "weight_write"] = result.actions["scratchpad", "weight_write"]
        if name == "update":
            expected |= {("pe", "gradient_add"): weights, ("scratchpad", "gradient_sum_read"): weights}
        assert left == dict.fromkeys(left, 0) | expected
    spikes, live = bits_of(dense(layer)[0], layer.timesteps), bits_of(drawn(4, layer, 0.2), layer.timesteps)
    update = results["update"].timestep_counts
    assert list(update["pe", "gradient_add"]) == np.einsum("mkt,mnt->t", spikes, live).tolist()
    steps, rows, columns = layer.m, 16, 8
    for t in range(layer.timesteps):
        entered = 0
        for g in range(0, layer.k, rows):
            for c in range(0, layer.n, columns):
                size = min(rows, layer.k - g) * min(columns, layer.n - c)
                for m in range(steps):
                    any_pair = (spikes[m, g : g + rows].any(0) & live[m, c : c + columns].any(0)).any()
                    entered += size * (not skips or any_pair)
        assert update["scratchpad", "spike_write"][t] == update["scratchpad", "gradient_write"][t] == entered


def test_potentials_that_are_kept_belong_to_their_timestep():
    """Forward writes them for later at every timestep alike; the unit of gradients reads all of them at once."""
    layer = layers(CASES["linear"](), SATA)[0]
    results = simulated(layer, drawn(4, layer, 0.2))
    kept = results["forward"].timestep_counts["potential_buffer", "write"]
    folds = [(g, c) for g in range(0, layer.m, 16) for c in range(0, layer.n, 8)]
    sizes = [min(16, layer.m - g) * min(8, layer.n - c) * 2 for g, c in folds]
    accesses = sum(-(-min(64, size - line) // 32) for size in sizes for line in range(0, size, 64))
    assert list(kept) == [accesses] * layer.timesteps
    read = results["potential_gradient"].timestep_counts["potential_buffer", "read"]
    assert sum(read) == results["potential_gradient"].actions["potential_buffer", "read"]
    assert max(read) - min(read) <= 1


def test_the_unit_of_potential_gradients_has_registers_and_no_scratchpad():
    """SATA_Sim counts scratchpad accesses of the backward stage for the operands of its multiplications only."""
    layer = layers(CASES["linear"](), SATA)[0]
    actions = simulated(layer, drawn(4, layer, 0.2))["potential_gradient"].actions
    assert {unit for unit, _ in actions if unit != "dram" and not unit.endswith("_buffer")} == {"pgu"}


def test_multipliers_have_prices_of_one_table():
    """SATA_Sim's hw_kernels.py: 8 bits 0.0821 mW, 16 bits 0.511 mW, adders 0.0367 and 0.0758, register 0.04975."""
    table, found = load_table("sata_32nm"), {}
    for bits in (8, 16):
        inventory = load_accelerator(SATA, (f"training.gradient_bits={bits}",)).inventory()
        actions = {("pgu", "update"): 1, ("pe", "multiply_add"): 1}
        for row in energy_rows(actions, inventory, table, 0, 400):
            if (row.unit, row.action) in actions:
                found[row.unit, bits] = row.energy_pj
    adder_and_register = (0.0758 + 0.04975) * 2.5
    assert found["pe", 8] == pytest.approx(0.0821 * 2.5 + adder_and_register, rel=1e-5)
    assert found["pe", 16] == pytest.approx(2 * 0.0821 * 2.5 + adder_and_register, rel=1e-5)
    assert found["pgu", 16] == pytest.approx((0.511 + 2 * 0.0367) * 2.5 + 0.00172 + 2 * 0.00605, rel=1e-5)
    assert found["pgu", 8] < found["pgu", 16] / 3
    names = ("sata_pgu", "sata_training_pe", "sata_training_pe_always")
    bilinear = [
        entry for family in (table.families[f"logic.{name}"] for name in names)
        for entries in (family.area_mm2, *family.energy_pj.values(), *family.power_mw.values()) for entry in entries
        if len(entry.per) == 2
    ]  # fmt: skip
    assert len(bilinear) == 9
    assert {entry.confidence for entry in bilinear} == {"assumed"}


# --- Runs -------------------------------------------------------------------------------------------------------------


def test_a_run_reports_stages_in_every_table(tmp_path):
    """All layers with weights and spikes; the read-out has no potentials. Energies of stages add up to the run's."""
    path = tmp_path / "tiny.npz"
    save_trace(tiny(), path)
    assert run(SATA, path, layers=["fc"]).warnings == ()
    report = run(SATA, path)
    summary = report.summary()
    names = [f"conv2.{stage}" for stage in STAGES] + [f"fc.{stage}" for stage in ("forward", "backward", "update")]
    assert [row["layer"] for row in report.rows("layers")] == names
    assert summary["mismatches"] == 0
    assert summary["layers_verified"] == 2
    for table in ("layers", "traffic", "energy", "units"):
        rows = report.rows(table)
        assert {row["stage"] for row in rows} == {"forward", "backward", "update"}
        assert {row["sparsity"] for row in rows} == {"gating"}
        assert all(row["stage"] == training.REPORTED_AS[row["layer"].partition(".")[2]] for row in rows)
    by_stage = summary["energy_by_stage_pj"]
    assert sum(by_stage.values()) == pytest.approx(summary["energy_pj"])
    assert summary["energy_per_image_pj"] == pytest.approx(summary["energy_pj"] / 2)
    assert summary["events"]["gradients_are_upper_bound"] == 3


def test_masks_of_the_trace_are_used():
    trace = mlp(3, m=4, n=3, k=10, timesteps=3)
    mask = np.random.default_rng(1).random((3, 4, 3)) < 0.4
    operation = trace.operations[0]
    object.__setattr__(operation, "gradient_mask", mask)
    made = [stage for (stage,) in load_accelerator(SATA).stages(trace, operation)]
    assert [stage.stage for stage in made] == list(STAGES)
    np.testing.assert_array_equal(bits_of(made[2].gradients, 3), mask.transpose(1, 2, 0))
    assert not made[2].surrogate


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.gradient_bits=64", "training.gradient_bits"), ("training.stages=backward", "training.stages"),
        ("training.window=0", "training.window"), ("pe.spike_bytes=3", "gradients of two steps"),
        ("pe.weight_bytes=3", "gradients of two steps"), ("pe.psum_bytes=3", "a sum of gradients"),
        ("memory.buffers.mask.size_kib=0", "mask of the array"),
        ("memory.buffers.potential.size_kib=0", "gradients of the array"),
    ],
)  # fmt: skip
def test_impossible_machines_are_refused(override, words):
    with pytest.raises(ArchsimError) as error:
        load_accelerator(SATA, (override,))
    assert len(error.value.problems) == 1
    assert words in error.value.problems[0]


def test_layers_that_have_no_tile_are_refused_with_a_remedy(tmp_path):
    """Channels of the update in the input buffer, lines of gradients in the potential buffer; needs are exact."""
    path = tmp_path / "conv.npz"
    save_trace(conv(5, channels=4, size=16, out_channels=40), path)
    small = ("memory.buffers.input.size_kib=1", "memory.buffers.potential.size_kib=16", "memory.buffers.width_bits=64")
    with pytest.raises(ArchsimError) as error:
        run(SATA, path, overrides=small)
    problems = error.value.problems
    assert [problem.partition(" needs ")[2].split(";")[0] for problem in problems] == [
        str(3 * 2 * 16 * 16 * 4 // 8), str(3 * 16 * 40 * 4 * 16 // 8)
    ]  # fmt: skip
    remedies = [problem.partition("--set ")[2].split()[0] for problem in problems]
    assert run(SATA, path, overrides=(*remedies, "memory.buffers.width_bits=64")).summary()["mismatches"] == 0


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [5, 16])
def test_tiles_are_never_larger_than_what_was_checked(size, stride):
    """What is refused is what the array would fetch at most, of spikes by line and by channel and of gradients."""
    layer = layers(fired(conv(5, channels=4, size=size, out_channels=5, stride=stride)), SATA)[0]
    machine, made = stages(layer, drawn(4, layer, 0.2))
    geometry = training.Geometry.of(layer, 16)
    checked = {
        "forward": training.spike_tile(geometry, 16, layer.timesteps),
        "backward": training.gradient_tile(geometry, 5, 16, layer.timesteps * 16),
        "update": training.channel_tile(geometry, 16, layer.timesteps),
    }
    for name, most in checked.items():
        work = machine.work(made[name])
        rows = work.tensors.by_rows._replace(tile_bytes=most)
        operands, _ = machine.operands(work._replace(tensors=work.tensors._replace(by_rows=rows)))
        tiles = np.diff(operands.row_tile, axis=1)
        assert tiles.max() <= most
        assert len(tiles) > 1 or size == 5


def test_the_trained_network_trains_faster_when_silence_is_skipped():
    gating, skipping = (run(SATA, VGG9, overrides=options).summary() for options in ((), (SKIPPING,)))
    assert gating["mismatches"] == skipping["mismatches"] == 0
    assert gating["performed_operations"] == skipping["performed_operations"]
    assert skipping["cycles"] < gating["cycles"]


def test_one_real_step_of_training():
    """Masks of a recorded step of VGG9: nothing is bounded from above, and skipping is faster than gating."""
    gating, skipping = (
        run(SATA, ROOT / "workloads" / "vgg9_training_step.npz",
            overrides=[f"scheduler.sparsity={mode}"]).summary()
        for mode in ("gating", "skipping")
    )  # fmt: skip
    for summary in (gating, skipping):
        assert summary["events"]["gradients_are_upper_bound"] == 0
        assert summary["events"]["gradients_non_zero"] > 0
        assert summary["mismatches"] == 0
    assert skipping["cycles"] < gating["cycles"]
