"""The classical methods: each must do its own job on a real photograph, and leave its inputs
alone.
"""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import convolve
from skimage import data

from restore.errors import BadArgument
from restore.metrics import classical


def psnr(estimate: np.ndarray, truth: np.ndarray) -> float:
    return -10 * np.log10(np.square(estimate.astype(np.float64) - truth).mean())


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """[95, 112, 3] of a photograph, odd and even sides."""
    return np.float32(data.astronaut()[60:155, 170:282] / 255)


def gaussian(sigma: float) -> np.ndarray:
    t = np.arange(-6, 7)
    line = np.exp(-(t**2) / (2 * sigma**2))
    return np.outer(line, line) / line.sum() ** 2


def motion() -> np.ndarray:
    """A lopsided kernel [5, 9]: flipping or shifting it would spoil a deconvolution."""
    kernel = np.zeros((5, 9))
    kernel[1, 1:4], kernel[2, 3:6], kernel[3, 5:9] = [1, 2, 3], [4, 4, 4], [3, 2, 1, 1]
    return kernel / kernel.sum()


def degrade(photo: np.ndarray, kernel: np.ndarray, noise: float) -> np.ndarray:
    blurred = np.stack([convolve(photo[..., c], kernel, mode="reflect") for c in range(3)], -1)
    return np.float32(blurred + noise * np.random.default_rng(0).standard_normal(photo.shape))


@pytest.mark.parametrize(
    ("kernel", "resample"),
    [("bicubic", Image.Resampling.BICUBIC), ("lanczos", Image.Resampling.LANCZOS)],
)
def test_upscale_is_pillows_float_resize(photo, kernel, resample):
    enlarged = classical.upscale(photo, (200, 301), kernel)
    assert enlarged.shape == (200, 301, 3)
    assert enlarged.dtype == np.float32
    for c in range(3):
        plane = Image.fromarray(np.ascontiguousarray(photo[..., c]))
        assert plane.mode == "F"
        np.testing.assert_array_equal(
            enlarged[..., c], np.clip(np.asarray(plane.resize((301, 200), resample)), 0, 1)
        )


def test_upscale_undoes_a_reduction_better_than_repeating_pixels(photo):
    small = classical.upscale(photo[:92], (46, 56))
    bicubic = classical.upscale(small, (92, 112))
    assert psnr(bicubic, photo[:92]) > psnr(small.repeat(2, 0).repeat(2, 1), photo[:92]) + 1


@pytest.mark.parametrize("method", ["telea", "navier-stokes", "biharmonic"])
def test_inpaint_fills_holes_and_returns_known_pixels_unchanged(photo, method):
    mask = np.random.default_rng(1).random(photo.shape[:2]) < 0.5
    damaged = np.where(mask[..., None], np.float32(0.5), photo)
    filled = classical.inpaint(damaged, mask, method)
    np.testing.assert_array_equal(filled[~mask], photo[~mask])
    assert psnr(filled, photo) > psnr(damaged, photo) + 8
    np.testing.assert_array_equal(classical.inpaint(photo, np.zeros_like(mask), method), photo)


@pytest.mark.parametrize("kernel", [gaussian(1.5), motion()], ids=["gaussian", "lopsided motion"])
@pytest.mark.parametrize(
    "deconvolve",
    [
        lambda y, k: classical.wiener(y, k, 0.005),
        lambda y, k: classical.richardson_lucy(y, k, 40),
        lambda y, k: classical.tv_deblur(y, k, 0.005),
        lambda y, k: classical.total_variation(y, 0.005, k),
    ],
    ids=["wiener", "richardson-lucy", "tv_deblur", "total_variation"],
)
def test_deconvolution_restores_a_blurred_photo_to_its_very_border(photo, deconvolve, kernel):
    blurred = degrade(photo, kernel, 0.005)
    restored = deconvolve(blurred, kernel)
    assert restored.shape == photo.shape
    assert psnr(restored, photo) > psnr(blurred, photo) + 2
    rim = np.ones(photo.shape[:2], bool)
    rim[4:-4, 4:-4] = False
    assert psnr(restored[rim], photo[rim]) > psnr(blurred[rim], photo[rim]) + 1


