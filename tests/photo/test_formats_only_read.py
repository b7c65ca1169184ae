"""GIF, PPM and JPEG 2000 are read, by any depth they have, and restored as PNG."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from support.pictures import files
from test_photo import HEIGHT, SRGB, WIDTH, image, noise, samples_of
from test_photo_metadata import packet

from restore.errors import UnreadableInput
from restore.photo.photograph import SUFFIXES, count_pages, read_photo

OPTIONS = ("--noise", 0.1, "--method", "one-step")


@pytest.mark.parametrize("suffix", [".gif", ".ppm", ".jp2"])
def test_a_picture_is_restored_as_png(command, picture, tmp_path, suffix) -> None:
    picture(f"in/a{suffix}")
    assert command("denoise", tmp_path / "in", tmp_path / "out", *OPTIONS).code == 0
    assert list(files(tmp_path / "out")) == ["a.png"]
    refused = command("denoise", tmp_path / f"in/a{suffix}", tmp_path / f"b{suffix}", *OPTIONS)
    assert refused.code == 1
    assert ".png" in refused.err


# --- GIF
# ------------------------------------------------------------------------------------------------


def paletted() -> Image.Image:
    indices = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 200
    im = Image.fromarray(indices.astype(np.uint8), "P")
    im.putpalette(np.random.default_rng(0).integers(0, 256, 768).astype(np.uint8).tobytes())
    return im


def test_gif(tmp_path) -> None:
    paletted().save(tmp_path / "a.gif")
    photo = read_photo(tmp_path / "a.gif")
    assert (photo.format, photo.bits, photo.alpha) == ("GIF", 8, None)
    assert np.array_equal(samples_of(photo), np.asarray(paletted().convert("RGB")))


def test_transparent_gif(tmp_path) -> None:
    paletted().save(tmp_path / "a.gif", transparency=7)
    photo = read_photo(tmp_path / "a.gif")
    assert np.array_equal(photo.alpha == 0, np.asarray(paletted()) == 7)


def test_frames_of_a_gif(tmp_path) -> None:
    frames = [Image.new("RGB", (20, 10), color) for color in ("red", "lime", "blue")]
    for k, frame in enumerate(frames):  # each changes a part alone, so that Pillow stores a part
        frame.putpixel((k, k), (255, 255, 255))
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert count_pages(tmp_path / "a.gif") == 3
    for number, frame in enumerate(frames, start=1):
        got = samples_of(read_photo(tmp_path / "a.gif", page=number))
        assert np.array_equal(got, np.asarray(frame))
    with pytest.raises(UnreadableInput, match=r"several pages \(3\); `pages`"):
        read_photo(tmp_path / "a.gif")


def test_frames_of_a_gif_through_the_command(command, tmp_path) -> None:
    frames = [image(noise(3, seed=k)) for k in range(2)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert command("denoise", tmp_path / "a.gif", "--pages", *OPTIONS).code == 0
    assert sorted(files(tmp_path)) == ["a-denoise.page1.png", "a-denoise.page2.png", "a.gif"]


# --- PPM
# ------------------------------------------------------------------------------------------------


def pnm(samples: np.ndarray, largest: int, *, plain: bool = False, header: str = "") -> bytes:
    """PGM or PPM, by its specification."""
    height, width, channels = samples.shape
    magic = {(1, False): "P5", (3, False): "P6", (1, True): "P2", (3, True): "P3"}[channels, plain]
    head = header or f"{magic}\n{width} {height}\n{largest}\n"
    if plain:
        words = " # a comment\n".join(" ".join(map(str, row.ravel())) for row in samples)
        return head.encode() + words.encode()
    return head.encode() + samples.astype(">u2" if largest > 255 else np.uint8).tobytes()


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("largest", [15, 255, 256, 1023, 65535])
def test_values_of_pnm_are_scaled_by_the_largest(tmp_path, largest, channels, plain) -> None:
    samples = np.random.default_rng(0).integers(0, largest + 1, (HEIGHT, WIDTH, channels))
    (tmp_path / "a.ppm").write_bytes(pnm(samples, largest, plain=plain))
    photo = read_photo(tmp_path / "a.ppm")
    assert (photo.format, photo.bits) == ("PPM", 16 if largest > 255 else 8)
    assert photo.pixels.shape == samples.shape
    assert np.abs(photo.pixels - samples / largest).max() < 0.6 / (2**photo.bits - 1)


@pytest.mark.parametrize("suffix", [".pgm", ".ppm"])
def test_deep_pnm_of_opencv(tmp_path, suffix) -> None:
    samples = noise(1 if suffix == ".pgm" else 3, 16)
    cv2.imwrite(str(tmp_path / f"a{suffix}"), samples[..., ::-1])
    assert np.array_equal(samples_of(read_photo(tmp_path / f"a{suffix}")), samples)


def test_comments_in_a_header(tmp_path) -> None:
    samples = noise(1, 16)
    header = f"P5 # one\n#two\n{WIDTH}\t# three\n{HEIGHT}\r\n65535\n"
    (tmp_path / "a.pgm").write_bytes(pnm(samples, 65535, header=header))
    assert np.array_equal(samples_of(read_photo(tmp_path / "a.pgm")), samples)


def test_a_bitmap(tmp_path) -> None:
    bits = noise(1)[..., 0] > 127
    Image.fromarray(bits).save(tmp_path / "a.pbm")
    assert np.array_equal(samples_of(read_photo(tmp_path / "a.pbm"))[..., 0], bits * 255)


@pytest.mark.parametrize(
    "content",
    [
        b"P5\n",
        b"P5\n4 4\n70000\n",
        b"P5\n4 4\n0\n" + bytes(32),
        b"P5\n4 4\n1000\n" + bytes(31),
        b"P5\n4 4\n1000\n" + b"\xff" * 32,
        b"P2\n4 4\n1000\n" + b"1 " * 15,
        b"P2\n4 4\n1000\n" + b"x " * 16,
        b"P2\n4 4\n1000\n" + b"9" * 5000 + b" 1" * 15,
        b"P6\n99999999999 4\n255\n",
        b"P6\n-4 4\n255\n" + bytes(99),
        b"P6\n0 4\n65535\n",
    ],
)
def test_damaged_pnm(tmp_path, content) -> None:
    (tmp_path / "a.ppm").write_bytes(content)
    with pytest.raises(UnreadableInput):
        read_photo(tmp_path / "a.ppm")


# --- JPEG 2000
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".jp2", ".j2k"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_jpeg_2000(tmp_path, suffix, channels) -> None:
    samples = noise(channels)
    image(samples).save(tmp_path / f"a{suffix}", irreversible=False)
    photo = read_photo(tmp_path / f"a{suffix}")
    assert (photo.format, photo.bits) == ("JPEG2000", 8)
    assert np.array_equal(samples_of(photo), samples)


@pytest.mark.parametrize("channels", [1, 3])
def test_deep_jpeg_2000(tmp_path, channels) -> None:
    samples = np.tile(noise(channels, 16), (4, 4, 1))  # OpenCV writes no smaller ones
    settings = [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000]
    cv2.imwrite(str(tmp_path / "a.jp2"), samples[..., ::-1], settings)
    photo = read_photo(tmp_path / "a.jp2")
    assert photo.bits == 16
    assert np.array_equal(samples_of(photo), samples)


def box(name: bytes, content: bytes) -> bytes:
    return (8 + len(content)).to_bytes(4, "big") + name + content


def test_metadata_of_jpeg_2000(tmp_path) -> None:
    file = io.BytesIO()
    image(noise(3)).save(file, "JPEG2000", irreversible=False)
    data = file.getvalue()
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    color = data.index(b"colr") - 4
    length = int.from_bytes(data[color : color + 4], "big")
    profile = box(b"colr", b"\2\0\0" + SRGB)
    header = data.index(b"jp2h") - 4
    size = int.from_bytes(data[header : header + 4], "big") + len(profile) - length
    data = data[:color] + profile + data[color + length :]
    data = data[:header] + size.to_bytes(4, "big") + data[header + 4 :]
    data += box(b"uuid", bytes.fromhex("be7acfcb97a942e89c71999491e3afac") + packet())
    data += box(b"uuid", b"JpgTiffExif->JP2" + exif.tobytes())
    (tmp_path / "a.jp2").write_bytes(data)
    photo = read_photo(tmp_path / "a.jp2")
    assert (photo.icc_profile, photo.xmp) == (SRGB, packet())
    assert b"Maker" in photo.exif
    assert np.array_equal(samples_of(photo), noise(3))


def test_their_suffixes_count_in_folders() -> None:
    assert {".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k"} <= SUFFIXES


def test_a_damaged_jpeg_2000(tmp_path: Path) -> None:
    image(noise(3)).save(tmp_path / "a.jp2")
    whole = (tmp_path / "a.jp2").read_bytes()
    for part in (0.05, 0.2):
        (tmp_path / "b.jp2").write_bytes(whole[: int(part * len(whole))])
        with pytest.raises(UnreadableInput):
            read_photo(tmp_path / "b.jp2")
