"""The methods that solve a problem, by name, with the settings that were measured to be best for each task."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from operators import Composition, LinearOperator, Mask, MaskedColor, MaskedRows, NonlinearChain, ValidConvolution
from restore.denoiser import Condition, Denoise, Denoiser, enlarged
from restore.errors import BadArgument
from restore.guidance import classifier_free
from restore.samplers.catalogue import SAMPLERS, Sampler, check_variance
from restore.samplers.common import corrected, start
from restore.schedule import noise_levels
from restore.solvers import ddrm, ddrm_unknown_border, diffpir, one_step, project, sr3
from restore.solvers.common import WITHOUT_SVD, Callback, Generator, Step
from restore.solvers.schedule_search import Levels
from restore.tasks import Operator, Problem
from restore.tiles import TiledDenoiser


class Defaults(NamedTuple):
    """How a method is run on a task unless told otherwise (docs/methods.md has the measurements)."""

    steps: int
    levels: str = "log-snr"
    highest: float | Literal["holes", "filled holes"] | None = None
    """Highest noise level; None is the schedule's. ``holes`` and ``filled holes`` rise with the width of a mask's
    holes, these being empty at the start or filled by a classical method."""
    eta: float = 1.0
    noisy_eta: float = 0.85
    """η where the measurement has noise: a smaller one forgets less of it below its noise."""
    classical_start: bool = False
    """Begin what the measurement does not tell at a classical estimate instead of at mid-grey."""
    sampler: str | None = None
    """Of SR3: one of `SAMPLERS` instead of its own."""
    sigmas: tuple[float, ...] = ()
    """Of SR3: these noise levels instead of a grid, without the final 0."""
    guidance: float = 1.0
    """Of SR3: the scale of `restore.guidance.classifier_free`; 1 is none."""


@dataclass(frozen=True)
class Run:
    """All that a method needs besides the random numbers."""

    denoiser: Denoiser | TiledDenoiser
    problem: Problem
    settings: Defaults
    generator: Generator
    callback: Callback | None
    start: Tensor | None = None
    """[B or 1, *input_shape of the operator] in [-1, 1]: a picture to begin with, instead of the method's own."""

    @property
    def sigmas(self) -> list[float]:
        if self.settings.sigmas:
            return [*self.settings.sigmas, 0.0]
        highest = self._highest(float(self.problem.noise.max()))
        return noise_levels(self.denoiser.schedule, self.settings.steps, self.settings.levels, highest=highest)

    @property
    def walks(self) -> list[Hashable]:
        """Of each picture what decides its way besides its own random numbers: pictures that agree in it come out of a
        batch as each would alone."""
        if self.settings.sampler is not None and not SAMPLERS[self.settings.sampler].per_picture:
            return list(range(len(self.problem.noise)))
        return [(self._highest(level), level > 0) for level in self.problem.noise.tolist()]

    def _highest(self, noise: float) -> float | None:
        """The highest noise level for a measurement with that noise; None is the schedule's.

        Raises:
            BadArgument: a start with less noise than the network knows.
        """
        sigmas, highest = self.denoiser.schedule.sigmas, self.settings.highest
        highest = self._highest_for_holes if isinstance(highest, str) else highest
        if highest is None:
            return None
        if self.start is None:  # a start below the measurement's own noise would forget what was measured
            highest = max(highest, 10 * noise)
        if highest <= sigmas[0]:
            lowest = f"{sigmas[0] / 2:.3g}, the model's lowest noise"
            raise BadArgument(f"--start-noise {highest / 2:g}: must be above {lowest}")
        return min(highest, float(sigmas[-1]))

    @cached_property
    def _highest_for_holes(self) -> float:
        return _level_for_holes(self.problem.operator, filled=self.settings.highest == "filled holes")

    @cached_property
    def noise_level(self) -> Tensor | float:
        """[B], in the model's coordinates, where pictures span [-1, 1]; 0 where no picture has any."""
        return 2 * self.problem.noise if bool(self.problem.noise.any()) else 0.0

    @property
    def eta(self) -> float:
        return self.settings.noisy_eta if bool(self.problem.noise.any()) else self.settings.eta

    def consistent(self, error: float) -> Callable[[Tensor], Tensor]:
        """Makes of an estimate the picture nearest to it that explains the measurement.

        Args:
            error: the estimate's own standard deviation from the truth, weighed against the measurement's noise.
        """
        problem = self.problem
        return lambda clean: project(
            problem.model_operator, clean, problem.model_measurement, self.noise_level, prior_std=error
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
        start=_smooth_estimate(run) if run.start is None else run.start,
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
    hint = "; or --boundary unknown or circular, whatever the kernel" if run.problem.task == "deblur" else ""
    return f"--method ddrm: it needs an operator with an SVD, and {kind} has none; without one work {working}{hint}"


def _diffpir(run: Run) -> Tensor:
    problem, begun = run.problem, _begun(run)
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
    if run.start is None and run.settings.classical_start:
        return _classical_estimate(run.problem)
    return run.start


def _smooth_estimate(run: Run) -> Tensor:
    """What the measurement tells without a prior; grey where it tells nothing."""
    problem, operator = run.problem, run.problem.model_operator
    if problem.kind == "compressed":
        return problem.model_measurement
    grey = problem.model_measurement.new_zeros(len(problem.measurement), *operator.input_shape)
    return project(operator, grey, problem.model_measurement, run.noise_level, prior_std=0.5)


_SAMPLED_FROM = 5.0
"""σ from which SR3 goes by another sampler: above it the degraded picture tells more than the noisy one, and few steps
are better spent below."""
_SR3_ERROR, _ONE_STEP_ERROR = 0.05, 0.1
"""Of the default model's estimates of noisy pictures in [-1, 1], by what measures best."""


def _sr3(run: Run) -> Tensor:
    if run.settings.sampler is not None:
        check_variance(run.settings.sampler, run.denoiser)
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
    """SR3 by another reverse process: of the conditional network, each clean estimate explaining the measurement."""
    condition, sigmas = _condition(run, "sr3"), run.sigmas
    own = run.denoiser.distilled_levels
    if own is not None and len(own) == run.settings.steps:
        sigmas = [*own, 0.0]
    random = {"generator": run.generator} if sampler.random else {}
    return sampler.run(
        corrected(_guided(run), run.consistent(_SR3_ERROR)),
        start(torch.zeros_like(condition.picture), sigmas[0], run.generator) + (0 if run.start is None else run.start),
        sigmas,
        condition=condition,
        callback=run.callback,
        **random,
    )


def _guided(run: Run) -> Denoise:
    """The network, pulled towards its condition by two calls instead of one, where that is wanted."""
    scale = run.settings.guidance
    return run.denoiser if scale == 1 else classifier_free(run.denoiser, scale)


def _one_step(run: Run) -> Tensor:
    if run.problem.kind == "denoise":
        return _denoise_once(run)
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
            f"--method {method}: the task {run.problem.kind!r} has no condition picture; use diffpir or ddrm"
        )
    if not run.denoiser.conditional:
        raise BadArgument(f"--method {method}: this model is unconditional; use {_unguided(run)}")
    return _enlarged_as_known(run, condition) if run.problem.kind == "sr" else condition


