"""What is saved is what is loaded, and what is not a trace is not saved."""

from __future__ import annotations

import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.errors import TraceError, UsageError
from archsim.trace import Neuron, Operation, Trace, archive, check_trace, load_trace, save_trace
from archsim.trace.operation import PLAIN_KEYS
from tests.small_traces import (
    LABELS,
    attention,
    build,
    contents,
    every_kind,
    every_operation,
    kinds,
    lif,
    long,
    recurrent,
    replaced,
    tiny,
    trained,
    version_2,
)
from tests.twins import trace as twin

OF_VERSION_1 = (
    "vgg9_dual_sparse", "vgg9_dual_sparse_masked", "vgg16_dual_sparse", "vgg16_dual_sparse_masked",
    "vgg9_training_step", "vgg9_training_step_plain", "vgg9_evaluation", "cnn", "vit", "vit_variation_aware",
)  # fmt: skip
README = Path(__file__).parents[3] / "workloads" / "README.md"


def assert_same(one: Trace, other: Trace) -> None:
    assert (one.network, one.timesteps, one.images) == (other.network, other.timesteps, other.images)
    assert one.provenance == other.provenance
    assert one.tensors == other.tensors
    for name in ("calibration", "evaluation"):
        ours, theirs = getattr(one, name), getattr(other, name)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            np.testing.assert_array_equal(ours.images, theirs.images)
            np.testing.assert_array_equal(ours.labels, theirs.labels)
    for name in one.tensors:
        first, second = one.tensor(name), other.tensor(name)
        assert (first.dtype, one.kind(name)) == (second.dtype, other.kind(name))
        assert (one.bits(name), one.scale(name)) == (other.bits(name), other.scale(name))
        np.testing.assert_array_equal(first, second)
    for first, second in zip(one.operations, other.operations, strict=True):
        for key in ("name", "op", "inputs", "output", "m", "n", "k", *set(PLAIN_KEYS) - {"steps"}):
            assert getattr(first, key) == getattr(second, key)
        for key in ("weight", "bias", "gradient_mask", "table", "steps"):
            np.testing.assert_array_equal(getattr(first, key), getattr(second, key))
        for key in ("multiplier", "shift", "bits", "signed"):
            np.testing.assert_array_equal(getattr(first.requantiser, key, None), getattr(second.requantiser, key, None))
        assert (first.neuron is None) == (second.neuron is None)
        if first.neuron is not None and second.neuron is not None:
            np.testing.assert_array_equal(first.neuron.threshold, second.neuron.threshold)
            plain = np.zeros(0, np.int64)
            assert vars(replace(first.neuron, threshold=plain)) | {"threshold": 0} == vars(
                replace(second.neuron, threshold=plain)
            ) | {"threshold": 0}


@pytest.mark.parametrize(
    "trace",
    [
        tiny(),
        tiny(1, timesteps=1, images=1),
        every_operation(),
        every_kind(),
        every_kind(1, timesteps=1),
        trained(),
        attention(),
        version_2(),
        recurrent(),
        long(),
    ],
    ids=[
        "tiny",
        "one",
        "every operation",
        "every kind",
        "every kind once",
        "trained",
        "attention",
        "version 2",
        "recurrent",
        "long",
    ],
)
def test_saved_and_loaded(trace, tmp_path):
    save_trace(trace, tmp_path / "a.npz")
    loaded = load_trace(tmp_path / "a.npz")
    assert_same(trace, loaded)
    assert loaded.sha256 == trace.sha256
    save_trace(loaded, tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "b.npz"]
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32), timesteps=st.integers(1, 16), images=st.integers(1, 3), channels=st.integers(1, 9),
    height=st.integers(1, 7), width=st.integers(1, 7), density=st.floats(0, 1), outputs=st.integers(1, 5),
    reset=st.sampled_from(["hard", "soft", "soft_before_leak", "soft_after_leak"]), masked=st.booleans(),
    subtracts=st.booleans(), at_threshold=st.booleans(), kernel=st.integers(1, 3), stride=st.integers(1, 3),
)  # fmt: skip
def test_any_convolution(
    tmp_path_factory, seed, timesteps, images, channels, height, width, density, outputs, reset, masked, subtracts,
    at_threshold, kernel, stride,
):  # fmt: skip
    generator = np.random.default_rng(seed)
    spikes = generator.random((timesteps, images, channels, height, width)) < density
    weight = generator.integers(-128, 128, (outputs, channels, kernel, kernel), dtype=np.int8)
    neuron = lif(
        outputs, 100, timesteps=timesteps, reset=reset, mask_fire_once=masked, leak_subtracts=subtracts,
        fires_at_threshold=at_threshold,
    )  # fmt: skip
    layer = Operation(
        "a", "conv2d", ("in",), "out", stride=(stride, 1), padding=(1, 1), weight=weight, neuron=neuron,
        bias=generator.integers(-(2**31), 2**31, outputs),
    )  # fmt: skip
    trace = build([layer], {"in": spikes}, timesteps)
    path = tmp_path_factory.mktemp("any") / "trace.npz"
    save_trace(trace, path)
    loaded = load_trace(path)
    assert_same(trace, loaded)
    assert [check.mismatches for check in check_trace(loaded)] == [0]


