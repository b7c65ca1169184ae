"""Rounding of values to few levels."""

from __future__ import annotations

from torch import Tensor

from operators.nonlinear import Deviations, NonlinearOperator, straight_through
from operators.truncated import truncated_mean

# How far from its level a value may lie, in steps: half a step would be a tie.
MARGIN = 0.49


class Quantise(NonlinearOperator):
    """Round every value to the nearest of ``2^bits`` levels, which include black and white.

    Values beyond black and white are clipped. ``A(A(x)) = A(x)`` exactly: levels do not move when
    they are rounded again.

    >>> import torch
    >>> Quantise(1).A(torch.tensor([0.2, 0.7, 1.5])).tolist()
    [0.0, 1.0, 1.0]

    Args:
        bits: 1 to 16.
        low: Value of black.
        high: Value of white.

    Raises:
        ValueError: ``bits`` is not a whole number from 1 to 16, or ``low`` is not below ``high``.
    """

    def __init__(self, bits: int, *, low: float = 0.0, high: float = 1.0) -> None:
        super().__init__(low=low, high=high)
        if bits != int(bits) or not 1 <= bits <= 16:
            raise ValueError(f"bits must be a whole number from 1 to 16, not {bits}")
        self.bits = int(bits)

    def A(self, x: Tensor) -> Tensor:
        white = 2**self.bits - 1
        exact = self._to_levels(x, white).clamp(0, white)
        levels = straight_through((exact + 0.5).floor(), exact)
        return self._from_levels(levels, white)

    def spread(self, noise: Tensor) -> Deviations:
        return (noise.std(dim=(1, 2, 3), keepdim=True),)

    def explained(self, z: Tensor, y: Tensor, deviations: Deviations) -> Tensor:
        half = 0.5 * (self.high - self.low) / (2**self.bits - 1)
        return truncated_mean(z, deviations[0], y - half, y + half)

    def nearest(self, z: Tensor, y: Tensor) -> Tensor:
        half = MARGIN * (self.high - self.low) / (2**self.bits - 1)
        return z.maximum(y - half).minimum(y + half).clamp(self.low, self.high)

    def error(self, y: Tensor) -> Tensor:
        step = (self.high - self.low) / (2**self.bits - 1)
        return y.new_full((len(y),), step / 12**0.5)

    def extra_repr(self) -> str:
        return f"bits={self.bits}, low={self.low}, high={self.high}"
