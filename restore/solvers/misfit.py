"""The misfit of a picture to a measurement, and its gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from operators import LinearOperator, NonlinearChain


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
    residual, gradient = residual_and_gradient(operator, clean, measurement)
    norm = residual.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
    size = clean[0].numel() ** 0.5

    return torch.where(norm > 0, size / norm, 0.0) * gradient


def residual_and_gradient(
    operator: LinearOperator | NonlinearChain, clean: Tensor, measurement: Tensor
) -> tuple[Tensor, Tensor]:
    """Return ``A x − y`` and the gradient of ``½ ‖y − A x‖²`` at x.

    JPEG and quantisation take part with the gradient of `operators.nonlinear.straight_through`.

    Args:
        operator: A.
        clean: x, [B, *operator.input_shape].
        measurement: y, [B, *operator.output_shape].

    Returns:
        [B, *operator.output_shape] and [B, *operator.input_shape].
    """
    if isinstance(operator, LinearOperator):
        residual = operator.A(clean) - measurement
        return residual, operator.At(residual)

    with torch.inference_mode(False), torch.enable_grad():
        x = clean.detach().clone().requires_grad_()
        measured = operator.A(x)
        residual = measured.detach() - measurement
        (gradient,) = torch.autograd.grad(measured, x, residual)

    return residual, gradient
