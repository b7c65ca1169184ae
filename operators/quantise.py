"""Rounding of values to few levels."""

from __future__ import annotations

from torch import Tensor

from operators.nonlinear import NonlinearOperator


class Quantise(NonlinearOperator):
    """Round every value to the nearest of ``2^bits`` levels from ``low`` to ``high``; beyond them
    it clips.

    ``A(A(x)) = A(x)`` exactly: the levels are found in a table and do not move when they are
    rounded again.

    Args:
        bits: 1 to 16.
        low, high: the values of black and white.

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
        return self._from_levels((self._to_levels(x, white) + 0.5).floor().clamp(0, white), white)

    def extra_repr(self) -> str:
        return f"bits={self.bits}, low={self.low}, high={self.high}"
