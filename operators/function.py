"""An operator of your own from a function; the adjoint comes from automatic differentiation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from operators.base import IterativeOperator, Shape

Map = Callable[[Tensor], Tensor]


def adjoint_of(function: Map, input_shape: Shape) -> Map:
    """The adjoint of a linear function of pictures, by automatic differentiation; exact up to
    rounding.

    For a linear function the vector–Jacobian product ``Jᵀ y`` is ``Aᵀ y`` at whatever picture it is
    taken. It costs one run of ``function`` forwards and one backwards, and works in ``no_grad`` and
    ``inference_mode`` too, as long as the tensors that the function holds were not themselves made
    in ``inference_mode``.

    Args:
        function: ``[B, *input_shape]`` to ``[B, …]``, written in differentiable operations of
            PyTorch.
        input_shape: (C, H, W) of its pictures.
    """

    def adjoint(y: Tensor) -> Tensor:
        if torch.is_inference_mode_enabled():  # automatic differentiation does not exist in there
            with torch.inference_mode(False), torch.no_grad():
                return adjoint(y.clone())
        _, pull_back = torch.func.vjp(function, y.new_zeros(len(y), *input_shape))
        return pull_back(y)[0]

    return adjoint


class FunctionOperator(IterativeOperator):
    """Your own operator, from ``A`` alone.

    >>> flip = FunctionOperator(lambda x: 0.5 * x.flip(-2), (3, 6, 5))

    The adjoint comes from automatic differentiation (`adjoint_of`), the pseudo-inverse from
    conjugate gradients, see `IterativeOperator` for its accuracy.

    Args:
        function: ``A``, a linear function of batches ``[B, C, H, W]`` that treats each picture on
            its own. A module moves with ``operator.to(device)``; tensors that a plain function
            holds do not.
        input_shape: (C, H, W) of a picture.
        output_shape: (C, H, W) of a measurement; found by running the function when it is None.
        dtype, device: of the pictures that the function is tried on.

    Raises:
        ValueError: the function does not give a batch of pictures of ``output_shape``, or is not
            linear: it is tried on random pictures at three scales of brightness.
    """

    def __init__(
        self,
        function: Map,
        input_shape: Shape,
        output_shape: Shape | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        generator = torch.Generator().manual_seed(0)
        pictures = torch.randn(2, *input_shape, generator=generator, dtype=torch.float64).to(
            device, dtype
        )
        with torch.no_grad():
            found = _check_linear(function, pictures)

        if output_shape is not None and tuple(output_shape) != found:
            raise ValueError(
                f"the function gives pictures of {found} (C, H, W), not of {tuple(output_shape)}"
            )

        super().__init__(input_shape, found)
        self.function = function
        self.adjoint = adjoint_of(function, self.input_shape)
        self.register_buffer("_like", torch.zeros((), dtype=dtype, device=device), persistent=False)

    def A(self, x: Tensor) -> Tensor:
        return self.function(x)

    def At(self, y: Tensor) -> Tensor:
        return self.adjoint(y)


def _check_linear(function: Map, pictures: Tensor) -> Shape:
    """The output shape of a function on a batch of two pictures, if it is linear."""
    y = function(pictures)
    if not isinstance(y, Tensor) or y.ndim != 4 or len(y) != 2:
        found = f"shape {tuple(y.shape)}" if isinstance(y, Tensor) else f"a {type(y).__name__}"
        raise ValueError(
            "the function must turn a batch of pictures [B, C, H, W] into another; of "
            f"{tuple(pictures.shape)} it made {found}"
        )

    tolerance = 1e3 * torch.finfo(pictures.dtype).eps
    allowed = tolerance * float(y.abs().max())

    for scale in (1e-3, 1.0, 1e3):
        mixed = function(scale * (pictures[:1] - 0.7 * pictures[1:])) / scale
        error = float((mixed - (y[:1] - 0.7 * y[1:])).abs().max())
        if not error <= allowed:
            raise ValueError(
                f"the function is not linear: A({scale:g} (x − 0.7 z)) and {scale:g} (A(x) − 0.7 "
                f"A(z)) differ by {error * scale:.3g} for random pictures x and z (offsets, "
                "clipping, rounding, random numbers and mixing the pictures of a batch are not "
                "linear)"
            )

    return tuple(y.shape[1:])
