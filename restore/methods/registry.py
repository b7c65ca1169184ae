"""The methods that solve a problem, by name."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from operators import (
    Composition,
    LinearOperator,
    Mask,
    MaskedColor,
    MaskedRows,
    NonlinearChain,
    ValidConvolution,
)
from restore.diffusion.denoiser import Condition, Denoise, Denoiser, enlarged
from restore.diffusion.evidence import Evidence
from restore.diffusion.guidance import classifier_free
from restore.diffusion.schedule import noise_levels
from restore.diffusion.stepping import Callback, Generator, Step, corrected, start
from restore.errors import BadArgument
from restore.methods.feed_forward import on_canvas
from restore.methods.settings import Defaults
from restore.runtime.tiles import TiledDenoiser
from restore.samplers.catalogue import SAMPLERS, Sampler
from restore.solvers import ddrm, ddrm_unknown_border, diffpir, one_step, project, sr3
from restore.solvers.ddrm import WITHOUT_SVD
from restore.tasks.inverse import evidence_of, has_evidence
from restore.tasks.problem import Operator, Problem


@dataclass(frozen=True)
class Run:
    """All that a method needs besides the random numbers."""

    denoiser: Denoiser | TiledDenoiser
    problem: Problem
    settings: Defaults
    generator: Generator
    callback: Callback | None
    start: Tensor | None = None
    """[B or 1, *input_shape of the operator] in [-1, 1]: a picture to begin with, instead of the
    method's own.
    """

    @property
    def sigmas(self) -> list[float]:
        if self.settings.sigmas:
            return [*self.settings.sigmas, 0.0]
        highest = self._highest(float(self.problem.noise.max()))
        return noise_levels(
            self.denoiser.schedule, self.settings.steps, self.settings.levels, highest=highest
        )

    @property
    def walks(self) -> list[Hashable]:
        """Of each picture what decides its way besides its own random numbers: pictures that agree
        in it come out of a batch as each would alone."""
        if self.settings.sampler is not None and not SAMPLERS[self.settings.sampler].per_picture:
            return list(range(len(self.problem.noise)))
        return [
            (self._highest(level), level > 0, self._predicts(level))
            for level in self.problem.noise.tolist()
        ]

    def _highest(self, noise: float) -> float | None:
        """The highest noise level for a measurement with that noise; None is the schedule's.

        Raises:
            BadArgument: a start with less noise than the network knows.
        """
        sigmas = self.denoiser.schedule.sigmas
        highest = self.settings.highest
        highest = self._highest_for_holes if isinstance(highest, str) else highest
        if highest is None:
            return None
        if self.start is None and not self._predicts(noise):
            # a start below the measurement's own noise would forget what was measured
            highest = max(highest, 10 * noise)
        if highest <= sigmas[0]:
            lowest = f"{sigmas[0] / 2:.3g}, the model's lowest noise"
            raise BadArgument(f"--start-noise {highest / 2:g}: must be above {lowest}")

        return min(highest, float(sigmas[-1]))

    @cached_property
    def _highest_for_holes(self) -> float:
        return _level_for_holes(
            self.problem.operator, filled=self.settings.highest == "filled holes"
        )

    @cached_property
    def evidence(self) -> Evidence:
        """What the model's predictor is shown."""
        return evidence_of(self.problem, self.denoiser.predictor.config.shown)

    @cached_property
    def predicted(self) -> Tensor:
        """What the predictor makes of that, [B, *input_shape of the operator] in [-1, 1]."""
        return on_canvas(self.problem.operator, self.denoiser.predictor(self.evidence))

    @property
    def predicts(self) -> bool:
        """Whether the method makes use of the predictor's answer."""
        return self._predicts(float(self.problem.noise.max()))

    def _predicts(self, noise: float) -> bool:
        """`predicts` for a measurement with that noise."""
        most = self.settings.predicted
        if most is None or noise > most or self.start is not None:
            return False
        return self.denoiser.predictor is not None and has_evidence(self.problem)

    @cached_property
    def noise_level(self) -> Tensor | float:
        """[B], in the model's coordinates, where pictures span [-1, 1]; 0 where no picture has
        any.
        """
        return 2 * self.problem.noise if bool(self.problem.noise.any()) else 0.0

    @property
    def eta(self) -> float:
        return self.settings.noisy_eta if bool(self.problem.noise.any()) else self.settings.eta

    def consistent(self, error: float) -> Callable[[Tensor], Tensor]:
        """Makes of an estimate the picture nearest to it that explains the measurement.

        Args:
            error: the estimate's own standard deviation from the truth, weighed against the
                measurement's noise.
        """
        problem = self.problem
        return lambda clean: project(
            problem.model_operator,
            clean,
            problem.model_measurement,
            self.noise_level,
            prior_std=error,
        )


