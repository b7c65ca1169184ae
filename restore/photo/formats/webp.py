"""WebP."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from restore.photo.encode import saved_by_pillow
from restore.photo.formats.record import (
    Extent,
    Limits,
    PictureFormat,
    PillowReader,
    Prepared,
    Source,
    Writer,
)
from restore.photo.refusals import Truncated

# Quality of lossy files where none is asked for, and Pillow's effort for lossless ones.
_QUALITY = 90
_LOSSLESS_EFFORT = 75
# A walk over more chunks than any picture has would take minutes.
_MOST_CHUNKS = 2**18
# WEBP_MAX_DIMENSION of libwebp.
_LONGEST_SIDE = 16383
# Chunks of pixels, lossy and lossless.
_PIXELS = (b"VP8 ", b"VP8L")
# Zeros at the end of a file from which it is tested whether an interrupted copy left them, and how
# many of them are left out for that.
_UNFILLED = 64
_SURPLUS = 32


class _Chunk(NamedTuple):
    """A chunk of the container.

    Attributes:
        name: Its type.
        length: Bytes of its content.
        start: Where it starts, 8 bytes before its content.
    """

    name: bytes
    length: int
    start: int

    @property
    def end(self) -> int:
        """Where the next one starts."""
        return self.start + 8 + self.length + self.length % 2


def encoding(im: Image.Image, data: bytes) -> dict[str, Any]:
    """`lossless`: False if the file has a chunk of lossy pixels."""
    return {"lossless": b"VP8 " not in data}


def prepare(data: bytes, page: int | None, limits: Limits) -> Prepared:
    """Refuse a file whose end an interrupted copy never filled: libwebp takes zeros for pixels.

    Raises:
        Truncated: It is such a file.
    """
    end = _declared_end(data)
    if end <= len(data) and not any(data[:end][-_UNFILLED:]):
        chunks = list(_chunks(io.BytesIO(data[:end])))
        if not chunks or chunks[-1].end < end:  # zeros where a chunk should be
            raise Truncated
        if chunks[-1].name in _PIXELS and _canvas(data) <= limits.max_pixels:
            _refuse_surplus(data, chunks[-1])

    return Prepared(data)


def _refuse_surplus(data: bytes, last: _Chunk) -> None:
    """Refuse zeros at the end of the pixels that the decoder does not need.

    Flat areas are coded as zeros, too, but encoders write no more of them than are decoded: of
    such files, 4 bytes less cannot be decoded. Zeros in place of other pixels are used up slowly.

    Raises:
        Truncated: It can do without them.
    """
    kept = data[last.start + 8 : last.start + 8 + last.length - _SURPLUS]
    start = data[: last.start] + struct.pack("<4sI", last.name, len(kept))
    shorter = start + kept + bytes(len(kept) % 2)
    shorter = shorter[:4] + struct.pack("<I", len(shorter) - 8) + shorter[8:]

    try:
        Image.open(io.BytesIO(shorter), formats=["WEBP"]).load()
    except Exception:  # they are needed
        return
    raise Truncated


def ends_early(data: bytes) -> bool:
    """Return True if the container is longer than the file."""
    return _declared_end(data) > len(data)


def _declared_end(data: bytes) -> int:
    """Where the container ends."""
    return int.from_bytes(data[4:8], "little") + 8


def extent(file: BinaryIO, size: int) -> Extent:
    """Find the end of the container; every frame is at most of the size of the canvas."""
    head = file.read(30)
    (length,) = struct.unpack_from("<I", head, 4)
    frames = 1 + sum(chunk.name == b"ANMF" for chunk in _chunks(file))

    return Extent(min(length + 8, size), frames * _canvas(head) * 4)


def _chunks(file: BinaryIO) -> Iterator[_Chunk]:
    """Yield the chunks of a file, until one of them is damaged."""
    place = 12
    for _ in range(_MOST_CHUNKS):
        file.seek(place)
        start = file.read(8)
        if len(start) < 8 or not start[:4].strip().isalnum():
            return
        chunk = _Chunk(start[:4], int.from_bytes(start[4:], "little"), place)
        yield chunk
        place = chunk.end


def _canvas(head: bytes) -> int:
    """Pixels that the first chunk declares (RFC 9649, 2.5 to 2.7)."""
    if head[12:16] == b"VP8X":
        width, height = (int.from_bytes(head[k : k + 3], "little") + 1 for k in (24, 27))
    elif head[12:16] == b"VP8L":
        (sides,) = struct.unpack_from("<I", head, 21)
        width, height = (sides & 0x3FFF) + 1, (sides >> 14 & 0x3FFF) + 1
    else:
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", head, 26))
    return width * height


def encode(samples: np.ndarray, source: Source) -> bytes:
    """Encode uint8 samples: lossless unless a quality is asked for or the source was lossy."""
    metadata = source.metadata
    asked = source.encoding.get("quality")
    lossless = asked is None and not source.is_lossy and source.encoding.get("lossless", True)
    quality = _LOSSLESS_EFFORT if lossless else asked or _QUALITY

    return saved_by_pillow(
        samples,
        "WEBP",
        icc_profile=metadata.icc_profile,
        exif=metadata.exif,
        dpi=metadata.dpi,
        xmp=metadata.xmp,
        lossless=lossless,
        exact=True,
        quality=quality,
    )


WEBP = PictureFormat(
    "WEBP",
    "WebP",
    (".webp",),
    lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP",
    PillowReader(prepare, encoding=encoding),
    Writer((8,), encode, takes_quality=True, longest_side=_LONGEST_SIDE),
    extent=extent,
    ends_early=ends_early,
)
