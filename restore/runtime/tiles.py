"""Large pictures for the network in overlapping tiles.

Operators and solvers still act on the whole picture.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import product
from typing import NamedTuple, Self, TypeGuard, cast

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from restore.backbone import mirror_to_multiple
from restore.diffusion.denoiser import Denoiser
from restore.diffusion.evidence import Evidence
from restore.diffusion.predictor import Predictor, numbers_of
from restore.diffusion.protocol import Condition, DenoiserLike, Prediction
from restore.errors import BadArgument, RestoreError
from restore.runtime.budget import (
    LARGEST_TILE,
    SMALLEST_TILE,
    Budget,
    derivative_bytes,
    network_bytes,
)
from restore.runtime.devices import is_out_of_memory, release_memory
from restore.runtime.tiling import Span, Spans, fixed_spans, tile_area, tiling

# Least overlap of neighbouring tiles in pixels, at noise levels up to `WIDE_ABOVE`, and above,
# where the receptive field matters more (docs/large-pictures.md has the cost of smaller ones).
OVERLAP = 96
WIDE_OVERLAP = 256
# Noise level for pictures in [-1, 1]. Few steps of a reverse process are above it, except where
# wide holes are filled.
WIDE_ABOVE = 0.5
# Overlap of the tiles of a network of a single size, as a fraction of their side.
FIXED_SIZE_OVERLAP = 1 / 4

# Receives a sentence for the user when something is done differently than asked or expected.
Notice = Callable[[str], None]


class Tile(NamedTuple):
    """One tile of one picture of a batch.

    Attributes:
        picture: Index in the batch.
        rows, columns: Extent of the tile.
    """

    picture: int
    rows: Span
    columns: Span

    def of(self, pictures: Tensor, grid: int) -> Tensor:
        """Cut the tile, [1, C, side, side], mirrored where the picture ends.

        Args:
            pictures: [B or 1, C, H, W]; 1 is the same picture for all.
            grid: The sides of the result are multiples of it.
        """
        part = pictures[self.picture % len(pictures), None, :, self.rows.place, self.columns.place]
        return mirror_to_multiple(part, grid)

    def add(self, predicted: Tensor, total: Tensor) -> None:
        """Add a weighted prediction [C, side, side], of any device, to its place in ``total``."""
        rows, columns = (
            torch.from_numpy(span.weights).to(total) for span in (self.rows, self.columns)
        )
        inside = predicted[:, : len(rows), : len(columns)].to(total)
        total[self.picture, :, self.rows.place, self.columns.place].addcmul_(
            inside, rows[:, None] * columns
        )


class _Tiles:
    """Tiled calls of a denoiser or predictor, see `TiledDenoiser`, which has the arguments."""

    def __init__(
        self,
        denoise: Denoiser | _AsDenoiser,
        tile: int | None = None,
        overlap: int | None = None,
        *,
        budget: Budget | None = None,
        notice: Notice = warnings.warn,
    ) -> None:
        self.size = denoise.config.size
        if self.size is not None and tile not in (None, self.size):
            raise BadArgument(f"`tile`={tile}: this model sees pieces of {self.size} pixels alone")

        tile = tile or self.size
        if overlap is None and self.size is not None:
            overlap = max(1, int(self.size * FIXED_SIZE_OVERLAP))
        if overlap is not None and not 0 < overlap < (tile or LARGEST_TILE):
            raise ValueError(
                f"the overlap must be positive and below the tile's side {tile}, not {overlap}"
            )

        self.denoise = denoise
        self.tile = tile
        self.overlap = overlap
        self.budget = budget
        self.notice = notice
        self._most: float = math.inf
        self._in_float32: Denoiser | _AsDenoiser | None = None

    def __call__(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Prediction:
        """Predict in tiles, as `Denoiser`.

        Raises:
            RestoreError: If memory runs out with the smallest tiles, or a prediction is not finite
                in float32 either.
        """
        while True:
            try:
                return self._predict(x, sigma, condition)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                self._use_less(x, sigma)
            release_memory(self.denoise.device)

    def side(self, x: Tensor) -> int:
        """Side of the tiles of pictures like ``x``."""
        if self.tile is not None:
            return self.tile
        budget = self._budget_for(x)
        return LARGEST_TILE if budget is None else budget.tile(self._pixels_on_device(x))

    def at_once(self, x: Tensor, area: int) -> int:
        """Number of tiles of ``area`` pixels in one network call."""
        side = self.side(x)
        budget = self._budget_for(x)
        pixels = side**2 if budget is None else budget.at_once(side, self._pixels_on_device(x))
        return int(max(1, min(pixels // area, self._most)))

    def _budget_for(self, x: Tensor) -> Budget | None:
        """Return the budget; a call whose gradient is wanted takes several times the memory."""
        if self.budget is None or not _needs_gradient(x):
            return self.budget
        return replace(self.budget, per_pixel=self._derivative_bytes)

    @cached_property
    def _derivative_bytes(self) -> float:
        return derivative_bytes(cast(Denoiser, self.denoise))  # predictors need no gradient

    def _pixels_on_device(self, x: Tensor) -> int:
        """Number of pixels of ``x`` that occupy memory of the network's device."""
        return len(x) * x.shape[-2] * x.shape[-1] if x.device == self.denoise.device else 0

    def _predict(self, x: Tensor, sigma: Tensor | float, condition: Condition | None) -> Prediction:
        """Predict with the present size and number of tiles."""
        rows, columns = self._spans(x, sigma)
        if len(rows) == len(columns) == 1:
            return self._predict_whole(x, sigma, condition)

        whole = _zeros(x, self.denoise)
        tiles = [Tile(*one) for one in product(range(len(x)), rows, columns)]

        groups = list(_groups(tiles, self.at_once(x, tile_area(rows, columns, self._grid))))

        for group in groups:
            seen = self._gathered(x, group)
            levels = (
                sigma[[tile.picture % len(sigma) for tile in group]]
                if _is_per_picture(sigma)
                else sigma
            )
            shown = condition and Condition(*(self._gathered(part, group) for part in condition))
            prediction = self._one_of(len(groups), seen, levels, shown)
            for part, total in _parts(prediction, whole):
                for index, tile in enumerate(group):
                    tile.add(part[index], total)

        return whole

    def _predict_whole(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None
    ) -> Prediction:
        """Predict every picture as one tile, several at once."""
        count = self.at_once(x, tile_area(*self._spans(x, sigma), self._grid))
        device = self.denoise.device
        answers = []
        parts = [slice(start, start + count) for start in range(0, len(x), count)]

        for pictures in parts:
            prediction = self._one_of(len(parts), *_part_of(x, sigma, condition, pictures, device))
            answers.append(_on(prediction, x.device))

        return _joined(answers)

    def _one_of(
        self, count: int, x: Tensor, sigma: Tensor | float, condition: Condition | None
    ) -> Prediction:
        """Predict one of several parts.

        If the gradient is wanted, what the network's layers need for it is kept for a single part
        alone, and computed again for each of several (Chen et al. 2016, arXiv 1604.06174).
        """
        if count == 1 or not _needs_gradient(x):
            return self._finite(x, sigma, condition)

        return checkpoint(
            self._finite, x, sigma, condition, use_reentrant=False, preserve_rng_state=False
        )

    def _finite(self, x: Tensor, sigma: Tensor | float, condition: Condition | None) -> Prediction:
        """Predict, and repeat in float32 the pictures or tiles whose prediction is not finite."""
        prediction = self.denoise(x, sigma, condition)
        if _is_finite(prediction):
            return prediction
        if len(x) > 1:
            each = (slice(index, index + 1) for index in range(len(x)))
            return _joined(
                [self._finite(*_part_of(x, sigma, condition, one, x.device)) for one in each]
            )

        if self.denoise.network.compute_dtype != torch.float32:
            if self._in_float32 is None:
                self.notice(
                    "the network's result is not finite in half precision; such parts are redone "
                    "in float32"
                )
                self._in_float32 = self.denoise.in_float32()
            prediction = self._in_float32(x, sigma, condition)
            if _is_finite(prediction):
                return prediction

        raise RestoreError(
            "the network's result is not finite (NaN or infinity): the model does not suit this "
            "picture"
        )

    def _gathered(self, pictures: Tensor, tiles: Sequence[Tile]) -> Tensor:
        """Cut tiles, as a batch on the network's device."""
        return torch.cat([tile.of(pictures, self._grid) for tile in tiles]).to(self.denoise.device)

    def _spans(self, x: Tensor, sigma: Tensor | float) -> tuple[Spans, Spans]:
        """Rows and columns of the tiles; one of each if the picture goes through whole."""
        height, width = x.shape[-2:]
        side = self.side(x)
        overlap = self._overlap_at(sigma)
        if self.size is not None:
            return fixed_spans(height, side, overlap), fixed_spans(width, side, overlap)
        return tiling(height, width, side**2, overlap, self._grid)

    def _overlap_at(self, sigma: Tensor | float) -> int:
        """Least overlap of tiles at a noise level, or the highest of several."""
        if self.overlap is not None:
            return self.overlap
        return WIDE_OVERLAP if float(torch.as_tensor(sigma).max()) > WIDE_ABOVE else OVERLAP

    @property
    def _grid(self) -> int:
        """Divisor of the sides of all inputs of the network."""
        return self.size or self.denoise.config.backbone.size_multiple

    def _use_less(self, x: Tensor, sigma: Tensor | float) -> None:
        """Reduce the number of tiles at once, or else their size.

        Raises:
            RestoreError: If they are as small as possible.
        """
        rows, columns = self._spans(x, sigma)
        area = tile_area(rows, columns, self._grid)
        count = min(self.at_once(x, area), len(x) * len(rows) * len(columns))
        if count > 1:
            self._most = count // 2
            self.notice(f"not enough memory for {count} tiles at once: going on with {self._most}")
            return

        smaller = self.size or max(math.isqrt(area) // 2, SMALLEST_TILE)
        if smaller**2 >= area:
            raise RestoreError(
                f"not enough memory, even for pieces of {smaller}x{smaller} pixels; close other "
                "programs, restore a smaller picture, or use another `device`"
            )

        self.tile = smaller
        self.notice(f"not enough memory: going on with tiles of {smaller} pixels")


class TiledDenoiser(_Tiles, DenoiserLike):
    """A denoiser that shows its network large pictures in tiles.

    Tiles are blended by windows that fall smoothly to their edges. A picture with no more pixels
    than a tile goes through whole. The default network is local (its output at a pixel depends on a
    neighbourhood), so tiles agree with the whole picture except for what lies beyond the overlap.

    A network of a single size (`pretrained.description.ModelConfig.size`) sees tiles of that size,
    all within the picture; smaller pictures are extended by mirroring.

    Pictures may be on another device than the network: tiles are moved, and the result is where the
    picture is.

    When memory runs out, the call is repeated with fewer tiles at once, then with tiles of half the
    side; later calls keep these. A tile whose prediction is not finite is predicted again in
    float32.

    Predictions are differentiable. The gradient through several tiles takes the memory of one: each
    is predicted once more for it.

    Args:
        denoise: Denoiser of one tile.
        tile: Side of a tile in pixels; None takes the network's size, or what the budget allows.
        overlap: Least overlap of neighbours, at most half a tile. None takes `OVERLAP`, or
            `WIDE_OVERLAP` at noise levels above `WIDE_ABOVE`; for a network of a single size,
            `FIXED_SIZE_OVERLAP` of it.
        budget: Memory for tiles; None takes tiles of `LARGEST_TILE`, one at a time.
        notice: Called once for each change to what was asked or expected.

    Raises:
        ValueError: If the overlap is not positive and below the tile's side.
        BadArgument: If the tile is not the network's single size.
    """

    denoise: Denoiser

    def __init__(
        self,
        denoise: Denoiser,
        tile: int | None = None,
        overlap: int | None = None,
        *,
        budget: Budget | None = None,
        notice: Notice = warnings.warn,
    ) -> None:
        super().__init__(denoise, tile, overlap, budget=budget, notice=notice)
        self.config = denoise.config
        self.predictor: TiledPredictor | None = None
        if denoise.predictor is not None:
            self.predictor = TiledPredictor(
                denoise.predictor, tile, overlap, budget=budget, notice=notice
            )

    def of_class(self, label: int | None) -> Self:
        denoise = self.denoise.of_class(label)
        if denoise is self.denoise:
            return self

        other = copy.copy(self)
        other.denoise = denoise
        other._in_float32 = None
        return other


class TiledPredictor:
    """A predictor in tiles; for the arguments see `TiledDenoiser`."""

    def __init__(
        self,
        predictor: Predictor,
        tile: int | None = None,
        overlap: int | None = None,
        *,
        budget: Budget | None = None,
        notice: Notice = warnings.warn,
    ) -> None:
        self.config = predictor.config
        if budget is not None:
            per_pixel = network_bytes(predictor.config.backbone, predictor.network.compute_dtype)
            budget = replace(budget, per_pixel=per_pixel)
        overlap = overlap or min(OVERLAP, (tile or LARGEST_TILE) // 2)
        self._tiles = _Tiles(_AsDenoiser(predictor), tile, overlap, budget=budget, notice=notice)

    def __call__(self, evidence: Evidence) -> Tensor:
        """Predict as `restore.diffusion.predictor.Predictor`, on the device of the evidence.

        Raises:
            RestoreError: As `TiledDenoiser`.
        """
        maps = Condition(evidence.noise, evidence.known)
        return self._tiles(evidence.picture, numbers_of(evidence), maps).clean


class _AsDenoiser:
    """A predictor as a denoiser of tiles.

    Its picture takes the place of x, its two maps that of the condition, and the numbers of the
    whole picture that of the noise level.
    """

    learned_variance = noise_variance = False

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.config = predictor.config
        self.network = predictor.network
        self.device = predictor.device

    def __call__(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Prediction:
        assert condition is not None  # `TiledPredictor` has maps for every tile
        evidence = Evidence(x, condition.known, condition.picture)
        answer = self.predictor(evidence, torch.as_tensor(sigma, device=x.device))
        return Prediction(answer, torch.zeros_like(answer))

    def in_float32(self) -> _AsDenoiser:
        """Return the same network in float32."""
        return _AsDenoiser(self.predictor.in_float32())


def _zeros(x: Tensor, denoise: Denoiser | _AsDenoiser) -> Prediction:
    """Return a prediction of zeros, with the parts that the denoiser's have."""

    def zeros(wanted: bool) -> Tensor | None:
        return torch.zeros_like(x) if wanted else None

    return Prediction(
        torch.zeros_like(x),
        torch.zeros_like(x),
        zeros(denoise.learned_variance),
        zeros(denoise.noise_variance),
    )


def _parts(*predictions: Prediction) -> Iterator[tuple[Tensor, ...]]:
    """Parts of the predictions, side by side; without variances where there are none."""
    return (parts for parts in zip(*predictions, strict=True) if parts[0] is not None)


def _groups(tiles: Sequence[Tile], count: int) -> Iterator[Sequence[Tile]]:
    """Split tiles into groups of at most ``count``."""
    return (tiles[start : start + count] for start in range(0, len(tiles), count))


def _part_of(
    x: Tensor,
    sigma: Tensor | float,
    condition: Condition | None,
    pictures: slice,
    device: torch.device,
) -> tuple[Tensor, Tensor | float, Condition | None]:
    """Select some pictures of the arguments of a call, on a device."""

    def of(values: Tensor) -> Tensor:
        return values[pictures] if len(values) > 1 else values  # one for all pictures is theirs too

    shown = condition and Condition(*(of(part).to(device) for part in condition))
    return x[pictures].to(device), of(sigma) if _is_per_picture(sigma) else sigma, shown


def _on(prediction: Prediction, device: torch.device) -> Prediction:
    """Move a prediction to a device."""
    return prediction.changed(lambda part: part.to(device))


def _joined(parts: Sequence[Prediction]) -> Prediction:
    """Concatenate predictions of parts of a batch."""
    if len(parts) == 1:
        return parts[0]

    return Prediction(
        torch.cat([part.clean for part in parts]),
        torch.cat([part.noise for part in parts]),
        _all([part.variance_fraction for part in parts]),
        _all([part.noise_variance for part in parts]),
    )


def _all(parts: Sequence[Tensor | None]) -> Tensor | None:
    """Concatenate what all parts of a batch have, or none."""
    there = [part for part in parts if part is not None]
    return torch.cat(there) if there else None


def _needs_gradient(x: Tensor) -> bool:
    """Return True if a derivative by x will be asked for."""
    return x.requires_grad and torch.is_grad_enabled()


def _is_per_picture(sigma: Tensor | float) -> TypeGuard[Tensor]:
    """Return True for one noise level per picture."""
    return isinstance(sigma, Tensor) and sigma.ndim > 0


def _is_finite(prediction: Prediction) -> bool:
    """Return True if there is no infinity or NaN, which would survive a sum.

    Fake tensors, which have no values, count as finite.
    """
    total = sum(part.detach().sum() for part in prediction if part is not None)
    return type(total) is not Tensor or math.isfinite(total)
