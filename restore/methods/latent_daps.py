"""The method ``latent-daps``."""

from __future__ import annotations

from torch import Tensor

from restore.methods.latents import BY_KIND, REFUSALS, SETTINGS, within_range
from restore.methods.method import Method
from restore.methods.parameter import Parameter
from restore.methods.run import Run
from restore.methods.starts import smooth_start
from restore.solvers import latent_daps


def solve(run: Run) -> Tensor:
    """Anneal by drawing latents that explain the measurement, and adding less noise."""
    problem = run.problem
    ode_calls = int(run.parameter("ode_calls"))
    pictures = latent_daps(
        run.denoiser,
        run.autoencoder,
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
        momentum=run.parameter("momentum"),
        start=smooth_start(run),
        callback=run.callback,
    )
    return within_range(run, pictures)


LATENT_DAPS = Method(
    "latent-daps",
    "Decoupled Annealing Posterior Sampling over latents (Zhang et al. 2024, arXiv 2407.01521)",
    solve,
    SETTINGS,
    by_kind=BY_KIND,
    stand_in="resample",
    latents=True,
    refusals={**REFUSALS, "eta": "renews all noise at every level; leave it out"},
    parameters=(
        Parameter(
            "ode_calls", 1, 1, 100, "network calls of the probability flow at each level",
            whole=True,
        ),
        Parameter("prior_std", 1, 1e-4, 1000, "spread of the prior, for latents, τ"),
        Parameter(
            "langevin_time", 1e6, 0, 1e6, "time of a draw, for squared latents, T; large: exact"
        ),
        Parameter("langevin_steps", 20, 1, 1000, "Langevin steps at each level", whole=True),
        Parameter("step_size", 0.5, 1e-3, 1, "fraction of the largest stable step, h"),
        Parameter("momentum", 0.9, 0, 0.999, "momentum of the Langevin steps, m"),
    ),
    takes_noise_maps=True,
    stage_noise=0.02,
)  # fmt: skip
