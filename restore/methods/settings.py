"""How a user wants a picture restored, and what a method is run with: what measures best unless
told otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

from restore.diffusion.level_search import Levels
from restore.errors import BadArgument
from restore.methods.feed_forward import is_feed_forward
from restore.samplers.catalogue import SAMPLERS

if TYPE_CHECKING:
    from restore.photo.pictures import Picture


@dataclass(frozen=True)
class Options:
    """How to restore, whatever the task.

    Attributes:
        method: ``auto`` (the task's best), ``ddrm``, ``diffpir``, ``sr3``, ``one-step``, or
            ``spandrel:FILE``, see `restore.methods.feed_forward`.
        steps: calls of the network; None is the method's default.
        eta: share of fresh noise in each step, in [0, 1]; None is the method's default.
        seed: of all random numbers.
        samples: how many samples of the posterior to draw.
        sampler: how ``sr3`` walks from noise to picture, one of
            `restore.samplers.catalogue.SAMPLERS`; None is its own.
        start: a picture of the result's size that ddrm, diffpir and sr3 begin with instead of with
            noise, or ``spandrel:FILE``, whose answer it is (Chung et al. 2022, arXiv 2112.05146).
        start_noise: to which the start is noised, a standard deviation in [0, 1] units; None is
            `START_NOISE`.
        label: what a class-conditional model is to see in the picture, the number of its class.
        levels: falling noise levels that ``sr3`` walks down, σ for pictures in [-1, 1], without a
            final 0; see `restore.evaluate.tune`. None is its own grid.
        guidance: scale of ``sr3``'s classifier-free guidance, at least 0, see
            `restore.diffusion.guidance`; None and 1 are none.
    """

    method: str = "auto"
    steps: int | None = None
    eta: float | None = None
    seed: int = 0
    samples: int = 1
    sampler: str | None = None
    start: Picture | str | None = None
    start_noise: float | None = None
    label: int | None = None
    levels: Sequence[float] | None = None
    guidance: float | None = None

    @property
    def networks(self) -> list[str]:
        """The feed-forward networks that are used, as ``spandrel:FILE``."""
        return [
            text
            for text in (self.method, self.start)
            if isinstance(text, str) and is_feed_forward(text)
        ]


class Defaults(NamedTuple):
    """How a method is run on a task unless told otherwise (docs/methods.md has the
    measurements).
    """

    steps: int
    levels: str = "log-snr"
    highest: float | Literal["holes", "filled holes"] | None = None
    """Highest noise level; None is the schedule's. ``holes`` and ``filled holes`` rise with the
    width of a mask's holes, these being empty at the start or filled by a classical method."""
    eta: float = 1.0
    noisy_eta: float = 0.85
    """η where the measurement has noise: a smaller one forgets less of it below its noise."""
    classical_start: bool = False
    """Begin what the measurement does not tell at a classical estimate instead of at mid-grey."""
    sampler: str | None = None
    """Of SR3: one of `SAMPLERS` instead of its own."""
    sigmas: tuple[float, ...] = ()
    """Of SR3: these noise levels instead of a grid, without the final 0."""
    predicted: float | None = None
    """Where the model has a predictor and the measurement no more noise than this, in [0, 1] units:
    begin at its answer; of ``one-step``, answer with it; of ``sr3``, condition on it, if the
    denoiser takes such conditions (`restore.diffusion.denoiser.ModelConfig.condition_picture`).
    None is never."""
    guidance: float = 1.0
    """Of SR3: the scale of `restore.diffusion.guidance.classifier_free`; 1 is none."""


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
"""What a model can do that was trained with a low-resolution picture as its condition alone, the
best first.
"""

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
    ("inpaint", "diffpir"): Defaults(
        steps=20, highest="filled holes", noisy_eta=1.0, classical_start=True
    ),
    ("solve", "diffpir"): Defaults(steps=20, highest="holes", noisy_eta=1.0),
}
_SAMPLING_DEFAULTS: dict[tuple[str, str], Defaults] = {
    ("inpaint", "ddrm"): Defaults(steps=20, highest="holes"),
    ("inpaint", "diffpir"): Defaults(steps=20, highest="holes", noisy_eta=1.0),
    ("colorize", "ddrm"): Defaults(steps=20, highest=1.0, classical_start=True),
}
"""For several samples: a start near one answer would make them more alike than the posterior is."""
PREDICTED_NOISE = 0.02
"""In [0, 1] units, up to which the shipped predictor's answers are better than the conditional
network's (docs/results.md has the measurements)."""

_PREDICTED_DEFAULTS: dict[tuple[str, str], Defaults] = {
    ("sr", "one-step"): Defaults(steps=1, predicted=PREDICTED_NOISE),
    ("deblur", "one-step"): Defaults(steps=1, predicted=PREDICTED_NOISE),
    ("sr", "sr3"): Defaults(steps=10, predicted=PREDICTED_NOISE),
    ("deblur", "sr3"): Defaults(steps=20, predicted=PREDICTED_NOISE),
}
"""With the predictor of a model that has one, for one sample or several of ``sr3``."""

