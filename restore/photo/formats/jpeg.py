"""JPEG, and a phone's MPO, which is a JPEG with previews or a gain map behind it."""

from __future__ import annotations

import struct
from typing import Any, cast

import numpy as np
from PIL import Image, JpegImagePlugin

from restore.photo.encode import saved_by_pillow
from restore.photo.formats.jpeg_coefficients import stored_jpeg
from restore.photo.formats.jpeg_header import extent, prepare
from restore.photo.formats.record import PictureFormat, PillowReader, Source, Writer

# Bytes that fit into one segment, and what XMP has of it behind its identifier.
_SEGMENT_LIMIT = 65533
_XMP_LIMIT = _SEGMENT_LIMIT - len(b"http://ns.adobe.com/xap/1.0/\0")
# Mean step of the luminance table at about quality 75: coarser ones would undo the restoration.
_COARSEST_STEP = 30.0
# JPEG_MAX_DIMENSION of libjpeg; the 16 bits of a file would hold 65535.
_LONGEST_SIDE = 65500


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
    PillowReader(
        prepare,
        encoding=encoding,
        count_pages=lambda data: 1,
        fills_truncated=True,
        stored=stored_jpeg,
    ),
    Writer((8,), encode, keeps_alpha=False, takes_quality=True, longest_side=_LONGEST_SIDE),
    is_lossy=True,
    extent=extent,
)
