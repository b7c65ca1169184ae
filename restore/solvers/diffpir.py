"""DiffPIR: plug-and-play restoration with a diffusion prior, for all linear operators."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from operators import LinearOperator, NonlinearChain
from restore.diffusion.protocol import Condition, Denoise
from restore.diffusion.stepping import Callback, Generator, falling_pairs, gaussian_noise, report
from restore.solvers.consistency import finished, project


def diffpir(
    denoise: Denoise,
    operator: LinearOperator | NonlinearChain,
    measurement: Tensor,
    noise_level: Tensor | float,
    sigmas: Sequence[float],
    *,
    generator: Generator = None,
    strength: float = 1.0,
    zeta: float = 1.0,
    start: Tensor | None = None,
    condition: Condition | None = None,
    final_projection: bool = False,
    callback: Callback | None = None,
) -> Tensor:
    """DiffPIR: restore a picture from ``y = A x0 + σ_y n`` by denoising and data fitting in turn.

    Zhu et al. 2023, arXiv 2305.08995. Each step takes the network's clean estimate x0 to the
    picture x̂0 that weighs it against the measurement (their eq. 12 and 13),

        ``x̂0 = argmin ‖y − A x‖²/σ_y² + λ ‖x − x0‖²/σ²``,

    and goes to the next level ς by ``x ← x̂0 + ς (√(1−ζ) ε̂ + √ζ z)``, where ``ε̂ = (x − x̂0)/σ``
    and z is white noise (their algorithm 1). Without measurement noise, x̂0 is the projection ``x0
    + A⁺(y − A x0)`` of DDNM (Wang et al. 2022, arXiv 2212.00490).

    The minimum is exact for operators with an SVD, and found by conjugate gradients for all others.

    Args:
        denoise: ``denoise(x, sigma, condition)`` with pictures in [-1, 1].
        operator: A linear operator, or one that ends with JPEG or quantisation, see `project`.
        measurement: y, [B, *operator.output_shape], in the units of ``A x`` for x in [-1, 1].
        noise_level: σ_y in the same units (twice that for pixels in [0, 1]); one number or [B].
        sigmas: Decreasing noise levels and a final 0; one network call per positive level.
        generator: Random generator on the CPU, or one per picture.
        strength: λ > 0, weight of the clean estimate.
        zeta: ζ in [0, 1], fraction of fresh noise.
        start: [B or 1, *input_shape], picture that the first noise is added to, instead of
            mid-grey.
        condition: Shown to the network beside the noisy picture, if given.
        final_projection: Project the last clean estimate onto the measurement, see
            `restore.solvers.consistency.project`.
        callback: Called with a `Step` after each network call.

    Returns:
        [B, *operator.input_shape], float32.

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0, ζ is outside [0, 1], or λ is not positive.
    """
    if not 0 <= zeta <= 1 or not strength > 0:
        raise ValueError(f"zeta must be in [0, 1] and strength above 0, not {zeta} and {strength}")

    pairs = falling_pairs(sigmas)
    shape = (measurement.shape[0], *operator.input_shape)
    x = pairs[0][0] * gaussian_noise(shape, generator, measurement.device)
    x = x if start is None else x + start
    del start  # makes room for the network, for large pictures

    for index, (sigma, sigma_next) in enumerate(pairs):
        clean = denoise(x, sigma, condition).clean
        report(callback, index, len(pairs), sigma, operator.visible(clean))
        if sigma_next > 0:
            fitted = project(
                operator,
                clean,
                measurement,
                noise_level,
                prior_std=sigma / strength**0.5,
                exact=False,
            )
            fresh = gaussian_noise(shape, generator, measurement.device)
            x = fitted + sigma_next * ((1 - zeta) ** 0.5 * (x - fitted) / sigma + zeta**0.5 * fresh)
            del clean, fitted, fresh

    return finished(operator, clean, measurement, noise_level) if final_projection else clean
