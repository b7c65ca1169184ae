"""A photograph as people have it: depth, transparency, colour profile, orientation and metadata kept.

`read_photo` turns a file into numbers, `write_photo` turns numbers into a file. Pillow reads and writes
8-bit pictures; 16-bit ones, which Pillow would cut to 8 bits, are decoded by OpenCV (PNG) and tifffile
(TIFF) and encoded here.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import threading
import uuid
import warnings
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageCms, JpegImagePlugin, TiffImagePlugin, UnidentifiedImageError

from restore.errors import BadArgument, FileAccess, UnreadableInput

_FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jfif": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
SUFFIXES = frozenset(_FORMATS)
"""Suffixes (lower case) of the files that are taken for pictures when a folder is walked."""

_ACCEPTED = "Accepted are single PNG, JPEG, WebP, TIFF and BMP pictures of up to 16 bits a channel"
_GREY_MODES = {"1", "L", "LA", "La"}
_COLOUR_MODES = {"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ORIENTATION = ExifTags.Base.Orientation.value
# ImageDescription, Make, Model, orientation, resolution, Software, DateTime, Artist, HostComputer, Rating,
# Copyright and the title, comment, author, keywords and subject of Windows. Other tags of the first
# directory describe how the old file stores its pixels.
_EXIF_TAGS = {
    270,
    271,
    272,
    _ORIENTATION,
    282,
    283,
    296,
    305,
    306,
    315,
    316,
    18246,
    33432,
    *range(40091, 40096),
}
_EXIF_FOLDERS = (ExifTags.IFD.Exif.value, ExifTags.IFD.GPSInfo.value)
# Inside the Exif directory: the picture's old size, and a pointer that means nothing in another file.
_EXIF_STALE = {40962, 40963, 40965}
_JPEG_EXIF_LIMIT = 65533
_JPEG_COARSEST_STEP = 30.0  # mean step of the luminance table at about quality 75
_ZLIB_LEVEL = 5

_pillow_limit = threading.Lock()


@dataclass
class Photo:
    """A picture and what its file says about it.

    pixels: float32 [H, W, C] in [0, 1], C = 1 (grey) or 3 (RGB), upright.
    alpha: float32 [H, W] in [0, 1], 1 = opaque; None where the file has no transparency. Not premultiplied.
    bits: 8 or 16, the depth of the file.
    format: Pillow's name of the file's format: "PNG", "JPEG", "WEBP", "TIFF" or "BMP".
    icc_profile, exif, dpi: as in the file, or None. Orientation in `exif` is 1, its thumbnail is left out.
    encoding: what keeps the quality of a lossy file: `qtables` and `subsampling` (JPEG), `lossless` (WebP).
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    bits: int = 8
    format: str = "PNG"
    icc_profile: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    encoding: dict[str, Any] = field(default_factory=dict)


def read_photo(path: Path, *, max_pixels: int = 200_000_000) -> Photo:
    """Read a picture; what it is, is decided by its content, not by its suffix.

    Raises FileAccess where the file cannot be read, and UnreadableInput where it is no picture, is damaged,
    animated, of several pages, of an unsupported kind, or declares more than `max_pixels` pixels.
    """
    path = Path(path)
    data = _read_bytes(path)
    try:
        # Pillow's own pixel limit is one global number, looked at on opening and, for TIFF, on decoding.
        with _pillow_limit, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                return _decode(data, max_pixels)
            finally:
                Image.MAX_IMAGE_PIXELS = limit
    except Exception as error:
        reason = "not enough memory to decode it" if isinstance(error, MemoryError) else str(error)
        raise UnreadableInput(f"{path}: {reason or type(error).__name__}. {_ACCEPTED}.") from error


