"""What a picture's file says beside its pixels: EXIF, resolution, how it was compressed."""

from __future__ import annotations

from typing import Any

from PIL import ExifTags, Image, JpegImagePlugin

ORIENTATION = ExifTags.Base.Orientation.value
"""The EXIF tag that says which way up the stored pixels are."""

# Tags of the first directory that are about the photograph; the others describe how the old file stores it.
_EXIF_TAGS = {
    *(270, 271, 272, ORIENTATION),  # ImageDescription, Make, Model
    *(282, 283, 296),  # resolution
    *(305, 306, 315, 316),  # Software, DateTime, Artist, HostComputer
    *(18246, 33432),  # Rating, Copyright
    *range(40091, 40096),  # title, comment, author, keywords and subject of Windows
}
_EXIF_FOLDERS = (ExifTags.IFD.Exif.value, ExifTags.IFD.GPSInfo.value)
# Inside the Exif directory: the picture's old size, and a pointer that means nothing in another file.
_EXIF_STALE = {40962, 40963, 40965}


def kept_exif(im: Image.Image) -> bytes | None:
    """EXIF without what only held for the old file; None where there is none or it is damaged."""
    try:
        old, new = im.getexif(), Image.Exif()
        for tag in sorted(_EXIF_TAGS.intersection(old)):
            new[tag] = old[tag]
        for tag in _EXIF_FOLDERS:
            entries = {k: v for k, v in old.get_ifd(tag).items() if k not in _EXIF_STALE}
            if entries:
                new[tag] = entries
        if ORIENTATION in new:
            new[ORIENTATION] = 1
        return new.tobytes() if len(new) else None
    except Exception:  # damaged metadata must not cost the picture
        return None


def exif_tags(exif: bytes | None) -> dict[int, Any]:
    """Tags of EXIF bytes and their values; that of a directory is a mapping again."""
    if not exif:
        return {}
    parsed = Image.Exif()
    parsed.load(exif)
    return {tag: parsed.get_ifd(tag) if tag in _EXIF_FOLDERS else parsed[tag] for tag in parsed}


def resolution(im: Image.Image) -> tuple[float, float] | None:
    """Dots per inch across and down the upright picture; None where the file does not say, or nonsense."""
    try:
        x, y = (float(value) for value in im.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    if not (0 < x < 1e6 and 0 < y < 1e6):
        return None
    return (y, x) if im.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8) else (x, y)


def compression(im: Image.Image, data: bytes) -> dict[str, Any]:
    """What keeps the quality of a lossy file, as in `Photo.encoding`; {} for other files."""
    if im.format == "WEBP":
        return {"lossless": b"VP8 " not in data}  # the name of the chunk that holds lossy pixels
    if im.format not in ("JPEG", "MPO") or im.mode == "CMYK" or not im.quantization:
        return {}
    tables = [list(im.quantization[key]) for key in sorted(im.quantization)]
    return {"qtables": tables, "subsampling": JpegImagePlugin.get_sampling(im)}
