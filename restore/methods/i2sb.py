"""The method ``i2sb``."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from restore.diffusion.schedule import NoiseSchedule
from restore.methods.conditions import condition_of
from restore.methods.defaults import Defaults
from restore.methods.method import Method
from restore.methods.run import Run
from restore.methods.sr3 import ESTIMATE_ERROR
from restore.solvers.i2sb import i2sb


def solve(run: Run) -> Tensor:
    """Cross the bridge, with estimates projected onto the measurement."""
    return i2sb(
        run.denoiser,
        condition_of(run, "i2sb"),
        bridge_levels(run.denoiser.schedule, run.settings.steps),
        eta=0.0 if run.denoiser.config.bridge == "ot-ode" else run.eta,
        generator=run.generator,
        correct=run.consistent(ESTIMATE_ERROR),
        callback=run.callback_inside,
    )


def bridge_levels(schedule: NoiseSchedule, steps: int) -> list[float]:
    """Return noise levels uniform in t from the end of the chain, with a final 0.

    They divide the chain as in I²SB (Liu et al. 2023, arXiv 2302.05872, section 4.1); the first is
    the level at which the degraded picture is.
    """
    times = np.linspace(0, len(schedule) - 1, steps + 1)[:0:-1]
    return [float(sigma) for sigma in schedule.sigma_at(times)] + [0.0]


I2SB = Method(
    "i2sb",
    "Image-to-Image Schrödinger Bridge (Liu et al. 2023, arXiv 2302.05872), each estimate "
    "corrected to explain the measurement",
    solve,
    Defaults(steps=10, noisy_eta=1.0),
    needs_prior=False,
    needs_condition=True,
    bridges=True,
    refusals={"start": "begins at the degraded picture; use {others}"},
)
