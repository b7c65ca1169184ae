"""Pictures as every browser shows them: 8 bits, upright, at most 4096 pixels a side."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from restore.photo.photograph import FORMATS, Photo, encoded, read_photo

# Longest side of a picture that is shown, in pixels.
LONGEST_SIDE = 4096
# Quality of JPEG for pictures that are shown.
QUALITY = 92

_TYPES = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
    "BMP": "image/bmp",
}

# Media types that browsers do not show, so that there is a view of such results.
VIEWED = frozenset({"image/tiff"})


def picture_type(path: Path) -> str:
    """Return the media type of an output by its suffix."""
    format = FORMATS.get(path.suffix.lower())
    return "application/octet-stream" if format is None else _TYPES[format]


def view(data: bytes, max_pixels: int = 200_000_000) -> tuple[bytes, str, dict[str, Any]]:
    """Return a picture's file as a browser shows it.

    Args:
        data: the file.
        max_pixels: largest number of pixels that it may have.

    Returns:
        A JPEG, or a PNG if it has transparency; its media type; and width, height, bits, format
        and transparency of the picture itself.

    Raises:
        UnreadableInput: it is no picture, or a damaged one.
    """
    photo = read_photo(Path("picture"), max_pixels=max_pixels, file=io.BytesIO(data))
    height, width = photo.pixels.shape[:2]
    facts = {
        "width": width,
        "height": height,
        "bits": photo.bits,
        "format": photo.format,
        "alpha": photo.alpha is not None,
        "profile": photo.icc_profile is not None,
    }
    suffix = "jpg" if photo.alpha is None else "png"
    shown = _shrunk(photo, min(1.0, LONGEST_SIDE / max(width, height)))

    return encoded(shown, Path(f"view.{suffix}")), _TYPES[FORMATS[f".{suffix}"]], facts


def _shrunk(photo: Photo, scale: float) -> Photo:
    """Return a photo in 8 bits, without metadata but its profile."""
    height, width = photo.pixels.shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))

    def resized(values: np.ndarray) -> np.ndarray:
        return values if scale == 1 else cv2.resize(values, size, interpolation=cv2.INTER_AREA)

    alpha = None if photo.alpha is None else resized(photo.alpha)
    pixels = resized(photo.pixels).reshape(size[1], size[0], -1)
    return replace(
        Photo(np.clip(pixels, 0, 1), alpha),
        icc_profile=photo.icc_profile,
        color_chunks=photo.color_chunks,
        encoding={"quality": QUALITY},
    )
