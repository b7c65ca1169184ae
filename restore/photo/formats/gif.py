"""GIF, which is only read; Pillow decodes it, but would search a damaged file byte by byte."""

from __future__ import annotations

import io
import struct
from typing import BinaryIO, NamedTuple

from restore.photo.formats.record import (
    Extent,
    Limits,
    PictureFormat,
    PillowReader,
    Prepared,
    check_size,
)

_STARTS = (b"GIF87a", b"GIF89a")

# The first byte of a block.
_EXTENSION, _IMAGE, _TRAILER = b"\x21", b"\x2c", b"\x3b"


class _Blocks(NamedTuple):
    """What a walk over the blocks finds.

    Attributes:
        end: Where the last whole block ends.
        frames: Number of frames.
        width: Width of the screen, or of the widest frame if that is larger.
        height: Likewise.
    """

    end: int
    frames: int
    width: int
    height: int


def prepare(data: bytes, page: int | None, limits: Limits) -> Prepared:
    """Cut off what follows the last block, and check the size of every frame.

    Raises:
        Unreadable: A frame is too large.
    """
    blocks = _walk(io.BytesIO(data))
    check_size(blocks.width, blocks.height, limits.max_pixels)
    return Prepared(data if blocks.end >= len(data) else data[: blocks.end] + _TRAILER)


def extent(file: BinaryIO, size: int) -> Extent:
    """Find where the last block of a large file ends, and the bytes of all frames."""
    blocks = _walk(file)
    return Extent(min(blocks.end, size), blocks.frames * blocks.width * blocks.height)


def _walk(file: BinaryIO) -> _Blocks:
    file.seek(0)
    head = file.read(13)
    if len(head) < 13:
        return _Blocks(len(head), 0, 0, 0)
    width, height, flags = struct.unpack_from("<HHB", head, 6)
    file.seek(_color_table(flags), io.SEEK_CUR)
    end = file.tell()
    frames = 0

    while (kind := file.read(1)) in (_EXTENSION, _IMAGE):
        if kind == _EXTENSION:
            file.seek(1, io.SEEK_CUR)
        else:
            described = file.read(9)
            if len(described) < 9:
                break
            left, top, across, down, flags = struct.unpack("<HHHHB", described)
            width, height = max(width, left + across), max(height, top + down)
            frames += 1
            file.seek(_color_table(flags) + 1, io.SEEK_CUR)
        while (length := file.read(1)) not in (b"", b"\0"):
            file.seek(length[0], io.SEEK_CUR)
        end = file.tell()

    return _Blocks(end + (kind == _TRAILER), frames, width, height)


def _color_table(flags: int) -> int:
    """Bytes of the colour table that flags announce."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


GIF = PictureFormat(
    "GIF",
    "GIF",
    (".gif",),
    lambda head: head.startswith(_STARTS),
    PillowReader(prepare),
    extent=extent,
)
