"""Cosine transform of pictures of any size."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from operators.spectra import Array, fourier, stored


class CosineTransform(nn.Module):
    """Orthonormal DCT-II of pictures of any size, by one Fourier transform of that size.

    J. Makhoul, "A fast cosine transform in one and two dimensions", IEEE TASSP 28(1), 1980. one
    axis of n, with ``v = (x0, x2, x4, …, x5, x3, x1)`` and ``w_k = √2 exp(−iπk/2n)`` (but
    ``w_0 = 1``), the transform is ``X_k − i X_{n−k} = w_k (F v)_k`` with ``X_n = 0``. Along both, F
    is taken of both at once.

    >>> transform = CosineTransform(4, 6)
    >>> round(float(transform(torch.ones(1, 1, 4, 6))[0, 0, 0, 0]), 4)  # √24
    4.899

    Args:
        height: Height of the pictures in pixels.
        width: Width of the pictures in pixels.
        dtype: Type of the stored factors.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, height: int, width: int, *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.size = height, width
        self.register_buffer("rows", stored(_twiddles(height, height)[:, None], dtype))
        self.register_buffer("columns", stored(_twiddles(width, width // 2 + 1), dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``[…, H, W]`` to ``[…, H, W]``."""
        rows = torch.view_as_complex(self.rows)
        columns = torch.view_as_complex(self.columns)
        v = _evens_then_odds(_evens_then_odds(x, -1), -2)
        here = fourier(v) * columns
        there = here.flip(-2).roll(1, -2).conj()
        left = (rows * (here + there) / 2).real
        right = (rows * (here - there) / 2).imag[..., 1 : (self.size[1] + 1) // 2]

        return torch.cat([left, -right.flip(-1)], dim=-1)

    def inverse(self, transform: Tensor) -> Tensor:
        """Apply the inverse of the transform, which is its transpose: ``[…, H, W]``."""
        rows = torch.view_as_complex(self.rows)
        columns = torch.view_as_complex(self.columns)
        half = columns.shape[-1]
        mirrored = F.pad(transform.flip(-1), (1, 0))[..., :half]  # X_{n−k}, with X_n = 0

        here = torch.complex(transform[..., :half].contiguous(), -mirrored)
        there = F.pad(here.flip(-2), (0, 0, 1, 0))[..., :-1, :]
        spectrum = (here - 1j * there) / rows / columns

        v = torch.fft.irfft2(spectrum, s=self.size, norm="ortho")
        return _interleaved(_interleaved(v, -2), -1)


def _twiddles(size: int, count: int) -> Array:
    """``w_k`` as pairs of real and imaginary parts, ``[count, 2]``."""
    k = np.arange(count)
    angle = math.pi * k / (2 * size)
    scale = np.where(k == 0, 1.0, math.sqrt(2))
    return np.stack([scale * np.cos(angle), -scale * np.sin(angle)], axis=-1)


def _evens_then_odds(x: Tensor, axis: int) -> Tensor:
    """``(x0, x2, x4, …, x5, x3, x1)`` along an axis."""
    along = x.movedim(axis, 0)
    return torch.cat([along[::2].movedim(0, axis), along[1::2].flip(0).movedim(0, axis)], dim=axis)


def _interleaved(v: Tensor, axis: int) -> Tensor:
    """Inverse of `_evens_then_odds`."""
    count = v.shape[axis]
    evens, odds = v.split([count - count // 2, count // 2], dim=axis)
    x = torch.empty_like(v)
    x.movedim(axis, 0)[::2] = evens.movedim(axis, 0)
    x.movedim(axis, 0)[1::2] = odds.flip(axis).movedim(axis, 0)
    return x
