"""The method ``repaint``."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from operators import SpectralOperator
from restore.methods.defaults import Defaults
from restore.methods.method import Method
from restore.methods.parameter import Parameter
from restore.methods.run import Run
from restore.methods.starts import begun
from restore.solvers import repaint
from restore.solvers.jumps import plan_within
from restore.solvers.repaint import takes_components


def solve(run: Run) -> Tensor:
    """Sample what was not measured, and go back up in noise as often as the calls allow."""
    problem = run.problem
    jump_length = int(run.parameter("jump_length"))
    resamplings = int(run.parameter("resamplings"))
    levels, resamplings = plan_within(run.settings.steps, jump_length, resamplings)
    return repaint(
        run.denoiser,
        cast(SpectralOperator, problem.model_operator),  # which repaint checks
        problem.model_measurement,
        run.noise_level,
        run.levels(levels),
        generator=run.generator,
        jump_length=jump_length,
        resamplings=resamplings,
        start=begun(run),
        callback=run.callback,
    )


REPAINT = Method(
    "repaint",
    "RePaint: inpainting by denoising diffusion with resampling (Lugmayr et al. 2022, arXiv "
    "2201.09865)",
    solve,
    Defaults(steps=20, highest=1.0),
    by_kind={"inpaint": Defaults(steps=20, highest="filled holes", classical_start=True)},
    for_samples={"inpaint": Defaults(steps=20, highest="holes")},
    takes=takes_components,
    operators="masks, mosaics and compressed sensing, whose singular values are 0 or 1",
    refusals={"eta": "takes the steps of DDPM, all of whose noise is fresh; use {others}"},
    parameters=(
        Parameter("jump_length", 1, 1, 1000, "noise levels of a jump back up, j", whole=True),
        Parameter(
            "resamplings",
            2,
            1,
            1000,
            "times that these levels are sampled, r; 1: no jumps",
            whole=True,
        ),
    ),
)
