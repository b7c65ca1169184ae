"""The search of a few noise levels by what they make of held-out pictures.

A network that is told its noise level can walk down any levels, so those of a few steps are found
after training, by trying them: WaveGrad (Chen et al. 2020, arXiv 2009.00713) tries a grid of values
for each of six steps, SR3 (Saharia et al. 2021, arXiv 2104.07636) simple schedules by the FID of
held-out pictures, since PSNR does not tell how they look. Here a schedule has four numbers,
whatever its length; a coarse grid of them is tried, then the best of it refined.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import NamedTuple

from restore.diffusion.schedule import NoiseSchedule, karras_between


class Levels(NamedTuple):
    """A family of falling noise levels and how they are walked.

    It is EDM's grid (Karras et al. 2022, arXiv 2206.00364, eq. 5) between any two ends.

    Attributes:
        highest, lowest: σ of the first and of the last step.
        rho: ρ; 1 is uniform in σ, towards infinity uniform in log σ.
        eta: share of fresh noise in each step, in [0, 1].
    """

    highest: float
    lowest: float
    rho: float
    eta: float

    def sigmas(self, steps: int) -> tuple[float, ...]:
        """The levels without the final 0."""
        return tuple(
            float(sigma) for sigma in karras_between(self.highest, self.lowest, steps, self.rho)
        )


class Axis(NamedTuple):
    """What is tried of one number.

    Attributes:
        coarse: values of the grid.
        least, most: between which it is refined.
        stride: of the first refinement: a factor, or of ``eta`` a difference.
    """

    coarse: tuple[float, ...]
    least: float
    most: float
    stride: float

    def moved(self, value: float, by: float) -> float:
        """Six digits are kept, so that the same place is the same number however it was reached."""
        found = value * self.stride**by if self.stride > 1 else value + self.stride * by
        return min(max(float(f"{found:.6g}"), self.least), self.most)


def axes_for(schedule: NoiseSchedule) -> dict[str, Axis]:
    """What is tried for a chain, by the fields of `Levels`: 18 points of the grid, then around the
    best.
    """
    low = float(schedule.sigmas[0])
    high = float(schedule.sigmas[-1])
    return {
        "highest": Axis((3.0, 10.0, 40.0), 0.5, high, 2.0),
        "lowest": Axis((low, 0.1), low, 0.4, 2.0),
        "rho": Axis((5.0,), 1.0, 100.0, 1.6),
        "eta": Axis((0.4, 0.7, 1.0), 0.0, 1.0, 0.15),
    }


def search(
    measure: Callable[[Levels], float], axes: Mapping[str, Axis], halvings: int = 2
) -> Levels:
    """The levels with the least ``measure``: the best of the coarse grid, refined one number after
    the other.

    From the best point each number is moved by its stride, up and down; what is better is kept.
    When nothing is, the strides are halved. The same points are asked for in the same order in
    every run.

    Args:
        measure: of what is to be as small as possible; never called twice for a point.
        axes: by the fields of `Levels`.
        halvings: of the strides.
    """
    known: dict[Levels, float] = {}

    def value(levels: Levels) -> float:
        if levels not in known:
            known[levels] = measure(levels)
        return known[levels]

    grid = itertools.product(*(axes[name].coarse for name in Levels._fields))
    best = min((Levels(*point) for point in grid), key=value)

    for halving in range(halvings + 1):
        while (better := _step(best, axes, 0.5**halving, value)) != best:
            best = better

    return best


def _step(
    best: Levels, axes: Mapping[str, Axis], share: float, value: Callable[[Levels], float]
) -> Levels:
    """One round over all numbers."""
    for name in Levels._fields:
        axis = axes[name]
        tried = [
            best._replace(**{name: axis.moved(getattr(best, name), by * share)}) for by in (-1, 1)
        ]
        best = min((best, *(one for one in tried if one.lowest < one.highest)), key=value)
    return best
