"""Super-resolution in stages, each of which enlarges what the one before it made.

SR3 reaches large factors so (Saharia et al. 2021, arXiv 2104.07636), and so do Cascaded Diffusion
Models (CDM: Ho et al. 2021, arXiv 2106.15282). The input of a later stage is no photograph but a
sample, and its faults would be taken for detail. So noise drowns them, and the stage is told its
level: CDM's conditioning augmentation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from restore.diffusion.seeds import seed_of
from restore.diffusion.stepping import Callback, Step, gaussian_noise
from restore.methods import METHODS
from restore.methods.report import Report
from restore.methods.settings import Options
from restore.metrics.quality import consistency
from restore.solvers import project
from restore.tasks.cascade import Cascade
from restore.tasks.option import Noise
from restore.tasks.problem import Problem
from restore.tasks.sr import SuperResolution


class Solver(Protocol):
    """What a cascade needs of `restore.restorer.Restorer`."""

    def problem(self, task: SuperResolution, color: Tensor) -> Problem:
        """State the inverse problem of a task on pictures [B, 3, H, W] in [0, 1]."""

    def solve_problem(
        self, problem: Problem, options: Options, callback: Callback | None = None
    ) -> tuple[Tensor, Report]:
        """Return samples [K, B, 3, H, W] in [0, 1] on the CPU, and what was done."""


def solve_in_stages(
    solver: Solver,
    task: SuperResolution,
    color: Tensor,
    cascade: Cascade,
    options: Options,
    callback: Callback | None = None,
) -> tuple[Problem, Tensor, Report]:
    """Enlarge pictures in stages; the result explains them under the whole enlargement.

    Args:
        solver: solves each stage.
        task: its kernel holds for every stage, its noise for ``color``.
        color: [B, 3, h, w] in [0, 1].
        cascade: the stages.
        options: of every stage; the first one has its seed, so that a cascade of one stage is the
            same as none.
        callback: counts the steps of all stages.

    Returns:
        The problem of the whole scale, samples [K, B, 3, H, W] in [0, 1] on the CPU, what was done.
    """
    whole = replace(solver.problem(task, color), condition=None)  # the last stage has its own
    sizes = _sizes(color, whole, cascade.factors)
    reports: list[Report] = []

    def enlarged(picture: Tensor, stage: int, noise: Noise, of_stage: Options) -> Tensor:
        stage_task = replace(task, scale=cascade.factors[stage], size=sizes[stage], noise=noise)
        problem = solver.problem(replace(stage_task, cascade=None, cascade_noise=None), picture)
        counting = _counting(callback, stage, len(sizes))
        samples, report = solver.solve_problem(problem, of_stage, counting)
        reports.append(report)
        return samples

    samples = enlarged(color, 0, task.noise, options)
    method = METHODS[reports[0].method]
    noise = method.stage_noise if cascade.noise is None else cascade.noise
    added = noise if method.noises_stages else 0.0
    later = replace(options, method=method.name, samples=1)

    for stage in range(1, len(sizes)):
        seeds = [
            [seed_of(options.seed, stage, number, use) for use in (0, 1)]
            for number in range(len(samples))
        ]
        samples = torch.cat(
            [
                enlarged(
                    _noised(sample, added, of_noise), stage, noise, replace(later, seed=of_stage)
                )
                for sample, (of_noise, of_stage) in zip(samples, seeds, strict=True)
            ]
        )

    report = replace(
        reports[0],
        operator=whole.written,
        steps=reports[0].steps * len(sizes),
        seconds=sum(report.seconds for report in reports),
        cascade=Cascade(cascade.factors, noise),
    )
    if len(sizes) > 1:
        samples, misfit = _explaining(whole, samples)
        report = replace(report, consistency=misfit)

    return whole, samples, report


def _explaining(whole: Problem, samples: Tensor) -> tuple[Tensor, float]:
    """Return the nearest pictures that explain the measurement, and their mean's consistency."""
    noise = 2 * whole.noise if bool(whole.noise.any()) else 0.0

    with torch.inference_mode():
        y = whole.model_measurement
        moved = [
            project(whole.model_operator, 2 * sample.to(y) - 1, y, noise) for sample in samples
        ]
        explained = ((torch.stack(moved) + 1) / 2).clamp(0, 1)
        misfit = consistency(whole.operator, explained.mean(dim=0), whole.measurement)

        return explained.cpu().clone(), float(misfit.square().mean().sqrt())


def _sizes(color: Tensor, whole: Problem, factors: Sequence[float]) -> list[tuple[int, int]]:
    """Return (width, height) of each stage's result; the last is that of the whole."""
    products = np.cumprod(factors)[:-1]
    height, width = whole.operator.input_shape[1:]
    between = [(round(color.shape[-1] * p), round(color.shape[-2] * p)) for p in products]

    return [*between, (width, height)]


def _noised(pictures: Tensor, noise: float, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return pictures + noise * gaussian_noise(
        pictures.shape, generator, pictures.device, pictures.dtype
    )


def _counting(callback: Callback | None, stage: int, stages: int) -> Callback | None:
    """Return a callback that counts on over stages, which have as many steps each."""
    if callback is None:
        return None

    def counting(step: Step) -> None:
        index = stage * step.steps + step.index
        callback(Step(index, stages * step.steps, step.sigma, step.clean))

    return counting
