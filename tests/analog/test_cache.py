"""Effective matrices on disk: found again, told apart, made anew when damaged."""

import errno
import hashlib
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from archsim.hardware.analog import cache, wires
from archsim.hardware.analog.cache import cached_effective_conductance
from archsim.hardware.analog.wires import WireConfig
from tests.analog.circuits import draw_cells

CONFIG = WireConfig(r_driver_ohm=100.0, r_row_ohm=1.0, r_col_ohm=2.0, r_sense_ohm=50.0)


@pytest.fixture
def made(monkeypatch):
    """How many arrays were computed."""
    calls = []
    real = wires.effective_conductance

    def counted(cells, **ohms):
        calls.append(cells)
        return real(cells, **ohms)

    monkeypatch.setattr(wires, "effective_conductance", counted)
    return calls


def test_the_same_cells_are_computed_once(tmp_path, made):
    cells = draw_cells(4, 5)
    first = cached_effective_conductance(cells, CONFIG, tmp_path / "deep" / "down")
    second = cached_effective_conductance(cells.copy(), CONFIG, tmp_path / "deep" / "down")
    assert len(made) == 1
    assert np.array_equal(first, second)
    assert np.array_equal(first, wires.effective_conductance(cells, **CONFIG.ohms))
    second[:] = 0  # the caller's own


def test_other_content_is_another_matrix(tmp_path, made):
    cells = draw_cells(4, 5)
    changed = cells.copy()
    changed[1, 2] = np.nextafter(changed[1, 2], 1)
    others = [(changed, CONFIG), (cells.reshape(5, 4), CONFIG), (cells, CONFIG.model_copy(update={"r_col_ohm": 2.5}))]
    others.append((cells, CONFIG.model_copy(update={"r_row_ohm": 2.0, "r_col_ohm": 1.0})))
    for content, config in [(cells, CONFIG), *others]:
        found = cached_effective_conductance(content, config, tmp_path)
        assert np.array_equal(found, wires.effective_conductance(content, **config.ohms))
    assert len(list(tmp_path.iterdir())) == 5


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "longer", "headless", "of nothing"])
def test_a_damaged_file_is_made_anew(tmp_path, made, damage):
    cells = draw_cells(4, 5)
    whole = cached_effective_conductance(cells, CONFIG, tmp_path)
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    damaged = {
        "flip": content[:60] + bytes([content[60] ^ 1]) + content[61:], "cut": content[:-8], "empty": b"",
        "longer": content + b"\0" * 8, "headless": content[32:],
        "of nothing": hashlib.sha256(b"").digest(),
    }[damage]  # fmt: skip
    path.write_bytes(damaged)
    assert np.array_equal(cached_effective_conductance(cells, CONFIG, tmp_path), whole)
    assert len(made) == 2
    assert path.read_bytes() == content
    cached_effective_conductance(cells, CONFIG, tmp_path)
    assert len(made) == 2


def test_other_sources_make_other_files(tmp_path, made, monkeypatch):
    cells = draw_cells(2, 2)
    cached_effective_conductance(cells, CONFIG, tmp_path)
    monkeypatch.setattr(cache, "_sources", lambda: b"edited")
    cached_effective_conductance(cells, CONFIG, tmp_path)
    assert len(made) == 2


def test_a_full_cache_loses_what_was_used_longest_ago(tmp_path, monkeypatch):
    import os

    monkeypatch.setattr(cache, "LIMIT_BYTES", 2 * (32 + 8 * 4))
    monkeypatch.setattr(cache, "LOOKS", "")
    arrays = [draw_cells(2, 2, seed) for seed in range(3)]
    (tmp_path / "mine.txt").write_text("not of the cache")
    paths = []
    for age, cells in zip((50, 100), arrays, strict=False):
        cached_effective_conductance(cells, CONFIG, tmp_path)
        (path,) = (path for path in tmp_path.glob("*" + cache.SUFFIX) if path not in paths)
        os.utime(path, (1e9 - age, 1e9 - age))
        paths.append(path)
    cached_effective_conductance(arrays[2], CONFIG, tmp_path)
    assert paths[0].exists() and not paths[1].exists()
    assert len(list(tmp_path.iterdir())) == 3


def test_where_nothing_can_be_written_matrices_are_made(tmp_path, made):
    (tmp_path / "file").write_text("")
    for _ in range(2):
        cached_effective_conductance(draw_cells(2, 2), CONFIG, tmp_path / "file")
    assert len(made) == 2


def test_the_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.default_folder() == tmp_path / "archsim-arrays"


@pytest.mark.parametrize("obstacle", ["file", "directory", "full disk"])
def test_what_cannot_be_written_is_made_every_time_and_leaves_nothing(tmp_path, made, monkeypatch, obstacle):
    """A file where the folder should be, a directory where the file should be, a disk that is full half-way."""
    cells, folder = draw_cells(4, 5), tmp_path / "cache"
    if obstacle == "file":
        folder.write_text("mine")
    elif obstacle == "directory":
        cached_effective_conductance(cells, CONFIG, folder)
        (path,) = folder.iterdir()
        path.unlink()
        path.mkdir()
    else:
        folder.mkdir()

        def full(self, content):
            with self.open("wb") as file:
                file.write(content[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(Path, "write_bytes", full)
    before = sorted(tmp_path.rglob("*"))
    expected = wires.effective_conductance(cells, **CONFIG.ohms)
    for _ in range(2):
        assert np.array_equal(cached_effective_conductance(cells, CONFIG, folder), expected)
    assert sorted(tmp_path.rglob("*")) == before


def test_many_write_the_same(tmp_path):
    """At the same time: everybody finds what they would have made, and one file is left."""
    cells = draw_cells(6, 5)
    expected = wires.effective_conductance(cells, **CONFIG.ohms)
    wrong = []

    def work():
        for _ in range(20):
            for path in tmp_path.iterdir():
                path.unlink(missing_ok=True)
            if not np.array_equal(cached_effective_conductance(cells, CONFIG, tmp_path), expected):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    cached_effective_conductance(cells, CONFIG, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
