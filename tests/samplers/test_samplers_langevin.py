"""Annealed Langevin dynamics against mixtures that are known in closed form, and against its
equations.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from support.analytic import Mixture
from support.monte_carlo import assert_matches, deviations
from torch import Tensor

from restore.diffusion.denoiser import Condition, Prediction
from restore.samplers.ancestral import ancestral
from restore.samplers.ddim import ddim
from restore.samplers.langevin import annealed_langevin, consistent_langevin, langevin_step_size

LEVELS = [*np.geomspace(20, 0.01, 200).tolist(), 0.0]
FEW = [4.0, 2.0, 1.0, 0.5, 0.0]


def _start(
    count: int, dimensions: int, generator: torch.Generator, sigma: float = LEVELS[0]
) -> Tensor:
    return sigma * torch.randn(count, 1, 1, dimensions, generator=generator, dtype=torch.float64)


def _arbitrary(x: Tensor, sigma: float, condition: Condition | None = None) -> Prediction:
    clean = torch.tanh(x / (1 + sigma**2) ** 0.5 + (0 if condition is None else condition.picture))
    return Prediction(clean, (x - clean) / sigma)


@pytest.mark.parametrize(("dimensions", "count"), [(2, 1500), (8, 800), (64, 200)])
def test_reaches_the_mixture(dimensions: int, count: int) -> None:
    mixture = Mixture.random(dimensions)
    generator = torch.Generator().manual_seed(2)
    x = _start(count, dimensions, generator)
    samples = annealed_langevin(
        mixture.denoise, x, LEVELS, steps_each=4, step_size=0.5, generator=generator
    )
    assert_matches(samples, mixture)


def test_without_denoising_the_last_noise_is_left() -> None:
    mixture = Mixture.random(2)
    generator = torch.Generator().manual_seed(0)
    levels = [*np.geomspace(20, 0.3, 120).tolist(), 0.0]
    samples = annealed_langevin(
        mixture.denoise,
        _start(1500, 2, generator),
        levels,
        steps_each=4,
        step_size=0.3,
        final_denoising=False,
        generator=generator,
    )
    noisy = Mixture(mixture.weights, mixture.means, mixture.covariances + 0.3**2 * torch.eye(2))
    assert_matches(samples, noisy)
    assert deviations(samples, mixture).max() > 4


def test_the_comparison_sees_small_errors() -> None:
    """It would be of no worth if it let everything pass."""
    mixture = Mixture.random(2)
    exact = mixture.sample(1500, torch.Generator().manual_seed(1))
    assert_matches(exact, mixture)
    assert deviations(1.15 * exact, mixture)[1] > 4
    assert deviations(exact + 0.15, mixture)[[0, 2]].min() > 4


@pytest.mark.parametrize("year", [2019, 2020])
def test_is_algorithm_1_of_the_paper(year: int) -> None:
    """With the paper's own ε; the 2019 paper halves the step."""
    epsilon = 0.05
    last = FEW[-2]
    x = _start(3, 6, torch.Generator().manual_seed(0), FEW[0])
    step_size = epsilon / last**2 / (2 if year == 2019 else 1)
    found = annealed_langevin(
        _arbitrary,
        x,
        FEW,
        steps_each=2,
        step_size=step_size,
        final_denoising=year == 2020,
        generator=torch.Generator().manual_seed(1),
    )
    generator = torch.Generator().manual_seed(1)
    for sigma in FEW[:-1]:
        alpha = epsilon * sigma**2 / last**2
        for _ in range(2):
            score = -_arbitrary(x, sigma).noise / sigma
            z = torch.randn(x.shape, generator=generator, dtype=x.dtype)
            x = (
                x + alpha / 2 * score + alpha**0.5 * z
                if year == 2019
                else x + alpha * score + (2 * alpha) ** 0.5 * z
            )
    if year == 2020:
        x = x - last**2 * _arbitrary(x, last).noise / last
    torch.testing.assert_close(found, x)


def test_step_size_is_that_of_the_paper() -> None:
    """Its setting for CIFAR-10: 232 levels from 50 to 0.01, 5 steps at each, ε = 6.2e-6."""
    levels = [*np.geomspace(50, 0.01, 232).tolist(), 0.0]
    assert langevin_step_size(levels, 5) == pytest.approx(6.2e-6 / 0.01**2, rel=0.01)


@pytest.mark.parametrize("steps", [1, 5, 50])
def test_step_size_keeps_the_variance_best(steps: int) -> None:
    """The variance, computed step by step for data at a point, over a grid of step sizes."""
    levels = [2.0, 1.5, 1.0, 0.8, 0.0]

    def variance(eta: float) -> float:
        value = 1.5**2
        for _ in range(steps):
            value = (1 - eta) ** 2 * value + 2 * eta
        return value

    best = min(variance(eta) for eta in np.linspace(1e-3, 0.999, 999))
    assert variance(langevin_step_size(levels, steps)) <= best + 1e-9


def test_default_step_size_is_the_technique() -> None:
    x = _start(2, 4, torch.Generator().manual_seed(0), FEW[0])
    found, expected = (
        annealed_langevin(
            _arbitrary,
            x,
            FEW,
            steps_each=3,
            generator=torch.Generator().manual_seed(1),
            step_size=size,
        )
        for size in (None, langevin_step_size(FEW, 3))
    )
    assert torch.equal(found, expected)


