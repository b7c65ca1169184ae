"""Demosaicking of any colour filter array by a regularised least-squares problem."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from operators import ColorFilterArray

# Side of the smallest mosaic that is taken.
LEAST_SIDE = 12

# Weight of the luminance's second derivatives beside the first ones of the differences of colours.
_LUMINANCE = 0.6
# Side of the window over which changes are averaged, and a change that is none, for values in
# [0, 1].
_AROUND = 5
_LEAST = 1e-3
# Rounds of reweighting, and steps of conjugate gradients in each.
_ROUNDS = 6
_STEPS = 8

_AXES = (2, 3)


def regularized(mosaic: Tensor, operator: ColorFilterArray, start: Tensor) -> Tensor:
    """Demosaic by the smoothest colours that the mosaic allows, along edges but not across.

    Menon and Calvagno 2009, "Regularization approaches to demosaicking", IEEE Transactions on
    Image Processing 18(10). Of all pictures with the measured values, it looks for the one with
    the least sum of squares of the second derivatives of the luminance and the first derivatives of
    red less green and blue less green. As in their adaptive variant, each derivative is weighed by
    how little the luminance changes there; here by the inverse square of its mean absolute value
    around, in the picture of the round before.

    Args:
        mosaic: [B, 1, H, W], of at least `LEAST_SIDE` pixels a side.
        operator: its colour filter array.
        start: [B, 3, H, W], a demosaicking that keeps the measured values.

    Returns:
        [B, 3, H, W]; measured values are kept.
    """
    free = (operator.V(torch.ones_like(mosaic[:1])) == 0).to(mosaic.dtype)
    picture = start
    for _ in range(_ROUNDS):
        picture = descended(picture, free, Roughness.of(picture))
    return picture


@dataclass(frozen=True)
class Roughness:
    """A sum of squares of weighed derivatives along the rows and the columns.

    Attributes:
        luminance: weights of the second derivatives of the mean of the colours, for each axis.
        colors: weights of the first derivatives of red and blue less green, for each axis.
    """

    luminance: tuple[Tensor, ...]
    colors: tuple[Tensor, ...]

    @classmethod
    def of(cls, picture: Tensor) -> Roughness:
        """Return the roughness that a picture [B, 3, H, W] has about everywhere."""
        mean = picture.mean(dim=1, keepdim=True)
        return cls(
            tuple(_LUMINANCE * _weight(mean.diff(n=2, dim=axis)) for axis in _AXES),
            tuple(_weight(mean.diff(dim=axis)) for axis in _AXES),
        )

    def gradient(self, picture: Tensor) -> Tensor:
        """Half of the gradient at a picture; linear in it."""
        mean = picture.mean(dim=1, keepdim=True)
        colors = picture[:, ::2] - picture[:, 1:2]
        of_mean, of_colors = torch.zeros_like(mean), torch.zeros_like(colors)
        for axis, luminance, color in zip(_AXES, self.luminance, self.colors, strict=True):
            bends = luminance * mean.diff(n=2, dim=axis)
            of_mean += _transposed(_transposed(bends, axis), axis)
            of_colors += _transposed(color * colors.diff(dim=axis), axis)

        red, blue = of_colors.split(1, dim=1)
        return torch.cat([red, -red - blue, blue], dim=1).add_(of_mean, alpha=1 / 3)

    def diagonal(self) -> Tensor:
        """Diagonal of the matrix of `gradient`, [B, 3, H, W]."""
        of_mean: Tensor | float = 0.0
        of_color: Tensor | float = 0.0
        for axis, luminance, color in zip(_AXES, self.luminance, self.colors, strict=True):
            outer = _padded(luminance, axis, 2, 0) + _padded(luminance, axis, 0, 2)
            of_mean = of_mean + outer + 4 * _padded(luminance, axis, 1, 1)
            of_color = of_color + _padded(color, axis, 1, 0) + _padded(color, axis, 0, 1)

        assert isinstance(of_color, Tensor)
        return torch.cat([of_color, 2 * of_color, of_color], dim=1) + of_mean / 9


def descended(picture: Tensor, free: Tensor, roughness: Roughness, steps: int = _STEPS) -> Tensor:
    """Make a picture smoother by preconditioned conjugate gradients.

    Args:
        picture: [B, 3, H, W].
        free: [1, 3, H, W], 1 for the values that may change, 0 for all others.
        roughness: what is to be small.
        steps: number of steps.
    """
    scale = free / roughness.diagonal().clamp_min(1e-12)
    residual = -roughness.gradient(picture)
    direction = scale * residual
    energy = _inner(residual, direction)
    for _ in range(steps):
        change = roughness.gradient(direction)
        length = energy / _inner(direction, change).clamp_min(1e-30)
        picture = picture + length * direction
        residual -= length * change
        before, preconditioned = energy, scale * residual
        energy = _inner(residual, preconditioned)
        direction = preconditioned + energy / before.clamp_min(1e-30) * direction

    return picture


def _inner(one: Tensor, other: Tensor) -> Tensor:
    """Inner product of each picture, [B, 1, 1, 1]."""
    return (one * other).sum(dim=(1, 2, 3), keepdim=True)


def _weight(change: Tensor) -> Tensor:
    size = _AROUND // 2
    mean = F.avg_pool2d(change.abs(), _AROUND, 1, size, count_include_pad=False)
    return (mean + _LEAST).square_().reciprocal_()


def _transposed(differences: Tensor, axis: int) -> Tensor:
    """Transpose of `torch.diff`."""
    return _padded(differences, axis, 1, 0).sub_(_padded(differences, axis, 0, 1))


def _padded(values: Tensor, axis: int, before: int, after: int) -> Tensor:
    return F.pad(values, (0, 0, before, after) if axis == 2 else (before, after))
