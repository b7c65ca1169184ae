"""Options of output files: format, quality, depth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from restore.errors import BadArgument
from restore.photo.formats import FORMATS as PICTURE_FORMATS
from restore.photo.formats import WRITERS
from restore.photo.photograph import DEPTHS, FORMATS, Photo, written_format

_WRITTEN = [format for format in PICTURE_FORMATS if format.writer is not None]
_SUFFIXES = {format.name: format.suffixes[0] for format in _WRITTEN}

# Words for the parameter `format`: titles in lower case, and usual suffixes without the dot.
_TITLES = {format.title.lower(): format.name for format in _WRITTEN}
_NAMES = _TITLES | {suffix[1:]: name for name, suffix in _SUFFIXES.items()}

# Titles of the formats with a `quality`, by name.
_WITH_QUALITY = {
    format.name: format.title for format in _WRITTEN if WRITERS[format.name].takes_quality
}


@dataclass(frozen=True)
class OutputOptions:
    """Options of output files; None is as in the input.

    Attributes:
        format: ``png``, ``jpeg``, ``webp``, ``tiff`` or ``bmp``.
        quality: JPEG or lossy WebP quality, 1 to 100.
        depth: bits per channel: 8; 16 in PNG and TIFF; 32 (floating point) in TIFF.

    Raises:
        BadArgument: an invalid value, or values that contradict each other.
    """

    format: str | None = None
    quality: int | None = None
    depth: int | None = None

    def __post_init__(self) -> None:
        if self.format is not None and self.format.lower() not in _NAMES:
            *first, last = _TITLES
            raise BadArgument(f"`format`={self.format}: must be {', '.join(first)} or {last}")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise BadArgument(f"`quality`={self.quality}: must be between 1 and 100")
        if self.depth not in (None, 8, 16, 32):
            raise BadArgument(f"`depth`={self.depth}: must be 8, 16 or 32")
        if self._format is not None:
            self._check_format(self._format, f"`format`={self.format}")

    @property
    def _format(self) -> str | None:
        """Name in Pillow of the chosen format."""
        return None if self.format is None else _NAMES[self.format.lower()]

    def suffix(self, source: Path) -> str:
        """Return the suffix of an unnamed output: that of the input, or .png if it is only read."""
        own = source.suffix if source.suffix.lower() in FORMATS else ".png"
        if self._format in (None, FORMATS[own.lower()]):
            return own
        return _SUFFIXES[self._format]

    def check(self, target: Path) -> None:
        """Check that an output can be written with these options.

        Raises:
            BadArgument: a suffix of no format or of another one, or a quality or depth that the
                format does not have.
        """
        format = written_format(target)
        if self._format not in (None, format):
            right = _SUFFIXES[self._format]
            raise BadArgument(
                f"{target}: `format`={self.format} is written to {right}, not {target.suffix}"
            )

        self._check_format(format, str(target))

    def applied(self, photo: Photo) -> Photo:
        """Return the photo with these options; its arrays are shared."""
        encoding = (
            photo.encoding if self.quality is None else {**photo.encoding, "quality": self.quality}
        )
        return replace(photo, bits=self.depth or photo.bits, encoding=encoding)

    def _check_format(self, format: str, place: str) -> None:
        if self.quality is not None and format not in _WITH_QUALITY:
            able = " and ".join(_WITH_QUALITY.values())
            raise BadArgument(
                f"{place}: `quality`={self.quality} is for {able}; {format} loses nothing"
            )
        if self.depth is not None and self.depth not in DEPTHS[format]:
            able = " or ".join(name for name, depths in DEPTHS.items() if self.depth in depths)
            held = " or ".join(str(depth) for depth in DEPTHS[format])
            raise BadArgument(
                f"{place}: {format} has {held} bits a channel; `depth`={self.depth} is for {able}"
            )


AS_INPUT = OutputOptions()
