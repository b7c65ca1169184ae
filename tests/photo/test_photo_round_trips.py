"""What is read, written and read again is the same to the last bit, and the same file where the
format allows it.
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
from functools import cache

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image
from test_photo import SRGB, noise, tiff

from restore.photo.photograph import Photo, read_photo, write_photo

TURNED_UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


def values(channels: int, bits: int) -> np.ndarray:
    """float32 [23, 37, channels] on the levels of 8 or 16 bits, or between them for 32."""
    if bits == 32:
        return np.random.default_rng(0).random((23, 37, channels), np.float32)
    return noise(channels, bits).astype(np.float32) / np.float32(2**bits - 1)


def oriented(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Maker"
    return exif.tobytes()


def together(photo: Photo) -> np.ndarray:
    return photo.pixels if photo.alpha is None else np.dstack([photo.pixels, photo.alpha])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("suffix", "bits"), [(".png", 8), (".png", 16), (".tif", 8), (".tif", 16), (".tif", 32)]
)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_depth_mode_and_orientation(tmp_path, suffix, bits, channels, orientation):
    stored = values(channels, bits)
    alpha = stored[..., 3] if channels == 4 else None
    profile = SRGB if channels > 1 else None
    given = Photo(
        stored[..., :3],
        alpha,
        bits,
        icc_profile=profile,
        exif=oriented(orientation),
        dpi=(200.0, 100.0),
    )
    write_photo(given, tmp_path / f"a{suffix}")
    photo = read_photo(tmp_path / f"a{suffix}")
    assert photo.bits == bits
    assert np.array_equal(together(photo), TURNED_UPRIGHT[orientation](stored))
    assert bits == 8 or len(np.unique(photo.pixels)) > 256
    write_photo(photo, tmp_path / f"b{suffix}")
    back = read_photo(tmp_path / f"b{suffix}")
    assert np.array_equal(together(back), together(photo))
    assert (back.icc_profile, back.exif, back.dpi) == (profile, photo.exif, photo.dpi)
    write_photo(back, tmp_path / f"c{suffix}")
    assert (tmp_path / f"c{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


@pytest.mark.parametrize(
    ("suffix", "channels"), [(".webp", 3), (".webp", 4), (".bmp", 1), (".bmp", 3)]
)
def test_8_bit_formats_write_the_same_file_again(tmp_path, suffix, channels):
    stored = values(channels, 8)
    alpha = stored[..., 3] if channels == 4 else None
    profile = None if suffix == ".bmp" else SRGB
    write_photo(Photo(stored[..., :3], alpha, icc_profile=profile), tmp_path / "a.png")
    photo = read_photo(tmp_path / "a.png")
    write_photo(photo, tmp_path / f"b{suffix}")
    back = read_photo(tmp_path / f"b{suffix}")
    assert np.array_equal(together(back), stored)
    assert back.icc_profile == profile
    write_photo(back, tmp_path / f"c{suffix}")
    assert (tmp_path / f"c{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


@pytest.mark.parametrize("task", ["png 8", "png 16", "tif 8", "tif 16", "tif 32", "webp 8"])
def test_a_null_restoration_through_the_command(command, tmp_path, task):
    suffix, bits = task.split()
    stored = values(4, int(bits))
    stored[5:15, 5:15, 3] = 0
    source = tmp_path / f"in.{suffix}"
    target = tmp_path / f"out.{suffix}"
    write_photo(Photo(stored[..., :3], stored[..., 3], int(bits), icc_profile=SRGB), source)
    hole = np.zeros((23, 37), np.uint8)
    hole[20, 30] = 255
    Image.fromarray(hole).save(tmp_path / "mask.png")
    outcome = command("inpaint", source, target, "--mask", tmp_path / "mask.png", "--steps", 1)
    assert outcome.code == 0, outcome.err
    photo = read_photo(target)
    assert (photo.bits, photo.icc_profile) == (int(bits), SRGB)
    assert np.array_equal(together(photo)[hole == 0], stored[hole == 0])


# --- files of other programs
# --------------------------------------------------------------------------------


MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [*itertools.product(MODES, [".png", ".tif"]), ("CMYK", ".tif"), ("CMYK", ".jpg")],
)
def test_modes_of_pillow(tmp_path, mode, suffix):
    if mode == "I;16":
        im = Image.fromarray(noise(1, 16)[..., 0])
    elif mode.endswith("A"):
        im = Image.fromarray(noise(len(mode)), mode)
    else:
        im = Image.fromarray(noise(3)).convert(mode)
    im.save(tmp_path / f"a{suffix}")
    photo = read_photo(tmp_path / f"a{suffix}")
    target = tmp_path / f"b{suffix.replace('jpg', 'png')}"
    write_photo(photo, target)
    back = read_photo(target)
    assert np.array_equal(together(back), together(photo))
    assert back.bits == photo.bits == (16 if mode == "I;16" else 8)


def by_opencv(path, stored: np.ndarray) -> None:
    cv2.imwrite(
        str(path), stored[..., [2, 1, 0, 3][: stored.shape[2]]] if stored.shape[2] > 1 else stored
    )


@pytest.mark.parametrize("program", [tiff, by_opencv])
@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_tiffs_of_other_programs(tmp_path, program, bits, channels):
    stored = values(channels, 32) if bits == 32 else noise(channels, bits)
    program(tmp_path / "a.tif", stored)
    photo = read_photo(tmp_path / "a.tif")
    write_photo(photo, tmp_path / "b.tif")
    seen = tifffile.imread(tmp_path / "b.tif").reshape(stored.shape)
    assert seen.dtype == stored.dtype
    assert np.array_equal(seen, stored)


@cache
def imagemagick() -> str | None:
    """The command of ImageMagick, if it is here."""
    for name in ("magick", "convert"):
        found = shutil.which(name)
        if found is None:
            continue
        said = subprocess.run(
            [found, "-version"], capture_output=True, text=True, timeout=30, check=False
        )
        if said.returncode == 0 and said.stdout.startswith("Version: ImageMagick"):
            return found
    return None


@pytest.mark.skipif(imagemagick() is None, reason="ImageMagick is not installed")
@pytest.mark.parametrize(
    "options", [(), ("-depth", "16"), ("-orient", "LeftBottom"), ("-compress", "LZW")], ids=str
)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_files_of_imagemagick(tmp_path, suffix, options):
    write_photo(Photo(values(3, 8)), tmp_path / "source.png")
    subprocess.run(
        [imagemagick(), tmp_path / "source.png", *options, tmp_path / f"a{suffix}"],
        check=True,
        timeout=60,
    )
    photo = read_photo(tmp_path / f"a{suffix}")
    turned = photo.pixels.shape[0] != 23
    assert np.array_equal(photo.pixels, TURNED_UPRIGHT[8](values(3, 8)) if turned else values(3, 8))
    write_photo(photo, tmp_path / f"b{suffix}")
    assert np.array_equal(read_photo(tmp_path / f"b{suffix}").pixels, photo.pixels)
