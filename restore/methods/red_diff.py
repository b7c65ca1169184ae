"""The method ``red-diff``."""

from __future__ import annotations

from torch import Tensor

from restore.methods.defaults import Defaults
from restore.methods.method import Method
from restore.methods.parameter import Parameter
from restore.methods.run import Run
from restore.methods.starts import smooth_start
from restore.solvers import red_diff


def solve(run: Run) -> Tensor:
    """Find one mode of the posterior by stochastic optimisation."""
    problem = run.problem
    return red_diff(
        run.denoiser,
        problem.model_operator,
        problem.model_measurement,
        run.noise_level,
        run.sigmas,
        generator=run.generator,
        strength=run.parameter("strength"),
        rate=run.parameter("rate"),
        start=smooth_start(run),
        final_projection=True,
        callback=run.callback,
    )


RED_DIFF = Method(
    "red-diff",
    "Regularisation by denoising diffusion, a variational method (Mardani et al. 2023, arXiv "
    "2305.04391)",
    solve,
    Defaults(steps=20, highest=1.0),
    by_kind={
        "deblur": Defaults(steps=20, highest=0.4, lowest="noise", parameters={"strength": 0.05}),
        "denoise": Defaults(steps=20, highest=1.0, parameters={"strength": 4.0}),
        "inpaint": Defaults(steps=20, highest="filled holes", classical_start=True),
    },
    stochastic=False,
    refusals={
        "samples": "finds one mode of the posterior; use {others} for samples",
        "eta": "has no fraction of fresh noise; use {others}",
    },
    parameters=(
        Parameter("strength", 0.25, 0, 100, "weight of the prior beside the measurement, λ"),
        Parameter("rate", 0.03, 1e-4, 1, "learning rate of Adam, for pixels in [-1, 1]"),
    ),
    stage_noise=0.02,
)
