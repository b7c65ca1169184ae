"""TIFFs deeper than 8 bits a channel, which Pillow would cut or refuse: decoded by tifffile and
OpenCV.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

from restore.photo.metadata import ORIENTATION

STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""The first bytes of a TIFF, and of a BigTIFF, in either byte order."""

_BITS_PER_SAMPLE = 258
_SAMPLE_FORMAT = 339
_UNSIGNED = 1
_FLOATING = 3
_MOST_CHANNELS = 16
_DEFLATE_OR_NONE = (1, 8, 32946)
_SMALL = 2**26  # bytes of a strip that no limit is needed for
_PIECE = 2**15  # bytes to inflate at a time; they become at most a thousand times as many
# what resampling leaves beyond black and white, cut off; values further out are something else
_OVERSHOOT = 0.01


def is_float(data: bytes) -> bool:
    """Whether this is a TIFF of 16-, 32- or 64-bit floating-point samples; False where it does not
    tell.
    """
    import tifffile

    if not data.startswith(STARTS):
        return False

    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages[0]
            return page.sampleformat == _FLOATING and page.bitspersample in (16, 32, 64)
    except Exception:  # whoever opens it will say what is wrong
        return False


def as_8bit(data: bytes) -> bytes:
    """The same TIFF declared to be of 8 bits, so that Pillow opens it: for what it says, not for
    its pixels.
    """
    import tifffile

    declared = bytearray(data)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        if _has_second_page(file):
            raise ValueError("has several pages; --pages takes them one by one")
        tags = file.pages[0].tags
        order = file.byteorder
        for code, value in ((_BITS_PER_SAMPLE, 8), (_SAMPLE_FORMAT, _UNSIGNED)):
            count = tags[code].count
            start = tags[code].valueoffset
            if count > _MOST_CHANNELS:
                raise ValueError(f"a TIFF of {count} channels")
            struct.pack_into(f"{order}{count}H", declared, start, *(value,) * count)

    return bytes(declared)


def decode_deep_tiff(im: Image.Image, data: bytes) -> np.ndarray:
    """uint16, or float32 in [0, 1], [H, W, 1, 2, 3 or 4] as stored, not turned upright; ValueError
    says why not.

    `im` is the same file as Pillow opens it, for the meaning of its channels.
    """
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        samples = _samples(page, data)

    if samples.dtype.kind == "f":
        samples = _unit_range(samples)

    full = 1 if samples.dtype.kind == "f" else 65535
    if page.photometric == 0:  # zero is white
        samples = full - samples
    if im.mode == "RGBA" and 1 in page.extrasamples:
        samples = unpremultiply(samples, full)

    return samples[..., : {"RGBA": 4, "RGB": 3, "RGBX": 3, "LA": 2}.get(im.mode, 1)]


def unpremultiply(samples: np.ndarray, full: int) -> np.ndarray:
    """Colours divided by their alpha, the last channel, in the same whole or floating-point numbers
    up to `full`.
    """
    alpha = samples[..., 3:].astype(np.float32)
    smallest = 1 if full > 1 else np.finfo(np.float32).tiny
    colour = (samples[..., :3] * (np.float32(full) / np.maximum(alpha, smallest))).clip(0, full)
    return np.concatenate([np.rint(colour) if full > 1 else colour, alpha], axis=2).astype(
        samples.dtype
    )


def opencv_samples(data: bytes, dtype: type[np.generic]) -> np.ndarray:
    """[H, W, C] of a file that holds numbers of this type; ValueError where OpenCV cannot decode
    it.
    """
    import cv2

    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        samples = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    finally:
        cv2.utils.logging.setLogLevel(level)

    if samples is None or samples.dtype != dtype:
        raise ValueError(f"its {8 * np.dtype(dtype).itemsize}-bit pixels cannot be decoded")

    samples = samples.reshape(*samples.shape[:2], -1)

    return samples[..., [2, 1, 0, 3][: samples.shape[2]]] if samples.shape[2] > 2 else samples


def _has_second_page(file: Any) -> bool:
    try:
        file.pages[1]
    except IndexError:
        return False
    return True


def _samples(page: Any, data: bytes) -> np.ndarray:
    """[H, W, S] as stored. OpenCV knows LZW and the floating-point predictor, for which tifffile
    needs a package.
    """
    ends = [start + size for start, size in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if not ends or max(ends) > len(data) or 0 in page.databytecounts:
        raise ValueError("the file is truncated")

    planar = page.planarconfig == 2 and page.samplesperpixel > 1
    if page.compression in _DEFLATE_OR_NONE and page.predictor != 3:
        _check_inflated(page, data)
        samples = page.asarray()
        if planar:
            return np.moveaxis(samples, 0, -1)
        return samples.reshape(page.imagelength, page.imagewidth, -1)

    if planar:
        raise ValueError("a TIFF of separate colour planes in this compression is not supported")

    tag = page.tags.get(ORIENTATION)
    if tag is not None:  # OpenCV would obey it
        one = struct.pack("<H" if data.startswith(b"II") else ">H", 1)
        data = data[: tag.valueoffset] + one + data[tag.valueoffset + 2 :]

    return opencv_samples(data, np.float32 if page.sampleformat == _FLOATING else np.uint16)


def _check_inflated(page: Any, data: bytes) -> None:
    """ValueError where a strip or tile is, or would become, far larger than the picture: tifffile
    would not ask.
    """
    most = max(2 * page.nbytes, _SMALL)
    too_large = ValueError("its compressed pixels are far more than it declares")
    if (
        page.is_tiled
        and page.tilewidth * page.tilelength * page.samplesperpixel * page.dtype.itemsize > most
    ):
        raise too_large
    if page.compression == 1:
        return

    for start, size in zip(page.dataoffsets, page.databytecounts, strict=True):
        inflate = zlib.decompressobj()
        inflated = 0
        for place in range(start, start + size, _PIECE):
            inflated += len(inflate.decompress(data[place : min(place + _PIECE, start + size)]))
            if inflated > most:
                raise too_large


def _unit_range(samples: np.ndarray) -> np.ndarray:
    """Floating-point samples as float32 in [0, 1]."""
    if not np.isfinite(samples).all():
        raise ValueError("a floating-point TIFF with values that are not finite (NaN or infinity)")

    low = float(samples.min())
    high = float(samples.max())
    if low < -_OVERSHOOT or high > 1 + _OVERSHOOT:
        raise ValueError(
            f"a floating-point TIFF of values from {low:g} to {high:g}; they must lie between 0 "
            "(black) and 1 (white): scale or tone-map them first"
        )

    return samples.astype(np.float32).clip(0, 1)
