"""Tiles: when noise is drawn, by whom, and that the order of things decides nothing."""

import numpy as np
import pytest

from archsim.hardware.analog import effective_conductance
from archsim.hardware.analog.tile import CellsConfig, Purpose, Tile, generator

NO_WIRES = {"r_driver_ohm": 0.0, "r_row_ohm": 0.0, "r_col_ohm": 0.0, "r_sense_ohm": 0.0}
WIRES = {"r_driver_ohm": 100.0, "r_row_ohm": 1.0, "r_col_ohm": 2.0, "r_sense_ohm": 50.0}


def config(noise="frozen", wires=NO_WIRES, seed=1, **device):
    device = {"kind": "rram", "read": {"relative": 0.1}, **device}
    return CellsConfig.model_validate({"noise": noise, "seed": seed, "time_s": 0.0, "device": device, "wires": wires})


def tile(*args, layer=0, number=0, shape=(6, 5), **said):
    level = np.random.default_rng(9).integers(0, 4, shape)
    return Tile(level, config(*args, **said), layer=layer, tile=number)


DRIVEN = np.random.default_rng(0).integers(0, 2, (8, 6)).astype(np.float64)


@pytest.mark.parametrize("wires", [NO_WIRES, WIRES])
def test_when_read_noise_is_drawn(wires):
    """The same vector twice in a batch, and in two batches: the same current if and only if noise says so."""
    twice = np.concatenate([DRIVEN, DRIVEN]) + 0.5
    for noise, in_batch, in_batches in (("frozen", True, True), ("per_batch", True, False), ("per_read", False, False)):
        one = tile(noise, wires)
        first, second = one.read(twice, 0), one.read(twice, 1)
        assert np.allclose(first[:8], first[8:], rtol=1e-12) == in_batch
        assert np.allclose(first, second, rtol=1e-12) == in_batches
        assert np.array_equal(one.read(twice, 0), first)


def test_noise_is_mandatory():
    with pytest.raises(ValueError, match="noise"):
        CellsConfig.model_validate({"seed": 1, "time_s": 0.0, "device": {"kind": "rram"}, "wires": NO_WIRES})


@pytest.mark.parametrize("noise", ["frozen", "per_batch", "per_read"])
def test_order_decides_nothing(noise):
    """Two layers' tiles, read in any order of tiles and batches, by anybody: the same currents."""
    places = [(layer, number, batch) for layer in range(2) for number in range(2) for batch in range(2)]
    made = {(layer, number): tile(noise, WIRES, layer=layer, number=number) for layer, number, _ in places}
    forth = {place: made[place[:2]].read(DRIVEN, place[2]) for place in places}
    back = {place: tile(noise, WIRES, layer=place[0], number=place[1]).read(DRIVEN, place[2]) for place in places[::-1]}
    for place in places:
        assert np.array_equal(forth[place], back[place])
    different = {forth[place].tobytes() for place in places}
    assert len(different) == (4 if noise == "frozen" else 8)
    assert not np.array_equal(forth[0, 0, 0], tile(noise, WIRES, seed=2).read(DRIVEN, 0))


def test_generators_of_all_places_differ():
    places = [(s, layer, t, p, b) for s in (0, 1) for layer in (0, 1) for t in (0, 1) for p in Purpose for b in (0, 1)]
    assert len({generator(*place).integers(1 << 62) for place in places}) == len(places)


def deviations(wires, reads=1_000):
    """Mean and deviation of per-read noise, and those of cells drawn anew and solved anew for every read."""
    one = tile("per_read", wires, r_on_ohm=20e3, r_off_ohm=200e3)
    found = one.read(np.repeat(DRIVEN[:1] + 0.5, reads, 0), 0)
    ohms = {name.removesuffix("_ohm"): value for name, value in wires.items()}
    noise = 1 + 0.1 * np.random.default_rng(5).standard_normal((reads, 6, 5))
    fresh = (DRIVEN[0] + 0.5) @ effective_conductance(one.conductance * noise, **ohms)
    np.testing.assert_allclose(found.mean(0), fresh.mean(0), rtol=0.01)
    return found.std(0), fresh.std(0)


