"""Random degradations of training pictures."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from operators import Jpeg, kernels, masks
from restore.training.degradations import (
    GRID,
    Capture,
    Degradation,
    Grey,
    Kernel,
    Masked,
    Noise,
    Place,
    Random,
    rounded_up,
)
from restore.training.mixture import Mixture

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
    margin = rounded_up(4 * scale, GRID)
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


def _log_uniform(random: Random, low: float, high: float) -> float:
    return math.exp(random.uniform(math.log(low), math.log(high)))
