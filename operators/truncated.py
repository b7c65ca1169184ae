"""Means of normal distributions of which only an interval is possible."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Values that are computed at once, in double precision.
CHUNK = 2**20

# Deviations from the mean beyond which everything is infinitely far.
FAR = 1e8

ROOT_2 = math.sqrt(2)


def truncated_mean(mean: Tensor, deviation: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Mean of ``N(mean, deviation²)``, given that the value lies in ``[low, high]``.

    A value that is known to an interval, such as one that was rounded, moves an estimate to here.
    Where the deviation is small beside the interval the estimate stays, or goes to the nearest
    end; where it is large, the mean is the middle of the interval.

    With ``a`` and ``b`` the ends in units of the deviation from the mean, it is ``mean + deviation
    (φ(a) − φ(b)) / (Φ(b) − Φ(a))``, in terms of the scaled function erfcx far from the mean
    (Johnson, Kotz, Balakrishnan, Continuous Univariate Distributions 1, 1994, section 10.1).

    >>> zero = torch.zeros(3)
    >>> truncated_mean(zero, torch.tensor([1e-3, 1.0, 1e6]), zero + 1, zero + 2)
    tensor([1.0000, 1.3832, 1.5000])

    Args:
        mean: Any shape, to which the others broadcast.
        deviation: Not negative; 0 gives the nearest value of the interval.
        low: Lower ends.
        high: Upper ends, not below the lower ones.

    Returns:
        As ``mean``.
    """
    mean, deviation, low, high = torch.broadcast_tensors(mean, deviation, low, high)
    if mean.numel() <= CHUNK or len(mean) < 2:
        return _truncated_mean(mean, deviation, low, high)

    result = torch.empty_like(mean)
    rows = max(1, CHUNK * len(mean) // mean.numel())
    for start in range(0, len(mean), rows):
        part = slice(start, start + rows)
        result[part] = truncated_mean(mean[part], deviation[part], low[part], high[part])

    return result


def _truncated_mean(mean: Tensor, deviation: Tensor, low: Tensor, high: Tensor) -> Tensor:
    wide = torch.float32 if mean.device.type == "mps" else torch.float64
    scale = deviation.to(wide).clamp_min(torch.finfo(wide).tiny)
    a = ((low - mean) / scale).clamp(-FAR, FAR)
    b = ((high - mean) / scale).clamp(-FAR, FAR)

    # The same, mirrored so that the middle of the interval is not below the mean.
    below = a + b < 0
    a, b = torch.where(below, -b, a), torch.where(below, -a, b)
    offset = scale * _mean_of_standard(a, b)
    moved = (mean + torch.where(below, -offset, offset)).to(mean.dtype)

    return torch.minimum(torch.maximum(moved, low), high)


def _mean_of_standard(a: Tensor, b: Tensor) -> Tensor:
    """Mean of N(0, 1) in ``[a, b]``, of which the middle is not negative."""
    ratio = torch.exp((a - b) * (a + b) / 2)  # φ(b)/φ(a)
    beyond = torch.special.erfcx(a.clamp_min(0) / ROOT_2)
    beyond = beyond - ratio * torch.special.erfcx(b / ROOT_2)
    around = (torch.erf(b / ROOT_2) - torch.erf(a / ROOT_2)) * torch.exp((a**2 / 2).clamp_max(300))
    mass = torch.where(a > 0, beyond, around)

    mean = math.sqrt(2 / math.pi) * (1 - ratio) / mass
    # Intervals that are narrow for a normal distribution have no difference left to divide by.
    narrow = (b - a) * (1 + b.abs()) < 1e-4
    return torch.where(narrow | ~mean.isfinite(), (a + b) / 2, mean)
