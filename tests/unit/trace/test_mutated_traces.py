"""Traces spoilt at random, in their record and in their zip: a TraceError in printable lines, or a trace that runs."""

import copy
import json
import random
import warnings
import zipfile

import numpy as np
import pytest

from archsim.errors import MOST_CHARACTERS, TraceError
from archsim.trace import check_trace, load_trace, save_trace
from tests.bad_traces import Raw, npy, write
from tests.small_traces import attention, every_kind, recurrent, tiny, trained, version_2

MAKERS = (tiny, every_kind, attention, trained, version_2, recurrent)
SEEDS = 300
VALUES = (
    None, True, False, 0, 1, -1, 2, 3, 16, 17, 255, 1 << 15, 1 << 20, (1 << 20) + 1, 1 << 63, 10**400, 0.5, -0.0, 1e308,
    "", "a", "\x1b[31m", "a\nb", "\ud800", "x" * 60_000, [], {}, [[]], [1, 1], [1 << 20, 1], [3, 1 << 10, 1 << 10],
    "delay", "rearrange", "sum", "positions", [2, 1, 0], [0, 1, 2, 3],
    {"a": 1}, "conv2d", "pool", "add", "matmul", "spike", "int", "lif", "int64",
)  # fmt: skip


def places(value, path=()):
    """Paths to every value of a record."""
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from places(part, (*path, key))


def change(record, draw):
    """Another record: a value is replaced, removed, doubled or put elsewhere."""
    record = copy.deepcopy(record)
    *parents, last = draw.choice([path for path in places(record) if path])
    target = record
    for key in parents:
        target = target[key]
    match draw.randrange(6):
        case 0:
            del target[last]
        case 1 if isinstance(target, list):
            target.insert(last, copy.deepcopy(target[last]))
        case 1:
            target[f"{last}{draw.choice(['s', '', chr(27), 'x' * 5000])}"] = copy.deepcopy(target[last])
        case 2:
            taken = record
            for key in draw.choice(list(places(record))):
                taken = taken[key]
            target[last] = copy.deepcopy(taken)
        case 3 if isinstance(target[last], int):
            target[last] = target[last] * draw.choice([2, 3, 1 << 10, -1]) + draw.choice([0, 1, -1])
        case _:
            target[last] = copy.deepcopy(draw.choice(VALUES))
    return record


def header(draw):
    """A member that is not what it should be."""
    text = draw.choice([
        "{'descr': '|u1', 'fortran_order': False, 'shape': (3L,), }", "{'descr': '|u1', 'fortran_order': False, ",
        "{'descr': 'O', 'fortran_order': False, 'shape': (3,)}", "(" * 900, "{'descr': 1if 1else 2}", "'\\d'",
        "9" * 4000,
        "{'descr': '|u1', 'fortran_order': True, 'shape': (3,), 'x': 1}", "{'descr': [('a', '<i4')] * 9, 'shape': ()}",
    ]).encode()  # fmt: skip
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + b"abc"


def spoil(path, good, seed):
    """Write to ``path`` the trace ``good``, changed in one to three ways drawn by ``seed``."""
    draw = random.Random(seed)
    raw = Raw(good)
    kind = draw.randrange(4)
    if kind < 2:
        for _ in range(draw.randint(1, 3)):
            raw.meta = change(raw.meta, draw)
        for name in list(raw.arrays) if kind else ():
            spare = raw.meta["tensors"] if isinstance(raw.meta.get("tensors"), dict) else {}
            if name.startswith("tensor.") and name.removeprefix("tensor.") not in spare and draw.random() < 0.5:
                del raw.arrays[name]
        write(path, raw.sealed() if isinstance(raw.meta, dict) else json.dumps(raw.meta).encode(), raw.arrays)
        return
    members = [(f"{name}.npy", npy(array)) for name, array in raw.arrays.items()]
    members.append(("meta.npy", npy(np.frombuffer(raw.sealed(), np.uint8))))
    for _ in range(draw.randint(1, 3)):
        place = draw.randrange(len(members))
        name, data = members[place]
        match draw.randrange(7):
            case 0:
                members.pop(place)
            case 1:
                members.append(
                    (draw.choice([name, name.swapcase(), "x" * 60_000 + ".npy", "\x1b.npy", "a\n.npy"]), data)
                )
            case 2:
                members[place] = (name, header(draw))
            case 3:
                members[place] = (name, data[: draw.randrange(len(data))])
            case 4:
                members[place] = (name, data + bytes(draw.randrange(1, 99)))
            case 5:
                members[place] = (name, members[draw.randrange(len(members))][1])
            case _:
                members[place] = (f"{name}{draw.choice(['.txt', '/', ''])}", data)
    method = draw.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_LZMA])
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", method) as file:
        warnings.simplefilter("ignore")  # two members of one name
        file.comment = bytes(draw.randrange(256) for _ in range(draw.choice([0, 60_000])))
        for name, data in members:
            file.writestr(name, data)


def outcome(path):
    """Load the trace and compute it again; what is wrong with it, or nothing."""
    try:
        list(check_trace(load_trace(path)))
    except TraceError as error:
        assert all(problem.isprintable() and len(problem) <= MOST_CHARACTERS for problem in error.problems)
        assert all(str(path) in problem for problem in error.problems)
        return error.problems
    return ()


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("traces")
    for make in MAKERS:
        save_trace(make(), folder / f"{make.__name__}.npz")
    return folder


@pytest.mark.parametrize("make", MAKERS)
def test_a_changed_trace_is_refused_in_words_or_runs(make, good):
    found = []
    for seed in range(SEEDS // len(MAKERS)):
        spoil(good / "changed.npz", good / f"{make.__name__}.npz", seed)
        found.append(bool(outcome(good / "changed.npz")))
    assert {True, False} == set(found)  # some changes are harmless, most are not
