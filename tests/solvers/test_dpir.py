"""DPIR against a dense re-statement, and its fixed point against the Gaussian posterior."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.analytic import Mixture
from support.patience import run_to_the_end
from torch import Tensor

import operators
from operators import Mask, dense_matrix, kernels
from restore.diffusion.denoiser import Condition, Prediction
from restore.solvers import dpir

SHAPE = (3, 6, 5)
LEVELS = [*np.geomspace(0.4, 0.05, 5).tolist(), 0.0]
HOLES = torch.rand(SHAPE[1:], generator=torch.Generator().manual_seed(5)) > 0.2
OPERATORS = {
    "down": lambda: operators.downsample(SHAPE, 2),
    "mask": lambda: Mask(SHAPE, HOLES),
    "blur": lambda: operators.gaussian_blur(SHAPE, 1.0, boundary="mirror"),
    "unknown border": lambda: operators.ValidConvolution((3, 5, 4), kernels.gaussian(0.7)),
    "mask after blur": lambda: Mask(SHAPE, HOLES) @ operators.gaussian_blur(SHAPE, 1.0),
    "grey": lambda: operators.gaussian_blur((1, 6, 5), 1.0),
    "1xN": lambda: operators.gaussian_blur((3, 1, 9), 1.0),
}


def _denoise(x: Tensor, sigma: Tensor | float, condition: Condition | None = None) -> Prediction:
    """Shrink towards 0.2, not linearly."""
    clean = 0.2 + torch.tanh(x - 0.2) / (1 + float(sigma) ** 2)
    return Prediction(clean, (x - clean) / float(sigma))


def _dense(
    matrix: np.ndarray, y: np.ndarray, noise: float, strength: float, start: np.ndarray
) -> np.ndarray:
    """Algorithm 1 of the paper by the normal equations, in float64."""
    z = start
    for sigma in LEVELS[:-1]:
        alpha = strength * noise**2 / sigma**2
        normal = matrix.T @ matrix + alpha * np.eye(len(z))
        x = np.linalg.solve(normal, matrix.T @ y + alpha * z)
        z = 0.2 + np.tanh(x - 0.2) / (1 + sigma**2)
    return z


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("strength", [0.23, 2.0])
def test_is_its_dense_restatement(name: str, strength: float, monkeypatch) -> None:
    """A batch of two noise levels, with conjugate gradients that do not stop early."""
    run_to_the_end(monkeypatch)
    operator = OPERATORS[name]()
    noise = (0.1, 0.3)
    y = torch.randn(2, *operator.output_shape, generator=torch.Generator().manual_seed(1))
    start = torch.full((1, *operator.input_shape), 0.3)
    found = dpir(_denoise, operator, y, torch.tensor(noise), LEVELS, strength=strength, start=start)
    matrix = dense_matrix(operator).double().numpy()
    for one, measured, level in zip(found, y, noise, strict=True):
        expected = _dense(
            matrix,
            measured.double().flatten().numpy(),
            level,
            strength,
            start.double().flatten().numpy(),
        )
        np.testing.assert_allclose(
            one.flatten().numpy(), expected, rtol=0, atol=1e-5 if operator.has_svd else 1e-4
        )


def test_its_fixed_point_is_the_posterior_mean_of_the_smoothed_prior() -> None:
    """For a Gaussian prior, at a level σ that stays, denoiser and fit agree where
    ``Aᵀ(y − A x)/σ_y² = λ (Σ + σ²)⁻¹ (x − μ)``: at the posterior mean for the prior N(μ, Σ + σ²)
    and measurement noise √λ σ_y.
    """
    world = Mixture.gaussian(4)
    operator = Mask((1, 1, 4), torch.tensor([[True, False, True, True]]))
    y = torch.tensor([0.4, 0.0, -0.6, 0.1]).reshape(1, 1, 1, 4)
    levels = [0.1 * 0.99999**step for step in range(500)] + [0.0]
    smooth = Mixture(world.weights, world.means, world.covariances + 0.01 * torch.eye(4))
    seen = torch.eye(4)[[0, 2, 3]]

    for strength in (1.0, 0.25):
        found = dpir(world.denoise, operator, y, 0.3, levels, strength=strength)
        x = found.flatten().double()
        # the last step is a denoiser's, the posterior's mean is where it came from
        inverse = torch.linalg.inv(world.covariances[0] + 0.01 * torch.eye(4))
        mean = smooth.posterior(seen, y.flatten()[[0, 2, 3]], 0.3 * strength**0.5).mean
        expected = mean - 0.01 * inverse @ (mean - world.mean)
        torch.testing.assert_close(x, expected, rtol=0, atol=1e-3)


def test_without_noise_the_end_explains_the_measurement() -> None:
    operator = operators.downsample(SHAPE, 2)
    y = torch.rand(1, *operator.output_shape, generator=torch.Generator().manual_seed(1))
    found = dpir(_denoise, operator, y, 0.0, LEVELS, final_projection=True)
    torch.testing.assert_close(operator.A(found), y, rtol=0, atol=1e-5)
    raw = dpir(_denoise, operator, y, 0.0, LEVELS)
    assert float((operator.A(raw) - y).abs().max()) > 0.01


def test_reports_each_call() -> None:
    steps = []
    operator = OPERATORS["mask"]()
    y = torch.zeros(1, *operator.output_shape)
    dpir(_denoise, operator, y, 0.1, LEVELS, callback=steps.append)
    assert [(step.index, step.steps) for step in steps] == [(i, 5) for i in range(5)]
    assert [step.sigma for step in steps] == LEVELS[:-1]


@pytest.mark.parametrize("text", ["jpeg:50", "blur:gaussian:1+quantise:4"])
def test_what_is_not_linear(text: str) -> None:
    chain = operators.parse(text).operator((3, 16, 16)).between(-1.0, 1.0)
    y = chain.A(torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    found = dpir(_denoise, chain, y, 0.05, LEVELS, start=y)
    assert torch.isfinite(found).all()
    assert float((chain.A(found) - y).abs().mean()) < 0.5


@pytest.mark.parametrize("strength", [0.0, -1.0, float("nan")])
def test_a_weight_must_be_positive(strength: float) -> None:
    operator = OPERATORS["mask"]()
    y = torch.zeros(1, *operator.output_shape)
    with pytest.raises(ValueError, match="strength must be above 0"):
        dpir(_denoise, operator, y, 0.1, LEVELS, strength=strength)
