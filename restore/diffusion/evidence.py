"""Evidence: what a measurement says of a picture, at the picture's size, as input of a predictor.

For ``y = A x + σ_y n`` with pictures in [-1, 1] it is the regularised inverse

    ``argmin ‖A x − y‖²/σ_y² + ‖x‖²/τ²``,

scaled so that the components that A passes best come through unchanged, with the fraction of each
pixel's variance that this explains, and the noise level. So one network serves every operator, also
a known blur: the operator is inverted as far as the noise allows, and the network sees the result
(USRNet: Zhang et al. 2020, arXiv 2003.10428, alternates such a step with a denoiser).

For an operator with an SVD, τ is the same for all components, in units of the largest singular
value (the mean of many pixels, which downsampling keeps, varies as much as one of them). For a blur
with an unknown border it falls with the frequency as in photographs, which makes the inverse
Wiener's filter.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple, TypeVar

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

# τ, prior standard deviation of a picture in [-1, 1].
PRIOR_STD = 0.5

# f₀ in cycles per pixel, above which the power of photographs falls with the square of the
# frequency.
CORNER_FREQUENCY = 0.04

# Smallest power of a blur in a division, relative to its largest: for kernels without a mean.
LEAST_POWER = 1e-6

# Standard deviation, for pictures in [-1, 1], of the error of a blurred picture that is continued
# by its rim. Without it, the inverse of a sharp kernel has streaks from the border. 0.005 loses 2.7
# dB for motion blur, 0.02 loses 0.9 dB for disks (crops of CID22's validation set, each against
# 0.01).
BORDER_ERROR = 0.01

# Pixels by which a blurred picture is continued beyond the kernel's reach. Without, its two ends,
# which a circular blur joins, cause streaks: 24 crops of 64 pixels with motion blur have an error
# of 0.20 instead of 0.11 (RMS in [-1, 1]).
RIM = 64

# Standard deviation of the rounding to 8 bits, in [0, 1]: the least noise of an 8-bit measurement.
QUANTISATION_NOISE = 1 / 255 / math.sqrt(12)

# Known fraction where only the brightness is known, one of a pixel's three dimensions. It tells a
# picture to be coloured from a grey photograph, whose colours are known.
GREY = 1 / 3


Level = TypeVar("Level", float, Tensor)


class Evidence(NamedTuple):
    """What is known of pictures.

    Attributes:
        picture: [B, 3, H, W] in [-1, 1] except for overshoot; zero where nothing is known.
        known: [B, 1, H, W] in [0, 1], fraction of the pixel's variance that the measurement
            explains: 1/16 everywhere for a picture to be enlarged four times, 0 or 1 for a mask,
            `GREY` where colour is missing.
        noise: [B, 1, H, W], standard deviation of the measurement's noise for pictures in [-1, 1].
    """

    picture: Tensor
    known: Tensor
    noise: Tensor

    def to(self, device: torch.device) -> Evidence:
        """Move the evidence to a device."""
        return Evidence(*(part.to(device, non_blocking=True) for part in self))


def shown_noise(noise: Tensor | float) -> Tensor:
    """σ_y for pictures in [-1, 1], from a standard deviation for pictures in [0, 1].

    It is at least that of the rounding to 8 bits.
    """
    return 2 * torch.as_tensor(noise, dtype=torch.float32).clamp_min(QUANTISATION_NOISE)


def noise_ratio(sigma: Level) -> Level:
    """``r = σ_y²/τ²``."""
    return (sigma / PRIOR_STD) ** 2


def inverse_gain(s: Tensor, ratio: Tensor, largest: Tensor | None = None) -> Tensor:
    """Gain of the regularised inverse for singular values s; 0 where s is 0.

    ``(1 + r) t/(t² + r)/S`` with the largest singular value S and ``t = s/S``.

    Args:
        s: Singular values.
        ratio: r.
        largest: S, for a tensor of several operators with one S each; None takes the largest of
            ``s``.
    """
    largest = s.amax() if largest is None else largest
    t = s / largest
    return torch.where(
        t > 0, (1 + ratio) / largest * t / (t**2 + ratio).clamp_min(torch.finfo(s.dtype).tiny), 0.0
    )


def known_fraction(
    s: Tensor, ratio: Tensor, dimensions: float | Tensor, largest: Tensor | None = None
) -> Tensor:
    """Fraction of a picture's variance that is explained: the mean of ``t²/(t² + r)``.

    Args:
        s: Singular values [..., C', H', W'].
        ratio: r, [B or 1, 1, 1, 1].
        dimensions: Number of dimensions of a picture.
        largest: As in `inverse_gain`, which also has t.

    Returns:
        [B or 1, 1, 1, 1]
    """
    t = s / (s.amax() if largest is None else largest)
    explained = torch.where(t > 0, t**2 / (t**2 + ratio).clamp_min(torch.finfo(s.dtype).tiny), 0.0)
    return explained.sum(dim=(-3, -2, -1), keepdim=True) / dimensions


def wiener(y: Tensor, kernel: NDArray[np.float64], ratio: Tensor) -> tuple[Tensor, Tensor]:
    """Wiener's inverse of a blur with an unknown border, by one pair of Fourier transforms.

    The blurred picture is continued by its rim, by `RIM` plus the width of the kernel, and the blur
    is taken as circular there. At frequency f in cycles per pixel, pictures have the power ``τ²/(1
    + (f/f₀)²)``.

    Args:
        y: [B, C, H, W] in [-1, 1], blurred.
        kernel: [h, w], or one per picture, [B, h, w].
        ratio: r, [B or 1, 1, 1, 1].

    Returns:
        [B, C, H, W], and the known fraction [B or 1, 1, 1, 1].
    """
    height, width = y.shape[-2:]
    top, left = (side + RIM for side in kernel.shape[-2:])
    size = canvas_side(height + 2 * top), canvas_side(width + 2 * left)
    below = size[0] - height - top
    right = size[1] - width - left
    taps = centred(kernel, size).to(y)
    transfer = torch.fft.rfft2(taps if taps.ndim == 2 else taps[:, None])
    power = transfer.abs().square()
    ratio = (ratio + noise_ratio(BORDER_ERROR)) * _inverse_power(size).to(y)
    total = torch.maximum(power + ratio, LEAST_POWER * power.amax(dim=(-2, -1), keepdim=True))
    inverse = transfer.conj() / total

    def restored(channel: Tensor) -> Tensor:
        continued = F.pad(channel, (left, right, top, below), mode="replicate")
        whole: Tensor = torch.fft.irfft2(torch.fft.rfft2(continued) * inverse, s=size)
        return whole[..., top : top + height, left : left + width]

    # one channel at a time, since the spectrum of a large picture takes much memory
    picture = torch.cat([restored(channel) for channel in y.split(1, dim=1)], dim=1)

    return picture, (power / total).mean(dim=(-2, -1), keepdim=True)


def canvas_side(least: int) -> int:
    """Side of the canvas of `wiener`: a length with a fast Fourier transform."""
    return int(scipy.fft.next_fast_len(least, real=True))


@lru_cache(maxsize=1)
def _inverse_power(size: tuple[int, int]) -> Tensor:
    """`inverse_power` at the frequencies of `torch.fft.rfft2`, [h, w // 2 + 1]."""
    return inverse_power(torch.fft.fftfreq(size[0]), torch.fft.rfftfreq(size[1]))


def inverse_power(rows: Tensor, columns: Tensor) -> Tensor:
    """``1 + (f/f₀)²`` at frequencies [..., h] and [..., w] in cycles per pixel, [..., h, w].

    It is 0 at frequency 0, which must come first, so that the mean is kept.
    """
    power = 1 + (rows[..., :, None].square() + columns[..., None, :].square()) / CORNER_FREQUENCY**2
    power[..., 0, 0] = 0
    return power


def centred(kernel: NDArray[np.float64] | Tensor, size: tuple[int, ...]) -> Tensor:
    """Kernels [..., h, w] on a canvas [..., *size], centred at the origin.

    Arrays become float64 tensors.
    """
    if not isinstance(kernel, Tensor):
        kernel = torch.from_numpy(np.ascontiguousarray(kernel, dtype=np.float64))
    height, width = kernel.shape[-2:]
    canvas = F.pad(kernel, (0, size[1] - width, 0, size[0] - height))
    return canvas.roll([-(height // 2), -(width // 2)], (-2, -1))
