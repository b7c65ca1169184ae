"""Masks: pixels that were measured and pixels that were not."""

from __future__ import annotations

import torch
from torch import Tensor

from operators.base import LinearOperator, Shape, SpectralOperator, composition_rule


class Mask(SpectralOperator):
    """``y = known · x``: unknown pixels are zero in the measurement.

    Its SVD is trivial: U and V are the identity and the singular values are the map itself.
    `operators.masks` makes maps.

    >>> mask = Mask((1, 2, 2), torch.tensor([[True, False], [True, True]]))
    >>> mask.A(torch.full((1, 1, 2, 2), 0.5)).tolist()
    [[[[0.5, 0.0], [0.5, 0.5]]]]

    Args:
        input_shape: (C, H, W) of the picture.
        known: True where a pixel was measured: ``[H, W]``, ``[1, H, W]``, ``[C, H, W]`` for one map
            per channel, or ``[B, 1 or C, H, W]`` for one map per picture of a batch.
        dtype: Type of the stored map.

    Raises:
        ValueError: The map does not fit the picture, or has other values than 0 and 1.
    """

    has_own_values = True

    def __init__(
        self, input_shape: Shape, known: Tensor, *, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__(input_shape, input_shape)
        known = torch.as_tensor(known).to(dtype)
        if known.ndim == 2:
            known = known[None]
        if known.ndim not in (3, 4) or known.shape[-2:] != tuple(input_shape[1:]):
            raise ValueError(
                f"a mask of shape {tuple(known.shape)} does not fit a picture of {input_shape}"
            )
        if known.shape[-3] not in (1, input_shape[0]):
            raise ValueError(f"a mask has 1 or {input_shape[0]} channels, not {known.shape[-3]}")
        if not ((known == 0) | (known == 1)).all():
            raise ValueError("a mask is 0 (unknown) or 1 (known) at every pixel")

        expanded = known.expand(*known.shape[:-3], *input_shape)
        self.register_buffer("singular_values", expanded.contiguous())

    def V(self, spectrum: Tensor) -> Tensor:
        return spectrum

    def Vt(self, x: Tensor) -> Tensor:
        return x

    def U(self, spectrum: Tensor) -> Tensor:
        return spectrum

    def Ut(self, y: Tensor) -> Tensor:
        return y

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        return self.singular_values * y

    @property
    def alike_in_channels(self) -> bool:
        """True if every channel has the same map."""
        known = self.singular_values
        return bool((known == known[..., :1, :, :]).all())


@composition_rule
def _both_masks(second: LinearOperator, first: LinearOperator) -> Mask | None:
    if not (isinstance(second, Mask) and isinstance(first, Mask)):
        return None

    known = second.singular_values * first.singular_values
    return Mask(first.input_shape, known, dtype=second.singular_values.dtype)
