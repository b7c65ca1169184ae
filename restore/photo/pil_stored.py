"""What the file of an image of Pillow stores, as long as the image is still what the file holds."""

from __future__ import annotations

import io
import os
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


def file_of(image: Image) -> Stored | None:
    """Read the file that Pillow opened an image from; None if it is no JPEG or cannot be had.

    It has to be asked before the image is loaded, which gives a file in memory up. What was opened
    from a path is read again.
    """
    if getattr(image, "format", None) not in ("JPEG", "MPO"):
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
