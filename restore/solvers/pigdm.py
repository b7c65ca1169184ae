"""Pseudoinverse-guided diffusion models."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from operators import LinearOperator, NonlinearChain
from restore.diffusion.gradient import differentiated
from restore.diffusion.protocol import Condition, Denoise
from restore.diffusion.stepping import (
    Callback,
    Generator,
    ddim_step,
    falling_pairs,
    gaussian_noise,
    report,
)
from restore.solvers.consistency import finished, project


def pigdm(
    denoise: Denoise,
    operator: LinearOperator | NonlinearChain,
    measurement: Tensor,
    noise_level: Tensor | float,
    sigmas: Sequence[float],
    *,
    generator: Generator = None,
    eta: float = 1.0,
    start: Tensor | None = None,
    condition: Condition | None = None,
    final_projection: bool = False,
    callback: Callback | None = None,
) -> Tensor:
    """ΠGDM: guide DDIM by the pseudo-inverse, through the Jacobian of the network.

    Song, Vahdat, Mardani, Kautz, "Pseudoinverse-Guided Diffusion Models for Inverse Problems", ICLR
    2023, algorithm 1. With p(x0 | x) taken as N(x0(x), r²) and ``r² = σ²/(1+σ²)``, the measurement
    guides the clean estimate by

        ``g = r² (∂x0/∂x)ᵀ Aᵀ (r² A Aᵀ + σ_y²)⁻¹ (y − A x0)``,

    and a step is DDIM's plus g. The factor r² is their adaptive weight. They add ``√ᾱ_s √ᾱ_t g`` to
    the next state of the variance-preserving chain, with the gradient by its own state, which is g
    in ``x = x0 + σ ε``. One call is one forward and one backward pass.

    ``r² Aᵀ (r² A Aᵀ + σ_y²)⁻¹ (y − A x0)`` is the move of `restore.solvers.consistency.project` for
    ``prior_std`` r; without noise it is their ``A⁺ y − A⁺ A x0``. For JPEG and quantisation the
    approximate move of `project` takes its place, as in their section 3.4.

    The weight is per step, whatever its length, so that more steps guide more: without noise the
    estimate approaches the measurement by most of its distance in each.

    Args:
        denoise: ``denoise(x, sigma, condition)`` with pictures in [-1, 1], differentiable.
        operator: A linear operator, or one that ends with JPEG or quantisation, see `project`.
        measurement: y, [B, *operator.output_shape], in the units of ``A x`` for x in [-1, 1].
        noise_level: σ_y in the same units (twice that for pixels in [0, 1]); one number or [B].
        sigmas: Decreasing noise levels and a final 0; one network call per positive level.
        generator: Random generator on the CPU, or one per picture.
        eta: Fraction of fresh noise in the steps, in [0, 1], see `ddim_step`; 1 is the authors'.
        start: [B or 1, *input_shape], picture that the first noise is added to, instead of
            mid-grey.
        condition: Shown to the network beside the noisy picture, if given.
        final_projection: Project the result onto the measurement.
        callback: Called with a `Step` after each network call.

    Returns:
        [B, *operator.input_shape], float32.

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0, η is outside [0, 1], or the network is not
            differentiable.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must be in [0, 1], not {eta}")

    pairs = falling_pairs(sigmas)
    shape = (measurement.shape[0], *operator.input_shape)
    x = pairs[0][0] * gaussian_noise(shape, generator, measurement.device)
    x = x if start is None else x + start
    del start  # makes room for the network, for large pictures

    for index, (sigma, sigma_next) in enumerate(pairs):
        prediction, pull_back = differentiated(denoise, x, sigma, condition)
        report(callback, index, len(pairs), sigma, operator.visible(prediction.clean))
        spread = sigma / math.hypot(1, sigma)
        fitted = project(operator, prediction.clean, measurement, noise_level, prior_std=spread)
        guidance = pull_back(fitted - prediction.clean)
        x = ddim_step(prediction, sigma, sigma_next, eta, generator) + guidance
        del prediction, pull_back, fitted, guidance

    return finished(operator, x, measurement, noise_level) if final_projection else x
