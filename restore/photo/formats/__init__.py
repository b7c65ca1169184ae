"""Picture formats, one file each. A new format is a file here and its name in `FORMATS`."""

from __future__ import annotations

from restore.photo.formats.avif import AVIF
from restore.photo.formats.bmp import BMP
from restore.photo.formats.heif import HEIF
from restore.photo.formats.jpeg import JPEG
from restore.photo.formats.png import PNG
from restore.photo.formats.record import OwnReader, PictureFormat, PillowReader
from restore.photo.formats.tiff import TIFF
from restore.photo.formats.webp import WEBP

FORMATS: tuple[PictureFormat, ...] = (PNG, JPEG, WEBP, TIFF, BMP, AVIF, HEIF)

# By `PictureFormat.name`.
PILLOW_READERS = {
    format.name: format.reader for format in FORMATS if isinstance(format.reader, PillowReader)
}
WRITERS = {format.name: format.writer for format in FORMATS if format.writer is not None}

# Names of the formats whose files always lose something.
LOSSY = frozenset(format.name for format in FORMATS if format.is_lossy)


def own_reader(data: bytes) -> OwnReader | None:
    """Reader of a file that Pillow does not open; None for other files."""
    for format in FORMATS:
        if isinstance(format.reader, OwnReader) and format.reader.recognises(data):
            return format.reader
    return None
