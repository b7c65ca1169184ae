"""Guidance of known mixtures by their exact classifier, and by a condition."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from support.analytic import Mixture
from support.monte_carlo import assert_matches
from torch import Tensor

from restore.diffusion.denoiser import Condition, Denoise, Prediction
from restore.diffusion.guidance import LogProbability, classifier_free, classifier_guided
from restore.diffusion.likelihood import log_likelihood
from restore.samplers.score_sde import VariancePreserving, probability_flow, reverse_diffusion

SHOWN = Condition(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1))


def _component(mixture: Mixture, k: int) -> Mixture:
    return Mixture(torch.ones(1), mixture.means[k : k + 1], mixture.covariances[k : k + 1])


def _classifier(mixture: Mixture, k: int) -> LogProbability:
    """log p(k | x, σ) by Bayes' rule."""
    component = _component(mixture, k)

    def log_probability(x: Tensor, sigma: Tensor | float) -> Tensor:
        joint = mixture.weights[k].log() + component.log_density(x, sigma)
        return joint - mixture.log_density(x, sigma)

    return log_probability


def _conditional(mixture: Mixture, k: int) -> Denoise:
    """The mixture, and its component k where any condition is shown."""
    component = _component(mixture, k)

    def denoise(x: Tensor, sigma: Tensor | float, condition: Condition | None = None) -> Prediction:
        return (mixture if condition is None else component).denoise(x, sigma)

    return denoise


def _noisy(mixture: Mixture, sigma: float, count: int = 20) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = mixture.sample(count, generator)
    return x + sigma * torch.randn(x.shape, generator=generator, dtype=x.dtype)


@pytest.mark.parametrize("sigma", [0.1, 1.0, 20.0])
@pytest.mark.parametrize("k", [0, 1, 2])
def test_the_exact_classifier_gives_the_components_denoiser(k: int, sigma: float) -> None:
    mixture = Mixture.random(6)
    x = _noisy(mixture, sigma)
    found = classifier_guided(mixture.denoise, _classifier(mixture, k), 1.0)(x, sigma, None)
    expected = _component(mixture, k).denoise(x, sigma)
    torch.testing.assert_close(found.noise, expected.noise, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.clean, expected.clean, rtol=1e-9, atol=1e-8)


def test_a_noise_level_for_each_picture() -> None:
    mixture = Mixture.random(6)
    guided = classifier_guided(mixture.denoise, _classifier(mixture, 1), 2.0)
    x = _noisy(mixture, 0.5, 3)
    levels = torch.tensor([0.3, 1.0, 4.0]).double()
    together = guided(x, levels, None)
    for i, sigma in enumerate(levels.tolist()):
        alone = guided(x[i : i + 1], sigma, None)
        torch.testing.assert_close(together.clean[i : i + 1], alone.clean)
        torch.testing.assert_close(together.noise[i : i + 1], alone.noise)


@pytest.mark.parametrize("sampler", ["stochastic", "deterministic"])
def test_guided_samples_are_the_components(sampler: str) -> None:
    mixture = Mixture.random(4)
    generator = torch.Generator().manual_seed(0)
    guided = classifier_guided(mixture.denoise, _classifier(mixture, 2), 1.0)
    levels = [*np.geomspace(50, 0.01, 150).tolist(), 0.0]
    x = 50 * torch.randn(800, 1, 1, 4, generator=generator, dtype=torch.float64)
    if sampler == "stochastic":
        samples = reverse_diffusion(guided, x, levels, generator=generator)
    else:
        samples = probability_flow(guided, x, levels)
    assert_matches(samples, _component(mixture, 2))


def test_scale_sharpens_the_classifier() -> None:
    """∇ log of p(x) p(k|x)^w by finite differences."""
    mixture = Mixture.random(3)
    sigma = 0.7
    scale = 3.0
    h = 1e-5
    x = _noisy(mixture, sigma, 4)
    classifier = _classifier(mixture, 0)

    def log_density(x: Tensor) -> Tensor:
        return mixture.log_density(x, sigma) + scale * classifier(x, sigma)

    units = torch.eye(3, dtype=torch.float64).reshape(3, 1, 1, 1, 3)
    score = torch.stack(
        [(log_density(x + h * u) - log_density(x - h * u)) / (2 * h) for u in units], dim=1
    )
    found = classifier_guided(mixture.denoise, classifier, scale)(x, sigma, None)
    torch.testing.assert_close(-found.noise.flatten(1) / sigma, score, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.clean + sigma * found.noise, x)


def test_guidance_is_the_mean_shift_of_ancestral_sampling() -> None:
    """DDPM's mean, in its own state u = √ᾱ x, moves by w β/√(1−β) ∇_u log p: that of algorithm 1
    but for 1/√(1−β).
    """
    mixture = Mixture.random(3)
    scale = 2.0
    alpha_bar = 0.4
    beta = 0.01
    sigma = (1 / alpha_bar - 1) ** 0.5
    u = (alpha_bar**0.5 * _noisy(mixture, sigma, 4)).requires_grad_()
    classifier = _classifier(mixture, 0)
    (gradient,) = torch.autograd.grad(classifier(u / alpha_bar**0.5, sigma).sum(), u)
    u = u.detach()

    def mean(denoise: Denoise) -> Tensor:
        noise = denoise(u / alpha_bar**0.5, sigma, None).noise
        return (u - beta / (1 - alpha_bar) ** 0.5 * noise) / (1 - beta) ** 0.5

    shift = mean(classifier_guided(mixture.denoise, classifier, scale)) - mean(mixture.denoise)
    torch.testing.assert_close(shift, scale * beta * gradient / (1 - beta) ** 0.5)
    assert gradient.abs().max() > 0.01