def _ddrm(run: Run) -> Tensor:
    if isinstance(run.problem.operator, ValidConvolution):
        return _ddrm_unknown_border(run)
    if not run.problem.operator.has_svd:
        raise BadArgument(_no_svd(run))
    return ddrm(
        run.denoiser,
        run.problem.model_operator,
        run.problem.model_measurement,
        run.noise_level,
        run.sigmas,
        generator=run.generator,
        eta=run.eta,
        start=_begun(run),
        final_projection=True,
        callback=run.callback,
    )


def _ddrm_unknown_border(run: Run) -> Tensor:
    return ddrm_unknown_border(
        run.denoiser,
        run.problem.model_operator,
        run.problem.model_measurement,
        run.noise_level,
        run.sigmas,
        generator=run.generator,
        eta=run.settings.noisy_eta,
        start=_smooth_estimate(run) if (begun := _begun(run)) is None else begun,
        final_projection=True,
        callback=run.callback,
    )


def suits_ddrm(operator: Operator) -> bool:
    """Whether the method ``ddrm`` takes the operator."""
    return operator.has_svd or isinstance(operator, ValidConvolution)


def _no_svd(run: Run) -> str:
    kind = type(run.problem.operator).__name__
    known = run.problem.condition is not None and run.denoiser.conditional
    working = ", ".join(WITHOUT_SVD if known else WITHOUT_SVD[:1])
    hint = (
        "; or --boundary unknown or circular, whatever the kernel"
        if run.problem.task == "deblur"
        else ""
    )

    return (
        f"--method ddrm: it needs an operator with an SVD, and {kind} has none; without one "
        f"work {working}{hint}"
    )


def _diffpir(run: Run) -> Tensor:
    problem = run.problem
    begun = _begun(run)
    return diffpir(
        run.denoiser,
        problem.model_operator,
        problem.model_measurement,
        run.noise_level,
        run.sigmas,
        generator=run.generator,
        zeta=run.eta,
        start=_smooth_estimate(run) if begun is None else begun,
        final_projection=isinstance(problem.operator, LinearOperator),
        callback=run.callback,
    )


def _begun(run: Run) -> Tensor | None:
    """The picture that the process begins with; None where that is the method's own."""
    if run.predicts:
        return run.predicted
    if run.start is None and run.settings.classical_start:
        return _classical_estimate(run.problem)
    return run.start


def _smooth_estimate(run: Run) -> Tensor:
    """What the measurement tells without a prior; grey where it tells nothing."""
    problem = run.problem
    operator = run.problem.model_operator
    if problem.kind == "compressed":
        return problem.model_measurement
    grey = problem.model_measurement.new_zeros(len(problem.measurement), *operator.input_shape)
    return project(operator, grey, problem.model_measurement, run.noise_level, prior_std=0.5)


_SR3_ERROR, _ONE_STEP_ERROR, _PREDICTED_ERROR = 0.05, 0.1, 0.02
"""Of the default model's estimates of noisy pictures in [-1, 1], by what measures best."""


def _sr3(run: Run) -> Tensor:
    if run.settings.sampler is not None:
        return _sampled(run, SAMPLERS[run.settings.sampler])

    condition = _condition(run, "sr3")
    return sr3(
        _guided(run),
        condition,
        run.sigmas,
        generator=run.generator,
        eta=run.eta,
        start=run.start,
        correct=run.consistent(_SR3_ERROR),
        callback=run.callback,
    )


def _sampled(run: Run, sampler: Sampler) -> Tensor:
    """SR3 by another reverse process: of the conditional network, each clean estimate explaining
    the measurement.
    """
    condition = _condition(run, "sr3")
    sigmas = run.sigmas
    own = run.denoiser.distilled_levels
    if own is not None and len(own) == run.settings.steps:
        sigmas = [*own, 0.0]

    random = {"generator": run.generator} if sampler.random else {}

    return sampler.run(
        corrected(_guided(run), run.consistent(_SR3_ERROR)),
        start(torch.zeros_like(condition.picture), sigmas[0], run.generator)
        + (0 if run.start is None else run.start),
        sigmas,
        condition=condition,
        callback=run.callback,
        **random,
    )


def _guided(run: Run) -> Denoise:
    """The network, pulled towards its condition by two calls instead of one, where that is
    wanted.
    """
    scale = run.settings.guidance
    return run.denoiser if scale == 1 else classifier_free(run.denoiser, scale)


def _one_step(run: Run) -> Tensor:
    if run.problem.kind == "denoise":
        return _denoise_once(run)
    if run.predicts:
        return _predicted(run)

    highest = float(run.denoiser.schedule.sigmas[-1])

    return one_step(
        run.denoiser,
        _condition(run, "one-step"),
        highest,
        generator=run.generator,
        from_zeros=run.denoiser.one_step_from_zeros,
        correct=run.consistent(_ONE_STEP_ERROR),
        callback=run.callback,
    )


