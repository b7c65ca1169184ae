"""The variational bound against the closed form of a Gaussian, torch's distributions, and the
trainer's own terms.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from support.analytic import Mixture
from torch import Tensor
from torch.distributions import Normal

from restore.diffusion.bound import decoder_nats, progressive_estimates, variational_bound
from restore.diffusion.denoiser import Condition, Prediction
from restore.diffusion.schedule import NoiseSchedule, noise_levels
from restore.training.losses import variational_term

LINEAR = NoiseSchedule.named("linear")


def _draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _independent(dimensions: int) -> Mixture:
    """A Gaussian whose pixels are independent, so that the mass of 8-bit values is known."""
    spreads = torch.linspace(0.05, 0.4, dimensions).double()
    means = 0.3 * torch.randn(1, dimensions, generator=_draw(7)).double()
    return Mixture(torch.ones(1), means, torch.diag(spreads**2)[None])


def _of_8_bits(x: Tensor) -> Tensor:
    return ((x.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


def _closed_form(world: Mixture, pictures: Tensor, sigmas: list[float], variance: str) -> Tensor:
    """L_T, L_{T−1}, …, L_0 in the mean over the noise, [B, T + 1] bits per dimension, from the
    formulas of DDPM in variance-preserving coordinates.
    """
    x0 = pictures.flatten(1)
    mean, covariance = world.means[0], world.covariances[0]
    gammas = [1 / (1 + sigma**2) for sigma in sigmas]
    spread = 1 - gammas[0]
    prior = 0.5 * (spread + gammas[0] * x0**2 - 1 - math.log(spread))
    found = [prior]
    posterior = None
    for sigma, (now, before) in zip(sigmas, pairwise(gammas), strict=False):
        # the clean estimate is offset + gain·σε, given x0
        gain = torch.linalg.solve(covariance + sigma**2 * torch.eye(len(mean)), covariance).T
        offset = mean + (x0 - mean) @ gain.T
        wander = sigma**2 * (gain**2).sum(1)
        beta = 1 - now / before
        last_posterior = posterior
        posterior = (1 - before) / (1 - now) * beta
        chosen = {"posterior": posterior or last_posterior, "forward": beta}[variance]
        if before == 1:
            nodes, weights = np.polynomial.hermite_e.hermegauss(60)
            nats = sum(
                weight * -_mass(x0, offset + node * wander.sqrt(), chosen**0.5).log()
                for node, weight in zip(nodes, weights / weights.sum(), strict=True)
            )
        else:
            weight = before * beta**2 / (1 - now) ** 2
            squared = (offset - x0) ** 2 + wander
            ratio = posterior / chosen
            nats = 0.5 * (ratio - 1 - math.log(ratio) + weight * squared / chosen)
        found.append(nats)
    return torch.stack([nats.mean(1) for nats in found], dim=1) / math.log(2)


def _mass(x: Tensor, mean: Tensor, spread: float) -> Tensor:
    normal = Normal(mean, spread)
    above = torch.where(x > 0.999, 1.0, normal.cdf(x + 1 / 255))
    below = torch.where(x < -0.999, 0.0, normal.cdf(x - 1 / 255))
    return (above - below).clamp_min(1e-300)


@pytest.mark.parametrize("variance", ["posterior", "forward"])
def test_is_the_closed_form_of_a_gaussian(variance: str, monkeypatch) -> None:
    """To 1e-3 bits per dimension: the noise takes every quantile once instead of random ones."""
    count = 1000
    order = _draw(1)

    def every_quantile(x: Tensor, generator: object) -> Tensor:
        levels = (torch.arange(count, dtype=torch.float64) + 0.5) / count
        noise = torch.special.ndtri(levels)
        columns = [torch.randperm(count, generator=order) for _ in range(x[0].numel())]
        return torch.stack([(noise / noise.std(correction=0))[c] for c in columns], dim=1).reshape(
            x.shape
        )

    monkeypatch.setattr("restore.diffusion.bound.noise_like", every_quantile)
    world = _independent(6)
    picture = _of_8_bits(world.sample(1, _draw()))
    sigmas = noise_levels(LINEAR, 1000)
    found = variational_bound(
        world.denoise, picture.expand(count, -1, -1, -1), sigmas, variance=variance
    )
    expected = _closed_form(world, picture, sigmas, variance)[0]

    assert abs(float(found.total.mean() - expected.sum())) < 1e-3
    torch.testing.assert_close(found.prior[:1], expected[:1], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.terms.mean(0), expected[1:], rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("variance", ["posterior", "forward"])
def test_is_the_closed_form_of_dependent_pixels(variance: str) -> None:
    world = Mixture.gaussian(12)
    pictures = _of_8_bits(world.sample(1000, _draw()))
    sigmas = noise_levels(LINEAR, 50)
    found = variational_bound(
        world.denoise, pictures, sigmas, variance=variance, generator=_draw(1)
    )
    terms = _closed_form(world, pictures, sigmas, variance)[:, 1:].mean(0)

    assert found.terms.shape == (1000, 50)
    error = (found.terms.mean(0) - terms).abs()
    assert bool((error < 5 * found.terms.std(0) / 1000**0.5 + 1e-9).all())


@pytest.mark.parametrize(("variance", "least"), [("posterior", 0.8), ("forward", 0.06)])
def test_is_never_below_the_likelihood(variance: str, least: float) -> None:
    """In the mean over pictures, −log₂ of their own probability is the least that any model needs;
    the gap closes as the chain gets finer, faster with the variance that suits a Gaussian.
    """
    world = _independent(8)
    pictures = _of_8_bits(world.sample(1500, _draw()))
    spreads = world.covariances[0].diagonal().sqrt()
    masses = _mass(pictures.flatten(1), world.means, spreads)
    exact = float(-masses.log2().mean())
    gaps = []
    for steps in (10, 100, 1000):
        found = variational_bound(
            world.denoise,
            pictures,
            noise_levels(LINEAR, steps),
            variance=variance,
            generator=_draw(1),
        )
        gaps.append(float(found.total.mean()) - exact)
    assert gaps[0] > gaps[1] > gaps[2] > 0
    assert gaps[2] < least


def test_one_run_of_the_chain_has_the_same_mean() -> None:
    """And pictures that follow q(x_{t−1} | x_t, x0): the noise of neighbours is correlated."""
    world = _independent(4)
    pictures = _of_8_bits(world.sample(4000, _draw()))
    sigmas = noise_levels(LINEAR, 100)
    runs = [
        variational_bound(
            world.denoise, pictures, sigmas, progressive=progressive, generator=_draw(2)
        )
        for progressive in (False, True)
    ]
    spread = runs[1].total.std() * (2 / 4000) ** 0.5
    assert (runs[0].total.mean() - runs[1].total.mean()).abs() < 4 * spread
    torch.testing.assert_close(
        runs[0].squared_errors.mean(0), runs[1].squared_errors.mean(0), rtol=0.15, atol=1e-5
    )


def test_states_of_a_run_have_the_covariance_of_the_chain() -> None:
    seen = []

    def network(x: Tensor, sigma: Tensor, condition: Condition | None = None) -> Prediction:
        seen.append(x.clone())
        return Prediction(torch.zeros_like(x), x)

    pictures = torch.zeros(1, 1, 200, 300)
    variational_bound(network, pictures, [3.0, 1.0, 0.5, 0.0], progressive=True, generator=_draw())
    states = torch.cat(seen).flatten(1).double()
    covariance = states @ states.T / states.shape[1]
    # x_t = x_{t−1} + fresh noise upwards, so the covariance of two is the smaller one's variance
    expected = torch.tensor([[9.0, 1.0, 0.25], [1.0, 1.0, 0.25], [0.25, 0.25, 0.25]]).double()
    torch.testing.assert_close(covariance, expected, rtol=0.05, atol=0.02)


def test_rates_and_distortions_are_those_of_progressive_coding() -> None:
    """DDPM, section 4.3: x_T costs L_T, and x_t the terms from T to t + 1."""
    world = _independent(6)
    pictures = _of_8_bits(world.sample(5, _draw()))
    sigmas = noise_levels(LINEAR, 7)
    found = variational_bound(world.denoise, pictures, sigmas, progressive=True, generator=_draw())
    assert found.rates.shape == found.distortions.shape == (5, 7)
    torch.testing.assert_close(found.rates[:, 0], found.prior)
    torch.testing.assert_close(found.rates[:, 3], found.prior + found.terms[:, :3].sum(1))
    torch.testing.assert_close(found.total, found.rates[:, -1] + found.terms[:, -1])

    estimates = progressive_estimates(world.denoise, pictures, sigmas, (2, 6), generator=_draw())
    assert estimates.shape == (5, 2, 1, 1, 6)
    errors = ((estimates[:, 0] - pictures) * 127.5).flatten(1).square().mean(1).sqrt()
    torch.testing.assert_close(found.distortions[:, 2], errors)


def test_the_learned_variance_is_that_of_the_trainer() -> None:
    """Its terms, in variance-preserving coordinates, are another implementation."""
    sigmas = [8.0, 2.0, 0.7, 0.1, 0.0]
    gammas = torch.tensor([1 / (1 + s**2) for s in reversed(sigmas)], dtype=torch.float64)
    states = []

    def network(x: Tensor, sigma: Tensor, condition: Condition | None = None) -> Prediction:
        states.append(x)
        clean = torch.tanh(x)
        return Prediction(clean, x - clean, torch.sigmoid(x))

    pictures = _of_8_bits(torch.rand(2, 3, 5, 4, generator=_draw()).double() * 2 - 1)
    found = variational_bound(network, pictures, sigmas, variance="learned", generator=_draw(1))
    noisy = torch.cat(states)
    step = torch.tensor([4, 4, 3, 3, 2, 2, 1, 1])
    expected = variational_term(
        gammas,
        pictures.repeat(4, 1, 1, 1),
        gammas[step].sqrt().reshape(-1, 1, 1, 1) * noisy,
        torch.tanh(noisy),
        2 * torch.sigmoid(noisy) - 1,
        step,
    )
    torch.testing.assert_close(found.terms.T.flatten(), expected, rtol=1e-5, atol=1e-6)


def test_the_decoder_agrees_with_torch() -> None:
    values = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    for mean, spread in ((0.2, 0.1), (-1.3, 0.5), (0.99, 0.01)):
        nats = decoder_nats(values, torch.tensor(mean), torch.tensor(2 * math.log(spread)))
        assert float((-nats).exp().sum()) == pytest.approx(1)
        torch.testing.assert_close(
            (-nats).exp(), _mass(values, torch.tensor(mean), spread), rtol=1e-6, atol=1e-10
        )


def test_the_decoder_is_exact_where_the_mass_is_no_number() -> None:
    """At 100 standard deviations, −log of the mass is about z²/2 + log(z √(2π))."""
    spread = 0.01
    nats = decoder_nats(
        torch.tensor([0.0, 0.0]).double(),
        torch.tensor([1.0, -1.0]).double(),
        torch.tensor(2 * math.log(spread)).double(),
    )
    edge = (1 - 1 / 255) / spread
    expected = edge**2 / 2 + math.log(edge * math.sqrt(2 * math.pi))
    torch.testing.assert_close(nats, torch.full((2,), expected).double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("sigmas", "variance", "message"),
    [
        ([1.0, 2.0, 0.0], "posterior", "must fall"),
        ([2.0, 1.0], "posterior", "final 0"),
        ([2.0, 1.0, 0.0], "largest", "unknown variance 'largest'"),
        ([2.0, 1.0, 0.0], "learned", "has not learned one"),
    ],
)
def test_refuses(sigmas: list[float], variance: str, message: str) -> None:
    world = _independent(4)
    with pytest.raises(ValueError, match=message):
        variational_bound(world.denoise, torch.zeros(1, 1, 1, 4), sigmas, variance=variance)
