"""What a picture's file says beside its pixels: colour profile, EXIF, XMP, IPTC, resolution."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

from PIL import ExifTags, Image, TiffImagePlugin

from restore.photo.exif import Tags, exif_of, read_tags, short
from restore.photo.xmp import kept_xmp

# The EXIF tag that says which way up the stored pixels are.
ORIENTATION = ExifTags.Base.Orientation.value

# Tags of the first directory that are about the photograph; the others describe how the old file
# stores it.
_EXIF_TAGS = {
    *(269, 270, 285),  # DocumentName, ImageDescription, PageName
    *(271, 272, ORIENTATION),  # Make, Model
    *(282, 283, 296),  # resolution
    *(305, 306, 315, 316),  # Software, DateTime, Artist, HostComputer
    *(18246, 18249, 33432),  # Rating, RatingPercent, Copyright
    *range(40091, 40096),  # title, comment, author, keywords and subject of Windows
}
_EXIF_FOLDERS = (ExifTags.IFD.Exif.value, ExifTags.IFD.GPSInfo.value)
# Inside the Exif directory: the picture's old size, and a pointer that means nothing in another
# file.
_EXIF_STALE = {40962, 40963, 40965}
# Tags of a TIFF and of EXIF.
_X_RESOLUTION = 282
_Y_RESOLUTION = 283
_IPTC_TAG = 33723
# Orientations that swap width and height.
_LYING = (5, 6, 7, 8)
# Photoshop's resource that holds IPTC in a JPEG.
_IPTC_RESOURCE = 0x0404


@dataclass(frozen=True)
class Metadata:
    """What is kept of a file beside its pixels.

    Attributes:
        icc_profile: ICC colour profile.
        exif: EXIF with orientation 1 and without a thumbnail.
        xmp: XMP packet in UTF-8, see `restore.photo.xmp`.
        iptc: IPTC-IIM records.
        dpi: Dots per inch across and down the upright picture.
        color_chunks: Chunks of a PNG that say what its colours mean: gAMA, cHRM, sRGB, cICP, mDCV
            and cLLI, by name.
    """

    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    dpi: tuple[float, float] | None = None
    color_chunks: dict[str, bytes] = field(default_factory=dict)


def read_metadata(im: Image.Image, data: bytes = b"") -> Metadata:
    """Read all that is kept of the file `data` that Pillow opened as `im`.

    The profile of a CMYK picture is dropped, since its pixels become sRGB.
    """
    profile = im.info.get("icc_profile")
    if im.mode == "CMYK" or not isinstance(profile, bytes) or not profile:
        profile = None
    return Metadata(
        profile,
        kept_exif(im, data),
        kept_xmp(im.info.get("xmp")),
        _iptc(im, data),
        resolution(im),
        im.info.get("color_chunks", {}),
    )


def kept_exif(im: Image.Image, data: bytes = b"") -> bytes | None:
    """EXIF without what only held for the old file; None if there is none or it is damaged.

    Values keep their types and bytes, whatever encoding their text is in.
    """
    try:
        return kept_tags(_stored_exif(im, data))
    except Exception:  # there is none
        return None


def kept_tags(data: bytes) -> bytes | None:
    """EXIF from the bytes of EXIF or of a TIFF, without what only held for the old file."""
    try:
        return _kept(read_tags(data, _EXIF_FOLDERS))
    except Exception:  # damaged metadata must not cost the picture
        return None


def without_orientation(exif: bytes | None) -> bytes | None:
    """EXIF bytes from `kept_exif` without the tag of the orientation."""
    if exif is None:
        return None
    tags = read_tags(exif, _EXIF_FOLDERS)
    tags.main.pop(ORIENTATION, None)
    return exif_of(tags) if tags.main or tags.below else None


def profile_for(profile: bytes | None, channels: int) -> bytes | None:
    """The colour profile if it is for pixels of so many channels: 1 (grey) or 3 (RGB)."""
    space = b"GRAY" if channels == 1 else b"RGB "
    return profile if profile and profile[16:20] == space else None


def _stored_exif(im: Image.Image, data: bytes) -> bytes:
    """The bytes that hold EXIF: of a TIFF all, since the tags are its own."""
    return data if im.format == "TIFF" else bytes(im.info["exif"])


def _kept(old: Tags) -> bytes | None:
    main = {code: tag for code, tag in old.main.items() if code in _EXIF_TAGS}
    below = {
        pointer: {code: tag for code, tag in tags.items() if code not in _EXIF_STALE}
        for pointer, tags in old.below.items()
    }
    if old.number(ORIENTATION) in _LYING and {_X_RESOLUTION, _Y_RESOLUTION}.issubset(main):
        main[_X_RESOLUTION], main[_Y_RESOLUTION] = main[_Y_RESOLUTION], main[_X_RESOLUTION]
    if ORIENTATION in main:
        main[ORIENTATION] = short(old.order, 1)

    new = Tags(old.order, main, {pointer: tags for pointer, tags in below.items() if tags})
    return exif_of(new) if new.main or new.below else None


def _iptc(im: Image.Image, data: bytes) -> bytes | None:
    """IPTC-IIM records of a JPEG or a TIFF, unchanged."""
    try:
        value = (
            _tiff_tag(data, _IPTC_TAG)
            if im.format == "TIFF"
            else im.info["photoshop"][_IPTC_RESOURCE]
        )
        return value if value.startswith(b"\x1c") else None
    except Exception:  # none, or damaged
        return None


def _tiff_tag(data: bytes, code: int) -> bytes:
    """Bytes of a tag, whatever its type: Photoshop declares IPTC as whole numbers."""
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tag = file.pages[0].aspage().tags[code]
        return data[tag.valueoffset : tag.valueoffset + tag.valuebytecount]


def exif_tags(exif: bytes | None) -> Tags:
    """Tags of EXIF bytes, in their byte order; none for no bytes."""
    return read_tags(exif, _EXIF_FOLDERS) if exif else Tags()


def resolution(im: Image.Image) -> tuple[float, float] | None:
    """Dots per inch across and down the upright picture; None if missing or out of range."""
    if isinstance(im, TiffImagePlugin.TiffImageFile) and _X_RESOLUTION not in im.tag_v2:
        return None  # Pillow would say 1

    try:
        x, y = (float(value) for value in im.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None

    if not (0 < x < 1e6 and 0 < y < 1e6):
        return None

    return (y, x) if orientation_of(im) in _LYING else (x, y)


def orientation_of(im: Image.Image) -> int:
    """Return the orientation that a picture is stored in, 1 (upright) if its EXIF is damaged."""
    try:
        return im.getexif().get(ORIENTATION, 1)
    except Exception:  # Pillow parses it only now, and raises many types
        return 1
