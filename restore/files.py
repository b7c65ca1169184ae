"""Files that appear whole or not at all, and what is left of them after a kill."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
import sys
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from pretrained.disk import lock, written_whole
from restore.errors import FileAccess, FullDisk

# Prefix and suffix of temporary files.
PREFIX, SUFFIX = ".restore-", ".tmp"

# Age in seconds from which a temporary file is a leftover even where no lock tells it.
OLD = 24 * 3600.0

# Errors of a disk that takes no further file: it is full, over quota or read-only.
_FULL = {errno.ENOSPC, errno.EROFS, getattr(errno, "EDQUOT", errno.ENOSPC)}

# What `open_regular` refuses, by the type of file.
_IRREGULAR = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True)
class Fingerprint:
    """Identity of the content of a file.

    Attributes:
        size: size in bytes.
        mtime_ns: time of the last change in nanoseconds.
        sha256: digest of the content.
    """

    size: int
    mtime_ns: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Fingerprint:
        """Return the fingerprint of a file, which is read whole.

        Raises:
            FileAccess: the file cannot be read.
        """
        with open_regular(path) as file:
            try:
                return cls._of_open(file)
            except OSError as error:
                raise _not_read(path, error) from error

    @classmethod
    def _of_open(cls, file: BinaryIO) -> Fingerprint:
        status = os.fstat(file.fileno())
        digest = hashlib.file_digest(file, "sha256")  # type: ignore[arg-type]  # has readinto
        return cls(status.st_size, status.st_mtime_ns, digest.hexdigest())

    @classmethod
    def of_content(cls, data: bytes, status: os.stat_result) -> Fingerprint:
        """Return the fingerprint of a file whose content is at hand."""
        return cls(len(data), status.st_mtime_ns, hashlib.sha256(data).hexdigest())

    def still_holds(self, path: Path) -> bool:
        """Return True if a file has the same content; it is read only if its time differs.

        Raises:
            OSError: there is no such file, or it cannot be read.
        """
        status = path.stat()
        if status.st_size != self.size or not stat.S_ISREG(status.st_mode):
            return False
        return status.st_mtime_ns == self.mtime_ns or Fingerprint.of(path).sha256 == self.sha256


@contextmanager
def opened_once(path: Path) -> Iterator[tuple[BinaryIO, Fingerprint]]:
    """Open a file to read what its fingerprint is taken of.

    Yields:
        The file at its start, and its fingerprint.

    Raises:
        FileAccess: It is no regular file, cannot be read, or changes until the block ends.
    """
    with open_regular(path) as file:
        try:
            status = os.fstat(file.fileno())
            fingerprint = Fingerprint._of_open(file)
            file.seek(0)
        except OSError as error:
            raise _not_read(path, error) from error

        yield file, fingerprint

        if stamp(os.fstat(file.fileno())) != stamp(status):
            raise FileAccess(f"{path}: cannot be read: it changed meanwhile")


def stamp(status: os.stat_result) -> tuple[int, int, int, int, int]:
    """Return what changes when a file is written, as far as is known without reading it."""
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def read_once(path: Path) -> tuple[bytes, Fingerprint]:
    """Return the content of a file and the fingerprint of this very content.

    Raises:
        FileAccess: It is no regular file, or cannot be read.
    """
    with open_regular(path) as file:
        try:
            status = os.fstat(file.fileno())
            data = file.read()
        except OSError as error:
            raise _not_read(path, error) from error

    return data, Fingerprint.of_content(data, status)


def open_list(path: Path) -> BinaryIO:
    """Open a regular file or a pipe, such as that of ``<(find …)``, for reading.

    A named pipe that nobody writes to is empty, and not waited for.

    Raises:
        FileAccess: It is a folder, a socket or a device, or cannot be opened.
    """
    try:
        if stat.S_ISFIFO(path.stat().st_mode):
            file = io.BufferedReader(io.FileIO(str(path), opener=_without_waiting))
            os.set_blocking(file.fileno(), True)
            return file
    except (OSError, ValueError) as error:
        raise _not_read(path, error) from error

    return open_regular(path)


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
        raise _not_read(path, error) from error

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


def _not_read(path: Path, error: OSError | ValueError) -> FileAccess:
    return FileAccess(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}")


def write_atomically(data: bytes, path: Path, overwrite: bool) -> None:
    """Write a file so that the whole of it appears, or nothing does.

    Missing folders are made; the mode bits follow the umask.

    Raises:
        FileAccess: The target exists and ``overwrite`` is False, or it cannot be written.
    """
    refuse_long(path)
    try:
        with written_whole(path, temporary_beside(path), replace=overwrite) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise not_written(path, error) from error


def temporary_beside(path: Path) -> Path:
    """Return a new name for a temporary file in the folder of ``path``."""
    return path.parent / f"{PREFIX}{uuid.uuid4().hex}{SUFFIX}"


def is_temporary(name: str) -> bool:
    """Return True for the name of a file as `temporary_beside` makes it."""
    return name.startswith(PREFIX) and name.endswith(SUFFIX)


def not_written(path: Path, error: OSError) -> FileAccess:
    """Return the error for a file that cannot be written; `FullDisk` if no file could."""
    if isinstance(error, FileExistsError) and os.path.lexists(path):
        return already_there(path)
    kind = FullDisk if error.errno in _FULL else FileAccess
    return kind(f"{path}: cannot be written: {error.strerror or error}")


def already_there(path: Path) -> FileAccess:
    """Return the error for a file that may not be replaced."""
    return FileAccess(f"{path}: exists already; pass `overwrite` to replace it")


@contextmanager
def looked_up(path: Path, to_write: bool = False) -> Iterator[None]:
    """Turn errors of looking a file up, such as a name that is too long, into those for users.

    Args:
        path: The file.
        to_write: True if it is looked up to be written.

    Raises:
        FileAccess: for an OSError.
    """
    if to_write:
        refuse_long(path, "give another OUT")
    try:
        yield
    except FileAccess:
        raise
    except OSError as error:
        done = "written" if to_write else "read"
        raise FileAccess(f"{_cut(path)}: cannot be {done}: {error.strerror or error}") from None


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

    name = max((_length(part) for part in path.parts), default=0)
    whole = max(len(os.fsencode(each)) for each in (path, temporary_beside(path)))
    longest_name, longest_path = _longest(path.parent)
    if name > longest_name:
        raise FileAccess(
            f"{_cut(path)}: the name is too long, {name} {_UNIT}, at most {longest_name} are "
            f"possible; {remedy}"
        )
    if whole > longest_path:
        raise FileAccess(
            f"{_cut(path)}: the path is too long, {whole} bytes with a temporary name, at most "
            f"{longest_path} are possible; {remedy}"
        )


# What the file systems of Windows and macOS count in a name are units of UTF-16.
_COUNTS_UNITS = sys.platform in ("win32", "darwin")
_UNIT = "characters" if _COUNTS_UNITS else "bytes"


def _length(name: str) -> int:
    """Return the length of a name as a file system counts it."""
    if _COUNTS_UNITS:
        return len(name.encode("utf-16-le", "surrogatepass")) // 2
    return len(os.fsencode(name))


@lru_cache(maxsize=1024)
def _longest(folder: Path) -> tuple[int, float]:
    """Return the lengths that a name in a folder, and the bytes that a path in it, may have."""
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
        FileAccess: Something is there and ``overwrite`` is False, it is no regular file, or the
            name is too long.
    """
    refuse_long(path)
    refuse_irregular(path)
    if os.path.lexists(path) and not overwrite:
        raise already_there(path)


