"""DPM-Solver: the probability-flow ODE solved exactly but for the network's noise estimate (Lu et
al. 2022).

With ``x = x0 + σ ε`` and half the log-SNR ``λ = −log σ`` the ODE is ``dx/dσ = ε̂(x, σ)``, and its
solution ``x_t = x_s − ∫ e^{−λ} ε̂ dλ`` from λ_s to λ_t (arXiv 2206.00927, eq. 3.4 with α = 1, their
state divided by √ᾱ). A solver of order k knows the first k terms of ε̂'s Taylor series in λ at the
beginning of a step, ``h = λ_t − λ_s``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from restore.diffusion.protocol import Condition, Denoise
from restore.diffusion.stepping import Callback, falling_pairs, falling_pairs_for, report


def dpm_solver_1(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    condition: Condition | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """DPM-Solver-1 (Lu et al. 2022, arXiv 2206.00927, eq. 3.7): ``x_t = x_s − σ_t (e^h − 1) ε̂``,
    first order.

    As ``σ_t (e^h − 1) = σ_s − σ_t`` this is DDIM without fresh noise, and Euler's rule in σ (their
    section 4.1).

    Args:
        denoise: ``denoise(x, sigma, condition)``, pictures in [-1, 1].
        x: [B, C, H, W] at the noise level ``sigmas[0]``.
        sigmas: falling noise levels with a final 0. Each step from one to the next costs one call
            of the network; where λ is infinite nothing but the first order is defined, so the step
            to 0 ends at the clean estimate.
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
            h = math.log(sigma / sigma_next)
            x = x - sigma_next * math.expm1(h) * noise

    return clean


def dpm_solver_2(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    condition: Condition | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """DPM-Solver-2 (Lu et al. 2022, arXiv 2206.00927, algorithm 1 with r1 = 1/2): second order.

    Each step takes ε̂ from half way in λ, at the geometric mean of its two levels.

    Args:
        denoise, x, condition, callback: as for `dpm_solver_1`.
        sigmas: at least two falling noise levels and a final 0. Each step costs two calls of the
            network, but the last, to 0, which ends at the clean estimate after one.

    Returns:
        [B, C, H, W] in the type of x.

    Raises:
        ValueError: ``sigmas`` do not fall to 0, or make a single step.
    """
    pairs = falling_pairs_for("dpm_solver_2", sigmas, at_least=2)
    for index, (sigma, sigma_next) in enumerate(pairs):
        clean, noise, _ = denoise(x, sigma, condition)
        report(callback, index, len(pairs), sigma, clean)
        if sigma_next > 0:
            middle = math.sqrt(sigma * sigma_next)
            h = math.log(sigma / sigma_next)
            u = x - middle * math.expm1(h / 2) * noise
            x = x - sigma_next * math.expm1(h) * denoise(u, middle, condition).noise

    return clean


def dpm_solver_3(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    condition: Condition | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """DPM-Solver-3 (Lu et al. 2022, arXiv 2206.00927, algorithm 2 with r1 = 1/3, r2 = 2/3): third
    order.

    Args:
        denoise, x, condition, callback: as for `dpm_solver_1`.
        sigmas: at least two falling noise levels and a final 0. Each step costs three calls of the
            network, but the last, to 0, which ends at the clean estimate after one.

    Returns:
        [B, C, H, W] in the type of x.

    Raises:
        ValueError: ``sigmas`` do not fall to 0, or make a single step.
    """
    pairs = falling_pairs_for("dpm_solver_3", sigmas, at_least=2)
    r1 = 1 / 3
    r2 = 2 / 3

    for index, (sigma, sigma_next) in enumerate(pairs):
        clean, noise, _ = denoise(x, sigma, condition)
        report(callback, index, len(pairs), sigma, clean)
        if sigma_next > 0:
            h = math.log(sigma / sigma_next)
            s1 = sigma * math.exp(-r1 * h)
            s2 = sigma * math.exp(-r2 * h)
            u1 = x - s1 * math.expm1(r1 * h) * noise
            d1 = denoise(u1, s1, condition).noise - noise
            u2 = x - s2 * (math.expm1(r2 * h) * noise + r2 / r1 * _phi(r2 * h) * d1)
            d2 = denoise(u2, s2, condition).noise - noise
            x = x - sigma_next * (math.expm1(h) * noise + _phi(h) / r2 * d2)

    return clean


def _phi(h: float) -> float:
    """``(e^h − 1)/h − 1``, what integrates a linear change of ε̂."""
    return math.expm1(h) / h - 1
