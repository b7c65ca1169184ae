"""HEIC pictures, which are only read, by the optional package pillow-heif."""

from __future__ import annotations

import importlib.util
import io
from typing import Any

import numpy as np
from PIL import Image

from restore.errors import Unavailable
from restore.photo.formats.iso import brands, ends_early, extent
from restore.photo.formats.record import Decoded, OwnReader, PictureFormat, check_size
from restore.photo.metadata import Metadata, read_metadata
from restore.photo.samples import unpremultiply

_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}


def is_installed() -> bool:
    """Return True if HEIC pictures can be read here."""
    return importlib.util.find_spec("pillow_heif") is not None


def is_heif(head: bytes) -> bool:
    """Return True if a file declares itself HEIC; AVIF has the same container and does not."""
    return bool(brands(head) & _BRANDS) and b"avif" not in brands(head)


def decode(data: bytes, max_pixels: int) -> Decoded:
    """Decode the main picture of a HEIC file; the decoder turns it upright.

    Raises:
        Unreadable: It is too large; pillow-heif has errors of its own for damaged files.
        Unavailable: pillow-heif is not installed.
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
    info: dict[str, Any] = picture.info
    check_size(*picture.size, max_pixels)

    samples = np.asarray(picture)
    samples = samples.reshape(*samples.shape[:2], -1)
    deep = samples.dtype == np.uint16
    full = 65535 if deep else 255
    if deep:  # 10 or 12 bits, moved up
        depth = info["bit_depth"]
        samples = np.rint((samples >> (16 - depth)) * (full / (2**depth - 1))).astype(np.uint16)
    if picture.premultiplied_alpha:
        samples = unpremultiply(samples, full)

    return Decoded(samples, 16 if deep else 8, "HEIF", _metadata(info), {})


def _metadata(info: dict[str, Any]) -> Metadata:
    """Metadata by way of a picture of Pillow's, which knows how to read EXIF."""
    carrier = Image.new("L", (1, 1))
    carrier.info = {name: info[name] for name in ("exif", "xmp", "icc_profile") if info.get(name)}
    return read_metadata(carrier)


HEIF = PictureFormat(
    "HEIF",
    "HEIC",
    (".heic", ".heif", ".hif"),
    is_heif,
    OwnReader(decode),
    is_lossy=True,
    is_readable=is_installed,
    extent=extent,
    ends_early=ends_early,
)
