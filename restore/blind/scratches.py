"""Scratches, hairs and dust of old photographs, found in the photograph alone.

The detection is classical. A scratch is a thin ridge or valley of the luminance: means along short
lines, in many directions, that lie above or below those on both of their sides, as detectors of
roads and vessels use them. Dust is a small blob that differs from the median around it. Wires,
railings and highlights look alike, so each candidate gets a score: strong for the texture around
it, the same picture on both sides, without a colour of its own, and beyond the tones of the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.filters import apply_hysteresis_threshold

from operators import LUMA_BT601

Values = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

# Sides of a picture below which nothing can be told.
LEAST_SIDE = 16
# Longest side of a picture at which scratches are sought as they are; others at half size, too.
_FINE_SIDE = 1500

# Directions of lines, their length, and the distance of the flanks from the middle, in pixels.
_DIRECTIONS = 12
_LENGTH = 15
_FLANKS = 3

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

# Logarithm of the odds above which a line counts as a scratch, and as a sure one; contrast above
# which a blob counts as dust, in deviations of the ring around it. In a picture with so many sure
# scratches (or three times as many specks) more is damage.
_LINE_SCORE = 4.0
_SURE_LINE = 4.5
_LINE_SCORE_DAMAGED = 1.5
_SURE_DUST = 6.0
_DUST_SCORE_DAMAGED = 4.0
_DAMAGED = 2.5

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

# Fraction of a picture that damage covers at most; more is a structure of the picture.
_MOST = 0.1

# Pixels by which the mask covers the blurred rim.
_RIM = 1


@dataclass(frozen=True)
class Damage:
    """What was found of scratches and dust, for records.

    Attributes:
        scratches: number of scratches and hairs.
        dust: number of specks.
        fraction: fraction of the pixels that they cover.
        applied: True if they are filled.
        words: the finding in words.
    """

    scratches: int
    dust: int
    fraction: float
    applied: bool
    words: str


@dataclass(frozen=True)
class Scratches:
    """Scratches and dust of a picture.

    Attributes:
        mask: bool [H, W], True where to fill; None if that is nowhere.
        finding: what is to be recorded about it.
    """

    mask: Mask | None = field(repr=False)
    finding: Damage

    @property
    def applied(self) -> bool:
        """True if the mask is to be filled."""
        return self.finding.applied


class _Marked(NamedTuple):
    """Scratches and dust at one scale, with their numbers."""

    mask: Mask
    scratches: int
    dust: int


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

    def rarity(self, part: _Part) -> float:
        """Return the fraction of the picture that is brighter than a part."""
        tone = np.median(self.light[part.box][part.own])
        return 1 - float(np.searchsorted(self.tones, tone)) / self.tones.size

    def colour(self, part: _Part) -> tuple[float, float]:
        """Return the chroma of a part, and how far it is above that of the background."""
        own = float(np.median(self.chroma[part.box][part.own]))
        return own, own - float(np.median(self.around[part.box][part.own]))


class _Candidate(NamedTuple):
    """A part that may be damage.

    Attributes:
        part: where it is.
        score: how likely that is, see `_line_score` and `_dust_score`.
    """

    part: _Part
    score: float


class _Part(NamedTuple):
    """A connected part of a mask.

    Attributes:
        box: rows and columns of a window around it.
        own: bool, True at the part in this window.
    """

    box: tuple[slice, slice]
    own: Mask


def find_scratches(image: NDArray[Any]) -> Scratches:
    """Find scratches, hairs and dust.

    Args:
        image: [C, H, W] in [0, 1], with 1 or 3 channels.
    """
    channels = np.asarray(image, dtype=np.float32)
    size = channels.shape[1:]
    if min(size) < LEAST_SIDE:
        return _refused(
            f"a picture of {size[1]}x{size[0]} pixels is too small to tell scratches; it needs "
            f"{LEAST_SIDE} a side"
        )

    mask, scratches, dust = _at_scale(channels)
    if max(size) > _FINE_SIDE:
        half = np.stack([_halved(channel) for channel in channels])
        coarse, wide, _ = _at_scale(half, dust=False)
        mask |= cv2.resize(coarse.astype(np.uint8), size[::-1], interpolation=0) > 0
        scratches = max(scratches, wide)

    rim = np.ones((2 * _RIM + 1, 2 * _RIM + 1), np.uint8)
    return _judged(cv2.dilate(mask.astype(np.uint8), rim) > 0, scratches, dust)


def _judged(mask: Mask, scratches: int, dust: int) -> Scratches:
    """Decide whether what was found is to be filled, and say why."""
    fraction = float(mask.mean())
    counts = f"{scratches} {_plural('scratch', 'es', scratches)} and {dust} "
    counts += f"{_plural('speck', 's', dust)} of dust, {fraction:.2%} of the picture"
    if not mask.any():
        return _refused("no scratches and no dust were found")
    if fraction > _MOST:
        return _refused(
            f"what looks like scratches covers {fraction:.0%} of the picture, too much for damage",
            fraction,
        )

    return Scratches(mask, Damage(scratches, dust, round(fraction, 6), True, f"filled {counts}"))


def _plural(word: str, ending: str, count: int) -> str:
    return word if count == 1 else word + ending


def _refused(words: str, fraction: float = 0.0) -> Scratches:
    finding = Damage(0, 0, round(fraction, 6), False, f"{words}; it is left alone")
    return Scratches(None, finding)


def _halved(channel: Values) -> Values:
    half = cv2.resize(channel, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return np.asarray(half, np.float32)


def _at_scale(channels: Values, *, dust: bool = True) -> _Marked:
    """Find what is a few pixels wide."""
    light = _luminance(channels)
    chroma = channels.max(axis=0) - channels.min(axis=0)
    around = _median(chroma, _BEHIND)
    bright, dark, flanks = _ridges(light)
    limit = np.maximum(_LINE_CONTRAST, _LINE_FACTOR * _median(np.maximum(bright, dark), _AROUND))

    lines: list[_Candidate] = []
    specks: list[_Candidate] = []
    for polar, ridge, flank in zip((light, 1 - light), (bright, dark), flanks, strict=True):
        excess = polar - _median(polar, _BEHIND)
        view = _View(polar, excess, chroma, around, np.sort(polar, axis=None))
        lines += _lines(view, ridge / limit, flank / (ridge + 1e-3), ridge)
        specks += _specks(view) if dust else []

    return _marked(light.shape, lines, specks)


def _marked(
    size: tuple[int, ...], lines: Sequence[_Candidate], specks: Sequence[_Candidate]
) -> _Marked:
    """Mark the candidates that count, more of them if sure ones say that the print is damaged."""
    sure_dust = sum(one.score > _SURE_DUST for one in specks)
    evidence = sum(one.score > _SURE_LINE for one in lines) + sure_dust / 3
    is_damaged = evidence >= _DAMAGED
    mask = np.zeros(size, bool)
    counts = []
    for candidates, usual, damaged in (
        (lines, _LINE_SCORE, _LINE_SCORE_DAMAGED),
        (specks, _SURE_DUST, _DUST_SCORE_DAMAGED),
    ):
        least = damaged if is_damaged else usual
        kept = [one.part for one in candidates if one.score > least]
        # a blob of a scratch is no dust
        kept = [part for part in kept if not mask[part.box][part.own].any()]
        for part in kept:
            mask[part.box] |= part.own
        counts.append(len(kept))

    return _Marked(mask, *counts)


def _lines(view: _View, strength: Values, asymmetry: Values, ridge: Values) -> Iterator[_Candidate]:
    """Yield bright lines.

    Args:
        view: the picture.
        strength: response of lines, in units of what makes a candidate.
        asymmetry: difference of the flanks, in units of the response.
        ridge: response of lines.
    """
    strong = apply_hysteresis_threshold(strength, _CONTINUED, 1.0)
    core = strong & (view.excess > np.maximum(0.5 * ridge, 0.4 * _LINE_CONTRAST))
    for part in _parts(core, _is_long):
        rarity = view.rarity(part)
        if rarity < _MOST_BRIGHTER:
            typical, uneven = (
                float(np.median(values[part.box][part.own])) for values in (strength, asymmetry)
            )
            score = _line_score(typical, uneven, *view.colour(part), rarity)
            yield _Candidate(part, score)


def _specks(view: _View) -> Iterator[_Candidate]:
    """Yield bright blobs without a colour of their own."""
    usual = cv2.blur(np.minimum(np.abs(view.excess), _DUST_CONTRAST), (_AROUND, _AROUND))
    limit = np.maximum(_DUST_CONTRAST, _DUST_FACTOR * usual)
    core = apply_hysteresis_threshold(view.excess / limit, _CONTINUED, 1.0)
    for part in _parts(core, _is_small):
        chroma, colourful = view.colour(part)
        if chroma < 0.15 and colourful < 0.05:
            yield _Candidate(part, _dust_score(view, part))


def _parts(core: Mask, accepts: Callable[[int, int, int], bool]) -> Iterator[_Part]:
    """Yield the connected parts of a mask whose height, width and area are accepted."""
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(core.astype(np.uint8))
    for label, (left, top, width, height, area) in enumerate(boxes.tolist()):
        if label == 0 or not accepts(height, width, area):
            continue
        box = _around(top, height), _around(left, width)
        yield _Part(box, labels[box] == label)


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


def _dust_score(view: _View, part: _Part) -> float:
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


def _ridges(light: Values) -> tuple[Values, Values, tuple[Values, Values]]:
    """Return the response of bright and of dark lines, and the difference of their flanks.

    The response is how far the mean along the best line lies above, or below, both flanks.
    """
    reach = _FLANKS + 1
    bright, dark, bright_flanks, dark_flanks = (np.zeros_like(light) for _ in range(4))
    for step in range(_DIRECTIONS):
        angle = math.pi * step / _DIRECTIONS
        along = cv2.filter2D(light, -1, _line_kernel(angle), borderType=cv2.BORDER_REFLECT_101)
        mean = np.asarray(along, np.float32)
        wide = np.pad(mean, reach, mode="reflect")
        down = round(_FLANKS * math.cos(angle))
        right = round(-_FLANKS * math.sin(angle))
        one, other = (_shifted(wide, reach, sign * down, sign * right) for sign in (1, -1))
        flanks = np.abs(one - other)
        _take_better(bright, bright_flanks, mean - np.maximum(one, other), flanks)
        _take_better(dark, dark_flanks, np.minimum(one, other) - mean, flanks)

    return bright, dark, (bright_flanks, dark_flanks)


def _take_better(best: Values, of_best: Values, response: Values, value: Values) -> None:
    better = response > best
    best[better] = response[better]
    of_best[better] = value[better]


def _shifted(wide: Values, reach: int, down: int, right: int) -> Values:
    height, width = (side - 2 * reach for side in wide.shape)
    return wide[reach + down : reach + down + height, reach + right : reach + right + width]


def _line_kernel(angle: float) -> Values:
    """Return a line through the middle of a kernel, with sum 1; angle 0 is horizontal."""
    half = _LENGTH // 2
    rows, columns = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    along = columns * math.cos(angle) + rows * math.sin(angle)
    across = rows * math.cos(angle) - columns * math.sin(angle)
    kernel = np.exp(-0.5 * (across / 0.6) ** 2) * (np.abs(along) <= half)
    return np.asarray(kernel / kernel.sum(), np.float32)


def _luminance(channels: Values) -> Values:
    if len(channels) < 3:
        return np.ascontiguousarray(channels[0])
    return np.tensordot(np.array(LUMA_BT601, np.float32), channels[:3], axes=1)


def _median(values: Values, side: int) -> Values:
    """Return the median in a square window, in steps of 1/255."""
    fine = np.rint(255 * values.clip(0, 1)).astype(np.uint8)
    return cv2.medianBlur(fine, side).astype(np.float32) / np.float32(255)
