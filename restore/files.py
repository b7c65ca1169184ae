"""Files that appear whole or not at all, and what is left of them after a kill."""

from __future__ import annotations

import os
import stat
import time
import uuid
from functools import partial
from pathlib import Path
from typing import BinaryIO

from pretrained.disk import lock, written_whole
from restore.errors import FileAccess

# Prefix and suffix of temporary files.
PREFIX, SUFFIX = ".restore-", ".tmp"

# Age in seconds from which a temporary file is a leftover even where no lock tells it.
OLD = 24 * 3600.0


# What `open_regular` refuses, by the type of file.
_IRREGULAR = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file, or a link to one, for reading.

    Anything else is refused without being waited for: a named pipe would block until somebody
    writes to it, and opening a device can have effects.

    Raises:
        FileAccess: It is a folder, a named pipe, a socket or a device, or cannot be opened.
    """
    try:
        _refuse_irregular(path, path.stat())
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        file = os.fdopen(os.open(path, flags), "rb")
    except FileAccess:
        raise
    except (OSError, ValueError) as error:
        raise FileAccess(
            f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from error

    try:  # another file may have taken the name since
        _refuse_irregular(path, os.fstat(file.fileno()))
    except BaseException:
        file.close()
        raise

    return file


def _refuse_irregular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _IRREGULAR.get(stat.S_IFMT(status.st_mode), "of an unknown kind")
        raise FileAccess(f"{path}: cannot be read: {kind}, not a regular file")


def write_atomically(data: bytes, path: Path, overwrite: bool) -> None:
    """Write a file so that the whole of it appears, or nothing does.

    Missing folders are made; the mode bits follow the umask.

    Raises:
        FileAccess: The target exists and ``overwrite`` is False, or it cannot be written.
    """
    temporary = path.parent / f"{PREFIX}{uuid.uuid4().hex}{SUFFIX}"
    check = partial(refuse_existing, path, overwrite)
    try:
        with written_whole(path, temporary, before_rename=check):
            temporary.write_bytes(data)
    except FileAccess:
        raise
    except OSError as error:
        raise FileAccess(f"{path}: cannot be written: {error.strerror or error}") from error


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Refuse to replace what is at ``path``, a dangling link included, unless it may be.

    Raises:
        FileAccess: Something is there and ``overwrite`` is False.
    """
    if os.path.lexists(path) and not overwrite:
        raise FileAccess(f"{path}: exists already; pass `overwrite` to replace it")


def remove_leftovers(folder: Path) -> int:
    """Remove the temporary files below a folder that killed runs left there.

    A file that is being written is locked by its writer, so that other runs lose nothing.

    Returns:
        The number of removed files.
    """
    removed = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            if name.startswith(PREFIX) and name.endswith(SUFFIX):
                removed += _removed_if_left(Path(parent) / name)

    return removed


def _removed_if_left(path: Path) -> bool:
    """Remove a temporary file unless it is being written; return whether it was removed."""
    try:
        with open(path, "rb") as file:
            if time.time() - path.stat().st_mtime < OLD and not lock(file):
                return False
            path.unlink()
            return True
    except OSError:  # gone meanwhile, or not ours
        return False
