"""Reading of camera raws' files."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

from restore.files import open_regular
from restore.photo import apart, libraw
from restore.photo.formats import format_of
from restore.photo.formats.record import HEAD
from restore.photo.libraries import libraries_silent
from restore.photo.photograph import MAX_PIXELS, refused
from restore.photo.raws import Raw
from restore.photo.refusals import Unreadable

# Bytes of a file that are read: twice those of the largest sensors, 150 megapixels of 16 bits.
LARGEST_FILE = 2**29


def read_raw(path: Path, *, file: BinaryIO | None = None, max_pixels: int = MAX_PIXELS) -> Raw:
    """Read a camera raw; it is decoded in a process of its own, which damage may end.

    Args:
        path: The file.
        file: The file at its start, if it is open already.
        max_pixels: Largest number of pixels that a file may declare.

    Raises:
        FileAccess: It is no regular file, or cannot be read.
        UnreadableInput: It is no camera raw, is damaged, too large, or holds no mosaic of red,
            green and blue.
        Unavailable: rawpy is not installed.
    """
    path = Path(path)
    with open_regular(path) if file is None else nullcontext(file) as opened, refused(str(path)):
        with libraries_silent():
            data = _bytes(opened)
        with apart.decoding_apart(keep=True):
            return apart.DECODER.call(libraw.decode, data, max_pixels)


def _bytes(file: BinaryIO) -> bytes:
    """Read a camera raw's file.

    Raises:
        Unreadable: It is empty, another picture, or too large.
    """
    head = file.read(HEAD)
    if not head:
        raise Unreadable("the file is empty")
    format = format_of(head)
    if format is not None and format.name not in ("TIFF", "HEIF"):
        raise Unreadable(
            f"a {format.title} picture, not a camera raw; restore denoise takes pictures"
        )

    data = head + file.read(LARGEST_FILE - len(head) + 1)
    if len(data) > LARGEST_FILE:
        raise Unreadable(f"more than {LARGEST_FILE / 1e6:.0f} MB, which no camera raw has")
    return data
