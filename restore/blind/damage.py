"""Lines and specks that may be damage of an old photograph, each with a score.

Wires, railings and highlights look like scratches, so each candidate gets a score: strong for the
texture around it, the same picture on both sides, without a colour of its own, and beyond the tones
of the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import skimage
from numpy.typing import NDArray

from operators import LUMA_BT601
from restore.blind.ridges import ridges

Values = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

# Contrast of a candidate in luminance, and in units of what is usual around it.
_LINE_CONTRAST = 0.05
_LINE_FACTOR = 5.0
_DUST_CONTRAST = 0.1
_DUST_FACTOR = 6.0
# Fraction of these limits at which a candidate ends.
_CONTINUED = 0.5

# Sides of windows, odd: of the texture around, and of the background behind a candidate.
_AROUND = 61
_BEHIND = 15

# Fraction of the picture that may be brighter than a bright scratch.
_MOST_BRIGHTER = 0.35
# Contrast of dust to the brightest pixel around, per that to the background.
_BEYOND = 0.4

# Pixels around a candidate that are looked at.
_FLANK_BOX = 9

# Length of a scratch in pixels, and per its mean width.
_SHORTEST = 22.0
_SLENDER = 5.0
# Pixels and longest side of dust.
_LEAST_DUST = 3
_LARGEST_DUST = 140
_LONGEST_DUST = 18


class Part(NamedTuple):
    """A connected part of a mask.

    Attributes:
        box: rows and columns of a window around it.
        own: bool, True at the part in this window.
    """

    box: tuple[slice, slice]
    own: Mask


class Candidate(NamedTuple):
    """A part that may be damage.

    Attributes:
        part: where it is.
        score: how likely that is, see `_line_score` and `_dust_score`.
    """

    part: Part
    score: float


class Candidates(NamedTuple):
    """What may be damage of a picture.

    Attributes:
        lines: scratches and hairs.
        specks: dust.
    """

    lines: list[Candidate]
    specks: list[Candidate]


@dataclass(frozen=True)
class _View:
    """A picture in which damage is bright.

    Attributes:
        light: luminance, or its negative, [H, W].
        excess: luminance above the median of the background.
        chroma: difference of the largest and the smallest channel.
        around: its median in the background.
        tones: sorted luminances.
    """

    light: Values
    excess: Values
    chroma: Values
    around: Values
    tones: Values

    def rarity(self, part: Part) -> float:
        """Return the fraction of the picture that is brighter than a part."""
        tone = np.median(self.light[part.box][part.own])
        return 1 - float(np.searchsorted(self.tones, tone)) / self.tones.size

    def colour(self, part: Part) -> tuple[float, float]:
        """Return the chroma of a part, and how far it is above that of the background."""
        own = float(np.median(self.chroma[part.box][part.own]))
        return own, own - float(np.median(self.around[part.box][part.own]))


def candidates(channels: Values, *, dust: bool = True) -> Candidates:
    """Find bright and dark lines and specks that are a few pixels wide.

    Args:
        channels: [C, H, W] in [0, 1], with 1 or 3 channels.
        dust: False to look for lines only.
    """
    light = _luminance(channels)
    chroma = channels.max(axis=0) - channels.min(axis=0)
    around = _median(chroma, _BEHIND)
    bright, dark, flanks = ridges(light)
    limit = np.maximum(_LINE_CONTRAST, _LINE_FACTOR * _median(np.maximum(bright, dark), _AROUND))

    found = Candidates([], [])
    for polar, ridge, flank in zip((light, 1 - light), (bright, dark), flanks, strict=True):
        excess = polar - _median(polar, _BEHIND)
        view = _View(polar, excess, chroma, around, np.sort(polar, axis=None))
        found.lines.extend(_lines(view, ridge / limit, flank / (ridge + 1e-3), ridge))
        found.specks.extend(_specks(view) if dust else ())

    return found


def _lines(view: _View, strength: Values, asymmetry: Values, ridge: Values) -> Iterator[Candidate]:
    """Yield bright lines.

    Args:
        view: the picture.
        strength: response of lines, in units of what makes a candidate.
        asymmetry: difference of the flanks, in units of the response.
        ridge: response of lines.
    """
    strong = skimage.filters.apply_hysteresis_threshold(strength, _CONTINUED, 1.0)
    core = strong & (view.excess > np.maximum(0.5 * ridge, 0.4 * _LINE_CONTRAST))
    for part in _parts(core, _is_long):
        rarity = view.rarity(part)
        if rarity < _MOST_BRIGHTER:
            typical, uneven = (
                float(np.median(values[part.box][part.own])) for values in (strength, asymmetry)
            )
            score = _line_score(typical, uneven, *view.colour(part), rarity)
            yield Candidate(part, score)


def _specks(view: _View) -> Iterator[Candidate]:
    """Yield bright blobs without a colour of their own."""
    usual = cv2.blur(np.minimum(np.abs(view.excess), _DUST_CONTRAST), (_AROUND, _AROUND))
    limit = np.maximum(_DUST_CONTRAST, _DUST_FACTOR * usual)
    core = skimage.filters.apply_hysteresis_threshold(view.excess / limit, _CONTINUED, 1.0)
    for part in _parts(core, _is_small):
        chroma, colourful = view.colour(part)
        if chroma < 0.15 and colourful < 0.05:
            yield Candidate(part, _dust_score(view, part))


def _parts(core: Mask, accepts: Callable[[int, int, int], bool]) -> Iterator[Part]:
    """Yield the connected parts of a mask whose height, width and area are accepted."""
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(core.astype(np.uint8))
    for label, (left, top, width, height, area) in enumerate(boxes.tolist()):
        if label == 0 or not accepts(height, width, area):
            continue
        box = _around(top, height), _around(left, width)
        yield Part(box, labels[box] == label)


def _around(start: int, length: int) -> slice:
    return slice(max(0, start - _FLANK_BOX), start + length + _FLANK_BOX)


def _is_long(height: int, width: int, area: int) -> bool:
    length = math.hypot(height, width)
    return length >= _SHORTEST and length >= _SLENDER * area / length


def _is_small(height: int, width: int, area: int) -> bool:
    return _LEAST_DUST <= area <= _LARGEST_DUST and max(height, width) <= _LONGEST_DUST


def _line_score(
    strength: float, asymmetry: float, chroma: float, colourful: float, rarity: float
) -> float:
    """Return the logarithm of the odds that a line is a scratch.

    Args:
        strength: of its response, in units of what makes a candidate.
        asymmetry: of its flanks, in units of the response.
        chroma: of the line.
        colourful: how far that is above the chroma of the background.
        rarity: fraction of the picture that is brighter.
    """
    return float(
        2.6 * math.log(strength)
        - 1.6 * math.log(asymmetry + 0.05)
        - 31 * min(max(colourful, -0.1), 0.1)
        - 15 * min(chroma, 0.3)
        - 0.5 * math.log(rarity + 0.01)
        - 3.3
    )


def _dust_score(view: _View, part: Part) -> float:
    """Return the contrast of a blob in standard deviations of a ring around it.

    It is 0 if the brightest pixel of the ring is about as bright.
    """
    own = part.own.astype(np.uint8)
    ring = _grown(own, 15) > _grown(own, 5)
    light = view.light[part.box]
    contrast = float(np.median(view.excess[part.box][part.own]))
    beyond = float(np.median(light[part.own]) - light[ring].max(initial=0))
    if beyond <= _BEYOND * contrast:
        return 0.0
    return (contrast - 0.04) / max(float(light[ring].std()), 1e-3)


def _grown(part: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    grown: NDArray[np.uint8] = cv2.dilate(part, np.ones((side, side), np.uint8))  # type: ignore[assignment]
    return grown


def _luminance(channels: Values) -> Values:
    if len(channels) < 3:
        return np.ascontiguousarray(channels[0])
    return np.tensordot(np.array(LUMA_BT601, np.float32), channels[:3], axes=1)


def _median(values: Values, side: int) -> Values:
    """Return the median in a square window, in steps of 1/255."""
    fine = np.rint(255 * values.clip(0, 1)).astype(np.uint8)
    return cv2.medianBlur(fine, side).astype(np.float32) / np.float32(255)
