"""Energy and area: LoAS Table IV and Fig. 16a exactly, each price, and what is missing all at once.

:func:`loas_components` is the inventory that the prices of ``loas_32nm`` and ``loas_constant_power`` expect.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from archsim.cost import (
    CostTable,
    area_rows,
    energy_rows,
    load_table,
    part_rows,
    price_rows,
)
from archsim.cost.sram import sram
from archsim.errors import ConfigError
from archsim.hardware.inventory import Component

CHUNK_BITS = 128

ACTIONS = {
    "tppe": [
        "join",
        "fast_prefix",
        "laggy_prefix",
        "pseudo_add",
        "correction_add",
        "fifo_push",
        "fifo_pop",
        "subtract",
    ],
    "p_lif": ["update"],
    "compressor": ["encode"],
    "scheduler": ["step"],
    "cache_data": ["read", "write"],
    "cache_tag": ["lookup"],
    "crossbar_switch": ["transfer"],
    "broadcast": ["transfer"],
    "dram": ["read_bits", "write_bits"],
}


def loas_components(timesteps: int = 4, pes: int = 16, cache_kib: int = 256, banks: int = 16) -> list[Component]:
    bank: dict[str, int | float | str] = {
        "capacity_bytes": cache_kib * 1024 // banks,
        "width_bits": CHUNK_BITS,
        "ports": "1rw",
    }
    fifo_entry_bits = 8 + 7  # a weight and its position in a chunk of 128
    return [
        Component(
            "tppe",
            "logic",
            pes,
            {
                "block": "tppe",
                "timesteps": timesteps,
                "fifo_entry_bits": fifo_entry_bits,
                "fast_prefix_sums": 1,
                "laggy_prefix_sums": 1,
                "accumulators": timesteps + 1,
            },
        ),
        Component("p_lif", "logic", pes, {"block": "p_lif", "timesteps": timesteps}),
        Component("compressor", "logic", 1, {"block": "compressor"}),
        Component("scheduler", "logic", 1, {"block": "scheduler"}),
        Component("cache_data", "cache", banks, bank),
        Component("cache_tag", "cache_tag", banks, {**bank, "ways": 16}),
        Component("crossbar_switch", "switch", 2, {"ports_in": pes, "ports_out": banks, "width_bits": CHUNK_BITS}),
        Component("broadcast", "broadcast", 1, {"receivers": pes, "width_bits": CHUNK_BITS}),
        Component("others", "logic", 1, {"block": "others", "pes": pes, "banks": banks}),
        Component("dram", "dram", 1, {}),
    ]


@pytest.fixture
def table() -> CostTable:
    return load_table("loas_32nm")


def areas(table: CostTable, **sizes: int) -> dict[str, float]:
    return {row.unit: row.area_mm2 for row in area_rows(loas_components(**sizes), table)}


def prices(table: CostTable, **sizes: int) -> dict[tuple[str, str], float]:
    return {(row.unit, row.action): row.price for row in price_rows(loas_components(**sizes), table)}


# --- area


@pytest.mark.parametrize("name", ["loas_32nm", "loas_constant_power"])
def test_table_iv_areas(name: str) -> None:
    rows = area_rows(loas_components(), load_table(name))
    area = {row.unit: round(row.area_mm2, 12) for row in rows}
    assert (area["tppe"], area["p_lif"], area["cache_data"], area["others"]) == (0.96, 0.02, 0.80, 0.30)
    assert round(sum(area.values()), 12) == 2.08
    assert {unit for unit, value in area.items() if value == 0} == {
        *("compressor", "scheduler", "cache_tag", "crossbar_switch", "broadcast", "dram")
    }
    assert {row.unit: row.instances for row in rows} == {c.unit: c.instances for c in loas_components()}
    assert all(row.source for row in rows)


@pytest.mark.parametrize(("timesteps", "share"), [(4, 0.125), (8, 0.222), (16, 0.363)])
def test_fig_16a_area(table: CostTable, timesteps: int, share: float) -> None:
    """area(T) = 0.06 mm2 x (0.875 + 0.125 T/4); the paper prints the share that grows with T to 0.1 % (rounded)."""
    area = areas(table, timesteps=timesteps)["tppe"] / 16
    assert area == pytest.approx(0.06 * (0.875 + 0.125 * timesteps / 4), rel=1e-12)
    assert (area - 0.06 * 0.875) / area == pytest.approx(share, abs=0.001)


@pytest.mark.parametrize("timesteps", [1, 2, 3, 5, 16])
def test_fig_16a_formula_at_every_timestep(table: CostTable, timesteps: int) -> None:
    assert areas(table, timesteps=timesteps)["tppe"] == pytest.approx(0.96 * (0.875 + 0.125 * timesteps / 4), rel=1e-12)


def test_areas_follow_the_sizes(table: CostTable) -> None:
    published, double = areas(table), areas(table, pes=32)
    assert double["tppe"] == pytest.approx(2 * published["tppe"], rel=1e-12)
    assert double["p_lif"] == pytest.approx(2 * published["p_lif"], rel=1e-12)
    assert double["others"] == pytest.approx(0.60, rel=1e-12)
    assert double["cache_data"] == pytest.approx(0.80, rel=1e-12)


def test_cache_area_is_anchored_and_scaled_by_cacti(table: CostTable) -> None:
    ratio = sram(32, "itrs-lop", 32768, 128, "1rw").area_mm2 / sram(32, "itrs-lop", 16384, 128, "1rw").area_mm2
    assert areas(table, cache_kib=512)["cache_data"] == pytest.approx(0.80 * ratio, rel=1e-12)
    assert areas(table, cache_kib=512, banks=32)["cache_data"] == pytest.approx(1.60, rel=1e-12)


def test_cache_outside_cacti_is_one_error_that_names_the_unit(table: CostTable) -> None:
    with pytest.raises(ConfigError) as caught:
        area_rows(loas_components(cache_kib=1 << 20), table)
    (problem,) = caught.value.problems
    assert "cache_data.area_mm2" in problem
    assert "nearest: 4194304" in problem


@pytest.mark.parametrize("timesteps", [1, 4, 16])
def test_parts_of_a_tppe(table: CostTable, timesteps: int) -> None:
    """Table IV's parts add up to 0.057 mm2 where it prints 0.06: the rest is shown, not spread."""
    parts = {row.part: row.area_mm2 for row in part_rows(loas_components(timesteps), table)}
    assert sum(parts.values()) == pytest.approx(0.06 * (0.875 + 0.125 * timesteps / 4), rel=1e-12)
    assert parts["not itemised"] == pytest.approx(0.003, rel=1e-9)
    if timesteps == 4:
        printed = {"accumulators": 2e-3, "fast_prefix": 0.04, "laggy_prefix": 5e-3, "others": 0.01}
        assert {part: parts[part] for part in printed} == pytest.approx(printed, rel=1e-12)


