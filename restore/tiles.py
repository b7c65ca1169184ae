"""A large picture seen by the network in overlapping pieces; operator and solver still act on the whole."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restore.budget import LARGEST_TILE, SMALLEST_TILE, Budget
from restore.denoiser import Condition, Denoiser, Prediction, mirror_to_multiple
from restore.devices import is_out_of_memory, release_memory
from restore.errors import BadArgument, RestoreError

OVERLAP = 96
"""Pixels by which neighbouring tiles overlap (docs/large-pictures.md says what less costs)."""
OVERLAP_SHARE = 4
"""Of a network that knows one size only, tiles overlap by their side over this."""

Notice = Callable[[str], None]
"""Takes a sentence for the user about what is done differently than asked or expected."""


class Span(NamedTuple):
    """A tile's extent along one axis."""

    start: int
    stop: int
    """Less than ``start`` + the tile's side where the picture ends inside the tile, by less than the network's grid."""
    weights: NDArray[np.float32]
    """Of its pixels; those of all spans that see a pixel sum to 1."""

    @property
    def place(self) -> slice:
        return slice(self.start, self.stop)


class Tile(NamedTuple):
    """One tile of one picture of a batch."""

    picture: int
    rows: Span
    columns: Span

    def of(self, pictures: Tensor, grid: int) -> Tensor:
        """[1, C, side, side], mirrored where the picture ends; of one picture for all, that one."""
        part = pictures[self.picture % len(pictures), None, :, self.rows.place, self.columns.place]
        return mirror_to_multiple(part, grid)

    def add(self, predicted: Tensor, total: Tensor) -> None:
        """Add a weighted prediction [C, side, side], on whatever device, to its place in ``total``."""
        rows, columns = (torch.from_numpy(span.weights).to(total) for span in (self.rows, self.columns))
        inside = predicted[:, : len(rows), : len(columns)].to(total)
        total[self.picture, :, self.rows.place, self.columns.place].addcmul_(inside, rows[:, None] * columns)


