"""SNIPS against its equations written out component by component, and against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.analytic import Mixture
from torch import Tensor

import operators
from operators import Mask, dense_matrix
from restore.diffusion.denoiser import Condition, Prediction
from restore.errors import BadArgument
from restore.solvers import snips

SHAPE = (3, 6, 5)
LEVELS = [2.0, 0.8, 0.3, 0.05, 0.0]
KEPT = torch.rand(SHAPE[1:], generator=torch.Generator().manual_seed(5)) > 0.3
OPERATORS = {
    "blur": lambda: operators.gaussian_blur(SHAPE, 0.8, boundary="mirror"),
    "blur and down": lambda: operators.downsample(SHAPE, 2) @ operators.gaussian_blur(SHAPE, 0.8),
    "mask": lambda: Mask(SHAPE, KEPT),
    "gray": lambda: operators.gray(SHAPE),
}


def _denoiser(x: Tensor, sigma: float, condition: Condition | None = None) -> Prediction:
    clean = torch.tanh((x + 0.3 * x.roll(1, -1)) / (1 + sigma**2) ** 0.5)
    return Prediction(clean, (x - clean) / sigma)


def _dense_snips(A, y, sigma_y, levels, steps, c, generator) -> np.ndarray:
    """Algorithm 1 and its posterior score, one picture and one singular component at a time."""
    shape = (len(y), *SHAPE)
    size = A.shape[1]
    U, s, Vt = np.linalg.svd(A, full_matrices=True)
    s = np.concatenate([s, np.zeros(size - len(s))])
    s[s < operators.RANK_TOLERANCE * s[0]] = 0
    count = min(A.shape)
    Uty = np.zeros((len(y), size))
    Uty[:, :count] = (y @ U)[:, :count]

    def white() -> np.ndarray:
        return torch.randn(shape, generator=generator).double().flatten(1).numpy() @ Vt.T

    x = levels[0] * white()
    for b in range(len(y)):
        for i in range(size):
            if s[i] > 0 and sigma_y[b] / s[i] <= levels[0]:
                spread = np.sqrt(levels[0] ** 2 - (sigma_y[b] / s[i]) ** 2)
                x[b, i] = Uty[b, i] / s[i] + spread * x[b, i] / levels[0]
    for level, sigma in enumerate(levels[:-1]):
        for step in range(steps):
            picture = torch.from_numpy(x @ Vt).float().reshape(shape)
            if (level, step) == (len(levels) - 2, steps - 1):
                return _denoiser(picture, sigma).clean.flatten(1).numpy()
            score = -_denoiser(picture, sigma).noise.double().flatten(1).numpy() @ Vt.T / sigma
            z = white()
            for b in range(len(y)):
                for i in range(size):
                    noise = sigma_y[b]
                    residual = Uty[b, i] - s[i] * x[b, i]
                    if s[i] == 0:
                        d, alpha = score[b, i], sigma**2
                    elif sigma * s[i] < noise:
                        d = score[b, i] + s[i] * residual / (noise**2 - (sigma * s[i]) ** 2)
                        alpha = sigma**2 * (1 - (sigma * s[i] / noise) ** 2)
                    else:
                        d = s[i] * residual / ((sigma * s[i]) ** 2 - noise**2)
                        alpha = sigma**2 - (noise / s[i]) ** 2
                    x[b, i] += c * alpha * d + np.sqrt(2 * c * alpha) * z[b, i]
    raise AssertionError("there is a last step")


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("sigma_y", [(0.0, 0.0), (0.21, 0.21), (0.5, 0.02)], ids=str)
def test_is_its_dense_restatement(name: str, sigma_y: tuple[float, float]) -> None:
    operator = OPERATORS[name]()
    y = torch.randn(2, *operator.output_shape, generator=torch.Generator().manual_seed(1))
    y = operator.A(operator.pseudo_inverse(y))
    A = dense_matrix(operator).double().numpy()
    flat = y.double().flatten(1).numpy()
    random = torch.Generator().manual_seed(2)
    expected = _dense_snips(A, flat, sigma_y, LEVELS, 2, 0.3, random)
    for noise in (torch.tensor(sigma_y), *([] if any(sigma_y) else [0.0])):
        found = snips(
            _denoiser, operator, y, noise, LEVELS, steps_each=2, step_size=0.3,
            generator=torch.Generator().manual_seed(2),
        )  # fmt: skip
        np.testing.assert_allclose(found.flatten(1).numpy(), expected, atol=2e-3)


COUNT = 1500
PRIOR = Mixture.gaussian(16, seed=4)


def _gap(levels: int, steps: int, **options) -> float:
    """Error of the covariance, relative."""
    shape = (1, 4, 4)
    operator = operators.gaussian_blur(shape, 0.5)
    generator = torch.Generator().manual_seed(3)
    y = operator.A(PRIOR.sample(1, generator).reshape(1, *shape).float())
    y = y + 0.1 * torch.randn(y.shape, generator=generator)
    samples = snips(
        PRIOR.denoise, operator, y.expand(COUNT, -1, -1, -1), 0.1,
        [*np.geomspace(3, 0.02, levels).tolist(), 0.0], steps_each=steps, generator=generator,
        **options,
    )  # fmt: skip
    found = samples.double().flatten(1).T.cov()
    truth = PRIOR.posterior(dense_matrix(operator), y, 0.1).covariance
    return float((found - truth).norm() / truth.norm())


def test_comes_near_the_posterior_with_many_calls() -> None:
    many = _gap(80, 4)
    assert many < 0.15
    assert _gap(8, 1) > 2 * many


@pytest.mark.parametrize("consistent", [True, False])
def test_consistent_annealing_gives_the_state_its_noise(consistent: bool) -> None:
    """For a prior that is one picture, 0, each state has the variance α in every component, even
    with few levels, and the mean ȳ where σ ≥ σ_y/s. Langevin dynamics leave it more.
    """
    operator = operators.gaussian_blur((1, 4, 4), 0.6)
    levels = [1.0, 0.3, 0.1, 0.0]
    y = torch.linspace(-1, 1, 16).reshape(1, 1, 4, 4)
    seen = []

    def denoise(x: Tensor, sigma: float, condition: Condition | None = None) -> Prediction:
        seen.append(operator.Vt(x))
        return Prediction(torch.zeros_like(x), x / sigma)

    snips(
        denoise, operator, y.expand(4000, -1, -1, -1), 0.2, levels, steps_each=2, step_size=0.8,
        consistent=consistent, generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    noise = 0.2 / operator.singular_values
    y_bar = operator.Ut(y)[0] / operator.singular_values
    for sigma, state in ((0.3, seen[2]), (0.1, seen[4])):
        w = (sigma / noise).square().clamp_max(1)
        alpha = torch.where(noise > sigma, sigma**2 * (1 - w), sigma**2 - noise**2)
        # where α falls to 0 near σ = σ_y/s, a step cannot take away all that the state has
        ratio = (state.var(dim=0) / alpha)[alpha > 0.5 * sigma**2]
        if not consistent:
            assert float(ratio.mean()) > 1.1
            continue
        assert float((ratio - 1).abs().max()) < 0.12
        error = ((state.mean(dim=0) - w * y_bar).abs() / (alpha / 4000).sqrt())[noise <= sigma]
        assert error.numel() == 0 or float(error.max()) < 5


def test_short_consistent_steps_follow_levels_that_are_far_apart() -> None:
    """They would leave what is not measured more noise than the level says."""
    operator = Mask((1, 1, 2), torch.tensor([[True, False]]))
    seen = []

    def denoise(x: Tensor, sigma: float, condition: Condition | None = None) -> Prediction:
        seen.append(x[..., 1])
        return Prediction(torch.zeros_like(x), x / sigma)

    snips(
        denoise, operator, torch.zeros(4000, 1, 1, 2), 0.2, [1.0, 0.3, 0.1, 0.0], steps_each=1,
        step_size=0.2, consistent=True, generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert [float(x.std()) for x in seen] == pytest.approx([1.0, 0.3, 0.1], rel=0.05)


def test_without_noise_it_explains_the_measurement_in_the_end() -> None:
    operator = OPERATORS["gray"]()
    y = operator.A(torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(1)))
    found = snips(
        _denoiser, operator, y, 0.0, LEVELS, generator=torch.Generator().manual_seed(2),
        final_projection=True,
    )  # fmt: skip
    torch.testing.assert_close(operator.A(found), y, atol=1e-5, rtol=0)


def test_reports_every_call_and_takes_a_start() -> None:
    operator = operators.downsample((1, 1, 8), 1)
    steps = []
    found = snips(
        _denoiser, operator, torch.zeros(1, 1, 1, 8), 0.1, [0.5, 0.0], steps_each=3,
        callback=steps.append, generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert [(step.index, step.steps) for step in steps] == [(i, 3) for i in range(3)]
    assert torch.isfinite(found).all()


def test_refuses_what_it_cannot_use() -> None:
    gray = OPERATORS["gray"]()
    y = torch.zeros(1, *gray.output_shape)
    with pytest.raises(ValueError, match="steps_each"):
        snips(_denoiser, gray, y, 0.1, LEVELS, steps_each=0)
    with pytest.raises(ValueError, match="step size"):
        snips(_denoiser, gray, y, 0.1, LEVELS, step_size=1.1)
    chain = Mask(SHAPE, KEPT) @ operators.gaussian_blur(SHAPE, 0.8)
    with pytest.raises(BadArgument, match="no SVD, which snips needs"):
        snips(_denoiser, chain, torch.zeros(1, *SHAPE), 0.1, LEVELS)
