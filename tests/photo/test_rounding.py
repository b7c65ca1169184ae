"""The rounding error that a JPEG's tables tell, against the error of pictures that were encoded."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from support.pictures import piece

import restore
from restore.photo.photograph import read_photo
from restore.photo.pictures import open_picture
from restore.photo.rounding import EXACT, is_grey, rounding_of
from restore.restorer import restorer
from restore.tasks import Deblurring, Denoising

SIZE = (112, 96)
BLURRED = gaussian_filter(np.asarray(piece(SIZE).convert("RGB")).astype(float), (1.5, 1.5, 0))


def encoded(pixels: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8)).save(file, "JPEG", **options)
    return file.getvalue()


def opened(data: bytes) -> tuple[Image.Image, np.ndarray]:
    image = Image.open(io.BytesIO(data))
    samples = np.asarray(image)
    return image, samples if samples.ndim == 3 else samples[..., None]


@pytest.mark.parametrize("quality", [75, 85, 92, 98])
@pytest.mark.parametrize("options", [{"subsampling": 0}, {"subsampling": 2}, {"keep_rgb": True}])
def test_of_a_blurred_picture(quality, options):
    image, samples = opened(encoded(BLURRED, quality=quality, **options))
    found = rounding_of(image, samples)
    true = float(np.sqrt(((samples - BLURRED) ** 2).mean())) / 255
    lost = 0.45 if options.get("subsampling") else 0.6  # chroma that was left out is not counted
    assert lost * true < found.error < 1.5 * true
    assert found.error <= found.in_band < 4 * found.error


def test_of_a_grey_picture():
    grey = BLURRED[..., 1]
    image, samples = opened(encoded(grey, quality=85))
    true = float(np.sqrt(((samples[..., 0] - grey) ** 2).mean())) / 255
    assert 0.7 * true < rounding_of(image, samples).error < 1.4 * true


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 40, 3), (40, 1, 3), (9, 17, 3), (8, 8)])
def test_of_any_shape(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape)
    image, samples = opened(encoded(pixels, quality=90))
    found = rounding_of(image, samples)
    assert 0.001 < found.error < 0.05


def test_only_jpegs_have_tables(tmp_path):
    piece(SIZE).convert("CMYK").save(tmp_path / "ink.jpg")
    piece(SIZE).save(tmp_path / "exact.png")
    assert read_photo(tmp_path / "ink.jpg").rounding == EXACT
    assert read_photo(tmp_path / "exact.png").rounding == EXACT
    assert open_picture(np.zeros((4, 4), np.uint8)).rounding == EXACT


@pytest.mark.parametrize("orientation", [1, 6])
def test_comes_along_from_a_file_and_from_pillow(tmp_path, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    (tmp_path / "a.jpg").write_bytes(encoded(BLURRED, quality=90, exif=exif))
    image, samples = opened((tmp_path / "a.jpg").read_bytes())
    expected = rounding_of(image, samples)
    assert read_photo(tmp_path / "a.jpg").rounding == expected
    assert open_picture(image).rounding == expected


def test_auto_noise_is_at_least_that():
    data = encoded(BLURRED, quality=85)
    image, samples = opened(data)
    expected = rounding_of(image, samples)
    run = restorer().run
    blurred = Deblurring("gaussian:1.5")
    assert run(blurred, image, steps=1).report.noise == pytest.approx(expected.in_band, rel=1e-4)
    assert run(blurred, samples, steps=1).report.noise < expected.in_band / 2
    assert run(Denoising(), image).report.noise >= expected.error * 0.999
    told = run(Deblurring("gaussian:1.5", noise=0.002), image, steps=1)
    assert told.report.noise == pytest.approx(0.002)


@pytest.mark.parametrize("quality", [75, 92])
def test_deblurred_jpegs_are_better_than_blurred(quality):
    sharp = np.asarray(piece(SIZE).convert("RGB")).astype(float)
    image, samples = opened(encoded(BLURRED, quality=quality))

    def error(result) -> float:
        return float(((np.asarray(result).astype(float) - sharp) ** 2).mean())

    two = restore.deblur(image, "gaussian:1.5", samples=2, steps=6)
    assert error(two.mean) < error(samples)
    assert error(restore.deblur(image, "gaussian:1.5", steps=6)) < error(samples)


def test_grey_as_its_file_rounds_it():
    grey = np.repeat(BLURRED[..., :1], 3, axis=2).astype(np.float32) / 255
    assert is_grey(grey)
    tinted = grey + np.float32([0.004, 0, -0.004])
    assert not is_grey(tinted)
    assert is_grey(tinted, within=0.005)
    assert not is_grey(grey + np.float32([0.05, 0, -0.05]), within=0.01)
