"""Files of several pictures, pages of a TIFF or frames of an animation, and one page as a file."""

from __future__ import annotations

import io
import struct
from typing import Any

from PIL import Image

from restore.photo.formats import PILLOW_READERS
from restore.photo.formats.deep_tiff import STARTS

# The number in a BigTIFF's header, where others have 42.
_BIG_TIFF = 43


def page_count(data: bytes) -> int:
    """Pages of a TIFF without its previews, or frames of another file that Pillow opens.

    Raises:
        Exception: Whatever the libraries raise for a file that is no picture.
    """
    if data.startswith(STARTS):
        return max(1, len(_offsets(data)))
    with Image.open(io.BytesIO(data), formats=sorted(PILLOW_READERS)) as im:
        # what lies behind the first picture of a phone's MPO are previews of it
        return 1 if im.format == "MPO" else getattr(im, "n_frames", 1)


def single_page(data: bytes, page: int) -> bytes:
    """A file of one page or frame: a TIFF that points at this page alone, or a frame as PNG.

    Args:
        page: From 1.

    Raises:
        ValueError: There is no such page.
    """
    offsets = _offsets(data) if data.startswith(STARTS) else []
    count = len(offsets) or page_count(data)
    if not 1 <= page <= count:
        raise ValueError(f"has no page {page}; it has {count}")
    if count == 1:
        return data
    if offsets:
        return _pointed_at(data, offsets[page - 1])

    with Image.open(io.BytesIO(data), formats=sorted(PILLOW_READERS)) as im:
        im.seek(page - 1)
        kept = {key: im.info[key] for key in ("icc_profile", "exif") if im.info.get(key)}
        file = io.BytesIO()
        im.copy().save(file, "PNG", compress_level=1, **kept)

    return file.getvalue()


def _offsets(data: bytes) -> list[int]:
    """Offsets of the directories of a TIFF's pages, without those of previews."""
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        pages: list[Any] = [page.aspage() for page in file.pages]
        return [page.offset for page in pages if not page.is_reduced] or [
            page.offset for page in pages[:1]
        ]


def _pointed_at(data: bytes, offset: int) -> bytes:
    """The TIFF whose first and last directory is the one at ``offset``."""
    order = "<" if data.startswith(b"II") else ">"
    big = struct.unpack_from(f"{order}H", data, 2)[0] == _BIG_TIFF
    pointer, count, entry, header = ("Q", "Q", 20, 8) if big else ("I", "H", 12, 4)
    alone = bytearray(data)
    struct.pack_into(order + pointer, alone, header, offset)
    (entries,) = struct.unpack_from(order + count, alone, offset)
    struct.pack_into(order + pointer, alone, offset + struct.calcsize(count) + entry * entries, 0)

    return bytes(alone)
