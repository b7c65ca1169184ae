"""Convolution of large pictures by Fourier transforms of small blocks."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from torch import Tensor, nn

BLOCK = 256
"""Sides of a block, in pixels, unless the kernel is large: they fit a processor's cache."""
TAPS_SHARE = 4
"""A block is at least so many times as large as the kernel."""


class OverlapSave(nn.Module):
    """``y[i] = Σ_n k[n] x[i + size − 1 − n]`` for all i at which the kernel lies inside the
    picture, and the adjoint.

    Blocks that overlap by the kernel's size less one are convolved circularly, and of each is kept
    what did not wrap around (Oppenheim, Schafer, *Discrete-Time Signal Processing*, 8.7.3). One
    transform of the whole picture takes several times as long: it does not fit a processor's cache,
    and its sides may have large prime factors.

    Args:
        kernel: float64 ``[h, w]``, or ``[B, h, w]`` with one kernel per picture of a batch.
        size: (height, width) of the convolved pictures, ``[B, C, height − h + 1, width − w + 1]``
            coming of them.
        dtype: of the stored spectrum.
    """

    def __init__(
        self, kernel: NDArray[np.float64], size: tuple[int, int], *, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.taps: tuple[int, int] = kernel.shape[-2:]  # type: ignore[assignment]
        self.pictures = len(kernel) if kernel.ndim == 3 else 1
        """How many have a kernel of their own; of 1, any number has the same."""
        rows, columns = (_side(n, taps) for n, taps in zip(size, self.taps, strict=True))
        self.sides = rows, columns
        spectrum = np.fft.rfft2(kernel, s=self.sides)
        if kernel.ndim == 3:
            spectrum = spectrum[:, None, None]  # [B, C, blocks, …]

        # As pairs of real numbers, since `.to(dtype)` drops the imaginary part of complex buffers.
        pairs = np.stack([spectrum.real, spectrum.imag], axis=-1)
        self.register_buffer("pairs", torch.from_numpy(pairs).to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to ``[B, C, H − h + 1, W − w + 1]``."""
        height, width = self.taps
        return self._of_blocks(x, torch.view_as_complex(self.pairs), (height - 1, width - 1))

    def adjoint(self, y: Tensor) -> Tensor:
        """``[B, C, H − h + 1, W − w + 1]`` to ``[B, C, H, W]``."""
        height, width = (taps - 1 for taps in self.taps)
        around = F.pad(y, (width, width, height, height))
        return self._of_blocks(around, torch.view_as_complex(self.pairs).conj(), (0, 0))

    def _of_blocks(self, x: Tensor, transfer: Tensor, first: tuple[int, int]) -> Tensor:
        """Every block times the transfer function; what is kept of it begins at ``first``."""
        more = [max(side - n, 0) for side, n in zip(self.sides, x.shape[-2:], strict=True)]
        size = [n - taps + 1 for n, taps in zip(x.shape[-2:], self.taps, strict=True)]
        if any(more):
            x = F.pad(x, (0, more[1], 0, more[0]))

        height, width = (
            min(s - taps + 1, n) for s, taps, n in zip(self.sides, self.taps, size, strict=True)
        )
        kept = slice(first[0], first[0] + height), slice(first[1], first[1] + width)
        lefts = _starts(size[1], width)
        y = x.new_empty(*x.shape[:-2], *size)

        for top in _starts(size[0], height):
            rows = x[..., top : top + self.sides[0], :]
            blocks = torch.stack([rows[..., left : left + self.sides[1]] for left in lefts], dim=-3)
            convolved = torch.fft.irfft2(torch.fft.rfft2(blocks) * transfer, s=self.sides)[
                ..., kept[0], kept[1]
            ]
            for left, block in zip(lefts, convolved.unbind(-3), strict=True):
                y[..., top : top + height, left : left + width] = block

        return y


def _starts(size: int, step: int) -> list[int]:
    """Of blocks of ``step`` that cover ``size``, the last one ending there."""
    return [*range(0, size - step, step), size - step]


def _side(size: int, taps: int) -> int:
    """Of blocks, along one axis: few and then as short as can be, of a length with small prime
    factors.
    """
    longest = max(BLOCK, TAPS_SHARE * taps)
    count = -(-(size - taps + 1) // (longest - taps + 1))
    return next_fast_len(-(-(size - taps + 1) // count) + taps - 1, real=True)