class TiledDenoiser:
    """``denoise(x, sigma, condition)`` whose network sees tiles, blended by a window that falls smoothly to the edges.

    A picture that has no more pixels than a tile goes through whole. The default network is local (what it answers for
    a pixel depends on a neighbourhood), so tiles agree with the whole picture up to what lies beyond the overlap.

    A network that knows pictures of one size alone (`restore.denoiser.ModelConfig.size`) sees tiles of exactly that
    size, the whole of them within the picture; where the picture is smaller, it is continued by mirroring.

    Pictures may lie on another device than the network: tiles travel, and the answer is where the picture is.

    When memory runs out, the call is repeated with fewer tiles at once, then with tiles of half the side, which later
    calls keep. A tile whose prediction is not finite is predicted again in float32.

    Args:
        denoise: the denoiser of one tile.
        tile: side of a tile in pixels; None is what the budget allows, or the network's size.
        overlap: by how much neighbours overlap at least; at most half a tile. None is `OVERLAP`, or a quarter of the
            network's size.
        budget: the memory that tiles are to fit; without one, tiles of `LARGEST_TILE`, one at a time.
        notice: told, once for each change, what is done differently than expected.

    Raises:
        ValueError: an overlap that is not below the tile.
        BadArgument: a tile that is not the network's size, where it has one.
    """

    def __init__(
        self,
        denoise: Denoiser,
        tile: int | None = None,
        overlap: int | None = None,
        *,
        budget: Budget | None = None,
        notice: Notice = warnings.warn,
    ) -> None:
        self.size = denoise.config.size
        if self.size is not None and tile not in (None, self.size):
            raise BadArgument(f"--tile {tile}: this model sees pieces of {self.size} pixels alone")
        tile = tile or self.size
        if overlap is None:
            overlap = OVERLAP if self.size is None else max(1, self.size // OVERLAP_SHARE)
        if not 0 < overlap < (tile or LARGEST_TILE):
            raise ValueError(f"the overlap must be positive and below the tile's side {tile}, not {overlap}")
        self.denoise, self.tile, self.overlap = denoise, tile, overlap
        self.budget, self.notice = budget, notice
        self.schedule, self.conditional = denoise.schedule, denoise.conditional
        self.config, self.prior = denoise.config, denoise.prior
        self.learned_variance = denoise.learned_variance
        self.one_step_from_zeros, self.distilled_levels = denoise.one_step_from_zeros, denoise.distilled_levels
        self._most: float = math.inf
        self._in_float32: Denoiser | None = None

    def __call__(self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None) -> Prediction:
        """As `Denoiser`.

        Raises:
            RestoreError: memory ran out with the smallest tiles, or a prediction is not finite in float32 either.
        """
        while True:
            try:
                return self._predict(x, sigma, condition)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                self._use_less(x)
            release_memory(self.denoise.device)

    def of_class(self, label: int | None) -> TiledDenoiser:
        """The same tiles of the same network for one class, see `Denoiser.of_class`."""
        denoise = self.denoise.of_class(label)
        if denoise is self.denoise:
            return self
        other = copy.copy(self)
        other.denoise, other._in_float32 = denoise, None
        return other

    def side(self, x: Tensor) -> int:
        """Of the tiles of pictures like ``x``."""
        if self.tile is not None:
            return self.tile
        return LARGEST_TILE if self.budget is None else self.budget.tile(self._pixels_on_device(x))

    def at_once(self, x: Tensor, area: int) -> int:
        """How many tiles of ``area`` pixels go through the network in one call."""
        side = self.side(x)
        pixels = side**2 if self.budget is None else self.budget.at_once(side, self._pixels_on_device(x))
        return int(max(1, min(pixels // area, self._most)))

    def _pixels_on_device(self, x: Tensor) -> int:
        return len(x) * x.shape[-2] * x.shape[-1] if x.device == self.denoise.device else 0

    def _predict(self, x: Tensor, sigma: Tensor | float, condition: Condition | None) -> Prediction:
        rows, columns = self._spans(x)
        if len(rows) == len(columns) == 1:
            return self._predict_whole(x, sigma, condition)
        whole = Prediction(*(torch.zeros_like(x) for _ in range(2 + self.learned_variance)))
        tiles = [Tile(*one) for one in product(range(len(x)), rows, columns)]
        for group in _groups(tiles, self.at_once(x, _area(rows, columns, self._grid))):
            seen = self._gathered(x, group)
            levels = sigma[[tile.picture % len(sigma) for tile in group]] if _is_per_picture(sigma) else sigma
            shown = condition and Condition(*(self._gathered(part, group) for part in condition))
            prediction = self._finite(seen, levels, shown)
            for part, total in _parts(prediction, whole):
                for index, tile in enumerate(group):
                    tile.add(part[index], total)
        return whole

    def _predict_whole(self, x: Tensor, sigma: Tensor | float, condition: Condition | None) -> Prediction:
        """Every picture as one tile, several at once."""
        count, device = self.at_once(x, _area(*self._spans(x), self._grid)), self.denoise.device
        answers = []
        for pictures in (slice(start, start + count) for start in range(0, len(x), count)):
            prediction = self._finite(*_part_of(x, sigma, condition, pictures, device))
            answers.append(Prediction(*(None if part is None else part.to(x.device) for part in prediction)))
        return _joined(answers)

    def _finite(self, x: Tensor, sigma: Tensor | float, condition: Condition | None) -> Prediction:
        """The network's prediction; in float32 of those pictures or tiles of which another number format gives
        infinities."""
        prediction = self.denoise(x, sigma, condition)
        if _is_finite(prediction):
            return prediction
        if len(x) > 1:
            each = (slice(index, index + 1) for index in range(len(x)))
            return _joined([self._finite(*_part_of(x, sigma, condition, one, x.device)) for one in each])
        if self.denoise.network.compute_dtype != torch.float32:
            if self._in_float32 is None:
                self.notice("the network's result is not finite in half precision; such parts are redone in float32")
                self._in_float32 = _copy_in_float32(self.denoise)
            prediction = self._in_float32(x, sigma, condition)
            if _is_finite(prediction):
                return prediction
        raise RestoreError("the network's result is not finite (NaN or infinity): the model does not suit this picture")

    def _gathered(self, pictures: Tensor, tiles: Sequence[Tile]) -> Tensor:
        return torch.cat([tile.of(pictures, self._grid) for tile in tiles]).to(self.denoise.device)

    def _spans(self, x: Tensor) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
        """Of the tiles' rows and columns; one of each if the picture goes through whole."""
        height, width = x.shape[-2:]
        side = self.side(x)
        if self.size is not None:
            return fixed_spans(height, side, self.overlap), fixed_spans(width, side, self.overlap)
        if height * width <= side**2:
            return spans(height, height, 0, 1), spans(width, width, 0, 1)
        return spans(height, side, self.overlap, self._grid), spans(width, side, self.overlap, self._grid)

    @property
    def _grid(self) -> int:
        """What the sides of all that the network sees are multiples of."""
        return self.size or self.denoise.config.backbone.size_multiple

    def _use_less(self, x: Tensor) -> None:
        """Go on with fewer tiles at once, else with smaller ones.

        Raises:
            RestoreError: they are as small as can be.
        """
        rows, columns = self._spans(x)
        area = _area(rows, columns, self._grid)
        count = min(self.at_once(x, area), len(x) * len(rows) * len(columns))
        if count > 1:
            self._most = count // 2
            self.notice(f"not enough memory for {count} tiles at once: going on with {self._most}")
            return
        smaller = self.size or max(math.isqrt(area) // 2, SMALLEST_TILE)
        if smaller**2 >= area:
            raise RestoreError(
                f"not enough memory, even for pieces of {smaller}x{smaller} pixels; close other programs, restore a "
                "smaller picture, or use another --device"
            )
        self.tile = smaller
        self.notice(f"not enough memory: going on with tiles of {smaller} pixels")


@lru_cache(maxsize=16)
def spans(size: int, tile: int, overlap: int, grid: int) -> tuple[Span, ...]:
    """Evenly spread spans that cover ``size`` pixels, with weights that sum to 1 at each.

    All have the same length, the shortest that needs no more spans than ``tile`` does, if the last is taken to end at a
    multiple of ``grid``. They start at multiples of ``grid``, so that the network divides every tile as it divides the
    whole picture.

    Args:
        size: of the picture along the axis.
        tile: the longest length; one span covers a picture that is not longer.
        overlap: of neighbours, at least, up to half a tile; rounded up to a multiple of ``grid``.
        grid: what the network divides lengths by.
    """
    tile = max(tile // grid, 2) * grid if tile < size else size
    if size <= tile:
        return _one_span(size)
    overlap = min(-(-overlap // grid), tile // grid // 2) * grid
    padded = -(-size // grid) * grid
    count = -(-(padded - overlap) // (tile - overlap))
    length = -(-(padded + (count - 1) * overlap) // (count * grid)) * grid
    starts = [index * (padded - length) // (count - 1) // grid * grid for index in range(count)]
    return _weighted(starts, length, overlap, size)


@lru_cache(maxsize=16)
def fixed_spans(size: int, length: int, overlap: int) -> tuple[Span, ...]:
    """As `spans`, but all of exactly this ``length`` and within the picture; of a picture that is not longer, one."""
    if size <= length:
        return _one_span(size)
    overlap = min(overlap, length // 2)
    count = -(-(size - overlap) // (length - overlap))
    starts = [index * (size - length) // (count - 1) for index in range(count)]
    return _weighted(starts, length, overlap, size)


def _one_span(size: int) -> tuple[Span, ...]:
    return (Span(0, size, np.ones(size, np.float32)),)


def _weighted(starts: Sequence[int], length: int, overlap: int, size: int) -> tuple[Span, ...]:
    """Spans that begin there, with weights that sum to 1 at each of ``size`` pixels."""
    windows = [_window(start, length, overlap, size) for start in starts]
    total = np.sum(windows, axis=0)
    return tuple(
        Span(start, min(start + length, size), (window / total)[start : start + length].astype(np.float32))
        for start, window in zip(starts, windows, strict=True)
    )


def _window(start: int, length: int, overlap: int, size: int) -> NDArray[np.float64]:
    """[size]: 1 inside a span, a raised cosine over the overlap at its ends, 0 outside."""
    position = np.arange(size) - start + 0.5
    distance = np.minimum(position, length - position)
    return np.sin(np.pi / 2 * (distance / overlap).clip(0, 1)) ** 2


def _area(rows: Sequence[Span], columns: Sequence[Span], grid: int) -> int:
    """Pixels of one tile, as the network sees it."""
    return math.prod(-(-(axis[0].stop - axis[0].start) // grid) * grid for axis in (rows, columns))


def _parts(*predictions: Prediction) -> Iterator[tuple[Tensor, ...]]:
    """What they say, part by part: all clean estimates, all noises, and all shares where there are any."""
    return (parts for parts in zip(*predictions, strict=True) if parts[0] is not None)


def _groups(tiles: Sequence[Tile], count: int) -> Iterator[Sequence[Tile]]:
    return (tiles[start : start + count] for start in range(0, len(tiles), count))


def _part_of(
    x: Tensor, sigma: Tensor | float, condition: Condition | None, pictures: slice, device: torch.device
) -> tuple[Tensor, Tensor | float, Condition | None]:
    """Some pictures of a call of the network, on a device."""

    def of(values: Tensor) -> Tensor:
        return values[pictures] if len(values) > 1 else values  # one for all pictures is theirs too

    shown = condition and Condition(*(of(part).to(device) for part in condition))
    return x[pictures].to(device), of(sigma) if _is_per_picture(sigma) else sigma, shown


def _joined(parts: Sequence[Prediction]) -> Prediction:
    return parts[0] if len(parts) == 1 else Prediction(*(torch.cat(pieces) for pieces in _parts(*parts)))


def _is_per_picture(sigma: Tensor | float) -> bool:
    return isinstance(sigma, Tensor) and sigma.ndim > 0


def _is_finite(prediction: Prediction) -> bool:
    """Infinities and NaNs survive a sum. Of a fake tensor, which has no values, always true."""
    total = sum(part.sum() for part in prediction if part is not None)
    return type(total) is not Tensor or math.isfinite(total)


def _copy_in_float32(denoise: Denoiser) -> Denoiser:
    """The same network, whose weights keep the values that they were rounded to."""
    return Denoiser(copy.deepcopy(denoise.network).set_compute_dtype(torch.float32), denoise.config, denoise.label)
