"""Consistency with the measurement: the projection of an estimate."""

from __future__ import annotations

import torch
from torch import Tensor

from operators import LinearOperator, NonlinearChain, SpectralOperator, ValidConvolution
from operators.base import LEAST_RATIO
from restore.diffusion.stepping import gaussian_noise, is_map, per_picture

# Fraction of the error of JPEG or quantisation that counts as noise behind a linear operator: the
# means over their intervals take the numbers for independent. The inverse of a blur amplifies what
# that leaves, so that there it is the whole error.
ROUNDING_AS_NOISE = 0.35

# Ratio of the smallest to the largest singular value above which an operator amplifies little.
WELL_CONDITIONED = 0.1

# Iterations of `least_misfit`.
MISFIT_ITERATIONS = 50

# Powers of AᵀA for the norm of an operator without an SVD, and the factor that makes up for their
# number: an estimate by few of them is too small.
POWERS = 10
MARGIN = 1.1

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
    exact: bool = True,
) -> Tensor:
    """Move an estimate to where it explains the measurement.

    The result minimises ``‖y − A x‖²/σ_y² + ‖x − estimate‖²/τ²``. With an SVD, each spectral
    component moves by ``s τ² / (s² τ² + σ_y²)`` times its residual. Without one, ``(AᵀA + σ_y²/τ²)
    d = Aᵀ(y − A x)`` is solved for the move d by a few conjugate gradients, which stop before they
    fit the noise. Without noise this is the orthogonal projection ``x + A⁺(y − A
    x)``, whatever ``prior_std``.

    With a map of σ_y, for noise that differs between pixels, it minimises ``Σ (y − A x)²/σ_y² +
    ‖x − estimate‖²/τ²`` by `operators.LinearOperator.weighted_inverse`.

    For an operator that ends with a nonlinear N (JPEG or quantisation), y says in which intervals
    the rounded numbers lay. A x gives way to its mean over these intervals, see
    `NonlinearChain.explained`, and x moves as if that had been measured.

    Args:
        operator: A linear operator, or one that ends with JPEG or quantisation.
        estimate: [B, *operator.input_shape].
        measurement: y, [B, *operator.output_shape].
        noise_level: σ_y, in the units of the measurement; one number, [B], or a map of the
            measurement, [B or 1, 1 or C, h, w].
        prior_std: τ, standard deviation of the error of the estimate, in the units of the picture;
            one number or [B].
        exact: False if a blur with an unknown border may be explained as well as few iterations
            can, although there is no noise. Its inverse takes hundreds.

    Returns:
        [B, *operator.input_shape].

    Raises:
        ValueError: A map that does not fit the measurement.
    """
    if not isinstance(operator, LinearOperator):
        return _project_nonlinear(operator, estimate, measurement, noise_level, prior_std)
    parts = turns(operator, estimate)
    if len(parts) > 1:
        moved = [
            project(
                operator,
                estimate[:, part],
                measurement[:, part],
                _of_channel(noise_level, part.start),
                prior_std=prior_std,
                exact=exact,
            )
            for part in parts
        ]
        return torch.cat(moved, dim=1)

    residual = measurement - operator.A(estimate)
    return estimate + _move(operator, residual, noise_level, prior_std, exact)


def turns(operator: LinearOperator, picture: Tensor) -> list[slice]:
    """Return the channels that are processed together: all, or one by one in large pictures."""
    channels = picture.shape[1]
    if operator.channelwise and picture[0].numel() > LARGE:
        return [slice(index, index + 1) for index in range(channels)]

    return [slice(0, channels)]


def project_explained(
    operator: ValidConvolution,
    estimate: Tensor,
    measurement: Tensor,
    noise_level: Tensor | float,
    *,
    prior_std: Tensor | float,
) -> tuple[Tensor, Tensor]:
    """As `project`, with the measurement as far as the result and the noise explain it.

    They differ where conjugate gradients have not solved the equations of the border. The inverse
    of a blur amplifies that difference.

    Returns:
        [B, *operator.input_shape] and [B, *operator.output_shape].
    """
    measured = operator.A(estimate)
    ratio = (per_picture(noise_level, measured) / per_picture(prior_std, measured)) ** 2
    multipliers = operator.multipliers(measurement - measured, ratio)

    return (
        estimate + operator.At(multipliers),
        measured + operator.explained(multipliers, ratio),
    )


def _move(
    operator: LinearOperator,
    residual: Tensor,
    noise_level: Tensor | float,
    prior_std: Tensor | float,
    exact: bool = True,
) -> Tensor:
    """Return the d that minimises ``‖residual − A d‖²/σ_y² + ‖d‖²/τ²``."""
    if not isinstance(noise_level, Tensor) and noise_level == 0:
        if not exact and isinstance(operator, ValidConvolution):
            least = residual.new_full((1, 1, 1, 1), LEAST_RATIO)
            return operator.regularised_inverse(residual, least)
        return operator.pseudo_inverse(residual)

    variance_ratio = (per_picture(noise_level, residual) / per_picture(prior_std, residual)) ** 2
    if is_map(variance_ratio):
        return operator.weighted_inverse(residual, variance_ratio)
    return operator.regularised_inverse(residual, variance_ratio)


