"""The files of manifests and journals in an output folder: their names, and lines in them."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from io import FileIO
from pathlib import Path

from restore.errors import FileAccess
from restore.files import not_written, read_once
from restore.jobs.entry import Entry

NAME = "restore.jsonl"
_MANIFEST = re.compile(r"restore(-[0-9]+of[0-9]+)?\.jsonl")
_JOURNAL = re.compile(r"restore(-[0-9]+of[0-9]+)?\.journal")


def manifests_in(folder: Path) -> list[Path]:
    """Return the manifests in a folder: those of shards, and that of the whole folder.

    Raises:
        FileAccess: the folder cannot be read.
    """
    return _named(folder, _MANIFEST)


def journals_in(folder: Path) -> list[Path]:
    """Return the journals in a folder.

    Raises:
        FileAccess: the folder cannot be read.
    """
    return _named(folder, _JOURNAL)


def excluded_by(own: Path) -> list[Path]:
    """Return the journals in a folder that nobody may hold while a run holds its own.

    A shard goes with other shards of its division, not with those of others nor with a run on the
    whole folder.

    Args:
        own: the journal of the run.

    Returns:
        ``own`` and the other ones that exist, in an order that is the same for all runs.
    """

    def division(path: Path) -> str:
        return path.stem.partition("of")[2]

    others = [
        path
        for path in journals_in(own.parent)
        if not division(own) or division(path) != division(own)
    ]
    return sorted({own, *others}, key=lambda path: (division(path) != "", path.name))


def _named(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise FileAccess(f"{folder}: cannot be read: {error.strerror or error}") from error

    return sorted(folder / name for name in names if pattern.fullmatch(name))


def lines_of(path: Path) -> tuple[dict[str, Entry], list[str]]:
    """Return the last entry of each picture in a file, and the places of lines that are none.

    Raises:
        FileAccess: the file cannot be read.
    """
    data, _ = read_once(path)
    entries: dict[str, Entry] = {}
    odd = []
    for number, line in enumerate(data.decode("utf-8", "replace").split("\n"), 1):
        entry = Entry.read(line)
        if entry is not None:
            entries[entry.input] = entry
        elif line.strip():
            odd.append(f"{path}: line {number}")

    return entries, odd


def append(path: Path, entry: Entry) -> None:
    """Append a line to a file and flush it to disk.

    Raises:
        FileAccess: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a+b", buffering=0) as file:
            missing = _mended(file)
            with _all_or_nothing(file):
                _write(file, missing + entry.write().encode())
                os.fsync(file.fileno())
    except OSError as error:
        raise not_written(path, error) from error


def versions(paths: Iterable[Path]) -> dict[Path, tuple[int, int]]:
    """Return size and time of the files that have lines."""
    found = {}
    for path in paths:
        with contextlib.suppress(OSError):  # removed just now
            status = path.stat()
            if status.st_size:
                found[path] = (status.st_size, status.st_mtime_ns)
    return found


@contextlib.contextmanager
def _all_or_nothing(file: FileIO) -> Iterator[None]:
    """Cut off what was appended to a file if not all of it could be."""
    size = os.fstat(file.fileno()).st_size
    try:
        yield
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(file.fileno(), size)
        raise


def _write(file: FileIO, data: bytes) -> None:
    """Write all of the data, which may take several calls."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def _mended(file: FileIO) -> bytes:
    """Remove a last line that a kill cut off, and return what is missing at the end of the file."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - 1))
    if not end or file.read(1) == b"\n":
        return b""

    file.seek(0)
    data = file.readall()
    start = data.rfind(b"\n") + 1
    if Entry.read(data[start:].decode("utf-8", "replace")) is not None:
        return b"\n"

    os.ftruncate(file.fileno(), start)
    return b""
