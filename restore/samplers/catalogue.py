"""Samplers by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from torch import Tensor

from restore.diffusion.protocol import DenoiserLike
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
from restore.samplers.extended_analytic_dpm import extended_analytic_dpm
from restore.samplers.langevin import annealed_langevin, consistent_langevin
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
    """A sampler and its properties.

    Attributes:
        run: ``run(denoise, x, sigmas, …)``.
        about: Name in the literature.
        random: Whether it draws noise and so takes a ``generator``.
        least_steps: Smallest number of steps.
        levels: Default grid of noise levels, see `restore.diffusion.schedule.LEVELS`.
        learned_variance: Whether it needs a network with a learned variance of any kind.
        noise_variance: Whether that is a `restore.diffusion.protocol.Prediction.noise_variance`.
        score_norms: Whether it takes ``norms``, see `restore.samplers.analytic_dpm.ScoreNorms`.
        per_picture: Whether a picture's result is the same in a batch and alone.
    """

    run: Callable[..., Tensor]
    about: str
    random: bool = False
    least_steps: int = 1
    levels: str = "log-snr"
    learned_variance: bool = False
    noise_variance: bool = False
    score_norms: bool = False
    per_picture: bool = True


SAMPLERS = {
    "ddpm": Sampler(
        ancestral,
        "DDPM's ancestral sampling with the posterior's variance",
        random=True,
        levels="uniform",
    ),
    "ddpm-large": Sampler(
        partial(ancestral, variance="forward"),
        "DDPM's ancestral sampling with the chain's variance",
        random=True,
        levels="uniform",
    ),
    "ddpm-learned": Sampler(
        partial(ancestral, variance="learned"),
        "Improved DDPM's ancestral sampling with the network's own variance",
        random=True,
        levels="uniform",
        learned_variance=True,
    ),
    "analytic-ddpm": Sampler(
        analytic_dpm,
        "Analytic-DDPM: ancestral, with the optimal variance",
        random=True,
        levels="uniform",
        score_norms=True,
    ),
    "analytic-ddim": Sampler(
        partial(analytic_dpm, eta=0.0, last_noise=1.0),
        "Analytic-DDIM: η = 0, with the optimal variance",
        random=True,
        levels="uniform",
        score_norms=True,
    ),
    "npr-ddpm": Sampler(
        extended_analytic_dpm,
        "NPR-DDPM, or SN-DDPM: ancestral, with the network's own optimal variance of each pixel",
        random=True,
        levels="uniform",
        learned_variance=True,
        noise_variance=True,
    ),
    "npr-ddim": Sampler(
        partial(extended_analytic_dpm, eta=0.0, last_noise=1.0),
        "NPR-DDIM, or SN-DDIM: η = 0, with the network's own optimal variance of each pixel",
        random=True,
        levels="uniform",
        learned_variance=True,
        noise_variance=True,
    ),
    "ddim": Sampler(ddim, "DDIM, η = 0"),
    "ddim-eta": Sampler(partial(ddim, eta=0.85), "DDIM, η = 0.85", random=True),
    "dpm-solver-1": Sampler(dpm_solver_1, "DPM-Solver-1"),
    "dpm-solver-2": Sampler(dpm_solver_2, "DPM-Solver-2, two calls a step", least_steps=2),
    "dpm-solver-3": Sampler(dpm_solver_3, "DPM-Solver-3, three calls a step", least_steps=2),
    "dpmpp-2s": Sampler(dpm_solver_pp_2s, "DPM-Solver++(2S), two calls a step", least_steps=2),
    "dpmpp-2m": Sampler(dpm_solver_pp_2m, "DPM-Solver++(2M)", least_steps=2),
    "dpmpp-3m": Sampler(dpm_solver_pp_3m, "DPM-Solver++(3M)", least_steps=3),
    "sde-dpm-1": Sampler(sde_dpm_solver_1, "SDE-DPM-Solver-1", random=True),
    "sde-dpmpp-2m": Sampler(
        sde_dpm_solver_pp_2m, "SDE-DPM-Solver++(2M)", random=True, least_steps=2
    ),
    "unipc": Sampler(unipc, "UniPC-3", least_steps=3),
    "euler": Sampler(euler, "EDM's Euler rule", levels="karras"),
    "heun": Sampler(heun, "EDM's Heun rule, two calls a step", least_steps=2, levels="karras"),
    "edm": Sampler(
        edm_stochastic,
        "EDM's stochastic sampler, two calls a step",
        random=True,
        least_steps=2,
        levels="karras",
    ),
    "langevin": Sampler(
        consistent_langevin,
        "NCSN's annealed Langevin dynamics with consistent noise levels",
        random=True,
    ),
    "langevin-ncsn": Sampler(
        annealed_langevin,
        "NCSN's annealed Langevin dynamics as published, five calls a step",
        random=True,
        least_steps=2,
    ),
    "sde-vp": Sampler(
        partial(euler_maruyama, sde=VariancePreserving()),
        "Score SDE (VP) by Euler and Maruyama",
        random=True,
        levels="uniform",
    ),
    "sde-subvp": Sampler(
        partial(euler_maruyama, sde=SubVariancePreserving()),
        "Score SDE (sub-VP) by Euler and Maruyama",
        random=True,
    ),
    "reverse-diffusion": Sampler(
        reverse_diffusion, "Score SDE (VE), reverse diffusion", random=True
    ),
    "predictor-corrector": Sampler(
        predictor_corrector,
        "Score SDE (VE), predictor and corrector",
        random=True,
        per_picture=False,
    ),
    "ode": Sampler(
        probability_flow,
        "Score SDE's probability flow, by an adaptive solver",
        least_steps=2,
        per_picture=False,
    ),
}


def check_variance(name: str, denoise: DenoiserLike) -> None:
    """Check that a sampler suits a network.

    Raises:
        BadArgument: If the sampler needs a variance that the network has not learned.
    """
    sampler = SAMPLERS[name]
    if sampler.noise_variance and not denoise.noise_variance:
        raise BadArgument(
            f"`sampler`={name}: this model does not predict the variance of the noise, as one of "
            "restore train --recipe npr-ddpm does; analytic-ddpm estimates it for all pixels"
        )
    if sampler.learned_variance and not (sampler.noise_variance or denoise.learned_variance):
        fixed = "ddpm and ddpm-large take a fixed one"
        raise BadArgument(
            f"`sampler`={name}: this model has not learned the variance of its steps; {fixed}"
        )
