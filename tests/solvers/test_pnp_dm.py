"""PnP-DM against its stationary distribution, known in closed form for Gaussian priors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from support.analytic import Mixture
from support.monte_carlo import assert_moments
from torch import Tensor

import operators
from operators import LinearOperator, Mask, dense_matrix
from restore.diffusion.denoiser import Prediction
from restore.solvers import pnp_dm

SHAPE = (1, 4, 4)
COUNT = 2000
OPERATORS = {
    "identity": lambda: operators.identity(SHAPE),
    "mask": lambda: Mask(SHAPE, torch.arange(16).reshape(4, 4) % 2 == 0),
    "blur": lambda: operators.gaussian_blur(SHAPE, 0.7),
    "down": lambda: operators.downsample(SHAPE, 4),
}
PRIOR = Mixture.gaussian(16, seed=4)
GEOMETRIC = [*np.geomspace(5.0, 0.03, 30).tolist(), 0.0]


def _problem(operator: LinearOperator, sigma_y: float) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    x = PRIOR.sample(1, generator).reshape(1, *SHAPE).float()
    return operator.A(x) + sigma_y * torch.randn(1, *operator.output_shape, generator=generator)


def _inflated(operator: LinearOperator, y: Tensor, sigma_y: float, rho: float) -> Mixture:
    """The posterior for measurement noise of covariance σ_y² + ρ² A Aᵀ, by whitening."""
    A = dense_matrix(operator).double()
    noise = sigma_y**2 * torch.eye(len(A)) + rho**2 * A @ A.T
    white = torch.linalg.inv(torch.linalg.cholesky(noise))
    return PRIOR.posterior(white @ A, white @ y.double().flatten(), 1.0)


@pytest.mark.parametrize("name", OPERATORS)
def test_has_its_stationary_distribution_at_a_constant_coupling(name: str) -> None:
    operator = OPERATORS[name]()
    y = _problem(operator, 0.1)
    samples = _many(operator, y, 0.1, [0.4, 0.0], sweeps=12, reverse_steps=12)
    stationary = _inflated(operator, y, 0.1, 0.4)
    assert_moments(samples, stationary.mean, stationary.covariance)


def test_the_bias_falls_with_the_coupling() -> None:
    """Along the stationary distributions, and with them the samples."""
    operator = OPERATORS["blur"]()
    y = _problem(operator, 0.1)
    truth = PRIOR.posterior(dense_matrix(operator), y, 0.1)
    gaps = []
    for rho in (0.4, 0.2, 0.1, 0.05):
        biased = _inflated(operator, y, 0.1, rho)
        gaps.append(float((biased.covariance - truth.covariance).norm() / truth.covariance.norm()))
    assert all(gap < 0.6 * before for before, gap in itertools.pairwise(gaps))
    assert gaps[-1] < 0.05


@pytest.mark.parametrize(
    ("name", "sigma_y"), [("mask", 0.0), ("blur", 0.1), ("identity", 0.3), ("down", 0.3)]
)
def test_with_a_falling_coupling_it_comes_near_the_posterior(name: str, sigma_y: float) -> None:
    """One sweep a level lags a little behind: mean within a fifth of the spread."""
    operator = OPERATORS[name]()
    y = _problem(operator, sigma_y)
    samples = _many(operator, y, sigma_y, GEOMETRIC, reverse_steps=8, final_projection=True)
    posterior = PRIOR.posterior(dense_matrix(operator), y, sigma_y)
    flat = samples.double().flatten(1)
    spread = posterior.covariance.diagonal().sum().sqrt()
    assert float((flat.mean(0) - posterior.mean).norm() / spread) < 0.2
    gap = (flat.T.cov() - posterior.covariance).norm() / posterior.covariance.norm()
    assert float(gap) < 0.15


def _many(operator: LinearOperator, y: Tensor, sigma_y: float, levels: list[float], **options):
    return pnp_dm(
        PRIOR.denoise, operator, y.expand(COUNT, -1, -1, -1), sigma_y, levels,
        generator=torch.Generator().manual_seed(5), **options,
    )  # fmt: skip


def test_one_call_of_a_prior_step_is_its_mean() -> None:
    """So the samples vary less than the posterior does."""
    operator = OPERATORS["mask"]()
    y = _problem(operator, 0.1)
    samples = _many(operator, y, 0.1, GEOMETRIC, reverse_steps=1)
    posterior = PRIOR.posterior(dense_matrix(operator), y, 0.1)
    ratio = samples.double().flatten(1).var(dim=0).sum() / posterior.covariance.diagonal().sum()
    assert float(ratio) < 0.8


def test_without_noise_it_explains_the_measurement_and_reports_every_call() -> None:
    operator = OPERATORS["down"]()
    y = _problem(operator, 0.0)
    steps = []
    found = pnp_dm(
        PRIOR.denoise, operator, y, 0.0, [1.0, 0.1, 0.01, 0.0], reverse_steps=3, sweeps=2,
        generator=torch.Generator().manual_seed(0), final_projection=True, callback=steps.append,
        start=torch.ones(SHAPE),
    )  # fmt: skip
    torch.testing.assert_close(operator.A(found), y, atol=1e-5, rtol=0)
    # a coupling that is not above the lowest level takes one call
    assert [(step.index, step.steps) for step in steps] == [(i, 14) for i in range(14)]


def test_jpeg_and_odd_shapes() -> None:
    for shape in ((3, 16, 24), (3, 1, 9)):
        chain = operators.parse("jpeg:40").operator(shape).between(-1.0, 1.0)
        prior = Mixture.gaussian(int(np.prod(shape)), seed=1) if shape[1] == 1 else None
        denoise = prior.denoise if prior else _shrink
        y = chain.A(torch.linspace(-0.8, 0.8, shape[-1]).expand(1, *shape).clone())
        found = pnp_dm(
            denoise, chain, y, 0.0, [1.0, 0.1, 0.0], final_projection=True, start=y,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        assert found.shape == (1, *shape)
        assert torch.isfinite(found).all()


def _shrink(x: Tensor, sigma: float, condition: object = None) -> Prediction:
    clean = 0.25 * x / (0.25 + sigma**2)
    return Prediction(clean, (x - clean) / sigma)


def test_pictures_of_a_batch_are_as_each_would_be_alone() -> None:
    operator = OPERATORS["blur"]()
    y = torch.cat([_problem(operator, 0.1), _problem(operator, 0.5)])

    def solved(which: slice) -> Tensor:
        return pnp_dm(
            PRIOR.denoise, operator, y[which], torch.tensor([0.1, 0.5])[which], [1.0, 0.1, 0.0],
            generator=[torch.Generator().manual_seed(seed) for seed in (1, 2)][which],
        )  # fmt: skip

    torch.testing.assert_close(
        solved(slice(0, 2)), torch.cat([solved(slice(0, 1)), solved(slice(1, 2))])
    )


@pytest.mark.parametrize("bad", [{"reverse_steps": 0}, {"sweeps": 0}, {"lowest": 0.0}])
def test_parameters_out_of_range(bad: dict) -> None:
    operator = OPERATORS["mask"]()
    with pytest.raises(ValueError, match="at least 1"):
        pnp_dm(PRIOR.denoise, operator, torch.zeros(1, *SHAPE), 0.1, [1.0, 0.0], **bad)
