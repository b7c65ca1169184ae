"""RED-diff against a dense re-statement, and its optimum against the closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.analytic import Mixture
from torch import Tensor

import operators
from operators import Mask, dense_matrix, kernels
from restore.diffusion.denoiser import Condition, Prediction
from restore.solvers import red_diff

SHAPE = (3, 6, 5)
LEVELS = [*np.geomspace(2.0, 0.05, 7).tolist(), 0.0]
HOLES = torch.rand(SHAPE[1:], generator=torch.Generator().manual_seed(5)) > 0.4
OPERATORS = {
    "down": lambda: operators.downsample(SHAPE, 2),
    "mask": lambda: Mask(SHAPE, HOLES),
    "unknown border": lambda: operators.ValidConvolution((3, 5, 4), kernels.gaussian(0.7)),
    "mask after blur": lambda: Mask(SHAPE, HOLES) @ operators.gaussian_blur(SHAPE, 1.0),
    "1xN": lambda: operators.gaussian_blur((1, 1, 9), 1.0),
}


def _denoise(x: Tensor, sigma: Tensor | float, condition: Condition | None = None) -> Prediction:
    clean = torch.tanh(x + 0.3 * x.roll(1, -1)) / (1 + float(sigma) ** 2)
    return Prediction(clean, (x - clean) / float(sigma))


def _draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _dense(
    operator: operators.LinearOperator, y: Tensor, strength: float, rate: float, first: Tensor
) -> np.ndarray:
    """Algorithm 1 of the paper, with ε̂ and ε as there, and Adam (Kingma, Ba 2015, algorithm 1)."""
    A = dense_matrix(operator).double().numpy()
    measured = y.double().flatten(1).numpy()
    mu = first.expand(len(y), *operator.input_shape).double().flatten(1).numpy()
    m = v = np.zeros_like(mu)
    source = _draw()
    for step, sigma in enumerate(LEVELS[:-1], start=1):
        noise = torch.randn(len(y), *operator.input_shape, generator=source)
        at = torch.from_numpy(mu).reshape(noise.shape) + sigma * noise
        excess = (_denoise(at, sigma).noise - noise).double().flatten(1).numpy()
        gradient = (mu @ A.T - measured) @ A / len(A) + strength * sigma * excess / A.shape[1]
        m = 0.9 * m + 0.1 * gradient
        v = 0.99 * v + 0.01 * gradient**2
        mu = mu - rate * (m / (1 - 0.9**step)) / np.sqrt(v / (1 - 0.99**step))
    return mu


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize(("strength", "rate"), [(0.25, 0.1), (3.0, 0.03)])
def test_is_its_dense_restatement(name: str, strength: float, rate: float) -> None:
    operator = OPERATORS[name]()
    y = torch.randn(2, *operator.output_shape, generator=_draw(1))
    start = torch.randn(1, *operator.input_shape, generator=_draw(2))
    options = {"strength": strength, "rate": rate, "start": start}
    found = red_diff(_denoise, operator, y, 0.0, LEVELS, generator=_draw(), **options)
    expected = _dense(operator, y, strength, rate, start)
    changed = np.abs(start.double().flatten(1).numpy() - expected)
    np.testing.assert_allclose(found.flatten(1).numpy(), expected, rtol=0, atol=2e-3)
    assert float(changed.max()) > 0.1


def test_its_optimum_is_that_of_the_loss() -> None:
    """For a Gaussian prior at a level σ that stays, E[x̂0] is linear in μ, and the optimum solves
    ``(N/M) Aᵀ(A μ − y) + λ σ² (Σ + σ²)⁻¹ (μ − m) = 0``. It is one mode: the spread over random
    numbers is far below that of the posterior.
    """
    world = Mixture.gaussian(4)
    operator = Mask((1, 1, 4), torch.tensor([[True, False, True, True]]))
    y = torch.tensor([0.4, 0.0, -0.6, 0.1])
    levels = [0.4 * 0.99999**step for step in range(250)] + [0.0]
    found = red_diff(
        world.denoise, operator, y.expand(100, 1, 1, 4), 0.0, levels, generator=_draw(), rate=0.02
    ).flatten(1)

    known = torch.diag(torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64))
    prior = 0.25 * 0.16 * torch.linalg.inv(world.covariances[0] + 0.16 * torch.eye(4))
    expected = torch.linalg.solve(known + prior, known @ y.double() + prior @ world.means[0])
    torch.testing.assert_close(found.mean(dim=0).double(), expected, rtol=0, atol=0.02)
    posterior = world.posterior(torch.eye(4)[[0, 2, 3]], y[[0, 2, 3]], 0.0)
    assert float(found[:, 1].std()) < 0.5 * float(posterior.covariance[1, 1].sqrt())


def test_it_starts_at_the_pseudo_inverse_and_ends_on_the_measurement() -> None:
    operator = operators.downsample(SHAPE, 2)
    y = torch.rand(1, *operator.output_shape, generator=_draw(1))
    near = red_diff(_denoise, operator, y, 0.0, LEVELS, generator=_draw(), rate=1e-6)
    torch.testing.assert_close(near, operator.pseudo_inverse(y), rtol=0, atol=1e-4)
    found = red_diff(_denoise, operator, y, 0.0, LEVELS, generator=_draw(), final_projection=True)
    torch.testing.assert_close(operator.A(found), y, rtol=0, atol=1e-5)


def test_pictures_of_a_batch_are_as_each_alone() -> None:
    operator = OPERATORS["down"]()
    y = torch.rand(2, *operator.output_shape, generator=_draw(1))
    together = red_diff(_denoise, operator, y, 0.0, LEVELS, generator=[_draw(3), _draw(4)])
    for index in range(2):
        one = slice(index, index + 1)
        alone = red_diff(_denoise, operator, y[one], 0.0, LEVELS, generator=[_draw(3 + index)])
        torch.testing.assert_close(together[one], alone, rtol=0, atol=1e-4)


@pytest.mark.parametrize("text", ["jpeg:50", "blur:gaussian:1+quantise:4"])
def test_what_is_not_linear(text: str) -> None:
    """It comes to explain the measurement better than it did at first."""
    chain = operators.parse(text).operator((3, 16, 16)).between(-1.0, 1.0)
    y = chain.A(0.6 * torch.randn(1, 3, 16, 16, generator=_draw()).clamp(-1, 1))
    start = torch.zeros_like(y)

    with torch.inference_mode():
        found = red_diff(_denoise, chain, y, 0.0, LEVELS, generator=_draw(1), start=start)

    assert float((chain.A(found) - y).norm()) < 0.7 * float((chain.A(start) - y).norm())


@pytest.mark.parametrize("options", [{"strength": -0.1}, {"rate": 0.0}, {"rate": float("nan")}])
def test_numbers_out_of_range_are_refused(options: dict[str, float]) -> None:
    operator = OPERATORS["mask"]()
    with pytest.raises(ValueError, match="strength must be at least 0 and rate above 0"):
        red_diff(_denoise, operator, torch.zeros(1, *SHAPE), 0.0, LEVELS, **options)
