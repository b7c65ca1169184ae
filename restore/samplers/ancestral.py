"""The forward chain, and ancestral sampling: Sohl-Dickstein et al. 2015, DDPM, Improved DDPM."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from restore.diffusion.protocol import Condition, Denoise
from restore.diffusion.schedule import forward_variance, posterior_variance
from restore.diffusion.stepping import (
    Callback,
    Generator,
    corrected,
    falling_pairs,
    noise_like,
    report,
)


def diffuse(x: Tensor, sigma: float, generator: Generator = None, *, start: float = 0.0) -> Tensor:
    """Sample the forward chain from level ``start`` up to σ: ``x + √(σ² − start²) z``.

    From a picture (``start`` 0) this is q(x_t | x0), from a lower level the chain's q(x_t |
    x_{t−1}) (Sohl-Dickstein et al. 2015, arXiv 1503.03585, table 1; Ho, Jain, Abbeel 2020, arXiv
    2006.11239, eq. 2 and 4). The papers' factor √(1−β_t) is the change to variance-preserving
    coordinates.

    Args:
        x: [B, C, H, W], pictures in [-1, 1] with noise of level ``start``.
        sigma: Noise level of the result, not below ``start``.
        generator: Random generator on the CPU, or one per picture.
        start: Noise level of x.

    Raises:
        ValueError: If not 0 <= ``start`` <= ``sigma``.
    """
    if not 0 <= start <= sigma:
        raise ValueError(
            f"noise only grows along the chain: 0 <= start <= sigma, not {start} and {sigma}"
        )
    return x + math.sqrt(sigma**2 - start**2) * noise_like(x, generator)


FIXED_VARIANCES = {"posterior": posterior_variance, "forward": forward_variance}


def ancestral(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    variance: Literal["posterior", "forward", "learned"] = "posterior",
    condition: Condition | None = None,
    generator: Generator = None,
    callback: Callback | None = None,
) -> Tensor:
    """DDPM: draw each step from a Gaussian p(x_{t−1} | x_t).

    Ho, Jain, Abbeel 2020, arXiv 2006.11239, algorithm 2. The mean is that of q(x_{t−1} | x_t, x0)
    at the clean estimate (eq. 7), from σ to the next level ς ``x0 + (ς/σ)² (x − x0)``. The variance
    is β̃_t, β_t, or learned: ``log Σ = v log β_t + (1 − v) log β̃_t`` with v predicted for every
    pixel (Improved DDPM: Nichol, Dhariwal 2021, arXiv 2102.09672, eq. 15). The last step, to 0,
    returns the clean estimate.

    ``sigmas`` may be any subset of a chain's levels: β_t and β̃_t are those between neighbours
    (arXiv 2102.09672, eq. 19). A step over n levels of the chain is then a draw from the skip-n
    posterior q(x_{t−n} | x_t, x0) at the clean estimate, see `skip_posterior`.

    Args:
        denoise: ``denoise(x, sigma, condition)`` with pictures in [-1, 1].
        x: [B, C, H, W] at ``sigmas[0]``.
        sigmas: Decreasing noise levels and a final 0; one network call per positive level.
        variance: ``posterior`` (β̃_t), ``forward`` (β_t), or ``learned``, from
            `Prediction.variance_fraction`.
        condition: Shown to the network beside the noisy picture, if given.
        generator: Random generator on the CPU, or one per picture.
        callback: Called with a `Step` after each network call.

    Returns:
        [B, C, H, W].

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0, the variance is unknown, or it is not
            learned by the network.
    """
    if variance not in (*FIXED_VARIANCES, "learned"):
        raise ValueError(
            f"unknown variance {variance!r}; known are {', '.join(FIXED_VARIANCES)}, learned"
        )

    pairs = falling_pairs(sigmas)
    for index, (sigma, sigma_next) in enumerate(pairs):
        prediction = denoise(x, sigma, condition)
        clean = prediction.clean
        report(callback, index, len(pairs), sigma, clean)
        if sigma_next > 0:
            mean = clean + (sigma_next / sigma) ** 2 * (x - clean)
            spread = _spread(variance, prediction.variance_fraction, sigma, sigma_next)
            x = mean + spread * noise_like(x, generator)

    return clean


def skip_posterior(
    alphas_cumprod: Sequence[float], clean: Tensor, noisy: Tensor, step: int, skipped: int
) -> tuple[Tensor, float]:
    """Mean and variance of q(x_{t−n} | x_t, x0), the posterior over n steps of the chain at once.

    In the variance-preserving coordinates of the chain, with ``α = ᾱ_t/ᾱ_{t−n}``, the retained
    signal of the n steps together:

        mean      √ᾱ_{t−n} (1−α)/(1−ᾱ_t) x0 + √α (1−ᾱ_{t−n})/(1−ᾱ_t) x_t
        variance  (1−ᾱ_{t−n})/(1−ᾱ_t) (1−α)

    For n = 1 it is DDPM's posterior (Ho, Jain, Abbeel 2020, arXiv 2006.11239, eq. 6 and 7).

    Args:
        alphas_cumprod: ᾱ_1 … ᾱ_T.
        clean: x0.
        noisy: x_t.
        step: t in 1 … T.
        skipped: n in 1 … t; ᾱ_0 = 1.

    Raises:
        ValueError: If the step is not of the chain, or goes beyond its start.
    """
    if not 1 <= skipped <= step <= len(alphas_cumprod):
        raise ValueError(
            f"1 <= n <= t <= {len(alphas_cumprod)} is needed, not n = {skipped} and t = {step}"
        )

    now = alphas_cumprod[step - 1]
    before = alphas_cumprod[step - skipped - 1] if skipped < step else 1.0
    kept = now / before
    of_clean = math.sqrt(before) * (1 - kept) / (1 - now)
    of_noisy = math.sqrt(kept) * (1 - before) / (1 - now)

    return of_clean * clean + of_noisy * noisy, (1 - before) / (1 - now) * (1 - kept)


def _spread(
    variance: str, variance_fraction: Tensor | None, sigma: float, sigma_next: float
) -> Tensor | float:
    """Standard deviation of a step's noise; arguments as for `ancestral` and `range_spread`."""
    if variance != "learned":
        return math.sqrt(FIXED_VARIANCES[variance](sigma, sigma_next))
    if variance_fraction is None:
        raise ValueError("the network says nothing of its variance: it has not learned one")
    return range_spread(variance_fraction, sigma, sigma_next)


def clipped(denoise: Denoise) -> Denoise:
    """Clip the clean estimates of a denoiser to [-1, 1], as DDPM's authors do."""
    return corrected(denoise, lambda clean: clean.clamp(-1, 1))


def range_spread(variance_fraction: Tensor, sigma: float, sigma_next: float) -> Tensor:
    """√Σ with ``log Σ = v log β_t + (1 − v) log β̃_t`` (Improved DDPM, arXiv 2102.09672, eq. 15).

    Args:
        variance_fraction: v, of any shape.
        sigma, sigma_next: Noise levels of the step.

    Returns:
        Tensor of the shape of v.
    """
    high = math.log(forward_variance(sigma, sigma_next))
    low = math.log(posterior_variance(sigma, sigma_next))
    return torch.exp((low + variance_fraction * (high - low)) / 2)
