"""How much a picture is enlarged: by a scale, or to a size in pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

from restore.errors import BadArgument
from restore.tasks.option import check_within

DEFAULT_SCALE = 4
MAX_SCALE = 16
# Largest side that can be asked for; the number of pixels has a limit of its own.
MAX_SIDE = 10**6


@dataclass(frozen=True)
class Enlargement:
    """The scale of an enlargement, or the size of its result, whose shape is that of the input.

    >>> Enlargement(scale=2.5).size((10, 15)), Enlargement(width=100, height=40).size((10, 15))
    ((25, 38), (40, 60))

    Attributes:
        scale: scale factor; None is 4, unless a size is given.
        width: width of the result in pixels.
        height: height of the result in pixels; with ``width`` the largest size within both.
        megapixels: size of the result in millions of pixels.
    """

    scale: float | None = None
    width: int | None = None
    height: int | None = None
    megapixels: float | None = None

    def check(self) -> None:
        """Check what can be checked without a picture.

        Raises:
            BadArgument: a value out of range, or two that contradict each other.
        """
        if not (math.isfinite(self.factor) and 1 < self.factor <= MAX_SCALE):
            raise BadArgument(f"`scale`={self.factor:g}: must be above 1 and at most {MAX_SCALE}")

        for name, side in (("width", self.width), ("height", self.height)):
            if side is not None:
                check_within(name, side, 1, MAX_SIDE, " pixels")

        megapixels = self.megapixels
        if megapixels is not None and not 0 < megapixels < math.inf:
            raise BadArgument(f"`megapixels`={megapixels:g}: must be a number above 0")
        if self.in_pixels and self.scale is not None:
            raise BadArgument(f"`scale`={self.scale:g} and {self.asked}: give one of them")
        if megapixels is not None and not (self.width is self.height is None):
            raise BadArgument(f"`megapixels`={megapixels:g} and {self.asked}: give one of them")

    @property
    def in_pixels(self) -> bool:
        """True if the size of the result is given, and not its scale."""
        return not (self.width is self.height is self.megapixels is None)

    @property
    def asked(self) -> str:
        """The parameter that decides the size, for errors."""
        for name in ("width", "height", "megapixels"):
            if (value := getattr(self, name)) is not None:
                return f"`{name}`={value:g}"
        return f"`scale`={self.factor:g}"

    @property
    def factor(self) -> float:
        """The scale if no size in pixels is given."""
        return DEFAULT_SCALE if self.scale is None else self.scale

    def factor_of(self, size: tuple[int, int]) -> float:
        """Return the scale for an input of this (height, width).

        Raises:
            BadArgument: the input is as large already, or the scale is too large.
        """
        if not self.in_pixels:
            return self.factor

        height, width = size
        if self.megapixels is not None:
            scale = math.sqrt(self.megapixels * 1e6 / (height * width))
        else:
            sides = ((self.width, width), (self.height, height))
            scale = min(wanted / side for wanted, side in sides if wanted is not None)

        if scale <= 1:
            raise BadArgument(
                f"{self.asked}: the picture has {width}x{height} pixels already, and sr only "
                "enlarges"
            )
        if scale > MAX_SCALE:
            raise BadArgument(
                f"{self.asked}: is {scale:.3g} times a picture of {width}x{height} pixels; at "
                f"most {MAX_SCALE} times are possible"
            )

        return scale

    def size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of the result for an input of this (height, width).

        Raises:
            BadArgument: see `factor_of`.
        """
        scale = self.factor_of(size)
        return round(size[0] * scale), round(size[1] * scale)

    def text(self, size: tuple[int, int]) -> str:
        """Return the scale for an input of this (height, width), as it is written in records."""
        return f"{self.factor_of(size):.12g}" if self.in_pixels else f"{self.factor:g}"
