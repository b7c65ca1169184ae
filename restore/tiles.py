"""A large picture seen by the network in overlapping pieces; operator and solver still act on the whole."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from restore.denoiser import Condition, Denoiser, Prediction


class TiledDenoiser:
    """``denoise(x, sigma, condition)`` whose network sees tiles, blended by a window that falls towards their edges.

    A picture that fits one tile goes through whole. The default network is local (what it answers for a pixel depends
    on a neighbourhood), so tiles agree with the whole picture up to what lies beyond the overlap.

    Args:
        denoise: the denoiser of one tile.
        tile: side of a tile in pixels.
        overlap: by how much neighbours overlap at least.

    Raises:
        ValueError: an overlap that is not below the tile.
    """

    def __init__(self, denoise: Denoiser, tile: int = 1024, overlap: int = 128) -> None:
        if not 0 < overlap < tile:
            raise ValueError(f"the overlap must be positive and below the tile's side {tile}, not {overlap}")
        self.denoise, self.tile, self.overlap = denoise, tile, overlap
        self.schedule, self.conditional = denoise.schedule, denoise.conditional
        self.one_step_from_zeros = denoise.one_step_from_zeros

    def __call__(self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None) -> Prediction:
        height, width = x.shape[-2:]
        if max(height, width) <= self.tile:
            return self.denoise(x, sigma, condition)
        clean, noise, weight = torch.zeros_like(x), torch.zeros_like(x), x.new_zeros(1, 1, height, width)
        for rows in self._spans(height):
            for columns in self._spans(width):
                part = (..., rows, columns)
                shown = condition and Condition(condition.picture[part], condition.known[part])
                prediction = self.denoise(x[part], sigma, shown)
                window = self._window(rows)[:, None] * self._window(columns)
                window = window.to(x)
                clean[part] += window * prediction.clean
                noise[part] += window * prediction.noise
                weight[part] += window
        return Prediction(clean / weight, noise / weight)

    def _spans(self, size: int) -> Iterator[slice]:
        """Evenly spread spans that cover ``size``, starting at multiples of 8 so that every tile has the same grid."""
        if size <= self.tile:
            yield slice(0, size)
            return
        count = -(-(size - self.overlap) // (self.tile - self.overlap))
        for index in range(count):
            start = round(index * (size - self.tile) / (count - 1) / 8) * 8
            yield slice(start, min(start + self.tile, size) if index + 1 < count else size)

    def _window(self, span: slice) -> Tensor:
        """A ramp over the overlap at both ends, 1 in between."""
        length = span.stop - span.start
        distance = torch.minimum(torch.arange(length) + 1, length - torch.arange(length))
        return (distance / self.overlap).clamp(max=1)
