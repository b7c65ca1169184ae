"""Degradations that are not linear, with an approximate pseudo-inverse.

For such an ``A`` there is no Moore–Penrose inverse. What the solvers for linear operators need of
one is ``A⁺`` with ``A(A⁺(A(x))) = A(x)``: a picture that explains the measurement. Kawar et al.
(2022, arXiv 2209.11888) run DDRM with the decoder of JPEG in that place. Here ``A`` gives the
decoded picture, so that ``A⁺`` is the identity.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from operators.base import LinearOperator, Shape, compose


class NonlinearOperator(nn.Module):
    """A degradation ``y = A(x)`` that is not linear, with an approximate pseudo-inverse.

    Args:
        low, high: the values of black and white, 0 and 1 by default; -1 and 1 inside the models.

    Raises:
        ValueError: ``low`` is not below ``high``.
    """

    has_svd = False

    def __init__(self, *, low: float = 0.0, high: float = 1.0) -> None:
        super().__init__()
        if not low < high:
            raise ValueError(f"black must be below white, not low={low} and high={high}")
        self.low = low
        self.high = high

    def A(self, x: Tensor) -> Tensor:
        """Degrade pictures ``[B, C, H, W]`` between ``low`` and ``high``."""
        raise NotImplementedError(f"{type(self).__name__} does not define A")

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        """A picture that explains the measurement, approximately: the measurement itself."""
        return y

    def forward(self, x: Tensor) -> Tensor:
        return self.A(x)

    def _to_levels(self, x: Tensor, white: float) -> Tensor:
        return (x - self.low) * (white / (self.high - self.low))

    def _from_levels(self, x: Tensor, white: float) -> Tensor:
        return x * ((self.high - self.low) / white) + self.low


class NonlinearChain(nn.Module):
    """Linear and non-linear degradations one after another.

    Its pseudo-inverse is approximate: the pseudo-inverses of the parts in reverse order.

    Args:
        operators: `LinearOperator` and `NonlinearOperator` for pictures between 0 and 1, the first
            one first.
        input_shape: (C, H, W) of a picture.
        low, high: the values of black and white in pictures and measurements.
    """

    has_svd = False

    def __init__(
        self,
        operators: Sequence[LinearOperator | NonlinearOperator],
        input_shape: Shape,
        *,
        low: float = 0.0,
        high: float = 1.0,
    ) -> None:
        super().__init__()
        self.operators = nn.ModuleList(operators)
        self.low = low
        self.high = high
        self.input_shape = self.output_shape = input_shape

        for operator in operators:
            self.output_shape = getattr(operator, "output_shape", self.output_shape)

    def A(self, x: Tensor) -> Tensor:
        """Degrade: ``[B, *input_shape]`` to ``[B, *output_shape]``."""
        x = self._to_unit(x)
        for operator in self.operators:
            x = operator.A(x)
        return self._from_unit(x)

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        """A picture that explains the measurement, approximately."""
        y = self._to_unit(y)
        for operator in reversed(self.operators):
            y = operator.pseudo_inverse(y)
        return self._from_unit(y)

    @property
    def linear(self) -> LinearOperator | None:
        """What is linear before the first part that is not."""
        return self.operators[0] if isinstance(self.operators[0], LinearOperator) else None

    @property
    def ends_nonlinear(self) -> bool:
        """Whether nothing linear follows what is not."""
        return not any(
            isinstance(operator, LinearOperator) for operator in list(self.operators)[1:]
        )

    def distort(self, z: Tensor) -> Tensor:
        """The parts that are not linear, of what `linear` measured."""
        z = self._to_unit(z)
        for operator in self.operators:
            z = z if isinstance(operator, LinearOperator) else operator.A(z)
        return self._from_unit(z)

    def measure(self, x: Tensor) -> Tensor:
        """`linear` of pictures between `low` and `high`: what `distort` takes."""
        return x if self.linear is None else self._from_unit(self.linear.A(self._to_unit(x)))

    def between(self, low: float, high: float) -> NonlinearChain:
        """The same degradation of pictures with other values of black and white."""
        chain = NonlinearChain(list(self.operators), self.input_shape, low=low, high=high)
        return chain.to(next((b.device for b in self.buffers()), torch.device("cpu")))

    def visible(self, x: Tensor) -> Tensor:
        """See `LinearOperator.visible`."""
        first = self.operators[0]
        return first.visible(x) if isinstance(first, LinearOperator) else x

    def _to_unit(self, x: Tensor) -> Tensor:
        return (x - self.low) / (self.high - self.low)

    def _from_unit(self, x: Tensor) -> Tensor:
        return x * (self.high - self.low) + self.low

    def forward(self, x: Tensor) -> Tensor:
        return self.A(x)


def chain(
    operators: Sequence[LinearOperator | NonlinearOperator], input_shape: Shape
) -> LinearOperator | NonlinearChain:
    """Put operators one after another; linear neighbours are composed, see `operators.compose`.

    Args:
        operators: Operators for pictures between 0 and 1, the first one first.
        input_shape: (C, H, W) of a picture.

    Returns:
        A linear operator if all are linear.
    """
    merged: list[LinearOperator | NonlinearOperator] = []
    for operator in operators:
        last = merged[-1] if merged else None
        if isinstance(operator, LinearOperator) and isinstance(last, LinearOperator):
            merged[-1] = compose(operator, last)
        else:
            merged.append(operator)

    if len(merged) == 1 and isinstance(merged[0], LinearOperator):
        return merged[0]

    return NonlinearChain(merged, input_shape)
