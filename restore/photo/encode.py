"""From samples, [H, W, 1, 2, 3 or 4] with any alpha last, to the bytes of a picture's file.

They are uint8 or uint16, in a TIFF also float32. Pillow writes 8-bit pictures; TIFF and 16-bit PNG
are encoded here.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin, TiffImagePlugin

from restore.photo.metadata import Metadata, exif_tags

_JPEG_EXIF_LIMIT = 65533
_JPEG_XMP_LIMIT = _JPEG_EXIF_LIMIT - len(b"http://ns.adobe.com/xap/1.0/\0")
_JPEG_COARSEST_STEP = 30.0  # mean step of the luminance table at about quality 75
_LOSSY_FORMATS = ("JPEG", "AVIF", "HEIF")
_ZLIB_LEVEL = 5


def quantise(values: np.ndarray, bits: int) -> np.ndarray:
    """[0, 1] to whole numbers of 8 or 16 bits, rounded and clipped; for 32 bits clipped only."""
    if bits == 32:
        return values.astype(np.float32).clip(0, 1)
    top = 2**bits - 1
    return (
        np.rint(values * np.float32(top)).clip(0, top).astype(np.uint8 if bits == 8 else np.uint16)
    )


def encode_8bit(
    samples: np.ndarray, format: str, quality: dict[str, Any], metadata: Metadata
) -> bytes:
    """A PNG, JPEG, WebP or BMP by Pillow; `quality` as from `quality_options`."""
    options = {
        "icc_profile": metadata.icc_profile,
        "exif": metadata.exif,
        "dpi": metadata.dpi,
        **quality,
    }
    if format == "JPEG":
        options |= _jpeg_metadata(metadata)
    elif format == "WEBP":
        options["xmp"] = metadata.xmp
    elif format == "PNG" and metadata.xmp:
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add(b"iTXt", _png_xmp(metadata.xmp))

    im = Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
    file = io.BytesIO()
    im.save(file, format, **{name: value for name, value in options.items() if value is not None})

    return file.getvalue()


def _jpeg_metadata(metadata: Metadata) -> dict[str, bytes | None]:
    """What fits into one segment each."""
    exif = metadata.exif
    xmp = metadata.xmp
    iptc = metadata.iptc

    return {
        "exif": exif if exif and len(exif) <= _JPEG_EXIF_LIMIT else None,
        "xmp": xmp if xmp and len(xmp) <= _JPEG_XMP_LIMIT else None,
        "extra": _iptc_segment(iptc) if iptc else None,
    }


def _iptc_segment(iptc: bytes) -> bytes | None:
    """IPTC as Photoshop's resource 0x0404 in a segment APP13."""
    resource = b"8BIM" + struct.pack(">HHI", 0x0404, 0, len(iptc)) + iptc + b"\0" * (len(iptc) % 2)
    content = b"Photoshop 3.0\0" + resource
    return (
        b"\xff\xed" + struct.pack(">H", 2 + len(content)) + content
        if len(content) <= _JPEG_EXIF_LIMIT
        else None
    )


def _png_xmp(xmp: bytes) -> bytes:
    """The content of a chunk iTXt: keyword, not compressed, no language, no translated keyword,
    text.
    """
    return b"XML:com.adobe.xmp\0" + b"\0\0" + b"\0" + b"\0" + xmp


def quality_options(format: str, source: str, encoding: dict[str, Any]) -> dict[str, Any]:
    """Pillow's options for a file of `format`, from the format and `Photo.encoding` of the source.

    A `quality` in `encoding` is obeyed. Else a JPEG source's own tables are kept, unless they would
    undo the restoration.
    """
    asked = encoding.get("quality")
    if format == "WEBP":
        lossless = asked is None and source not in _LOSSY_FORMATS and encoding.get("lossless", True)
        return {"lossless": lossless, "exact": True, "quality": 75 if lossless else asked or 90}
    if format != "JPEG":
        return {}
    if asked is not None:
        return {"quality": asked, "subsampling": encoding.get("subsampling", "4:4:4")}
    if "qtables" not in encoding:
        return {"quality": 95, "subsampling": "4:4:4"}
    if np.mean(encoding["qtables"][0]) > _JPEG_COARSEST_STEP:
        return {"quality": 90}

    return {key: encoding[key] for key in ("qtables", "subsampling") if key in encoding}


def encode_png16(samples: np.ndarray, metadata: Metadata) -> bytes:
    """A PNG of uint16 samples."""
    height, width, channels = samples.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))]
    if metadata.icc_profile:
        parts.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc_profile)))
    if metadata.dpi:
        parts.append(
            (b"pHYs", struct.pack(">IIB", *(round(value / 0.0254) for value in metadata.dpi), 1))
        )

    if metadata.exif:
        parts.append((b"eXIf", metadata.exif.removeprefix(b"Exif\0\0")))
    if metadata.xmp:
        parts.append((b"iTXt", _png_xmp(metadata.xmp)))

    rows = np.ascontiguousarray(samples, dtype=">u2").view(np.uint8).reshape(height, -1)
    filtered = np.insert(rows, 0, 1, axis=1)  # each row's filter is 1: difference to the left
    filtered[:, 1 + 2 * channels :] -= rows[:, : -2 * channels]
    parts += [(b"IDAT", zlib.compress(filtered, _ZLIB_LEVEL)), (b"IEND", b"")]

    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in parts)


def _chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(name))
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def encode_tiff(samples: np.ndarray, metadata: Metadata) -> bytes:
    """A TIFF of deflated strips, of whole numbers as horizontal differences. Tag numbers as in TIFF
    6.0.
    """
    if samples.itemsize > 1 and samples.shape[2] == 2:  # few programs read it; Pillow does not
        samples = samples[..., [0, 0, 0, 1]]

    height, width, channels = samples.shape
    floating = samples.dtype.kind == "f"
    stored = np.ascontiguousarray(samples) if floating else _differences(samples)
    stored = stored.astype(samples.dtype.newbyteorder("<"), copy=False)
    rows = max(1, 2**20 // stored[0].nbytes)
    strips = [
        zlib.compress(stored[y : y + rows].tobytes(), _ZLIB_LEVEL) for y in range(0, height, rows)
    ]
    sizes = [len(strip) for strip in strips]
    tags = TiffImagePlugin.ImageFileDirectory_v2()

    for tag, value in exif_tags(metadata.exif).items():
        tags[tag] = value

    tags[256], tags[257], tags[258], tags[259] = (
        width,
        height,
        (8 * samples.itemsize,) * channels,
        8,
    )
    tags[262], tags[277], tags[278], tags[284] = (2 if channels > 2 else 1), channels, rows, 1
    tags[273], tags[279] = tuple(np.cumsum([0, *sizes[:-1]]).tolist()), tuple(sizes)
    if floating:
        tags[339] = (3,) * channels
    else:
        tags[317] = 2

    if channels in (2, 4):
        tags[338] = 2  # the last channel is alpha, not premultiplied
    if metadata.dpi:
        tags[282], tags[283], tags[296] = *metadata.dpi, 2

    for tag, content in (
        (700, metadata.xmp),
        (33723, metadata.iptc),
        (34675, metadata.icc_profile),
    ):
        if content:
            tags[tag] = content

    file = io.BytesIO()
    tags.save(file)  # adds the length of what it writes to the strips' offsets

    return file.getvalue() + b"".join(strips)


def _differences(samples: np.ndarray) -> np.ndarray:
    """Each pixel less the one to its left."""
    differences = samples.copy()
    differences[:, 1:] -= samples[:, :-1]
    return differences
