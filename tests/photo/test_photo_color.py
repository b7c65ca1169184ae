"""Colour profiles: a photograph keeps its look, in wide colour spaces, in grey, in 16 bits, and
from CMYK.
"""

from __future__ import annotations

import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms
from skimage.color import deltaE_ciede2000, lab2rgb
from support.pictures import piece, pixels_16bit
from support.profiles import cmyk_profile, ink, profile, xyz

from restore.photo.photograph import read_photo, write_photo

# Columns of the matrix from linear RGB to XYZ under D50.
PRIMARIES = {
    "Display P3": (
        (0.51512, 0.24120, -0.00105),
        (0.29198, 0.69225, 0.04189),
        (0.15710, 0.06657, 0.78407),
    ),
    "Adobe RGB": (
        (0.60974, 0.31111, 0.01947),
        (0.20528, 0.62567, 0.06087),
        (0.14919, 0.06322, 0.74457),
    ),
}
SRGB = ImageCms.createProfile("sRGB")


CURVE = b"curv" + bytes(4) + struct.pack(">IH", 1, 563)  # gamma 2.2


def rgb_profile(name: str) -> bytes:
    columns = {
        f"{letter}XYZ".encode(): xyz(*column)
        for letter, column in zip("rgb", PRIMARIES[name], strict=True)
    }
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), CURVE)
    return profile(
        b"RGB ", b"mntr", b"XYZ ", {b"wtpt": xyz(0.9642, 1.0, 0.8249), **columns, **curves}
    )


GREY = profile(b"GRAY", b"mntr", b"XYZ ", {b"wtpt": xyz(0.9642, 1.0, 0.8249), b"kTRC": CURVE})


def lab(path, tagged: bytes | None = None) -> np.ndarray:
    """What a program that obeys profiles shows, as CIE Lab; `tagged` replaces the file's own
    profile.
    """
    with Image.open(path) as im:
        icc = tagged or im.info["icc_profile"]
        source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        shown = ImageCms.profileToProfile(
            im.convert("RGB"), source, ImageCms.createProfile("LAB"), outputMode="LAB"
        )
    stored = np.asarray(shown)
    return np.dstack([stored[..., 0] / 2.55, stored[..., 1:].view(np.int8).astype(float)])


# --- wide colour spaces
# -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(PRIMARIES))
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_a_wide_file_keeps_its_look(command, picture, tmp_path, name, suffix):
    icc = rgb_profile(name)
    source = picture(f"in{suffix}", size=(64, 48), icc_profile=icc, lossless=True)
    hole = np.zeros((48, 64), np.uint8)
    hole[20:22, 30:32] = 255
    Image.fromarray(hole).save(tmp_path / "mask.png")
    target = tmp_path / f"out{suffix}"
    outcome = command("inpaint", source, target, "--mask", tmp_path / "mask.png", "--steps", 1)
    assert outcome.code == 0, outcome.err
    untouched = hole == 0
    before = lab(source)[untouched]
    after = lab(target)[untouched]
    assert deltaE_ciede2000(before, after).max() == 0
    mistake = lab(target, tagged=ImageCms.ImageCmsProfile(SRGB).tobytes())[untouched]
    assert deltaE_ciede2000(before, mistake).mean() > 2  # what a lost profile would look like
    assert read_photo(target).icc_profile == icc


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits_with_a_profile(tmp_path, suffix):
    icc = rgb_profile("Display P3")
    cv2.imwrite(str(tmp_path / "plain.png"), pixels_16bit((64, 48)))
    photo = read_photo(tmp_path / "plain.png")
    photo.icc_profile = icc
    write_photo(photo, tmp_path / f"a{suffix}")
    back = read_photo(tmp_path / f"a{suffix}")
    assert (back.icc_profile, back.bits) == (icc, 16)
    assert np.array_equal(back.pixels, photo.pixels)
    assert len(np.unique(back.pixels)) > 256
    write_photo(back, tmp_path / f"b{suffix}")
    assert (tmp_path / f"b{suffix}").read_bytes() == (tmp_path / f"a{suffix}").read_bytes()


# --- grey
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_grey_profile_is_kept_with_grey_pixels(tmp_path, suffix, bits):
    piece((64, 48)).convert("L").save(tmp_path / "in.png", icc_profile=GREY)
    photo = read_photo(tmp_path / "in.png")
    assert photo.icc_profile == GREY
    photo.bits = bits
    write_photo(photo, tmp_path / f"out{suffix}")
    assert read_photo(tmp_path / f"out{suffix}").icc_profile == GREY


def test_a_grey_profile_does_not_stay_on_colours(command, tmp_path):
    piece((64, 48)).convert("L").save(tmp_path / "in.png", icc_profile=GREY)
    assert command("colorize", tmp_path / "in.png", tmp_path / "out.png", "--steps", 1).code == 0
    photo = read_photo(tmp_path / "out.png")
    assert photo.pixels.shape[2] == 3
    assert photo.icc_profile is None
    assert command("denoise", tmp_path / "in.png", tmp_path / "grey.png", "--steps", 1).code == 0
    assert read_photo(tmp_path / "grey.png").icc_profile == GREY


# --- CMYK
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "inks", [(255, 0, 0, 0), (0, 255, 255, 0), (0, 0, 255, 0), (0, 0, 0, 0), (0, 0, 0, 255)]
)
def test_cmyk_becomes_srgb_by_its_profile(tmp_path, inks):
    im = Image.new("CMYK", (8, 8), inks)
    im.save(tmp_path / "a.tif", icc_profile=cmyk_profile())
    photo = read_photo(tmp_path / "a.tif")
    expected = lab2rgb(
        np.array(ink(*(value / 255 for value in inks))).reshape(1, 1, 3)
    )  # white is white
    assert photo.icc_profile is None
    assert np.abs(photo.pixels[4, 4] - expected[0, 0]).max() < 0.1  # black is mapped to black
    if any(inks[:2]):  # where the profile says something else than a plain conversion
        assert (
            np.abs(photo.pixels[4, 4] - np.array(im.convert("RGB").getpixel((4, 4))) / 255).max()
            > 0.1
        )
