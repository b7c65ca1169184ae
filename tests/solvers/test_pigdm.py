"""ΠGDM and its conjugate integrator against dense re-statements of their equations."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from support.analytic import Mixture
from support.patience import run_to_the_end
from torch import Tensor

import operators
from operators import Mask, dense_matrix, kernels
from restore.diffusion.protocol import Prediction
from restore.solvers import conjugate_pigdm, pigdm, project

SHAPE = (1, 1, 6)
LEVELS = [3.0, 1.5, 0.8, 0.3, 0.05, 0.0]
PRIOR = Mixture.gaussian(6)
COVARIANCE, MEAN = PRIOR.covariances[0].numpy(), PRIOR.means[0].numpy()

WITH_SVD = {
    "mask": lambda: Mask(SHAPE, torch.tensor([[1, 0, 1, 1, 0, 1]]).bool()),
    "down": lambda: operators.downsample(SHAPE, (1, 2), kernel="area"),
    "blur": lambda: operators.separable_blur(
        SHAPE, np.array([1.0]), np.array([0.2, 0.6, 0.2]), boundary="symmetric"
    ),
}
WITHOUT_SVD = {
    "unknown border": lambda: operators.ValidConvolution((1, 1, 4), np.array([[0.2, 0.6, 0.2]])),
    "own": lambda: operators.FunctionOperator(
        lambda x: x[..., ::2] + x[..., 1::2].roll(1, -1), SHAPE
    ),
}
BUILDERS = WITH_SVD | WITHOUT_SVD


@pytest.fixture(autouse=True)
def to_the_end(monkeypatch) -> None:
    """Conjugate gradients that do not stop early: what is compared is the method."""
    run_to_the_end(monkeypatch)


def _measured(operator: operators.LinearOperator, noise: float) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    y = operator.A(PRIOR.sample(1, generator).float())
    return y + noise * torch.randn(y.shape, generator=generator)


def _move(A: np.ndarray, y: np.ndarray, clean: np.ndarray, noise: float, sigma: float):
    """r² Aᵀ (r² A Aᵀ + σ_y²)⁻¹ (y − A x0)."""
    r2 = sigma**2 / (1 + sigma**2)
    inner = r2 * A @ A.T + noise**2 * np.eye(len(A))
    return r2 * A.T @ np.linalg.pinv(inner, rcond=1e-7) @ (y - A @ clean)


def _jacobian(sigma: float) -> np.ndarray:
    return COVARIANCE @ np.linalg.inv(COVARIANCE + sigma**2 * np.eye(6))


def _in_their_coordinates(
    A: np.ndarray, y: np.ndarray, noise: float, eta: float, generator: torch.Generator
) -> np.ndarray:
    """Algorithm 1 of ΠGDM, for the state u = √ᾱ x of the variance-preserving chain."""
    abar = [1 / (1 + sigma**2) for sigma in LEVELS]
    u = math.sqrt(1 - abar[0]) * torch.randn(1, *SHAPE, generator=generator).numpy().ravel()

    for (sigma, _), (now, below) in zip(
        itertools.pairwise(LEVELS), itertools.pairwise(abar), strict=True
    ):
        clean = MEAN + _jacobian(sigma) @ (u / math.sqrt(now) - MEAN)
        eps = (u - math.sqrt(now) * clean) / math.sqrt(1 - now)
        c1 = eta * math.sqrt((1 - now / below) * (1 - below) / (1 - now))
        c2 = math.sqrt(1 - below - c1**2)
        z = np.zeros(6)
        if c1 > 0:
            z = torch.randn(1, *SHAPE, generator=generator).numpy().ravel()
        by_state = _jacobian(sigma).T / math.sqrt(now) @ _move(A, y, clean, noise, sigma)
        u = math.sqrt(below) * clean + c1 * z + c2 * eps + math.sqrt(below * now) * by_state

    return u


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize(("noise", "eta"), [(0.0, 1.0), (0.3, 0.5)])
def test_is_the_algorithm_of_the_authors(name: str, noise: float, eta: float) -> None:
    operator = BUILDERS[name]()
    y = _measured(operator, noise)
    found = pigdm(
        PRIOR.denoise, operator, y, noise, LEVELS,
        eta=eta, generator=torch.Generator().manual_seed(2),
    )  # fmt: skip
    A = dense_matrix(operator).double().numpy()
    expected = _in_their_coordinates(
        A, y.double().numpy().ravel(), noise, eta, torch.Generator().manual_seed(2)
    )
    np.testing.assert_allclose(found.numpy().ravel(), expected, atol=1e-4)


def _flow(operator, y: Tensor, noise: float, weight: float, begin: np.ndarray) -> np.ndarray:
    """The guided probability flow from σ = 3 to 0, by an adaptive method."""
    A, data = dense_matrix(operator).double().numpy(), y.double().numpy().ravel()

    def velocity(sigma: float, x: np.ndarray) -> np.ndarray:
        jacobian = _jacobian(sigma)
        clean = MEAN + jacobian @ (x - MEAN)
        guidance = jacobian.T @ _move(A, data, clean, noise, sigma)
        return (x - clean) / sigma - sigma * weight / (1 + sigma**2) * guidance

    return solve_ivp(velocity, (LEVELS[0], 1e-5), begin, rtol=1e-8, atol=1e-9).y[:, -1]


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize(("noise", "damping"), [(0.0, 0.0), (0.3, 0.5)])
def test_the_conjugate_integrator_converges_to_the_guided_flow(
    name: str, noise: float, damping: float
) -> None:
    """At first order, as its noise estimate is held over a step."""
    operator = BUILDERS[name]()
    y = _measured(operator, noise)
    begin = 3 * torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(2))
    exact = _flow(operator, y, noise, 4.0, begin.double().numpy().ravel())
    errors = []
    for steps in (16, 32):
        found = conjugate_pigdm(
            PRIOR.denoise, operator, y, noise, [*np.geomspace(3, 1e-3, steps), 0.0],
            weight=4.0, damping=damping, generator=torch.Generator().manual_seed(2),
        )  # fmt: skip
        errors.append(np.linalg.norm(found.numpy().ravel() - exact))
    assert errors[1] < 0.1 * np.linalg.norm(exact)
    assert 0.4 < errors[1] / errors[0] < 0.6


@pytest.mark.parametrize("name", BUILDERS)
def test_a_step_is_exact_where_the_noise_estimate_is_constant(name: str) -> None:
    """The integrator is exact for the linear part: without noise, one step is as good as many."""
    operator = BUILDERS[name]()
    y = _measured(operator, 0.0)
    fixed = torch.linspace(-1, 1, 6).reshape(1, *SHAPE)

    def denoise(x: Tensor, sigma: float, condition=None) -> Prediction:
        return Prediction(x - sigma * fixed, fixed.expand_as(x))

    one, many = (
        conjugate_pigdm(
            denoise, operator, y, 0.0, levels, generator=torch.Generator().manual_seed(2)
        )
        for levels in ([3.0, 0.0], [3.0, 2.0, 0.5, 0.1, 0.0])
    )
    torch.testing.assert_close(one, many, rtol=0, atol=1e-4)

    # (E_σ/E_0) of the distance of x0 to the measurement is left: (1 + σ²)^(−w/2)
    clean = 3 * torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(2)) - 3 * fixed
    left = 10**-2 * (y - operator.A(clean))
    torch.testing.assert_close(y - operator.A(one), left, rtol=0, atol=1e-4)


def test_noise_is_exact_with_an_svd_alone() -> None:
    """The mixed singular values of a blur are told apart with an SVD; to first order without."""
    blur = WITH_SVD["blur"]()
    plain = operators.FunctionOperator(blur.A, SHAPE)
    y = _measured(blur, 0.3)
    zero = torch.zeros(1, *SHAPE)

    def denoise(x: Tensor, sigma: float, condition=None) -> Prediction:
        return Prediction(x - sigma * zero, zero.expand_as(x))

    def run(operator: operators.LinearOperator, steps: int) -> Tensor:
        levels = [*np.linspace(3, 0, steps + 1)]
        return conjugate_pigdm(
            denoise, operator, y, 0.3, levels, generator=torch.Generator().manual_seed(2)
        )

    torch.testing.assert_close(run(blur, 1), run(blur, 16), rtol=0, atol=1e-4)
    gaps = [float((run(plain, steps) - run(blur, 1)).norm()) for steps in (1, 8, 16)]
    assert gaps[0] > 0.01
    assert 0.4 < gaps[2] / gaps[1] < 0.6


def _posterior_gap(solve, noise: float) -> tuple[float, float]:
    """Errors of mean and covariance, relative to the posterior's spread, over 4000 samples."""
    operator = WITH_SVD["mask"]()
    A = dense_matrix(operator)
    y = _measured(operator, noise)
    posterior = PRIOR.posterior(A, y, noise)
    count = 4000
    levels = [*np.geomspace(20, 0.01, 30), 0.0]
    drawn = solve(
        PRIOR.denoise, operator, y.expand(count, -1, -1, -1), noise, levels,
        generator=torch.Generator().manual_seed(0),
    ).flatten(1).double()  # fmt: skip
    mean = float((drawn.mean(0) - posterior.mean).norm() / posterior.covariance.trace().sqrt())
    centred = drawn - drawn.mean(0)
    covariance = centred.T @ centred / count
    return mean, float((covariance - posterior.covariance).norm() / posterior.covariance.norm())


