"""The method ``diffpir``."""

from __future__ import annotations

from torch import Tensor

from restore.methods.beginnings import by_holes, of_samples
from restore.methods.defaults import Defaults
from restore.methods.method import Method
from restore.methods.run import Run
from restore.methods.starts import smooth_start
from restore.solvers import diffpir


def solve(run: Run) -> Tensor:
    """Alternate between denoising and a proximal step towards the measurement."""
    problem = run.problem
    return diffpir(
        run.denoiser,
        problem.model_operator,
        problem.model_measurement,
        run.noise_level,
        run.sigmas,
        generator=run.generator,
        zeta=run.eta,
        start=smooth_start(run),
        final_projection=True,
        callback=run.callback,
    )


SETTINGS = Defaults(steps=20, highest=1.0, noisy_eta=1.0)

DIFFPIR = Method(
    "diffpir",
    "Denoising Diffusion Models for Plug-and-Play Image Restoration (Zhu et al. 2023, arXiv "
    "2305.08995)",
    solve,
    SETTINGS,
    by_kind={
        "compressed": Defaults(steps=10, highest="rounding", lowest="rounding"),
        "sr+jpeg": SETTINGS._replace(eta=0.6),
        **by_holes(SETTINGS),
    },
    for_samples=of_samples(SETTINGS),
    compared=True,
    takes_noise_maps=True,
    stage_noise=0.02,
)
