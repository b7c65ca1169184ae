"""Pages of a TIFF: which of its directories are pictures, and one of them as a file of its own."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from restore.photo.formats.record import Extent
from restore.photo.refusals import DEVELOP, Unreadable, not_read

# The first bytes of a TIFF in either byte order, and of a little-endian BigTIFF.
STARTS = (b"II*\0", b"MM\0*", b"II+\0")

# The number in a BigTIFF's header, where others have 42.
_BIG_TIFF = 43

# Tags, and values of the second (TIFF 6.0, TIFF/EP, DNG 1.4).
_MAKE = 271
_DNG_VERSION = 50706
_COLOR_FILTER_ARRAY, _LINEAR_RAW = 32803, 34892

# Raw files by the first word of the camera's maker.
_RAW_KINDS = {
    "NIKON": "a Nikon camera's raw file (NEF)",
    "SONY": "a Sony camera's raw file (ARW)",
    "CANON": "a Canon camera's raw file (CR2)",
    "PENTAX": "a Pentax camera's raw file (PEF)",
    "RICOH": "a Pentax camera's raw file (PEF)",
    "SAMSUNG": "a Samsung camera's raw file (SRW)",
    "HASSELBLAD": "a Hasselblad camera's raw file (3FR)",
}


def recognises(head: bytes) -> bool:
    """Return True for a TIFF, False for raw files of cameras that change its header."""
    return head.startswith(STARTS) and head[8:10] != b"CR"


def count_pages(data: bytes) -> int:
    """Count the pages of a TIFF, without previews and masks.

    Raises:
        Unreadable: It is a camera's raw file, or holds no page.
    """
    return len(_page_offsets(data))


def page_alone(data: bytes, page: int | None) -> bytes:
    """Point a TIFF at one page alone: Pillow would take previews for pages.

    Raises:
        Unreadable: It has several pages and none is chosen; or as `count_pages`.
    """
    offsets = _page_offsets(data)
    if page is None and len(offsets) > 1:
        raise Unreadable(f"has several pages ({len(offsets)}); `pages` takes them one by one")
    return _pointed_at(data, offsets[(page or 1) - 1])


def extent(file: BinaryIO, size: int) -> Extent:
    """Find how far the pages of a large file reach, and the bytes of their pixels."""
    import tifffile

    length = 0
    needed = 0
    with tifffile.TiffFile(file) as opened:
        chain = list(_once(opened.pages))
        for page in (*chain, *_below(chain)):
            ends = [a + b for a, b in zip(page.dataoffsets, page.databytecounts, strict=False)]
            tags = [tag.valueoffset + tag.valuebytecount for tag in page.tags]
            length = max(length, *ends, *tags)
            needed += page.nbytes

    return Extent(min(length, size), needed)


def _page_offsets(data: bytes) -> list[int]:
    """Offsets of the directories of a TIFF's pages."""
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        chain = list(_once(file.pages))
        if not chain:
            raise Unreadable("a TIFF without a picture")
        below = list(_below(chain))
        _refuse_raw([*chain, *below])

        # Where the first directories hold but a preview, the picture lies below them.
        for candidates in (chain, below):
            pages = [page.offset for page in candidates if _is_page(page)]
            if pages:
                return pages

    return [chain[0].offset]


def _once(pages: Iterable[Any]) -> Iterator[Any]:
    """Yield directories in turn until one comes again, as in a circle."""
    seen = set()
    for page in pages:
        directory = page.aspage()
        if directory.offset in seen:
            return
        seen.add(directory.offset)
        yield directory


def _below(chain: Iterable[Any]) -> Iterator[Any]:
    """Yield the directories that those of a chain point at."""
    for page in chain:
        yield from _once(page.pages or ())


def _is_page(page: Any) -> bool:
    return not (page.is_reduced or page.is_mask)


def _refuse_raw(directories: list[Any]) -> None:
    """Refuse the data of a sensor, in whatever directory: the others show but previews of it."""
    is_dng = any(_DNG_VERSION in page.tags for page in directories)
    sensors = (_COLOR_FILTER_ARRAY, _LINEAR_RAW)
    if not is_dng and all(page.photometric not in sensors for page in directories):
        return

    make = directories[0].tags.get(_MAKE)
    words = str(make.value if make is not None else "").upper().split()
    kind = _RAW_KINDS.get(words[0] if words else "", "a camera's raw file")
    raise Unreadable(not_read("a camera's raw file (DNG)" if is_dng else kind, DEVELOP))


def _pointed_at(data: bytes, offset: int) -> bytes:
    """The TIFF whose first and last directory is the one at ``offset``."""
    order = "<" if data.startswith(b"II") else ">"
    big = struct.unpack_from(f"{order}H", data, 2)[0] == _BIG_TIFF
    pointer, count, entry, header = ("Q", "Q", 20, 8) if big else ("I", "H", 12, 4)

    (first,) = struct.unpack_from(order + pointer, data, header)
    (entries,) = struct.unpack_from(order + count, data, offset)
    end = offset + struct.calcsize(count) + entry * entries
    (following,) = struct.unpack_from(order + pointer, data, end)
    if first == offset and following == 0:  # a large file is not copied without need
        return data

    alone = bytearray(data)
    struct.pack_into(order + pointer, alone, header, offset)
    struct.pack_into(order + pointer, alone, end, 0)

    return bytes(alone)
