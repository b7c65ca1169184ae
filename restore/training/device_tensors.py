"""Operations on pictures of different sizes side by side in one tensor, with parameters [n] each.

No shape depends on these parameters, and nothing is copied to the host.
"""

from __future__ import annotations

import scipy
import torch
from torch import Tensor

from restore.diffusion.evidence import centred


def each(values: Tensor) -> Tensor:
    """Reshape one number for each picture, [n], to maps of one pixel [n, 1, 1, 1]."""
    return values[:, None, None, None]


def convolved(pictures: Tensor, kernels: Tensor) -> Tensor:
    """Blur [n, C, H, H] by kernels [n, k, k] with odd k.

    The result is right where no pixel beyond the picture is needed.
    """
    side = pictures.shape[-1]
    size = (scipy.fft.next_fast_len(side, real=True),) * 2
    transfer = torch.fft.rfft2(centred(kernels, size))[:, None]
    return torch.fft.irfft2(torch.fft.rfft2(pictures, s=size) * transfer, s=size)[..., :side, :side]


def taken(pictures: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Index the rows and columns of each picture, clamped to the picture.

    ``result[i, c, y, x] = pictures[i, c, rows[i, y], columns[i, x]]``
    """
    count, channels, height, width = pictures.shape
    picture, channel = (torch.arange(n, device=pictures.device) for n in (count, channels))
    rows = rows.clamp(0, height - 1)
    columns = columns.clamp(0, width - 1)

    return pictures[
        picture[:, None, None, None],
        channel[:, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]


def cut(pictures: Tensor, top: Tensor, left: Tensor, side: int) -> Tensor:
    """Cut squares [n, C, side, side] that begin at rows ``top`` and columns ``left``, [n] each."""
    step = torch.arange(side, device=pictures.device)
    return taken(pictures, top[:, None] + step, left[:, None] + step)


def continued(pictures: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """Repeat the last row and column of each picture up to the tensor's end.

    Args:
        pictures: [n, C, H, W].
        height: Height of each picture, [n].
        width: Width of each picture, [n].
    """
    rows, columns = (torch.arange(n, device=pictures.device) for n in pictures.shape[-2:])
    return taken(
        pictures,
        torch.minimum(rows, height[:, None] - 1),
        torch.minimum(columns, width[:, None] - 1),
    )


def rows_from(matrices: Tensor, start: Tensor, count: int) -> Tensor:
    """Return ``count`` rows of each matrix [n, R, S] from ``start`` [n] on: [n, count, S]."""
    index = start[:, None] + torch.arange(count, device=matrices.device)
    return matrices[torch.arange(len(matrices), device=matrices.device)[:, None], index]


def within(start: Tensor, count: int, side: Tensor) -> Tensor:
    """Return which of ``count`` indices from ``start`` [n] on are in [0, side): bool [n, count]."""
    index = start[:, None] + torch.arange(count, device=start.device)
    return (index >= 0) & (index < side[:, None])


def mean_within(pictures: Tensor, side: Tensor) -> Tensor:
    """Return the mean over the first ``side`` rows and columns, [n]."""
    there = within(torch.zeros_like(side), pictures.shape[-1], side).to(pictures)
    weighted = pictures.mean(dim=1) * there[:, :, None] * there[:, None, :]
    return weighted.sum(dim=(-2, -1)) / side.square()


def sandwiched(left: Tensor, pictures: Tensor, right: Tensor) -> Tensor:
    """Return ``left · picture · rightᵀ`` for each channel.

    Args:
        left: [n, h, H].
        pictures: [n, C, H, W].
        right: [n, w, W].

    Returns:
        [n, C, h, w]
    """
    count, channels, height, _ = pictures.shape
    across = pictures.flatten(1, 2) @ right.mT
    return left[:, None] @ across.view(count, channels, height, -1)
