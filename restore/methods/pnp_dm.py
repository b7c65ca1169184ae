"""The method ``pnp-dm``."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from restore.methods.beginnings import by_kind, of_samples
from restore.methods.defaults import Defaults
from restore.methods.langevin import LANGEVIN
from restore.methods.method import Method
from restore.methods.parameter import Parameter
from restore.methods.run import Run
from restore.methods.starts import smooth_start
from restore.solvers import pnp_dm


def solve(run: Run) -> Tensor:
    """Draw from the likelihood and from the prior in turn, with a falling coupling."""
    problem = run.problem
    reverse_steps = min(int(run.parameter("reverse_steps")), run.settings.steps)
    return pnp_dm(
        run.denoiser,
        problem.model_operator,
        problem.model_measurement,
        run.noise_level,
        couplings(run, run.settings.steps // reverse_steps),
        generator=run.generator,
        reverse_steps=reverse_steps,
        langevin_steps=int(run.parameter("langevin_steps")),
        step_size=run.parameter("step_size"),
        start=smooth_start(run),
        final_projection=True,
        callback=run.callback,
    )


def couplings(run: Run, count: int) -> list[float]:
    """Return ρ in geometric progression from the highest noise level to ρ_min, and a final 0."""
    highest = run.levels(1)[0]
    lowest = min(run.parameter("rho_min"), highest / 1.01)
    return [*(float(rho) for rho in np.geomspace(highest, lowest, count)), 0.0]


SETTINGS = Defaults(steps=100, highest=1.0)

PNP_DM = Method(
    "pnp-dm",
    "Plug-and-Play Diffusion Models by split Gibbs sampling (Wu et al. 2024, arXiv 2405.18782)",
    solve,
    SETTINGS,
    by_kind=by_kind(SETTINGS, compressed_steps=50),
    for_samples=of_samples(SETTINGS),
    refusals={"eta": "has the noise of its reverse diffusion; leave it out"},
    parameters=(
        Parameter("reverse_steps", 2, 1, 1000, "network calls of a prior step", whole=True),
        Parameter("rho_min", 0.05, 0.01, 10, "lowest coupling, for pixels in [-1, 1], ρ"),
        *LANGEVIN,
    ),
    takes_noise_maps=True,
    stage_noise=0.02,
)
