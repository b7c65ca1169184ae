"""Analytic-DPM: its variance against the closed form, what it reaches in few steps, and its
cache.
"""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from support.analytic import Mixture, sliced_wasserstein
from support.monte_carlo import assert_matches
from torch import Tensor

from restore.diffusion.denoiser import Condition, Prediction
from restore.diffusion.schedule import NoiseSchedule, noise_levels
from restore.diffusion.stepping import Step, start
from restore.errors import BadArgument, FileAccess
from restore.samplers.analytic_dpm import (
    ScoreNorms,
    analytic_dpm,
    estimate_score_norms,
    optimal_variance,
)
from restore.samplers.ancestral import ancestral, diffuse, posterior_variance
from restore.samplers.ddim import ddim

LINEAR = NoiseSchedule.named("linear")


def _draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _norms_of(world: Mixture, sigmas: list[float]) -> ScoreNorms:
    """Γ = tr (Σ + σ²)⁻¹/d of one Gaussian."""
    values = torch.linalg.eigvalsh(world.covariances[0])
    return ScoreNorms(
        tuple(sigmas[:-1]), tuple(float((1 / (values + s**2)).mean()) for s in sigmas[:-1]), "exact"
    )


def _round(variance: float, dimensions: int = 3) -> Mixture:
    means = torch.linspace(-0.3, 0.4, dimensions)[None]
    return Mixture(torch.ones(1), means, variance * torch.eye(dimensions)[None])


def test_score_norms_are_those_of_the_closed_form() -> None:
    world = Mixture.gaussian(6)
    sigmas = noise_levels(LINEAR, 9, "log-snr")
    pictures = world.sample(4000, _draw(1))
    found = estimate_score_norms(
        world.denoise, pictures, sigmas, model="m", batch=1500, generator=_draw(2)
    )
    exact = _norms_of(world, sigmas)
    assert found.sigmas == exact.sigmas
    for sigma, value, truth in zip(found.sigmas, found.values, exact.values, strict=True):
        assert abs(value - truth) * sigma**2 < 4.5 * (2 / pictures.numel()) ** 0.5
    top = (
        sigmas[0] ** 2
    )  # what is left unexplained there is tiny, and still found: the chance in ε falls out
    assert top * (1 - found.noise(sigmas[0])) == pytest.approx(
        top * (1 - exact.noise(sigmas[0])), abs=3.0
    )


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_variance_is_the_closed_form_optimum(eta: float) -> None:
    """Of a round Gaussian of variance c: that of q(x_ς | x_σ), DDIM's process with λ included, is
    known.
    """
    variance = 0.3
    sigmas = noise_levels(LINEAR, 12, "log-snr")
    norms = _norms_of(_round(variance), sigmas)
    for sigma, lower in pairwise(sigmas[:-1]):
        fresh = eta**2 * posterior_variance(sigma, lower)
        kept = (lower**2 - fresh) ** 0.5  # x_ς = x0 + kept ε + √fresh z, and x_σ = x0 + σ ε
        joint = variance + lower**2, variance + kept * sigma, variance + sigma**2
        assert optimal_variance(norms, sigma, lower, eta) == pytest.approx(
            joint[0] - joint[1] ** 2 / joint[2], rel=1e-6
        )


