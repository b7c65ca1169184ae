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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from operators import LUMA_BT601, Jpeg, Quantise, kernels, masks, resample_matrix
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
from restore.errors import BadArgument

Random = np.random.Generator
Kernel = NDArray[np.float64]

# Crops start at multiples of this, in pixels; see `restore.runtime.tiles`.
GRID = 8
# Largest side of blur kernels, in pixels; for small crops about half of the crop's side.
LARGEST_KERNEL = 41
# Scale factors of downsampling that are drawn with the chances below; otherwise any factor from the
# first to the last, log-uniformly.
SCALES = (2.0, 3.0, 4.0, 8.0)
SCALE_CHANCES = (0.2, 0.15, 0.35, 0.1)
# Noise beside another degradation: standard deviations for pixels in [0, 1], log-uniform.
SIDE_NOISE = (0.002, 0.12)
# Noise alone: standard deviations for pixels in [0, 1], uniform.
MAIN_NOISE = (0.005, 0.3)
# Blur of a low-resolution picture: standard deviations of the Gaussian in its pixels, as in CDM.
SMALL_BLUR = (0.4, 0.6)
# Part of a photograph's noise whose variance grows with brightness: standard deviation at white.
SHOT_NOISE = (0.005, 0.08)
# Qualities of JPEG files, both included.
QUALITIES = (10, 95)
# Pixels around a crop from which the inverse of a blurred photograph is made, since an inverse
# reaches far.
CONTEXT = 24


@dataclass(frozen=True)
class Mixture:
    """Weights of the degradations, and fractions of what comes along with them.

    The weights, ``bicubic`` to ``photograph``, are relative to their sum. The rest are fractions.

    Attributes:
        bicubic: Bicubic downsampling by ×2 to ×8, enlarged again by bicubic interpolation.
        area: The same with block averages.
        gaussian_sampling: The same with a Gaussian filter.
        gaussian: Isotropic Gaussian blur.
        anisotropic: Anisotropic Gaussian blur.
        motion: Straight motion blur.
        curved_motion: Curved motion blur.
        disk: Blur by a disk.
        random_kernel: Blur by a small random kernel.
        noise: White Gaussian noise alone.
        jpeg: JPEG alone.
        boxes: Masks of up to three boxes.
        strokes: Masks of brush strokes.
        random_pixels: Masks of random pixels.
        halves: Masks of one half of the picture.
        border: Masks of the border.
        grey: Loss of colour, shown in three equal channels.
        photograph: Blur, downsampling, noise that grows with brightness, and JPEG, one after the
            other.
        noisy: Fraction of blurred and of downsampled pictures with noise.
        noisy_masks: Fraction of masked and of grey pictures with noise.
        compressed: Fraction of blurred, downsampled and noisy pictures saved as JPEG.
        softened: Fraction of downsampled pictures whose low-resolution picture is blurred a little,
            so that the network tolerates the output of a previous stage of a cascade: SR3's
            Gaussian blur augmentation (Saharia et al. 2021, arXiv 2104.07636), of half of the
            pictures in CDM (Ho et al. 2021, arXiv 2106.15282). CDM's other augmentation, noise on
            the low-resolution picture, is ``noisy``.
        bordered: Fraction of blurred and of downsampled pictures whose crop lies at the
            photograph's border, on each axis independently.

    Raises:
        BadArgument: A weight is negative or none is above 0, or a fraction is outside [0, 1].
    """

    bicubic: float = 34
    area: float = 6
    gaussian_sampling: float = 4
    gaussian: float = 6
    anisotropic: float = 2
    motion: float = 5
    curved_motion: float = 2
    disk: float = 3
    random_kernel: float = 1
    noise: float = 4
    jpeg: float = 3
    boxes: float = 4
    strokes: float = 5
    random_pixels: float = 6
    halves: float = 1
    border: float = 1
    grey: float = 6
    photograph: float = 7
    noisy: float = field(default=0.4, metadata={"fraction": True})
    noisy_masks: float = field(default=0.15, metadata={"fraction": True})
    compressed: float = field(default=0.1, metadata={"fraction": True})
    softened: float = field(default=0.0, metadata={"fraction": True})
    bordered: float = field(default=0.25, metadata={"fraction": True})

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 <= value <= (1 if entry.metadata else 1e9):
                allowed = "a fraction from 0 to 1" if entry.metadata else "a weight of at least 0"
                raise BadArgument(f"degradations: {entry.name} = {value!r}: must be {allowed}")
        if not any(self.fractions.values()):
            raise BadArgument("degradations: every weight is 0; give at least one above 0")

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Mixture:
        """Make a mixture from names and numbers, as a recipe has them.

        What is left out keeps its default.

        Raises:
            BadArgument: A name is unknown, or see `Mixture`.
        """
        known = [entry.name for entry in fields(cls)]
        if unknown := sorted(settings.keys() - set(known)):
            raise BadArgument(
                f"degradations: unknown: {', '.join(unknown)}; known are {', '.join(known)}"
            )
        return cls(**settings)

    @classmethod
    def only(cls, *names: str, **settings: float) -> Mixture:
        """Make a mixture of these degradations in equal parts."""
        weights = {
            entry.name: float(entry.name in names) for entry in fields(cls) if not entry.metadata
        }
        return cls.of({**weights, **dict.fromkeys(names, 1.0), **settings})

    @property
    def fractions(self) -> dict[str, float]:
        """Each degradation's fraction of all degraded pictures; they sum to 1."""
        weights = {
            entry.name: float(getattr(self, entry.name))
            for entry in fields(self)
            if not entry.metadata
        }
        total = sum(weights.values())
        return {name: weight / total if total else 0.0 for name, weight in weights.items()}


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


