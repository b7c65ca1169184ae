"""Banks of kernels, masks and sampling matrices that degradations on a device choose from.

They are made once on the host, and depend on the seed and the side of the crops alone. Their
entries are those of `restore.training.degradations`, made by the same functions; flipped and
transposed at random where they are used, each stands for eight.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from restore.diffusion.seeds import seed_of
from restore.training.degradations import Kernel, Random, sampling_matrix, sampling_svd
from restore.training.device_pictures import Dice
from restore.training.drawing import (
    SCALE_CHANCES,
    SCALES,
    SampledGrid,
    draw_kernel,
    draw_known,
    sampled_grid,
)

# Number of blur kernels of each kind.
KERNELS_OF_A_KIND = 256
# Number of blur kernels for photographs of each scale.
KERNELS_OF_A_SCALE = 48
# Largest number of masks of each kind.
MASKS_OF_A_KIND = 256
# Limit of all masks together in bytes; large crops have fewer of them.
MASK_BYTES = 2**27
# Scales besides `SCALES`, evenly spaced in the logarithm. The CPU's batches have any number.
OTHER_SCALES = 16
# Standard deviations of Gaussian sampling, in low-resolution pixels.
SIGMAS = tuple(n / 20 for n in range(6, 15))
# Standard deviations of the blur of low-resolution pictures, in their pixels.
SOFTENINGS = tuple(n / 20 for n in range(8, 13))

# Streams of random numbers.
_KERNELS, _MASKS, _PHOTOGRAPHS = range(1, 4)


class KernelBank(NamedTuple):
    """Blur kernels, centred in squares with an odd side k.

    Attributes:
        taps: float32 [kinds, count, k, k].
        rows: Half of each kernel's own height, rounded down: int64 [kinds, count].
        columns: The same of its width.
    """

    taps: Tensor
    rows: Tensor
    columns: Tensor

    def to(self, device: torch.device) -> KernelBank:
        return KernelBank(*(part.to(device) for part in self))

    def draw(self, kinds: Tensor, dice: Dice) -> tuple[Tensor, Tensor, Tensor]:
        """Draw a kernel of each kind [n], flipped and transposed at random.

        Returns:
            Kernels [n, k, k], and half of their heights and of their widths, [n] each.
        """
        number = dice.whole(self.taps.shape[1])
        rows = self.rows[kinds, number]
        columns = self.columns[kinds, number]
        taps, transposed = turned(self.taps[kinds, number], dice)
        return taps, torch.where(transposed, columns, rows), torch.where(transposed, rows, columns)


def kernel_bank(kinds: Sequence[str], crop: int, seed: int) -> KernelBank:
    """Make `KERNELS_OF_A_KIND` kernels of each kind."""
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
    """Make `KERNELS_OF_A_SCALE` kernels for photographs of each scale, which grow with it."""
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
    """Make maps of known pixels, bool [kinds, count, crop, crop]."""
    count = max(16, min(MASKS_OF_A_KIND, MASK_BYTES // (len(kinds) * crop**2)))
    bank = []
    for name in kinds:
        random = _random(seed, _MASKS, crop, *name.encode())
        bank.append(torch.stack([draw_known(name, crop, random) for _ in range(count)]))
    return torch.stack(bank)


class SamplingBank(NamedTuple):
    """Downsampling at G scales, padded with zeros to regions of side R and S pixels after sampling.

    Attributes:
        scales: Fraction of each scale, float32 [G].
        region: Side of the region, int64 [G]; see `SampledGrid`, as for the next four.
        small: Side of the downsampled region.
        margin: First place of a crop.
        places: Number of places.
        last: Last place of a crop.
        down: Downsampling along one axis, [filters, G, S, R]; see `filters`.
        enlarge: Bicubic interpolation, [G, R, S].
        soften: Blur of the low-resolution picture; the first is none: [1 + softenings, G, S, S].
    """

    scales: Tensor
    region: Tensor
    small: Tensor
    margin: Tensor
    places: Tensor
    last: Tensor
    down: Tensor
    enlarge: Tensor
    soften: Tensor

    def to(self, device: torch.device) -> SamplingBank:
        return SamplingBank(*(part.to(device) for part in self))


class InverseBank(NamedTuple):
    """Singular value decompositions of bicubic and area sampling, padded as in `SamplingBank`.

    The inverse for a Gaussian is that of bicubic sampling, since the user does not know the filter.

    Attributes:
        left: U, [2, G, S, S].
        singular: Singular values of sampling along both axes, [2, G, S, S].
        right: V, [2, G, R, S].
    """

    left: Tensor
    singular: Tensor
    right: Tensor

    def to(self, device: torch.device) -> InverseBank:
        return InverseBank(*(part.to(device) for part in self))


def scales_and_fractions() -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return `SCALES`, `OTHER_SCALES` more between them, and the fraction of each."""
    low = SCALES[0]
    high = SCALES[-1]
    others = tuple(low * (high / low) ** ((i + 0.5) / OTHER_SCALES) for i in range(OTHER_SCALES))
    fraction = (1 - sum(SCALE_CHANCES)) / OTHER_SCALES
    return (*SCALES, *others), (*SCALE_CHANCES, *(fraction,) * OTHER_SCALES)


def filters(gaussian: bool) -> tuple[str, ...]:
    """Return names for `sampling_matrix`: bicubic, area, and Gaussians of all `SIGMAS` if asked."""
    return ("bicubic", "area", *(f"gaussian:{sigma}" for sigma in SIGMAS if gaussian))


def sampling_bank(crop: int, *, gaussian: bool = True, softened: bool = True) -> SamplingBank:
    """Make the matrices for crops of this side.

    Args:
        crop: Side of the crops.
        gaussian: False leaves out the Gaussian filters.
        softened: False leaves out the blur of low-resolution pictures.
    """
    scales, fractions = scales_and_fractions()
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
        scales=torch.tensor(fractions),
        **{name: torch.tensor([getattr(grid, name) for grid in grids]) for name in _GRID},
        down=_stacked(down, small, region),
        enlarge=_stacked([[_enlarging(grid) for grid in grids]], region, small)[0],
        soften=_stacked(soften, small, small),
    )


def inverse_bank(crop: int) -> InverseBank:
    """Make the decompositions for crops of this side."""
    grids = [sampled_grid(scale, crop) for scale in scales_and_fractions()[0]]
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
    """Return bicubic interpolation along one axis as a matrix [region, small]."""
    identity = torch.eye(grid.small)[None, None]
    return F.interpolate(
        identity, size=(grid.region, grid.small), mode="bicubic", align_corners=False
    )[0, 0]


def _stacked(matrices: Sequence[Sequence[Tensor]], rows: int, columns: int) -> Tensor:
    """Stack matrices, padded with zeros, to […, rows, columns]."""
    return torch.stack(
        [
            torch.stack([F.pad(m, (0, columns - m.shape[1], 0, rows - m.shape[0])) for m in row])
            for row in matrices
        ]
    )


def turned(squares: Tensor, dice: Dice) -> tuple[Tensor, Tensor]:
    """Flip and transpose squares [n, k, k] at random.

    Returns:
        The squares, and which of them were transposed, bool [n].
    """
    for axis in (-2, -1):
        squares = torch.where(dice.chance(0.5)[:, None, None], squares.flip(axis), squares)
    transposed = dice.chance(0.5)
    return torch.where(transposed[:, None, None], squares.mT, squares), transposed


def _random(seed: int, *key: int) -> Random:
    return np.random.default_rng(seed_of(seed, *key))
