"""LoAS: hand-traced cases, closed forms, function, both engines, conservation laws."""

import numpy as np
import pytest

from archsim.cost import area_rows
from archsim.dataflow.layer import layer_of
from archsim.errors import ConfigError
from archsim.simulate import load_accelerator, load_prices, run
from archsim.trace import Neuron, Operation, Trace, load_trace, synthesize
from archsim.trace.presets import SyntheticLayer
from tests.machines import LABELS, LOAS, ROOT, barrier_cycles, chunk_matches, conv, dense, layers, mlp, same, simulate

LITERAL = ROOT / "hwconfigs" / "loas_literal_laggy.yaml"
ONE_UNIT = ROOT / "hwconfigs" / "loas_one_laggy_unit.yaml"
VGG9 = ROOT / "workloads" / "vgg9_dual_sparse.npz"
RECORDED = ROOT.parent / "shared" / "traces"


def layer_matches(layer):
    """Matches of every (row, column, chunk)."""
    a, b = dense(layer)
    return chunk_matches(a, b)


def test_hand_traced_example():
    """The 2 x 2 example of the docstring of archsim.accelerators.loas: 19 cycles."""
    spikes = np.zeros((4, 2, 128), bool)
    spikes[:, 0, [0]] = True
    spikes[:, 1, [0, 1, 2]] = True
    weight = np.zeros((2, 128), np.int8)
    weight[0, [0, 1]] = 5
    weight[1, 2] = 5
    neuron = Neuron("lif", 3, 1, 3)
    trace = Trace(
        network="two", timesteps=4, provenance={"kind": "synthetic", "weights": "synthetic"},
        operations=[Operation("fc", "linear", ("in",), "out", weight=weight, neuron=neuron)],
        tensors={"in": spikes, "out": np.einsum("tmk,nk->tmn", spikes, weight != 0) > 0},
    )  # fmt: skip
    layer = layers(trace)[0]
    assert layer_matches(layer)[:, :, 0].tolist() == [[1, 0], [2, 1]]
    result = simulate(trace, "memory.ideal=true")[0]
    assert (result.cycles, result.matches, result.mismatches) == (19, 4, 0)
    assert result.actions["tppe", "pseudo_add"] == 4


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("overrides", "cost"),
    [
        (("pe.chunk_overhead_cycles=2",), lambda m: 2 + m),
        (("pe.chunk_overhead_cycles=0",), lambda m: np.maximum(1, m)),
        (
            ("pe.chunk_overhead_cycles=0", "pe.laggy=literal", "pe.offset_tables=2"),
            lambda m: np.where(m > 0, np.maximum(8, m), 1),
        ),
    ],
)
def test_ideal_memory_is_the_closed_form_plus_fill_and_drain(seed, overrides, cost):
    """Fill: 2 cycles to fetch and broadcast the first fiber. Drain: corrections, subtract, fire, compress, write."""
    trace = mlp(seed, m=37, n=20, k=300)
    layer = layers(trace)[0]
    result = simulate(trace, "memory.ideal=true", *overrides)[0]
    expected = barrier_cycles(cost(layer_matches(layer)).sum(2))
    assert expected + 2 <= result.cycles <= expected + 2 + 24
    assert result.compute_cycles <= expected


