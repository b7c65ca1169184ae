"""Which pictures a run takes: all of a folder, those of a pattern or a list; and of these one
machine's share.
"""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from restore.errors import BadArgument, FileAccess, NothingToDo

_MAGIC = frozenset("*?[")


@dataclass(frozen=True)
class Shard:
    """One of several runs that share a folder: it takes the pictures whose name falls to it,
    whatever else is there.
    """

    number: int
    """From 1."""
    count: int

    @classmethod
    def read(cls, text: str) -> Shard:
        """``2/8``.

        Raises:
            BadArgument: not two whole numbers i/N with 1 ≤ i ≤ N.
        """
        number, slash, count = text.partition("/")
        if slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count):
            return cls(int(number), int(count))
        raise BadArgument(f"`shard`={text}: must be i/N with i from 1 to N, as in 2/8")

    def takes(self, name: str) -> bool:
        """Whether a picture is this one's, by its path below the input folder."""
        return zlib.crc32(os.fsencode(name)) % self.count == self.number - 1

    @property
    def part(self) -> str:
        """Names what is this one's own: ``2of8``."""
        return f"{self.number}of{self.count}"


def is_pattern(source: Path) -> bool:
    """Whether a path that is no file stands for several: it has ``*``, ``?`` or ``[`` in it."""
    return not os.path.lexists(source) and not _MAGIC.isdisjoint(str(source))


def root_of(pattern: Path) -> Path:
    """The folder above the first wildcard."""
    return Path(*pattern.parts[: _first_wildcard(pattern)])


def matched(pattern: Path) -> list[Path]:
    """The files that match, in name order; ``**`` stands for any folders.

    Raises:
        NothingToDo: no file matches.
    """
    rest = Path(*pattern.parts[_first_wildcard(pattern) :])
    found = sorted(path for path in root_of(pattern).glob(str(rest)) if path.is_file())
    if not found:
        raise NothingToDo(f"{pattern}: no file matches")
    return found


def listed(
    source: Path, names: Path, read_stdin: Callable[[], bytes] = lambda: sys.stdin.buffer.read()
) -> list[Path]:
    """The files that a list names, relative to the folder ``source``.

    Args:
        names: a file with a name a line, or with NUL after each name, as ``find -print0`` writes;
            ``-`` is stdin.

    Raises:
        FileAccess: the list cannot be read, or it names a file that is not there.
        BadArgument: a name that leads out of ``source``.
        NothingToDo: no name in it.
    """
    try:
        data = read_stdin() if str(names) == "-" else names.read_bytes()
    except OSError as error:
        raise FileAccess(
            f"`files_from`={names}: cannot be read: {error.strerror or error}"
        ) from error

    separator = b"\0" if b"\0" in data else b"\n"
    lines = [
        line.removesuffix(b"\r") if separator == b"\n" else line for line in data.split(separator)
    ]
    found = list(dict.fromkeys(_inside(source, os.fsdecode(line), names) for line in lines if line))
    if not found:
        raise NothingToDo(f"`files_from`={names}: names no file")

    return found


def shared_out(paths: Iterable[Path], root: Path, shard: Shard | None) -> list[Path]:
    """Those of the paths below ``root`` that are this run's."""
    return [
        path for path in paths if shard is None or shard.takes(path.relative_to(root).as_posix())
    ]


def _first_wildcard(pattern: Path) -> int:
    return next(i for i, part in enumerate(pattern.parts) if not _MAGIC.isdisjoint(part))


def _inside(source: Path, name: str, names: Path) -> Path:
    path = Path(name)
    path = path.relative_to(source) if path.is_absolute() and path.is_relative_to(source) else path
    if path.is_absolute() or ".." in path.parts:
        raise BadArgument(
            f"`files_from`={names}: {name} is not below {source}; names are relative to it"
        )
    if not (source / path).is_file():
        raise FileAccess(f"`files_from`={names}: {source / path}: no such file")

    return source / path
