"""JPEG 2000, which is only read; OpenCV decodes more than 8 bits, which Pillow would cut."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from PIL import Image, features

from restore.photo.formats.iso import boxes
from restore.photo.formats.record import Limits, PictureFormat, PillowReader, Prepared
from restore.photo.refusals import Damaged
from restore.photo.samples import opencv_samples

# The first bytes of a file of boxes, and of a bare codestream.
_BOXED = b"\0\0\0\x0cjP  \r\n\x87\n"
_CODESTREAM = b"\xff\x4f\xff\x51"
_END_OF_CODESTREAM = b"\xff\xd9"

# Identifiers of boxes `uuid` with metadata.
_XMP = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_EXIF = b"JpgTiffExif->JP2"

# The method of a colour box that holds an ICC profile.
_ICC = 2


def is_readable() -> bool:
    """Return True if this build of Pillow has JPEG 2000."""
    return bool(features.check("jpg_2000"))


def prepare(data: bytes, page: int | None, limits: Limits) -> Prepared:
    """Find colour profile, EXIF and XMP, which Pillow leaves out."""
    info: dict[str, Any] = {}
    if data.startswith(_BOXED):
        for name, start, end, _ in boxes(data):
            identifier = data[start : start + 16]
            if name == b"uuid" and identifier in (_XMP, _EXIF):
                info["xmp" if identifier == _XMP else "exif"] = data[start + 16 : end]
            if name == b"jp2h":
                info |= _color_profile(data, start, end)

    return Prepared(data, info)


def stored_bits(im: Image.Image, data: bytes) -> int:
    """Bits a channel."""
    return 16 if _declared_bits(data) > 8 else 8


def deep_samples(im: Image.Image, data: bytes) -> np.ndarray:
    """Samples of 9 to 16 bits, scaled to 16."""
    samples = opencv_samples(data, np.uint16)
    if samples.shape[:2] != (im.height, im.width):
        raise Damaged("its sizes contradict each other")
    return np.rint(samples * (65535 / (2 ** _declared_bits(data) - 1))).astype(np.uint16)


def ends_early(data: bytes) -> bool:
    """Return True without the marker EOC, which packets cannot hold (ISO/IEC 15444-1, A.4.4)."""
    if not data.startswith(_BOXED):
        return _END_OF_CODESTREAM not in data
    return not any(
        name == b"jp2c" and _END_OF_CODESTREAM in data[start:end]
        for name, start, end, _ in boxes(data)
    )


def _color_profile(data: bytes, start: int, end: int) -> dict[str, bytes]:
    for name, at, stop, _ in boxes(data, start, end):
        if name == b"colr" and data[at] == _ICC:
            return {"icc_profile": data[at + 3 : stop]}
    return {}


def _declared_bits(data: bytes) -> int:
    """Bits of the first channel: the byte Ssiz of the marker SIZ (ISO/IEC 15444-1, A.5.1)."""
    start = data.find(_CODESTREAM)
    if not 0 <= start < len(data) - 42:
        raise Damaged("its header is damaged")
    (precision,) = struct.unpack_from("B", data, start + 42)
    return (precision & 0x7F) + 1


JPEG2000 = PictureFormat(
    "JPEG2000",
    "JPEG 2000",
    (".jp2", ".j2k", ".jpf", ".jpx", ".j2c", ".jpc"),
    lambda head: head.startswith((_BOXED, _CODESTREAM)),
    PillowReader(prepare, stored_bits, deep_samples),
    is_readable=is_readable,
    ends_early=ends_early,
)
