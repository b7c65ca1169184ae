"""Separable blur along the axes, with a boundary that is stated."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from operators.axes import AxesOperator
from operators.base import Shape

Array = NDArray[np.float64]

BOUNDARIES = ("zero", "symmetric", "mirror", "replicate", "circular")
"""What lies beyond the border: all that scipy.ndimage has, which calls them constant, reflect,
mirror, nearest, wrap.

``symmetric`` mirrors at the outer edge of the outermost pixel, which comes twice (c b a | a b c);
``mirror`` at its centre (c b | a b c). scipy's grid-constant, grid-mirror and grid-wrap are zero,
symmetric and circular.
"""


def gaussian_taps(sigma: float, truncate: float = 4.0) -> Array:
    """A sampled Gaussian of standard deviation ``sigma`` pixels, cut at ``truncate`` σ, with sum
    1.
    """
    if not (math.isfinite(sigma) and sigma > 0):
        raise ValueError(f"the Gaussian's standard deviation must be positive, not {sigma}")
    radius = max(1, int(truncate * sigma + 0.5))
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return taps / taps.sum()


def box_taps(size: int) -> Array:
    """The mean over ``size`` pixels."""
    if size < 1 or size != int(size):
        raise ValueError(f"the box must be a whole number of pixels of at least 1, not {size}")
    return np.full(int(size), 1 / size)


def blur_matrix(size: int, taps: Sequence[float] | Array, boundary: str = "symmetric") -> Array:
    """The matrix ``[size, size]`` of a convolution along one axis.

    ``y[i] = Σ_k taps[k] x[i + len(taps) // 2 − k]``: an odd kernel is centred; an even one has its
    centre on the first tap of its second half, as in ``scipy.ndimage.convolve1d``.

    Raises:
        ValueError: unknown boundary, no taps, or taps that are not finite.
    """
    taps = np.asarray(taps, dtype=np.float64)
    if taps.ndim != 1 or taps.size == 0 or not np.isfinite(taps).all():
        raise ValueError("the kernel must be a non-empty list of finite numbers")

    matrix = np.zeros((size, size))
    rows = np.arange(size)

    for k, tap in enumerate(taps):
        columns, inside = _beyond_border(rows + taps.size // 2 - k, size, boundary)
        np.add.at(matrix, (rows[inside], columns[inside]), tap)

    return matrix


def extension_matrix(size: int, before: int, after: int, boundary: str) -> Array:
    """The matrix ``[before + size + after, size]`` that continues one axis beyond its border.

    Raises:
        ValueError: unknown boundary.
    """
    columns, inside = _beyond_border(np.arange(-before, size + after), size, boundary)
    matrix = np.zeros((before + size + after, size))
    matrix[np.nonzero(inside)[0], columns[inside]] = 1
    return matrix


def _beyond_border(index: NDArray[np.int64], size: int, boundary: str) -> tuple[NDArray, NDArray]:
    """Map positions outside ``0 … size − 1`` to the pixels that stand in for them, and say which
    exist.
    """
    everywhere = np.ones(index.shape, dtype=bool)
    if boundary == "zero":
        return index, (index >= 0) & (index < size)
    if boundary == "circular":
        return index % size, everywhere
    if boundary == "replicate":
        return np.clip(index, 0, size - 1), everywhere
    if boundary == "symmetric":
        folded = index % (2 * size)
        return np.minimum(folded, 2 * size - 1 - folded), everywhere
    if boundary == "mirror":
        period = max(2 * (size - 1), 1)
        folded = index % period
        return np.minimum(folded, period - folded), everywhere

    raise ValueError(f"unknown boundary {boundary!r}; known are {', '.join(BOUNDARIES)}")


def separable_blur(
    input_shape: Shape,
    taps: Sequence[float] | Array,
    horizontal_taps: Sequence[float] | Array | None = None,
    *,
    boundary: str = "symmetric",
    dtype: torch.dtype = torch.float32,
) -> AxesOperator:
    """Blur by ``taps`` along the height and ``horizontal_taps`` (default: the same) along the
    width.
    """
    _, height, width = input_shape
    rows = blur_matrix(height, taps, boundary)
    columns = blur_matrix(width, taps if horizontal_taps is None else horizontal_taps, boundary)
    return AxesOperator(input_shape, None, rows, columns, dtype=dtype)


def gaussian_blur(
    input_shape: Shape,
    sigma: float,
    *,
    boundary: str = "symmetric",
    dtype: torch.dtype = torch.float32,
) -> AxesOperator:
    """Gaussian blur with a standard deviation of ``sigma`` pixels, cut at 4 σ (scipy.ndimage's
    default).
    """
    return separable_blur(input_shape, gaussian_taps(sigma), boundary=boundary, dtype=dtype)


def box_blur(
    input_shape: Shape,
    size: int,
    *,
    boundary: str = "symmetric",
    dtype: torch.dtype = torch.float32,
) -> AxesOperator:
    """Mean over ``size`` × ``size`` pixels."""
    return separable_blur(input_shape, box_taps(size), boundary=boundary, dtype=dtype)
