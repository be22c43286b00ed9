"""NIR files and files of inputs that nobody should believe: one line each, nothing of another file read, no bomb."""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import struct
import subprocess
import zipfile
import zlib

import numpy as np
import pytest
from typer.testing import CliRunner

from archsim.cli import app
from archsim.errors import ArchsimError, TraceError, UsageError
from archsim.export import from_nir
from archsim.export.nir_file import MAX_EXPANSION, SMALL_BYTES, read_graph, read_inputs
from tests.export.frameworks import need

nir = need("nir")
h5py = need("h5py")
SECRET = 1234.5


def written(path, seed=0):
    """A file with a linear layer and IF neurons; the layer's weights."""
    weight = np.random.default_rng(seed).normal(0, 1, (4, 6))
    nir.write(path, nir.NIRGraph.from_list(nir.Linear(weight), nir.IF(np.full(4, 1e4), np.ones(4))))
    return weight


def test_a_file_becomes_what_nir_makes_of_it(tmp_path):
    weight = written(tmp_path / "net.nir")
    record, graph = read_graph(tmp_path / "net.nir"), nir.read(tmp_path / "net.nir")
    assert record["nodes"].keys() == graph.nodes.keys()
    assert [tuple(edge) for edge in record["edges"].tolist()] == graph.edges
    np.testing.assert_array_equal(record["nodes"]["linear"]["weight"], weight)
    assert record["nodes"]["linear"]["type"] == "Linear"


def external(file, other):
    np.full((4, 6), SECRET).tofile(other)
    file.create_dataset("w", (4, 6), np.float64, external=[(str(other), 0, 192)])


def external_link(file, other):
    with h5py.File(other, "w") as second:
        second["w"] = np.full((4, 6), SECRET)
    file["w"] = h5py.ExternalLink(str(other), "w")


def virtual(file, other):
    with h5py.File(other, "w") as second:
        second["w"] = np.full((4, 6), SECRET)
    layout = h5py.VirtualLayout((4, 6), np.float64)
    layout[:] = h5py.VirtualSource(str(other), "w", (4, 6))
    file.create_virtual_dataset("w", layout)


def virtual_of_itself(file, other):
    layout = h5py.VirtualLayout((4, 6), np.float64)
    layout[:] = h5py.VirtualSource(".", "version", (4, 6))
    file.create_virtual_dataset("w", layout)


def soft_link(file, other):
    file["w"] = h5py.SoftLink("/version")


def soft_circle(file, other):
    file["w"] = h5py.SoftLink("/node/nodes/linear/w")


def group_circle(file, other):
    file["w"] = file["/node"]


def twice(file, other):
    file["w"] = file["/node/nodes/if/r"]


def reference(file, other):
    file.create_dataset("w", data=file["/node"].ref, dtype=h5py.ref_dtype)


def region(file, other):
    data = file["/node/nodes/if/r"]
    file.create_dataset("w", data=data.regionref[0:2], dtype=h5py.regionref_dtype)


def named_type(file, other):
    file["w"] = np.dtype("f8")


def compound(file, other):
    file["w"] = np.zeros(4, [("a", "f8"), ("b", "i4")])


def complex_numbers(file, other):
    file["w"] = np.zeros((4, 6), complex)


def lists(file, other):
    file.create_dataset("w", (3,), h5py.vlen_dtype(np.float64))


def subarrays(file, other):
    kind = h5py.h5t.array_create(h5py.h5t.NATIVE_DOUBLE, (1 << 20,))
    h5py.h5d.create(file.id, b"w", kind, h5py.h5s.create(h5py.h5s.SCALAR))


def unwritten(file, other):
    file.create_dataset("w", (1 << 15, 1 << 15), np.float64, chunks=(1 << 10, 1 << 10))


