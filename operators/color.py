"""Mixing of colour channels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from operators.axes import AxesOperator
from operators.base import Shape

LUMA_BT601 = (0.299, 0.587, 0.114)
"""Weights of ITU-R BT.601, with which Pillow, OpenCV and most cameras make a grey picture."""


def gray(
    input_shape: Shape,
    weights: Sequence[float] = LUMA_BT601,
    *,
    dtype: torch.dtype = torch.float32,
) -> AxesOperator:
    """Colour to grey: one channel, the weighted sum of the picture's channels.

    Raises:
        ValueError: as many weights as channels are needed.
    """
    if len(weights) != input_shape[0]:
        raise ValueError(f"{input_shape[0]} channels need as many weights, not {len(weights)}")
    return AxesOperator(input_shape, np.asarray([weights], dtype=np.float64), dtype=dtype)
