"""DPM-Solver++: exact integration of the diffusion ODE and SDE but for the clean estimate.

Lu et al. 2022, arXiv 2211.01095. With ``x = x0 + σ ε`` and ``λ = −log σ`` the solution of the ODE
is ``x_t = σ_t/σ_s x_s + σ_t ∫ e^λ x̂0 dλ`` from λ_s to λ_t (proposition 4.1 with α = 1, their state
divided by √ᾱ), with ``h = λ_t − λ_s``, so that ``e^{−h} = σ_t/σ_s``. Clean estimates stay within
the range of pictures, which keeps large steps stable under strong guidance.

Where λ is infinite only the first order is defined: the step to 0 returns the clean estimate,
whatever the order. The first step of the multistep methods is of first order, for lack of earlier
estimates; where sampling begins at pure noise, the clean estimate hardly changes in it, and its
error is small beside that of the other steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
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


def dpm_solver_pp_2s(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    condition: Condition | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """DPM-Solver++(2S): second order, singlestep (arXiv 2211.01095, algorithm 1 with r = 1/2).

    Each step takes the clean estimate at its middle in λ, the geometric mean of its two levels.

    Args:
        denoise: ``denoise(x, sigma, condition)`` with pictures in [-1, 1].
        x: [B, C, H, W] at ``sigmas[0]``.
        sigmas: At least two positive noise levels and a final 0. Each step takes two network calls,
            except the last, to 0, which takes one.
        condition: Shown to the network beside the noisy picture, if given.
        callback: Called with a `Step` once per step, with the clean estimate at its first level.

    Returns:
        [B, C, H, W] in the type of x.

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0, or make a single step.
    """
    pairs = falling_pairs_for("dpm_solver_pp_2s", sigmas, at_least=2)
    for index, (sigma, sigma_next) in enumerate(pairs):
        clean = denoise(x, sigma, condition).clean
        report(callback, index, len(pairs), sigma, clean)
        if sigma_next > 0:
            middle = math.sqrt(sigma * sigma_next)
            u = clean + middle / sigma * (x - clean)
            clean_half_way = denoise(u, middle, condition).clean
            x = clean_half_way + sigma_next / sigma * (x - clean_half_way)

    return clean


def dpm_solver_pp_2m(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    condition: Condition | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """DPM-Solver++(2M): second order, multistep (arXiv 2211.01095, algorithm 2).

    Each step extrapolates the line through the last two clean estimates by half a step.

    Args:
        denoise, x, condition, callback: As for `dpm_solver_pp_2s`.
        sigmas: At least two positive noise levels and a final 0; one network call per positive
            level.

    Returns:
        [B, C, H, W] in the type of x.

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0, or make a single step.
    """
    pairs = falling_pairs_for("dpm_solver_pp_2m", sigmas, at_least=2)
    before: tuple[Tensor, float] | None = None
    for index, (sigma, sigma_next) in enumerate(pairs):
        clean = denoise(x, sigma, condition).clean
        report(callback, index, len(pairs), sigma, clean)
        if sigma_next > 0:
            h = math.log(sigma / sigma_next)
            extended = _extended(clean, h, before)
            x = extended + sigma_next / sigma * (x - extended)
            before = clean, h

    return clean


def dpm_solver_pp_3m(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    condition: Condition | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """DPM-Solver++(3M): third order, multistep (after arXiv 2211.01095, section 4.2).

    The parabola through the last three clean estimates is integrated exactly. (The code of
    diffusers halves its quadratic term, which makes the method of second order.) The second step,
    with two estimates, is that of 2M. With fewer than some 15 steps, 2M comes nearer to the
    solution (measured on mixtures of Gaussians, σ 20 to 0.1).

    Args:
        denoise, x, condition, callback: As for `dpm_solver_pp_2s`.
        sigmas: At least three positive noise levels and a final 0; one network call per positive
            level.

    Returns:
        [B, C, H, W] in the type of x.

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0, or make fewer than three steps.
    """
    pairs = falling_pairs_for("dpm_solver_pp_3m", sigmas, at_least=3)
    known: list[tuple[float, Tensor]] = []
    for index, (sigma, sigma_next) in enumerate(pairs):
        clean = denoise(x, sigma, condition).clean
        report(callback, index, len(pairs), sigma, clean)
        if sigma_next > 0:
            known = [*known[-2:], (sigma, clean)]
            x = sigma_next / sigma * x + integral(known, sigma, sigma_next)

    return clean


def sde_dpm_solver_1(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    condition: Condition | None = None,
    generator: Generator = None,
    callback: Callback | None = None,
) -> Tensor:
    """SDE-DPM-Solver-1: the diffusion SDE by noise estimates (arXiv 2211.01095).

    ``x_t = x_s − 2 σ_t (e^h − 1) ε̂ + σ_t √(e^{2h} − 1) z``.

    Args:
        denoise, x, condition, callback: As for `dpm_solver_pp_2s`.
        sigmas: Decreasing noise levels and a final 0; one network call per positive level.
        generator: Random generator on the CPU, or one per picture.

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
            fresh = math.sqrt(sigma**2 - sigma_next**2) * noise_like(x, generator)
            x = x - 2 * (sigma - sigma_next) * noise + fresh

    return clean


