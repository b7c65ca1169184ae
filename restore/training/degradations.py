"""Degradations for training: what the network is shown of a picture, drawn by chance, made of
`operators`.

A degradation takes a square *region* of a photograph, larger than the training crop, as though it
were the whole photograph; degrades it; shows it as `restore.tasks.problem` would; and cuts the crop
out. So a crop is a piece of what the network sees of a large photograph: nothing at a crop's border
is made up, while a photograph's own border, with what tasks do there, comes in the share of crops
that lie at one. Crops start at multiples of 8, as tiles do: the pixels of small pictures and the
blocks of JPEG lie to the network's grid as they do in whole photographs.

Every measurement is a file as people have it: clipped, rounded to 8 bits.
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

GRID = 8
"""Crops start at multiples of it, in pixels: see `restore.runtime.tiles`."""
LARGEST_KERNEL = 41
"""Sides of blur kernels, in pixels; with small crops at most about half of the crop's side."""
SCALES = (2.0, 3.0, 4.0, 8.0)
SCALE_CHANCES = (0.2, 0.15, 0.35, 0.1)
"""Of the `SCALES`; otherwise any number from the first to the last, evenly in its logarithm."""
SIDE_NOISE = (0.002, 0.12)
"""Noise beside another degradation: standard deviations in [0, 1] units, evenly in their logarithm.
"""
MAIN_NOISE = (0.005, 0.3)
"""Noise alone: standard deviations in [0, 1] units, evenly."""
SMALL_BLUR = (0.4, 0.6)
"""Of a small picture that is blurred: standard deviations of the Gaussian in its pixels, as CDM has
them.
"""
SHOT_NOISE = (0.005, 0.08)
"""Of a photograph's noise: the part whose variance grows with brightness, as standard deviation at
white.
"""
QUALITIES = (10, 95)
"""Of JPEG files, both included."""
CONTEXT = 24
"""Pixels of a blurred photograph around a crop that its inverse is made from, since an inverse
reaches far.
"""


@dataclass(frozen=True)
class Mixture:
    """How often each degradation comes, and what comes along with it.

    Attributes:
        bicubic, area: down-sampling by ×2 to ×8, enlarged again by bicubic interpolation.
        gaussian_sampling: the same with a Gaussian as the filter in front of the sub-sampling.
        gaussian, anisotropic, motion, curved_motion, disk, random_kernel: blur.
        noise: white Gaussian noise alone.
        jpeg: JPEG alone.
        boxes, strokes, random_pixels, halves, border: masks, by what is unknown.
        grey: loss of colour, shown in three equal channels.
        photograph: blur, down-sampling, noise that grows with brightness, and JPEG, one after the
            other.

            All of these are relative to their sum.
        noisy: share of blurred and of down-sampled pictures with noise.
        noisy_masks: share of masked and of grey pictures with noise.
        compressed: share of blurred, down-sampled and noisy pictures saved as JPEG.
        softened: share of down-sampled pictures whose small picture is blurred a little, so that
            the network is no stricter than the stages of a cascade deserve: SR3's Gaussian blur
            augmentation (Saharia et al. 2021, arXiv 2104.07636), of half of the pictures in CDM (Ho
            et al. 2021, arXiv 2106.15282). CDM's other augmentation, noise on the small picture, is
            ``noisy``.
        bordered: share of blurred and of down-sampled pictures whose crop lies at the photograph's
            border, on each axis by itself.

    Raises:
        BadArgument: a negative weight, none above 0, or a share outside [0, 1].
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
    noisy: float = field(default=0.4, metadata={"share": True})
    noisy_masks: float = field(default=0.15, metadata={"share": True})
    compressed: float = field(default=0.1, metadata={"share": True})
    softened: float = field(default=0.0, metadata={"share": True})
    bordered: float = field(default=0.25, metadata={"share": True})

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 <= value <= (1 if entry.metadata else 1e9):
                allowed = "a share from 0 to 1" if entry.metadata else "a weight of at least 0"
                raise BadArgument(f"degradations: {entry.name} = {value!r}: must be {allowed}")
        if not any(self.shares.values()):
            raise BadArgument("degradations: every weight is 0; give at least one above 0")

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Mixture:
        """From names and numbers, as a recipe has them; what is left out keeps its default.

        Raises:
            BadArgument: an unknown name; and see above.
        """
        known = [entry.name for entry in fields(cls)]
        if unknown := sorted(settings.keys() - set(known)):
            raise BadArgument(
                f"degradations: unknown: {', '.join(unknown)}; known are {', '.join(known)}"
            )
        return cls(**settings)

    @classmethod
    def only(cls, *names: str, **settings: float) -> Mixture:
        """These degradations in equal parts."""
        weights = {
            entry.name: float(entry.name in names) for entry in fields(cls) if not entry.metadata
        }
        return cls.of({**weights, **dict.fromkeys(names, 1.0), **settings})

    @property
    def shares(self) -> dict[str, float]:
        """Of all degraded pictures, each degradation's share; they sum to 1."""
        weights = {
            entry.name: float(getattr(self, entry.name))
            for entry in fields(self)
            if not entry.metadata
        }
        total = sum(weights.values())
        return {name: weight / total if total else 0.0 for name, weight in weights.items()}


