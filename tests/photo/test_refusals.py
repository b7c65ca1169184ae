"""Files that are not read are named, with what to do; no text of a library reaches the user."""

from __future__ import annotations

import io
import re
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image
from support.pictures import piece
from test_photo import image, noise

from restore.errors import RestoreError, UnreadableInput
from restore.photo.photograph import count_pages, read_photo

# Words of Pillow, OpenCV, tifffile, zlib and Python that say nothing to a user.
FOREIGN = re.compile(
    "cannot identify|broken data|broken PNG|data stream|not enough image data|bytes not processed|"
    "Error -|codec|decoder|encoder|unpack_from|index|NoneType|IFD|TiffFile|object|0x",
    re.IGNORECASE,
)


def ftyp(*brands: str) -> bytes:
    content = b"".join(brand.encode() for brand in (brands[0], "\0\0\0\0", *brands[1:]))
    return struct.pack(">I", 8 + len(content)) + b"ftyp" + content


def jpeg_of(coding: int, bits: int = 8) -> bytes:
    """A JPEG with another frame header."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG")
    data = bytearray(file.getvalue())
    start = data.index(b"\xff\xc0")
    data[start + 1], data[start + 4] = coding, bits
    return bytes(data)


KINDS = {
    "JPEG XL": [b"\xff\x0a\xfa\x1f", b"\0\0\0\x0cJXL \r\n\x87\n"],
    "JPEG of 12 bits": [jpeg_of(0xC1, 12)],
    "lossless JPEG": [jpeg_of(0xC3)],
    "JPEG-LS": [jpeg_of(0xF7)],
    "Photoshop": [b"8BPS\0\1"],
    "GIMP": [b"gimp xcf v011"],
    "OpenEXR": [b"\x76\x2f\x31\x01\2\0\0\0"],
    "Radiance": [b"#?RADIANCE\n"],
    "PDF": [b"%PDF-1.7\n"],
    "SVG": [
        b'<svg xmlns="http://www.w3.org/2000/svg">',
        b'<?xml version="1.0"?>\n<!-- a -->\n<svg>',
        b"\n<!DOCTYPE svg PUBLIC>\n<svg>",
    ],
    "PostScript": [b"%!PS-Adobe-3.0"],
    "video": [
        ftyp("isom", "mp42"),
        ftyp("qt  "),
        b"\0\0\0\x08wide\0\0\0\0mdat",
        b"\x1a\x45\xdf\xa3\x9f",
        b"RIFF\0\0\0\0AVI LIST",
        b"\0\0\1\xba",
        b"G" + bytes(187) + b"G",
    ],
    "sound": [ftyp("M4A "), b"ID3\3", b"RIFF\0\0\0\0WAVEfmt "],
    "CR3": [ftyp("crx ", "isom")],
    "CR2": [b"II*\0\x10\0\0\0CR\2\0"],
    "RAF": [b"FUJIFILMCCD-RAW 0201"],
    "ORF": [b"IIRO\x08\0\0\0", b"IIRS\x08\0\0\0"],
    "RW2": [b"IIU\0\x18\0\0\0"],
    "MRW": [b"\0MRM\0\0"],
    "X3F": [b"FOVb\0\0"],
    "icon": [b"\0\0\1\0\1\0\x10\x10"],
    "DICOM": [bytes(128) + b"DICM\2"],
    "web page": [b"<!DOCTYPE html>\n<html>", b" <HTML lang=en>"],
    "Git LFS": [b"version https://git-lfs.github.com/spec/v1\noid sha256:00"],
    "archive": [b"PK\3\4", b"\x1f\x8b\x08", b"7z\xbc\xaf\x27\x1c"],
    "nothing but zero bytes": [bytes(5000)],
}


@pytest.mark.parametrize(
    ("kind", "content"), [(kind, content) for kind, all in KINDS.items() for content in all]
)
def test_a_known_kind_is_named(tmp_path, kind, content) -> None:
    (tmp_path / "a.png").write_bytes(content + bytes(100))
    with pytest.raises(UnreadableInput) as refused:
        read_photo(tmp_path / "a.png")
    said = str(refused.value)
    assert kind in said
    assert "known format" not in said
    assert "Accepted are" not in said
    assert not FOREIGN.search(said.removeprefix(str(tmp_path)))


@pytest.mark.parametrize("footer", [True, False])
@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA"])
def test_an_uncompressed_tga_is_named(tmp_path, mode, footer) -> None:
    file = io.BytesIO()
    Image.new(mode, (12, 9)).save(file, "TGA")
    content = file.getvalue() if footer else file.getvalue()[:-26]
    (tmp_path / "a.tga").write_bytes(content)
    assert refusal(tmp_path / "a.tga") == (
        "a TGA picture, which is not read: convert it to PNG or TIFF first, for example with "
        "ImageMagick."
    )


def test_a_file_that_is_one_byte_longer_is_no_tga(tmp_path) -> None:
    header = struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, 4, 4, 24, 0)
    (tmp_path / "a.bin").write_bytes(header + bytes(49))
    assert "not a picture of a known format" in refusal(tmp_path / "a.bin")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("dtype", "kind"),
    [
        ("int8", "signed 8-bit integers"),
        ("int16", "signed 16-bit integers"),
        ("int32", "signed 32-bit integers"),
        ("uint32", "32-bit integers"),
        ("uint64", "64-bit integers"),
        ("complex64", "64-bit complex numbers"),
    ],
)
def test_a_tiff_of_other_samples_is_named(tmp_path, dtype, kind, channels) -> None:
    pixels = np.zeros((8, 8, channels)[: 2 + (channels > 1)], dtype)
    photometric = "rgb" if channels > 1 else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric=photometric)
    assert refusal(tmp_path / "a.tif") == (
        f"a TIFF of {kind}, which is not read: convert it to unsigned integers of 8 or 16 bits, "
        "or to floating-point numbers from 0 (black) to 1 (white)."
    )


def test_what_is_accepted_is_said_of_unknown_files(tmp_path) -> None:
    (tmp_path / "a.png").write_bytes(b"something else")
    with pytest.raises(UnreadableInput, match=r"not a picture of a known format\. Accepted are"):
        read_photo(tmp_path / "a.png")


def test_hostile_text_does_not_slow_the_recognition(tmp_path) -> None:
    (tmp_path / "a.svg").write_bytes(b"<?xml" + b"<!---->" * 600)
    with pytest.raises(UnreadableInput):
        read_photo(tmp_path / "a.svg")


# --- raw files of cameras
# ------------------------------------------------------------------------------------------


def raw(path: Path, make: str, *, photometric: int = 32803, dng: bool = False, order="<") -> Path:
    """A small preview in the first directory, and a sensor's data below it."""
    preview = noise(3)[:12, :20]
    tags = [(271, 2, len(make) + 1, make, True)]
    if dng:
        tags.append((50706, 1, 4, b"\1\4\0\0", True))
    shape = (48, 80, 3) if photometric == 34892 else (48, 80)  # linear data has three colours
    sensor = np.random.default_rng(0).integers(0, 4096, shape).astype(np.uint16)
    with tifffile.TiffWriter(path, byteorder=order) as file:
        options = {"photometric": "rgb", "subfiletype": 1, "metadata": None}
        file.write(preview, subifds=1, extratags=tags, **options)
        file.write(sensor, photometric=photometric, metadata=None)
    return path


