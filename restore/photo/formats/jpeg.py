"""JPEG, and a phone's MPO, which is a JPEG with previews or a gain map behind it."""

from __future__ import annotations

import io
import struct
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
from PIL import Image, JpegImagePlugin

from restore.photo.encode import saved_by_pillow
from restore.photo.formats.record import (
    Extent,
    Limits,
    PictureFormat,
    PillowReader,
    Prepared,
    Source,
    Writer,
)
from restore.photo.refusals import Unreadable, not_read

# Bytes that fit into one segment, and what XMP has of it behind its identifier.
_SEGMENT_LIMIT = 65533
_XMP_LIMIT = _SEGMENT_LIMIT - len(b"http://ns.adobe.com/xap/1.0/\0")
# Mean step of the luminance table at about quality 75: coarser ones would undo the restoration.
_COARSEST_STEP = 30.0
# JPEG_MAX_DIMENSION of libjpeg; the 16 bits of a file would hold 65535.
_LONGEST_SIDE = 65500


_CONVERT = "convert it to PNG or TIFF first, for example with ImageMagick or GIMP"

# Start of the frame header by kind of coding that is not decoded (ITU-T T.81, table B.1; T.87).
_FOREIGN_CODINGS = {
    0xC3: "a lossless JPEG",
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "a hierarchical JPEG"),
    0xCB: "a lossless JPEG",
    0xF7: "a JPEG-LS picture",
}
_FRAME_HEADERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
# Markers without a segment: restart intervals and the start.
_BARE = {0x01, *range(0xD0, 0xD9)}
_END, _SCAN = 0xD9, 0xDA
# Bytes beyond the pixels of a large file that may hold metadata, and previews behind them.
_AROUND = 2**27


class _Frame(NamedTuple):
    """Frame header of a JPEG."""

    coding: int
    bits: int
    width: int
    height: int
    channels: int


def prepare(data: bytes, page: int | None, limits: Limits) -> Prepared:
    """Refuse the kinds of JPEG that libjpeg does not decode by their names.

    Raises:
        Unreadable: It is one of them.
    """
    frame = _frame(io.BytesIO(data))
    if frame is not None:
        kind = _FOREIGN_CODINGS.get(frame.coding)
        if kind is None and frame.bits != 8:
            kind = f"a JPEG of {frame.bits} bits a channel"
        if kind is not None:
            raise Unreadable(not_read(kind, _CONVERT))

    return Prepared(data)


def extent(file: BinaryIO, size: int) -> Extent:
    """Cut off what lies behind the picture of a large file, such as a phone's video."""
    frame = _frame(file)
    needed = 0 if frame is None else frame.width * frame.height * 2 * frame.channels
    return Extent(min(size, _AROUND + needed), needed)


def _frame(file: BinaryIO) -> _Frame | None:
    """Read the frame header; None if there is none before the pixels."""
    file.seek(0)
    while True:
        if file.read(1) != b"\xff":
            return None
        marker = b"\xff"
        while marker == b"\xff":  # any number of them may come
            marker = file.read(1)
        if not marker or marker[0] in (_END, _SCAN):
            return None
        if marker[0] in _BARE:
            continue

        head = file.read(2)
        if len(head) < 2:
            return None
        length = int.from_bytes(head, "big") - 2
        if marker[0] in _FRAME_HEADERS:
            content = file.read(6)
            if len(content) < 6:
                return None
            bits, height, width, channels = struct.unpack(">BHHB", content)
            return _Frame(marker[0], bits, width, height, channels)
        file.seek(max(0, length), io.SEEK_CUR)


def encoding(im: Image.Image, data: bytes) -> dict[str, Any]:
    """`qtables` and `subsampling`; {} for CMYK, which is not written."""
    quantization = cast(JpegImagePlugin.JpegImageFile, im).quantization
    if im.mode == "CMYK" or not quantization:
        return {}
    tables = [list(quantization[key]) for key in sorted(quantization)]
    return {"qtables": tables, "subsampling": JpegImagePlugin.get_sampling(im)}


def encode(samples: np.ndarray, source: Source) -> bytes:
    """Encode uint8 samples; EXIF, XMP and IPTC are kept where each fits into one segment."""
    metadata = source.metadata
    exif = metadata.exif
    xmp = metadata.xmp

    return saved_by_pillow(
        samples,
        "JPEG",
        icc_profile=metadata.icc_profile,
        dpi=metadata.dpi,
        exif=exif if exif and len(exif) <= _SEGMENT_LIMIT else None,
        xmp=xmp if xmp and len(xmp) <= _XMP_LIMIT else None,
        extra=_iptc_segment(metadata.iptc) if metadata.iptc else None,
        **_quality(source.encoding),
    )


def _quality(encoding: dict[str, Any]) -> dict[str, Any]:
    """Pillow's options: the quality asked for, else the source's tables unless they are coarse."""
    asked = encoding.get("quality")
    if asked is not None:
        return {"quality": asked, "subsampling": encoding.get("subsampling", "4:4:4")}
    if "qtables" not in encoding:
        return {"quality": 95, "subsampling": "4:4:4"}
    if np.mean(encoding["qtables"][0]) > _COARSEST_STEP:
        return {"quality": 90}

    return {key: encoding[key] for key in ("qtables", "subsampling") if key in encoding}


def _iptc_segment(iptc: bytes) -> bytes | None:
    """IPTC as Photoshop's resource 0x0404 in a segment APP13; None if it does not fit."""
    resource = b"8BIM" + struct.pack(">HHI", 0x0404, 0, len(iptc)) + iptc + b"\0" * (len(iptc) % 2)
    content = b"Photoshop 3.0\0" + resource
    if len(content) > _SEGMENT_LIMIT:
        return None
    return b"\xff\xed" + struct.pack(">H", 2 + len(content)) + content


JPEG = PictureFormat(
    "JPEG",
    "JPEG",
    (".jpg", ".jpeg", ".jfif"),
    lambda head: head.startswith(b"\xff\xd8\xff") or head == b"\xff\xd8",
    PillowReader(prepare, encoding=encoding, count_pages=lambda data: 1, fills_truncated=True),
    Writer((8,), encode, keeps_alpha=False, takes_quality=True, longest_side=_LONGEST_SIDE),
    is_lossy=True,
    extent=extent,
)
