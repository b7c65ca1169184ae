"""What a restoration returns: pictures of the type of the input, and a report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from restore.methods.options import Options
from restore.methods.report import Report, Result
from restore.photo.alpha import put_back
from restore.tasks.problem import Problem

if TYPE_CHECKING:
    from restore.photo.pictures import Opened


def report_of(problem: Problem, options: Options, **more: Any) -> Report:
    """Return a report with what it says of the problem and the options."""
    estimate, damage = problem.estimate, problem.damage
    return Report(
        task=problem.task,
        operator=problem.written,
        samples=options.samples,
        seed=options.seed,
        prompt=options.prompt,
        negative_prompt=options.negative_prompt,
        noise=float(problem.noise.mean()),
        kernels=() if estimate is None else (estimate.finding,),
        damage=() if damage is None else (damage.finding,),
        findings=problem.findings,
        signal_noise=problem.signal_noise,
        **more,
    )


def joined(problems: Sequence[Problem], reports: Sequence[Report]) -> Report:
    """Return one report of pictures that were restored one by one."""
    main = next((report for report in reports if report.steps), reports[0])
    return replace(
        main,
        noise=fmean(report.noise for report in reports),
        consistency=math.sqrt(fmean(report.consistency**2 for report in reports)),
        unexplained=math.sqrt(fmean(report.unexplained**2 for report in reports)),
        seconds=sum(report.seconds for report in reports),
        kernels=tuple(found for report in reports for found in report.kernels),
        signal_noise=tuple(pair for report in reports for pair in report.signal_noise),
        inside=_inside(problems, reports),
        damage=tuple(found for report in reports for found in report.damage),
        findings=tuple(found for report in reports for found in report.findings),
    )


def _inside(problems: Sequence[Problem], reports: Sequence[Report]) -> float | None:
    """Return the fraction of the coefficients of all files that are in their intervals."""
    found = [
        (one.file.count, report.inside)
        for one, report in zip(problems, reports, strict=True)
        if one.file is not None and report.inside is not None
    ]
    total = sum(count for count, _ in found)
    return sum(count * inside for count, inside in found) / total if total else None


def packed(opened: Opened, problem: Problem, solutions: Tensor, report: Report) -> Result:
    """Return samples [K, B, 3, H, W] as pictures of the type of the input."""
    alpha = None
    if opened.alpha is not None:
        alpha = _resized(opened.alpha, solutions.shape[-2:])
        solutions = put_back(solutions, opened.color, opened.alpha, problem.keep)

    gray = problem.stays_grey(opened)
    samples = [opened.pack(solution, alpha, gray) for solution in solutions]
    if len(samples) == 1:
        return Result(samples[0], None, samples, report)

    opaque = None if alpha is None else torch.ones_like(alpha)
    mean = opened.pack(solutions.mean(dim=0), alpha, gray)

    # what is packed by a curve has another deviation
    spread = (
        opened.pack(solutions.std(dim=0), opaque, gray)
        if opened.source is None
        else np.std(np.stack(samples), axis=0, ddof=1)
    )

    return Result(mean, spread, samples, report)


def with_findings(result: Result, problems: Sequence[Problem]) -> Result:
    """Return the result with the estimated kernel or the mask of each problem."""
    kernels = tuple(one.estimate.kernel for one in problems if one.estimate is not None)
    masks = tuple(one.damage.mask for one in problems if one.damage is not None)
    return result._replace(kernels=kernels, masks=masks)


def _resized(alpha: Tensor, size: torch.Size) -> Tensor:
    if alpha.shape[-2:] == size:
        return alpha
    return F.interpolate(alpha, size=tuple(size), mode="bicubic", align_corners=False).clamp(0, 1)