@settings(max_examples=100, deadline=None)
@given(data=st.data(), timesteps=st.integers(1, 16), images=st.integers(1, 3), features=st.integers(1, 30))
def test_any_kind(tmp_path_factory, data, timesteps, images, features):
    """Any values of any kind come back; what numpy alone reads by the specification is the same."""
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    shape = (timesteps, images, features)
    signed = generator.choice([-1, 0, 1], shape, p=generator.dirichlet([1, 1, 1]))
    times = generator.choice([*range(timesteps), 255], shape[1:])
    bits = data.draw(st.integers(1, 16))
    unsigned = data.draw(st.booleans())
    low, high = (0, 1 << min(bits, 8)) if unsigned else (-(1 << (bits - 1)), 1 << (bits - 1))
    levels = generator.integers(low, high, shape[1:]).astype(np.uint8 if unsigned else np.int16)
    scale = data.draw(st.floats(1e-30, 1e30))
    tensors = {"signed": signed, "times": times, "levels": levels}
    one = np.ones((1, features), np.int8)
    trace = Trace(
        network="any", timesteps=timesteps, tensors=tensors, provenance=LABELS, scales={"levels": scale},
        operations=[Operation(name, "linear", (name,), f"{name}.out", weight=one) for name in tensors],
        kinds={"signed": "signed_spike", "times": "spike_time"}, bits={"levels": min(bits, 8) if unsigned else bits},
    )  # fmt: skip
    path = tmp_path_factory.mktemp("any") / "trace.npz"
    save_trace(trace, path)
    loaded = load_trace(path)
    assert_same(trace, loaded)
    assert loaded.sha256 == trace.sha256
    np.testing.assert_array_equal(loaded.tensor("signed"), signed)
    np.testing.assert_array_equal(loaded.tensor("times"), times)
    np.testing.assert_array_equal(loaded.operand("times"), twin.spikes_of_times(times, timesteps))
    np.testing.assert_array_equal(loaded.tensor("levels"), levels)
    assert loaded.scale("levels") == scale
    with np.load(path, allow_pickle=False) as file:
        assert file["tensor.signed"].size == -(-signed.size // 4)
        np.testing.assert_array_equal(twin.signed_spikes(file["tensor.signed"], shape), signed)
        np.testing.assert_array_equal(file["tensor.times"], times)
    last = loaded.select(images=[images - 1])
    np.testing.assert_array_equal(last.tensor("signed"), signed[:, -1:])
    np.testing.assert_array_equal(last.tensor("times"), times[-1:])


def test_widths():
    trace = every_kind(timesteps=3)
    widths = {"ternary": 2, "times": 2, "positive": 1, "levels": 5, "product.out": 64}
    assert {name: trace.bits(name) for name in widths} == widths
    # As many codes as there are timesteps, and one for never.
    assert [every_kind(timesteps=t).bits("times") for t in (1, 4, 7, 8, 16)] == [1, 3, 3, 4, 5]
    assert (trace.scale("levels"), trace.scale("ternary")) == (0.125, 1.0)
    assert (tiny().bits("pixels"), tiny().scale("pixels")) == (8, 1 / 255)


@pytest.mark.parametrize("name", OF_VERSION_1)
def test_traces_of_version_1_are_what_they_were(name, tmp_path):
    """The committed traces load, and they and a copy have the hash that the tables tell."""
    trace = load_trace(README.parent / f"{name}.npz")
    assert trace.meta.version == 1
    _, *table = README.read_text().split(f"### {name}.npz")
    assert all(f"| sha256 | {trace.sha256} |" in text for text in table)
    save_trace(trace, tmp_path / "copy.npz")
    assert load_trace(tmp_path / "copy.npz").sha256 == trace.sha256


def test_a_trace_can_be_sent_to_another_process(tmp_path):
    save_trace(tiny(), tmp_path / "a.npz")
    trace = load_trace(tmp_path / "a.npz").select(images=[1])
    copy = pickle.loads(pickle.dumps(trace))
    assert_same(trace, copy)


def test_selection(tmp_path):
    whole = tiny(images=3)
    part = whole.select(layers=["fc", "conv2"], images=[2, 0])
    assert [operation.name for operation in part] == ["conv2", "fc"]
    assert part.images == 2
    np.testing.assert_array_equal(part.tensor("conv2.spikes"), whole.tensor("conv2.spikes")[:, [2, 0]])
    np.testing.assert_array_equal(whole.select(images=[1]).tensor("pixels"), whole.tensor("pixels")[[1]])
    assert part.operation("conv2").m == 2 * 15
    assert part.sha256 == whole.sha256
    assert not part.stored("pixels")
    assert all(check.mismatches == 0 for check in check_trace(part))
    save_trace(part, tmp_path / "part.npz")
    saved = load_trace(tmp_path / "part.npz")
    assert_same(saved, part)
    assert saved.sha256 != whole.sha256
    twice = whole.select(images=[2, 1]).select(images=[1])
    np.testing.assert_array_equal(twice.tensor("logits"), whole.tensor("logits")[:, [1]])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"layers": ["conv3"]}, "no layer 'conv3' in small; allowed: conv1, conv2, pool, fc"),
        ({"layers": []}, "got no layer"),
        ({"images": [2]}, "got image 2; small has the images 0 to 1"),
        ({"images": [-1]}, "got image -1"),
        ({"images": []}, "got no image"),
    ],
)
def test_selecting_what_is_not_there(arguments, says):
    with pytest.raises(UsageError, match=says):
        tiny().select(**arguments)


