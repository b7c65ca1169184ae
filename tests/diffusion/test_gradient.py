"""The vector–Jacobian product of a denoiser."""

from __future__ import annotations

import pytest
import torch
from support.analytic import Mixture
from support.networks import random_denoiser, tiny

from restore.diffusion.gradient import differentiated
from restore.diffusion.protocol import Prediction


def test_it_is_the_jacobian_of_a_gaussian() -> None:
    """For a Gaussian prior, ``∂x0/∂x = Σ (Σ + σ²)⁻¹``."""
    prior = Mixture.gaussian(5)
    x = torch.randn(2, 1, 1, 5, dtype=torch.float64)
    v = torch.randn_like(x)
    prediction, pull_back = differentiated(prior.denoise, x, 0.7)

    covariance = prior.covariances[0]
    jacobian = covariance @ torch.linalg.inv(covariance + 0.49 * torch.eye(5))
    torch.testing.assert_close(pull_back(v), v @ jacobian)
    torch.testing.assert_close(prediction.clean, prior.denoise(x, 0.7).clean)
    assert not prediction.clean.requires_grad
    assert not prediction.noise.requires_grad


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_works_without_gradients_around(mode, dtype) -> None:
    denoise = random_denoiser(tiny())
    denoise.network.set_compute_dtype(dtype)
    with mode():
        x = torch.linspace(-1, 1, 3 * 16 * 16).reshape(1, 3, 16, 16)
        prediction, pull_back = differentiated(denoise, x, 0.5)
        found = pull_back(x * 1)
    torch.testing.assert_close(prediction.clean, denoise(x.clone(), 0.5).clean)

    step = 0.05 * x
    ahead, behind = (denoise(x + sign * step, 0.5).clean for sign in (1, -1))
    along = ((ahead - behind) / 2 * x).sum()
    torch.testing.assert_close((found * step).sum(), along, rtol=0.1, atol=0)


def test_a_denoiser_without_a_derivative_is_refused() -> None:
    def denoise(x, sigma, condition=None) -> Prediction:
        return Prediction(x.detach(), x.detach())

    with pytest.raises(ValueError, match="not differentiable"):
        differentiated(denoise, torch.zeros(1, 1, 2, 2), 1.0)
