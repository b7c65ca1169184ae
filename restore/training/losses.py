"""Targets of the networks, and the losses of their answers.

Coordinates are those of the networks: ``x_γ = √γ x0 + √(1−γ) ε`` with γ = ᾱ, pictures in [-1, 1].
Steps of the chain are counted as in the papers: t = 1 … T, γ_0 = 1.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from restore.diffusion.bound import gaussian_kl
from restore.diffusion.denoiser import edm_scales

# Added to the mean squared error, pictures in [-1, 1], before its logarithm: at 46 dB a picture is
# good enough, and those that are almost perfect do not outweigh all others.
LEAST_ERROR = 1e-4


class Terms(NamedTuple):
    """Losses of each picture, [B] in float32.

    Attributes:
        simple: Mean over channels and pixels of the squared or absolute error (L_simple).
        bound: L_t of the variational bound in bits per dimension, without gradient to the mean
            unless it is the objective; None if it takes no part.
        variance: Mean squared error of the predicted square of the noise, without gradient to the
            mean; None if the network predicts none.
    """

    simple: Tensor
    bound: Tensor | None
    variance: Tensor | None = None


def predictor_losses(answer: Tensor, clean: Tensor, kind: str) -> Tensor:
    """Return each picture's loss [B] for a predictor's answers.

    See `restore.training.recipe_sections.PredictorRecipe`.
    """
    error = answer - clean
    if kind == "l1":
        return error.abs().mean(dim=(1, 2, 3))
    squared = error.square().mean(dim=(1, 2, 3))
    return squared if kind == "l2" else (squared + LEAST_ERROR).log()


def target(
    parameterization: str, clean: Tensor, noise: Tensor, gamma: Tensor, sigma_data: float = 0.5
) -> Tensor:
    """Return the network's target: ε, x0, v = √γ ε − √(1−γ) x0, or F = (x0 − c_skip x)/c_out.

    v: Salimans, Ho 2022, arXiv 2202.00512. F: EDM (Karras et al. 2022, arXiv 2206.00364, eq. 8),
    whose squared error has their weight λ(σ) = 1/c_out² for the error of the clean picture.
    """
    if parameterization == "epsilon":
        return noise
    if parameterization == "x0":
        return clean
    if parameterization == "v":
        return gamma.sqrt() * noise - (1 - gamma).sqrt() * clean

    sigma = sigma_of(gamma)
    skip, out, _ = edm_scales(sigma, sigma_data)
    return (clean - skip * (clean + sigma * noise)) / out


def clean_estimate(
    parameterization: str, answer: Tensor, noisy: Tensor, gamma: Tensor, sigma_data: float = 0.5
) -> Tensor:
    """Return the estimate of x0 that follows from a network's output."""
    if parameterization == "epsilon":
        return (noisy - (1 - gamma).sqrt() * answer) / gamma.sqrt()
    if parameterization == "x0":
        return answer
    if parameterization == "v":
        return gamma.sqrt() * noisy - (1 - gamma).sqrt() * answer

    skip, out, _ = edm_scales(sigma_of(gamma), sigma_data)
    return skip * noisy / gamma.sqrt() + out * answer


def variational_term(
    gammas: Tensor, clean: Tensor, noisy: Tensor, estimate: Tensor, variance: Tensor, step: Tensor
) -> Tensor:
    """Return L_t of the variational bound with the learned variance, [B] in bits per dimension.

    KL(q(x_{t−1} | x_t, x0) ‖ p_θ(x_{t−1} | x_t)) for t > 1, and −log p_θ(x0 | x_1) over the 256
    levels of a pixel for t = 1 (DDPM: Ho et al. 2020, arXiv 2006.11239, eq. 13), with p_θ =
    N(μ̃(x_t, estimate), Σ), log Σ = v log β_t + (1−v) log β̃_t (arXiv 2102.09672, eq. 4 to 6 and
    15).

    Args:
        gammas: float64 [T + 1], γ_0 = 1.
        clean, noisy, estimate: x0, x_t and the network's x0, [B, C, H, W].
        variance: The network's 2v − 1, [B, C, H, W].
        step: t [B].
    """
    beta, posterior, of_clean, of_noisy = (c.to(noisy) for c in _posterior(gammas, step.cpu()))
    fraction = (variance + 1) / 2
    log_variance = fraction * beta.log() + (1 - fraction) * posterior.log()
    true_mean = of_clean * clean + of_noisy * noisy
    mean = of_clean * estimate + of_noisy * noisy
    divergence = gaussian_kl(true_mean, posterior.log(), mean, log_variance)
    decoder = -discretised_log_likelihood(clean, mean, log_variance)
    nats = torch.where((step == 1)[:, None, None, None], decoder, divergence)

    return nats.mean(dim=(1, 2, 3)) / math.log(2)


def _posterior(gammas: Tensor, step: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return β_t, β̃_t and the coefficients of x0 and x_t in μ̃_t, float64 [B, 1, 1, 1].

    See arXiv 2102.09672, eq. 9 and 10. β̃_1 is 0; as there, it is replaced by β̃_2 where its
    logarithm is needed.
    """
    now = gammas[step]
    before = gammas[step - 1]
    beta = 1 - now / before
    last = gammas[step.clamp_min(2)], gammas[step.clamp_min(2) - 1]
    posterior = (1 - last[1]) / (1 - last[0]) * (1 - last[0] / last[1])
    of_clean = before.sqrt() * beta / (1 - now)
    of_noisy = (1 - beta).sqrt() * (1 - before) / (1 - now)
    beta, posterior, of_clean, of_noisy = (
        c.reshape(-1, 1, 1, 1) for c in (beta, posterior, of_clean, of_noisy)
    )

    return beta, posterior, of_clean, of_noisy


def discretised_log_likelihood(clean: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the log-likelihood of 8-bit pixels in [-1, 1], in nats.

    It is the log of the mass of N(mean, exp log_variance) within 1/255 of ``clean``. The lowest and
    highest of the 256 levels take the tails (arXiv 2006.11239, eq. 13).
    """
    scale = (-0.5 * log_variance).exp()
    above = torch.where(clean > 0.999, math.inf, (clean - mean + 1 / 255) * scale)
    below = torch.where(clean < -0.999, -math.inf, (clean - mean - 1 / 255) * scale)
    mass = torch.special.ndtr(above) - torch.special.ndtr(below)
    return mass.clamp_min(1e-12).log()


def sigma_of(gamma: Tensor) -> Tensor:
    """Return σ = √((1−γ)/γ)."""
    return ((1 - gamma) / gamma).sqrt()
