"""Earlier JPEG compressions are seen in pixels, and none where there was none."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw
from support.pictures import piece

from restore.photo.decode import turned
from restore.photo.formats.jpeg_coefficients import stored_jpeg
from restore.photo.history import Compression, earlier_compression
from restore.photo.rounding import rounding_of

PICTURE = piece((128, 120)).convert("RGB")
NOTHING = Compression(None, None, False)


def encoded(image: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def decoded(image: Image.Image, **options) -> Image.Image:
    return Image.open(io.BytesIO(encoded(image, **options))).convert(image.mode)


def of_pixels(image: Image.Image) -> Compression:
    pixels = np.asarray(image, np.float32) / 255
    return earlier_compression(pixels if pixels.ndim == 3 else pixels[..., None])


def of_file(data: bytes, orientation: int = 1) -> Compression:
    image = Image.open(io.BytesIO(data))
    image.load()
    stored = stored_jpeg(image, data, orientation)
    pixels = np.asarray(image)
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    return earlier_compression(pixels / 255, stored, rounding_of(image, pixels).error)


@pytest.mark.parametrize("quality", [30, 60, 75, 90])
@pytest.mark.parametrize("corner", [(0, 0), (5, 3)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_lossless_picture_shows_its_jpeg(quality, corner, mode):
    image = decoded(PICTURE.convert(mode), quality=quality)
    column, row = corner
    found = of_pixels(image.crop((column, row, *image.size)))
    assert found == ((-row % 8, -column % 8), quality, True)


def test_tables_of_another_family():
    table = [8 + 2 * (place % 8) + place // 8 for place in range(64)]
    assert of_pixels(decoded(PICTURE, qtables=[table, table])) == ((0, 0), None, True)


def _text() -> Image.Image:
    image = Image.new("RGB", (120, 120), "white")
    for top in range(0, 120, 8):
        ImageDraw.Draw(image).text((0, top), "abcabcabcabcabcabcabc", fill="black")
    return image


RANDOM = np.random.default_rng(0)
NO_JPEGS = {
    "photograph": PICTURE,
    "grey": PICTURE.convert("L"),
    "enlarged": PICTURE.resize((512, 480), Image.Resampling.BICUBIC).crop((0, 0, 256, 256)),
    "pixel art": PICTURE.resize((24, 24)).resize((192, 192), Image.Resampling.NEAREST),
    "palette": PICTURE.quantize(32).convert("RGB"),
    "posterised": PICTURE.point(lambda value: value // 32 * 32),
    "text": _text(),
    "noise": Image.fromarray(RANDOM.integers(0, 256, (128, 128, 3), np.uint8)),
    "flat": Image.new("RGB", (128, 128), (90, 90, 90)),
    "black": Image.new("L", (128, 128)),
    "gradient": Image.linear_gradient("L"),
    "small": PICTURE.crop((0, 0, 23, 120)),
    "line": PICTURE.crop((0, 0, 1, 120)),
    "chessboard": Image.fromarray(
        (np.indices((128, 128)).sum(axis=0) // 8 % 2 * 255).astype(np.uint8)
    ),
}


@pytest.mark.parametrize("name", NO_JPEGS)
def test_what_was_no_jpeg_shows_none(name):
    assert of_pixels(NO_JPEGS[name]) == NOTHING


def test_a_resized_jpeg_shows_none():
    assert of_pixels(decoded(PICTURE, quality=50).resize((100, 94))) == NOTHING


@pytest.mark.parametrize(("first", "second"), [(50, 75), (50, 90), (70, 92), (85, 96)])
def test_a_coarser_compression_of_a_file(first, second):
    found = of_file(encoded(decoded(PICTURE, quality=first), quality=second))
    assert found == ((0, 0), first, True)


@pytest.mark.parametrize(("first", "second"), [(50, 92), (70, 96)])
def test_a_coarser_compression_on_another_grid(first, second):
    image = decoded(PICTURE, quality=first).crop((5, 3, 128, 120))
    assert of_file(encoded(image, quality=second)) == ((5, 3), first, True)


@pytest.mark.parametrize("first", [None, 75, 90])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_file_without_a_coarser_compression_shows_none(first, mode):
    image = PICTURE.convert(mode)
    image = image if first is None else decoded(image, quality=first)
    for quality in (40, 75):
        assert of_file(encoded(image, quality=quality)) == NOTHING


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_grid_of_a_turned_file(orientation):
    image = decoded(PICTURE.crop((0, 0, 123, 117)), quality=50)
    data = encoded(image, quality=90)
    plain = Image.open(io.BytesIO(data))
    plain.load()
    stored = stored_jpeg(plain, data, orientation)
    upright = turned(np.asarray(plain), orientation)
    found = earlier_compression(upright / 255, stored)
    assert found.grid is not None
    row, column = found.grid
    height, width = upright.shape[:2]
    assert row == (height % 8 if orientation in (3, 4, 7, 8) else 0)
    assert column == (width % 8 if orientation in (2, 3, 6, 7) else 0)
    assert earlier_compression(upright / 255).grid == found.grid


def test_a_large_picture_is_looked_at_in_its_middle():
    pixels = np.zeros((1500, 3000, 3), np.float32)
    image = decoded(PICTURE, quality=60).crop((5, 3, 128, 120))
    pixels[700:817, 1400:1523] = np.asarray(image) / 255
    assert earlier_compression(pixels) == ((1, 3), 60, True)
