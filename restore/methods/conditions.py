"""The condition of a conditional network for a problem."""

from __future__ import annotations

import torch

from operators import ValidConvolution
from restore.diffusion.denoiser import Condition, enlarged
from restore.errors import BadArgument
from restore.methods.run import Run

# Noise level, in [0, 1] units, up to which the predictor of the default model beats its conditional
# network (measured in docs/results.md).
PREDICTED_NOISE = 0.06


def condition_of(run: Run, method: str) -> Condition:
    """Return the condition of a problem, or the prediction for it.

    Raises:
        BadArgument: networks are not trained on such problems, or not at this scale.
    """
    condition = run.problem.condition
    if condition is None:
        raise BadArgument(
            f"`method`={method}: the task {run.problem.kind.name!r} has no condition picture; use "
            "diffpir or ddrm"
        )
    if run.predicts and run.denoiser.config.condition_picture == "predicted":
        return _predicted(run)

    return _enlarged(run, condition) if run.problem.kind.enlarges else condition


def _predicted(run: Run) -> Condition:
    """Return the prediction as a condition, unknown only beyond an unknown border."""
    operator = run.problem.operator
    known = torch.ones_like(run.evidence.known)
    known = operator.embed(known) if isinstance(operator, ValidConvolution) else known
    return Condition(run.predicted, known)


def _enlarged(run: Run, condition: Condition) -> Condition:
    """Return the low-resolution picture, enlarged as in the training of the network."""
    problem = run.problem
    config = run.denoiser.config
    size = problem.operator.input_shape[-2:]
    measured = problem.measurement.shape[-2:]
    factors = [a / b for a, b in zip(size, measured, strict=True)]
    if config.scale is not None and any(abs(f - config.scale) > 0.01 for f in factors):
        raise BadArgument(
            f"`scale`={factors[1]:g}: this model was trained to enlarge {config.scale} times and "
            f"knows nothing else; use `scale`={config.scale}"
        )
    if config.condition_resampling == "bicubic":
        return condition

    picture = enlarged(problem.measurement, size, config.condition_resampling)
    return condition._replace(picture=2 * picture - 1)
