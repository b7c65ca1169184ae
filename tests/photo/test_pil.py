"""Pillow's images: upright, in every mode, and with what was said of them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps
from support.pictures import piece

import restore
from operators.masks import from_file
from restore.errors import BadArgument, UnreadableInput
from restore.photo.photograph import read_photo
from restore.photo.pil import open_pil

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SIZE = (13, 9)


def stored(format: str, orientation: int, mode: str = "RGB") -> Image.Image:
    exif = Image.Exif()
    exif[274] = orientation
    exif[271] = "Camera"
    file = io.BytesIO()
    options = {"dpi": (300, 150)} if format != "WEBP" else {}
    piece(SIZE).convert(mode).save(file, format, exif=exif, icc_profile=PROFILE, **options)
    return Image.open(io.BytesIO(file.getvalue()))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_is_upright(format, orientation):
    array, _finish, _ = open_pil(stored(format, orientation))
    assert np.array_equal(array, np.asarray(ImageOps.exif_transpose(stored(format, orientation))))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_results_keep_what_was_said(format):
    image = stored(format, 6)
    result = restore.denoise(image, 0.05)
    assert result.size == SIZE[::-1]
    assert result.info["icc_profile"] == PROFILE
    exif = result.getexif()
    assert 274 not in exif
    if format != "TIFF":  # whose tags Pillow keeps elsewhere
        assert exif[271] == "Camera"
    if format in ("JPEG", "PNG"):
        assert result.info["dpi"] == pytest.approx((150, 300), rel=0.01)

    file = io.BytesIO()
    result.save(file, "PNG")
    again = Image.open(io.BytesIO(file.getvalue()))
    assert again.info["icc_profile"] == PROFILE
    assert ImageOps.exif_transpose(again).size == SIZE[::-1]


def test_a_picture_and_its_mask_are_turned_alike():
    image, mask = stored("PNG", 6), np.zeros(SIZE[::-1], np.uint8)
    mask[2:4, 3:6] = 255
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG", exif=image.getexif())
    result = restore.inpaint(image, Image.open(file), steps=1)
    upright = np.rot90(mask, -1) > 0
    assert np.array_equal(
        np.asarray(result)[~upright], np.asarray(ImageOps.exif_transpose(image))[~upright]
    )


def test_a_profile_of_other_pixels_is_dropped():
    image = stored("PNG", 1, "L")
    assert "icc_profile" not in restore.denoise(image, 0.05).info
    assert restore.colorize(image).info["icc_profile"] == PROFILE


def test_the_image_is_not_changed():
    image = stored("PNG", 6)
    before, info = np.array(image), dict(image.info)
    restore.denoise(image, 0.05)
    assert np.array_equal(image, before)
    assert image.info == info
    assert image.getexif()[274] == 6


@pytest.mark.parametrize("mode", ["F", "I"])
def test_deep_grey(mode):
    scale = 1 if mode == "F" else 65535
    grey = np.asarray(piece(SIZE).convert("L")) / 255
    image = Image.fromarray((grey * scale).astype("f4" if mode == "F" else "i4"))
    assert image.mode == mode
    result = restore.denoise(image, 0.01)
    assert result.mode == mode
    assert np.abs(np.asarray(result) / scale - grey).max() < 0.1
    assert restore.colorize(image).mode == "RGB"


def test_a_transparent_colour_is_alpha():
    image = piece(SIZE).convert("RGB")
    image.putpixel((0, 0), (1, 2, 3))
    image.info["transparency"] = (1, 2, 3)
    result = restore.denoise(image, 0.05)
    assert result.mode == "RGBA"
    assert result.getpixel((0, 0))[3] == 0
    assert result.getpixel((1, 0))[3] == 255


@pytest.mark.parametrize("close", ["image", "file", "block"])
def test_an_image_whose_file_was_closed_is_refused(tmp_path, close) -> None:
    piece(SIZE).save(tmp_path / "a.png")
    with open(tmp_path / "a.png", "rb") as file:
        image = Image.open(file if close == "file" else tmp_path / "a.png")
    if close == "image":
        image.close()
    if close == "block":
        with image:
            pass
    with pytest.raises(UnreadableInput, match=r"its file was closed before; call its load\(\)"):
        restore.denoise(image, 0.05)


def test_what_cannot_be_read_is_refused():
    file = io.BytesIO()
    piece((64, 64)).save(file, "PNG")
    said = "^the image cannot be decoded: the file ends before its picture does$"
    with pytest.raises(UnreadableInput, match=said):
        restore.denoise(Image.open(io.BytesIO(file.getvalue()[:2000])), 0.05)
    damaged = file.getvalue()[:60] + bytes(20) + file.getvalue()[80:]
    with pytest.raises(UnreadableInput, match="decoded: the picture is damaged"):
        restore.denoise(Image.open(io.BytesIO(damaged)), 0.05)
    with pytest.raises(BadArgument, match="mode I"):
        restore.denoise(Image.fromarray(np.full((8, 8), 70000, "i4")), 0.05)
    with pytest.raises(BadArgument, match="LAB"):
        restore.denoise(Image.new("LAB", SIZE), 0.05)


@pytest.mark.parametrize("format", ["WEBP", "PNG"])
def test_damaged_exif_does_not_cost_the_picture(tmp_path, format) -> None:
    """Neither in Python, nor in a file, nor in the mask of an operator."""
    gray = np.zeros((12, 16), np.uint8)
    gray[3:6, 4:9] = 255
    path = tmp_path / f"odd.{format.lower()}"
    options = {"lossless": True} if format == "WEBP" else {}
    Image.fromarray(gray).save(path, exif=b"garbage" * 100, **options)

    with Image.open(path) as opened:
        result = restore.denoise(opened, 0.05, method="one-step")
    assert result.size == (16, 12)
    assert np.array_equal(read_photo(path).pixels[..., 0] * 255, gray)
    assert np.array_equal(from_file(path).numpy(), gray == 0)