# --- energy


@pytest.mark.parametrize("timesteps", [1, 4, 8, 16])
def test_a_fully_busy_tppe_draws_the_power_of_table_iv(table: CostTable, timesteps: int) -> None:
    """Everything at once in every cycle of 1.25 ns is 2.82 mW x (0.916 + 0.084 T/4): nothing is charged twice."""
    actions = dict.fromkeys(
        [("tppe", a) for a in ("join", "fast_prefix", "laggy_prefix", "pseudo_add", "fifo_push", "fifo_pop")], 1000
    )
    actions["tppe", "correction_add"] = 1000 * timesteps
    rows = energy_rows(actions, loas_components(timesteps), table, cycles=0, clock_mhz=800)
    power_mw = sum(row.energy_pj for row in rows) / (1000 * 1.25)
    assert power_mw == pytest.approx(2.82 * (0.916 + 0.084 * timesteps / 4), rel=1e-12)


def test_busy_p_lifs_draw_the_power_of_table_iv(table: CostTable) -> None:
    """16 P-LIFs, each a neuron of four timesteps in every cycle: 1.2 mW."""
    rows = energy_rows({("p_lif", "update"): 16 * 4 * 1000}, loas_components(), table, cycles=0, clock_mhz=800)
    assert sum(row.energy_pj for row in rows) / (1000 * 1.25) == pytest.approx(1.2, rel=1e-12)


