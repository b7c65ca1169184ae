"""WebP."""

from __future__ import annotations

import struct
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from restore.photo.encode import saved_by_pillow
from restore.photo.formats.record import Extent, PictureFormat, PillowReader, Source, Writer

# Quality of lossy files where none is asked for, and Pillow's effort for lossless ones.
_QUALITY = 90
_LOSSLESS_EFFORT = 75
# A walk over more chunks than any picture has would take minutes.
_MOST_CHUNKS = 2**18
# WEBP_MAX_DIMENSION of libwebp.
_LONGEST_SIDE = 16383


def encoding(im: Image.Image, data: bytes) -> dict[str, Any]:
    """`lossless`: False if the file has a chunk of lossy pixels."""
    return {"lossless": b"VP8 " not in data}


def extent(file: BinaryIO, size: int) -> Extent:
    """Find the end of the container; every frame is at most of the size of the canvas."""
    head = file.read(30)
    (length,) = struct.unpack_from("<I", head, 4)
    frames = 1
    place = 12
    for _ in range(_MOST_CHUNKS):
        file.seek(place)
        start = file.read(8)
        if len(start) < 8 or not start[:4].strip().isalnum():
            break
        name, content = struct.unpack("<4sI", start)
        frames += name == b"ANMF"
        place += 8 + content + content % 2

    return Extent(min(length + 8, size), frames * _canvas(head) * 4)


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
    PillowReader(encoding=encoding),
    Writer((8,), encode, takes_quality=True, longest_side=_LONGEST_SIDE),
    extent=extent,
)
