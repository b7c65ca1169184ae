"""HEIC pictures, decoded by the optional package pillow-heif."""

from __future__ import annotations

import importlib.util
import io
import struct

import numpy as np
from PIL import Image

from restore.errors import Unavailable
from restore.photo.decode import Decoded, check_size
from restore.photo.metadata import read_metadata
from restore.photo.tiff import unpremultiply

SUFFIXES = frozenset({".heic", ".heif", ".hif"})
_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}


def is_installed() -> bool:
    """Whether HEIC pictures can be read here."""
    return importlib.util.find_spec("pillow_heif") is not None


def is_heif(data: bytes) -> bool:
    """Whether a file declares itself HEIC; AVIF has the same container and is none."""
    if data[4:8] != b"ftyp":
        return False
    size = struct.unpack(">I", data[:4])[0]
    brands = {data[start : start + 4] for start in range(8, min(size, len(data), 256), 4)}
    return bool(brands & _BRANDS) and b"avif" not in brands


def decode_heif(data: bytes, max_pixels: int) -> Decoded:
    """Decode the main picture of a HEIC file; ValueError says why it is not taken.

    The file's own turning is done by the decoder. Raises Unavailable without pillow-heif.
    """
    try:
        import pillow_heif
    except ImportError:
        raise Unavailable(
            "a HEIC picture, for which the package pillow-heif is needed: pip install "
            "'restore-diffusion[heic]'"
        ) from None

    file = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
    picture = file[file.primary_index]
    check_size(*picture.size, max_pixels)
    samples = np.asarray(picture)
    samples = samples.reshape(*samples.shape[:2], -1)
    deep = samples.dtype == np.uint16
    full = 65535 if deep else 255
    if deep:  # 10 or 12 bits, moved up
        depth = picture.info["bit_depth"]
        samples = np.rint((samples >> (16 - depth)) * (full / (2**depth - 1))).astype(np.uint16)
    if picture.premultiplied_alpha:
        samples = unpremultiply(samples, full)

    said = Image.new("L", (1, 1))  # Pillow knows how to read EXIF
    said.info = {
        name: picture.info[name]
        for name in ("exif", "xmp", "icc_profile")
        if picture.info.get(name)
    }

    return Decoded(samples, 16 if deep else 8, "HEIF", read_metadata(said), {})
