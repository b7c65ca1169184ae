"""Files that are not read, known by their content: what they are, and what to do with them."""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from restore.photo.formats import FORMATS, TIFF
from restore.photo.formats.iso import brands
from restore.photo.refusals import DEVELOP, not_read

_CONVERT = "convert it to PNG or TIFF first, for example with ImageMagick"
_RENDER = "render it to a PNG first, for example with Inkscape or pdftoppm"
_FRAMES = (
    "a task restores it as a clip under its own suffix, such as .mp4 or .mkv; or extract its "
    "frames as PNG, for example with ffmpeg"
)
_FLATTEN = "open it in its program and export it as PNG or TIFF"
_UNPACK = "unpack it first"


class Known(NamedTuple):
    """A kind of file that is not read.

    Attributes:
        title: What it is, with an article.
        advice: What to do, as an imperative.
        starts: First bytes of such a file; a dot stands for any byte.
    """

    title: str
    advice: str
    starts: tuple[bytes, ...]


_KNOWN = (
    Known("a JPEG XL picture", _CONVERT, (rb"\xff\x0a", rb"\0\0\0\x0cJXL ")),
    Known("a JPEG XR picture", _CONVERT, (rb"II\xbc",)),
    Known("a QOI picture", _CONVERT, (b"qoif",)),
    Known("a FLIF picture", _CONVERT, (b"FLIF",)),
    Known("a BPG picture", _CONVERT, (rb"BPG\xfb",)),
    Known("a Radiance HDR picture", _CONVERT, (rb"#\?RADIANCE", rb"#\?RGBE")),
    Known("an OpenEXR picture", _CONVERT, (rb"\x76\x2f\x31\x01",)),
    Known("a DPX picture", _CONVERT, (b"SDPX", b"XPDS")),
    Known("a FITS picture", _CONVERT, (b"SIMPLE  =",)),
    Known("a DICOM picture", _CONVERT, (rb".{128}DICM",)),
    Known("a DDS texture", _CONVERT, (b"DDS ",)),
    Known("a KTX texture", _CONVERT, (rb"\xabKTX",)),
    Known("an icon", _CONVERT, (rb"\0\0[\x01\x02]\0[^\0]", b"icns")),
    Known("an SGI picture", _CONVERT, (rb"\x01\xda[\0\x01][\x01\x02]",)),
    Known("a Sun raster picture", _CONVERT, (rb"\x59\xa6\x6a\x95",)),
    Known("a PCX picture", _CONVERT, (rb"\x0a[\0\x02-\x05]\x01[\x01\x02\x04\x08]",)),
    Known("an XPM or XBM picture", _CONVERT, (rb"/\* XPM \*/", rb"#define \w+_width")),
    Known("a PFM picture of floating-point numbers", _CONVERT, (rb"P[Ff]\s",)),
    Known("a PAM picture", _CONVERT, (rb"P7\s",)),
    Known("a DjVu document", _CONVERT, (b"AT&TFORM",)),
    Known("a Photoshop document (PSD)", _FLATTEN, (b"8BPS",)),
    Known("a GIMP document (XCF)", _FLATTEN, (b"gimp xcf",)),
    Known("a Canon camera's raw file (CR2)", DEVELOP, (rb"II\*\0.{4}CR",)),
    Known("a Canon camera's raw file (CRW)", DEVELOP, (rb"II.{4}HEAPCCDR",)),
    Known("a Fujifilm camera's raw file (RAF)", DEVELOP, (b"FUJIFILMCCD-RAW",)),
    Known("an Olympus camera's raw file (ORF)", DEVELOP, (b"IIRO", b"IIRS", b"MMOR")),
    Known("a Panasonic or Leica camera's raw file (RW2)", DEVELOP, (rb"IIU\0",)),
    Known("a Minolta camera's raw file (MRW)", DEVELOP, (rb"\0MRM",)),
    Known("a Sigma camera's raw file (X3F)", DEVELOP, (b"FOVb",)),
    Known("a Phase One camera's raw file (IIQ)", DEVELOP, (rb"(II|MM).{6}(Raw|waR)",)),
    Known("a PDF document", _RENDER, (b"%PDF",)),
    Known("a PostScript document", _RENDER, (b"%!PS", rb"\xc5\xd0\xd3\xc6")),
    Known("an SVG drawing", _RENDER, (rb"\s*<(?:svg|(?:\?xml|!--|!DOCTYPE svg)(?=.*<svg))",)),
    Known("a Windows metafile", _RENDER, (rb"\xd7\xcd\xc6\x9a", rb"\x01\0\0\0.{36} EMF")),
    Known("a video", _FRAMES, (rb"\x1a\x45\xdf\xa3", b"RIFF....AVI ", rb"\0\0\x01[\xba\xb3]")),
    Known(
        "a video", _FRAMES, (b"FLV", rb"\x30\x26\xb2\x75", b"OggS", rb".{4}(moov|mdat|wide|free)")
    ),
    Known("a video", _FRAMES, (rb"G.{187}G", b"RIFX")),
    Known("a sound", "give a picture", (b"ID3", b"fLaC", b"RIFF....WAVE")),
    Known(
        "a web page", "it was probably saved in place of a picture", (rb"(?i)\s*<(!doctype )?html",)
    ),
    Known(
        "a pointer of Git LFS",
        "fetch the picture that it stands for with: git lfs pull",
        (b"version https://git-lfs",),
    ),
    Known("an archive", _UNPACK, (rb"PK\x03\x04", rb"\x1f\x8b", rb"7z\xbc\xaf", rb"Rar!", b"BZh")),
    Known("an archive", _UNPACK, (rb"\xfd7zXZ", rb"\x28\xb5\x2f\xfd", rb".{257}ustar")),
    Known(
        "a big-endian BigTIFF",
        "convert it, for example with: tiffcp -L IN OUT",
        (rb"MM\x00\+",),
    ),
    Known("a NumPy array", "save it as a picture", (rb"\x93NUMPY",)),
)
_PATTERNS = tuple(
    (known, re.compile(start, re.DOTALL)) for known in _KNOWN for start in known.starts
)

