"""Camera raws: what a sensor counted at each pixel, and what the file says about it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from restore.photo.refusals import Unreadable

# Suffixes, in lower case, of the camera raws that are taken when a folder is walked.
RAW_SUFFIXES = frozenset({".dng", ".nef", ".cr2", ".cr3", ".arw", ".orf", ".rw2", ".raf"})

# Fraction of the white level above which the largest count may be that of a full pixel, and the
# fraction of pixels that hold it then.
_NEARLY_WHITE = 0.75
_PILED_UP = 1e-4

_OTHER_CONVERTER = "develop it in another raw converter, such as darktable or RawTherapee"


@dataclass(frozen=True)
class Raw:
    """A camera raw.

    Attributes:
        counts: uint16 [H, W], what the sensor counted, as it lies in the camera.
        pattern: rows of the colours of its filters, from the upper left pixel on; see
            `operators.mosaic.ColorFilterArray`.
        black: counts without light at each place of the pattern, float32 [rows, columns].
        white: the count of a full pixel.
        gains: white balance, the factors of red, green and blue, of which the smallest is 1.
        to_srgb: [3, 3], from white-balanced colours of the camera to linear sRGB; its rows sum to
            1, so that white stays white.
        orientation: orientation of the sensor as in EXIF, 1 to 8.
        noise: (a, b) of red, green and blue from the file: the variance is ``a x + b`` for a signal
            x that is 0 at black and 1 at white; None if the file does not say.
        exif: EXIF with orientation 1, or None.
        notes: sentences about what of the file is missing and was assumed.
        exposure: stops by which the picture is to be brighter, as the file says.
    """

    counts: NDArray[np.uint16]
    pattern: tuple[str, ...]
    black: NDArray[np.float32]
    white: float
    gains: tuple[float, float, float]
    to_srgb: NDArray[np.float64]
    orientation: int = 1
    noise: tuple[tuple[float, float], ...] | None = None
    exif: bytes | None = None
    notes: tuple[str, ...] = ()
    exposure: float = 0.0

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the upright picture."""
        height, width = self.counts.shape
        return (width, height) if self.orientation >= 5 else (height, width)

    @cached_property
    def signal(self) -> NDArray[np.float32]:
        """The mosaic [H, W]: 0 at black, 1 at white; noise leads below 0."""
        rows, columns = self.counts.shape
        repeats = -(-rows // len(self.black)), -(-columns // len(self.black[0]))
        black = np.tile(self.black, repeats)[:rows, :columns]
        return (self.counts - black) / (self.full - black)

    @cached_property
    def full(self) -> np.float32:
        """The count at which pixels are full, which may lie somewhat below the white level.

        Where many pixels hold the largest count of all, they are full. Were they not white, clouds
        and lamps would be pink.
        """
        largest = int(self.counts.max())
        if not _NEARLY_WHITE * self.white <= largest < self.white:
            return np.float32(self.white)

        share = np.count_nonzero(self.counts == largest) / self.counts.size
        return np.float32(largest if share >= _PILED_UP else self.white)


def no_mosaic(kind: str) -> Unreadable:
    """Return the refusal of a raw whose pixels have not one of three colours each."""
    return Unreadable(f"holds {kind}: {_OTHER_CONVERTER}")
