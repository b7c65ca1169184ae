"""Separable blur along the axes, with a boundary that is stated."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from operators.axes import AxesOperator
from operators.banded_axes import BandedAxesOperator, along_axes
from operators.base import Shape
from operators.sparse import Axis, dense, from_entries

Array = NDArray[np.float64]

# What lies beyond the border: all that scipy.ndimage has, which calls them constant, reflect,
# mirror, nearest and wrap. ``symmetric`` mirrors at the outer edge of the outermost pixel, which
# comes twice (c b a | a b c); ``mirror`` at its centre (c b | a b c). scipy's grid-constant,
# grid-mirror and grid-wrap are zero, symmetric and circular.
BOUNDARIES = ("zero", "symmetric", "mirror", "replicate", "circular")


def gaussian_taps(sigma: float, truncate: float = 4.0) -> Array:
    """Sample a Gaussian at the pixels' centres, with sum 1.

    >>> len(gaussian_taps(2.0))
    17

    Args:
        sigma: Standard deviation in pixels.
        truncate: Where it is cut, in standard deviations.

    Returns:
        An odd number of taps, at least 3.

    Raises:
        ValueError: ``sigma`` is not positive.
    """
    if not (math.isfinite(sigma) and sigma > 0):
        raise ValueError(f"the Gaussian's standard deviation must be positive, not {sigma}")

    radius = max(1, int(truncate * sigma + 0.5))
    density = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    taps: Array = density / density.sum()
    return taps


def box_taps(size: int) -> Array:
    """Make the taps of the mean over ``size`` pixels.

    >>> box_taps(4).tolist()
    [0.25, 0.25, 0.25, 0.25]

    Raises:
        ValueError: ``size`` is not a whole number of at least 1.
    """
    if size < 1 or size != int(size):
        raise ValueError(f"the box must be a whole number of pixels of at least 1, not {size}")
    return np.full(int(size), 1 / size)


def blur_matrix(size: int, taps: Sequence[float] | Array, boundary: str = "symmetric") -> Array:
    """Make the matrix of a convolution along one axis.

    ``y[i] = Σ_k taps[k] x[i + len(taps) // 2 − k]``: an odd kernel is centred; an even one has its
    centre on the first tap of its second half, as in ``scipy.ndimage.convolve1d``.

    >>> blur_matrix(3, [0.5, 0.5], "zero").tolist()
    [[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 0.5]]

    Args:
        size: Length of the axis in pixels.
        taps: The kernel.
        boundary: One of `BOUNDARIES`.

    Returns:
        float64 ``[size, size]``.

    Raises:
        ValueError: The boundary is unknown, there are no taps, or taps are not finite.
    """
    return dense(blur_weights(size, taps, boundary))


def blur_weights(size: int, taps: Sequence[float] | Array, boundary: str = "symmetric") -> Axis:
    """Make the matrix of `blur_matrix`, sparse for long axes."""
    taps = np.asarray(taps, dtype=np.float64)
    if taps.ndim != 1 or taps.size == 0 or not np.isfinite(taps).all():
        raise ValueError("the kernel must be a non-empty list of finite numbers")

    rows = np.arange(size)[:, None]
    index = rows + taps.size // 2 - np.arange(taps.size)
    columns, inside = _beyond_border(index, size, boundary)
    entries = np.broadcast_to(taps, index.shape)[inside]
    row, _ = np.nonzero(inside)

    return from_entries(row, columns[inside], entries, (size, size))


def extension_weights(size: int, before: int, after: int, boundary: str) -> Axis:
    """Make the matrix that continues one axis beyond its border.

    Args:
        size: Length of the axis in pixels.
        before: Number of pixels that are added before the first one.
        after: Number of pixels that are added after the last one.
        boundary: One of `BOUNDARIES`.

    Returns:
        float64 ``[before + size + after, size]``, sparse for long axes.

    Raises:
        ValueError: The boundary is unknown.
    """
    columns, inside = _beyond_border(np.arange(-before, size + after), size, boundary)
    rows = np.nonzero(inside)[0]
    return from_entries(rows, columns[inside], np.ones(len(rows)), (len(inside), size))


def _beyond_border(
    index: NDArray[np.int64], size: int, boundary: str
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Map positions outside ``0 … size − 1`` to pixels that stand in for them; say which exist."""
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
) -> AxesOperator | BandedAxesOperator:
    """Make the operator of a blur along the height and along the width.

    >>> separable_blur((3, 8, 8), [0.25, 0.5, 0.25], boundary="circular").output_shape
    (3, 8, 8)

    Args:
        input_shape: (C, H, W) of the picture.
        taps: Kernel along the height.
        horizontal_taps: Kernel along the width; None is the same.
        boundary: One of `BOUNDARIES`.
        dtype: Type of the stored matrices.

    Raises:
        ValueError: The boundary is unknown, or a kernel is empty, not finite or all zero.
    """
    _, height, width = input_shape
    rows = blur_weights(height, taps, boundary)
    columns = blur_weights(width, taps if horizontal_taps is None else horizontal_taps, boundary)
    return along_axes(input_shape, None, rows, columns, dtype=dtype)


def gaussian_blur(
    input_shape: Shape,
    sigma: float,
    *,
    boundary: str = "symmetric",
    dtype: torch.dtype = torch.float32,
) -> AxesOperator | BandedAxesOperator:
    """Make the operator of a Gaussian blur, cut at 4 σ as by scipy.ndimage.

    >>> round(float(gaussian_blur((1, 9, 9), sigma=1.0).A(torch.ones(1, 1, 9, 9)).mean()), 4)
    1.0

    Args:
        input_shape: (C, H, W) of the picture.
        sigma: Standard deviation in pixels.
        boundary: One of `BOUNDARIES`.
        dtype: Type of the stored matrices.

    Raises:
        ValueError: ``sigma`` is not positive, or the boundary is unknown.
    """
    return separable_blur(input_shape, gaussian_taps(sigma), boundary=boundary, dtype=dtype)


def box_blur(
    input_shape: Shape,
    size: int,
    *,
    boundary: str = "symmetric",
    dtype: torch.dtype = torch.float32,
) -> AxesOperator | BandedAxesOperator:
    """Make the operator of the mean over ``size`` × ``size`` pixels.

    >>> box_blur((3, 8, 8), 3).output_shape
    (3, 8, 8)

    Args:
        input_shape: (C, H, W) of the picture.
        size: Side of the square in pixels.
        boundary: One of `BOUNDARIES`.
        dtype: Type of the stored matrices.

    Raises:
        ValueError: ``size`` is not a whole number of at least 1, or the boundary is unknown.
    """
    return separable_blur(input_shape, box_taps(size), boundary=boundary, dtype=dtype)
