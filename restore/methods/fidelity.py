"""One knob between the nearest and the sharpest result: blends with the posterior mean.

Of all estimates of an image from its measurement, the posterior mean has the smallest mean squared
error, but it is blurred. The best compromises between the error and the Wasserstein distance to
the distribution of sharp images lie on the straight line from the posterior mean to the best
estimate of that distribution (Freirich, Michaeli, Meir 2021, arXiv 2107.02555); here the result of
a sharp method stands for the latter. If both ends explain a linear measurement, so does every
blend.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from restore.diffusion.stepping import Callback, Step
from restore.errors import BadArgument
from restore.methods.method import Method
from restore.methods.one_step import ONE_STEP
from restore.methods.parameter import resolved
from restore.methods.run import Run


def solve(method: Method, run: Run) -> Tensor:
    """Solve by a method, and blend with the posterior mean as the settings say.

    Returns:
        [B, *input_shape of the operator] in [-1, 1].

    Raises:
        BadArgument: the model has no posterior mean for the problem.
    """
    weight = run.settings.mean_weight
    if weight == 0:
        return method.solve(run)

    mean = _posterior_mean(run)
    return torch.lerp(method.solve(replace(run, callback=_second(run.callback))), mean, weight)


def _second(callback: Callback | None) -> Callback | None:
    """Return the callback of a process that follows one call."""
    if callback is None:
        return None

    def shifted(step: Step) -> None:
        callback(step._replace(index=step.index + 1, steps=step.steps + 1))

    return shifted


@torch.inference_mode()
def _posterior_mean(run: Run) -> Tensor:
    """Return E[x0 | y] by one call of the network."""
    denoiser = run.denoiser
    if not ONE_STEP.suits(
        run.problem,
        conditional=denoiser.conditional,
        prior=denoiser.prior,
        bridge=denoiser.bridge,
        latent=denoiser.autoencoder is not None,
    ):
        raise BadArgument(
            f"`fidelity`: this model knows no posterior mean for {run.problem.written}; leave it "
            "out"
        )

    predictor = denoiser.predictor is not None
    settings = ONE_STEP.settings(run.problem.kind, predictor=predictor)
    parameters = resolved(ONE_STEP.name, ONE_STEP.parameters, settings.parameters, {"views": 1})
    settings = settings._replace(parameters=parameters)

    return ONE_STEP.solve(replace(run, settings=settings, start=None))
