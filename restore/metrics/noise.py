"""Noise of a picture: one level, or a variance that depends on the signal."""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

import numpy as np
import scipy
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor

from restore.metrics.signal_noise import SignalNoise

Array = NDArray[np.float64]

# Side of the blocks of `estimate_signal_noise`, and how many are taken of a channel at most.
SIDE = 8
MOST_BLOCKS = 60_000
# Fewest flat blocks that tell a and b.
FEWEST_BLOCKS = 50

# Sums of a block's two frequencies: those up to LOW tell texture, those from HIGH measure noise.
LOW = 4
HIGH = 8
# A block is flat if its low frequencies have at most this multiple of the noise.
FLAT = 1.5
# Blocks with more than this multiple of the noise in their high frequencies are left out of a fit.
OUTLIER = 2.2
# Standard deviations from black and white within which noise may have been clipped.
CLEAR = 2.5
# Fraction of black or white values above which a block counts as clipped before noise is known.
CLIPPED = 0.05
# Intervals of brightness from whose flattest blocks, a fraction of them, the search starts.
INTERVALS = 16
FLATTEST = 0.08
# Rounds of selection and fit, and of the weights within a fit.
ROUNDS = 8
REWEIGHTED = 4

# Lowest standard deviation that is returned, for a picture without any noise.
LEAST_STD = 1e-4


def estimate_noise(image: Tensor) -> float:
    """Standard deviation of white Gaussian noise in a picture, in the units of its pixels.

    The mean over channels of scikit-image's `estimate_sigma`: the median absolute deviation of the
    finest wavelet coefficients (Donoho, Johnstone 1994). Fine texture counts as noise, so a sharp
    clean photograph gives a little more than zero. Channels without any detail do not count.

    Args:
        image: [C, H, W].
    """
    from skimage.restoration import estimate_sigma

    pixels = image.detach().cpu().double().numpy()
    if min(pixels.shape[1:]) < 4:
        return 0.0

    with warnings.catch_warnings():  # of the median of no coefficients, which is not a number
        warnings.simplefilter("ignore", RuntimeWarning)
        estimates = np.array([estimate_sigma(channel) for channel in pixels])
    told = estimates[~np.isnan(estimates)]
    return float(told.mean()) if told.size else 0.0


def estimate_signal_noise(image: Tensor, known: Tensor | None = None) -> SignalNoise:
    """Estimate a and b of noise with the variance ``a x + b`` from a single picture.

    In blocks without texture, the variance of high frequencies is that of the noise, and a line
    through variances over means gives a and b (Foi et al. 2008, doi 10.1109/TIP.2008.2001399, do so
    with wavelets; Pyatykh, Hesser, Zheng 2013 select blocks). A block is flat if its *low*
    frequencies hold little more than noise. White noise is independent in low and high frequencies,
    so that this selection does not bias the variance. The line is fitted with the weights of a
    variance's own error, to all channels together.

    Where flat blocks are too few, or do not tell a from 0, the noise is taken for constant: a is 0
    and b is the square of `estimate_noise`.

    Args:
        image: [C, H, W], pixels in [0, 1].
        known: [H, W], True where pixels count; None is everywhere.
    """
    pixels = image.detach().cpu().double().numpy()
    counted = None if known is None else known.detach().cpu().numpy().astype(bool)
    found = None
    if min(pixels.shape[1:]) >= SIDE:
        found = _line(_blocks(pixels, counted))
    if found is not None:
        return found

    where = 1.0 if known is None else known.to(image)
    shown = image * where  # zeros are left out of the estimate
    return SignalNoise(0.0, min(max(estimate_noise(shown), LEAST_STD), 1.0) ** 2)


class _Blocks(NamedTuple):
    """Statistics of blocks.

    Attributes:
        mean: [N], mean.
        low: [N], mean square of the low frequencies.
        high: [N], mean square of the high frequencies, the variance of noise in a flat block.
        clipped: [N], fraction of values at black or white.
    """

    mean: Array
    low: Array
    high: Array
    clipped: Array

    def where(self, chosen: NDArray[np.bool_]) -> _Blocks:
        """Return some of the blocks."""
        return _Blocks(*(values[chosen] for values in self))


