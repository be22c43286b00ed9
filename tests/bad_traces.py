"""Trace files that are wrong, one fault each. Not written with ``archsim``, which would refuse to."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import shutil
import struct
import warnings
import zipfile
from pathlib import Path

import numpy as np

from archsim.trace import save_trace
from tests.small_traces import attention, every_kind, long, recurrent, tiny, trained, version_2


class Raw:
    """A trace as plain JSON and arrays, to be spoilt."""

    def __init__(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as file:
            self.arrays = {name: file[name] for name in file.files if name != "meta"}
            self.meta = json.loads(file["meta"].tobytes())

    def sealed(self) -> bytes:
        """The record with a hash that fits the contents, so that only the fault is wrong."""
        meta = {key: value for key, value in self.meta.items() if key != "sha256"}
        digest = hashlib.sha256(json.dumps(meta, sort_keys=True, separators=(",", ":")).encode())
        for name in sorted(self.arrays):
            array = self.arrays[name]
            if not array.dtype.hasobject:
                digest.update(f"{name} {array.dtype.name} {list(array.shape)}\n".encode())
                digest.update(np.ascontiguousarray(array).tobytes())
        return json.dumps(meta | {"sha256": digest.hexdigest()}).encode()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def write(path: Path, meta: bytes, arrays: dict[str, np.ndarray]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("meta.npy", npy(np.frombuffer(meta, np.uint8)))
        for name, array in arrays.items():
            archive.writestr(f"{name}.npy", npy(array))


def _set(path, value):
    """A change of the record: ``value`` at a path such as ``operations.1.kernel``."""

    def change(raw):
        *parents, last = path.split("/")
        target = raw.meta
        for key in parents:
            target = target[int(key)] if isinstance(target, list) else target[key]
        target[int(last) if isinstance(target, list) else last] = value

    return change


def _drop(path):
    def change(raw):
        *parents, last = path.split("/")
        target = raw.meta
        for key in parents:
            target = target[int(key)] if isinstance(target, list) else target[key]
        del target[last]

    return change


def _array(name, change_array):
    def change(raw):
        raw.arrays[name] = change_array(raw.arrays[name])

    return change


def _new_array(name, array):
    return lambda raw: raw.arrays.update({name: array})


def _without_array(name):
    return lambda raw: raw.arrays.pop(name)


def _with(array, place, value):
    array = array.copy()
    array[place] = value
    return array


def _swapped(raw):
    raw.meta["operations"][:2] = raw.meta["operations"][1::-1]


def _huge_sums(raw):
    raw.meta["operations"][0]["neuron"]["fraction_bits"] = 60


CHANGES = {
    # name: (what is changed, what the message must say)
    "wrong format": (_set("format", "tracesim"), "format: wrong format of trace, got 'tracesim'"),
    "no format": (_drop("format"), "format: wrong format of trace, got nothing"),
    "wrong version": (_set("version", 3), "version: wrong version of trace, got 3; allowed: 1 or 2"),
    "version as text": (_set("version", "1"), "version: wrong version"),
    "version true": (_set("version", True), "version: wrong version of trace, got True"),
    "no timesteps": (_drop("timesteps"), "timesteps: missing"),
    "T = 0": (_set("timesteps", 0), "timesteps: input should be greater than or equal to 1, got 0"),
    "T = 1025": (_set("timesteps", 1025), "timesteps: input should be less than or equal to 1024, got 1025"),
    "T = 99 in version 1": (_set("timesteps", 99), "timesteps: came with version 2, but the record is of version 1"),
    "T as text": (_set("timesteps", "4"), "timesteps: input should be a valid integer, got '4'"),
    "T = 5 but stored 3": (_set("timesteps", 5), "array 'tensor.conv1.spikes'"),
    "images 0": (_set("images", 0), "images: input should be greater than or equal to 1, got 0"),
    "images negative": (_set("images", -1), "images: input should be"),
    "images 3 but stored 1": (_set("images", 3), "array 'tensor.logits'"),
    "absurd shape": (_set("tensors/pixels/shape", [1 << 18, 1 << 18, 1 << 18]), "values in one array; allowed"),
    "shape beyond any limit": (_set("tensors/pixels/shape", [1 << 70, 5, 6]), "tensors.pixels.shape[0]"),
    "shape with zero": (_set("tensors/pixels/shape", [0, 5, 6]), "tensors.pixels.shape[0]: input should be"),
    "shape of two": (_set("tensors/pixels/shape", [5, 6]), "a shape is [C, H, W] or [F], got"),
    "shape as text": (_set("tensors/pixels/shape", "2x5x6"), "tensors.pixels.shape"),
    "shape with a fraction": (_set("tensors/pixels/shape", [2, 5, 6.5]), "tensors.pixels.shape[2]"),
    "unknown key": (_set("timestep", 4), "timestep: unknown key (did you mean 'timesteps'?)"),
    "unknown key of an operation": (
        _set("operations/1/strides", [1, 1]), "operations[1].strides: unknown key (did you mean 'stride'?)"),
    "unknown key of a neuron": (
        _set("operations/1/neuron/leak", 1), "operations[1].neuron.leak: unknown key (did you mean 'leak_shift'?)"),
    "unknown op": (
        _set("operations/1/op", "conv2"), "operations[1].op: unknown, got 'conv2'; allowed: 'conv2d'"),
    "op of the wrong type": (_set("operations/1/op", 7), "operations[1].op"),
    "no op": (_drop("operations/1/op"), "operations[1].op: missing"),
    "no operations": (_set("operations", []), "operations"),
    "operations as object": (_set("operations", {"a": 1}), "operations"),
    "null operation": (_set("operations/1", None), "operations[1]"),
    "name with a path": (_set("operations/1/name", "../../etc"), "operations[1].name"),
    "two operations of one name": (_set("operations/1/name", "conv1"), "two operations have the name 'conv1'"),
    "two writers": (_set("operations/1/output", "conv1.spikes"), "is written by an earlier operation too"),
    "stride 0": (_set("operations/1/stride", [0, 1]), "operations[1].stride[0]"),
    "negative padding": (_set("operations/1/padding", [-1, 1]), "operations[1].padding[0]"),
    "kernel larger than the input": (
        _set("operations/1/kernel", [9, 3]), "operations[1].kernel: 9 is larger than the padded input, 7"),
    "kernel of one number": (_set("operations/1/kernel", 3), "operations[1].kernel"),
    "kernel unlike the weights": (_set("operations/1/kernel", [1, 3]), "tensors.conv2.spikes.shape"),
    "inconsistent channels": (_set("operations/1/out_channels", 6), "writes [6, 5, 3], got [5, 5, 3]"),
    "inconsistent K": (_set("tensors/pool.spikes/shape", [5, 2, 2]), "writes [5, 2, 1], got [5, 2, 2]"),
    "weights for another K": (
        _array("weight.fc", lambda a: np.zeros((4, 11), np.int8)), "array 'weight.fc'"),
    "input that does not exist": (
        _set("operations/1/inputs", ["conv1.spike"]), "and what is read must be; stored: pixels, conv1.spikes"),
    "input that is written later": (_swapped, "is not defined yet: 'conv1' writes it later"),
    "an operation that reads its output": (
        _set("operations/2/inputs", ["pool.spikes"]), "operation 'pool' reads its own output"),
    "no inputs": (_set("operations/1/inputs", []), "operations[1].inputs"),
    "two inputs of a convolution": (
        _set("operations/1/inputs", ["conv1.spikes", "pixels"]), "conv2d reads 1 tensors, got 2"),
    "convolution of features": (
        lambda raw: (
            raw.meta["tensors"]["logits"].update(shape=[4]), raw.meta["operations"].append(
                {"name": "x", "op": "pool", "inputs": ["logits"], "output": "y", "kernel": [1, 1]})),
        "pool reads [C, H, W], got the shape [4]"),
    "padding beyond measure": (
        lambda raw: raw.meta["operations"].append(
            {"name": "x", "op": "conv2d", "inputs": ["pixels"], "output": "y", "kernel": [1, 1], "out_channels": 1,
             "padding": [20_000, 0]}),
        "operations[4].padding: must be at most the kernel and the input, 1 + 5, got 20000"),
    "windows beyond measure": (
        lambda raw: (
            raw.meta["tensors"].update(wide={"kind": "spike", "shape": [1, 1024, 1024]}),
            raw.arrays.update({"tensor.wide": np.zeros(3 * 2**17, np.uint8)}),
            raw.meta["operations"].append(
                {"name": "x", "op": "pool", "inputs": ["wide"], "output": "y", "kernel": [1024, 1024],
                 "padding": [512, 512]})),
        # 3 timesteps, 1025 x 1025 outputs, each of 1024 x 1024 values
        f"{3 * 1025**2 * (1024**2 + 1):,} of them 'x'; allowed: at most 16,777,216 for a file of "),
    "outer product beyond measure": (
        lambda raw: (
            raw.meta["tensors"].update(wide={"kind": "spike", "shape": [1, 1, 5000]}),
            raw.arrays.update({"tensor.wide": np.zeros(3 * 625, np.uint8)}),
            raw.meta["operations"].append(
                {"name": "x", "op": "matmul", "inputs": ["wide", "wide"], "output": "y", "transpose": True})),
        f"{3 * (10_000 + 25_000_000 + 25_000_000 // 64):,} of them 'x'"),
    "unrolling beyond measure": (
        lambda raw: raw.meta["operations"].append(
            {"name": "x", "op": "conv2d", "inputs": ["pixels"], "output": "y", "kernel": [1000, 1000],
             "out_channels": 1, "padding": [1005, 1003]}), "operations[4]: reads "),
    "network of two lines": (_set("network", "a\naccelerator: evil"), "network: must hold no control characters"),
    "network of colours": (_set("network", "\x1b[31mred"), "network: must hold no control characters"),
    "source of two lines": (_set("provenance/source", "a\nb"), "provenance.source: must hold no control characters"),
    "many unknown keys": (
        lambda raw: raw.meta.update({f"k{i}": i for i in range(20_000)}), "meta: and 19,950 more problems"),
    "tensor of no use": (
        _set("tensors/lonely", {"kind": "spike", "shape": [3]}), "tensors.lonely: no operation reads or writes it"),
    "unknown kind": (_set("tensors/pixels/kind", "spikes"), "tensors.pixels.kind: unknown, got 'spikes'"),
    "unknown dtype": (_set("tensors/pixels/dtype", "float32"), "tensors.pixels.dtype: got 'float32'; allowed: 'uint8'"),
    "spikes that are integers": (_set("operations/1/neuron", None), "writes 'int', got 'spike'"),
    "missing array": (_without_array("weight.conv2"), "array 'weight.conv2' is missing"),
    "missing threshold": (_without_array("threshold.conv2"), "array 'threshold.conv2' is missing"),
    "extra array": (_new_array("surprise", np.zeros(3)), "array 'surprise' is not in the record"),
    "object array": (
        _array("weight.conv2", lambda a: a.astype(object)), "array 'weight.conv2'"),
    "real weights": (_array("weight.conv2", lambda a: a.astype(np.float32)), "array 'weight.conv2'"),
    "NaN weights": (_array("weight.conv2", lambda a: np.full(a.shape, np.nan)), "array 'weight.conv2'"),
    "wrong dtype of the same size": (
        _array("weight.conv2", lambda a: a.view(np.uint8)), "got uint8 [5, 3, 3, 3]; allowed: int8 [5, 3, 3, 3]"),
    "real thresholds": (
        _array("threshold.conv2", lambda a: a.astype(np.float32)), "got float32 [5]; allowed: int32 [5]"),
    "big-endian thresholds": (
        _array("threshold.conv2", lambda a: a.astype(">i4")), "array 'threshold.conv2'"),
    "wrong shape of the same size": (
        _array("weight.conv2", lambda a: a.reshape(3, 5, 3, 3)), "got int8 [3, 5, 3, 3]; allowed: int8 [5, 3, 3, 3]"),
    "Fortran order": (
        _array("weight.conv2", lambda a: np.asfortranarray(a)), "in Fortran order"),
    "wrong shape": (_array("weight.conv2", lambda a: a[:, :, :2]), "array 'weight.conv2'"),
    "spikes not packed": (
        _array("tensor.conv2.spikes", lambda a: np.unpackbits(a)), "array 'tensor.conv2.spikes'"),
    "spikes that are 2": (
        _array("tensor.conv2.spikes", lambda a: np.full(8 * a.size, 2, np.uint8)), "array 'tensor.conv2.spikes'"),
    "bits after the last spike": (
        _array("tensor.conv2.spikes", lambda a: _with(a, -1, 0x80)),
        "the 7 bits after the last spike must be zero, got 0x80"),
    "threshold 0": (
        _array("threshold.conv2", lambda a: _with(a, 3, 0)), "must be above zero, got 0 for channel 3"),
    "threshold below 0": (
        _array("threshold.conv2", lambda a: _with(a, 3, -7)), "must be above zero, got -7 for channel 3"),
    "weights of more bits": (
        _set("operations/1/weight", {"bits": 3, "scale": 1.0}), "does not fit 3 bits"),
    "9-bit weights": (_set("operations/1/weight", {"bits": 9}), "operations[1].weight.bits"),
    "leak_shift out of range": (_set("operations/1/neuron/leak_shift", 9), "operations[1].neuron.leak_shift"),
    "leak_shift negative": (_set("operations/1/neuron/leak_shift", -1), "operations[1].neuron.leak_shift"),
    "IF that subtracts a leak": (
        lambda raw: raw.meta["operations"][1]["neuron"].update(kind="if", leak_shift=0, leak_subtracts=True),
        "operations[1].neuron.leak_subtracts: an IF neuron has no leak",
    ),
    "LIF without leak": (_set("operations/1/neuron/leak_shift", 0), "a LIF neuron leaks, got 0; allowed: 1 to 8"),
    "IF with leak": (_set("operations/1/neuron/kind", "if"), "an IF neuron has no leak, got 1; allowed: 0"),
    "unknown reset": (
        _set("operations/1/neuron/reset", "firm"),
        "operations[1].neuron.reset: got 'firm'; allowed: 'hard', 'soft', 'soft_before_leak', 'soft_after_leak' or "
        "'none'",
    ),
    "sums beyond 64 bits": (_huge_sums, "and overflow 64 bits"),
    "accuracy in percent": (_set("provenance/accuracy", 91.3), "provenance.accuracy"),
    "provenance missing": (_drop("provenance"), "provenance: missing"),
    "provenance unknown": (_set("provenance/kind", "real"), "provenance.kind: got 'real'; allowed: 'trained'"),
    "scale 0": (_set("tensors/pixels/scale", 0.0), "tensors.pixels.scale"),
    "scale infinite": (_set("tensors/pixels/scale", 10**400), "tensors.pixels.scale"),
    "pixels of more bits": (_set("tensors/pixels/bits", 7), "array 'tensor.pixels': does not fit 7 bits, got"),
    "bits beyond the dtype": (_set("tensors/pixels/bits", 9), "tensors.pixels.bits: got 9; allowed: 1 to 8 for uint8"),
    "0 bits": (_set("tensors/pixels/bits", 0), "tensors.pixels.bits: input should be greater than or equal to 1"),
    "65 bits": (_set("tensors/pixels/bits", 65), "tensors.pixels.bits: input should be less than or equal to 64"),
    "bits as text": (_set("tensors/pixels/bits", "8"), "tensors.pixels.bits: input should be a valid integer"),
    "bits of spikes": (_set("tensors/conv1.spikes/bits", 1), "tensors.conv1.spikes.bits: unknown key"),
    "real numbers": (_set("tensors/pixels/kind", "real"), "tensors.pixels.kind: unknown, got 'real'; allowed: 'spike'"),
}  # fmt: skip


KIND_CHANGES = {
    # as above, of the trace that has every kind of tensor
    "unused code of a signed spike": (
        _array("tensor.ternary", lambda a: _with(a, 3, 0b00_10_01_11)),
        "got the signed spike 10; allowed: 00, 01 and 11 for 0, 1 and -1"),
    "bits after the last signed spike": (
        _array("tensor.ternary", lambda a: _with(a, -1, 0x10)),
        "the 4 bits after the last spike must be zero, got 0x10"),
    "signed spikes cut short": (_array("tensor.ternary", lambda a: a[:-1]), "array 'tensor.ternary': got uint8 [67]"),
    "signed spikes not packed": (
        _array("tensor.ternary", lambda a: np.zeros((3, 2, 3, 3, 5), np.int8)), "got int8 [3, 2, 3, 3, 5]; allowed"),
    "signed spikes as spikes": (
        _set("tensors/positive/kind", "signed_spike"), "array 'tensor.positive': got uint8 [34]; allowed: uint8 [68]"),
    "signed spikes of a dtype": (_set("tensors/ternary/dtype", "int8"), "tensors.ternary.dtype: unknown key"),
    "misspelt signed spikes": (
        _set("tensors/ternary/kind", "signed_spikes"), "got 'signed_spikes'; allowed: 'spike', 'signed_spike'"),
    "signed spikes behind a neuron": (
        _set("tensors/a.out/kind", "signed_spike"), "writes 'spike' or 'spike_time', got 'signed_spike'"),
    "spike time T": (
        _array("tensor.times", lambda a: _with(a, (1, 2, 0, 3), 3)),
        "array 'tensor.times': got the time 3; allowed: 0 to 2, and 255 for never"),
    "spike time 254": (_array("tensor.b.out", lambda a: _with(a, (0, 0, 0, 0), 254)), "got the time 254; allowed"),
    "spike times with a sign": (_array("tensor.times", lambda a: a.view(np.int8)), "got int8 [2, 3, 3, 5]; allowed"),
    "spike times of 16 bits": (_array("tensor.times", lambda a: a.astype(np.uint16)), "got uint16 [2, 3, 3, 5]"),
    "spike times that change in time": (
        _array("tensor.times", lambda a: np.stack([a] * 3)), "got uint8 [3, 2, 3, 3, 5]; allowed"),
    "spike times per timestep": (_set("tensors/times/per_timestep", True), "tensors.times.per_timestep: unknown key"),
    "spike times behind no neuron": (
        _set("tensors/c.out", {"kind": "spike_time", "shape": [2]}), "operation 'c' writes 'int', got 'spike_time'"),
    "earliest times as spikes": (
        _set("tensors/earliest.out/kind", "spike"), "operation 'earliest' writes 'spike_time', got 'spike'"),
    "times and spikes together": (
        _set("operations/7/inputs", ["times", "a.out"]), "needs inputs of one kind, got ['spike', 'spike_time']"),
    "sum of spike times": (
        _set("operations/8/inputs", ["ternary", "times"]),
        "operations[8].inputs[1]: add cannot read spike times, got 'times'; allowed: conv2d, linear, pool, concat"),
    "product of spike times": (
        _set("operations/9/inputs", ["times", "levels"]), "operations[9].inputs[0]: matmul cannot read spike times"),
    "masked spike times": (
        _set("operations/1/neuron/mask_fire_once", True), "mask_fire_once: neurons with a spike time fire once"),
    "levels of more bits": (
        _set("tensors/levels/bits", 4), "array 'tensor.levels': does not fit 4 bits, got -16 to 15; allowed: -8 to 7"),
}  # fmt: skip


GRADIENT_CHANGES = {
    # as above, of the trace of a step of training; conv2 has 3 x 75 = 225 neurons and timesteps, in 29 bytes
    "bits after the last gradient": (
        _array("gradient.conv2", lambda a: _with(a, -1, 0x80)),
        "array 'gradient.conv2': the 7 bits after the last gradient must be zero, got 0x80"),
    "missing gradient mask": (_without_array("gradient.conv2"), "array 'gradient.conv2' is missing"),
    "gradient mask of nothing": (
        _new_array("gradient.conv3", np.zeros(29, np.uint8)), "array 'gradient.conv3' is not in the record"),
    "gradient mask not announced": (
        _drop("operations/1/gradient_mask"), "array 'gradient.conv2' is not in the record"),
    "gradient mask false": (
        _set("operations/1/gradient_mask", False), "operations[1].gradient_mask: must be true or left out, got False"),
    "gradient mask as text": (
        _set("operations/1/gradient_mask", "yes"), "gradient_mask: input should be a valid boolean, got 'yes'"),
    "gradient mask 1": (_set("operations/1/gradient_mask", 1), "gradient_mask: input should be a valid boolean, got 1"),
    "gradient mask misspelt": (
        _set("operations/1/gradient_masks", True), "unknown key (did you mean 'gradient_mask'?)"),
    "gradient mask of a pool": (
        _set("operations/2/gradient_mask", True), "operations[2].gradient_mask: unknown key"),
    "gradient mask not packed": (
        _array("gradient.conv2", lambda a: np.unpackbits(a)), "array 'gradient.conv2': got uint8 [232]; allowed"),
    "gradient mask cut short": (
        _array("gradient.conv2", lambda a: a[:-1]), "array 'gradient.conv2': got uint8 [28]; allowed: uint8 [29]"),
    "gradient mask with a sign": (
        _array("gradient.conv2", lambda a: a.view(np.int8)), "got int8 [29]; allowed: uint8 [29]"),
    "gradient mask of booleans": (_array("gradient.conv2", lambda a: a != 0), "got bool [29]; allowed: uint8 [29]"),
    "gradient mask in a later version": (
        _set("version", 3), "version: wrong version of trace, got 3; allowed: 1 or 2"),
    "real gradients": (
        _array("gradient.conv2", lambda a: np.zeros((3, 1, 5, 5, 3), np.float32)), "array 'gradient.conv2'"),
    "gradient mask flipped": (
        lambda raw: raw.arrays.update({"gradient.fc": ~raw.arrays["gradient.fc"]}),
        "the 4 bits after the last gradient must be zero"),
}  # fmt: skip


ATTENTION_CHANGES = {
    # as above, of the trace without spikes: 0 patches, 1 embed, 2 norm, 3-5 conv2d, 6 scores, 7 shares, 8 mix, 9, 10 fc
    "requantiser without multipliers": (
        _without_array("multiplier.patches"), "array 'multiplier.patches' is missing"),
    "multipliers without a requantiser": (
        _set("operations/0/requantiser", None), "array 'multiplier.patches' is not in the record"),
    "multipliers of 64 bits": (
        _array("multiplier.patches", lambda a: a.astype(np.int64)), "got int64 [4]; allowed: int32 [4]"),
    "multipliers for another N": (
        _array("multiplier.scores", lambda a: a[:5]), "array 'multiplier.scores': got int32 [5]; allowed: int32 [6]"),
    "requantiser of 17 bits": (
        _set("operations/0/requantiser/bits", 17), "requantiser.bits: input should be less than or equal to 16"),
    "requantiser of 1 bit": (
        _set("operations/0/requantiser/bits", 1), "requantiser.bits: input should be greater than or equal to 2"),
    "shift of 63": (_set("operations/0/requantiser/shift", 63), "requantiser.shift: input should be less than"),
    "shift to the left": (_set("operations/0/requantiser/shift", -1), "requantiser.shift: input should be greater"),
    "requantiser without a sign": (_drop("operations/0/requantiser/signed"), "requantiser.signed: missing"),
    "requantiser misspelt": (
        _set("operations/0/requantizer", {"shift": 1, "bits": 8, "signed": True}),
        "unknown key (did you mean 'requantiser'?)"),
    "requantiser of a pool": (
        lambda raw: raw.meta["operations"].append(
            {"name": "x", "op": "pool", "inputs": ["mix.out"], "output": "y", "kernel": [1, 1],
             "requantiser": {"shift": 1, "bits": 8, "signed": True}}),
        "operations[11].requantiser: came with version 2"),
    "neuron and requantiser": (
        _set("operations/0/neuron", {"kind": "if"}), "operations[0].requantiser: neurons write the output"),
    "requantised beyond the tensor": (
        _set("tensors/hidden.out/bits", 4), "operation 'hidden' writes 0 to 31, got room for -8 to 7"),
    "requantised products beyond 64 bits": (
        lambda raw: (
            raw.meta["tensors"]["positions"].update(dtype="int64"),
            raw.arrays.update({"tensor.positions": np.full((2, 4, 3, 2), 1 << 62)})),
        "the sums of 'embed' could reach "),
    "shares beyond the tensor": (
        _set("tensors/shares.out/bits", 8), "operation 'shares' writes 0 to 255, got room for -128 to 127"),
    "softmax without a table": (_without_array("table.shares"), "array 'table.shares' is missing"),
    "table of 255": (
        _array("table.shares", lambda a: a[:255]), "array 'table.shares': got uint16 [255]; allowed: uint16 [256]"),
    "table that starts at zero": (
        _array("table.shares", lambda a: _with(a, 0, 0)), "the largest input must have a share, got 0 at 0"),
    "table with a sign": (_array("table.shares", lambda a: a.view(np.int16)), "got int16 [256]; allowed: uint16 [256]"),
    "softmax of two": (
        _set("operations/7/inputs", ["scores.out", "scores.out"]), "softmax reads 1 tensors, got 2"),
    "softmax of features": (
        lambda raw: raw.meta["operations"].append(
            {"name": "x", "op": "softmax", "inputs": ["logits"], "output": "y"}),
        "operations[11].inputs: softmax reads [C, H, W], got the shape [3]"),
    "softmax with a requantiser": (
        _set("operations/7/requantiser", {"shift": 1, "bits": 8, "signed": True}), "requantiser: unknown key"),
    "layer norm without a requantiser": (_drop("operations/2/requantiser"), "operations[2].requantiser: missing"),
    "layer norm without its bias": (_without_array("bias.norm"), "array 'bias.norm' is missing"),
    "squares beyond 64 bits": (
        lambda raw: (
            raw.meta["tensors"]["embed.out"].update(dtype="int64"),
            raw.arrays.update({"tensor.embed.out": _with(raw.arrays["tensor.embed.out"], (0, 0, 0, 0, 0), 2**30)})),
        "the sums of 'norm' could reach "),
    "image set without images": (_without_array("evaluation.images"), "array 'evaluation.images' is missing"),
    "image set without labels": (_without_array("evaluation.labels"), "array 'evaluation.labels' is missing"),
    "image set not announced": (_drop("evaluation_images"), "array 'evaluation.images' is not in the record"),
    "image set of another size": (
        _set("evaluation_images", 6), "array 'evaluation.images': got uint8 [5, 1, 3, 4]; allowed: uint8 [6, 1, 3, 4]"),
    "empty image set": (_set("evaluation_images", 0), "evaluation_images: input should be greater than or equal to 1"),
    "image set beyond measure": (
        _set("evaluation_images", 1 << 20), "evaluation.images"),
    "images of other pixels": (
        _array("calibration.images", lambda a: a[:, :, :2]), "'calibration.images': got uint8 [3, 1, 2, 4]; allowed"),
    "label of no class": (
        _array("evaluation.labels", lambda a: _with(a, 2, 3)), "'evaluation.labels': got 3; allowed: 0 to 2"),
    "label below zero": (_array("evaluation.labels", lambda a: _with(a, 2, -1)), "got -1; allowed: 0 to 2"),
    "labels of 8 bits": (_array("evaluation.labels", lambda a: a.astype(np.uint8)), "allowed: int64 [5]"),
    "constant that differs between images": (
        _array("tensor.positions", lambda a: _with(a, (1, 0, 0, 0), 7)),
        "array 'tensor.positions': differs between images; a network with image sets reads constants"),
    "image set for pixels with a sign": (
        lambda raw: (
            raw.meta["tensors"]["pixels"].update(dtype="int16"),
            raw.arrays.update({"tensor.pixels": raw.arrays["tensor.pixels"].astype(np.int16)})),
        "calibration_images: the images of a set are integers uint8 [I, C, H, W] that do not change in time; the "
        "network reads 'pixels' first, int16"),
}  # fmt: skip


def _operation(name, **changes):
    """A change of keys of the operation ``name``; None removes one."""

    def change(raw):
        record = next(record for record in raw.meta["operations"] if record["name"] == name)
        record.update(changes)
        for key in [key for key, value in changes.items() if value is None]:
            del record[key]

    return change


def _added(op, inputs=("spikes",), **keys):
    """A further operation, of an output that is not stored."""
    record = {"name": "more", "op": op, "inputs": list(inputs), "output": "more.out", **keys}
    return lambda raw: raw.meta["operations"].append(record)


def _of_version_1(raw):
    raw.meta["version"] = 1


def _many_delays(raw):
    """Two thousand delays, each of the one behind it, and the last of the first."""
    for i in range(2_000):
        name = {"kind": "spike", "shape": [8]}
        raw.meta["tensors"][f"d{i}"] = name
        raw.arrays[f"tensor.d{i}"] = np.zeros(3, np.uint8)
        raw.meta["operations"].append(
            {"name": f"d{i}", "op": "delay", "inputs": [f"d{(i + 1) % 2_000}"], "output": f"d{i}", "steps": 0}
        )


MORE_CHANGES = {
    # Of ``version_2``: operations and keys that came with version 2.
    "version 1 that is 2": (_of_version_1, "operations[0].groups: came with version 2, but the record is of version 1"),
    "neurons that rest for ever": (
        _set("operations/0/neuron/refractory", 1024), "operations[0].neuron.refractory: input should be less"),
    "neurons that rest by text": (_set("operations/0/neuron/refractory", "2"), "refractory: input should be a va"),
    "neurons that fire signs": (
        _set("operations/0/neuron/fires", "signs"), "operations[0].neuron.fires: got 'signs'; allowed: 'spike'"),
    "neurons that fire endless numbers": (
        lambda raw: raw.meta["operations"][0]["neuron"].update(fires="integer", most=40_000),
        "operations[0].neuron.most: input should be less than or equal to 32767, got 40000"),
    "a current without a leak": (
        _set("operations/0/neuron/current_shift", 3), "array 'current_multiplier.depthwise' is missing"),
    "a neuron's key misspelt": (_set("operations/0/neuron/refactory", 2), "neuron.refactory: unknown key (did"),
    "groups of text": (_operation("depthwise", groups="4"), "operations[0].groups: input should be a valid integer"),
    "no groups": (_operation("depthwise", groups=0), "operations[0].groups: input should be greater than or equal to "),
    "groups that divide no channels": (
        _operation("depthwise", groups=3), "operations[0].groups: must divide the input channels, 4, got 3"),
    "groups that divide no outputs": (
        _operation("larger", groups=4), "operations[1].groups: must divide the output channels, 2, got 4"),
    "fewer groups than weights": (
        _operation("depthwise", groups=2), "array 'weight.depthwise': got int8 [4, 1, 2, 2]; allowed: int8 [4, 2, 2, "),
    "dilation of one number": (_operation("depthwise", dilation=2), "operations[0].dilation"),
    "dilation 0": (_operation("depthwise", dilation=[1, 0]), "operations[0].dilation[1]: input should be greater"),
    "dilation beyond the input": (
        _operation("depthwise", dilation=[1, 1 << 20]), "operations[0].kernel: 1048577 is larger than the padded inpu"),
    "input dilation beyond measure": (
        _operation("larger", input_dilation=[1 << 20, 1 << 20]), "operations[1]: writes "),
    "input dilation with long strides": (
        _operation("larger", input_dilation=[1 << 20, 1 << 20], stride=[1 << 20, 1 << 20]),
        "tensors.larger.out.shape: operation 'larger' writes [2, 3, 4], got"),
    "padding of three": (
        _operation("larger", padding=[1, 2, 3]),
        "operations[1].padding: padding is [rows, columns] or [top, bottom, left, right], got [1, 2, 3]"),
    "padding of one side below zero": (_operation("larger", padding=[2, -1, 1, 2]), "operations[1].padding[1]: input"),
    "padding of one side beyond measure": (
        _operation("larger", padding=[2, 1, 1, 20_000]), "operations[1].padding: must be at most the kernel and the i"),
    "mean of a window": (_operation("average", reduction="mean"), "operations[2].reduction: got 'mean'; allowed: 'max"),
    "maximum with neurons": (
        _operation("average", reduction="max"), "operations[2].neuron: a maximum is what it is; allowed: with the red"),
    "factor of one number": (_operation("twice", factor=2), "operations[3].factor"),
    "factor 0": (_operation("twice", factor=[2, 0]), "operations[3].factor[1]: input should be greater"),
    "factor beyond measure": (_operation("twice", factor=[1 << 20, 1 << 20]), "operations[3]: writes 52,776,558,133,2"),
    "upsampling of features": (
        _added("upsample", ["counts.flat"], factor=[1, 1]), "tensor 'counts.flat' is not stored"),
    "slice of a fourth axis": (_operation("cut", axis=3), "operations[4].axis: input should be less than or equal to "),
    "slice by name": (_operation("cut", axis="rows"), "operations[4].axis: input should be a valid integer"),
    "slice of nothing": (
        _operation("cut", stop=1), "operations[4].stop: must be above start, 1, and at most the size, 4, got 1"),
    "slice beyond the end": (_operation("cut", stop=5), "operations[4].stop: must be above start, 1, and at most"),
    "slice without an end": (_operation("cut", stop=None), "operations[4].stop: missing"),
    "reduction of rows": (_operation("chosen", axis="rows"), "operations[5].axis: got 'rows'; allowed: 'channels' or"),
    "reduction in groups that do not divide": (
        _operation("chosen", groups=3), "operations[5].groups: must divide the channels, 4, got 3"),
    "groups of positions": (
        _operation("counts", groups=2), "operations[10].groups: are of channels, got 2 and the axis 'positions'"),
    "factor that does not fit": (
        _operation("masked", inputs=["spikes", "average.out"]),
        "operations[6].inputs: the second does not fit the first, got [4, 3, 4], [4, 2, 2]; allowed: a divisor of the"),
    "product of one": (_operation("masked", inputs=["spikes"]), "operations[6].inputs: multiply reads 2 tensors, got "),
    "heads that do not divide": (
        _operation("context", heads=3), "operations[7].heads: must divide the channels, 4, got 3"),
    "heads of text": (_operation("context", heads=True), "operations[7].heads: input should be a valid integer, got T"),
    "other lengths of heads": (
        _operation("attended", heads=4), "operations[8].inputs: inner lengths differ, got 1 and 2"),
    "first matrix not turned": (
        _operation("context", transpose_first=False), "operations[7].inputs: inner lengths differ, got 2 and 12"),
    "turned by a number": (_operation("context", transpose_first=1), "operations[7].transpose_first: input should be "),
    "view of other values": (
        _operation("shuffled", view=[2, 2, 3, 5]), "operations[9].view: must have the 48 values of the input, got [2,"),
    "view of endless values": (
        _operation("shuffled", view=[1 << 20] * 16), "operations[9].view: must have the 48 values of the input, got ["),
    "view of many axes": (
        _operation("shuffled", view=[1] * 17), "operations[9].view: tuple should have at most 16 items"),
    "order with an axis twice": (
        _operation("shuffled", order=[0, 0, 2, 3]), "operations[9].order: must have each axis of the view, 0 to 3, on"),
    "order of another view": (_operation("shuffled", order=[1, 0]), "operations[9].order: must have each axis of the "),
    "shape of other values": (
        _operation("shuffled", shape=[4, 3, 5]), "operations[9].shape: must have the 48 values of the input, got [4, "),
    "shape of two axes": (_operation("shuffled", shape=[4, 12]), "operations[9].shape: a shape is [C, H, W] or [F], g"),
    "key of another operation": (_operation("masked", heads=2), "operations[6].heads: unknown key"),
    "product that is an integer": (
        lambda raw: raw.meta["tensors"]["masked.out"].update(kind="signed_spike"),
        "operation 'masked' writes 'spike', got 'signed_spike'"),
    "spike times that are added": (
        lambda raw: (
            raw.meta["tensors"].update(times={"kind": "spike_time", "shape": [4, 3, 4]}),
            raw.arrays.update({"tensor.times": np.zeros((1, 4, 3, 4), np.uint8)}),
            _added("reduce", ["times"], axis="positions")(raw)),
        "reduce cannot read spike times, got 'times'; allowed: conv2d, linear, pool, concat, slice, upsample, rearran"),
    "sum of times that are none": (
        _added("add", ["spikes"], times=True), "adds spike times, got 'spikes' of the kind 'spike'; allowed: 'spik"),
    "first spikes without a time constant": (
        _added("add", ["spikes"], neuron={"kind": "first_spike"}),
        "neuron.time_constant: the ticks of the synapses' time constant, got 0; allowed: 1 to 1024"),
    "first spikes with a leak": (
        _added("add", ["spikes"], neuron={"kind": "first_spike", "time_constant": 4, "leak_shift": 2}),
        "neuron.leak_shift: has no use for a neuron that fires a first spike, got 2; allowed: to leave it out"),
    "leak with a time constant": (
        _added("add", ["spikes"], neuron={"kind": "lif", "leak_shift": 1, "time_constant": 4}),
        "neuron.time_constant: is of neurons that fire first spikes, got 4; allowed: 0, or kind 'first_spike'"),
    "T = 1024 and too little memory": (
        lambda raw: (
            raw.meta.update(timesteps=1024),
            raw.meta["tensors"].update(wide={"kind": "spike", "shape": [64, 128, 128]}),
            _added("concat", ["wide"])(raw)),
        "tensors.wide.shape: 1,073,741,824 values in one array; allowed: at most 268,435,456"),
    "T = 1024 and integers that need too much memory": (
        lambda raw: (
            raw.meta.update(timesteps=1024),
            raw.meta["tensors"].update(
                wide={"kind": "int", "dtype": "int64", "per_timestep": True, "shape": [256, 32, 32]}),
            _added("concat", ["wide"])(raw)),
        "the arrays take 2,148,518,496 bytes in all"),
    "T = 1024 and too much work": (
        lambda raw: (
            raw.meta.update(timesteps=1024),
            raw.meta["tensors"].update(wide={"kind": "spike", "shape": [1, 1, 500]}),
            _added("matmul", ["wide", "wide"], transpose=True)(raw)),
        f"{1024 * (1000 + 500**2 + 500**2 // 64):,} of them 'more'; allowed: at most "),
    "spike times of two bytes for few timesteps": (
        lambda raw: (
            raw.meta["tensors"].update(times={"kind": "spike_time", "shape": [4], "dtype": "uint16"}),
            _added("concat", ["times"])(raw)),
        "tensors.times.dtype: got uint16; allowed for 3 timesteps: uint8"),
}  # fmt: skip

RECURRENT_CHANGES = {
    # Of ``recurrent``: delays, and graphs that come back to where they were.
    "steps 0": (_operation("late", steps=0), "operations[0].steps: input should be greater than or equal to 1, got 0"),
    "steps beyond any time": (_operation("late", steps=1025), "operations[0].steps: input should be less than or equa"),
    "steps of text": (_operation("late", steps="1"), "operations[0].steps: input should be a valid integer, got '1'"),
    "steps of a list": (_operation("later", steps=[1, 2]), "operations[4].steps: input should be a valid integer"),
    "no steps": (_operation("late", steps=None), "operations[0].steps: got neither; allowed: either steps or per_chan"),
    "steps twice": (_operation("later", steps=1), "operations[4].steps: got both; allowed: either steps or per_channe"),
    "per_channel false": (
        _operation("later", per_channel=False, steps=1), "operations[4].per_channel: must be true or left out, got Fa"),
    "delays without an array": (_without_array("delay.later"), "array 'delay.later' is missing"),
    "a delay too few": (_array("delay.later", lambda a: a[:-1]), "array 'delay.later'"),
    "a delay of nothing": (
        _array("delay.later", lambda a: _with(a, 2, 0)), "array 'delay.later': must be at least 1, got 0 for channel "),
    "a delay into the future": (_array("delay.later", lambda a: _with(a, 4, -3)), "must be at least 1, got -3 for cha"),
    "cycle without a delay": (
        lambda raw: raw.meta["operations"].__setitem__(
            0, {"name": "late", "op": "concat", "inputs": ["hidden.out"], "output": "late.out"}),
        "'hidden' writes it later, and there is no delay on the cycle late -> again -> hidden -> late"),
    "order of no cycle": (
        lambda raw: raw.meta["operations"].insert(0, raw.meta["operations"].pop(5)),
        "operations[0].inputs[0]: tensor 'later.out' is not defined yet: 'later' writes it later"),
    "thousands of delays": (_many_delays, "meta: and 1,9"),
    "delay of another shape": (
        lambda raw: raw.meta["tensors"]["late.out"].update(shape=[4]),
        "tensors.late.out.shape: operation 'late' writes [5], got [4]"),
    "delay of another kind": (
        lambda raw: raw.meta["tensors"]["late.out"].update(kind="signed_spike"),
        "tensors.late.out.kind: operation 'late' writes 'spike', got 'signed_spike'"),
    "masked neurons on a cycle": (
        lambda raw: raw.meta["operations"][3]["neuron"].update(mask_fire_once=True),
        "operations[3].neuron.mask_fire_once: the neurons are on a cycle"),
    "delay in version 1": (_of_version_1, "operations[0].op: came with version 2, but the record is of version 1"),
}  # fmt: skip

LONG_CHANGES = {
    # Of ``long``: spike times of more timesteps than a byte has.
    "spike times of a byte for many timesteps": (
        lambda raw: raw.meta["tensors"]["times"].pop("dtype"),
        "tensors.times.dtype: got uint8; allowed for 300 timesteps: uint16"),
    "spike time beyond the end": (
        _array("tensor.times", lambda a: _with(a, (0, 0, 0, 0), 300)),
        "array 'tensor.times': got the time 300; allowed: 0 to 299, and 65535 for never"),
    "long time in version 1": (_of_version_1, "timesteps: came with version 2, but the record is of version 1"),
    "spike times of four bytes": (
        lambda raw: raw.meta["tensors"]["times"].update(dtype="uint32"),
        "tensors.times.dtype: got 'uint32'; allowed: 'uint8' or 'uint16'"),
}  # fmt: skip


RAW_META = {
    # name: (the bytes of the record, what the message must say)
    "meta not JSON": (b"{network: vgg}", "not JSON"),
    "meta empty": (b"", "meta"),
    "meta not UTF-8": (b'{"network": "\xff\xfe"}', "not UTF-8 at byte 13, got 0xff"),
    "meta not an object": (b"[1, 2, 3]", "must be a JSON object, got [1, 2, 3]"),
    "meta with NaN": (b'{"format": "archsim-trace", "version": 1, "network": NaN}', "NaN is not a number"),
    "meta with infinity": (b'{"format": -Infinity}', "-Infinity is not a number"),
    "meta nested deeply": (b"[" * 90_000 + b"]" * 90_000, "nested too deeply"),
    "meta nested in details": (
        b'{"format": "archsim-trace", "version": 1, "provenance": {"details": ' + b'{"a":' * 500 + b"1" + b"}" * 500
        + b"}}", "provenance.details"),
    "meta with a key twice": (b'{"format": "archsim-trace", "format": "x"}', "key 'format' occurs twice"),
    "meta with many keys": (
        b'{"format": "archsim-trace", ' + b", ".join(b'"k%d": 1' % i for i in range(90_000)) + b', "k89999": 2}',
        "key 'k89999' occurs twice"),
    "meta with too many values": (
        b"[" + b"0," * 100_000 + b"0]", "holds about 100,001 values; allowed: at most 100,000"),
    "meta with an endless number": (b'{"format": ' + b"9" * 10_000 + b"}", "not JSON"),
}  # fmt: skip


def _members(name, content):
    """Another content of one member of the archive."""
    return lambda good, path: _rewritten(good, path, name, content(Raw(good)) if callable(content) else content)


def _appended(name, content):
    def make(good, path):
        shutil.copy(good, path)
        with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zipfile warns of a name that occurs twice
            archive.writestr(name, content)

    return make


def _bytes(change):
    return lambda good, path: path.write_bytes(change(good.read_bytes()))


def _other_hash(good, path):
    raw = Raw(good)
    record = raw.sealed()
    raw.arrays["weight.conv2"] = _with(raw.arrays["weight.conv2"], (0, 0, 0, 0), 11)
    write(path, record, raw.arrays)


def _endless_number(good, path):
    """A number that is JSON and that Python reads as infinity."""
    raw = Raw(good)
    raw.meta["tensors"]["pixels"]["scale"] = 123.5
    write(path, raw.sealed().replace(b"123.5", b"1e999"), raw.arrays)


def _no_hash(good, path):
    raw = Raw(good)
    del raw.meta["sha256"]
    write(path, json.dumps(raw.meta).encode(), raw.arrays)


def _impostor(good, path):
    """An object array whose pickle is as long as the data promised: sizes alone do not give it away."""
    array = Raw(good).arrays["weight.conv2"]
    header = f"{{'descr': '|O', 'fortran_order': False, 'shape': {array.shape}, }}".encode()
    _rewritten(good, path, "weight.conv2", _npy_with(header, pickle.dumps(None).ljust(array.nbytes, b".")))


def _lzma(good, path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("meta.npy", npy(np.frombuffer(Raw(good).sealed(), np.uint8)))


def _shorter(length):
    return lambda raw: npy(raw.arrays["threshold.conv2"])[:-length]


def _header(text):
    return _members("threshold.conv2", lambda raw: _npy_with(text, bytes(20)))


def _record(array):
    return lambda good, path: np.savez_compressed(path, meta=array)


FILES = {
    # name: (how the file is made from a good one, what the message must say)
    "missing file": (lambda good, path: None, "no such file"),
    "directory": (lambda good, path: path.mkdir(), "is a directory"),
    "empty file": (_bytes(lambda whole: b""), "is empty"),
    "text file": (_bytes(lambda whole: b"network: vgg16\n"), "is not a zip file"),
    "pickle": (_bytes(lambda whole: pickle.dumps({"spikes": [1, 2, 3]})), "is not a zip file"),
    "one bare array": (_bytes(lambda whole: npy(np.zeros(3))), "is not a zip file"),
    "truncated by a byte": (_bytes(lambda whole: whole[:-1]), "is not a zip file or is truncated"),
    "truncated in the middle": (_bytes(lambda whole: whole[: len(whole) // 2]), "is not a zip file or is truncated"),
    "start missing": (_bytes(lambda whole: whole[100:]), "is damaged"),
    "empty zip": (_bytes(lambda whole: b"PK\x05\x06" + bytes(18)), "array 'meta' is missing, so this is no trace"),
    "another npz": (lambda good, path: np.savez(path, a=np.zeros(3)), "array 'meta' is missing"),
    "bad CRC": (lambda good, path: _damage(good, path, zipfile.ZIP_STORED), "is damaged: Bad CRC-32"),
    "bad deflate stream": (lambda good, path: _damage(good, path, zipfile.ZIP_DEFLATED), "'weight.conv2': is damaged"),
    "pickled record": (_record(np.array([{"format": "archsim-trace"}], object)), "holds pickled Python objects"),
    "record of two dimensions": (_record(np.zeros((2, 3), np.uint8)), "meta: got uint8 [2, 3]"),
    "record of numbers": (_record(np.zeros(3)), "meta: got float64 [3]"),
    "record that never ends": (_record(np.zeros((1 << 24) + 1, np.uint8)), "meta: takes 16,777,3"),
    "hash mismatch": (_other_hash, "sha256: the contents do not have the hash in the record, got"),
    "no hash": (_no_hash, "sha256: the contents do not have the hash in the record, got none"),
    "object array of the right size": (_impostor, "'weight.conv2': is damaged: holds pickled Python objects"),
    "scale 1e999": (_endless_number, "tensors.pixels.scale: input should be a finite number, got inf"),
    "member twice": (_appended("weight.conv2.npy", b"x"), "'weight.conv2.npy' occurs twice"),
    "member that is no array": (_appended("../../notes.txt", b"x"), "'../../notes.txt' is not an .npy array"),
    "LZMA member": (_lzma, "has compression method 14; allowed: stored, deflated"),
    "encrypted member": (_bytes(lambda whole: _flagged(whole, 0x1)), "member 'meta.npy' is encrypted"),
    "array without a header": (_members("threshold.conv2", bytes(148)), "not an .npy array"),
    "header of code": (
        _header(b"{'descr': __import__('os'), 'fortran_order': False, 'shape': (5,)}"), "threshold.conv2': is damaged"),
    "header of Python 2": (
        _header(b"{'descr': '<i4', 'fortran_order': False, 'shape': (5L,), }"), "header cannot be read: Reading"),
    "header of parentheses": (_header(b"(" * 2000), "threshold.conv2': is damaged"),
    "header too long": (
        _members("threshold.conv2", b"\x93NUMPY\x01\x00\xff\xff" + bytes(138)), "its .npy header takes"),
    "structured dtype": (
        _header(b"{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (5,), }"), "allowed: int32 [5]"),
    "header that lies about the shape": (
        _header(b"{'descr': '<i4', 'fortran_order': False, 'shape': (99999999999,), }"), "allowed: int32 [5]"),
    "data shorter than promised": (_members("threshold.conv2", _shorter(130)), "array 'threshold.conv2' takes"),
    "data cut by a byte": (_members("threshold.conv2", _shorter(1)), "19 bytes of data where its header promises 20"),
    # 300 MB of zeros in 300 KB: refused by the size that the directory declares, before anything is inflated.
    "zip bomb": (_members("weight.conv2", lambda raw: bytes(300_000_000)), "weight.conv2' takes 300,000,000 bytes"),
    "zip bomb that lies": (lambda good, path: _lying_bomb(good, path), "'weight.conv2': is damaged"),
}  # fmt: skip

FAULTS = {
    **FILES, **CHANGES, **KIND_CHANGES, **GRADIENT_CHANGES, **ATTENTION_CHANGES, **MORE_CHANGES, **RECURRENT_CHANGES,
    **LONG_CHANGES, **RAW_META,
}  # fmt: skip


def good_trace(tmp_path: Path) -> Path:
    """A trace with nothing wrong. T I = 3, so that bits do not fill bytes."""
    path = tmp_path / "good.npz"
    save_trace(tiny(timesteps=3, images=1), path)
    return path


def bad_trace(fault: str, good: Path) -> Path:
    """A file beside ``good`` with the fault called ``fault``, one of ``FAULTS``."""
    path = good.parent / f"{''.join(letter if letter.isalnum() else '_' for letter in fault)}.npz"
    how = FAULTS[fault][0]
    if fault in FILES:
        how(good, path)
    elif fault in RAW_META:
        write(path, how, {})
    else:
        others = (
            (KIND_CHANGES, every_kind), (GRADIENT_CHANGES, trained), (ATTENTION_CHANGES, attention),
            (MORE_CHANGES, version_2), (RECURRENT_CHANGES, recurrent), (LONG_CHANGES, long),
        )  # fmt: skip
        for changes, make in others:
            if fault in changes:
                good = good.parent / f"{make.__name__}.npz"
                save_trace(make(), good)
        raw = Raw(good)
        how(raw)
        write(path, raw.sealed(), raw.arrays)
    return path


def _rewritten(source: Path, target: Path, name: str, content: bytes, method: int = zipfile.ZIP_DEFLATED) -> None:
    """A copy of an archive in which one member has other content."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", method) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, content if entry.filename == f"{name}.npy" else old.read(entry))


