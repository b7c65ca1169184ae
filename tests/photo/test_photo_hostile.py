"""Files that lie, or are hurt: an error of ours, quickly, in little memory; never another error,
never a hang.
"""

from __future__ import annotations

import io
import itertools
import json
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from PIL import Image
from test_photo import SRGB, noise, photo_of, tiff
from test_photo_metadata import IPTC, packet

from restore.errors import UnreadableInput
from restore.photo.photograph import encoded, read_mask, read_photo

SIDE = 100_000
LONGEST_SECONDS = 20.0

# --- sizes that are only declared
# ---------------------------------------------------------------------------


def png_bomb(side: int = SIDE, depth: int = 8) -> bytes:
    """A PNG whose header declares side x side RGB pixels, with a megabyte of zeros in deflate."""
    content = zlib.compress(bytes(2**20))
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", side, side, depth, 2, 0, 0, 0)),
        (b"IDAT", content),
        (b"IEND", b""),
    ]
    data = b"\x89PNG\r\n\x1a\n"
    for name, body in chunks:
        data += (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )
    return data


def tiff_bomb(bits: int, sample_format: int, side: int = SIDE) -> bytes:
    """A TIFF of one deflated strip that declares side x side RGB pixels."""
    strip = zlib.compress(bytes(2**20))
    entries = [
        (256, 4, 1, side),
        (257, 4, 1, side),
        (258, 3, 3, 8 + 2 + 12 * 11 + 4),
        (259, 3, 1, 8),
        (262, 3, 1, 2),
        (273, 4, 1, 8 + 2 + 12 * 11 + 4 + 12),
        (277, 3, 1, 3),
        (278, 4, 1, side),
        (279, 4, 1, len(strip)),
        (284, 3, 1, 1),
        (339, 3, 3, 8 + 2 + 12 * 11 + 4 + 6),
    ]
    directory = struct.pack("<H", len(entries))
    for code, kind, count, value in entries:
        directory += struct.pack("<HHII", code, kind, count, value)
    values = struct.pack("<6H", bits, bits, bits, sample_format, sample_format, sample_format)
    return b"II*\0" + struct.pack("<I", 8) + directory + bytes(4) + values + strip


def webp_bomb() -> bytes:
    """A lossless WebP of 16383 x 16383 pixels, the most there can be."""
    body = b"\x2f" + struct.pack("<I", 16382 | 16382 << 14) + bytes(100)
    chunk = b"VP8L" + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def jpeg_bomb() -> bytes:
    """A JPEG whose frame header declares 65500 x 65500 pixels."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG")
    data = file.getvalue()
    start = data.index(b"\xff\xc0") + 5
    return data[:start] + struct.pack(">HH", 65500, 65500) + data[start + 4 :]


def bmp_bomb() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "BMP")
    data = file.getvalue()
    return data[:18] + struct.pack("<ii", SIDE, SIDE) + data[26:]


BOMBS = {
    "a.png": png_bomb,
    "deep.png": lambda: png_bomb(depth=16),
    "a.tif": lambda: tiff_bomb(8, 1),
    "deep.tif": lambda: tiff_bomb(16, 1),
    "float.tif": lambda: tiff_bomb(32, 3),
    "a.webp": webp_bomb,
    "a.jpg": jpeg_bomb,
    "a.bmp": bmp_bomb,
}

READ_ALL = """
import json, resource, sys
from pathlib import Path
import cv2, tifffile
from restore.errors import UnreadableInput
from restore.photo.photograph import read_photo

before, said = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        said[path.name] = str(read_photo(path).pixels.shape)
    except UnreadableInput as error:
        said[path.name] = str(error)
kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
unit = 1024 if sys.platform != "darwin" else 2**20
print(json.dumps({"said": said, "megabytes": kilobytes / unit}))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs the module resource")
def test_declared_sizes_cost_no_memory(tmp_path):
    for name, make in BOMBS.items():
        (tmp_path / name).write_bytes(make())
    environment = {
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "PATH": "/usr/bin:/bin",
        "OMP_NUM_THREADS": "1",
    }
    ran = subprocess.run(
        [sys.executable, "-c", READ_ALL, tmp_path],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )
    assert ran.returncode == 0, ran.stderr
    outcome = json.loads(ran.stdout)
    assert sorted(outcome["said"]) == sorted(BOMBS)
    for name, text in outcome["said"].items():
        assert "more than the limit of 200000000" in text, (name, text)
    assert outcome["megabytes"] < 64


