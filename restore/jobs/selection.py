"""Selection of the pictures of a run, by folder, pattern, list and shard."""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from restore.errors import BadArgument, FileAccess, NothingToDo
from restore.files import looked_up, open_list

_MAGIC = frozenset("*?[")

# Bytes of the longest list of pictures, about ten million names.
MOST_BYTES = 10**9


@dataclass(frozen=True)
class Shard:
    """One of several runs on a folder, which takes pictures by a hash of their names.

    Attributes:
        number: number of the shard, from 1.
        count: number of shards.
    """

    number: int
    count: int

    @classmethod
    def read(cls, text: str) -> Shard:
        """Parse ``2/8``.

        Raises:
            BadArgument: not two integers i/N with 1 ≤ i ≤ N.
        """
        number, slash, count = text.partition("/")
        if slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count):
            return cls(int(number), int(count))
        raise BadArgument(f"`shard`={text}: must be i/N with i from 1 to N, as in 2/8")

    def takes(self, name: str) -> bool:
        """Return True if a picture, by its path below the input folder, belongs to this shard."""
        return zlib.crc32(os.fsencode(name)) % self.count == self.number - 1

    @property
    def part(self) -> str:
        """Name of the shard in file names: ``2of8``."""
        return f"{self.number}of{self.count}"


def check_input(source: Path) -> None:
    """Refuse an input that is not there, and one that can be read only once, before any work.

    Raises:
        FileAccess: no such file or folder, or a named pipe, socket or device.
    """
    if is_pattern(source):
        return
    with looked_up(source):
        if not source.exists():
            raise FileAccess(f"{source}: no such file or folder")
        if not source.is_file() and not source.is_dir():
            raise FileAccess(
                f"{source}: a named pipe, socket or device, not a file; - as IN reads a picture "
                "from stdin"
            )


def check_folder(folder: Path) -> None:
    """Refuse a folder that is not there, before any work.

    Raises:
        FileAccess: no such folder.
    """
    with looked_up(folder):
        if not folder.exists():
            raise FileAccess(f"{folder}: no such folder")


def is_pattern(source: Path) -> bool:
    """Return True if a path does not exist and contains ``*``, ``?`` or ``[``."""
    return not os.path.lexists(source) and not _MAGIC.isdisjoint(str(source))


def root_of(pattern: Path) -> Path:
    """Return the folder above the first wildcard."""
    return Path(*pattern.parts[: _first_wildcard(pattern)])


def matched(pattern: Path) -> list[Path]:
    """Return the files that match, in name order; ``**`` matches any folders.

    As in a shell, hidden files and folders match only where the pattern has their dot.

    Raises:
        NothingToDo: no file matches.
    """
    root = root_of(pattern)
    rest = Path(*pattern.parts[_first_wildcard(pattern) :])
    dotted = any(part.startswith(".") for part in rest.parts)
    found = sorted(
        path
        for path in root.glob(str(rest))
        if (dotted or not _is_hidden(path.relative_to(root))) and path.is_file()
    )
    if not found:
        raise NothingToDo(f"{pattern}: no file matches")
    return found


def listed(
    source: Path,
    names: Path,
    read_stdin: Callable[[int], bytes] = lambda size: sys.stdin.buffer.read(size),
) -> list[Path]:
    """Return the files of a list, relative to the folder ``source``.

    Args:
        source: the input folder.
        names: a file with one name per line, or NUL-terminated names as by ``find -print0``; ``-``
            is stdin.
        read_stdin: reads so many bytes of stdin.

    Raises:
        FileAccess: the list cannot be read, or names a missing file.
        BadArgument: a name outside ``source``.
        NothingToDo: an empty list.
    """
    try:
        if str(names) == "-":
            data = read_stdin(MOST_BYTES + 1)
        else:
            with open_list(names) as file:
                data = file.read(MOST_BYTES + 1)
    except FileAccess as error:
        raise FileAccess(f"`files_from`={error}") from error
    except OSError as error:
        raise FileAccess(
            f"`files_from`={names}: cannot be read: {error.strerror or error}"
        ) from error

    if len(data) > MOST_BYTES:
        raise BadArgument(f"`files_from`={names}: longer than {MOST_BYTES / 1e9:.0f} GB")

    separator = b"\0" if b"\0" in data else b"\n"
    lines = [
        line.removesuffix(b"\r") if separator == b"\n" else line for line in data.split(separator)
    ]
    found = list(dict.fromkeys(_inside(source, os.fsdecode(line), names) for line in lines if line))
    if not found:
        raise NothingToDo(f"`files_from`={names}: names no file")

    return found


def shared_out(paths: Iterable[Path], root: Path, shard: Shard | None) -> list[Path]:
    """Return the paths below ``root`` that belong to a shard."""
    return [
        path for path in paths if shard is None or shard.takes(path.relative_to(root).as_posix())
    ]


def _first_wildcard(pattern: Path) -> int:
    return next(i for i, part in enumerate(pattern.parts) if not _MAGIC.isdisjoint(part))


def _is_hidden(place: Path) -> bool:
    """Return True for a file that is hidden, or in a hidden folder."""
    return any(part.startswith(".") for part in place.parts)


def _inside(source: Path, name: str, names: Path) -> Path:
    path = Path(name)
    path = path.relative_to(source) if path.is_absolute() and path.is_relative_to(source) else path
    if path.is_absolute() or ".." in path.parts:
        raise BadArgument(
            f"`files_from`={names}: {name} is not below {source}; names are relative to it"
        )
    with looked_up(source / path):
        if not (source / path).is_file():
            raise FileAccess(f"`files_from`={names}: {source / path}: no such file")

    return source / path