def _blocks(pixels: Array, known: NDArray[np.bool_] | None) -> _Blocks:
    """Return the blocks of all channels that are known entirely."""
    height, width = pixels.shape[1:]
    stride = max(SIDE // 2, math.ceil(math.sqrt(height * width / MOST_BLOCKS)))
    frequency = np.add.outer(np.arange(SIDE), np.arange(SIDE))
    low = (frequency >= 1) & (frequency <= LOW)
    high = frequency >= HIGH

    def windows(channel: NDArray[Any]) -> NDArray[Any]:
        every = sliding_window_view(channel, (SIDE, SIDE))[::stride, ::stride]
        return every.reshape(-1, SIDE, SIDE)

    whole = None if known is None else windows(known).all(axis=(1, 2))
    parts = []
    for channel in pixels:
        values = windows(channel)
        values = values if whole is None else values[whole]
        spectrum = scipy.fft.dctn(values, axes=(1, 2), norm="ortho")
        parts.append(
            _Blocks(
                spectrum[:, 0, 0] / SIDE,
                (spectrum[:, low] ** 2).mean(axis=1),
                (spectrum[:, high] ** 2).mean(axis=1),
                ((values <= 0) | (values >= 1)).mean(axis=(1, 2)),
            )
        )

    return _Blocks(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def _line(blocks: _Blocks) -> SignalNoise | None:
    """Fit variances over means in flat blocks; None if they do not tell a from 0."""
    blocks = blocks.where(blocks.clipped < CLIPPED)
    if len(blocks.mean) < 2 * FEWEST_BLOCKS:
        return None

    flat = blocks.where(_flattest(blocks))
    a, b = _fitted(flat, 0.0, float(np.median(flat.high)))
    for _ in range(ROUNDS):
        variance = a * blocks.mean + b
        margin = CLEAR * np.sqrt(variance)
        inside = (blocks.mean > margin) & (blocks.mean < 1 - margin)
        flat = blocks.where(inside & (blocks.low < FLAT * variance))
        if len(flat.mean) < FEWEST_BLOCKS:
            return None
        a, b = _fitted(flat, a, b)

    certain = 0 < a <= 1 and b <= 1 and a > 2 * _error_of_slope(flat, a, b)
    return SignalNoise(a, b) if certain else None


def _flattest(blocks: _Blocks) -> NDArray[np.bool_]:
    """Choose the blocks with the least low frequencies in every interval of brightness."""
    edges = np.quantile(blocks.mean, np.linspace(0, 1, INTERVALS + 1))
    interval = np.clip(np.searchsorted(edges, blocks.mean, side="right") - 1, 0, INTERVALS - 1)
    chosen = np.zeros(len(blocks.mean), dtype=bool)
    for index in range(INTERVALS):
        inside = interval == index
        if inside.any():
            chosen |= inside & (blocks.low <= np.quantile(blocks.low[inside], FLATTEST))

    return chosen


def _fitted(blocks: _Blocks, a: float, b: float) -> tuple[float, float]:
    """Fit a and b, not negative, by least squares weighted with the inverse of the variance."""
    for _ in range(REWEIGHTED):
        variance = np.maximum(a * blocks.mean + b, LEAST_STD**2)
        kept = blocks.high < OUTLIER * variance
        if not kept.any():
            break
        weight = 1 / variance[kept]
        design = np.stack([blocks.mean[kept] * weight, weight], axis=1)
        (a, b), _ = scipy.optimize.nnls(design, blocks.high[kept] * weight)

    return float(a), float(b)


def _error_of_slope(blocks: _Blocks, a: float, b: float) -> float:
    """Return the standard error of a; infinite if the means do not differ."""
    weight = 1 / np.maximum(a * blocks.mean + b, LEAST_STD**2)
    design = np.stack([blocks.mean * weight, weight], axis=1)
    information = design.T @ design
    if np.linalg.cond(information) > 1 / np.finfo(float).eps:
        return math.inf

    coefficients = SIDE * (SIDE + 1) // 2 - SIDE  # high frequencies of a block
    # neighbouring blocks share three quarters of their pixels
    relative = 2 / coefficients * 4
    return math.sqrt(float(np.linalg.inv(information)[0, 0]) * relative)