def _enlarged_as_known(run: Run, condition: Condition) -> Condition:
    """The low-resolution picture at full size, enlarged as in the network's training."""
    problem, config = run.problem, run.denoiser.config
    size, measured = problem.operator.input_shape[-2:], problem.measurement.shape[-2:]
    if config.scale is not None and any(abs(a / b - config.scale) > 0.01 for a, b in zip(size, measured, strict=True)):
        raise BadArgument(
            f"--scale {size[1] / measured[1]:g}: this model was trained to enlarge {config.scale} times and "
            f"knows nothing else; use --scale {config.scale}"
        )
    if config.condition_resampling == "bicubic":
        return condition
    return condition._replace(picture=2 * enlarged(problem.measurement, size, config.condition_resampling) - 1)


def _unguided(run: Run) -> str:
    return "diffpir or ddrm" if run.problem.operator.has_svd else "diffpir"


METHODS: dict[str, Callable[[Run], Tensor]] = {"ddrm": _ddrm, "diffpir": _diffpir, "sr3": _sr3, "one-step": _one_step}

BEST_METHOD = {
    "sr": "ddrm",
    "inpaint": "ddrm",
    "deblur": "diffpir",
    "denoise": "one-step",
    "colorize": "one-step",
    "compressed": "diffpir",
    "solve": "diffpir",
}
"""The method that measures best on each task with the default model (docs/methods.md)."""