def read_mask(path: Path, threshold: float = 0.5) -> np.ndarray:
    """Read which pixels to fill, as bool [H, W]: True where the mask is brighter than `threshold`.

    Brightness is the mean of the channels in [0, 1]. A transparent mask is laid over black, so white strokes
    on a transparent layer are what is filled. A mask whose only shape is in its transparency, all colours
    being black, could mean either side: it is refused (UnreadableInput). Other errors: as `read_photo`;
    BadArgument for a threshold outside [0, 1).
    """
    if not 0 <= threshold < 1:
        raise BadArgument(f"threshold of a mask is {threshold}; it must be at least 0 and below 1")
    photo = read_photo(path)
    value = photo.pixels.mean(axis=2)
    if photo.alpha is not None:
        if value.max() == 0 and np.ptp(photo.alpha) > 0:
            raise UnreadableInput(
                f"{path}: a mask that is black with its shape only in its transparency does not say "
                "which part to fill; paint that part white on black."
            )
        value = value * photo.alpha
    return value > threshold


def write_photo(photo: Photo, path: Path, *, overwrite: bool = False) -> None:
    """Write a picture in the format of the suffix of `path`: the whole file appears, or nothing does.

    16 bits stay 16 in PNG and TIFF and are rounded to 8 elsewhere; 16-bit grey with transparency becomes RGB
    in TIFF. JPEG keeps the tables of a JPEG source no coarser than about quality 75; WebP is lossless unless
    the source was lossy. A colour profile of another kind of pixels (grey, RGB) is left out, as is EXIF too
    long for JPEG. Values outside [0, 1] are clipped.

    Raises BadArgument for a suffix, a shape or values that cannot be written, or transparency that the format
    would lose; FileAccess where the target exists and `overwrite` is False, or cannot be written.
    """
    path = Path(path)
    format = _FORMATS.get(path.suffix.lower())
    if format is None:
        raise BadArgument(f"{path}: its suffix must be one of {', '.join(sorted(SUFFIXES))}")
    _check(photo, path)
    _refuse_existing(path, overwrite)
    try:
        data = _encode(photo, format)
    except BadArgument as error:
        raise BadArgument(f"{path}: {error}") from error
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise BadArgument(f"{path}: cannot be written as {format}: {reason}") from error
    _put(data, path, overwrite)


# --- reading ------------------------------------------------------------------------------------------------


