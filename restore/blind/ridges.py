"""Thin lines of a picture: means along short lines, above or below both of their sides."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.floating[Any]]

# Directions of lines, their length, and the distance of the flanks from the middle, in pixels.
_DIRECTIONS = 12
_LENGTH = 15
_FLANKS = 3


def ridges(light: Values) -> tuple[Values, Values, tuple[Values, Values]]:
    """Return the response of bright and of dark lines, and the difference of their flanks.

    The response is how far the mean along the best line lies above, or below, both flanks, as in
    detectors of roads and vessels.

    Args:
        light: [H, W].
    """
    reach = _FLANKS + 1
    bright, dark, bright_flanks, dark_flanks = (np.zeros_like(light) for _ in range(4))
    for step in range(_DIRECTIONS):
        angle = math.pi * step / _DIRECTIONS
        along = cv2.filter2D(light, -1, _line_kernel(angle), borderType=cv2.BORDER_REFLECT_101)
        mean = np.asarray(along, np.float32)
        wide = np.pad(mean, reach, mode="reflect")
        down = round(_FLANKS * math.cos(angle))
        right = round(-_FLANKS * math.sin(angle))
        one, other = (_shifted(wide, reach, sign * down, sign * right) for sign in (1, -1))
        flanks = np.abs(one - other)
        _take_better(bright, bright_flanks, mean - np.maximum(one, other), flanks)
        _take_better(dark, dark_flanks, np.minimum(one, other) - mean, flanks)

    return bright, dark, (bright_flanks, dark_flanks)


def _take_better(best: Values, of_best: Values, response: Values, value: Values) -> None:
    better = response > best
    best[better] = response[better]
    of_best[better] = value[better]


def _shifted(wide: Values, reach: int, down: int, right: int) -> Values:
    height, width = (side - 2 * reach for side in wide.shape)
    return wide[reach + down : reach + down + height, reach + right : reach + right + width]


def _line_kernel(angle: float) -> Values:
    """Return a line through the middle of a kernel, with sum 1; angle 0 is horizontal."""
    half = _LENGTH // 2
    rows, columns = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    along = columns * math.cos(angle) + rows * math.sin(angle)
    across = rows * math.cos(angle) - columns * math.sin(angle)
    kernel = np.exp(-0.5 * (across / 0.6) ** 2) * (np.abs(along) <= half)
    return np.asarray(kernel / kernel.sum(), np.float32)
