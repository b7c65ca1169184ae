"""From the bytes of a picture's file to its samples, upright.

Pillow opens most formats and decodes their 8-bit pixels; it would cut deeper ones to 8 bits, which
are decoded by the format's own function, see `restore.photo.formats`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageCms, ImageFile, UnidentifiedImageError
from PIL.TiffImagePlugin import IMAGELENGTH, TiffImageFile

from restore.errors import Unavailable
from restore.photo.formats.deep_tiff import as_8bit, is_float
from restore.photo.formats.record import (
    Decoded,
    Limits,
    OwnReader,
    PictureFormat,
    PillowReader,
    Prepared,
    check_size,
)
from restore.photo.metadata import orientation_of, read_metadata
from restore.photo.reading import Stored
from restore.photo.refusals import Damaged, Truncated, Unreadable
from restore.photo.rounding import rounding_of

GREY_MODES = {"1", "L", "LA", "La"}
COLOUR_MODES = {"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}


def decode(stored: Stored, page: int | None, limits: Limits) -> Decoded:
    """Decode a picture.

    Args:
        stored: The file.
        page: Page of a TIFF or frame of an animation, from 1; None for a file of one picture.
        limits: What it may ask for.

    Raises:
        Unreadable: It is damaged, not supported, too large, or has no such page; libraries have
            errors of their own for damaged files.
        Unavailable: The package that reads its format is not installed.
    """
    data, format = stored
    with _named_if_cut(stored):
        if isinstance(format.reader, OwnReader):
            return format.reader.decode(data, limits.max_pixels)

        if page is not None:
            count = count_pages(stored, limits)
            if not 1 <= page <= count:
                raise Unreadable(f"has no page {page}; it has {count}")
            if count > 1 and format.reader.count_pages is None:
                return _decode_frame(stored, format.reader, page, limits)

        return _decode_picture(data, format, format.reader, page, limits)


def count_pages(stored: Stored, limits: Limits) -> int:
    """Count pages of a TIFF without its previews, or frames of another file.

    Raises:
        Exception: Whatever the libraries raise for a file that is damaged.
    """
    data, format = stored
    if isinstance(format.reader, OwnReader):
        return 1
    if format.reader.count_pages is not None:
        return format.reader.count_pages(data)

    prepared = format.reader.prepare(data, None, limits)
    with _open(prepared, format, limits) as im:
        return getattr(im, "n_frames", 1)


@contextmanager
def _named_if_cut(stored: Stored) -> Iterator[None]:
    """Turn errors of damage into `Truncated` if the file ends before its picture does."""
    try:
        yield
    except (MemoryError, Unavailable):
        raise
    except Exception as error:
        is_damage = isinstance(error, Damaged) or not isinstance(error, Unreadable)
        if is_damage and stored.format.ends_early(stored.data):
            raise Truncated from error
        raise


def _decode_picture(
    data: bytes, format: PictureFormat, reader: PillowReader, page: int | None, limits: Limits
) -> Decoded:
    prepared = reader.prepare(data, page, limits)
    data = prepared.data
    floating = is_float(data)
    opened = prepared._replace(data=as_8bit(data)) if floating else prepared
    im = _open(opened, format, limits)
    frames = getattr(im, "n_frames", 1)
    if frames > 1 and reader.count_pages is None:
        raise Unreadable(
            f"is animated or has several pages ({frames}); `pages` takes them one by one"
        )

    bits = 32 if floating else _depth(im, data, reader)
    metadata = read_metadata(im, data)
    encoding = reader.encoding(im, data)
    note: tuple[str, ...] = ()
    if bits > 8 and reader.deep_samples is not None:
        samples = reader.deep_samples(im, data)
    else:
        samples, note = _whole_or_filled(im, opened, format, reader, limits)

    rounding = rounding_of(im, samples)
    # The orientation is asked for after decoding, since Pillow turns a TIFF upright while it
    # decodes it.
    orientation = orientation_of(im)
    stored = None
    if limits.coefficients and reader.stored is not None and not note:
        stored = reader.stored(im, data, orientation)

    samples = turned(samples, orientation)
    notes = (*prepared.notes, *note)

    return Decoded(samples, bits, format.name, metadata, encoding, notes, rounding, stored)


def _decode_frame(stored: Stored, reader: PillowReader, page: int, limits: Limits) -> Decoded:
    """Decode a frame of an animation in 8 bits; it counts as a lossless picture of its own."""
    data, format = stored
    prepared = reader.prepare(data, None, limits)
    im = _open(prepared, format, limits)
    metadata = read_metadata(im, prepared.data)

    for number in range(page):  # one by one: Pillow draws each frame over the ones before
        im.seek(number)
        check_size(im.width, im.height, limits.max_pixels)

    return Decoded(_decode_8bit(im), 8, "PNG", metadata, {}, prepared.notes)


def _open(prepared: Prepared, format: PictureFormat, limits: Limits) -> Image.Image:
    try:
        im = Image.open(io.BytesIO(prepared.data), formats=[format.name])
    except UnidentifiedImageError as error:
        if format.name == "TIFF":
            raise Unreadable("a TIFF of unsupported samples, or damaged") from error
        raise Damaged(f"its {format.title} header is damaged") from error

    im.info.update(prepared.info)
    check_size(im.width, im.height, limits.max_pixels)
    return im


def _whole_or_filled(
    im: Image.Image, prepared: Prepared, format: PictureFormat, reader: PillowReader, limits: Limits
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Decode 8-bit samples; those missing at the end of a file are filled if that is allowed.

    Returns:
        The samples, and what is to be noted.

    Raises:
        Truncated: The file ends too early.
    """
    try:
        return _decode_8bit(im), ()
    except OSError as error:
        if not reader.fills_truncated or "truncated" not in str(error):
            raise
        if not limits.allow_truncated:
            raise Truncated(limits.allow_truncated is False) from error

    strict = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        samples = _decode_8bit(_open(prepared, format, limits))
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = strict

    return samples, ("the file ends before its picture does: what is missing is filled with grey",)