def draw(mixture: Mixture, crop: int, random: Random, context: int = 0) -> Degradation:
    """Draw a degradation.

    Args:
        mixture: How often each degradation is drawn.
        crop: Side of the crop, at least 8 pixels.
        random: Source of random numbers.
        context: Pixels that are measured around the crop of a blurred picture. With 0 the crops at
            the border lie partly beyond the measurement, as a denoiser's canvas does; with more
            they end where the measurement ends.
    """
    fractions = mixture.fractions
    chosen = np.searchsorted(np.cumsum(list(fractions.values())), random.random(), side="right")
    possible = [name for name, fraction in fractions.items() if fraction]

    # the sum of the fractions may be just below 1
    name = list(fractions)[chosen] if chosen < len(fractions) else possible[-1]
    if context and _DRAWN[name] is _blurred:
        return _blurred(name, mixture, crop, random, context)

    return _DRAWN[name](name, mixture, crop, random)


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


def _blurred(name: str, mixture: Mixture, crop: int, random: Random, context: int = 0) -> Capture:
    kernel = draw_kernel(name, crop, random)
    margin = max(kernel.shape) // 2
    beyond = margin if context else 0
    region = crop + 2 * (margin + context)
    top, left = (
        _start(margin + context, region - crop - 2 * beyond, mixture, random) for _ in range(2)
    )
    top, left = (start if start == margin + context else start + beyond for start in (top, left))

    return Capture(
        Place(region, top, left, crop),
        _noise(mixture.noisy, random),
        kernel,
        jpeg=_jpeg(mixture.compressed, random),
    )


def _downsampled(name: str, mixture: Mixture, crop: int, random: Random) -> Capture:
    sampling = f"gaussian:{random.integers(6, 15) / 20}" if name == "gaussian_sampling" else name
    place, small = _sampled_place(_scale(random), mixture, crop, random)
    noise = _noise(mixture.noisy, random)
    jpeg = _jpeg(mixture.compressed, random)
    return Capture(place, noise, None, small, sampling, _softening(mixture.softened, random), jpeg)


def _photograph(name: str, mixture: Mixture, crop: int, random: Random) -> Capture:
    """Draw a photograph: the blur of lens and hand is a few low-resolution pixels wide at most."""
    scale = _scale(random)
    place, small = _sampled_place(scale, mixture, crop, random)
    blur = random.choice(["gaussian", "anisotropic", "motion", "curved_motion", "disk"])
    kernel = _square(draw_kernel(blur, crop, random, scale / 4))
    margin = kernel.shape[0] // 2
    noise = Noise(_log_uniform(random, *SIDE_NOISE), _log_uniform(random, *SHOT_NOISE))
    sampling = str(random.choice(["bicubic", "area"]))
    place = place.moved(-margin, place.region + 2 * margin)

    return Capture(place, noise, kernel, small, sampling, jpeg=_jpeg(1, random))


