"""Projections with a noise level at every pixel, against dense weighted least squares."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import operators
from operators import LinearOperator
from restore.metrics.signal_noise import SignalNoise
from restore.solvers import consistency, project
from restore.solvers.anscombe import Stabilised

SIZE = (3, 10, 12)


def operator(text: str, size: tuple[int, int, int] = SIZE) -> LinearOperator:
    if text == "identity":
        return operators.identity(size)
    return (
        operators.parse(text).operator_for(size)
        if "unknown" in text
        else operators.parse(text).operator(size)
    )


def dense(a: LinearOperator, dtype: torch.dtype = torch.float64) -> Tensor:
    """A as a matrix [measured, pixels]."""
    pixels = torch.Size(a.input_shape).numel()
    return a.A(torch.eye(pixels).reshape(pixels, *a.input_shape)).flatten(1).T.to(dtype)


def expected(a: LinearOperator, x0: Tensor, y: Tensor, noise: Tensor, tau: float) -> Tensor:
    """The minimum of Σ (y − A x)²/σ² + ‖x − x0‖²/τ², for one picture, by a dense solver."""
    matrix = dense(a)
    weights = (1 / noise.double() ** 2).expand(1, *a.output_shape).flatten()
    normal = matrix.T @ (weights[:, None] * matrix) + torch.eye(matrix.shape[1]) / tau**2
    right = matrix.T @ (weights * y.double().flatten()) + x0.double().flatten() / tau**2
    return torch.linalg.solve(normal, right).reshape(1, *a.input_shape)


OPERATORS = (
    "identity",
    "mask:random:0.5",
    "bayer",
    "mask:random:0.5+gray",
    "gray",
    "hadamard:0.5",
    "blur:gaussian:1:boundary=circular",
    "blur:motion:5:30:boundary=unknown",
    "blur:disk:2:boundary=replicate",
    "blur:gaussian:1:boundary=symmetric",
    "down:area:2",
    "blur:box:3+mask:random:0.5",
)


@pytest.mark.parametrize("text", OPERATORS)
def test_projection_is_dense_weighted_least_squares(text):
    generator = torch.Generator().manual_seed(3)
    size = (1, 8, 8) if text.startswith("hadamard") else SIZE
    a = operator(text, size)
    x0 = torch.rand(1, *a.input_shape, generator=generator)
    y = a.A(torch.rand(1, *a.input_shape, generator=generator))
    noise = 0.02 + 0.1 * torch.rand(1, *a.output_shape, generator=generator)

    for tau in (0.4, 0.05):
        found = project(a, x0, y, noise, prior_std=tau)
        assert (found - expected(a, x0, y, noise, tau)).abs().max() < 1e-5


def test_plain_levels_and_constant_maps_agree():
    a = operator("blur:gaussian:1:boundary=circular")
    generator = torch.Generator().manual_seed(4)
    x0, y = (torch.rand(2, *SIZE, generator=generator) for _ in range(2))
    level = torch.tensor([0.05, 0.2])
    noise = level.reshape(-1, 1, 1, 1).expand(2, 1, 10, 12)
    plain = project(a, x0, y, level, prior_std=0.3)
    assert (project(a, x0, y, noise, prior_std=0.3) - plain).abs().max() < 1e-5


def test_large_pictures_are_projected_channel_by_channel(monkeypatch):
    a = operator("blur:motion:5:30:boundary=unknown")
    generator = torch.Generator().manual_seed(5)
    x0 = torch.rand(1, *a.input_shape, generator=generator)
    y = torch.rand(1, *a.output_shape, generator=generator)
    noise = 0.05 + 0.1 * torch.rand(1, *a.output_shape, generator=generator)
    whole = project(a, x0, y, noise, prior_std=0.3)
    monkeypatch.setattr(consistency, "LARGE", 1)
    assert (project(a, x0, y, noise, prior_std=0.3) - whole).abs().max() < 1e-4


@pytest.mark.parametrize("shape", [(1, 2, 10, 12), (1, 3, 12, 10), (3, 1, 10, 12)])
def test_a_map_of_another_shape_is_refused(shape):
    a = operator("identity")
    x = torch.zeros(2, *SIZE)
    with pytest.raises(ValueError, match="does not fit a measurement"):
        project(a, x, x, torch.ones(shape))


@pytest.mark.parametrize(("a", "b"), [(0.01, 0.0004), (0.02, 0.0), (0.001, 0.01)])
def test_the_stabilised_noise_has_one_level_and_the_inverse_its_mean(a, b):
    generator = torch.Generator().manual_seed(6)
    truth = torch.tensor([0.05, 0.3, 0.9]).reshape(1, 1, 3, 1).expand(1, 1, 3, 40_000)
    y = a * torch.poisson(truth / a, generator=generator)
    y = y + b**0.5 * torch.randn(y.shape, generator=generator)
    stable = Stabilised([SignalNoise(a, b)], y.device)

    seen = stable.transform(y)

    assert (seen.std(dim=-1) / stable.level - 1).abs().max() < 0.05
    means = seen.mean(dim=-1, keepdim=True)
    assert (stable.inverse(means) - truth[..., :1]).abs().max() < 0.002


def test_noise_that_hardly_varies_is_left_as_it_is():
    y = torch.rand(2, 3, 4, 5)
    pairs = [SignalNoise(0, 0.01), SignalNoise(1e-9, 0.01)]
    stable = Stabilised(pairs, y.device)
    assert torch.equal(stable.transform(y), y)
    assert torch.equal(stable.inverse(y), y)
    assert stable.level.tolist() == pytest.approx([0.1, 0.1])
