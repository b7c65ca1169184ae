"""The method ``snips``."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from operators import SpectralOperator
from restore.methods.defaults import Defaults
from restore.methods.method import Method
from restore.methods.parameter import Parameter
from restore.methods.run import Run
from restore.methods.starts import begun
from restore.solvers import snips


def solve(run: Run) -> Tensor:
    """Anneal Langevin dynamics in the spectral coordinates of the operator."""
    problem = run.problem
    steps_each = min(int(run.parameter("steps_each")), run.settings.steps)
    return snips(
        run.denoiser,
        cast(SpectralOperator, problem.model_operator),  # which snips checks
        problem.model_measurement,
        run.noise_level,
        run.levels(run.settings.steps // steps_each),
        generator=run.generator,
        steps_each=steps_each,
        step_size=run.parameter("step_size") or None,
        consistent=bool(run.parameter("consistent")),
        start=begun(run),
        final_projection=True,
        callback=run.callback,
    )


SNIPS = Method(
    "snips",
    "Solving Noisy Inverse Problems Stochastically (Kawar et al. 2021, arXiv 2105.14951)",
    solve,
    Defaults(steps=100, highest=1.0),
    by_kind={"inpaint": Defaults(steps=100, highest="filled holes", classical_start=True)},
    for_samples={"inpaint": Defaults(steps=100, highest="holes")},
    takes=lambda operator: operator.has_svd,
    needs_svd=True,
    refusals={"eta": "has a step size instead: give the parameter step_size"},
    parameters=(
        Parameter("steps_each", 1, 1, 1000, "Langevin steps at each level, τ", whole=True),
        Parameter("step_size", 0.5, 0, 1, "step size, c; 0 takes the best for Langevin dynamics"),
        Parameter(
            "consistent", 1, 0, 1, "1 anneals consistently, 0 is the paper's Langevin dynamics",
            whole=True,
        ),
    ),
    stage_noise=0.02,
)  # fmt: skip
