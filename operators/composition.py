"""Operators made of others: one after another, from a function, one for each picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

from operators.axes import AxesOperator
from operators.base import LinearOperator, Shape, SpectralOperator
from operators.color import MaskedColor
from operators.iterative import IterativeOperator, conjugate_gradient, least_squares
from operators.mask import Mask
from operators.sensing import MaskedRows, OrthonormalRows

Map = Callable[[Tensor], Tensor]

KEPT = 0.7
"""A composition is preconditioned when the other factor keeps at least this share of the components
(measured).
"""


def compose(second: LinearOperator, first: LinearOperator) -> LinearOperator:
    """``second`` after ``first``, with an exact SVD where that is known.

    It is known when both are axes operators, both are masks, one is the identity, a mask that is
    the same in all channels stands beside a mixing of colours, or a mask follows a Bayer mosaic or
    compressed sensing; neighbours in a longer chain are merged too. Everything else becomes a
    `Composition`, which has no SVD.

    Raises:
        ValueError: the pictures that ``first`` gives are not those that ``second`` takes.
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
    if _is_identity(second):
        return first
    if _is_identity(first):
        return second
    if isinstance(second, AxesOperator) and isinstance(first, AxesOperator):
        return second @ first
    if isinstance(second, Mask):
        return _masked(second.singular_values, first)
    if (
        isinstance(first, Mask)
        and _only_colors(second)
        and _alike_in_channels(first.singular_values)
    ):
        known = first.singular_values[..., :1, :, :]
        return MaskedColor(first.input_shape, second.matrices[0], known, dtype=known.dtype)

    return None


def _masked(known: Tensor, first: LinearOperator) -> LinearOperator | None:
    """A mask after an operator, where that has an SVD."""
    if isinstance(first, Mask):
        return Mask(first.input_shape, known * first.singular_values, dtype=known.dtype)
    if isinstance(first, OrthonormalRows):
        return MaskedRows(first, known)
    if isinstance(first, MaskedRows):
        return MaskedRows(first.rows, known * first.singular_values)
    if not _alike_in_channels(known):
        return None
    if isinstance(first, MaskedColor):
        known = known[..., :1, :, :] * first.known
        return MaskedColor(first.input_shape, first.matrix, known, dtype=known.dtype)
    if _only_colors(first):
        return MaskedColor(
            first.input_shape, first.matrices[0], known[..., :1, :, :], dtype=known.dtype
        )

    return None


def _only_colors(operator: LinearOperator) -> bool:
    return isinstance(operator, AxesOperator) and all(
        matrix is None for matrix in operator.matrices[1:]
    )


def _alike_in_channels(known: Tensor) -> bool:
    return bool((known == known[..., :1, :, :]).all())


