"""EDM's samplers: Euler's and Heun's methods for ``dx/dσ = ε̂``, and Heun's with churn.

Karras et al. 2022, arXiv 2206.00364. EDM's own noise levels are those of
`restore.diffusion.schedule.noise_levels` with kind ``karras``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from restore.diffusion.protocol import Condition, Denoise
from restore.diffusion.stepping import (
    Callback,
    Generator,
    falling_pairs,
    falling_pairs_for,
    noise_like,
    report,
)


def euler(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    condition: Condition | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Euler's method, first order (arXiv 2206.00364, algorithm 1 without its lines 6 to 8).

    In these coordinates it equals DDIM without fresh noise, and DPM-Solver-1 (their section 3).

    Args:
        denoise: ``denoise(x, sigma, condition)`` with pictures in [-1, 1].
        x: [B, C, H, W] at ``sigmas[0]``.
        sigmas: Decreasing noise levels and a final 0; one network call per positive level.
        condition: Shown to the network beside the noisy picture, if given.
        callback: Called with a `Step` once per step, with the clean estimate at its first level.

    Returns:
        [B, C, H, W] in the type of x.

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0.
    """
    pairs = falling_pairs(sigmas)
    for index, (sigma, sigma_next) in enumerate(pairs):
        clean, noise, *_ = denoise(x, sigma, condition)
        report(callback, index, len(pairs), sigma, clean)
        if sigma_next > 0:
            x = x + (sigma_next - sigma) * noise

    return clean


def heun(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    condition: Condition | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Heun's method, second order (arXiv 2206.00364, algorithm 1).

    Args:
        denoise, x, condition, callback: As for `euler`.
        sigmas: At least two positive noise levels and a final 0. Each step takes two network calls,
            except the last, to 0, where ε̂ is not defined: it is Euler's, and returns the clean
            estimate after one.

    Returns:
        [B, C, H, W] in the type of x.

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0, or make a single step.
    """
    pairs = falling_pairs_for("heun", sigmas, at_least=2)
    for index, (sigma, sigma_next) in enumerate(pairs):
        x, clean = _heun_step(denoise, x, sigma, sigma_next, condition)
        report(callback, index, len(pairs), sigma, clean)
    return x


def edm_stochastic(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    condition: Condition | None = None,
    generator: Generator = None,
    callback: Callback | None = None,
    s_churn: float = 40.0,
    s_tmin: float = 0.05,
    s_tmax: float = 50.0,
    s_noise: float = 1.003,
) -> Tensor:
    """Heun's method with churn, fresh noise before each step (arXiv 2206.00364, algorithm 2).

    The level rises from σ to ``σ̂ = (1 + γ) σ`` with ``γ = min(S_churn / steps, √2 − 1)``, then
    falls by a step of `heun`.

    Args:
        denoise, x, sigmas, condition: As for `heun`, with as many calls. With churn, the network is
            called at σ̂, up to √2 times the level.
        generator: Random generator on the CPU, or one per picture.
        callback: Called with a `Step` once per step, with the clean estimate at σ̂.
        s_churn: Amount of noise over all steps; 0 is `heun`. The defaults, here and below, are the
            paper's for ImageNet-64 with 256 steps (table 5).
        s_tmin, s_tmax: Lowest and highest level with churn.
        s_noise: Standard deviation of the fresh noise; slightly above 1, it compensates for
            networks that remove too much noise.

    Returns:
        [B, C, H, W] in the type of x.

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0 or make a single step, ``s_churn`` is below
            0, ``s_noise`` is not above 0, or not ``0 ≤ s_tmin ≤ s_tmax``.
    """
    if not s_churn >= 0:
        raise ValueError(f"s_churn must be at least 0, not {s_churn}")
    if not s_noise > 0:
        raise ValueError(f"s_noise must be above 0, not {s_noise}")
    if not 0 <= s_tmin <= s_tmax:
        raise ValueError(
            f"churn must be between levels 0 ≤ s_tmin ≤ s_tmax, not {s_tmin} and {s_tmax}"
        )

    pairs = falling_pairs_for("edm_stochastic", sigmas, at_least=2)
    gamma = min(s_churn / len(pairs), math.sqrt(2) - 1)

    for index, (sigma, sigma_next) in enumerate(pairs):
        if gamma > 0 and s_tmin <= sigma <= s_tmax:
            raised = (1 + gamma) * sigma
            x = x + math.sqrt(raised**2 - sigma**2) * s_noise * noise_like(x, generator)
            sigma = raised
        x, clean = _heun_step(denoise, x, sigma, sigma_next, condition)
        report(callback, index, len(pairs), sigma, clean)

    return x


def _heun_step(
    denoise: Denoise, x: Tensor, sigma: float, sigma_next: float, condition: Condition | None
) -> tuple[Tensor, Tensor]:
    """Heun's step from σ to the next level, and the clean estimate where it begins."""
    clean, noise, *_ = denoise(x, sigma, condition)
    if sigma_next == 0:
        return clean, clean
    end = x + (sigma_next - sigma) * noise
    mean_noise = (noise + denoise(end, sigma_next, condition).noise) / 2
    return x + (sigma_next - sigma) * mean_noise, clean
