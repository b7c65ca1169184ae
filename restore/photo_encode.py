"""From samples, uint8 or uint16 [H, W, 1, 2, 3 or 4] with any alpha last, to the bytes of a picture's file.

Pillow writes 8-bit pictures; TIFF and 16-bit PNG are encoded here.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin

from restore.photo_metadata import exif_tags

_JPEG_EXIF_LIMIT = 65533
_JPEG_COARSEST_STEP = 30.0  # mean step of the luminance table at about quality 75
_ZLIB_LEVEL = 5


def quantise(values: np.ndarray, bits: int) -> np.ndarray:
    """[0, 1] to whole numbers of 8 or 16 bits, rounded and clipped."""
    top = 2**bits - 1
    return np.rint(values * np.float32(top)).clip(0, top).astype(np.uint8 if bits == 8 else np.uint16)


def encode_8bit(
    samples: np.ndarray,
    format: str,
    quality: dict[str, Any],
    *,
    icc_profile: bytes | None,
    exif: bytes | None,
    dpi: tuple[float, float] | None,
) -> bytes:
    """A PNG, JPEG, WebP or BMP by Pillow; `quality` as from `quality_options`."""
    if format == "JPEG" and exif and len(exif) > _JPEG_EXIF_LIMIT:
        exif = None
    options = {"icc_profile": icc_profile, "exif": exif, "dpi": dpi, **quality}
    im = Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
    file = io.BytesIO()
    im.save(file, format, **{name: value for name, value in options.items() if value is not None})
    return file.getvalue()


def quality_options(format: str, source: str, encoding: dict[str, Any]) -> dict[str, Any]:
    """Pillow's options for a file of `format`, from the format and `Photo.encoding` of the source.

    A JPEG source's own tables are kept, unless they would undo the restoration.
    """
    if format == "WEBP":
        lossless = source != "JPEG" and encoding.get("lossless", True)
        return {"lossless": lossless, "exact": True, "quality": 75 if lossless else 90}
    if format != "JPEG":
        return {}
    if "qtables" not in encoding:
        return {"quality": 95, "subsampling": "4:4:4"}
    if np.mean(encoding["qtables"][0]) > _JPEG_COARSEST_STEP:
        return {"quality": 90}
    return {key: encoding[key] for key in ("qtables", "subsampling") if key in encoding}


def encode_png16(
    samples: np.ndarray, *, icc_profile: bytes | None, exif: bytes | None, dpi: tuple[float, float] | None
) -> bytes:
    """A PNG of uint16 samples."""
    height, width, channels = samples.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))]
    if icc_profile:
        parts.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(icc_profile)))
    if dpi:
        parts.append((b"pHYs", struct.pack(">IIB", *(round(value / 0.0254) for value in dpi), 1)))
    if exif:
        parts.append((b"eXIf", exif.removeprefix(b"Exif\0\0")))
    rows = np.ascontiguousarray(samples, dtype=">u2").view(np.uint8).reshape(height, -1)
    filtered = np.insert(rows, 0, 1, axis=1)  # each row's filter is 1: difference to the left
    filtered[:, 1 + 2 * channels :] -= rows[:, : -2 * channels]
    parts += [(b"IDAT", zlib.compress(filtered, _ZLIB_LEVEL)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in parts)


def _chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(name))
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def encode_tiff(
    samples: np.ndarray, *, icc_profile: bytes | None, exif: bytes | None, dpi: tuple[float, float] | None
) -> bytes:
    """A TIFF of deflated strips of horizontal differences. Tag numbers as in TIFF 6.0."""
    if samples.dtype == np.uint16 and samples.shape[2] == 2:  # few programs read it; Pillow does not
        samples = samples[..., [0, 0, 0, 1]]
    height, width, channels = samples.shape
    differences = samples.copy()
    differences[:, 1:] -= samples[:, :-1]
    differences = differences.astype(samples.dtype.newbyteorder("<"))
    rows = max(1, 2**20 // differences[0].nbytes)
    strips = [zlib.compress(differences[y : y + rows].tobytes(), _ZLIB_LEVEL) for y in range(0, height, rows)]
    sizes = [len(strip) for strip in strips]
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in exif_tags(exif).items():
        tags[tag] = value
    tags[256], tags[257], tags[258], tags[259] = width, height, (8 * samples.itemsize,) * channels, 8
    tags[262], tags[277], tags[278], tags[284] = (2 if channels > 2 else 1), channels, rows, 1
    tags[273], tags[279], tags[317] = tuple(np.cumsum([0, *sizes[:-1]]).tolist()), tuple(sizes), 2
    if channels in (2, 4):
        tags[338] = 2  # the last channel is alpha, not premultiplied
    if dpi:
        tags[282], tags[283], tags[296] = *dpi, 2
    if icc_profile:
        tags[34675] = icc_profile
    file = io.BytesIO()
    tags.save(file)  # adds the length of what it writes to the strips' offsets
    return file.getvalue() + b"".join(strips)
