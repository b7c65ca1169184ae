"""Boxes: the container of HEIC, AVIF, JPEG 2000, camera raws and videos (ISO/IEC 14496-12)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from restore.photo.formats.record import Extent

# Bytes of the head of a box: its size and name.
_SHORTEST = 8
# More than any picture has.
_MOST_BOXES = 2**16
# Bytes from the start that hold the directory of a picture's boxes, as encoders write it.
_DIRECTORY = 2**20
# Bytes of a pixel with four channels of 16 bits.
_PER_PIXEL = 8


class Box(NamedTuple):
    """A box, by the place of its content in the file.

    Attributes:
        name: Its type.
        start: Where its content starts.
        end: Where its content ends, in the part of the file that is at hand.
        declared_end: Where its content ends as it says itself.
    """

    name: bytes
    start: int
    end: int
    declared_end: int


def brands(head: bytes) -> set[bytes]:
    """Names that a file gives itself in its first box; none if it has no such box."""
    if head[4:8] != b"ftyp":
        return set()
    (size,) = struct.unpack(">I", head[:4])
    end = min(size, len(head), 256)
    return {head[8:12], *(head[place : place + 4] for place in range(16, end, 4))}


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[Box]:
    """Yield the boxes in a part of the data, until one of them is damaged."""
    end = len(data) if end is None else end
    for _ in range(_MOST_BOXES):
        if start + _SHORTEST > end:
            return
        size, name = struct.unpack_from(">I4s", data, start)
        header = _SHORTEST
        if size == 1 and start + 16 <= end:
            (size,) = struct.unpack_from(">Q", data, start + 8)
            header = 16
        if size == 0:  # up to the end
            size = end - start
        if size < header:
            return
        yield Box(name, start + header, min(start + size, end), start + size)
        start += size


def ends_early(data: bytes) -> bool:
    """Return True for a file that ends within a box, or before `mdat`, the one with the pixels."""
    found = list(boxes(data))
    return all(box.name != b"mdat" for box in found) or found[-1].declared_end > len(data)


def extent(file: BinaryIO, size: int) -> Extent:
    """Find the pixels that the boxes `ispe` of a large HEIC or AVIF declare; all of it can matter.

    Tiles have such boxes, too, so that the sum is no less than the picture's.
    """
    directory = file.read(_DIRECTORY)
    pixels = 0
    place = directory.find(b"ispe")
    while 0 <= place <= len(directory) - 16:
        width, height = struct.unpack_from(">II", directory, place + 8)
        pixels += width * height
        place = directory.find(b"ispe", place + 1)

    return Extent(size, pixels * _PER_PIXEL)
