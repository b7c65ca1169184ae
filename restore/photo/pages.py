"""Files of several pictures: pages of a TIFF, frames of an animation. One of them is made a file of
its own.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable
from typing import Any

from PIL import Image

from restore.photo.tiff import STARTS

_BIG_TIFF = 43
"""The number in a BigTIFF's header, where others have 42."""


def page_count(data: bytes, formats: Iterable[str]) -> int:
    """Pages of a TIFF without its previews, or frames of another file in one of Pillow's
    ``formats``.

    Raises whatever the libraries raise for a file that is none.
    """
    if data.startswith(STARTS):
        return max(1, len(_offsets(data)))
    with Image.open(io.BytesIO(data), formats=sorted(formats)) as im:
        # what lies behind the first picture of a phone's MPO are previews of it
        return 1 if im.format == "MPO" else getattr(im, "n_frames", 1)


def single_page(data: bytes, page: int, formats: Iterable[str]) -> bytes:
    """The file with one picture alone: a TIFF as it is but for where it begins and ends, a frame as
    PNG.

    Args:
        page: from 1.

    Raises:
        ValueError: it has no such page.
    """
    offsets = _offsets(data) if data.startswith(STARTS) else []
    count = len(offsets) or page_count(data, formats)
    if not 1 <= page <= count:
        raise ValueError(f"has no page {page}; it has {count}")
    if count == 1:
        return data
    if offsets:
        return _pointed_at(data, offsets[page - 1])

    with Image.open(io.BytesIO(data), formats=sorted(formats)) as im:
        im.seek(page - 1)
        kept = {key: im.info[key] for key in ("icc_profile", "exif") if im.info.get(key)}
        file = io.BytesIO()
        im.copy().save(file, "PNG", compress_level=1, **kept)

    return file.getvalue()


def _offsets(data: bytes) -> list[int]:
    """Where the directories of a TIFF's pages lie."""
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
