"""One run at a time in an output folder.

A run locks its journal. The system gives the lock up when the process ends, however it ends, so
that the journal of a killed run is in nobody's way. A shard excludes runs of the same shard, of the
whole folder and of other divisions, but not the other shards of its division.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from restore.errors import FileAccess
from restore.files import not_written
from restore.jobs.manifest_files import excluded_by

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

# Errors that say that another process has the lock; others say that the file system has no locks.
_TAKEN = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK}

# Where Windows locks a byte: beyond the end, since what is locked cannot be read.
_FAR = 2**30
# Seconds between two attempts on Windows.
_PAUSE = 0.5


@contextmanager
def alone_in_folder(journal: Path, waiting: Callable[[], None] | None) -> Iterator[bool]:
    """Keep other runs out of the folder of a journal until the block ends.

    Nobody is kept out where the file system has no locks.

    Args:
        journal: the journal of this run, which is made if there is none.
        waiting: called before the end of another run is waited for; None does not wait.

    Yields:
        False if another run is there and not waited for.

    Raises:
        FileAccess: a journal cannot be opened.
    """
    new = [folder for folder in journal.parents if not folder.exists()]
    try:
        held = _hold(journal, waiting)
    except FileAccess:
        raise
    except OSError as error:
        raise not_written(journal, error) from error

    try:
        yield held is not None
    finally:
        _release(held or {})
        with suppress(OSError):  # folders that are not empty
            for folder in new:
                folder.rmdir()


def _hold(own: Path, waiting: Callable[[], None] | None) -> dict[Path, BinaryIO] | None:
    """Lock all journals that exclude this run; None if one is taken and not waited for.

    All runs lock in the same order, so that no two wait for each other.
    """
    while True:
        held: dict[Path, BinaryIO] = {}
        try:
            own.parent.mkdir(parents=True, exist_ok=True)
            paths = excluded_by(own)
            for path in paths:
                file = open(path, "ab" if path == own else "rb")  # noqa: SIM115  # kept open
                free = _locked(file, alone=path == own)
                if not free and waiting is not None:
                    waiting()
                    _wait_for(file, alone=path == own)
                if not free and waiting is None:
                    file.close()
                    _release(held)
                    return None
                held[path] = file

            # another run may have removed its journal, or begun one, in the meantime
            if excluded_by(own) == paths and all(map(_is_current, held.values(), paths)):
                return held
        except FileNotFoundError:  # removed just now
            pass
        except BaseException:
            _release(held)
            raise

        _release(held)


def _locked(file: BinaryIO, *, alone: bool, wait: bool = False) -> bool:
    """Lock a file, for this run alone or with others; return False if it is taken."""
    try:
        if sys.platform == "win32":
            if alone:
                file.seek(_FAR)
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            mode = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
            fcntl.flock(file, mode if wait else mode | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _TAKEN

    return True


def _wait_for(file: BinaryIO, *, alone: bool) -> None:
    while not _locked(file, alone=alone, wait=True):
        time.sleep(_PAUSE)


def _is_current(file: BinaryIO, path: Path) -> bool:
    """Return True if an open file is still the one with this name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False


def _release(held: dict[Path, BinaryIO]) -> None:
    """Unlock the journals; one of this run without any line is removed."""
    for path, file in held.items():
        with suppress(OSError):
            if file.writable() and os.fstat(file.fileno()).st_size == 0:
                os.unlink(path)
        with suppress(OSError):
            file.close()
