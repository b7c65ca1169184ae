"""DPM-Solver: exact integration of the probability-flow ODE but for the noise estimate.

Lu et al. 2022, arXiv 2206.00927. With ``x = x0 + σ ε`` and half the log-SNR ``λ = −log σ`` the ODE
is ``dx/dσ = ε̂(x, σ)``, and its solution ``x_t = x_s − ∫ e^{−λ} ε̂ dλ`` from λ_s to λ_t (eq. 3.4
with α = 1, their state divided by √ᾱ). A solver of order k uses the first k terms of ε̂'s Taylor
series in λ at the beginning of a step, with ``h = λ_t − λ_s``.
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
    """DPM-Solver-1: ``x_t = x_s − σ_t (e^h − 1) ε̂``, first order (arXiv 2206.00927, eq. 3.7).

    As ``σ_t (e^h − 1) = σ_s − σ_t``, it equals DDIM without fresh noise, and Euler's method in σ
    (their section 4.1).

    Args:
        denoise: ``denoise(x, sigma, condition)`` with pictures in [-1, 1].
        x: [B, C, H, W] at ``sigmas[0]``.
        sigmas: Decreasing noise levels and a final 0; one network call per positive level. The step
            to 0, where λ is infinite, returns the clean estimate.
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
    """DPM-Solver-2: second order (arXiv 2206.00927, algorithm 1 with r1 = 1/2).

    Each step takes ε̂ at its middle in λ, the geometric mean of its two levels.

    Args:
        denoise, x, condition, callback: As for `dpm_solver_1`.
        sigmas: At least two positive noise levels and a final 0. Each step takes two network calls,
            except the last, to 0, which returns the clean estimate after one.

    Returns:
        [B, C, H, W] in the type of x.

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0, or make a single step.
    """
    pairs = falling_pairs_for("dpm_solver_2", sigmas, at_least=2)
    for index, (sigma, sigma_next) in enumerate(pairs):
        clean, noise, *_ = denoise(x, sigma, condition)
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
    """DPM-Solver-3: third order (arXiv 2206.00927, algorithm 2 with r1 = 1/3, r2 = 2/3).

    Args:
        denoise, x, condition, callback: As for `dpm_solver_1`.
        sigmas: At least two positive noise levels and a final 0. Each step takes three network
            calls, except the last, to 0, which returns the clean estimate after one.

    Returns:
        [B, C, H, W] in the type of x.

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0, or make a single step.
    """
    pairs = falling_pairs_for("dpm_solver_3", sigmas, at_least=2)
    r1 = 1 / 3
    r2 = 2 / 3

    for index, (sigma, sigma_next) in enumerate(pairs):
        clean, noise, *_ = denoise(x, sigma, condition)
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
    """``(e^h − 1)/h − 1``, the weight of a linear change of ε̂."""
    return math.expm1(h) / h - 1