@pytest.mark.parametrize("name", ["a.png", "a.tif", "deep.tif", "float.tif", "a.webp"])
def test_the_limit_is_an_option(tmp_path, name):
    small = {
        "a.png": lambda: png_bomb(500),
        "a.tif": lambda: tiff_bomb(8, 1, 500),
        "deep.tif": lambda: tiff_bomb(16, 1, 300),
        "float.tif": lambda: tiff_bomb(32, 3, 200),
        "a.webp": lambda: whole(".webp"),
    }
    (tmp_path / name).write_bytes(small[name]())
    read_photo(tmp_path / name)
    with pytest.raises(UnreadableInput, match="more than the limit of 100"):
        read_photo(tmp_path / name, max_pixels=100)


@pytest.mark.parametrize("sample_format", [1, 3])
def test_pixels_that_inflate_to_more_than_is_declared(tmp_path, sample_format):
    strip = zlib.compress(bytes(2**28), 1)
    bomb = tiff_bomb(16, sample_format, 20).replace(zlib.compress(bytes(2**20)), strip)
    small = struct.pack("<I", len(zlib.compress(bytes(2**20))))
    large = struct.pack("<I", len(strip))
    (tmp_path / "a.tif").write_bytes(
        bomb.replace(b"\x17\1\4\0\1\0\0\0" + small, b"\x17\1\4\0\1\0\0\0" + large)
    )
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableInput, match="far more than it declares"):
            read_photo(tmp_path / "a.tif")
        assert tracemalloc.get_traced_memory()[1] < 2**27
    finally:
        tracemalloc.stop()


