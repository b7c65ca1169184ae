"""Degradations that are not linear, with an approximate pseudo-inverse.

Such an ``A`` has no Moore–Penrose inverse. The solvers for linear operators need an ``A⁺`` with
``A(A⁺(A(x))) = A(x)``: a picture that explains the measurement. Kawar et al. (2022, arXiv
2209.11888) run DDRM with the decoder of JPEG in that place. Here ``A`` gives the decoded picture,
so that ``A⁺`` is the identity.

Rounding has the derivative 0 almost everywhere, which says nothing. Here its derivative is that of
the identity (`straight_through`), so that autograd gives a useful gradient through every
`NonlinearOperator`; clipping keeps its own derivative, 0 beyond black and white.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from operators.base import LinearOperator, Shape, compose

# Standard deviations of the numbers that an operator stores, see `NonlinearOperator.spread`.
Deviations = tuple[Tensor, ...]

# Seed of the white noise that tells what a linear part does to the errors of an estimate.
PROBE_SEED = 0


def straight_through(rounded: Tensor, x: Tensor) -> Tensor:
    """Return rounded values, with the derivative of those that were rounded.

    The straight-through estimator of Bengio, Léonard, Courville 2013, arXiv 1308.3432.

    >>> x = torch.tensor([0.2, 1.7], requires_grad=True)
    >>> straight_through(x.round(), x).sum().backward()
    >>> x.grad
    tensor([1., 1.])

    Args:
        rounded: Any tensor.
        x: Values of the same shape.
    """
    if not x.requires_grad:
        return rounded
    return rounded.detach() + (x - x.detach())  # exactly the rounded values, plus zeros


class NonlinearOperator(nn.Module):
    """A degradation ``y = A(x)`` that is not linear, with an approximate pseudo-inverse.

    Args:
        low: Value of black: 0 in pictures, -1 inside the models.
        high: Value of white, 1.

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
        """Return a picture that explains the measurement, approximately: the measurement."""
        return y

    def spread(self, noise: Tensor) -> Deviations:
        """Return the standard deviations of the numbers that are stored of noise.

        Args:
            noise: ``[B, C, H, W]``, with the statistics of the error of an estimate.

        Returns:
            Tensors that broadcast to the numbers, one for each of their kinds.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define spread")

    def explained(self, z: Tensor, y: Tensor, deviations: Deviations) -> Tensor:
        """Return the expected picture before the operator, ``E[z | A(z) = y]``.

        A rounded number says in which interval the number lay. Within it, the estimate decides:
        each number is normally distributed around that of the estimate (`truncated_mean`).

        Args:
            z: Estimate, ``[B, C, H, W]``.
            y: What the operator gave, of the same shape.
            deviations: Standard deviations of the error of the estimate, in the form of `spread`;
                zeros give the nearest picture that explains y.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define explained")

    def nearest(self, z: Tensor, y: Tensor) -> Tensor:
        """Return the picture nearest to z that gives y, by a margin that survives 8 bits.

        Args:
            z: Estimate, ``[B, C, H, W]``.
            y: What the operator gave, of the same shape.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define nearest")

    def error(self, y: Tensor) -> Tensor:
        """Return the expected standard deviation of ``A(x) − x``, ``[B]``, given ``y = A(x)``."""
        raise NotImplementedError(f"{type(self).__name__} does not define error")

    def for_measurement(self, y: Tensor) -> NonlinearOperator:
        """Return an operator for one measurement, with what it says worked out.

        Solvers ask for it once and call `explained`, `nearest` and `error` in every step. It is the
        operator itself where there is nothing to work out.
        """
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.A(x)

    def _to_levels(self, x: Tensor, white: float) -> Tensor:
        """Scale pictures to values from 0 to ``white``."""
        return (x - self.low) * (white / (self.high - self.low))

    def _from_levels(self, x: Tensor, white: float) -> Tensor:
        """Inverse of `_to_levels`."""
        return x * ((self.high - self.low) / white) + self.low


@dataclass
class _Measured:
    """A measurement of a chain, in pictures between 0 and 1, with what it says.

    Attributes:
        y: ``[B, C, H, W]``.
        last: The last nonlinear part, for this measurement.
        error: See `NonlinearChain.error`; None until it is asked for.
    """

    y: Tensor
    last: NonlinearOperator
    error: Tensor | None = None

    def is_of(self, y: Tensor) -> bool:
        """Return True for the same measurement, even if it was changed in place meanwhile."""
        same = self.y.shape == y.shape and self.y.dtype == y.dtype and self.y.device == y.device
        return same and torch.equal(self.y, y)


class NonlinearChain(nn.Module):
    """Linear and non-linear degradations one after another.

    Its pseudo-inverse is approximate: the pseudo-inverses of the parts in reverse order.

    >>> import operators
    >>> blur = operators.gaussian_blur((3, 16, 16), sigma=1.0)
    >>> degrade = NonlinearChain([blur, operators.Jpeg(50)], (3, 16, 16))
    >>> degrade.A(torch.rand(1, 3, 16, 16)).shape
    torch.Size([1, 3, 16, 16])

    Attributes:
        input_shape: (C, H, W) of a picture.
        output_shape: (C, H, W) of a measurement.

    Args:
        operators: Operators for pictures between 0 and 1, the first one first.
        input_shape: (C, H, W) of a picture.
        low: Value of black in pictures and measurements.
        high: Value of white in pictures and measurements.
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
        self.input_shape: Shape = input_shape
        self.output_shape: Shape = input_shape
        self._found: dict[NonlinearOperator, tuple[Deviations, Deviations]] = {}
        self._last_measured: _Measured | None = None

        for operator in operators:
            self.output_shape = getattr(operator, "output_shape", self.output_shape)

    def A(self, x: Tensor) -> Tensor:
        """Degrade: ``[B, *input_shape]`` to ``[B, *output_shape]``."""
        x = self._to_unit(x)
        for operator in self._parts():
            x = operator.A(x)
        return self._from_unit(x)

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        """Return a picture that explains the measurement, approximately."""
        y = self._to_unit(y)
        for operator in reversed(self._parts()):
            y = operator.pseudo_inverse(y)
        return self._from_unit(y)

    @property
    def linear(self) -> LinearOperator | None:
        """The linear part before the first one that is not linear, or None."""
        first = self._parts()[0]
        return first if isinstance(first, LinearOperator) else None

    @property
    def ends_nonlinear(self) -> bool:
        """True if no linear part follows one that is not linear."""
        return not any(isinstance(operator, LinearOperator) for operator in self._parts()[1:])

    def distort(self, z: Tensor) -> Tensor:
        """Apply the parts that are not linear to what `linear` measured."""
        z = self._to_unit(z)
        for operator in self._parts():
            z = z if isinstance(operator, LinearOperator) else operator.A(z)
        return self._from_unit(z)

    def measure(self, x: Tensor) -> Tensor:
        """Apply `linear` to pictures between `low` and `high`; `distort` takes the result."""
        return x if self.linear is None else self._from_unit(self.linear.A(self._to_unit(x)))

    def explained(
        self, z: Tensor, y: Tensor, prior_std: Tensor | float, noise_level: Tensor | float
    ) -> Tensor:
        """Return what `linear` measured, as far as an estimate and the measurement tell.

        It is the mean of ``z + errors`` given that the nonlinear parts turn it into y, where the
        errors of the estimate are white before `linear`, and noise is added after it.

        Args:
            z: What `linear` measures of the estimate, ``[B, *shape]``.
            y: Measurement, ``[B, *output_shape]``.
            prior_std: Standard deviation of the estimate's errors, one number or [B]; 0 with noise
                0 gives the nearest z that explains y.
            noise_level: Standard deviation of the noise, one number or [B].
        """
        scale = self.high - self.low
        measured = self._measured(y)
        known = measured.y
        for part, step in self._backwards(z):
            of_errors, of_noise = self._spreads(part, step)
            deviations = tuple(
                torch.hypot(_beside(prior_std, e) * e / scale, _beside(noise_level, n) * n / scale)
                for e, n in zip(of_errors, of_noise, strict=True)
            )
            part = measured.last if known is measured.y else part
            known = part.explained(step, known, deviations)

        return self._from_unit(known)

    def nearest(self, z: Tensor, y: Tensor) -> Tensor:
        """Return the picture nearest to z that gives y, without a linear part.

        Args:
            z: Estimate, ``[B, *shape]``.
            y: Measurement, ``[B, *output_shape]``.

        Raises:
            ValueError: There is a linear part.
        """
        if self.linear is not None:
            raise ValueError("the nearest picture behind a linear operator is not known")

        measured = self._measured(y)
        known = measured.y
        for part, step in self._backwards(z):
            part = measured.last if known is measured.y else part
            known = part.nearest(step, known)

        return self._from_unit(known)

    def error(self, y: Tensor) -> Tensor:
        """Return the expected standard deviation of what the nonlinear parts change, ``[B]``."""
        measured = self._measured(y)
        if measured.error is None:
            parts = [*self._nonlinear_parts()[:-1], measured.last]
            errors = torch.stack([part.error(measured.y) for part in parts])
            measured.error = (self.high - self.low) * errors.square().sum(dim=0).sqrt()

        return measured.error

    def _measured(self, y: Tensor) -> _Measured:
        """Return what a measurement says, worked out once as long as it stays the same."""
        unit = self._to_unit(y)
        if self._last_measured is None or not self._last_measured.is_of(unit):
            last = self._nonlinear_parts()[-1].for_measurement(unit)
            self._last_measured = _Measured(unit, last)

        return self._last_measured

    def _nonlinear_parts(self) -> list[NonlinearOperator]:
        return [part for part in self._parts() if isinstance(part, NonlinearOperator)]

    def _backwards(self, z: Tensor) -> Iterator[tuple[NonlinearOperator, Tensor]]:
        """Yield the nonlinear parts, the last first, with what each gets if the first gets z."""
        parts = self._nonlinear_parts()
        steps = [self._to_unit(z)]
        for part in parts[:-1]:
            steps.append(part.A(steps[-1]))

        yield from zip(reversed(parts), reversed(steps), strict=True)

    def _spreads(self, part: NonlinearOperator, z: Tensor) -> tuple[Deviations, Deviations]:
        """Return `NonlinearOperator.spread` of errors before and of noise after `linear`."""
        if part not in self._found:
            noise = _grey_noise(z.shape, z)
            before = (
                noise
                if self.linear is None
                else self.linear.A(_grey_noise((len(z), *self.input_shape), z))
            )
            self._found[part] = part.spread(before), part.spread(noise)

        return self._found[part]

    def between(self, low: float, high: float) -> NonlinearChain:
        """Return the same degradation for pictures with other values of black and white."""
        chain = NonlinearChain(self._parts(), self.input_shape, low=low, high=high)
        return chain.to(next((b.device for b in self.buffers()), torch.device("cpu")))

    def _parts(self) -> list[LinearOperator | NonlinearOperator]:
        return cast("list[LinearOperator | NonlinearOperator]", list(self.operators))

    def visible(self, x: Tensor) -> Tensor:
        """Crop pictures to what a person wants to see, see `LinearOperator.visible`."""
        return x if self.linear is None else self.linear.visible(x)

    def _to_unit(self, x: Tensor) -> Tensor:
        return (x - self.low) / (self.high - self.low)

    def _from_unit(self, x: Tensor) -> Tensor:
        return x * (self.high - self.low) + self.low

    def forward(self, x: Tensor) -> Tensor:
        return self.A(x)


def _grey_noise(shape: Sequence[int], like: Tensor) -> Tensor:
    """Return white noise that is the same in all channels, [B, C, H, W]."""
    generator = torch.Generator().manual_seed(PROBE_SEED)
    noise = torch.randn((1, 1, *shape[-2:]), generator=generator)
    return noise.to(like).expand(tuple(shape))


def _beside(value: Tensor | float, spread: Tensor) -> Tensor:
    """Return one number or [B] in the shape of a tensor of deviations."""
    numbers = torch.as_tensor(value, dtype=spread.dtype, device=spread.device)
    return numbers.reshape(-1, *(1,) * (spread.ndim - 1))


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