@pytest.mark.parametrize("depth", [np.uint8, np.uint16, np.float32])
def test_a_big_endian_bigtiff_is_named(tmp_path, depth) -> None:
    path = tmp_path / "a.tif"
    pixels = np.zeros((16, 16, 3), depth)
    tifffile.imwrite(path, pixels, photometric="rgb", bigtiff=True, byteorder=">")
    with pytest.raises(UnreadableInput) as refused:
        read_photo(path)
    assert str(refused.value) == (
        f"{path}: a big-endian BigTIFF, which is not read: convert it, for example with: "
        "tiffcp -L IN OUT."
    )
    tifffile.imwrite(path, pixels, photometric="rgb", bigtiff=True, byteorder="<")
    assert read_photo(path).pixels.shape == (16, 16, 3)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("make", "photometric", "dng", "kind"),
    [
        ("NIKON CORPORATION", 32803, False, "Nikon camera's raw file (NEF)"),
        ("SONY", 32803, False, "Sony camera's raw file (ARW)"),
        ("RICOH IMAGING COMPANY, LTD.", 32803, False, "Pentax camera's raw file (PEF)"),
        ("NIKON CORPORATION", 32803, True, "a camera's raw file (DNG)"),
        ("Apple", 34892, True, "a camera's raw file (DNG)"),
        ("Unknown", 32803, False, "a camera's raw file"),
        ("", 34892, False, "a camera's raw file"),
    ],
)
@pytest.mark.parametrize("suffix", [".nef", ".tif"])
def test_a_raw_file_is_not_read_as_its_preview(
    tmp_path, suffix, make, photometric, dng, kind, order
) -> None:
    path = raw(tmp_path / f"a{suffix}", make, photometric=photometric, dng=dng, order=order)
    for page in (None, 1):
        with pytest.raises(
            UnreadableInput, match=f"{re.escape(kind)}.*develop it first.*darktable"
        ):
            read_photo(path, page=page)
    assert count_pages(path) == 1


