"""The method ``conjugate-pigdm``."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from operators import LinearOperator
from restore.methods.beginnings import by_holes, of_samples
from restore.methods.defaults import Defaults
from restore.methods.method import Method
from restore.methods.parameter import Parameter
from restore.methods.requirements import LINEAR, takes_linear
from restore.methods.run import Run
from restore.methods.starts import smooth_start
from restore.solvers import conjugate_pigdm


def solve(run: Run) -> Tensor:
    """Integrate the guided flow, its linear part exactly."""
    problem = run.problem
    return conjugate_pigdm(
        run.denoiser,
        cast(LinearOperator, problem.model_operator),  # what it takes
        problem.model_measurement,
        run.noise_level,
        run.sigmas,
        generator=run.generator,
        weight=run.parameter("weight"),
        damping=run.parameter("damping"),
        start=smooth_start(run),
        final_projection=True,
        callback=run.callback,
    )


SETTINGS = Defaults(steps=10, highest=1.0)

CONJUGATE_PIGDM = Method(
    "conjugate-pigdm",
    "Fast Samplers for Inverse Problems in Iterative Refinement Models (Pandey et al. 2024, arXiv "
    "2405.17673)",
    solve,
    SETTINGS,
    by_kind=by_holes(SETTINGS),
    for_samples=of_samples(SETTINGS),
    takes=takes_linear,
    operators=LINEAR,
    needs_gradient=True,
    refusals={"eta": "adds no noise after the start; use {others}"},
    parameters=(
        Parameter("weight", 16.0, 0.0, 100.0, "weight of the guidance, w"),
        Parameter(
            "damping",
            1.0,
            -10.0,
            10.0,
            "damping of the integrated variable, per unit of the schedule's time, λ",
        ),
    ),
    stage_noise=0.02,
)