def test_unknown_tensor():
    with pytest.raises(UsageError, match=r"no tensor 'conv1' is stored.*did you mean 'conv1.spikes'"):
        tiny().tensor("conv1")


@pytest.mark.parametrize(("first", "end"), [(-1, 2), (2, 2), (3, 2), (0, 5), (4, None)])
def test_timesteps_that_a_tensor_does_not_have(first, end):
    last = 4 if end is None else end
    with pytest.raises(UsageError, match=f"got timesteps {first} to {last}; small has 0 to 4"):
        tiny().tensor("conv1.spikes", first, end)


def test_weights_of_a_file_cannot_be_written(tmp_path):
    save_trace(tiny(), tmp_path / "a.npz")
    operation = load_trace(tmp_path / "a.npz").operations[0]
    with pytest.raises(ValueError, match="read-only"):
        operation.weight[...] = 0


def test_the_snippet_of_the_specification(tmp_path):
    snippet = README.read_text().split("```python\n")[1].split("```")[0]
    trace = tiny()
    save_trace(trace, tmp_path / "a.npz")
    names: dict = {"path": tmp_path / "a.npz"}
    exec(snippet, names)
    np.testing.assert_array_equal(names["spikes"], trace.tensor("conv1.spikes"))
    np.testing.assert_array_equal(names["weight"], trace.operation("conv2").weight)


