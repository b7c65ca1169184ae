"""EXIF comes through byte for byte: text in any encoding, types, both byte orders."""

from __future__ import annotations

import importlib.util
import io
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from test_photo import image, noise, photo_of

from restore.photo.exif import Tag, Tags, exif_of, read_tags
from restore.photo.photograph import read_photo, write_photo

_EXIF, _GPS = 0x8769, 0x8825
_TEXT, _BYTES, _UNDEFINED, _UTF8 = 2, 1, 7, 129

# By number; each value is what a program has written, terminators included.
MAIN = {
    270: Tag(_TEXT, "東京タワー – Łódź\0".encode()),
    315: Tag(_TEXT, "José Müller\0".encode()),
    33432: Tag(_TEXT, "© 2024 Zoë\0© Søn\0".encode()),  # photographer and editor
    271: Tag(_TEXT, "Kamera Ä\0".encode("latin-1")),
    305: Tag(_UTF8, "Программа\0".encode()),  # EXIF 3.0
    40093: Tag(_BYTES, "Jörg\0".encode("utf-16-le")),  # author, as Windows writes it
}
BELOW = {
    _EXIF: {
        37510: Tag(_UNDEFINED, b"UNICODE\0"),  # and below, in the byte order of the file
        42032: Tag(_TEXT, "Owner: Åsa\0".encode()),
        42036: Tag(_TEXT, "Objektiv 50 mm ƒ/1.4\0".encode()),
        42240: Tag(5, b""),  # a number, likewise
    },
    _GPS: {27: Tag(_UNDEFINED, b"ASCII\0\0\0fused"), 28: Tag(_TEXT, "Måløy\0".encode())},
}


def written_by_somebody(order: str) -> bytes:
    below = {pointer: dict(tags) for pointer, tags in BELOW.items()}
    below[_EXIF][42240] = Tag(5, struct.pack(f"{order}II", 22, 10))
    comment = b"UNICODE\0" + "写真".encode("utf-16-le" if order == "<" else "utf-16-be")
    below[_EXIF][37510] = Tag(_UNDEFINED, comment)
    return exif_of(Tags(order, dict(MAIN), below))


def source(path: Path, order: str) -> Path:
    """A file with this EXIF, by Pillow or tifffile or pillow-heif."""
    exif = written_by_somebody(order)
    if path.suffix == ".tif":  # the tags are its own
        write_photo(photo_of(noise(3), exif=exif), path)
    elif path.suffix == ".heic":
        import pillow_heif

        pillow_heif.from_pillow(image(noise(3))).save(path, exif=exif)
    else:
        image(noise(3)).save(path, exif=exif)
    return path


def values_in(path: Path) -> dict[int, bytes | float]:
    """What Pillow finds in a file: texts as bytes, which it decodes as Latin-1."""
    with Image.open(path) as im:
        im.load()
        exif = im.getexif()
    found = {**exif, **exif.get_ifd(_EXIF), **exif.get_ifd(_GPS)}
    return {k: v.encode("latin-1") if isinstance(v, str) else v for k, v in found.items()}


SOURCES = [".jpg", ".png", ".webp", ".tif", ".avif"]
if importlib.util.find_spec("pillow_heif") is not None:
    SOURCES.append(".heic")


@pytest.mark.parametrize("target", [".jpg", ".png", "deep.png", ".webp", ".tif"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("suffix", SOURCES)
def test_every_text_is_kept_byte_for_byte(tmp_path, suffix, order, target) -> None:
    photo = read_photo(source(tmp_path / f"a{suffix}", order))
    photo.bits = 16 if target == "deep.png" else 8
    write_photo(photo, tmp_path / f"b{target}")

    data = (tmp_path / f"b{target}").read_bytes()
    for tags in (MAIN, *BELOW.values()):
        for tag in tags.values():
            assert tag.value in data

    seen = values_in(tmp_path / f"b{target}")
    for code, tag in (MAIN | BELOW[_EXIF] | BELOW[_GPS]).items():
        if tag.kind == _TEXT:
            assert seen[code].rstrip(b"\0") == tag.value.rstrip(b"\0")
    assert float(seen[42240]) == 2.2
    own = read_tags(read_photo(tmp_path / f"b{target}").exif, (_EXIF, _GPS))
    comment = own.below[_EXIF][37510].value.removeprefix(b"UNICODE\0")
    assert comment.decode("utf-16-le" if own.order == "<" else "utf-16-be") == "写真"


# Pillow does not open a BigTIFF of the other byte order.
@pytest.mark.parametrize(("byteorder", "bigtiff"), [("<", False), (">", False), ("<", True)])
def test_the_own_tags_of_a_tiff(tmp_path, byteorder, bigtiff) -> None:
    text = "José Müller, 東京\0".encode()
    tifffile.imwrite(
        tmp_path / "a.tif",
        noise(3),
        photometric="rgb",
        metadata=None,
        byteorder=byteorder,
        bigtiff=bigtiff,
        extratags=[(code, 2, len(text), text, True) for code in (269, 270, 285, 315, 33432)],
    )
    photo = read_photo(tmp_path / "a.tif")
    for suffix in (".tif", ".jpg", ".png"):
        write_photo(photo, tmp_path / f"b{suffix}")
        with Image.open(tmp_path / f"b{suffix}") as im:
            exif = im.getexif()
        for code in (269, 270, 285, 315, 33432):
            assert exif[code].encode("latin-1") == text.rstrip(b"\0")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_a_second_round_changes_nothing(tmp_path, suffix) -> None:
    write_photo(read_photo(source(tmp_path / "a.jpg", ">")), tmp_path / f"b{suffix}")
    once = read_photo(tmp_path / f"b{suffix}")
    write_photo(once, tmp_path / f"c{suffix}")
    assert read_photo(tmp_path / f"c{suffix}").exif == once.exif


def test_a_hurt_value_costs_that_value_alone(tmp_path) -> None:
    exif = bytearray(written_by_somebody("<"))
    place = exif.index(struct.pack("<HH", 270, 2)) + 8
    struct.pack_into("<I", exif, place, 2**31)  # its text lies outside
    image(noise(3)).save(tmp_path / "a.jpg", exif=bytes(exif))
    kept = read_tags(read_photo(tmp_path / "a.jpg").exif, (_EXIF, _GPS))
    assert 270 not in kept.main
    assert kept.main[315] == MAIN[315]
    assert kept.below[_GPS] == BELOW[_GPS]


def test_values_that_share_their_bytes_do_not_fill_the_memory() -> None:
    number = 5000
    entries = b"".join(struct.pack("<HHII", k, 1, 60_000, 8) for k in range(number))
    data = b"II*\0" + struct.pack("<IH", 8, number) + entries + bytes(4)
    assert sum(len(tag.value) for tag in read_tags(data, ()).main.values()) <= 2**24


@pytest.mark.parametrize("dpi", [1e-3, 0.5, 72.0, 299.9994, 123_456.7, 999_999.0])
def test_resolutions_of_any_size(tmp_path, dpi) -> None:
    write_photo(photo_of(noise(1), dpi=(dpi, dpi)), tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        up, down = file.pages[0].tags[282].value
    assert up / down == pytest.approx(dpi, rel=1e-3)
    assert np.asarray(Image.open(io.BytesIO((tmp_path / "a.tif").read_bytes()))).size