START_NOISE = 0.2
"""In [0, 1] units, to which a start that is given is noised (docs/feed-forward.md has the
measurements).
"""

SAMPLED_FROM = 5.0
"""σ from which SR3 goes by another sampler: above it the degraded picture tells more than the noisy
one, and few steps are better spent below."""

_FOUND: dict[int, Levels] = {
    5: Levels(highest=20.0, lowest=0.1, rho=12.8, eta=0.1),
    10: Levels(highest=40.0, lowest=0.025, rho=5.0, eta=0.475),
}
"""SR3's few-step schedules for ``sr``, up to so many steps, by `restore.evaluate.tune`
(docs/samplers.md).
"""


def settings_for(
    task: str,
    options: Options | None = None,
    *,
    conditional: bool = True,
    prior: bool = True,
    svd: bool = True,
    predictor: bool = False,
) -> tuple[str, Defaults]:
    """The name of the method and its settings on a task.

    ``auto`` is the task's best method, or its best sampler where several samples or several steps
    are wanted of a task whose best method takes one; a sampler, levels or guidance mean ``sr3``.

    Args:
        task: the kind of problem, see `restore.tasks.problem.Problem.kind`.
        options: what the user asked for; None is nothing in particular.
        conditional: whether the model can be shown a condition.
        prior: whether the model knows pictures by themselves; one that does not does
            super-resolution alone, by `WITHOUT_PRIOR`.
        svd: whether the method ``ddrm`` takes the operator, see
            `restore.methods.registry.suits_ddrm`.
        predictor: whether the model has a predictor that knows the problem, with no more noise than
            `PREDICTED_NOISE` in one of its pictures.

    Raises:
        BadArgument: unknown method, or options that it cannot take, or a task that the model cannot
            do.
    """
    options = options or Options()
    if options.start_noise is not None and options.start is None:
        raise BadArgument(
            f"--start-noise {options.start_noise:g}: is the noise of a --start; give one, or leave "
            "it out"
        )

    if is_feed_forward(options.method):
        _refuse_for_feed_forward(options)
        return options.method, Defaults(steps=1)

    method = _method(task, options, conditional, prior, svd)
    if (
        not conditional
        and method in ("sr3", "one-step")
        and (task, method) != ("denoise", "one-step")
    ):
        raise BadArgument(
            f"--method {method}: this model is unconditional; use "
            f"diffpir{' or ddrm' if svd else ''}"
        )

    settings = _TASK_DEFAULTS.get((task, method), _DEFAULTS[method])
    if options.samples > 1:
        settings = _SAMPLING_DEFAULTS.get((task, method), settings)
    if predictor and (options.samples == 1 or method == "sr3"):
        settings = _PREDICTED_DEFAULTS.get((task, method), settings)
    if options.levels is not None:
        settings = settings._replace(
            sigmas=_levels(method, options, options.levels), steps=len(options.levels)
        )
    elif options.steps is not None:
        if not 1 <= options.steps <= 1000:
            raise BadArgument(f"--steps {options.steps}: must be between 1 and 1000")
        settings = settings._replace(steps=options.steps)

    if method == "one-step":
        _refuse_for_one_step(options)
    if prior and (task, method) == ("sr", "sr3"):
        settings = _with_found_levels(settings, options)
    if options.eta is not None:
        if not 0 <= options.eta <= 1:
            raise BadArgument(f"--eta {options.eta}: must be between 0 and 1")
        settings = settings._replace(eta=options.eta, noisy_eta=options.eta)

    if options.guidance is not None:
        settings = settings._replace(guidance=_guidance(method, options.guidance, prior))
    if options.sampler is not None:
        settings = _with_sampler(settings, method, options.sampler, options.eta)

    return method, settings if options.start is None else _with_start(settings, options.start_noise)


def _method(task: str, options: Options, conditional: bool, prior: bool, svd: bool) -> str:
    """The method's name.

    Raises:
        BadArgument: it is unknown, or the model cannot do it or the task.
    """
    method = options.method
    if not prior:
        return _without_prior(task, method)
    if method == "auto":
        wants_sr3 = any(
            given is not None for given in (options.sampler, options.levels, options.guidance)
        )
        return "sr3" if wants_sr3 else _best(task, options, conditional, svd)

    if method not in _DEFAULTS:
        raise BadArgument(
            f"--method {method}: unknown; use auto, {', '.join(_DEFAULTS)} or spandrel:FILE"
        )

    return method


def _without_prior(task: str, method: str) -> str:
    if task != "sr":
        raise BadArgument(
            f"--model: this one was trained for super-resolution alone, which is not {task}; use "
            "it with restore sr, and a prior, as the default model is, here"
        )
    if method not in ("auto", *WITHOUT_PRIOR):
        raise BadArgument(
            f"--method {method}: it needs a prior, and this model was trained with its condition "
            f"alone; use {' or '.join(WITHOUT_PRIOR)}"
        )

    return WITHOUT_PRIOR[0] if method == "auto" else method


