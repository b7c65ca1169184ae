"""Rounding of values to few levels."""

from __future__ import annotations

from torch import Tensor

from operators.nonlinear import NonlinearOperator, straight_through


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

    def extra_repr(self) -> str:
        return f"bits={self.bits}, low={self.low}, high={self.high}"