BEST_SAMPLER = {**BEST_METHOD, "denoise": "ddrm", "deblur": "ddrm", "colorize": "sr3"}
"""The best of those that draw samples of the posterior."""

WITHOUT_CONDITION = {"colorize": "ddrm"}
"""The best method of a model that is a prior alone, where that is another."""

WITHOUT_PRIOR = ("sr3", "one-step")
"""What a model can do that was trained with a low-resolution picture as its condition alone, the best first."""

_DEFAULTS: dict[str, Defaults] = {
    "ddrm": Defaults(steps=20, highest=1.0),
    "diffpir": Defaults(steps=20, highest=1.0, noisy_eta=1.0),
    "sr3": Defaults(steps=20),
    "one-step": Defaults(steps=1),
}
_TASK_DEFAULTS: dict[tuple[str, str], Defaults] = {
    ("inpaint", "ddrm"): Defaults(steps=20, highest="filled holes", classical_start=True),
    ("colorize", "ddrm"): Defaults(steps=20, highest=0.2, classical_start=True),
    ("compressed", "diffpir"): Defaults(steps=10, highest=0.2),
    ("inpaint", "diffpir"): Defaults(steps=20, highest="filled holes", noisy_eta=1.0, classical_start=True),
    ("solve", "diffpir"): Defaults(steps=20, highest="holes", noisy_eta=1.0),
}
_SAMPLING_DEFAULTS: dict[tuple[str, str], Defaults] = {
    ("inpaint", "ddrm"): Defaults(steps=20, highest="holes"),
    ("inpaint", "diffpir"): Defaults(steps=20, highest="holes", noisy_eta=1.0),
    ("colorize", "ddrm"): Defaults(steps=20, highest=1.0, classical_start=True),
}
"""For several samples: a start near one answer would make them more alike than the posterior is."""

START_NOISE = 0.2
"""In [0, 1] units, to which a start that is given is noised (docs/feed-forward.md has the measurements)."""

_FOUND: dict[int, Levels] = {
    5: Levels(highest=20.0, lowest=0.1, rho=12.8, eta=0.1),
    10: Levels(highest=40.0, lowest=0.025, rho=5.0, eta=0.475),
}
"""SR3's few-step schedules for ``sr``, up to so many steps, by `restore.tune` (docs/samplers.md)."""

BIHARMONIC_LIMIT = 200_000
"""Unknown pixels up to which a biharmonic fill, which solves a linear system of that size, is quick."""


def _classical_estimate(problem: Problem) -> Tensor:
    """Pictures [B, 3, H, W] in [-1, 1]: unknown pixels continue the known ones smoothly, unknown colours are grey."""
    from restore.baselines import inpaint

    unknown = _holes(problem.operator)
    if unknown is None:
        return 2 * problem.measurement.expand(-1, 3, -1, -1) - 1
    holes = unknown.any(dim=-3).expand(len(problem.measurement), -1, -1)
    small = int(holes.sum(dim=(1, 2)).max()) <= BIHARMONIC_LIMIT and min(holes.shape[1:]) >= 8
    method = "biharmonic" if small else "navier-stokes"
    pictures = problem.measurement.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu().numpy()
    filled = [inpaint(p, hole, method) for p, hole in zip(pictures, holes.cpu().numpy(), strict=True)]
    return 2 * torch.from_numpy(np.stack(filled)).permute(0, 3, 1, 2).to(problem.measurement) - 1


def _level_for_holes(operator: Operator, filled: bool) -> float:
    """The noise that hides the start: half the distance in pixels to the nearest known pixel, from 1 to 20, where it
    is empty; an eighth of it, from 0.2 to 5, where a classical method filled it."""
    share, least, most = (1 / 8, 0.2, 5.0) if filled else (1 / 2, 1.0, 20.0)
    unknown = _holes(operator)
    if unknown is None:
        return least
    distance = max(distance_transform_edt(hole).max() for hole in unknown.flatten(0, -3).cpu().numpy())
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


