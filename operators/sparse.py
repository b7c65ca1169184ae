"""Sparse matrices along one axis of a picture: cost and memory follow the entries.

scipy.sparse is imported at its first use, which short axes never need.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Matrix = NDArray[np.float64]
# Along one axis of a picture: dense, or a `scipy.sparse.csr_array`.
Axis: TypeAlias = "Matrix | scipy.sparse.csr_array"

# Entries, zeros included, up to which a matrix is made dense.
DENSE = 1e6


def from_entries(
    rows: NDArray[np.int64], columns: NDArray[np.int64], values: Matrix, shape: tuple[int, int]
) -> Axis:
    """Make a matrix of its few entries; dense if it is small, else sparse.

    >>> from_entries(np.array([0, 1, 1]), np.zeros(3, int), np.ones(3), (2, 1)).tolist()
    [[1.0], [2.0]]

    Args:
        rows: Row of each entry.
        columns: Column of each entry.
        values: The entries; those at the same place add up.
        shape: Rows and columns of the matrix.

    Returns:
        float64 of that shape.
    """
    if math.prod(shape) <= DENSE:
        matrix = np.zeros(shape)
        np.add.at(matrix, (rows, columns), values)
        return matrix

    sparse = scipy.sparse.coo_array((values, (rows, columns)), shape).tocsr()
    sparse.eliminate_zeros()
    return sparse


def is_sparse(matrix: Any) -> bool:
    """Tell whether a matrix is one of scipy's sparse arrays."""
    return hasattr(matrix, "tocsr")


def dense(matrix: Axis) -> Matrix:
    """Return a matrix as an array [m, n]."""
    return matrix if isinstance(matrix, np.ndarray) else matrix.toarray()


class SparseMatrix(nn.Module):
    """A matrix with few entries in each row, multiplied on any device by gathering columns.

    Rows are padded to the same number of entries (the ELLPACK format), so that one pass over the
    result adds one entry of every row.

    >>> means = np.kron(np.eye(2), [[0.5, 0.5]])
    >>> SparseMatrix(means)(torch.tensor([1.0, 3.0, 5.0, 7.0])).tolist()
    [2.0, 6.0]

    Args:
        matrix: ``[m, n]``, dense or sparse.
        dtype: Type of the stored entries.
    """

    columns: Tensor
    entries: Tensor

    def __init__(self, matrix: Axis, *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        columns, entries = _padded(matrix)
        self.register_buffer("columns", torch.from_numpy(columns))
        self.register_buffer("entries", torch.from_numpy(entries).to(dtype))

    def forward(self, x: Tensor, dim: int = -1) -> Tensor:
        """Multiply along one axis: ``[…, n, …]`` to ``[…, m, …]``.

        Args:
            x: Any number of axes.
            dim: The axis, −1 or −2.
        """
        shape = (-1,) if dim == -1 else (-1, 1)
        terms = zip(self.columns, self.entries, strict=True)

        column, entry = next(terms)
        product: Tensor = x.index_select(dim, column) * entry.reshape(shape)
        for column, entry in terms:
            product = torch.addcmul(product, x.index_select(dim, column), entry.reshape(shape))

        return product


def _padded(matrix: Axis) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Columns and entries ``[k, m]`` of a matrix with at most k entries in each row."""
    matrix = scipy.sparse.csr_array(matrix)
    matrix.sum_duplicates()
    counts = np.diff(matrix.indptr)
    rows = np.repeat(np.arange(len(counts)), counts)
    places = np.arange(matrix.nnz) - np.repeat(matrix.indptr[:-1], counts)

    shape = (max(1, int(counts.max())), len(counts))
    columns = np.zeros(shape, dtype=np.int64)
    entries = np.zeros(shape)
    columns[places, rows] = matrix.indices
    entries[places, rows] = matrix.data

    return columns, entries