def test_prices_at_the_published_configuration(table: CostTable) -> None:
    side_mm = math.sqrt(2.08)
    assert prices(table) == pytest.approx(
        {
            ("tppe", "join"): 0.88 / 0.8 - 2 * 15 * 0.009,
            ("tppe", "fast_prefix"): 1.46 / 0.8,
            ("tppe", "laggy_prefix"): 0.32 / 0.8,
            ("tppe", "pseudo_add"): 0.16 / 5 / 0.8,
            ("tppe", "correction_add"): 0.16 / 5 / 0.8,
            ("tppe", "add"): 0.16 / 5 / 0.8,
            ("tppe", "subtract"): 0.16 / 5 / 0.8,
            ("tppe", "fifo_push"): 15 * 0.009,
            ("tppe", "fifo_pop"): 15 * 0.009,
            ("p_lif", "update"): 1.2 / 16 / 0.8 / 4,
            ("compressor", "encode"): 8 * 0.32 / 0.8,
            ("scheduler", "step"): 64 * 0.009,
            ("cache_data", "read"): 3.74496,
            ("cache_data", "write"): 3.55374,
            ("cache_data", "leakage"): 2.05732,
            ("cache_tag", "lookup"): 1.13,
            ("cache_tag", "leakage"): 44.5 / 16 - 2.05732,
            ("crossbar_switch", "transfer"): 128 * 0.05 * 2 / 3 * side_mm,
            ("broadcast", "transfer"): 128 * 0.05 * 15 / 4 * side_mm,
            ("dram", "read_bits"): 3.92,
            ("dram", "write_bits"): 3.92,
        },
        rel=1e-12,
    )


def test_prices_follow_the_sizes(table: CostTable) -> None:
    big = prices(table, cache_kib=512)
    ratio = sram(32, "itrs-lop", 32768, 128, "1rw").read_energy_pj / 3.74496
    assert big["cache_data", "read"] == pytest.approx(3.74496 * ratio, rel=1e-12)
    assert big["cache_tag", "lookup"] == pytest.approx(1.13 * ratio, rel=1e-12)
    assert big["crossbar_switch", "transfer"] > prices(table)["crossbar_switch", "transfer"]
    one = prices(table, pes=1)
    assert one["broadcast", "transfer"] == pytest.approx(one["crossbar_switch", "transfer"], rel=1e-12)


def test_a_component_may_state_its_wire_length(table: CostTable) -> None:
    inventory = loas_components()
    i = [component.unit for component in inventory].index("crossbar_switch")
    inventory[i] = replace(inventory[i], parameters={**inventory[i].parameters, "switch_length_mm": 2.0})
    rows = energy_rows({("crossbar_switch", "transfer"): 3}, inventory, table, cycles=0, clock_mhz=800)
    assert next(row for row in rows if row.unit == "crossbar_switch").energy_pj == pytest.approx(3 * 128 * 0.05 * 2)


def test_leakage_is_power_times_time(table: CostTable) -> None:
    """800 cycles at 800 MHz are 1 us; 16 banks with tags leak 44.5 mW at 360 K, so 44.5 nJ."""
    rows = energy_rows({}, loas_components(), table, cycles=800, clock_mhz=800)
    assert [(row.unit, row.action, row.count) for row in rows] == [
        ("cache_data", "leakage", 800),
        ("cache_tag", "leakage", 800),
    ]
    assert sum(row.energy_pj for row in rows) == pytest.approx(44.5e3, rel=1e-12)
    assert table.sram is not None
    cool_table = table.model_copy(update={"sram": table.sram.model_copy(update={"temperature_k": 300.0})})
    cool = energy_rows({}, loas_components(), cool_table, cycles=800, clock_mhz=800)
    assert sum(row.energy_pj for row in cool) == pytest.approx(44.5e3 * 2.754 / 7.537, rel=1e-12)


def test_energy_is_count_times_price_in_a_fixed_order(table: CostTable) -> None:
    price = prices(table)
    actions = {(unit, action): 3 for unit, names in reversed(ACTIONS.items()) for action in names}
    rows = energy_rows(actions, loas_components(), table, cycles=0, clock_mhz=800)
    counted = [row for row in rows if row.action != "leakage"]
    assert {(row.unit, row.action) for row in counted} == set(actions)
    assert all(row.energy_pj == pytest.approx(3 * price[row.unit, row.action], rel=1e-12) for row in counted)
    units = [component.unit for component in loas_components()]
    assert rows == sorted(rows, key=lambda row: (units.index(row.unit), row.action == "leakage", row.action))


