"""What every degradation operator offers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

RANK_TOLERANCE = 1e-6
"""Singular values below this share of the largest one are taken for zero (float32 cannot tell them
apart).
"""

Shape = tuple[int, int, int]


class LinearOperator(nn.Module):
    """A linear degradation ``y = A x`` of pictures.

    Attributes:
        input_shape: (channels, height, width) of a picture ``x``.
        output_shape: (channels, height, width) of a measurement ``y``.
        has_svd: whether ``U, Ut, V, Vt, singular_values`` exist (see `SpectralOperator`).
        channelwise: whether every channel is mapped by itself and alike, and one channel alone is
            taken as well.

    Pictures are batches ``[B, C, H, W]`` in any value range: the map is linear, not affine. The
    tensors an operator needs are buffers, so ``operator.to(device)`` moves it.
    """

    has_svd: bool = False
    channelwise: bool = False

    def __init__(self, input_shape: Shape, output_shape: Shape) -> None:
        super().__init__()
        for name, shape in (("input", input_shape), ("output", output_shape)):
            if len(shape) != 3 or min(shape) < 1:
                raise ValueError(
                    f"{name} shape must be three positive sizes (C, H, W), not {tuple(shape)}"
                )

        self.input_shape: Shape = tuple(int(n) for n in input_shape)
        self.output_shape: Shape = tuple(int(n) for n in output_shape)

    def A(self, x: Tensor) -> Tensor:
        """Degrade: ``[B, *input_shape]`` to ``[B, *output_shape]``."""
        raise NotImplementedError(f"{type(self).__name__} does not define A")

    def At(self, y: Tensor) -> Tensor:
        """Adjoint: ``⟨A x, y⟩ = ⟨x, Aᵀ y⟩``; ``[B, *output_shape]`` to ``[B, *input_shape]``."""
        raise NotImplementedError(f"{type(self).__name__} does not define At")

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        """Moore–Penrose inverse ``A⁺ y``; ``[B, *output_shape]`` to ``[B, *input_shape]``."""
        raise NotImplementedError(f"{type(self).__name__} does not define pseudo_inverse")

    def visible(self, x: Tensor) -> Tensor:
        """The part of pictures ``[…, *input_shape]`` that a person wants to see: all, but for an
        unknown border.
        """
        return x

    def __matmul__(self, first: LinearOperator) -> LinearOperator:
        """``(second @ first).A(x) = second.A(first.A(x))``; see `operators.compose` for when the
        SVD survives.
        """
        from operators.composition import compose

        return compose(self, first)

    def forward(self, x: Tensor) -> Tensor:
        return self.A(x)

    def extra_repr(self) -> str:
        return f"{self.input_shape} -> {self.output_shape}"


class SpectralOperator(LinearOperator):
    """An operator with a singular value decomposition ``A = U Σ Vᵀ`` kept as structured maps.

    The decomposition is thin: the spectrum has the shape ``[C', H', W']`` of ``singular_values``,
    ``V`` and ``U`` take it isometrically to pictures and to measurements. What lies outside the
    range of ``V`` is the null space, ``x − V(Vt(x))``; singular values inside the spectrum may be
    zero as well.

    ``singular_values`` is ``[C', H', W']``, or ``[B, C', H', W']`` when each picture of a batch has
    its own.
    """

    has_svd = True
    singular_values: Tensor

    def V(self, spectrum: Tensor) -> Tensor:
        """``[B, C', H', W']`` to ``[B, *input_shape]``; columns are the right singular vectors."""
        raise NotImplementedError(f"{type(self).__name__} does not define V")

    def Vt(self, x: Tensor) -> Tensor:
        """Transpose of `V`."""
        raise NotImplementedError(f"{type(self).__name__} does not define Vt")

    def U(self, spectrum: Tensor) -> Tensor:
        """``[B, C', H', W']`` to ``[B, *output_shape]``; columns are the left singular vectors."""
        raise NotImplementedError(f"{type(self).__name__} does not define U")

    def Ut(self, y: Tensor) -> Tensor:
        """Transpose of `U`."""
        raise NotImplementedError(f"{type(self).__name__} does not define Ut")

    def A(self, x: Tensor) -> Tensor:
        return self.U(self.singular_values * self.Vt(x))

    def At(self, y: Tensor) -> Tensor:
        return self.V(self.singular_values * self.Ut(y))

    def inverse_singular_values(self) -> Tensor:
        """``Σ⁺``: reciprocals, and zero where the singular value is zero."""
        s = self.singular_values
        return torch.where(s > 0, 1 / s, torch.zeros_like(s))

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        return self.V(self.inverse_singular_values() * self.Ut(y))

    def onto_row_space(self, x: Tensor) -> Tensor:
        """``A⁺A x``: of pictures ``[B, *input_shape]`` what the operator sees."""
        return self.V(torch.where(self.singular_values > 0, self.Vt(x), 0.0))
