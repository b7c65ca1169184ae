"""Mosaics of cameras' sensors: a colour filter array lets one colour through at each pixel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from operators.base import Shape
from operators.sensing import OrthonormalRows

# Rows of Fujifilm's X-Trans array, as US patent 8,456,553 B2 draws its first arrangement; a camera
# may begin at any of its pixels.
X_TRANS_PATTERN = ("GBGGRG", "RGRBGB", "GBGGRG", "GRGGBG", "BGBRGR", "GRGGBG")

# A larger pattern is a mistake, and it would be slow: its places are copied one by one.
LARGEST_PERIOD = 16


class ColorFilterArray(OrthonormalRows):
    """Mosaic of a sensor, ``[3, H, W]`` to ``[1, H, W]``: one colour at each pixel.

    Its inverse problem is demosaicking. Each row of A picks one value, so U is the identity, all
    singular values are 1, and V puts a value back into its colour and zeros into the others.

    >>> red, green, blue = (torch.full((1, 1, 2, 3), value) for value in (0.0, 0.5, 1.0))
    >>> x = torch.cat([red, green, blue], dim=1)
    >>> ColorFilterArray((3, 2, 3), ["RGB"]).A(x).tolist()
    [[[[0.0, 0.5, 1.0], [0.0, 0.5, 1.0]]]]

    Args:
        input_shape: (3, H, W) of the picture, red first; any H and W.
        pattern: Rows of the letters R, G and B, repeated over the picture from its upper left
            corner on.
        dtype: Type of the singular values.

    Raises:
        ValueError: The picture does not have three channels, or the pattern is no such rows of
            equal length, at most 16x16.
    """

    def __init__(
        self, input_shape: Shape, pattern: Sequence[str], *, dtype: torch.dtype = torch.float32
    ) -> None:
        if input_shape[0] != 3:
            raise ValueError(
                f"a mosaic is made of 3 channels (red, green, blue), not {input_shape[0]}"
            )
        self.pattern = checked_pattern(pattern)
        super().__init__(input_shape, (1, *input_shape[1:]), dtype)

    def V(self, spectrum: Tensor) -> Tensor:
        x = spectrum.new_zeros(len(spectrum), *self.input_shape)
        for row, column, color in self._places():
            self._at(x, row, column, color).copy_(self._at(spectrum, row, column))
        return x

    def Vt(self, x: Tensor) -> Tensor:
        y = x.new_empty(len(x), *self.output_shape)
        for row, column, color in self._places():
            self._at(y, row, column).copy_(self._at(x, row, column, color))
        return y

    def _places(self) -> list[tuple[int, int, int]]:
        """Return row, column and channel of every place of the pattern."""
        return [
            (row, column, "RGB".index(color))
            for row, colors in enumerate(self.pattern)
            for column, color in enumerate(colors)
        ]

    def _at(self, x: Tensor, row: int, column: int, channel: int = 0) -> Tensor:
        """View of one channel at one place of every repetition of the pattern."""
        return x[:, channel, row :: len(self.pattern), column :: len(self.pattern[0])]


class XTrans(ColorFilterArray):
    """Mosaic of an X-Trans sensor, whose pattern of 6x6 pixels is Fujifilm's.

    >>> XTrans((3, 12, 18)).output_shape
    (1, 12, 18)

    Args:
        input_shape: (3, H, W) of the picture.
        dtype: Type of the singular values.

    Raises:
        ValueError: The picture does not have three channels.
    """

    def __init__(self, input_shape: Shape, *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(input_shape, X_TRANS_PATTERN, dtype=dtype)


def checked_pattern(pattern: Sequence[str]) -> tuple[str, ...]:
    """Return the rows of a pattern.

    Raises:
        ValueError: They are not rows of R, G and B of equal length, at most 16x16.
    """
    rows = tuple(pattern)
    lengths = {len(row) for row in rows}
    if not rows or len(lengths) > 1 or set("".join(rows)) - set("RGB") or not rows[0]:
        raise ValueError(
            f"a colour filter array is rows of R, G and B of one length, not {'/'.join(rows)!r}"
        )
    if max(len(rows), *lengths) > LARGEST_PERIOD:
        raise ValueError(
            f"a colour filter array repeats after at most {LARGEST_PERIOD} pixels, not "
            f"{max(len(rows), *lengths)}"
        )

    return rows
