"""Mixing of colour channels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from operators.axes import AxesOperator
from operators.base import LinearOperator, Shape, SpectralOperator, composition_rule
from operators.mask import Mask

# Weights of ITU-R BT.601, with which Pillow, OpenCV and most cameras make a grey picture.
LUMA_BT601 = (0.299, 0.587, 0.114)


def gray(
    input_shape: Shape,
    weights: Sequence[float] = LUMA_BT601,
    *,
    dtype: torch.dtype = torch.float32,
) -> AxesOperator:
    """Turn colour into grey: one channel, the weighted sum of the picture's channels.

    >>> gray((3, 4, 4)).output_shape
    (1, 4, 4)

    Args:
        input_shape: (C, H, W) of the picture.
        weights: Weight of each channel.
        dtype: Type of the stored matrix.

    Raises:
        ValueError: There are more or fewer weights than channels.
    """
    if len(weights) != input_shape[0]:
        raise ValueError(f"{input_shape[0]} channels need as many weights, not {len(weights)}")
    return AxesOperator(input_shape, np.asarray([weights], dtype=np.float64), dtype=dtype)


def color_mix(
    input_shape: Shape, matrix: ArrayLike, *, dtype: torch.dtype = torch.float32
) -> AxesOperator:
    """Multiply every pixel's colour by a matrix: ``[C, H, W]`` to ``[m, H, W]``.

    >>> swap = color_mix((3, 1, 1), [[0, 0, 1], [0, 1, 0], [1, 0, 0]])
    >>> swap.A(torch.tensor([0.1, 0.5, 0.9]).reshape(1, 3, 1, 1)).flatten().tolist() == (
    ...     torch.tensor([0.9, 0.5, 0.1]).tolist()
    ... )
    True

    Args:
        input_shape: (C, H, W) of the picture.
        matrix: ``[m, C]``, a row for each channel of the measurement: 1×3 is a grey picture, 3×3
            the colour matrix of a camera. m may exceed C, and rows may depend on each other.
        dtype: Type of the stored matrix.

    Raises:
        ValueError: The matrix has another shape, is not finite, or is all zero.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    channels = input_shape[0]
    if matrix.ndim != 2 or matrix.shape[0] < 1 or matrix.shape[1] != channels:
        raise ValueError(
            f"a colour matrix for {channels} channels must be [m, {channels}], a row for each "
            f"channel of the measurement, not of shape {matrix.shape}"
        )

    return AxesOperator(input_shape, matrix, dtype=dtype)


class MaskedColor(SpectralOperator):
    """``y = known · (matrix · x)``: colours mixed, then the same pixels lost in all mixed channels.

    The measurement of a grey picture with holes is an example. ``A = A_c ⊗ M`` with M the diagonal
    of the map, so its SVD is that of the small colour matrix times the map: ``U = U_c``,
    ``V = V_c``, singular values ``s_c ⊗ known``. A map for each channel would break this, and is
    refused.

    >>> import operators
    >>> known = operators.masks.box((8, 8), 2, 2)
    >>> isinstance(operators.Mask((1, 8, 8), known) @ gray((3, 8, 8)), MaskedColor)
    True

    Args:
        input_shape: (C, H, W) of the picture.
        matrix: ``[m, C]``, see `color_mix`.
        known: True where a pixel was measured: ``[H, W]``, ``[1, H, W]``, or ``[B, 1, H, W]`` for
            one map per picture of a batch.
        dtype: Type of the stored matrix and map.

    Raises:
        ValueError: The matrix or the map does not fit the picture, or the map has other values than
            0 and 1.
    """

    known: Tensor

    def __init__(
        self,
        input_shape: Shape,
        matrix: ArrayLike,
        known: Tensor,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        color = color_mix(input_shape, matrix, dtype=dtype)
        super().__init__(input_shape, color.output_shape)
        known = torch.as_tensor(known)
        if known.ndim in (3, 4) and known.shape[-3] != 1:
            raise ValueError(
                "the map must be the same for all channels, [H, W] or [B, 1, H, W], not "
                f"{tuple(known.shape)}"
            )

        known = Mask((1, *input_shape[1:]), known, dtype=dtype).singular_values
        self.color = color
        self.matrix = np.asarray(matrix, dtype=np.float64)
        self.register_buffer("known", known)
        self.register_buffer("singular_values", color.singular_values * known)

    def V(self, spectrum: Tensor) -> Tensor:
        return self.color.V(spectrum)

    def Vt(self, x: Tensor) -> Tensor:
        return self.color.Vt(x)

    def U(self, spectrum: Tensor) -> Tensor:
        return self.color.U(spectrum)

    def Ut(self, y: Tensor) -> Tensor:
        return self.color.Ut(y)


@composition_rule
def _mask_after_colors(second: LinearOperator, first: LinearOperator) -> MaskedColor | None:
    if not (isinstance(second, Mask) and second.alike_in_channels):
        return None

    known = second.singular_values[..., :1, :, :]
    if isinstance(first, MaskedColor):
        known = known * first.known
        return MaskedColor(first.input_shape, first.matrix, known, dtype=known.dtype)
    if isinstance(first, AxesOperator) and first.color_matrix is not None:
        return MaskedColor(first.input_shape, first.color_matrix, known, dtype=known.dtype)

    return None


@composition_rule
def _colors_after_mask(second: LinearOperator, first: LinearOperator) -> MaskedColor | None:
    if not (isinstance(second, AxesOperator) and second.color_matrix is not None):
        return None
    if not (isinstance(first, Mask) and first.alike_in_channels):
        return None

    known = first.singular_values[..., :1, :, :]
    return MaskedColor(first.input_shape, second.color_matrix, known, dtype=known.dtype)
