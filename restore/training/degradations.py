"""Random degradations for training, made of `operators`.

A degradation takes a square *region* of a photograph, larger than the training crop, as though it
were the whole photograph; degrades it; shows it as `restore.tasks.problem` would; and cuts the crop
out. So a crop is a piece of what the network sees of a large photograph: nothing at a crop's border
is made up. A photograph's own border, with what tasks do there, comes in the fraction of crops that
lie at one. Crops start at multiples of 8, as tiles do: the pixels of low-resolution pictures and
the blocks of JPEG lie relative to the network's grid as they do in whole photographs.

Every measurement is what people have as a file: clipped and rounded to 8 bits.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from operators import LUMA_BT601, Jpeg, Quantise, resample_matrix
from restore.diffusion.denoiser import Condition
from restore.diffusion.evidence import (
    GREY,
    Evidence,
    inverse_gain,
    known_fraction,
    noise_ratio,
    shown_noise,
    wiener,
)
from restore.diffusion.predictor import Shown

Random = np.random.Generator
Kernel = NDArray[np.float64]

# Crops start at multiples of this, in pixels; see `restore.runtime.tiles`.
GRID = 8
# Pixels around a crop from which the inverse of a blurred photograph is made, since an inverse
# reaches far.
CONTEXT = 24


class Place(NamedTuple):
    """Position of a crop in its region, in pixels.

    Attributes:
        region: Side of the region.
        top: First row of the crop.
        left: First column of the crop.
        crop: Side of the crop.
    """

    region: int
    top: int
    left: int
    crop: int

    def cut(self, picture: Tensor) -> Tensor:
        """Cut the crop ``[…, crop, crop]`` out of ``[…, region, region]``."""
        return picture[..., self.top : self.top + self.crop, self.left : self.left + self.crop]

    def moved(self, by: int, region: int) -> Place:
        """Return the crop's place in a region that lacks ``by`` pixels at its top and left."""
        return Place(region, self.top - by, self.left - by, self.crop)


@dataclass(frozen=True)
class Noise:
    """Gaussian noise of variance ``level² + shot² · x`` for pictures x in [0, 1].

    Attributes:
        level: Standard deviation of the part that does not depend on the picture.
        shot: Standard deviation, at white, of the part whose variance grows with brightness.
    """

    level: float = 0.0
    shot: float = 0.0

    def __call__(self, picture: Tensor, random: Random) -> Tensor:
        if not self.level and not self.shot:
            return picture

        noise = torch.from_numpy(random.standard_normal(tuple(picture.shape), np.float32))
        if not self.shot:
            return picture.add(noise, alpha=self.level)

        return torch.addcmul(
            picture, noise, (self.level**2 + self.shot**2 * picture.clamp(0, 1)).sqrt()
        )

    def overall(self, picture: Tensor) -> float:
        """Return the standard deviation over a whole picture, as a single number."""
        return math.sqrt(self.level**2 + self.shot**2 * float(picture.mean().clamp(0, 1)))


@dataclass(frozen=True)
class Degradation(ABC):
    """The degradation of one picture, fully drawn except for the values of its noise.

    Attributes:
        place: Place of the crop in the region that `shown` takes.
        noise: Noise of the measurement.
    """

    place: Place
    noise: Noise

    def clean(self, region: Tensor) -> Tensor:
        """Return the crop that the network should restore, of a region ``[3, R, R]``."""
        return self.place.cut(region)

    @abstractmethod
    def measured(self, region: Tensor, random: Random) -> Tensor:
        """Return the file of a region ``[3, R, R]`` in [0, 1], for `restore.tasks.problem`."""

    @abstractmethod
    def condition(self, measured: Tensor) -> Condition:
        """Return what the network sees of a file.

        Returns:
            The picture ``[3, crop, crop]`` in [-1, 1] and the known map ``[1, crop, crop]``.
        """

    @abstractmethod
    def evidence(self, measured: Tensor, shown: Shown) -> Evidence:
        """Return what a predictor sees of a file, without a batch dimension.

        See `restore.diffusion.evidence`.
        """

    def shown(self, region: Tensor, random: Random) -> Condition:
        """Degrade a region and return its `condition`."""
        return self.condition(self.measured(region, random))


