"""What the file of a JPEG says exactly: its quantised DCT coefficients, and how they were made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

# Colour space of the components (ITU-T T.871; Adobe's YCCK is CMYK with YCbCr of inverted CMY).
Colour = Literal["grey", "YCbCr", "RGB", "CMYK", "YCCK"]


def _dct_matrix() -> NDArray[np.float64]:
    frequency = np.arange(8)[:, None]
    matrix = np.cos(np.pi * frequency * (2 * np.arange(8) + 1) / 16) / 2
    matrix[0] /= np.sqrt(2)
    return matrix


# Orthonormal: ``DCT @ samples @ DCT.T`` are the coefficients of ITU-T T.81, A.3.3.
DCT = _dct_matrix()


@dataclass(frozen=True, eq=False)
class Component:
    """A component of a JPEG as it is stored.

    Attributes:
        coefficients: int16 [rows, columns, 8, 8] of blocks of 8x8 samples, as in the file:
            dequantised, they are ``coefficients * table``, the DCT of the samples less 128. Rows of
            a block are vertical frequencies. The last row and column of blocks may reach beyond
            the picture; blocks that only pad the file are left out.
        table: uint16 [8, 8], the step of each coefficient.
        vertical: Vertical sampling factor.
        horizontal: Horizontal sampling factor.
    """

    coefficients: NDArray[np.int16]
    table: NDArray[np.uint16]
    vertical: int
    horizontal: int


@dataclass(frozen=True, eq=False)
class StoredJpeg:
    """What the file of a JPEG says exactly.

    Attributes:
        components: In the order of the file.
        colour: What they are.
        height: Rows of the picture as stored, before the orientation.
        width: Columns likewise.
        orientation: 1 to 8 of EXIF, by which the picture was turned upright, see
            `restore.photo.decode.turned`.
        profile: ICC profile of the inks of CMYK and YCCK; None without one, and for other colours.
        negative: True if white is stored as 0.
        whole: The file that these are only some components of; None for a file.
    """

    components: tuple[Component, ...]
    colour: Colour
    height: int
    width: int
    orientation: int = 1
    profile: bytes | None = None
    negative: bool = False
    whole: StoredJpeg | None = None

    @property
    def vertical(self) -> int:
        """Largest vertical sampling factor of the file."""
        return max(component.vertical for component in (self.whole or self).components)

    @property
    def horizontal(self) -> int:
        """Largest horizontal sampling factor of the file."""
        return max(component.horizontal for component in (self.whole or self).components)

    @property
    def is_ink(self) -> bool:
        """True if the components are those of cyan, magenta, yellow and black ink."""
        return self.colour in ("CMYK", "YCCK")

    def parted(self) -> tuple[StoredJpeg, StoredJpeg]:
        """Part a file of inks into a picture of three colours and a grey one, of black ink.

        Both are light where there is little ink, as the files are read: CMYK is stored inverted,
        as Adobe's programs do, and YCCK is the YCbCr of cyan, magenta and yellow as they are.
        """
        transformed = self.colour == "YCCK"
        colours = replace(
            self,
            components=self.components[:3],
            colour="YCbCr" if transformed else "RGB",
            negative=transformed,
            whole=self,
        )
        return colours, replace(self, components=self.components[3:], colour="grey", whole=self)

    @property
    def quality(self) -> int | None:
        """Quality of libjpeg's scale that made the tables; None if they are of another family."""
        from operators.jpeg import CHROMA_TABLE, LUMA_TABLE

        families = {"luma": np.array(LUMA_TABLE), "chroma": np.array(CHROMA_TABLE)}
        for quality in range(100, 0, -1):
            scaled = [libjpeg_table(table, quality) for table in families.values()]
            if all(
                any(np.array_equal(component.table, table) for table in scaled)
                for component in self.components
            ):
                return quality
        return None


def libjpeg_table(table: NDArray[Any], quality: int) -> NDArray[np.int64]:
    """Scale a table of ITU-T T.81, annex K, as libjpeg does for a quality of 1 to 100."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    scaled: NDArray[np.int64] = ((table.astype(np.int64) * percent + 50) // 100).clip(1, 255)
    return scaled
