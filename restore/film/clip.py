"""What is known of a clip, and its frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from restore.film.color import Coding, Planes, to_rgb

# How frames are turned upright: mirrored at the diagonal, then left and right, then up and down.
Turn = tuple[bool, bool, bool]
UPRIGHT: Turn = (False, False, False)


class Tags(NamedTuple):
    """What a stream says about its colours, in the codes of ITU-T H.273."""

    primaries: int
    transfer: int
    matrix: int
    full: bool


@dataclass(frozen=True)
class Clip:
    """A clip that was looked at.

    Attributes:
        codec: name of its codec in libav.
        format: pixel format of its planes as they are read, by its name in libav.
        coding: what the numbers in the planes mean.
        tags: what the stream says about its colours, with the matrix that is used.
        size: height and width of its frames, as they are stored.
        turn: how they are turned upright.
        aspect: width of a pixel over its height, as it is stored; 0 if unknown.
        rate: frames in a second, on average.
        time_base: seconds of a unit of the times.
        count: number of frames.
        interlaced: number of frames that hold two moments.
        damaged: number of frames, or packets, that could not be decoded without errors.
        truncated: True if it ends before it says.
        notes: sentences about what is left out.
    """

    codec: str
    format: str
    coding: Coding
    tags: Tags
    size: tuple[int, int]
    turn: Turn
    aspect: Fraction
    rate: Fraction
    time_base: Fraction
    count: int = 0
    interlaced: int = 0
    damaged: int = 0
    truncated: bool = False
    notes: tuple[str, ...] = ()

    @property
    def upright(self) -> tuple[int, int]:
        """Height and width of its frames when they are upright."""
        height, width = self.size
        return (width, height) if self.turn[0] else (height, width)

    @property
    def upright_aspect(self) -> Fraction:
        """`aspect` of the upright frames."""
        return 1 / self.aspect if self.turn[0] and self.aspect else self.aspect


class Frame(NamedTuple):
    """A frame as it is stored.

    Attributes:
        time: its time, in units of the clip's.
        duration: how long it is shown, in the same units; 0 if unknown.
        planes: its planes.
    """

    time: int
    duration: int
    planes: Planes


class Look(NamedTuple):
    """What a look at all frames of a clip has found.

    Attributes:
        clip: the clip.
        sampled: some of its frames, at equal distances.
    """

    clip: Clip
    sampled: Sequence[Frame]


class Limits(NamedTuple):
    """What a clip may ask for.

    Attributes:
        max_pixels: largest number of pixels of a frame.
        samples: how many frames a look returns at most.
    """

    max_pixels: int
    samples: int = 9


class Going(NamedTuple):
    """The answer to a request whose work is not done.

    Attributes:
        done: how much is done.
    """

    done: int


def upright_rgb(frame: Frame, clip: Clip) -> NDArray[np.float32]:
    """Return a frame as float32 [H, W, 1 or 3] in [0, 1], upright."""
    rgb = to_rgb(frame.planes, clip.coding)
    transposed, mirrored, flipped = clip.turn
    if transposed:
        rgb = rgb.swapaxes(0, 1)
    if mirrored:
        rgb = rgb[:, ::-1]
    if flipped:
        rgb = rgb[::-1]

    return np.ascontiguousarray(rgb)
