"""SR3: the degraded picture is shown to the network, which refines noise into a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from restore.diffusion.protocol import Condition, Denoise
from restore.diffusion.schedule import forward_variance
from restore.diffusion.stepping import Callback, Generator, falling_pairs, gaussian_noise, report

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
    """Sample pictures given a degraded one by iterative refinement (Saharia et al. 2021, arXiv
    2104.07636, alg. 2).

    One step goes from σ to the next lower level ς with ``x ← x0 + ς (√(1−κ²) ε + κ z)``, where
    ``κ = η √(1 − ς²/σ²)``: for η = 1 the posterior q(x_{t−1} | x_t, x0) of the chain with its
    variance β̃_t, for η = 0 DDIM (Song et al. 2021, arXiv 2010.02502, eq. 12). SR3's own choice of
    the larger variance ``β_t = 1 − α_t`` around the same mean is ``variance="forward"``, which
    suits many steps.

    Args:
        denoise: ``denoise(x, sigma, condition)`` of a conditional network, pictures in [-1, 1].
        condition: the degraded picture at full size, as the network knows it from training.
        sigmas: falling noise levels with a final 0; one call of the network for each but the 0.
        generator: of the random numbers, on the CPU; or one for each picture.
        eta: share of fresh noise in [0, 1]; with ``variance="forward"`` it must be 1.
        variance: of the fresh noise.
        start: [B or 1, C, H, W], the picture that the first level's noise is added to, instead of
            mid-grey.
        correct: applied to every clean estimate, e.g. the projection onto the measurement.
        callback: called with a `Step` after each call of the network.

    Returns:
        [B, C, H, W], float32.

    Raises:
        ValueError: ``sigmas`` do not fall to 0, η outside [0, 1], or η below 1 with the forward
            variance.
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
            share = eta * (1 - (sigma_next / sigma) ** 2) ** 0.5
            spread = (
                share * sigma_next
                if variance == "posterior"
                else forward_variance(sigma, sigma_next) ** 0.5
            )
            noise = (x - clean) / sigma
            x = clean + sigma_next * (1 - share**2) ** 0.5 * noise
            x = x + spread * gaussian_noise(shape, generator, device)

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
    """The network's least-squares estimate from the condition alone: one call at the highest noise
    level.

    At that level the noisy picture says nothing, so the answer tends to E[x0 | condition]: the
    highest fidelity and the least invented detail. Arguments as for `sr3`; ``sigma`` is the highest
    noise level. ``from_zeros`` is for networks that were trained with zeros there, see
    `restore.diffusion.denoiser.ModelConfig.one_step`: what does not depend on chance need not be
    learnt to be ignored.
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
