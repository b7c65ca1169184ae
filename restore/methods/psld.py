"""The method ``psld``."""

from __future__ import annotations

from torch import Tensor

from restore.methods.latents import BY_KIND, REFUSALS, SETTINGS, STEP_SIZE, within_range
from restore.methods.method import Method
from restore.methods.parameter import Parameter
from restore.methods.run import Run
from restore.methods.starts import smooth_start
from restore.solvers import psld


def solve(run: Run) -> Tensor:
    """Step back along the chain, down the misfit, and towards latents of their own picture."""
    problem = run.problem
    pictures = psld(
        run.denoiser,
        run.autoencoder,
        problem.model_operator,
        problem.model_measurement,
        run.noise_level,
        run.sigmas,
        generator=run.generator,
        step_size=run.parameter("step_size"),
        gluing=run.parameter("gluing"),
        eta=run.eta,
        start=smooth_start(run),
        callback=run.callback,
    )
    return within_range(run, pictures)


PSLD = Method(
    "psld",
    "Posterior Sampling with Latent Diffusion (Rout et al. 2023, arXiv 2307.00619)",
    solve,
    SETTINGS,
    by_kind=BY_KIND,
    stand_in="resample",
    latents=True,
    needs_gradient=True,
    refusals=REFUSALS,
    parameters=(
        STEP_SIZE,
        Parameter(
            "gluing", 0.05, 0.0, 1.0, "largest RMS that gluing moves latents by in a step, g"
        ),
    ),
    stage_noise=0.02,
)
