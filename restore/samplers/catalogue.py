"""The samplers by the names that the command knows them by."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from torch import Tensor

from restore.errors import BadArgument
from restore.samplers.analytic_dpm import analytic_dpm
from restore.samplers.ancestral import ancestral
from restore.samplers.ddim import ddim
from restore.samplers.dpm_solver import dpm_solver_1, dpm_solver_2, dpm_solver_3
from restore.samplers.dpm_solver_pp import (
    dpm_solver_pp_2m,
    dpm_solver_pp_2s,
    dpm_solver_pp_3m,
    sde_dpm_solver_1,
    sde_dpm_solver_pp_2m,
)
from restore.samplers.edm import edm_stochastic, euler, heun
from restore.samplers.langevin import annealed_langevin
from restore.samplers.score_sde import (
    SubVariancePreserving,
    VariancePreserving,
    euler_maruyama,
    predictor_corrector,
    probability_flow,
    reverse_diffusion,
)
from restore.samplers.unipc import unipc


class Sampler(NamedTuple):
    """A sampler with what a user must know of it."""

    run: Callable[..., Tensor]
    """``run(denoise, x, sigmas, …)``"""
    about: str
    """Its name in the literature."""
    random: bool
    """Whether it draws noise on the way, and so takes a ``generator``."""
    least_steps: int = 1
    levels: str = "log-snr"
    """The grid of noise levels that suits it, see `restore.diffusion.schedule.LEVELS`."""
    learned_variance: bool = False
    """Whether the network must have learned the variance of its steps."""
    score_norms: bool = False
    """Whether it takes ``norms``, see `restore.samplers.analytic_dpm.ScoreNorms`."""
    per_picture: bool = True
    """Whether a picture comes out of a batch as it would alone."""


SAMPLERS = {
    "ddpm": Sampler(
        ancestral, "DDPM's ancestral sampling with the posterior's variance", True, levels="uniform"
    ),
    "ddpm-large": Sampler(
        partial(ancestral, variance="forward"),
        "DDPM's ancestral sampling with the chain's variance",
        True,
        1,
        "uniform",
    ),
    "ddpm-learned": Sampler(
        partial(ancestral, variance="learned"),
        "Improved DDPM's ancestral sampling with the network's own variance",
        True,
        levels="uniform",
        learned_variance=True,
    ),
    "analytic-ddpm": Sampler(
        analytic_dpm,
        "Analytic-DDPM: ancestral, with the optimal variance",
        True,
        levels="uniform",
        score_norms=True,
    ),
    "analytic-ddim": Sampler(
        partial(analytic_dpm, eta=0.0, last_noise=1.0),
        "Analytic-DDIM: η = 0, with the optimal variance",
        True,
        levels="uniform",
        score_norms=True,
    ),
    "ddim": Sampler(ddim, "DDIM, η = 0", False),
    "ddim-eta": Sampler(partial(ddim, eta=0.85), "DDIM, η = 0.85", True),
    "dpm-solver-1": Sampler(dpm_solver_1, "DPM-Solver-1", False),
    "dpm-solver-2": Sampler(dpm_solver_2, "DPM-Solver-2, two calls a step", False, 2),
    "dpm-solver-3": Sampler(dpm_solver_3, "DPM-Solver-3, three calls a step", False, 2),
    "dpmpp-2s": Sampler(dpm_solver_pp_2s, "DPM-Solver++(2S), two calls a step", False, 2),
    "dpmpp-2m": Sampler(dpm_solver_pp_2m, "DPM-Solver++(2M)", False, 2),
    "dpmpp-3m": Sampler(dpm_solver_pp_3m, "DPM-Solver++(3M)", False, 3),
    "sde-dpm-1": Sampler(sde_dpm_solver_1, "SDE-DPM-Solver-1", True),
    "sde-dpmpp-2m": Sampler(sde_dpm_solver_pp_2m, "SDE-DPM-Solver++(2M)", True, 2),
    "unipc": Sampler(unipc, "UniPC-3", False, 3),
    "euler": Sampler(euler, "EDM's Euler rule", False, levels="karras"),
    "heun": Sampler(heun, "EDM's Heun rule, two calls a step", False, 2, "karras"),
    "edm": Sampler(edm_stochastic, "EDM's stochastic sampler, two calls a step", True, 2, "karras"),
    "langevin": Sampler(
        annealed_langevin, "NCSN's annealed Langevin dynamics, five calls a step", True, 2
    ),
    "sde-vp": Sampler(
        partial(euler_maruyama, sde=VariancePreserving()),
        "Score SDE (VP) by Euler and Maruyama",
        True,
        1,
        "uniform",
    ),
    "sde-subvp": Sampler(
        partial(euler_maruyama, sde=SubVariancePreserving()),
        "Score SDE (sub-VP) by Euler and Maruyama",
        True,
    ),
    "reverse-diffusion": Sampler(reverse_diffusion, "Score SDE (VE), reverse diffusion", True),
    "predictor-corrector": Sampler(
        predictor_corrector, "Score SDE (VE), predictor and corrector", True, per_picture=False
    ),
    "ode": Sampler(
        probability_flow,
        "Score SDE's probability flow, by an adaptive solver",
        False,
        2,
        per_picture=False,
    ),
}


def check_variance(name: str, learned_variance: bool) -> None:
    """See whether a sampler suits a network, which may have learned the variance of its steps or
    not.

    Raises:
        BadArgument: it needs the variance that the network has not learned.
    """
    if SAMPLERS[name].learned_variance and not learned_variance:
        fixed = "ddpm and ddpm-large take a fixed one"
        raise BadArgument(
            f"--sampler {name}: this model has not learned the variance of its steps; {fixed}"
        )