def _read_bytes(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError("a folder or a device, not a picture file")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise FileAccess(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not data:
        raise UnreadableInput(f"{path}: the file is empty. {_ACCEPTED}.")
    return data


def _decode(data: bytes, max_pixels: int) -> Photo:
    im = _open(data, max_pixels)
    bits = _depth(im, data)
    exif, dpi, encoding = _kept_exif(im), _dpi(im), _encoding(im, data)
    profile = None if im.mode == "CMYK" else im.info.get("icc_profile")
    if bits == 8:
        samples = _decode_8bit(im)
    else:
        samples = _decode_png16(im, data) if im.format == "PNG" else _decode_tiff16(im, data)
    # The orientation is asked for after decoding, since Pillow turns a TIFF upright while it decodes it.
    samples = _turn(samples, im.getexif().get(_ORIENTATION, 1))
    values = np.ascontiguousarray(np.divide(samples, 2**bits - 1, dtype=np.float32))
    alpha = None
    if values.shape[2] in (2, 4):
        values, alpha = np.ascontiguousarray(values[..., :-1]), values[..., -1].copy()
    format = "JPEG" if im.format == "MPO" else im.format
    return Photo(values, alpha, bits, format, profile, exif, dpi, encoding)


def _open(data: bytes, max_pixels: int) -> Image.Image:
    try:
        im = Image.open(io.BytesIO(data), formats=sorted(set(_FORMATS.values())))
    except UnidentifiedImageError as error:
        if data.startswith(_TIFF_STARTS):
            raise ValueError("a TIFF of floating-point or other unsupported samples, or damaged") from error
        raise ValueError("not a picture of a known format") from error
    if im.width * im.height > max_pixels:
        raise ValueError(f"declares {im.width} x {im.height} pixels, more than the limit of {max_pixels}")
    # A phone's MPO is a JPEG with previews or a gain map behind it: its first frame is the photograph.
    frames = getattr(im, "n_frames", 1)
    if frames > 1 and im.format != "MPO":
        raise ValueError(f"is animated or has several pages ({frames}); split it into single pictures first")
    if im.format == "PNG":  # its checksums, which Pillow does not compare when it decodes
        Image.open(io.BytesIO(data)).verify()
    return im


def _depth(im: Image.Image, data: bytes) -> int:
    """8 or 16, from the header; CMYK counts as 8, the depth it is converted in."""
    deepest = data[24] if im.format == "PNG" else 8
    if im.format == "TIFF":
        deepest = max(im.tag_v2.get(258, (1,)))
        kinds = im.tag_v2.get(339, (1,))  # 1: unsigned, 4: not said
        if not {1, 4}.issuperset(kinds) or deepest not in (1, 2, 4, 8, 16):
            raise ValueError(f"a TIFF of {deepest}-bit signed, floating-point or other unsupported samples")
    if deepest == 16 and im.mode != "CMYK":
        return 16
    if im.mode not in _GREY_MODES | _COLOUR_MODES:
        raise ValueError(f"pixels of the kind {im.mode} are not supported")
    return 8


def _decode_8bit(im: Image.Image) -> np.ndarray:
    """uint8 [H, W, 1, 2, 3 or 4]: grey or RGB, with alpha last where there is transparency."""
    im.load()
    if im.mode == "CMYK":
        return np.asarray(_cmyk_to_rgb(im))
    mode = ("L" if im.mode in _GREY_MODES else "RGB") + ("A" if im.has_transparency_data else "")
    samples = np.asarray(im.convert(mode))
    return samples.reshape(*samples.shape[:2], len(mode))


def _cmyk_to_rgb(im: Image.Image) -> Image.Image:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(im.info["icc_profile"]))
        return ImageCms.profileToProfile(im, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (KeyError, OSError, ImageCms.PyCMSError):
        return im.convert("RGB")


def _decode_png16(im: Image.Image, data: bytes) -> np.ndarray:
    """uint16 [H, W, 1, 2, 3 or 4], channels as `_decode_8bit`."""
    im.load()  # says what is damaged; versions of OpenCV differ in what they let pass
    colour, alpha = {0: (1, 0), 2: (3, 0), 4: (1, 1), 6: (3, 1)}[data[25]]
    decoded = _opencv_16bit(data)
    samples = decoded[..., :colour]
    if alpha:
        return np.dstack([samples, decoded[..., 3]])
    if "transparency" in im.info:  # one colour stands for transparent
        opaque = (samples != np.array(im.info["transparency"])).any(axis=2)
        return np.dstack([samples, opaque * np.uint16(65535)])
    return samples


def _opencv_16bit(data: bytes) -> np.ndarray:
    import cv2

    samples = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is None or samples.dtype != np.uint16:
        raise ValueError("its 16-bit pixels cannot be decoded")
    samples = samples.reshape(*samples.shape[:2], -1)
    return samples[..., [2, 1, 0, 3][: samples.shape[2]]] if samples.shape[2] > 2 else samples


def _decode_tiff16(im: Image.Image, data: bytes) -> np.ndarray:
    """uint16 [H, W, 1, 3 or 4], channels as `_decode_8bit`, not turned upright."""
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        samples = _tiff16_samples(page, data)
    if page.photometric == 0:  # zero is white
        samples = 65535 - samples
    if im.mode == "RGBA" and 1 in page.extrasamples:  # premultiplied
        alpha = samples[..., 3:].astype(np.float32)
        colour = np.rint(samples[..., :3] * (np.float32(65535) / np.maximum(alpha, 1))).clip(0, 65535)
        samples = np.concatenate([colour, alpha], axis=2).astype(np.uint16)
    return samples[..., : {"RGBA": 4, "RGB": 3, "RGBX": 3}.get(im.mode, 1)]


def _tiff16_samples(page: Any, data: bytes) -> np.ndarray:
    """uint16 [H, W, S] as stored. OpenCV knows LZW, for which tifffile would need a further package."""
    ends = [start + size for start, size in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if not ends or max(ends) > len(data) or 0 in page.databytecounts:
        raise ValueError("the file is truncated")
    planar = page.planarconfig == 2 and page.samplesperpixel > 1
    if page.compression in (1, 8, 32946):  # none, deflate
        samples = page.asarray()
        return (
            np.moveaxis(samples, 0, -1) if planar else samples.reshape(page.imagelength, page.imagewidth, -1)
        )
    if planar:
        raise ValueError("a TIFF of separate colour planes in this compression is not supported")
    tag = page.tags.get(_ORIENTATION)
    if tag is not None:  # OpenCV would obey it
        one = struct.pack("<H" if data.startswith(b"II") else ">H", 1)
        data = data[: tag.valueoffset] + one + data[tag.valueoffset + 2 :]
    return _opencv_16bit(data)


def _turn(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Upright view of [H, W, C] samples stored in an EXIF orientation (1 to 8; others are taken as 1)."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples


def _kept_exif(im: Image.Image) -> bytes | None:
    """EXIF without what only held for the old file; None where there is none or it is damaged."""
    try:
        old, new = im.getexif(), Image.Exif()
        for tag in sorted(_EXIF_TAGS.intersection(old)):
            new[tag] = old[tag]
        for tag in _EXIF_FOLDERS:
            entries = {k: v for k, v in old.get_ifd(tag).items() if k not in _EXIF_STALE}
            if entries:
                new[tag] = entries
        if _ORIENTATION in new:
            new[_ORIENTATION] = 1
        return new.tobytes() if len(new) else None
    except Exception:  # damaged metadata must not cost the picture
        return None


def _dpi(im: Image.Image) -> tuple[float, float] | None:
    try:
        x, y = (float(value) for value in im.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    if not (0 < x < 1e6 and 0 < y < 1e6):
        return None
    return (y, x) if im.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8) else (x, y)


def _encoding(im: Image.Image, data: bytes) -> dict[str, Any]:
    if im.format == "WEBP":
        return {"lossless": b"VP8 " not in data}  # the name of the chunk that holds lossy pixels
    if im.format not in ("JPEG", "MPO") or im.mode == "CMYK" or not im.quantization:
        return {}
    tables = [list(im.quantization[key]) for key in sorted(im.quantization)]
    return {"qtables": tables, "subsampling": JpegImagePlugin.get_sampling(im)}


# --- writing ------------------------------------------------------------------------------------------------


def _check(photo: Photo, path: Path) -> None:
    pixels, alpha = photo.pixels, photo.alpha
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or pixels.size == 0:
        raise BadArgument(f"{path}: pixels of shape {pixels.shape}; [H, W, 1] or [H, W, 3] can be written")
    if alpha is not None and alpha.shape != pixels.shape[:2]:
        raise BadArgument(f"{path}: alpha of shape {alpha.shape} for pixels of shape {pixels.shape}")
    if photo.bits not in (8, 16):
        raise BadArgument(f"{path}: {photo.bits} bits a channel; 8 or 16 can be written")
    if not (np.isfinite(pixels).all() and (alpha is None or np.isfinite(alpha).all())):
        raise BadArgument(f"{path}: the picture holds values that are not finite (NaN or infinity)")


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if os.path.lexists(path) and not overwrite:
        raise FileAccess(f"{path}: exists already; pass --overwrite to replace it")


def _put(data: bytes, path: Path, overwrite: bool) -> None:
    """Write beside the target, then rename over it. Mode bits follow the umask."""
    temporary = path.parent / f".restore-{uuid.uuid4().hex}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            _refuse_existing(path, overwrite)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except FileAccess:
        raise
    except OSError as error:
        raise FileAccess(f"{path}: cannot be written: {error.strerror or error}") from error


def _encode(photo: Photo, format: str) -> bytes:
    bits = photo.bits if format in ("PNG", "TIFF") else 8
    samples = _quantise(photo.pixels, bits)
    if photo.alpha is not None:
        alpha = _quantise(photo.alpha, bits)[..., None]
        if format not in ("JPEG", "BMP"):
            samples = np.concatenate([samples, alpha], axis=2)
        elif alpha.min() < 255:
            raise BadArgument(f"{format} would lose its transparency; write .png, .tif or .webp to keep it")
    profile = photo.icc_profile
    if profile and profile[16:20] != (b"GRAY" if photo.pixels.shape[2] == 1 else b"RGB "):
        profile = None
    if format == "TIFF":
        return _encode_tiff(samples, photo, profile)
    if bits == 16:
        return _encode_png16(samples, photo, profile)
    return _encode_8bit(samples, photo, profile, format)


def _quantise(values: np.ndarray, bits: int) -> np.ndarray:
    top = 2**bits - 1
    return np.rint(values * np.float32(top)).clip(0, top).astype(np.uint8 if bits == 8 else np.uint16)


def _encode_8bit(samples: np.ndarray, photo: Photo, profile: bytes | None, format: str) -> bytes:
    options: dict[str, Any] = {"icc_profile": profile, "exif": photo.exif, "dpi": photo.dpi}
    if format == "WEBP":
        lossless = photo.format != "JPEG" and photo.encoding.get("lossless", True)
        options |= {"lossless": lossless, "exact": True, "quality": 75 if lossless else 90}
    elif format == "JPEG":
        options |= _jpeg_quality(photo)
        if photo.exif and len(photo.exif) > _JPEG_EXIF_LIMIT:
            options.pop("exif")
    im = Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
    file = io.BytesIO()
    im.save(file, format, **{name: value for name, value in options.items() if value is not None})
    return file.getvalue()


def _jpeg_quality(photo: Photo) -> dict[str, Any]:
    """Encoder options: the source's own tables, unless they would undo the restoration."""
    if "qtables" not in photo.encoding:
        return {"quality": 95, "subsampling": "4:4:4"}
    if np.mean(photo.encoding["qtables"][0]) > _JPEG_COARSEST_STEP:
        return {"quality": 90}
    return {key: photo.encoding[key] for key in ("qtables", "subsampling") if key in photo.encoding}


def _encode_png16(samples: np.ndarray, photo: Photo, profile: bytes | None) -> bytes:
    height, width, channels = samples.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))]
    if profile:
        parts.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(profile)))
    if photo.dpi:
        parts.append((b"pHYs", struct.pack(">IIB", *(round(value / 0.0254) for value in photo.dpi), 1)))
    if photo.exif:
        parts.append((b"eXIf", photo.exif.removeprefix(b"Exif\0\0")))
    rows = samples.astype(">u2").view(np.uint8).reshape(height, -1)
    filtered = np.insert(rows, 0, 1, axis=1)  # every row begins with its filter: 1, difference to the left
    filtered[:, 1 + 2 * channels :] -= rows[:, : -2 * channels]
    parts += [(b"IDAT", zlib.compress(filtered, _ZLIB_LEVEL)), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(d, zlib.crc32(n))) for n, d in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _encode_tiff(samples: np.ndarray, photo: Photo, profile: bytes | None) -> bytes:
    """A TIFF of deflated strips of horizontal differences. Tag numbers as in TIFF 6.0."""
    if (
        samples.dtype == np.uint16 and samples.shape[2] == 2
    ):  # a kind that few programs read, Pillow among them
        samples = samples[..., [0, 0, 0, 1]]
    height, width, channels = samples.shape
    differences = samples.copy()
    differences[:, 1:] -= samples[:, :-1]
    differences = differences.astype(samples.dtype.newbyteorder("<"))
    rows = max(1, 2**20 // differences[0].nbytes)
    strips = [zlib.compress(differences[y : y + rows].tobytes(), _ZLIB_LEVEL) for y in range(0, height, rows)]
    sizes = [len(strip) for strip in strips]
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in _exif_tags(photo.exif).items():
        tags[tag] = value
    tags[256], tags[257], tags[258], tags[259] = width, height, (8 * samples.itemsize,) * channels, 8
    tags[262], tags[277], tags[278], tags[284] = (2 if channels > 2 else 1), channels, rows, 1
    tags[273], tags[279], tags[317] = tuple(np.cumsum([0, *sizes[:-1]]).tolist()), tuple(sizes), 2
    if channels in (2, 4):
        tags[338] = 2  # the last channel is alpha, not premultiplied
    if photo.dpi:
        tags[282], tags[283], tags[296] = *photo.dpi, 2
    if profile:
        tags[34675] = profile
    file = io.BytesIO()
    tags.save(file)  # adds the length of what it writes to the strips' offsets
    return file.getvalue() + b"".join(strips)


def _exif_tags(exif: bytes | None) -> dict[int, Any]:
    if not exif:
        return {}
    parsed = Image.Exif()
    parsed.load(exif)
    return {tag: parsed.get_ifd(tag) if tag in _EXIF_FOLDERS else parsed[tag] for tag in parsed}
