"""One operator for each picture of a batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from operators.base import LinearOperator, SpectralOperator


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
