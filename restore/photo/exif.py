"""EXIF and the tags of a TIFF: directories of typed values, copied byte for byte.

The layout is that of TIFF 6.0, section 2; EXIF 2.32 and 3.0 store the same behind a header.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Order = Literal["<", ">"]

# Bytes of a number and numbers of a value, by type. 2 is text, 129 text in UTF-8 (EXIF 3.0).
_SIZES = {1: (1, 1), 2: (1, 1), 3: (2, 1), 4: (4, 1), 5: (4, 2), 6: (1, 1), 7: (1, 1), 8: (2, 1)}
_SIZES |= {9: (4, 1), 10: (4, 2), 11: (4, 1), 12: (8, 1), 13: (4, 1), 129: (1, 1)}
# Types of BigTIFF, which have no place elsewhere: offsets and numbers of 8 bytes.
_BIG_SIZES = {16: (8, 1), 17: (8, 1), 18: (8, 1)}

# Types that this code writes itself.
SHORT, LONG, RATIONAL, UNDEFINED, BYTE = 3, 4, 5, 7, 1

# Bytes of all values of a file; more is no metadata of a photograph.
_MOST = 2**24

_EXIF_START = b"Exif\0\0"
_HEADERS: dict[bytes, tuple[Order, bool]] = {
    b"II*\0": ("<", False),
    b"MM\0*": (">", False),
    b"II+\0": ("<", True),
    b"MM\0+": (">", True),
}


class Tag(NamedTuple):
    """A value of a directory.

    Attributes:
        kind: Type of the value, as in TIFF 6.0.
        value: Its bytes, in the byte order of the directory.
    """

    kind: int
    value: bytes

    @property
    def number_of_values(self) -> int:
        size, numbers = _SIZES[self.kind]
        return len(self.value) // (size * numbers)


@dataclass
class Tags:
    """The first directory of a file, and the directories below it.

    Attributes:
        order: Byte order of all values.
        main: Tags of the first directory by number.
        below: Tags of the directories that it points at, by the number of the pointer.
    """

    order: Order = "<"
    main: dict[int, Tag] = field(default_factory=dict)
    below: dict[int, dict[int, Tag]] = field(default_factory=dict)

    def number(self, code: int) -> int | None:
        """First whole number of a tag of the first directory, or None."""
        tag = self.main.get(code)
        letter = None if tag is None else {1: "B", 3: "H", 4: "I"}.get(tag.kind)
        if tag is None or letter is None:
            return None
        return int(struct.unpack_from(self.order + letter, tag.value)[0])


def short(order: Order, *numbers: int) -> Tag:
    """Return a tag of whole numbers below 65536."""
    return Tag(SHORT, struct.pack(f"{order}{len(numbers)}H", *numbers))


def long(order: Order, *numbers: int) -> Tag:
    """Return a tag of whole numbers below 2**32."""
    return Tag(LONG, struct.pack(f"{order}{len(numbers)}I", *numbers))


def read_tags(data: bytes, pointers: tuple[int, ...], offset: int | None = None) -> Tags:
    """Read EXIF, or a directory of a TIFF.

    Values that do not lie within the data, and those of unknown types, are left out.

    Args:
        data: EXIF with or without its identifier, or a TIFF.
        pointers: Numbers of the tags of the first directory whose directories are read, too.
        offset: Offset of the directory; None is that of the header.

    Raises:
        ValueError: There is no header.
        struct.error: It ends before its directory does.
    """
    while data.startswith(_EXIF_START):
        data = data[len(_EXIF_START) :]
    if data[:4] not in _HEADERS:
        raise ValueError("no header of EXIF or TIFF")

    order, big = _HEADERS[data[:4]]
    if offset is None:
        offset = struct.unpack_from(f"{order}Q" if big else f"{order}I", data, 8 if big else 4)[0]
    main = _read_directory(data, offset, order, big)
    below = {}
    for pointer in pointers:
        place = main.pop(pointer, None)
        if place is not None and place.kind in (4, 13, 16, 18):
            letter = "I" if len(place.value) == 4 else "Q"
            (start,) = struct.unpack_from(order + letter, place.value)
            below[pointer] = _read_directory(data, start, order, big)

    return Tags(order, main, below)


def _read_directory(data: bytes, offset: int, order: Order, big: bool) -> dict[int, Tag]:
    """Read the tags of one directory; nothing if it lies outside the data."""
    counter, entry, inline = ("Q", "HHQ", 8) if big else ("H", "HHI", 4)
    start = offset + struct.calcsize(order + counter)
    if not 0 < offset <= len(data) - struct.calcsize(order + counter):
        return {}

    sizes = _SIZES | _BIG_SIZES if big else _SIZES
    width = struct.calcsize(order + entry) + inline
    (number,) = struct.unpack_from(order + counter, data, offset)
    tags: dict[int, Tag] = {}
    left = _MOST

    for place in range(start, min(start + number * width, len(data) - width + 1), width):
        code, kind, count = struct.unpack_from(order + entry, data, place)
        size, numbers = sizes.get(kind, (0, 0))
        length = size * numbers * count
        at = place + width - inline
        if length > inline:
            (at,) = struct.unpack_from(order + ("Q" if big else "I"), data, at)
        if 0 < length <= min(left, len(data) - at) and code not in tags:
            tags[code] = Tag(kind, bytes(data[at : at + length]))
            left -= length

    return tags


def exif_of(tags: Tags) -> bytes:
    """Encode EXIF, in the byte order of the tags."""
    head = (b"II*\0" if tags.order == "<" else b"MM\0*") + struct.pack(f"{tags.order}I", 8)
    return _EXIF_START + head + directory_of(tags, len(head))


def directory_of(tags: Tags, offset: int) -> bytes:
    """Encode the first directory, its values and the directories below it.

    Args:
        offset: Where it will lie, behind the header of its file.
    """
    pointers = {pointer: long(tags.order, 0) for pointer in tags.below}
    start = offset + len(_directory(tags.main | pointers, offset, tags.order))
    parts = []

    for pointer, below in tags.below.items():
        pointers[pointer] = long(tags.order, start)
        parts.append(_directory(below, start, tags.order))
        start += len(parts[-1])

    return _directory(tags.main | pointers, offset, tags.order) + b"".join(parts)


def _directory(tags: dict[int, Tag], offset: int, order: Order) -> bytes:
    """Encode one directory and behind it the values that it has no room for, all at even places."""
    entries = [struct.pack(f"{order}H", len(tags))]
    values: list[bytes] = []
    end = offset + 2 + 12 * len(tags) + 4

    for code, tag in sorted(tags.items()):
        place: Any = tag.value.ljust(4, b"\0")
        if len(tag.value) > 4:
            place = struct.pack(f"{order}I", end)
            values.append(tag.value + b"\0" * (len(tag.value) % 2))
            end += len(values[-1])
        entries.append(struct.pack(f"{order}HHI", code, tag.kind, tag.number_of_values) + place)

    return b"".join([*entries, struct.pack(f"{order}I", 0), *values])
