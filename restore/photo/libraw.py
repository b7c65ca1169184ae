"""Decoding camera raws by LibRaw, through the optional package rawpy."""

from __future__ import annotations

import importlib.util
import io
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from restore.errors import Unavailable
from restore.photo.dng import Dng
from restore.photo.formats.record import check_size
from restore.photo.metadata import kept_exif, kept_tags
from restore.photo.raws import Raw, no_mosaic
from restore.photo.refusals import Truncated, Unreadable

if TYPE_CHECKING:
    import rawpy

INSTALL = "pip install 'restore-diffusion[raw]'"

# Linear sRGB to XYZ at the white point D65 (IEC 61966-2-1).
_XYZ_OF_SRGB = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
# Orientation as in EXIF, by LibRaw's ``flip``.
_ORIENTATIONS = {0: 1, 1: 2, 2: 4, 3: 3, 4: 5, 5: 8, 6: 6, 7: 7}
# Largest side of a colour filter array that LibRaw knows: Leaf's has 16.
_LARGEST_PERIOD = 16
# First two bytes of the byte orders of TIFF, whose third and fourth some cameras change.
_TIFF_STARTS = {b"II": b"II*\0", b"MM": b"MM\0*"}


def is_installed() -> bool:
    """Return True if camera raws can be read here."""
    return importlib.util.find_spec("rawpy") is not None


def decode(data: bytes, max_pixels: int) -> Raw:
    """Decode a camera raw.

    Raises:
        Unreadable: It is damaged, too large, no camera raw, or holds no mosaic of three colours;
            LibRaw has errors of its own for damaged files.
        Unavailable: rawpy is not installed.
    """
    try:
        import rawpy
    except ImportError:
        raise Unavailable(
            f"a camera raw, for which the package rawpy is needed: {INSTALL}"
        ) from None

    with rawpy.RawPy() as raw:
        try:
            raw.open_buffer(io.BytesIO(data))
            check_size(raw.sizes.raw_width, raw.sizes.raw_height, max_pixels)
            raw.unpack()
        except rawpy.LibRawFileUnsupportedError:
            raise Unreadable("not a camera raw, or one that LibRaw does not know") from None
        except rawpy.LibRawIOError:
            raise Truncated from None
        except rawpy.LibRawError:
            raise Unreadable("the camera raw is damaged or ends too early") from None

        return _as_raw(raw, data)


def _as_raw(raw: rawpy.RawPy, data: bytes) -> Raw:
    import rawpy

    if raw.raw_type != rawpy.RawType.Flat:
        raise no_mosaic(
            "three colours at each pixel (a linear DNG, sRAW or Foveon) and no mosaic to develop"
        )

    if raw.num_colors == 1:
        raise no_mosaic("the picture of a monochrome sensor and no mosaic to develop")

    dng = Dng.of(data)
    inside = _inside(raw, dng.is_dng)
    letters = raw.color_desc.decode("ascii", "replace")
    indices = _pattern(raw, inside)
    pattern = tuple("".join(letters[index : index + 1] for index in row) for row in indices)
    if raw.num_colors != 3 or set("".join(pattern)) != set("RGB"):
        raise no_mosaic(f"a mosaic of other colours than red, green and blue ({letters})")

    levels = np.asarray(raw.black_level_per_channel, np.float32)
    black = levels[indices]
    white = float(raw.white_level)
    if not white > black.max():
        raise Unreadable(f"its white level, {white:g}, is not above its black level, {levels[1]:g}")

    gains, note_on_gains = _gains(raw)
    to_srgb, note_on_matrix = _to_srgb(raw)
    notes = (*note_on_gains, *note_on_matrix, *_notes_on_shape(raw))

    return Raw(
        raw.raw_image_visible[inside].copy(),
        pattern,
        black,
        white,
        gains,
        to_srgb,
        _ORIENTATIONS.get(raw.sizes.flip, 1),
        dng.noise,
        _exif(raw, data),
        notes,
        dng.exposure,
    )


def _inside(raw: rawpy.RawPy, is_dng: bool) -> tuple[slice, slice]:
    """Return the rows and columns of the active pixels to keep: the default crop of a DNG."""
    sizes = raw.sizes
    top = sizes.crop_top_margin - sizes.top_margin
    left = sizes.crop_left_margin - sizes.left_margin
    bottom, right = top + sizes.crop_height, left + sizes.crop_width
    is_within = 0 <= top < bottom <= sizes.height and 0 <= left < right <= sizes.width
    if is_dng and is_within:
        return slice(top, bottom), slice(left, right)
    return slice(None), slice(None)


