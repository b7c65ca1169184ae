"""From the planes of a frame to RGB and back: matrix, range, depth and position of the chroma.

The planes hold Y'CbCr as ITU-R BT.601, BT.709 and BT.2020 define it, with chroma at the full or at
half the resolution. Chroma is interpolated linearly, and averaged by the same triangle (1, 2, 1)
where its samples lie on those of the luma, or by (1, 1) where they lie between two of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.floating[Any]]
# uint8 or uint16
Planes = tuple[NDArray[Any], ...]

# Weights of red and blue in the luma, by the code of the matrix (ITU-T H.273, table 4).
WEIGHTS = {
    1: (0.2126, 0.0722),  # BT.709
    4: (0.30, 0.11),  # FCC
    5: (0.299, 0.114),  # BT.601 at 625 lines
    6: (0.299, 0.114),  # BT.601 at 525 lines
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020, non-constant luminance
}
TITLES = {
    0: "RGB",
    1: "BT.709",
    4: "FCC",
    5: "BT.601",
    6: "BT.601",
    7: "SMPTE 240M",
    8: "YCgCo",
    9: "BT.2020",
    10: "BT.2020 with constant luminance",
    14: "ICtCp",
}
RGB = 0
BT709 = 1
UNKNOWN = 2
BT601 = 6

# Lines from which an untagged clip is taken for BT.709, as players do.
HD_LINES = 720

_FORMAT = re.compile(r"(?:(yuv)j?(420|422|440|444)p|(gbr)p|(gray))(?:(9|10|12|14|16)le)?")
# How many samples of luma share one of chroma, across and down.
_SHARED = {"420": (2, 2), "422": (2, 1), "440": (1, 2), "444": (1, 1)}


class Layout(NamedTuple):
    """The planes of a pixel format.

    Attributes:
        kind: ``yuv``, ``gbr`` or ``gray``.
        bits: bits of a sample.
        across: samples of luma in a row for one of chroma.
        down: the same in a column.
    """

    kind: str
    bits: int
    across: int = 1
    down: int = 1

    def sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """Return height and width of each plane of a frame."""
        chroma = -(-height // self.down), -(-width // self.across)
        return [(height, width)] if self.kind == "gray" else [(height, width), chroma, chroma]

    @property
    def dtype(self) -> np.dtype[np.uint8] | np.dtype[np.uint16]:
        return np.dtype(np.uint8) if self.bits == 8 else np.dtype("<u2")


def layout_of(name: str) -> Layout | None:
    """Return the planes of a pixel format by its name in libav; None for others than planes."""
    found = _FORMAT.fullmatch(name)
    if found is None:
        return None
    bits = int(found[5] or 8)
    if found[1]:
        return Layout("yuv", bits, *_SHARED[found[2]])
    return Layout("gbr" if found[3] else "gray", bits)


@dataclass(frozen=True)
class Coding:
    """What the numbers in the planes of a frame mean.

    Attributes:
        layout: the planes.
        matrix: code of the matrix, see `WEIGHTS`; `RGB` for planes of colours.
        full: True if the numbers fill the range of the bits; False if black and white are 16 and
            235 of 8 bits.
        centred: True if a sample of chroma lies between those of luma in a row, as in JPEG; False
            if it lies on the left one, as in MPEG.
    """

    layout: Layout
    matrix: int = BT709
    full: bool = False
    centred: bool = False


def assumed_matrix(tagged: int, lines: int) -> int:
    """Return the matrix of a clip, assumed by its lines if it does not say one."""
    if tagged != UNKNOWN:
        return tagged
    return BT709 if lines >= HD_LINES else BT601


def to_rgb(planes: Planes, coding: Coding) -> NDArray[np.float32]:
    """Return a frame as float32 [H, W, 3], or [H, W, 1] for grey, clipped to [0, 1]."""
    layout = coding.layout
    height, width = planes[0].shape
    black, luma, chroma, middle = _range(coding)
    y = (planes[0].astype(np.float32) - black) / luma
    if layout.kind == "gray":
        return np.clip(y, 0, 1)[..., None]
    if layout.kind == "gbr":
        blue, red = ((plane.astype(np.float32) - black) / luma for plane in planes[1:])
        return np.clip(np.stack([red, y, blue], axis=-1), 0, 1)

    cb, cr = (
        _enlarged((plane.astype(np.float32) - middle) / chroma, height, width, coding)
        for plane in planes[1:]
    )
    of_red, of_blue = WEIGHTS[coding.matrix]
    red = y + 2 * (1 - of_red) * cr
    blue = y + 2 * (1 - of_blue) * cb
    green = (y - of_red * red - of_blue * blue) / (1 - of_red - of_blue)

    return np.clip(np.stack([red, green, blue], axis=-1), 0, 1)


def from_rgb(rgb: Values, coding: Coding) -> Planes:
    """Return the planes of a frame [H, W, 1 or 3] in [0, 1], rounded."""
    layout = coding.layout
    black, luma, chroma, middle = _range(coding)
    rgb = np.clip(rgb.astype(np.float32), 0, 1)
    red, green, blue = (rgb[..., min(index, rgb.shape[2] - 1)] for index in range(3))
    if layout.kind == "gbr":
        return tuple(_rounded(one * luma + black, layout) for one in (green, blue, red))

    of_red, of_blue = WEIGHTS.get(coding.matrix, WEIGHTS[BT709])
    y = of_red * red + (1 - of_red - of_blue) * green + of_blue * blue
    bright = _rounded(y * luma + black, layout)
    if layout.kind == "gray":
        return (bright,)

    cb = (blue - y) / (2 * (1 - of_blue))
    cr = (red - y) / (2 * (1 - of_red))
    small = (_reduced(one, coding) * chroma + middle for one in (cb, cr))

    return bright, *(_rounded(one, layout) for one in small)


def _range(coding: Coding) -> tuple[float, float, float, float]:
    """Return black, the range of luma, that of chroma, and the middle of chroma."""
    bits = coding.layout.bits
    middle = 2.0 ** (bits - 1)
    if coding.full:
        return 0.0, 2.0**bits - 1, 2.0**bits - 1, middle
    unit = 2.0 ** (bits - 8)
    return 16 * unit, 219 * unit, 224 * unit, middle


def _rounded(values: Values, layout: Layout) -> NDArray[np.uint8]:
    return np.rint(np.clip(values, 0, 2**layout.bits - 1)).astype(layout.dtype)


def _enlarged(chroma: Values, height: int, width: int, coding: Coding) -> Values:
    """Interpolate chroma to the size of the luma."""
    layout = coding.layout
    if layout.across == 2:
        chroma = _doubled(chroma, 1, coding.centred)
    if layout.down == 2:
        chroma = _doubled(chroma, 0, True)
    return chroma[:height, :width]


def _reduced(chroma: Values, coding: Coding) -> Values:
    """Average chroma at the size of the luma to its own; a last odd sample counts twice."""
    layout = coding.layout
    if layout.across == 2:
        chroma = _halved(chroma, 1, coding.centred)
    if layout.down == 2:
        chroma = _halved(chroma, 0, True)
    return chroma


def _doubled(values: Values, axis: int, centred: bool) -> Values:
    """Interpolate linearly to twice as many samples."""
    values = np.moveaxis(values, axis, 0)
    after = np.concatenate([values[1:], values[-1:]])
    if centred:
        before = np.concatenate([values[:1], values[:-1]])
        pair = [(before + 3 * values) / 4, (3 * values + after) / 4]
    else:
        pair = [values, (values + after) / 2]

    doubled = np.stack(pair, axis=1).reshape(2 * len(values), *values.shape[1:])
    return np.moveaxis(doubled, 0, axis)


def _halved(values: Values, axis: int, centred: bool) -> Values:
    """Average to half as many samples."""
    values = np.moveaxis(values, axis, 0)
    if len(values) % 2:
        values = np.concatenate([values, values[-1:]])

    even, odd = values[::2], values[1::2]
    if centred:
        half = (even + odd) / 2
    else:
        before = np.concatenate([even[:1], odd[:-1]])
        half = (before + 2 * even + odd) / 4
    return np.moveaxis(half, 0, axis)
