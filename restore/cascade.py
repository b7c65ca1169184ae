"""Super-resolution in stages, each of which enlarges what the one before it made.

SR3 reaches large factors so (Saharia et al. 2021, arXiv 2104.07636), and so do Cascaded Diffusion
Models (CDM: Ho et al. 2021, arXiv 2106.15282). What a stage is given is no photograph but a sample,
and its faults would be taken for detail. So noise drowns them, and the stage is told its level:
CDM's conditioning augmentation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from restore.diffusion.seeds import seed_of
from restore.diffusion.stepping import gaussian_noise
from restore.errors import BadArgument
from restore.metrics.quality import consistency
from restore.solvers import Step, project
from restore.tasks.problem import Problem

if TYPE_CHECKING:
    from restore.diffusion.stepping import Callback
    from restore.methods.settings import Options
    from restore.restorer import Report, Restorer

Factors = str | Sequence[float]
"""``4x4``, ``4,4`` or ``auto``, or numbers."""

LARGEST_FACTOR = 4.0
"""Of a stage that ``auto`` makes."""
NOISE = {"ddrm": 0.06, "diffpir": 0.02, "sr3": 0.02, "one-step": 0.05}
"""Between two stages, for pixels in [0, 1], by method, as it measures best (docs/methods.md)."""
ADDED = ("ddrm",)
"""Methods whose stages get their input noised. The networks of ``sr3`` and ``one-step`` are shown
it without being told how noisy it is and take weak noise for detail, and ``diffpir`` leaves some of
it; they reckon with the noise level all the same, as with that of the sample's own faults."""
MAX_NOISE = 0.5
TOLERANCE = 1e-3
"""By which the product of the factors may differ from the scale, which cannot always be written
exactly.
"""


@dataclass(frozen=True)
class Cascade:
    """How a scale is reached.

    Attributes:
        factors: of the stages, the first one first; each is above 1.
        noise: standard deviation of the noise between two stages, for pixels in [0, 1], see
            `ADDED`; None is the method's, see `NOISE`.
    """

    factors: tuple[float, ...]
    noise: float | None = None


def take_cascade(arguments: Mapping[str, Any]) -> tuple[Cascade | None, dict[str, Any]]:
    """What the arguments ``cascade`` and ``cascade_noise`` of super-resolution ask for, and the
    other arguments.

    ``cascade`` is a text (``4x4``, ``4,4``, or ``auto`` for factors of at most 4) or a sequence of
    numbers.

    Raises:
        BadArgument: factors that are none or do not make the scale, or a noise level that cannot be
            used.
    """
    others = dict(arguments)
    wanted = others.pop("cascade", None)
    noise = others.pop("cascade_noise", None)
    if wanted is None:
        if noise is not None:
            raise BadArgument(
                f"--cascade-noise {noise:g}: lies between the stages of a cascade; give --cascade, "
                "too"
            )
        return None, others

    scale = float(others["scale"])
    factors = split(scale) if wanted == "auto" else _factors(wanted)
    product = math.prod(factors)
    if not math.isclose(product, scale, rel_tol=TOLERANCE):
        raise BadArgument(
            f"--cascade {_text(wanted)}: enlarges by {product:g} in all, and --scale says "
            f"{scale:g}; make them the same"
        )
    if noise is not None and not 0 <= noise <= MAX_NOISE:
        raise BadArgument(
            f"--cascade-noise {noise:g}: must be a standard deviation between 0 and {MAX_NOISE:g}"
        )

    return Cascade(factors, noise), others


def split(scale: float) -> tuple[float, ...]:
    """Factors from 2 to 4, the last one the smallest, where there is more than one: 16 is 4 · 4, 6
    is 3 · 2.
    """
    if scale <= LARGEST_FACTOR:
        return (scale,)
    last = max(2.0, scale / LARGEST_FACTOR)
    return (*split(scale / last), last)


def solve_in_stages(
    restorer: Restorer,
    color: Tensor,
    arguments: Mapping[str, Any],
    cascade: Cascade,
    options: Options,
    callback: Callback | None = None,
) -> tuple[Problem, Tensor, Report]:
    """Super-resolution of pictures [B, 3, h, w] in [0, 1], whose result explains them under the
    whole enlargement.

    Args:
        arguments: of `restore.tasks.problem.super_resolution`; ``kernel`` is of every stage,
            ``noise`` that of ``color``.
        options: of every stage; the first one has its seed, so that a cascade of one stage is no
            other than none.
        callback: counts the steps of all stages.

    Returns:
        The problem of the whole scale, samples [K, B, 3, H, W] in [0, 1] on the CPU, what was done.
    """
    whole = replace(
        restorer.problem("sr", color, dict(arguments)), condition=None
    )  # the last stage has its own
    sizes = _sizes(color, whole, cascade.factors)
    reports: list[Report] = []

    def enlarged(picture: Tensor, stage: int, noise: Any, of_stage: Options) -> Tensor:
        given = {**arguments, "scale": cascade.factors[stage], "size": sizes[stage], "noise": noise}
        problem = restorer.problem("sr", picture, given)
        samples, report = restorer.solve_problem(
            problem, of_stage, _counting(callback, stage, len(sizes))
        )
        reports.append(report)
        return samples

    samples = enlarged(color, 0, arguments.get("noise", 0.0), options)
    method = reports[0].method
    noise = NOISE[method] if cascade.noise is None else cascade.noise
    added = noise if method in ADDED else 0.0
    later = replace(options, method=method, samples=1)

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
    """The nearest pictures that explain the measurement, and the consistency of their mean."""
    noise = 2 * whole.noise if bool(whole.noise.any()) else 0.0
    with torch.inference_mode():
        y = whole.model_measurement
        moved = [
            project(whole.model_operator, 2 * sample.to(y) - 1, y, noise) for sample in samples
        ]
        explained = ((torch.stack(moved) + 1) / 2).clamp(0, 1)
        misfit = consistency(whole.operator, explained.mean(dim=0), whole.measurement)
        return explained.cpu().clone(), float(misfit.square().mean().sqrt())


def _factors(wanted: Factors) -> tuple[float, ...]:
    parts = wanted.replace("x", ",").split(",") if isinstance(wanted, str) else wanted
    try:
        factors = tuple(float(part) for part in parts)
    except (TypeError, ValueError):
        factors = ()

    if not factors or not all(1 < factor < math.inf for factor in factors):
        raise BadArgument(
            f"--cascade {_text(wanted)}: must be factors above 1 joined by x or commas, as in 4x4; "
            "or auto"
        )

    return factors


def _text(wanted: Any) -> str:
    return (
        wanted
        if isinstance(wanted, str | int | float)
        else ",".join(f"{factor}" for factor in wanted)
    )


def _sizes(color: Tensor, whole: Problem, factors: Sequence[float]) -> list[tuple[int, int]]:
    """(width, height) of each stage's result; the last is that of the whole."""
    products = np.cumprod(factors)[:-1]
    height, width = whole.operator.input_shape[1:]
    return [
        *((round(color.shape[-1] * p), round(color.shape[-2] * p)) for p in products),
        (width, height),
    ]


def _noised(pictures: Tensor, noise: float, seed: int) -> Tensor:
    return pictures + noise * gaussian_noise(
        pictures.shape, torch.Generator().manual_seed(seed), pictures.device, pictures.dtype
    )


def _counting(callback: Callback | None, stage: int, stages: int) -> Callback | None:
    if callback is None:
        return None
    # there are as many steps in every stage
    return lambda step: callback(
        Step(stage * step.steps + step.index, stages * step.steps, step.sigma, step.clean)
    )
