"""Resampling along one axis as a matrix: bicubic, area and Lanczos, antialiased, by any factor."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from operators.axes import AxesOperator
from operators.banded_axes import BandedAxesOperator, along_axes
from operators.base import Shape
from operators.sparse import Axis, dense, from_entries

Array = NDArray[np.float64]


def cubic(x: Array) -> Array:
    """Keys' cubic convolution kernel with a = −1/2, as in Pillow and MATLAB.

    R. Keys, "Cubic convolution interpolation for digital image processing", IEEE TASSP 29(6), 1981,
    equation 15.
    """
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def lanczos3(x: Array) -> Array:
    """Lanczos kernel: a sinc windowed by a sinc three lobes wide (Duchon 1979)."""
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)


# Kernels by name, each with its radius in pixels of the smaller picture.
KERNELS: dict[str, tuple[Callable[[Array], Array], float]] = {
    "bicubic": (cubic, 2.0),
    "lanczos": (lanczos3, 3.0),
}
RESAMPLERS = ("bicubic", "area", "lanczos")


def resample_matrix(size: int, new_size: int, kernel: str = "bicubic") -> Array:
    """Make the matrix that resamples one axis. Every row sums to 1.

    Pixel centres lie at ``i + 1/2`` of the axis, the scale is the exact ratio ``size / new_size``.
    When the axis shrinks, the kernel is stretched by that ratio (antialiasing); taps beyond the
    border are dropped and the rest made to sum to 1. ``bicubic`` and ``lanczos`` are Pillow's
    conventions, ``area`` is the exact mean over the covered interval (OpenCV's INTER_AREA).

    >>> resample_matrix(4, 2, "area").tolist()
    [[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]]

    Args:
        size: Length of the axis in pixels.
        new_size: Length of the resampled axis in pixels.
        kernel: One of `RESAMPLERS`.

    Returns:
        float64 ``[new_size, size]``.

    Raises:
        ValueError: A size is not positive, or the kernel is unknown.
    """
    return dense(resample_weights(size, new_size, kernel))


def resample_weights(size: int, new_size: int, kernel: str = "bicubic") -> Axis:
    """Make the matrix of `resample_matrix`, sparse for long axes."""
    if size < 1 or new_size < 1:
        raise ValueError(f"sizes must be positive, not {size} -> {new_size}")
    if kernel == "area":
        return _area_weights(size, new_size)
    if kernel not in KERNELS:
        raise ValueError(f"unknown resampling kernel {kernel!r}; known are {', '.join(RESAMPLERS)}")

    function, radius = KERNELS[kernel]
    ratio = size / new_size
    stretch = max(ratio, 1.0)
    centres = (np.arange(new_size) + 0.5) * ratio

    # The first tap, and the first behind the last one, as Pillow rounds them.
    first = np.floor(np.maximum(centres - radius * stretch + 0.5, 0)).astype(int)
    last = np.floor(np.minimum(centres + radius * stretch + 0.5, size)).astype(int)

    columns = first[:, None] + np.arange((last - first).max())
    weights = function((columns + 0.5 - centres[:, None]) / stretch)
    weights[columns >= last[:, None]] = 0

    return _rows_to_one(columns, weights, size)


def _area_weights(size: int, new_size: int) -> Axis:
    """Make the matrix of means over the interval that each new pixel covers."""
    edges = np.arange(new_size + 1) * (size / new_size)
    start = edges[:-1, None]
    end = edges[1:, None]

    columns = np.floor(start).astype(int) + np.arange(math.ceil(size / new_size) + 1)
    overlap = np.minimum(end, columns + 1) - np.maximum(start, columns)
    overlap[columns >= size] = 0

    return _rows_to_one(columns, np.clip(overlap, 0, None), size)


def _rows_to_one(columns: NDArray[np.int64], weights: Array, size: int) -> Axis:
    """Make the matrix ``[m, size]`` of weights at columns ``[m, k]``, each row divided by its sum.

    Columns beyond the axis have no weight.
    """
    normalised = weights / weights.sum(axis=1, keepdims=True)
    rows, taps = np.nonzero(normalised)
    entries = normalised[rows, taps]
    return from_entries(rows, columns[rows, taps], entries, (len(columns), size))


def reduced_size(size: int, factor: float) -> int:
    """Divide an axis of ``size`` pixels by ``factor``, rounded up to whole pixels."""
    return math.ceil(size / factor - 1e-9)


def downsample(
    input_shape: Shape,
    factor: float | tuple[float, float] | None = None,
    *,
    size: tuple[int, int] | None = None,
    kernel: str = "bicubic",
    dtype: torch.dtype = torch.float32,
) -> AxesOperator | BandedAxesOperator:
    """Make the operator of downsampling by a factor, whole or fractional, or to a given size.

    >>> downsample((3, 48, 65), 4).output_shape
    (3, 12, 17)

    Args:
        input_shape: (C, H, W) of the large picture.
        factor: At least 1; one for both axes, or (vertical, horizontal). Sizes that it does not
            divide round up, and the scale becomes the exact ratio of the two sizes.
        size: (height, width) of the small picture, instead of ``factor``.
        kernel: ``bicubic``, ``area`` or ``lanczos``, antialiased.
        dtype: Type of the stored matrices.

    Raises:
        ValueError: Both or neither of ``factor`` and ``size`` are given, a factor is below 1, or a
            size is not positive or larger than the picture.
    """
    _, height, width = input_shape
    if factor is not None and size is None:
        size = _reduced_shape(height, width, factor)
    elif factor is not None or size is None:
        raise ValueError("give either a factor or a size")

    if not (1 <= size[0] <= height and 1 <= size[1] <= width):
        raise ValueError(
            f"cannot downsample {height}x{width} (height x width) to {size[0]}x{size[1]}"
        )

    rows = None if size[0] == height else resample_weights(height, size[0], kernel)
    columns = None if size[1] == width else resample_weights(width, size[1], kernel)

    return along_axes(input_shape, None, rows, columns, dtype=dtype)


def _reduced_shape(height: int, width: int, factor: float | tuple[float, float]) -> tuple[int, int]:
    vertical, horizontal = factor if isinstance(factor, tuple) else (factor, factor)
    for one in (vertical, horizontal):
        if not (math.isfinite(one) and one >= 1):
            raise ValueError(f"the factor must be a number of at least 1, not {factor}")

    return reduced_size(height, vertical), reduced_size(width, horizontal)
