"""Words for lost pixels: ``mask:m.png``, ``mask:random:0.5``, …"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from operators import masks
from operators.base import Shape
from operators.grammar import Parameter, Word
from operators.mask import Mask
from operators.parameters import (
    FRACTION,
    SEED,
    choice,
    number_from,
    one_or_two,
    or_none,
    pair,
    read_length,
    read_path,
    whole_from,
)


def mask_word(
    name: str, about: str, *parameters: Parameter, known: Callable[..., Tensor], example: str
) -> Word:
    """Make the word for a mask.

    Args:
        name: Name behind ``mask:``.
        about: What it does, in one line.
        parameters: Its parameters.
        known: ``known(size, **values)`` makes the map of known pixels of a picture of (height,
            width).
        example: A text that works.
    """

    def build(shape: Shape, **values: object) -> Mask:
        return Mask(shape, known(shape[1:], **values))

    return Word(f"mask:{name}", about, parameters, build, example)


def _read_threshold(text: str) -> float:
    value = number_from(0, 1)(text)
    if value == 1:
        raise ValueError("must be below 1")
    return float(value)


def _from_file(size: masks.Size, path: str, threshold: float, dilate: int) -> Tensor:
    known = masks.from_file(path, threshold=threshold, dilate=dilate)
    if tuple(known.shape) != tuple(size):
        raise ValueError(
            f"the mask is {known.shape[1]}x{known.shape[0]} pixels and the picture "
            f"{size[1]}x{size[0]}; they must be of the same size"
        )
    if bool(known.all()):
        raise ValueError(f"{path} is black everywhere: there is nothing to fill (white = fill)")

    return known


def _strokes(
    size: masks.Size, count: int, seed: int, thickness: float | tuple[float, float]
) -> Tensor:
    return masks.strokes(size, seed, count=count, thickness=pair(thickness))


def _box(
    size: masks.Size, side: int | tuple[int, int], top: int | None, left: int | None
) -> Tensor:
    width, height = pair(side)
    return masks.box(size, height, width, top=top, left=left)


EVERY = Parameter("every", whole_from(2), "n, at least 2", 2)

FILE = mask_word(
    "file",
    "pixels lost where a picture is white",
    Parameter("path", read_path, "a file"),
    Parameter(
        "threshold",
        _read_threshold,
        "a brightness from 0 to below 1; white is above",
        0.5,
        unit="fractions of white",
    ),
    Parameter(
        "dilate",
        whole_from(0),
        "a radius in whole pixels by which holes grow",
        0,
        unit="pixels",
    ),
    known=_from_file,
    example="mask:file:m.png",
)
RANDOM = mask_word(
    "random",
    "pixels lost at random, this fraction stays",
    FRACTION,
    SEED,
    known=lambda size, fraction, seed: masks.random_pixels(size, fraction, seed),
    example="mask:random:0.5",
)
STROKES = mask_word(
    "strokes",
    "brush strokes lost",
    Parameter("count", whole_from(1, 1000), "how many, up to 1000", 6),
    SEED,
    Parameter(
        "thickness",
        one_or_two(read_length),
        "in pixels, or LOWESTxHIGHEST",
        (4.0, 16.0),
        unit="pixels",
    ),
    known=_strokes,
    example="mask:strokes:6",
)
BOX = mask_word(
    "box",
    "a rectangle lost, in the middle unless placed",
    Parameter(
        "side", one_or_two(whole_from(1)), "a side in whole pixels, or WIDTHxHEIGHT", unit="pixels"
    ),
    Parameter("top", or_none(whole_from(0)), "its first row", None, unit="pixels"),
    Parameter("left", or_none(whole_from(0)), "its first column", None, unit="pixels"),
    known=_box,
    example="mask:box:32",
)
BORDER = mask_word(
    "border",
    "a frame lost: outpainting",
    Parameter("width", whole_from(1), "its width in whole pixels", unit="pixels"),
    known=masks.border,
    example="mask:border:16",
)
LINES = mask_word(
    "lines",
    "only every n-th line stays",
    EVERY,
    Parameter("axis", choice("rows", "columns"), "which lines, rows or columns", "rows"),
    known=masks.alternate_lines,
    example="mask:lines:2",
)
CHECKERBOARD = mask_word(
    "checkerboard",
    "only one of n pixels stays, on diagonals",
    EVERY,
    known=lambda size, every: masks.alternate_pixels(size, every, "checkerboard"),
    example="mask:checkerboard:2",
)
GRID = mask_word(
    "grid",
    "only every n-th pixel of every n-th row stays",
    EVERY,
    known=lambda size, every: masks.alternate_pixels(size, every, "grid"),
    example="mask:grid:2",
)