@pytest.mark.parametrize(
    ("solve", "noise", "mean", "covariance"),
    [
        (pigdm, 0.0, 0.04, 0.25),
        (pigdm, 0.3, 0.20, 0.46),
        (conjugate_pigdm, 0.0, 0.91, 1.29),
        (conjugate_pigdm, 0.3, 0.43, 0.67),
    ],
)
def test_the_gap_to_the_posterior_is_known(solve, noise, mean, covariance) -> None:
    """Neither is exact: r² stands for the prior's own covariance, and w for the score's weight."""
    found = _posterior_gap(solve, noise)
    assert found[0] == pytest.approx(mean, abs=0.05)
    assert found[1] == pytest.approx(covariance, abs=0.1)


@pytest.mark.parametrize("solve", [pigdm, conjugate_pigdm])
@pytest.mark.parametrize("name", BUILDERS)
def test_without_noise_the_projection_explains_the_measurement(solve, name: str) -> None:
    operator = BUILDERS[name]()
    y = _measured(operator, 0.0)
    steps = []
    found = solve(
        PRIOR.denoise, operator, y, 0.0, LEVELS, final_projection=True, callback=steps.append,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    torch.testing.assert_close(operator.A(found), y, rtol=0, atol=1e-4)
    assert [(step.index, step.steps) for step in steps] == [(i, 5) for i in range(5)]


@pytest.mark.parametrize("solve", [pigdm, conjugate_pigdm])
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 1, 16)])
def test_pictures_of_a_batch_are_as_each_alone(solve, shape) -> None:
    """With noise levels and generators of their own."""
    operator = operators.separable_blur(shape, np.array([1.0]), np.array([0.3, 0.5, 0.2]))
    y = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    noise = torch.tensor([0.1, 0.4])

    def denoise(x: Tensor, sigma: float, condition=None) -> Prediction:
        scaled = x / (1 + sigma**2) ** 0.5
        clean = torch.tanh(scaled + 0.3 * scaled.roll(1, -1))
        return Prediction(clean, (x - clean) / sigma)

    generators = [torch.Generator().manual_seed(seed) for seed in (5, 6)]
    together = solve(denoise, operator, y, noise, LEVELS, generator=generators)
    assert together.dtype == torch.float32
    for b, seed in enumerate((5, 6)):
        alone = solve(
            denoise, operator, y[b : b + 1], float(noise[b]), LEVELS,
            generator=torch.Generator().manual_seed(seed),
        )  # fmt: skip
        torch.testing.assert_close(together[b : b + 1], alone, rtol=0, atol=1e-4)


