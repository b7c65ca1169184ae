"""The method ``daps``."""

from __future__ import annotations

from torch import Tensor

from restore.methods.beginnings import by_kind, of_samples
from restore.methods.defaults import Defaults
from restore.methods.langevin import LANGEVIN
from restore.methods.method import Method
from restore.methods.parameter import Parameter
from restore.methods.run import Run
from restore.methods.starts import smooth_start
from restore.solvers import daps


def solve(run: Run) -> Tensor:
    """Anneal by drawing clean pictures that explain the measurement, and adding less noise."""
    problem = run.problem
    ode_calls = int(run.parameter("ode_calls"))
    return daps(
        run.denoiser,
        problem.model_operator,
        problem.model_measurement,
        run.noise_level,
        run.levels(1 + (run.settings.steps - 1) // ode_calls),
        generator=run.generator,
        ode_calls=ode_calls,
        prior_std=run.parameter("prior_std"),
        langevin_time=run.parameter("langevin_time"),
        langevin_steps=int(run.parameter("langevin_steps")),
        step_size=run.parameter("step_size"),
        start=smooth_start(run),
        callback=run.callback,
    )


SETTINGS = Defaults(steps=100, highest=1.0)

DAPS = Method(
    "daps",
    "Decoupled Annealing Posterior Sampling (Zhang et al. 2024, arXiv 2407.01521)",
    solve,
    SETTINGS,
    by_kind=by_kind(SETTINGS, compressed_steps=50),
    for_samples=of_samples(SETTINGS),
    refusals={"eta": "renews all noise at every level; leave it out"},
    parameters=(
        Parameter(
            "ode_calls",
            1,
            1,
            100,
            "network calls of the probability flow at each level",
            whole=True,
        ),
        Parameter("prior_std", 1000, 1e-4, 1000, "spread of the prior, for pixels in [-1, 1], τ"),
        Parameter(
            "langevin_time",
            2e-4,
            0,
            1e6,
            "time of a draw, for squared pixels in [-1, 1], T; large: exact",
        ),
        *LANGEVIN,
    ),
    takes_noise_maps=True,
    stage_noise=0.02,
)