def refuse_irregular(path: Path) -> None:
    """Refuse to write to a folder, named pipe, socket or device, or a link to one.

    A new file would take its name, and whoever reads the pipe would wait for ever.

    Raises:
        FileAccess: It is one.
    """
    try:
        mode = path.stat().st_mode
    except OSError:  # nothing is there, or its folder is refused by `check_writable`
        return
    if not stat.S_ISREG(mode):
        kind = _IRREGULAR.get(stat.S_IFMT(mode), "of an unknown kind")
        raise FileAccess(f"{path}: cannot be written: {kind}, not a regular file")


def remove_leftovers(folder: Path, keep: Collection[Path] = ()) -> int:
    """Remove the temporary files below a folder that killed runs left there.

    A file that is being written is locked by its writer, so that other runs lose nothing.

    Args:
        folder: the folder.
        keep: files that stay.

    Returns:
        The number of removed files.
    """
    removed = 0
    for parent, _, names in os.walk(folder):
        found = (Path(parent, name) for name in names if is_temporary(name))
        removed += sum(_removed_if_left(path) for path in found if path not in keep)

    return removed


def _removed_if_left(path: Path) -> bool:
    """Remove a temporary file unless it is being written; return whether it was removed."""
    try:
        if path.is_symlink():  # not made here
            return False
        with open_regular(path) as file:
            if time.time() - os.fstat(file.fileno()).st_mtime < OLD and not lock(file):
                return False
            path.unlink()
            return True
    except OSError:  # gone meanwhile, not a regular file, or not ours
        return False
