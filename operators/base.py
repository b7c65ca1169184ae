"""What a linear operator is, and what one after another makes.

Four kinds, by what is known of an operator: `LinearOperator` (all maps written out),
`IterativeOperator` (``A`` and ``Aᵀ``), `SpectralOperator` (a singular value decomposition) and
`Composition` (two operators one after another).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, TypedDict

import torch
from torch import Tensor, nn

from operators.iterative import Map, conjugate_gradient, least_squares

# Singular values below this fraction of the largest one are taken for zero: float32 cannot tell
# them apart.
RANK_TOLERANCE = 1e-6

# A composition is preconditioned when the other factor keeps at least this fraction of the
# components (measured).
KEPT = 0.7

# Conjugate gradients of a regularised inverse end at this relative residual, or after so many
# iterations. Deblurring with 50 iterations and 1e-4 gains 0.03 dB, with 8 iterations it loses 0.3
# dB (3 photographs, two kernels). A circulant preconditioner saves little for blurs with an unknown
# border, and costs iterations with all other operators; with little noise see
# `ValidConvolution.ridge`.
RIDGE_ITERATIONS = 25
RIDGE_TOLERANCE = 1e-3
LEAST_RATIO = 1e-6

# The same for `LinearOperator.weighted_inverse`, whose preconditioner needs fewer iterations.
WEIGHTED_ITERATIONS = 60
WEIGHTED_TOLERANCE = 2e-6

# Typical value of D in `LinearOperator.weighted_inverse` above which its preconditioner is scaled
# by it, for operators that pass some components unchanged (measured on three blurs).
MOSTLY_NOISE = 0.1

Shape = tuple[int, int, int]


class LinearOperator(nn.Module):
    """A linear degradation ``y = A x`` of pictures.

    Pictures are batches ``[B, C, H, W]`` in any value range: the map is linear, not affine. The
    tensors that an operator needs are buffers, so ``operator.to(device)`` moves it.

    >>> import operators
    >>> blur = operators.gaussian_blur((3, 48, 64), sigma=2.0)
    >>> shrink = operators.downsample(blur.output_shape, factor=4)
    >>> (shrink @ blur).A(torch.rand(1, 3, 48, 64)).shape
    torch.Size([1, 3, 12, 16])

    Attributes:
        input_shape: (channels, height, width) of a picture ``x``.
        output_shape: (channels, height, width) of a measurement ``y``.
        has_svd: True if ``U, Ut, V, Vt, singular_values`` exist (see `SpectralOperator`).
        channelwise: True if every channel is mapped by itself and alike, and a picture of a single
            channel is accepted as well.

    Args:
        input_shape: (C, H, W) of a picture.
        output_shape: (C, H, W) of a measurement.

    Raises:
        ValueError: A shape is not three positive sizes.
    """

    has_svd: bool = False
    channelwise: bool = False

    def __init__(self, input_shape: Shape, output_shape: Shape) -> None:
        super().__init__()
        self.input_shape: Shape = _checked_shape("input", input_shape)
        self.output_shape: Shape = _checked_shape("output", output_shape)

    def A(self, x: Tensor) -> Tensor:
        """Degrade: ``[B, *input_shape]`` to ``[B, *output_shape]``."""
        raise NotImplementedError(f"{type(self).__name__} does not define A")

    def At(self, y: Tensor) -> Tensor:
        """Adjoint, ``⟨A x, y⟩ = ⟨x, Aᵀ y⟩``: ``[B, *output_shape]`` to ``[B, *input_shape]``."""
        raise NotImplementedError(f"{type(self).__name__} does not define At")

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        """Moore–Penrose inverse ``A⁺ y``: ``[B, *output_shape]`` to ``[B, *input_shape]``."""
        raise NotImplementedError(f"{type(self).__name__} does not define pseudo_inverse")

    def regularised_inverse(self, y: Tensor, ratio: Tensor) -> Tensor:
        """Return ``Aᵀ (A Aᵀ + ratio)⁻¹ y``, which minimises ``‖y − A x‖² + ratio ‖x‖²``.

        Without a decomposition, conjugate gradients solve ``(AᵀA + ratio) x = Aᵀ y``. They stop at
        a relative residual of 1e-3, before they fit noise.

        Args:
            y: ``[B, *output_shape]``.
            ratio: ``[B or 1, 1, 1, 1]``, above 0.

        Returns:
            ``[B, *input_shape]``.
        """
        shift = ratio.clamp_min(LEAST_RATIO)
        return conjugate_gradient(
            lambda x: torch.addcmul(self.At(self.A(x)), shift, x),
            self.At(y),
            rtol=RIDGE_TOLERANCE,
            iterations=RIDGE_ITERATIONS,
        )

    def weighted_inverse(
        self,
        y: Tensor,
        shift: Tensor,
        *,
        rtol: float = WEIGHTED_TOLERANCE,
        iterations: int = WEIGHTED_ITERATIONS,
    ) -> Tensor:
        """Return ``Aᵀ (A Aᵀ + D)⁻¹ y`` for a diagonal D, which minimises ``Σ (y − A x)²/D + ‖x‖²``.

        So values of the measurement count by their own noise. It is exact where no two values of
        the measurement depend on the same component of the picture, as for masks and colour filter
        arrays. Otherwise conjugate gradients solve for ``λ`` in ``(A Aᵀ + D) λ = y``.

        >>> from operators import identity
        >>> shift = torch.tensor([[[[1.0, 3.0]]]])
        >>> identity((1, 1, 2)).weighted_inverse(torch.ones(1, 1, 1, 2), shift).tolist()
        [[[[0.5, 0.25]]]]

        Args:
            y: ``[B, *output_shape]``.
            shift: D, ``[B or 1, C' or 1, H', W']``, above 0.
            rtol, iterations: As for `conjugate_gradient`, with residuals of λ.

        Returns:
            ``[B, *input_shape]``.
        """
        shift = shift.clamp_min(LEAST_RATIO)
        typical = shift.log().mean(dim=(-3, -2, -1), keepdim=True).exp()
        # noise far above the signal's loss makes D the larger part, and the nearer one
        scale = torch.where(typical > MOSTLY_NOISE, (typical / shift).sqrt(), 1.0)

        near_inverse = self._near_inverse(typical)

        multipliers = conjugate_gradient(
            lambda z: torch.addcmul(self.A(self.At(z)), shift, z),
            y,
            precondition=lambda z: scale * near_inverse(scale * z),
            rtol=rtol,
            iterations=iterations,
        )

        return self.At(multipliers)

    def _near_inverse(self, ratio: Tensor) -> Map:
        """Return a preconditioner near ``(A Aᵀ + ratio)⁻¹``, for a ratio ``[B or 1, 1, 1, 1]``."""
        return lambda y: y / ratio

    def visible(self, x: Tensor) -> Tensor:
        """Crop pictures ``[…, *input_shape]`` to what a person wants to see: no unknown border."""
        return x

    def __matmul__(self, first: LinearOperator) -> LinearOperator:
        """Return ``self`` after ``first``; see `compose` for when the SVD survives."""
        return compose(self, first)

    def forward(self, x: Tensor) -> Tensor:
        return self.A(x)

    def extra_repr(self) -> str:
        return f"{self.input_shape} -> {self.output_shape}"


def _checked_shape(name: str, shape: Shape) -> Shape:
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"{name} shape must be three positive sizes (C, H, W), not {tuple(shape)}")

    channels, height, width = shape
    return int(channels), int(height), int(width)


def reciprocals(s: Tensor) -> Tensor:
    """Return ``1/s`` of singular values of any shape, and zero where they are zero."""
    return torch.where(s > 0, 1 / s, torch.zeros_like(s))


def ridge_gains(s: Tensor, ratio: Tensor) -> Tensor:
    """Return ``s/(s² + ratio)`` of singular values of any shape, and zero where they are zero."""
    return torch.where(s > 0, s / (s**2 + ratio).clamp_min(torch.finfo(s.dtype).tiny), 0.0)


class SpectralOperator(LinearOperator):
    """An operator with a singular value decomposition ``A = U Σ Vᵀ`` kept as structured maps.

    The decomposition is thin: the spectrum has the shape ``[C', H', W']`` of ``singular_values``;
    ``V`` and ``U`` take it isometrically to pictures and to measurements. What lies outside the
    range of ``V`` is the null space, ``x − V(Vt(x))``; singular values inside the spectrum may be
    zero as well.

    >>> import operators
    >>> gray = operators.gray((3, 8, 8))
    >>> x = torch.rand(1, 3, 8, 8)
    >>> torch.allclose(gray.A(x), gray.U(gray.singular_values * gray.Vt(x)), atol=1e-6)
    True

    Attributes:
        has_own_values: True if U is the identity, so that no two values of the measurement depend
            on the same component of the picture.
        singular_values: ``[C', H', W']``, not negative; ``[B, C', H', W']`` when each picture of a
            batch has its own.
    """

    has_svd = True
    has_own_values: bool = False

    if TYPE_CHECKING:  # at run time a buffer of the subclass, or a property

        @property
        def singular_values(self) -> Tensor: ...

    def V(self, spectrum: Tensor) -> Tensor:
        """Right singular vectors as columns: ``[B, C', H', W']`` to ``[B, *input_shape]``."""
        raise NotImplementedError(f"{type(self).__name__} does not define V")

    def Vt(self, x: Tensor) -> Tensor:
        """Transpose of `V`: ``[B, *input_shape]`` to ``[B, C', H', W']``."""
        raise NotImplementedError(f"{type(self).__name__} does not define Vt")

    def U(self, spectrum: Tensor) -> Tensor:
        """Left singular vectors as columns: ``[B, C', H', W']`` to ``[B, *output_shape]``."""
        raise NotImplementedError(f"{type(self).__name__} does not define U")

    def Ut(self, y: Tensor) -> Tensor:
        """Transpose of `U`: ``[B, *output_shape]`` to ``[B, C', H', W']``."""
        raise NotImplementedError(f"{type(self).__name__} does not define Ut")

    def A(self, x: Tensor) -> Tensor:
        return self.U(self.singular_values * self.Vt(x))

    def At(self, y: Tensor) -> Tensor:
        return self.V(self.singular_values * self.Ut(y))

    def inverse_singular_values(self) -> Tensor:
        """Return ``Σ⁺``: reciprocals, and zero where the singular value is zero."""
        return reciprocals(self.singular_values)

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        return self.V(self.inverse_singular_values() * self.Ut(y))

    def regularised_inverse(self, y: Tensor, ratio: Tensor) -> Tensor:
        return self.V(ridge_gains(self.singular_values, ratio) * self.Ut(y))

    def weighted_inverse(
        self,
        y: Tensor,
        shift: Tensor,
        *,
        rtol: float = WEIGHTED_TOLERANCE,
        iterations: int = WEIGHTED_ITERATIONS,
    ) -> Tensor:
        if not self.has_own_values:
            return super().weighted_inverse(y, shift, rtol=rtol, iterations=iterations)

        s = self.singular_values
        return self.V(s / (s**2 + shift.clamp_min(LEAST_RATIO)) * y)

    def _near_inverse(self, ratio: Tensor) -> Map:
        power = self.singular_values**2
        gain = power / (power + ratio) / ratio
        return lambda y: y / ratio - self.U(gain * self.Ut(y))

    def onto_row_space(self, x: Tensor) -> Tensor:
        """Project ``[B, *input_shape]`` onto what the operator sees: ``A⁺A x``."""
        return self.V(torch.where(self.singular_values > 0, self.Vt(x), 0.0))


class Stop(TypedDict):
    """When an iteration ends.

    Attributes:
        rtol: Residual, relative to that of the zero picture, at which a picture is done.
        iterations: Largest number of iterations.
    """

    rtol: float
    iterations: int


class IterativeOperator(LinearOperator):
    """An operator with ``A`` and ``At`` and no decomposition: `pseudo_inverse` is `least_squares`.

    Its error relative to ``‖A⁺ y‖`` is at most about ``κ² · rtol``, κ being the ratio of the
    largest singular value to the smallest that is not zero, and about ``κ`` iterations bring one
    more digit. So κ up to some tens is solved to rounding; a strong blur (κ = 10⁶) is not, and
    there the answer after ``iterations`` is a smooth, regularised one: components whose singular
    value is small are missing rather than amplified.

    >>> class Halve(IterativeOperator):
    ...     def A(self, x):
    ...         return x / 2
    ...
    ...     def At(self, y):
    ...         return y / 2
    >>> Halve((1, 2, 2), (1, 2, 2)).pseudo_inverse(torch.ones(1, 1, 2, 2)).flatten().tolist()
    [2.0, 2.0, 2.0, 2.0]

    Attributes:
        rtol: Relative residual at which the iteration stops; None is 1e-6, or 1e-12 in float64.
        iterations: Largest number of iterations.
    """

    rtol: float | None = None
    iterations: int = 200

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        return least_squares(self.A, self.At, y, **self._stop(y))

    def _stop(self, y: Tensor) -> Stop:
        default = 1e-12 if y.dtype == torch.float64 else 1e-6
        return {"rtol": default if self.rtol is None else self.rtol, "iterations": self.iterations}


# A rule takes ``(second, first)`` and returns one operator for ``second`` after ``first``, with an
# exact SVD, or None where it knows none.
CompositionRule = Callable[[LinearOperator, LinearOperator], LinearOperator | None]

_RULES: list[CompositionRule] = []


def composition_rule(rule: CompositionRule) -> CompositionRule:
    """Register a rule by which `compose` merges two operators into one with an exact SVD.

    A rule stands in the file of the operator that it makes or knows best. Rules must not contradict
    each other: the first that gives an operator is taken.

    Args:
        rule: ``rule(second, first)`` for operators whose shapes fit. Returns the merged operator,
            or None where the rule does not apply.

    Returns:
        The rule itself, so that this serves as a decorator.
    """
    _RULES.append(rule)
    return rule


def compose(second: LinearOperator, first: LinearOperator) -> LinearOperator:
    """Return ``second`` after ``first``, with an exact SVD where that is known.

    It is known when both are axes operators, both are masks, one is the identity, a mask that is
    the same in all channels stands beside a mixing of colours, or a mask follows a Bayer mosaic or
    compressed sensing; neighbours in a longer chain are merged too. Everything else becomes a
    `Composition`, which has no SVD. Operators of your own join in by `composition_rule`.

    >>> import operators
    >>> blur = operators.gaussian_blur((3, 48, 64), sigma=2.0)
    >>> compose(operators.gray((3, 48, 64)), blur).has_svd
    True
    >>> compose(operators.Mask((3, 48, 64), torch.arange(64).expand(48, 64) < 32), blur).has_svd
    False

    Args:
        second: The operator that is applied last.
        first: The operator that is applied to the picture.

    Raises:
        ValueError: ``first`` gives pictures of another shape than ``second`` takes.
    """
    _check_fit(second, first)
    merged = _merge(second, first)
    if merged is not None:
        return merged

    if isinstance(first, Composition):
        inner = _merge(second, first.second)
        return Composition(second, first) if inner is None else compose(inner, first.first)
    if isinstance(second, Composition):
        inner = _merge(second.first, first)
        return Composition(second, first) if inner is None else compose(second.second, inner)

    return Composition(second, first)


def _merge(second: LinearOperator, first: LinearOperator) -> LinearOperator | None:
    for rule in _RULES:
        merged = rule(second, first)
        if merged is not None:
            return merged
    return None


def _check_fit(second: LinearOperator, first: LinearOperator) -> None:
    if second.input_shape != first.output_shape:
        raise ValueError(
            f"the second operator takes pictures of {second.input_shape} (C, H, W), "
            f"but the first one gives {first.output_shape}"
        )


class Composition(IterativeOperator):
    """``A = A₂ A₁``, ``Aᵀ = A₁ᵀ A₂ᵀ``. It has no SVD, even where its factors have one.

    The pseudo-inverse is iterative, see `IterativeOperator` for its accuracy. It is preconditioned
    by the pseudo-inverses of the factors where that leaves the answer unchanged, which is so when
    both have an SVD and

    - ``A₁`` reaches every picture, as an invertible blur does (then A has the range of ``A₂``), or
    - ``A₂`` loses nothing (then A has the null space of ``A₁``),

    and where it helps: when the other factor keeps at least 70 % of the components. On 16×16
    pictures, a blur of κ = 3500 and a mask with a hole of 8×8 then take 31 iterations instead of
    1076, and with 10 % of the pixels unknown at random 56 instead of 2326; with 40 % or more
    unknown at random the preconditioner costs more than it brings.

    Use `compose`, which keeps the SVD where it can.

    Args:
        second: ``A₂``, which is applied last.
        first: ``A₁``, which is applied to the picture.

    Raises:
        ValueError: ``first`` gives pictures of another shape than ``second`` takes.
    """

    def __init__(self, second: LinearOperator, first: LinearOperator) -> None:
        _check_fit(second, first)
        super().__init__(first.input_shape, second.output_shape)
        self.second = second
        self.first = first

    @cached_property
    def _known_side(self) -> str:
        """Side that a preconditioner may act on: "range", "null space" or "none"."""
        factors = self._spectral_factors()
        if factors is None:
            return "none"

        second, first = (_rank_fraction(factor, self.first.output_shape) for factor in factors)
        if first == 1 and second >= KEPT:
            return "range"

        return "null space" if second == 1 and first >= KEPT else "none"

    def _spectral_factors(self) -> tuple[SpectralOperator, SpectralOperator] | None:
        """Both factors, ``A₂`` and ``A₁``, or None if one has no SVD."""
        second = self.second
        first = self.first
        if isinstance(second, SpectralOperator) and isinstance(first, SpectralOperator):
            return second, first
        return None

    def A(self, x: Tensor) -> Tensor:
        return self.second.A(self.first.A(x))

    def At(self, y: Tensor) -> Tensor:
        return self.first.At(self.second.At(y))

    def visible(self, x: Tensor) -> Tensor:
        return self.first.visible(x)

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        factors = self._spectral_factors()
        if factors is None or self._known_side == "none":
            return super().pseudo_inverse(y)
        if self._known_side == "range":
            return self._inverse_in_range(*factors, y)

        return least_squares(
            self.A,
            self.At,
            y,
            precondition=lambda x: _near_inverse_of_normal(*factors, x),
            **self._stop(y),
        )

    def _inverse_in_range(
        self, second: SpectralOperator, first: SpectralOperator, y: Tensor
    ) -> Tensor:
        """``Aᵀ (A Aᵀ)⁺`` of the part of ``y`` that lies in the range of ``A₂``."""
        z = conjugate_gradient(
            lambda z: self.A(self.At(z)),
            second.A(second.pseudo_inverse(y)),
            precondition=lambda r: _near_inverse_of_gram(second, first, r),
            **self._stop(y),
        )
        return self.At(z)


def _near_inverse_of_gram(second: SpectralOperator, first: SpectralOperator, r: Tensor) -> Tensor:
    """``A₂⁺ᵀ (A₁ A₁ᵀ)⁺ A₂⁺ r``, near ``(A Aᵀ)⁺ r``."""
    squared = first.inverse_singular_values() ** 2
    between = first.U(squared * first.Ut(second.pseudo_inverse(r)))
    return _pseudo_inverse_transpose(second, between)


def _near_inverse_of_normal(second: SpectralOperator, first: SpectralOperator, x: Tensor) -> Tensor:
    """``A₁⁺ A₂⁺ A₂⁺ᵀ A₁⁺ᵀ x``, near ``(AᵀA)⁺ x``."""
    y = _pseudo_inverse_transpose(second, _pseudo_inverse_transpose(first, x))
    return first.pseudo_inverse(second.pseudo_inverse(y))


def _rank_fraction(operator: SpectralOperator, shape: Shape) -> float:
    """Rank (the lowest in a batch) over the number of values in a picture of ``shape``."""
    rank = (operator.singular_values > 0).sum(dim=(-3, -2, -1))
    return int(rank.min()) / torch.Size(shape).numel()


def _pseudo_inverse_transpose(operator: SpectralOperator, x: Tensor) -> Tensor:
    """``A⁺ᵀ x``: ``[B, *input_shape]`` to ``[B, *output_shape]``."""
    return operator.U(operator.inverse_singular_values() * operator.Vt(x))
