"""ReSample: latents that explain the measurement, put back among the noisy ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from operators import LinearOperator, NonlinearChain
from restore.diffusion.latents import Autoencoder
from restore.diffusion.protocol import Denoise
from restore.diffusion.stepping import (
    Callback,
    Generator,
    ddim_step,
    falling_pairs,
    noise_like,
    report,
)
from restore.solvers.adam import Adam
from restore.solvers.decoded import DecodedMeasurement


def resample(
    denoise: Denoise,
    autoencoder: Autoencoder,
    operator: LinearOperator | NonlinearChain,
    measurement: Tensor,
    noise_level: Tensor | float,
    sigmas: Sequence[float],
    *,
    generator: Generator = None,
    gamma: float = 40.0,
    every: int = 5,
    iterations: int = 20,
    rate: float = 0.05,
    eta: float = 0.0,
    start: Tensor | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """ReSample: make the clean latents explain the measurement, and noise them again.

    Song et al. 2023, arXiv 2307.08123, algorithm 1. Every k-th DDIM step from σ to the next level
    ς, z' is its end, and

    - hard data consistency: ``z0(y)`` minimises ``½ ‖y − A D(z)‖²`` over latents z, by steps of
      Adam from the clean estimate, until the misfit is that of the noise;
    - stochastic resampling (proposition 1): ``z ← w z0(y) + (1 − w) z' + √w ς ε``, the product of
      ``N(z0(y), ς²)``, the state that z0(y) would have at ς, and a normal around z' whose variance
      is theirs, ``σ_t² = γ β̃_t`` with the variance β̃_t of DDPM's posterior. In these coordinates,
      ``w = γ b/(γ b + 1)`` with ``b = 1 − ς²/σ²``.

    At the last level, z0(y) is the result, whose picture is projected onto the measurement.

    The authors' code, which is for 500 steps, differs from the paper, and this from it: theirs
    takes a DPS step at every level; leaves the first third of the steps alone; optimises the
    decoded picture by itself in the second, and the latents in the last; and takes the clean
    estimate from five levels further down. Here the latents are optimised all the way. γ = 40, and
    the stopping error of 0.001, are theirs.

    Args:
        denoise: ``denoise(z, sigma, condition)`` of latents.
        autoencoder: The autoencoder of the latents, with a differentiable decoder.
        operator: A linear operator, or a chain with JPEG or quantisation.
        measurement: y, [B, *operator.output_shape], in the units of ``A x`` for x in [-1, 1].
        noise_level: σ_y in the same units; one number, [B], or a map of the measurement.
        sigmas: Decreasing noise levels and a final 0; one network call per positive level.
        generator: Random generator on the CPU, or one per picture.
        gamma: γ ≥ 0, how far resampling follows z0(y): 0 is the unconditional chain.
        every: k, steps from one resampling to the next; the last level always counts.
        iterations: Most steps of Adam each time.
        rate: Learning rate of the first of them, about the change of a number of the latent; it
            falls linearly to 0.
        eta: Fraction of fresh noise in the DDIM steps, in [0, 1], see `ddim_step`.
        start: [B or 1, *input_shape], picture whose latents the first noise is added to.
        callback: Called with a `Step` after each network call, with the pictures that were decoded
            last: of this level where it is optimised, else of the one before.

    Returns:
        Pictures [B, *operator.input_shape], float32.

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0, or a parameter is out of range.
    """
    _check(gamma, every, iterations, rate, eta)
    decoded = DecodedMeasurement(autoencoder, operator, measurement, noise_level)
    pairs = falling_pairs(sigmas)
    z = decoded.begin(pairs[0][0], start, generator)

    for index, (sigma, sigma_next) in enumerate(pairs):
        prediction = denoise(z, sigma, None)
        z = ddim_step(prediction, sigma, sigma_next, eta, generator)
        left = len(pairs) - 1 - index
        if left % every > 0:
            report(callback, index, len(pairs), sigma, decoded.preview(prediction.clean))
            continue

        explained = consistent(decoded, prediction.clean, iterations=iterations, rate=rate)
        report(callback, index, len(pairs), sigma, decoded.preview(explained))
        if left == 0:
            return decoded.finished(explained)

        ratio = gamma * (1 - (sigma_next / sigma) ** 2)
        weight = ratio / (ratio + 1)
        fresh = weight**0.5 * sigma_next * noise_like(z, generator)
        z = torch.lerp(z, explained, weight) + fresh

    raise AssertionError("noise levels end with 0")


def consistent(
    decoded: DecodedMeasurement, latents: Tensor, *, iterations: int, rate: float
) -> Tensor:
    """Return latents near the given ones whose pictures explain the measurement.

    Each picture stops where its misfit is `DecodedMeasurement.deviation`.
    """
    adam = Adam(latents)
    for iteration in range(iterations):
        residual, gradient = decoded.residual_and_gradient(latents)
        misfit = residual.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
        unexplained = misfit > decoded.deviation
        if not bool(unexplained.any()):
            break

        moved = rate * (1 - iteration / iterations) * adam.step(gradient)
        latents = latents - torch.where(unexplained, moved, 0.0)

    return latents


def _check(gamma: float, every: int, iterations: int, rate: float, eta: float) -> None:
    """Check the parameters.

    Raises:
        ValueError: If one is out of range.
    """
    if every < 1 or iterations < 1:
        raise ValueError(f"every and iterations must be at least 1, not {every} and {iterations}")
    if not gamma >= 0 or not rate > 0:
        raise ValueError(f"gamma must be at least 0 and rate above 0, not {gamma} and {rate}")
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must be in [0, 1], not {eta}")
