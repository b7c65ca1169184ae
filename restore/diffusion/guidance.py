"""Guidance: wrappers of a denoiser that steer any sampler towards a class or a condition."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from restore.diffusion.protocol import Condition, Denoise, Prediction
from restore.diffusion.stepping import per_picture

# log_probability(x, sigma): log p(y | x) in nats, [B], for noisy pictures x [B, C, H, W] at level
# sigma; differentiable by autograd with respect to x.
LogProbability = Callable[[Tensor, "Tensor | float"], Tensor]


def classifier_guided(
    denoise: Denoise, log_probability: LogProbability | None, scale: float = 1.0
) -> Denoise:
    """Classifier guidance (Dhariwal, Nichol 2021, arXiv 2105.05233, section 4).

    By Bayes' rule, the score of p(x | y) is that of p(x) plus ∇log p(y | x); a factor w of the
    latter sharpens the classifier to p(y | x)^w. In variance-exploding coordinates, where the score
    is −ε̂/σ,

        noise = ε̂ − w σ ∇_x log p(y | x)        clean = x̂0 + w σ² ∇_x log p(y | x).

    The first is ``ε̂ − √(1−ᾱ) w ∇ log p`` of their algorithm 2 (DDIM and all deterministic
    solvers): u = √ᾱ x has ``∇_u = ∇_x/√ᾱ``, and ``√(1−ᾱ)/√ᾱ = σ``.

    It replaces algorithm 1 (ancestral sampling) as well, which shifts the mean of a step by ``w Σ
    ∇_u log p``. With the guided ε̂, the mean of DDPM moves by ``w β_t/√(1−β_t) ∇_u log p``: their
    shift for Σ = β_t times 1/√(1−β_t), and for Σ = β̃_t also times β_t/β̃_t. Both factors tend to 1
    for short steps, at every level but the lowest, and both algorithms then follow the same SDE.

    Args:
        denoise: Prior.
        log_probability: Classifier that was trained on noisy pictures.
        scale: w, at least 0. 1 is Bayes' rule; more trades diversity for fidelity to y.

    Returns:
        A denoiser. Each call runs the classifier forwards and backwards, also in ``no_grad`` and
        ``inference_mode``, if its weights were not created in the latter. If x requires a gradient,
        the result is differentiable, also through the classifier's gradient. It raises ValueError
        if the log-probability is not [B] or does not depend on x.

    Raises:
        ValueError: If there is no classifier, or the scale is negative or not finite.
    """
    if log_probability is None:
        raise ValueError(
            "classifier guidance needs a classifier: a function (x, sigma) -> log p(y | x), [B]"
        )
    check_scale(scale)

    def guided(x: Tensor, sigma: Tensor | float, condition: Condition | None = None) -> Prediction:
        prediction = denoise(x, sigma, condition)
        level = sigma.to(x).reshape(-1, 1, 1, 1) if isinstance(sigma, Tensor) else sigma
        shift = scale * level * _gradient(log_probability, x, sigma)
        return prediction._replace(
            clean=prediction.clean + level * shift, noise=prediction.noise - shift
        )

    return guided


def estimate_guided(
    denoise: Denoise, log_likelihood: Callable[[Tensor], Tensor], scale: float = 1.0
) -> Denoise:
    """Guidance by what the clean estimate shows, without a classifier of noisy pictures.

    The log-likelihood of a clean picture takes the place of that of a noisy one, log p(y | x) ≈
    w f(x̂0(x)), as in diffusion posterior sampling (Chung et al. 2023, arXiv 2209.14687, eq. 11) and
    in CLIP-guided diffusion. The shift is that of `classifier_guided`, with the gradient through
    the network:

        noise = ε̂ − w σ ∇_x f(x̂0(x))        clean = x̂0 + w σ² ∇_x f(x̂0(x)).

    Args:
        denoise: Prior; each call also runs it backwards.
        log_likelihood: f, from clean pictures [B, C, H, W] to [B], differentiable by autograd.
        scale: w, at least 0.

    Returns:
        A denoiser, also for ``no_grad`` and ``inference_mode``. If x requires a gradient, the
        result is differentiable; the shift counts as constant.

    Raises:
        ValueError: If the scale is negative or not finite.
    """
    check_scale(scale)

    def guided(x: Tensor, sigma: Tensor | float, condition: Condition | None = None) -> Prediction:
        differentiable = x.requires_grad and torch.is_grad_enabled()
        with torch.inference_mode(False), torch.enable_grad():
            if not differentiable:
                # tensors made in inference mode know no derivative
                x = x.detach().clone().requires_grad_()
                sigma = sigma.clone() if isinstance(sigma, Tensor) else sigma
                condition = condition and Condition(*(part.clone() for part in condition))
            prediction = denoise(x, sigma, condition)
            value = log_likelihood(prediction.clean).sum()
            (gradient,) = torch.autograd.grad(value, x, retain_graph=differentiable)

        if not differentiable:
            prediction = prediction.changed(lambda part: part.detach())
        level = per_picture(sigma, x)
        shift = scale * level * gradient
        return prediction._replace(
            clean=prediction.clean + level * shift, noise=prediction.noise - shift
        )

    return guided


def classifier_free(denoise: Denoise, scale: float) -> Denoise:
    """Classifier-free guidance (Ho, Salimans 2022, arXiv 2207.12598, eq. 6).

        noise = ε̂(x) + w (ε̂(x, condition) − ε̂(x)),   and the clean estimate alike.

    The network without its condition is the unconditional branch, trained by dropping the
    condition. w = 0 is unconditional, w = 1 the conditional network (one call). The paper's w is
    this one less 1. A learned variance stays that of the conditional network.

    Args:
        denoise: Denoiser of a conditional network.
        scale: w, at least 0.

    Returns:
        A denoiser with two network calls each time; it raises ValueError if it is called without a
        condition.

    Raises:
        ValueError: If the network is unconditional, or the scale is negative or not finite.
    """
    if not getattr(denoise, "conditional", True):
        raise ValueError(
            "classifier-free guidance needs a conditional network; this one is unconditional"
        )
    check_scale(scale)

    def guided(x: Tensor, sigma: Tensor | float, condition: Condition | None = None) -> Prediction:
        if condition is None:
            raise ValueError("classifier-free guidance needs a condition to be guided by")

        conditional = denoise(x, sigma, condition)
        if scale == 1:
            return conditional

        free = denoise(x, sigma, None)
        clean, noise = (
            extrapolated(f, c, scale) for f, c in zip(free[:2], conditional[:2], strict=True)
        )

        return conditional._replace(clean=clean, noise=noise)

    return guided


def check_scale(scale: float) -> None:
    """Check a guidance scale.

    Raises:
        ValueError: It is negative or not finite.
    """
    if not (math.isfinite(scale) and scale >= 0):
        raise ValueError(f"the guidance scale must be a finite number of at least 0, not {scale}")


def extrapolated(free: Tensor, conditional: Tensor, scale: float) -> Tensor:
    """Extrapolate from an output without the condition to the one with it, see `classifier_free`.

    It is that of Stable Diffusion: ``free + w (conditional − free)``.
    """
    return free + scale * (conditional - free)


def _gradient(log_probability: LogProbability, x: Tensor, sigma: Tensor | float) -> Tensor:
    """∇_x log p(y | x), of the shape of x."""
    differentiable = x.requires_grad and torch.is_grad_enabled()
    with torch.inference_mode(False), torch.enable_grad():
        if not differentiable:
            # a tensor made in inference mode knows no derivative
            x = x.detach().clone().requires_grad_()
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