@dataclass(frozen=True)
class Capture(Degradation):
    """Blur, downsampling, noise and JPEG, each of them optional, in this order.

    Attributes:
        kernel: Kernel of the blur, with odd sides; only what needs no pixel beyond the region is
            measured.
        small: Side of the downsampled region.
        sampling: ``bicubic``, ``area``, or ``gaussian:`` with a standard deviation in pixels of the
            low-resolution picture.
        softening: Standard deviation of a Gaussian blur of the low-resolution picture, in its
            pixels; 0 is none.
        jpeg: Compression of the file, if it is JPEG.
    """

    kernel: Kernel | None = None
    small: int | None = None
    sampling: str = "bicubic"
    softening: float = 0.0
    jpeg: Jpeg | None = None

    def measured(self, region: Tensor, random: Random) -> Tensor:
        picture = region if self.kernel is None else inside_of_convolution(region, self.kernel)
        if self.small is not None:
            matrix = sampling_matrix(picture.shape[-1], self.small, self.sampling)
            picture = matrix @ (picture @ matrix.mT)
        if self.small is not None and self.softening:
            blur = sampling_matrix(self.small, self.small, f"gaussian:{self.softening}")
            picture = blur @ (picture @ blur.mT)

        picture = _file(self.noise(picture, random))

        return picture if self.jpeg is None else self.jpeg.A(picture[None])[0]

    def condition(self, measured: Tensor) -> Condition:
        if self.small is not None:
            shift = 0 if self.kernel is None else self.kernel.shape[0] // 2
            place = self.place.moved(shift, self.place.region - 2 * shift)
            enlarged = F.interpolate(
                measured[None], size=(place.region,) * 2, mode="bicubic", align_corners=False
            )
            return _all_known(place.cut(enlarged[0]))

        if self.kernel is None:
            return _all_known(self.place.cut(measured))

        y, x = self._reach
        canvas, known = (
            F.pad(m, (x, x, y, y)) for m in (2 * measured - 1, torch.ones_like(measured[:1]))
        )

        return Condition(self.place.cut(canvas), self.place.cut(known))

    def evidence(self, measured: Tensor, shown: Shown) -> Evidence:
        sigma = shown_noise(self.noise.overall(measured)).reshape(1, 1, 1)
        ratio = noise_ratio(sigma)
        y = 2 * measured - 1
        if self.small is not None:
            picture, known = self._enlarged(y, ratio, shown)
        elif self.kernel is None:
            picture = self.place.cut(y)
            known = 1 / (1 + ratio)
        else:
            picture, known = self._deblurred(y, ratio, shown)

        return _evidence(picture, known, sigma)

    def _enlarged(self, y: Tensor, ratio: Tensor, shown: Shown) -> tuple[Tensor, Tensor]:
        """Return the crop of a low-resolution picture's inverse, and the known fraction.

        If the filter is unknown to the user, it is the inverse of bicubic sampling.
        """
        sampling = (
            "bicubic"
            if self.sampling.startswith("gaussian:") or self.kernel is not None
            else self.sampling
        )
        shift = 0 if self.kernel is None else self.kernel.shape[0] // 2
        place = self.place.moved(shift, self.place.region - 2 * shift)
        left, s, right = sampling_svd(place.region, self.small, sampling)
        known = known_fraction(s[None], ratio, place.region**2)
        if shown != "inverse":
            return place.cut(
                F.interpolate(y[None], size=(place.region,) * 2, mode="bicubic")[0]
            ), known

        spectrum = inverse_gain(s, ratio) * (left.mT @ y @ left)

        return place.cut(right @ spectrum @ right.mT), known

    def _deblurred(self, y: Tensor, ratio: Tensor, shown: Shown) -> tuple[Tensor, Tensor]:
        """Return the crop of a blurred picture's inverse, and the known fraction."""
        assert self.kernel is not None
        picture, known = wiener(y[None], self.kernel, ratio)
        top, left = (
            start - reach for start, reach in zip(self.place[1:3], self._reach, strict=True)
        )
        place = Place(self.place.region, top, left, self.place.crop)
        return place.cut(y if shown == "degraded" else picture[0]), known[0]

    @property
    def _reach(self) -> tuple[int, int]:
        """Offset of the measured part of a blurred region in that region."""
        assert self.kernel is not None
        rows, columns = (side // 2 for side in self.kernel.shape)
        return rows, columns


@dataclass(frozen=True)
class Masked(Degradation):
    """A mask under which pixels are unknown.

    Attributes:
        known: Bool ``[crop, crop]``, as from `operators.masks`.
    """

    known: Tensor

    def measured(self, region: Tensor, random: Random) -> Tensor:
        return _file(self.noise(region, random))

    def condition(self, measured: Tensor) -> Condition:
        return Condition((2 * measured - 1) * self.known, self.known[None].to(measured))

    def evidence(self, measured: Tensor, shown: Shown) -> Evidence:
        sigma = shown_noise(self.noise.overall(measured)).reshape(1, 1, 1)
        condition = self.condition(measured)
        return _evidence(condition.picture, condition.known / (1 + noise_ratio(sigma)), sigma)


@dataclass(frozen=True)
class Grey(Degradation):
    """Loss of colour: only the luma (BT.601) is known, shown in three equal channels."""

    def measured(self, region: Tensor, random: Random) -> Tensor:
        """Return the noisy luma ``[1, R, R]``."""
        luma = (region * region.new_tensor(LUMA_BT601)[:, None, None]).sum(dim=0, keepdim=True)
        return _file(self.noise(luma, random))

    def condition(self, measured: Tensor) -> Condition:
        shown = _all_known(measured.expand(3, -1, -1))
        return shown._replace(known=GREY * shown.known)

    def evidence(self, measured: Tensor, shown: Shown) -> Evidence:
        sigma = shown_noise(self.noise.overall(measured)).reshape(1, 1, 1)
        condition = self.condition(measured)
        return _evidence(condition.picture, condition.known / (1 + noise_ratio(sigma)), sigma)


def inside_of_convolution(picture: Tensor, kernel: Kernel) -> Tensor:
    """Convolve where no pixel is missing: ``[3, H, W]`` to ``[3, H − h + 1, W − w + 1]``."""
    (height, width), (rows, columns) = picture.shape[-2:], kernel.shape
    size = scipy.fft.next_fast_len(height, real=True), scipy.fft.next_fast_len(width, real=True)
    taps = torch.from_numpy(kernel).to(picture)
    spectrum = torch.fft.rfft2(picture, s=size) * torch.fft.rfft2(taps, s=size)
    return torch.fft.irfft2(spectrum, s=size)[..., rows - 1 : height, columns - 1 : width]


@lru_cache(maxsize=256)
def sampling_matrix(size: int, new_size: int, sampling: str) -> Tensor:
    """Return downsampling along one axis, float32 ``[new_size, size]``; see `Capture.sampling`."""
    if not sampling.startswith("gaussian:"):
        return torch.from_numpy(resample_matrix(size, new_size, sampling)).float()
    ratio = size / new_size
    distance = np.arange(size) + 0.5 - (np.arange(new_size)[:, None] + 0.5) * ratio
    weights = np.exp(-0.5 * (distance / (float(sampling.partition(":")[2]) * ratio)) ** 2)
    return torch.from_numpy(weights / weights.sum(axis=1, keepdims=True)).float()


@lru_cache(maxsize=256)
def sampling_svd(size: int, new_size: int, sampling: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return the singular value decomposition of `sampling_matrix`.

    Returns:
        U, the singular values of sampling along both axes [new_size, new_size], and V.
    """
    matrix = sampling_matrix(size, new_size, sampling).double()
    left, s, right = torch.linalg.svd(matrix, full_matrices=False)
    return left.float(), (s[:, None] * s).float(), right.mT.float()


def _file(picture: Tensor) -> Tensor:
    return _EIGHT_BIT.A(picture)


_EIGHT_BIT = Quantise(8)


def _all_known(picture: Tensor) -> Condition:
    return Condition(2 * picture - 1, torch.ones_like(picture[:1]))


def _evidence(picture: Tensor, known: Tensor, sigma: Tensor) -> Evidence:
    one = torch.ones_like(picture[:1])
    return Evidence(picture, known * one, sigma * one)


def rounded_up(length: float, multiple: int) -> int:
    return math.ceil(length / multiple) * multiple
