"""Reads are bounded by the header: what is no picture costs no memory, whatever its length."""

from __future__ import annotations

import io
import os
import struct
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from test_photo import image, noise, samples_of
from test_png_chunks import SIGNATURE, chunk, png

from restore.errors import FileAccess, UnreadableInput
from restore.jobs.pipes import piped
from restore.jobs.request import Request
from restore.photo.photograph import SUFFIXES, count_pages, read_photo
from restore.tasks import Denoising

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="needs named pipes, and files with holes"
)

LENGTH = 1_200_000_000
MOST = 250_000_000

STARTS = {
    ".png": SIGNATURE,
    "header.png": png(noise(3))[:33],
    "pixels.png": png(noise(3))[:33] + struct.pack(">I", LENGTH - 100) + b"IDAT",
    "text.png": png(noise(3))[:33] + struct.pack(">I", LENGTH - 100) + b"tEXt",
    ".jpg": b"\xff\xd8\xff\xe0",
    ".tif": b"II*\0\x08\0\0\0",
    "big.tif": b"MM\0+\0\x08\0\0",
    ".webp": b"RIFF" + struct.pack("<I", LENGTH) + b"WEBPVP8X",
    ".bmp": b"BM",
    ".gif": b"GIF89a",
    "header.gif": b"GIF89a" + struct.pack("<HHBBB", 16, 16, 0, 0, 0),
    ".ppm": b"P6\n16 16\n255\n",
    ".jp2": b"\0\0\0\x0cjP  \r\n\x87\n",
    ".avif": b"\0\0\0\x18ftypavif\0\0\0\0mif1avif",
    ".heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "zeros.jpg": b"",
    "unknown.tif": b"something else",
}


def sparse(path: Path, start: bytes) -> Path:
    with open(path, "wb") as file:
        file.write(start)
        file.truncate(LENGTH)
    return path


@pytest.mark.parametrize("name", STARTS)
def test_a_hole_of_a_gigabyte_is_not_read(tmp_path, name) -> None:
    path = sparse(tmp_path / f"a{name}", STARTS[name])
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableInput):
            read_photo(path)
        assert count_pages(path) == 1
        assert tracemalloc.get_traced_memory()[1] < MOST
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".gif", ".webp"])
def test_what_lies_behind_a_picture_does_not_matter(tmp_path, suffix) -> None:
    image(noise(3)).save(tmp_path / f"a{suffix}")
    whole = (tmp_path / f"a{suffix}").read_bytes()
    expected = read_photo(tmp_path / f"a{suffix}").pixels
    photo = read_photo(sparse(tmp_path / f"b{suffix}", whole))
    assert np.array_equal(photo.pixels, expected)


@pytest.mark.parametrize("suffix", [".bmp", ".ppm"])
def test_a_picture_in_a_far_too_long_file(tmp_path, suffix) -> None:
    image(noise(3)).save(tmp_path / f"a{suffix}")
    path = sparse(tmp_path / f"b{suffix}", (tmp_path / f"a{suffix}").read_bytes())
    with pytest.raises(
        UnreadableInput, match=r"1200 MB are more than the pixels of this \w+ can need"
    ):
        read_photo(path)


def test_strips_behind_a_hole(tmp_path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise(3), photometric="rgb", metadata=None)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        place = file.pages[0].tags[273].valueoffset
    data = bytearray((tmp_path / "a.tif").read_bytes())
    struct.pack_into("<I", data, place, LENGTH - 10_000)
    with pytest.raises(UnreadableInput, match=r"1200 MB are more than the pixels of this TIFF"):
        read_photo(sparse(tmp_path / "b.tif", bytes(data)))


def test_a_walk_over_endless_chunks_ends(tmp_path) -> None:
    data = png(noise(3), chunk(b"teXt", b"") * 2**18)
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(UnreadableInput, match="chunks"):
        read_photo(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".gif", ".npz"])
def test_a_named_pipe_is_not_waited_for(command, tmp_path, suffix) -> None:
    os.mkfifo(tmp_path / f"a{suffix}")
    with pytest.raises(FileAccess, match="a named pipe, not a regular file"):
        read_photo(tmp_path / f"a{suffix}")
    assert count_pages(tmp_path / f"a{suffix}") == 1


def frame_beyond(side: int) -> bytes:
    """A GIF of 8 x 8 pixels whose second frame is far larger."""
    file = io.BytesIO()
    frames = [Image.new("P", (8, 8), color) for color in (0, 1)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], optimize=False)
    data = bytearray(file.getvalue())
    second = data.rindex(b"\x2c\0\0\0\0")
    struct.pack_into("<HH", data, second + 5, side, side)
    return bytes(data)


def test_a_frame_larger_than_its_screen(tmp_path) -> None:
    (tmp_path / "a.gif").write_bytes(frame_beyond(60_000))
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableInput):
            read_photo(tmp_path / "a.gif", page=2)
        assert tracemalloc.get_traced_memory()[1] < MOST
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("suffix", [".gif", ".ppm", ".jp2", ".webp", ".avif"])
def test_the_limit_of_pixels_holds(tmp_path, suffix) -> None:
    image(noise(3)).save(tmp_path / f"a{suffix}")
    assert read_photo(tmp_path / f"a{suffix}").pixels.shape == noise(3).shape
    with pytest.raises(UnreadableInput, match="more than the limit of 100"):
        read_photo(tmp_path / f"a{suffix}", max_pixels=100)


def test_frames_keep_to_the_limit(tmp_path) -> None:
    frames = [image(noise(3, seed=k)) for k in range(2)]
    for suffix in (".gif", ".png", ".webp"):
        frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:])
        with pytest.raises(UnreadableInput, match="more than the limit of 100"):
            read_photo(tmp_path / f"a{suffix}", page=2, max_pixels=100)


def test_of_stdin_only_a_picture_is_read() -> None:
    class Endless(io.RawIOBase):
        def __init__(self) -> None:
            self.given = 0

        def read(self, size: int = -1) -> bytes:
            assert 0 < size <= 2**20
            self.given += size
            return b"x" * size

    endless = Endless()
    request = Request(Denoising(0.1), Path("-"), None)
    with piped(request, endless, io.BytesIO()) as opened:
        with pytest.raises(UnreadableInput, match="not a picture of a known format"):
            read_photo(opened.source)
        opened.target.write_bytes(b"")
    assert endless.given < 2**20


def test_stdin_has_the_suffix_of_its_format() -> None:
    file = io.BytesIO()
    image(noise(3)).save(file, "TIFF")
    with piped(
        Request(Denoising(0.1), Path("-"), None), io.BytesIO(file.getvalue()), io.BytesIO()
    ) as opened:
        assert opened.source.suffix in SUFFIXES
        assert (opened.source.suffix, opened.target.suffix) == (".tif", ".tif")
        assert np.array_equal(samples_of(read_photo(opened.source)), noise(3))
        opened.target.write_bytes(b"")


def test_texts_that_inflate_cost_nothing(tmp_path) -> None:
    packed = zlib.compress(bytes(10**8), 1)
    text = chunk(b"zTXt", b"XML:com.adobe.xmp\0\0" + packed)
    text += chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + packed)
    (tmp_path / "a.png").write_bytes(png(noise(3), text))
    tracemalloc.start()
    try:
        assert read_photo(tmp_path / "a.png").xmp is None
        assert tracemalloc.get_traced_memory()[1] < 80_000_000
    finally:
        tracemalloc.stop()