def settings_for(
    task: str,
    method: str = "auto",
    *,
    steps: int | None = None,
    eta: float | None = None,
    samples: int = 1,
    sampler: str | None = None,
    start: bool = False,
    start_noise: float | None = None,
    levels: Sequence[float] | None = None,
    guidance: float | None = None,
    conditional: bool = True,
    prior: bool = True,
    svd: bool = True,
) -> tuple[str, Defaults]:
    """The name of the method and its settings on a task.

    ``auto`` is the task's best method, or its best sampler where several samples or several steps are wanted of a
    task whose best method takes one. A model that is not ``conditional`` cannot do all of them, and not all take an
    operator without ``svd``, see `suits_ddrm`. One that is no ``prior`` does super-resolution alone, by
    `WITHOUT_PRIOR`. A ``start`` that is given is noised to ``start_noise``.

    Raises:
        BadArgument: unknown method, or steps, η, samples or a start that it cannot take, or a task that the model
            cannot do.
    """
    if start_noise is not None and not start:
        raise BadArgument(f"--start-noise {start_noise:g}: is the noise of a --start; give one, or leave it out")
    if method.startswith("spandrel:"):
        return method, _feed_forward(steps, eta, samples, sampler, start, levels, guidance)
    if not prior:
        method = _without_prior(task, method)
    if method == "auto":
        wants_sr3 = sampler is not None or levels is not None or guidance is not None
        method = "sr3" if wants_sr3 else _best(task, steps, eta, samples, conditional, svd, start)
    if method not in METHODS:
        raise BadArgument(f"--method {method}: unknown; use auto, {', '.join(METHODS)} or spandrel:FILE")
    if method == "one-step" and start:
        raise BadArgument("--start: the method one-step has no start; use ddrm, diffpir or sr3")
    settings = _TASK_DEFAULTS.get((task, method), _DEFAULTS[method])
    if samples > 1:
        settings = _SAMPLING_DEFAULTS.get((task, method), settings)
    if levels is not None:
        if start:
            raise BadArgument("--levels and --start: both say at what noise to begin; leave one of them out")
        settings = _with_levels(settings, method, levels, steps, sampler)
    if method == "one-step" and (steps or 1) != 1:
        raise BadArgument(f"--steps {steps}: the method one-step takes one step; use ddrm, diffpir or sr3 for more")
    if method == "one-step" and samples > 1:
        raise BadArgument(
            f"--samples {samples}: the method one-step has one answer; use ddrm, diffpir or sr3 for samples"
        )
    if method == "one-step" and eta is not None:
        raise BadArgument(f"--eta {eta}: the method one-step adds no noise; use ddrm, diffpir or sr3")
    if steps is not None:
        if not 1 <= steps <= 1000:
            raise BadArgument(f"--steps {steps}: must be between 1 and 1000")
        settings = settings._replace(steps=steps)
    own = sampler is None and levels is None and prior and not start
    if own and (task, method) == ("sr", "sr3") and settings.steps <= max(_FOUND):
        found = next(levels for most, levels in _FOUND.items() if settings.steps <= most)
        settings = settings._replace(sigmas=found.sigmas(settings.steps), eta=found.eta)
    if eta is not None:
        if not 0 <= eta <= 1:
            raise BadArgument(f"--eta {eta}: must be between 0 and 1")
        settings = settings._replace(eta=eta, noisy_eta=eta)
    if guidance is not None:
        settings = settings._replace(guidance=_guidance_scale(method, guidance, prior))
    if sampler is not None:
        settings = _with_sampler(settings, method, sampler, eta)
    return method, _with_start(settings, start_noise) if start else settings


def _without_prior(task: str, method: str) -> str:
    if task != "sr":
        raise BadArgument(
            f"--model: this one was trained for super-resolution alone, which is not {task}; use it with restore sr, "
            "and a prior, as the default model is, here"
        )
    if method not in ("auto", *WITHOUT_PRIOR):
        raise BadArgument(
            f"--method {method}: it needs a prior, and this model was trained with its condition alone; use "
            f"{' or '.join(WITHOUT_PRIOR)}"
        )
    return WITHOUT_PRIOR[0] if method == "auto" else method