def _noised(name: str, mixture: Mixture, crop: int, random: Random) -> Capture:
    noise = Noise(random.uniform(*MAIN_NOISE))
    return Capture(Place(crop, 0, 0, crop), noise, jpeg=_jpeg(mixture.compressed, random))


def _saved(name: str, mixture: Mixture, crop: int, random: Random) -> Capture:
    return Capture(Place(crop, 0, 0, crop), Noise(), jpeg=_jpeg(1, random))


def _masked(name: str, mixture: Mixture, crop: int, random: Random) -> Masked:
    return Masked(
        Place(crop, 0, 0, crop), _noise(mixture.noisy_masks, random), draw_known(name, crop, random)
    )


def _grey(name: str, mixture: Mixture, crop: int, random: Random) -> Grey:
    return Grey(Place(crop, 0, 0, crop), _noise(mixture.noisy_masks, random))


_DRAWN: dict[str, Callable[[str, Mixture, int, Random], Degradation]] = {
    **dict.fromkeys(("bicubic", "area", "gaussian_sampling"), _downsampled),
    **dict.fromkeys(
        ("gaussian", "anisotropic", "motion", "curved_motion", "disk", "random_kernel"), _blurred
    ),
    **dict.fromkeys(("boxes", "strokes", "random_pixels", "halves", "border"), _masked),
    "noise": _noised,
    "jpeg": _saved,
    "grey": _grey,
    "photograph": _photograph,
}


def _sampled_place(scale: float, mixture: Mixture, crop: int, random: Random) -> tuple[Place, int]:
    """Draw a region, the crop in it, and the side of the downsampled region.

    Four low-resolution pixels lie beyond a crop that is not at the border: two feel the border in
    the downsampling, and the enlargement reaches over two. If the scale does not divide the grid,
    the crop takes one of several places on it, so that all relative positions of low-resolution
    pixels occur.
    """
    grid = sampled_grid(scale, crop)
    top, left = (
        _start(grid.margin + GRID * int(random.integers(grid.places)), grid.last, mixture, random)
        for _ in range(2)
    )
    return Place(grid.region, top, left, crop), grid.small


class SampledGrid(NamedTuple):
    """Places of crops in a region that is downsampled, in pixels.

    Attributes:
        margin: First place of a crop inside; the others follow at multiples of `GRID`.
        places: Number of places on each axis.
        last: Place of a crop at the region's end.
        region: Side of the region.
        small: Side of the downsampled region.
    """

    margin: int
    places: int
    last: int
    region: int
    small: int


