"""Extended Analytic-DPM: ancestral and DDIM steps with an optimal variance of each pixel."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from restore.diffusion.protocol import Condition, Denoise, Prediction
from restore.diffusion.schedule import posterior_variance
from restore.diffusion.stepping import Callback, Generator
from restore.samplers.analytic_dpm import with_spread


def diagonal_variance(
    noise_variance: Tensor, sigma: float, sigma_next: float, eta: float = 1.0
) -> Tensor:
    """Variance of each pixel, for a step from σ to ς, that is nearest in KL to the true process.

    ``σ*² = λ² + (1 − √(ς² − λ²)/σ)² σ² g`` with ``λ² = η² β̃``. With ``g = E[(ε − ε̂)² | x]`` it is
    optimal for the mean that follows from ε̂, however wrong that is, and larger than for the true
    mean by the square of the error (NPR-DPM of Bao et al. 2022, arXiv 2206.07309, section 3). With
    ``g = E[ε² | x] − ε̂²`` it is optimal for the true mean (their SN-DPM). ``σ² g``, the variance of
    x0 given x, is clipped to [0, 1] as in `restore.samplers.analytic_dpm`.

    Args:
        noise_variance: g, of any shape.
        sigma, sigma_next: Noise levels of the step.
        eta: η in [0, 1].
    """
    fresh = eta**2 * posterior_variance(sigma, sigma_next)
    variance_of_clean = (sigma**2 * noise_variance).clamp(0, 1)
    return fresh + (1 - math.sqrt(sigma_next**2 - fresh) / sigma) ** 2 * variance_of_clean


def extended_analytic_dpm(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    eta: float = 1.0,
    last_noise: float | None = 2.0,
    condition: Condition | None = None,
    generator: Generator = None,
    callback: Callback | None = None,
) -> Tensor:
    """Extended Analytic-DPM: ``x ← x0 + √(ς² − η² β̃) ε + σ* z`` from σ to the next level ς.

    Bao, Li, Sun, Zhu, Zhang 2022, arXiv 2206.07309. As `restore.samplers.analytic_dpm`, but the
    network itself predicts how wrong its noise is, so the variance σ*² (`diagonal_variance`)
    differs between pixels and pictures, and needs no score norms. NPR- or SN-DDPM for η = 1, -DDIM
    for η = 0, as the network was trained. The last step, to 0, returns the clean estimate.

    Args:
        denoise: ``denoise(x, sigma, condition)`` with pictures in [-1, 1], whose predictions have a
            ``noise_variance``.
        x: [B, C, H, W] at ``sigmas[0]``.
        sigmas: Decreasing noise levels and a final 0; one network call per positive level.
        eta: η in [0, 1].
        last_noise: Upper bound of the mean size E|σ* z| of a pixel's last noise, in 8-bit levels;
            None is no bound.
        condition: Shown to the network beside the noisy picture, if given.
        generator: Random generator on the CPU, or one per picture.
        callback: Called with a `Step` after each network call.

    Returns:
        [B, C, H, W].

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0, η is outside [0, 1], ``last_noise`` is
            negative, or predictions have no ``noise_variance``.
    """

    def spread(prediction: Prediction, sigma: float, sigma_next: float) -> Tensor:
        if prediction.noise_variance is None:
            raise ValueError("the network does not predict the variance of the noise")
        return diagonal_variance(prediction.noise_variance, sigma, sigma_next, eta).sqrt()

    return with_spread(
        denoise,
        x,
        sigmas,
        spread,
        eta=eta,
        last_noise=last_noise,
        condition=condition,
        generator=generator,
        callback=callback,
    )
