"""Devices: published statistics, laws of variance, rates of faults, and what their files may say."""

from importlib.resources import files

import numpy as np
import pytest
import yaml

from archsim.errors import ConfigError
from archsim.hardware.analog import device as cell
from archsim.hardware.analog.device import DEVICES, DeviceConfig
from archsim.hardware.loading import Block, field_rows, json_schema, load_machine, resolved_yaml

CELLS = 200_000
HOUR, DAY, YEAR = 3600.0, 86_400.0, 365 * 86_400.0

# Meant conductance [uS], age [s], mean and deviation [uS] that aihwkit 1.2.0 gives for 200,000 cells.
PCM = [
    (12.5, 0.0, 12.497, 0.952), (12.5, HOUR, 9.692, 1.057), (12.5, DAY, 8.309, 1.025), (12.5, YEAR, 6.250, 0.988),
    (1.0, 0.0, 1.000, 0.340), (1.0, YEAR, 0.386, 0.290), (25.0, YEAR, 12.507, 1.648),
]  # fmt: skip


def device(kind="rram", **said):
    return DeviceConfig.model_validate({"kind": kind, **said})


def draw(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("meant_us", "time_s", "mean", "deviation"), PCM)
def test_phase_change_memory_is_as_published(meant_us, time_s, mean, deviation):
    pcm = device("pcm")
    generator = draw(1)
    meant = np.full(CELLS, meant_us * 1e-6)
    found = cell.program(meant, pcm, generator)
    if time_s:
        drifted = cell.drift(found, meant, pcm, time_s, generator)
        found = cell.read(drifted, cell.read_deviation(drifted, found, pcm, time_s), generator)
    assert found.mean() * 1e6 == pytest.approx(mean, rel=0.01)
    assert found.std() * 1e6 == pytest.approx(deviation, rel=0.02)


def test_flicker_noise_of_a_read():
    """Two million reads of 250 ns after programming: Q sqrt(ln(1e6 + 1/2)), Q = 0.0088 at G_on and 0.2 at most."""
    pcm = device("pcm")
    cells = np.array([pcm.g_on, pcm.g_on / 1_000])
    found = cell.read_deviation(cells / 2, cells, pcm, 2e6 * 250e-9 - 20)
    assert found[0] / cells[0] == pytest.approx(0.0088 / 2 * np.log(1e6 + 0.5) ** 0.5, rel=1e-9)
    assert found[1] / cells[1] == pytest.approx(0.2 / 2 * np.log(1e6 + 0.5) ** 0.5, rel=1e-9)


def test_exponents_of_phase_change_memory():
    """At half of G_on: 0.0490 and 0.0080, published."""
    pcm = device("pcm")
    meant = np.full(CELLS, pcm.g_on / 2)
    nu = -np.log(cell.drift(meant, meant, pcm, 9 * 20.0, draw()) / meant) / np.log(10)
    assert nu.mean() == pytest.approx(0.0490, rel=0.01)
    assert nu.std() == pytest.approx(0.0080, rel=0.02)


def test_a_power_law_without_spread():
    """(t + t_0) / t_0 = 100 and nu = 0.05: 100^-0.05."""
    law = {
        "t0_s": 1.0,
        "mean": {"slope": 0.0, "offset": 0.05, "least": 0.0, "most": 1.0},
        "spread": {"slope": 0.0, "offset": 0.0, "least": 0.0, "most": 0.0},
    }
    cells = np.array([1e-5, 3e-6, 0.0])
    np.testing.assert_allclose(cell.drift(cells, cells, device(drift=law), 99.0, draw()), cells * 100**-0.05)
    assert cell.drift(cells, cells, device(), 99.0, draw()) is cells


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("gamma", [3.0, 5.0])
def test_variance_of_write_noise(gamma, share):
    """gamma^2 sigma^2 (G - G_off) (G_on - G): none at the ends."""
    rram = device(write_noise={"gamma": gamma, "sigma": 0.02})
    meant = np.full(CELLS, rram.g_off + share * (rram.g_on - rram.g_off))
    assert np.array_equal(cell.program(meant, rram, draw(3)), meant)
    found = cell.disturb(meant, rram, draw(3))
    expected = (gamma * 0.02) ** 2 * (meant[0] - rram.g_off) * (rram.g_on - meant[0])
    assert found.mean() == pytest.approx(meant[0], rel=0.01)
    assert found.var() == pytest.approx(expected, rel=0.02, abs=1e-25)


def test_relative_variation():
    fefet = device("fefet")
    meant = np.full(CELLS, fefet.g_on)
    programmed = cell.program(meant, fefet, draw(4))
    assert programmed.std() / meant[0] == pytest.approx(0.2, rel=0.02)
    deviation = cell.read_deviation(meant, meant, fefet, 0.0)
    np.testing.assert_allclose(deviation, 0.1 * meant)
    assert cell.read(meant, deviation, draw(5)).std() / meant[0] == pytest.approx(0.1, rel=0.02)


def test_no_conductance_is_negative():
    wild = device(programming={"relative": 2.0}, read={"relative": 3.0})
    meant = np.full(CELLS, wild.g_on)
    programmed = cell.program(meant, wild, draw(6))
    found = cell.read(programmed, cell.read_deviation(programmed, programmed, wild, 0.0), draw(7))
    assert programmed.min() == found.min() == 0


