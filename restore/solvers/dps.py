"""Diffusion Posterior Sampling, for every differentiable operator."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from operators import LinearOperator, NonlinearChain
from restore.diffusion.protocol import Condition, Denoise
from restore.diffusion.stepping import Callback, Generator, falling_pairs, gaussian_noise, report
from restore.solvers.consistency import finished
from restore.solvers.guided import check_guidance, guided
from restore.solvers.misfit import misfit_gradient


def dps(
    denoise: Denoise,
    operator: LinearOperator | NonlinearChain,
    measurement: Tensor,
    noise_level: Tensor | float,
    sigmas: Sequence[float],
    *,
    generator: Generator = None,
    step_size: float = 0.002,
    eta: float = 1.0,
    start: Tensor | None = None,
    condition: Condition | None = None,
    final_projection: bool = False,
    callback: Callback | None = None,
) -> Tensor:
    """DPS: step back along the chain, then down the misfit of the clean estimate.

    Chung et al. 2022, arXiv 2209.14687, algorithm 1: with x' an ancestral step from σ to the next
    level ς, ``x ← x' − ζ ∇_x ‖y − A x0(x)‖``, where the norm is not squared. The gradient goes
    through the operator and the network: one call is one forward and one backward pass.

    **Step size.** The gradient of a norm does not grow with the misfit, so that ζ is a length in
    the space of pictures. Over N numbers of a picture it is ``ζ = √N s``: where A and the network
    do not stretch, no step moves the picture by more than s in root mean square. This s, unlike ζ,
    means the same for pictures of all sizes. The authors' ζ = 1 for 256×256 pixels is s = 0.0023,
    over 1000 steps. `guided` has the factor between their coordinates and these.

    JPEG and quantisation take part with the gradient of `operators.nonlinear.straight_through`.

    Args:
        denoise: ``denoise(x, sigma, condition)`` with pictures in [-1, 1], differentiable.
        operator: A linear operator, or a chain with JPEG or quantisation.
        measurement: y, [B, *operator.output_shape], in the units of ``A x`` for x in [-1, 1].
        noise_level: σ_y in the same units, for the final projection alone; one number or [B].
        sigmas: Decreasing noise levels and a final 0; one network call per positive level.
        generator: Random generator on the CPU, or one per picture.
        step_size: s, root mean square over the numbers of a picture in [-1, 1]; not negative.
        eta: Fraction of fresh noise in the steps, in [0, 1], see `ddim_step`; 1 is the authors'.
        start: [B or 1, *input_shape], picture that the first noise is added to, instead of
            mid-grey.
        condition: Shown to the network beside the noisy picture, if given.
        final_projection: Project the result onto the measurement, see
            `restore.solvers.consistency.project`.
        callback: Called with a `Step` after each network call.

    Returns:
        [B, *operator.input_shape], float32.

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0, η is outside [0, 1], the step size is
            negative, or the network is not differentiable.
    """
    check_guidance(eta, step_size=step_size)
    pairs = falling_pairs(sigmas)
    shape = (measurement.shape[0], *operator.input_shape)
    x = pairs[0][0] * gaussian_noise(shape, generator, measurement.device)
    x = x if start is None else x + start
    del start  # makes room for the network, for large pictures

    def downhill(index: int, sigma: float, clean: Tensor) -> Tensor:
        report(callback, index, len(pairs), sigma, operator.visible(clean))
        return step_size * misfit_gradient(operator, clean, measurement)

    x = guided(denoise, x, pairs, downhill, eta=eta, generator=generator, condition=condition)

    return finished(operator, x, measurement, noise_level) if final_projection else x