def _notes_on_shape(raw: rawpy.RawPy) -> tuple[str, ...]:
    aspect = raw.sizes.pixel_aspect
    if abs(aspect - 1) < 0.01:
        return ()
    return (f"its pixels are {aspect:g} times as wide as high, and the picture is not stretched",)


def _pattern(raw: rawpy.RawPy, inside: tuple[slice, slice]) -> NDArray[np.uint8]:
    """Return the smallest part that repeats in the colours of the pixels to keep, by number.

    Raises:
        Unreadable: There is none, or LibRaw cannot tell the colours.
    """
    try:
        colors = raw.raw_colors_visible[inside]
    except NotImplementedError:
        raise no_mosaic("a mosaic whose pattern is not known") from None

    rows, columns = (_period(colors, axis) for axis in (0, 1))
    return colors[:rows, :columns].copy()


def _period(colors: NDArray[np.uint8], axis: int) -> int:
    seen = np.moveaxis(colors[: 8 * _LARGEST_PERIOD, : 8 * _LARGEST_PERIOD], axis, 0)
    for period in range(1, _LARGEST_PERIOD + 1):
        if np.array_equal(seen[period:], seen[:-period]):
            return period
    raise no_mosaic("a mosaic without a pattern that repeats")


def _gains(raw: rawpy.RawPy) -> tuple[tuple[float, float, float], tuple[str, ...]]:
    """Return the white balance of the camera, else that of daylight, else none; and a note."""
    for gains, notes in (
        (raw.camera_whitebalance, ()),
        (raw.daylight_whitebalance, ("it holds no white balance; that of daylight is used",)),
    ):
        found = np.asarray(gains[:3], np.float64)
        if np.isfinite(found).all() and (found > 0).all():
            red, green, blue = (found / found.min()).tolist()
            return (red, green, blue), notes

    return (1.0, 1.0, 1.0), ("it holds no white balance, and colours are left as they are",)


def _to_srgb(raw: rawpy.RawPy) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return `Raw.to_srgb` as dcraw finds it, by the camera's matrix; and a note without one."""
    own = np.asarray(raw.color_matrix, np.float64)[:, :3]
    if np.isfinite(own).all() and own[0, 0] > 0.125 and (own.sum(axis=1) > 0.1).all():
        return own / own.sum(axis=1, keepdims=True), ()

    of_xyz = np.asarray(raw.rgb_xyz_matrix, np.float64)[:3]
    of_srgb = of_xyz @ _XYZ_OF_SRGB
    sums = of_srgb.sum(axis=1, keepdims=True)
    if np.isfinite(of_srgb).all() and (sums > 1e-3).all():
        with suppress(np.linalg.LinAlgError):
            return np.linalg.inv(of_srgb / sums), ()

    return np.eye(3), ("it holds no colour matrix; the camera's colours are taken for sRGB",)


def _exif(raw: rawpy.RawPy, data: bytes) -> bytes | None:
    """Return EXIF of the tags of the file, of its preview, or of what LibRaw says."""
    start = _TIFF_STARTS.get(data[:2])
    exif = None if start is None else kept_tags(start + data[4:])
    return exif or _exif_of_preview(raw) or _exif_of_fields(raw)


def _exif_of_preview(raw: rawpy.RawPy) -> bytes | None:
    with suppress(Exception):
        preview = raw.extract_thumb()
        if isinstance(preview.data, bytes):
            with Image.open(io.BytesIO(preview.data), formats=["JPEG"]) as im:
                return kept_exif(im)
    return None


def _exif_of_fields(raw: rawpy.RawPy) -> bytes | None:
    with suppress(Exception):
        said = raw.other
        exif = Image.Exif()
        below = exif.get_ifd(ExifTags.IFD.Exif)
        for tag, value in (
            (ExifTags.Base.ISOSpeedRatings, int(said.iso_speed)),
            (ExifTags.Base.ExposureTime, float(said.shutter_speed)),
            (ExifTags.Base.FNumber, float(said.aperture)),
            (ExifTags.Base.FocalLength, float(said.focal_length)),
        ):
            if value > 0:
                below[tag.value] = value
        return exif.tobytes() if below else None
    return None
