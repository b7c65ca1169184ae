"""Words for mixed colours: ``gray``, ``mix:…``, ``bayer``, ``xtrans``, ``cfa:…``."""

from __future__ import annotations

from operators.axes import AxesOperator
from operators.base import Shape
from operators.bayer import BAYER_PATTERNS, Bayer
from operators.color import LUMA_BT601, color_mix, gray
from operators.grammar import Parameter, Word
from operators.mosaic import ColorFilterArray, XTrans, checked_pattern
from operators.parameters import choice, colors_mixed_into, read_matrix

Matrix = tuple[tuple[float, ...], ...]


def _read_weights(text: str) -> Matrix:
    rows = read_matrix(text)
    if len(rows) != 1 or len(rows[0]) != 3:
        raise ValueError("must be 3 numbers; mix makes more channels")
    return rows


def _read_pattern(text: str) -> str:
    return "/".join(checked_pattern(text.split("/")))


def _color_filter_array(shape: Shape, *, pattern: str) -> ColorFilterArray:
    return ColorFilterArray(shape, pattern.split("/"))


def _gray(shape: Shape, *, weights: Matrix) -> AxesOperator:
    if shape[0] != 3:
        raise ValueError(f"3 weights for pictures of {shape[0]} channel(s)")
    return gray(shape, weights[0])


def _grow_mixed(shape: Shape, *, matrix: Matrix) -> Shape:
    return colors_mixed_into(len(matrix))(shape)


GRAY = Word(
    "gray",
    "one channel from three, weights of BT.601 unless given",
    (
        Parameter(
            "weights",
            _read_weights,
            "three numbers joined by commas, as in 0.3,0.6,0.1",
            (LUMA_BT601,),
        ),
    ),
    _gray,
    "gray",
    grow=colors_mixed_into(1),
    channels=lambda **_: 1,
)
MIX = Word(
    "mix",
    "every colour times a matrix",
    (Parameter("matrix", read_matrix, "rows joined by /, as in 1,0,0/0,0.5,0.5"),),
    color_mix,
    "mix:1,0,0/0,0.5,0.5",
    grow=_grow_mixed,
    channels=lambda matrix: len(matrix),
)
BAYER = Word(
    "bayer",
    "the mosaic of a camera's sensor: one colour at each pixel",
    (
        Parameter(
            "pattern",
            choice(*BAYER_PATTERNS),
            "the colours of the upper left 2x2 pixels",
            "RGGB",
        ),
    ),
    Bayer,
    "bayer",
    grow=colors_mixed_into(1),
    channels=lambda **_: 1,
)
XTRANS = Word(
    "xtrans",
    "the mosaic of an X-Trans sensor",
    (),
    XTrans,
    "xtrans",
    grow=colors_mixed_into(1),
    channels=lambda **_: 1,
)
CFA = Word(
    "cfa",
    "the mosaic of any colour filter array",
    (Parameter("pattern", _read_pattern, "rows of R, G and B joined by /, as in RG/GB"),),
    _color_filter_array,
    "cfa:RGB/GBR/BRG",
    grow=colors_mixed_into(1),
    channels=lambda **_: 1,
)
