"""From the bytes of a picture's file to its samples, upright.

Pillow opens every file and decodes 8-bit pixels. It would cut 16-bit ones to 8 bits: those are
decoded by OpenCV (PNG, AVIF) and in `restore.photo.tiff`, with the floating-point ones.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from restore.photo.metadata import ORIENTATION, Metadata, compression, read_metadata
from restore.photo.tiff import STARTS, as_8bit, decode_deep_tiff, is_float, opencv_samples

_GREY_MODES = {"1", "L", "LA", "La"}
_COLOUR_MODES = {"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}


class Decoded(NamedTuple):
    """A file taken apart.

    Attributes:
        samples: uint8, uint16, or float32 in [0, 1], [H, W, 1, 2, 3 or 4], upright: grey or RGB,
            alpha last where there is transparency.
        bits: 8, 16 or 32 (floating point).
        format: Pillow's name of it.
        metadata: what is kept of the file.
        encoding: as in `restore.photo.photograph.Photo`.
    """

    samples: np.ndarray
    bits: int
    format: str
    metadata: Metadata
    encoding: dict[str, Any]


def decode(data: bytes, formats: Iterable[str], max_pixels: int) -> Decoded:
    """Decode a single picture in one of Pillow's `formats`; ValueError says why it is not taken."""
    floating = is_float(data)
    im = _open(as_8bit(data) if floating else data, formats, max_pixels)
    bits = 32 if floating else _depth(im, data)
    if im.format == "PNG":  # what is said behind the pixels counts, and what is damaged is told
        im.load()

    metadata = read_metadata(im, data)
    encoding = compression(im, data)
    if bits == 8:
        samples = _decode_8bit(im)
    else:
        samples = _DEEP_DECODERS[im.format](im, data)

    # The orientation is asked for after decoding, since Pillow turns a TIFF upright while it
    # decodes it.
    samples = _turn(samples, im.getexif().get(ORIENTATION, 1))

    return Decoded(samples, bits, "JPEG" if im.format == "MPO" else im.format, metadata, encoding)


def check_size(width: int, height: int, max_pixels: int) -> None:
    """ValueError where a file declares too many pixels; to be called before they are decoded."""
    if width * height > max_pixels:
        raise ValueError(f"declares {width} x {height} pixels, more than the limit of {max_pixels}")


def _open(data: bytes, formats: Iterable[str], max_pixels: int) -> Image.Image:
    try:
        im = Image.open(io.BytesIO(data), formats=sorted(formats))
    except UnidentifiedImageError as error:
        if data.startswith(STARTS):
            raise ValueError("a TIFF of unsupported samples, or damaged") from error
        raise ValueError("not a picture of a known format") from error

    check_size(im.width, im.height, max_pixels)
    # A phone's MPO is a JPEG with previews or a gain map behind it: its first frame is the
    # photograph.
    frames = getattr(im, "n_frames", 1)
    if frames > 1 and im.format != "MPO":
        raise ValueError(
            f"is animated or has several pages ({frames}); --pages takes them one by one"
        )

    if im.format == "PNG":  # compares its checksums, which decoding does not
        Image.open(io.BytesIO(data)).verify()

    return im


def _depth(im: Image.Image, data: bytes) -> int:
    """8 or 16, from the header; CMYK counts as 8, the depth it is converted in. Others raise
    ValueError.
    """
    deepest = data[24] if im.format == "PNG" else 8
    if im.format == "TIFF":
        deepest = max(im.tag_v2.get(258, (1,)))
        kinds = im.tag_v2.get(339, (1,))  # 1: unsigned, 4: not said
        if not {1, 4}.issuperset(kinds) or deepest not in (1, 2, 4, 8, 16):
            raise ValueError(f"a TIFF of {deepest}-bit signed or other unsupported samples")

    if im.format == "AVIF" and _avif_depth(data) > 8 and _opencv_knows_avif():
        return 16
    if deepest == 16 and im.mode != "CMYK":
        return 16
    if im.mode not in _GREY_MODES | _COLOUR_MODES:
        raise ValueError(f"pixels of the kind {im.mode} are not supported")

    return 8


def _decode_8bit(im: Image.Image) -> np.ndarray:
    im.load()
    if im.mode == "CMYK":
        return np.asarray(_cmyk_to_rgb(im))
    mode = ("L" if im.mode in _GREY_MODES else "RGB") + ("A" if im.has_transparency_data else "")
    samples = np.asarray(im.convert(mode))
    return samples.reshape(*samples.shape[:2], len(mode))


def _cmyk_to_rgb(im: Image.Image) -> Image.Image:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(im.info["icc_profile"]))
        return ImageCms.profileToProfile(
            im, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (KeyError, OSError, ImageCms.PyCMSError):
        return im.convert("RGB")


def _decode_png16(im: Image.Image, data: bytes) -> np.ndarray:
    colour, alpha = {0: (1, 0), 2: (3, 0), 4: (1, 1), 6: (3, 1)}[data[25]]
    decoded = opencv_samples(data, np.uint16)
    samples = decoded[..., :colour]
    if alpha:
        return np.dstack([samples, decoded[..., 3]])
    if "transparency" in im.info:  # one colour stands for transparent
        opaque = (samples != np.array(im.info["transparency"])).any(axis=2)
        return np.dstack([samples, opaque * np.uint16(65535)])

    return samples


def _avif_depth(data: bytes) -> int:
    """8, 10 or 12: the bits in the box av1C (AV1 in ISO base media files, 2.3.3)."""
    start = data.find(b"av1C")
    flags = data[start + 6] if 0 <= start < len(data) - 6 else 0
    return 8 if not flags & 0x40 else 12 if flags & 0x20 else 10


@cache
def _opencv_knows_avif() -> bool:
    import cv2

    return bool(re.search(r"^\s*AVIF:\s+(?!NO)", cv2.getBuildInformation(), re.MULTILINE))


def _decode_deep_avif(im: Image.Image, data: bytes) -> np.ndarray:
    """uint16; Pillow would cut it to 8 bits."""
    samples = opencv_samples(data, np.uint16)
    if samples.shape[:2] != (im.height, im.width):
        raise ValueError("its sizes contradict each other")
    return np.rint(samples * (65535 / (2 ** _avif_depth(data) - 1))).astype(np.uint16)


_DEEP_DECODERS = {"PNG": _decode_png16, "TIFF": decode_deep_tiff, "AVIF": _decode_deep_avif}


def _turn(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Upright view of [H, W, C] samples stored in an EXIF orientation (1 to 8; others are taken as
    1).
    """
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]

    return samples
