"""The diffusion chain and the way back along it: Sohl-Dickstein et al. 2015, DDPM, Improved
DDPM.
"""

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
    """Forward along the chain, from level ``start`` up to σ: ``x + √(σ² − start²) z``.

    From a picture (``start`` 0) this is q(x_t | x0), and from level to level it is the chain's own
    q(x_t | x_{t−1}) (Sohl-Dickstein et al. 2015, arXiv 1503.03585, table 1; Ho, Jain, Abbeel 2020,
    arXiv 2006.11239, eq. 2 and 4): what shrinks x to ``√(1−β_t) x`` there is the change to
    coordinates in which the variance stays 1.

    Args:
        x: [B, C, H, W], pictures in [-1, 1] with noise of level ``start`` on them.
        sigma: not below ``start``.
        generator: of the random numbers, on the CPU; or one for each picture.

    Raises:
        ValueError: ``sigma`` below ``start``, or a negative ``start``.
    """
    if not 0 <= start <= sigma:
        raise ValueError(
            f"noise only grows along the chain: 0 <= start <= sigma, not {start} and {sigma}"
        )
    return x + (sigma**2 - start**2) ** 0.5 * noise_like(x, generator)


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
    """DDPM (Ho, Jain, Abbeel 2020, arXiv 2006.11239, algorithm 2): each step draws from a Gaussian
    p(x_{t−1} | x_t).

    Its mean is that of q(x_{t−1} | x_t, x0) at the clean estimate (eq. 7), which from σ to the next
    level ς is ``x0 + (ς/σ)² (x − x0)``; its variance is β̃_t, β_t, or between them by v, which the
    network says for every pixel: ``log Σ = v log β_t + (1 − v) log β̃_t`` (Improved DDPM: Nichol,
    Dhariwal 2021, arXiv 2102.09672, eq. 15). Reverse steps that are Gaussian with a learned mean
    and variance are those of Sohl-Dickstein et al. 2015 (arXiv 1503.03585). Any part of a chain's
    levels will do for ``sigmas``: β_t and β̃_t are those between neighbours (arXiv 2102.09672, eq.
    19). The last step, to 0, has no noise: it ends at the clean estimate.

    Args:
        denoise: ``denoise(x, sigma, condition)`` with pictures in [-1, 1].
        x: [B, C, H, W] at ``sigmas[0]``.
        sigmas: falling noise levels with a final 0; one call of the network for each but the 0.
        variance: ``posterior`` (β̃_t), ``forward`` (β_t), or ``learned``, by the network's
            `Prediction.variance_fraction`.
        condition: shown to the network beside the noisy picture, if given.
        generator: of the random numbers, on the CPU; or one for each picture.
        callback: called with a `Step` after each call of the network.

    Returns:
        [B, C, H, W].

    Raises:
        ValueError: ``sigmas`` do not fall to 0, an unknown variance, or a network that has not
            learned its own.
    """
    if variance not in (*FIXED_VARIANCES, "learned"):
        raise ValueError(
            f"unknown variance {variance!r}; known are {', '.join(FIXED_VARIANCES)}, learned"
        )

    pairs = falling_pairs(sigmas)
    for index, (sigma, sigma_next) in enumerate(pairs):
        clean, _, variance_fraction = denoise(x, sigma, condition)
        report(callback, index, len(pairs), sigma, clean)
        mean = clean + (sigma_next / sigma) ** 2 * (x - clean)
        if sigma_next == 0:
            x = mean
        elif variance == "learned":
            x = mean + range_spread(_learned(variance_fraction), sigma, sigma_next) * noise_like(
                x, generator
            )
        else:
            x = mean + FIXED_VARIANCES[variance](sigma, sigma_next) ** 0.5 * noise_like(
                x, generator
            )

    return x


def _learned(variance_fraction: Tensor | None) -> Tensor:
    if variance_fraction is None:
        raise ValueError("the network says nothing of its variance: it has not learned one")
    return variance_fraction


def clipped(denoise: Denoise) -> Denoise:
    """A denoiser whose clean estimates are cut to [-1, 1], as DDPM's authors sample; its noise is
    what is left of x.
    """
    return corrected(denoise, lambda clean: clean.clamp(-1, 1))


def range_spread(variance_fraction: Tensor, sigma: float, sigma_next: float) -> Tensor:
    """√Σ with ``log Σ = v log β_t + (1 − v) log β̃_t`` (arXiv 2102.09672, eq. 15), of the shape of
    v.
    """
    high, low = (math.log(of(sigma, sigma_next)) for of in (forward_variance, posterior_variance))
    return torch.exp((low + variance_fraction * (high - low)) / 2)