def _predicted(run: Run) -> Tensor:
    """The predictor's answer, moved to where it explains the measurement."""
    clean = run.consistent(_PREDICTED_ERROR)(run.predicted)
    if run.callback is not None:
        run.callback(Step(0, 1, 0.0, clean))
    return clean


def _denoise_once(run: Run) -> Tensor:
    """E[x0 | y] of the prior: a noisy picture is already a state of the reverse process."""
    level = 2 * run.problem.noise
    clean = run.denoiser(run.problem.model_measurement, level).clean
    if run.callback is not None:
        run.callback(Step(0, 1, float(level.max()), clean))
    return clean


def _condition(run: Run, method: str) -> Condition:
    condition = run.problem.condition
    if condition is None:
        raise BadArgument(
            f"--method {method}: the task {run.problem.kind!r} has no condition picture; use "
            "diffpir or ddrm"
        )
    if run.predicts and run.denoiser.config.condition_picture == "predicted":
        return _predicted_condition(run)

    return _enlarged_as_known(run, condition) if run.problem.kind == "sr" else condition


def _predicted_condition(run: Run) -> Condition:
    """The predictor's answer, which shows every pixel; beyond an unknown border nothing is
    known.
    """
    operator = run.problem.operator
    known = torch.ones_like(run.evidence.known)
    known = operator.embed(known) if isinstance(operator, ValidConvolution) else known
    return Condition(run.predicted, known)


def _enlarged_as_known(run: Run, condition: Condition) -> Condition:
    """The low-resolution picture at full size, enlarged as in the network's training."""
    problem = run.problem
    config = run.denoiser.config
    size = problem.operator.input_shape[-2:]
    measured = problem.measurement.shape[-2:]
    if config.scale is not None and any(
        abs(a / b - config.scale) > 0.01 for a, b in zip(size, measured, strict=True)
    ):
        raise BadArgument(
            f"--scale {size[1] / measured[1]:g}: this model was trained to enlarge {config.scale} "
            f"times and knows nothing else; use --scale {config.scale}"
        )
    if config.condition_resampling == "bicubic":
        return condition

    return condition._replace(
        picture=2 * enlarged(problem.measurement, size, config.condition_resampling) - 1
    )


METHODS: dict[str, Callable[[Run], Tensor]] = {
    "ddrm": _ddrm,
    "diffpir": _diffpir,
    "sr3": _sr3,
    "one-step": _one_step,
}

BIHARMONIC_LIMIT = 200_000
"""Unknown pixels up to which a biharmonic fill, which solves a linear system of that size, is
quick.
"""


def _classical_estimate(problem: Problem) -> Tensor:
    """Pictures [B, 3, H, W] in [-1, 1]: unknown pixels continue the known ones smoothly, unknown
    colours are grey.
    """
    from restore.metrics.classical import inpaint

    unknown = _holes(problem.operator)
    if unknown is None:
        return 2 * problem.measurement.expand(-1, 3, -1, -1) - 1

    holes = unknown.any(dim=-3).expand(len(problem.measurement), -1, -1)
    small = int(holes.sum(dim=(1, 2)).max()) <= BIHARMONIC_LIMIT and min(holes.shape[1:]) >= 8
    method = "biharmonic" if small else "navier-stokes"
    pictures = problem.measurement.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu().numpy()
    filled = [
        inpaint(p, hole, method) for p, hole in zip(pictures, holes.cpu().numpy(), strict=True)
    ]

    return 2 * torch.from_numpy(np.stack(filled)).permute(0, 3, 1, 2).to(problem.measurement) - 1


def _level_for_holes(operator: Operator, filled: bool) -> float:
    """The noise that hides the start: half the distance in pixels to the nearest known pixel, from
    1 to 20, where it is empty; an eighth of it, from 0.2 to 5, where a classical method filled
    it."""
    share, least, most = (1 / 8, 0.2, 5.0) if filled else (1 / 2, 1.0, 20.0)
    unknown = _holes(operator)
    if unknown is None:
        return least

    distance = max(
        distance_transform_edt(hole).max() for hole in unknown.flatten(0, -3).cpu().numpy()
    )

    return float(min(max(share * distance, least), most))


def _holes(operator: Operator) -> Tensor | None:
    """True where a mask among the factors of an operator lets nothing through."""
    if isinstance(operator, NonlinearChain):
        return None if operator.linear is None else _holes(operator.linear)
    if isinstance(operator, Composition):
        holes = _holes(operator.second)
        return _holes(operator.first) if holes is None else holes
    if isinstance(operator, MaskedColor):
        return operator.known == 0

    return operator.singular_values == 0 if isinstance(operator, Mask | MaskedRows) else None
