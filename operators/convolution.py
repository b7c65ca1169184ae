"""Convolution with any kernel, with a border that is stated."""

from __future__ import annotations

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from operators.base import Shape
from operators.blur import BOUNDARIES
from operators.border_convolution import PaddedConvolution, ValidConvolution
from operators.spectra import checked_kernel, is_even
from operators.spectral_convolution import CircularConvolution, SymmetricConvolution

# What lies beyond the border: as in `operators.BOUNDARIES`, or pixels that are sought like all
# others.
CONVOLUTION_BOUNDARIES = (*BOUNDARIES, "unknown")


def convolution(
    shape: Shape,
    kernel: ArrayLike | Tensor,
    boundary: str = "circular",
    *,
    dtype: torch.dtype = torch.float32,
) -> CircularConvolution | SymmetricConvolution | PaddedConvolution | ValidConvolution:
    """Make the convolution whose measurement has this shape.

    It has an SVD with the boundary ``circular``, and with ``symmetric`` if the kernel is even along
    both axes. Only with ``unknown`` is the picture larger than the measurement; see
    `ValidConvolution`.

    >>> from operators import kernels
    >>> convolution((3, 32, 32), kernels.disk(3.0), "symmetric").has_svd
    True

    Args:
        shape: (C, H, W) of the measurement.
        kernel: ``[h, w]``, or ``[B, h, w]`` with one kernel per picture of a batch.
        boundary: One of `CONVOLUTION_BOUNDARIES`.
        dtype: Type of the stored spectrum.

    Raises:
        ValueError: The boundary is unknown, or the kernel does not fit it or the picture.
    """
    if boundary == "circular":
        return CircularConvolution(shape, kernel, dtype=dtype)
    if boundary == "unknown":
        return ValidConvolution(shape, kernel, dtype=dtype)
    if boundary == "symmetric" and is_even(checked_kernel(kernel)):
        return SymmetricConvolution(shape, kernel, dtype=dtype)
    if boundary in CONVOLUTION_BOUNDARIES:
        return PaddedConvolution(shape, kernel, boundary, dtype=dtype)

    raise ValueError(
        f"unknown boundary {boundary!r}; known are {', '.join(CONVOLUTION_BOUNDARIES)}"
    )
