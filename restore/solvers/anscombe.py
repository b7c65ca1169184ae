"""The generalised Anscombe transform: Poisson-Gaussian noise of one level, and the way back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

# Noise whose variance grows by less than this fraction of that of black counts as constant.
CONSTANT = 1e-3


class Pair(Protocol):
    """Noise of the variance ``a x + b`` for a pixel x in [0, 1]."""

    @property
    def a(self) -> float: ...

    @property
    def b(self) -> float: ...


class Stabilised:
    """Pictures with Poisson-Gaussian noise as pictures in [0, 1] with noise of one level.

    In units of photons, ``z = x/a``, the transform

        ``f(z) = 2 √(z + 3/8 + b/a²)``

    has noise of variance 1 (Starck, Murtagh, Bijaoui 1998). It is scaled to take black to 0 and
    white to 1. A denoiser gives the mean D of f(z); the mean of z is not ``f⁻¹(D)`` but

        ``D²/4 + √(3/2)/(4 D) − 11/(8 D²) + 5 √(3/2)/(8 D³) − 1/8 − b/a²``,

    the closed form of the exact unbiased inverse (Mäkitalo, Foi 2013, IEEE TIP 22(1), doi
    10.1109/TIP.2012.2202675, and 2011, doi 10.1109/TIP.2011.2121085, eq. 10).

    Noise that hardly depends on the signal, `CONSTANT`, is left as it is.

    Args:
        signal: the noise of each picture.
        device: where the pictures lie.
    """

    def __init__(self, signal: Sequence[Pair], device: torch.device) -> None:
        pairs = torch.tensor([(own.a, own.b) for own in signal], dtype=torch.float64)
        a, b = pairs.to(device).reshape(-1, 2, 1, 1, 1).unbind(dim=1)
        self.varies = a > CONSTANT * b
        self.a = torch.where(self.varies, a, 1.0)
        self.electronics = b / self.a**2
        self.black = self._of_photons(torch.zeros_like(a))
        self.range = self._of_photons(1 / self.a) - self.black
        self.level = torch.where(self.varies, 1 / self.range, (b + a / 2).sqrt()).flatten().float()

    def transform(self, y: Tensor) -> Tensor:
        """Return measurements [B, C, h, w] as pictures with noise of ``level``, [B]."""
        stable = (self._of_photons(y.double() / self.a) - self.black) / self.range
        return torch.where(self.varies, stable.to(y), y)

    def inverse(self, mean: Tensor) -> Tensor:
        """Return denoised pictures [B, C, h, w] as means of the measurements."""
        d = (mean.double() * self.range + self.black).clamp_min(2 * math.sqrt(3 / 8))
        root = math.sqrt(3 / 2)
        photons = d**2 / 4 + root / (4 * d) - 11 / (8 * d**2) + 5 * root / (8 * d**3) - 1 / 8
        x = self.a * (photons - self.electronics)
        return torch.where(self.varies, x.clamp_min(0).to(mean), mean)

    def _of_photons(self, z: Tensor) -> Tensor:
        return 2 * (z + 3 / 8 + self.electronics).clamp_min(0).sqrt()
