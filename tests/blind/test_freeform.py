"""Kernels of any form: the path of a shaken camera is found, and none where there is none."""

from __future__ import annotations

import io

import numpy as np
import pytest
import scipy.fft
import scipy.signal
from PIL import Image
from support.blurs import NOISE, blurred, sharp

from operators import kernels
from restore.blind.edges import gradients, periodic, sparse_picture
from restore.blind.estimate import SURE_OF_FREE, estimate_kernel
from restore.blind.freeform import free_kernels, pyramid, towards_spectrum
from restore.blind.spectrum import Spectrum
from restore.blind.taps import cleaned, cropped, least_squares, stretched

SHAKE = kernels.curved_motion(15, seed=3)
SIZE = 15


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    """Cosine of the angle between kernels, at the shift where it is largest."""
    spectra = [scipy.fft.rfft2(kernel, s=(64, 64)) for kernel in (one, other)]
    product = scipy.fft.irfft2(spectra[0].conj() * spectra[1])
    return float(product.max() / np.linalg.norm(one) / np.linalg.norm(other))


def as_jpeg(image: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    levels = (image * 255).round().astype(np.uint8).transpose(1, 2, 0)
    Image.fromarray(levels).save(file, "JPEG", quality=92)
    return np.asarray(Image.open(file)).transpose(2, 0, 1) / 255


@pytest.mark.parametrize("kind", ["colour", "grey", "jpeg"])
def test_the_path_of_a_shaken_camera_is_found(kind):
    image = blurred(SHAKE, 192, seed=2)
    image = {"colour": image, "grey": image[:1], "jpeg": as_jpeg(image)}[kind]
    estimate = estimate_kernel(image, NOISE, SIZE, free=True)

    assert estimate.applied
    assert estimate.is_free
    assert estimate.finding.evidence >= SURE_OF_FREE
    assert "free-form" in estimate.finding.words
    assert likeness(estimate.kernel, SHAKE) > 0.75


def test_kernels_are_not_negative_and_centred_with_sum_1():
    image = blurred(SHAKE, 96)[0]
    for kernel in free_kernels(image, Spectrum(image, NOISE), 12 + 1):
        assert kernel.min() >= 0
        assert kernel.sum() == pytest.approx(1, abs=1e-12)
        assert all(side % 2 == 1 and side <= 13 for side in kernel.shape)
        rows, columns = (np.arange(side) - side // 2 for side in kernel.shape)
        assert abs(kernel.sum(axis=1) @ rows) < 1
        assert abs(kernel.sum(axis=0) @ columns) < 1


@pytest.mark.parametrize(("shape", "size"), [((48, 48), 15), ((48, 300), 3), ((60, 49), 99)])
def test_small_and_narrow_pictures_have_kernels_that_suit_them(shape, size):
    image = blurred(kernels.gaussian(1.5), 300)[:, : shape[0], : shape[1]]
    estimate = estimate_kernel(image, NOISE, size, free=True)
    assert estimate.kernel is not None
    assert max(estimate.kernel.shape) <= min(size, min(shape) // 3)


def test_the_pyramid_ends_at_the_whole_picture():
    sides, scales = zip(*pyramid(31), strict=True)
    assert sides == (5, 7, 9, 11, 17, 23, 31)
    assert scales == pytest.approx([2 ** (-half / 2) for half in range(6, -1, -1)])
    assert pyramid(3) == [(3, 1.0)]
    assert pyramid(5) == [(5, 1.0)]


def test_least_squares_find_the_kernel_of_known_edges():
    whole = sharp(160, seed=1).mean(axis=0)
    wide = np.pad(SHAKE, [((SIZE - side) // 2,) * 2 for side in SHAKE.shape])
    y = scipy.signal.fftconvolve(whole, SHAKE, mode="same")
    edges, seen = (gradients(one.astype(np.float32)) for one in (whole, y))
    found = least_squares(edges, seen, np.full((SIZE, SIZE), 1 / SIZE**2))
    assert likeness(found / found.sum(), wide) > 0.9


def test_faint_taps_and_lonely_groups_are_noise():
    taps = np.zeros((9, 9))
    taps[1, 1:5] = (1, 1, 1, 0.04)
    taps[7, 7] = 0.2
    kernel = cleaned(taps)
    assert np.count_nonzero(kernel) == 3
    assert kernel[4, 3:6] == pytest.approx([1 / 3] * 3)
    assert cropped(kernel).shape == (1, 3)
    assert stretched(kernel, 9) is kernel
    assert stretched(kernel, 13).sum() == pytest.approx(1)


def test_a_periodic_picture_has_no_jump_at_its_border():
    ramp = np.tile(np.linspace(0, 1, 40, dtype=np.float32), (30, 1))
    wide = periodic(ramp, 20)
    assert np.array_equal(wide[:30, :40], ramp)
    assert wide.shape[0] >= 50
    assert wide.shape[1] >= 60
    assert np.abs(wide[:, 0] - wide[:, -1]).max() < 0.1
    assert np.abs(np.diff(wide, axis=1)).max() < 0.15


def test_the_sparse_picture_is_the_sharp_one_where_there_are_few_edges():
    square = np.full((64, 64), 0.2, np.float32)
    square[20:44, 24:40] = 0.8
    kernel = kernels.motion(7, 30)
    gain = scipy.fft.rfft2(np.pad(kernel, [(0, 64 - side) for side in kernel.shape]))
    shift = [-(side // 2) for side in kernel.shape]
    blurry = np.roll(scipy.fft.irfft2(scipy.fft.rfft2(square) * gain), shift, (0, 1))
    found = sparse_picture(blurry.astype(np.float32), kernel)
    assert np.abs(found - square).mean() < 0.5 * np.abs(blurry - square).mean()


def test_the_slope_of_the_misfit_is_its_derivative():
    spectrum = Spectrum(blurred(SHAKE, 96)[0], NOISE)
    gain = np.square(np.abs(scipy.fft.rfft2(kernels.gaussian(2), s=spectrum.size)))
    change = np.random.default_rng(0).random(gain.shape)
    change[:, [0, -1]] = 0
    misfit, slope = spectrum.slope(gain, 1e-2)
    nearby = spectrum.misfits(np.stack([gain + 1e-4 * change, gain]), 1e-2)
    assert misfit == pytest.approx(nearby[1])
    assert (slope * change).sum() == pytest.approx((nearby[0] - nearby[1]) / 1e-4, rel=0.1)


def test_steps_towards_the_spectrum_explain_it_better():
    image = blurred(SHAKE, 96)[0]
    spectrum = Spectrum(image, NOISE)
    start = np.pad(kernels.motion(9, 0), ((7, 7), (3, 3)))
    moved = towards_spectrum(start, spectrum)

    before, after = (
        spectrum.misfits(np.square(np.abs(scipy.fft.rfft2(one, s=spectrum.size)))[None])[0]
        for one in (start, moved)
    )
    assert after < before - 10
    assert moved.min() >= 0
    assert moved.sum() == pytest.approx(1)