def test_every_key_is_specified():
    """The record of a trace has no key that ``workloads/README.md`` does not mention."""
    from archsim.trace import schema

    text = README.read_text()
    records = [getattr(schema, name) for name in dir(schema)]
    keys = {
        key
        for record in records
        if isinstance(record, type) and issubclass(record, schema.Record)
        for key in record.model_fields
    }
    assert {key for key in keys if f"`{key}`" not in text and f'"{key}"' not in text} == set()


def _rebuilt(trace=None, **changes):
    trace = trace or tiny()
    arguments = {
        "network": trace.network, "timesteps": trace.timesteps, "operations": trace.operations,
        "tensors": contents(trace), "provenance": trace.provenance,
    }  # fmt: skip
    return Trace(**(arguments | changes))


def test_every_kind_is_built_again():
    trace = every_kind()
    bits, scales = {"levels": 5}, {"levels": 0.125}
    assert_same(trace, _rebuilt(trace, kinds=kinds(trace), bits=bits, scales=scales))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kinds": {"ternary": "signed"}}, "got 'signed'; allowed: spike, signed_spike, spike_time, int (did you mean"),
        ({"kinds": {"tiems": "spike_time"}}, "tensors.tiems.kind: no such tensor (did you mean 'times'?)"),
        ({"kinds": {"levels": "signed_spike"}}, "tensors.levels: got -16 to 15; allowed: -1, 0 and 1"),
        ({"kinds": {"times": "signed_spike"}}, "got uint8 [2, 3, 3, 5]; allowed: -1, 0 and 1 [T, I, ...] as uint8"),
        ({"kinds": {"levels": "spike_time"}}, "got int64 [3, 2, 3, 3, 5]; allowed: times [I, ...] as integers"),
        ({"kinds": {"positive": "int"}}, "got bool [3, 2, 3, 3, 5]; allowed: [T, I, ...] or [I, ...] as uint8"),
        ({"kinds": {"levels": "spike"}}, "got int64 [3, 2, 3, 3, 5]; allowed: bool [T, I, ...]"),
        ({"bits": {"levels": 4}}, "array 'tensor.levels': does not fit 4 bits, got -16 to 15; allowed: -8 to 7"),
        ({"bits": {"positive": 1}}, "tensors.positive.bits: unknown key"),
        ({"scales": {"ternary": 0.5}}, "tensors.ternary.scale: unknown key"),
    ],
)
def test_building_kinds_that_are_not(changes, says):
    trace = every_kind()
    with pytest.raises(TraceError) as caught:
        _rebuilt(trace, **(changes | {"kinds": kinds(trace) | changes.get("kinds", {})}))
    assert says in str(caught.value)