# A TGA has no sign at its beginning; since version 2.0 it has one at its end.
_TGA_FOOTER = b"TRUEVISION-XFILE.\0"
# Its header: length of a comment, whether there is a palette, kind of picture; start, length and
# bits of the palette; origin, width, height, bits of a pixel, flags.
_TGA_HEADER = struct.Struct("<BBBHHBHHHHBB")

# Brands of files in boxes, see `restore.photo.formats.iso`.
_RAW_BRANDS = {b"crx "}
_SOUND_BRANDS = {b"M4A ", b"M4B "}

_TITLES = [format.title for format in FORMATS if format is not TIFF]
_ACCEPTED = (
    f"Accepted are {', '.join(_TITLES[:-1])} and {_TITLES[-1]} pictures, and TIFF of up to 16 bits "
    "a channel or of floating-point numbers"
)


def refusal(head: bytes, end: bytes, size: int) -> str:
    """Say what a file is that is not read, and what to do with it.

    Args:
        head: Its beginning.
        end: Its end.
        size: Its length in bytes.
    """
    known = _known(head)
    if known is None and (end.endswith(_TGA_FOOTER) or _is_old_tga(head, size)):
        known = Known("a TGA picture", _CONVERT, ())
    if known is not None:
        return not_read(known.title, known.advice)
    if not any(head):
        return "holds nothing but zero bytes: it was never written completely"
    return f"not a picture of a known format. {_ACCEPTED}"


def _is_old_tga(head: bytes, size: int) -> bool:
    """Return True for an uncompressed TGA without footer, if the length is what it declares."""
    if len(head) < _TGA_HEADER.size:
        return False
    (comment, mapped, kind, _, colors, color_bits, _, _, width, height, bits, _) = (
        _TGA_HEADER.unpack_from(head)
    )
    if bits not in (8, 15, 16, 24, 32) or (mapped, kind) not in ((1, 1), (0, 2), (0, 3)):
        return False

    palette = mapped * colors * -(-color_bits // 8)
    pixels = width * height * -(-bits // 8)
    return pixels > 0 and size == _TGA_HEADER.size + comment + palette + pixels


def _known(head: bytes) -> Known | None:
    named = brands(head)
    if named & _RAW_BRANDS:
        return Known("a Canon camera's raw file (CR3)", DEVELOP, ())
    if named:
        sound = bool(named & _SOUND_BRANDS)
        return Known("a sound", "give a picture", ()) if sound else Known("a video", _FRAMES, ())

    return next((known for known, pattern in _PATTERNS if pattern.match(head)), None)
