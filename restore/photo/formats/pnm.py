"""PBM, PGM and PPM, which are only read; Pillow decodes 8 bits, this file deeper ones."""

from __future__ import annotations

import re

import numpy as np
from PIL import Image

from restore.photo.formats.record import PictureFormat, PillowReader
from restore.photo.refusals import Truncated, Unreadable

# A number of the header, behind white space and comments.
_NUMBER = re.compile(rb"(?:\s+|#[^\r\n]*)*(\d{1,10})")
_COMMENT = re.compile(rb"#[^\r\n]*")
# Black and white have no largest value; the others do, as text or as bytes.
_BITMAPS = (b"P1", b"P4")
_PLAIN = (b"P2", b"P3")
_COLOUR = (b"P3", b"P6")


def recognises(head: bytes) -> bool:
    """Return True for P1 to P6 and white space or a comment."""
    return re.match(rb"P[1-6][\s#]", head) is not None


def stored_bits(im: Image.Image, data: bytes) -> int:
    """8 or 16, by the largest value."""
    if data.startswith(_BITMAPS):
        return 8
    return 16 if _header(data)[2] > 255 else 8


def deep_samples(im: Image.Image, data: bytes) -> np.ndarray:
    """Samples whose largest value is above 255, scaled to 16 bits."""
    width, height, largest, start = _header(data)
    shape = (height, width, 3 if data.startswith(_COLOUR) else 1)
    number = height * width * shape[2]
    if data.startswith(_PLAIN):
        words = _COMMENT.sub(b"", data[start:]).split(maxsplit=number)[:number]
        stored = np.array([int(word) for word in words])
    else:
        stored = np.frombuffer(data[start + 1 : start + 1 + 2 * number], ">u2")

    if stored.size < number:
        raise Truncated
    if stored.max() > largest:
        raise Unreadable(f"has values above the largest that it declares, {largest}")

    return np.rint(stored * (65535 / largest)).astype(np.uint16).reshape(shape)


def _header(data: bytes) -> tuple[int, int, int, int]:
    """Width, height, largest value, and where the header ends."""
    numbers = []
    end = 2
    for _ in range(3):
        found = _NUMBER.match(data, end)
        if found is None:
            raise Unreadable("its header is damaged")
        numbers.append(int(found[1]))
        end = found.end()

    width, height, largest = numbers
    if not 0 < largest < 65536:
        raise Unreadable(f"declares the largest value {largest}; it must be between 1 and 65535")

    return width, height, largest, end


PNM = PictureFormat(
    "PPM",
    "PPM",
    (".ppm", ".pgm", ".pbm", ".pnm"),
    recognises,
    PillowReader(stored_bits=stored_bits, deep_samples=deep_samples),
)
