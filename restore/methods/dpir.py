"""The method ``dpir``."""

from __future__ import annotations

from torch import Tensor

from restore.methods.defaults import Defaults
from restore.methods.method import Method
from restore.methods.parameter import Parameter
from restore.methods.run import Run
from restore.methods.starts import smooth_start
from restore.solvers import dpir


def solve(run: Run) -> Tensor:
    """Alternate between a proximal step towards the measurement and denoising."""
    problem = run.problem
    return dpir(
        run.denoiser,
        problem.model_operator,
        problem.model_measurement,
        run.noise_level,
        run.sigmas,
        strength=run.parameter("strength"),
        start=smooth_start(run),
        final_projection=True,
        callback=run.callback,
    )


DPIR = Method(
    "dpir",
    "Plug-and-play restoration by half-quadratic splitting (Zhang et al. 2021, arXiv 2008.13751)",
    solve,
    Defaults(steps=8, highest=0.4, lowest="noise"),
    by_kind={
        "compressed": Defaults(
            steps=8,
            highest="rounding",
            lowest="rounding",
            parameters={"strength": 0.5},
        ),
        "demosaic": Defaults(
            steps=4,
            highest=0.04,
            lowest="noise",
            classical_start=True,
            above_noise=2.4,
            parameters={"strength": 0.03},
        ),
        "deblur": Defaults(steps=20, highest=0.4, lowest="noise"),
        "inpaint": Defaults(steps=20, highest="filled holes", lowest="noise", classical_start=True),
    },
    stochastic=False,
    refusals={
        "samples": "has one answer; use {others} for samples",
        "eta": "adds no noise; use {others}",
    },
    parameters=(Parameter("strength", 0.18, 1e-4, 100, "weight of the denoised picture, λ"),),
    takes_noise_maps=True,
    stage_noise=0.02,
)
