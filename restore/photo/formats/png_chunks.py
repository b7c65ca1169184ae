"""Chunks of a PNG: checked, completed where the file ends too early, and read for their metadata.

The PNG Specification, third edition (W3C, 2025), defines them.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from restore.photo.formats.record import Extent, Limits, Prepared, check_size
from restore.photo.refusals import Truncated, Unreadable, not_read

SIGNATURE = b"\x89PNG\r\n\x1a\n"

# Chunks that say what the numbers of the pixels mean, with their lengths in bytes. They hold for
# a restored picture, too.
COLOR_CHUNKS = {"gAMA": 4, "cHRM": 32, "sRGB": 1, "cICP": 4, "mDCV": 24, "cLLI": 8}

# Bytes of a profile or a text, decompressed. Profiles of scanners have up to a few million; a
# thousandfold compression must not fill the memory.
_LONGEST_TEXT = 2**24

# Keywords of texts that are metadata.
_XMP_KEYWORD = b"XML:com.adobe.xmp\0"
_EXIF_KEYWORD = b"Raw profile type exif\0"

# A walk over more chunks than any picture has would take minutes.
_MOST_CHUNKS = 2**18
# Where the content of IHDR ends, and the length of pHYs.
_HEADER_END = len(SIGNATURE) + 8 + 13
_RESOLUTION_LENGTH = 9
# Bytes to inflate at a time.
_PIECE = 2**16

# Chunks that Pillow gets: those of the pixels, resolution and frames.
_KEPT = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"pHYs", b"acTL", b"fcTL", b"fdAT"}

# Channels, by the colour type.
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Start and step across and down of the seven passes of an interlaced picture.
_PASSES = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8)),
    *((2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)
_NOT_INTERLACED = ((0, 0, 1, 1),)


class Chunk(NamedTuple):
    """A chunk of a PNG.

    Attributes:
        name: Four letters; the first one is small in chunks that a reader may leave out.
        content: Its bytes.
        is_sound: True if its checksum is right.
    """

    name: bytes
    content: bytes
    is_sound: bool

    @property
    def is_critical(self) -> bool:
        return self.name[:1].isupper()


class _Header(NamedTuple):
    """Content of the chunk IHDR."""

    width: int
    height: int
    depth: int
    color_type: int
    compression: int
    filtering: int
    interlacing: int

    @property
    def passes(self) -> list[tuple[int, int]]:
        """Number of rows, and bytes of a row with its filter, of each pass."""
        bits = self.depth * _CHANNELS[self.color_type]
        passes = []
        for left, top, across, down in _PASSES if self.interlacing else _NOT_INTERLACED:
            width = -(-(self.width - left) // across)
            height = -(-(self.height - top) // down)
            if width > 0 and height > 0:
                passes.append((height, 1 + -(-width * bits // 8)))
        return passes

    @property
    def pixel_bytes(self) -> int:
        """Bytes that the chunks IDAT are inflated to."""
        return sum(rows * row for rows, row in self.passes)


def prepare(data: bytes, page: int | None, limits: Limits) -> Prepared:
    """Check the chunks; keep what Pillow and OpenCV need, and read the metadata.

    Text of any length is skipped, and a wrong checksum costs only a chunk that may be left out.

    Raises:
        Unreadable: A chunk that the picture needs is damaged, or the picture is too large.
        Truncated: The file ends too early, and that is not allowed.
    """
    header = _header(data)
    check_size(header.width, header.height, limits.max_pixels)
    kept: list[Chunk] = []
    notes: list[str] = []
    info: dict[str, Any] = {"color_chunks": {}}
    is_whole = True

    try:
        for chunk in _chunks(data):
            if chunk.name in _KEPT and _checked(chunk, notes):
                kept.append(chunk)
            elif chunk.name not in _KEPT and _checked(chunk, notes):
                _read_metadata(chunk, info, notes)
    except Truncated:
        has_pixels = any(chunk.name == b"IDAT" for chunk in kept)
        if not limits.allow_truncated or not has_pixels:
            raise Truncated(has_pixels and limits.allow_truncated is False) from None
        is_whole = False

    if limits.allow_truncated:
        kept, note = _completed(header, kept, is_whole)
        notes += note
    packed = b"".join([SIGNATURE, *(encoded(chunk.name, chunk.content) for chunk in kept)])

    return Prepared(packed, info, tuple(notes))


def extent(file: BinaryIO, size: int) -> Extent:
    """Find where the last chunk of a large file ends, and the bytes of all its frames."""
    header = _header(file.read(_HEADER_END))
    frames = 1
    place = len(SIGNATURE)

    for _ in range(_MOST_CHUNKS):
        file.seek(place)
        start = file.read(8)
        if len(start) < 8:
            break
        length, name = struct.unpack(">I4s", start)
        place += 12 + length
        frames += name == b"fcTL"
        if name == b"IEND" or not name.isalpha():
            break

    return Extent(min(place, size), frames * header.pixel_bytes)


def encoded(name: bytes, content: bytes) -> bytes:
    """Encode a chunk with its length and checksum."""
    checksum = zlib.crc32(content, zlib.crc32(name))
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def _header(data: bytes) -> _Header:
    start = len(SIGNATURE) + 8
    if len(data) < _HEADER_END:
        raise Truncated
    header = _Header(*struct.unpack_from(">IIBBBBB", data, start))
    if data[start - 4 : start] == b"CgBI":
        raise Unreadable(not_read("an iOS app's PNG (CgBI)", "convert it first, with pngcrush"))
    if data[start - 8 : start] != b"\0\0\0\rIHDR" or header.color_type not in _CHANNELS:
        raise Unreadable("its header is damaged")
    return header


def _chunks(data: bytes) -> Iterator[Chunk]:
    """Yield the chunks up to the end of the picture; of an incomplete IDAT what is there.

    Raises:
        Truncated: The end is missing.
        Unreadable: Something else than a chunk comes.
    """
    place = len(SIGNATURE)
    for _ in range(_MOST_CHUNKS):
        if place + 8 > len(data) or not any(data[place : place + 12]):  # or it was never filled
            raise Truncated
        length, name = struct.unpack_from(">I4s", data, place)
        if not name.isalpha():
            raise Unreadable("something else lies between its chunks: it is damaged")

        content = data[place + 8 : place + 8 + length]
        checksum = data[place + 8 + length : place + 12 + length]
        if len(checksum) < 4:
            if name == b"IDAT":
                yield Chunk(name, content, True)
            raise Truncated

        right = zlib.crc32(content, zlib.crc32(name)) == int.from_bytes(checksum, "big")
        yield Chunk(name, content, right)
        if name == b"IEND":
            return
        place += 12 + length

    raise Unreadable(f"has more than {_MOST_CHUNKS} chunks")


def _checked(chunk: Chunk, notes: list[str]) -> bool:
    """Return True for a sound chunk; note one that may be left out.

    Raises:
        Unreadable: The picture needs the chunk.
    """
    name = chunk.name.decode()
    if chunk.is_sound:
        return chunk.name != b"pHYs" or len(chunk.content) == _RESOLUTION_LENGTH
    if chunk.is_critical:
        raise Unreadable(f"the checksum of its chunk {name} is wrong: the picture is damaged")

    note = f"the checksum of its chunk {name} is wrong: what it says is left out"
    if note not in notes:
        notes.append(note)
    return False


def _read_metadata(chunk: Chunk, info: dict[str, Any], notes: list[str]) -> None:
    """Add what a chunk says to the metadata; the first one of a kind counts."""
    name = chunk.name.decode()
    content = chunk.content
    if COLOR_CHUNKS.get(name) == len(content):
        info["color_chunks"].setdefault(name, content)
    elif name == "eXIf":
        info.setdefault("exif", content)
    elif name == "iCCP":
        profile = _inflated(content.partition(b"\0")[2][1:])
        if profile is None:
            notes.append("its colour profile is damaged, or has more than 16 MiB, and is left out")
        else:
            info.setdefault("icc_profile", profile)
    elif name == "iTXt" and content.startswith(_XMP_KEYWORD):
        text = _international_text(content[len(_XMP_KEYWORD) :])
        if text is not None:
            info.setdefault("xmp", text)
    elif name in ("tEXt", "zTXt") and content.startswith(_EXIF_KEYWORD):
        text = content[len(_EXIF_KEYWORD) :]
        exif = _hexadecimal(_inflated(text[1:]) if name == "zTXt" else text)
        if exif is not None:
            info.setdefault("exif", exif)


def _inflated(content: bytes) -> bytes | None:
    """Inflate a text; None if it is damaged or too long."""
    inflate = zlib.decompressobj()
    try:
        text = inflate.decompress(content, _LONGEST_TEXT)
    except zlib.error:
        return None
    return text if inflate.eof else None


def _international_text(content: bytes) -> bytes | None:
    """Text of a chunk iTXt behind its keyword; None if it is damaged or too long."""
    is_compressed = content[:1] == b"\1"
    parts = content[2:].split(b"\0", 2)  # language, translated keyword, text
    if len(parts) < 3:
        return None
    return _inflated(parts[2]) if is_compressed else parts[2]


def _hexadecimal(text: bytes | None) -> bytes | None:
    """EXIF as ImageMagick writes it: a name, a length, and hexadecimal digits in lines."""
    try:
        return bytes.fromhex(b"".join((text or b"").split(b"\n")[3:]).decode()) or None
    except ValueError:
        return None


def _completed(
    header: _Header, chunks: list[Chunk], is_whole: bool
) -> tuple[list[Chunk], list[str]]:
    """Fill the missing end of the pixels with zeros; frames of an animation are dropped.

    Args:
        header: The header.
        chunks: The chunks that are there.
        is_whole: True if the last chunk is there; its pixels may still be too few.

    Returns:
        The chunks of a whole picture, and what is to be noted.

    Raises:
        Truncated: None of the pixels are there.
    """
    pixels, is_damaged = _inflated_pixels(header, chunks)
    missing = header.pixel_bytes - len(pixels)
    if is_whole and (is_damaged or not missing):  # the decoder will say what is wrong
        return chunks, []
    if not pixels:
        raise Truncated

    before = [c for c in chunks if c.name in (b"IHDR", b"PLTE", b"tRNS", b"pHYs")]
    packed = zlib.compress(bytes(pixels) + bytes(missing), 1)
    whole = [*before, Chunk(b"IDAT", packed, True), Chunk(b"IEND", b"", True)]
    if not missing:
        return whole, ["the file ends behind its picture, but before its last chunk"]
    if header.interlacing:
        return whole, ["the file ends before its picture does: details are missing everywhere"]
    rows = header.height - len(pixels) // header.passes[0][1]

    return whole, [
        f"the file ends before its picture does: the last {rows} of {header.height} rows are "
        "missing and left empty"
    ]


def _inflated_pixels(header: _Header, chunks: list[Chunk]) -> tuple[bytearray, bool]:
    """Inflate as many bytes of the pixels as there are, and say whether they end in damage."""
    inflate = zlib.decompressobj()
    pixels = bytearray()
    packed = b"".join(chunk.content for chunk in chunks if chunk.name == b"IDAT")
    try:
        for place in range(0, len(packed), _PIECE):
            room = header.pixel_bytes - len(pixels)
            if room > 0:
                pixels += inflate.decompress(packed[place : place + _PIECE], room)
    except zlib.error:  # what came before it counts
        return pixels, True

    return pixels, False
