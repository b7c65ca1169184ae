"""What the file of an image of Pillow stores, as long as the image is still what the file holds."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from restore.files import open_regular
from restore.photo import apart
from restore.photo.formats.record import Limits
from restore.photo.libraries import libraries_silent
from restore.photo.reading import read_stored

if TYPE_CHECKING:
    from PIL.Image import Image

    from restore.photo.reading import Stored
    from restore.photo.stored import StoredJpeg


def is_jpeg(image: Image) -> bool:
    """Return True for an image that Pillow opened from a JPEG."""
    return getattr(image, "format", None) in ("JPEG", "MPO")


@contextmanager
def keeping_file(image: Image) -> Iterator[None]:
    """Leave a JPEG its file in memory, which Pillow gives up when it loads the image."""
    file: Any = getattr(image, "fp", None)
    try:
        yield
    finally:
        if is_jpeg(image) and not getattr(image, "filename", ""):
            image.fp = file  # type: ignore[attr-defined]


def file_of(image: Image) -> Stored | None:
    """Read the file that Pillow opened an image from; None if it is no JPEG or cannot be had.

    What was opened from a path is read again. A file in memory can be had until somebody else loads
    the image, see `keeping_file`.
    """
    if not is_jpeg(image):
        return None

    pixels = image.width * image.height
    name: Any = getattr(image, "filename", "")
    file: Any = getattr(image, "fp", None)
    try:
        if name:
            with open_regular(Path(os.fsdecode(name))) as opened:
                return read_stored(opened, pixels)
        place = file.tell()
        try:
            file.seek(0)
            return read_stored(io.BytesIO(file.read()), pixels)
        finally:
            file.seek(place)
    except Exception:  # it is gone, closed, or no file
        return None


def stored_of(file: Stored, array: NDArray[Any]) -> StoredJpeg | None:
    """Read what a file stores; None if it holds other pixels than an image.

    Args:
        file: See `file_of`.
        array: The image [H, W] or [H, W, C], upright, see `restore.photo.pil.open_pil`.
    """
    height, width = array.shape[:2]
    try:
        with libraries_silent():
            decoded = apart.decode(file, None, Limits(height * width, coefficients=True))
    except Exception:  # somebody has written another file there
        return None

    samples = decoded.samples
    is_same = samples.dtype == array.dtype and np.array_equal(
        samples, array.reshape(height, width, -1)
    )
    return decoded.stored if is_same else None