SHAPES = [
    {"m": 1, "n": 1, "k": 1}, {"m": 3, "n": 5, "k": 128}, {"m": 16, "n": 2, "k": 129}, {"m": 17, "n": 130, "k": 40},
    {"m": 33, "n": 9, "k": 700, "timesteps": 1}, {"m": 20, "n": 11, "k": 260, "timesteps": 16, "density": 0.1},
    {"m": 6, "n": 4, "k": 256, "density": 0.0}, {"m": 6, "n": 4, "k": 256, "weight_density": 0.0},
    {"m": 40, "n": 12, "k": 200, "density": 1.0, "weight_density": 1.0}, {"m": 5, "n": 10, "k": 90, "neuron": False},
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_any_shape_is_computed_exactly_and_engines_agree(shape):
    trace = mlp(11, **shape)
    variants = [(), ("memory.cache.size_kib=16", "memory.cache.ways=4", "memory.cache.mshrs=2"), ("memory.ideal=true",)]
    for overrides in variants:
        fast = simulate(trace, *overrides, record=True)[0]
        slow = simulate(trace, *overrides, engine="reference", record=True)[0]
        assert fast.mismatches == slow.mismatches == 0
        assert fast.matches == fast.actions["tppe", "pseudo_add"] == layer_matches(layers(trace)[0]).sum()
        same(fast, slow)
        assert fast.cycles >= fast.lower_bound_cycles


OPTIONS = [
    "pe.laggy=early_stop", "pe.laggy=literal", "pe.laggy=queued", "pe.laggy=queued pe.offset_tables=2",
    "pe.laggy=queued pe.laggy_units=2 pe.offset_tables=5", "pe.pending_sums=1", "pe.pending_sums=9 pe.output_buffer=1",
    "neuron.cycles=5 pe.subtract_cycles=3", "compressor.cycles_per_chunk=999", "pe.payload_fetch=match",
    "pe.payload_fetch=with_bitmask", "pe.fifo_depth=1", "pe.count=3",
    "scheduler.barrier=none", "scheduler.barrier=chunk", "scheduler.order=row_group", "scheduler.rows=sorted",
    "scheduler.prefetch_groups=0",
    "scheduler.prefetch_groups=3",
    "scheduler.prefetch_fibers=0", "scheduler.prefetch_fibers=3", "scheduler.prefetch_start=last_step",
    "scheduler.prefetch_lines=0",
    "scheduler.order=row_group", "memory.cache.bank_conflicts=false", "format.placement=interleaved",
    "format.pointer_bits=0", "memory.cache.replacement=lru", "memory.cache.double_buffer=true",
    "memory.cache.line_bytes=16", "memory.cache.line_bytes=256", "memory.cache.width_bits=512",
    "memory.cache.stream_ways=0", "memory.dram.channels=1", "memory.dram.bandwidth_gb_s=3.7", "clock_mhz=333.3",
]  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS)
def test_engines_agree_with_every_option(option):
    trace = mlp(5, m=35, n=9, k=300)
    how = option.split()
    fast, slow = simulate(trace, *how)[0], simulate(trace, *how, engine="reference")[0]
    assert fast.mismatches == 0
    same(fast, slow)


def test_a_sum_without_a_second_place_waits_for_its_corrections():
    """One PE, a chunk a sum, one place as the paper has: m > 0 matches are corrected one a cycle, behind a pass of 8.

    The first chunk comes at 2; the last sum takes 2 cycles in the neuron unit, 2 in the compressor, 1 to be written.
    """
    trace = mlp(3, m=1, n=20, k=100)
    matches = layer_matches(layers(trace)[0])
    how = ("memory.ideal=true", "pe.count=1", "pe.pending_sums=1")
    expected = 2 + np.where(matches > 0, 8 + matches, 2).sum() + 5
    for engine in ("compiled", "reference"):
        assert simulate(trace, *how, engine=engine)[0].cycles == expected


@pytest.mark.parametrize(("columns", "full_groups", "late"), [(130, 1, 0), (257, 2, 7)])
def test_subtraction_and_p_lif_are_a_pipeline_and_the_compressor_works_beside(columns, full_groups, late):
    """One PE and 40 rows without a match: sums come, and are taken, one a cycle; the first at 3.

    Each row has a group of 128 words when its 128th column is joined, and again with the 256th: 40 groups in 40 cycles,
    8 cycles each in the compressor, so that all but the first wait 7. In the last column a row takes 4 cycles: 2 in the
    pipeline, 1 to compress what is left, 1 to write it. With 257 columns the first of them waits for the group before.
    """
    trace = mlp(3, m=40, n=columns, k=100, weight_density=0.0)
    how = ("memory.ideal=true", "pe.count=1", "pe.chunk_overhead_cycles=0")
    last_taken = 3 + (40 * columns - 1) + full_groups * 39 * 7 + late + 39 * 3
    for engine in ("compiled", "reference"):
        assert simulate(trace, *how, engine=engine)[0].cycles == last_taken + 4


