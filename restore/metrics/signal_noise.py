"""Noise whose variance depends on the signal: photons and electronics of a sensor."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from restore.errors import BadArgument

if TYPE_CHECKING:
    from torch import Tensor

WANTED = "the variance a·x + b of a pixel x in [0, 1], both from 0 to 1 and not both 0"


@dataclass(frozen=True)
class SignalNoise:
    """Poisson-Gaussian noise: the variance of a pixel x in [0, 1] is ``a x + b``.

    A sensor counts photons, whose variance is their number, and its electronics add noise of a
    constant variance (Foi et al. 2008, IEEE TIP 17(10), doi 10.1109/TIP.2008.2001399).

    >>> SignalNoise.read("0.01:0.0004")
    SignalNoise(a=0.01, b=0.0004)
    >>> str(SignalNoise(0.01, 0.0004))
    '0.01:0.0004'

    Attributes:
        a: variance per unit of the signal, in [0, 1]; 1/a photons make white.
        b: variance of black, in [0, 1].

    Raises:
        BadArgument: a number out of range, or both 0.
    """

    a: float
    b: float

    def __post_init__(self) -> None:
        a = float(self.a)
        b = float(self.b)
        if not (0 <= a <= 1 and 0 <= b <= 1 and a + b > 0):
            raise BadArgument(f"`noise`={a:g}:{b:g}: must be A:B, {WANTED}")

        # whatever kind of number was given, records are written as JSON
        object.__setattr__(self, "a", a)
        object.__setattr__(self, "b", b)

    @classmethod
    def read(cls, text: str) -> SignalNoise:
        """Read ``A:B``.

        Raises:
            BadArgument: the text is something else, or a number out of range.
        """
        try:
            a, b = (float(number) for number in text.split(":"))
        except ValueError:
            raise BadArgument(f"`noise`={text}: must be A:B, as in 0.01:0.0004, {WANTED}") from None

        return cls(a, b)

    def __str__(self) -> str:
        return f"{self.a!r}:{self.b!r}"

    def std(self, x: Tensor) -> Tensor:
        """Return the standard deviation of pixels x, of which those below black count as black."""
        variance: Tensor = self.a * x.clamp_min(0) + self.b
        return variance.sqrt()

    def at_least(self, std: float) -> SignalNoise:
        """Return this noise, with a standard deviation of black of at least ``std``."""
        return SignalNoise(self.a, max(self.b, std**2))

    @property
    def middle(self) -> float:
        """Standard deviation of mid-grey, 0.5."""
        return math.sqrt(self.a / 2 + self.b)
