"""The parts of JPEG: colour conversion, whole blocks, and the cosine transform of 8×8 pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Pixels of a block's side.
SIDE = 8


def ycbcr_of(rgb: Tensor) -> Tensor:
    """Turn RGB into JFIF's YCbCr (BT.601, full range), levels 0 to 255: ``[B, 3, H, W]``."""
    red, green, blue = rgb.split(1, dim=1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return torch.cat([luma, (blue - luma) / 1.772 + 128, (red - luma) / 1.402 + 128], dim=1)


def rgb_of(luma: Tensor, chroma: Tensor) -> Tensor:
    """Inverse of `ycbcr_of`, for luma ``[B, 1, H, W]`` and chroma ``[B, 2, H, W]``."""
    blue_difference, red_difference = (chroma - 128).split(1, dim=1)
    red = luma + 1.402 * red_difference
    blue = luma + 1.772 * blue_difference
    green = (luma - 0.299 * red - 0.114 * blue) / 0.587
    return torch.cat([red, green, blue], dim=1)


def continued(plane: Tensor, rows: int, columns: int) -> Tensor:
    """Repeat the last row and column up to multiples of ``rows`` and ``columns``."""
    return F.pad(
        plane, (0, -plane.shape[-1] % columns, 0, -plane.shape[-2] % rows), mode="replicate"
    )


def dct_matrix() -> Tensor:
    """Return the orthonormal DCT-II of 8 samples: ``spectrum = D · samples``."""
    frequency = torch.arange(SIDE, dtype=torch.float64)[:, None]
    sample = torch.arange(SIDE, dtype=torch.float64)
    matrix = torch.cos(torch.pi * frequency * (2 * sample + 1) / 16) / 2
    matrix[0] /= 2**0.5
    return matrix


def to_spectra(planes: Tensor, dct: Tensor) -> Tensor:
    """Transform whole blocks: ``[…, 8 rows, 8 columns]`` to ``[…, rows, columns, 8, 8]``."""
    *batch, height, width = planes.shape
    blocks = planes.reshape(*batch, height // SIDE, SIDE, width // SIDE, SIDE)
    return torch.einsum("ui,...rick,vk->...rcuv", dct, blocks, dct)


def from_spectra(spectra: Tensor, dct: Tensor) -> Tensor:
    """Inverse of `to_spectra`."""
    *batch, rows, columns, _, _ = spectra.shape
    blocks = torch.einsum("ui,...rcuv,vk->...rick", dct, spectra, dct)
    return blocks.reshape(*batch, SIDE * rows, SIDE * columns)
