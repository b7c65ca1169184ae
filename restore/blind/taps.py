"""The taps of a free-form kernel: least squares from edges, and what makes taps a kernel."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import scipy
from numpy.typing import NDArray

from restore.blind.edges import Gradients

Array = NDArray[np.float64]

# Penalty of the squared taps, relative to the energy of the edges.
_RIDGE = 0.1

# Steps of the least squares, and of the search for their largest curvature.
_STEPS = 40
_POWER_STEPS = 6

# Taps below this fraction of the largest, and groups below this fraction of all, are noise.
_FAINT = 0.05
_LONELY = 0.1


def least_squares(edges: Gradients, blurred: Gradients, kernel: Array) -> Array:
    """Return the taps that blur sharp edges into the given ones.

    They minimise ``Σ ‖k ∗ ∂x − ∂y‖² + γ ‖k‖²`` with k ≥ 0 (Cho and Lee 2009, equation 6), by
    projected gradients with momentum (A. Beck, M. Teboulle, "A fast iterative
    shrinkage-thresholding algorithm for linear inverse problems", 2009) that restarts where it
    leads uphill. All that is needed of the picture are correlations as long as the kernel.

    Args:
        edges: gradients of the sharp picture; those at the border, whose blur leaves the picture,
            are not used.
        blurred: gradients of the blurred picture.
        kernel: [n, n] with n odd, where to begin.
    """
    correlation, target = _correlations(edges, blurred, len(kernel))
    ridge = _RIDGE * correlation.max()
    side = len(kernel)
    size = (scipy.fft.next_fast_len(3 * side - 2, real=True),) * 2
    spectrum = scipy.fft.rfft2(correlation, s=size)

    def curvature(taps: Array) -> Array:
        wide = scipy.fft.irfft2(spectrum * scipy.fft.rfft2(taps, s=size), s=size)
        product: Array = wide[side - 1 : 2 * side - 1, side - 1 : 2 * side - 1] + ridge * taps
        return product

    steepest = _largest_eigenvalue(curvature, side)
    if not steepest > 0:
        return kernel

    taps, ahead, momentum = kernel, kernel, 1.0
    for _ in range(_STEPS):
        new = np.maximum(ahead - (curvature(ahead) - target) / steepest, 0)
        if ((ahead - new) * (new - taps)).sum() > 0:
            ahead, momentum = new, 1.0
        else:
            following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            ahead = new + (momentum - 1) / following * (new - taps)
            momentum = following
        taps = new

    return taps if taps.any() else kernel


def _correlations(edges: Gradients, blurred: Gradients, side: int) -> tuple[Array, Array]:
    """Return the edges' correlation with themselves, [2n - 1, 2n - 1], and the other's, [n, n]."""
    height, width = blurred[0].shape
    size = [scipy.fft.next_fast_len(length + side, real=True) for length in (height, width)]
    rim = side // 2
    inside = np.zeros((height, width), np.float32)
    inside[rim : height - rim, rim : width - rim] = 1

    own, others = 0.0, 0.0
    for sharp, seen in zip(edges, blurred, strict=True):
        spectrum = scipy.fft.rfft2(sharp * inside, s=size)
        own = own + np.abs(spectrum) ** 2
        others = others + spectrum.conj() * scipy.fft.rfft2(seen, s=size)

    lags, taps = np.arange(1 - side, side), np.arange(-rim, rim + 1)
    correlation = scipy.fft.irfft2(own, s=size)[np.ix_(lags % size[0], lags % size[1])]
    target = scipy.fft.irfft2(others, s=size)[np.ix_(taps % size[0], taps % size[1])]
    return correlation.astype(np.float64), target.astype(np.float64)


def _largest_eigenvalue(curvature: Callable[[Array], Array], side: int) -> float:
    """Return a little more than the largest eigenvalue, by power iteration."""
    taps = np.random.default_rng(0).random((side, side))
    length = 0.0
    for _ in range(_POWER_STEPS):
        taps = curvature(taps)
        length = float(np.linalg.norm(taps))
        taps = taps / max(length, 1e-300)

    return 1.1 * length


def cleaned(taps: Array) -> Array:
    """Return taps without noise, in the middle of their square, with sum 1."""
    taps = np.where(taps < _FAINT * taps.max(), 0, taps)
    groups, count = scipy.ndimage.label(taps, np.ones((3, 3)))
    sums = scipy.ndimage.sum_labels(taps, groups, np.arange(count + 1))
    sums[0] = taps.sum()
    # the largest group stays, even if there are very many
    lonely = sums < min(_LONELY * taps.sum(), sums[1:].max())
    return centred(np.where(lonely[groups], 0, taps))


def centred(taps: Array) -> Array:
    """Shift taps [n, n] by whole pixels so that their centre of mass is in the middle, sum 1."""
    middle = len(taps) // 2
    mass = scipy.ndimage.center_of_mass(taps)
    moved = scipy.ndimage.shift(taps, [middle - round(place) for place in mass], order=0)
    result: Array = moved / moved.sum()
    return result


def stretched(kernel: Array, side: int) -> Array:
    """Resample a kernel to another odd side."""
    if side == len(kernel):
        return kernel

    larger = np.maximum(cv2.resize(kernel, (side, side), interpolation=cv2.INTER_LINEAR), 0)
    result: Array = larger / larger.sum()
    return result


def cropped(kernel: Array) -> Array:
    """Cut empty rows and columns off on both sides, so that the centre stays the centre."""
    middle = len(kernel) // 2
    rows, columns = (int(np.abs(places - middle).max()) for places in np.nonzero(kernel))
    return kernel[middle - rows : middle + rows + 1, middle - columns : middle + columns + 1]
