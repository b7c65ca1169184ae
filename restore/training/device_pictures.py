"""Photographs on a device, and random squares of many of them at once."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from restore.backbone import mirror_to_multiple
from restore.runtime.devices import copies_from_pinned_memory, free_memory
from restore.training.device_tensors import sandwiched
from restore.training.pictures import Augmentation, Pictures

# Fraction of a device's free memory that photographs may fill; the rest is for the training.
MEMORY_FRACTION = 0.5


# Random vectors that `Dice` draws at once.
_POOL = 32


class Dice:
    """Random numbers for pictures side by side.

    They are drawn for all pictures, of which ``rows`` are returned, so that a part of a batch has
    the numbers that it has in the whole.

    Args:
        device: Where they are drawn.
        seed: Random seed.
        count: Number of all pictures.
        rows: Pictures that are wanted; n in the shapes below.
    """

    def __init__(
        self, device: torch.device, seed: int, count: int, rows: slice = slice(None)
    ) -> None:
        self.device = device
        self.count = count
        self.rows = rows
        self._generator: torch.Generator | None = torch.Generator(device).manual_seed(seed)
        self._pool: list[Tensor] = []

    def __len__(self) -> int:
        return len(range(self.count)[self.rows])

    def uniform(self, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Draw [n] in [low, high), uniformly."""
        if not self._pool:  # many at once, since each operation of a device has its price
            drawn = torch.rand(_POOL, self.count, generator=self._generator, device=self.device)
            self._pool.extend(drawn[:, self.rows].unbind())
        drawn = self._pool.pop()
        return drawn if (low, high) == (0, 1) else low + (high - low) * drawn

    def log_uniform(self, low: float, high: float) -> Tensor:
        """Draw [n] in [low, high), log-uniformly."""
        return low * (high / low) ** self.uniform()

    def chance(self, fraction: float) -> Tensor:
        """Draw bool [n], True with this probability."""
        return self.uniform() < fraction

    def whole(self, count: int) -> Tensor:
        """Draw int64 [n] from 0 to count − 1."""
        return torch.randint(count, (self.count,), generator=self._generator, device=self.device)[
            self.rows
        ]

    def below(self, counts: Tensor) -> Tensor:
        """Draw int64 [n], each from 0 to its own count − 1; counts up to 2^20."""
        return torch.minimum((self.uniform() * counts).long(), counts - 1)

    def one_of(self, fractions: Tensor) -> Tensor:
        """Draw int64 [n], number i with probability ``fractions[i]``."""
        drawn = torch.searchsorted(fractions.cumsum(0), self.uniform(), right=True)
        return drawn.clamp(max=len(fractions) - 1)

    def normal(self, *shape: int) -> Tensor:
        """Draw standard normal numbers [n, *shape]."""
        return torch.randn(self.count, *shape, generator=self._generator, device=self.device)[
            self.rows
        ]


class Places(NamedTuple):
    """Squares of photographs and their orientations, each [n].

    Attributes:
        picture: Number of the photograph.
        top: First row.
        left: First column.
        source: Side in the photograph, in pixels.
        side: Side after resizing; a smaller source is mirrored instead.
        flip_rows: Bool.
        flip_columns: Bool.
        transposed: Bool; the flips come first.
    """

    picture: Tensor
    top: Tensor
    left: Tensor
    source: Tensor
    side: Tensor
    flip_rows: Tensor
    flip_columns: Tensor
    transposed: Tensor