def test_jpeg_is_guided_by_its_approximate_move() -> None:
    chain = operators.parse("jpeg:20").operator((3, 16, 16)).between(-1.0, 1.0)
    generator = torch.Generator().manual_seed(0)
    y = chain.A(torch.rand(1, 3, 16, 16, generator=generator) * 1.4 - 0.7)

    def denoise(x: Tensor, sigma: float, condition=None) -> Prediction:
        return Prediction(0.5 * x, 0.5 * x / sigma)

    start = torch.zeros(1, 3, 16, 16)
    found = pigdm(denoise, chain, y, 0.0, [1e-3, 0.0], start=start, generator=generator)
    torch.testing.assert_close(found, 0.5 * (project(chain, start, y) - start), rtol=0, atol=0.01)


@pytest.mark.parametrize(
    ("solve", "options"),
    [
        (pigdm, {"eta": 1.1}),
        (conjugate_pigdm, {"weight": -1.0}),
        (conjugate_pigdm, {"damping": math.inf}),
    ],
)
def test_out_of_range(solve, options: dict) -> None:
    with pytest.raises(ValueError, match="must"):
        solve(PRIOR.denoise, WITH_SVD["mask"](), torch.zeros(1, *SHAPE), 0.1, LEVELS, **options)


def test_a_wide_blur_is_guided_as_by_its_dense_matrix() -> None:
    """Two-dimensional, with a kernel from the vocabulary."""
    blur = operators.CircularConvolution((1, 5, 4), kernels.motion(3, 30))
    A = dense_matrix(blur).double().numpy()
    x = torch.randn(1, 1, 5, 4, generator=torch.Generator().manual_seed(0))
    y = torch.randn(1, 1, 5, 4, generator=torch.Generator().manual_seed(1))
    moved = project(blur, x, y, 0.2, prior_std=0.6) - x
    expected = (
        0.36
        * A.T
        @ np.linalg.solve(
            0.36 * A @ A.T + 0.04 * np.eye(20), (y.double().numpy().ravel() - A @ x.numpy().ravel())
        )
    )
    np.testing.assert_allclose(moved.numpy().ravel(), expected, atol=1e-5)
