"""Derivatives of a denoiser by its noisy picture, for methods that guide it by a gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from restore.diffusion.protocol import Condition, Denoise, Prediction

# pull_back(v): vᵀ ∂clean/∂x, [B, C, H, W]. It frees the graph, so it is called once.
PullBack = Callable[[Tensor], Tensor]


def differentiated(
    denoise: Denoise, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
) -> tuple[Prediction, PullBack]:
    """Predict, and keep what the vector–Jacobian product of the clean estimate needs.

    Works in ``no_grad`` and ``inference_mode`` too, if the network's weights were not created in
    the latter. The product costs one backward pass.

    Args:
        denoise: ``denoise(x, sigma, condition)``, differentiable by autograd with respect to x.
        x: [B, C, H, W].
        sigma: Noise level, one number or [B].
        condition: Shown to the network beside the noisy picture, if given.

    Returns:
        The prediction, without a graph, and the map from v to ``(∂clean/∂x)ᵀ v``.

    Raises:
        ValueError: If the clean estimate is not differentiable.
    """
    with torch.inference_mode(False), torch.enable_grad():
        # a tensor made in inference mode knows no derivative
        x = x.detach().clone().requires_grad_()
        condition = condition and Condition(*(_outside_inference(part) for part in condition))
        prediction = denoise(x, sigma, condition)
    clean = prediction.clean
    if not clean.requires_grad:
        raise ValueError("the denoiser is not differentiable, which this method needs")

    def pull_back(v: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            (gradient,) = torch.autograd.grad(clean, x, _outside_inference(v.to(clean)))
        return gradient

    return prediction.changed(Tensor.detach), pull_back


def _outside_inference(values: Tensor) -> Tensor:
    """Return the tensor, or a copy that autograd may save if it was made in inference mode."""
    return values.clone() if values.is_inference() else values
