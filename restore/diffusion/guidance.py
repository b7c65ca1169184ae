"""Guidance: wrappers of a denoiser that pull every sampler towards a class or a condition."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from restore.diffusion.protocol import Condition, Denoise, Prediction

LogProbability = Callable[[Tensor, "Tensor | float"], Tensor]
"""``log_probability(x, sigma)``: log p(y | x) in nats, [B], of what is wanted of pictures [B, C, H,
W] with noise of level σ on them; differentiable by autograd with respect to x."""


def classifier_guided(
    denoise: Denoise, log_probability: LogProbability | None, scale: float = 1.0
) -> Denoise:
    """The denoiser of pictures that a classifier takes for y (Dhariwal, Nichol 2021, arXiv
    2105.05233, section 4).

    By Bayes, the score of p(x | y) is that of p(x) plus ∇log p(y | x); w times the latter sharpens
    the classifier to p(y | x)^w. In variance-exploding coordinates, where the score is −ε̂/σ,

        noise = ε̂ − w σ ∇_x log p(y | x)        clean = x̂0 + w σ² ∇_x log p(y | x).

    The first is ``ε̂ − √(1−ᾱ) w ∇ log p`` of their algorithm 2 (DDIM and every deterministic
    solver): u = √ᾱ x has ``∇_u = ∇_x/√ᾱ``, and ``√(1−ᾱ)/√ᾱ = σ``.

    It stands for algorithm 1 (ancestral sampling) as well, which shifts the mean of a step by ``w Σ
    ∇_u log p``: with the guided ε̂ the mean of DDPM moves by ``w β_t/√(1−β_t) ∇_u log p``, which is
    their shift for Σ = β_t up to the factor 1/√(1−β_t), and for the posterior's Σ = β̃_t up to that
    times β_t/β̃_t. Both factors tend to 1 with short steps, at any level but the lowest, where both
    walk the same SDE.

    Args:
        denoise: the prior.
        log_probability: of a classifier that was trained on noisy pictures.
        scale: w, at least 0; 1 is Bayes' rule, more trades diversity for fidelity to y.

    Returns:
        A denoiser to be used like ``denoise``. Each call runs the classifier forwards and
        backwards, also in ``no_grad`` and ``inference_mode``, as long as its weights were not made
        in the latter. Where x requires a gradient the answer can be differentiated, through the
        classifier's gradient too. It raises ValueError where the log-probability is not [B] or does
        not depend on x.

    Raises:
        ValueError: no classifier, or a scale that is negative or not finite.
    """
    if log_probability is None:
        raise ValueError(
            "classifier guidance needs a classifier: a function (x, sigma) -> log p(y | x), [B]"
        )
    if not (math.isfinite(scale) and scale >= 0):
        raise ValueError(f"the guidance scale must be a finite number of at least 0, not {scale}")

    def guided(x: Tensor, sigma: Tensor | float, condition: Condition | None = None) -> Prediction:
        prediction = denoise(x, sigma, condition)
        level = sigma.to(x).reshape(-1, 1, 1, 1) if isinstance(sigma, Tensor) else sigma
        shift = scale * level * _gradient(log_probability, x, sigma)
        return prediction._replace(
            clean=prediction.clean + level * shift, noise=prediction.noise - shift
        )

    return guided


def classifier_free(denoise: Denoise, scale: float) -> Denoise:
    """The denoiser guided by its own condition (Ho, Salimans 2022, arXiv 2207.12598, eq. 6).

        noise = ε̂(x) + w (ε̂(x, condition) − ε̂(x)),   and the clean estimate alike.

    The network without its condition is the unconditional branch, as it is trained to be by
    dropping it. w = 0 is unconditional and w = 1 the conditional network itself, at one call; more
    goes beyond. The paper counts from there: its w is this one less 1. A learned variance stays
    that of the conditional network.

    Args:
        denoise: of a network that can see a condition.
        scale: w, at least 0.

    Returns:
        A denoiser to be used like ``denoise``, at two calls of the network each time; it raises
        ValueError where it is called without a condition.

    Raises:
        ValueError: an unconditional network, or a scale that is negative or not finite.
    """
    if not getattr(denoise, "conditional", True):
        raise ValueError(
            "classifier-free guidance needs a conditional network; this one is unconditional"
        )
    if not (math.isfinite(scale) and scale >= 0):
        raise ValueError(f"the guidance scale must be a finite number of at least 0, not {scale}")

    def guided(x: Tensor, sigma: Tensor | float, condition: Condition | None = None) -> Prediction:
        if condition is None:
            raise ValueError("classifier-free guidance needs a condition to be guided by")

        conditional = denoise(x, sigma, condition)
        if scale == 1:
            return conditional

        free = denoise(x, sigma, None)
        clean, noise = (f + scale * (c - f) for f, c in zip(free[:2], conditional[:2], strict=True))

        return Prediction(clean, noise, conditional.variance_fraction)

    return guided


def _gradient(log_probability: LogProbability, x: Tensor, sigma: Tensor | float) -> Tensor:
    """∇_x log p(y | x), like x."""
    differentiable = x.requires_grad and torch.is_grad_enabled()
    with torch.inference_mode(False), torch.enable_grad():
        if not differentiable:
            x = (
                x.detach().clone().requires_grad_()
            )  # a tensor made in inference mode knows no derivative
        value = log_probability(x, sigma)
        if value.shape != x.shape[:1]:
            raise ValueError(
                f"the classifier must return one number for each picture, not {list(value.shape)}"
            )
        if not value.requires_grad:
            raise ValueError(
                "the classifier's log-probability does not depend on x, so that it cannot guide"
            )
        (gradient,) = torch.autograd.grad(value.sum(), x, create_graph=differentiable)

    return gradient
