"""Agreement of an estimate with the measurement."""

from __future__ import annotations

import torch
from torch import Tensor

from operators import LinearOperator
from restore.solvers.common import per_picture, require_svd


def project(
    operator: LinearOperator,
    estimate: Tensor,
    measurement: Tensor,
    noise_level: Tensor | float = 0.0,
    *,
    prior_std: Tensor | float = 0.05,
) -> Tensor:
    """Move an estimate to where it explains the measurement.

    The minimiser of ``‖y − A x‖²/σ_y² + ‖x − estimate‖²/τ²``: each spectral component moves by
    ``s τ² / (s² τ² + σ_y²)`` times its residual. Without noise this is the orthogonal projection
    ``x + A⁺(y − A x)`` and ``prior_std`` has no influence.

    Args:
        operator: with an SVD, unless the measurement has no noise.
        estimate: [B, *operator.input_shape].
        measurement: [B, *operator.output_shape].
        noise_level: σ_y, in the units of the measurement; one number or [B].
        prior_std: τ, the standard deviation of the estimate's own error, in the units of the picture.

    Raises:
        BadArgument: noise and an operator without an SVD.
    """
    residual = measurement - operator.A(estimate)
    if not isinstance(noise_level, Tensor) and noise_level == 0:
        return estimate + operator.pseudo_inverse(residual)
    operator = require_svd(operator, "project")
    s = operator.singular_values
    variance_ratio = (per_picture(noise_level, estimate) / per_picture(prior_std, estimate)) ** 2
    gain = torch.where(s > 0, s / (s**2 + variance_ratio).clamp_min(torch.finfo(s.dtype).tiny), 0.0)
    return estimate + operator.V(gain * operator.Ut(residual))
