"""The closed-form posterior of a mixture, the truth that solvers are compared with."""

from __future__ import annotations

import pytest
import torch
from support.analytic import Mixture


def _by_importance(prior: Mixture, matrix: torch.Tensor, y: torch.Tensor, noise: float):
    """Return mean and covariance of the posterior from weighted samples of the prior."""
    x = prior.sample(400_000, torch.Generator().manual_seed(1)).flatten(1)
    weights = torch.softmax(-(y - x @ matrix.T).square().sum(1) / (2 * noise**2), dim=0)
    mean = weights @ x
    centred = x - mean
    return mean, (weights[:, None] * centred).T @ centred


@pytest.mark.parametrize("components", [1, 3])
def test_posterior_is_that_of_weighted_samples(components: int) -> None:
    prior = Mixture.random(3, components, seed=2)
    matrix = torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.2, 1.0]]).double()
    y = matrix @ prior.mean + 0.1
    mean, covariance = _by_importance(prior, matrix, y, 0.3)
    found = prior.posterior(matrix, y, 0.3)
    torch.testing.assert_close(found.mean, mean, atol=0.01, rtol=0)
    torch.testing.assert_close(found.covariance, covariance, atol=0.01, rtol=0)


def test_without_noise_it_explains_the_measurement() -> None:
    """Also with a row that says the same twice, which leaves no inverse."""
    prior = Mixture.random(4, 2)
    matrix = torch.tensor([[1.0, 1, 0, 0], [2, 2, 0, 0]]).double()
    y = torch.tensor([0.5, 1.0]).double()
    found = prior.posterior(matrix, y, 0.0)
    torch.testing.assert_close(found.means @ matrix.T, y.expand(2, 2))
    near = prior.posterior(matrix, y, 1e-4)
    torch.testing.assert_close(found.mean, near.mean, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.weights, near.weights, atol=1e-4, rtol=0)
