"""How a picture is divided into overlapping tiles, and with which weights they are blended."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Span(NamedTuple):
    """A tile's extent along one axis."""

    start: int
    stop: int
    """Less than ``start`` + the tile's side where the picture ends inside the tile, by less than
    the network's grid.
    """
    weights: NDArray[np.float32]
    """Of its pixels; those of all spans that see a pixel sum to 1."""

    @property
    def place(self) -> slice:
        return slice(self.start, self.stop)


Spans = tuple[Span, ...]


@lru_cache(maxsize=16)
def tiling(height: int, width: int, area: int, overlap: int, grid: int) -> tuple[Spans, Spans]:
    """Rows and columns of equal tiles of at most ``area`` pixels: those that together have the
    fewest pixels.

    Args:
        height, width: of the picture; one that has no more pixels than a tile is one tile.
        area: of a tile; not less than a square of two ``grid``.
        overlap: of neighbours, at least, up to half the side of a square tile; rounded up to a
            multiple of ``grid``.
        grid: what the network divides lengths by; tiles start at multiples of it, so that the
            network divides each of them as it divides the whole picture.
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
    """Evenly spread spans that cover ``size`` pixels, as few and then as short as can be, with
    weights that sum to 1.

    All have the same length, if the last is taken to end at a multiple of ``grid``, and start at
    one.

    Args:
        size: of the picture along the axis.
        longest: the longest length, a multiple of ``grid`` above ``overlap``; one span covers a
            picture that is not longer.
        overlap: of neighbours, at least; a multiple of ``grid``.
        grid: what the network divides lengths by.
    """
    count, length = _division(size, longest, overlap, grid)
    if count == 1:
        return _one_span(size)
    room = -(-size // grid) * grid - length
    starts = [index * room // (count - 1) // grid * grid for index in range(count)]
    return _weighted(starts, length, overlap, size)


@lru_cache(maxsize=16)
def fixed_spans(size: int, length: int, overlap: int) -> Spans:
    """As `spans`, but all of exactly this ``length`` and within the picture; of a picture that is
    not longer, one.
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
    """How many spans cover ``size``, and their length."""
    padded = -(-size // grid) * grid
    count = 1 if padded <= longest else -(-(padded - overlap) // (longest - overlap))
    return count, _length(padded, count, overlap, grid)


def _lengths(size: int, overlap: int, grid: int) -> Iterator[int]:
    """Of one span over ``size``, of two, …, down to the shortest."""
    padded = -(-size // grid) * grid
    for count in itertools.count(1):
        yield (length := _length(padded, count, overlap, grid))
        if length <= overlap + grid:
            return


def _length(padded: int, count: int, overlap: int, grid: int) -> int:
    """The shortest that so many spans may have."""
    return -(-(padded + (count - 1) * overlap) // (count * grid)) * grid


def _one_span(size: int) -> Spans:
    return (Span(0, size, np.ones(size, np.float32)),)


def _weighted(starts: Sequence[int], length: int, overlap: int, size: int) -> Spans:
    """Spans that begin there, with weights that sum to 1 at each of ``size`` pixels."""
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
    """[size]: 1 inside a span, a raised cosine over the overlap at its ends, 0 outside."""
    position = np.arange(size) - start + 0.5
    distance = np.minimum(position, length - position)
    return np.sin(np.pi / 2 * (distance / overlap).clip(0, 1)) ** 2
