"""Demosaicking of Bayer mosaics along edges."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from operators import BAYER_PATTERNS, ColorFilterArray

# Pixels around a mosaic that its border needs; smaller mosaics are not taken.
BORDER = 12

# From a row of a mosaic to the other colour of the row less the pixel's own (Hamilton, Adams 1997).
_DIFFERENCE = (-0.25, 0.5, -0.5, 0.5, -0.25)
# Pixels on either side and along the direction over which changes are summed.
_ACROSS, _ALONG = 2, 4
# Smallest sum of changes, for values in [0, 1].
_LEAST = 1e-3


def takes(operator: ColorFilterArray) -> bool:
    """Return True for a Bayer mosaic of at least 13 pixels a side."""
    is_bayer = "".join(operator.pattern) in BAYER_PATTERNS and len(operator.pattern) == 2
    return is_bayer and min(operator.input_shape[1:]) > BORDER


def along_edges(mosaic: Tensor, operator: ColorFilterArray) -> Tensor:
    """Demosaic by differences of colours along the directions in which they change least.

    Pekkucuksen and Altunbasak 2010, "Gradient based threshold free color filter array
    interpolation", ICIP, doi 10.1109/ICIP.2010.5654327. Green less red or blue is estimated along
    rows and columns; means to the left, right, up and down are weighed by the inverse square of how
    much these differences change there.

    Args:
        mosaic: [B, 1, H, W].
        operator: its colour filter array, which `takes` accepts.

    Returns:
        [B, 3, H, W]; measured values are kept.
    """
    # a reflection without the border's own pixels keeps the pattern
    y = F.pad(mosaic, (BORDER,) * 4, mode="reflect")
    known = _known(operator, y)
    is_green = known[:, 1:2]
    difference = _green_less_other(y, is_green)

    green = torch.where(is_green, y, y + difference)
    colors = [_other(green, difference, known[:, [channel]], is_green) for channel in (0, 2)]
    found = torch.cat([colors[0], green, colors[1]], dim=1)
    inside = (..., slice(BORDER, -BORDER), slice(BORDER, -BORDER))
    found = found[inside]

    return torch.where(known[inside], mosaic, found)


def _known(operator: ColorFilterArray, padded: Tensor) -> Tensor:
    """Return where each colour is measured, bool [1, 3, H, W]; the border is even."""
    whole = ColorFilterArray((3, *padded.shape[-2:]), operator.pattern)
    return whole.V(torch.ones_like(padded[:1])) > 0


def _green_less_other(y: Tensor, is_green: Tensor) -> Tensor:
    """Return the estimate of green less red or blue, for pixels that are not green."""
    sign = torch.where(is_green, -1.0, 1.0)
    total = torch.zeros_like(y)
    weights = torch.zeros_like(y)

    for axis in (-1, -2):
        difference = sign * _filtered(y, _DIFFERENCE, axis)
        change = _filtered(difference, (1.0, 0.0, -1.0), axis).abs()
        change = _filtered(change, (1.0,) * (2 * _ACROSS + 1), -3 - axis)
        for side in (-1, 1):
            weight = _to_side(change, side, axis).clamp_min(_LEAST) ** -2
            total += weight * _to_side(difference, side, axis) / (_ALONG + 1)
            weights += weight

    return total / weights


def _other(green: Tensor, difference: Tensor, is_color: Tensor, is_green: Tensor) -> Tensor:
    """Return red or blue everywhere, given where it is measured."""
    own = difference * is_color
    # at the other of red and blue: four near diagonal neighbours, and eight further ones
    near = _filtered(_filtered(own, (1.0, 0.0, 1.0), -1), (1.0, 0.0, 1.0), -2)
    wide = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    far = _filtered(_filtered(own, (1.0, 0.0, 1.0), -1), wide, -2)
    far = far + _filtered(_filtered(own, wide, -1), (1.0, 0.0, 1.0), -2)
    both = torch.where(is_color | is_green, own, (10 * near - far) / 32)

    cross = _filtered(both, (1.0, 0.0, 1.0), -1) + _filtered(both, (1.0, 0.0, 1.0), -2)
    return green - torch.where(is_green, cross / 4, both)


def _to_side(x: Tensor, side: int, axis: int) -> Tensor:
    """Sum each pixel and those that follow it on one side."""
    taps = (1.0,) * (_ALONG + 1) + (0.0,) * _ALONG
    return _filtered(x, taps if side < 0 else taps[::-1], axis)


def _filtered(x: Tensor, taps: tuple[float, ...], axis: int) -> Tensor:
    """Correlate [B, 1, H, W] along an axis, with zeros around it."""
    half = len(taps) // 2
    kernel = x.new_tensor(taps)
    if axis == -1:
        return F.conv2d(x, kernel.reshape(1, 1, 1, -1), padding=(0, half))
    return F.conv2d(x, kernel.reshape(1, 1, -1, 1), padding=(half, 0))
