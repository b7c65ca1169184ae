"""The method ``latent-dps``."""

from __future__ import annotations

from torch import Tensor

from restore.methods.latents import BY_KIND, REFUSALS, SETTINGS, STEP_SIZE, within_range
from restore.methods.method import Method
from restore.methods.run import Run
from restore.methods.starts import smooth_start
from restore.solvers import latent_dps


def solve(run: Run) -> Tensor:
    """Alternate between a step back along the chain of latents and one down the misfit."""
    problem = run.problem
    pictures = latent_dps(
        run.denoiser,
        run.autoencoder,
        problem.model_operator,
        problem.model_measurement,
        run.noise_level,
        run.sigmas,
        generator=run.generator,
        step_size=run.parameter("step_size"),
        eta=run.eta,
        start=smooth_start(run),
        callback=run.callback,
    )
    return within_range(run, pictures)


LATENT_DPS = Method(
    "latent-dps",
    "Diffusion Posterior Sampling over latents (Chung et al. 2022, arXiv 2209.14687; Rout et al. "
    "2023, arXiv 2307.00619)",
    solve,
    SETTINGS,
    by_kind=BY_KIND,
    stand_in="resample",
    latents=True,
    needs_gradient=True,
    refusals=REFUSALS,
    parameters=(STEP_SIZE,),
    stage_noise=0.02,
)
