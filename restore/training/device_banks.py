"""What degradations on a device choose from: kernels, masks and sampling matrices, made once on the
host.

A bank depends on the seed and on the side of the crops alone. Its entries are those of
`restore.training.degradations`, made by the same functions; turned and mirrored at random where
they are used, each stands for eight.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from restore.diffusion.seeds import seed_of
from restore.training.degradations import (
    SCALE_CHANCES,
    SCALES,
    Kernel,
    Random,
    SampledGrid,
    draw_kernel,
    draw_known,
    sampled_grid,
    sampling_matrix,
    sampling_svd,
)
from restore.training.device_pictures import Dice

KERNELS_OF_A_KIND = 256
KERNELS_OF_A_SCALE = 48
MASKS_OF_A_KIND = 256
MASK_BYTES = 2**27
"""Of all masks together; large crops have fewer of them."""
OTHER_SCALES = 16
"""Scales beside `SCALES`, evenly spread in the logarithm. The CPU's batches have any number."""
SIGMAS = tuple(n / 20 for n in range(6, 15))
"""Of Gaussian sampling, in pixels of the small picture."""
SOFTENINGS = tuple(n / 20 for n in range(8, 13))
"""Of small pictures, in their pixels."""

_KERNELS, _MASKS, _PHOTOGRAPHS = range(1, 4)


class KernelBank(NamedTuple):
    """Blur kernels in the middle of squares with an odd side k."""

    taps: Tensor
    """float32 [kinds, count, k, k]"""
    rows: Tensor
    """Half of each kernel's own height, rounded down: int64 [kinds, count]."""
    columns: Tensor
    """And of its width."""

    def to(self, device: torch.device) -> KernelBank:
        return KernelBank(*(part.to(device) for part in self))

    def draw(self, kinds: Tensor, dice: Dice) -> tuple[Tensor, Tensor, Tensor]:
        """A kernel [n, k, k] of each kind [n], turned and mirrored at random, and half of its
        height and width, [n].
        """
        number = dice.whole(self.taps.shape[1])
        rows = self.rows[kinds, number]
        columns = self.columns[kinds, number]
        taps, transposed = turned(self.taps[kinds, number], dice)
        return taps, torch.where(transposed, columns, rows), torch.where(transposed, rows, columns)


def kernel_bank(kinds: Sequence[str], crop: int, seed: int) -> KernelBank:
    """Of each kind `KERNELS_OF_A_KIND` kernels."""
    random = [_random(seed, _KERNELS, crop, *name.encode()) for name in kinds]
    return _kernel_bank(
        [
            [draw_kernel(n, crop, r) for _ in range(KERNELS_OF_A_KIND)]
            for n, r in zip(kinds, random, strict=True)
        ]
    )


def photograph_bank(
    kinds: Sequence[str], scales: Sequence[float], crop: int, seed: int
) -> KernelBank:
    """For photographs: of each scale `KERNELS_OF_A_SCALE` kernels, which grow with it."""
    random = _random(seed, _PHOTOGRAPHS, crop)
    drawn = [
        [
            draw_kernel(str(random.choice(kinds)), crop, random, scale / 4)
            for _ in range(KERNELS_OF_A_SCALE)
        ]
        for scale in scales
    ]
    return _kernel_bank(drawn)


