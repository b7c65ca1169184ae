"""From an open file to the bytes of its picture, never more than the header can justify."""

from __future__ import annotations

import io
from typing import BinaryIO, NamedTuple

from PIL import Image

from restore.photo.formats import format_of
from restore.photo.formats.record import HEAD, Extent, PictureFormat, check_size
from restore.photo.refusals import Unreadable
from restore.photo.unread import refusal

# Bytes of a file that need no justification: room for metadata, previews and short animations.
_SMALL = 2**26
# How much longer than its pixels a file may be: nothing that is compressed grows so far.
_LONGER = 2
# Bytes of a pixel where only the number of pixels is known.
_PER_PIXEL = 8


class Stored(NamedTuple):
    """A picture's file in memory."""

    data: bytes
    format: PictureFormat


def read_stored(file: BinaryIO, max_pixels: int) -> Stored:
    """Read a picture's file.

    The header decides before the rest is read: whether this is a picture at all, and how long the
    file of such a picture can be. So a file of gigabytes that is none costs no memory.

    Raises:
        Unreadable: It is no picture that can be read, or far longer than its pixels need.
        OSError: It cannot be read.
    """
    head = file.read(HEAD)
    if not head:
        raise Unreadable("the file is empty")
    format = format_of(head)
    size = file.seek(0, io.SEEK_END)
    if format is None:
        file.seek(max(0, size - HEAD))
        raise Unreadable(refusal(head, file.read(HEAD), size))

    if size <= _SMALL:
        file.seek(0)
        return Stored(file.read(size), format)

    length, needed = _extent(file, size, format, max_pixels)
    longest = _SMALL + _LONGER * needed
    if length > longest:
        raise Unreadable(
            f"{length / 1e6:.0f} MB are more than the pixels of this {format.title} can need "
            f"({longest / 1e6:.0f} MB)"
        )
    file.seek(0)

    return Stored(file.read(length), format)


def _extent(file: BinaryIO, size: int, format: PictureFormat, max_pixels: int) -> Extent:
    file.seek(0)
    if format.extent is not None:
        return format.extent(file, size)

    with Image.open(file, formats=[format.name]) as im:
        check_size(im.width, im.height, max_pixels)
        return Extent(size, im.width * im.height * _PER_PIXEL)
