"""Words for compressed sensing: ``hadamard:0.25``, ``blocks:0.25``, ``fourier:0.25``."""

from __future__ import annotations

from typing import Any

from operators.base import Shape
from operators.fourier import PATTERNS, SampledFourier
from operators.grammar import Parameter, Word
from operators.parameters import FRACTION, SEED, choice, whole_from
from operators.sensing import MAX_BLOCK, BlockSensing, Hadamard


def _size_unknown(shape: Shape, **_: Any) -> Shape:
    raise ValueError(
        "its measurement does not tell the size of the picture; say which (--size WIDTHxHEIGHT)"
    )


HADAMARD = Word(
    "hadamard",
    "the first Walsh-Hadamard coefficients of shuffled pixels",
    (FRACTION, SEED),
    Hadamard,
    "hadamard:0.25",
    grow=_size_unknown,
)
BLOCKS = Word(
    "blocks",
    "random orthonormal sums over the pixels of blocks",
    (
        FRACTION,
        Parameter(
            "block",
            whole_from(1),
            f"side of a block in pixels, up to {MAX_BLOCK}",
            32,
            unit="pixels",
        ),
        SEED,
    ),
    BlockSensing,
    "blocks:0.25",
    grow=_size_unknown,
)
FOURIER = Word(
    "fourier",
    "some Fourier coefficients, as magnetic resonance imaging measures",
    (
        FRACTION,
        Parameter(
            "pattern",
            choice(*PATTERNS),
            "which frequencies: random, lines or radial",
            "random",
        ),
        SEED,
    ),
    SampledFourier,
    "fourier:0.25",
    grow=_size_unknown,
)
