"""Super-resolution in stages, each of which enlarges the result of the one before.

SR3 (Saharia et al. 2021, arXiv 2104.07636) and Cascaded Diffusion Models (CDM: Ho et al. 2021,
arXiv 2106.15282) reach large scale factors this way. The input of a later stage is a sample, whose
artefacts would be taken for detail. Noise of a known level hides them, which is CDM's conditioning
augmentation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from restore.diffusion.seeds import seed_of
from restore.diffusion.stepping import Callback, Step, gaussian_noise
from restore.methods import METHODS
from restore.methods.options import Options
from restore.methods.report import Report
from restore.metrics.quality import consistency
from restore.solvers import project
from restore.tasks.cascade import Cascade
from restore.tasks.option import Noise
from restore.tasks.problem import Problem
from restore.tasks.sr import SuperResolution


class Solver(Protocol):
    """The part of `restore.restorer.Restorer` that a cascade needs."""

    def problem(self, task: SuperResolution, color: Tensor) -> Problem:
        """State the inverse problem of a task on pictures [B, 3, H, W] in [0, 1]."""

    def solve_problem(
        self, problem: Problem, options: Options, callback: Callback | None = None
    ) -> tuple[Tensor, Report]:
        """Return samples [K, B, 3, H, W] in [0, 1] on the CPU, and a report."""


def solve_in_stages(
    solver: Solver,
    task: SuperResolution,
    color: Tensor,
    cascade: Cascade,
    options: Options,
    callback: Callback | None = None,
) -> tuple[Problem, Tensor, Report]:
    """Enlarge pictures in stages, consistent with the measurement at the whole scale.

    Args:
        solver: solves each stage.
        task: task of the whole enlargement; its kernel holds for every stage, its noise for
            ``color``.
        color: [B, 3, h, w] in [0, 1].
        cascade: the stages.
        options: options of every stage; the first stage takes their seed, so that a cascade of one
            stage equals none.
        callback: called after each step, counted over all stages.

    Returns:
        The problem of the whole scale, samples [K, B, 3, H, W] in [0, 1] on the CPU, and a report.
    """
    whole = replace(solver.problem(task, color), condition=None)  # the last stage has its own
    sizes = _sizes(color, whole, cascade.factors)
    stages = _Stages(solver, task, cascade.factors, sizes, callback)

    samples = stages.enlarge(0, color, task.noise, options)
    method = METHODS[stages.reports[0].method]
    noise = method.stage_noise if cascade.noise is None else cascade.noise
    added = noise if method.noises_stages else 0.0
    later = replace(options, method=method.name, samples=1)

    for stage in range(1, len(sizes)):
        enlarged = []
        for number, sample in enumerate(samples):
            picture = _noised(sample, added, seed_of(options.seed, stage, number, 0))
            own = replace(later, seed=seed_of(options.seed, stage, number, 1))
            enlarged.append(stages.enlarge(stage, picture, noise, own))
        samples = torch.cat(enlarged)

    report = stages.report(whole.written, Cascade(cascade.factors, noise))
    if len(sizes) > 1:
        samples, misfit = _consistent(whole, samples)
        report = replace(report, consistency=misfit, unexplained=min(misfit, report.unexplained))

    return whole, samples, report


@dataclass
class _Stages:
    """The stages of a cascade.

    Attributes:
        solver: solves each stage.
        task: task of the whole enlargement.
        factors: scale factor of each stage.
        sizes: (width, height) of the result of each stage.
        callback: called after each step, counted over all stages.
        reports: one for each call of `enlarge`.
    """

    solver: Solver
    task: SuperResolution
    factors: Sequence[float]
    sizes: Sequence[tuple[int, int]]
    callback: Callback | None
    reports: list[Report] = field(default_factory=list)

    def enlarge(self, stage: int, picture: Tensor, noise: Noise, options: Options) -> Tensor:
        """Return samples [K, B, 3, H, W] of a stage, and keep the report."""
        task = replace(
            self.task,
            scale=self.factors[stage],
            size=self.sizes[stage],
            noise=noise,
            cascade=None,
            cascade_noise=None,
        )
        counting = _counting(self.callback, stage, len(self.sizes))
        problem = self.solver.problem(task, picture)
        samples, report = self.solver.solve_problem(problem, options, counting)
        self.reports.append(report)
        return samples

    def report(self, operator: str, cascade: Cascade) -> Report:
        """Return the report of the whole enlargement."""
        first = self.reports[0]
        return replace(
            first,
            operator=operator,
            steps=first.steps * len(self.sizes),
            seconds=sum(report.seconds for report in self.reports),
            cascade=cascade,
        )


def _consistent(whole: Problem, samples: Tensor) -> tuple[Tensor, float]:
    """Project samples onto the pictures that explain the measurement.

    Returns:
        The projected samples on the CPU, and the consistency of their mean.
    """
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
    """Return (width, height) of the result of each stage; the last is that of the whole."""
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
    """Return a callback that counts steps over all stages, which have equally many."""
    if callback is None:
        return None

    def counting(step: Step) -> None:
        index = stage * step.steps + step.index
        callback(Step(index, stages * step.steps, step.sigma, step.clean))

    return counting
