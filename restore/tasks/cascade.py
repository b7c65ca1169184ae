"""Super-resolution in stages: the factors that make the scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from restore.errors import BadArgument

# ``4x4``, ``4,4`` or ``auto``, or numbers.
Factors = str | Sequence[float]

# Largest factor of a stage that ``auto`` chooses.
LARGEST_FACTOR = 4.0
MAX_NOISE = 0.5
# Relative tolerance between the product of the factors and the scale, which cannot always be
# written exactly.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Cascade:
    """Stages of an enlargement.

    Attributes:
        factors: scale factor of each stage in order, each above 1.
        noise: standard deviation of the noise between two stages, for pixels in [0, 1]; None takes
            the method's, see `restore.methods.method.Method.stage_noise`.
    """

    factors: tuple[float, ...]
    noise: float | None = None


def read_cascade(scale: float, factors: Factors | None, noise: float | None) -> Cascade | None:
    """Check the options of a cascade.

    Args:
        scale: scale factor of the whole enlargement.
        factors: text (``4x4``, ``4,4``, or ``auto`` for factors of at most 4) or numbers.
        noise: see `Cascade`.

    Raises:
        BadArgument: factors that are invalid or do not make the scale, or an invalid noise level.
    """
    if factors is None:
        if noise is not None:
            raise BadArgument(
                f"`cascade_noise`={noise:g}: lies between the stages of a cascade; give `cascade`, "
                "too"
            )
        return None

    numbers = split(float(scale)) if factors == "auto" else _factors(factors)
    product = math.prod(numbers)
    if not math.isclose(product, scale, rel_tol=TOLERANCE):
        raise BadArgument(
            f"`cascade`={_text(factors)}: enlarges by {product:g} in all, and `scale` says "
            f"{scale:g}; make them the same"
        )
    if noise is not None and not 0 <= noise <= MAX_NOISE:
        raise BadArgument(
            f"`cascade_noise`={noise:g}: must be a standard deviation between 0 and {MAX_NOISE:g}"
        )

    return Cascade(numbers, noise)


def split(scale: float) -> tuple[float, ...]:
    """Split a scale into factors from 2 to 4, the last one the smallest.

    >>> split(16), split(6)
    ((4.0, 4.0), (3.0, 2.0))
    """
    if scale <= LARGEST_FACTOR:
        return (scale,)

    last = max(2.0, scale / LARGEST_FACTOR)
    return (*split(scale / last), last)


def _factors(wanted: Factors) -> tuple[float, ...]:
    parts = wanted.replace("x", ",").split(",") if isinstance(wanted, str) else wanted
    try:
        factors = tuple(float(part) for part in parts)
    except (TypeError, ValueError):
        factors = ()

    if not factors or not all(1 < factor < math.inf for factor in factors):
        raise BadArgument(
            f"`cascade`={_text(wanted)}: must be factors above 1 joined by x or commas, as in 4x4; "
            "or auto"
        )

    return factors


def _text(wanted: Any) -> str:
    if isinstance(wanted, str | int | float):
        return str(wanted)
    return ",".join(f"{factor}" for factor in wanted)