def laggy_passes(matches, units, tables, overhead=2, adders=16, depth=8):
    """Cycles of one PE for chunks with so many matches: a recurrence without a FIFO's slots, queue or agents."""
    start, ends, frees, corrected, pushed = 2, [-1] * units, [-1] * tables, -1, []
    for m in matches:
        if m == 0:
            start += max(1, overhead)
            continue
        begun = max(start, ends[-units], frees[-tables])
        ends.append(begun + 128 // adders)
        push = start + overhead - 1
        for _ in range(m):
            push = max(push + 1, pushed[-depth] if len(pushed) >= depth else 0)
            corrected = max(push + 1, ends[-1], corrected + 1)
            pushed.append(corrected)
        frees.append(corrected + 1)
        start = max(start + overhead + m, push + 1)
    return max(start, corrected + 1)


@pytest.mark.parametrize(("units", "tables"), [(1, 1), (1, 2), (2, 2), (2, 3), (3, 1)])
def test_chunks_wait_for_laggy_units_and_tables(units, tables):
    """The last sum takes 2 cycles in the neuron unit, 1 in the compressor and 1 to be written."""
    trace = mlp(6, m=1, n=3, k=2500, density=0.4, weight_density=0.1)
    matches = layer_matches(layers(trace)[0])
    how = ("memory.ideal=true", "pe.count=1", "pe.laggy=queued", "pe.fiber_b_buffers=4", "scheduler.prefetch_fibers=3")
    built = (f"pe.laggy_units={units}", f"pe.offset_tables={tables}", "pe.pending_sums=3")
    expected = laggy_passes(matches.ravel().tolist(), units, tables) + 4
    for engine in ("compiled", "reference"):
        assert simulate(trace, *how, *built, engine=engine)[0].cycles == expected


def test_two_laggy_units_and_three_tables_hide_the_passes_and_one_does_not():
    """About two matches a chunk: with two units within 1 % of as many as needed."""
    trace = mlp(7, m=64, n=40, k=1200, density=0.25, weight_density=0.02)

    def cycles(*overrides):
        return simulate(trace, "memory.ideal=true", *overrides)[0].cycles

    hidden = cycles()
    two = cycles("pe.laggy=queued", "pe.laggy_units=2", "pe.offset_tables=3")
    one = simulate(trace, "memory.ideal=true", hardware=ONE_UNIT)[0].cycles
    assert hidden <= two < 1.01 * hidden < 1.2 * hidden < one
    assert cycles("pe.laggy=queued", "pe.laggy_units=9", "pe.offset_tables=9") == hidden


def test_short_fibers_are_fetched_as_lines_and_not_as_fibers():
    """A fiber is one line. Two in flight are bound by the latency of DRAM: with 16, a step takes less than half."""
    trace = mlp(5, m=16, n=120, k=64)
    lines, fibers = (simulate(trace, f"scheduler.prefetch_lines={lines}")[0].cycles for lines in (16, 0))
    assert 2 * lines < fibers
    # A fiber that fills more than half of the room is fetched as before.
    trace = mlp(5, m=16, n=12, k=128 * 50)
    lines, fibers = (simulate(trace, f"scheduler.prefetch_lines={lines}")[0].cycles for lines in (16, 0))
    assert lines == fibers


def test_overflow_is_counted_and_results_stay_exact():
    trace = mlp(3, m=4, n=4, k=600, density=0.9, weight_density=0.9)
    narrow = simulate(trace, "pe.pseudo_accumulator_bits=8", "pe.correction_accumulator_bits=8")[0]
    wide = simulate(trace, "pe.pseudo_accumulator_bits=32", "pe.correction_accumulator_bits=32")[0]
    assert narrow.events["pseudo_accumulator_overflows"] > 0
    assert narrow.events["correction_accumulator_overflows"] > 0
    assert wide.events["pseudo_accumulator_overflows"] == wide.events["correction_accumulator_overflows"] == 0
    assert narrow.mismatches == wide.mismatches == 0


def test_the_trained_network_runs_and_verifies(tmp_path):
    report = run(LOAS, VGG9)
    summary = report.summary()
    assert summary["verified"] is True
    assert summary["layers_verified"] == summary["layers"] == 9
    three_more_places = 3 * (12 + 4 * 10) * 16 * 5.98e-6
    assert summary["area_mm2"] == pytest.approx(2.08 + three_more_places)
    report.write(tmp_path / "result")
    assert (tmp_path / "result" / "summary.json").exists()


@pytest.mark.parametrize("placement", ["row_per_bank", "interleaved"])
def test_a_stride_leaves_out_fibers_of_the_feature_map(placement):
    """A shortcut of ResNet: a kernel of 1 x 1 with stride 2 reads one activation of four."""
    shortcut = SyntheticLayer(
        "shortcut", "conv2d", (70, 8, 8), 9, kernel=1, stride=2, spike_density=0.2, silent_ratio=0.5, weight_density=0.3
    )
    trace = synthesize([shortcut], seed=0, timesteps=4)
    how = ("format.unrolled=on_the_fly", f"format.placement={placement}")
    slow, fast = (simulate(trace, *how, engine=engine)[0] for engine in ("reference", "compiled"))
    same(fast, slow)
    assert fast.mismatches == 0


def test_rows_unrolled_on_the_fly_compute_the_same_and_read_each_activation_once():
    """K is then padded channel by channel, so chunks differ; sums do not, and DRAM holds each activation once."""
    trace = conv(5, channels=70, size=8, density=0.2)
    stored, on_the_fly = (
        simulate(trace, f"format.unrolled={how}", "scheduler.tile_fill=1")[0] for how in ("stored", "on_the_fly")
    )
    slow = simulate(trace, "format.unrolled=on_the_fly", "scheduler.tile_fill=1", engine="reference")[0]
    same(on_the_fly, slow)
    assert stored.mismatches == on_the_fly.mismatches == 0
    assert stored.matches == on_the_fly.matches

    def input_bytes(result):
        return sum(row.bytes for row in result.traffic if row.level == "dram" and row.tensor.startswith("input"))

    # 2 x 8 x 8 positions with 70 channels: bitmask 16 bytes, pointer 4, words; rounded up to lines of 64 bytes.
    words = (trace.tensor("in").any(0)).sum(1).reshape(-1)
    lines = -(-(16 + 4 + -(-words * 4 // 8)) // 64)
    assert input_bytes(on_the_fly) == 64 * lines.sum()
    assert input_bytes(stored) > 4 * input_bytes(on_the_fly)


def test_a_read_out_can_be_left_out():
    trace = load_trace(VGG9)
    names = [
        [operation.name for operation in load_accelerator(LOAS, [f"scheduler.read_out={how}"]).layers(trace)]
        for how in ("simulated", "skipped")
    ]
    assert names[0] == [*names[1], "fc"]


def test_pooling_can_cost_cycles():
    """A layer that is pooled takes longer if pooling takes time, and only then; others do not notice."""
    trace = load_trace(VGG9).select(images=[0])
    pooled = [op.name for op in trace.operations if op.op == "conv2d" and layer_of(trace, op).pooled]
    assert pooled == ["conv1", "conv3", "conv5", "conv8"]
    cycles = {}
    for cost in (0, 1000):
        machine = load_accelerator(LOAS, [f"compressor.pool_cycles_per_chunk={cost}"])
        for name in ("conv7", "conv8"):
            layer = layer_of(trace, trace.operation(name))
            cycles[name, cost] = machine.run_layer(layer, "compiled", verify=False, record=False).cycles
    assert cycles["conv7", 1000] == cycles["conv7", 0]
    assert cycles["conv8", 1000] >= cycles["conv8", 0] + 1000


@pytest.mark.parametrize("depth", [1, 8])
def test_words_that_come_late_delay_their_corrections(depth):
    """A row whose words lie in a line of their own, on demand: m matches are corrected one a cycle once it is there."""
    weight = np.zeros((1, 128), np.int8)
    weight[0, 88:] = 1

    def cycles(matches):
        spikes = np.zeros((4, 1, 128), bool)
        spikes[:, 0, : 88 + matches] = True
        sums = np.einsum("tmk,nk->tmn", spikes.astype(np.int64), weight.astype(np.int64))
        trace = Trace(
            network="late", timesteps=4, operations=[Operation("fc", "linear", ("in",), "out", weight=weight)],
            tensors={"in": spikes, "out": sums}, provenance=LABELS,
        )  # fmt: skip
        how = ("scheduler.prefetch_groups=0", f"pe.fifo_depth={depth}")
        fast, slow = (simulate(trace, *how, engine=engine)[0] for engine in ("compiled", "reference"))
        same(fast, slow)
        return fast.cycles

    alone = cycles(1)
    assert [cycles(matches) - alone for matches in (2, 7, 9, 30)] == [1, 6, 8, 29]


def test_sorted_rows_lie_in_the_bank_of_their_element():
    """Equally full rows in a group: less waiting at the barrier, and no more waiting for banks."""
    draw = np.random.default_rng(2)
    spikes = draw.random((4, 64, 512)) < draw.permutation(np.linspace(0.02, 0.6, 64))[:, None]
    weight = (draw.integers(-99, 100, (24, 512)) * (draw.random((24, 512)) < 0.1)).astype(np.int8)
    sums = np.einsum("tmk,nk->tmn", spikes.astype(np.int64), weight.astype(np.int64))
    trace = Trace(
        network="uneven", timesteps=4, operations=[Operation("fc", "linear", ("in",), "out", weight=weight)],
        tensors={"in": spikes, "out": sums}, provenance=LABELS,
    )  # fmt: skip
    consecutive, balanced = (simulate(trace, f"scheduler.rows={rows}")[0] for rows in ("consecutive", "sorted"))
    assert balanced.mismatches == 0
    assert balanced.cycles < 0.95 * consecutive.cycles
    assert balanced.events["bank_wait_cycles"] < 1.1 * consecutive.events["bank_wait_cycles"]


# --- without what makes LoAS: each part taken away by a field

RAW = ("format.spikes=raw", "pe.speculation=false")
ABLATIONS = [
    ("scheduler.timesteps=sequential",), RAW, (*RAW, "scheduler.timesteps=sequential"), ("pe.speculation=false",),
    ("pe.laggy=second_fast", "pe.speculation=false"),
    ("scheduler.timesteps=sequential", "pe.speculation=false", "pe.fifo_depth=2"),
    (*RAW, "format.unrolled=on_the_fly"),
]  # fmt: skip


@pytest.mark.parametrize("overrides", ABLATIONS, ids=" ".join)
def test_ablations_compute_the_same_and_engines_agree(overrides):
    for trace in (mlp(5, m=35, n=9, k=300), mlp(6, m=5, n=4, k=200, timesteps=7), conv(4, channels=9)):
        fast, slow = simulate(trace, *overrides)[0], simulate(trace, *overrides, engine="reference")[0]
        assert fast.mismatches == 0
        same(fast, slow)
        assert fast.cycles >= fast.lower_bound_cycles


def actions_of(trace, *overrides):
    return {action: count for (unit, action), count in simulate(trace, *overrides)[0].actions.items() if unit == "tppe"}


def test_additions_of_each_ablation():
    """By plain numpy: with speculation a match is added once and taken back where silent, without only where it fired;
    in sequence all of it happens at every timestep."""
    trace = mlp(8, m=33, n=6, k=400, timesteps=4)
    spikes, weight = trace.tensor("in").astype(np.int64), (trace.operations[0].weight != 0).astype(np.int64)
    matches = int((spikes.any(0).astype(np.int64) @ weight.T).sum())
    fired = int((spikes @ weight.T).sum())
    silent = 4 * matches - fired
    speculative, sequential = actions_of(trace), actions_of(trace, "scheduler.timesteps=sequential")
    held, raw, fast = (actions_of(trace, *which) for which in (("pe.speculation=false",), RAW, ABLATIONS[4]))
    assert (speculative["pseudo_add"], speculative["correction_add"]) == (matches, silent)
    assert (sequential["pseudo_add"], sequential["correction_add"]) == (4 * matches, silent)
    assert speculative["subtract"] == sequential["subtract"] == 4 * 33 * 6
    assert held["add"] == raw["add"] == fast["add"] == fired
    assert held["laggy_prefix"] == speculative["laggy_prefix"] > 0 == raw["laggy_prefix"] == fast["laggy_prefix"]
    assert (fast["fast_prefix"], raw["fast_prefix"], held["fast_prefix"]) == (2 * matches, matches, matches)
    assert held["fifo_push"] == matches > 0 == raw["fifo_push"] == fast["fifo_push"]


def test_without_packing_and_ftp_it_is_sparten_snn():
    """Raw spikes, timesteps in sequence: the joins, the traffic and the cycles of SparTen-SNN with LoAS's scheduler."""
    trace = conv(3, channels=20, size=8, density=0.2)
    scheduler = ["order=super_tile", "prefetch_fibers=1", "prefetch_groups=1", "prefetch_start=first_step"]
    theirs = [f"scheduler.{field}" for field in scheduler]
    ours = simulate(trace, *RAW, "scheduler.timesteps=sequential", "compressor.cycles_per_chunk=8")[0]
    sparten = simulate(trace, *theirs, hardware=ROOT / "hwconfigs" / "sparten_snn.yaml")[0]
    assert (ours.performed_operations, ours.cycles) == (sparten.performed_operations, sparten.cycles)
    assert ours.traffic == sparten.traffic


def test_raw_words_are_all_read_and_packed_ones_are_not():
    """DRAM: K T bits a row against bitmask, pointer and words; k = 512 of T = 4 raw are exactly four lines."""
    trace = mlp(9, m=32, n=8, k=512, density=0.03)
    packed, raw = (simulate(trace, *which)[0] for which in ((), RAW))
    read = [{row.tensor: row.bytes for row in result.traffic if row.level == "dram" and row.direction == "read"}
            for result in (packed, raw)]  # fmt: skip
    words = trace.tensor("in").any(0).sum(1)
    assert read[1]["input"] == 32 * 4 * 64
    assert read[1]["input_format"] == 0
    assert read[0]["input"] + read[0]["input_format"] == 64 * int((-(-(64 + 4 + -(-words * 4 // 8)) // 64)).sum())


def test_timesteps_in_sequence_join_each_chunk_once_a_timestep():
    """Ideal memory: T times the joins of a group of rows, each max(1, c0 + matches)."""
    trace = mlp(2, m=37, n=20, k=300)
    result = simulate(trace, "memory.ideal=true", "scheduler.timesteps=sequential")[0]
    expected = 4 * barrier_cycles((2 + layer_matches(layers(trace)[0])).sum(2))
    assert expected + 2 <= result.cycles <= expected + 2 + 4 * 24


def test_area_follows_what_is_built():
    def tppe_mm2(*overrides):
        machine = load_accelerator(LOAS, overrides)
        return next(row.area_mm2 for row in area_rows(machine.inventory(), load_prices(machine)) if row.unit == "tppe")

    assert tppe_mm2() == pytest.approx(0.96)
    assert tppe_mm2(*ABLATIONS[4]) == pytest.approx(0.96 + 16 * (0.04 - 0.005 - 0.0004))
    assert tppe_mm2(*RAW) == pytest.approx(0.96 - 16 * (0.005 + 0.0004))
    assert tppe_mm2("scheduler.timesteps=sequential") == pytest.approx(16 * (0.0525 + 0.001875))
    assert tppe_mm2("pe.laggy=queued", "pe.laggy_units=3") == pytest.approx(0.96 + 16 * 2 * 0.005)


def test_area_of_places_tables_and_queue():
    """Bits of flip-flops in a TPPE: pseudo-sum and corrections; 128 offsets of 7 bits and words; bitmask and words."""

    def bits(*overrides):
        machine = load_accelerator(LOAS, overrides)
        rows = {row.unit: row.area_mm2 for row in area_rows(machine.inventory(), load_prices(machine))}
        return [round(rows.get(unit, 0) / 5.98e-6 / 16) for unit in ("pending_sum", "offset_table", "laggy_queue")]

    assert bits() == [3 * (12 + 4 * 10), 0, 0]
    assert bits("pe.pending_sums=1") == [0, 0, 0]
    assert bits("pe.speculation=false", "pe.offset_tables=3") == [3 * 4 * 12, 2 * 128 * (7 + 4), 0]
    assert bits("pe.laggy=queued", "pe.fifo_depth=5", "timesteps=8") == [3 * (12 + 8 * 10), 0, 5 * 128 * (1 + 8)]
    assert bits(*RAW) == bits(*ABLATIONS[4]) == [0, 0, 0]


@pytest.mark.parametrize("overrides", [("format.spikes=raw",), ("pe.laggy=second_fast",)], ids=" ".join)
def test_there_is_no_speculation_on_what_is_known(overrides):
    with pytest.raises(ConfigError, match=r"pe\.speculation: must be false with .*every word is there"):
        load_accelerator(LOAS, overrides)
