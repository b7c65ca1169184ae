"""The colour filter array of a camera: one colour measured at each pixel."""

from __future__ import annotations

import torch
from torch import Tensor

from operators.base import Shape
from operators.sensing import OrthonormalRows

# The colours at (0, 0), (0, 1), (1, 0), (1, 1), repeated over the picture.
BAYER_PATTERNS = ("RGGB", "BGGR", "GRBG", "GBRG")


class Bayer(OrthonormalRows):
    """Mosaic of a Bayer sensor, ``[3, H, W]`` to ``[1, H, W]``: one colour at each pixel.

    Its inverse problem is demosaicking. Each row of A picks one value, so U is the identity, all
    singular values are 1, and V puts a value back into its colour and zeros into the others.

    >>> red, green, blue = (torch.full((1, 1, 2, 2), value) for value in (0.0, 0.5, 1.0))
    >>> Bayer((3, 2, 2), "RGGB").A(torch.cat([red, green, blue], dim=1)).tolist()
    [[[[0.0, 0.5], [0.5, 1.0]]]]

    Args:
        input_shape: (3, H, W) of the picture, red first; any H and W.
        pattern: One of `BAYER_PATTERNS`, the colours of the upper left 2×2 pixels, row by row.
        dtype: Type of the singular values.

    Raises:
        ValueError: The picture does not have three channels, or the pattern is unknown.
    """

    def __init__(
        self, input_shape: Shape, pattern: str = "RGGB", *, dtype: torch.dtype = torch.float32
    ) -> None:
        if input_shape[0] != 3:
            raise ValueError(
                f"a Bayer mosaic is made of 3 channels (red, green, blue), not {input_shape[0]}"
            )
        if pattern not in BAYER_PATTERNS:
            raise ValueError(
                f"a Bayer pattern is one of {', '.join(BAYER_PATTERNS)}, not {pattern!r}"
            )

        super().__init__(input_shape, (1, *input_shape[1:]), dtype)
        self.colors = ["RGB".index(color) for color in pattern]

    def V(self, spectrum: Tensor) -> Tensor:
        x = spectrum.new_zeros(len(spectrum), *self.input_shape)
        for place, color in enumerate(self.colors):
            _at(x, place, color).copy_(_at(spectrum, place))
        return x

    def Vt(self, x: Tensor) -> Tensor:
        y = x.new_empty(len(x), *self.output_shape)
        for place, color in enumerate(self.colors):
            _at(y, place).copy_(_at(x, place, color))
        return y


def _at(x: Tensor, place: int, channel: int = 0) -> Tensor:
    """View of one channel at one of the four places of every 2×2 pixels, row by row."""
    return x[:, channel, place // 2 :: 2, place % 2 :: 2]
