"""DPIR: half-quadratic splitting with a denoiser as the prior, for all linear operators."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from operators import LinearOperator, NonlinearChain
from restore.diffusion.protocol import Condition, Denoise
from restore.diffusion.stepping import Callback, falling_pairs, report
from restore.solvers.consistency import finished, project


def dpir(
    denoise: Denoise,
    operator: LinearOperator | NonlinearChain,
    measurement: Tensor,
    noise_level: Tensor | float,
    sigmas: Sequence[float],
    *,
    strength: float = 0.23,
    start: Tensor | None = None,
    condition: Condition | None = None,
    final_projection: bool = False,
    callback: Callback | None = None,
) -> Tensor:
    """DPIR: restore a picture from ``y = A x0 + σ_y n`` by data fitting and denoising in turn.

    Zhang et al. 2021, arXiv 2008.13751. Half-quadratic splitting alternates, at falling noise
    levels σ, between (their eq. 6a and 6b, algorithm 1)

    - ``x = argmin ‖y − A x‖²/σ_y² + λ ‖x − z‖²/σ²``, and
    - ``z = E[x0 | x0 + σ ε = x]``, the denoiser at x.

    No noise is added, so that the result has no randomness: it approximates the most probable
    picture. The minimum is exact for operators with an SVD, and found by conjugate gradients for
    all others. Without measurement noise it is the projection ``z + A⁺(y − A z)``.

    The authors' levels are log-spaced from 49/255 to σ_y, for pictures in [0, 1].

    Args:
        denoise: ``denoise(x, sigma, condition)`` with pictures in [-1, 1].
        operator: A linear operator, or one that ends with JPEG or quantisation, see `project`.
        measurement: y, [B, *operator.output_shape], in the units of ``A x`` for x in [-1, 1].
        noise_level: σ_y in the same units (twice that for pixels in [0, 1]); one number or [B].
        sigmas: Decreasing noise levels and a final 0; one network call per positive level.
        strength: λ > 0, weight of the denoised picture; it has no unit. The authors use 0.23.
        start: [B or 1, *input_shape], the first z, instead of mid-grey.
        condition: Shown to the network beside the noisy picture, if given.
        final_projection: Project the last clean estimate onto the measurement, see
            `restore.solvers.consistency.project`.
        callback: Called with a `Step` after each network call.

    Returns:
        [B, *operator.input_shape], float32.

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0, or λ is not positive.
    """
    if not strength > 0:
        raise ValueError(f"strength must be above 0, not {strength}")

    pairs = falling_pairs(sigmas)
    shape = (measurement.shape[0], *operator.input_shape)
    z = measurement.new_zeros(shape) if start is None else start.expand(shape)
    del start  # makes room for the network, for large pictures

    for index, (sigma, _) in enumerate(pairs):
        error = sigma / strength**0.5
        x = project(operator, z, measurement, noise_level, prior_std=error, exact=False)
        z = denoise(x, sigma, condition).clean
        report(callback, index, len(pairs), sigma, operator.visible(z))

    return finished(operator, z, measurement, noise_level) if final_projection else z
