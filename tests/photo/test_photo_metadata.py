"""XMP and IPTC come through every format that takes them, without what only held for the old
file.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, IptcImagePlugin, PngImagePlugin
from test_photo import HEIGHT, SRGB, WIDTH, image, noise, photo_of

from restore.photo.photograph import read_photo, write_photo
from restore.photo.xmp import kept_xmp

HEAD = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
TAIL = '<?xpacket end="w"?>'
IPTC = (
    b"\x1c\x02\x00\x00\x02\x00\x04"
    + b"\x1c\x02\x50\x00\x05Maker"
    + b"\x1c\x02\x78\x00\x04\xc3\xa9tc"
)  # odd


def packet(attributes: str = "", elements: str = "") -> bytes:
    """An XMP packet with a creator, and what is given."""
    return (
        f'{HEAD}<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" '
        'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:t="http://ns.adobe.com/tiff/1.0/" '
        f"{attributes}>"
        f"<dc:creator><rdf:Seq><rdf:li>Zoë &amp; Søn</rdf:li></rdf:Seq></dc:creator>{elements}"
        f"</rdf:Description></rdf:RDF></x:xmpmeta>{TAIL}"
    ).encode()


def with_xmp(path, xmp: bytes) -> None:
    """A picture with XMP, by Pillow or tifffile."""
    if path.suffix == ".png":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp.decode())
        image(noise(3)).save(path, pnginfo=info)
    elif path.suffix == ".tif":
        tifffile.imwrite(
            path,
            noise(3),
            photometric="rgb",
            metadata=None,
            extratags=[(700, 1, len(xmp), xmp, True)],
        )
    else:
        image(noise(3)).save(path, xmp=xmp)


def xmp_seen_by_pillow(path) -> bytes | None:
    with Image.open(path) as im:
        im.load()
        return im.info.get("xmp")


# --- XMP
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("target", [".png", ".jpg", ".webp", ".tif"])
def test_xmp_is_kept_byte_for_byte(tmp_path, source, target):
    with_xmp(tmp_path / f"a{source}", packet())
    photo = read_photo(tmp_path / f"a{source}")
    assert photo.xmp == packet()
    write_photo(photo, tmp_path / f"b{target}")
    assert xmp_seen_by_pillow(tmp_path / f"b{target}") == packet()
    assert read_photo(tmp_path / f"b{target}").xmp == packet()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("bits", [16, 32])
def test_xmp_beside_deep_pixels(tmp_path, suffix, bits):
    photo = photo_of(noise(3, 16), xmp=packet(), icc_profile=SRGB)
    photo.bits = bits
    write_photo(photo, tmp_path / f"a{suffix}")
    assert xmp_seen_by_pillow(tmp_path / "a.png") == packet() if suffix == ".png" else True
    back = read_photo(tmp_path / f"a{suffix}")
    assert (back.xmp, back.icc_profile) == (packet(), SRGB)


def test_xmp_behind_the_pixels_of_a_png(tmp_path):
    image(noise(3)).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    content = b"iTXtXML:com.adobe.xmp\0\0\0\0\0" + packet()
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    end = data.rindex(b"IEND") - 4
    (tmp_path / "a.png").write_bytes(data[:end] + chunk + data[end:])
    assert read_photo(tmp_path / "a.png").xmp == packet()


@pytest.mark.parametrize(
    ("attributes", "elements"),
    [
        ('tiff:Orientation="6"', ""),
        ("t:Orientation='6'", ""),
        ("", "<tiff:Orientation>6</tiff:Orientation>"),
        ("", "<t:Orientation>6</t:Orientation>"),
    ],
)
def test_orientation_in_xmp_is_dropped_under_any_prefix(attributes, elements):
    kept = kept_xmp(packet(attributes, elements))
    assert b"Orientation" not in kept
    assert "Zoë &amp; Søn".encode() in kept
    assert kept.startswith(HEAD.encode())
    assert kept.endswith(TAIL.encode())
    assert kept_xmp(kept) == kept


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_the_picture_is_not_turned_twice(tmp_path, suffix):
    with_xmp(tmp_path / f"a{suffix}", packet('tiff:Orientation="6"'))
    with Image.open(tmp_path / f"a{suffix}") as im:
        turned = im.getexif().get(0x0112, 1) == 6  # Pillow obeys XMP where there is no EXIF
    photo = read_photo(tmp_path / f"a{suffix}")
    assert photo.pixels.shape[:2] == ((WIDTH, HEIGHT) if turned else (HEIGHT, WIDTH))
    assert b"Orientation" not in photo.xmp
    write_photo(photo, tmp_path / f"b{suffix}")
    assert read_photo(tmp_path / f"b{suffix}").pixels.shape == photo.pixels.shape


def test_what_only_held_for_the_old_file_is_dropped():
    elements = (
        '<hdrgm:Version xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/">1.0</hdrgm:Version>'
        '<g:Directory xmlns:g="http://ns.google.com/photos/1.0/container/"><rdf:Seq><rdf:li>film</rdf:li></rdf:Seq>'
        "</g:Directory><e:PixelXDimension "
        'xmlns:e="http://ns.adobe.com/exif/1.0/">640</e:PixelXDimension>'
        '<e:FNumber xmlns:e="http://ns.adobe.com/exif/1.0/">28/10</e:FNumber>'
    )
    kept = kept_xmp(
        packet('xmlns:n="http://ns.adobe.com/xmp/note/" n:HasExtendedXMP="0123"', elements)
    )
    for gone in (b"Version", b"Directory", b"film", b"PixelXDimension", b"HasExtendedXMP"):
        assert gone not in kept
    assert b"28/10" in kept


@pytest.mark.parametrize(
    "damaged",
    [
        *(None, b"", b"\0\0", b"no xml", packet()[:-40], "text", (1, 2), b"<a>" * 100_000),
        packet().decode().encode("utf-16"),
        b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        b"<a>" + b" " * 2**22 + b"</a>",
    ],
    ids=range(11),
)
def test_damaged_xmp_is_left_out(damaged):
    assert kept_xmp(damaged) is None


def test_damaged_xmp_does_not_cost_the_picture(tmp_path):
    for suffix in (".png", ".jpg", ".webp", ".tif"):
        with_xmp(tmp_path / f"a{suffix}", b"<no xml")
        photo = read_photo(tmp_path / f"a{suffix}")
        assert photo.xmp is None
        assert photo.pixels.shape == (HEIGHT, WIDTH, 3)


def test_xmp_too_long_for_jpeg_is_left_out(tmp_path):
    long = packet(elements="<dc:title>" + "x" * 70_000 + "</dc:title>")
    fits = packet(elements="<dc:title>" + "x" * (65_504 - 21 - len(packet())) + "</dc:title>")
    assert len(fits) == 65_504
    for xmp, kept in ((long, None), (fits, fits)):
        write_photo(photo_of(noise(3), xmp=xmp), tmp_path / "a.jpg", overwrite=True)
        assert read_photo(tmp_path / "a.jpg").xmp == kept
    write_photo(photo_of(noise(3), xmp=long), tmp_path / "a.png")
    assert read_photo(tmp_path / "a.png").xmp == long


# --- IPTC
# ------------------------------------------------------------------------------------------------


def with_iptc(path, kind: int = 7) -> None:
    """A JPEG by hand, or a TIFF by tifffile whose tag is bytes (7) or, as Photoshop writes it,
    whole numbers (4).
    """
    if path.suffix == ".tif":
        value = IPTC + b"\0" * (-len(IPTC) % 4)
        content = struct.unpack(f"<{len(value) // 4}I", value) if kind == 4 else value
        tag = (33723, kind, len(content), content, True)
        tifffile.imwrite(
            path, noise(3), photometric="rgb", metadata=None, byteorder="<", extratags=[tag]
        )
        return
    file = io.BytesIO()
    image(noise(3)).save(file, "JPEG")
    other = b"8BIM" + struct.pack(">H", 0x03F3) + b"\x03abc" + struct.pack(">I", 1) + b"\1\0"
    resource = b"8BIM" + struct.pack(">HHI", 0x0404, 0, len(IPTC)) + IPTC + b"\0" * (len(IPTC) % 2)
    content = b"Photoshop 3.0\0" + other + resource
    data = file.getvalue()
    path.write_bytes(
        data[:2] + b"\xff\xed" + struct.pack(">H", len(content) + 2) + content + data[2:]
    )


@pytest.mark.parametrize(("source", "kind"), [("a.jpg", 0), ("a.tif", 7), ("a.tif", 4)])
@pytest.mark.parametrize("target", ["b.jpg", "b.tif"])
def test_iptc_is_kept(tmp_path, source, kind, target):
    with_iptc(tmp_path / source, kind)
    photo = read_photo(tmp_path / source)
    assert photo.iptc.rstrip(b"\0") == IPTC
    write_photo(photo, tmp_path / target)
    assert read_photo(tmp_path / target).iptc == photo.iptc
    with Image.open(tmp_path / target) as im:
        assert IptcImagePlugin.getiptcinfo(im)[2, 80] == b"Maker"


def test_iptc_elsewhere_is_left_out(tmp_path):
    with_iptc(tmp_path / "a.jpg")
    photo = read_photo(tmp_path / "a.jpg")
    for suffix in (".png", ".webp", ".bmp"):
        write_photo(photo, tmp_path / f"b{suffix}")
        assert read_photo(tmp_path / f"b{suffix}").iptc is None


def test_all_that_is_kept_at_once(tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    said = {
        "icc_profile": SRGB,
        "exif": exif.tobytes(),
        "xmp": packet(),
        "iptc": IPTC,
        "dpi": (300.0, 150.0),
    }
    for suffix in (".jpg", ".tif"):
        write_photo(photo_of(noise(3), **said), tmp_path / f"a{suffix}")
        back = read_photo(tmp_path / f"a{suffix}")
        assert (back.icc_profile, back.xmp, back.iptc, back.dpi) == (
            SRGB,
            packet(),
            IPTC,
            (300, 150),
        )
        kept = Image.Exif()
        kept.load(back.exif)
        assert kept[0x010F] == "Maker"
        assert np.isfinite(back.pixels).all()