def _kernel_bank(kernels: Sequence[Sequence[Kernel]]) -> KernelBank:
    side = max(max(kernel.shape) for row in kernels for kernel in row)
    taps = np.stack([np.stack([_centred(kernel, side) for kernel in row]) for row in kernels])
    reach = torch.tensor([[[n // 2 for n in kernel.shape] for kernel in row] for row in kernels])
    return KernelBank(torch.from_numpy(taps).float(), reach[..., 0], reach[..., 1])


def _centred(kernel: Kernel, side: int) -> Kernel:
    return np.pad(kernel, [((side - n) // 2,) * 2 for n in kernel.shape])


def mask_bank(kinds: Sequence[str], crop: int, seed: int) -> Tensor:
    """Maps of known pixels, bool [kinds, count, crop, crop]."""
    count = max(16, min(MASKS_OF_A_KIND, MASK_BYTES // (len(kinds) * crop**2)))
    bank = []
    for name in kinds:
        random = _random(seed, _MASKS, crop, *name.encode())
        bank.append(torch.stack([draw_known(name, crop, random) for _ in range(count)]))
    return torch.stack(bank)


class SamplingBank(NamedTuple):
    """Down-sampling at G scales, padded with zeros to regions of R and small pictures of S pixels a
    side.
    """

    scales: Tensor
    """The share of each scale, float32 [G]."""
    region: Tensor
    """Side of the region, int64 [G], as the next four; see `SampledGrid`."""
    small: Tensor
    margin: Tensor
    places: Tensor
    last: Tensor
    down: Tensor
    """[filters, G, S, R], see `filters`."""
    enlarge: Tensor
    """Bicubic interpolation, [G, R, S]."""
    soften: Tensor
    """Blur of the small picture; the first is none: [1 + softenings, G, S, S]."""

    def to(self, device: torch.device) -> SamplingBank:
        return SamplingBank(*(part.to(device) for part in self))


class InverseBank(NamedTuple):
    """The singular value decompositions of bicubic and of area sampling, padded as in
    `SamplingBank`.

    A Gaussian's inverse is that of bicubic sampling, since nobody knows the filter.
    """

    left: Tensor
    """U, [2, G, S, S]"""
    singular: Tensor
    """Singular values of sampling along both axes, [2, G, S, S]."""
    right: Tensor
    """V, [2, G, R, S]"""

    def to(self, device: torch.device) -> InverseBank:
        return InverseBank(*(part.to(device) for part in self))


def scales_and_shares() -> tuple[tuple[float, ...], tuple[float, ...]]:
    """`SCALES` and `OTHER_SCALES` more between them, with the share of each."""
    low = SCALES[0]
    high = SCALES[-1]
    others = tuple(low * (high / low) ** ((i + 0.5) / OTHER_SCALES) for i in range(OTHER_SCALES))
    share = (1 - sum(SCALE_CHANCES)) / OTHER_SCALES
    return (*SCALES, *others), (*SCALE_CHANCES, *(share,) * OTHER_SCALES)


def filters(gaussian: bool) -> tuple[str, ...]:
    """Names for `sampling_matrix`: bicubic and area, then the Gaussians of all `SIGMAS` if there
    are any.
    """
    return ("bicubic", "area", *(f"gaussian:{sigma}" for sigma in SIGMAS if gaussian))


def sampling_bank(crop: int, *, gaussian: bool = True, softened: bool = True) -> SamplingBank:
    """For crops of this side; without what is not needed."""
    scales, shares = scales_and_shares()
    grids = [sampled_grid(scale, crop) for scale in scales]
    region = max(grid.region for grid in grids)
    small = max(grid.small for grid in grids)
    down = [[sampling_matrix(g.region, g.small, name) for g in grids] for name in filters(gaussian)]
    soften = [[torch.eye(g.small) for g in grids]]
    soften += [
        [sampling_matrix(g.small, g.small, f"gaussian:{s}") for g in grids]
        for s in SOFTENINGS
        if softened
    ]

    return SamplingBank(
        torch.tensor(shares),
        *(torch.tensor([getattr(grid, name) for grid in grids]) for name in _GRID),
        _stacked(down, small, region),
        _stacked([[_enlarging(grid) for grid in grids]], region, small)[0],
        _stacked(soften, small, small),
    )


def inverse_bank(crop: int) -> InverseBank:
    """For crops of this side."""
    grids = [sampled_grid(scale, crop) for scale in scales_and_shares()[0]]
    region = max(grid.region for grid in grids)
    small = max(grid.small for grid in grids)
    svds = [
        [sampling_svd(grid.region, grid.small, name) for grid in grids]
        for name in ("bicubic", "area")
    ]
    left, singular, right = ([[svd[part] for svd in row] for row in svds] for part in range(3))

    return InverseBank(
        _stacked(left, small, small),
        _stacked(singular, small, small),
        _stacked(right, region, small),
    )


_GRID = ("region", "small", "margin", "places", "last")


def _enlarging(grid: SampledGrid) -> Tensor:
    """Bicubic interpolation along one axis as a matrix [region, small]."""
    identity = torch.eye(grid.small)[None, None]
    return F.interpolate(
        identity, size=(grid.region, grid.small), mode="bicubic", align_corners=False
    )[0, 0]


def _stacked(matrices: Sequence[Sequence[Tensor]], rows: int, columns: int) -> Tensor:
    """[…, rows, columns]"""
    return torch.stack(
        [
            torch.stack([F.pad(m, (0, columns - m.shape[1], 0, rows - m.shape[0])) for m in row])
            for row in matrices
        ]
    )


def turned(squares: Tensor, dice: Dice) -> tuple[Tensor, Tensor]:
    """Squares [n, k, k] in one of their eight positions; and whether rows and columns changed
    places, bool [n].
    """
    for axis in (-2, -1):
        squares = torch.where(dice.chance(0.5)[:, None, None], squares.flip(axis), squares)
    transposed = dice.chance(0.5)
    return torch.where(transposed[:, None, None], squares.mT, squares), transposed


def _random(seed: int, *key: int) -> Random:
    return np.random.default_rng(seed_of(seed, *key))