def zeros(file, other):
    file.create_dataset("w", data=np.zeros(SMALL_BYTES // 8 + 1), chunks=(1 << 16,), compression="gzip")


def large_chunk(file, other):
    file.create_dataset("w", (4,), np.float64, maxshape=(None,), chunks=(1 << 27,))


def fixed_strings(file, other):
    file.create_dataset("w", (1 << 10,), "S1000000", chunks=(1,))


def inflating_chunk(file, other):
    """HDF5 itself would inflate 64 MiB of zeros, for four numbers."""
    data = file.create_dataset("w", (4,), np.float64, chunks=(4,), compression="gzip")
    data.id.write_direct_chunk((0,), zlib.compress(bytes(1 << 26)))


def other_filter(file, other):
    file.create_dataset("w", data=np.arange(4), chunks=(4,), scaleoffset=3)


def many_names(file, other):
    file.create_dataset("w", (1 << 20,), h5py.string_dtype(), chunks=(1 << 10,), compression="gzip")


def deep(file, other):
    for _ in range(100):
        file = file.create_group("g")


HOSTILE = {
    external: "its values lie in other files", external_link: "a link to elsewhere", soft_link: "a link to elsewhere",
    soft_circle: "a link to elsewhere", virtual: "its values lie in other files",
    virtual_of_itself: "its values lie in other files", group_circle: "more than once", twice: "more than once",
    reference: "references or lists", region: "references or lists", named_type: "neither a group nor a dataset",
    compound: "holds compounds", complex_numbers: "holds complex numbers", lists: "references or lists",
    subarrays: "holds", unwritten: "takes 8,589,", zeros: "takes 67,", large_chunk: "takes 1,073,",
    fixed_strings: "takes 1,024,", inflating_chunk: "unpacks to more than its 32 bytes", other_filter: "by the filters",
    many_names: "more than 20,000 names", deep: "nested deeper than 64",
}  # fmt: skip


@pytest.mark.parametrize("damage", HOSTILE, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("inside", ["/node/nodes/linear", "/"])
def test_a_hostile_file(damage, inside, tmp_path):
    path = tmp_path / "net.nir"
    written(path)
    with h5py.File(path, "a") as file:
        damage(file[inside], tmp_path / "other")
    with pytest.raises(TraceError) as caught:
        read_graph(path)
    assert HOSTILE[damage] in str(caught.value)
    assert all(line.startswith(str(path)) and len(line) < 500 for line in caught.value.problems)


@pytest.mark.parametrize("damage", [external, external_link, virtual], ids=lambda damage: damage.__name__)
def test_weights_of_another_file_do_not_come_in(damage, tmp_path):
    """In the place of the weights themselves, and by the command line."""
    path = tmp_path / "net.nir"
    written(path)
    with h5py.File(path, "a") as file:
        layer = file["/node/nodes/linear"]
        damage(layer, tmp_path / "other")
        del layer["weight"]
        layer.move("w", "weight")
    assert nir.read(path).nodes["linear"].weight[0, 0] == SECRET
    np.save(tmp_path / "x.npy", np.ones((4, 2, 6), bool))
    command = ["trace", "import", str(path), "--format", "nir", "--inputs", str(tmp_path / "x.npy"), "-o"]
    result = CliRunner().invoke(app, [*command, str(tmp_path / "out.npz")])
    assert isinstance(result.exception, ArchsimError)
    assert "node/nodes/linear/weight" in str(result.exception)
    assert not (tmp_path / "out.npz").exists()


def test_one_long_name_very_often(tmp_path):
    """10,000 references to one text of 50,000 letters are 500 MB, of a file of 200 KB."""
    path = tmp_path / "net.nir"
    written(path)
    with h5py.File(path, "a") as file:
        names = file.create_dataset("w", (10_000,), h5py.string_dtype())
        names[0] = "x" * 50_000
        place = names.id.get_offset()
    content = bytearray(path.read_bytes())
    content[place : place + 16 * 10_000] = bytes(content[place : place + 16]) * 10_000
    path.write_bytes(content)
    with h5py.File(path) as file:
        assert len(file["w"][9_999]) == 50_000
    with pytest.raises(TraceError, match="w: texts of more than the"):
        read_graph(path)


@pytest.mark.parametrize(
    "how", [{}, {"compression": "gzip", "shuffle": True, "fletcher32": True}, {"compression": "lzf"}]
)
def test_what_files_may_do(how, tmp_path):
    """All ways to pack that nir.write has, other numbers, a null dataset, and 1,000 parameters in a byte."""
    path = tmp_path / "net.nir"
    weight = written(path)
    with h5py.File(path, "a") as file:
        layer = file["/node/nodes/linear"]
        layer.create_dataset("packed", data=weight, **how)
        layer.create_dataset("halves", data=weight.astype(">f2"), **how)
        layer.create_dataset("bits", data=weight > 0, **how)
        layer.create_dataset("alike", data=np.ones((512, 1024)), compression="gzip")
        layer["null"] = h5py.Empty("f8")
        layer.attrs["secret"] = np.zeros(100)
    read = read_graph(path)["nodes"]["linear"]
    np.testing.assert_array_equal(read["packed"], weight)
    np.testing.assert_array_equal(read["halves"], weight.astype(np.float16))
    np.testing.assert_array_equal(read["bits"], weight > 0)
    assert read["alike"].sum() == 512 * 1024
    assert "null" not in read


def test_files_cut_and_scrambled(tmp_path):
    """A library that loops or crashes ends its own process only; nothing but a line comes of any file."""
    path = tmp_path / "net.nir"
    written(path)
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    outcomes = []
    for _ in range(12):
        content = bytearray(whole)
        for place in generator.integers(0, len(content), 12):
            content[place] = generator.integers(0, 256)
        path.write_bytes(content[: generator.integers(len(content) // 2, 2 * len(content))])
        try:
            read_graph(path)
        except TraceError as error:
            outcomes.append(error)
    assert outcomes
    assert all(str(path) in line for error in outcomes for line in error.problems)


@pytest.mark.parametrize("code", [-signal.SIGSEGV, -signal.SIGXCPU, 1])
def test_a_library_that_crashes(code, tmp_path, monkeypatch):
    written(tmp_path / "net.nir")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], code, b"", b""))
    ended = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    with pytest.raises(TraceError, match=rf"net\.nir: .* ended with {ended}$"):
        read_graph(tmp_path / "net.nir")


def test_the_process_that_reads_is_limited(tmp_path):
    """The limits are those that the process has set when it opens the file."""
    from archsim.export import hdf5

    written(tmp_path / "net.nir")
    context = f"import json, resource, runpy, sys; sys.argv = ['', {str(tmp_path / 'net.nir')!r}, '1000000']\n"
    show = "h5py.File = lambda *_: sys.exit(json.dumps([resource.getrlimit(k)[0] for k in (resource.RLIMIT_CPU, "
    program = (
        f"{context}import h5py\n{show}resource.RLIMIT_AS)]))\nrunpy.run_path({hdf5.__file__!r}, run_name='__main__')"
    )
    done = subprocess.run([os.sys.executable, "-c", program], capture_output=True, text=True, check=False)
    seconds, memory = json.loads(done.stderr.splitlines()[-1])
    assert seconds == 10
    assert 1_000_000 < memory < 1 << 33
    assert resource.getrlimit(resource.RLIMIT_CPU)[0] != 10


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for read in (read_graph, read_inputs):
        for name, why in (("none", "no such file"), ("pipe", "not a regular file"), (".", "not a regular file")):
            with pytest.raises(UsageError, match=why):
                read(tmp_path / name)
    for content in (b"", b"\x89HDF\r\n\x1a\n", bytes(1000), b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 4):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(TraceError, match="not a NIR graph"):
            read_graph(tmp_path / "x")
    with h5py.File(tmp_path / "x", "w") as file:
        file["node"] = 1
    with pytest.raises(TraceError, match="not a NIR graph, it has no group 'node'"):
        read_graph(tmp_path / "x")


# ------------------------------------------------------------------------------------------------ inputs


def npy(header, data=b"", version=b"\x01\x00"):
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + data


INPUTS = {
    "python2": (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (2L,)}", bytes(16)), "header"),
    "long": (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (2,)}" + " " * 60_000, bytes(16)), "header takes"),
    "unclosed": (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (2,"), "header cannot be read"),
    "code": (npy("{'descr': print(1), 'fortran_order': False, 'shape': (2,)}"), "malformed"),
    "claims": (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1073741824,)}", bytes(16)), "unpacked"),
    "short": (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (3,)}", bytes(16)), "16 bytes of data"),
    "negative": (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-2, -1)}", bytes(16)), "not an array"),
    "nothing wide": (npy("{'descr': '|S0', 'fortran_order': False, 'shape': (1073741824,)}"), "allowed: numbers"),
    "objects": (npy("{'descr': '|O', 'fortran_order': False, 'shape': (2,)}", bytes(16)), "pickled"),
    "text": (npy("{'descr': '<U4', 'fortran_order': False, 'shape': (1,)}", bytes(16)), "allowed: numbers"),
    "version": (npy("{}", version=b"\x09\x00"), "not an .npy array"),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", INPUTS)
def test_hostile_inputs(name, packed, tmp_path):
    content, why = INPUTS[name]
    path = tmp_path / "x.npz"
    if packed:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.npy", content)
    else:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=why) as caught:
        read_inputs(path)
    (line,) = caught.value.problems
    assert line.startswith(f"{path}: not an array file (.npy or .npz), ")
    assert len(line) < 400


def test_a_zip_bomb(tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=np.zeros(SMALL_BYTES // 8))
    assert read_inputs(path).size == SMALL_BYTES // 8
    np.savez_compressed(path, x=np.zeros(SMALL_BYTES // 8 + 1))
    assert path.stat().st_size * MAX_EXPANSION < SMALL_BYTES
    with pytest.raises(UsageError, match="takes 67,108,872 bytes unpacked"):
        read_inputs(path)


def test_inputs_in_any_order(tmp_path):
    values = np.random.default_rng(0).random((3, 4, 5))
    for array in (values, np.asfortranarray(values), values.astype(">f4"), values > 0.5):
        for save in (np.save, np.savez, np.savez_compressed):
            with (tmp_path / "x").open("wb") as file:
                save(file, array)
            np.testing.assert_array_equal(read_inputs(tmp_path / "x"), array)


def test_inputs_by_path(tmp_path):
    written(tmp_path / "net.nir")
    values = np.random.default_rng(0).random((4, 2, 6)) < 0.5
    np.save(tmp_path / "x.npy", values)
    by_path = from_nir(tmp_path / "net.nir", tmp_path / "x.npy").trace
    assert by_path.sha256 == from_nir(tmp_path / "net.nir", values).trace.sha256


def test_pickles_are_never_loaded(tmp_path):
    content = io.BytesIO()
    np.save(content, np.array([{}, []], object), allow_pickle=True)
    (tmp_path / "x.npy").write_bytes(content.getvalue())
    with pytest.raises(UsageError, match="pickled Python objects, which are never loaded"):
        read_inputs(tmp_path / "x.npy")
