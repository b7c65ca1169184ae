"""Sampled Fourier coefficients, as magnetic resonance imaging measures them.

A picture of real numbers has a spectrum that is its own mirror image, so a frequency and its
opposite are measured together: as the real and the imaginary part of one of them. With the right
scale these are orthonormal rows, so every singular value is 1 and ``Aᵀ`` is the pseudo-inverse,
the zero-filled reconstruction. The transform is the fast one.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from operators.base import Shape
from operators.sensing import OrthonormalRows

Map = NDArray[np.bool_]

# Fraction of the sampled frequencies that lie around the centre, where most of the energy is.
CENTRE = 1 / 3
# Golden angle between two spokes, which distributes any number of them evenly (Winkelmann et al.
# 2007, IEEE Trans. Medical Imaging 26(1)).
GOLDEN_ANGLE = math.pi * (math.sqrt(5) - 1) / 2


class SampledFourier(OrthonormalRows):
    """Some of the Fourier coefficients of each channel, the same of all.

    A frequency k and its opposite −k give ``√2 Re X(k)`` and ``√2 Im X(k)`` with the unitary
    two-dimensional transform X; those that are their own opposites, such as the mean, give
    ``X(k)``, which is real. The measurement holds them by frequency, row by row of the transform.

    >>> operator = SampledFourier((3, 16, 20), fraction=0.25)
    >>> operator.output_shape
    (3, 1, 81)
    >>> y = torch.rand(1, 3, 1, 81)
    >>> torch.allclose(operator.A(operator.At(y)), y, atol=1e-6)
    True

    Args:
        input_shape: (C, H, W) of the picture.
        fraction: Fraction of the frequencies that is measured, in (0, 1]; at least the mean is. A
            pattern is of whole lines, spokes or pairs of frequencies, so the fraction is met as
            nearly as those allow.
        pattern: ``random`` frequencies, ``lines`` of constant vertical frequency, or ``radial``
            spokes through the centre. Of the first two, a third lies around the centre.
        seed: Random seed of the frequencies or lines; spokes are not random.
        dtype: Type of the singular values.

    Raises:
        ValueError: ``fraction`` is outside (0, 1], the pattern is unknown, or the seed is negative.
    """

    places: Tensor
    of_real: Tensor
    of_imaginary: Tensor

    def __init__(
        self,
        input_shape: Shape,
        fraction: float,
        *,
        pattern: str = "random",
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if not 0 < fraction <= 1:
            raise ValueError(
                f"the fraction of measurements must be above 0 and at most 1, not {fraction}"
            )
        if pattern not in PATTERNS:
            raise ValueError(f"unknown pattern {pattern!r}; known are {', '.join(PATTERNS)}")

        size = input_shape[1], input_shape[2]
        sampled = PATTERNS[pattern](size, fraction, np.random.default_rng(seed))
        places = np.flatnonzero(sampled)
        super().__init__(input_shape, (input_shape[0], 1, len(places)), dtype)

        numbers = np.arange(sampled.size).reshape(size)
        opposite = _opposite(numbers)
        itself = numbers == opposite
        first = numbers < opposite
        real = np.where(itself, 1.0, np.where(first, math.sqrt(2), 0.0))
        imaginary = np.where(itself | first, 0.0, -math.sqrt(2))

        self.register_buffer("places", torch.from_numpy(places))
        self.register_buffer("of_real", torch.from_numpy(real).to(dtype))
        self.register_buffer("of_imaginary", torch.from_numpy(imaginary).to(dtype))

    def Vt(self, x: Tensor) -> Tensor:
        spectrum = torch.fft.fft2(x, norm="ortho")
        numbers: Tensor = self.of_real * spectrum.real + self.of_imaginary * spectrum.imag
        return numbers.flatten(2)[..., self.places].unsqueeze(-2)

    def V(self, spectrum: Tensor) -> Tensor:
        coefficients = spectrum.flatten(2)
        numbers: Tensor = coefficients.new_zeros(*coefficients.shape[:2], self.of_real.numel())
        numbers[..., self.places] = coefficients
        numbers = numbers.unflatten(-1, self.input_shape[1:])
        # the adjoint of the real part of F x is that of Fᴴ; of the imaginary part, of i Fᴴ
        both = torch.complex(self.of_real * numbers, self.of_imaginary * numbers)
        picture: Tensor = torch.fft.ifft2(both, norm="ortho").real
        return picture


def random_frequencies(size: tuple[int, int], fraction: float, rng: np.random.Generator) -> Map:
    """Choose the lowest frequencies, and others at random with their opposites, [H, W]."""
    count = max(1, round(fraction * math.prod(size)))
    radius = _radius(size)
    order = np.lexsort([rng.random(size).ravel(), radius.ravel()])
    centre = order[: max(1, round(CENTRE * count))]
    others = rng.permutation(math.prod(size))
    return _filled(size, [[place] for place in (*centre, *others)], count)


def random_lines(size: tuple[int, int], fraction: float, rng: np.random.Generator) -> Map:
    """Choose the lines of lowest vertical frequency, and others at random, [H, W]."""
    height, width = size
    count = max(1, round(fraction * height))
    lines = np.argsort(np.abs(np.fft.fftfreq(height)), kind="stable")
    centre = lines[: max(1, round(CENTRE * count))]
    groups = [
        [line * width + column for column in range(width)]
        for line in (*centre, *rng.permutation(height))
    ]
    return _filled(size, groups, round(count * width))


def radial_spokes(size: tuple[int, int], fraction: float, rng: np.random.Generator) -> Map:
    """Choose spokes through the centre, a golden angle apart, [H, W]."""
    height, width = size
    count = max(1, round(fraction * height * width))
    reach = np.arange(max(size)) / max(size) / math.sqrt(2)  # to the corners, by half a frequency

    def spoke(index: int) -> list[int]:
        angle = index * GOLDEN_ANGLE
        rows = np.rint(height * reach * math.sin(angle)).astype(int)
        columns = np.rint(width * reach * math.cos(angle)).astype(int)
        inside = (np.abs(rows) <= height // 2) & (np.abs(columns) <= width // 2)
        found: list[int] = (rows % height * width + columns % width)[inside].tolist()
        return found

    # enough spokes touch every frequency but some corners, which are filled in order of radius
    spokes = [spoke(index) for index in range(4 * max(size))]
    rest = [[place] for place in np.argsort(_radius(size), axis=None, kind="stable").tolist()]
    return _filled(size, [*spokes, *rest], count)


PATTERNS: dict[str, Callable[[tuple[int, int], float, np.random.Generator], Map]] = {
    "random": random_frequencies,
    "lines": random_lines,
    "radial": radial_spokes,
}


def _filled(size: tuple[int, int], groups: list[list[int]], count: int) -> Map:
    """Take groups of places, with their opposites, until at least so many are taken."""
    taken = np.zeros(math.prod(size), dtype=bool)
    opposite = _opposite(np.arange(taken.size).reshape(size)).ravel()
    total = 0
    for group in groups:
        if total >= count:
            break
        pair = np.unique([group, opposite[group]])
        total += int((~taken[pair]).sum())
        taken[pair] = True

    return taken.reshape(size)


def _opposite(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return what stands at the opposite frequency of each place of a transform [H, W]."""
    return np.roll(values[::-1, ::-1], (1, 1), axis=(0, 1))


def _radius(size: tuple[int, int]) -> NDArray[np.float64]:
    """Return the length of each frequency in cycles per pixel, [H, W]."""
    vertical, horizontal = (np.fft.fftfreq(side) for side in size)
    radius: NDArray[np.float64] = np.hypot(vertical[:, None], horizontal)
    return radius
