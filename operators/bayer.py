"""The Bayer filter, the colour filter array of most cameras."""

from __future__ import annotations

import torch

from operators.base import Shape
from operators.mosaic import ColorFilterArray

# The colours at (0, 0), (0, 1), (1, 0), (1, 1), repeated over the picture.
BAYER_PATTERNS = ("RGGB", "BGGR", "GRBG", "GBRG")


class Bayer(ColorFilterArray):
    """Mosaic of a Bayer sensor, ``[3, H, W]`` to ``[1, H, W]``: one colour at each pixel.

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

        super().__init__(input_shape, (pattern[:2], pattern[2:]), dtype=dtype)
