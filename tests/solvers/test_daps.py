"""DAPS against a dense re-statement, and against posteriors known in closed form."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from support.analytic import Mixture
from support.monte_carlo import assert_moments
from support.patience import run_to_the_end
from torch import Tensor

import operators
from operators import Mask, dense_matrix
from restore.diffusion.denoiser import Condition, Prediction
from restore.solvers import daps, diffpir

SHAPE = (3, 6, 5)
LEVELS = [2.0, 1.0, 0.3, 0.05, 0.0]
KEPT = torch.rand(SHAPE[1:], generator=torch.Generator().manual_seed(5)) > 0.3
OPERATORS = {
    "blur": lambda: operators.gaussian_blur(SHAPE, 0.8, boundary="mirror"),
    "mask": lambda: Mask(SHAPE, KEPT),
    "gray": lambda: operators.gray(SHAPE),
    "no SVD": lambda: Mask(SHAPE, KEPT) @ operators.gaussian_blur(SHAPE, 0.8),
}


def _denoiser(x: Tensor, sigma: float, condition: Condition | None = None) -> Prediction:
    clean = torch.tanh((x + 0.3 * x.roll(1, -1)) / (1 + sigma**2) ** 0.5)
    return Prediction(clean, (x - clean) / sigma)


def _dense_daps(A, y, sigma_y, levels, calls, tau, generator) -> np.ndarray:
    """Algorithm 1 in float64, with the Gaussian of step 3 by its normal equations."""
    shape = (len(y), *SHAPE)

    def white(like=shape) -> np.ndarray:
        return torch.randn(like, generator=generator).double().flatten(1).numpy()

    x = levels[0] * white()
    for sigma, below in itertools.pairwise(levels):
        grid = [sigma]
        if sigma > levels[-2] and calls > 1:
            grid = np.linspace(sigma ** (1 / 7), levels[-2] ** (1 / 7), calls) ** 7
        for now, then in itertools.pairwise([*grid, 0.0]):
            picture = torch.from_numpy(x).float().reshape(shape)
            noise = _denoiser(picture, float(now)).noise.double().flatten(1).numpy()
            x = x + (then - now) * noise
        r = sigma * tau / np.sqrt(sigma**2 + tau**2)
        last = below == 0
        moved = x if last else x + r * white()
        measured = y if last else y + sigma_y * white((len(y), A.shape[0]))
        normal = A.T @ A / sigma_y**2 + np.eye(A.shape[1]) / r**2
        x = np.linalg.solve(normal, A.T @ measured.T / sigma_y**2 + moved.T / r**2).T
        x = x if last else x + below * white()
    return x


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize(("calls", "tau"), [(1, 0.5), (3, 100.0)])
def test_is_its_dense_restatement(name: str, calls: int, tau: float, monkeypatch) -> None:
    run_to_the_end(monkeypatch)
    operator = OPERATORS[name]()
    y = torch.randn(2, *operator.output_shape, generator=torch.Generator().manual_seed(1))
    found = daps(
        _denoiser, operator, y, 0.2, LEVELS, ode_calls=calls, prior_std=tau,
        generator=torch.Generator().manual_seed(2),
    )  # fmt: skip
    A = dense_matrix(operator).double().numpy()
    flat = y.double().flatten(1).numpy()
    expected = _dense_daps(A, flat, 0.2, LEVELS, calls, tau, torch.Generator().manual_seed(2))
    np.testing.assert_allclose(found.flatten(1).numpy(), expected, atol=2e-3)


COUNT = 2000
GRID = [*np.geomspace(20, 0.003, 30).tolist(), 0.0]


def _white_prior(std: float) -> Mixture:
    """White noise around a mean, for which p(x0 | x) is isotropic: 4x4 pixels."""
    mean = torch.linspace(-0.5, 0.5, 16)
    return Mixture(torch.ones(1), mean[None], std**2 * torch.eye(16)[None])


@pytest.mark.parametrize("name", ["blur", "down", "mask", "identity"])
@pytest.mark.parametrize("sigma_y", [0.05, 0.3])
def test_is_exact_for_white_priors(name: str, sigma_y: float) -> None:
    """With one call a level, and τ that of the prior, only Monte-Carlo error is left."""
    samples, posterior = _sampled(name, sigma_y, 0.4, prior_std=0.4)
    assert_moments(samples, posterior.mean, posterior.covariance)


def test_the_spread_of_the_paper_is_too_wide_for_them() -> None:
    """r = σ makes what is not measured vary more than it does; as does the end of the ODE."""
    for options in ({"prior_std": 1e4}, {"prior_std": 0.4, "ode_calls": 4}):
        samples, posterior = _sampled("mask", 0.05, 0.4, **options)
        ratio = samples.flatten(1).var(dim=0).sum() / posterior.covariance.diagonal().sum()
        assert 1.2 < float(ratio) < 2.2


def _sampled(name: str, sigma_y: float, std: float, **options) -> tuple[Tensor, Mixture]:
    shape = (1, 4, 4)
    operator = {
        "blur": lambda: operators.gaussian_blur(shape, 0.7),
        "down": lambda: operators.downsample(shape, 4),
        "mask": lambda: Mask(shape, torch.arange(16).reshape(4, 4) % 2 == 0),
        "identity": lambda: operators.identity(shape),
    }[name]()
    prior = _white_prior(std)
    generator = torch.Generator().manual_seed(3)
    y = operator.A(prior.sample(1, generator).reshape(1, *shape).float())
    y = y + sigma_y * torch.randn(y.shape, generator=generator)
    samples = daps(
        prior.denoise, operator, y.expand(COUNT, -1, -1, -1), sigma_y, GRID,
        generator=generator, **options,
    )  # fmt: skip
    return samples, prior.posterior(dense_matrix(operator), y, sigma_y)


def test_without_noise_it_explains_the_measurement() -> None:
    for name in ("mask", "gray"):
        operator = OPERATORS[name]()
        y = operator.A(torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(1)))
        found = daps(
            _denoiser, operator, y, 0.0, LEVELS, generator=torch.Generator().manual_seed(2)
        )
        torch.testing.assert_close(operator.A(found), y, atol=1e-5, rtol=0)


def test_jpeg_comes_nearer_to_the_measurement() -> None:
    """Also with several ODE calls; 1x9 pixels and odd sizes too."""
    for shape in ((3, 16, 24), (3, 1, 9)):
        chain = operators.parse("jpeg:40").operator(shape).between(-1.0, 1.0)
        y = chain.A(torch.linspace(-0.8, 0.8, shape[-1]).expand(1, *shape).clone())
        found = daps(
            _denoiser, chain, y, 0.0, LEVELS, ode_calls=2,
            generator=torch.Generator().manual_seed(0), start=y,
        )  # fmt: skip
        assert found.shape == (1, *shape)
        assert torch.isfinite(found).all()


@pytest.mark.parametrize("name", OPERATORS)
def test_in_no_time_its_mean_is_that_of_diffpir(name: str) -> None:
    """Both fit x̂0 with the weight of σ and renew all noise."""
    operator = OPERATORS[name]()
    y = torch.randn(1, *operator.output_shape, generator=torch.Generator().manual_seed(1))
    y = operator.A(operator.pseudo_inverse(y))
    states: dict[str, list[Tensor]] = {"daps": [], "diffpir": []}
    for solver, options in ((daps, {"langevin_time": 0.0}), (diffpir, {})):

        def denoise(x: Tensor, sigma: float, condition: Condition | None = None) -> Prediction:
            states[solver.__name__].append(x)  # noqa: B023
            return Prediction(torch.full_like(x, 0.3), (x - 0.3) / sigma)

        solver(denoise, operator, y.expand(2000, -1, -1, -1), 0.05, [1.0, 0.2, 0.0],
               generator=torch.Generator().manual_seed(0), **options)  # fmt: skip
    means = [states[name][-1].mean(dim=0) for name in ("daps", "diffpir")]
    torch.testing.assert_close(*means, atol=0.06, rtol=0)


def test_reports_every_call() -> None:
    operator = OPERATORS["gray"]()
    y = torch.zeros(1, *operator.output_shape)
    steps = []
    daps(
        _denoiser, operator, y, 0.1, LEVELS, ode_calls=3, callback=steps.append,
        start=torch.ones(1, *SHAPE), generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert [(step.index, step.steps) for step in steps] == [(i, 10) for i in range(10)]
    assert float(steps[0].clean.mean()) > 0.2


@pytest.mark.parametrize(
    "bad",
    [
        {"ode_calls": 0},
        {"prior_std": 0.0},
        {"langevin_time": -1.0},
        {"step_size": 1.5},
        {"langevin_steps": 0},
    ],
)
def test_parameters_out_of_range(bad: dict) -> None:
    operator = OPERATORS["gray"]()
    with pytest.raises(ValueError, match="not"):
        daps(_denoiser, operator, torch.zeros(1, *operator.output_shape), 0.1, LEVELS, **bad)
