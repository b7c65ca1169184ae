"""Sampled Fourier coefficients against NumPy's transform, and DDRM on them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from support.analytic import Mixture

import operators
from operators import SampledFourier, check, dense_matrix
from operators.fourier import PATTERNS
from restore.diffusion.schedule import NoiseSchedule, noise_levels
from restore.solvers import ddrm

SIZES = [(8, 8), (6, 5), (5, 7), (9, 4), (13, 1), (1, 8), (1, 1), (2, 2)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_rows_are_orthonormal(pattern: str, size: tuple[int, int]) -> None:
    for fraction in (0.01, 0.3, 1.0):
        check(SampledFourier((2, *size), fraction, pattern=pattern), rtol=1e-5)
        operator = SampledFourier((1, *size), fraction, pattern=pattern, dtype=torch.float64)
        matrix = dense_matrix(operator).numpy()
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(len(matrix)), atol=1e-12)
        np.testing.assert_allclose(
            np.linalg.svd(matrix, compute_uv=False), operator.singular_values.flatten(), atol=1e-12
        )


@pytest.mark.parametrize("size", [(8, 8), (6, 5), (5, 7)], ids=str)
def test_coefficients_are_numpys(size: tuple[int, int]) -> None:
    """Each frequency of a pair has the real or the imaginary part of NumPy's transform."""
    x = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = SampledFourier((1, *size), 1.0, dtype=torch.float64).A(x).reshape(size).numpy()
    spectrum = np.fft.fft2(x[0, 0].numpy(), norm="ortho")
    assert found[0, 0] == pytest.approx(float(x.mean()) * math.sqrt(math.prod(size)))
    for row in range(size[0]):
        for column in range(size[1]):
            opposite = -row % size[0], -column % size[1]
            number = spectrum[row, column]
            if (row, column) == opposite:
                assert found[row, column] == pytest.approx(number.real)
            elif (row, column) < opposite:
                assert found[row, column] == pytest.approx(math.sqrt(2) * number.real)
                assert found[opposite] == pytest.approx(math.sqrt(2) * number.imag)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_adjoint_is_the_zero_filled_reconstruction(pattern: str) -> None:
    size = (12, 10)
    x = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    operator = SampledFourier((3, *size), 0.4, pattern=pattern, dtype=torch.float64)
    sampled = PATTERNS[pattern](size, 0.4, np.random.default_rng(0))
    expected = np.fft.ifft2(sampled * np.fft.fft2(x.numpy()))
    np.testing.assert_allclose(expected.imag, 0, atol=1e-12)
    np.testing.assert_allclose(operator.pseudo_inverse(operator.A(x)), expected.real, atol=1e-12)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("size", [(64, 64), (33, 48)], ids=str)
@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5, 1.0])
def test_patterns_have_their_share_and_the_centre(
    pattern: str, size: tuple[int, int], fraction: float
) -> None:
    sampled = PATTERNS[pattern](size, fraction, np.random.default_rng(1))
    assert abs(sampled.mean() - fraction) < 2.5 / min(
        size
    )  # at most one pair of lines or one spoke
    assert sampled[0, 0]
    assert np.array_equal(sampled, np.roll(sampled[::-1, ::-1], (1, 1), axis=(0, 1)))
    if pattern == "lines":
        assert set(sampled.sum(axis=1)) <= {0, size[1]}
    if pattern == "radial" and fraction < 0.5:
        near = np.hypot(*np.meshgrid(*(np.fft.fftfreq(side) for side in size), indexing="ij")) < 0.1
        assert sampled[near].mean() > 1.5 * fraction  # spokes are dense at the centre


def test_seeds_draw_other_frequencies() -> None:
    drawn = [SampledFourier((1, 16, 16), 0.3, seed=seed).places for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("pattern", PATTERNS)
def test_ddrm_keeps_the_coefficients(pattern: str) -> None:
    world = Mixture.gaussian(8)
    operator = SampledFourier((1, 1, 8), 0.4, pattern=pattern, dtype=torch.float64)
    truth = world.sample(1, torch.Generator().manual_seed(0))
    y = operator.A(truth)
    sigmas = noise_levels(NoiseSchedule.named("linear"), 20)
    found = ddrm(
        world.denoise,
        operator,
        y,
        0.0,
        sigmas,
        generator=torch.Generator(),
        final_projection=True,
    )
    torch.testing.assert_close(operator.A(found), y, rtol=0, atol=1e-5)


def test_a_mask_after_it_keeps_the_decomposition() -> None:
    operator = SampledFourier((1, 8, 8), 0.5)
    known = torch.ones(1, 1, operator.output_shape[2])
    known[..., ::3] = 0
    both = operators.Mask(operator.output_shape, known) @ operator
    assert isinstance(both, operators.MaskedRows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fraction": 0.0}, "must be above 0 and at most 1"),
        ({"fraction": 1.1}, "must be above 0 and at most 1"),
        ({"fraction": 0.5, "pattern": "spiral"}, "known are random, lines, radial"),
        ({"fraction": 0.5, "seed": -1}, "non-negative"),
    ],
)
def test_refuses(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SampledFourier((1, 4, 4), **options)
