"""What pixel values mean: grey stored as colour, values with noise beyond black and white."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from support.pictures import piece

import operators
import restore
from restore.errors import BadArgument
from restore.photo.photograph import read_photo
from restore.restorer import restorer
from restore.tasks import Denoising

SIZE = (30, 22)
GREY = np.asarray(piece(SIZE).convert("L"))
STACKED = np.repeat(GREY[..., None], 3, axis=2)
MASK = np.zeros(GREY.shape, bool)
MASK[4:9, 5:12] = True

CALLS = {
    "sr": lambda image: restore.sr(image, 2),
    "inpaint": lambda image: restore.inpaint(image, MASK, steps=1),
    "deblur": lambda image: restore.deblur(image, "gaussian:1", steps=1),
    "denoise": lambda image: restore.denoise(image, 0.05),
    "samples": lambda image: restore.sr(image, 2, samples=2, steps=1).mean,
    "solve": lambda image: restore.solve(image, "blur:gaussian:1+down:area:2", steps=1),
    "jpeg": lambda image: restore.solve(image, "jpeg:60", steps=1),
}


def spread(pixels: np.ndarray) -> float:
    return float(np.ptp(np.asarray(pixels)[..., :3].astype(float), axis=2).max())


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_grey_stays_grey(call, dtype):
    image = STACKED if dtype == "uint8" else STACKED.astype(np.float32) / 255
    result = CALLS[call](image)
    assert result.shape[2] == 3
    assert spread(result) == 0
    alone = CALLS[call](image[..., :1])
    assert np.abs(result[..., :1].astype(float) - alone).max() <= np.ptp(image) * 1e-4


def test_grey_with_alpha_and_in_batches():
    alpha = np.dstack([STACKED, 255 * ~MASK]).astype(np.uint8)
    result = restore.denoise(alpha, 0.05)
    assert spread(result) == 0
    assert np.array_equal(result[..., 3], alpha[..., 3])

    colour = np.asarray(piece(SIZE).convert("RGB"))
    both = torch.from_numpy(np.stack([STACKED, colour])).permute(0, 3, 1, 2)
    first, second = restore.denoise(both, 0.05).permute(0, 2, 3, 1).numpy()
    assert spread(first) == 0
    assert spread(second) > 10


def test_nearly_grey_jpegs_are_grey(tmp_path):
    """A level of chroma is within what an encoder rounds."""
    tinted = STACKED.astype(int) + np.array([1, 0, -1])
    Image.fromarray(tinted.clip(0, 255).astype(np.uint8)).save(tmp_path / "a.jpg", quality=80)
    image = Image.open(tmp_path / "a.jpg")
    assert spread(image) > 0
    assert spread(restore.denoise(image, 0.05)) == 0
    photo = restorer().run(Denoising(0.05), read_photo(tmp_path / "a.jpg")).mean
    assert photo.shape == (*GREY.shape, 3)
    assert spread(photo) == 0

    file = io.BytesIO()
    Image.fromarray((STACKED * [1, 0.9, 0.7]).astype(np.uint8)).save(file, "JPEG", quality=80)
    assert spread(restore.denoise(Image.open(file), 0.05)) > 10


def test_colours_that_are_sought_are_found():
    colourful = piece((48, 40)).convert("RGB")
    stacked = np.repeat(np.asarray(colourful.convert("L"))[..., None], 3, axis=2)
    assert spread(restore.colorize(stacked)) > 3
    assert np.array_equal(restore.colorize(stacked), restore.colorize(stacked[..., :1]))
    grey = operators.color_mix((3, 40, 48), np.full((3, 3), 1 / 3))
    assert spread(restore.solve(stacked, grey, noise=0.01, method="diffpir", steps=4)) > 0


# --- Values beyond black and white
# ------------------------------------------------------------------------------------------------


def noisy(sigma: float, operator: str = "identity") -> tuple[np.ndarray, np.ndarray]:
    """A dark picture, and its measurement with Gaussian noise that leaves [0, 1]."""
    clean = 0.25 * np.asarray(piece((64, 48)).convert("RGB")).astype(np.float32) / 255
    measured = restore.degrade(clean, operator, noise=sigma, seed=1).measurement[0]
    return clean, measured.permute(1, 2, 0).numpy()


@pytest.mark.parametrize(
    ("operator", "call"),
    [
        ("identity", lambda y: restore.denoise(y, 0.15)),
        ("blur:gaussian:1", lambda y: restore.deblur(y, "gaussian:1", noise=0.15)),
        ("down:bicubic:2", lambda y: restore.sr(y, 2, noise=0.15)),
        ("down:area:2", lambda y: restore.solve(y, "down:area:2", noise=0.15)),
    ],
)
def test_noise_is_not_clipped(operator, call):
    clean, measured = noisy(0.15, operator)
    assert measured.min() < -0.2

    def error(result) -> float:
        return float(((result - clean) ** 2).mean())

    assert error(call(measured)) < error(call(measured.clip(0, 1)))


def test_the_noise_of_what_is_not_clipped_is_measured():
    _, measured = noisy(0.15)
    run = restorer().run
    assert run(Denoising(), measured).report.noise == pytest.approx(0.15, rel=0.1)
    assert run(Denoising(), measured.clip(0, 1)).report.noise < 0.13
    tensor = torch.from_numpy(measured).permute(2, 0, 1)
    found = restore.denoise(tensor, 0.15)
    expected = torch.from_numpy(restore.denoise(measured, 0.15)).permute(2, 0, 1)
    torch.testing.assert_close(found, expected)
    assert 0 <= float(found.min()) <= float(found.max()) <= 1


@pytest.mark.parametrize(
    "call",
    [
        lambda y: restore.sr(y, 2),
        lambda y: restore.deblur(y, "gaussian:1", noise=0),
        lambda y: restore.inpaint(y, np.eye(8, 12, dtype=bool)),
        lambda y: restore.colorize(y),
    ],
)
def test_without_noise_it_is_refused(call):
    image = np.full((8, 12, 3), 0.5, np.float32)
    image[0, 0] = 1.2
    with pytest.raises(BadArgument, match=r"reaches from 0\.5 to 1\.2.*noise"):
        call(image)


@pytest.mark.parametrize("value", [-1.1, 2.1, np.nan, np.inf])
def test_beyond_that_it_is_always_refused(value):
    image = np.full((8, 12, 4), 0.5, np.float32)
    image[0, 0, 0] = value
    with pytest.raises(BadArgument, match=r"\[-1, 2\]|not finite"):
        restore.denoise(image, 0.1)


def test_alpha_has_no_noise():
    image = np.full((8, 12, 4), 0.5, np.float32)
    image[0, 0, 3] = 1.2
    with pytest.raises(BadArgument) as refused:
        restore.denoise(image, 0.1)
    assert str(refused.value) == (
        "alpha has values in [0, 1]; this one reaches from 0.5 to 1.2: scale or clip it"
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda y: restore.degrade(y, "blur:gaussian:1"),
        lambda y: restore.denoise(STACKED, 0.1, method="ddrm", start=y),
    ],
)
def test_no_noise_is_asked_of_what_has_none(call):
    image = np.full((22, 30, 3), 0.5, np.float32)
    image[0, 0] = 1.2
    with pytest.raises(BadArgument, match=r"reaches from 0\.5 to 1\.2: scale or clip it$"):
        call(image)


@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_the_byte_order_of_an_array_does_not_matter(dtype):
    """Large TIFF files and FITS have numbers in big-endian order."""
    image = STACKED.astype(np.uint16) * 257 if dtype == "u2" else STACKED.astype(np.float32) / 255
    other = image.astype(f">{dtype}")
    result = restore.denoise(other, 0.05)
    assert result.dtype == other.dtype
    assert np.array_equal(result, restore.denoise(image, 0.05))


def test_an_unknown_option_is_named_with_its_function():
    with pytest.raises(TypeError, match=r"^sr\(\) got an unexpected keyword argument 'factor'$"):
        restore.sr(STACKED, factor=2)
