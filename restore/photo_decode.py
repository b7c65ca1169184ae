"""From the bytes of a picture's file to its samples, upright.

Pillow opens every file and decodes 8-bit pixels. It would cut 16-bit ones to 8 bits: those are decoded by
OpenCV (PNG) and tifffile (TIFF).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from restore.photo_metadata import ORIENTATION

_GREY_MODES = {"1", "L", "LA", "La"}
_COLOUR_MODES = {"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def open_picture(data: bytes, formats: Iterable[str], max_pixels: int) -> Image.Image:
    """Open a single picture in one of Pillow's `formats`; ValueError says why it is not taken."""
    try:
        im = Image.open(io.BytesIO(data), formats=sorted(formats))
    except UnidentifiedImageError as error:
        if data.startswith(_TIFF_STARTS):
            raise ValueError("a TIFF of floating-point or other unsupported samples, or damaged") from error
        raise ValueError("not a picture of a known format") from error
    if im.width * im.height > max_pixels:
        raise ValueError(f"declares {im.width} x {im.height} pixels, more than the limit of {max_pixels}")
    # A phone's MPO is a JPEG with previews or a gain map behind it: its first frame is the photograph.
    frames = getattr(im, "n_frames", 1)
    if frames > 1 and im.format != "MPO":
        raise ValueError(f"is animated or has several pages ({frames}); split it into single pictures first")
    if im.format == "PNG":  # compares its checksums, which decoding does not
        Image.open(io.BytesIO(data)).verify()
    return im


def depth(im: Image.Image, data: bytes) -> int:
    """8 or 16, from the header; CMYK counts as 8, the depth it is converted in. Others raise ValueError."""
    deepest = data[24] if im.format == "PNG" else 8
    if im.format == "TIFF":
        deepest = max(im.tag_v2.get(258, (1,)))
        kinds = im.tag_v2.get(339, (1,))  # 1: unsigned, 4: not said
        if not {1, 4}.issuperset(kinds) or deepest not in (1, 2, 4, 8, 16):
            raise ValueError(f"a TIFF of {deepest}-bit signed, floating-point or other unsupported samples")
    if deepest == 16 and im.mode != "CMYK":
        return 16
    if im.mode not in _GREY_MODES | _COLOUR_MODES:
        raise ValueError(f"pixels of the kind {im.mode} are not supported")
    return 8


def decode(im: Image.Image, data: bytes, bits: int) -> np.ndarray:
    """uint8 or uint16 [H, W, 1, 2, 3 or 4], upright: grey or RGB, alpha last where there is transparency."""
    if bits == 8:
        samples = _decode_8bit(im)
    else:
        samples = _decode_png16(im, data) if im.format == "PNG" else _decode_tiff16(im, data)
    # The orientation is asked for after decoding, since Pillow turns a TIFF upright while it decodes it.
    return _turn(samples, im.getexif().get(ORIENTATION, 1))


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
        return ImageCms.profileToProfile(im, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (KeyError, OSError, ImageCms.PyCMSError):
        return im.convert("RGB")


def _decode_png16(im: Image.Image, data: bytes) -> np.ndarray:
    im.load()  # says what is damaged; versions of OpenCV differ in what they let pass
    colour, alpha = {0: (1, 0), 2: (3, 0), 4: (1, 1), 6: (3, 1)}[data[25]]
    decoded = _opencv_16bit(data)
    samples = decoded[..., :colour]
    if alpha:
        return np.dstack([samples, decoded[..., 3]])
    if "transparency" in im.info:  # one colour stands for transparent
        opaque = (samples != np.array(im.info["transparency"])).any(axis=2)
        return np.dstack([samples, opaque * np.uint16(65535)])
    return samples


def _opencv_16bit(data: bytes) -> np.ndarray:
    import cv2

    samples = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is None or samples.dtype != np.uint16:
        raise ValueError("its 16-bit pixels cannot be decoded")
    samples = samples.reshape(*samples.shape[:2], -1)
    return samples[..., [2, 1, 0, 3][: samples.shape[2]]] if samples.shape[2] > 2 else samples


def _decode_tiff16(im: Image.Image, data: bytes) -> np.ndarray:
    """uint16 [H, W, 1, 3 or 4], not turned upright."""
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        samples = _tiff16_samples(page, data)
    if page.photometric == 0:  # zero is white
        samples = 65535 - samples
    if im.mode == "RGBA" and 1 in page.extrasamples:  # premultiplied
        alpha = samples[..., 3:].astype(np.float32)
        colour = np.rint(samples[..., :3] * (np.float32(65535) / np.maximum(alpha, 1))).clip(0, 65535)
        samples = np.concatenate([colour, alpha], axis=2).astype(np.uint16)
    return samples[..., : {"RGBA": 4, "RGB": 3, "RGBX": 3}.get(im.mode, 1)]


def _tiff16_samples(page: Any, data: bytes) -> np.ndarray:
    """uint16 [H, W, S] as stored. OpenCV knows LZW, for which tifffile would need a further package."""
    ends = [start + size for start, size in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if not ends or max(ends) > len(data) or 0 in page.databytecounts:
        raise ValueError("the file is truncated")
    planar = page.planarconfig == 2 and page.samplesperpixel > 1
    if page.compression in (1, 8, 32946):  # none, deflate
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
    return _opencv_16bit(data)


def _turn(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Upright view of [H, W, C] samples stored in an EXIF orientation (1 to 8; others are taken as 1)."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples
