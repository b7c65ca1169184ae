"""Files that appear whole or not at all, and what is left of them after a kill."""

from __future__ import annotations

import io
import os
import stat
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
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
        file = io.BufferedReader(io.FileIO(str(path), opener=_without_waiting))
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


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


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
    refuse_long(path)
    check = partial(refuse_existing, path, overwrite)
    try:
        with written_whole(path, temporary, before_rename=check):
            temporary.write_bytes(data)
    except FileAccess:
        raise
    except OSError as error:
        raise FileAccess(f"{path}: cannot be written: {error.strerror or error}") from error


@contextmanager
def looked_up(path: Path) -> Iterator[None]:
    """Turn errors of looking a file up, such as a name that is too long, into those for users.

    Raises:
        FileAccess: for an OSError.
    """
    try:
        yield
    except FileAccess:
        raise
    except OSError as error:
        raise FileAccess(f"{_cut(path)}: cannot be read: {error.strerror or error}") from None


def refuse_long(path: Path, remedy: str = "choose a shorter one") -> None:
    """Refuse to write a file whose name, or whose path, is too long for the file system.

    Args:
        path: The file, which need not exist, as its folders need not.
        remedy: Ends the error: what to do.

    Raises:
        FileAccess: It is too long, or has a null byte.
    """
    if "\0" in str(path):
        raise FileAccess(f"{path}: the name holds a null byte; {remedy}")

    name = max((len(os.fsencode(part)) for part in path.parts), default=0)
    temporary = len(os.fsencode(path.parent)) + 1 + len(PREFIX) + len(uuid.UUID(int=0).hex)
    whole = max(len(os.fsencode(path)), temporary + len(SUFFIX))
    longest_name, longest_path = _longest(path.parent)
    if name > longest_name:
        raise FileAccess(
            f"{_cut(path)}: the name is too long, {name} bytes, at most {longest_name} are "
            f"possible; {remedy}"
        )
    if whole > longest_path:
        raise FileAccess(
            f"{_cut(path)}: the path is too long, {whole} bytes with a temporary name, at most "
            f"{longest_path} are possible; {remedy}"
        )


@lru_cache(maxsize=1024)
def _longest(folder: Path) -> tuple[int, float]:
    """Return the bytes that a name in a folder, and a path in it, may have."""
    place = next((p for p in (folder, *folder.parents) if os.path.lexists(p)), folder)
    try:
        return os.pathconf(place, "PC_NAME_MAX"), os.pathconf(place, "PC_PATH_MAX") - 1
    except (AttributeError, OSError, ValueError):  # Windows, or a file system that does not tell
        return 255, float("inf")


def _cut(path: Path) -> str:
    """Return a path for an error, without the middle of one that fills a page."""
    text = str(path)
    return text if len(text) <= 400 else f"{text[:200]}…{text[-100:]}"


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Refuse to replace what is at ``path``, a dangling link included, unless it may be.

    Raises:
        FileAccess: Something is there and ``overwrite`` is False, or the name is too long.
    """
    refuse_long(path)
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
