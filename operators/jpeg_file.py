"""What a JPEG file says of the picture that was saved: an interval for every DCT coefficient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from operators.blocks import (
    continued,
    dct_matrix,
    from_spectra,
    rgb_of,
    to_spectra,
    ycbcr_of,
)
from operators.nonlinear import Deviations, NonlinearOperator, straight_through
from operators.truncated import truncated_mean

Colour = Literal["YCbCr", "RGB", "grey"]

# Axes along which a stored picture of an EXIF orientation is mirrored, before it is transposed.
_MIRRORED: dict[int, list[int]] = {
    1: [], 2: [-1], 3: [-2, -1], 4: [-2],
    5: [], 6: [-2], 7: [-2, -1], 8: [-1],
}  # fmt: skip

# Mean square over the channels of a unit error in each plane.
_WEIGHTS: dict[Colour, tuple[float, ...]] = {
    "grey": (1.0,),
    "RGB": (1 / 3, 1 / 3, 1 / 3),
    "YCbCr": (1.0, (0.344136**2 + 1.772**2) / 3, (1.402**2 + 0.714136**2) / 3),
}

# How far from the ends of its interval a coefficient is kept, in levels of 255: the rounding of the
# result to 8 bits moves it by a third of a level (RMS).
MARGIN = 1.0

# Rounds of clipping to black and white and of going back into the intervals.
ROUNDS = 6


@dataclass(frozen=True)
class JpegComponent:
    """A plane of a JPEG file.

    Attributes:
        coefficients: Quantised DCT coefficients, whole numbers ``[B, rows, columns, 8, 8]``, rows
            of a block by vertical frequency.
        table: Steps of the coefficients, ``[8, 8]``.
        down: Rows of pixels for each row of the plane: 2 for the chroma of 4:2:0.
        across: Columns of pixels for each column of the plane: 2 for the chroma of 4:2:0 and 4:2:2.
    """

    coefficients: Tensor
    table: Tensor
    down: int = 1
    across: int = 1


class JpegFile(NonlinearOperator):
    """The JPEG file of a picture: `A` saves a picture with the tables of one file.

    The file's coefficients ``k`` say that those of the original, in units of their steps, lay
    between ``k − ½`` and ``k + ½``. Many pictures are in all these intervals. `explained` returns
    the one that is expected, given an estimate and its error; with error 0 it is the nearest one.

    Nothing is rounded but the coefficients, and nothing is clipped; subsampled chroma is enlarged
    by repetition. Then ``A(x)`` is the file's picture exactly if every coefficient of x is in its
    interval.

    Pictures of any size are continued to whole blocks by repeating their last row and column, as
    encoders do.

    Attributes:
        stored_size: (height, width) of the stored pictures.
        factors: Rows and columns of pixels for each row and column of each plane.

    Args:
        components: Planes of the file: one of grey pictures, else three.
        size: (height, width) of the stored pictures.
        colour: What the planes are.
        orientation: EXIF orientation from 1 to 8, which says how stored pictures become upright.
        negative: True if the planes are those of the negative, in which white is 0.
        low: Value of black.
        high: Value of white.

    Raises:
        ValueError: The planes do not fit the size or the colour, or there is no such orientation.
    """

    dct: Tensor

    def __init__(
        self,
        components: Sequence[JpegComponent],
        size: tuple[int, int],
        colour: Colour = "YCbCr",
        orientation: int = 1,
        *,
        negative: bool = False,
        low: float = 0.0,
        high: float = 1.0,
    ) -> None:
        super().__init__(low=low, high=high)
        if not 1 <= orientation <= 8:
            raise ValueError(f"an EXIF orientation is from 1 to 8, not {orientation}")
        if len(components) != (1 if colour == "grey" else 3):
            raise ValueError(f"{len(components)} components are not those of a {colour} picture")

        self.stored_size = size
        self.colour = colour
        self.orientation = orientation
        self.negative = negative
        self.factors = [(one.down, one.across) for one in components]
        for index, one in enumerate(components):
            _check_blocks(one, size)
            self.register_buffer(f"coefficients_{index}", one.coefficients.to(torch.int16))
            self.register_buffer(f"table_{index}", one.table.float())
        self.register_buffer("dct", dct_matrix().float())

    @property
    def components(self) -> list[JpegComponent]:
        """Planes of the file."""
        return [
            JpegComponent(
                getattr(self, f"coefficients_{index}"), getattr(self, f"table_{index}"), *factors
            )
            for index, factors in enumerate(self.factors)
        ]

    def A(self, x: Tensor) -> Tensor:
        """Save with the tables of the file and decode: ``[B, C, H, W]``, as ``x``."""
        stored = []
        for spectrum, one in zip(self.spectra(x), self.components, strict=True):
            exact = spectrum / one.table
            stored.append(straight_through(exact.round(), exact) * one.table)

        return self._picture(stored, x.shape[1])

    def decoded(self, channels: int = 3) -> Tensor:
        """Return the picture that the file shows, ``[B, channels, H, W]``, not clipped."""
        spectra = [one.coefficients * one.table for one in self.components]
        return self._picture(spectra, channels)

    def spectra(self, x: Tensor) -> list[Tensor]:
        """Transform pictures ``[B, C, H, W]``: coefficients before rounding, times their steps.

        Returns:
            ``[B, rows, columns, 8, 8]`` of each plane, in levels of 255.
        """
        levels = _stored_from_upright(self._to_levels(x, 255), self.orientation)
        levels = 255 - levels if self.negative else levels
        return [
            to_spectra(plane, self.dct)[:, : one.coefficients.shape[1], : one.coefficients.shape[2]]
            for plane, one in zip(self._planes(levels), self.components, strict=True)
        ]

    def explained(self, z: Tensor, y: Tensor, deviations: Deviations) -> Tensor:
        """Return the expected picture before it was saved, see `NonlinearOperator.explained`.

        Args:
            z: Estimate, ``[B, C, H, W]``.
            y: Not used: the file's coefficients say more.
            deviations: Tensors that broadcast to ``[B, rows, columns, 8, 8]``.
        """
        return self._explained(z, deviations, margin=0.0)

    def nearest(self, z: Tensor, y: Tensor) -> Tensor:
        """Move pictures into all intervals, and between black and white.

        Args:
            z: Estimate, ``[B, C, H, W]``.
            y: Not used, as in `explained`.
        """
        zeros = tuple(z.new_zeros(1) for _ in self.factors)
        for _ in range(ROUNDS):
            z = self._explained(z, zeros, margin=MARGIN).clamp(self.low, self.high)

        return z

    @property
    def count(self) -> int:
        """Number of coefficients of a picture."""
        return sum(one.coefficients[0].numel() for one in self.components)

    def inside(self, x: Tensor) -> Tensor:
        """Return the fraction of coefficients of ``[B, C, H, W]`` in their intervals, ``[B]``."""
        found = x.new_zeros(len(x))
        for spectrum, one in zip(self.spectra(x), self.components, strict=True):
            right = (spectrum / one.table).round() == one.coefficients
            found += right.flatten(1).sum(dim=1)

        return found / self.count

    def spread(self, noise: Tensor) -> Deviations:
        levels = self._to_levels(noise + self.low, 255).mean(dim=1, keepdim=True)
        levels = _stored_from_upright(levels, self.orientation)[:, 0]
        found = []
        for down, across in self.factors:
            plane = _reduced(continued(levels[:, None], 8 * down, 8 * across), down, across)[:, 0]
            # errors of a denoiser are smooth: the mean over subsampled pixels does not reduce them
            deviation = to_spectra(plane, self.dct).std(dim=(1, 2), keepdim=True, correction=0)
            found.append(deviation * (down * across) ** 0.5)

        return tuple(found)

    def error(self, y: Tensor) -> Tensor:
        """Return the expected standard deviation of what saving changed, ``[B]``.

        Rounding with a step q has the variance q²/12; coefficients that are mostly rounded to 0
        lose about what was kept of them, at most: ``min(q²/12, E[c²])`` for each frequency.
        """
        weights = _WEIGHTS[self.colour]
        components = self.components
        variance = components[0].table.new_zeros(len(components[0].coefficients))
        for one, weight in zip(components, weights, strict=True):
            kept = (one.coefficients * one.table).square().mean(dim=(1, 2))
            variance = variance + weight * torch.minimum(one.table**2 / 12, kept).mean(dim=(1, 2))

        return self._from_levels(variance.sqrt(), 255).sub(self.low)

    def extra_repr(self) -> str:
        height, width = self.stored_size
        return f"{width}x{height}, {self.colour}, low={self.low}, high={self.high}"

    def _explained(self, z: Tensor, deviations: Deviations, margin: float) -> Tensor:
        changes = []
        parts = zip(self.spectra(z), self.components, deviations, strict=True)
        for spectrum, one, deviation in parts:
            half = one.table * (0.5 - torch.minimum(margin / one.table, one.table.new_tensor(0.5)))
            middle = one.coefficients * one.table
            mean = truncated_mean(spectrum, deviation, middle - half, middle + half)
            changes.append(mean - spectrum)

        return z + self._picture(changes, z.shape[1], offset=0.0) - self.low

    def _planes(self, levels: Tensor) -> list[Tensor]:
        """Turn stored pictures of 255 levels into planes [B, h, w] around 0, in whole blocks."""
        if self.colour == "grey":
            planes = levels.mean(dim=1, keepdim=True) - 128
        else:
            planes = (ycbcr_of(levels) if self.colour == "YCbCr" else levels) - 128

        rows = 8 * max(down for down, _ in self.factors)
        columns = 8 * max(across for _, across in self.factors)
        whole = continued(planes, rows, columns)
        return [
            _reduced(whole[:, [index]], *factors)[:, 0]
            for index, factors in enumerate(self.factors)
        ]

    def _picture(self, spectra: Sequence[Tensor], channels: int, offset: float = 128) -> Tensor:
        """Turn planes of spectra into upright pictures ``[B, channels, H, W]``.

        Changes, without an offset, also have the mean of what they are in the hidden part of blocks
        at the border, which repeats the last row and column.
        """
        height, width = self.stored_size
        planes = []
        for spectrum, (down, across) in zip(spectra, self.factors, strict=True):
            plane = from_spectra(spectrum, self.dct).repeat_interleave(down, dim=-2)
            plane = plane.repeat_interleave(across, dim=-1)[:, None]
            plane = _folded(plane, height, width) if offset == 0 else plane
            planes.append(plane[..., :height, :width])

        levels = torch.cat(planes, dim=1)
        if self.colour == "YCbCr":
            levels = rgb_of(levels[:, :1], levels[:, 1:] + 128)
        if self.colour == "grey":
            levels = levels.expand(-1, channels, -1, -1)

        levels = _upright_from_stored(levels, self.orientation) + offset
        if self.negative:
            levels = (255 if offset else 0) - levels

        return self._from_levels(levels, 255)


def _check_blocks(one: JpegComponent, size: tuple[int, int]) -> None:
    rows, columns = one.coefficients.shape[1:3]
    if one.coefficients.ndim != 5 or one.coefficients.shape[3:] != (8, 8):
        raise ValueError(
            "coefficients of a JPEG are [B, rows, columns, 8, 8], not "
            f"{list(one.coefficients.shape)}"
        )
    if 8 * rows * one.down < size[0] or 8 * columns * one.across < size[1]:
        raise ValueError(
            f"{columns}x{rows} blocks do not cover a picture of {size[1]}x{size[0]} pixels"
        )


def _folded(plane: Tensor, height: int, width: int) -> Tensor:
    """Return [B, 1, height, width]: the least-squares inverse of `continued`."""
    rows = plane[..., : height - 1, :]
    last = plane[..., height - 1 :, :].mean(dim=-2, keepdim=True)
    plane = torch.cat([rows, last], dim=-2)
    last = plane[..., width - 1 :].mean(dim=-1, keepdim=True)

    return torch.cat([plane[..., : width - 1], last], dim=-1)


def _reduced(planes: Tensor, down: int, across: int) -> Tensor:
    """Return means over cells of ``down`` times ``across`` pixels, [B, C, h, w]."""
    return planes if down == across == 1 else F.avg_pool2d(planes, (down, across))


def _stored_from_upright(x: Tensor, orientation: int) -> Tensor:
    """Turn upright pictures [B, C, H, W] as the file stores them."""
    x = x.transpose(-2, -1) if orientation >= 5 else x
    axes = _MIRRORED[orientation]
    return x.flip(axes) if axes else x


def _upright_from_stored(x: Tensor, orientation: int) -> Tensor:
    """Inverse of `_stored_from_upright`."""
    axes = _MIRRORED[orientation]
    x = x.flip(axes) if axes else x
    return x.transpose(-2, -1) if orientation >= 5 else x
