"""From numbers in [0, 1] to samples, and from 8-bit samples to files by Pillow."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

# Effort of deflate where this code compresses: beyond it files hardly become smaller.
ZLIB_LEVEL = 5


def quantise(values: np.ndarray, bits: int) -> np.ndarray:
    """Round and clip numbers in [0, 1] to whole numbers of 8 or 16 bits; for 32 bits clip only."""
    if bits == 32:
        return values.astype(np.float32).clip(0, 1)

    top = 2**bits - 1
    dtype = np.uint8 if bits == 8 else np.uint16
    return np.rint(values * np.float32(top)).clip(0, top).astype(dtype)


def saved_by_pillow(samples: np.ndarray, format: str, **options: Any) -> bytes:
    """A file with uint8 samples [H, W, 1, 2, 3 or 4], any alpha last.

    Args:
        format: Pillow's name of the format.
        options: Pillow's options for the format; those that are None are left out.
    """
    im = Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
    file = io.BytesIO()
    im.save(file, format, **{name: value for name, value in options.items() if value is not None})

    return file.getvalue()
