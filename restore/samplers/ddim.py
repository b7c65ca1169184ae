"""Denoising diffusion implicit models, and back from a picture to its noise."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from restore.diffusion.protocol import Condition, Denoise
from restore.diffusion.schedule import posterior_variance
from restore.diffusion.stepping import Callback, Generator, falling_pairs, noise_like, report


def ddim(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    eta: float = 0.0,
    condition: Condition | None = None,
    generator: Generator = None,
    callback: Callback | None = None,
) -> Tensor:
    """DDIM (Song, Meng, Ermon 2021, arXiv 2010.02502, eq. 12): ``x ← x0 + √(ς² − η² β̃) ε + η √β̃
    z``.

    One step goes from σ to the next lower level ς; ``β̃ = ς² (1 − ς²/σ²)`` (eq. 16). η = 0 is
    deterministic, Euler's method for ``dx/dσ = ε`` (eq. 14); η = 1 is
    `restore.samplers.ancestral.ancestral` with the posterior variance.

    Args:
        denoise: ``denoise(x, sigma, condition)`` with pictures in [-1, 1].
        x: [B, C, H, W] at ``sigmas[0]``.
        sigmas: falling noise levels with a final 0; one call of the network for each but the 0.
        eta: share of fresh noise, in [0, 1].
        condition: shown to the network beside the noisy picture, if given.
        generator: of the random numbers, on the CPU, or one for each picture; none are drawn for η
            = 0.
        callback: called with a `Step` after each call of the network.

    Returns:
        [B, C, H, W].

    Raises:
        ValueError: ``sigmas`` do not fall to 0, or η lies outside [0, 1].
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must be in [0, 1], not {eta}")

    pairs = falling_pairs(sigmas)
    for index, (sigma, sigma_next) in enumerate(pairs):
        prediction = denoise(x, sigma, condition)
        report(callback, index, len(pairs), sigma, prediction.clean)
        variance = eta**2 * posterior_variance(sigma, sigma_next)
        x = prediction.clean + (sigma_next**2 - variance) ** 0.5 * prediction.noise
        if variance > 0:
            x = x + variance**0.5 * noise_like(x, generator)

    return x


def ddim_invert(
    denoise: Denoise,
    picture: Tensor,
    sigmas: Sequence[float],
    *,
    iterations: int = 1,
    condition: Condition | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """The noise from which `ddim` with η = 0 makes a picture (arXiv 2010.02502, section 4.3): eq.
    14 upwards.

    `ddim` goes down from σ to ς by ``x_ς = x_σ − (σ − ς) ε(x_σ, σ)``. The way up solves that for
    x_σ by the iteration ``x_σ ← x_ς + (σ − ς) ε(x_σ, σ)`` (Fixed-point Inversion: Meiri et al.
    2023, arXiv 2312.12540), which begins with the ε of the level below. Once is an inversion whose
    error falls with the number of levels; many times is the exact inverse of `ddim` on these
    levels, where the iteration contracts: with the exact denoiser of one Gaussian of variance c by
    ``(σ − ς) σ/(c + σ²)`` each time; between the modes of a mixture it needs small steps. The
    network is never asked at level 0. (To begin with x_ς instead, as is often done, loses a share
    of (1 − ς/σ)² of the noise at every high level.)

    Args:
        denoise: ``denoise(x, sigma, condition)``.
        picture: [B, C, H, W] in [-1, 1].
        sigmas: falling, as `ddim` takes them.
        iterations: calls of the network for each level but the 0.
        condition: shown to the network beside the noisy picture, if given.
        callback: called with a `Step` after each level, the lowest first; σ is the level that was
            reached.

    Returns:
        [B, C, H, W] at ``sigmas[0]``.

    Raises:
        ValueError: ``sigmas`` do not fall to 0, or less than one iteration.
    """
    if iterations < 1:
        raise ValueError(f"the inversion needs at least one iteration a level, not {iterations}")

    pairs = falling_pairs(sigmas)
    x = picture
    noise = torch.zeros_like(picture)

    for index, (sigma, sigma_below) in enumerate(reversed(pairs)):
        below = x
        x = x + (sigma - sigma_below) * noise
        for _ in range(iterations):
            prediction = denoise(x, sigma, condition)
            noise = prediction.noise
            x = below + (sigma - sigma_below) * noise
        report(callback, index, len(pairs), sigma, prediction.clean)

    return x