def test_variance_is_that_of_the_papers_equations() -> None:
    """Theorem 1 in the paper's coordinates, with Γ of x/√(1+σ²), and DDPM's λ² = β̃."""
    norms = ScoreNorms((3.0, 1.0, 0.1), (0.1, 0.6, 30.0), "m")
    for sigma, lower in [(3.0, 1.0), (1.0, 0.1)]:
        kept = 1 / (1 + sigma**2)
        kept_next = 1 / (1 + lower**2)
        alpha = kept / kept_next
        gamma = dict(zip(norms.sigmas, norms.values, strict=True))[sigma] * (1 + sigma**2)
        small = (1 - kept_next) / (1 - kept) * (1 - alpha)
        root = ((1 - kept) / alpha) ** 0.5 - (1 - kept_next - small) ** 0.5
        expected = small + root**2 * (1 - (1 - kept) * gamma)
        assert optimal_variance(norms, sigma, lower) * kept_next == pytest.approx(expected)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_variance_stays_within_the_bounds_of_theorem_2(eta: float) -> None:
    sigma = 5.0
    lower = 1.0
    fresh = eta**2 * posterior_variance(sigma, lower)
    share = (1 - (lower**2 - fresh) ** 0.5 / sigma) ** 2
    too_large = ScoreNorms((sigma,), (1.1 / sigma**2,), "m")
    none = ScoreNorms((sigma,), (0.0,), "m")
    assert optimal_variance(too_large, sigma, lower, eta) == pytest.approx(fresh)
    assert optimal_variance(none, sigma, lower, eta) == pytest.approx(
        fresh + share
    )  # x0 in [-1, 1] varies by 1


def test_its_strided_sampler_reaches_the_covariance_where_fixed_variances_do_not() -> None:
    variance = 0.2
    count = 20_000
    world = _round(variance)
    sigmas = noise_levels(LINEAR, 5, "log-snr")
    norms = _norms_of(world, sigmas)
    x = start(torch.empty(count, 1, 1, 3, dtype=torch.float64), sigmas[0], _draw(1))

    def covariance_error(found: Tensor) -> float:
        return float((torch.cov(found.flatten(1).T) - world.covariance).abs().max())

    chance = 4.5 * variance * (2 / count) ** 0.5
    for eta in (0.0, 0.5, 1.0):
        found = analytic_dpm(
            world.denoise, x, sigmas, norms, eta=eta, last_noise=None, generator=_draw(2)
        )
        assert covariance_error(found) < chance
        assert (found.flatten(1).mean(dim=0) - world.mean).abs().max() < 4.5 * (
            variance / count
        ) ** 0.5
        assert (
            covariance_error(ddim(world.denoise, x, sigmas, eta=eta, generator=_draw(2)))
            > 4 * chance
        )
    for fixed in ("posterior", "forward"):
        assert (
            covariance_error(
                ancestral(world.denoise, x, sigmas, variance=fixed, generator=_draw(2))
            )
            > 4 * chance
        )


@pytest.mark.parametrize(("eta", "steps"), [(0.0, 200), (1.0, 100)])
def test_reaches_the_target(eta: float, steps: int) -> None:
    """With norms that were estimated at other levels."""
    world = Mixture.random(4, seed=4)
    grid = noise_levels(LINEAR, 150, "log-snr")
    norms = estimate_score_norms(
        world.denoise, world.sample(2000, _draw(1)), grid, model="m", batch=2000
    )
    sigmas = noise_levels(LINEAR, steps, "log-snr")
    x = start(torch.empty(4000, 1, 1, 4, dtype=torch.float64), sigmas[0], _draw(2))
    assert_matches(
        analytic_dpm(world.denoise, x, sigmas, norms, eta=eta, last_noise=None, generator=_draw(3)),
        world,
    )


def test_few_steps_come_nearer_to_a_mixture_than_with_fixed_variances() -> None:
    world = Mixture.random(8, seed=5)
    draw = _draw(1)
    sigmas = noise_levels(LINEAR, 10, "log-snr")
    norms = estimate_score_norms(
        world.denoise, world.sample(2000, draw), sigmas, model="m", batch=2000, generator=draw
    )
    x = diffuse(world.sample(4000, draw), sigmas[0], draw)
    exact = world.sample(4000, draw)
    optimal = analytic_dpm(world.denoise, x, sigmas, norms, last_noise=None, generator=_draw(2))
    for fixed in ("posterior", "forward"):
        other = ancestral(world.denoise, x, sigmas, variance=fixed, generator=_draw(2))
        ours, theirs = (sliced_wasserstein(found, exact, _draw(3)) for found in (optimal, other))
        assert ours < 0.85 * theirs