def test_tv_deblur_minimises_its_objective(photo):
    """The objective, written without FFTs, is lower at the answer than anywhere near it."""
    kernel = motion()
    noise = 0.02
    strength = 0.002
    blurred = degrade(photo[:40, :40], kernel, noise)

    def objective(x):
        wide = np.stack([convolve(x[..., c], kernel, mode="wrap") for c in range(3)], -1)
        residual = wide[5:-5, 9:-9] - blurred
        steps = [np.roll(x, -1, 0) - x, np.roll(x, -1, 1) - x]
        return (
            0.5 * (residual**2).sum() + strength * np.sqrt(sum((s**2).sum(-1) for s in steps)).sum()
        )

    answer = classical._tv_admm(blurred, kernel, strength, 400).astype(np.float64)
    rng = np.random.default_rng(2)
    lowest = objective(answer)
    for size in (0.003, 0.01, 0.03):
        direction = convolve(rng.standard_normal(answer.shape), np.ones((3, 3, 1)) / 9)
        assert objective(answer + size * direction) > lowest
        assert objective((1 - size) * answer + size * answer.mean((0, 1))) > lowest


@pytest.mark.parametrize("sigma", [15, 50])
@pytest.mark.parametrize("denoise", [classical.total_variation, classical.non_local_means])
def test_denoisers_remove_noise(photo, denoise, sigma):
    noisy = degrade(photo, np.ones((1, 1)), sigma / 255)
    denoised = denoise(noisy, sigma / 255)
    assert psnr(denoised, photo) > psnr(noisy.clip(0, 1), photo) + 3.5
    np.testing.assert_array_equal(denoise(photo, 0.0), photo)


KERNEL = gaussian(1.0)
METHODS = {
    "upscale": lambda x: classical.upscale(x, (120, 130)),
    "telea": lambda x: classical.inpaint(x, x[..., 0] > 0.5, "telea"),
    "biharmonic": lambda x: classical.inpaint(x, x[..., 0] > 0.5, "biharmonic"),
    "wiener": lambda x: classical.wiener(x, KERNEL, 0.0),
    "richardson_lucy": lambda x: classical.richardson_lucy(x, KERNEL, 3),
    "total_variation": lambda x: classical.total_variation(x, 0.1),
    "tv_deblur": lambda x: classical.tv_deblur(x, KERNEL, 0.0, iterations=3),
    "non_local_means": lambda x: classical.non_local_means(x, 0.1),
}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_results_are_new_pictures_in_range_and_inputs_are_left_alone(photo, method):
    """Black and white squares with strong noise: every method meets values out of range."""
    rng = np.random.default_rng(3)
    squares = np.kron(rng.integers(0, 2, (6, 5)), np.ones((8, 8)))[..., None].repeat(3, 2)
    image = np.float32(squares + 0.1 * rng.standard_normal(squares.shape))
    before = image.copy()
    kernel = KERNEL.copy()
    image.setflags(write=False)
    result = method(image)
    assert result.dtype == np.float32
    assert result.min() >= 0
    assert result.max() <= 1
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(KERNEL, kernel)


def test_choices_and_kernels_that_cannot_be_used_are_refused(photo):
    with pytest.raises(BadArgument, match="bicubic, lanczos"):
        classical.upscale(photo, (9, 9), "nearest")
    with pytest.raises(BadArgument, match="biharmonic"):
        classical.inpaint(photo, photo[..., 0] > 0.5, "magic")
    with pytest.raises(BadArgument, match="some pixel known"):
        classical.inpaint(photo, np.ones(photo.shape[:2], bool))
    for kernel in (np.full((4, 4), 1 / 16), np.ones((3, 3)), np.ones(1)):
        for method in (classical.wiener, classical.tv_deblur):
            with pytest.raises(BadArgument, match="odd sides"):
                method(photo, kernel, 0.01)
        with pytest.raises(BadArgument, match="odd sides"):
            classical.richardson_lucy(photo, kernel)
