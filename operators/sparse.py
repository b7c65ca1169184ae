"""Sparse matrices along one axis of a picture: cost and memory follow the entries."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor, nn


class SparseMatrix(nn.Module):
    """A matrix with few entries in each row, multiplied on any device by gathering columns.

    Rows are padded to the same number of entries (the ELLPACK format), so that one pass over the
    result adds one entry of every row.

    >>> means = csr_array(np.kron(np.eye(2), [[0.5, 0.5]]))
    >>> SparseMatrix(means)(torch.tensor([1.0, 3.0, 5.0, 7.0])).tolist()
    [2.0, 6.0]

    Args:
        matrix: ``[m, n]``.
        dtype: Type of the stored entries.
    """

    columns: Tensor
    entries: Tensor

    def __init__(self, matrix: csr_array, *, dtype: torch.dtype = torch.float32) -> None:
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


def _padded(matrix: csr_array) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Columns and entries ``[k, m]`` of a matrix with at most k entries in each row."""
    matrix = csr_array(matrix)
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
