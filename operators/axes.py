"""The axes operator: one small matrix along each of channel, height and width."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from operators.base import RANK_TOLERANCE, LinearOperator, Shape, SpectralOperator

Matrix = NDArray[np.float64]
_AXES = ("channel", "height", "width")


class AxesOperator(SpectralOperator):
    """``A = A_c ⊗ A_h ⊗ A_w``.

    Separable blur with any boundary, antialiased re-sampling by any factor, mixing of colours and every
    product of these are of this form. The SVD of a Kronecker product is the Kronecker product of the SVDs,
    so three small decompositions serve a picture of any size, square or not: memory and set-up grow with
    the sides of the picture, not with its area.

    Args:
        input_shape: (C, H, W) of the picture.
        channel, height, width: matrices ``[m, n]`` with n the picture's size along that axis; None leaves
            the axis as it is and costs nothing.
        dtype: of the stored matrices. They are decomposed in float64 whatever it is, when the SVD is first used:
            a factor of a composition never needs its own.

    Raises:
        ValueError: a matrix is not two-dimensional, not finite, zero, or does not fit ``input_shape``.
    """

    def __init__(
        self,
        input_shape: Shape,
        channel: Matrix | None = None,
        height: Matrix | None = None,
        width: Matrix | None = None,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        matrices = [
            _checked(name, matrix, size)
            for name, matrix, size in zip(_AXES, (channel, height, width), input_shape, strict=True)
        ]
        rows = [n if m is None else m.shape[0] for m, n in zip(matrices, input_shape, strict=True)]
        super().__init__(input_shape, (rows[0], rows[1], rows[2]))
        self.matrices: tuple[Matrix | None, ...] = tuple(matrices)
        self.register_buffer("_anchor", torch.empty(0, dtype=dtype))  # says where and in which type buffers belong
        for axis, matrix in enumerate(matrices):
            self.register_buffer(f"matrix_{axis}", None if matrix is None else torch.from_numpy(matrix).to(dtype))
            self.register_buffer(f"left_{axis}", None)
            self.register_buffer(f"right_{axis}", None)
        self.register_buffer("_singular_values", None)

    @property
    def singular_values(self) -> Tensor:  # type: ignore[override]
        """Those of the axes multiplied out; the first use of the SVD computes it."""
        if self._singular_values is None:
            self._decompose()
        return self._singular_values

    @torch.inference_mode(False)  # what stays must be usable outside of it
    def _decompose(self) -> None:
        values = []
        for axis, decomposition in enumerate(_svds(self.matrices)):
            left, s, right = decomposition or (None, np.ones(self.input_shape[axis]), None)
            values.append(s)
            setattr(self, f"left_{axis}", self._like_anchor(left))
            setattr(self, f"right_{axis}", self._like_anchor(right))
        self._singular_values = self._like_anchor(_kronecker(values))

    def _like_anchor(self, array: Matrix | None) -> Tensor | None:
        """Narrowed before it moves: not every device has float64."""
        if array is None:
            return None
        return torch.from_numpy(array).to(self._anchor.dtype).to(self._anchor.device)

    def A(self, x: Tensor) -> Tensor:
        return self._along_axes("matrix", x)

    def At(self, y: Tensor) -> Tensor:
        return self._along_axes("matrix", y, transpose=True)

    def V(self, spectrum: Tensor) -> Tensor:
        return self._by_svd("right", spectrum)

    def Vt(self, x: Tensor) -> Tensor:
        return self._by_svd("right", x, transpose=True)

    def U(self, spectrum: Tensor) -> Tensor:
        return self._by_svd("left", spectrum)

    def Ut(self, y: Tensor) -> Tensor:
        return self._by_svd("left", y, transpose=True)

    def __matmul__(self, first: LinearOperator) -> LinearOperator:
        """``(second @ first).A(x) = second.A(first.A(x))``: the small matrices multiply, the SVD survives."""
        if not isinstance(first, AxesOperator):
            return super().__matmul__(first)
        if self.input_shape != first.output_shape:
            raise ValueError(f"cannot apply {self.input_shape} -> … after … -> {first.output_shape}")
        products = [_product(b, a) for b, a in zip(self.matrices, first.matrices, strict=True)]
        return AxesOperator(first.input_shape, *products, dtype=self._anchor.dtype)

    def _by_svd(self, name: str, x: Tensor, *, transpose: bool = False) -> Tensor:
        if self._singular_values is None:
            self._decompose()
        return self._along_axes(name, x, transpose=transpose)

    def _along_axes(self, name: str, x: Tensor, *, transpose: bool = False) -> Tensor:
        channel, height, width = (getattr(self, f"{name}_{axis}") for axis in range(3))
        if transpose:
            channel, height, width = (None if m is None else m.mT for m in (channel, height, width))
        if channel is not None:
            x = torch.einsum("dc,bchw->bdhw", channel, x)
        if height is not None and width is not None and height.shape[0] > height.shape[1]:
            x, width = x @ width.mT, None  # the enlarging axis last: fewer multiplications
        if height is not None:
            x = torch.einsum("nh,bchw->bcnw", height, x)
        return x if width is None else x @ width.mT


def _checked(name: str, matrix: Matrix | None, size: int) -> Matrix | None:
    if matrix is None:
        return None
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[1] != size or matrix.shape[0] < 1:
        raise ValueError(f"the {name} matrix must be [m, {size}], not {matrix.shape}")
    if not np.isfinite(matrix).all() or not matrix.any():
        raise ValueError(f"the {name} matrix must be finite and not all zero")
    return matrix


def _svds(matrices: Sequence[Matrix | None]) -> list[tuple[Matrix, Matrix, Matrix] | None]:
    """Thin SVD (U, s, V) of each matrix; equal ones, as of a square picture, are decomposed once."""
    done: list[tuple[Matrix, tuple[Matrix, Matrix, Matrix]]] = []
    result: list[tuple[Matrix, Matrix, Matrix] | None] = []
    for matrix in matrices:
        known = next((svd for m, svd in done if matrix is not None and np.array_equal(m, matrix)), None)
        if matrix is not None and known is None:
            u, s, vt = np.linalg.svd(matrix, full_matrices=False)
            known = (u, s, np.ascontiguousarray(vt.T))
            done.append((matrix, known))
        result.append(known)
    return result


def _kronecker(values: Sequence[Matrix]) -> Matrix:
    product = np.einsum("c,h,w->chw", *values)
    product[product < RANK_TOLERANCE * product.max()] = 0
    return product


def _product(second: Matrix | None, first: Matrix | None) -> Matrix | None:
    if second is None or first is None:
        return first if second is None else second
    return second @ first
