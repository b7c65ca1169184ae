"""What saving as JPEG does to a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from operators.blocks import continued, dct_matrix, from_spectra, rgb_of, to_spectra, ycbcr_of
from operators.jpeg_file import JpegComponent, JpegFile
from operators.nonlinear import Deviations, NonlinearOperator, straight_through

# ITU-T T.81 table K.1: steps of the luma coefficients, rows by vertical frequency.
LUMA_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)

# ITU-T T.81 table K.2: steps of the chroma coefficients.
CHROMA_TABLE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8 for _ in range(4)),
)


class Coefficients(NamedTuple):
    """Quantised DCT coefficients, whole numbers ``[B, rows, columns, 8, 8]``.

    Attributes:
        luma: Coefficients of the luma plane.
        blue: Coefficients of the plane of blue differences, Cb.
        red: Coefficients of the plane of red differences, Cr.
    """

    luma: Tensor
    blue: Tensor
    red: Tensor


class JpegTables(NamedTuple):
    """Steps of the coefficients, ``[8, 8]``, or ``[B, 1, 1, 1, 8, 8]`` for each picture its own.

    Attributes:
        luma: Steps of the luma plane.
        chroma: Steps of both chroma planes.
    """

    luma: Tensor
    chroma: Tensor


class Jpeg(NonlinearOperator):
    """The picture that a JPEG file of some quality shows: baseline JPEG without entropy coding.

    YCbCr as in JFIF (BT.601, full range), 8×8 DCT, the example tables of ITU-T T.81 annex K scaled
    by libjpeg's quality rule. Pictures of any size are continued to whole blocks by repeating their
    last row and column.

    By default every stage rounds to 8 bits and chroma is enlarged by libjpeg's triangle filter,
    which gives the picture that libjpeg (Pillow, OpenCV) decodes: the same but for single levels,
    and for a rare coefficient that lies on a tie, which its integer DCT rounds to the other side.
    On photographs that is 0.1 to 0.3 levels of 255 on average. Saving such a picture again is not
    quite without loss: A(A(x)) differs from A(x) by 0 to 2 levels on average, most with 4:2:0 at
    high quality, since smoothly enlarged chroma is not its own mean.

    ``exact=True`` rounds nothing but the coefficients, does not clip, and repeats chroma pixels.
    Then ``A(A(x)) = A(x)`` in every whole block (8×8 pixels, with 4:2:0 16×16), whatever the
    picture. It fails in the blocks that the right and the bottom border cut, whose hidden part is
    made up anew, by some levels on photographs.

    >>> Jpeg(30).A(torch.rand(1, 3, 20, 30)).shape
    torch.Size([1, 3, 20, 30])

    Args:
        quality: 1 (worst) to 100.
        subsampling: ``"4:2:0"``, chroma at half the size on both axes, or ``"4:4:4"``, at full
            size.
        low: Value of black.
        high: Value of white.
        exact: True for a projection rather than a file; see above.

    Raises:
        ValueError: ``quality`` is not a whole number from 1 to 100, the subsampling is unknown, or
            ``low`` is not below ``high``.
    """

    luma_table: Tensor
    chroma_table: Tensor
    dct: Tensor

    def __init__(
        self,
        quality: int,
        subsampling: str = "4:2:0",
        *,
        low: float = 0.0,
        high: float = 1.0,
        exact: bool = False,
    ) -> None:
        super().__init__(low=low, high=high)
        if quality != int(quality) or not 1 <= quality <= 100:
            raise ValueError(
                f"a JPEG's quality must be a whole number from 1 to 100, not {quality}"
            )
        if subsampling not in ("4:2:0", "4:4:4"):
            raise ValueError(f"unknown chroma subsampling {subsampling!r}; known are 4:2:0, 4:4:4")

        self.quality = int(quality)
        self.subsampling = subsampling
        self.exact = exact
        self.chroma_step = 2 if subsampling == "4:2:0" else 1
        self.register_buffer("luma_table", _scaled_table(LUMA_TABLE, self.quality))
        self.register_buffer("chroma_table", _scaled_table(CHROMA_TABLE, self.quality))
        self.register_buffer("dct", dct_matrix())

    def A(self, x: Tensor, tables: JpegTables | None = None) -> Tensor:
        """Encode and decode: ``[B, 3, H, W]`` to ``[B, 3, H, W]``."""
        return self.decode(self.encode(x, tables), (x.shape[-2], x.shape[-1]), tables)

    def encode(self, x: Tensor, tables: JpegTables | None = None) -> Coefficients:
        """Return the numbers that a JPEG file would hold.

        Args:
            x: ``[B, 3, H, W]``.
            tables: Used instead of those of the operator's quality.

        Raises:
            ValueError: The pictures do not have three channels.
        """
        if x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(f"JPEG takes colour pictures [B, 3, H, W], not {tuple(x.shape)}")

        tables = tables or self.tables
        planes = self.to_planes(x)
        luma = self._to_coefficients(planes[:, :1], tables.luma)
        blue, red = self._to_coefficients(self.reduced(planes[:, 1:]), tables.chroma).unbind(dim=1)
        return Coefficients(luma[:, 0], blue, red)

    def decode(
        self, coefficients: Coefficients, size: tuple[int, int], tables: JpegTables | None = None
    ) -> Tensor:
        """Return the picture that a JPEG file with these numbers and these tables shows.

        Args:
            coefficients: What `encode` returns.
            size: (height, width) of the picture.
            tables: Used instead of those of the operator's quality.

        Returns:
            ``[B, 3, *size]``.
        """
        tables = tables or self.tables
        luma = self._to_planes(coefficients.luma[:, None], tables.luma)
        chroma = self._to_planes(
            torch.stack([coefficients.blue, coefficients.red], dim=1), tables.chroma
        )
        return self.to_picture(luma, self.enlarged(chroma, size), size)

    def to_planes(self, x: Tensor) -> Tensor:
        """Turn pictures into YCbCr levels from 0 to 255 in whole blocks, ``[B, 3, H', W']``."""
        levels = self._whole(self._to_levels(x, 255))
        levels = continued(levels, self.chroma_step, 8 * self.chroma_step)
        return self._whole(ycbcr_of(levels))

    def to_picture(self, luma: Tensor, chroma: Tensor, size: tuple[int, int]) -> Tensor:
        """Turn planes ``[B, 1, …]`` and ``[B, 2, *size]`` into a picture ``[B, 3, *size]``."""
        levels = rgb_of(luma[..., : size[0], : size[1]], chroma)
        return self._from_levels(self._whole(levels), 255)

    def stored(self, planes: Tensor, table: Tensor) -> Tensor:
        """Quantise planes ``[B, P, H, W]`` by one of the `JpegTables`, in whole blocks."""
        return self._to_planes(self._to_coefficients(planes, table), table)

    def file_of(self, y: Tensor) -> JpegFile:
        """Return the file that holds pictures of this operator, ``[B, 3, H, W]``."""
        luma, blue, red = self.encode(y)
        step = self.chroma_step
        components = (
            JpegComponent(luma, self.luma_table),
            JpegComponent(blue, self.chroma_table, step, step),
            JpegComponent(red, self.chroma_table, step, step),
        )
        size = (y.shape[-2], y.shape[-1])
        return JpegFile(components, size, low=self.low, high=self.high).to(y.device)

    def spread(self, noise: Tensor) -> Deviations:
        return self.file_of(torch.zeros_like(noise)).spread(noise)

    def explained(self, z: Tensor, y: Tensor, deviations: Deviations) -> Tensor:
        return self.file_of(y).explained(z, y, deviations)

    def nearest(self, z: Tensor, y: Tensor) -> Tensor:
        return self.file_of(y).nearest(z, y)

    def error(self, y: Tensor) -> Tensor:
        return self.file_of(y).error(y)

    def for_measurement(self, y: Tensor) -> JpegFile:
        return self.file_of(y)

    @property
    def tables(self) -> JpegTables:
        """Tables of the operator's quality."""
        return JpegTables(self.luma_table, self.chroma_table)

    def extra_repr(self) -> str:
        mode = ", exact" if self.exact else ""
        return f"quality={self.quality}, {self.subsampling}, low={self.low}, high={self.high}{mode}"

    def _whole(self, levels: Tensor) -> Tensor:
        """Round to whole levels from 0 to 255, unless the operator is exact."""
        if self.exact:
            return levels
        levels = levels.clamp(0, 255)
        return straight_through(levels.round(), levels)

    def _to_coefficients(self, planes: Tensor, table: Tensor) -> Tensor:
        """Transform and quantise: ``[B, P, H, W]`` to ``[B, P, rows, columns, 8, 8]``."""
        planes = continued(planes, 8, 8)
        spectrum = to_spectra(planes - 128, self.dct.to(planes.dtype))
        steps = table.to(planes.dtype)
        if self.exact:
            exact = spectrum / steps
            return straight_through(exact.round(), exact)

        # libjpeg's DCT gives whole eighths, and its ties go away from zero.
        exact = straight_through((8 * spectrum).round() / 8, spectrum) / steps
        return straight_through(exact.sign() * (exact.abs() + 0.5).floor(), exact)

    def _to_planes(self, coefficients: Tensor, table: Tensor) -> Tensor:
        """Inverse of `_to_coefficients`, up to the rounding."""
        spectrum = coefficients * table.to(coefficients.dtype)
        return self._whole(from_spectra(spectrum, self.dct.to(coefficients.dtype)) + 128)

    def reduced(self, planes: Tensor) -> Tensor:
        """Reduce chroma to means over 2×2 pixels; ties go down and up in alternate columns."""
        if self.chroma_step == 1:
            return planes

        mean = F.avg_pool2d(planes, self.chroma_step)
        if self.exact:
            return mean

        odd = torch.arange(mean.shape[-1], device=mean.device) % 2
        return straight_through((mean + (1 + odd) / 4).floor(), mean)

    def enlarged(self, planes: Tensor, size: tuple[int, int]) -> Tensor:
        """Enlarge chroma to the picture's size.

        The padding of the blocks is cut off first: it takes no part in smoothing.
        """
        step = self.chroma_step
        if step > 1:
            planes = planes[..., : -(-size[0] // step), : -(-size[1] // step)]
            mode = "nearest" if self.exact else "bilinear"
            planes = self._whole(F.interpolate(planes, scale_factor=step, mode=mode))

        return planes[..., : size[0], : size[1]]


def jpeg_tables(qualities: Sequence[int]) -> JpegTables:
    """Make the tables of several qualities for `Jpeg.A`, one for each picture of a batch.

    >>> jpeg_tables([30, 90]).luma.shape
    torch.Size([2, 1, 1, 1, 8, 8])

    Args:
        qualities: 1 (worst) to 100.

    Returns:
        float64 ``[len(qualities), 1, 1, 1, 8, 8]`` each.
    """
    luma, chroma = (
        torch.stack([_scaled_table(table, quality) for quality in qualities])[:, None, None, None]
        for table in (LUMA_TABLE, CHROMA_TABLE)
    )
    return JpegTables(luma, chroma)


def _scaled_table(table: tuple[tuple[int, ...], ...], quality: int) -> Tensor:
    """Scale by libjpeg's rule: as it stands at quality 50, ones at 100, at most 255 (baseline)."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    scaled = (torch.tensor(table) * percent + 50) // 100
    return scaled.clamp(1, 255).double()
