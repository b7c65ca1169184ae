"""The evidence of a restoration problem, by `restore.diffusion.evidence` for each operator."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from operators import BandedAxesOperator, LinearOperator, SpectralOperator, ValidConvolution
from restore.diffusion.denoiser import Condition
from restore.diffusion.evidence import (
    Evidence,
    known_fraction,
    noise_ratio,
    shown_noise,
    wiener,
)
from restore.diffusion.predictor import Shown
from restore.tasks.problem import Problem

# Fraction of the largest value of an impulse response below which values count as zero.
NEGLIGIBLE = 1e-4


def has_evidence(problem: Problem) -> bool:
    """Return True if predictors are trained on such problems."""
    return problem.kind.predicted and problem.condition is not None


def evidence_of(problem: Problem, shown: Shown = "deblurred") -> Evidence:
    """Return the input of a predictor for a problem, in the size of the visible result.

    Args:
        problem: of a kind that predictors are trained on, see `has_evidence`.
        shown: see `restore.diffusion.predictor.PredictorConfig`.

    Raises:
        ValueError: a problem of another kind.
    """
    condition = problem.condition
    if condition is None:
        raise ValueError(f"predictors know no problems of the kind {problem.kind.name}")

    sigma = shown_noise(problem.noise).reshape(-1, 1, 1, 1)
    ratio = torch.as_tensor(noise_ratio(sigma))
    if problem.kind.is_blurred:
        picture, known = _deblurred(problem, ratio, shown)
    elif problem.kind.enlarges:
        picture, known = _enlarged(problem, condition, ratio, shown)
    else:
        picture = condition.picture
        known = condition.known / (1 + ratio)

    map_of_one = torch.ones_like(picture[:, :1])

    return Evidence(picture, known * map_of_one, sigma * map_of_one)


def _enlarged(
    problem: Problem, condition: Condition, ratio: Tensor, shown: Shown
) -> tuple[Tensor, Tensor]:
    """Return the low-resolution picture at full size, and the known fraction."""
    operator = problem.model_operator
    y = problem.model_measurement
    if isinstance(operator, BandedAxesOperator):
        s = operator.typical_singular_values().to(y)
    elif isinstance(operator, SpectralOperator):
        s = operator.singular_values
    else:
        raise TypeError(f"downsampling has an SVD, {type(operator).__name__} has none")

    # values of a long picture stand for more than there are of them
    dimensions = int(np.prod(operator.input_shape)) * s.numel() / np.prod(operator.output_shape)
    known = known_fraction(s, ratio, dimensions)
    if shown != "inverse":
        return condition.picture, known
    if not bool(problem.noise.any()):
        # the same without noise, and faster by banded matrices
        return operator.pseudo_inverse(y), known

    # the regularised inverse, for singular values in units of the largest
    return (1 + ratio) * operator.regularised_inverse(y, ratio * s.amax() ** 2), known


def _deblurred(problem: Problem, ratio: Tensor, shown: Shown) -> tuple[Tensor, Tensor]:
    """Return the deconvolved picture, and the known fraction.

    Every boundary is treated as unknown.
    """
    operator = problem.model_operator
    y = problem.model_measurement
    assert isinstance(operator, LinearOperator)
    kernel = (
        operator.kernel
        if isinstance(operator, ValidConvolution)
        else impulse_response(operator, len(y))
    )
    picture, known = wiener(y, kernel, ratio)

    return y if shown == "degraded" else picture, known


def impulse_response(operator: LinearOperator, count: int = 1) -> NDArray[np.float64]:
    """Return the kernels [count, h, w] of a convolution, with odd sides, from an impulse.

    Args:
        count: number of pictures that the operator takes, each of which may have its own kernel.
    """
    channels, height, width = operator.input_shape
    x = torch.zeros(count, channels, height, width, dtype=torch.float32)
    row = height // 2
    column = width // 2
    x[..., row, column] = 1
    place = next(operator.buffers(), x)
    responses = operator.A(x.to(place.device)).cpu()[:, 0].double()
    seen = (responses.abs() > NEGLIGIBLE * responses.abs().amax(dim=(-2, -1), keepdim=True)).any(
        dim=0
    )
    rows, columns = torch.nonzero(seen, as_tuple=True)
    top, left = (int((where - at).abs().max()) for where, at in ((rows, row), (columns, column)))
    padded = torch.nn.functional.pad(responses, (left, left, top, top))

    return padded[:, row : row + 2 * top + 1, column : column + 2 * left + 1].numpy()
