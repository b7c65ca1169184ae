"""Division of a picture into overlapping tiles, and the weights that blend them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Span(NamedTuple):
    """Extent of a tile along one axis.

    Attributes:
        start: First pixel.
        stop: End; less than ``start`` plus the tile's side if the picture ends inside the tile, by
            less than the network's grid.
        weights: Weights of the pixels; those of all spans sum to 1 at each pixel.
    """

    start: int
    stop: int
    weights: NDArray[np.float32]

    @property
    def place(self) -> slice:
        """Slice of the picture."""
        return slice(self.start, self.stop)


Spans = tuple[Span, ...]


@lru_cache(maxsize=16)
def tiling(height: int, width: int, area: int, overlap: int, grid: int) -> tuple[Spans, Spans]:
    """Rows and columns of equal tiles of at most ``area`` pixels, with the fewest pixels in total.

    Args:
        height, width: Size of the picture; one with no more pixels than a tile is one tile.
        area: Pixels of a tile, at least those of a square of two ``grid``.
        overlap: Least overlap of neighbours, up to half the side of a square tile; rounded up to a
            multiple of ``grid``.
        grid: Divisor of lengths in the network; tiles start at multiples of it, so that the network
            divides each tile as it divides the whole picture.
    """
    if height * width <= area:
        return _one_span(height), _one_span(width)

    side = max(math.isqrt(area) // grid, 2) * grid
    area = max(area, side**2)
    overlap = min(-(-overlap // grid) * grid, side // grid // 2 * grid)
    found = []

    for length in _lengths(width, overlap, grid):
        longest = area // length // grid * grid
        if longest >= min(height, overlap + grid):
            (rows, tall), (columns, wide) = (
                _division(size, most, overlap, grid)
                for size, most in ((height, longest), (width, length))
            )
            found.append((rows * tall * columns * wide, rows * columns, tall, wide))

    *_, tall, wide = min(found)

    return spans(height, tall, overlap, grid), spans(width, wide, overlap, grid)


def spans(size: int, longest: int, overlap: int, grid: int) -> Spans:
    """Evenly spread spans that cover ``size`` pixels, as few and then as short as possible.

    All have the same length, if the last one is extended to a multiple of ``grid``, and start at
    multiples of ``grid``.

    Args:
        size: Side of the picture along the axis.
        longest: Longest length, a multiple of ``grid`` above ``overlap``; a picture that is not
            longer is one span.
        overlap: Least overlap of neighbours, a multiple of ``grid``.
        grid: Divisor of lengths in the network.
    """
    count, length = _division(size, longest, overlap, grid)
    if count == 1:
        return _one_span(size)
    room = -(-size // grid) * grid - length
    starts = [index * room // (count - 1) // grid * grid for index in range(count)]
    return _weighted(starts, length, overlap, size)


@lru_cache(maxsize=16)
def fixed_spans(size: int, length: int, overlap: int) -> Spans:
    """Spans as `spans`, but of exactly this ``length`` and within the picture.

    A picture that is not longer is one span.
    """
    if size <= length:
        return _one_span(size)
    overlap = min(overlap, length // 2)
    count = -(-(size - overlap) // (length - overlap))
    starts = [index * (size - length) // (count - 1) for index in range(count)]
    return _weighted(starts, length, overlap, size)


def tile_area(rows: Spans, columns: Spans, grid: int) -> int:
    """Pixels of one tile, as the network sees it."""
    return math.prod(-(-(axis[0].stop - axis[0].start) // grid) * grid for axis in (rows, columns))


def _division(size: int, longest: int, overlap: int, grid: int) -> tuple[int, int]:
    """Number of spans that cover ``size``, and their length."""
    padded = -(-size // grid) * grid
    count = 1 if padded <= longest else -(-(padded - overlap) // (longest - overlap))
    return count, _length(padded, count, overlap, grid)


def _lengths(size: int, overlap: int, grid: int) -> Iterator[int]:
    """Lengths of one span over ``size``, of two, …, down to the shortest."""
    padded = -(-size // grid) * grid
    for count in itertools.count(1):
        yield (length := _length(padded, count, overlap, grid))
        if length <= overlap + grid:
            return


def _length(padded: int, count: int, overlap: int, grid: int) -> int:
    """Shortest length of ``count`` spans."""
    return -(-(padded + (count - 1) * overlap) // (count * grid)) * grid


def _one_span(size: int) -> Spans:
    """Return the only span of a side that is not divided."""
    return (Span(0, size, np.ones(size, np.float32)),)


def _weighted(starts: Sequence[int], length: int, overlap: int, size: int) -> Spans:
    """Spans with these starts, and weights that sum to 1 at each of ``size`` pixels."""
    windows = [_window(start, length, overlap, size) for start in starts]
    total = np.sum(windows, axis=0)
    return tuple(
        Span(
            start,
            min(start + length, size),
            (window / total)[start : start + length].astype(np.float32),
        )
        for start, window in zip(starts, windows, strict=True)
    )


def _window(start: int, length: int, overlap: int, size: int) -> NDArray[np.float64]:
    """Window [size] of a span: 1 inside, a raised cosine over the overlaps, 0 outside."""
    position = np.arange(size) - start + 0.5
    distance = np.minimum(position, length - position)
    window: NDArray[np.float64] = np.sin(np.pi / 2 * (distance / overlap).clip(0, 1)) ** 2
    return window
