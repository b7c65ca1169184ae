"""Estimated kernels: right for known blurs, and refused where nothing can be known."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from support.blurs import NOISE, blurred, sharp

from operators import kernels
from restore.blind.estimate import WINDOW, estimate_kernel, most_textured


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Cosine of the angle between kernels, both centred."""
    side = max(one.shape + other.shape)
    wide = [
        np.pad(k, [((side - n) // 2,) * 2 for n in k.shape]).ravel() / np.linalg.norm(k)
        for k in (one, other)
    ]
    return float(wide[0] @ wide[1])


@pytest.mark.parametrize(
    "kernel",
    [kernels.gaussian(2), kernels.motion(13, 35), kernels.disk(4)],
    ids=["gaussian", "motion", "disk"],
)
def test_the_kernel_of_a_blur_is_found(kernel):
    estimate = estimate_kernel(blurred(kernel), NOISE, 17)

    assert estimate.applied
    assert estimate.kernel is not None
    assert correlation(estimate.kernel, kernel) > 0.93
    assert estimate.kernel.min() >= 0
    assert estimate.kernel.sum() == pytest.approx(1, abs=1e-12)
    assert all(side % 2 == 1 for side in estimate.kernel.shape)
    assert estimate.finding.size == estimate.kernel.shape


@pytest.mark.parametrize(("size", "most"), [(3, 3), (10, 9)])
def test_the_kernel_is_no_larger_than_asked(size, most):
    estimate = estimate_kernel(blurred(kernels.motion(21, 0)), NOISE, size)
    assert estimate.kernel is not None
    assert max(estimate.kernel.shape) <= most


def test_a_sharp_picture_is_left_alone():
    estimate = estimate_kernel(blurred(np.ones((1, 1))), NOISE, 11)
    assert not estimate.applied
    assert "left alone" in estimate.finding.words


@pytest.mark.parametrize("shape", [(3, 1, 200), (1, 30, 40), (3, 20, 20)])
def test_small_pictures_are_left_alone(shape):
    estimate = estimate_kernel(np.random.default_rng(0).random(shape), NOISE)
    assert not estimate.applied
    assert estimate.kernel is None
    assert "too small" in estimate.finding.words


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.05])
def test_flat_pictures_are_left_alone(noise):
    flat = 0.5 + noise * np.random.default_rng(0).standard_normal((3, 96, 96))
    estimate = estimate_kernel(flat, max(noise, 0.001))
    assert not estimate.applied
    assert "no edges" in estimate.finding.words


def test_a_grey_picture_has_the_noise_of_one_channel():
    grey = blurred(kernels.disk(4))[:1]
    alone, thrice = (estimate_kernel(one, NOISE, 13) for one in (grey, np.repeat(grey, 3, axis=0)))
    assert alone.finding == thrice.finding
    assert correlation(alone.kernel, kernels.disk(4)) > 0.93


def test_the_window_is_the_one_with_the_edges():
    image = np.zeros((2 * WINDOW, 3 * WINDOW))
    image[WINDOW:, WINDOW : 2 * WINDOW] = np.random.default_rng(0).random((WINDOW, WINDOW))
    window = most_textured(image, WINDOW)
    assert window.shape == (WINDOW, WINDOW)
    assert np.array_equal(window, image[WINDOW:, WINDOW : 2 * WINDOW])


def test_what_an_encoder_removed_is_no_sign_of_blur():
    """The rounding of a JPEG counts as noise, and most fine frequencies have less than it."""
    faint = 0.5 + (sharp(128) - 0.5) / 4
    noisy = faint + NOISE * np.random.default_rng(0).standard_normal(faint.shape)
    file = io.BytesIO()
    levels = (noisy * 255).round().astype(np.uint8).transpose(1, 2, 0)
    Image.fromarray(levels).save(file, "JPEG", quality=75)
    decoded = np.asarray(Image.open(file)).transpose(2, 0, 1) / 255

    finding = estimate_kernel(decoded, 0.02, 15).finding
    assert not finding.applied
    assert finding.evidence < 2


def test_motion_of_the_largest_length_is_recorded_and_not_applied():
    estimate = estimate_kernel(blurred(kernels.motion(21, 0)), NOISE, 11)

    assert estimate.kernel is not None
    assert not estimate.applied
    assert "the longest that was looked for" in estimate.finding.words
