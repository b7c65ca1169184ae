"""WebP."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from restore.photo.encode import saved_by_pillow
from restore.photo.formats.record import PictureFormat, PillowReader, Source, Writer

# Quality of lossy files where none is asked for, and Pillow's effort for lossless ones.
_QUALITY = 90
_LOSSLESS_EFFORT = 75
# WEBP_MAX_DIMENSION of libwebp.
_LONGEST_SIDE = 16383


def encoding(im: Image.Image, data: bytes) -> dict[str, Any]:
    """`lossless`: False if the file has a chunk of lossy pixels."""
    return {"lossless": b"VP8 " not in data}


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
    PillowReader(encoding=encoding),
    Writer((8,), encode, takes_quality=True, longest_side=_LONGEST_SIDE),
)
