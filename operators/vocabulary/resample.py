"""Words for downsampling: ``down:bicubic:4``, …"""

from __future__ import annotations

import math
from typing import Any

from operators.axes import AlongAxes
from operators.base import Shape
from operators.grammar import Parameter, Word
from operators.parameters import number_from, one_or_two, pair
from operators.resample import downsample

FACTOR = Parameter(
    "factor",
    one_or_two(number_from(1)),
    "how many times smaller, at least 1, fractions too; or HORIZONTALxVERTICAL",
)


def _down_word(kernel: str, about: str) -> Word:
    def build(shape: Shape, *, factor: Any) -> AlongAxes:
        across, down = pair(factor)
        _check_factor(down, shape[1], "high")
        _check_factor(across, shape[2], "wide")
        return downsample(shape, (down, across), kernel=kernel)

    return Word(
        f"down:{kernel}",
        f"made smaller, antialiased: {about}",
        (FACTOR,),
        build,
        f"down:{kernel}:4",
        _grow,
    )


def _check_factor(factor: float, size: int, axis: str) -> None:
    if factor >= size + 1:
        raise ValueError(
            f"the factor {factor:g} leaves no whole pixel of a picture {size} pixels {axis}"
        )


def _grow(shape: Shape, *, factor: Any) -> Shape:
    across, down = pair(factor)
    return shape[0], math.floor(shape[1] * down + 1e-9), math.floor(shape[2] * across + 1e-9)


BICUBIC = _down_word("bicubic", "Keys' cubic")
AREA = _down_word("area", "mean over each pixel's area")
LANCZOS = _down_word("lanczos", "Lanczos, 3 lobes")
