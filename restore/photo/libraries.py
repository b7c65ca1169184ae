"""The libraries that decode pictures: what is global in them, and the text of their errors."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from restore.photo.refusals import Truncated, Unreadable

# Held within `libraries_silent`.
_one_at_a_time = threading.Lock()


@contextmanager
def libraries_silent() -> Iterator[None]:
    """Turn off warnings, tifffile's log, and Pillow's own pixel limit.

    They are global, so only one thread is in here at a time. Pillow checks its limit on opening
    and, for TIFF, on decoding.
    """
    with _one_at_a_time:
        log = logging.getLogger("tifffile")
        limit = Image.MAX_IMAGE_PIXELS
        disabled = log.disabled
        Image.MAX_IMAGE_PIXELS = None
        log.disabled = True

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit
            log.disabled = disabled


def reason(error: Exception) -> str:
    """Return why a picture is refused, never in the words of a library."""
    if isinstance(error, Unreadable):
        return str(error)
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    if "truncated" in str(error).lower():
        return str(Truncated())
    return "the picture is damaged, or of a kind that is not supported"
