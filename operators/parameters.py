"""How the text of a parameter is read, and parameters that several words share.

Readers (``read_…``) turn text into a value; their ValueError says what would be right. Functions
with bounds, such as `number_from`, make readers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from operators.base import Shape
from operators.grammar import Parameter

Reader = Callable[[str], Any]

# Lengths below the one and numbers beyond the other are mistyped.
LEAST = 1e-3
MOST = 1e6


def number_from(low: float, high: float = MOST) -> Reader:
    """Make a reader of numbers from ``low`` to ``high``, both included."""

    def read(text: str) -> float:
        value = _finite(text)
        if value < low:
            raise ValueError(f"must be at least {low:g}")
        if value > high:
            raise ValueError(f"must be at most {high:g}")
        return value

    return read


def number_above_zero(high: float = MOST) -> Reader:
    """Make a reader of numbers above 0 and up to ``high``."""
    read_up_to = number_from(-math.inf, high)

    def read(text: str) -> Any:
        value = read_up_to(text)
        if value <= 0:
            raise ValueError("must be above 0")
        return value

    return read


def whole_from(low: int, high: float = MOST) -> Reader:
    """Make a reader of whole numbers from ``low`` to ``high``, both included."""
    read_within = number_from(low, high)

    def read(text: str) -> int:
        value = read_within(text)
        if value != int(value):
            raise ValueError("must be a whole number")
        return int(value)

    return read


def _finite(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError("not a number") from None

    if not math.isfinite(value):
        raise ValueError("not finite")
    return value


read_number = number_from(-MOST)
read_fraction = number_above_zero(1)
_read_above_zero = number_above_zero()


def read_length(text: str) -> float:
    """Read a length in pixels, from `LEAST` to `MOST`."""
    value: float = _read_above_zero(text)
    if value < LEAST:
        raise ValueError(f"must be at least {LEAST:g}")
    return value


def read_seed(text: str) -> int:
    """Read a random seed, a whole number from 0 to below 2^63."""
    if not text.isdecimal() or int(text) >= 2**63:
        raise ValueError("must be a whole number from 0 to below 2^63")
    return int(text)


def read_yes(text: str) -> bool:
    """Read ``yes`` or ``no``."""
    return bool(choice("yes", "no")(text) == "yes")


def read_path(text: str) -> str:
    """Read a path, which must not be empty."""
    if not text:
        raise ValueError("no path")
    return text


def read_matrix(text: str) -> tuple[tuple[float, ...], ...]:
    """Read a matrix: rows joined by ``/``, numbers in a row by commas."""
    rows = tuple(tuple(read_number(value) for value in row.split(",")) for row in text.split("/"))
    if len({len(row) for row in rows}) != 1:
        raise ValueError("rows of different lengths")
    return rows


def choice(*names: str) -> Reader:
    """Make a reader of one of these names."""

    def read(text: str) -> str:
        if text not in names:
            raise ValueError(f"known are {', '.join(names)}")
        return text

    return read


def or_none(read: Reader) -> Reader:
    """Make a reader that takes ``none`` as well."""
    return lambda text: None if text == "none" else read(text)


def one_or_two(read: Reader) -> Reader:
    """Make a reader of ``4``, or ``4x2``: along the width, then along the height."""

    def both(text: str) -> Any:
        pieces = text.split("x")
        if len(pieces) > 2:
            raise ValueError("one number, or two joined by x")
        values = tuple(read(piece) for piece in pieces)
        return values[0] if len(values) == 1 else values

    return both


def pair(value: Any) -> tuple[Any, Any]:
    """Both values of `one_or_two`: (along the width, along the height)."""
    return value if isinstance(value, tuple) else (value, value)


def colors_mixed_into(channels: int) -> Callable[..., Shape]:
    """Make a `Word.grow` for colour pictures that were mixed into so many channels."""

    def grow(shape: Shape, **_: Any) -> Shape:
        if shape[0] != channels:
            raise ValueError(
                f"it measures {channels} channel(s), and this measurement has {shape[0]}"
            )
        return 3, shape[1], shape[2]

    return grow


SEED = Parameter("seed", read_seed, "the random seed, a whole number", 0)
ANGLE = Parameter(
    "angle",
    read_number,
    "an angle in degrees, counter-clockwise from pointing right",
    0.0,
    unit="degrees",
)
FRACTION = Parameter(
    "fraction", read_fraction, "a fraction above 0 and up to 1", unit="fractions of 1"
)
