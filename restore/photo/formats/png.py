"""PNG; its 16-bit pixels, which Pillow would cut to 8 bits, are decoded by OpenCV."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from PIL import Image, PngImagePlugin

from restore.photo.encode import ZLIB_LEVEL, saved_by_pillow
from restore.photo.formats.png_chunks import SIGNATURE, encoded, extent, prepare
from restore.photo.formats.record import PictureFormat, PillowReader, Source, Writer
from restore.photo.metadata import Metadata
from restore.photo.samples import opencv_samples

# Where the header IHDR has bits a channel and the colour type.
_DEPTH_AT = 24
_COLOUR_TYPE_AT = 25
# Where the header ends.
_AFTER_HEADER = 33
# Colour types: whether there are three colours, and whether there is alpha.
_GREY, _RGB, _GREY_ALPHA, _RGB_ALPHA = 0, 2, 4, 6


def stored_bits(im: Image.Image, data: bytes) -> int:
    """Bits a channel, from the header."""
    return data[_DEPTH_AT]


def deep_samples(im: Image.Image, data: bytes) -> np.ndarray:
    """16-bit samples."""
    decoded = opencv_samples(data, np.uint16)
    colour_type = data[_COLOUR_TYPE_AT]
    samples = decoded[..., : 3 if colour_type in (_RGB, _RGB_ALPHA) else 1]
    if colour_type in (_GREY_ALPHA, _RGB_ALPHA):
        return np.dstack([samples, decoded[..., 3]])
    if "transparency" in im.info:  # one colour stands for transparent
        opaque = (samples != np.array(im.info["transparency"])).any(axis=2)
        return np.dstack([samples, opaque * np.uint16(65535)])

    return samples


def encode(samples: np.ndarray, source: Source) -> bytes:
    """Encode uint8 samples by Pillow, or uint16 ones."""
    metadata = source.metadata
    if samples.dtype == np.uint16:
        return _encode_16bit(samples, metadata)

    text = None
    if metadata.xmp:
        text = PngImagePlugin.PngInfo()
        text.add(b"iTXt", _xmp_text(metadata.xmp))

    saved = saved_by_pillow(
        samples,
        "PNG",
        icc_profile=metadata.icc_profile,
        exif=metadata.exif,
        dpi=metadata.dpi,
        pnginfo=text,
    )
    color = b"".join(encoded(*chunk) for chunk in _color_chunks(metadata))

    return saved[:_AFTER_HEADER] + color + saved[_AFTER_HEADER:]


def _encode_16bit(samples: np.ndarray, metadata: Metadata) -> bytes:
    height, width, channels = samples.shape
    colour_type = {1: _GREY, 2: _GREY_ALPHA, 3: _RGB, 4: _RGB_ALPHA}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)

    rows = np.ascontiguousarray(samples, dtype=">u2").view(np.uint8).reshape(height, -1)
    filtered = np.insert(rows, 0, 1, axis=1)  # each row's filter is 1: difference to the left
    filtered[:, 1 + 2 * channels :] -= rows[:, : -2 * channels]

    parts = [
        (b"IHDR", header),
        *_metadata_chunks(metadata),
        (b"IDAT", zlib.compress(filtered.tobytes(), ZLIB_LEVEL)),
        (b"IEND", b""),
    ]

    return SIGNATURE + b"".join(encoded(name, content) for name, content in parts)


def _metadata_chunks(metadata: Metadata) -> list[tuple[bytes, bytes]]:
    chunks = _color_chunks(metadata)
    if metadata.icc_profile:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc_profile)))
    if metadata.dpi:
        per_metre = [round(value / 0.0254) for value in metadata.dpi]
        chunks.append((b"pHYs", struct.pack(">IIB", *per_metre, 1)))
    if metadata.exif:
        chunks.append((b"eXIf", metadata.exif.removeprefix(b"Exif\0\0")))
    if metadata.xmp:
        chunks.append((b"iTXt", _xmp_text(metadata.xmp)))

    return chunks


def _xmp_text(xmp: bytes) -> bytes:
    """Content of a chunk iTXt: keyword, no compression, no language, no translation, text."""
    return b"XML:com.adobe.xmp\0" + b"\0\0" + b"\0" + b"\0" + xmp


def _color_chunks(metadata: Metadata) -> list[tuple[bytes, bytes]]:
    """Chunks about the meaning of colours; a profile stands for sRGB."""
    return [
        (name.encode(), content)
        for name, content in metadata.color_chunks.items()
        if name != "sRGB" or not metadata.icc_profile
    ]


PNG = PictureFormat(
    "PNG",
    "PNG",
    (".png",),
    lambda head: head.startswith(SIGNATURE),
    PillowReader(prepare, stored_bits, deep_samples),
    Writer((8, 16), encode, keeps_color_chunks=True),
    extent=extent,
)
