"""RED-diff: variational inference with a diffusion prior, by stochastic optimisation."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from operators import LinearOperator, NonlinearChain
from restore.diffusion.protocol import Condition, Denoise
from restore.diffusion.stepping import Callback, Generator, falling_pairs, gaussian_noise, report
from restore.solvers.adam import Adam
from restore.solvers.consistency import finished


def red_diff(
    denoise: Denoise,
    operator: LinearOperator | NonlinearChain,
    measurement: Tensor,
    noise_level: Tensor | float,
    sigmas: Sequence[float],
    *,
    generator: Generator = None,
    strength: float = 0.25,
    rate: float = 0.1,
    start: Tensor | None = None,
    condition: Condition | None = None,
    final_projection: bool = False,
    callback: Callback | None = None,
) -> Tensor:
    """RED-diff: fit a Gaussian to the posterior of ``y = A x0 + σ_y n``, and return its mean.

    Mardani et al. 2023, arXiv 2305.04391. Their algorithm 1 minimises over the mean μ, at falling
    noise levels σ with new noise ε each time,

        ``½ mean (y − A μ)² + λ w mean (sg[ε̂(μ + σ ε, σ) − ε] μ)``,

    where sg stops the gradient, so that none goes through the network, and ``w = σ`` (their w_t =
    σ_t/α_t, eq. 11). In terms of the clean estimate x̂0, the gradient of the second term is ``λ (μ −
    x̂0)``. One step of Adam follows each network call. The result is one mode, not a sample.

    Args:
        denoise: ``denoise(x, sigma, condition)`` with pictures in [-1, 1].
        operator: A linear operator, or one that ends with JPEG or quantisation, whose derivative
            counts as 1 (straight-through: Bengio et al. 2013, arXiv 1308.3432).
        measurement: y, [B, *operator.output_shape], in the units of ``A x`` for x in [-1, 1].
        noise_level: σ_y in the same units, one number or [B]; only the final projection uses it.
        sigmas: Decreasing noise levels and a final 0; one network call per positive level.
        generator: Random generator on the CPU, or one per picture.
        strength: λ ≥ 0, weight of the prior. It has no unit: both means are squares of values for
            pictures in [-1, 1].
        rate: Learning rate of Adam, about the change of a pixel per step, for pictures in [-1, 1].
        start: [B or 1, *input_shape], the first μ, instead of the pseudo-inverse ``A⁺ y``.
        condition: Shown to the network beside the noisy picture, if given.
        final_projection: Project μ onto the measurement in the end, see
            `restore.solvers.consistency.project`.
        callback: Called with a `Step` after each network call.

    Returns:
        [B, *operator.input_shape], float32.

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0, λ is negative, or the rate is not positive.
    """
    if not strength >= 0 or not rate > 0:
        raise ValueError(f"strength must be at least 0 and rate above 0, not {strength} and {rate}")

    pairs = falling_pairs(sigmas)
    shape = (measurement.shape[0], *operator.input_shape)
    first = operator.pseudo_inverse(measurement) if start is None else start
    mean = first.expand(shape)
    adam = Adam(mean)
    per_value = mean[0].numel() / measurement[0].numel()

    for index, (sigma, _) in enumerate(pairs):
        noise = gaussian_noise(shape, generator, measurement.device)
        clean = denoise(mean + sigma * noise, sigma, condition).clean
        report(callback, index, len(pairs), sigma, operator.visible(clean))
        fit = _gradient_of_fit(operator, mean, measurement)
        mean = mean - rate * adam.step(per_value * fit + strength * (mean - clean))

    return finished(operator, mean, measurement, noise_level) if final_projection else mean


def _gradient_of_fit(
    operator: LinearOperator | NonlinearChain, x: Tensor, measurement: Tensor
) -> Tensor:
    """Gradient ``Aᵀ(A x − y)`` of ``½ ‖y − A x‖²``, with nonlinear parts as if they were none."""
    if isinstance(operator, LinearOperator):
        return operator.At(operator.A(x) - measurement)

    residual = operator.A(x) - measurement
    return residual if operator.linear is None else operator.linear.At(residual)
