"""The segments of a JPEG (ITU-T T.81, annex B): its frame, its tables, and what its colours are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from restore.photo.stored import Colour

_START, _END, _SCAN, _QUANTISATION, _RESTART = 0xD8, 0xD9, 0xDA, 0xDB, 0xDD
_HUFFMAN, _ARITHMETIC = 0xC4, 0xCC
_JFIF, _ADOBE = 0xE0, 0xEE
# Frames of sequential and progressive DCT, with Huffman and with arithmetic coding.
_FRAMES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}
_KEPT = _FRAMES | {_SCAN, _QUANTISATION, _RESTART, _HUFFMAN, _ARITHMETIC}
# Markers without a segment: restart intervals, a second start, and TEM.
_BARE = {0x01, *range(0xD0, 0xD9)}
# Any marker, and one that ends the coded data of a scan.
_MARKER = re.compile(rb"\xff+[^\x00\xff]")
_BEHIND_SCAN = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")
# Row and column of each coefficient in the order of the file (figure A.6).
_ZIGZAG = sorted(np.ndindex(8, 8), key=lambda at: (sum(at), at[0] if sum(at) % 2 else at[1]))


class Malformed(ValueError):
    """The segments are not those of a whole JPEG."""


class Layer(NamedTuple):
    """A component as the frame header describes it."""

    id: int
    horizontal: int
    vertical: int
    table: int


@dataclass
class Layout:
    """A JPEG by its segments.

    Attributes:
        height: Rows of the picture.
        width: Columns of the picture.
        layers: Its components.
        tables: uint16 [8, 8] of each component, by its id, as they were when its first scan began.
        colour: What the components are, by the rules of libjpeg.
        essence: The file without its metadata.
    """

    height: int
    width: int
    layers: list[Layer]
    tables: dict[int, NDArray[np.uint16]]
    colour: Colour
    essence: bytes


@dataclass
class _Found:
    """What was found so far."""

    pieces: list[bytes] = field(default_factory=lambda: [bytes([0xFF, _START])])
    frame: bytes | None = None
    slots: dict[int, NDArray[np.uint16]] = field(default_factory=dict)
    tables: dict[int, NDArray[np.uint16]] = field(default_factory=dict)
    is_jfif: bool = False
    adobe: int | None = None


def layout(data: bytes) -> Layout:
    """Read the segments of the first picture in a file.

    Raises:
        Malformed: They are not those of a whole JPEG of 1, 3 or 4 components of 8 bits.
    """
    try:
        return _layout(data)
    except (IndexError, KeyError, ValueError) as error:
        raise Malformed(str(error)) from error


def _layout(data: bytes) -> Layout:
    found = _Found()
    for code, segment in _segments(data):
        _note(found, code, segment[2:])
        if code in _KEPT:
            found.pieces += [bytes([0xFF, code]), segment]

    if found.frame is None:
        raise Malformed("no frame")
    height, width, layers = _frame(found.frame)
    essence = b"".join([*found.pieces, bytes([0xFF, _END])])
    tables = {layer.id: found.tables[layer.id] for layer in layers}

    return Layout(height, width, layers, tables, _colour(found, layers), essence)


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the code and content of each segment up to the end; a scan has its coded data with it.

    Raises:
        Malformed: There is no end.
    """
    place = 2
    while (match := _MARKER.search(data, place)) is not None:
        place = match.end()
        code = data[place - 1]
        if code == _END:
            return
        if code in _BARE:
            continue

        start = place
        place += max(2, int.from_bytes(data[start : start + 2], "big"))
        if code == _SCAN:
            behind = _BEHIND_SCAN.search(data, place)
            place = len(data) if behind is None else behind.start()
        yield code, data[start:place]

    raise Malformed("no end")


def _note(found: _Found, code: int, content: bytes) -> None:
    """Note what a segment says."""
    if code == _QUANTISATION:
        found.slots |= _tables(content)
    elif code in _FRAMES:
        if found.frame is not None:
            raise Malformed("two frames")
        found.frame = content
    elif code == _SCAN:
        _latch(found, content)
    elif code == _JFIF and content.startswith(b"JFIF\0") and len(content) >= 14:
        found.is_jfif = True
    elif code == _ADOBE and content.startswith(b"Adobe") and len(content) >= 12:
        found.adobe = content[11]


def _tables(content: bytes) -> dict[int, NDArray[np.uint16]]:
    """Quantisation tables by their slots (B.2.4.1)."""
    tables = {}
    while content:
        size, slot = 1 + (content[0] >> 4), content[0] & 15
        steps = np.frombuffer(content[1 : 1 + 64 * size], ">u2" if size == 2 else "u1")
        if not steps.all():
            raise Malformed("a step of 0")
        table = np.empty((8, 8), np.uint16)
        for place, step in zip(_ZIGZAG, steps, strict=True):
            table[place] = step
        tables[slot] = table
        content = content[1 + 64 * size :]

    return tables


def _latch(found: _Found, content: bytes) -> None:
    """Take the tables of the components that a scan is the first of."""
    if found.frame is None:
        raise Malformed("a scan before the frame")
    ids = content[1 : 1 + 2 * content[0] : 2]
    for layer in _frame(found.frame)[2]:
        if layer.id in ids and layer.id not in found.tables:
            found.tables[layer.id] = found.slots[layer.table]


def _frame(content: bytes) -> tuple[int, int, list[Layer]]:
    """Height, width and components of a frame header (B.2.2)."""
    bits, count = content[0], content[5]
    height = int.from_bytes(content[1:3], "big")
    width = int.from_bytes(content[3:5], "big")
    parts = [content[start : start + 3] for start in range(6, 6 + 3 * count, 3)]
    layers = [Layer(id, factors >> 4, factors & 15, table) for id, factors, table in parts]
    are_sound = all(1 <= one.horizontal <= 4 and 1 <= one.vertical <= 4 for one in layers)
    if bits != 8 or 0 in (height, width) or count not in (1, 3, 4) or not are_sound:
        raise Malformed("a frame that is not decoded")
    if len({layer.id for layer in layers}) < count:
        raise Malformed("two components of one id")

    return height, width, layers


def _colour(found: _Found, layers: list[Layer]) -> Colour:
    """What the components are, as libjpeg guesses (jdapimin.c, default_decompress_parms)."""
    if len(layers) == 1:
        return "grey"
    if len(layers) == 4:
        return "CMYK" if found.adobe in (None, 0) else "YCCK"
    if found.is_jfif:
        return "YCbCr"
    if found.adobe is not None:
        return "RGB" if found.adobe == 0 else "YCbCr"

    return "RGB" if bytes(layer.id for layer in layers) == b"RGB" else "YCbCr"
