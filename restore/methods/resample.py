"""The method ``resample``."""

from __future__ import annotations

from torch import Tensor

from restore.methods.latents import BY_KIND, REFUSALS, SETTINGS, within_range
from restore.methods.method import Method
from restore.methods.parameter import Parameter
from restore.methods.run import Run
from restore.methods.starts import smooth_start
from restore.solvers import resample


def solve(run: Run) -> Tensor:
    """Make clean latents explain the measurement at some levels, and noise them again."""
    problem = run.problem
    pictures = resample(
        run.denoiser,
        run.autoencoder,
        problem.model_operator,
        problem.model_measurement,
        run.noise_level,
        run.sigmas,
        generator=run.generator,
        gamma=run.parameter("gamma"),
        every=int(run.parameter("every")),
        iterations=int(run.parameter("iterations")),
        rate=run.parameter("rate"),
        eta=run.eta,
        start=smooth_start(run),
        callback=run.callback,
    )
    return within_range(run, pictures)


RESAMPLE = Method(
    "resample",
    "ReSample: hard data consistency and stochastic resampling (Song et al. 2023, arXiv "
    "2307.08123)",
    solve,
    SETTINGS,
    by_kind=BY_KIND,
    stand_in="resample",
    latents=True,
    refusals=REFUSALS,
    parameters=(
        Parameter("gamma", 40, 0, 1e6, "how far resampling follows what explains IN, γ"),
        Parameter("every", 5, 1, 1000, "steps from one resampling to the next, k", whole=True),
        Parameter("iterations", 20, 1, 1000, "most steps of Adam for one of them", whole=True),
        Parameter("rate", 0.05, 1e-4, 1, "learning rate of Adam, in units of latents"),
    ),
    takes_noise_maps=True,
    stage_noise=0.02,
)