def _npy_with(header: bytes, data: bytes) -> bytes:
    header = header.ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def _damage(source: Path, target: Path, method: int) -> None:
    """Flip a byte in the middle of a weight's data."""
    _rewritten(source, target, "", b"", method)
    with zipfile.ZipFile(target) as archive:
        entry = archive.getinfo("weight.conv2.npy")
    content = bytearray(target.read_bytes())
    name_length, extra_length = struct.unpack_from("<HH", content, entry.header_offset + 26)
    start = entry.header_offset + 30 + name_length + extra_length
    content[start if method == zipfile.ZIP_DEFLATED else start + entry.file_size - 5] ^= 0xFF
    target.write_bytes(bytes(content))


def _flagged(whole: bytes, flag: int) -> bytes:
    """With a flag bit of the first member set in the central directory."""
    content = bytearray(whole)
    content[content.index(b"PK\x01\x02") + 8] |= flag
    return bytes(content)


def _lying_bomb(source: Path, target: Path) -> None:
    """Declares the size that the record promises and inflates to much more."""
    with zipfile.ZipFile(source) as archive:
        honest = archive.getinfo("weight.conv2.npy").file_size
    _rewritten(source, target, "weight.conv2", bytes(50_000_000))
    content = bytearray(target.read_bytes())
    lie, found = struct.pack("<I", 50_000_000), 0
    while (place := content.find(lie)) >= 0:
        content[place : place + 4] = struct.pack("<I", honest)
        found += 1
    assert found == 2, "local header and central directory"
    target.write_bytes(bytes(content))
