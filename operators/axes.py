"""The axes operator: one small matrix along each of channel, height and width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from operators.base import (
    RANK_TOLERANCE,
    LinearOperator,
    Shape,
    SpectralOperator,
    composition_rule,
)
from operators.sparse import Axis, Matrix, is_sparse

# Blocks of rows, and the columns between which each has all that is not zero.
Bands = list[tuple[slice, slice]]

# Rows of a banded matrix that a CPU multiplies at a time (measured).
BAND_ROWS = 32

_AXES = ("channel", "height", "width")


class AlongAxes(LinearOperator):
    """An operator that multiplies by one matrix along each of channel, height and width.

    Args:
        input_shape: (C, H, W) of the picture.
        channel: Matrix ``[C', C]``; None leaves the axis as it is.
        height: Matrix ``[H', H]`` or None.
        width: Matrix ``[W', W]`` or None.

    Attributes:
        matrices: The three matrices in float64, or None, as given.

    Raises:
        ValueError: A matrix is not two-dimensional, not finite, zero, or does not fit
            ``input_shape``.
    """

    def __init__(
        self,
        input_shape: Shape,
        channel: Matrix | None = None,
        height: Axis | None = None,
        width: Axis | None = None,
    ) -> None:
        matrices = [
            _checked(name, matrix, size)
            for name, matrix, size in zip(_AXES, (channel, height, width), input_shape, strict=True)
        ]
        rows = [n if m is None else m.shape[0] for m, n in zip(matrices, input_shape, strict=True)]
        super().__init__(input_shape, (rows[0], rows[1], rows[2]))
        self.matrices: tuple[Any, Any, Any] = (matrices[0], matrices[1], matrices[2])

    @property
    def is_identity(self) -> bool:
        """True if every axis is left as it is."""
        return all(matrix is None for matrix in self.matrices)

    @property
    def color_matrix(self) -> Matrix | None:
        """Matrix ``[C', C]`` if every pixel's colour is multiplied by it and nothing else done."""
        channel, height, width = self.matrices
        return channel if height is None and width is None else None


class AxesOperator(AlongAxes, SpectralOperator):
    """``A = A_c ⊗ A_h ⊗ A_w``.

    Separable blur with any boundary, antialiased resampling by any factor, mixing of colours and
    every product of these are of this form. The SVD of a Kronecker product is the Kronecker product
    of the SVDs, so three small decompositions serve a picture of any size, square or not: memory
    and set-up grow with the sides of the picture, not with its area.

    >>> pairs = np.kron(np.eye(2), [[0.5, 0.5]])  # means of two neighbours, along the width
    >>> operator = AxesOperator((1, 1, 4), width=pairs)
    >>> operator.A(torch.tensor([[[[1.0, 3.0, 5.0, 7.0]]]])).tolist()
    [[[[2.0, 6.0]]]]

    Args:
        input_shape: (C, H, W) of the picture.
        channel: Matrix ``[C', C]``; None leaves the axis as it is and costs nothing.
        height: Matrix ``[H', H]`` or None.
        width: Matrix ``[W', W]`` or None.
        dtype: Type of the stored matrices. They are decomposed in float64 whatever it is, when the
            SVD is first used: a factor of a composition never needs its own.

    Raises:
        ValueError: A matrix is not two-dimensional, not finite, zero, or does not fit
            ``input_shape``.
    """

    _anchor: Tensor
    _singular_values: Tensor | None

    def __init__(
        self,
        input_shape: Shape,
        channel: Matrix | None = None,
        height: Matrix | None = None,
        width: Matrix | None = None,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(input_shape, channel, height, width)
        bands = _bands_by_axis(self.matrices)
        self._bands = {("matrix", axis): pair for axis, pair in bands.items()}
        # Says where and in which type buffers belong.
        self.register_buffer("_anchor", torch.empty(0, dtype=dtype))

        for axis, matrix in enumerate(self.matrices):
            self.register_buffer(
                f"matrix_{axis}", None if matrix is None else torch.from_numpy(matrix).to(dtype)
            )
            self.register_buffer(f"left_{axis}", None)
            self.register_buffer(f"right_{axis}", None)
            self.register_buffer(f"inverse_{axis}", None)

        self.register_buffer("_singular_values", None)
        self._inverts_by_axes = False

    @property
    def has_own_values(self) -> bool:  # type: ignore[override]
        """True for the identity."""
        return self.is_identity

    @property
    def singular_values(self) -> Tensor:
        """Products of the axes' singular values ``[C', H', W']``; the first use computes them."""
        if self._singular_values is None:
            self._singular_values = self._decompose()
        return self._singular_values

    @torch.inference_mode(False)  # what stays must be usable outside of it
    def _decompose(self) -> Tensor:
        """Keep the SVD along each axis; return the singular values ``[C', H', W']``."""
        decompositions = _svds(self.matrices)
        values = []
        for axis, decomposition in enumerate(decompositions):
            size = self.input_shape[axis]
            values.append(np.ones(size) if decomposition is None else decomposition[1])
            if decomposition is not None:
                setattr(self, f"left_{axis}", self._to_anchor(decomposition[0]))
                setattr(self, f"right_{axis}", self._to_anchor(decomposition[2]))

        singular_values = _kronecker(values)
        if (singular_values > 0).all():
            self._invert(decompositions)

        return self._to_anchor(singular_values)

    def _invert(self, decompositions: Sequence[tuple[Matrix, Matrix, Matrix] | None]) -> None:
        """Keep the inverses along the axes if they, too, have bands.

        Far from the diagonal the inverses of well-conditioned matrices fall below rounding.
        """
        smallest = torch.finfo(self._anchor.dtype).eps
        inverses = [None if one is None else _inverse(*one, smallest) for one in decompositions]
        bands = _bands_by_axis(inverses)
        if all(band is not None for pair in bands.values() for band in pair):
            self._bands |= {("inverse", axis): pair for axis, pair in bands.items()}
            for axis, inverse in enumerate(inverses):
                if inverse is not None:
                    setattr(self, f"inverse_{axis}", self._to_anchor(inverse))
            self._inverts_by_axes = True

    def _to_anchor(self, array: Matrix) -> Tensor:
        """Narrow an array before it moves: not every device has float64."""
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

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        if self._has_inverses():
            return self._along_axes("inverse", y)
        return super().pseudo_inverse(y)

    def onto_row_space(self, x: Tensor) -> Tensor:
        if self._has_inverses():
            return self.pseudo_inverse(self.A(x))
        return super().onto_row_space(x)

    def _has_inverses(self) -> bool:
        """True if the decomposition found inverses along the axes that are worth keeping."""
        self._ensure_decomposition()
        return self._inverts_by_axes

    def _ensure_decomposition(self) -> None:
        _ = self.singular_values

    def _by_svd(self, name: str, x: Tensor, *, transpose: bool = False) -> Tensor:
        self._ensure_decomposition()
        return self._along_axes(name, x, transpose=transpose)

    def _along_axes(self, name: str, x: Tensor, *, transpose: bool = False) -> Tensor:
        """Multiply ``x [B, C, H, W]`` by the stored matrices of this name along their axes."""
        channel, height, width = (getattr(self, f"{name}_{axis}") for axis in range(3))
        if transpose:
            channel, height, width = (None if m is None else m.mT for m in (channel, height, width))

        rows, columns = (self._bands_of(name, axis, transpose, x.device) for axis in (1, 2))
        if channel is not None:
            x = torch.einsum("dc,bchw->bdhw", channel, x)

        # The enlarging axis last: fewer multiplications.
        if height is not None and width is not None and height.shape[0] > height.shape[1]:
            return _multiply(height, _multiply(width, x, -1, columns), -2, rows)

        if height is not None:
            x = _multiply(height, x, -2, rows)
        if width is not None:
            x = _multiply(width, x, -1, columns)

        return x

    def _bands_of(
        self, name: str, axis: int, transpose: bool, device: torch.device
    ) -> Bands | None:
        """Bands of a matrix that a CPU multiplies in parts; a GPU takes the whole in one launch."""
        if device.type != "cpu" or (name, axis) not in self._bands:
            return None
        return self._bands[name, axis][transpose]


def identity(input_shape: Shape) -> AxesOperator:
    """Return the picture itself: the operator of denoising.

    >>> identity((3, 8, 8)).is_identity
    True
    """
    return AxesOperator(input_shape)


@composition_rule
def _without_identity(second: LinearOperator, first: LinearOperator) -> LinearOperator | None:
    if isinstance(second, AxesOperator) and second.is_identity:
        return first
    if isinstance(first, AxesOperator) and first.is_identity:
        return second
    return None


def _checked(name: str, matrix: Axis | None, size: int) -> Axis | None:
    if matrix is None:
        return None

    matrix = matrix if is_sparse(matrix) else np.asarray(matrix, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[1] != size or matrix.shape[0] < 1:
        raise ValueError(f"the {name} matrix must be [m, {size}], not {matrix.shape}")

    entries = np.asarray(matrix.data if is_sparse(matrix) else matrix)
    if not np.isfinite(entries).all() or not entries.any():
        raise ValueError(f"the {name} matrix must be finite and not all zero")

    return matrix


def _svds(matrices: Sequence[Matrix | None]) -> list[tuple[Matrix, Matrix, Matrix] | None]:
    """Thin SVD (U, s, V) of each matrix; equal ones, as in a square picture, share one."""
    done: list[tuple[Matrix, tuple[Matrix, Matrix, Matrix]]] = []
    result: list[tuple[Matrix, Matrix, Matrix] | None] = []
    for matrix in matrices:
        known = next(
            (svd for m, svd in done if matrix is not None and np.array_equal(m, matrix)), None
        )
        if matrix is not None and known is None:
            known = _svd(matrix)
            done.append((matrix, known))
        result.append(known)

    return result


def _svd(matrix: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """Thin SVD (U, s, V) of a matrix.

    A matrix that equals itself turned by 180°, as blur and resampling by mirrored kernels do, takes
    even signals to even ones and odd to odd ones: its SVD is that of two matrices of half its
    sides, a quarter of the work.
    """
    turned = matrix[::-1, ::-1]
    if min(matrix.shape) == 1 or not np.allclose(
        matrix, turned, rtol=0, atol=1e-15 * np.abs(matrix).max()
    ):
        u, s, vt = np.linalg.svd(matrix, full_matrices=False)
        return u, s, np.ascontiguousarray(vt.T)

    halves = [_fold(_fold(matrix, sign).T, sign).T for sign in (1, -1)]
    u, s, vt = zip(*(np.linalg.svd(half, full_matrices=False) for half in halves), strict=True)
    falling = np.argsort(-np.concatenate(s), kind="stable")
    left = _unfold(u, matrix.shape[0])
    right = _unfold([v.T for v in vt], matrix.shape[1])

    return left[:, falling], np.concatenate(s)[falling], right[:, falling]


def _inverse(left: Matrix, s: Matrix, right: Matrix, smallest: float) -> Matrix:
    """``V Σ⁻¹ Uᵀ`` without entries below the fraction ``smallest`` of the largest one."""
    inverse: Matrix = (right / s) @ left.T
    inverse[np.abs(inverse) < smallest * np.abs(inverse).max()] = 0
    return inverse


def _fold(columns: Matrix, sign: int) -> Matrix:
    """Coordinates of columns [n, k] in the even (1) or odd (−1) signals, [⌈n/2⌉ or ⌊n/2⌋, k]."""
    half = len(columns) // 2
    folded = (columns[:half] + sign * columns[::-1][:half]) / np.sqrt(2)
    return np.concatenate([folded, columns[half : len(columns) - half]]) if sign == 1 else folded


def _unfold(halves: Sequence[Matrix], size: int) -> Matrix:
    """Inverse of `_fold`: signals ``[size, …]`` from their even and their odd coordinates."""
    even, odd = halves
    half = size // 2

    middle = np.concatenate([even[half:], np.zeros((size % 2, odd.shape[1]))], axis=1)
    upper, lower = (np.concatenate([even[:half], sign * odd], axis=1)[:half] for sign in (1, -1))
    return np.concatenate([upper / np.sqrt(2), middle, lower[::-1] / np.sqrt(2)])


def _bands_by_axis(
    matrices: Sequence[Matrix | None],
) -> dict[int, tuple[Bands | None, Bands | None]]:
    """Bands of the height's and the width's matrices, each as it is and transposed."""
    return {
        axis: (_bands(matrix), _bands(matrix.T))
        for axis, matrix in enumerate(matrices)
        if axis > 0 and matrix is not None
    }


def _bands(matrix: Matrix) -> Bands | None:
    """Bands of a matrix; None where they would save less than half of the multiplications."""
    bands = []
    for start in range(0, len(matrix), BAND_ROWS):
        rows = slice(start, min(start + BAND_ROWS, len(matrix)))
        used = np.flatnonzero(matrix[rows].any(axis=0))
        bands.append((rows, slice(int(used[0]), int(used[-1]) + 1) if used.size else slice(0, 0)))

    area = sum((rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in bands)
    return bands if area <= matrix.size / 2 else None


def _multiply(matrix: Tensor, x: Tensor, dim: int, bands: Bands | None) -> Tensor:
    """Multiply along the height (dim −2) or the width (−1) of ``x [B, C, H, W]``.

    A matrix with bands is multiplied in parts.
    """
    if bands is None:
        return matrix @ x if dim == -2 else x @ matrix.mT

    shape = list(x.shape)
    shape[dim] = len(matrix)
    product = x.new_empty(shape)

    for rows, columns in bands:
        part = matrix[rows, columns]
        seen = x.narrow(dim, columns.start, columns.stop - columns.start)
        product.narrow(dim, rows.start, len(part)).copy_(
            part @ seen if dim == -2 else seen @ part.mT
        )

    return product


def _kronecker(values: Sequence[Matrix]) -> Matrix:
    """Products ``[C', H', W']`` of the axes' singular values, negligible ones set to zero."""
    product: Matrix = np.einsum("c,h,w->chw", *values)
    product[product < RANK_TOLERANCE * product.max()] = 0
    return product
