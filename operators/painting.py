"""What a picture that is given as a mask says: which pixels are to be filled.

Every door reads masks by this rule: files, arrays and images, for `restore inpaint` and for the
operator ``mask:FILE``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Map = NDArray[np.bool_]
Values = NDArray[np.float32]

# Number of colours in a picture with so many channels: grey or RGB, with or without opacity.
_COLORS = {1: 1, 2: 1, 3: 3, 4: 3}
# Opacity below which nobody sees a colour.
_SEEN = 0.02
# Pixels that are looked at to tell a photograph from a mask, evenly over the picture.
_SAMPLE = 65536
# Pixels that are too few to tell.
_FEW = 256
# Distance from black and white, in [0, 1], that soft brushes and JPEG leave at edges only.
_MIDDLE = 0.15
# A photograph has that many of its pixels between black and white, or in colour, and so many tones
# of 32 for each channel. Masks have few of both, however soft their edges.
_MIDDLE_FRACTION = 0.5
_COLOURED_FRACTION = 0.02
_GREY_TONES = 12
_COLOUR_TONES = 24
# Difference of channels, in [0, 1], that is a colour and not the rounding of a JPEG.
_CHROMA = 0.1

# One number for a colour of 32 tones each.
_CODE = np.array([1, 32, 1024])

_HOW = "paint what is to be filled white on black, or on a transparent layer"


def to_fill(picture: ArrayLike, threshold: float = 0.5) -> Map:
    """Return True at the pixels that a mask tells to fill.

    - White is filled: brightness, the mean of the colours, above the threshold.
    - On a transparent layer opacity is multiplied in, as if the layer lay over black.
    - A photograph with a transparent hole: the hole is filled.
    - Whole numbers that are all 0 or 1: 1 is filled.
    - Strokes of one colour on black, if none is bright: brightness is that of the brightest stroke.

    >>> to_fill(np.array([[0, 1]])).tolist(), to_fill(np.array([[0, 255]], np.uint8)).tolist()
    ([[False, True]], [[False, True]])

    Args:
        picture: [H, W] or [H, W, 1 to 4]: bool (True = fill), uint8, uint16, other integers of 0
            and 1 or up to 255, or float in [0, 1]. With 2 or 4 channels the last is opacity.
        threshold: Brightness in [0, 1). A pixel exactly at the threshold is not filled.

    Raises:
        ValueError: The shape or type is another, values are outside the range, the picture is a
            photograph without a hole, or its shape is only in the opacity of a black picture.
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold must be at least 0 and below 1, not {threshold}")

    values = _as_fractions(np.asarray(picture))
    values = values[..., None] if values.ndim == 2 else values
    colors = _COLORS[values.shape[2]]
    color = values[..., :colors]
    opacity = values[..., -1] if colors < values.shape[2] else None
    seen = color.reshape(-1, colors) if opacity is None else color[opacity > _SEEN]

    if _is_photograph(seen):
        if opacity is None or opacity.min() > 1 - threshold:
            raise ValueError(
                f"it is a photograph, not a mask; {_HOW}, or erase it from the photograph, so that "
                "the hole is transparent"
            )
        return np.asarray(1 - opacity > threshold)

    brightness = color.mean(axis=2)
    if opacity is not None:
        if not brightness.any() and np.ptp(opacity) > 0:
            raise ValueError(
                "a mask that is black with its shape only in its opacity (transparency) does not "
                f"say which part to fill; {_HOW}"
            )
        brightness = brightness * opacity

    found = brightness > threshold
    if not found.any() and _has_one_colour(seen):
        found = brightness / brightness.max() > threshold

    return np.asarray(found)


def _as_fractions(values: NDArray[Any]) -> Values:
    """Scale a picture [H, W] or [H, W, C] of any accepted type to [0, 1]."""
    if values.ndim not in (2, 3) or values.size == 0 or (values.ndim == 3 and values.shape[2] > 4):
        raise ValueError(
            f"a mask is a picture [H, W] or [H, W, 1 to 4 channels], not of shape {values.shape}"
        )
    if values.dtype == np.bool_ or np.issubdtype(values.dtype, np.floating):
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError("a mask of floating-point numbers has values from 0 to 1")
        return values.astype(np.float32)
    if not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"a mask has values of type bool, integer or float, not {values.dtype}")

    return (values / _full(values)).astype(np.float32)


def _full(values: NDArray[Any]) -> int:
    """The integer that is white: 1 where there are only 0 and 1."""
    if values.min() >= 0 and values.max() <= 1:
        return 1
    if values.dtype in (np.uint8, np.uint16):
        return int(np.iinfo(values.dtype).max)
    if values.min() < 0 or values.max() > 255:
        raise ValueError(
            f"a mask of {values.dtype} has 0 and 1, or values from 0 to 255; this one reaches from "
            f"{values.min()} to {values.max()}"
        )
    return 255


def _is_photograph(colors: Values) -> bool:
    """True if the pixels [N, 1 or 3] that are seen have the tones of a photograph."""
    colors = colors[:: max(1, len(colors) // _SAMPLE)]
    if len(colors) < _FEW:
        return False

    tones = len(np.unique((colors * 31).round().astype(np.int32) @ _CODE[: colors.shape[1]]))
    middle = ((colors > _MIDDLE) & (colors < 1 - _MIDDLE)).any(axis=1).mean()
    if (np.ptp(colors, axis=1) > _CHROMA).mean() > _COLOURED_FRACTION:
        # strokes of one colour have the shades of their edges
        return tones > _COLOUR_TONES and (middle > _MIDDLE_FRACTION or not _has_one_colour(colors))

    return bool(middle > _MIDDLE_FRACTION and tones > _GREY_TONES)


def _has_one_colour(colors: Values) -> bool:
    """True if all pixels are black or of one colour, which is not grey, and its shades."""
    if colors.shape[1] < 3 or not len(colors) or np.ptp(colors, axis=1).max() <= _CHROMA:
        return False

    bright = colors[colors.max(axis=1) > colors.max() / 2]
    direction = bright.mean(axis=0) / np.linalg.norm(bright.mean(axis=0))
    aside = colors - (colors @ direction)[:, None] * direction

    return bool(np.linalg.norm(aside, axis=1).max() <= 2 * _MIDDLE and np.ptp(direction) > _CHROMA)
