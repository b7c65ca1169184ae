"""The axes operator of long pictures: sparse matrices along the axes, and no SVD.

The singular vectors of a long axis fill a dense matrix whose memory grows with the square of the
side, and whose computation grows with its cube, however narrow the picture is. `along_axes` leaves
the SVD out where it would cost more than the picture is worth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from torch import Tensor

from operators.axes import AlongAxes, AxesOperator
from operators.base import (
    RANK_TOLERANCE,
    IterativeOperator,
    LinearOperator,
    Shape,
    composition_rule,
)
from operators.sparse import Axis, Matrix, SparseMatrix, dense, is_sparse

# An SVD may have this many entries in the matrices along the axes, and take this many
# multiplications: a number that every picture affords, and one more for each of its pixels. The
# latter is about a call of the default network.
FREE_ENTRIES = 1e6
ENTRIES_PER_PIXEL = 4
FREE_MULTIPLICATIONS = 1e9
MULTIPLICATIONS_PER_PIXEL = 2e4

# Bands of a Gram matrix, as a fraction of its side, above which a banded solution saves nothing.
WIDEST = 0.1

# Length of the piece of a long axis whose singular values stand for those of the whole.
TYPICAL = 512


class BandedAxesOperator(AlongAxes, IterativeOperator):
    """``A = A_c ⊗ A_h ⊗ A_w`` with sparse matrices along height and width, for long pictures.

    It is the map of `AxesOperator` without the SVD. Time and memory follow the pixels. Where the
    matrices have bands, the inverses are exact as well, by banded Cholesky factors along the longer
    axis and an eigendecomposition along the others; they are computed on the CPU. Otherwise, with a
    circular boundary or a blur that wipes out frequencies, they are iterative.

    >>> from operators import downsample
    >>> long = downsample((3, 16, 80000), 4)
    >>> long.has_svd, long.A(torch.rand(1, 3, 16, 80000)).shape
    (False, torch.Size([1, 3, 4, 20000]))

    Args:
        input_shape: (C, H, W) of the picture.
        channel: Matrix ``[C', C]``; None leaves the axis as it is.
        height: Matrix ``[H', H]``, dense or sparse, or None.
        width: Matrix ``[W', W]``, dense or sparse, or None.
        dtype: Type of the stored matrices.

    Raises:
        ValueError: A matrix is not two-dimensional, not finite, zero, or does not fit
            ``input_shape``.
    """

    channel: Tensor | None
    height: SparseMatrix | None
    width: SparseMatrix | None
    height_t: SparseMatrix | None
    width_t: SparseMatrix | None

    def __init__(
        self,
        input_shape: Shape,
        channel: Matrix | None = None,
        height: Axis | None = None,
        width: Axis | None = None,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(input_shape, channel, _sparse(height), _sparse(width))
        colors, rows, columns = self.matrices
        stored = None if colors is None else torch.from_numpy(colors).to(dtype)
        self.register_buffer("channel", stored)
        for name, matrix in (("height", rows), ("width", columns)):
            forth, back = (
                (None, None)
                if matrix is None
                else (SparseMatrix(m, dtype=dtype) for m in (matrix, matrix.T))
            )
            self.add_module(name, forth)
            self.add_module(f"{name}_t", back)

    def A(self, x: Tensor) -> Tensor:
        if self.channel is not None:
            x = torch.einsum("dc,bchw->bdhw", self.channel, x)
        if self.height is not None:
            x = self.height(x, dim=-2)

        return x if self.width is None else self.width(x, dim=-1)

    def At(self, y: Tensor) -> Tensor:
        if self.width_t is not None:
            y = self.width_t(y, dim=-1)
        if self.height_t is not None:
            y = self.height_t(y, dim=-2)

        return y if self.channel is None else torch.einsum("dc,bdhw->bchw", self.channel, y)

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        inverses = self._inverses
        if inverses is None:
            return super().pseudo_inverse(y)

        x = _on_host(y)
        for axis, inverse in enumerate(inverses, start=1):
            x = x if inverse is None else inverse(x, axis)

        return torch.from_numpy(x).to(y)

    def regularised_inverse(self, y: Tensor, ratio: Tensor) -> Tensor:
        if self._banded is None:
            return super().regularised_inverse(y, ratio)

        ratios = ratio.expand(len(y), 1, 1, 1).flatten().tolist()
        solved = [self._shifted(one, r) for one, r in zip(_on_host(y), ratios, strict=True)]
        return self.At(torch.from_numpy(np.stack(solved)).to(y))

    def typical_singular_values(self) -> Tensor:
        """Singular values ``[C', h, w]`` distributed as those of the operator.

        Those of the middle of each long axis: away from the ends, its rows repeat.
        """
        values = [
            np.ones(size) if matrix is None else _singular_values(matrix)
            for matrix, size in zip(self.matrices, self.input_shape, strict=True)
        ]
        # the channels are the same where no matrix mixes them
        values[0] = values[0][:1] if self.matrices[0] is None else values[0]
        values[1:] = [v[:TYPICAL] for v in values[1:]]
        return torch.from_numpy(np.einsum("c,h,w->chw", *values)).float()

    @cached_property
    def _inverses(self) -> list[_BandedInverse | _DenseInverse | None] | None:
        """Pseudo-inverses along the axes; None if one is not well-conditioned, or has no bands."""
        inverses: list[_BandedInverse | _DenseInverse | None] = []
        condition = 1.0
        for matrix in self.matrices:
            inverse = None if matrix is None else _inverse_along_axis(matrix)
            if matrix is not None and inverse is None:
                return None
            condition *= 1.0 if inverse is None else inverse.condition
            inverses.append(inverse)

        return inverses if condition * RANK_TOLERANCE < 1 else None

    @cached_property
    def _banded(self) -> tuple[int, NDArray[np.float64]] | None:
        """The longer axis (1 or 2) and the bands of its Gram matrix, if it has any."""
        longer = 1 if self.output_shape[1] > self.output_shape[2] else 2
        matrix = self.matrices[longer]
        bands = None if matrix is None else _gram_bands(matrix)
        return None if bands is None else (longer, bands)

    @cached_property
    def _spectra(self) -> list[tuple[NDArray[np.float64], Matrix | None]]:
        """Eigenvalues and eigenvectors of ``A Aᵀ`` along the channels and the shorter axis."""
        assert self._banded is not None
        spectra: list[tuple[NDArray[np.float64], Matrix | None]] = []
        for axis in (0, 3 - self._banded[0]):
            matrix = self.matrices[axis]
            if matrix is None:
                spectra.append((np.ones(1), None))
            else:
                gram = matrix @ matrix.T
                values, vectors = np.linalg.eigh(dense(gram))
                spectra.append((values, vectors))

        return spectra

    def _shifted(self, y: NDArray[np.float64], ratio: float) -> NDArray[np.float64]:
        """Return ``(A Aᵀ + ratio)⁻¹ y`` of one picture [C', H', W'].

        In the eigenvectors of the other axes it falls into systems ``μ G + ratio`` along the longer
        axis.
        """
        assert self._banded is not None
        longer, bands = self._banded
        (mixed, channels), (across, vectors) = self._spectra
        y = y if longer == 2 else y.swapaxes(1, 2)
        y = y if channels is None else np.einsum("cd,chw->dhw", channels, y)
        y = y if vectors is None else np.einsum("hk,chw->ckw", vectors, y)

        solved = np.empty_like(y)
        for i, j in np.ndindex(len(mixed), len(across)):
            system = max(float(mixed[i] * across[j]), 0.0) * bands
            system[0] += ratio
            part = (slice(None) if channels is None else i, slice(None) if vectors is None else j)
            right = y[part].reshape(-1, y.shape[-1]).T
            found = scipy.linalg.solveh_banded(system, right, lower=True, check_finite=False)
            solved[part] = found.T.reshape(solved[part].shape)

        solved = solved if channels is None else np.einsum("cd,dhw->chw", channels, solved)
        solved = solved if vectors is None else np.einsum("hk,ckw->chw", vectors, solved)
        return solved if longer == 2 else solved.swapaxes(1, 2)


def along_axes(
    input_shape: Shape,
    channel: Matrix | None = None,
    height: Axis | None = None,
    width: Axis | None = None,
    *,
    dtype: torch.dtype = torch.float32,
) -> AxesOperator | BandedAxesOperator:
    """Make the operator of a matrix along each axis, with an SVD where the picture affords one.

    >>> along_axes((3, 8, 8), height=np.eye(8)).has_svd
    True

    Args:
        input_shape: (C, H, W) of the picture.
        channel: Matrix ``[C', C]``; None leaves the axis as it is.
        height: Matrix ``[H', H]``, dense or sparse, or None.
        width: Matrix ``[W', W]``, dense or sparse, or None.
        dtype: Type of the stored matrices.

    Raises:
        ValueError: See `AxesOperator`.
    """
    if _affords_svd(input_shape, (height, width)):
        rows, columns = (None if matrix is None else dense(matrix) for matrix in (height, width))
        return AxesOperator(input_shape, channel, rows, columns, dtype=dtype)
    return BandedAxesOperator(input_shape, channel, height, width, dtype=dtype)


def _affords_svd(input_shape: Shape, matrices: Sequence[Axis | None]) -> bool:
    shapes = [matrix.shape for matrix in matrices if matrix is not None and matrix.ndim == 2]
    entries: float = sum(rows * columns for rows, columns in shapes)
    multiplications: float = sum(rows * columns * min(rows, columns) for rows, columns in shapes)
    pixels = max(
        math.prod(input_shape[1:]),
        math.prod(
            n if m is None else m.shape[0] for m, n in zip(matrices, input_shape[1:], strict=True)
        ),
    )
    fits = entries <= FREE_ENTRIES + ENTRIES_PER_PIXEL * pixels
    return fits and multiplications <= FREE_MULTIPLICATIONS + MULTIPLICATIONS_PER_PIXEL * pixels


@composition_rule
def _product_along_axes(
    second: LinearOperator, first: LinearOperator
) -> AxesOperator | BandedAxesOperator | None:
    if not (isinstance(second, AlongAxes) and isinstance(first, AlongAxes)):
        return None

    channel, height, width = (
        _product(b, a) for b, a in zip(second.matrices, first.matrices, strict=True)
    )
    dtype = next(b.dtype for b in second.buffers() if b.is_floating_point())
    return along_axes(first.input_shape, channel, height, width, dtype=dtype)


def _product(second: Axis | None, first: Axis | None) -> Axis | None:
    """``second @ first`` where None is the identity."""
    if second is None or first is None:
        return first if second is None else second
    if is_sparse(second) or is_sparse(first):
        return scipy.sparse.csr_array(second) @ scipy.sparse.csr_array(first)
    return second @ first


class _DenseInverse:
    """Pseudo-inverse along a short axis, by its SVD."""

    def __init__(self, matrix: Matrix) -> None:
        s = np.linalg.svd(matrix, compute_uv=False)
        self.condition = float(s[0] / s[-1]) if s[-1] > 0 else math.inf
        self.matrix = np.linalg.pinv(matrix)

    def __call__(self, x: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        """Multiply ``x [B, C, H, W]`` along an axis counted from the channel's, 1."""
        return np.moveaxis(np.tensordot(self.matrix, x, axes=(1, axis)), 0, axis)


class _BandedInverse:
    """Pseudo-inverse along an axis, by the Cholesky factor of the smaller Gram matrix.

    ``A⁺ = Aᵀ (A Aᵀ)⁻¹`` for full row rank, ``(AᵀA)⁻¹ Aᵀ`` for full column rank.
    """

    def __init__(self, matrix: scipy.sparse.csr_array, bands: NDArray[np.float64]) -> None:
        self.matrix = matrix
        self.factor = scipy.linalg.cholesky_banded(bands, lower=True, check_finite=False)
        self.condition = self._condition(bands)

    def __call__(self, x: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        """Multiply ``x [B, C, H, W]`` along an axis counted from the channel's, 1."""
        moved = np.moveaxis(x, axis, 0)
        columns = moved.reshape(len(moved), -1)
        wide = self.matrix.shape[0] <= self.matrix.shape[1]
        if wide:
            product = self.matrix.T @ self._solve(columns)
        else:
            product = self._solve(self.matrix.T @ columns)

        return np.moveaxis(product.reshape(-1, *moved.shape[1:]), 0, axis)

    def _solve(self, columns: NDArray[np.float64]) -> NDArray[np.float64]:
        factor = (self.factor, True)
        solved: NDArray[np.float64] = scipy.linalg.cho_solve_banded(
            factor, columns, check_finite=False
        )
        return solved

    def _condition(self, bands: NDArray[np.float64]) -> float:
        """Condition number of the matrix, of whose square the bands are, by power iterations."""
        v = np.random.default_rng(0).standard_normal((bands.shape[1], 1))
        inverse = 0.0
        for _ in range(20):
            v = self._solve(v)
            inverse = float(np.linalg.norm(v))
            v /= inverse
        # Gershgorin's bound of the largest eigenvalue
        largest = float((np.abs(bands[0]) + 2 * np.abs(bands[1:]).sum(axis=0)).max())
        return math.sqrt(largest * inverse)


def _inverse_along_axis(matrix: Axis) -> _BandedInverse | _DenseInverse | None:
    """Return the pseudo-inverse of a well-conditioned matrix with bands, or of a short one."""
    if not is_sparse(matrix) or max(matrix.shape) <= TYPICAL:
        return _DenseInverse(dense(matrix))

    bands = _gram_bands(
        matrix if matrix.shape[0] <= matrix.shape[1] else scipy.sparse.csr_array(matrix.T)
    )
    try:
        return None if bands is None else _BandedInverse(matrix, bands)
    except np.linalg.LinAlgError:  # not positive definite: it loses something
        return None


def _gram_bands(matrix: Axis) -> NDArray[np.float64] | None:
    """Lower bands ``[b + 1, m]`` of ``A Aᵀ``, as LAPACK stores them; None if they are wide."""
    sparse = scipy.sparse.csr_array(matrix)
    gram = (sparse @ sparse.T).tocoo()
    below = gram.row >= gram.col
    offsets = (gram.row - gram.col)[below]
    width = int(offsets.max(initial=0))
    if width > max(1, WIDEST * gram.shape[0]):
        return None

    bands = np.zeros((width + 1, gram.shape[0]))
    bands[offsets, gram.col[below]] = gram.data[below]
    return bands


def _singular_values(matrix: Axis) -> NDArray[np.float64]:
    """Singular values of a matrix, or of the middle rows of a long one."""
    rows = matrix.shape[0]
    if rows > TYPICAL:
        middle = scipy.sparse.csr_array(matrix)[(rows - TYPICAL) // 2 :][:TYPICAL]
        matrix = middle[:, np.unique(middle.indices)]

    bands = _gram_bands(matrix) if matrix.shape[0] <= matrix.shape[1] else None
    if bands is not None:
        squares = scipy.linalg.eigvals_banded(bands, lower=True, check_finite=False)
        return np.asarray(np.sqrt(np.clip(squares[::-1], 0, None)), dtype=np.float64)

    return np.asarray(np.linalg.svd(dense(matrix), compute_uv=False), dtype=np.float64)


def _sparse(matrix: Axis | None) -> scipy.sparse.csr_array | None:
    return None if matrix is None else scipy.sparse.csr_array(matrix)


def _on_host(y: Tensor) -> NDArray[np.float64]:
    """A picture or batch in double precision on the CPU; not every device has it."""
    return y.detach().cpu().double().numpy()