@pytest.mark.parametrize(("off", "on"), [(0.001, 0.001), (0.0175, 0.0904), (0.0904, 0.0175), (0.5, 0.5)])
def test_rates_of_faults(off, on):
    """Counts within five standard deviations of a binomial draw; what is not stuck is untouched."""
    faulty = device(stuck={"off": off, "on": on})
    meant = np.full(CELLS, (faulty.g_off + faulty.g_on) / 2)
    found = cell.stick(meant, faulty, draw(8))
    for share, end in ((off, faulty.g_off), (on, faulty.g_on)):
        assert abs((found == end).sum() - share * CELLS) < 5 * np.sqrt(CELLS * share * (1 - share))
    assert (found == meant).sum() == CELLS - (found == faulty.g_off).sum() - (found == faulty.g_on).sum()


def test_levels_are_evenly_spaced():
    rram = device(r_on_ohm=1e4, r_off_ohm=1e6, bits=2)
    expected = [1e-6, 3.4e-5, 6.7e-5, 1e-4]
    np.testing.assert_allclose(cell.target(np.arange(4), rram), expected, rtol=1e-12)
    with pytest.raises(ValueError, match="levels from 0 to 4; allowed: 0 to 3"):
        cell.target(np.arange(5), rram)


def test_a_device_without_faults_is_what_was_meant():
    ideal = device()
    meant = cell.target(np.arange(4), ideal)
    programmed = cell.program(cell.stick(meant, ideal, draw()), ideal, draw())
    deviation = cell.read_deviation(programmed, programmed, ideal, DAY)
    assert np.array_equal(cell.read(cell.drift(programmed, meant, ideal, DAY, draw()), deviation, draw()), meant)


def test_what_a_write_takes():
    """64 rows of 3 pulses of 50 ns; 2 V over 100 kohm for 50 ns take 2 pJ; 1e6 writes last for 5,000 times 200, and
    for 333,333 times three, not quite for once more."""
    rram = device(write={"pulses": 3})
    assert rram.write_ns(64) == 9_600
    assert rram.pulse_pj(rram.g_on) == pytest.approx(2.0)
    assert (rram.lifetime(200), rram.lifetime(3)) == (5_000, 333_333)
    assert device("sram").lifetime(200) is None


class Machine(Block):
    accelerator: str
    device: DeviceConfig


def load(tmp_path, text, *overrides):
    path = tmp_path / "machine.yaml"
    path.write_text("accelerator: analog\ndevice:\n" + text)
    return load_machine(path, {"analog": Machine}, overrides)


def test_a_machine_names_a_device_and_says_what_differs(tmp_path):
    found = load(tmp_path, "  kind: pcm\n  read: {relative: 0.1}\n", "device.read.flicker.read_ns=500").device
    shipped = device("pcm")
    assert (found.read.relative, found.read.flicker.read_ns) == (0.1, 500)
    assert found.read.flicker.q == shipped.read.flicker.q == 0.0088
    assert found.drift == shipped.drift
    (tmp_path / "resolved.yaml").write_text(resolved_yaml(Machine(accelerator="analog", device=found)))
    assert load_machine(tmp_path / "resolved.yaml", {"analog": Machine}).device == found


def test_values_of_the_device_file_are_defaults(tmp_path):
    machine = load(tmp_path, "  kind: pcm\n  read: {relative: 0.1}\n")
    said = {row.path for row in field_rows(machine) if not row.is_default}
    assert said == {"accelerator", "device.kind", "device.read.relative"}
    assert json_schema(Machine)["$defs"]["DeviceConfig"]["anyOf"][0] == {"required": ["kind"]}


def test_a_block_can_be_taken_away(tmp_path):
    assert load(tmp_path, "  kind: pcm\n  drift: null\n").device.drift is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("  kind: pmc\n", "did you mean 'pcm'"),
        ("  bits: 2\n", "device.kind: missing"),
        ("  kind: rram\n  r_off_ohm: 5\n", r"r_off_ohm: must be above r_on_ohm, 100000"),
        ("  kind: rram\n  stuck: {on: 0.6, off: 0.5}\n", "must not add up to more than 1"),
        ("  kind: rram\n  read: {sigma: 0.1}\n", "read.sigma: unknown key"),
        ("  kind: rram\n  write_noise: {gamma: 3.0}\n", "write_noise.sigma: missing"),
        ("  kind: pcm\n  drift: {mean: {least: 0.5}}\n", "drift.mean.least: must not be above most, 0.1"),
    ],
)
def test_what_a_machine_may_not_say(tmp_path, text, problem):
    with pytest.raises(ConfigError, match=problem):
        load(tmp_path, text)


def leaves(node, path=""):
    """Path and node of every value."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from leaves(value, f"{path}.{key.value}".lstrip("."))
    else:
        yield path, node


@pytest.mark.parametrize("kind", DEVICES)
def test_every_value_of_a_device_file_has_its_source(kind):
    """Behind every value, or behind the line of a block that is written as one; none of the values has a #."""
    text = (files("archsim.hardware.analog") / "devices" / f"{kind}.yaml").read_text(encoding="utf-8")
    lines = text.splitlines()
    found = dict(leaves(yaml.compose(text)))
    without = [path for path, node in found.items() if not lines[node.end_mark.line].partition("#")[2].strip()]
    assert without == []
    assert {"r_on_ohm", "stuck.off", "programming.by_state", "read.relative", "write.endurance"} <= set(found)
    assert device(kind).kind == kind