def test_a_tile_far_larger_than_its_picture(tmp_path):
    tiff(tmp_path / "a.tif", noise(3, 16), tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        places = [file.pages[0].tags[code].valueoffset for code in (322, 323)]
        kind = {3: "H", 4: "I"}[int(file.pages[0].tags[322].dtype)]
    data = bytearray((tmp_path / "a.tif").read_bytes())
    for place in places:
        struct.pack_into(f"<{kind}", data, place, 60_000)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(UnreadableInput):
        read_photo(tmp_path / "a.tif")


@pytest.mark.parametrize("read", [read_photo, read_mask])
def test_a_tiff_with_fewer_strips_than_rows(tmp_path, read):
    """A damaged height makes an image of gigabytes from a file of some bytes."""
    path = tmp_path / "a.tif"
    file = io.BytesIO()
    Image.fromarray(np.zeros((12, 10), np.uint8)).save(file, "TIFF")
    data = bytearray(file.getvalue())
    height = data.index(b"\x01\x01\x04\x00\x01\x00\x00\x00\x0c") + 8  # tag 257, one LONG, 12
    path.write_bytes(data)
    assert read(path) is not None
    data[height : height + 4] = (8388620).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(UnreadableInput, match="its strips have 12 of its 8388620 rows"):
        read(path)


# --- damage
# ------------------------------------------------------------------------------------------------


@cache
def whole(name: str) -> bytes:
    """A sound file with all that can be kept beside its pixels."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    said = {
        "icc_profile": SRGB,
        "exif": exif.tobytes(),
        "xmp": packet(),
        "iptc": IPTC,
        "dpi": (300.0, 150.0),
    }
    kind, suffix = name.split(".")
    if suffix == "avif":
        file = io.BytesIO()
        Image.fromarray(noise(4)).save(
            file, "AVIF", exif=said["exif"], xmp=said["xmp"], icc_profile=SRGB
        )
        return file.getvalue()
    photo = photo_of(
        noise(3 if suffix in ("jpg", "bmp") else 4, 16 if kind in ("deep", "float") else 8), **said
    )
    if kind == "float":
        photo.bits = 32
    return encoded(photo, Path(f"a.{suffix}"))


FILES = [".png", "deep.png", ".tif", "deep.tif", "float.tif", ".jpg", ".webp", ".bmp", ".avif"]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A file with some bits flipped, bytes put in or taken out, numbers made large, and its end cut
    off.
    """
    data = bytearray(whole(draw(st.sampled_from(FILES))))
    heads = st.integers(0, min(len(data), 600) - 1)
    for place in draw(st.lists(heads | st.integers(0, len(data) - 1), max_size=6)):
        data[place] ^= 1 << draw(st.integers(0, 7))
    for place in draw(st.lists(heads, max_size=2)):
        data[place : place + 4] = draw(
            st.sampled_from([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b""])
        )
    return bytes(data[: draw(st.just(len(data)) | st.integers(0, len(data)))])


def survives(data: bytes, path: Path) -> None:
    """A picture or an error of ours, in time."""
    path.write_bytes(data)
    started = time.monotonic()
    try:
        photo = read_photo(path, max_pixels=10**6)
    except UnreadableInput:
        pass
    else:
        assert photo.pixels.ndim == 3
        assert np.isfinite(photo.pixels).all()
        assert (photo.pixels.min(), photo.pixels.max()) == pytest.approx((0.5, 0.5), abs=0.5)
    assert time.monotonic() - started < LONGEST_SECONDS


CHECKED = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("name", FILES)
def test_the_sound_files_are_read(tmp_path, name):
    path = tmp_path / "a"
    path.write_bytes(whole(name))
    photo = read_photo(path)
    assert photo.bits == {"deep": 16, "float": 32}.get(name.split(".")[0], 8)


def test_damaged_files(tmp_path, caplog):
    path = tmp_path / "a.png"
    seed(0)(
        settings(CHECKED, max_examples=250)(given(damaged())(lambda data: survives(data, path)))
    )()
    assert caplog.records == []  # no library logs on its own


@pytest.mark.slow
def test_damaged_files_for_ten_minutes(tmp_path):
    path = tmp_path / "a.png"
    end = time.monotonic() + 600
    for number in itertools.count(1):
        seed(number)(
            settings(CHECKED, max_examples=500)(given(damaged())(lambda data: survives(data, path)))
        )()
        if time.monotonic() > end:
            return


@pytest.mark.parametrize(
    "name", [name for name in FILES if name not in (".png", "deep.png", ".bmp")]
)
def test_damaged_metadata_neither_costs_the_picture_nor_breaks_the_writing(tmp_path, name):
    rng = np.random.default_rng(0)
    sound = whole(name)
    readable = 0
    marks = [
        sound.index(mark) for mark in (b"Maker", b"xpacket", b"acsp", b"Exif\0\0") if mark in sound
    ]
    for _ in range(30):
        hurt = bytearray(sound)
        for place in rng.choice(marks, 2):
            hurt[min(place + rng.integers(0, 40), len(sound) - 1)] ^= 1 << rng.integers(0, 8)
        (tmp_path / "a").write_bytes(hurt)
        try:
            photo = read_photo(tmp_path / "a")
        except UnreadableInput:
            continue
        readable += 1
        for suffix in (".png", ".tif", ".webp"):
            encoded(photo, Path(f"a{suffix}"))
    assert readable >= 15


# --- through the command
# ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 1000, b"GIF89a", b"<svg/>", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP"]
)
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_the_command_says_so(command, tmp_path, suffix, content):
    (tmp_path / f"a{suffix}").write_bytes(content)
    outcome = command("denoise", tmp_path / f"a{suffix}", "--noise", 0.1)
    assert outcome.code == 2
    assert f"a{suffix}" in outcome.err
    assert "Traceback" not in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == [f"a{suffix}"]


@pytest.mark.parametrize("name", FILES)
def test_the_suffix_of_an_input_does_not_matter(tmp_path, name):
    expected = None
    for suffix in ("", ".png", ".jpg", ".txt"):
        (tmp_path / f"a{suffix}").write_bytes(whole(name))
        photo = read_photo(tmp_path / f"a{suffix}")
        expected = photo.pixels if expected is None else expected
        assert np.array_equal(photo.pixels, expected)


def test_a_circle_of_pages(tmp_path):
    for bits, kind in ((np.uint8, "a"), (np.float32, "b")):
        path = tiff(tmp_path / f"{kind}.tif", (noise(3) % 2).astype(bits))
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            place = page.offset + 2 + 12 * len(page.tags)
            order = file.byteorder
            start = page.offset
        data = bytearray(path.read_bytes())
        struct.pack_into(f"{order}I", data, place, start)
        started = time.monotonic()
        survives(bytes(data), path)
        assert time.monotonic() - started < LONGEST_SECONDS
