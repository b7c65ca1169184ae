"""Files that are cut into pieces small enough to travel; ``cat NAME.* > NAME`` puts one together as
well.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from restore.errors import BadArgument, FileAccess, UnreadableInput
from restore.files import write_atomically

KIB = 1 << 10
MIB = 1 << 20
PIECE = 16 * MIB
"""The largest piece in bytes."""

_UNITS = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KIB": KIB,
    "MIB": MIB,
    "GIB": 1 << 30,
}


def size_of(text: str) -> int:
    """Bytes of a size such as ``30MiB`` or ``500 kB``.

    Raises:
        BadArgument: no size, or none above zero.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text, re.IGNORECASE)
    if found is None or found[2].upper() not in _UNITS or not float(found[1]):
        raise BadArgument(f"{text}: not a size; write it as 30MiB, 500kB or in bytes")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def mebibytes(size: int) -> str:
    """A size for people."""
    return f"{size / MIB:.1f} MiB" if size >= MIB / 10 else f"{size / KIB:.1f} KiB"


def write_pieces(data: bytes, folder: Path, name: str, index: Mapping[str, Any]) -> list[Path]:
    """Write data as ``NAME.01``, ``NAME.02``, … and then ``STEM.json``, which says what they are.

    Args:
        index: what else the JSON file is to say; it gets the keys ``file``, ``pieces``, ``bytes``
            and ``sha256``.

    Returns:
        The pieces and the index. Pieces of an earlier, longer file are removed.

    Raises:
        FileAccess: the folder cannot be written.
    """
    count = max(1, math.ceil(len(data) / PIECE))
    pieces = [folder / f"{name}.{number + 1:02d}" for number in range(count)]
    for number, piece in enumerate(pieces):
        write_atomically(data[number * PIECE : (number + 1) * PIECE], piece, overwrite=True)

    facts = {
        "file": name,
        "pieces": count,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    target = index_path(folder, name)
    write_atomically(
        (json.dumps({**facts, **index}, indent=1) + "\n").encode(), target, overwrite=True
    )

    for left in folder.glob(f"{name}.[0-9][0-9]"):
        if left not in pieces:
            left.unlink()

    return [*pieces, target]


def read_pieces(folder: Path, name: str) -> tuple[bytes, dict[str, Any]]:
    """The data and the index that `write_pieces` wrote.

    Raises:
        FileAccess: the index or a piece is missing.
        UnreadableInput: the pieces are not those that the index tells of.
    """
    index = read_index(folder, name)
    pieces = [folder / f"{name}.{number + 1:02d}" for number in range(index["pieces"])]
    try:
        data = b"".join(piece.read_bytes() for piece in pieces)
    except OSError as error:
        raise FileAccess(f"{error.filename}: cannot be read: {error.strerror}") from None

    if hashlib.sha256(data).hexdigest() != index["sha256"]:
        raise UnreadableInput(
            f"{folder}: {name} is damaged, or its pieces are of different packings"
        )

    return data, index


def read_index(folder: Path, name: str) -> dict[str, Any]:
    """The index alone; errors as `read_pieces`."""
    path = index_path(folder, name)
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileAccess(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise UnreadableInput(f"{path}: not JSON") from None

    if not isinstance(index, dict) or index.get("file") != name:
        raise UnreadableInput(f"{path}: not the index of {name}")

    return index


def index_path(folder: Path, name: str) -> Path:
    """Where the index of a file in pieces is."""
    return folder / f"{name.split('.')[0]}.json"
