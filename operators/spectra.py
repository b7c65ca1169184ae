"""Kernels as they are given, and spectra of real pictures as they are stored."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from operators.base import Shape

Array = NDArray[np.float64]


def checked_kernel(kernel: ArrayLike | Tensor, shape: Shape | None = None) -> Array:
    """Return the kernel in float64; with a picture's shape, only if it is not larger."""
    if isinstance(kernel, Tensor):
        kernel = kernel.detach().cpu().double().numpy()

    kernel = np.asarray(kernel, dtype=np.float64)
    if kernel.ndim not in (2, 3) or kernel.size == 0:
        raise ValueError(
            f"a kernel must be [h, w], or [B, h, w] for one per picture, not {kernel.shape}"
        )
    if not np.isfinite(kernel).all() or not kernel.any(axis=(-2, -1)).all():
        raise ValueError("a kernel must be finite and not all zero")
    if shape is not None and (kernel.shape[-2] > shape[1] or kernel.shape[-1] > shape[2]):
        raise ValueError(
            f"the kernel ({kernel.shape[-2]}x{kernel.shape[-1]}, height x width) is larger than "
            f"the picture ({shape[1]}x{shape[2]})"
        )

    return kernel


def is_even(kernel: Array) -> bool:
    """Return True if a kernel has odd sides and equals its mirror images."""
    odd = kernel.shape[-2] % 2 == kernel.shape[-1] % 2 == 1
    allowed = 1e-6 * np.abs(kernel).max(axis=(-2, -1), keepdims=True)
    return odd and all(
        (np.abs(kernel - np.flip(kernel, axis)) <= allowed).all() for axis in (-2, -1)
    )


def fourier(x: Tensor) -> Tensor:
    """Half the spectrum of a real picture, columns 0 … W // 2; the others are its conjugates."""
    spectrum: Tensor = torch.fft.rfft2(x, norm="ortho")
    return spectrum


def stored(array: Array, dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(dtype)
