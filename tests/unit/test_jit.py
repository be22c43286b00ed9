"""The folder of compiled kernels: the user's own, and nothing else is ever removed."""

import os
import tempfile

import pytest

from archsim import jit


@pytest.fixture
def base(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "base"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / "base"


def test_only_old_caches_are_removed(base):
    root = jit._cache_folder().parent
    mine = [base / "archsim" / "archsim" / "cli.py", root / "notes" / "a.txt", root / f"{7:016x}" / "a.txt"]
    for path in mine:
        path.parent.mkdir(parents=True)
        path.write_text("mine")
        os.utime(path.parent, (0, 0))
    for i in range(9):
        folder = root / f"{i + 100:016x}" / "compress"
        folder.mkdir(parents=True)
        (folder / "kernel.nbi").touch()
        os.utime(folder.parent, (i, i))
    jit._cache_folder()
    assert all(path.read_text() == "mine" for path in mine)
    kept = sorted(folder.name for folder in root.iterdir() if jit._is_cache(folder))
    assert kept == sorted([jit._source_hash(), *(f"{i + 100:016x}" for i in (6, 7, 8))])


@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_a_folder_that_others_can_write_to_is_not_used(base, mode):
    (base / "archsim-kernels").mkdir(parents=True)
    (base / "archsim-kernels").chmod(mode)
    assert base not in jit._cache_folder().parents


def test_a_generous_umask(base):
    mask = os.umask(0)
    try:
        assert base in jit._cache_folder().parents
    finally:
        os.umask(mask)


def test_a_folder_of_someone_else_is_not_used(base, tmp_path, monkeypatch):
    folder = jit._cache_folder()
    other = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    assert jit._cache_folder().parent != folder.parent


def test_a_user_without_a_home(base, tmp_path, monkeypatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def no_home():
        raise RuntimeError("could not determine home directory")

    monkeypatch.setattr(jit.Path, "home", no_home)
    assert jit._cache_folder().parent.parent == tmp_path
