"""Wiener deconvolution of pictures side by side, each on a canvas of its own size.

How the border of a blurred picture shows in its inverse depends on the size of the canvas, which
follows from the sizes of picture and kernel (`restore.diffusion.evidence.wiener`). So that a
network learns from what it will be shown, every picture keeps its canvas here. Fast Fourier
transforms would need one size for all; the transform as a matrix, padded with zeros, does not.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from restore.diffusion.evidence import BORDER_ERROR, RIM, canvas_side, inverse_power, noise_ratio
from restore.training.device_tensors import sandwiched


class Axis(NamedTuple):
    """Rows or columns of blurred pictures, in pixels: int64 [n] each.

    Attributes:
        size: Number of rows or columns.
        reach: Half of the kernel's own side, rounded down.
        start: Where the crop begins; it may lie partly outside.
    """

    size: Tensor
    reach: Tensor
    start: Tensor


class Canvases:
    """Canvases for pictures of many sizes.

    Args:
        least: Largest sum of a picture's side and twice its kernel's.
        device: Where the pictures are.
    """

    def __init__(self, least: int, device: torch.device) -> None:
        self.largest = canvas_side(least + 2 * RIM)
        sides = [canvas_side(n) for n in range(1, least + 2 * RIM + 1)]
        self._sides = torch.tensor(sides, device=device)

    def wiener(
        self, y: Tensor, kernels: Tensor, ratio: Tensor, vertical: Axis, horizontal: Axis, crop: int
    ) -> tuple[Tensor, Tensor]:
        """Return crops of the Wiener inverses, and the known fractions.

        Args:
            y: [n, C, H, W] in [-1, 1], blurred; only the size that the axes give counts.
            kernels: [n, k, k] with odd k, centred.
            ratio: r, [n, 1, 1, 1].
            vertical: Rows of the pictures.
            horizontal: Columns of the pictures.
            crop: Side of the crops.

        Returns:
            [n, C, crop, crop], and the known fraction [n, 1, 1, 1].
        """
        sides = [
            self._sides[axis.size + 4 * axis.reach + 1 + 2 * RIM] for axis in (vertical, horizontal)
        ]
        transforms = [self._transform(side) for side in sides]
        spectrum = sandwiched(
            transforms[0],
            self._continued(y, vertical, horizontal).to(torch.complex64),
            transforms[1],
        )

        taps = torch.arange(kernels.shape[-1], device=y.device) - kernels.shape[-1] // 2
        taps = taps.expand(len(y), -1)
        left, right = (self._transform(side, taps) for side in sides)
        transfer = sandwiched(left, kernels[:, None].to(torch.complex64), right)
        power = transfer.real.square() + transfer.imag.square()
        frequencies = [self._frequencies(side) for side in sides]
        noise = (ratio + noise_ratio(BORDER_ERROR)) * inverse_power(*frequencies)[:, None]
        filtered = spectrum * transfer.conj() / (power + noise)

        step = torch.arange(crop, device=y.device)
        places = [
            RIM + 2 * a.reach[:, None] + 1 + a.start[:, None] + step for a in (vertical, horizontal)
        ]
        rows, columns = (
            self._transform(n, p).mH / n[:, None, None] for n, p in zip(sides, places, strict=True)
        )

        return sandwiched(rows, filtered, columns).real, self._known(
            power / (power + noise), *sides
        )

    def _continued(self, y: Tensor, vertical: Axis, horizontal: Axis) -> Tensor:
        """Place pictures on canvases, continued by their edges.

        They are continued by `RIM` and the kernel's width, and farther below and to the right.
        """
        pixel = torch.arange(self.largest, device=y.device)
        rows, columns = (
            torch.minimum(
                (pixel - RIM - 2 * a.reach[:, None] - 1).clamp_min(0), a.size[:, None] - 1
            )
            for a in (vertical, horizontal)
        )
        count, channels, _, width = y.shape
        y = y.gather(2, rows[:, None, :, None].expand(-1, channels, -1, width))

        return y.gather(3, columns[:, None, None, :].expand(count, channels, self.largest, -1))

    def _transform(self, side: Tensor, places: Tensor | None = None) -> Tensor:
        """Return the discrete Fourier transform as a matrix: complex64 [n, largest, places].

        Args:
            side: Sides of the canvases, [n]; the matrix is zero beyond.
            places: Pixels, int64 [n, places]; None takes all from 0 on.
        """
        side = side[:, None, None]
        frequency = torch.arange(self.largest, device=side.device)[:, None]
        pixel = frequency.mT if places is None else places[:, None, :]
        within = (frequency < side) & (pixel < side)
        angle = (frequency * pixel).remainder(side) * (-2 * math.pi) / side
        return torch.polar(within.float(), angle)

    def _frequencies(self, side: Tensor) -> Tensor:
        """Return frequencies in cycles a pixel, [n, largest], arbitrary beyond the canvas."""
        index = torch.arange(self.largest, device=side.device)
        return torch.minimum(index, (side[:, None] - index).abs()) / side[:, None]

    def _known(self, explained: Tensor, height: Tensor, width: Tensor) -> Tensor:
        """Return the mean over the frequencies of a real transform, as the CPU has it.

        These are the columns up to the middle.
        """
        index = torch.arange(self.largest, device=height.device)
        rows, columns = (index < n[:, None] for n in (height, width // 2 + 1))
        within = rows[:, None, :, None] & columns[:, None, None, :]
        mean = (explained * within).sum(dim=(-2, -1)) / (height * (width // 2 + 1))[:, None]
        return mean[..., None, None]
