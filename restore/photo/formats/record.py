"""The record of a picture format: its names, how its files are read and how they are written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from restore.photo.metadata import Metadata


class Decoded(NamedTuple):
    """A decoded file.

    Attributes:
        samples: uint8, uint16, or float32 in [0, 1], [H, W, 1, 2, 3 or 4], upright: grey or RGB,
            alpha last where there is transparency.
        bits: 8, 16 or 32 (floating point).
        format: Name of its format, see `PictureFormat.name`.
        metadata: What is kept of the file beside its pixels.
        encoding: As in `restore.photo.photograph.Photo`.
    """

    samples: np.ndarray
    bits: int
    format: str
    metadata: Metadata
    encoding: dict[str, Any]


@dataclass(frozen=True)
class PillowReader:
    """A format that Pillow opens; Pillow also decodes its pixels where they have 8 bits.

    Every function gets the opened file and its bytes, and raises ValueError or what its library
    raises for a file that is damaged or not supported.

    Attributes:
        check: Tests what Pillow does not, before anything is decoded.
        stored_bits: Bits a channel; more than 8 need `deep_samples`.
        deep_samples: uint16, or float32 in [0, 1], [H, W, 1, 2, 3 or 4] as stored, not upright.
        encoding: What keeps the quality of a lossy file, as in `restore.photo.photograph.Photo`.
    """

    check: Callable[[Image.Image, bytes], None] = lambda im, data: None
    stored_bits: Callable[[Image.Image, bytes], int] = lambda im, data: 8
    deep_samples: Callable[[Image.Image, bytes], np.ndarray] | None = None
    encoding: Callable[[Image.Image, bytes], dict[str, Any]] = lambda im, data: {}


@dataclass(frozen=True)
class OwnReader:
    """A format that Pillow does not open.

    Attributes:
        recognises: Returns True for the bytes of such a file.
        decode: Decodes bytes, given the largest number of pixels; raises ValueError for a file that
            is damaged or not supported, and `restore.errors.Unavailable` without its package.
    """

    recognises: Callable[[bytes], bool]
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
    """

    depths: tuple[int, ...]
    encode: Callable[[np.ndarray, Source], bytes]
    keeps_alpha: bool = True
    takes_quality: bool = False
    longest_side: int = 2**31 - 1


@dataclass(frozen=True)
class PictureFormat:
    """A picture format.

    Attributes:
        name: As in `restore.photo.photograph.Photo.format`; Pillow's name where Pillow opens it.
        title: Its usual name in texts.
        suffixes: In lower case with the dot, the usual one first.
        reader: How its files are read.
        writer: How its files are written; None if they are only read.
        is_lossy: True if its files always lose something.
        is_readable: Returns False where a library without support for the format is installed.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    reader: PillowReader | OwnReader = field(default_factory=PillowReader)
    writer: Writer | None = None
    is_lossy: bool = False
    is_readable: Callable[[], bool] = lambda: True


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Check the declared size of a file before its pixels are decoded.

    Raises:
        ValueError: It has more than `max_pixels` pixels.
    """
    if width * height > max_pixels:
        raise ValueError(f"declares {width} x {height} pixels, more than the limit of {max_pixels}")
