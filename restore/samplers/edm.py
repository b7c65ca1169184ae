"""EDM's samplers: Euler's and Heun's rules on ``dx/dσ = ε̂``, and Heun's with churn (Karras et al.
2022).

EDM's own noise levels are ``restore.diffusion.schedule.noise_levels(…, kind="karras")``.
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
    """Euler's rule, first order (Karras et al. 2022, arXiv 2206.00364, algorithm 1 without its
    lines 6 to 8).

    In these coordinates it is DDIM without fresh noise and DPM-Solver-1 (their section 3).

    Args:
        denoise: ``denoise(x, sigma, condition)``, pictures in [-1, 1].
        x: [B, C, H, W] at the noise level ``sigmas[0]``.
        sigmas: falling noise levels with a final 0; one call of the network for each but the 0.
        condition: shown to the network beside the noisy picture, if given.
        callback: called with a `Step` once a step, with the clean estimate at the level where the
            step begins.

    Returns:
        [B, C, H, W] in the type of x.

    Raises:
        ValueError: ``sigmas`` do not fall to 0.
    """
    pairs = falling_pairs(sigmas)
    for index, (sigma, sigma_next) in enumerate(pairs):
        clean, noise, _ = denoise(x, sigma, condition)
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
    """Heun's rule, second order (Karras et al. 2022, arXiv 2206.00364, algorithm 1).

    Args:
        denoise, x, condition, callback: as for `euler`.
        sigmas: at least two falling noise levels and a final 0. Each step costs two calls of the
            network, but the last, to 0, where ε̂ is not defined: it is Euler's, and ends at the
            clean estimate after one.

    Returns:
        [B, C, H, W] in the type of x.

    Raises:
        ValueError: ``sigmas`` do not fall to 0, or make a single step.
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
    """Heun's rule with churn, some fresh noise before each step (Karras et al. 2022, arXiv
    2206.00364, algorithm 2).

    The level rises from σ to ``σ̂ = (1 + γ) σ`` with ``γ = min(S_churn / steps, √2 − 1)``, then
    falls by a `heun` step.

    Args:
        denoise, x, sigmas, condition: as for `heun`, and as many calls. Where there is churn the
            network is asked at σ̂, up to √2 of the level.
        generator: of the random numbers, on the CPU; or one for each picture.
        callback: called with a `Step` once a step, with the clean estimate at the raised level σ̂.
        s_churn: how much noise, over all steps; 0 is `heun`. The published values, here and below,
            are those for ImageNet-64 with 256 steps (table 5).
        s_tmin, s_tmax: the lowest and the highest level with churn.
        s_noise: standard deviation of the fresh noise; a little over 1 makes up for networks that
            remove too much.

    Returns:
        [B, C, H, W] in the type of x.

    Raises:
        ValueError: ``sigmas`` do not fall to 0, or make a single step; ``s_churn`` below 0,
            ``s_noise`` not above 0, or not ``0 ≤ s_tmin ≤ s_tmax``.
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
    clean, noise, _ = denoise(x, sigma, condition)
    if sigma_next == 0:
        return clean, clean
    end = x + (sigma_next - sigma) * noise
    mean_noise = (noise + denoise(end, sigma_next, condition).noise) / 2
    return x + (sigma_next - sigma) * mean_noise, clean
