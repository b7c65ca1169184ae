"""The blurs that photographs most often have, and the one that explains a spectrum best."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from operators import kernels
from restore.blind.spectrum import LEAKAGE, Spectrum

Array = NDArray[np.float64]
Parameters = tuple[float, ...]


@dataclass(frozen=True)
class Family:
    """Blurs of one shape.

    Attributes:
        name: name in the grammar of operators.
        kernel: makes the kernel [h, w] from the parameters.
        grid: ``grid(size)`` lists the parameters to try for kernels of about that side at most.
        steps: first step of each parameter when the best is refined; halved three times.
    """

    name: str
    kernel: Callable[..., kernels.Kernel]
    grid: Callable[[int], list[Parameters]]
    steps: Parameters


@dataclass(frozen=True)
class Found:
    """The best blur of a family.

    Attributes:
        misfit: see `Spectrum.misfits`.
        family: its family.
        parameters: its parameters, with two decimals.
    """

    misfit: float
    family: Family
    parameters: Parameters

    @property
    def kernel(self) -> kernels.Kernel:
        """The kernel [h, w]."""
        return self.family.kernel(*self.parameters)

    @property
    def text(self) -> str:
        """The blur as text, such as ``motion:14.7:29.5``."""
        return ":".join([self.family.name, *(f"{value:g}" for value in self.parameters)])


def _gaussians(size: int) -> list[Parameters]:
    return [(sigma,) for sigma in np.arange(0.3, max(0.4, (size - 1) / 8), 0.15)]


def _disks(size: int) -> list[Parameters]:
    return [(radius,) for radius in np.arange(0.6, size / 2, 0.2)]


def _motions(size: int) -> list[Parameters]:
    return [
        (length, angle)
        for length in np.arange(2.0, size, 1.5)
        for angle in np.arange(0, 180, max(4.0, min(30.0, 80 / length)))
    ]


FAMILIES = (
    Family("gaussian", kernels.gaussian, _gaussians, (0.1,)),
    Family("disk", kernels.disk, _disks, (0.1,)),
    Family("motion", kernels.motion, _motions, (0.5, 2.0)),
)

# Leakage of the first search, whose blurs are only nearly right, and of its refinements.
FORGIVING = 1e-2
_FORGIVENESS = (3e-3, 1e-3, LEAKAGE, LEAKAGE)

# Blurs whose misfits are computed together, so that memory stays small.
_TOGETHER = 64


def misfit_of(kernel: kernels.Kernel, spectrum: Spectrum) -> float:
    """Return the misfit of a kernel."""
    return float(spectrum.misfits(_gain(kernel, spectrum.size)[None])[0])


def unblurred(spectrum: Spectrum) -> float:
    """Return the misfit of no blur."""
    return misfit_of(np.ones((1, 1)), spectrum)


def best_of(family: Family, spectrum: Spectrum, coarse: Spectrum, size: int) -> Found:
    """Return the blur of a family that explains a spectrum best.

    Args:
        family: the family.
        spectrum: the spectrum.
        coarse: the same at fewer frequencies, for the first search.
        size: largest side of the kernel in pixels.
    """
    grid = [one for one in family.grid(size) if _side(family, one) <= size]
    misfits = _misfits(family, coarse, grid, FORGIVING)
    starts = [grid[index] for index in np.argsort(misfits)[:2]]
    found = [_refined(family, spectrum, start, size) for start in starts]
    return min(found, key=lambda one: one.misfit)


def _refined(family: Family, spectrum: Spectrum, start: Parameters, size: int) -> Found:
    best = Found(math.inf, family, start)
    steps = np.array(family.steps)
    offsets = np.array(np.meshgrid(*[(-1, 0, 1)] * len(steps))).reshape(len(steps), -1).T

    for leakage in _FORGIVENESS:
        near = (np.array(best.parameters) + offset * steps for offset in offsets)
        around = [tuple(float(value) for value in one.round(2)) for one in near]
        around = [one for one in around if one[0] > 0.2 and _side(family, one) <= size]
        misfits = _misfits(family, spectrum, around, leakage)
        index = int(np.argmin(misfits))
        best = Found(float(misfits[index]), family, around[index])
        steps = steps / 2

    return best


def _side(family: Family, parameters: Parameters) -> int:
    return max(family.kernel(*parameters).shape)


def _misfits(
    family: Family, spectrum: Spectrum, blurs: Sequence[Parameters], leakage: float
) -> Array:
    parts = [blurs[start : start + _TOGETHER] for start in range(0, len(blurs), _TOGETHER)]
    misfits = []
    for part in parts:
        gains = np.stack([_gain(family.kernel(*one), spectrum.size) for one in part])
        misfits.append(spectrum.misfits(gains, leakage))

    return np.concatenate(misfits)


def _gain(kernel: kernels.Kernel, size: tuple[int, int]) -> Array:
    """Return ``|K|²`` at the frequencies of blocks of a size."""
    gain: Array = np.square(np.abs(scipy.fft.rfft2(kernel, s=size)))
    return gain
