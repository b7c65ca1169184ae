"""The method ``ddnm``."""

from __future__ import annotations

from torch import Tensor

from operators import LinearOperator
from restore.methods.beginnings import by_holes, of_samples
from restore.methods.defaults import Defaults
from restore.methods.method import Method
from restore.methods.parameter import Parameter
from restore.methods.requirements import DECOMPOSED, LINEAR, takes_decomposed, takes_linear
from restore.methods.run import Run
from restore.methods.starts import smooth_start
from restore.solvers import ddnm
from restore.solvers.jumps import plan_within


def solve(run: Run) -> Tensor:
    """Project each clean estimate onto the measurement, as far as its noise allows."""
    problem = run.problem
    assert isinstance(problem.model_operator, LinearOperator)  # what it takes
    length = int(run.parameter("travel_length"))
    levels, repeats = plan_within(run.settings.steps, length, int(run.parameter("travel_repeats")))
    return ddnm(
        run.denoiser,
        problem.model_operator,
        problem.model_measurement,
        run.noise_level,
        run.levels(levels),
        generator=run.generator,
        eta=run.eta,
        travel_length=length,
        travel_repeats=repeats,
        start=smooth_start(run),
        final_projection=True,
        callback=run.callback,
    )


SETTINGS = Defaults(steps=20, highest=1.0)

DDNM = Method(
    "ddnm",
    "Denoising Diffusion Null-Space Model, DDNM+ with noise (Wang, Yu, Zhang 2022, arXiv "
    "2212.00490)",
    solve,
    SETTINGS,
    by_kind={
        "colorize": Defaults(steps=20, highest=0.2, classical_start=True),
        **by_holes(SETTINGS),
    },
    for_samples={
        "colorize": Defaults(steps=20, highest=1.0, classical_start=True),
        **of_samples(SETTINGS),
    },
    takes=takes_linear,
    operators=LINEAR,
    takes_noisy=takes_decomposed,
    noisy_operators=DECOMPOSED,
    parameters=(
        Parameter(
            "travel_length", 1, 1, 1000, "levels that a time travel goes back, l", whole=True
        ),
        Parameter(
            "travel_repeats",
            1,
            1,
            1000,
            "times that these levels are passed, r; 1: no time travel",
            whole=True,
        ),
    ),
    stage_noise=0.06,
    noises_stages=True,
)
