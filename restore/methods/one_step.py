"""The method ``one-step``."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from restore.diffusion.ensemble import VIEWS, running_means
from restore.diffusion.evidence import Evidence
from restore.diffusion.protocol import Condition
from restore.diffusion.stepping import report
from restore.methods.conditions import PREDICTED_NOISE, condition_of
from restore.methods.defaults import Defaults
from restore.methods.feed_forward import on_canvas
from restore.methods.method import Method
from restore.methods.parameter import Parameter
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
    """Estimate the posterior mean by one call of the prior, predictor or conditional network.

    With several views it is the mean over as many calls.
    """
    if run.problem.kind.is_noisy_picture:
        return _denoised(run)

    return _predicted(run) if run.predicts else _from_condition(run)


def _predicted(run: Run) -> Tensor:
    """Return the prediction, projected onto the pictures that explain the measurement."""
    consistent = run.consistent(PREDICTED_ERROR)

    def predict(*evidence: Tensor) -> Tensor:
        return run.predictor(Evidence(*evidence))

    def finish(mean: Tensor) -> Tensor:
        return consistent(on_canvas(run.problem.operator, mean))

    return _mean(run, predict, run.evidence, finish, sigma=0.0)


def _from_condition(run: Run) -> Tensor:
    """Return the estimate of the conditional network, projected as well."""
    highest = float(run.denoiser.schedule.sigmas[-1])

    def estimate(*condition: Tensor) -> Tensor:
        return one_step(
            run.denoiser,
            Condition(*condition),
            highest,
            generator=run.generator,
            from_zeros=run.denoiser.one_step_from_zeros,
        )

    condition = condition_of(run, "one-step")
    return _mean(run, estimate, condition, run.consistent(CONDITIONAL_ERROR), sigma=highest)


def _denoised(run: Run) -> Tensor:
    """Return E[x0 | y] by the prior, as a noisy picture is a state of the reverse process.

    Noise that depends on the signal is brought to one level first.
    """
    problem = run.problem
    if not problem.signal_noise:
        return _of_noisy(run, problem.model_measurement, 2 * problem.noise, lambda mean: mean)

    stable = Stabilised(problem.signal_noise, problem.measurement.device)
    varies = stable.varies.flatten()
    level = 2 * stable.level * torch.where(varies, STABILISED_LEVEL, 1.0).to(stable.level)
    noisy = 2 * stable.transform(problem.measurement) - 1

    return _of_noisy(run, noisy, level, lambda mean: 2 * stable.inverse((mean + 1) / 2) - 1)


def _of_noisy(run: Run, noisy: Tensor, level: Tensor, finish: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the prior's estimate from noisy pictures of the noise levels [B]."""

    def estimate(x: Tensor) -> Tensor:
        return run.denoiser(x, level).clean

    return _mean(run, estimate, [noisy], finish, sigma=float(level.max()))


def _mean(
    run: Run,
    answer: Callable[..., Tensor],
    seen: Iterable[Tensor],
    finish: Callable[[Tensor], Tensor],
    sigma: float,
) -> Tensor:
    """Return the mean answer to the views of what is seen, finished; each call is a step."""
    views = int(run.parameter("views"))
    clean = None
    for index, mean in enumerate(running_means(answer, views, *seen)):
        clean = finish(mean)
        report(run.callback_inside, index, views, sigma, clean)

    assert clean is not None
    return clean


ONE_STEP = Method(
    "one-step",
    "The posterior mean E[x0 | y] in one call",
    solve,
    Defaults(steps=1),
    by_kind={"denoise": Defaults(steps=2, parameters={"views": 2})},
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
    parameters=(
        Parameter(
            "views",
            1,
            1,
            len(VIEWS),
            "rotations and reflections whose results are averaged, a call for each (Timofte et al. "
            "2016)",
            whole=True,
            is_steps=True,
        ),
    ),
    takes_noise_maps=True,
    stage_noise=0.05,
)