def _best(task: str, options: Options, conditional: bool, svd: bool) -> str:
    method = BEST_METHOD[task]
    walks = options.start is not None or (options.steps or 1) > 1 or options.eta is not None
    if options.samples > 1 or (method == "one-step" and walks):
        method = BEST_SAMPLER[task]
    if not conditional:
        method = WITHOUT_CONDITION.get(task, method)

    return "diffpir" if method == "ddrm" and not svd else method


def _refuse_for_feed_forward(options: Options) -> None:
    """A network of others answers in one call, and has one answer.

    Raises:
        BadArgument: an option of the diffusion methods.
    """
    others = {
        "--levels": options.levels is not None,  # before the η that their file may bring
        "--steps": (options.steps or 1) != 1,
        "--eta": options.eta is not None,
        "--samples": options.samples > 1,
        "--sampler": options.sampler is not None,
        "--start": options.start is not None,
        "--guidance": options.guidance is not None,
    }
    for option in (name for name, given in others.items() if given):
        raise BadArgument(
            f"{option}: a feed-forward network has one answer of its own; use ddrm, diffpir or sr3"
        )


def _refuse_for_one_step(options: Options) -> None:
    """BadArgument for what the method cannot take."""
    others = {
        "--start": (options.start is not None, "has no start; use ddrm, diffpir or sr3"),
        f"--steps {options.steps}": (
            (options.steps or 1) != 1,
            "takes one step; use ddrm, diffpir or sr3 for more",
        ),
        f"--samples {options.samples}": (
            options.samples > 1,
            "has one answer; use ddrm, diffpir or sr3 for samples",
        ),
        f"--eta {options.eta}": (
            options.eta is not None,
            "adds no noise; use ddrm, diffpir or sr3",
        ),
    }
    for option, (given, why) in others.items():
        if given:
            raise BadArgument(f"{option}: the method one-step {why}")


def _levels(method: str, options: Options, levels: Sequence[float]) -> tuple[float, ...]:
    """The noise levels that are given, as `Defaults.sigmas`."""
    if options.start is not None:
        raise BadArgument(
            "--levels and --start: both say at what noise to begin; leave one of them out"
        )
    if method != "sr3" or options.sampler is not None:
        raise BadArgument(
            f"--levels: are of --method sr3 and its own sampler, not of {options.sampler or method}"
        )

    sigmas = tuple(float(level) for level in levels)
    if not sigmas or not all(a > b for a, b in pairwise((math.inf, *sigmas, 0.0))):
        raise BadArgument(f"--levels {list(sigmas)}: must be falling numbers above 0")
    if options.steps not in (None, len(sigmas)):
        raise BadArgument(
            f"--steps {options.steps}: there are {len(sigmas)} --levels, a step for each; leave "
            "one of them out"
        )

    return sigmas


def _with_found_levels(settings: Defaults, options: Options) -> Defaults:
    """The settings with the levels that were found for so few steps, where nothing else says how to
    walk.
    """
    walks_otherwise = any(
        given is not None for given in (options.sampler, options.levels, options.start)
    )
    if walks_otherwise or settings.steps > max(_FOUND):
        return settings

    found = next(levels for most, levels in _FOUND.items() if settings.steps <= most)
    return settings._replace(sigmas=found.sigmas(settings.steps), eta=found.eta)


def _guidance(method: str, scale: float, prior: bool) -> float:
    if not prior and scale != 1:
        raise BadArgument(
            f"--guidance {scale}: this model was never asked without its input; leave it out"
        )
    if method != "sr3":
        raise BadArgument(f"--guidance {scale}: is for --method sr3, not {method}")
    if not (math.isfinite(scale) and scale >= 0):
        raise BadArgument(
            f"--guidance {scale}: must be 0 or more; 1 is none, and more follows the input further"
        )

    return scale


def _with_sampler(settings: Defaults, method: str, name: str, eta: float | None) -> Defaults:
    """The settings with a sampler, and its own grid of noise levels."""
    if method != "sr3":
        raise BadArgument(f"--sampler {name}: is for --method sr3, not {method}")
    if name not in SAMPLERS:
        raise BadArgument(f"--sampler {name}: unknown; there are {', '.join(SAMPLERS)}")
    if SAMPLERS[name].score_norms:
        raise BadArgument(
            f"--sampler {name}: its variance is estimated for the prior alone, not for sr3, which "
            "sees IN as well; it is for restore sample"
        )
    if eta is not None:
        raise BadArgument(f"--eta {eta}: is of sr3's own sampler; {name} has its own noise")
    if settings.steps < (least := SAMPLERS[name].least_steps):
        raise BadArgument(f"--steps {settings.steps}: the sampler {name} takes at least {least}")

    return settings._replace(sampler=name, levels=SAMPLERS[name].levels, highest=SAMPLED_FROM)


def _with_start(settings: Defaults, noise: float | None) -> Defaults:
    """The settings from a picture that is given, noised to that standard deviation in [0, 1]
    units.
    """
    if noise is not None and not 0 < noise <= 1:
        raise BadArgument(
            f"--start-noise {noise:g}: must be a standard deviation above 0 and at most 1"
        )
    return settings._replace(
        highest=2 * (START_NOISE if noise is None else noise), classical_start=False
    )