def sampled_grid(scale: float, crop: int) -> SampledGrid:
    """Return the places for crops of this side; see `_sampled_place`."""
    places = 1 if GRID % scale == 0 else 4
    margin = _up(4 * scale, GRID)
    small = math.ceil((margin + (places - 1) * GRID + crop + 4 * scale) / scale)
    region = round(small * scale)
    return SampledGrid(margin, places, (region - crop) // GRID * GRID, region, small)


def _start(inside: int, last: int, mixture: Mixture, random: Random) -> int:
    """Draw where the crop begins: ``inside``, or at one end of the region."""
    if random.random() >= mixture.bordered:
        return inside
    return last if random.random() < 0.5 else 0


def _scale(random: Random) -> float:
    chosen = np.searchsorted(np.cumsum(SCALE_CHANCES), random.random(), side="right")
    return SCALES[chosen] if chosen < len(SCALES) else _log_uniform(random, SCALES[0], SCALES[-1])


def _noise(fraction: float, random: Random) -> Noise:
    return Noise(_log_uniform(random, *SIDE_NOISE)) if random.random() < fraction else Noise()


def _softening(fraction: float, random: Random) -> float:
    """Draw the standard deviation of the blur, in steps of 1/20.

    With a fraction of 0 no random number is drawn, so that older recipes keep their pictures.
    """
    if not fraction or random.random() >= fraction:
        return 0.0
    low, high = (round(20 * sigma) for sigma in SMALL_BLUR)
    return int(random.integers(low, high + 1)) / 20


def _jpeg(fraction: float, random: Random) -> Jpeg | None:
    if random.random() >= fraction:
        return None
    return _jpeg_of(
        int(random.integers(QUALITIES[0], QUALITIES[1] + 1)),
        "4:2:0" if random.random() < 0.7 else "4:4:4",
    )


@cache
def _jpeg_of(quality: int, subsampling: str) -> Jpeg:
    return Jpeg(quality, subsampling).float()


def draw_kernel(name: str, crop: int, random: Random, strength: float = 1.0) -> Kernel:
    """Draw a blur kernel with odd sides.

    Args:
        name: Kind of blur, as in `Mixture`.
        crop: Side of the crop; small crops get small kernels.
        random: Source of random numbers.
        strength: Factor on the ranges of the kernel's lengths.
    """
    largest = min(LARGEST_KERNEL, crop // 2 + 1)
    largest -= 1 - largest % 2
    strength *= min(1, largest / 33)
    angle = random.uniform(0, 180)
    if name == "gaussian":
        kernel = kernels.gaussian(random.uniform(0.5, 4) * strength)
    elif name == "anisotropic":
        sigma = random.uniform(0.8, 4.5) * strength
        kernel = kernels.gaussian(sigma, max(0.3, sigma * random.uniform(0.1, 0.8)), angle)
    elif name == "motion":
        kernel = kernels.motion(random.uniform(3, 31) * strength, angle)
    elif name == "curved_motion":
        length = random.uniform(5, 45) * strength
        curvature = random.uniform(60, 360)
        kernel = kernels.curved_motion(length, int(random.integers(2**31)), curvature)
    elif name == "disk":
        kernel = kernels.disk(random.uniform(0.8, 8) * strength)
    else:
        reach = int(random.integers(1, 8))
        window = kernels.gaussian(reach / 2)
        kernel = kernels.from_array(window * random.random(window.shape) ** random.uniform(0.5, 8))

    return _fitted(kernel, largest)


def _fitted(kernel: Kernel, largest: int) -> Kernel:
    """Return the middle of a kernel with odd sides, at most ``largest`` wide and high."""
    y, x = (max(0, side - largest) // 2 for side in kernel.shape)
    kernel = kernel[y : kernel.shape[0] - y, x : kernel.shape[1] - x]
    return kernel / kernel.sum()


def _square(kernel: Kernel) -> Kernel:
    side = max(kernel.shape)
    return np.pad(kernel, [((side - n) // 2, (side - n) // 2) for n in kernel.shape])


def draw_known(name: str, crop: int, random: Random) -> Tensor:
    """Draw a mask, bool ``[crop, crop]``, in which some pixels are known and some unknown."""
    size = (crop, crop)
    seed = int(random.integers(2**31))
    if name == "random_pixels":
        return masks.random_pixels(size, random.uniform(0.05, 0.9), seed)
    if name == "strokes":
        thickest = max(1, crop / 10)  # four of the longest cannot cover all
        return masks.strokes(
            size, seed, count=int(random.integers(1, 5)), thickness=(min(2, thickest), thickest)
        )

    if name == "border":
        return masks.border(size, int(random.integers(1, crop // 4 + 1)))
    if name == "halves":
        half = masks.box(size, crop, crop // 2, top=0, left=random.choice([0, crop - crop // 2]))
        return half if random.random() < 0.5 else half.mT

    boxes = [_box(crop, random) for _ in range(random.integers(1, 4))]

    return torch.stack(boxes).all(dim=0)


def _box(crop: int, random: Random) -> Tensor:
    """Draw a box of at most half of the crop's side, so that three cannot cover all."""
    height, width = (int(n) for n in random.integers(max(1, crop // 8), crop // 2 + 1, 2))
    top = int(random.integers(crop - height + 1))
    left = int(random.integers(crop - width + 1))
    return masks.box((crop, crop), height, width, top=top, left=left)


def _file(picture: Tensor) -> Tensor:
    return _EIGHT_BIT.A(picture)


_EIGHT_BIT = Quantise(8)


def _all_known(picture: Tensor) -> Condition:
    return Condition(2 * picture - 1, torch.ones_like(picture[:1]))


def _evidence(picture: Tensor, known: Tensor, sigma: Tensor) -> Evidence:
    one = torch.ones_like(picture[:1])
    return Evidence(picture, known * one, sigma * one)


def _log_uniform(random: Random, low: float, high: float) -> float:
    return math.exp(random.uniform(math.log(low), math.log(high)))


def _up(length: float, multiple: int) -> int:
    return math.ceil(length / multiple) * multiple