class Place(NamedTuple):
    """Where a crop lies in its region, in pixels."""

    region: int
    top: int
    left: int
    crop: int

    def cut(self, picture: Tensor) -> Tensor:
        """``[…, region, region]`` to ``[…, crop, crop]``."""
        return picture[..., self.top : self.top + self.crop, self.left : self.left + self.crop]

    def moved(self, by: int, region: int) -> Place:
        """The same crop in a region that lacks ``by`` pixels at its top and at its left."""
        return Place(region, self.top - by, self.left - by, self.crop)


@dataclass(frozen=True)
class Noise:
    """Gaussian noise of variance ``level² + shot² · x`` for pictures x in [0, 1]."""

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
        """The standard deviation over a whole picture, as one number would tell it."""
        return math.sqrt(self.level**2 + self.shot**2 * float(picture.mean().clamp(0, 1)))


@dataclass(frozen=True)
class Degradation(ABC):
    """One picture's degradation, fully drawn but for the values of its noise.

    Attributes:
        place: of the crop in the region that `shown` takes.
        noise: of the measurement.
    """

    place: Place
    noise: Noise

    def clean(self, region: Tensor) -> Tensor:
        """The crop as it should come out, of a region ``[3, R, R]``."""
        return self.place.cut(region)

    @abstractmethod
    def measured(self, region: Tensor, random: Random) -> Tensor:
        """The file of a region ``[3, R, R]`` in [0, 1], as `restore.tasks.problem` takes it."""

    @abstractmethod
    def condition(self, measured: Tensor) -> Condition:
        """What the network sees of a file: ``[3, crop, crop]`` in [-1, 1] and ``[1, crop,
        crop]``.
        """

    @abstractmethod
    def evidence(self, measured: Tensor, shown: Shown) -> Evidence:
        """What a predictor sees of a file, without the dimension of a batch; see
        `restore.diffusion.evidence`.
        """

    def shown(self, region: Tensor, random: Random) -> Condition:
        """`condition` of `measured`."""
        return self.condition(self.measured(region, random))