def test_variance_of_per_read_noise_is_that_of_fresh_cells():
    found, fresh = deviations(NO_WIRES)
    np.testing.assert_allclose(found, fresh, rtol=0.1)


def test_per_read_noise_behind_wires_is_a_little_too_strong():
    """The documented overestimate; noise that wires left alone would be half too strong and more."""
    strong = {"r_driver_ohm": 1000.0, "r_row_ohm": 5.0, "r_col_ohm": 10.0, "r_sense_ohm": 1000.0}
    found, fresh = deviations(strong)
    assert 1 < (found / fresh).mean() < 1.3


def test_effective_matrices_are_of_cells_as_they_are_read():
    for noise in ("frozen", "per_batch"):
        one = tile(noise, WIRES)
        matrix = one.read(np.eye(6), 0)
        assert (matrix < tile(noise, NO_WIRES).read(np.eye(6), 0)).all()
        if noise == "frozen":
            ohms = {name.removesuffix("_ohm"): value for name, value in WIRES.items()}
            np.testing.assert_allclose(matrix, effective_conductance(one.conductance, **ohms), rtol=1e-12)


def test_order_of_effects():
    """Stuck cells are programmed, programmed cells drift: all on, then varied, then aged by 100^-0.05."""
    law = {
        "t0_s": 1.0, "mean": {"slope": 0.0, "offset": 0.05, "least": 0.0, "most": 1.0},
        "spread": {"slope": 0.0, "offset": 0.0, "least": 0.0, "most": 0.0},
    }  # fmt: skip
    device = {"kind": "rram", "stuck": {"on": 1.0}, "programming": {"relative": 0.1}, "drift": law}
    said = {"noise": "frozen", "seed": 1, "time_s": 99.0, "device": device, "wires": NO_WIRES}
    found = Tile(np.zeros((200, 200), int), CellsConfig.model_validate(said), layer=0, tile=0).conductance
    assert found.mean() == pytest.approx(1e-5 * 100**-0.05, rel=0.01)
    assert found.std() / found.mean() == pytest.approx(0.1, rel=0.02)


def test_write_noise_is_of_arrays_that_are_written_as_the_network_runs():
    """Programming is drawn as before: the noise of a write comes on top of it."""
    level = np.ones((6, 5), int)
    noisy, quiet = (
        config(programming={"relative": 0.1}, write_noise=noise) for noise in ({"gamma": 3.0, "sigma": 0.1}, None)
    )
    stays, written = (
        [Tile(level, one, layer=0, tile=0, written=write).conductance for one in (noisy, quiet)] for write in (None, 0)
    )
    assert np.array_equal(*stays) and np.array_equal(stays[1], written[1])
    assert not np.isclose(*written).any()


def test_cells_that_are_not_linear():
    """Without wires: G (1 - c v^2) at the read voltage, and a tile with wires carries less."""
    read = {"cubic_per_v2": 0.25, "voltage_v": 0.5}
    plain = tile(read=read)
    expected = DRIVEN @ plain.conductance * (1 - 0.25 * 0.25)
    np.testing.assert_allclose(plain.read(DRIVEN, 0), expected, rtol=1e-12)
    assert (tile(wires=WIRES, read=read).read(DRIVEN + 0.1, 0) < plain.read(DRIVEN + 0.1, 0)).all()


def test_matrices_are_kept_where_they_last(tmp_path):
    level = np.ones((3, 3), int)
    for noise, kept in (("frozen", 1), ("per_read", 1), ("per_batch", 0)):
        folder = tmp_path / noise
        Tile(level, config(noise, WIRES), layer=0, tile=0, folder=folder).read(np.ones((2, 3)), 0)
        assert len(list(folder.glob("*"))) == kept
