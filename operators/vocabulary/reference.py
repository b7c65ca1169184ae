"""Words for the degradations of DDRM's published code: ``ddrm-reference:deblur_uni``, …"""

from __future__ import annotations

from typing import Any

from operators.base import Shape, SpectralOperator
from operators.grammar import Parameter, Word
from operators.parameters import (
    SEED,
    colors_mixed_into,
    number_from,
    read_yes,
    whole_from,
)
from operators.reference import REFERENCE_NAMES, ddrm_reference

FACTOR = Parameter("factor", whole_from(1), "a whole number")
UNKNOWN = Parameter("fraction", number_from(0, 1), "the fraction of unknown pixels")
CUT = Parameter("cut", read_yes, "whether small singular values are cut, yes or no", True)
MIXED = Parameter(
    "mixed", read_yes, "whether singular values meet the wrong components, yes or no", False
)


def _reference_word(name: str, about: str) -> Word:
    kind, _, parameter = name.partition(":")

    def build(
        shape: Shape, *, mixed: bool = False, cut: bool = True, seed: int = 0, **values: Any
    ) -> SpectralOperator:
        full = ":".join([kind, *(f"{value:g}" for value in values.values())])
        return ddrm_reference(full, shape, cut=cut, mixed_spectrum=mixed, seed=seed)

    return Word(
        f"ddrm-reference:{kind}",
        f"as DDRM's code: {about}",
        _parameters(kind, parameter),
        build,
        f"ddrm-reference:{kind}" + {"R": ":4", "FRACTION": ":0.5"}.get(parameter, ""),
        grow=colors_mixed_into(1) if kind == "color" else _grow,
        channels=(lambda **_: 1) if kind == "color" else None,
    )


def _parameters(kind: str, parameter: str) -> tuple[Parameter, ...]:
    """Parameters of a degradation; `parameter` is what follows its name in `REFERENCE_NAMES`."""
    parameters: list[Parameter] = []
    if parameter == "R":
        parameters.append(FACTOR)
    if parameter == "FRACTION":
        parameters += [UNKNOWN, SEED]

    blurs = kind.startswith("deblur")
    if blurs or kind == "sr_bicubic":
        parameters.append(CUT)
    if blurs:
        parameters.append(MIXED)

    return tuple(parameters)


def _grow(shape: Shape, *, factor: int = 1, **_: Any) -> Shape:
    return shape[0], shape[1] * factor, shape[2] * factor


REFERENCES = tuple(_reference_word(name, about) for name, about in REFERENCE_NAMES.items())
