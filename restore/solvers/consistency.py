"""Consistency with the measurement: the projection of an estimate."""

from __future__ import annotations

import torch
from torch import Tensor

from operators import LinearOperator, NonlinearChain
from restore.diffusion.stepping import per_picture

# Step towards a picture that explains a nonlinear measurement (η_b of Kawar et al. 2022, arXiv
# 2209.11888): a rounded number says less than its value.
NONLINEAR_STEP = 0.4

# Numbers of a picture above which its channels are projected one after the other if the operator
# allows, with a third of the memory.
LARGE = 2**23


def project(
    operator: LinearOperator | NonlinearChain,
    estimate: Tensor,
    measurement: Tensor,
    noise_level: Tensor | float = 0.0,
    *,
    prior_std: Tensor | float = 0.05,
) -> Tensor:
    """Move an estimate to where it explains the measurement.

    The result minimises ``‖y − A x‖²/σ_y² + ‖x − estimate‖²/τ²``. With an SVD, each spectral
    component moves by ``s τ² / (s² τ² + σ_y²)`` times its residual. Without one, ``(AᵀA + σ_y²/τ²)
    d = Aᵀ(y − A x)`` is solved for the move d by a few conjugate gradients, which stop before they
    fit the noise. Without noise this is the orthogonal projection ``x + A⁺(y − A
    x)``, whatever ``prior_std``.

    For an operator that ends with a nonlinear N (JPEG or quantisation), the approximate
    pseudo-inverse takes x to ``x + 0.4 (y − N(x))`` (Kawar et al. 2022, arXiv 2209.11888, η_b =
    0.4), and the error of N counts as noise.

    Args:
        operator: A linear operator, or one that ends with JPEG or quantisation.
        estimate: [B, *operator.input_shape].
        measurement: y, [B, *operator.output_shape].
        noise_level: σ_y, in the units of the measurement; one number or [B].
        prior_std: τ, standard deviation of the error of the estimate, in the units of the picture;
            one number or [B].

    Returns:
        [B, *operator.input_shape].
    """
    if not isinstance(operator, LinearOperator):
        return _project_nonlinear(operator, estimate, measurement, noise_level, prior_std)
    if operator.channelwise and estimate.shape[1] > 1 and estimate[0].numel() > LARGE:
        channels = zip(estimate.split(1, dim=1), measurement.split(1, dim=1), strict=True)
        moved = [project(operator, x, y, noise_level, prior_std=prior_std) for x, y in channels]
        return torch.cat(moved, dim=1)

    return estimate + _move(operator, measurement - operator.A(estimate), noise_level, prior_std)


def _move(
    operator: LinearOperator,
    residual: Tensor,
    noise_level: Tensor | float,
    prior_std: Tensor | float,
) -> Tensor:
    """Return the d that minimises ``‖residual − A d‖²/σ_y² + ‖d‖²/τ²``."""
    if not isinstance(noise_level, Tensor) and noise_level == 0:
        return operator.pseudo_inverse(residual)

    variance_ratio = (per_picture(noise_level, residual) / per_picture(prior_std, residual)) ** 2
    return operator.regularised_inverse(residual, variance_ratio)


def _project_nonlinear(
    chain: NonlinearChain,
    estimate: Tensor,
    measurement: Tensor,
    noise_level: Tensor | float,
    prior_std: Tensor | float,
) -> Tensor:
    """Project for a linear A, if there is one, followed by a nonlinear N.

    The residual is ``0.4 (y − N(A x))``, and the error of N at A x counts as noise. Without A, N
    acts on the picture itself, and only the measurement's own noise reduces the residual.
    """
    measured = chain.measure(estimate)
    distorted = chain.distort(measured)
    residual = NONLINEAR_STEP * (measurement - distorted)
    noise = per_picture(noise_level, residual)
    if chain.linear is None:
        prior = per_picture(prior_std, residual) ** 2
        return estimate + residual * (prior / (prior + noise**2))

    error = (distorted - measured).square().mean(dim=(1, 2, 3), keepdim=True)

    return estimate + _move(
        chain.linear, residual, (noise**2 + error).sqrt().clamp_min(1e-3), prior_std
    )
