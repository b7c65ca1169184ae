"""AVIF, which is only read; more than 8 bits, which Pillow would cut, are decoded by OpenCV."""

from __future__ import annotations

import importlib.util
import re
from functools import cache

import numpy as np
from PIL import Image

from restore.photo.formats.iso import brands, ends_early, extent
from restore.photo.formats.record import PictureFormat, PillowReader
from restore.photo.refusals import Damaged
from restore.photo.samples import opencv_samples


def is_readable() -> bool:
    """Return True if this build of Pillow has AVIF."""
    return importlib.util.find_spec("PIL._avif") is not None


@cache
def opencv_has_avif() -> bool:
    """Return True if this build of OpenCV has AVIF."""
    import cv2

    return bool(re.search(r"^\s*AVIF:\s+(?!NO)", cv2.getBuildInformation(), re.MULTILINE))


def stored_bits(im: Image.Image, data: bytes) -> int:
    """Bits a channel; 8 where OpenCV cannot decode more."""
    depth = _declared_bits(data)
    return depth if depth > 8 and opencv_has_avif() else 8


def deep_samples(im: Image.Image, data: bytes) -> np.ndarray:
    """Samples of 10 or 12 bits, scaled to 16."""
    samples = opencv_samples(data, np.uint16)
    if samples.shape[:2] != (im.height, im.width):
        raise Damaged("its sizes contradict each other")
    return np.rint(samples * (65535 / (2 ** _declared_bits(data) - 1))).astype(np.uint16)


def _declared_bits(data: bytes) -> int:
    """8, 10 or 12: the bits in the box av1C (AV1 in ISO base media files, 2.3.3)."""
    start = data.find(b"av1C")
    flags = data[start + 6] if 0 <= start < len(data) - 6 else 0
    return 8 if not flags & 0x40 else 12 if flags & 0x20 else 10


AVIF = PictureFormat(
    "AVIF",
    "AVIF",
    (".avif",),
    lambda head: bool(brands(head) & {b"avif", b"avis"}),
    PillowReader(stored_bits=stored_bits, deep_samples=deep_samples),
    is_lossy=True,
    is_readable=is_readable,
    extent=extent,
    ends_early=ends_early,
)
