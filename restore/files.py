"""Writing a file so that the whole of it appears, or nothing does."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from typing import IO

from restore.errors import FileAccess

try:
    import fcntl
except ImportError:  # Windows, where open files cannot be removed anyway
    fcntl = None  # type: ignore[assignment]

PREFIX, SUFFIX = ".restore-", ".tmp"
"""Of temporary files."""
OLD = 24 * 3600.0
"""Seconds after which a temporary file is left over where locks tell nothing."""


def write_atomically(data: bytes, path: Path, overwrite: bool) -> None:
    """Write beside the target, then rename over it; missing folders are made, mode bits follow the
    umask.

    Raises FileAccess where the target exists and `overwrite` is False, or cannot be written.
    """
    temporary = path.parent / f"{PREFIX}{uuid.uuid4().hex}{SUFFIX}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "xb") as file:
                _lock(file)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                if fcntl is None:  # an open file cannot be renamed there
                    file.close()
                refuse_existing(path, overwrite)
                os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except FileAccess:
        raise
    except OSError as error:
        raise FileAccess(f"{path}: cannot be written: {error.strerror or error}") from error


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise FileAccess where something is at `path` and may not be replaced; a dangling link
    counts.
    """
    if os.path.lexists(path) and not overwrite:
        raise FileAccess(f"{path}: exists already; pass --overwrite to replace it")


def remove_leftovers(folder: Path) -> int:
    """Remove temporary files below a folder that a killed run left there; how many they were.

    A file that is being written is locked by its writer, so that other runs at the same time lose
    nothing.
    """
    removed = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            if name.startswith(PREFIX) and name.endswith(SUFFIX):
                removed += _removed_if_left(Path(parent) / name)
    return removed


def _removed_if_left(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            if time.time() - path.stat().st_mtime < OLD and not _lock(file):
                return False
            path.unlink()
            return True
    except OSError:  # gone meanwhile, or not ours
        return False


def _lock(file: IO[bytes]) -> bool:
    """Take the file's lock, which ends with the process; False where another one has it, or there
    are no locks.
    """
    if fcntl is None:
        return False

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False

    return True


def _sync_folder(folder: Path) -> None:
    """See the new name on the disk, where folders can be synced."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        return
    finally:
        os.close(descriptor)
