"""Draws from a Gaussian times a likelihood, against their mean and covariance in closed form."""

from __future__ import annotations

import pytest
import torch
from support.monte_carlo import assert_moments
from support.patience import run_to_the_end
from torch import Tensor

import operators
from operators import LinearOperator, Mask, NonlinearChain, dense_matrix
from operators.nonlinear import NonlinearOperator
from restore.solvers.likelihood_draw import draw_near

SHAPE = (1, 4, 4)
COUNT = 8000
KEPT = torch.rand(SHAPE[1:], generator=torch.Generator().manual_seed(5)) > 0.4
LINEAR = {
    "mask": lambda: Mask(SHAPE, KEPT),
    "down": lambda: operators.downsample(SHAPE, 2),
    "blur": lambda: operators.gaussian_blur(SHAPE, 0.8),
    "no SVD": lambda: Mask(SHAPE, KEPT) @ operators.gaussian_blur(SHAPE, 0.8),
}


class Nothing(NonlinearOperator):
    """A "nonlinear" part that does nothing, so that the truth is known."""

    def A(self, x: Tensor) -> Tensor:
        return x


def _problem(operator: LinearOperator | NonlinearChain) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    estimate = torch.randn(1, *SHAPE, generator=generator)
    y = torch.randn(1, *operator.output_shape, generator=generator)
    return estimate, y


def _truth(
    operator: LinearOperator, estimate: Tensor, y: Tensor, noise: float, spread: float
) -> tuple[Tensor, Tensor]:
    """Mean and covariance of N(x; estimate, r²) N(y; A x, σ_y²), by the normal equations."""
    A = dense_matrix(operator).double()
    covariance = torch.linalg.inv(A.T @ A / noise**2 + torch.eye(A.shape[1]) / spread**2)
    pull = A.T @ y.double().flatten() / noise**2 + estimate.double().flatten() / spread**2
    return covariance @ pull, covariance


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("noise", [0.05, 0.5])
def test_linear_draws_are_exact(name: str, noise: float, monkeypatch) -> None:
    """Without an SVD to the tolerance of conjugate gradients, which is small here."""
    run_to_the_end(monkeypatch)
    operator = LINEAR[name]()
    estimate, y = _problem(operator)
    drawn = draw_near(
        operator, estimate.expand(COUNT, -1, -1, -1), y.expand(COUNT, -1, -1, -1), noise,
        spread=0.4, generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
    assert_moments(drawn, *_truth(operator, estimate, y, noise, 0.4))


@pytest.mark.parametrize("name", ["mask", "down"])
def test_without_noise_draws_explain_the_measurement(name: str) -> None:
    """And what is not measured keeps the whole spread."""
    operator = LINEAR[name]()
    estimate, _ = _problem(operator)
    y = operator.A(torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(2)))
    drawn = draw_near(
        operator, estimate.expand(COUNT, -1, -1, -1), y.expand(COUNT, -1, -1, -1), 0.0,
        spread=0.4, generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
    torch.testing.assert_close(operator.A(drawn), y.expand(COUNT, -1, -1, -1), atol=1e-5, rtol=0)
    free = torch.eye(16) - torch.linalg.pinv(dense_matrix(operator)) @ dense_matrix(operator)
    found = drawn.double().flatten(1).T.cov()
    assert float((found - 0.16 * free).norm() / (0.16 * free).norm()) < 0.12


@pytest.mark.parametrize("linear", [False, True])
def test_langevin_steps_keep_the_distribution_of_a_linear_chain(linear: bool) -> None:
    """With a nonlinear part that does nothing they tend to the exact draw, at any step size."""
    blur = operators.gaussian_blur(SHAPE, 0.8)
    chain = NonlinearChain([blur, Nothing()] if linear else [Nothing()], SHAPE, low=-1.0)
    estimate, y = _problem(chain)
    drawn = draw_near(
        chain, estimate.expand(COUNT, -1, -1, -1), y.expand(COUNT, -1, -1, -1), 0.3,
        spread=0.4, generator=torch.Generator().manual_seed(1), step_size=0.5,
    )  # fmt: skip
    A = blur if linear else operators.identity(SHAPE)
    assert_moments(drawn, *_truth(A, estimate, y, 0.3, 0.4))


@pytest.mark.parametrize("text", ["quantise:3", "jpeg:30", "mask:random:0.6+jpeg:50"])
def test_langevin_steps_move_towards_what_explains_the_measurement(text: str) -> None:
    """The mean of some draws, from an estimate that is too bright."""
    chain = operators.parse(text).operator((3, 16, 16)).between(-1.0, 1.0)
    ramp = torch.linspace(-0.8, 0.8, 16)
    truth = (ramp[:, None] * torch.cos(3 * ramp)).expand(10, 3, 16, 16)
    y = chain.A(truth)
    generator = torch.Generator().manual_seed(0)
    drawn = draw_near(chain, truth + 0.2, y, 0.0, spread=0.2, generator=generator)
    known = chain.A(torch.ones_like(truth)) > 0.9
    error = (chain.measure(drawn.mean(0)[None]) - chain.measure(truth[:1]))[known[:1]]
    assert float(error.mean().abs()) < 0.1
    near = draw_near(chain, truth + 0.2, y, 0.0, spread=1e-4, generator=generator)
    torch.testing.assert_close(near, truth + 0.2, atol=2e-3, rtol=0)


def test_pictures_of_a_batch_draw_as_each_would_alone() -> None:
    operator = LINEAR["blur"]()
    generator = torch.Generator().manual_seed(0)
    estimate = torch.randn(2, *SHAPE, generator=generator)
    y = torch.randn(2, *SHAPE, generator=generator)
    levels = torch.tensor([0.1, 0.4])

    def drawn(which: slice) -> Tensor:
        generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)][which]
        return draw_near(
            operator, estimate[which], y[which], levels[which], spread=0.2, generator=generators
        )

    together = drawn(slice(0, 2))
    for one in range(2):
        torch.testing.assert_close(together[one : one + 1], drawn(slice(one, one + 1)))
