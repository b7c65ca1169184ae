"""DDRM through every operator with an SVD: with a prior that is known exactly, what comes out can
be predicted.
"""

from __future__ import annotations

from functools import cache

import pytest
import torch
from support.operator_table import NOT_SPECTRAL, SPECTRAL, TABLE, pictures_of
from torch import Tensor

from operators import SpectralOperator, dense_matrix
from restore.diffusion.denoiser import Condition, Prediction
from restore.diffusion.schedule import NoiseSchedule, noise_levels
from restore.errors import BadArgument
from restore.solvers import ddrm

SIZE = (12, 16)
LEVELS = noise_levels(NoiseSchedule.named("linear"), 20, "log-snr")
SIGMA_Y = 0.2


class PixelPrior:
    """Every pixel is Gaussian with a mean and a spread of its own, independent of the others."""

    def __init__(self, shape: tuple[int, int, int], spread: float) -> None:
        steps = torch.linspace(0, 6, torch.Size(shape).numel()).reshape(shape)
        self.mean = 0.6 * torch.sin(steps)
        self.spread = spread * (0.5 + 0.5 * torch.cos(3 * steps) ** 2)

    def draw(self, count: int) -> Tensor:
        return self.mean + self.spread * _noise(count, *self.mean.shape, seed=1)

    def denoise(self, x: Tensor, sigma: float, condition: Condition | None = None) -> Prediction:
        clean = self.mean + self.spread**2 / (self.spread**2 + sigma**2) * (x - self.mean)
        return Prediction(clean, (x - clean) / sigma)


def _noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@cache
def _operator(name: str) -> SpectralOperator:
    return TABLE[name].at(SIZE)


def _restore(
    name: str, spread: float, sigma_y: float
) -> tuple[SpectralOperator, Tensor, Tensor, Tensor]:
    """(operator, truth, measurement, what DDRM makes of it)"""
    operator = _operator(name)
    prior = PixelPrior(operator.input_shape, spread)
    truth = prior.draw(pictures_of(operator, default=4))
    y = operator.A(truth)
    y = y + sigma_y * _noise(*y.shape, seed=2)
    generator = torch.Generator().manual_seed(3)
    found = ddrm(
        prior.denoise,
        operator,
        y,
        sigma_y,
        LEVELS,
        generator=generator,
        final_projection=sigma_y == 0,
    )
    return operator, truth, y, found


@pytest.mark.parametrize("name", SPECTRAL)
def test_without_noise_what_was_measured_is_exact(name: str) -> None:
    """Rounding of the measurement by 10⁻⁷ of the largest component is rounding of component i by
    10⁻⁷ s₀/sᵢ.
    """
    operator, truth, y, found = _restore(name, 0.3, 0.0)
    s = operator.singular_values
    largest = s.amax(dim=(-3, -2, -1), keepdim=True)
    assert found.dtype == torch.float32
    size = truth.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    residual = (operator.A(found) - y).abs() / (largest * size)
    assert float(residual.max()) < 2e-6
    gap = s / largest * (operator.Vt(found) - operator.Vt(truth)).abs() / size
    assert float(gap.max()) < 2e-6
    if float(s[s > 0].min() / s.max()) > 0.1:
        measured = (s > 0).float()
        parts = (operator.V(measured * operator.Vt(x)) for x in (found, truth))
        torch.testing.assert_close(*parts, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", SPECTRAL)
def test_what_was_not_measured_is_filled_by_the_prior(name: str) -> None:
    """Around the prior's mean, where a tenth of the components or more is lost.

    A draw from the posterior would vary as much as the truth does. DDRM of 20 steps with η = 0.85
    keeps two thirds to five sixths of that spread, with every operator alike (0.76 where all is
    lost).
    """
    operator, truth, _, found = _restore(name, 0.3, 0.0)
    measured = (operator.singular_values > 0).float()
    mean = PixelPrior(operator.input_shape, 0.3).mean
    lost, true = (x - mean - operator.V(measured * operator.Vt(x - mean)) for x in (found, truth))
    rank = float(measured.sum()) / len(measured.reshape(-1, *measured.shape[-3:]))
    if rank < 0.9 * mean.numel():
        assert 0.6 < float(lost.norm() / true.norm()) < 0.95
    else:
        assert float(lost.norm()) < 1.1 * float(true.norm()) + 1e-4


@pytest.mark.parametrize("name", SPECTRAL)
def test_with_noise_the_residual_is_the_noise(name: str) -> None:
    """For a prior that is much surer than the measurement.

    A component of gain s then has a residual of variance between ``σ_y⁴ / (σ_y² + s² τ²)``, that of
    the posterior's mean, and ``σ_y² + s² τ²``, that of a picture which knows nothing of y. The mean
    over m of them has a relative standard deviation of √(2/m), of which five are allowed.
    """
    spread = 0.2 * SIGMA_Y
    operator, _, y, found = _restore(name, spread, SIGMA_Y)
    assert torch.isfinite(found).all()
    gain = (float(operator.singular_values.max()) * spread / SIGMA_Y) ** 2
    chance = 5 * (2 / y.numel()) ** 0.5
    ratio = float((operator.A(found) - y).square().mean()) / SIGMA_Y**2
    assert (1 - chance) / (1 + gain) < ratio < (1 + chance) * (1 + gain)


@pytest.mark.parametrize("name", SPECTRAL)
def test_with_noise_it_is_as_near_as_a_draw_from_the_posterior(name: str) -> None:
    """For a prior about as sure as the measurement.

    No estimate can have a smaller squared error than the posterior's mean, whose is the trace of
    its covariance, and a draw from the posterior has twice that. DDRM lies between the two
    (measured: 1.24 to 1.85), and so far below the pseudo-inverse, which amplifies the noise and
    leaves out what was not measured.
    """
    operator, truth, y, found = _restore(name, 0.3, SIGMA_Y)
    A = dense_matrix(operator)
    prior = PixelPrior(operator.input_shape, 0.3)
    precision = A.mT @ A / SIGMA_Y**2 + torch.diag(prior.spread.double().flatten() ** -2)
    least = float(torch.linalg.inv(precision).diagonal(dim1=-2, dim2=-1).mean())
    error, naive = (float((x - truth).square().mean()) for x in (found, operator.pseudo_inverse(y)))
    chance = 5 * (2 / truth.numel()) ** 0.5
    assert 1 - chance < error / least < 2 * (1 + chance)
    assert error < naive


@pytest.mark.parametrize("name", NOT_SPECTRAL)
def test_operators_without_an_svd_are_refused(name: str) -> None:
    operator = TABLE[name].largest()
    count = pictures_of(operator)
    y = torch.zeros(count, *operator.output_shape)
    with pytest.raises(
        BadArgument, match=f"{type(operator).__name__} has no SVD, which .*ddrm.* needs"
    ):
        ddrm(PixelPrior(operator.input_shape, 0.3).denoise, operator, y, 0.0, LEVELS)
