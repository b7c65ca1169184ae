"""The method ``ddpg``."""

from __future__ import annotations

from torch import Tensor

from operators import LinearOperator
from restore.methods.beginnings import by_holes, of_samples
from restore.methods.defaults import Defaults
from restore.methods.method import Method
from restore.methods.parameter import Parameter
from restore.methods.requirements import LINEAR, takes_linear
from restore.methods.run import Run
from restore.methods.starts import smooth_start
from restore.solvers import ddpg


def solve(run: Run) -> Tensor:
    """Guide each clean estimate by a preconditioned residual."""
    problem = run.problem
    assert isinstance(problem.model_operator, LinearOperator)  # what it takes
    return ddpg(
        run.denoiser,
        problem.model_operator,
        problem.model_measurement,
        run.noise_level,
        run.sigmas,
        generator=run.generator,
        zeta=run.eta,
        gamma=run.parameter("gamma"),
        eta_tilde=run.parameter("eta_tilde"),
        c=run.parameter("c"),
        decay=run.parameter("decay"),
        start=smooth_start(run),
        final_projection=True,
        callback=run.callback,
    )


SETTINGS = Defaults(steps=20, highest=1.0)

DDPG = Method(
    "ddpg",
    "Denoising Diffusion with Iteratively Preconditioned Guidance (Garber, Tirer 2023, arXiv "
    "2312.16519)",
    solve,
    SETTINGS,
    by_kind={
        "deblur": SETTINGS._replace(parameters={"gamma": 30.0, "eta_tilde": 6.0}),
        "denoise": SETTINGS._replace(parameters={"c": 0.1}),
        "colorize": Defaults(steps=20, highest=0.2, classical_start=True),
        **by_holes(SETTINGS),
    },
    for_samples={
        "colorize": Defaults(steps=20, highest=1.0, classical_start=True),
        **of_samples(SETTINGS),
    },
    takes=takes_linear,
    operators=LINEAR,
    parameters=(
        Parameter("gamma", 8.0, 0.0, 1000.0, "how late least squares guides, exponent of ᾱ, γ"),
        Parameter(
            "eta_tilde",
            1.0,
            1e-6,
            1e6,
            "regularisation of the back-projection, in units of σ_y² for pixels in [-1, 1], η̃",
        ),
        Parameter("c", 1.0, 0.0, 1e6, "step of least squares, at most 1/‖A‖² of the operator A"),
        Parameter("decay", 0.0, 0.0, 1.0, "exponent of the step size; 0 is a constant step of 1"),
    ),
    stage_noise=0.02,
)
