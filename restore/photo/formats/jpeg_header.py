"""The header of a JPEG: kinds that are not decoded, and how long a file of this size can be."""

from __future__ import annotations

import io
import struct
from typing import BinaryIO, NamedTuple

from restore.photo.formats.record import Extent, Limits, Prepared
from restore.photo.refusals import Truncated, Unreadable, not_read

_CONVERT = "convert it to PNG or TIFF first, for example with ImageMagick or GIMP"

# Second byte of the frame header by kind of coding that is not decoded (ITU-T T.81, table B.1;
# T.87).
_FOREIGN_CODINGS = {
    **dict.fromkeys((0xC3, 0xCB), "a lossless JPEG"),
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "a hierarchical JPEG"),
    0xF7: "a JPEG-LS picture",
}
_FRAME_HEADERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
# Markers without a segment: restart intervals and the start.
_BARE = {0x01, *range(0xD0, 0xD9)}
_END, _SCAN = 0xD9, 0xDA
_END_OF_PICTURE = b"\xff\xd9"
# Zeros at the end of a file that an interrupted copy never filled; libjpeg would take them for
# pixels.
_UNFILLED = 64
# Bytes that some programs leave between two segments; libjpeg would search all of the file.
_LONGEST_GAP = 2**16
# Bytes beyond the pixels of a large file that may hold metadata, and previews behind them.
_AROUND = 2**26


class _Frame(NamedTuple):
    """Frame header of a JPEG, and where its pixels begin."""

    coding: int
    bits: int
    height: int
    width: int
    channels: int
    pixels: int


def prepare(data: bytes, page: int | None, limits: Limits) -> Prepared:
    """Refuse the kinds of JPEG that libjpeg does not decode by their names.

    Raises:
        Unreadable: It is one of them, or has no whole header.
        Truncated: The end of its pixels was never written, and that is not allowed.
    """
    frame = _frame(io.BytesIO(data))
    kind = _FOREIGN_CODINGS.get(frame.coding)
    if kind is None and frame.bits != 8:
        kind = f"a JPEG of {frame.bits} bits a channel"
    if kind is not None:
        raise Unreadable(not_read(kind, _CONVERT))

    if not any(data[-_UNFILLED:]) and data.find(_END_OF_PICTURE, frame.pixels) < 0:
        if not limits.allow_truncated:
            raise Truncated(limits.allow_truncated is False)
        return Prepared(data.rstrip(b"\0"))

    return Prepared(data)


def extent(file: BinaryIO, size: int) -> Extent:
    """Cut off what lies behind the picture of a large file, such as a phone's video."""
    frame = _frame(file)
    needed = 2 * frame.width * frame.height * frame.channels
    return Extent(min(size, _AROUND + needed), needed)


def _frame(file: BinaryIO) -> _Frame:
    """Read the frame header.

    Raises:
        Unreadable: There is none, or no pixels come behind it.
    """
    file.seek(0)
    frame = None
    while (marker := _next_marker(file)) not in (None, _END, _SCAN):
        if marker in _BARE:
            continue
        start = file.tell()
        segment = file.read(8)
        if len(segment) < 8:
            break
        length, bits, height, width, channels = struct.unpack(">HBHHB", segment)
        if marker in _FRAME_HEADERS and frame is None:
            frame = _Frame(marker, bits, height, width, channels, pixels=0)
        file.seek(start + max(2, length))

    if frame is None or marker != _SCAN:
        raise Unreadable("its JPEG header is damaged")
    return frame._replace(pixels=file.tell())


def _next_marker(file: BinaryIO) -> int | None:
    """Skip to the next marker, and return its second byte; None if there is none near."""
    start = file.tell()
    near = file.read(_LONGEST_GAP)
    place = near.find(b"\xff")
    while 0 <= place < len(near) - 1 and near[place + 1] in (0x00, 0xFF):
        place = near.find(b"\xff", place + 1)
    if not 0 <= place < len(near) - 1:
        return None

    file.seek(start + place + 2)
    return near[place + 1]