def sde_dpm_solver_pp_2m(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    condition: Condition | None = None,
    generator: Generator = None,
    callback: Callback | None = None,
) -> Tensor:
    """SDE-DPM-Solver++(2M): the diffusion SDE by clean estimates, multistep (arXiv 2211.01095).

    ``x_t = e^{−2h} x_s + (1 − e^{−2h}) D + σ_t √(1 − e^{−2h}) z`` with D as in 2M. The first step,
    with ``D = x̂0``, is SDE-DPM-Solver++1, which equals DDPM's.

    Args:
        denoise, x, condition, callback: As for `dpm_solver_pp_2s`.
        sigmas: At least two positive noise levels and a final 0; one network call per positive
            level.
        generator: Random generator on the CPU, or one per picture.

    Returns:
        [B, C, H, W] in the type of x.

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0, or make a single step.
    """
    pairs = falling_pairs_for("sde_dpm_solver_pp_2m", sigmas, at_least=2)
    before: tuple[Tensor, float] | None = None
    for index, (sigma, sigma_next) in enumerate(pairs):
        clean = denoise(x, sigma, condition).clean
        report(callback, index, len(pairs), sigma, clean)
        if sigma_next > 0:
            h = math.log(sigma / sigma_next)
            extended = _extended(clean, h, before)
            fresh = sigma_next * math.sqrt(-math.expm1(-2 * h)) * noise_like(x, generator)
            x = extended + math.exp(-2 * h) * (x - extended) + fresh
            before = clean, h

    return clean


def _extended(clean: Tensor, h: float, before: tuple[Tensor, float] | None) -> Tensor:
    """D of 2M: the line through the last two clean estimates, extrapolated by half a step.

    Args:
        clean: Estimate at the beginning of the step.
        h: λ_t − λ_s of the step.
        before: The same two of the step before; None for the first step.
    """
    if before is None:
        return clean
    clean_before, h_before = before
    return clean + h / (2 * h_before) * (clean - clean_before)


def integral(known: Sequence[tuple[float, Tensor]], sigma: float, sigma_next: float) -> Tensor:
    """``σ_t ∫ e^λ p dλ`` from σ_s to σ_t, p the polynomial in λ through some clean estimates.

    With u = λ − λ_s, the weights of the estimates integrate 1, u, u², … exactly: ``Σ_k w_k u_k^j =
    m_j``, where ``m_j = ∫ e^{u−h} u^j du`` from 0 to h is ``h^j − j m_{j−1}``, and ``m_0 = 1 −
    e^{−h}``. For two estimates ``m_1`` is ``h/2 m_0``, as in 2M and in UniPC's B2 of order 2; the
    order of convergence is the same.

    Args:
        known: One to four pairs (σ, clean estimate at σ).
        sigma, sigma_next: σ_s and σ_t > 0.
    """
    h = math.log(sigma / sigma_next)
    places = np.array([math.log(sigma / level) for level, _ in known])
    moments = [-math.expm1(-h)]

    for j in range(1, len(known)):
        moments.append(h**j - j * moments[-1])

    if len(known) == 2:
        moments[1] = h / 2 * moments[0]

    weights = np.linalg.solve(np.vander(places, increasing=True).T, moments)

    terms = (float(weight) * clean for weight, (_, clean) in zip(weights, known, strict=True))
    return sum(terms, start=torch.zeros_like(known[0][1]))