def test_guidance_works_without_autograd_around_it() -> None:
    mixture = Mixture.random(4)
    guided = classifier_guided(mixture.denoise, _classifier(mixture, 1), 1.5)
    x = _noisy(mixture, 1.0)
    expected = guided(x, 1.0, None)
    assert not expected.clean.requires_grad
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            found = guided(x.clone(), 1.0, None)
        assert torch.equal(found.clean, expected.clean)
        assert torch.equal(found.noise, expected.noise)


def test_a_guided_denoiser_can_be_differentiated() -> None:
    """Its likelihood is the component's: the trace of its derivative passes through the
    classifier's gradient.
    """
    mixture = Mixture.random(2)
    component = _component(mixture, 0)
    x = component.sample(10, torch.Generator().manual_seed(0))
    guided = classifier_guided(mixture.denoise, _classifier(mixture, 0), 1.0)
    found = log_likelihood(
        guided,
        x,
        0.05,
        50.0,
        divergence="exact",
        terminal_log_density=lambda end: component.log_density(end, 50.0),
    )
    torch.testing.assert_close(found, component.log_density(x, 0.05), rtol=0, atol=1e-3)


def test_classifier_free_is_the_stated_combination() -> None:
    mixture = Mixture.random(5)
    network = _conditional(mixture, 1)
    x = _noisy(mixture, 0.8)
    sigma = 0.8
    free = network(x, sigma, None)
    shown = network(x, sigma, SHOWN)
    for scale in (0.0, 0.5, 1.0, 3.0):
        found = classifier_free(network, scale)(x, sigma, SHOWN)
        torch.testing.assert_close(found.noise, free.noise + scale * (shown.noise - free.noise))
        torch.testing.assert_close(found.clean, free.clean + scale * (shown.clean - free.clean))
        w = scale - 1  # of the paper's equation 6
        torch.testing.assert_close(found.noise, (1 + w) * shown.noise - w * free.noise)
        torch.testing.assert_close(found.clean + sigma * found.noise, x)


def test_classifier_free_of_one_is_the_conditional_network_at_one_call() -> None:
    mixture = Mixture.random(5)
    seen = []
    network = _conditional(mixture, 1)

    def counted(x: Tensor, sigma: Tensor | float, condition: Condition | None = None) -> Prediction:
        seen.append(condition)
        return network(x, sigma, condition)

    x = _noisy(mixture, 0.8)
    found = classifier_free(counted, 1.0)(x, 0.8, SHOWN)
    assert torch.equal(found.clean, _component(mixture, 1).denoise(x, 0.8).clean)
    assert seen == [SHOWN]


def test_classifier_free_agrees_with_the_exact_classifier() -> None:
    """Both sharpen p(k|x) by Bayes' rule, so that they agree at any scale; also as samples of one
    sampler.
    """
    mixture = Mixture.random(3)
    free = classifier_free(_conditional(mixture, 1), 2.5)
    guided = classifier_guided(mixture.denoise, _classifier(mixture, 1), 2.5)
    levels = [*np.geomspace(20, 0.01, 30).tolist(), 0.0]
    x = 20 * torch.randn(
        10, 1, 1, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    options = {"sde": VariancePreserving()}
    one, other = (
        reverse_diffusion(
            denoise,
            x,
            levels,
            condition=SHOWN,
            generator=torch.Generator().manual_seed(1),
            **options,
        )
        for denoise in (free, lambda x, sigma, condition: guided(x, sigma, None))
    )
    torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


class _Unconditional:
    conditional = False

    def __call__(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Prediction:
        return Prediction(x, x)


def _sum(x: Tensor, sigma: Tensor | float) -> Tensor:
    return x.sum()


def _constant(x: Tensor, sigma: Tensor | float) -> Tensor:
    return torch.zeros(len(x))


PLAIN = Mixture.gaussian(2).denoise
X = torch.zeros(3, 1, 1, 2, dtype=torch.float64)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: classifier_guided(PLAIN, None), "needs a classifier"),
        (lambda: classifier_guided(PLAIN, _sum, -1.0), "at least 0"),
        (lambda: classifier_guided(PLAIN, _sum, math.inf), "finite"),
        (lambda: classifier_guided(PLAIN, _sum)(X, 1.0, None), "one number for each picture"),
        (lambda: classifier_guided(PLAIN, _constant)(X, 1.0, None), "does not depend on x"),
        (lambda: classifier_free(_Unconditional(), 2.0), "this one is unconditional"),
        (lambda: classifier_free(PLAIN, -0.5), "at least 0"),
        (lambda: classifier_free(PLAIN, math.nan), "finite"),
        (lambda: classifier_free(PLAIN, 2.0)(X, 1.0, None), "needs a condition"),
    ],
)
def test_refuses(run: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run()
