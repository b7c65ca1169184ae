"""Convolution of large pictures by Fourier transforms of small blocks."""

from __future__ import annotations

import numpy as np
import scipy
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

# Longest side of a block in pixels, unless the kernel is large: it fits a processor's cache.
BLOCK = 256

# The longest side is at least so many times that of the kernel.
BLOCK_TO_KERNEL = 4


class OverlapSave(nn.Module):
    """Convolution where the kernel lies inside the picture, by the overlap-save method.

    ``y[i] = Σ_n k[n] x[i + size − 1 − n]`` along each axis, size being the kernel's. Blocks that
    overlap by the kernel's size less one are convolved circularly, and what did not wrap around is
    kept of each (Oppenheim & Schafer, "Discrete-Time Signal Processing", section 8.7.3). One
    transform of the whole picture takes several times as long: it does not fit a processor's cache,
    and its sides may have large prime factors.

    >>> mean = OverlapSave(np.full((1, 2), 0.5), (1, 4), dtype=torch.float64)
    >>> mean(torch.tensor([[[[1.0, 3.0, 5.0, 7.0]]]], dtype=torch.float64)).round().tolist()
    [[[[2.0, 4.0, 6.0]]]]

    Attributes:
        taps: (h, w) of the kernel.
        pictures: Number of pictures that have a kernel of their own; with 1, all pictures of a
            batch of any size share it.

    Args:
        kernel: float64 ``[h, w]``, or ``[B, h, w]`` with one kernel per picture of a batch.
        size: (height, width) of the pictures that are convolved.
        dtype: Type of the stored spectrum.
    """

    pairs: Tensor

    def __init__(
        self, kernel: NDArray[np.float64], size: tuple[int, int], *, dtype: torch.dtype
    ) -> None:
        super().__init__()
        height, width = kernel.shape[-2:]
        self.taps = height, width
        self.sides = _side(size[0], height), _side(size[1], width)
        self.pictures = len(kernel) if kernel.ndim == 3 else 1

        spectrum = np.fft.rfft2(kernel, s=self.sides)
        if kernel.ndim == 3:
            spectrum = spectrum[:, None, None]  # [B, C, blocks, …]

        # As pairs of real numbers, since `.to(dtype)` drops the imaginary part of complex buffers.
        pairs = np.stack([spectrum.real, spectrum.imag], axis=-1)
        self.register_buffer("pairs", torch.from_numpy(pairs).to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve: ``[B, C, H, W]`` to ``[B, C, H − h + 1, W − w + 1]``."""
        height, width = self.taps
        return self._by_blocks(x, torch.view_as_complex(self.pairs), (height - 1, width - 1))

    def adjoint(self, y: Tensor) -> Tensor:
        """Apply the adjoint: ``[B, C, H − h + 1, W − w + 1]`` to ``[B, C, H, W]``."""
        height, width = (taps - 1 for taps in self.taps)
        around = F.pad(y, (width, width, height, height))
        return self._by_blocks(around, torch.view_as_complex(self.pairs).conj(), (0, 0))

    def _by_blocks(self, x: Tensor, transfer: Tensor, first: tuple[int, int]) -> Tensor:
        """Multiply every block's spectrum by ``transfer``; what is kept begins at ``first``."""
        size = [n - taps + 1 for n, taps in zip(x.shape[-2:], self.taps, strict=True)]
        more = [max(side - n, 0) for side, n in zip(self.sides, x.shape[-2:], strict=True)]
        if any(more):
            x = F.pad(x, (0, more[1], 0, more[0]))

        height, width = (
            min(side - taps + 1, n)
            for side, taps, n in zip(self.sides, self.taps, size, strict=True)
        )
        rows = slice(first[0], first[0] + height)
        columns = slice(first[1], first[1] + width)
        lefts = _starts(size[1], width)
        y = x.new_empty(*x.shape[:-2], *size)

        for top in _starts(size[0], height):
            band = x[..., top : top + self.sides[0], :]
            blocks = torch.stack([band[..., left : left + self.sides[1]] for left in lefts], dim=-3)
            convolved = torch.fft.irfft2(torch.fft.rfft2(blocks) * transfer, s=self.sides)
            kept = convolved[..., rows, columns]
            for left, block in zip(lefts, kept.unbind(-3), strict=True):
                y[..., top : top + height, left : left + width] = block

        return y


def _starts(size: int, step: int) -> list[int]:
    """First pixels of blocks of length ``step`` that cover ``size``; the last ends there."""
    return [*range(0, size - step, step), size - step]


def _side(size: int, taps: int) -> int:
    """Side of the blocks along one axis: few, then short, of a length with small prime factors."""
    longest = max(BLOCK, BLOCK_TO_KERNEL * taps)
    count = -(-(size - taps + 1) // (longest - taps + 1))
    return int(scipy.fft.next_fast_len(-(-(size - taps + 1) // count) + taps - 1, real=True))