def test_a_raw_file_whose_sensor_lies_in_the_first_directory(tmp_path) -> None:
    data = np.zeros((48, 80), np.uint16)
    tifffile.imwrite(tmp_path / "a.pef", data, photometric=32803, metadata=None)
    with pytest.raises(UnreadableInput, match="raw file"):
        read_photo(tmp_path / "a.pef")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_tiff_with_previews_below_it_is_read(tmp_path, dtype) -> None:
    picture = noise(3, 8 * np.dtype(dtype).itemsize)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:  # as Photoshop and pyramids do
        file.write(picture, photometric="rgb", subifds=2, metadata=None)
        for step in (2, 4):
            file.write(picture[::step, ::step], photometric="rgb", subfiletype=1, metadata=None)
    photo = read_photo(tmp_path / "a.tif")
    assert np.array_equal(np.rint(photo.pixels * np.iinfo(dtype).max), picture)
    assert count_pages(tmp_path / "a.tif") == 1


def test_a_picture_below_its_preview_is_read(tmp_path) -> None:
    picture = noise(3)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:  # TIFF/EP, developed
        file.write(picture[::2, ::2], photometric="rgb", subfiletype=1, subifds=1, metadata=None)
        file.write(picture, photometric="rgb", metadata=None)
    assert np.array_equal(np.rint(read_photo(tmp_path / "a.tif").pixels * 255), picture)


# --- damage
# ------------------------------------------------------------------------------------------------


def encoded_samples() -> dict[str, bytes]:
    files = {}
    for suffix in (".png", ".jpg", ".tif", ".bmp", ".webp", ".gif", ".ppm", ".jp2", ".avif"):
        file = io.BytesIO()
        file.name = f"a{suffix}"
        image(noise(3)).save(file)
        files[suffix] = file.getvalue()
    files["deep.png"] = cv2.imencode(".png", noise(3, 16))[1].tobytes()
    files["deep.tif"] = cv2.imencode(".tif", noise(3, 16))[1].tobytes()
    return files


def test_no_text_of_a_library_reaches_the_user(tmp_path) -> None:
    rng = np.random.default_rng(0)
    refused = 0
    for name, whole in encoded_samples().items():
        for _ in range(25):
            hurt = bytearray(whole[: rng.integers(1, len(whole))])
            for place in rng.integers(0, len(hurt), 3):
                hurt[place] = rng.integers(0, 256)
            path = tmp_path / name.lstrip(".")
            path.write_bytes(hurt)
            said = refusal(path)
            refused += said != ""
            assert not FOREIGN.search(said), said
    assert refused > 150


