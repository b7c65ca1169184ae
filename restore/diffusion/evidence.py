"""What a measurement says of a picture, at the picture's full size: all that a predictor is shown.

For ``y = A x + σ_y n`` with pictures in [-1, 1] it is the regularised inverse

    ``argmin ‖A x − y‖²/σ_y² + ‖x‖²/τ²``

scaled so that what A passes best comes through unchanged, with the fraction of each pixel's
variance that this explains, and the noise level. So one network serves every operator, a known
kernel included: the operator is undone as far as the noise allows, and the network sees what that
left (USRNet: Zhang et al. 2020, arXiv 2003.10428, alternates such a step with a denoiser).

τ is the same for all components of an operator with an SVD, counted in units of the largest
singular value (the mean of many pixels, which down-sampling keeps, varies as much as one of them);
of a blur with an unknown border it falls with the frequency as in photographs, which makes the
inverse Wiener's filter.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

PRIOR_STD = 0.5
"""τ, the standard deviation of a picture in [-1, 1] before anything is known of it."""

CORNER_FREQUENCY = 0.04
"""f₀ in cycles a pixel, from which the power of photographs falls with the square of the frequency.
"""

LEAST_POWER = 1e-6
"""Of the power of a blur that is divided by, beside its largest: for kernels that wipe out the
mean.
"""

BORDER_ERROR = 0.01
"""Standard deviation, for pictures in [-1, 1], by which a blurred picture that is continued by its
rim counts as wrong: without it the inverse of a sharp kernel makes streaks of the border. 0.005
loses 2.7 dB of motion blur, 0.02 loses 0.9 dB of disks (crops of CID22's validation set, each
against 0.01)."""

RIM = 64
"""Pixels by which a blurred picture is continued beyond the kernel's reach. Without, its two ends,
which a circular blur joins, make streaks: 24 crops of 64 pixels blurred by motion are off by 0.20
instead of 0.11 (RMS in [-1, 1])."""

QUANTISATION_NOISE = 1 / 255 / math.sqrt(12)
"""Standard deviation of the rounding to 8 bits, in [0, 1] units: no 8-bit measurement is cleaner
than this.
"""

GREY = 1 / 3
"""The known fraction where colour is lost: one of a pixel's three dimensions is known. So a grey
photograph, whose colours are known, is not taken for one to be coloured."""


class Evidence(NamedTuple):
    """What is known of pictures."""

    picture: Tensor
    """[B, 3, H, W] in [-1, 1] but for overshoot; zero where nothing is known."""
    known: Tensor
    """[B, 1, H, W], the fraction of the pixel's variance that the measurement explains, in [0, 1]:
    1/16 everywhere for a picture to be enlarged four times, 0 or 1 for a mask, `GREY` where colour
    is lost."""
    noise: Tensor
    """[B, 1, H, W], the standard deviation of the measurement's noise for pictures in [-1, 1]."""

    def to(self, device: torch.device) -> Evidence:
        return Evidence(*(part.to(device, non_blocking=True) for part in self))


def shown_noise(noise: Tensor | float) -> Tensor:
    """σ_y for pictures in [-1, 1], from a standard deviation in [0, 1] units; at least that of the
    rounding.
    """
    return 2 * torch.as_tensor(noise, dtype=torch.float32).clamp_min(QUANTISATION_NOISE)


def noise_ratio(sigma: Tensor | float) -> Tensor | float:
    """``r = σ_y²/τ²``"""
    return (sigma / PRIOR_STD) ** 2


def inverse_gain(s: Tensor, ratio: Tensor, largest: Tensor | None = None) -> Tensor:
    """What a component with singular value s is multiplied by, 0 where s is 0.

    ``(1 + r) t/(t² + r)/S`` where S is the largest singular value and ``t = s/S``.

    Args:
        s: singular values.
        ratio: r.
        largest: S, for operators side by side in one tensor that have one each; None takes the
            largest of ``s``.
    """
    largest = s.amax() if largest is None else largest
    t = s / largest
    return torch.where(
        t > 0, (1 + ratio) / largest * t / (t**2 + ratio).clamp_min(torch.finfo(s.dtype).tiny), 0.0
    )


def known_fraction(
    s: Tensor, ratio: Tensor, dimensions: int | Tensor, largest: Tensor | None = None
) -> Tensor:
    """The fraction of a picture's variance that is explained: the sum of ``t²/(t² + r)``, t as in
    `inverse_gain`.

    Args:
        s: singular values [..., C', H', W'].
        ratio: [B or 1, 1, 1, 1].
        dimensions: of a picture.
        largest: as in `inverse_gain`.

    Returns:
        [B or 1, 1, 1, 1]
    """
    t = s / (s.amax() if largest is None else largest)
    explained = torch.where(t > 0, t**2 / (t**2 + ratio).clamp_min(torch.finfo(s.dtype).tiny), 0.0)
    return explained.sum(dim=(-3, -2, -1), keepdim=True) / dimensions


def wiener(y: Tensor, kernel: NDArray[np.float64], ratio: Tensor) -> tuple[Tensor, Tensor]:
    """Wiener's inverse of a blur whose border is unknown, in one pair of Fourier transforms.

    The blurred picture is continued by its rim, by `RIM` and as much as the kernel is wide, and the
    blur taken for circular there. Of the frequency f in cycles a pixel, pictures have the power
    ``τ²/(1 + (f/f₀)²)``.

    Args:
        y: [B, C, H, W] in [-1, 1], blurred.
        kernel: [h, w], or one for each picture, [B, h, w].
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
        whole = torch.fft.irfft2(torch.fft.rfft2(continued) * inverse, s=size)
        return whole[..., top : top + height, left : left + width]

    # one channel after the other: a large picture's spectrum takes much memory
    picture = torch.cat([restored(channel) for channel in y.split(1, dim=1)], dim=1)

    return picture, (power / total).mean(dim=(-2, -1), keepdim=True)


def canvas_side(least: int) -> int:
    """Of the canvas on which `wiener` takes a blur for circular: a length that is transformed
    fast.
    """
    return scipy.fft.next_fast_len(least, real=True)


@lru_cache(maxsize=1)
def _inverse_power(size: tuple[int, int]) -> Tensor:
    """`inverse_power` of the frequencies of `torch.fft.rfft2`: [h, w // 2 + 1]."""
    return inverse_power(torch.fft.fftfreq(size[0]), torch.fft.rfftfreq(size[1]))


def inverse_power(rows: Tensor, columns: Tensor) -> Tensor:
    """``1 + (f/f₀)²`` of frequencies [..., h] and [..., w] in cycles a pixel: [..., h, w].

    It is 0 at frequency 0, which must come first, so that the mean comes through.
    """
    power = 1 + (rows[..., :, None].square() + columns[..., None, :].square()) / CORNER_FREQUENCY**2
    power[..., 0, 0] = 0
    return power


def centred(kernel: NDArray[np.float64] | Tensor, size: tuple[int, ...]) -> Tensor:
    """Kernels [..., h, w] on a canvas [..., *size] with their middle at the origin; arrays become
    float64.
    """
    if not isinstance(kernel, Tensor):
        kernel = torch.from_numpy(np.ascontiguousarray(kernel, dtype=np.float64))
    height, width = kernel.shape[-2:]
    canvas = F.pad(kernel, (0, size[1] - width, 0, size[0] - height))
    return canvas.roll([-(height // 2), -(width // 2)], (-2, -1))
