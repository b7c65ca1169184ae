"""Denoising diffusion implicit models, and their inversion."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from restore.diffusion.protocol import Condition, Denoise
from restore.diffusion.stepping import Callback, Generator, ddim_step, falling_pairs, report


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
    """DDIM: ``x ← x0 + √(ς² − η² β̃) ε + η √β̃ z`` from σ to the next level ς.

    Song, Meng, Ermon 2021, arXiv 2010.02502, eq. 12, with ``β̃ = ς² (1 − ς²/σ²)`` (eq. 16). η = 0
    is deterministic, Euler's method for ``dx/dσ = ε`` (eq. 14); η = 1 is
    `restore.samplers.ancestral.ancestral` with the posterior variance.

    Args:
        denoise: ``denoise(x, sigma, condition)`` with pictures in [-1, 1].
        x: [B, C, H, W] at ``sigmas[0]``.
        sigmas: Decreasing noise levels and a final 0; one network call per positive level.
        eta: Fraction of fresh noise, in [0, 1].
        condition: Shown to the network beside the noisy picture, if given.
        generator: Random generator on the CPU, or one per picture; not used for η = 0.
        callback: Called with a `Step` after each network call.

    Returns:
        [B, C, H, W].

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0, or η is outside [0, 1].
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must be in [0, 1], not {eta}")

    pairs = falling_pairs(sigmas)
    for index, (sigma, sigma_next) in enumerate(pairs):
        prediction = denoise(x, sigma, condition)
        report(callback, index, len(pairs), sigma, prediction.clean)
        x = ddim_step(prediction, sigma, sigma_next, eta, generator)

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
    """Invert `ddim` with η = 0: the noise from which it generates a picture.

    Song, Meng, Ermon 2021, arXiv 2010.02502, section 4.3: eq. 14 upwards. `ddim` goes down from σ
    to ς by ``x_ς = x_σ − (σ − ς) ε(x_σ, σ)``. The inversion solves this for x_σ by the iteration
    ``x_σ ← x_ς + (σ − ς) ε(x_σ, σ)`` (Fixed-point Inversion: Meiri et al. 2023, arXiv 2312.12540),
    which begins with the ε of the level below. One iteration has an error that falls with the
    number of levels. Many converge to the exact inverse where the iteration contracts: for the
    exact denoiser of a Gaussian of variance c by ``(σ − ς) σ/(c + σ²)`` each time; between the
    modes of a mixture it needs small steps. The network is never called at level 0. (The common
    choice to begin with x_ς loses a fraction (1 − ς/σ)² of the noise at high levels.)

    Args:
        denoise: ``denoise(x, sigma, condition)`` with pictures in [-1, 1].
        picture: [B, C, H, W] in [-1, 1].
        sigmas: Noise levels of `ddim`.
        iterations: Network calls per positive level.
        condition: Shown to the network beside the noisy picture, if given.
        callback: Called with a `Step` after each level, the lowest first; σ is the level reached.

    Returns:
        [B, C, H, W] at ``sigmas[0]``.

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0, or there is less than one iteration.
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


def spherical_interpolation(first: Tensor, second: Tensor, fraction: float) -> Tensor:
    """Interpolate between two noises along the great circle: `first` at 0, `second` at 1.

    ``sin((1 − f) θ)/sin θ x₁ + sin(f θ)/sin θ x₂`` with θ the angle between them (Shoemake 1985;
    DDIM, arXiv 2010.02502, appendix D.5). White noise stays white noise on the way; along a
    straight line it would shrink. Noises in one direction, or opposite ones, which have no one
    great circle, are interpolated along the line.

    Args:
        first, second: [B, C, H, W], at the same noise level.
        fraction: f in [0, 1].
    """
    one, other = (x.flatten(1).double() for x in (first, second))
    cosine = torch.nn.functional.cosine_similarity(one, other, dim=1).clamp(-1, 1)
    angle = cosine.acos().reshape(-1, 1, 1, 1)
    sine = angle.sin()
    straight = sine < 1e-6

    weights = [
        torch.where(straight, part, (part * angle).sin() / torch.where(straight, 1.0, sine))
        for part in (1 - fraction, fraction)
    ]
    return (weights[0] * first + weights[1] * second).to(first.dtype)
