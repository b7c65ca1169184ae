"""SR3: refine noise into a picture with a network that sees the degraded picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from restore.diffusion.protocol import Condition, Denoise
from restore.diffusion.schedule import forward_variance
from restore.diffusion.stepping import Callback, Generator, falling_pairs, gaussian_noise, report

# Correction of clean estimates, [B, C, H, W].
Correct = Callable[[Tensor], Tensor]


def sr3(
    denoise: Denoise,
    condition: Condition,
    sigmas: Sequence[float],
    *,
    generator: Generator = None,
    eta: float = 1.0,
    variance: Literal["posterior", "forward"] = "posterior",
    start: Tensor | None = None,
    correct: Correct | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """SR3: sample pictures given a degraded one by iterative refinement.

    Saharia et al. 2021, arXiv 2104.07636, algorithm 2. A step goes from σ to the next level ς by
    ``x ← x0 + ς (√(1−κ²) ε + κ z)`` with ``κ = η √(1 − ς²/σ²)`` and ``ε = (x − x0)/σ``: for η = 1
    the posterior q(x_{t−1} | x_t, x0) of the chain with variance β̃_t, for η = 0 DDIM (Song et al.
    2021, arXiv 2010.02502, eq. 12). SR3's larger variance ``β_t = 1 − α_t`` around the same mean is
    ``variance="forward"``, which suits many steps.

    Args:
        denoise: ``denoise(x, sigma, condition)`` of a conditional network, pictures in [-1, 1].
        condition: The degraded picture at full size, as in training.
        sigmas: Decreasing noise levels and a final 0; one network call per positive level.
        generator: Random generator on the CPU, or one per picture.
        eta: η in [0, 1], fraction of fresh noise; must be 1 with ``variance="forward"``.
        variance: Variance of the fresh noise, ``posterior`` (β̃_t) or ``forward`` (β_t).
        start: [B or 1, C, H, W], picture that the first noise is added to, instead of mid-grey.
        correct: Applied to every clean estimate, for example the projection onto the measurement.
        callback: Called with a `Step` after each network call.

    Returns:
        [B, C, H, W], float32.

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0, η is outside [0, 1], or η is below 1 with
            the forward variance.
    """
    if not 0 <= eta <= 1 or (variance == "forward" and eta != 1):
        raise ValueError(f"eta must be in [0, 1], and 1 with the forward variance, not {eta}")

    pairs = falling_pairs(sigmas)
    shape = condition.picture.shape
    device = condition.picture.device
    x = pairs[0][0] * gaussian_noise(shape, generator, device)
    x = x if start is None else x + start

    for index, (sigma, sigma_next) in enumerate(pairs):
        clean = denoise(x, sigma, condition).clean
        if correct is not None:
            clean = correct(clean)
        report(callback, index, len(pairs), sigma, clean)
        if sigma_next > 0:
            noise = (x - clean) / sigma
            kappa = eta * math.sqrt(1 - (sigma_next / sigma) ** 2)
            spread = kappa * sigma_next
            if variance == "forward":
                spread = math.sqrt(forward_variance(sigma, sigma_next))

            x = torch.add(clean, noise, alpha=sigma_next * math.sqrt(1 - kappa**2))
            x = x.add_(gaussian_noise(shape, generator, device), alpha=spread)

    return clean


def one_step(
    denoise: Denoise,
    condition: Condition,
    sigma: float,
    *,
    generator: Generator = None,
    from_zeros: bool = False,
    correct: Correct | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Least-squares estimate from the condition alone: one call at the highest noise level.

    The noisy picture has no information at that level, so the estimate tends to E[x0 | condition],
    with the highest fidelity and the least invented detail.

    Args:
        denoise, condition, generator, correct, callback: As for `sr3`.
        sigma: Highest noise level.
        from_zeros: Show the network zeros instead of noise, if it was trained so, see ``one_step``
            of `pretrained.description.ModelConfig`.

    Returns:
        [B, C, H, W], float32.
    """
    if not from_zeros:
        return sr3(
            denoise,
            condition,
            [sigma, 0.0],
            generator=generator,
            correct=correct,
            callback=callback,
        )

    clean = denoise(torch.zeros_like(condition.picture), sigma, condition).clean
    clean = clean if correct is None else correct(clean)
    report(callback, 0, 1, sigma, clean)

    return clean
