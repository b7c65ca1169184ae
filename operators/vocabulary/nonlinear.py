"""Words for what is not linear: ``quantise:3``, ``jpeg:30``."""

from __future__ import annotations

from operators.base import Shape
from operators.grammar import Parameter, Word
from operators.jpeg import Jpeg
from operators.parameters import choice, whole_from
from operators.quantise import Quantise


def _jpeg(shape: Shape, *, quality: int, chroma: str) -> Jpeg:
    if shape[0] != 3:
        raise ValueError(f"JPEG takes pictures of 3 channels, not {shape[0]}")
    return Jpeg(quality, ":".join(chroma))


QUANTISE = Word(
    "quantise",
    "rounded to 2^bits levels; not linear, undone approximately",
    (Parameter("bits", whole_from(1, 16), "a whole number of bits, 1 to 16"),),
    lambda shape, bits: Quantise(bits),
    "quantise:3",
)
JPEG = Word(
    "jpeg",
    "saved as JPEG; not linear, undone approximately",
    (
        Parameter("quality", whole_from(1, 100), "a whole number, 1 to 100"),
        Parameter(
            "chroma",
            choice("420", "444"),
            "chroma at half the size (420) or at full size (444)",
            "420",
        ),
    ),
    _jpeg,
    "jpeg:30",
)