def _depth(im: Image.Image, data: bytes, reader: PillowReader) -> int:
    """8 or 16; CMYK counts as 8, the depth that it is converted in.

    Raises:
        Unreadable: Its pixels are not supported.
    """
    if reader.stored_bits(im, data) > 8 and im.mode != "CMYK":
        return 16
    if im.mode not in GREY_MODES | COLOUR_MODES:
        raise Unreadable(f"pixels of the kind {im.mode} are not supported")
    return 8


def _decode_8bit(im: Image.Image) -> np.ndarray:
    if isinstance(im, TiffImageFile):
        _check_strips(im)

    im.load()
    if im.mode == "CMYK":
        return np.asarray(cmyk_to_rgb(im))
    mode = ("L" if im.mode in GREY_MODES else "RGB") + ("A" if im.has_transparency_data else "")
    samples = np.asarray(im.convert(mode))
    return samples.reshape(*samples.shape[:2], len(mode))


def _check_strips(im: TiffImageFile) -> None:
    """Refuse a TIFF whose strips or tiles end before its height; Pillow leaves the rest black.

    Raises:
        Unreadable: They do.
    """
    height = int(im.tag_v2[IMAGELENGTH])  # `im.height` is that of the picture turned upright
    ends = [tile[1][3] for tile in im.tile if tile[1] is not None]
    if ends and max(ends) < height:
        raise Unreadable(f"its strips have {max(ends)} of its {height} rows")


def cmyk_to_rgb(im: Image.Image) -> Image.Image:
    """RGB by the picture's own profile into sRGB, or by Pillow's plain conversion."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(im.info["icc_profile"]))
        target = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(im, source, target, outputMode="RGB")
    except (KeyError, OSError, ImageCms.PyCMSError):
        converted = None
    return converted or im.convert("RGB")


def rgb_of_inks(inks: np.ndarray, profile: bytes | None = None) -> np.ndarray:
    """Convert uint8 inks [H, W, 4], 255 for full ink, as `cmyk_to_rgb` does: uint8 [H, W, 3]."""
    im = Image.fromarray(np.ascontiguousarray(inks), "CMYK")
    if profile is not None:
        im.info["icc_profile"] = profile
    return np.array(cmyk_to_rgb(im))


def turned(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Upright view of [H, W, C] samples in an EXIF orientation: 1 to 8, others count as 1."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]

    return samples
