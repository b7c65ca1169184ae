"""Blur kernels of any form, such as the path of a shaken camera.

Picture and kernel take turns, coarse to fine: the picture has few edges, and the kernel explains
how they were blurred (maximum a posteriori; S. Cho, S. Lee, "Fast motion deblurring", SIGGRAPH Asia
2009; Xu, Zheng and Jia 2013). In the end the power spectrum, of which strong edges are a small
part, moves the kernel between the turns (T. Yue, S. Cho, J. Wang, Q. Dai, "Hybrid image deblurring
by fusing edge and power spectrum information", ECCV 2014).
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import scipy
from numpy.typing import NDArray

from restore.blind.edges import Single, gradients, periodic, sparse_picture, strongest
from restore.blind.spectrum import Spectrum
from restore.blind.taps import centred, cleaned, cropped, least_squares, stretched

Array = NDArray[np.float64]

# Factor between the sides of the pyramid, and side of the kernel at its top.
_SHRINK = math.sqrt(0.5)
_COARSEST = 5

# Turns of picture and kernel at every scale.
_TURNS = 5

# Times that the kernel is moved towards the power spectrum, and turns after each.
_ROUNDS = 6
_TURNS_LATER = 2

# Steps towards the power spectrum: more of them would fit its noise.
_STEPS = 8

# Leakage of the power spectrum for kernels that are nearly right.
_LEAKAGE = 3e-3


def free_kernels(image: Array, spectrum: Spectrum, size: int) -> list[Array]:
    """Estimate the kernel of a blurred picture.

    Args:
        image: [h, w] in [0, 1], one channel.
        spectrum: its power spectrum.
        size: largest side of the kernel in pixels, odd.

    Returns:
        The kernels [h, w] of every round, with odd sides, not negative, with sum 1, and their
        centre of mass within half a pixel of the middle.
    """
    blurred = image.astype(np.float32)
    kernel = np.zeros((_COARSEST, _COARSEST))
    # not one tap, which would leave the picture as it is
    kernel[_COARSEST // 2, _COARSEST // 2 - 1 : _COARSEST // 2 + 1] = 0.5
    for side, scale in pyramid(size):
        kernel = taken_in_turns(_shrunk(blurred, scale), stretched(kernel, side), _TURNS)

    found = [kernel]
    for _ in range(_ROUNDS):
        moved = towards_spectrum(scipy.ndimage.gaussian_filter(kernel, 0.7), spectrum)
        kernel = taken_in_turns(blurred, moved, _TURNS_LATER)
        found.append(kernel)

    return [cropped(one) for one in found]


def pyramid(size: int) -> list[tuple[int, float]]:
    """Return the sides of the kernel and the scales of the picture, coarse to fine."""
    levels: dict[int, float] = {}
    scale = 1.0
    side = size
    while side not in levels and (side >= _COARSEST or not levels):
        levels[side] = scale
        while side in levels and side > _COARSEST:
            scale *= _SHRINK
            side = math.ceil(size * scale)
            side += 1 - side % 2

    return [(side, levels[side]) for side in sorted(levels)]


def taken_in_turns(image: Single, kernel: Array, turns: int) -> Array:
    """Return the kernel after some turns of picture and kernel."""
    height, width = image.shape
    side = len(kernel)
    wide, seen = periodic(image, 2 * side), gradients(image)
    least = None

    for _ in range(turns):
        picture = sparse_picture(wide, kernel)[:height, :width]
        edges, least = strongest(gradients(picture), side, least)
        kernel = cleaned(least_squares(edges, seen, kernel))

    return kernel


def towards_spectrum(kernel: Array, spectrum: Spectrum) -> Array:
    """Return a kernel that explains the power spectrum better than the given one.

    It takes a few steps down the gradient of the misfit, with taps that are not negative and have
    sum 1.
    """
    side = len(kernel)
    gain = np.square(np.abs(scipy.fft.rfft2(kernel, s=spectrum.size)))
    misfit, slope = spectrum.slope(gain, _LEAKAGE)
    step = 0.0

    for _ in range(_STEPS):
        wide = scipy.fft.irfft2(slope * scipy.fft.rfft2(kernel, s=spectrum.size), s=spectrum.size)
        downhill = -wide[:side, :side]
        step = step or 0.1 * kernel.max() / max(np.abs(downhill).max(), 1e-300)
        tried = _on_simplex(kernel + step * downhill)
        gain = np.square(np.abs(scipy.fft.rfft2(tried, s=spectrum.size)))
        found, slope_there = spectrum.slope(gain, _LEAKAGE)
        if found < misfit:
            kernel, misfit, slope, step = tried, found, slope_there, 1.6 * step
        else:
            step /= 3

    return centred(kernel)


def _on_simplex(taps: Array) -> Array:
    """Return the nearest taps that are not negative and have sum 1.

    J. Duchi et al., "Efficient projections onto the l1-ball", ICML 2008, figure 1.
    """
    falling = np.sort(taps, axis=None)[::-1]
    excess = (falling.cumsum() - 1) / np.arange(1, taps.size + 1)
    nearest: Array = np.maximum(taps - excess[np.flatnonzero(falling > excess)[-1]], 0)
    return nearest


def _shrunk(image: Single, scale: float) -> Single:
    if scale == 1:
        return image

    height, width = (max(1, round(scale * side)) for side in image.shape)
    smaller = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(smaller, np.float32)
