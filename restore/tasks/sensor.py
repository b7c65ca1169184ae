"""From the counts of a sensor to values that the network knows, and from there to a picture.

The network knows pictures as screens show them: white-balanced and with the curve of sRGB. A mosaic
holds one colour at each pixel, so white balance and a curve can be applied to it pixel by pixel,
exactly; the operator stays the colour filter array. The colour matrix mixes colours and follows
the restoration.

A pixel that is full of red, green or blue holds more light than it says. Values end at white after
the white balance, which makes the least amplified colour, mostly green, full at white: clipped
lights are white, not pink.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from operators import ColorFilterArray
from restore.metrics.demosaicking import interpolated
from restore.photo import profiles
from restore.photo.decode import turned
from restore.photo.raws import Raw

# sRGB's curve (IEC 61966-2-1): the end of its straight part, and that part's slope.
_TOE = 0.0031308
_SLOPE = 12.92


def encoded(linear: Tensor) -> Tensor:
    """Apply sRGB's curve; its straight part goes on below 0, where noise leads."""
    curved = 1.055 * linear.clamp_min(_TOE) ** (1 / 2.4) - 0.055
    return torch.where(linear <= _TOE, _SLOPE * linear, curved)


def decoded(values: Tensor) -> Tensor:
    """Undo `encoded`."""
    curved = ((values.clamp_min(_SLOPE * _TOE) + 0.055) / 1.055) ** 2.4
    return torch.where(values <= _SLOPE * _TOE, values / _SLOPE, curved)


def slope_of_encoded(linear: Tensor) -> Tensor:
    """Slope of `encoded`."""
    curved = 1.055 / 2.4 * linear.clamp_min(_TOE) ** (1 / 2.4 - 1)
    return torch.where(linear <= _TOE, _SLOPE, curved)


def factors(raw: Raw, gains: tuple[float, ...], exposure: float) -> Tensor:
    """Return the factor of each pixel of the mosaic, [1, 1, H, W].

    Args:
        raw: the raw.
        gains: of red, green and blue; the smallest counts as 1.
        exposure: in stops.
    """
    colors = torch.tensor(gains, dtype=torch.float32) / min(gains) * 2.0**exposure
    indices = [["RGB".index(letter) for letter in row] for row in raw.pattern]
    return _repeated(colors[torch.tensor(indices)], raw.counts.shape)


def balanced(raw: Raw, gains: tuple[float, ...], exposure: float) -> Tensor:
    """Return the mosaic [1, 1, H, W] after white balance and exposure, white at 1.

    Every pixel ends at the white of its exposure, wherever its colour is full.
    """
    mosaic = torch.from_numpy(raw.signal)[None, None] * factors(raw, gains, exposure)
    return mosaic.clamp_(max=min(1.0, 2.0**exposure))


def noise_of_encoded(
    raw: Raw,
    linear: Tensor,
    factor: Tensor,
    noise: tuple[tuple[float, float], ...],
    operator: ColorFilterArray,
) -> Tensor:
    """Return the standard deviation of the noise of each encoded pixel, [1, 1, H, W].

    The variance of the signal x is ``a x + b``; white balance multiplies the deviation, and the
    curve does with its slope, at a mean of the pixel's neighbours of the same colour.

    Args:
        raw: the raw.
        linear: the balanced mosaic.
        factor: what the signal was multiplied with.
        noise: (a, b) of red, green and blue.
        operator: the colour filter array.
    """
    smooth = _smoothed(linear, operator).clamp_min(0)
    indices = torch.tensor([["RGB".index(letter) for letter in row] for row in raw.pattern])
    a, b = (
        _repeated(torch.tensor(values, dtype=torch.float32)[indices], raw.counts.shape)
        for values in zip(*noise, strict=True)
    )
    deviation = (a * smooth / factor + b).sqrt() * factor
    return deviation * slope_of_encoded(smooth)


def _smoothed(mosaic: Tensor, operator: ColorFilterArray) -> Tensor:
    """Return the mosaic of means of neighbours of the same colour."""
    filled = interpolated(mosaic, operator)
    means = torch.nn.functional.avg_pool2d(filled, 5, stride=1, padding=2, count_include_pad=False)
    return operator.A(means)


def _repeated(values: Tensor, size: tuple[int, ...]) -> Tensor:
    """Repeat the values of a pattern [h, w] over a mosaic, [1, 1, H, W]."""
    height, width = size
    rows, columns = values.shape
    return values.tile(-(-height // rows), -(-width // columns))[None, None, :height, :width]


def finished(
    values: Tensor, to_srgb: NDArray[np.float64], space: str, orientation: int
) -> NDArray[np.float32]:
    """Return the picture [H, W, 3] of restored values [3, H, W], upright, in [0, 1].

    Args:
        values: white-balanced colours of the camera, encoded.
        to_srgb: see `Raw.to_srgb`.
        space: one of `restore.photo.profiles.SPACES`.
        orientation: orientation of the sensor as in EXIF.
    """
    matrix = torch.from_numpy(profiles.from_srgb(space) @ to_srgb).float()
    picture = np.empty((*values.shape[1:], 3), np.float32)
    for start in range(0, len(picture), _ROWS):  # a whole picture more would take much memory
        rows = slice(start, start + _ROWS)
        linear = torch.einsum("ij,jhw->hwi", matrix, decoded(values[:, rows].float()))
        linear = linear.clamp(0, 1)
        picture[rows] = linear if profiles.is_linear(space) else encoded(linear)

    return np.ascontiguousarray(turned(picture, orientation))


# Rows that are finished at once.
_ROWS = 256
