"""BMP."""

from __future__ import annotations

import numpy as np

from restore.photo.encode import saved_by_pillow
from restore.photo.formats.record import PictureFormat, Source, Writer


def encode(samples: np.ndarray, source: Source) -> bytes:
    """Encode uint8 samples; of the metadata the resolution alone is kept."""
    return saved_by_pillow(samples, "BMP", dpi=source.metadata.dpi)


BMP = PictureFormat(
    "BMP",
    "BMP",
    (".bmp",),
    lambda head: head.startswith(b"BM"),
    writer=Writer((8,), encode, keeps_alpha=False),
)
