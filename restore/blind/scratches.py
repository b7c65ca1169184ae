"""Scratches, hairs and dust of old photographs, found in the photograph alone.

The detection is classical. A scratch is a thin ridge or valley of the luminance: means along short
lines, in many directions, that lie above or below those on both of their sides, as detectors of
roads and vessels use them. Dust is a small blob that differs from the median around it. Each
candidate has a score (`restore.blind.damage`); here is decided which of them count.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from restore.blind.damage import Candidates, candidates

Values = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

# Sides of a picture below which nothing can be told.
LEAST_SIDE = 16
# Longest side of a picture at which scratches are sought as they are; others at half size, too.
_FINE_SIDE = 1500

# Logarithm of the odds above which a line counts as a scratch, and as a sure one; contrast above
# which a blob counts as dust, in deviations of the ring around it. In a picture with so many sure
# scratches (or three times as many specks) more is damage.
_LINE_SCORE = 4.0
_SURE_LINE = 4.5
_LINE_SCORE_DAMAGED = 1.5
_SURE_DUST = 6.0
_DUST_SCORE_DAMAGED = 4.0
_DAMAGED = 2.5

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

    mask, scratches, dust = _marked(size, candidates(channels))
    if max(size) > _FINE_SIDE:
        half = np.stack([_halved(channel) for channel in channels])
        coarse, wide, _ = _marked(half.shape[1:], candidates(half, dust=False))
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


def _marked(size: tuple[int, ...], found: Candidates) -> _Marked:
    """Mark the candidates that count, more of them if sure ones say that the print is damaged."""
    lines, specks = found
    sure_dust = sum(one.score > _SURE_DUST for one in specks)
    evidence = sum(one.score > _SURE_LINE for one in lines) + sure_dust / 3
    is_damaged = evidence >= _DAMAGED
    mask = np.zeros(size, bool)
    counts = []
    for kind, usual, damaged in (
        (lines, _LINE_SCORE, _LINE_SCORE_DAMAGED),
        (specks, _SURE_DUST, _DUST_SCORE_DAMAGED),
    ):
        least = damaged if is_damaged else usual
        kept = [one.part for one in kind if one.score > least]
        # a blob of a scratch is no dust
        kept = [part for part in kept if not mask[part.box][part.own].any()]
        for part in kept:
            mask[part.box] |= part.own
        counts.append(len(kept))

    return _Marked(mask, *counts)
