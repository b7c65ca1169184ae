"""Whether undoing a blur leaves sparse edges, as in photographs, or rings."""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Pixels by which a picture is mirrored at its border, and that do not count inside of it.
_RIM = 32

# Variance of sharp photographs in [0, 1], frequency in cycles per pixel above which their power
# falls with its square, and variance of what the mirrored border gets wrong.
_VARIANCE = 0.06
_CORNER = 0.04
_BORDER = 2.5e-5


def ringing(image: Array, kernel: Array, noise: float) -> float:
    """Return the density of the edges of a deblurred picture, relative to that of the picture.

    The density is the ratio of the l1 to the l2 norm of the gradients, which blur and ringing both
    raise (D. Krishnan, T. Tay, R. Fergus, "Blind deconvolution using a normalized sparsity
    measure", CVPR 2011). The blur is undone by Wiener's filter.

    Args:
        image: [h, w] in [0, 1], one channel.
        kernel: [h, w] with odd sides.
        noise: standard deviation of the noise of the picture.
    """
    wide = np.pad(image, _RIM, mode="symmetric")
    return _density(_wiener(wide, kernel, noise)) / _density(_wiener(wide, np.ones((1, 1)), noise))


def _wiener(image: Array, kernel: Array, noise: float) -> Array:
    canvas = np.zeros(image.shape)
    canvas[: kernel.shape[0], : kernel.shape[1]] = kernel
    centre = (-(kernel.shape[0] // 2), -(kernel.shape[1] // 2))
    transfer = scipy.fft.rfft2(np.roll(canvas, centre, (0, 1)))

    rows, columns = (scipy.fft.fftfreq(image.shape[0]), scipy.fft.rfftfreq(image.shape[1]))
    falling = 1 + (rows[:, None] ** 2 + columns**2) / _CORNER**2
    ratio = (noise**2 + _BORDER) / _VARIANCE * falling
    restored = scipy.fft.rfft2(image) * transfer.conj() / (np.abs(transfer) ** 2 + ratio)
    result: Array = scipy.fft.irfft2(restored, s=image.shape)

    return result


def _density(image: Array) -> float:
    """Return the ratio of the mean gradient to its root mean square, away from the border."""
    rim = _RIM + min(24, (min(image.shape) - 2 * _RIM) // 4)
    inside = image[rim:-rim, rim:-rim]
    gradient = np.hypot(*np.gradient(inside))
    return float(gradient.mean() / np.sqrt(np.square(gradient).mean()))