def _is_identity(operator: LinearOperator) -> bool:
    return isinstance(operator, AxesOperator) and all(
        matrix is None for matrix in operator.matrices
    )


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
    1076 (10 % of the pixels unknown at
    random: 56, not 2326), while with 40 % or more unknown at random the preconditioner costs more
        than it brings.

    Use `compose`, which keeps the SVD where it can.

    Args:
        second, first: applied right to left, as they are written in ``A₂ A₁``.

    Raises:
        ValueError: the pictures that ``first`` gives are not those that ``second`` takes.
    """

    def __init__(self, second: LinearOperator, first: LinearOperator) -> None:
        _check_fit(second, first)
        super().__init__(first.input_shape, second.output_shape)
        self.second = second
        self.first = first

    @cached_property
    def _known_side(self) -> str:
        """The side that a preconditioner may act on: "range", "null space" or "none". Needs the SVD
        of both factors.
        """
        if not (self.second.has_svd and self.first.has_svd):
            return "none"

        first, second = (
            _rank_share(factor, self.first.output_shape) for factor in (self.first, self.second)
        )
        if first == 1 and second >= KEPT:
            return "range"

        return "null space" if second == 1 and first >= KEPT else "none"

    def A(self, x: Tensor) -> Tensor:
        return self.second.A(self.first.A(x))

    def At(self, y: Tensor) -> Tensor:
        return self.first.At(self.second.At(y))

    def visible(self, x: Tensor) -> Tensor:
        return self.first.visible(x)

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        if self._known_side == "range":
            y = self.second.A(self.second.pseudo_inverse(y))
            z = conjugate_gradient(
                lambda z: self.A(self.At(z)),
                y,
                precondition=self._inverse_of_squared,
                **self._stop(y),
            )
            return self.At(z)

        precondition = None
        if self._known_side == "null space":

            def precondition(g: Tensor) -> Tensor:
                return self._factors_inverse(self._factors_inverse_transpose(g))

        return least_squares(self.A, self.At, y, precondition=precondition, **self._stop(y))

    def _inverse_of_squared(self, r: Tensor) -> Tensor:
        """``A₂⁺ᵀ (A₁ A₁ᵀ)⁺ A₂⁺``, near ``(A Aᵀ)⁺``."""
        first = self.first
        squared = first.inverse_singular_values() ** 2
        return _pseudo_inverse_transpose(
            self.second, first.U(squared * first.Ut(self.second.pseudo_inverse(r)))
        )

    def _factors_inverse(self, y: Tensor) -> Tensor:
        return self.first.pseudo_inverse(self.second.pseudo_inverse(y))

    def _factors_inverse_transpose(self, x: Tensor) -> Tensor:
        return _pseudo_inverse_transpose(self.second, _pseudo_inverse_transpose(self.first, x))


def _rank_share(operator: SpectralOperator, shape: Shape) -> float:
    """Rank of an operator (of the worst one in a batch) as a share of the dimensions of pictures of
    ``shape``.
    """
    rank = (operator.singular_values > 0).sum(dim=(-3, -2, -1))
    return int(rank.min()) / torch.Size(shape).numel()


def _pseudo_inverse_transpose(operator: SpectralOperator, x: Tensor) -> Tensor:
    return operator.U(operator.inverse_singular_values() * operator.Vt(x))


def adjoint_of(function: Map, input_shape: Shape) -> Map:
    """The adjoint of a linear function of pictures, by automatic differentiation; exact up to
    rounding.

    For a linear function the vector–Jacobian product ``Jᵀ y`` is ``Aᵀ y`` at whatever picture it is
    taken. It costs one run of ``function`` forwards and one backwards, and works in ``no_grad`` and
    ``inference_mode`` too, as long as the tensors that the function holds were not themselves made
    in ``inference_mode``.

    Args:
        function: ``[B, *input_shape]`` to ``[B, …]``, written in differentiable operations of
            PyTorch.
        input_shape: (C, H, W) of its pictures.
    """

    def adjoint(y: Tensor) -> Tensor:
        if torch.is_inference_mode_enabled():  # automatic differentiation does not exist in there
            with torch.inference_mode(False), torch.no_grad():
                return adjoint(y.clone())
        _, pull_back = torch.func.vjp(function, y.new_zeros(len(y), *input_shape))
        return pull_back(y)[0]

    return adjoint


class FunctionOperator(IterativeOperator):
    """Your own operator, from ``A`` alone.

    >>> flip = FunctionOperator(lambda x: 0.5 * x.flip(-2), (3, 6, 5))

    The adjoint comes from automatic differentiation (`adjoint_of`), the pseudo-inverse from
    conjugate gradients, see `IterativeOperator` for its accuracy.

    Args:
        function: ``A``, a linear function of batches ``[B, C, H, W]`` that treats each picture on
            its own. A module moves with ``operator.to(device)``; tensors that a plain function
            holds do not.
        input_shape: (C, H, W) of a picture.
        output_shape: (C, H, W) of a measurement; found by running the function when it is None.
        dtype, device: of the pictures that the function is tried on.

    Raises:
        ValueError: the function does not give a batch of pictures of ``output_shape``, or is not
            linear: it is tried on random pictures at three scales of brightness.
    """

    def __init__(
        self,
        function: Map,
        input_shape: Shape,
        output_shape: Shape | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        generator = torch.Generator().manual_seed(0)
        pictures = torch.randn(2, *input_shape, generator=generator, dtype=torch.float64).to(
            device, dtype
        )
        with torch.no_grad():
            found = _check_linear(function, pictures)

        if output_shape is not None and tuple(output_shape) != found:
            raise ValueError(
                f"the function gives pictures of {found} (C, H, W), not of {tuple(output_shape)}"
            )

        super().__init__(input_shape, found)
        self.function = function
        self.adjoint = adjoint_of(function, self.input_shape)
        self.register_buffer("_like", torch.zeros((), dtype=dtype, device=device), persistent=False)

    def A(self, x: Tensor) -> Tensor:
        return self.function(x)

    def At(self, y: Tensor) -> Tensor:
        return self.adjoint(y)


def _check_linear(function: Map, pictures: Tensor) -> Shape:
    """The output shape of a function on a batch of two pictures, if it is linear."""
    y = function(pictures)
    if not isinstance(y, Tensor) or y.ndim != 4 or len(y) != 2:
        found = f"shape {tuple(y.shape)}" if isinstance(y, Tensor) else f"a {type(y).__name__}"
        raise ValueError(
            "the function must turn a batch of pictures [B, C, H, W] into another; of "
            f"{tuple(pictures.shape)} it made {found}"
        )

    tolerance = 1e3 * torch.finfo(pictures.dtype).eps
    allowed = tolerance * float(y.abs().max())

    for scale in (1e-3, 1.0, 1e3):
        mixed = function(scale * (pictures[:1] - 0.7 * pictures[1:])) / scale
        error = float((mixed - (y[:1] - 0.7 * y[1:])).abs().max())
        if not error <= allowed:
            raise ValueError(
                f"the function is not linear: A({scale:g} (x − 0.7 z)) and {scale:g} (A(x) − 0.7 "
                f"A(z)) differ by {error * scale:.3g} for random pictures x and z (offsets, "
                "clipping, rounding, random numbers and mixing the pictures of a batch are not "
                "linear)"
            )

    return tuple(y.shape[1:])


def batch_of(operators: Sequence[LinearOperator]) -> BatchOperator:
    """One operator for each picture of a batch; with an SVD if all have one and their spectra have
    one shape.

    Raises:
        ValueError: no operators, different shapes, or one that is itself made for a batch of
            several pictures.
    """
    spectra = {tuple(op.singular_values.shape[-3:]) if op.has_svd else None for op in operators}
    if None in spectra or len(spectra) != 1:
        return BatchOperator(operators)
    return SpectralBatchOperator(operators)


class BatchOperator(LinearOperator):
    """One operator for each picture of a batch: picture i is degraded by operator i.

    Every map takes batches of exactly so many pictures as there are operators. Make it with
    `batch_of`, which keeps the SVD where there is one.

    Args:
        operators: with equal input shapes and equal output shapes.

    Raises:
        ValueError: no operators, different shapes, or one that is itself made for a batch of
            several pictures.
    """

    def __init__(self, operators: Sequence[LinearOperator]) -> None:
        operators = list(operators)
        if not operators:
            raise ValueError("a batch needs at least one operator")

        for i, operator in enumerate(operators):
            if (operator.input_shape, operator.output_shape) != (
                operators[0].input_shape,
                operators[0].output_shape,
            ):
                raise ValueError(
                    "the operators of a batch need equal shapes: number 0 is "
                    f"{operators[0].extra_repr()}, number {i} is {operator.extra_repr()}"
                )
            if (
                operator.has_svd
                and operator.singular_values.ndim == 4
                and len(operator.singular_values) != 1
            ):
                raise ValueError(
                    f"operator number {i} is itself made for {len(operator.singular_values)} "
                    "pictures"
                )

        super().__init__(operators[0].input_shape, operators[0].output_shape)
        self.operators = nn.ModuleList(operators)

    def A(self, x: Tensor) -> Tensor:
        return self._each("A", x)

    def At(self, y: Tensor) -> Tensor:
        return self._each("At", y)

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        return self._each("pseudo_inverse", y)

    def _each(self, name: str, x: Tensor) -> Tensor:
        if len(x) != len(self.operators):
            raise ValueError(f"{len(self.operators)} operators need as many pictures, not {len(x)}")
        return torch.cat([getattr(op, name)(x[i : i + 1]) for i, op in enumerate(self.operators)])


class SpectralBatchOperator(BatchOperator, SpectralOperator):
    """A `BatchOperator` whose operators have SVDs: ``singular_values`` is ``[B, C', H', W']``.

    Raises:
        ValueError: as `BatchOperator`, and for operators without an SVD or with spectra of
            different shapes.
    """

    def __init__(self, operators: Sequence[SpectralOperator]) -> None:
        super().__init__(operators)
        if not all(op.has_svd for op in self.operators):
            raise ValueError("every operator of a spectral batch needs an SVD")

        spectra = [
            op.singular_values.reshape(op.singular_values.shape[-3:]) for op in self.operators
        ]
        if len({s.shape for s in spectra}) != 1:
            raise ValueError(
                f"the spectra have different shapes: {[tuple(s.shape) for s in spectra]}"
            )

        self.register_buffer("singular_values", torch.stack(spectra))

    def V(self, spectrum: Tensor) -> Tensor:
        return self._each("V", spectrum)

    def Vt(self, x: Tensor) -> Tensor:
        return self._each("Vt", x)

    def U(self, spectrum: Tensor) -> Tensor:
        return self._each("U", spectrum)

    def Ut(self, y: Tensor) -> Tensor:
        return self._each("Ut", y)
