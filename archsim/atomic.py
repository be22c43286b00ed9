"""Put a file or a folder in its place in one step: at every moment the earlier or the new one stands there, whole.

What is new is made in a folder of its own next to its place, ``.NAME.XXXXXXXX.partial``, and takes the place by one
rename. A folder changes places with the earlier folder (``renameat2`` of Linux, ``renamex_np`` of macOS). Where a file
system cannot do that, as NFS cannot, the earlier folder first moves into that of the new one: nothing has the name for
a moment, but both folders are whole, and the next write to the same place puts back what a process that died in that
moment had moved.

The next write to the same place also removes what dead processes have left. A process that lives holds a lock
(``flock``) on the file ``lock`` in its folder. The number of a process would not do: it is given again, and says
nothing on another host. Where a file system has no locks nothing is known to be dead, and nothing is removed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_SHOWN = 32
"""Characters of a name that are a part of the temporary one."""
_SUFFIX = r"\.[0-9a-f]{8}\.partial"
_LOCK, _NEW, _OLD = "lock", "new", "old"
_MOST_TRIES = 100
"""Of a step that other processes may undo; each of them does so once or twice."""
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST)
_NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)
_AT_FDCWD, _RENAME_EXCHANGE, _RENAME_SWAP = -100, 2, 2


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A free path for a file or a folder, which takes the place of ``target`` when the block ends well.

    When it fails nothing is left of it, nor of the folders that were made for it, and ``target`` is as it was. A folder
    replaces an earlier folder, a file an earlier file. OSError if that cannot be done.
    """
    _remove_dead(target)
    with _folder_beside(target) as folder:
        new = folder / _NEW
        yield new
        if new.is_dir():
            _put(new, target)
        else:
            new.replace(target)


def is_partial(name: str) -> bool:
    """Whether a folder of this name is, or was, for something that is not complete."""
    return re.fullmatch(rf"\..{{0,{_SHOWN}}}{_SUFFIX}", name, re.DOTALL) is not None


@contextlib.contextmanager
def _folder_beside(target: Path) -> Iterator[Path]:
    """A new folder next to ``target``, locked as long as the block takes, and removed behind it."""
    made: list[Path] = []
    with contextlib.ExitStack() as stack:
        try:
            yield _new_folder(target, made, stack)
        except BaseException:
            stack.close()
            for parent in reversed(made):
                with contextlib.suppress(OSError):  # someone else writes there by now
                    parent.rmdir()
            raise


def _new_folder(target: Path, made: list[Path], stack: contextlib.ExitStack) -> Path:
    """A locked folder next to ``target``, which ``stack`` removes; adds to ``made`` the folders made for it."""
    tries = 0
    while True:
        tries += 1
        # Short, because a file system takes 255 bytes of a name.
        folder = target.parent / f".{target.name[:_SHOWN]}.{secrets.token_hex(4)}.partial"
        try:
            _make_parents(target.parent, made)
            folder.mkdir()
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            stack.push(_hold(folder))
            return folder
        except (FileNotFoundError, FileExistsError, BlockingIOError):
            # Another process failed and removed the parents that it had made, or took this folder for a dead one's.
            if tries == _MOST_TRIES:
                raise


def _make_parents(folder: Path, made: list[Path]) -> None:
    missing = [candidate for candidate in (folder, *folder.parents) if not candidate.exists()]
    for candidate in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another run made it meanwhile
            candidate.mkdir()
            made.append(candidate)


def _hold(folder: Path) -> IO[bytes]:
    """The lock of a ``folder`` of one's own. OSError if another process took the folder for a dead one's."""
    path = folder / _LOCK
    lock = path.open("ab")
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:  # no locks on this file system: nobody will get one, and take the folder for a dead one's
            return lock
        if not os.path.samestat(os.fstat(lock.fileno()), path.stat()):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    except BaseException:
        lock.close()
        raise
    return lock


def _remove_dead(target: Path) -> None:
    """Remove what processes that are dead have left of ``target``; put it back if they had moved it."""
    ours = re.compile(rf"\.{re.escape(target.name[:_SHOWN])}{_SUFFIX}")
    try:
        found = [entry for entry in target.parent.iterdir() if ours.fullmatch(entry.name) and not entry.is_symlink()]
    except OSError:  # no folder yet, or one that cannot be listed
        return
    for folder in found:
        # Another user's, one of a file system without locks, or a living process's stays.
        with contextlib.suppress(OSError), (folder / _LOCK).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _put_back(folder / _OLD, target)
            shutil.rmtree(folder, ignore_errors=True)


def _put(new: Path, target: Path) -> None:
    """Rename the folder ``new`` to ``target``; afterwards ``new`` is the earlier folder, if there was one."""
    for _ in range(_MOST_TRIES):
        try:
            new.rename(target)  # possible where nothing is, or an empty folder
            return
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
        # What stands there may be moved away by another process between any two of these steps.
        with contextlib.suppress(FileNotFoundError):
            try:
                _exchange(new, target)
                return
            except OSError as error:
                if error.errno not in _NO_EXCHANGE:
                    raise
            old = new.with_name(_OLD)
            target.rename(old)
            try:
                new.rename(target)
            except BaseException as error:
                _put_back(old, target)
                if not (isinstance(error, OSError) and error.errno in _TAKEN):
                    raise
            else:
                old.rename(new)
                return
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(target))


def _put_back(old: Path, target: Path) -> None:
    """Rename the folder ``old`` to ``target``, unless something stands there by now; then it is no more than litter."""
    with contextlib.suppress(FileNotFoundError):
        try:
            old.rename(target)
        except OSError as error:
            if error.errno not in (*_TAKEN, errno.ENOTDIR):
                raise
            old.rename(old.with_name(secrets.token_hex(4)))


def _exchange(one: Path, other: Path) -> None:
    """Let two entries of one file system change their names, in one step. OSError if they cannot."""
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    try:
        if sys.platform == "darwin":
            failed = library.renamex_np(*names, _RENAME_SWAP)
        else:
            failed = library.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE)
    except AttributeError:  # an old C library
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(one)) from None
    if failed:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(one))
