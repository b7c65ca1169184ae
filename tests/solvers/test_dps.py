"""DPS against the authors' algorithm in their coordinates, and on operators of all kinds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from support.analytic import Mixture
from torch import Tensor

import operators
from operators import BatchOperator, Mask, dense_matrix, kernels
from restore.diffusion.protocol import Prediction
from restore.solvers import dps
from restore.solvers.dps import misfit_gradient

SHAPE = (1, 1, 6)
LEVELS = [3.0, 1.5, 0.8, 0.3, 0.05, 0.0]
PRIOR = Mixture.gaussian(6)

OPERATORS = {
    "mask": lambda: Mask(SHAPE, torch.tensor([[1, 0, 1, 1, 0, 1]]).bool()),
    "down": lambda: operators.downsample(SHAPE, (1, 2), kernel="area"),
    "unknown border": lambda: operators.ValidConvolution((1, 1, 4), np.array([[0.2, 0.5, 0.3]])),
    "own": lambda: operators.FunctionOperator(
        lambda x: x[..., ::2] + x[..., 1::2].roll(1, -1), SHAPE
    ),
}


def _in_their_coordinates(
    A: np.ndarray, y: np.ndarray, zeta: float, generator: torch.Generator
) -> np.ndarray:
    """Algorithm 1 with DDPM's coefficients, for the exact denoiser of the Gaussian prior."""
    covariance, mean = PRIOR.covariances[0].numpy(), PRIOR.means[0].numpy()
    z = torch.randn(1, *SHAPE, generator=generator).numpy().ravel()
    abar = [1 / (1 + sigma**2) for sigma in LEVELS]
    u = np.sqrt(1 - abar[0]) * z

    for (sigma, _), (now, below) in zip(
        itertools.pairwise(LEVELS), itertools.pairwise(abar), strict=True
    ):
        alpha = now / below
        jacobian = covariance @ np.linalg.inv(covariance + sigma**2 * np.eye(6))
        clean = mean + jacobian @ (u / np.sqrt(now) - mean)
        residual = A @ clean - y
        gradient = jacobian.T / np.sqrt(now) @ A.T @ residual / np.linalg.norm(residual)
        z = np.zeros(6)
        if below < 1:
            z = torch.randn(1, *SHAPE, generator=generator).numpy().ravel()
        spread = np.sqrt((1 - below) / (1 - now) * (1 - alpha))
        u = (
            np.sqrt(alpha) * (1 - below) / (1 - now) * u
            + np.sqrt(below) * (1 - alpha) / (1 - now) * clean
            + spread * z
            - zeta * gradient
        )

    return u


@pytest.mark.parametrize("name", OPERATORS)
def test_is_the_algorithm_of_the_authors(name: str) -> None:
    """Their ζ is the step size times √6, the root of the count of numbers."""
    operator = OPERATORS[name]()
    y = torch.randn(1, *operator.output_shape, generator=torch.Generator().manual_seed(1))
    found = dps(
        PRIOR.denoise, operator, y, 0.1, LEVELS,
        step_size=0.05, generator=torch.Generator().manual_seed(2),
    )  # fmt: skip
    expected = _in_their_coordinates(
        dense_matrix(operator).double().numpy(),
        y.double().numpy().ravel(),
        0.05 * 6**0.5,
        torch.Generator().manual_seed(2),
    )
    np.testing.assert_allclose(found.numpy().ravel(), expected, atol=2e-5)


def test_a_step_moves_by_its_size() -> None:
    """All of A = 1 and of a network that copies is a step of just this root mean square."""

    def denoise(x: Tensor, sigma, condition=None) -> Prediction:
        return Prediction(x, torch.zeros_like(x))

    identity = Mask((3, 8, 9), torch.ones(8, 9).bool())
    y = torch.rand(2, 3, 8, 9)
    start = torch.zeros(1, 3, 8, 9)
    one, none = (
        dps(
            denoise, identity, y, 0.0, [1e-3, 0.0], step_size=size, start=start,
            generator=torch.Generator().manual_seed(0),
        )
        for size in (0.1, 0.0)
    )  # fmt: skip
    moved = (one - none).square().mean(dim=(1, 2, 3)).sqrt()
    torch.testing.assert_close(moved, torch.full((2,), 0.1), rtol=1e-4, atol=0)


def test_the_gradient_is_zero_where_nothing_is_left() -> None:
    operator = OPERATORS["mask"]()
    x = torch.rand(2, *SHAPE)
    gradient = misfit_gradient(
        operator, x, operator.A(x) + torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1)
    )
    assert float(gradient[0].abs().max()) == 0
    assert float(gradient[1].abs().max()) > 0


@pytest.mark.parametrize("text", ["quantise:3", "jpeg:30", "blur:gaussian:1+jpeg:60"])
def test_what_is_not_linear(text: str) -> None:
    """Straight-through gradients lead to pictures that explain a rounded measurement better."""
    chain = operators.parse(text).operator((3, 16, 16)).between(-1.0, 1.0)
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(1, 3, 4, 4, generator=generator) * 1.2 - 0.6
    y = chain.A(torch.nn.functional.interpolate(low, scale_factor=4, mode="bicubic"))
    misfits = [
        float(
            (
                chain.A(
                    dps(
                        _smooth_prior, chain, y, 0.0, [*np.geomspace(1, 0.02, 20), 0.0],
                        step_size=size, eta=0.0, generator=torch.Generator().manual_seed(3),
                    )
                )
                - y
            ).norm()
        )
        for size in (0.0, 0.03)
    ]  # fmt: skip
    assert misfits[1] < 0.4 * misfits[0]


def _smooth_prior(x: Tensor, sigma: float, condition=None) -> Prediction:
    """Denoiser of white pictures of variance 0.3."""
    clean = x * (0.3 / (0.3 + sigma**2))
    return Prediction(clean, (x - clean) / sigma)


def test_pictures_of_a_batch_are_as_each_alone() -> None:
    operator = operators.batch_of(
        [operators.convolution((3, 8, 8), kernels.motion(3, angle), "zero") for angle in (0, 60)]
    )
    assert isinstance(operator, BatchOperator)
    y = torch.randn(2, *operator.output_shape, generator=torch.Generator().manual_seed(1))
    generators = [torch.Generator().manual_seed(seed) for seed in (5, 6)]
    together = dps(_smooth_prior, operator, y, 0.1, LEVELS, generator=generators, step_size=0.1)
    for b, seed in enumerate((5, 6)):
        alone = dps(
            _smooth_prior, operator.operators[b], y[b : b + 1], 0.1, LEVELS,
            generator=torch.Generator().manual_seed(seed), step_size=0.1,
        )  # fmt: skip
        torch.testing.assert_close(together[b : b + 1], alone, rtol=0, atol=1e-5)


def test_without_noise_the_projection_explains_the_measurement() -> None:
    operator = OPERATORS["down"]()
    y = torch.rand(1, *operator.output_shape)
    steps = []
    found = dps(
        PRIOR.denoise, operator, y, 0.0, LEVELS, final_projection=True, callback=steps.append,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    torch.testing.assert_close(operator.A(found), y, rtol=0, atol=1e-5)
    assert [(step.index, step.steps) for step in steps] == [(i, 5) for i in range(5)]


@pytest.mark.parametrize("options", [{"eta": 1.1}, {"step_size": -0.1}, {"step_size": np.inf}])
def test_out_of_range(options: dict) -> None:
    operator = OPERATORS["mask"]()
    with pytest.raises(ValueError, match="eta must be in"):
        dps(PRIOR.denoise, operator, torch.zeros(1, *SHAPE), 0.1, LEVELS, **options)