def test_callback_type_condition_and_random_numbers() -> None:
    steps = []
    levels = []

    def network(x: Tensor, sigma: float, condition: Condition | None = None) -> Prediction:
        levels.append(sigma)
        return _arbitrary(x, sigma, condition)

    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    condition = Condition(torch.ones(2, 3, 4, 5), torch.ones(2, 1, 4, 5))

    def run(seed: int, condition: Condition | None = None) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return annealed_langevin(
            network,
            x,
            FEW,
            steps_each=2,
            condition=condition,
            generator=generator,
            callback=steps.append,
        )

    state = torch.get_rng_state()
    first = run(0)
    assert first.dtype == torch.float32
    assert first.shape == x.shape
    assert levels == [4.0, 4.0, 2.0, 2.0, 1.0, 1.0, 0.5, 0.5, 0.5]
    assert [(s.index, s.steps, s.sigma) for s in steps] == [(i, 4, FEW[i]) for i in range(4)]
    assert torch.equal(run(0), first)
    assert not torch.equal(run(1), first)
    assert not torch.equal(run(0, condition), first)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("levels", "options", "message"),
    [
        (FEW, {"steps_each": 0}, "at least one step"),
        (FEW, {"step_size": 0.0}, "step size must be in"),
        (FEW, {"step_size": 1.5}, "step size must be in"),
        ([1.0, 2.0, 0.0], {}, "must fall"),
        ([2.0, 1.0], {}, "final 0"),
        ([2.0, 0.0], {}, "at least two positive levels"),
    ],
)
def test_refuses(levels: list[float], options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        annealed_langevin(_arbitrary, torch.zeros(1, 1, 2, 2), levels, **options)


# Consistent annealed sampling


@pytest.mark.parametrize(("dimensions", "count"), [(2, 1500), (8, 800), (64, 200)])
def test_consistent_noise_reaches_the_mixture(dimensions: int, count: int) -> None:
    mixture = Mixture.random(dimensions)
    generator = torch.Generator().manual_seed(2)
    x = _start(count, dimensions, generator)
    assert_matches(consistent_langevin(mixture.denoise, x, LEVELS, generator=generator), mixture)


def test_is_algorithm_2_of_consistent_annealed_sampling() -> None:
    """In the paper's symbols, for levels in geometric progression."""
    levels = [*np.geomspace(4, 0.5, 6).tolist(), 0.0]
    gamma = levels[0] / levels[1]
    eta = 0.4
    x = _start(3, 6, torch.Generator().manual_seed(0), levels[0])
    found = consistent_langevin(
        _arbitrary, x, levels, step_size=eta, generator=torch.Generator().manual_seed(1)
    )
    generator = torch.Generator().manual_seed(1)
    beta = (1 - (1 - eta) ** 2 * gamma**2) ** 0.5
    for sigma, sigma_next in pairwise(levels[:-1]):
        score = -_arbitrary(x, sigma).noise / sigma
        z = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = x + eta * sigma**2 * score + beta * sigma_next * z
    score = -_arbitrary(x, levels[-2]).noise / levels[-2]
    torch.testing.assert_close(found, x + levels[-2] ** 2 * score)


def test_technique_4_with_one_step_and_consistent_noise_is_ddpm() -> None:
    levels = [*np.geomspace(4, 0.5, 6).tolist(), 0.0]
    gamma = levels[0] / levels[1]
    assert langevin_step_size(levels, 1) == pytest.approx(1 - 1 / gamma**2, abs=1e-6)

    x = _start(3, 6, torch.Generator().manual_seed(0), levels[0])
    runs = [
        sampler(_arbitrary, x, levels, generator=torch.Generator().manual_seed(1))
        for sampler in (consistent_langevin, ancestral)
    ]
    torch.testing.assert_close(*runs)


def test_the_smallest_step_is_ddim() -> None:
    levels = [*np.geomspace(4, 0.5, 6).tolist(), 0.0]
    x = _start(3, 6, torch.Generator().manual_seed(0), levels[0])
    found = consistent_langevin(_arbitrary, x, levels, step_size=1 - levels[1] / levels[0])
    torch.testing.assert_close(found, ddim(_arbitrary, x, levels), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("levels", [20, 200])
def test_only_consistent_noise_is_what_the_network_is_told(levels: int) -> None:
    """For data at a point, as published the noise at the last level is too large by the fixed point
    of technique 4's recursion; consistent noise is exact.
    """
    sigmas = [*np.geomspace(20, 0.01, levels).tolist(), 0.0]
    gamma = sigmas[0] / sigmas[1]

    def point(x: Tensor, sigma: float, condition: Condition | None = None) -> Prediction:
        seen.append(float(x.std()) / sigma)
        return Prediction(torch.zeros_like(x), x / sigma)

    x = _start(1, 40_000, torch.Generator().manual_seed(0), 20)
    eta = langevin_step_size(sigmas, 5)
    kept = (1 - eta) ** 10
    limit = 2 / (2 - eta) * (1 - kept) / (1 - gamma**2 * kept)  # after the steps of a level
    for sampler, expected in ((consistent_langevin, 1.0), (annealed_langevin, limit**0.5)):
        seen: list[float] = []
        sampler(point, x, sigmas, generator=torch.Generator().manual_seed(1))
        assert seen[-1] == pytest.approx(expected, abs=0.02)
    assert limit > 1.12


@pytest.mark.parametrize("step_size", [0.4, 1.1])
def test_refuses_steps_that_cannot_be_consistent(step_size: float) -> None:
    with pytest.raises(ValueError, match=r"step size must be in \[0.5, 1\]"):
        consistent_langevin(_arbitrary, torch.zeros(1, 1, 2, 2), FEW, step_size=step_size)
