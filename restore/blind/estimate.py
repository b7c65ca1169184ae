"""The blur kernel of a photograph, estimated from the photograph alone, and how far to trust it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from operators import LUMA_BT601
from restore.blind.families import FAMILIES, Found, best_of, misfit_of, unblurred
from restore.blind.freeform import free_kernels
from restore.blind.ringing import ringing
from restore.blind.spectrum import Spectrum

Array = NDArray[np.float64]

# Largest side of a kernel, in pixels: default, least and most.
DEFAULT_SIZE = 31
LEAST_SIZE = 3
MOST_SIZE = 99

# Side of the window in which a kernel is estimated, in pixels.
WINDOW = 512

# Sides of the window below which it has too few frequencies to tell a blur.
LEAST_SIDE = 48

# Sides of a window per side of its kernel.
WINDOWS_PER_KERNEL = 3

# Root mean square gradient, in units of that of the noise, below which a window counts as flat.
LEAST_TEXTURE = 1.15

# Root mean square radius in pixels below which a blur is that of a good lens, and left alone.
LEAST_RADIUS = 0.85

# Logarithm of the likelihood ratio to no blur that a kernel needs, and above which it is sure.
LIKELY = 20.0
SURE = 80.0

# Logarithm of the likelihood ratio to the best shape, and to no blur, that a kernel of any form
# needs. Of 80 crops blurred by paths (docs/blind.md), those that it made worse had 84 to 229. It
# must keep the edges sparser than other kernels as well: right ones have a density of 0.88 to 0.99
# on crops of CID22's validation set, and one that sharp rectangles suggest 1.09.
FREEDOM = 20.0
SURE_OF_FREE = 250.0
MOST_RINGING_OF_FREE = 1.03

# Name of kernels of any form.
FREE = "free-form"

# Density of edges after deblurring, relative to that before, above which a kernel is wrong. Right
# kernels have 0.8 to 1.11 and wrong ones that the spectrum suggests 1.2 to 1.6 on crops of CID22's
# validation set and Kodak.
MOST_RINGING = 1.13

# Frequencies that the search and its refinement use.
_COARSE = 800
_FINE = 4000

_LUMINANCE = np.array(LUMA_BT601)


@dataclass(frozen=True)
class Finding:
    """What was found out about an unknown blur, for records.

    Attributes:
        kernel: the kernel as text, see `operators.text`, such as ``motion:14.7:29.5``; `FREE` for
            one that has no shape with a name; empty if none was found.
        size: (height, width) of the kernel in pixels; None if none was found.
        sha256: digest of the kernel's numbers in double precision; empty if none was found.
        evidence: logarithm of the ratio of its likelihood to that of no blur.
        applied: True if the picture was deblurred with it.
        words: the finding in words.
    """

    kernel: str
    size: tuple[int, int] | None
    sha256: str
    evidence: float
    applied: bool
    words: str


@dataclass(frozen=True)
class Estimate:
    """An estimated kernel.

    Attributes:
        kernel: [h, w] with odd sides, not negative, with sum 1; None if none was found.
        finding: what is to be recorded about it.
    """

    kernel: Array | None = field(repr=False)
    finding: Finding

    @property
    def applied(self) -> bool:
        """True if the kernel is to be used."""
        return self.finding.applied

    @property
    def is_free(self) -> bool:
        """True if the kernel has no shape with a name, so that its text does not tell it."""
        return self.finding.kernel == FREE


def estimate_kernel(
    image: NDArray[Any], noise: float, size: int = DEFAULT_SIZE, free: bool = False
) -> Estimate:
    """Estimate the kernel that blurred a picture.

    The blur is the Gaussian, disk or straight motion that explains the power spectrum of the most
    textured window best, see `restore.blind.spectrum`, or if asked a kernel of any form that
    explains it still better, see `restore.blind.freeform`.

    Args:
        image: [C, H, W] in [0, 1], with 1 or 3 channels.
        noise: standard deviation of the noise in each channel.
        size: largest side of the kernel in pixels; of an even one the next smaller.
        free: True to seek kernels of any form too, which takes seconds, and finds wrong ones on
            some pictures.

    Returns:
        The estimate; it is not to be applied to flat, small and sharp pictures.
    """
    luminance, noise = _luminance(image, noise)
    side = min(luminance.shape)
    size = min(size, side // WINDOWS_PER_KERNEL)
    size -= 1 - size % 2
    if side < LEAST_SIDE or size < LEAST_SIZE:
        return _refused(
            f"a picture of {luminance.shape[1]}x{luminance.shape[0]} pixels is too small to tell a "
            f"blur; it needs {LEAST_SIDE} a side"
        )

    window = most_textured(luminance, WINDOW)
    if _texture(window) < LEAST_TEXTURE * noise:
        return _refused("the picture has no edges above its noise that could tell a blur")

    fine, coarse = (Spectrum(window, noise, count) for count in (_FINE, _COARSE))
    shapes = [best_of(family, fine, coarse, size) for family in FAMILIES]
    found: list[Found | _Free] = sorted(shapes, key=lambda one: one.misfit)
    if free:
        kernels = free_kernels(window, fine, size)
        freed = [_Free(misfit_of(kernel, fine), kernel) for kernel in kernels]
        found += sorted(freed, key=lambda one: one.misfit)[:1]
    return _chosen(found, window, noise, unblurred(fine), size)


@dataclass(frozen=True)
class _Free:
    """A kernel of any form, with its misfit as in `Found`."""

    misfit: float
    kernel: Array
    text: ClassVar[str] = FREE


def _chosen(
    found: Sequence[Found | _Free], window: Array, noise: float, none: float, size: int
) -> Estimate:
    """Take the likeliest kernel that leaves no ringing, and decide whether it is to be used.

    Args:
        found: the kernels.
        window: [h, w], where they were found.
        noise: standard deviation of its noise.
        none: misfit of no blur.
        size: largest side that a kernel may have.
    """

    def rank(one: Found | _Free) -> float:
        return one.misfit + (FREEDOM if isinstance(one, _Free) else 0)

    for one in sorted(found, key=rank):
        is_free = isinstance(one, _Free)
        if is_free and none - one.misfit < SURE_OF_FREE:
            continue
        most = MOST_RINGING_OF_FREE if is_free else MOST_RINGING
        if ringing(window, one.kernel, noise) < most:
            # regular structures look like the longest motion that is looked for
            longest = isinstance(one, Found) and one.family.name == "motion"
            longest = longest and max(one.kernel.shape) >= size
            return _judged(one.text, one.kernel, none - one.misfit, longest)

    return _refused("every kernel that may have blurred the picture would make it ring")


def most_textured(image: Array, side: int) -> Array:
    """Return the window of at most ``side`` pixels a side with the largest gradients, [h, w].

    Windows overlap by half.
    """
    if max(image.shape) <= side:
        return image

    energy = np.zeros_like(image)
    energy[:-1] += np.square(np.diff(image, axis=0))
    energy[:, :-1] += np.square(np.diff(image, axis=1))
    # bright and dark borders, such as frames, count no more than other edges
    energy = np.minimum(energy, 0.01)
    height, width = (min(side, length) for length in image.shape)
    tops = range(0, image.shape[0] - height + 1, max(1, height // 2))
    lefts = range(0, image.shape[1] - width + 1, max(1, width // 2))
    total = np.pad(energy.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))

    def inside(place: tuple[int, int]) -> float:
        top, left = place
        bottom, right = top + height, left + width
        corners = total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
        return float(corners)

    top, left = max(((top, left) for top in tops for left in lefts), key=inside)
    return image[top : top + height, left : left + width]


def _luminance(image: NDArray[Any], noise: float) -> tuple[Array, float]:
    """Return the luminance [H, W], and the standard deviation of its noise."""
    channels = np.asarray(image, dtype=np.float64)
    if len(channels) == 3 and not (channels == channels[:1]).all():
        luminance: Array = np.tensordot(_LUMINANCE, channels, axes=1)
        return luminance, noise * math.sqrt(np.square(_LUMINANCE).sum())

    return channels[0], noise


def _texture(window: Array) -> float:
    """Return the root mean square gradient of a window; that of white noise is its deviation."""
    return float(math.sqrt(sum(np.square(part).mean() for part in np.gradient(window))))


def _judged(text: str, kernel: Array, evidence: float, longest: bool) -> Estimate:
    """Decide whether a kernel is to be used, and say why.

    Args:
        text: the kernel as text.
        kernel: [h, w].
        evidence: logarithm of the likelihood ratio to no blur.
        longest: True if it is the longest motion that was looked for.
    """
    size = (kernel.shape[0], kernel.shape[1])
    name = f"{FREE} of {size[1]}x{size[0]} pixels" if text == FREE else text
    applied = True
    if radius(kernel) < LEAST_RADIUS:
        words = f"the picture is sharp as far as can be told (at most {name}); it is left alone"
        applied = False
    elif evidence < LIKELY:
        words = f"no kernel explains the picture better than none ({name}); it is left alone"
        applied = False
    elif longest:
        words = (
            f"the likeliest kernel, {name}, is the longest that was looked for, so the motion may "
            "be longer, or none; it is left alone"
        )
        applied = False
    elif evidence < SURE or text == FREE:
        words = f"kernel {name}: likely, not sure; compare the result with the input"
    else:
        words = f"kernel {name}: its traces in the picture are clear"

    digest = hashlib.sha256(np.ascontiguousarray(kernel, dtype="<f8").tobytes()).hexdigest()
    return Estimate(kernel, Finding(text, size, digest, round(evidence, 1), applied, words))


def radius(kernel: Array) -> float:
    """Return the root mean square distance of a kernel from its centre of mass, in pixels."""
    rows, columns = np.indices(kernel.shape)
    square = sum((kernel * axis**2).sum() - (kernel * axis).sum() ** 2 for axis in (rows, columns))
    return math.sqrt(max(0.0, float(square)))


def _refused(words: str) -> Estimate:
    return Estimate(None, Finding("", None, "", 0.0, False, f"{words}; it is left alone"))