@dataclass(frozen=True)
class Capture(Degradation):
    """Blur, down-sampling, noise and JPEG, each of them or none, in this order.

    Attributes:
        kernel: of the blur, odd sides; only what needs no pixel beyond the region is measured.
        small: side of the down-sampled region.
        sampling: ``bicubic``, ``area``, or ``gaussian:`` with a standard deviation in pixels of the
            small picture.
        softening: standard deviation of a Gaussian blur of the small picture, in its pixels; 0 is
            none.
        jpeg: the file's format, if it is JPEG.
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
        """The crop of a small picture's inverse, and the known fraction.

        Of a picture whose filter nobody knows it is the inverse of bicubic sampling.
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
        """The crop of a blurred picture's inverse, and the known fraction."""
        picture, known = wiener(y[None], self.kernel, ratio)
        top, left = (
            start - reach for start, reach in zip(self.place[1:3], self._reach, strict=True)
        )
        place = Place(self.place.region, top, left, self.place.crop)
        return place.cut(y if shown == "degraded" else picture[0]), known[0]

    @property
    def _reach(self) -> tuple[int, int]:
        """By how much the measured part of a blurred region begins later than the region."""
        rows, columns = (side // 2 for side in self.kernel.shape)
        return rows, columns


@dataclass(frozen=True)
class Masked(Degradation):
    """Only some pixels are known: ``[crop, crop]`` bool, as from `operators.masks`."""

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
    """Only the luma (BT.601) is known; it is shown in three equal channels."""

    def measured(self, region: Tensor, random: Random) -> Tensor:
        """``[1, R, R]``."""
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
    """A degradation for a crop of this side, at least 8 pixels.

    Args:
        context: pixels that are measured around the crop of a blurred picture. With 0 the crops at
            the border lie partly beyond what was measured, as a denoiser's canvas does; with more
            they end where that ends.
    """
    shares = mixture.shares
    chosen = np.searchsorted(np.cumsum(list(shares.values())), random.random(), side="right")
    possible = [name for name, share in shares.items() if share]
    name = (
        list(shares)[chosen] if chosen < len(shares) else possible[-1]
    )  # the sum may be just below 1
    if context and _DRAWN[name] is _blurred:
        return _blurred(name, mixture, crop, random, context)

    return _DRAWN[name](name, mixture, crop, random)


def inside_of_convolution(picture: Tensor, kernel: Kernel) -> Tensor:
    """What `operators.ValidConvolution` measures: ``[3, H, W]`` to ``[3, H − h + 1, W − w +
    1]``.
    """
    (height, width), (rows, columns) = picture.shape[-2:], kernel.shape
    size = scipy.fft.next_fast_len(height, real=True), scipy.fft.next_fast_len(width, real=True)
    taps = torch.from_numpy(kernel).to(picture)
    spectrum = torch.fft.rfft2(picture, s=size) * torch.fft.rfft2(taps, s=size)
    return torch.fft.irfft2(spectrum, s=size)[..., rows - 1 : height, columns - 1 : width]


@lru_cache(maxsize=256)
def sampling_matrix(size: int, new_size: int, sampling: str) -> Tensor:
    """Down-sampling along one axis, float32 ``[new_size, size]``; see `Capture.sampling`."""
    if not sampling.startswith("gaussian:"):
        return torch.from_numpy(resample_matrix(size, new_size, sampling)).float()
    ratio = size / new_size
    distance = np.arange(size) + 0.5 - (np.arange(new_size)[:, None] + 0.5) * ratio
    weights = np.exp(-0.5 * (distance / (float(sampling.partition(":")[2]) * ratio)) ** 2)
    return torch.from_numpy(weights / weights.sum(axis=1, keepdims=True)).float()


@lru_cache(maxsize=256)
def sampling_svd(size: int, new_size: int, sampling: str) -> tuple[Tensor, Tensor, Tensor]:
    """Of `sampling_matrix`: U, the singular values of sampling along both axes [new_size,
    new_size], and V.
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
    """The blur is one of lens and hand, a few pixels of the small picture wide at most."""
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
    """A region, the crop in it, and the side of the small region.

    Four pixels of the small picture lie beyond a crop that is not at the border: two feel the
    border in the down-sampling, and the enlargement reaches over two. Where the scale does not
    divide the grid, the crop takes one of several places on it, so that the small pixels lie to it
    in every way.
    """
    grid = sampled_grid(scale, crop)
    top, left = (
        _start(grid.margin + GRID * int(random.integers(grid.places)), grid.last, mixture, random)
        for _ in range(2)
    )
    return Place(grid.region, top, left, crop), grid.small


class SampledGrid(NamedTuple):
    """How crops may lie in a region that is down-sampled, in pixels."""

    margin: int
    """Where the first place of a crop inside begins; the others follow at multiples of `GRID`."""
    places: int
    """How many there are, on each axis."""
    last: int
    """Where a crop at the region's end begins."""
    region: int
    """Side of the region."""
    small: int
    """Side of the down-sampled region."""


def sampled_grid(scale: float, crop: int) -> SampledGrid:
    """For crops of this side; see `_sampled_place`."""
    places = 1 if GRID % scale == 0 else 4
    margin = _up(4 * scale, GRID)
    small = math.ceil((margin + (places - 1) * GRID + crop + 4 * scale) / scale)
    region = round(small * scale)
    return SampledGrid(margin, places, (region - crop) // GRID * GRID, region, small)


def _start(inside: int, last: int, mixture: Mixture, random: Random) -> int:
    """Where the crop begins: ``inside``, or at one end of the region."""
    if random.random() >= mixture.bordered:
        return inside
    return last if random.random() < 0.5 else 0


def _scale(random: Random) -> float:
    chosen = np.searchsorted(np.cumsum(SCALE_CHANCES), random.random(), side="right")
    return SCALES[chosen] if chosen < len(SCALES) else _log_uniform(random, SCALES[0], SCALES[-1])


def _noise(share: float, random: Random) -> Noise:
    return Noise(_log_uniform(random, *SIDE_NOISE)) if random.random() < share else Noise()


def _softening(share: float, random: Random) -> float:
    """In steps of 1/20. Without a share no random number is drawn: mixtures from before it stay
    what they were.
    """
    if not share or random.random() >= share:
        return 0.0
    low, high = (round(20 * sigma) for sigma in SMALL_BLUR)
    return int(random.integers(low, high + 1)) / 20


def _jpeg(share: float, random: Random) -> Jpeg | None:
    if random.random() >= share:
        return None
    return _jpeg_of(
        int(random.integers(QUALITIES[0], QUALITIES[1] + 1)),
        "4:2:0" if random.random() < 0.7 else "4:4:4",
    )


@cache
def _jpeg_of(quality: int, subsampling: str) -> Jpeg:
    return Jpeg(quality, subsampling).float()


def draw_kernel(name: str, crop: int, random: Random, strength: float = 1.0) -> Kernel:
    """A blur kernel with odd sides; ``strength`` shrinks the ranges of its lengths, as do small
    crops.
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
    """The middle of a kernel with odd sides, at most ``largest`` wide and high."""
    y, x = (max(0, side - largest) // 2 for side in kernel.shape)
    kernel = kernel[y : kernel.shape[0] - y, x : kernel.shape[1] - x]
    return kernel / kernel.sum()


def _square(kernel: Kernel) -> Kernel:
    side = max(kernel.shape)
    return np.pad(kernel, [((side - n) // 2, (side - n) // 2) for n in kernel.shape])


def draw_known(name: str, crop: int, random: Random) -> Tensor:
    """Bool ``[crop, crop]``; something is always known, and something always unknown."""
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
    """At most half of the crop's side, so that three cannot cover all."""
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
