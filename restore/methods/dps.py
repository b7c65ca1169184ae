"""The method ``dps``."""

from __future__ import annotations

from torch import Tensor

from restore.methods.beginnings import by_kind, of_samples
from restore.methods.defaults import Defaults
from restore.methods.method import Method
from restore.methods.parameter import Parameter
from restore.methods.run import Run
from restore.methods.starts import smooth_start
from restore.solvers import dps


def solve(run: Run) -> Tensor:
    """Alternate between a step back along the chain and one down the misfit."""
    problem = run.problem
    return dps(
        run.denoiser,
        problem.model_operator,
        problem.model_measurement,
        run.noise_level,
        run.sigmas,
        generator=run.generator,
        step_size=2 * run.parameter("step_size"),
        eta=run.eta,
        start=smooth_start(run),
        final_projection=True,
        callback=run.callback,
    )


SETTINGS = Defaults(steps=50, highest=1.0, noisy_eta=1.0)

DPS = Method(
    "dps",
    "Diffusion Posterior Sampling (Chung et al. 2022, arXiv 2209.14687)",
    solve,
    SETTINGS,
    by_kind=by_kind(SETTINGS, compressed_steps=50),
    for_samples=of_samples(SETTINGS),
    needs_gradient=True,
    parameters=(
        Parameter(
            "step_size",
            0.02,
            0.0,
            1.0,
            "largest RMS that a step moves a picture by, for pixels in [0, 1], s",
        ),
    ),
    stage_noise=0.02,
)
