"""Classical demosaicking of any colour filter array, and the noise of a sensor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from operators import ColorFilterArray
from restore.metrics.bayer import along_edges, takes
from restore.metrics.regularized import LEAST_SIDE, regularized

Array = NDArray[np.floating]

# Weights of the neighbours along an axis. With 1, 2, 1 a Bayer mosaic is interpolated bilinearly;
# two colours of X-Trans lie further apart.
_NARROW = (1.0, 2.0, 1.0)
_WIDE = (1.0, 3.0, 4.0, 3.0, 1.0)

# Groups of equal size by signal in which the noise is measured, and the fewest values of one.
_GROUPS = 32
_FEWEST = 64
# Signal above which pixels may be full, where the noise ends.
_BRIGHTEST = 0.9
# Fraction of the places, those where the picture changes least, at which the noise is measured. On
# 256x256 crops of CID22's validation set a weak noise (a = 1e-4) is estimated 21 % too large (the
# median at a signal of 0.1), with half of the places 26 %, and a tenth errs more with X-Trans.
_CALM = 0.2
# Median of |x| for a normal distribution of standard deviation 1.
_MEDIAN = 0.6745


def interpolated(mosaic: Tensor, operator: ColorFilterArray) -> Tensor:
    """Demosaic by weighted means of the neighbours of each colour.

    Measured values are kept. For a Bayer mosaic this is bilinear interpolation.

    Args:
        mosaic: [B, 1, H, W].
        operator: its colour filter array.

    Returns:
        [B, 3, H, W].
    """
    weights = _NARROW if max(len(operator.pattern), len(operator.pattern[0])) <= 2 else _WIDE
    known = operator.V(torch.ones_like(mosaic[:1]))
    sparse = operator.V(mosaic)
    channels = []
    for channel in range(3):
        seen = known[:, channel : channel + 1]
        values = sparse[:, channel : channel + 1]
        mean = _blurred(values, weights) / _blurred(seen, weights).clamp_min(1e-6)
        channels.append(torch.where(seen > 0, values, mean))

    return torch.cat(channels, dim=1)


def demosaicked(mosaic: Tensor, operator: ColorFilterArray) -> Tensor:
    """Demosaic by the best classical method that takes the mosaic.

    Bayer mosaics are demosaicked along edges, others by regularisation, and tiny ones interpolated.

    Args:
        mosaic: [B, 1, H, W].
        operator: its colour filter array.

    Returns:
        [B, 3, H, W].
    """
    if takes(operator):
        return along_edges(mosaic, operator)

    found = interpolated(mosaic, operator)
    is_large = min(mosaic.shape[2:]) >= LEAST_SIDE
    return regularized(mosaic, operator, found) if is_large else found


def _blurred(x: Tensor, weights: Sequence[float]) -> Tensor:
    """Convolve [B, 1, H, W] along both axes, with zeros around it."""
    taps = x.new_tensor(weights)
    half = len(weights) // 2
    x = F.conv2d(x, taps.reshape(1, 1, 1, -1), padding=(0, half))
    return F.conv2d(x, taps.reshape(1, 1, -1, 1), padding=(half, 0))


def estimate_sensor_noise(signal: Array, pattern: Sequence[str]) -> tuple[float, float]:
    """Estimate a and b of a mosaic whose noise has the variance ``a x + b``.

    Differences within 2x2 neighbours of one colour, ``(p − q − r + s)/2``, have the variance of the
    noise where the picture is smooth. Their median absolute value is taken in groups of equal
    signal, at the places where the picture changes least, and a line is fitted to its
    square (as Foi et al. 2008, doi 10.1109/TIP.2008.2001399, do with wavelets and maximum
    likelihood).

    Args:
        signal: [H, W], 0 at black and 1 at white.
        pattern: rows of the colours of the filters.

    Returns:
        a and b, not negative; 0 and 0 for a mosaic too small to tell.
    """
    size = (len(pattern), len(pattern[0]))
    quads = (_differences(signal, size, *quad) for quad in _quads(pattern))
    parts = [part for part in quads if part is not None]
    if not parts:
        return 0.0, 0.0

    level, detail = (np.concatenate([part[index] for part in parts]) for index in (0, 1))
    inside = (level < _BRIGHTEST) & (level > 0)
    level, detail = level[inside], detail[inside]
    groups = min(_GROUPS, len(level) // _FEWEST)
    if groups < 1:
        return 0.0, 0.0

    order = np.array_split(np.argsort(level), groups)
    signals = np.array([level[group].mean() for group in order])
    variances = np.array([(np.median(np.abs(detail[group])) / _MEDIAN) ** 2 for group in order])

    return _line(signals, variances)


def _line(signals: Array, variances: Array) -> tuple[float, float]:
    """Fit a line without negative numbers, each value weighed by its own error."""
    a, b = 0.0, float(np.median(variances))
    for _ in range(3):  # the weights depend on the line
        weights = 1 / np.maximum(a * signals + b, 1e-12)
        columns = np.stack([signals, np.ones_like(signals)], axis=1)
        (a, b), _ = scipy.optimize.nnls(columns * weights[:, None], variances * weights)

    return float(a), float(b)


def _quads(pattern: Sequence[str]) -> list[tuple[int, int, int]]:
    """Return (row, column, distance) of 2x2 neighbours of one colour, as near as there are."""
    rows, columns = len(pattern), len(pattern[0])
    for distance in range(1, max(rows, columns) + 1):
        found = [
            (row, column, distance)
            for row in range(rows)
            for column in range(columns)
            if len(_letters(pattern, row, column, distance)) == 1
        ]
        if found:
            return found
    return []


def _letters(pattern: Sequence[str], row: int, column: int, distance: int) -> set[str]:
    return {
        pattern[(row + down) % len(pattern)][(column + across) % len(pattern[0])]
        for down in (0, distance)
        for across in (0, distance)
    }


def _differences(
    signal: Array, size: tuple[int, int], row: int, column: int, distance: int
) -> tuple[Array, Array] | None:
    """Return mean and difference of the 2x2 neighbours at one place of every pattern.

    Of these, the fraction `_CALM` where the mean changes least.
    """
    shifted = signal[row:, column:]
    rows = (shifted.shape[0] - distance - 1) // size[0] + 1
    columns = (shifted.shape[1] - distance - 1) // size[1] + 1
    if rows < 2 or columns < 2:
        return None

    p, q, r, s = (
        shifted[down :: size[0], across :: size[1]][:rows, :columns]
        for down in (0, distance)
        for across in (0, distance)
    )
    mean = (p + q + r + s) / 4
    detail = (p - q - r + s) / 2
    change = np.abs(np.diff(mean, axis=0))[:, :-1] + np.abs(np.diff(mean, axis=1))[:-1]
    calm = change <= np.quantile(change, _CALM)

    return mean[:-1, :-1][calm], detail[:-1, :-1][calm]
