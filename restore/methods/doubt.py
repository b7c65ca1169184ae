"""Whether operator and noise can explain a measurement, so far as a result shows it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from operators import LinearOperator
from restore.methods.report import is_doubtful
from restore.metrics.quality import consistency
from restore.solvers.consistency import least_misfit
from restore.tasks.problem import Problem

# Values beyond [0, 1] by more than this count as clipped.
CLIPPED = 1e-3


def unexplained_by(
    problem: Problem, found: Sequence[Tensor], solutions: Tensor, explained: Tensor
) -> Tensor:
    """Return what operator and noise leave unexplained of each picture, [B].

    See `restore.methods.report.Report`.

    Clipping to black and white takes away what sharp edges need to explain a measurement exactly.
    So nothing is wrong where the estimate before it explains the measurement, and some picture in
    [0, 1] does. Sharp text that was drawn small, and not downsampled, has no such picture: there,
    the pixels count that no clipped one takes part in.

    Args:
        problem: the problem.
        found: estimates in [-1, 1] before they are clipped, one for each sample.
        solutions: [K, B, 3, H, W] in [0, 1].
        explained: [B], the consistency of the solutions.
    """
    operator = problem.operator
    doubtful = list(map(is_doubtful, explained.tolist(), problem.noise.tolist()))
    if not any(doubtful) or not isinstance(operator, LinearOperator):
        return explained

    unclipped = (torch.stack(list(found)).mean(dim=0) + 1) / 2
    before = consistency(operator, unclipped, problem.measurement)
    mean = solutions.mean(dim=0)
    if problem.kind.enlarges:
        clipped = ((unclipped - unclipped.clamp(0, 1)).abs() > CLIPPED).to(mean)
        untouched = (operator.A(clipped).abs() < CLIPPED).to(mean)
        misfit = untouched * (operator.A(mean) - problem.measurement)
        counted = untouched.flatten(1).mean(dim=1).clamp_min(1e-6)
        least = (misfit.square().flatten(1).mean(dim=1) / counted).sqrt()
    else:
        least = least_misfit(operator, mean, problem.measurement)

    found_again = torch.minimum(explained, torch.maximum(before, least))
    return torch.where(torch.tensor(doubtful, device=explained.device), found_again, explained)
