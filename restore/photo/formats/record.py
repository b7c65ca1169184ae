"""The record of a picture format: its names, how its files are read and how they are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from restore.photo.metadata import Metadata
from restore.photo.refusals import Unreadable
from restore.photo.rounding import EXACT, Rounding
from restore.photo.stored import StoredJpeg

# Bytes of a file's beginning that tell its format.
HEAD = 4096


class Limits(NamedTuple):
    """What a file may ask of its reader.

    Attributes:
        max_pixels: Largest number of pixels of a picture.
        allow_truncated: True to complete a JPEG or PNG that ends too early, False to refuse it and
            say that it can be allowed, None to refuse it.
        coefficients: True to read what a JPEG stores, too, which may end the process.
    """

    max_pixels: int
    allow_truncated: bool | None = None
    coefficients: bool = False


class Decoded(NamedTuple):
    """A decoded file.

    Attributes:
        samples: uint8, uint16, or float32 in [0, 1], [H, W, 1, 2, 3 or 4], upright: grey or RGB,
            alpha last where there is transparency.
        bits: 8, 16 or 32 (floating point).
        format: Name of its format, see `PictureFormat.name`.
        metadata: What is kept of the file beside its pixels.
        encoding: As in `restore.photo.photograph.Photo`.
        notes: Sentences about what is damaged or left out.
        rounding: What its lossy encoding may have done to the samples.
        stored: What a JPEG stores, if that was asked for and could be read.
    """

    samples: np.ndarray
    bits: int
    format: str
    metadata: Metadata
    encoding: dict[str, Any]
    notes: tuple[str, ...] = ()
    rounding: Rounding = EXACT
    stored: StoredJpeg | None = None


class Prepared(NamedTuple):
    """A file as Pillow can open it.

    Attributes:
        data: Its bytes.
        info: Metadata that Pillow would not find in them, by the names of `Image.info`.
        notes: As in `Decoded`.
    """

    data: bytes
    info: Mapping[str, Any] = MappingProxyType({})
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PillowReader:
    """A format that Pillow opens; Pillow also decodes its pixels where they have 8 bits.

    Every function raises `Unreadable`, or what its library raises, for a file that is damaged or
    not supported.

    Attributes:
        prepare: Gets the bytes of the file, the page (from 1, or None for a file of one page) and
            the limits; tests what Pillow does not.
        stored_bits: Bits a channel, given the opened file and its bytes; more than 8 need
            `deep_samples`.
        deep_samples: uint16, or float32 in [0, 1], [H, W, 1, 2, 3 or 4] as stored, not upright.
        encoding: What keeps the quality of a lossy file, as in `restore.photo.photograph.Photo`.
        count_pages: Number of pages, each of which `prepare` turns into a file of its own; None
            where Pillow seeks the frames.
        fills_truncated: True if Pillow can decode what is there of a truncated file.
        stored: Coefficients, given the opened file, loaded, its bytes and its orientation; None
            where they cannot be read. It may end the process.
    """

    prepare: Callable[[bytes, int | None, Limits], Prepared] = lambda data, page, limits: Prepared(
        data
    )
    stored_bits: Callable[[Image.Image, bytes], int] = lambda im, data: 8
    deep_samples: Callable[[Image.Image, bytes], np.ndarray] | None = None
    encoding: Callable[[Image.Image, bytes], dict[str, Any]] = lambda im, data: {}
    count_pages: Callable[[bytes], int] | None = None
    fills_truncated: bool = False
    stored: Callable[[Image.Image, bytes, int], StoredJpeg | None] | None = None


@dataclass(frozen=True)
class OwnReader:
    """A format that Pillow does not open.

    Attributes:
        decode: Decodes bytes, given the largest number of pixels; raises `Unreadable` for a file
            that is damaged or not supported, and `restore.errors.Unavailable` without its package.
    """

    decode: Callable[[bytes, int], Decoded]


class Source(NamedTuple):
    """What a writer may keep of the file that a photograph comes from.

    Attributes:
        metadata: What is written beside the pixels, where the format has a place for it.
        encoding: As in `restore.photo.photograph.Photo`.
        is_lossy: True if the source's format always loses something.
    """

    metadata: Metadata
    encoding: dict[str, Any]
    is_lossy: bool


@dataclass(frozen=True)
class Writer:
    """How the files of a format are written.

    Attributes:
        depths: Bits a channel that the format is written with; 32 are floating point.
        encode: Encodes samples of one of these depths (uint8, uint16, float32 in [0, 1]) of shape
            [H, W, 1, 2, 3 or 4], any alpha last.
        keeps_alpha: True if the format has transparency.
        takes_quality: True if `Source.encoding` may hold a `quality`, 1 to 100.
        longest_side: Pixels that a side may have.
        keeps_color_chunks: True if the format says what colours mean as PNG does.
    """

    depths: tuple[int, ...]
    encode: Callable[[np.ndarray, Source], bytes]
    keeps_alpha: bool = True
    takes_quality: bool = False
    longest_side: int = 2**31 - 1
    keeps_color_chunks: bool = False


class Extent(NamedTuple):
    """What a large file holds, by its header.

    Attributes:
        length: Bytes from its start that its pictures reach to.
        needed: Bytes that the declared pixels take, not compressed.
    """

    length: int
    needed: int


@dataclass(frozen=True)
class PictureFormat:
    """A picture format.

    Attributes:
        name: As in `restore.photo.photograph.Photo.format`; Pillow's name where Pillow opens it.
        title: Its usual name in texts.
        suffixes: In lower case with the dot, the usual one first.
        recognises: Returns True for the beginning of such a file, `HEAD` bytes or all of it.
        reader: How its files are read.
        writer: How its files are written; None if they are only read.
        is_lossy: True if its files always lose something.
        is_readable: Returns False where a library without support for the format is installed.
        extent: Extent of a large file, given its size; None where Pillow reads the header alone to
            open it, and all of the file can matter.
        ends_early: Returns True for the bytes of a file that ends before its picture does. Only
            files that cannot be decoded are asked, where the library does not say why.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    recognises: Callable[[bytes], bool]
    reader: PillowReader | OwnReader = field(default_factory=PillowReader)
    writer: Writer | None = None
    is_lossy: bool = False
    is_readable: Callable[[], bool] = lambda: True
    extent: Callable[[BinaryIO, int], Extent] | None = None
    ends_early: Callable[[bytes], bool] = lambda data: False


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Check the declared size of a file before its pixels are decoded.

    Raises:
        Unreadable: It has more than `max_pixels` pixels.
    """
    if width * height > max_pixels:
        raise Unreadable(f"declares {width} x {height} pixels, more than the limit of {max_pixels}")