@pytest.mark.parametrize("time", [-1, 3, 254, 256])
def test_building_times_that_are_none(time):
    trace = every_kind()
    times = trace.tensor("times").astype(int)
    times.flat[7] = time
    with pytest.raises(TraceError, match=f"{time}"):
        _rebuilt(trace, tensors=contents(trace) | {"times": times}, kinds=kinds(trace))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (lambda t: {"timesteps": 3}, "3 timesteps expected, got the shape [4, 2"),
        (lambda t: {"tensors": contents(t) | {"pixels": np.zeros((2, 2, 5, 6))}}, "got float64 [2, 2, 5, 6]; allowed"),
        (lambda t: {"tensors": contents(t) | {"pixels": np.zeros(7, np.uint8)}}, "tensors.pixels: got the shape [7]"),
        (lambda t: {"tensors": contents(t) | {"pixels": t.tensor("pixels")[:1]}}, "the number of images differs"),
        (lambda t: {"tensors": {}}, "images"),
        (lambda t: {"scales": {"pixel": 1.0}}, "tensors.pixel.scale: no such tensor (did you mean 'pixels'?)"),
        (lambda t: {"operations": replaced(t, "conv2", weight=np.ones((5, 3, 3, 3)))}, "weight: integers expected"),
        (lambda t: {"operations": replaced(t, "conv2", weight=np.full((5, 3, 3, 3), 200))}, "got 200 to 200"),
        (lambda t: {"operations": replaced(t, "conv2", weight=None)}, "operations[1].out_channels: missing"),
        (lambda t: {"operations": replaced(t, "conv2", bias=np.zeros(4, int))}, "got int32 [4]; allowed: int32 [5]"),
        (lambda t: {"operations": replaced(t, "conv2", neuron=lif(4))}, "array 'threshold.conv2': got int32 [4]"),
        (lambda t: {"operations": replaced(t, "conv2", neuron=lif(5, 0))}, "must be above zero"),
        (lambda t: {"operations": replaced(t, "conv2", neuron=Neuron("alif", np.ones(5, int)))}, "got 'alif'; allowed"),
        (lambda t: {"operations": replaced(t, "pool", neuron=lif(5))}, "operations[2].neuron: a maximum is what it is"),
        (lambda t: {"provenance": {}}, "provenance.kind: missing"),
        (lambda t: {"provenance": LABELS | {"accurracy": 0.9}}, "did you mean 'accuracy'?"),
    ],
)  # fmt: skip
def test_building_nonsense(changes, says):
    trace = tiny()
    with pytest.raises(TraceError) as caught:
        _rebuilt(trace, **changes(trace))
    assert says in str(caught.value)


def test_one_threshold_for_all_channels():
    trace = tiny()
    changed = replaced(trace, "conv2", neuron=Neuron("lif", 7, 1, 3, mask_fire_once=True))
    assert_same(_rebuilt(trace), _rebuilt(trace, operations=changed))


def test_unwritable(tmp_path):
    with pytest.raises(UsageError, match="cannot be written"):
        save_trace(tiny(), tmp_path / "no" / "folder.npz")
    (tmp_path / "taken.npz").mkdir()
    with pytest.raises(UsageError, match="cannot be written"):
        save_trace(tiny(), tmp_path / "taken.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["taken.npz"]


def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    path.write_bytes(b"old")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("archsim.trace.writing.write_array", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_trace(tiny(), path)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.npz"]


def test_the_directory_is_parsed_once(tmp_path, monkeypatch):
    path, opened = tmp_path / "tiny.npz", []
    save_trace(tiny(), path)
    zip_file = zipfile.ZipFile
    monkeypatch.setattr(zipfile, "ZipFile", lambda *arguments: opened.append(arguments) or zip_file(*arguments))
    trace = load_trace(path)
    assert trace.tensor("conv2.spikes").any()
    assert len(opened) == 1
    again = pickle.loads(pickle.dumps(trace))
    assert (again.tensor("conv2.spikes") == trace.tensor("conv2.spikes")).all()


def test_arrays_that_are_asked_for_again_are_kept_up_to_a_limit(tmp_path, monkeypatch):
    """What was asked for last stays, as the same read-only array; what is larger than all that may stay does not."""
    path = tmp_path / "trace.npz"
    save_trace(tiny(), path)
    arrays = load_trace(path).arrays
    names = sorted(arrays, key=lambda name: arrays[name].nbytes)
    sizes = {name: arrays[name].nbytes for name in names}
    monkeypatch.setattr(archive, "KEPT_BYTES", sizes[names[-1]])
    arrays = load_trace(path).arrays
    largest, small = names[-1], next(name for name in names if sizes[name])
    first = arrays[largest]
    assert arrays[largest] is first and not first.flags.writeable
    second = arrays[small]
    assert arrays[small] is second
    assert arrays[largest] is not first and np.array_equal(arrays[largest], first), "it had to make room"
    monkeypatch.setattr(archive, "KEPT_BYTES", sizes[largest] - 1)
    arrays = load_trace(path).arrays
    assert arrays[largest] is not arrays[largest]
    copied = pickle.loads(pickle.dumps(arrays))
    assert np.array_equal(copied[largest], first)
