"""Picture formats, one file each. A new format is a file here and its name in `FORMATS`."""

from __future__ import annotations

from restore.photo.formats.avif import AVIF
from restore.photo.formats.bmp import BMP
from restore.photo.formats.gif import GIF
from restore.photo.formats.heif import HEIF
from restore.photo.formats.jpeg import JPEG
from restore.photo.formats.jpeg2000 import JPEG2000
from restore.photo.formats.png import PNG
from restore.photo.formats.pnm import PNM
from restore.photo.formats.record import PictureFormat
from restore.photo.formats.tiff import TIFF
from restore.photo.formats.webp import WEBP

FORMATS: tuple[PictureFormat, ...] = (
    *(PNG, JPEG, WEBP, TIFF, BMP),
    *(GIF, PNM, JPEG2000, AVIF, HEIF),
)

# By `PictureFormat.name`.
WRITERS = {format.name: format.writer for format in FORMATS if format.writer is not None}

# Names of the formats whose files always lose something.
LOSSY = frozenset(format.name for format in FORMATS if format.is_lossy)


def format_of(head: bytes) -> PictureFormat | None:
    """Format of a file by its beginning; None if it is none of these."""
    return next((format for format in FORMATS if format.recognises(head)), None)
