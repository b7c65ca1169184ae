"""One operator for each picture of a batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from operators.base import LinearOperator, SpectralOperator


def batch_of(operators: Sequence[LinearOperator]) -> BatchOperator:
    """Make one operator of one for each picture of a batch.

    It has an SVD if all have one and their spectra have one shape.

    >>> import operators
    >>> blurs = batch_of([operators.gaussian_blur((3, 8, 8), sigma) for sigma in (1.0, 2.0)])
    >>> blurs.A(torch.rand(2, 3, 8, 8)).shape, blurs.has_svd
    (torch.Size([2, 3, 8, 8]), True)

    Args:
        operators: Operators with equal input shapes and equal output shapes.

    Raises:
        ValueError: There are no operators, their shapes differ, or one is itself made for a batch
            of several pictures.
    """
    spectral = [op for op in operators if isinstance(op, SpectralOperator)]
    spectra = {op.singular_values.shape[-3:] for op in spectral}
    if len(spectral) == len(operators) and len(spectra) == 1:
        return SpectralBatchOperator(spectral)

    return BatchOperator(operators)


class BatchOperator(LinearOperator):
    """One operator for each picture of a batch: picture i is degraded by operator i.

    Every map takes batches of exactly so many pictures as there are operators. Make it with
    `batch_of`, which keeps the SVD where there is one.

    Args:
        operators: Operators with equal input shapes and equal output shapes.

    Raises:
        ValueError: There are no operators, their shapes differ, or one is itself made for a batch
            of several pictures.
    """

    def __init__(self, operators: Sequence[LinearOperator]) -> None:
        operators = list(operators)
        _check_alike(operators)
        super().__init__(operators[0].input_shape, operators[0].output_shape)
        self.operators = nn.ModuleList(operators)

    def A(self, x: Tensor) -> Tensor:
        return self._each("A", x)

    def At(self, y: Tensor) -> Tensor:
        return self._each("At", y)

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        return self._each("pseudo_inverse", y)

    def _each(self, name: str, x: Tensor) -> Tensor:
        """Apply the map of this name, each operator's to its picture."""
        if len(x) != len(self.operators):
            raise ValueError(f"{len(self.operators)} operators need as many pictures, not {len(x)}")
        return torch.cat([getattr(op, name)(x[i : i + 1]) for i, op in enumerate(self.operators)])


def _check_alike(operators: Sequence[LinearOperator]) -> None:
    if not operators:
        raise ValueError("a batch needs at least one operator")

    first = operators[0]
    for i, operator in enumerate(operators):
        if (operator.input_shape, operator.output_shape) != (first.input_shape, first.output_shape):
            raise ValueError(
                f"the operators of a batch need equal shapes: number 0 is {first.extra_repr()}, "
                f"number {i} is {operator.extra_repr()}"
            )

        pictures = _own_pictures(operator)
        if pictures != 1:
            raise ValueError(f"operator number {i} is itself made for {pictures} pictures")


def _own_pictures(operator: LinearOperator) -> int:
    """Number of pictures that have a spectrum of their own; 1 if any number shares one."""
    if isinstance(operator, SpectralOperator) and operator.singular_values.ndim == 4:
        return len(operator.singular_values)
    return 1


class SpectralBatchOperator(BatchOperator, SpectralOperator):
    """A `BatchOperator` whose operators have SVDs: ``singular_values`` is ``[B, C', H', W']``.

    Raises:
        ValueError: As `BatchOperator`; or an operator has no SVD, or spectra have different shapes.
    """

    def __init__(self, operators: Sequence[SpectralOperator]) -> None:
        super().__init__(operators)
        if not all(op.has_svd for op in operators):
            raise ValueError("every operator of a spectral batch needs an SVD")

        spectra = [op.singular_values.reshape(op.singular_values.shape[-3:]) for op in operators]
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
