"""From the bytes of a picture's file to its samples, upright.

Pillow opens most formats and decodes their 8-bit pixels; it would cut deeper ones to 8 bits, which
are decoded by the format's own function, see `restore.photo.formats`.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from restore.photo.formats import PILLOW_READERS, own_reader
from restore.photo.formats.deep_tiff import STARTS, as_8bit, is_float
from restore.photo.formats.record import Decoded, PillowReader, check_size
from restore.photo.metadata import ORIENTATION, read_metadata

_GREY_MODES = {"1", "L", "LA", "La"}
_COLOUR_MODES = {"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}


def decode(data: bytes, max_pixels: int) -> Decoded:
    """Decode a single picture.

    Raises:
        ValueError: It is damaged, not supported, or has more than `max_pixels` pixels; libraries
            have errors of their own for damaged files.
        Unavailable: The package that reads its format is not installed.
    """
    reader = own_reader(data)
    if reader is not None:
        return reader.decode(data, max_pixels)
    return _decode_by_pillow(data, max_pixels)


def _decode_by_pillow(data: bytes, max_pixels: int) -> Decoded:
    floating = is_float(data)
    im = _open(as_8bit(data) if floating else data, max_pixels)
    name = "JPEG" if im.format == "MPO" else str(im.format)
    reader = PILLOW_READERS[name]
    reader.check(im, data)
    bits = 32 if floating else _depth(im, data, reader)

    metadata = read_metadata(im, data)
    encoding = reader.encoding(im, data)
    deep_samples = None if bits == 8 else reader.deep_samples
    samples = _decode_8bit(im) if deep_samples is None else deep_samples(im, data)

    # The orientation is asked for after decoding, since Pillow turns a TIFF upright while it
    # decodes it.
    samples = _turn(samples, im.getexif().get(ORIENTATION, 1))

    return Decoded(samples, bits, name, metadata, encoding)


def _open(data: bytes, max_pixels: int) -> Image.Image:
    try:
        im = Image.open(io.BytesIO(data), formats=sorted(PILLOW_READERS))
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
            f"is animated or has several pages ({frames}); `pages` takes them one by one"
        )

    return im


def _depth(im: Image.Image, data: bytes, reader: PillowReader) -> int:
    """8 or 16; CMYK counts as 8, the depth that it is converted in.

    Raises:
        ValueError: Its pixels are not supported.
    """
    if reader.stored_bits(im, data) > 8 and im.mode != "CMYK":
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
        target = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(im, source, target, outputMode="RGB")
    except (KeyError, OSError, ImageCms.PyCMSError):
        converted = None
    return converted or im.convert("RGB")


def _turn(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Upright view of [H, W, C] samples in an EXIF orientation: 1 to 8, others count as 1."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]

    return samples
