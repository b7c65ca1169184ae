"""Reading TIFFs of more than 8 bits a channel, which Pillow would cut or refuse.

tifffile decodes them, or OpenCV, which knows more compressions.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any, cast

import numpy as np
from PIL import Image, TiffImagePlugin

from restore.photo.formats.tiff_pages import STARTS
from restore.photo.metadata import ORIENTATION
from restore.photo.refusals import Truncated, Unreadable, not_read
from restore.photo.samples import opencv_samples, unpremultiply

# Tags, as in TIFF 6.0, and values of the second.
_BITS_PER_SAMPLE = 258
_SAMPLE_FORMAT = 339
_UNSIGNED = 1
_SIGNED = 2
_FLOATING = 3
_NOT_SAID = 4
_COMPLEX = (5, 6)

# Bits a channel of the samples that are read.
_WHOLE_BITS = (1, 2, 4, 8, 16)
_FLOATING_BITS = (16, 32, 64)

# Values of other tags.
_ZERO_IS_WHITE = 0
_SEPARATE_PLANES = 2
_UNCOMPRESSED = 1
_DEFLATE_OR_NONE = (_UNCOMPRESSED, 8, 32946)
_FLOATING_POINT_PREDICTOR = 3
_PREMULTIPLIED_ALPHA = 1

_MOST_CHANNELS = 16
# Bytes of a strip that needs no limit.
_SMALL = 2**26
# Bytes to inflate at a time; they become at most a thousand times as many.
_PIECE = 2**15
# What resampling leaves beyond black and white is cut off; values further out are something else.
_OVERSHOOT = 0.01


def check_samples(data: bytes) -> None:
    """Refuse samples that are not read by their names, with what to convert them to.

    Raises:
        Unreadable: The first page has signed or complex samples, or others of an odd depth.
    """
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0].aspage()
        form = page.sampleformat
        bits = int(np.max(page.bitspersample))

    if form == _SIGNED:
        kind = f"signed {bits}-bit integers"
    elif form in _COMPLEX:
        kind = f"{bits}-bit complex numbers"
    elif form == _FLOATING and bits not in _FLOATING_BITS:
        kind = f"{bits}-bit floating-point numbers"
    elif form in (_UNSIGNED, _NOT_SAID) and bits not in _WHOLE_BITS:
        kind = f"{bits}-bit integers"
    else:
        return
    raise Unreadable(
        not_read(
            f"a TIFF of {kind}",
            "convert it to unsigned integers of 8 or 16 bits, or to floating-point numbers from 0 "
            "(black) to 1 (white)",
        )
    )


def is_float(data: bytes) -> bool:
    """Return True for a TIFF of 16-, 32- or 64-bit floating-point samples, False if unclear."""
    if not data.startswith(STARTS):
        return False

    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages[0].aspage()
            return page.sampleformat == _FLOATING and page.bitspersample in _FLOATING_BITS
    except Exception:  # whoever opens it will say what is wrong
        return False


def as_8bit(data: bytes) -> bytes:
    """Declare a TIFF to be of 8 bits, so that Pillow opens it for its metadata, not for its pixels.

    Raises:
        Unreadable: It has too many channels.
    """
    import tifffile

    declared = bytearray(data)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tags = file.pages[0].aspage().tags
        order = file.byteorder
        for code, value in ((_BITS_PER_SAMPLE, 8), (_SAMPLE_FORMAT, _UNSIGNED)):
            count = tags[code].count
            start = tags[code].valueoffset
            if count > _MOST_CHANNELS:
                raise Unreadable(f"a TIFF of {count} channels")
            struct.pack_into(f"{order}{count}H", declared, start, *(value,) * count)

    return bytes(declared)


def stored_bits(im: Image.Image, data: bytes) -> int:
    """Bits a channel of a TIFF of whole numbers.

    Raises:
        Unreadable: Its samples are signed, or of an unsupported depth.
    """
    tags = cast(TiffImagePlugin.TiffImageFile, im).tag_v2
    deepest = int(max(tags.get(_BITS_PER_SAMPLE, (1,))))
    kinds = tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))
    if not {_UNSIGNED, _NOT_SAID}.issuperset(kinds) or deepest not in _WHOLE_BITS:
        raise Unreadable(f"a TIFF of {deepest}-bit signed or other unsupported samples")
    return deepest


def deep_samples(im: Image.Image, data: bytes) -> np.ndarray:
    """Decode samples of 16 bits or of floating-point numbers.

    Args:
        im: The same file as Pillow opens it, for the meaning of its channels.

    Returns:
        uint16, or float32 in [0, 1], [H, W, 1, 2, 3 or 4] as stored, not turned upright.

    Raises:
        Unreadable: It is damaged, or not supported.
    """
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0].aspage()
        samples = _samples(page, data)

    if samples.dtype.kind == "f":
        samples = _unit_range(samples)

    full = 1 if samples.dtype.kind == "f" else 65535
    if page.photometric == _ZERO_IS_WHITE:
        samples = full - samples
    if im.mode == "RGBA" and _PREMULTIPLIED_ALPHA in page.extrasamples:
        samples = unpremultiply(samples, full)

    return samples[..., : {"RGBA": 4, "RGB": 3, "RGBX": 3, "LA": 2}.get(im.mode, 1)]


def _samples(page: Any, data: bytes) -> np.ndarray:
    """[H, W, S] as stored; LZW and the floating-point predictor by OpenCV."""
    ends = [start + size for start, size in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if not ends or max(ends) > len(data) or 0 in page.databytecounts:
        raise Truncated

    planar = page.planarconfig == _SEPARATE_PLANES and page.samplesperpixel > 1
    if page.compression in _DEFLATE_OR_NONE and page.predictor != _FLOATING_POINT_PREDICTOR:
        _check_inflated(page, data)
        samples = page.asarray()
        if planar:
            return np.moveaxis(samples, 0, -1)
        return samples.reshape(page.imagelength, page.imagewidth, -1)

    if planar:
        raise Unreadable("a TIFF of separate colour planes in this compression is not supported")

    tag = page.tags.get(ORIENTATION)
    if tag is not None:  # OpenCV would obey it
        one = struct.pack("<H" if data.startswith(b"II") else ">H", 1)
        data = data[: tag.valueoffset] + one + data[tag.valueoffset + 2 :]

    return opencv_samples(data, np.float32 if page.sampleformat == _FLOATING else np.uint16)


def _check_inflated(page: Any, data: bytes) -> None:
    """Refuse strips and tiles that become far larger than the picture, which tifffile would not.

    Raises:
        Unreadable: There is one.
    """
    most = max(2 * page.nbytes, _SMALL)
    too_large = Unreadable("its compressed pixels are far more than it declares")
    if page.is_tiled:
        in_tile = page.tilewidth * page.tilelength * page.samplesperpixel
        if in_tile * page.dtype.itemsize > most:
            raise too_large
    if page.compression == _UNCOMPRESSED:
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
        raise Unreadable("a floating-point TIFF with values that are not finite (NaN or infinity)")

    low = float(samples.min())
    high = float(samples.max())
    if low < -_OVERSHOOT or high > 1 + _OVERSHOOT:
        raise Unreadable(
            f"a floating-point TIFF of values from {low:g} to {high:g}; they must lie between 0 "
            "(black) and 1 (white): scale or tone-map them first"
        )

    return samples.astype(np.float32).clip(0, 1)
