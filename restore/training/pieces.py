"""Files split into pieces small enough to travel; ``cat NAME.* > NAME`` joins them too."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pretrained.tables import read_json
from restore.errors import BadArgument, FileAccess, UnreadableInput
from restore.files import write_atomically

KIB = 1 << 10
MIB = 1 << 20
# Size of the largest piece in bytes.
PIECE = 16 * MIB

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
    """Return the bytes of a size such as ``30MiB`` or ``500 kB``.

    Raises:
        BadArgument: It is not a size, or not above zero.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text, re.IGNORECASE)
    if found is None or found[2].upper() not in _UNITS or not float(found[1]):
        raise BadArgument(f"{text}: not a size; write it as 30MiB, 500kB or in bytes")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def mebibytes(size: int) -> str:
    """Format a size in MiB or KiB."""
    return f"{size / MIB:.1f} MiB" if size >= MIB / 10 else f"{size / KIB:.1f} KiB"


def write_pieces(data: bytes, folder: Path, name: str, index: Mapping[str, Any]) -> list[Path]:
    """Write data as ``NAME.01``, ``NAME.02``, … and an index ``STEM.json``.

    Args:
        data: Content of the file.
        folder: Where the pieces go.
        name: Name of the file.
        index: More entries for the index; it also gets ``file``, ``pieces``, ``bytes`` and
            ``sha256``.

    Returns:
        The pieces and the index. Pieces of an earlier, longer file are removed.

    Raises:
        FileAccess: The folder cannot be written.
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
    """Read the data and the index that `write_pieces` wrote.

    Raises:
        FileAccess: The index or a piece is missing.
        UnreadableInput: The pieces do not match the index.
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
    """Read the index alone; errors as for `read_pieces`."""
    path = index_path(folder, name)
    try:
        index = read_json(path)
    except OSError as error:
        raise FileAccess(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise UnreadableInput(f"{path}: not JSON") from None

    if not isinstance(index, dict) or index.get("file") != name:
        raise UnreadableInput(f"{path}: not the index of {name}")

    return index


def index_path(folder: Path, name: str) -> Path:
    """Return the path of the index of a file in pieces."""
    return folder / f"{name.split('.')[0]}.json"