class DevicePictures:
    """The photographs of `Pictures` in the memory of a device, three bytes a pixel.

    If they would take more than `MEMORY_FRACTION` of the free memory they stay on the host. Squares
    are then cut there and sent from page-locked memory, in which the photographs themselves need
    not lie.

    Args:
        pictures: Decoded photographs.
        device: Where squares are made.
        memory: Free bytes there; None asks the device.
        notice: Called if the photographs stay on the host.

    Attributes:
        pictures: The photographs in use.
        resident: True if they are on the device.
    """

    def __init__(
        self,
        pictures: Pictures,
        device: torch.device,
        *,
        memory: int | None = None,
        notice: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.device = device
        free = free_memory(device) if memory is None else memory
        self.resident = pictures.bytes <= MEMORY_FRACTION * free
        self._starts: dict[Path, int] = {}
        self._pixels = torch.empty(0, 3, dtype=torch.uint8, device=device)
        if self.resident:
            self._upload(pictures)
        else:
            notice(
                f"the photographs take {pictures.bytes / 1e9:.2f} GB, more than "
                f"{100 * MEMORY_FRACTION:.0f} % of the {free / 1e9:.2f} GB that are free on the "
                "device: they stay in the host's memory, which is slower"
            )

        self._use(pictures)

    def _upload(self, pictures: Pictures) -> None:
        """Copy the pixels as [pixels, 3], so that one index reads three colours."""
        self._pixels = torch.empty(pictures.pixels, 3, dtype=torch.uint8, device=self.device)
        start = 0
        for path, planes in zip(pictures.paths, pictures.planes, strict=True):
            end = start + planes[0].numel()
            self._starts[path] = start
            self._pixels[start:end] = planes.to(self.device).flatten(1).mT
            start = end

    def _use(self, pictures: Pictures) -> None:
        self.pictures = pictures
        sizes = torch.tensor([planes.shape[1:] for planes in pictures.planes])
        self._shortest = int(sizes.amin(dim=1).max())
        starts = torch.tensor([self._starts.get(path, 0) for path in pictures.paths])
        self._areas = sizes.prod(dim=1).cumsum(0).to(self.device)
        self._start, self._height, self._width = (
            t.to(self.device) for t in (starts, *sizes.unbind(dim=1))
        )

    def at_least(self, smallest: int) -> DevicePictures:
        """Return the photographs that are large enough, sharing the memory.

        Raises:
            NothingToDo: There is none.
        """
        rest = copy(self)
        rest._use(self.pictures.at_least(smallest))
        return rest

    def squares(
        self, sides: Tensor, largest: int, dice: Dice, augmentation: Augmentation
    ) -> Tensor:
        """Draw random squares of random photographs, with the distribution of `Pictures.crop`.

        Args:
            sides: Side of each square, int64 [n], none above ``largest``.
            largest: Side of all results.
            dice: Random numbers for these n squares.
            augmentation: How they are varied.

        Returns:
            float32 [n, 3, largest, largest] in [0, 1]; beyond a square's own side its last row and
            column are repeated.
        """
        places = self._places(sides, dice, augmentation)
        span = max(largest, min(round(largest * augmentation.downscale), self._shortest))
        pixels = self._cut(places, span) if self.resident else self._fetched(places, span)
        return _laid(pixels.float().div_(255), places, largest)

    def _places(self, sides: Tensor, dice: Dice, augmentation: Augmentation) -> Places:
        pixel = dice.whole(self.pictures.pixels)
        picture = torch.searchsorted(self._areas, pixel, right=True)
        height = self._height[picture]
        width = self._width[picture]
        shortest = torch.minimum(height, width)
        source = _source_sides(sides, shortest, dice, augmentation)
        top = dice.below(height - source + 1)
        left = dice.below(width - source + 1)
        mirrored = dice.chance(0.5 if augmentation.flips else 0)
        quarters = dice.whole(4) * augmentation.rotations
        flip_columns = mirrored ^ (quarters == 1) ^ (quarters == 2)

        return Places(
            picture, top, left, source, sides, quarters >= 2, flip_columns, quarters % 2 == 1
        )

    def _cut(self, places: Places, span: int) -> Tensor:
        """Cut squares, mirrored beyond their own end: uint8 [n, 3, span, span]."""
        step = torch.arange(span, device=self.device) % (2 * places.source[:, None])
        step = torch.minimum(step, 2 * places.source[:, None] - 1 - step)
        rows = (places.top[:, None] + step) * self._width[places.picture][:, None]
        rows = rows + self._start[places.picture][:, None]
        index = rows[:, :, None] + (places.left[:, None] + step)[:, None, :]

        return (
            self._pixels.index_select(0, index.flatten())
            .view(-1, span, span, 3)
            .permute(0, 3, 1, 2)
        )

    def _fetched(self, places: Places, span: int) -> Tensor:
        """Cut squares as `_cut` does, from photographs on the host."""
        pinned = copies_from_pinned_memory(self.device)
        squares = torch.empty(
            len(places.picture), 3, span, span, dtype=torch.uint8, pin_memory=pinned
        )
        known = torch.stack(
            [places.picture, places.top, places.left, places.source], dim=1
        ).tolist()

        for row, (picture, top, left, source) in zip(squares, known, strict=True):
            square = self.pictures.planes[picture][
                None, :, top : top + source, left : left + source
            ]
            row.copy_(mirror_to_multiple(square, span)[0])

        return squares.to(self.device, non_blocking=True)


def _source_sides(
    sides: Tensor, shortest: Tensor, dice: Dice, augmentation: Augmentation
) -> Tensor:
    """Draw the sides in the photographs, as `restore.training.pictures._source_side`."""
    native = dice.chance(augmentation.native)
    size = dice.uniform()
    most = (shortest / sides).clamp(1, augmentation.downscale)
    return torch.minimum(torch.where(native, sides, (sides * most**size).round().long()), shortest)


def _laid(pixels: Tensor, places: Places, largest: int) -> Tensor:
    """Resize, flip and transpose squares [n, 3, span, span]."""
    source, side = (length.repeat(2) for length in (places.source, places.side))
    flipped = torch.cat([places.flip_rows, places.flip_columns])
    vertical, horizontal = antialiased_weights(
        source, side, pixels.shape[-1], largest, flipped
    ).chunk(2)
    laid = sandwiched(vertical, pixels, horizontal).clamp_(0, 1)
    return torch.where(places.transposed[:, None, None, None], laid.mT, laid)


def antialiased_weights(
    size: Tensor, new_size: Tensor, span: int, largest: int, flipped: Tensor
) -> Tensor:
    """Return antialiased bicubic sampling along one axis, for pictures side by side.

    It is that of `operators.resample_matrix`.

    Args:
        size: Size before, int64 [n]; if it is below ``new_size``, pixels are taken as they are.
        new_size: Size after, int64 [n].
        span: Number of pixels that the weights are for, at least every ``size`` and ``new_size``.
        largest: Number of rows; those from ``new_size`` on repeat the last one.
        flipped: True if the result is mirrored, bool [n].

    Returns:
        float32 [n, largest, span]
    """
    size = torch.maximum(size, new_size)[:, None]
    last = (new_size - 1)[:, None]
    ratio = size / new_size[:, None]
    row = torch.minimum(torch.arange(largest, device=size.device), last)
    row = torch.where(flipped[:, None], last - row, row)
    centre = (row + 0.5) * ratio
    reach = 2 * ratio
    first = (centre - reach + 0.5).clamp_min(0).floor()[..., None]
    end = torch.minimum(centre + reach + 0.5, size).floor()[..., None]
    column = torch.arange(span, device=size.device)
    weights = _cubic((column + 0.5 - centre[..., None]) / ratio[..., None])
    weights = weights * ((column >= first) & (column < end))

    return weights / weights.sum(dim=-1, keepdim=True)


def _cubic(x: Tensor) -> Tensor:
    """Return Keys' cubic convolution kernel with a = −1/2."""
    x = x.abs()
    inner = (1.5 * x - 2.5) * x * x + 1
    outer = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, inner, torch.where(x < 2, outer, 0.0))
