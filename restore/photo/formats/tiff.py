"""TIFF; Pillow decodes its 8-bit pixels, `restore.photo.formats.deep_tiff` the deeper ones.

It is written here: deflated strips, and horizontal differences where the numbers are whole.
"""

from __future__ import annotations

import io
import zlib

import numpy as np
from PIL import TiffImagePlugin

from restore.photo.encode import ZLIB_LEVEL
from restore.photo.formats.deep_tiff import deep_samples, stored_bits
from restore.photo.formats.record import PictureFormat, PillowReader, Source, Writer
from restore.photo.metadata import Metadata, exif_tags

# Tags, as in TIFF 6.0.
_WIDTH, _HEIGHT, _BITS_PER_SAMPLE, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIP_OFFSETS, _SAMPLES_PER_PIXEL, _ROWS_PER_STRIP, _STRIP_BYTES = 273, 277, 278, 279
_X_RESOLUTION, _Y_RESOLUTION, _PLANES, _RESOLUTION_UNIT = 282, 283, 284, 296
_PREDICTOR, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 317, 338, 339
_XMP, _IPTC, _ICC_PROFILE = 700, 33723, 34675

# Values of tags.
_DEFLATE = 8
_GREY, _RGB = 1, 2
_INTERLEAVED = 1
_INCH = 2
_HORIZONTAL_DIFFERENCES = 2
_UNPREMULTIPLIED_ALPHA = 2
_FLOATING = 3

# Bytes of a strip before it is compressed.
_STRIP = 2**20


def encode(samples: np.ndarray, source: Source) -> bytes:
    """Encode uint8, uint16 or float32 samples; deep grey with alpha becomes RGB with alpha."""
    if samples.itemsize > 1 and samples.shape[2] == 2:  # few programs read it; Pillow does not
        samples = samples[..., [0, 0, 0, 1]]

    floating = samples.dtype.kind == "f"
    stored = np.ascontiguousarray(samples) if floating else _differences(samples)
    stored = stored.astype(samples.dtype.newbyteorder("<"), copy=False)
    rows = max(1, _STRIP // stored[0].nbytes)
    strips = [
        zlib.compress(stored[y : y + rows].tobytes(), ZLIB_LEVEL)
        for y in range(0, len(stored), rows)
    ]

    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in exif_tags(source.metadata.exif).items():
        tags[tag] = value
    _describe_pixels(tags, samples)
    _describe_strips(tags, rows, [len(strip) for strip in strips])
    _add_metadata(tags, source.metadata)

    file = io.BytesIO()
    tags.save(file)  # adds the length of what it writes to the strips' offsets

    return file.getvalue() + b"".join(strips)


def _differences(samples: np.ndarray) -> np.ndarray:
    """Each pixel less the one to its left."""
    differences = samples.copy()
    differences[:, 1:] -= samples[:, :-1]
    return differences


def _describe_pixels(tags: TiffImagePlugin.ImageFileDirectory_v2, samples: np.ndarray) -> None:
    height, width, channels = samples.shape
    tags[_WIDTH] = width
    tags[_HEIGHT] = height
    tags[_BITS_PER_SAMPLE] = (8 * samples.itemsize,) * channels
    tags[_PHOTOMETRIC] = _RGB if channels > 2 else _GREY
    tags[_SAMPLES_PER_PIXEL] = channels
    tags[_PLANES] = _INTERLEAVED

    if samples.dtype.kind == "f":
        tags[_SAMPLE_FORMAT] = (_FLOATING,) * channels
    else:
        tags[_PREDICTOR] = _HORIZONTAL_DIFFERENCES
    if channels in (2, 4):
        tags[_EXTRA_SAMPLES] = _UNPREMULTIPLIED_ALPHA


def _describe_strips(
    tags: TiffImagePlugin.ImageFileDirectory_v2, rows: int, sizes: list[int]
) -> None:
    tags[_COMPRESSION] = _DEFLATE
    tags[_ROWS_PER_STRIP] = rows
    tags[_STRIP_OFFSETS] = tuple(np.cumsum([0, *sizes[:-1]]).tolist())
    tags[_STRIP_BYTES] = tuple(sizes)


def _add_metadata(tags: TiffImagePlugin.ImageFileDirectory_v2, metadata: Metadata) -> None:
    if metadata.dpi:
        tags[_X_RESOLUTION], tags[_Y_RESOLUTION] = metadata.dpi
        tags[_RESOLUTION_UNIT] = _INCH

    contents = {_XMP: metadata.xmp, _IPTC: metadata.iptc, _ICC_PROFILE: metadata.icc_profile}
    for tag, content in contents.items():
        if content:
            tags[tag] = content


TIFF = PictureFormat(
    "TIFF",
    "TIFF",
    (".tif", ".tiff"),
    PillowReader(stored_bits=stored_bits, deep_samples=deep_samples),
    Writer((8, 16, 32), encode),
)