def refusal(path: Path) -> str:
    """What is said about a file; nothing if it is read."""
    try:
        read_photo(path, max_pixels=10**6)
    except RestoreError as error:
        return str(error).removeprefix(f"{path}: ")
    return ""


@pytest.mark.parametrize("part", [0.5, 0.99])
@pytest.mark.parametrize(
    "suffix", [".jpg", ".bmp", ".gif", ".ppm", ".tif", ".webp", ".jp2", ".avif"]
)
def test_a_truncated_file_is_refused_in_words(tmp_path, suffix, part) -> None:
    whole = encoded_samples()[suffix]
    (tmp_path / f"a{suffix}").write_bytes(whole[: int(part * len(whole))])
    assert refusal(tmp_path / f"a{suffix}") == "the file ends before its picture does."


@pytest.mark.parametrize("part", [0.1, 0.9])
def test_a_truncated_heic_is_named(tmp_path, part) -> None:
    heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    heif.from_pillow(image(noise(3))).save(file)
    whole = file.getvalue()
    (tmp_path / "a.heic").write_bytes(whole[: int(part * len(whole))])
    assert refusal(tmp_path / "a.heic") == "the file ends before its picture does."


def test_a_truncated_codestream_is_named(tmp_path) -> None:
    image(noise(3)).save(tmp_path / "a.j2k")
    whole = (tmp_path / "a.j2k").read_bytes()
    (tmp_path / "a.j2k").write_bytes(whole[:-20])
    assert refusal(tmp_path / "a.j2k") == "the file ends before its picture does."


@pytest.mark.parametrize("suffix", [".webp", ".jp2", ".avif"])
def test_damage_in_a_whole_file_is_no_truncation(tmp_path, suffix) -> None:
    whole = bytearray(encoded_samples()[suffix])
    middle = slice(*{".webp": (20, 60), ".jp2": (85, 125), ".avif": (40, 80)}[suffix])
    whole[middle] = b"\x55" * 40
    (tmp_path / f"a{suffix}").write_bytes(whole)
    assert "damaged" in refusal(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("options", [{"quality": 80}, {"lossless": True}])
@pytest.mark.parametrize("part", [0.5, 0.9])
def test_a_webp_whose_end_was_never_filled(tmp_path, options, part) -> None:
    piece((96, 64)).save(tmp_path / "a.webp", **options)
    whole = (tmp_path / "a.webp").read_bytes()
    kept = int(part * len(whole))
    (tmp_path / "a.webp").write_bytes(whole[:kept] + bytes(len(whole) - kept))
    assert refusal(tmp_path / "a.webp") == "the file ends before its picture does."


@pytest.mark.parametrize("options", [{"quality": 50}, {"lossless": True, "quality": 0}])
@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_flat_area_of_a_webp_is_no_missing_end(tmp_path, value, options) -> None:
    samples = np.full((256, 400, 3), value, np.uint8)
    samples[:64] = np.random.default_rng(0).integers(0, 256, (64, 400, 3))
    image(samples).save(tmp_path / "a.webp", method=0, **options)
    whole = (tmp_path / "a.webp").read_bytes()
    assert whole.endswith(bytes(1000))
    (tmp_path / "a.webp").write_bytes(whole + bytes(1000))  # what lies behind it does not matter
    assert refusal(tmp_path / "a.webp") == ""


def test_a_webp_whose_metadata_were_never_filled(tmp_path) -> None:
    piece((96, 64)).save(tmp_path / "a.webp", xmp=b"x" * 200)
    whole = (tmp_path / "a.webp").read_bytes()
    (tmp_path / "a.webp").write_bytes(whole[:-220] + bytes(220))
    assert refusal(tmp_path / "a.webp") == "the file ends before its picture does."