def test_without_variance_left_it_is_ddim() -> None:
    """A network that sees all of the noise, σ²Γ = 1, leaves λ² alone."""
    world = Mixture.random(4)
    sigmas = noise_levels(LINEAR, 8)
    norms = ScoreNorms(tuple(sigmas[:-1]), tuple(s**-2 for s in sigmas[:-1]), "m")
    x = start(torch.empty(3, 1, 1, 4, dtype=torch.float64), sigmas[0], _draw(1))
    for eta in (0.0, 0.7):
        expected = ddim(world.denoise, x, sigmas, eta=eta, generator=_draw(2))
        found = analytic_dpm(
            world.denoise, x, sigmas, norms, eta=eta, last_noise=None, generator=_draw(2)
        )
        assert torch.allclose(found, expected, atol=1e-6)


def test_the_last_noise_is_cut() -> None:
    """Only the noise of the step to the lowest level, and to a mean size of ``last_noise`` levels
    of 255.
    """
    sigmas = [2.0, 0.5, 0.1, 0.0]
    shape = (200, 1, 10, 10)
    norms = ScoreNorms(tuple(sigmas[:-1]), (0.0, 0.0, 0.0), "m")
    states: list[Tensor] = []

    def denoise(x: Tensor, sigma: float, condition: Condition | None) -> Prediction:
        states.append(x)
        return Prediction(torch.zeros_like(x), torch.zeros_like(x))

    for size in (None, 2.0, 1.0, 0.0):
        analytic_dpm(
            denoise, torch.zeros(shape).double(), sigmas, norms, last_noise=size, generator=_draw(1)
        )
    _, middle, uncut, _, same_middle, two, _, _, one, _, _, zero = states
    assert torch.equal(middle, same_middle)
    assert middle.std() == pytest.approx(optimal_variance(norms, 2.0, 0.5) ** 0.5, rel=0.02)
    assert uncut.std() == pytest.approx(optimal_variance(norms, 0.5, 0.1) ** 0.5, rel=0.02)
    assert two.abs().mean() == pytest.approx(2 * 2 / 255, rel=0.02)
    assert one.abs().mean() == pytest.approx(2 / 255, rel=0.02)
    assert not zero.any()


def test_norms_between_the_levels_are_interpolated() -> None:
    world = _round(0.2)
    fine = noise_levels(LINEAR, 100, "log-snr")
    norms = _norms_of(world, fine)
    for sigma in np.geomspace(fine[0], fine[-2], 37):
        assert norms.noise(float(sigma)) == pytest.approx(
            float(sigma**2 / (0.2 + sigma**2)), rel=5e-3
        )


def test_the_cache_returns_what_was_estimated(tmp_path: Path) -> None:
    world = Mixture.random(4)
    sigmas = noise_levels(LINEAR, 5)
    norms = estimate_score_norms(
        world.denoise, world.sample(8, _draw(1)), sigmas, model="abc", generator=_draw(2)
    )
    path = tmp_path / "deeper" / "norms.json"
    norms.save(path)
    assert ScoreNorms.load(path, "abc") == norms
    norms.save(path)  # over what is there
    assert json.loads(path.read_text())["model"] == "abc"


def test_a_stale_cache_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "norms.json"
    ScoreNorms((1.0,), (0.5,), "old").save(path)
    with pytest.raises(BadArgument, match=r"another model \(old\); estimate them anew"):
        ScoreNorms.load(path, "new")


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "[]",
        '{"sigmas": [1.0], "values": [0.5]}',
        '{"sigmas": [1.0], "values": [0.5, 0.4], "model": "m"}',
        '{"sigmas": [1.0, 2.0], "values": [0.5, 0.4], "model": "m"}',
        '{"sigmas": [2.0, 1.0], "values": [0.5, NaN], "model": "m"}',
        '{"sigmas": ["x"], "values": [0.5], "model": "m"}',
        '{"sigmas": [1.0], "values": ["x"], "model": "m"}',
        '{"sigmas": 1.0, "values": 0.5, "model": "m"}',
    ],
)
def test_a_damaged_cache_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "norms.json"
    path.write_text(text)
    with pytest.raises(BadArgument, match="holds no score norms"):
        ScoreNorms.load(path, "m")


