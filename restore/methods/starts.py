"""Initial pictures of reverse processes: predicted, smooth or classical estimates."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from operators import ColorFilterArray, NonlinearChain
from restore.methods.holes import holes_of
from restore.methods.run import Run
from restore.metrics.demosaicking import demosaicked
from restore.solvers import project
from restore.solvers.consistency import of_pictures
from restore.tasks.problem import Problem

# Largest number of unknown pixels for a biharmonic fill, which solves a system of that size.
BIHARMONIC_LIMIT = 200_000


def begun(run: Run) -> Tensor | None:
    """Return the initial picture of the process; None leaves it to the method."""
    if run.predicts:
        return run.predicted
    if run.start is None and run.settings.classical_start:
        return classical_estimate(run.problem)

    return run.start


def smooth_start(run: Run) -> Tensor:
    """Return the initial picture of the process, by default a smooth estimate."""
    start = begun(run)
    return smooth_estimate(run) if start is None else start


def smooth_estimate(run: Run) -> Tensor:
    """Return a regularised estimate without a prior, grey where nothing was measured."""
    problem = run.problem
    operator = problem.model_operator
    y = problem.model_measurement
    noise: Tensor | float = run.noise_level
    if isinstance(operator, NonlinearChain):
        if operator.linear is None:
            return y
        noise = torch.hypot(torch.as_tensor(of_pictures(noise)).to(y), operator.error(y))
        operator = operator.linear

    grey = y.new_zeros(len(y), *operator.input_shape)
    return project(operator, grey, y, noise, prior_std=0.5, exact=False)


def classical_estimate(problem: Problem) -> Tensor:
    """Fill holes by a classical method, and interpolate mosaics; unknown colours are grey.

    Returns:
        Pictures [B, 3, H, W] in [-1, 1].
    """
    if isinstance(problem.operator, ColorFilterArray):
        return 2 * demosaicked(problem.measurement, problem.operator) - 1

    from restore.metrics.classical import inpaint  # OpenCV and scikit-image take long to import

    measured = problem.measurement.expand(-1, 3, -1, -1)
    unknown = holes_of(problem.operator)
    if unknown is None:
        return 2 * measured - 1

    holes = unknown.any(dim=-3).expand(len(measured), -1, -1)
    small = int(holes.sum(dim=(1, 2)).max()) <= BIHARMONIC_LIMIT and min(holes.shape[1:]) >= 8
    method: Literal["biharmonic", "navier-stokes"] = "biharmonic" if small else "navier-stokes"
    pictures = measured.permute(0, 2, 3, 1).cpu().numpy()
    pairs = zip(pictures, holes.cpu().numpy(), strict=True)
    filled = np.stack([inpaint(picture, hole, method) for picture, hole in pairs])

    return 2 * torch.from_numpy(filled).permute(0, 3, 1, 2).to(measured) - 1
