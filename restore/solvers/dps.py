"""Diffusion Posterior Sampling, for every differentiable operator."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
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
from restore.solvers.consistency import finished


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
    over 1000 steps. They move the state of the variance-preserving chain, ``u = x/√(1+σ²)``, by
    ``ζ ∇_u = ζ √(1+σ²) ∇_x``; in ``x = x0 + σ ε`` that is the factor ``√((1+σ²)(1+ς²))`` below.

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
    if not 0 <= eta <= 1 or not 0 <= step_size < math.inf:
        raise ValueError(
            f"eta must be in [0, 1] and step_size not negative, not {eta} and {step_size}"
        )

    pairs = falling_pairs(sigmas)
    shape = (measurement.shape[0], *operator.input_shape)
    x = pairs[0][0] * gaussian_noise(shape, generator, measurement.device)
    x = x if start is None else x + start
    del start  # makes room for the network, for large pictures

    for index, (sigma, sigma_next) in enumerate(pairs):
        prediction, pull_back = differentiated(denoise, x, sigma, condition)
        report(callback, index, len(pairs), sigma, operator.visible(prediction.clean))
        gradient = pull_back(misfit_gradient(operator, prediction.clean, measurement))
        to_exploding = math.sqrt((1 + sigma**2) * (1 + sigma_next**2))
        x = ddim_step(prediction, sigma, sigma_next, eta, generator)
        x = x - step_size * to_exploding * gradient
        del prediction, pull_back, gradient

    return finished(operator, x, measurement, noise_level) if final_projection else x


def misfit_gradient(
    operator: LinearOperator | NonlinearChain, clean: Tensor, measurement: Tensor
) -> Tensor:
    """``√N ∇ ‖y − A x‖`` at x, over the N numbers of each picture; 0 where A x = y.

    Args:
        operator: A.
        clean: x, [B, *operator.input_shape].
        measurement: y, [B, *operator.output_shape].

    Returns:
        [B, *operator.input_shape].
    """
    if isinstance(operator, LinearOperator):
        residual = operator.A(clean) - measurement
        gradient = operator.At(residual)
    else:
        with torch.inference_mode(False), torch.enable_grad():
            x = clean.detach().clone().requires_grad_()
            measured = operator.A(x)
            residual = measured.detach() - measurement
            (gradient,) = torch.autograd.grad(measured, x, residual)

    norm = residual.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
    size = clean[0].numel() ** 0.5

    return torch.where(norm > 0, size / norm, 0.0) * gradient