def _with_start(settings: Defaults, noise: float | None) -> Defaults:
    """The settings from a picture that is given, noised to that standard deviation in [0, 1] units."""
    if noise is not None and not 0 < noise <= 1:
        raise BadArgument(f"--start-noise {noise:g}: must be a standard deviation above 0 and at most 1")
    return settings._replace(highest=2 * (START_NOISE if noise is None else noise), classical_start=False)


def _feed_forward(
    steps: int | None,
    eta: float | None,
    samples: int,
    sampler: str | None,
    start: bool,
    levels: Sequence[float] | None,
    guidance: float | None,
) -> Defaults:
    """A network of others answers in one call, and has one answer.

    Raises:
        BadArgument: an option of the diffusion methods.
    """
    others = {"--steps": (steps or 1) != 1, "--eta": eta is not None, "--samples": samples > 1}
    others |= {"--sampler": sampler is not None, "--start": start, "--levels": levels is not None}
    others |= {"--guidance": guidance is not None}
    for option in (name for name, given in others.items() if given):
        raise BadArgument(f"{option}: a feed-forward network has one answer of its own; use ddrm, diffpir or sr3")
    return Defaults(steps=1)


def _best(
    task: str, steps: int | None, eta: float | None, samples: int, conditional: bool, svd: bool, start: bool
) -> str:
    method = BEST_METHOD[task]
    if samples > 1 or (method == "one-step" and (start or (steps or 1) > 1 or eta is not None)):
        method = BEST_SAMPLER[task]
    if not conditional:
        method = WITHOUT_CONDITION.get(task, method)
    return "diffpir" if method == "ddrm" and not svd else method


def _with_levels(
    settings: Defaults, method: str, levels: Sequence[float], steps: int | None, sampler: str | None
) -> Defaults:
    """The settings with these noise levels."""
    if method != "sr3" or sampler is not None:
        raise BadArgument(f"--levels: are of --method sr3 and its own sampler, not of {sampler or method}")
    sigmas = tuple(float(level) for level in levels)
    if not sigmas or not all(a > b for a, b in pairwise((math.inf, *sigmas, 0.0))):
        raise BadArgument(f"--levels {list(sigmas)}: must be falling numbers above 0")
    if steps not in (None, len(sigmas)):
        raise BadArgument(f"--steps {steps}: there are {len(sigmas)} --levels, a step for each; leave one of them out")
    return settings._replace(steps=len(sigmas), sigmas=sigmas)


def _guidance_scale(method: str, scale: float, prior: bool) -> float:
    if not prior and scale != 1:
        raise BadArgument(f"--guidance {scale}: this model was never asked without its input; leave it out")
    if method != "sr3":
        raise BadArgument(f"--guidance {scale}: is for --method sr3, not {method}")
    if not (math.isfinite(scale) and scale >= 0):
        raise BadArgument(f"--guidance {scale}: must be 0 or more; 1 is none, and more follows the input further")
    return scale


def _with_sampler(settings: Defaults, method: str, name: str, eta: float | None) -> Defaults:
    """The settings with a sampler, and its own grid of noise levels."""
    if method != "sr3":
        raise BadArgument(f"--sampler {name}: is for --method sr3, not {method}")
    if name not in SAMPLERS:
        raise BadArgument(f"--sampler {name}: unknown; there are {', '.join(SAMPLERS)}")
    if SAMPLERS[name].score_norms:
        raise BadArgument(
            f"--sampler {name}: its variance is estimated for the prior alone, not for sr3, which sees IN as well; "
            "it is for restore sample"
        )
    if eta is not None:
        raise BadArgument(f"--eta {eta}: is of sr3's own sampler; {name} has its own noise")
    if settings.steps < (least := SAMPLERS[name].least_steps):
        raise BadArgument(f"--steps {settings.steps}: the sampler {name} takes at least {least}")
    return settings._replace(sampler=name, levels=SAMPLERS[name].levels, highest=_SAMPLED_FROM)
