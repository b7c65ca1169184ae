"""The method ``ddrm``."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from operators import SpectralOperator, ValidConvolution
from restore.methods.conditions import PREDICTED_NOISE
from restore.methods.defaults import Defaults
from restore.methods.method import Method
from restore.methods.requirements import takes_decomposed
from restore.methods.run import Run
from restore.methods.starts import begun, smooth_estimate
from restore.solvers import ddrm, ddrm_unknown_border


def solve(run: Run) -> Tensor:
    """Sample from the posterior in the spectral coordinates of the operator."""
    problem = run.problem
    operator = problem.model_operator
    if isinstance(operator, ValidConvolution):
        return _with_unknown_border(run, operator)

    return ddrm(
        run.denoiser,
        cast(SpectralOperator, operator),  # which ddrm checks
        problem.model_measurement,
        run.noise_level,
        run.sigmas,
        generator=run.generator,
        eta=run.eta,
        start=begun(run),
        final_projection=True,
        callback=run.callback,
    )


def _with_unknown_border(run: Run, operator: ValidConvolution) -> Tensor:
    start = begun(run)
    return ddrm_unknown_border(
        run.denoiser,
        operator,
        run.problem.model_measurement,
        run.noise_level,
        run.sigmas,
        generator=run.generator,
        eta=run.settings.noisy_eta,
        start=smooth_estimate(run) if start is None else start,
        final_projection=True,
        callback=run.callback,
    )


DDRM = Method(
    "ddrm",
    "Denoising Diffusion Restoration Models (Kawar et al. 2022, arXiv 2201.11793)",
    solve,
    Defaults(steps=20, highest=1.0),
    with_predictor={
        "sr": Defaults(steps=8, highest=0.2, predicted=PREDICTED_NOISE, above_noise=8.0)
    },
    by_kind={
        "inpaint": Defaults(steps=20, highest="filled holes", classical_start=True),
        "colorize": Defaults(steps=20, highest=0.2, classical_start=True),
    },
    for_samples={
        "sr": Defaults(steps=20, highest=1.0),
        "inpaint": Defaults(steps=20, highest="holes"),
        "colorize": Defaults(steps=20, highest=1.0, classical_start=True),
    },
    takes=takes_decomposed,
    needs_svd=True,
    compared=True,
    stage_noise=0.06,
    noises_stages=True,
)
