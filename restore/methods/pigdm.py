"""The method ``pigdm``."""

from __future__ import annotations

from torch import Tensor

from restore.methods.beginnings import by_kind, of_samples
from restore.methods.defaults import Defaults
from restore.methods.method import Method
from restore.methods.run import Run
from restore.methods.starts import smooth_start
from restore.solvers import pigdm


def solve(run: Run) -> Tensor:
    """Guide DDIM by the pseudo-inverse, through the Jacobian of the network."""
    problem = run.problem
    return pigdm(
        run.denoiser,
        problem.model_operator,
        problem.model_measurement,
        run.noise_level,
        run.sigmas,
        generator=run.generator,
        eta=run.eta,
        start=smooth_start(run),
        final_projection=True,
        callback=run.callback,
    )


SETTINGS = Defaults(steps=20, highest=1.0, noisy_eta=1.0)

PIGDM = Method(
    "pigdm",
    "Pseudoinverse-Guided Diffusion Models for Inverse Problems (Song et al., ICLR 2023)",
    solve,
    SETTINGS,
    by_kind=by_kind(SETTINGS, compressed_steps=20),
    for_samples=of_samples(SETTINGS),
    needs_gradient=True,
    takes_noise_maps=True,
    stage_noise=0.02,
)