def _of_channel(noise_level: Tensor | float, channel: int) -> Tensor | float:
    """Return the noise level of a channel."""
    if not isinstance(noise_level, Tensor) or not is_map(noise_level):
        return noise_level
    return noise_level if noise_level.shape[1] == 1 else noise_level[:, [channel]]


def _project_nonlinear(
    chain: NonlinearChain,
    estimate: Tensor,
    measurement: Tensor,
    noise_level: Tensor | float,
    prior_std: Tensor | float,
) -> Tensor:
    """Project for a linear A, if there is one, followed by a nonlinear N.

    With z = A x + noise, it is ``E[x | y] = x̂ + Cov(x, z) Cov(z)⁻¹ (E[z | y] − A x̂)``.
    """
    noise_level = of_pictures(noise_level)
    measured = chain.measure(estimate)
    residual = chain.explained(measured, measurement, prior_std, noise_level) - measured
    noise = per_picture(noise_level, residual)
    if chain.linear is not None:
        fraction = ROUNDING_AS_NOISE if _is_well_conditioned(chain.linear) else 1.0
        rounding = per_picture(fraction * chain.error(measurement), residual)
        return estimate + _move(chain.linear, residual, noise.hypot(rounding), prior_std)

    prior = per_picture(prior_std, residual) ** 2
    return estimate + residual * (prior / (prior + noise**2))


def _is_well_conditioned(operator: LinearOperator) -> bool:
    """Return True for masks and downsampling, False for blurs and where no SVD tells."""
    if not isinstance(operator, SpectralOperator):
        return False
    s = operator.singular_values
    return bool(s[s > 0].amin() > WELL_CONDITIONED * s.amax()) if bool(s.any()) else True


def of_pictures(noise_level: Tensor | float) -> Tensor | float:
    """Return the root mean square of a map of noise levels, [B], and other levels as they are."""
    if not is_map(noise_level):
        return noise_level
    assert isinstance(noise_level, Tensor)
    return noise_level.square().mean(dim=(1, 2, 3)).sqrt()


def finished(
    operator: LinearOperator | NonlinearChain,
    estimate: Tensor,
    measurement: Tensor,
    noise_level: Tensor | float,
) -> Tensor:
    """Project the last estimate of a solver, see `project`.

    Without noise the result explains the measurement exactly. For JPEG and quantisation it is the
    nearest picture that does so, if no linear operator precedes them, see
    `NonlinearChain.nearest`; with noise, or after a linear operator, the estimate stays.
    """
    if isinstance(operator, LinearOperator):
        return project(operator, estimate, measurement, noise_level)
    if operator.linear is not None or bool(torch.as_tensor(noise_level).any()):
        return estimate

    return operator.nearest(estimate, measurement)


def least_misfit(operator: LinearOperator, start: Tensor, measurement: Tensor) -> Tensor:
    """RMS of A x − y of the picture in [0, 1] that explains a measurement best.

    Where y is black or white it may have been clipped, and A x may lie beyond. It is found by
    projected gradients with momentum (FISTA: Beck, Teboulle 2009), so it is an upper bound.

    Args:
        operator: A.
        start: [B, *operator.input_shape] in [0, 1].
        measurement: y, [B, *operator.output_shape], of pictures in [0, 1].

    Returns:
        [B], in [0, 1] units.
    """
    white = measurement >= 1
    black = measurement <= 0

    def misfit(x: Tensor) -> Tensor:
        residual = operator.A(x) - measurement
        residual = torch.where(white, residual.clamp_max(0), residual)
        return torch.where(black, residual.clamp_min(0), residual)

    rate = 1 / squared_norm(operator, measurement)
    x = ahead = start
    for index in range(MISFIT_ITERATIONS):
        previous = x
        x = (ahead - rate * operator.At(misfit(ahead))).clamp(0, 1)
        ahead = x + index / (index + 3) * (x - previous)

    return misfit(x).square().flatten(1).mean(dim=1).sqrt()


def squared_norm(operator: LinearOperator, measurement: Tensor) -> Tensor:
    """Return ‖A‖², the largest squared singular value, [B or 1, 1, 1, 1], above 0.

    Without an SVD it is found by powers of AᵀA, each picture by itself.

    Args:
        operator: A.
        measurement: y, [B, *operator.output_shape], for the batch, device and type.
    """
    if isinstance(operator, SpectralOperator):
        largest = operator.singular_values.amax(dim=(-3, -2, -1), keepdim=True)
        square: Tensor = largest.reshape(-1, 1, 1, 1).square()
        return square.clamp_min(torch.finfo(square.dtype).tiny)

    shape = (1, *operator.input_shape)
    x = 1 + gaussian_noise(shape, torch.Generator().manual_seed(0), measurement.device)
    x = x.to(measurement.dtype).expand(len(measurement), -1, -1, -1)
    for _ in range(POWERS):
        x = operator.At(operator.A(x / picture_norms(x)))

    return MARGIN * picture_norms(x)


def picture_norms(x: Tensor) -> Tensor:
    """Return the norm of each picture, [B, 1, 1, 1], above 0."""
    length: Tensor = torch.linalg.vector_norm(x, dim=(1, 2, 3), keepdim=True)
    return length.clamp_min(torch.finfo(x.dtype).tiny)
