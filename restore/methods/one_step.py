"""The method ``one-step``."""

from __future__ import annotations

import torch
from torch import Tensor

from restore.diffusion.stepping import report
from restore.methods.conditions import PREDICTED_NOISE, condition_of
from restore.methods.defaults import Defaults
from restore.methods.method import Method
from restore.methods.run import Run
from restore.solvers import one_step
from restore.solvers.anscombe import Stabilised

# Standard deviations of the errors of the default model's estimates in [-1, 1], tuned.
CONDITIONAL_ERROR = 0.1
PREDICTED_ERROR = 0.02

# Level at which stabilised noise is denoised, relative to its own. 1 has 0.05 dB more at most, and
# an LPIPS that is higher by a quarter (docs/noise.md).
STABILISED_LEVEL = 0.94


def solve(run: Run) -> Tensor:
    """Estimate the posterior mean by one call of the prior, predictor or conditional network."""
    if run.problem.kind.is_noisy_picture:
        return _denoised(run)
    if run.predicts:
        return _predicted(run)

    highest = float(run.denoiser.schedule.sigmas[-1])
    return one_step(
        run.denoiser,
        condition_of(run, "one-step"),
        highest,
        generator=run.generator,
        from_zeros=run.denoiser.one_step_from_zeros,
        correct=run.consistent(CONDITIONAL_ERROR),
        callback=run.callback_inside,
    )


def _predicted(run: Run) -> Tensor:
    """Return the prediction, projected onto the pictures that explain the measurement."""
    clean = run.consistent(PREDICTED_ERROR)(run.predicted)
    report(run.callback_inside, 0, 1, 0.0, clean)
    return clean


def _denoised(run: Run) -> Tensor:
    """Return E[x0 | y] by the prior, as a noisy picture is a state of the reverse process.

    Noise that depends on the signal is brought to one level first.
    """
    problem = run.problem
    if not problem.signal_noise:
        level = 2 * problem.noise
        clean = run.denoiser(problem.model_measurement, level).clean
    else:
        stable = Stabilised(problem.signal_noise, problem.measurement.device)
        varies = stable.varies.flatten()
        level = 2 * stable.level * torch.where(varies, STABILISED_LEVEL, 1.0).to(stable.level)
        noisy = 2 * stable.transform(problem.measurement) - 1
        clean = 2 * stable.inverse((run.denoiser(noisy, level).clean + 1) / 2) - 1

    report(run.callback_inside, 0, 1, float(level.max()), clean)
    return clean


ONE_STEP = Method(
    "one-step",
    "The posterior mean E[x0 | y] in one call",
    solve,
    Defaults(steps=1),
    with_predictor={
        "sr": Defaults(steps=1, predicted=PREDICTED_NOISE),
        "deblur": Defaults(steps=1, predicted=PREDICTED_NOISE),
    },
    needs_prior=False,
    needs_condition=True,
    predictor_suffices=True,
    unconditional_kinds=frozenset({"denoise"}),
    stochastic=False,
    refusals={
        "fidelity": "is the posterior mean itself, of fidelity 1; use auto, {others}",
        "start": "has no start; use {others}",
        "steps": "takes one step; use {others} for more",
        "samples": "has one answer; use {others} for samples",
        "eta": "adds no noise; use {others}",
    },
    compared=True,
    takes_noise_maps=True,
    stage_noise=0.05,
)
