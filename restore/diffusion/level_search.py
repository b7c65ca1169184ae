"""Search for a few noise levels by the quality of held-out pictures.

The noise levels of a network that takes continuous ones can be chosen after training, by trial.
WaveGrad (Chen et al. 2020, arXiv 2009.00713) tries a grid of values for each of six steps; SR3
(Saharia et al. 2021, arXiv 2104.07636) tries simple schedules and compares the FID of held-out
pictures, since PSNR does not measure perceptual quality. Here a schedule has four parameters,
whatever its length; the best point of a coarse grid is refined.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import NamedTuple

from restore.diffusion.schedule import NoiseSchedule, karras_between


class Levels(NamedTuple):
    """Parameters of a sampling schedule: EDM's grid between two levels, and η.

    Karras et al. 2022, arXiv 2206.00364, eq. 5.

    Attributes:
        highest, lowest: σ of the first and of the last step.
        rho: ρ; 1 is uniform in σ, infinity uniform in log σ.
        eta: Fraction of fresh noise in each step, in [0, 1].
    """

    highest: float
    lowest: float
    rho: float
    eta: float

    def sigmas(self, steps: int) -> tuple[float, ...]:
        """Noise levels without the final 0."""
        return tuple(
            float(sigma) for sigma in karras_between(self.highest, self.lowest, steps, self.rho)
        )


class Axis(NamedTuple):
    """Values to try for one parameter.

    Attributes:
        coarse: Values of the coarse grid.
        least, most: Range of the refinement.
        stride: First step of the refinement: a factor if above 1, else a difference.
    """

    coarse: tuple[float, ...]
    least: float
    most: float
    stride: float

    def moved(self, value: float, by: float) -> float:
        """Return a value moved by a fraction of the stride, within the range.

        It is rounded to six digits, so that a point is the same number however it was reached.
        """
        found = value * self.stride**by if self.stride > 1 else value + self.stride * by
        return min(max(float(f"{found:.6g}"), self.least), self.most)


def axes_for(schedule: NoiseSchedule) -> dict[str, Axis]:
    """Search space for a chain, by the fields of `Levels`: a coarse grid of 18 points."""
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
    """Minimise over levels: take the best of the coarse grid, then refine one parameter at a time.

    From the best point, each parameter is moved up and down by its stride; improvements are kept.
    When there are none, the strides are halved. The search is deterministic.

    Args:
        measure: Function to minimise; called at most once for each point.
        axes: Search space, by the fields of `Levels`.
        halvings: Number of times that the strides are halved.
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
    best: Levels, axes: Mapping[str, Axis], fraction: float, value: Callable[[Levels], float]
) -> Levels:
    """Try both directions of every parameter once, by a fraction of its stride."""
    for name in Levels._fields:
        axis = axes[name]
        tried = [
            best._replace(**{name: axis.moved(getattr(best, name), by * fraction)})
            for by in (-1, 1)
        ]
        best = min((best, *(one for one in tried if one.lowest < one.highest)), key=value)
    return best
