"""Ancestral sampling: in a world whose truth is known, against a plain restatement, and against
diffusers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from support.analytic import Mixture
from support.monte_carlo import assert_matches
from torch import Tensor

from restore.diffusion.denoiser import Condition, Denoise, Prediction
from restore.diffusion.schedule import NoiseSchedule, noise_levels
from restore.diffusion.stepping import Step, start
from restore.samplers.ancestral import (
    ancestral,
    clipped,
    diffuse,
    forward_variance,
    posterior_variance,
    skip_posterior,
)
from restore.solvers import sr3

LINEAR = NoiseSchedule.named("linear")
COUNT = 4000


def _draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Recorded:
    """A denoiser that keeps what it was shown."""

    def __init__(self, denoise) -> None:
        self.denoise = denoise
        self.states: list[Tensor] = []
        self.sigmas: list[float] = []
        self.conditions: list[Condition | None] = []

    def __call__(self, x: Tensor, sigma: float, condition: Condition | None = None) -> Prediction:
        self.states.append(x)
        self.sigmas.append(sigma)
        self.conditions.append(condition)
        return self.denoise(x, sigma, condition)


def _saying(denoise: Denoise, fraction: Callable[[float], Tensor]) -> Denoise:
    """The denoiser with v, as a network that learned its variance would say it at each level."""
    return lambda x, sigma, condition=None: denoise(x, sigma, condition)._replace(
        variance_fraction=fraction(float(sigma))
    )


@pytest.mark.parametrize(("variance", "dimensions"), [("posterior", 8), ("forward", 2)])
def test_reaches_the_target(variance: str, dimensions: int) -> None:
    world = Mixture.random(dimensions, seed=dimensions)
    sigmas = noise_levels(LINEAR, 300, "log-snr")
    x = start(torch.empty(COUNT, 1, 1, dimensions, dtype=torch.float64), sigmas[0], _draw(1))
    assert_matches(
        ancestral(world.denoise, x, sigmas, variance=variance, generator=_draw(2)), world
    )


def test_too_few_steps_are_noticed() -> None:
    """The comparison above can fail."""
    world = Mixture.random(2, seed=2)
    sigmas = noise_levels(LINEAR, 10, "log-snr")
    x = start(torch.empty(COUNT, 1, 1, 2, dtype=torch.float64), sigmas[0], _draw(1))
    with pytest.raises(AssertionError):
        assert_matches(ancestral(world.denoise, x, sigmas, generator=_draw(2)), world)


@pytest.mark.parametrize(("variance", "spread"), [("forward", 1.0), ("posterior", 0.0)])
def test_each_fixed_variance_is_optimal_for_one_extreme(variance: str, spread: float) -> None:
    """β_t for white noise of variance 1, β̃_t for one known picture (DDPM, section 3.2), in any
    number of steps.
    """
    world = Mixture(torch.ones(1), torch.zeros(1, 2), max(spread, 1e-12) * torch.eye(2)[None])
    sigmas = noise_levels(LINEAR, 4, "log-snr")
    x = diffuse(world.sample(20_000, _draw(1)), sigmas[0], _draw(2))
    states = Recorded(world.denoise)
    ancestral(states, x, sigmas, variance=variance, generator=_draw(3))
    for state, sigma in zip(states.states, states.sigmas, strict=True):
        assert state.var() == pytest.approx(spread + sigma**2, rel=0.03)


def test_learned_variance_is_right_in_few_steps_where_the_fixed_ones_are_not() -> None:
    """For a Gaussian with a variance c of its own in each pixel, p(x_{t−1} | x_t) is Gaussian: its
    v is known.
    """
    variances = torch.tensor([0.01, 0.1, 0.6], dtype=torch.float64)
    world = Mixture(torch.ones(1), torch.zeros(1, 3), torch.diag(variances)[None])
    sigmas = noise_levels(LINEAR, 6, "log-snr", highest=20.0)
    lower = dict(
        itertools.pairwise([*sigmas[:-1], 0.5 * sigmas[-2]])
    )  # v is not asked for in the last step

    def fraction(sigma: float) -> Tensor:
        high = forward_variance(sigma, lower[sigma])
        low = posterior_variance(sigma, lower[sigma])
        of_clean = variances * sigma**2 / (variances + sigma**2)
        return ((low + (1 - (lower[sigma] / sigma) ** 2) ** 2 * of_clean) / low).log() / math.log(
            high / low
        )

    x = diffuse(world.sample(20_000, _draw(1)), sigmas[0], _draw(2))

    def spread(variance) -> Tensor:
        network = _saying(world.denoise, fraction)
        return (
            ancestral(network, x, sigmas, variance=variance, generator=_draw(3))
            .flatten(1)
            .var(dim=0)
        )

    # The last step, to the clean estimate, multiplies a variance c + σ² by (c/(c + σ²))²
    expected = variances**2 / (variances + sigmas[-2] ** 2)
    assert torch.allclose(spread("learned"), expected, rtol=0.05)
    assert (spread("posterior") < 0.9 * expected).all()
    assert (spread("forward") > 1.1 * expected).all()


def _diagonal_network(x: Tensor, sigma: float, condition: Condition | None = None) -> Prediction:
    clean = torch.tanh(x / (1 + sigma**2) ** 0.5 + 0.2 * x.roll(1, -1) / (1 + sigma**2) ** 0.5)
    return Prediction(clean, (x - clean) / sigma)


@pytest.mark.parametrize("variance", ["posterior", "forward", "learned"])
@pytest.mark.parametrize("stride", [1, 7])
def test_is_the_plain_restatement_in_vp_coordinates(variance: str, stride: int) -> None:
    """DDPM's algorithm 2 with betas: x ← (x − β/√(1−ᾱ) ε)/√α + √Σ z, for a chain and for a
    re-spaced one.
    """
    kept = np.cumprod(1 - np.linspace(1e-3, 0.2, 50))[::stride]
    betas = 1 - kept / np.concatenate([[1.0], kept[:-1]])
    sigmas = [*((1 - kept[::-1]) / kept[::-1]) ** 0.5, 0.0]
    v = torch.linspace(
        -0.2, 1.3, 6, dtype=torch.float64
    )  # nothing holds a network's v within [0, 1]
    x = torch.randn(3, 1, 2, 6, dtype=torch.float64, generator=_draw(1))
    found = ancestral(
        _saying(_diagonal_network, lambda sigma: v),
        x * (1 + sigmas[0] ** 2) ** 0.5,
        sigmas,
        variance=variance,
        generator=_draw(2),
    )
    noise = _draw(2)
    for t in reversed(range(len(betas))):
        sigma = float(((1 - kept[t]) / kept[t]) ** 0.5)
        epsilon = _diagonal_network(x / kept[t] ** 0.5, sigma).noise
        x = (x - betas[t] / (1 - kept[t]) ** 0.5 * epsilon) / (1 - betas[t]) ** 0.5
        if t > 0:
            small = betas[t] * (1 - kept[t - 1]) / (1 - kept[t])
            spread = {
                "posterior": small,
                "forward": betas[t],
                "learned": betas[t] ** v * small ** (1 - v),
            }[variance]
            x = x + spread**0.5 * torch.randn(x.shape, dtype=x.dtype, generator=noise)
    assert torch.allclose(found, x, atol=1e-10)


@pytest.mark.parametrize("variance", ["posterior", "forward"])
def test_is_the_sampler_of_sr3(variance: str) -> None:
    """With a condition, and the noise that SR3 begins with."""
    condition = Condition(torch.rand(2, 3, 4, 4, generator=_draw(1)), torch.ones(2, 1, 4, 4))

    def denoise(x: Tensor, sigma: float, shown: Condition | None) -> Prediction:
        clean = torch.tanh(x / (1 + sigma**2) ** 0.5) * shown.picture
        return Prediction(clean, (x - clean) / sigma)

    sigmas = noise_levels(LINEAR, 10)
    expected = sr3(denoise, condition, sigmas, variance=variance, generator=_draw(2))
    draw = _draw(2)
    x = start(condition.picture, sigmas[0], draw)
    found = ancestral(denoise, x, sigmas, variance=variance, condition=condition, generator=draw)
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large", "learned_range"])
@pytest.mark.parametrize("steps", [10, 100])
def test_agrees_with_diffusers(variance: str, clip: bool, steps: int) -> None:
    """diffusers' DDPMScheduler with the same network and noise, every state of the way.

    Its states are x/√(1+σ²). Its ``leading`` time steps 0, T/n, 2T/n, … are our ``uniform`` levels,
    its ᾱ beyond the last one is 1 as here, and β_t is taken between neighbouring steps as here. Its
    ``learned_range`` is told 2v − 1 in twice the channels. It keeps β̃ ≥ 1e-20, which matters only
    at the last step, where it draws no noise.
    """
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDPMScheduler(
        variance_type=variance, clip_sample=clip, timestep_spacing="leading"
    )
    scheduler.set_timesteps(steps)
    kept = scheduler.alphas_cumprod.double()
    world = Mixture.random(6)
    v = torch.linspace(0, 1, 6, dtype=torch.float64)
    x = 1.5 * torch.randn(4, 1, 1, 6, dtype=torch.float64, generator=_draw(1))

    times = scheduler.timesteps.tolist()
    sigmas = [float(((1 - kept[t]) / kept[t]) ** 0.5) for t in times] + [0.0]
    network = _saying(world.denoise, lambda sigma: v)
    record = Recorded(clipped(network) if clip else network)
    ours = {"fixed_small": "posterior", "fixed_large": "forward", "learned_range": "learned"}[
        variance
    ]
    found = ancestral(
        record, x * (1 + sigmas[0] ** 2) ** 0.5, sigmas, variance=ours, generator=_draw(2)
    )

    noise = _draw(2)
    for t, sigma, state in zip(times, sigmas, record.states, strict=False):
        assert torch.allclose(x, state / (1 + sigma**2) ** 0.5, atol=1e-4)
        output = world.denoise(x * (1 + sigma**2) ** 0.5, sigma).noise
        if variance == "learned_range":
            output = torch.cat([output, (2 * v - 1).expand_as(output)], dim=1)
        x = scheduler.step(output, t, x, generator=noise).prev_sample
    assert torch.allclose(x, found, atol=1e-4)


def test_diffuse_goes_in_one_step_or_in_many() -> None:
    world = Mixture.random(3, seed=1)
    once = diffuse(world.sample(20_000, _draw(1)), 2.0, _draw(2))
    many = world.sample(20_000, _draw(3))
    draw = _draw(4)
    for low, high in [(0.0, 0.5), (0.5, 1.5), (1.5, 2.0)]:
        many = diffuse(many, high, draw, start=low)
    expected = world.covariance + 4 * torch.eye(3)
    for x in (once, many):
        assert torch.allclose(torch.cov(x.flatten(1).T), expected, atol=0.15)
    assert torch.equal(diffuse(once, 2.0, start=2.0), once)
    assert diffuse(once.float(), 3.0).dtype == torch.float32


def test_tells_each_step_and_repeats_with_the_seed() -> None:
    world = Mixture.random(4)
    sigmas = noise_levels(LINEAR, 5)
    x = start(torch.empty(3, 1, 1, 4), sigmas[0], _draw(1))
    steps: list[Step] = []
    first = ancestral(world.denoise, x, sigmas, generator=_draw(2), callback=steps.append)
    assert [(s.index, s.steps, s.sigma) for s in steps] == [(i, 5, sigmas[i]) for i in range(5)]
    assert torch.equal(steps[-1].clean, first)
    assert torch.equal(ancestral(world.denoise, x, sigmas, generator=_draw(2)), first)
    assert not torch.equal(ancestral(world.denoise, x, sigmas, generator=_draw(3)), first)
    assert first.dtype == torch.float32


def test_clipped_estimates_lie_in_the_range_and_explain_x() -> None:
    world = Mixture.random(4)
    x = 9 * torch.randn(5, 1, 1, 4, dtype=torch.float64, generator=_draw(1))
    sigma = torch.tensor([0.1, 0.2, 0.5, 1.0, 2.0], dtype=torch.float64)
    prediction = clipped(world.denoise)(x, sigma, None)
    assert world.denoise(x, sigma).clean.abs().max() > 1
    assert prediction.clean.abs().max() == 1
    assert torch.allclose(prediction.clean + sigma.reshape(-1, 1, 1, 1) * prediction.noise, x)


@pytest.mark.parametrize(
    ("sigmas", "options", "message"),
    [
        ([1.0, 2.0, 0.0], {}, "must fall"),
        ([1.0, 0.5], {}, "final 0"),
        ([0.0], {}, "final 0"),
        ([1.0, 0.0], {"variance": "optimal"}, "posterior, forward, learned"),
        ([1.0, 0.5, 0.0], {"variance": "learned"}, "has not learned"),
    ],
)
def test_bad_input(sigmas: list[float], options: dict, message: str) -> None:
    world = Mixture.random(2)
    with pytest.raises(ValueError, match=message):
        ancestral(world.denoise, torch.zeros(1, 1, 1, 2), sigmas, **options)


@pytest.mark.parametrize(("low", "high"), [(1.0, 0.5), (-1.0, 1.0)])
def test_diffuse_refuses_to_remove_noise(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="only grows"):
        diffuse(torch.zeros(1, 1, 1, 2), high, start=low)


# The skip-n posterior


@pytest.mark.parametrize(("step", "skipped"), [(1, 1), (7, 1), (7, 3), (10, 10), (10, 4)])
def test_the_skip_posterior_is_bayes_rule_on_the_whole_chain(step: int, skipped: int) -> None:
    """The chain x_s = √α_s x_{s−1} + √β_s ε as one Gaussian vector given x0, conditioned on x_t."""
    betas = np.linspace(0.02, 0.3, 10)
    clean, noisy = 0.7, -0.4
    matrix = np.zeros((11, 11))  # from the noises of steps 1 … 10, and x0 at 0, to the states
    matrix[0, 0] = 1
    for s, beta in enumerate(betas, start=1):
        matrix[s] = (1 - beta) ** 0.5 * matrix[s - 1]
        matrix[s, s] = beta**0.5
    mean = matrix[:, 0] * clean
    covariance = matrix[:, 1:] @ matrix[:, 1:].T
    other = step - skipped
    gain = covariance[other, step] / covariance[step, step]
    expected = mean[other] + gain * (noisy - mean[step])
    spread = covariance[other, other] - gain * covariance[step, other]

    found, variance = skip_posterior(
        np.cumprod(1 - betas), torch.tensor(clean), torch.tensor(noisy), step, skipped
    )
    assert float(found) == pytest.approx(expected)
    assert variance == pytest.approx(spread, abs=1e-12)


def test_ancestral_sampling_draws_from_the_skip_posterior() -> None:
    """In the coordinates x/√(1+σ²) of the chain; with one noise of either sign it gives both mean
    and variance.
    """
    schedule = NoiseSchedule.named("linear")
    step, skipped = 700, 150
    sigmas = [float(schedule.sigmas[t - 1]) for t in (step, step - skipped)]
    x = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    clean = torch.tanh(x)
    answers = []

    def network(x: Tensor, sigma: float, condition: Condition | None = None) -> Prediction:
        answers.append(x)
        return Prediction(clean, (x - clean) / sigma)

    generator = torch.Generator().manual_seed(1)
    ancestral(network, sigmas[0] * x, [*sigmas, 0.0], generator=generator)
    scales = [(1 + sigma**2) ** -0.5 for sigma in sigmas]
    mean, variance = skip_posterior(
        schedule.alphas_cumprod, clean, scales[0] * sigmas[0] * x, step, skipped
    )
    z = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    torch.testing.assert_close(scales[1] * answers[1], mean + variance**0.5 * z)


@pytest.mark.parametrize(("step", "skipped"), [(0, 1), (11, 1), (3, 4), (3, 0)])
def test_skips_beyond_the_chain_are_refused(step: int, skipped: int) -> None:
    with pytest.raises(ValueError, match="1 <= n <= t <= 10 is needed"):
        skip_posterior([0.9] * 10, torch.zeros(1), torch.zeros(1), step, skipped)
