"""An operator of your own from a function; the adjoint comes from automatic differentiation."""

from __future__ import annotations

import torch
from torch import Tensor

from operators.base import IterativeOperator, Shape
from operators.iterative import Map


def adjoint_of(function: Map, input_shape: Shape) -> Map:
    """Return the adjoint of a linear function of pictures, by automatic differentiation.

    For a linear function the vector–Jacobian product ``Jᵀ y`` is ``Aᵀ y`` at whatever picture it is
    taken, exact up to rounding. It costs one run of ``function`` forwards and one backwards, and
    works in ``no_grad`` and ``inference_mode`` too, as long as the tensors that the function holds
    were not themselves made in ``inference_mode``.

    >>> shift = adjoint_of(lambda x: x.roll(1, -1), (1, 1, 3))
    >>> shift(torch.tensor([[[[1.0, 2.0, 3.0]]]])).tolist()
    [[[[2.0, 3.0, 1.0]]]]

    Args:
        function: ``[B, *input_shape]`` to ``[B, …]``, written in differentiable operations of
            PyTorch.
        input_shape: (C, H, W) of its pictures.

    Returns:
        The map from ``[B, …]`` to ``[B, *input_shape]``.
    """

    def adjoint(y: Tensor) -> Tensor:
        if torch.is_inference_mode_enabled():  # where there is no automatic differentiation
            with torch.inference_mode(False), torch.no_grad():
                return adjoint(y.clone())

        pull_back = torch.func.vjp(function, y.new_zeros(len(y), *input_shape))[1]
        x: Tensor = pull_back(y)[0]
        return x

    return adjoint


class FunctionOperator(IterativeOperator):
    """An operator of your own, from ``A`` alone.

    The adjoint comes from automatic differentiation (`adjoint_of`), the pseudo-inverse from
    conjugate gradients, see `IterativeOperator` for its accuracy.

    >>> flip = FunctionOperator(lambda x: 0.5 * x.flip(-2), (3, 6, 5))
    >>> flip.pseudo_inverse(torch.ones(1, 3, 6, 5)).mean().item()
    2.0
    >>> FunctionOperator(lambda x: x + 1, (3, 6, 5))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: the function is not linear: ...

    Args:
        function: ``A``, a linear function of batches ``[B, C, H, W]`` that treats each picture on
            its own. A module moves with ``operator.to(device)``; tensors that a plain function
            holds do not.
        input_shape: (C, H, W) of a picture.
        output_shape: (C, H, W) of a measurement; None finds it by running the function.
        dtype: Type of the pictures on which the function is tried.
        device: Device of the pictures on which the function is tried.

    Raises:
        ValueError: The function does not give a batch of pictures of ``output_shape``, or is not
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
        pictures = torch.randn(2, *input_shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            found = _check_linear(function, pictures.to(device, dtype))

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
    """Return the output shape of a function on two pictures; raise if it is not linear."""
    y: object = function(pictures)
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

    channels, height, width = y.shape[1:]
    return channels, height, width
