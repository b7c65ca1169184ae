"""Photographs with their depth, transparency, colour profile, orientation and metadata.

`read_photo` turns a file into numbers, `write_photo` turns numbers into a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from operators.painting import to_fill
from restore.errors import BadArgument, FileAccess, Unavailable, UnreadableInput
from restore.files import open_regular, refuse_existing, write_atomically
from restore.photo import apart, formats
from restore.photo.color_chunks import lost_color
from restore.photo.encode import quantise
from restore.photo.formats.record import Decoded, Limits, Source
from restore.photo.libraries import libraries_silent, reason
from restore.photo.metadata import Metadata, profile_for
from restore.photo.reading import read_stored
from restore.photo.rounding import EXACT, Rounding
from restore.photo.stored import StoredJpeg

# Names of the formats that are written, by suffix in lower case.
FORMATS = {
    suffix: format.name
    for format in formats.FORMATS
    if format.writer is not None
    for suffix in format.suffixes
}

# Suffixes, in lower case, of the files that are taken for pictures when a folder is walked.
SUFFIXES = frozenset(
    suffix for format in formats.FORMATS if format.is_readable() for suffix in format.suffixes
)

# Bits a channel that each format is written with; 32 are floating point.
DEPTHS = {name: writer.depths for name, writer in formats.WRITERS.items()}

# Largest number of pixels that a file may declare.
MAX_PIXELS = 200_000_000


@dataclass
class Photo:
    """A picture and what its file says about it.

    Attributes:
        pixels: float32 [H, W, C] in [0, 1], C = 1 (grey) or 3 (RGB), upright.
        alpha: float32 [H, W] in [0, 1], 1 = opaque, not premultiplied; None without transparency.
        bits: Depth of the file: 8, 16 or 32 (floating point).
        format: Name of the file's format, see `restore.photo.formats.FORMATS`.
        icc_profile: ICC colour profile as in the file, or None.
        exif: EXIF as in the file, or None; its orientation is 1, its thumbnail is left out.
        dpi: Dots per inch across and down the upright picture, or None.
        encoding: What keeps the quality of a lossy file: `qtables` and `subsampling` (JPEG),
            `lossless` (WebP); or the `quality` to write JPEG and WebP with, 1 to 100.
        xmp: XMP in UTF-8, without what only held for the old file (see `restore.photo.xmp`).
        iptc: IPTC-IIM records as in the file.
        color_chunks: Chunks of a PNG that say what its colours mean, see
            `restore.photo.metadata.Metadata`.
        notes: Sentences about what of the file is damaged or left out.
        rounding: What the lossy encoding of the file may have done to its pixels.
        stored: What the file of a JPEG stores, if `read_photo` was asked for it.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    bits: int = 8
    format: str = "PNG"
    icc_profile: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    encoding: dict[str, Any] = field(default_factory=dict)
    xmp: bytes | None = None
    iptc: bytes | None = None
    color_chunks: dict[str, bytes] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    rounding: Rounding = EXACT
    stored: StoredJpeg | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and number of channels with alpha."""
        height, width, channels = self.pixels.shape
        return height, width, channels + (self.alpha is not None)

    @property
    def samples(self) -> np.ndarray:
        """Pixels and alpha, float32 [H, W, 1 to 4]."""
        if self.alpha is None:
            return self.pixels
        return np.concatenate([self.pixels, self.alpha[..., None]], axis=2)


def read_photo(
    path: Path,
    *,
    page: int | None = None,
    max_pixels: int = MAX_PIXELS,
    allow_truncated: bool | None = None,
    file: BinaryIO | None = None,
    coefficients: bool = False,
) -> Photo:
    """Read a picture; its content, not its suffix, decides about the format.

    Args:
        path: The file.
        page: Page of a TIFF or frame of an animation, from 1, see `count_pages`.
        max_pixels: Largest number of pixels that a file may declare.
        allow_truncated: True to complete a JPEG or PNG that ends too early, which `Photo.notes`
            says; False to refuse it and name this parameter, None to refuse it.
        file: The file at its start, if it is open already.
        coefficients: True to read what a JPEG stores, too, which takes twice as long as decoding
            it, and a process of its own. `Photo.stored` stays None for a picture of another format,
            one that was completed, or coefficients that cannot be had.

    Raises:
        FileAccess: It is no regular file, or cannot be read.
        UnreadableInput: It is no picture, is damaged or of an unsupported kind, has several pages
            of which none is asked for, lacks the page asked for, or is too large.
        Unavailable: It is HEIC, and the package for that is not installed.
    """
    path = Path(path)
    named = path if page is None else f"{path} (page {page})"
    limits = Limits(max_pixels, allow_truncated, coefficients)

    with (
        open_regular(path) if file is None else nullcontext(file) as opened,
        refused(str(named)),
        libraries_silent(),
    ):
        stored = read_stored(opened, max_pixels)
        return _as_photo(apart.decode(stored, page, limits))


def count_pages(path: Path) -> int:
    """Number of pages of a TIFF or frames of an animation; 1 for anything else.

    That includes files that `read_photo` refuses, so that it says what is wrong.
    """
    try:
        with open_regular(Path(path)) as file, libraries_silent():
            stored = read_stored(file, MAX_PIXELS)
            return max(1, apart.count_pages(stored, Limits(MAX_PIXELS)))
    except Exception:
        return 1


def read_mask(path: Path, threshold: float = 0.5, *, file: BinaryIO | None = None) -> np.ndarray:
    """Read a mask of the pixels to fill.

    See `operators.painting.to_fill` for what is filled.

    Args:
        path: The file.
        threshold: Brightness in [0, 1) above which a pixel is filled.
        file: The file at its start, if it is open already.

    Returns:
        Bool [H, W], True where pixels are to be filled.

    Raises:
        BadArgument: The threshold is out of range.
        UnreadableInput: It is no mask; or as `read_photo`.
        FileAccess: As `read_photo`.
        Unavailable: As `read_photo`.
    """
    if not 0 <= threshold < 1:
        raise BadArgument(f"threshold of a mask is {threshold}; it must be at least 0 and below 1")

    photo = read_photo(path, file=file)
    samples = quantise(photo.samples, photo.bits)
    try:
        return to_fill(samples, threshold)
    except ValueError as error:
        raise UnreadableInput(f"{path}: {error}") from None


def write_photo(photo: Photo, path: Path, *, overwrite: bool = False) -> None:
    """Write a picture in the format of the suffix of `path`; the file appears whole or not at all.

    16 bits stay 16 in PNG and TIFF and are rounded to 8 elsewhere; 32 stay 32 in TIFF and are
    rounded to 16 in PNG. Grey of more than 8 bits with transparency becomes RGB in TIFF. JPEG keeps
    the tables of a JPEG source no coarser than about quality 75; WebP is lossless unless the source
    was lossy. A colour profile of another kind of pixels (grey, RGB) is left out, as is EXIF, XMP
    or IPTC too long for JPEG. BMP takes no metadata but the resolution, IPTC goes to JPEG and TIFF
    alone. Values outside [0, 1] are clipped.

    Raises:
        BadArgument: The suffix, shape or values cannot be written, or the format would lose the
            transparency.
        FileAccess: The target exists and `overwrite` is False, or it cannot be written.
    """
    path = Path(path)
    refuse_existing(path, overwrite)
    write_atomically(encoded(photo, path), path, overwrite)


def encoded(photo: Photo, path: Path) -> bytes:
    """Encode the file that `write_photo` writes.

    Raises:
        BadArgument: As `write_photo`.
    """
    path = Path(path)
    format = written_format(path)
    _check(photo, path)

    try:
        return _encode(photo, format)
    except BadArgument as error:
        raise BadArgument(f"{path}: {error}") from error
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise BadArgument(f"{path}: cannot be written as {format}: {reason}") from error


def written_format(path: Path) -> str:
    """Name of the format that a file of this suffix is written in.

    Raises:
        BadArgument: No format has this suffix.
    """
    format = FORMATS.get(path.suffix.lower())
    if format is None:
        raise BadArgument(f"{path}: its suffix must be one of {', '.join(sorted(FORMATS))}")
    return format


def check_held(path: Path, size: tuple[int, int], alpha: np.ndarray | None) -> None:
    """Check that the format of a file holds a picture, which can be known before it is made.

    Args:
        path: The file, whose suffix decides about the format.
        size: Height and width of the picture.
        alpha: [h, w] in [0, 1]; None without transparency. It may be that of a smaller picture.

    Raises:
        BadArgument: The sides are too long for the format, it would lose the transparency, or no
            format has this suffix.
    """
    format = written_format(path)
    try:
        _check_held(format, size, alpha)
    except BadArgument as error:
        raise BadArgument(f"{path}: {error}") from None


def notes_on_writing(photo: Photo, path: Path) -> tuple[str, ...]:
    """Say what a picture loses in the format of a file, beyond its depth.

    Raises:
        BadArgument: No format has this suffix.
    """
    format = written_format(path)
    if formats.WRITERS[format].keeps_color_chunks:
        return ()
    lost = lost_color(photo.color_chunks, photo.icc_profile is not None)
    if lost is None:
        return ()

    return (
        f"{format} has no place for its colour space ({lost}), so that it may look different; "
        "write .png to keep it",
    )


def _check_held(format: str, size: tuple[int, int], alpha: np.ndarray | None) -> None:
    writer = formats.WRITERS[format]
    if max(size) > writer.longest_side:
        raise BadArgument(
            f"{format} has at most {writer.longest_side} pixels a side, and the result has "
            f"{size[1]}x{size[0]}; write .png or .tif"
        )
    if alpha is not None and not writer.keeps_alpha and quantise(alpha, 8).min() < 255:
        raise BadArgument(
            f"{format} would lose its transparency; write .png, .tif or .webp to keep it"
        )


@contextmanager
def refused(named: str) -> Iterator[None]:
    """Turn every error of reading a file into one about it, never in the words of a library."""
    try:
        yield
    except Unavailable as error:
        raise Unavailable(f"{named}: {error}") from error
    except OSError as error:
        if error.errno is not None:  # of the system; those of Pillow have no number
            raise FileAccess(f"{named}: cannot be read: {error.strerror or error}") from error
        raise UnreadableInput(f"{named}: {reason(error)}.") from error
    except Exception as error:
        raise UnreadableInput(f"{named}: {reason(error)}.") from error


def _as_photo(decoded: Decoded) -> Photo:
    samples = decoded.samples
    bits = decoded.bits
    values = samples if bits == 32 else np.divide(samples, 2**bits - 1, dtype=np.float32)
    values = np.ascontiguousarray(values)
    alpha = None
    if values.shape[2] in (2, 4):
        values, alpha = np.ascontiguousarray(values[..., :-1]), values[..., -1].copy()

    return Photo(
        values,
        alpha,
        bits,
        decoded.format,
        encoding=decoded.encoding,
        notes=decoded.notes,
        rounding=decoded.rounding,
        stored=decoded.stored,
        **vars(decoded.metadata),
    )


def _check(photo: Photo, path: Path) -> None:
    pixels = photo.pixels
    alpha = photo.alpha
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or pixels.size == 0:
        raise BadArgument(
            f"{path}: pixels of shape {pixels.shape}; [H, W, 1] or [H, W, 3] can be written"
        )
    if alpha is not None and alpha.shape != pixels.shape[:2]:
        raise BadArgument(
            f"{path}: alpha of shape {alpha.shape} for pixels of shape {pixels.shape}"
        )
    if photo.bits not in (8, 16, 32):
        raise BadArgument(f"{path}: {photo.bits} bits a channel; 8, 16 or 32 can be written")
    if not (np.isfinite(pixels).all() and (alpha is None or np.isfinite(alpha).all())):
        raise BadArgument(f"{path}: the picture holds values that are not finite (NaN or infinity)")


def _encode(photo: Photo, format: str) -> bytes:
    _check_held(format, photo.pixels.shape[:2], photo.alpha)
    writer = formats.WRITERS[format]
    bits = max(depth for depth in writer.depths if depth <= photo.bits)
    samples = quantise(photo.pixels, bits)
    if photo.alpha is not None and writer.keeps_alpha:
        samples = np.concatenate([samples, quantise(photo.alpha, bits)[..., None]], axis=2)

    profile = profile_for(photo.icc_profile, photo.pixels.shape[2])
    metadata = Metadata(profile, photo.exif, photo.xmp, photo.iptc, photo.dpi, photo.color_chunks)

    return writer.encode(samples, Source(metadata, photo.encoding, photo.format in formats.LOSSY))
