"""Arguments of the public functions, of types that do not belong there: a line for each, never Python's own words."""

import numpy as np
import pytest

import archsim
from archsim import arguments
from archsim.errors import ArchsimError, UsageError
from archsim.simulate import yaml_text


class Other:
    """Something that no argument is; called the same in every process."""

    def __repr__(self):
        return "other"


ODD = [None, 3, 3.5, True, b"loas", [], {}, [3], np.zeros(2), Other(), "\0", "a" * 300, "loas"]
ABLE = {
    "hardware": {"'loas'"},
    "overrides": {"[]", "{}"},
    "layers": {"None", "[]", "{}"},
    "progress": {"None"},
    "timeline": {"True"},
    "verify": {"True"},
}
"""Odd values that an argument takes: they are left out here."""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    from archsim.trace import matrix_product, save_trace, synthesize

    path = tmp_path_factory.mktemp("arguments") / "small.npz"
    layer = matrix_product(
        "layer", 4, 8, 16, spike_density=0.3, silent_ratio=0.4, fire_once_ratio=None, weight_density=0.5
    )
    save_trace(synthesize([layer], seed=0, images=1, timesteps=4), path)
    return path


@pytest.mark.parametrize("value", ODD, ids=repr)
@pytest.mark.parametrize(
    "name", ["hardware", "trace", "overrides", "engine", "layers", "verify", "timeline", "progress"]
)
def test_a_run_refuses_what_does_not_belong_there(small, name, value):
    if repr(value) in ABLE.get(name, ()):
        return
    with pytest.raises(ArchsimError) as refused:
        archsim.run(**{"hardware": "sparten_snn", "trace": small, name: value})
    assert all(line.isprintable() for line in refused.value.problems)


@pytest.mark.parametrize("value", ODD, ids=repr)
@pytest.mark.parametrize("load", [archsim.load_accelerator, archsim.load_trace])
def test_what_is_no_path_cannot_be_loaded(load, value):
    if load is archsim.load_accelerator and repr(value) == "'loas'":
        return
    with pytest.raises(ArchsimError):
        load(value)


@pytest.mark.parametrize("value", [*ODD[:-1], ["\0"], ["a" * 300]], ids=repr)
def test_a_comparison_refuses_what_is_no_machine(small, value):
    with pytest.raises(ArchsimError):
        archsim.compare(value, small)


@pytest.mark.parametrize("machines", [{"sparten_snn"}, {"sparten_snn": 1}, np.array(["sparten_snn"])], ids=repr)
def test_a_comparison_takes_any_collection(small, machines):
    assert list(archsim.compare(machines, small).reports) == ["sparten_snn"]


def test_whether_to_verify_is_true_or_false(small):
    """A word such as ``no`` counts as true in Python."""
    calls = (archsim.run, archsim.compare, archsim.sweep)
    for call, machine in zip(calls, ("sparten_snn", ["sparten_snn"], "sparten_snn"), strict=True):
        with pytest.raises(UsageError, match=r"^verify: must be True or False, got 'no'$"):
            call(machine, small, verify="no")


def test_a_sweep_needs_a_trace():
    with pytest.raises(UsageError, match="sweep: no trace is given"):
        archsim.sweep("sparten_snn", [])


@pytest.mark.parametrize("value", [3.5, True, b"loas", [3], np.zeros(2), Other()], ids=repr)
@pytest.mark.parametrize(
    "name",
    ["hardware", "traces", "combine", "sample", "seed", "pareto", "jobs", "cluster", "path", "engine", "layers"],
)
def test_a_sweep_refuses_what_does_not_belong_there(small, name, value):
    with pytest.raises(UsageError, match=f"^{name}: must be "):
        archsim.sweep(**{"hardware": "sparten_snn", "traces": small, name: value})


@pytest.mark.parametrize("value", [3.5, b"none", [3], np.zeros(2), Other()], ids=repr)
@pytest.mark.parametrize(
    "name", ["hardware", "trace", "overrides", "adaptations", "images", "calibration_images", "jobs", "progress"]
)
def test_adapting_refuses_what_does_not_belong_there(small, name, value):
    with pytest.raises(UsageError, match=f"^{name}: must be "):
        archsim.adapt(**{"hardware": "imc_cnn", "trace": small, name: value})


def test_all_of_a_call_is_said_at_once_and_in_lines():
    with pytest.raises(UsageError) as refused:
        archsim.run(3, b"\n", engine="fast", layers="fc", overrides="pe.count=3", timeline=(0, 1.5))
    assert refused.value.problems == (
        "hardware: must be a path, got 3",
        "trace: must be a path, got b'\\n'",
        "overrides: must be a list of texts, got 'pe.count=3'",
        "engine: must be compiled or reference, got 'fast'",
        "layers: must be a list of texts, or None, got 'fc'",
        "timeline: must be True, False or cycles (from, to), got (0, 1.5)",
    )


def test_numbers_and_lists_of_numpy_are_numbers_and_lists():
    assert arguments.COUNT.fits(np.int64(3))
    assert arguments.TEXTS.fits(np.array(["fc", "conv"]))
    assert not arguments.COUNT.fits(np.float64(3))
    assert not arguments.COUNT.fits(np.int64(0))
    assert yaml_text(np.int64(3)) == "3"
    assert yaml_text([np.float32(0.5), np.bool_(True)]) == "[0.5, true]"
    assert yaml_text(np.arange(2)) == "[0, 1]"