def test_a_missing_cache_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileAccess, match="nowhere"):
        ScoreNorms.load(tmp_path / "nowhere.json", "m")


def test_norms_of_a_conditional_network_see_each_pictures_condition() -> None:
    pictures = torch.rand(7, 1, 2, 2, generator=_draw(1))
    condition = Condition(pictures, torch.ones(7, 1, 2, 2))

    def denoise(x: Tensor, sigma: float, shown: Condition | None) -> Prediction:
        return Prediction(shown.picture, (x - shown.picture) / sigma)

    steps: list[Step] = []
    found = estimate_score_norms(
        denoise,
        pictures,
        [2.0, 1.0, 0.0],
        model="m",
        batch=3,
        condition=condition,
        callback=steps.append,
    )
    assert [
        norm * sigma**2 for sigma, norm in zip(found.sigmas, found.values, strict=True)
    ] == pytest.approx([1, 1])
    assert [(s.index, s.steps, s.sigma) for s in steps] == [(0, 2, 2.0), (1, 2, 1.0)]
    with pytest.raises(ValueError, match="7 pictures need as many conditions, not 1"):
        estimate_score_norms(
            denoise,
            pictures,
            [1.0, 0.0],
            model="m",
            condition=Condition(pictures[:1], condition.known),
        )


def test_tells_each_step_and_keeps_the_type() -> None:
    world = Mixture.random(4)
    sigmas = noise_levels(LINEAR, 5)
    norms = ScoreNorms(tuple(sigmas[:-1]), tuple(0.5 * s**-2 for s in sigmas[:-1]), "m")
    x = start(torch.empty(2, 1, 1, 4), sigmas[0], _draw(1))
    steps = []
    found = analytic_dpm(world.denoise, x, sigmas, norms, generator=_draw(2), callback=steps.append)
    assert [(s.index, s.steps, s.sigma) for s in steps] == [(i, 5, sigmas[i]) for i in range(5)]
    assert torch.equal(steps[-1].clean, found)
    assert found.dtype == torch.float32
    assert torch.equal(analytic_dpm(world.denoise, x, sigmas, norms, generator=_draw(2)), found)


NORMS = ScoreNorms((2.0, 1.0), (0.2, 0.5), "m")


@pytest.mark.parametrize(
    ("sigmas", "options", "message"),
    [
        ([1.0, 2.0, 0.0], {}, "must fall"),
        ([2.0, 1.0], {}, "final 0"),
        ([2.0, 1.0, 0.0], {"eta": 1.5}, r"eta must be in \[0, 1\]"),
        ([2.0, 1.0, 0.0], {"last_noise": -1.0}, "must not be negative"),
        ([3.0, 1.0, 0.0], {}, "noise levels from 1 to 2, not 3"),
        ([0.9, 0.5, 0.0], {}, "noise levels from 1 to 2, not 0.9"),
    ],
)
def test_bad_input(sigmas: list[float], options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        analytic_dpm(Mixture.random(2).denoise, torch.zeros(1, 1, 1, 2), sigmas, NORMS, **options)


@pytest.mark.parametrize(("count", "batch"), [(0, 4), (3, 0)])
def test_the_estimate_needs_pictures(count: int, batch: int) -> None:
    with pytest.raises(ValueError, match="at least one picture"):
        estimate_score_norms(
            Mixture.random(2).denoise,
            torch.zeros(count, 1, 1, 2),
            [1.0, 0.0],
            model="m",
            batch=batch,
        )


@pytest.mark.parametrize("values", [(0.5,), (0.5, math.inf), (0.5, math.nan)])
def test_norms_must_be_as_many_numbers_as_levels(values: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="2 noise levels need as many finite score norms"):
        ScoreNorms((2.0, 1.0), values, "m")
