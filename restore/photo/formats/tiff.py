"""TIFF; Pillow decodes its 8-bit pixels, `restore.photo.formats.deep_tiff` the deeper ones.

It is written here: deflated strips, and horizontal differences where the numbers are whole. The
byte order is that of the EXIF, in which Unicode comments and makers' notes are written, too.
"""

from __future__ import annotations

import struct
import zlib
from fractions import Fraction

import numpy as np

from restore.photo.encode import ZLIB_LEVEL
from restore.photo.exif import BYTE, RATIONAL, UNDEFINED, Order, Tag, directory_of, long, short
from restore.photo.formats.deep_tiff import check_samples, deep_samples, stored_bits
from restore.photo.formats.record import (
    Limits,
    PictureFormat,
    PillowReader,
    Prepared,
    Source,
    Writer,
)
from restore.photo.formats.tiff_pages import count_pages, extent, page_alone, recognises
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

# By byte order; the directory lies right behind it.
_HEADERS = {"<": b"II*\0" + struct.pack("<I", 8), ">": b"MM\0*" + struct.pack(">I", 8)}

# Bytes of a strip before it is compressed.
_STRIP = 2**20


def prepare(data: bytes, page: int | None, limits: Limits) -> Prepared:
    """Return a TIFF of one page alone, whose samples can be read.

    Raises:
        Unreadable: They cannot; or as `page_alone`.
    """
    alone = page_alone(data, page)
    check_samples(alone)
    return Prepared(alone)


def encode(samples: np.ndarray, source: Source) -> bytes:
    """Encode uint8, uint16 or float32 samples; deep grey with alpha becomes RGB with alpha."""
    if samples.itemsize > 1 and samples.shape[2] == 2:  # few programs read it; Pillow does not
        samples = samples[..., [0, 0, 0, 1]]

    floating = samples.dtype.kind == "f"
    stored = np.ascontiguousarray(samples) if floating else _differences(samples)
    tags = exif_tags(source.metadata.exif)
    stored = stored.astype(samples.dtype.newbyteorder(tags.order), copy=False)
    rows = max(1, _STRIP // stored[0].nbytes)
    strips = [
        zlib.compress(stored[y : y + rows].tobytes(), ZLIB_LEVEL)
        for y in range(0, len(stored), rows)
    ]

    tags.main |= _pixel_tags(samples, tags.order) | _metadata_tags(source.metadata, tags.order)
    # Offsets of the strips count from the end of the directory, whose length they do not change.
    sizes = [len(strip) for strip in strips]
    tags.main |= _strip_tags(rows, sizes, 0, tags.order)
    header = _HEADERS[tags.order]
    end = len(header) + len(directory_of(tags, len(header)))
    tags.main |= _strip_tags(rows, sizes, end, tags.order)

    return b"".join([header, directory_of(tags, len(header)), *strips])


def _differences(samples: np.ndarray) -> np.ndarray:
    """Each pixel less the one to its left."""
    differences = samples.copy()
    differences[:, 1:] -= samples[:, :-1]
    return differences


def _pixel_tags(samples: np.ndarray, order: Order) -> dict[int, Tag]:
    height, width, channels = samples.shape
    tags = {
        _WIDTH: long(order, width),
        _HEIGHT: long(order, height),
        _BITS_PER_SAMPLE: short(order, *(8 * samples.itemsize,) * channels),
        _PHOTOMETRIC: short(order, _RGB if channels > 2 else _GREY),
        _SAMPLES_PER_PIXEL: short(order, channels),
        _PLANES: short(order, _INTERLEAVED),
    }
    if samples.dtype.kind == "f":
        tags[_SAMPLE_FORMAT] = short(order, *(_FLOATING,) * channels)
    else:
        tags[_PREDICTOR] = short(order, _HORIZONTAL_DIFFERENCES)
    if channels in (2, 4):
        tags[_EXTRA_SAMPLES] = short(order, _UNPREMULTIPLIED_ALPHA)

    return tags


def _strip_tags(rows: int, sizes: list[int], start: int, order: Order) -> dict[int, Tag]:
    """Tags of strips that lie one behind the other from `start`."""
    return {
        _COMPRESSION: short(order, _DEFLATE),
        _ROWS_PER_STRIP: long(order, rows),
        _STRIP_OFFSETS: long(order, *(start + np.cumsum([0, *sizes[:-1]])).tolist()),
        _STRIP_BYTES: long(order, *sizes),
    }


def _metadata_tags(metadata: Metadata, order: Order) -> dict[int, Tag]:
    tags = {}
    if metadata.dpi:
        for code, dpi in zip((_X_RESOLUTION, _Y_RESOLUTION), metadata.dpi, strict=True):
            largest = min(10**6, int(2**32 / (dpi + 1)))
            exact = Fraction(dpi).limit_denominator(largest)
            tags[code] = Tag(
                RATIONAL, struct.pack(f"{order}II", exact.numerator, exact.denominator)
            )
        tags[_RESOLUTION_UNIT] = short(order, _INCH)
    if metadata.xmp:
        tags[_XMP] = Tag(BYTE, metadata.xmp)
    if metadata.iptc:
        tags[_IPTC] = Tag(UNDEFINED, metadata.iptc)
    if metadata.icc_profile:
        tags[_ICC_PROFILE] = Tag(UNDEFINED, metadata.icc_profile)

    return tags


TIFF = PictureFormat(
    "TIFF",
    "TIFF",
    (".tif", ".tiff"),
    recognises,
    PillowReader(prepare, stored_bits, deep_samples, count_pages=count_pages),
    Writer((8, 16, 32), encode),
    extent=extent,
)