@pytest.mark.parametrize("cycles", [0, 1, 544_883])
@pytest.mark.parametrize("clock_mhz", [800, 1000])
def test_constant_power_is_188_9_mw_times_time(cycles: int, clock_mhz: int) -> None:
    actions = {(unit, action): 7 for unit, names in ACTIONS.items() for action in names}
    rows = energy_rows(actions, loas_components(), load_table("loas_constant_power"), cycles, clock_mhz)
    latency_s = cycles / (clock_mhz * 1e6)
    assert sum(row.energy_pj for row in rows) == pytest.approx(188.9e-3 * latency_s * 1e12, rel=1e-12)
    by_unit = {row.unit: row.energy_pj for row in rows if row.action == "constant_power"}
    printed_mw = {"tppe": 45.1, "p_lif": 1.2, "cache_data": 124.5, "others": 18.1}
    assert by_unit == pytest.approx({u: mw * latency_s * 1e9 for u, mw in printed_mw.items()}, rel=1e-12)
    assert all(row.energy_pj == 0 for row in rows if row.action != "constant_power")


@pytest.mark.parametrize("timesteps", [1, 8, 16])
def test_fig_16a_power_in_the_constant_power_table(timesteps: int) -> None:
    constant = load_table("loas_constant_power")
    power = prices(constant, timesteps=timesteps)["tppe", "constant_power"]
    assert power / prices(constant)["tppe", "constant_power"] == pytest.approx(0.916 + 0.084 * timesteps / 4, rel=1e-12)


def test_stored_counts_are_priced_again_with_another_table(table: CostTable) -> None:
    actions = {("cache_data", "read"): 10, ("dram", "read_bits"): 1024, ("tppe", "join"): 5}
    first = energy_rows(actions, loas_components(), table, 100, 800)
    again = energy_rows(actions, loas_components(), load_table("loas_constant_power"), 100, 800)
    counts = [
        {(row.unit, row.action): row.count for row in rows if (row.unit, row.action) in actions}
        for rows in (first, again)
    ]
    assert counts[0] == counts[1] == actions
    assert sum(row.energy_pj for row in first) != sum(row.energy_pj for row in again)


# --- what is missing


def test_everything_missing_is_listed_at_once(table: CostTable) -> None:
    inventory = [*loas_components(), Component("sorter", "logic", 4, {"block": "sorter"})]
    inventory[0] = replace(inventory[0], parameters={"block": "tppe"})
    actions = {
        ("tppe", "fast_prefx"): 1,
        ("tppe", "join"): 1,
        ("tpe", "join"): 1,
        ("dram", "refresh"): 1,
        ("cache_data", "read"): 1,
    }
    with pytest.raises(ConfigError) as caught:
        energy_rows(actions, inventory, table, cycles=1, clock_mhz=800)
    assert [problem.removeprefix("cost table loas_32nm: ") for problem in caught.value.problems] == [
        "tpe.join: the inventory has no unit 'tpe' (did you mean 'tppe'?)",
        f"sorter: no family 'logic.sorter'; it prices '{table.title}' (did you mean 'logic.others'?)",
        "tppe.fast_prefx: no price in logic.tppe (did you mean 'fast_prefix'?)",
        "tppe.energy_pj.join: needs the parameter 'timesteps', a number not below 0, got None",
        "dram.refresh: no price in dram",
    ]


def test_a_unit_twice_in_the_inventory_is_refused(table: CostTable) -> None:
    with pytest.raises(ConfigError, match="p_lif: occurs twice"):
        area_rows([*loas_components(), loas_components()[1]], table)


def test_generic_families(table: CostTable) -> None:
    """Plain memories and registers of other machines at 32 nm."""
    inventory = [
        Component("buffer", "sram", 2, {"capacity_bytes": 4096, "width_bits": 64, "ports": "1r1w"}),
        Component("fifo", "flip_flops", 3, {"bits": 120, "width_bits": 15}),
    ]
    figures = sram(32, "itrs-lop", 4096, 64, "1r1w")
    assert [row.area_mm2 for row in area_rows(inventory, table)] == pytest.approx(
        [2 * figures.area_mm2, 3 * 120 * 5.98e-6], rel=1e-12
    )
    rows = energy_rows({("buffer", "write"): 5, ("fifo", "read"): 4}, inventory, table, cycles=800, clock_mhz=800)
    assert {(row.unit, row.action): row.energy_pj for row in rows} == pytest.approx(
        {
            ("buffer", "write"): 5 * figures.write_energy_pj,
            ("buffer", "leakage"): 2 * figures.leakage_mw * 1e3,
            ("fifo", "read"): 4 * 15 * 0.009,
        },
        rel=1e-12,
    )
