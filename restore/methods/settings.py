"""How a user wants a picture restored, and the method and settings that follow from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from restore.errors import BadArgument
from restore.methods import METHODS
from restore.methods.defaults import Defaults
from restore.methods.feed_forward import is_feed_forward
from restore.methods.method import Method
from restore.methods.sr3 import SAMPLED_FROM
from restore.samplers.catalogue import SAMPLERS
from restore.tasks.kind import Kind
from restore.tasks.problem import Problem

if TYPE_CHECKING:
    from restore.photo.pictures import Picture

# To this noise, in [0, 1] units, a start that is given is noised (docs/feed-forward.md has the
# measurements).
START_NOISE = 0.2


@dataclass(frozen=True)
class Options:
    """How to restore, whatever the task.

    Attributes:
        method: ``auto`` (the best for the kind of problem), a name of `restore.methods.METHODS`, or
            ``spandrel:FILE``, see `restore.methods.feed_forward`.
        steps: calls of the network; None is the method's default.
        eta: fraction of fresh noise in each step, in [0, 1]; None is the method's default.
        seed: random seed.
        samples: how many samples of the posterior to draw.
        sampler: the reverse process of ``sr3``, one of `restore.samplers.catalogue.SAMPLERS`; None
            is its own.
        start: a picture of the result's size that ddrm, diffpir and sr3 begin with instead of with
            noise, or ``spandrel:FILE``, whose answer it is (Chung et al. 2022, arXiv 2112.05146).
        start_noise: noise of the start, a standard deviation in [0, 1] units; None is
            `START_NOISE`.
        label: the class that a class-conditional model is to see in the picture, by its number.
        levels: falling noise levels for ``sr3``, σ for pictures in [-1, 1], without a final 0; see
            `restore.evaluate.tune`. None is its own grid.
        guidance: scale of the classifier-free guidance of ``sr3``, at least 0, see
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
        named = (self.method, self.start)
        return [text for text in named if isinstance(text, str) and is_feed_forward(text)]


@dataclass(frozen=True)
class Knowledge:
    """What a model can do, and what the operator of a problem allows.

    Attributes:
        conditional: the model can be shown a condition.
        prior: it knows pictures by themselves; one that does not does super-resolution alone.
        predictor: it has a predictor that knows the problem, with no more noise than that one was
            trained for.
        svd: the method ``ddrm`` takes the operator.
    """

    conditional: bool = True
    prior: bool = True
    predictor: bool = False
    svd: bool = True


ANY_MODEL = Knowledge()


def settings_for(
    kind: Kind, options: Options | None = None, known: Knowledge = ANY_MODEL
) -> tuple[str, Defaults]:
    """Return the name of the method and its settings on a kind of problem.

    ``auto`` is the best method for the kind, or its best sampler where several samples or several
    steps are wanted of a method that takes one; a sampler, levels or guidance mean ``sr3``.

    Args:
        kind: of the problem.
        options: what the user asked for; None is nothing in particular.
        known: about model and operator.

    Raises:
        BadArgument: an unknown method, options that it cannot take, or a problem that the model
            cannot solve.
    """
    options = options or Options()
    if options.start_noise is not None and options.start is None:
        raise BadArgument(
            f"`start_noise`={options.start_noise:g}: is the noise of a `start`; give one, or leave "
            "it out"
        )
    if is_feed_forward(options.method):
        _refuse_for_feed_forward(options)
        return options.method, Defaults(steps=1)

    method = _method(kind, options, known)
    if not known.conditional and not method.runs_without_condition(kind):
        raise BadArgument(
            f"`method`={method.name}: this model is unconditional; use diffpir"
            f"{' or ddrm' if known.svd else ''}"
        )

    settings = method.settings(kind, samples=options.samples, predictor=known.predictor)
    if options.levels is not None:
        sigmas = _levels(method, options, options.levels)
        settings = settings._replace(sigmas=sigmas, steps=len(sigmas))
    elif options.steps is not None:
        if not 1 <= options.steps <= 1000:
            raise BadArgument(f"`steps`={options.steps}: must be between 1 and 1000")
        settings = settings._replace(steps=options.steps)

    _refuse_for_one_answer(method, options)
    if known.prior:
        settings = _with_few_steps(settings, method, kind, options)
    if options.eta is not None:
        if not 0 <= options.eta <= 1:
            raise BadArgument(f"`eta`={options.eta}: must be between 0 and 1")
        settings = settings._replace(eta=options.eta, noisy_eta=options.eta)
    if options.guidance is not None:
        settings = settings._replace(guidance=_guidance(method, options.guidance, known.prior))
    if options.sampler is not None:
        settings = _with_sampler(settings, method, options.sampler, options.eta)
    if options.start is not None:
        settings = _with_start(settings, options.start_noise)

    return method.name, settings


def check_suited(method: str, problem: Problem, known: Knowledge) -> None:
    """Refuse a method that needs an SVD where the operator has none.

    Raises:
        BadArgument: it does; the text has the methods that work.
    """
    chosen = METHODS.get(method)
    if chosen is None or chosen.takes(problem.operator):
        return

    has = {"conditional": known.conditional, "prior": known.prior}
    working = [one.name for one in METHODS.values() if one.suits(problem, **has)]
    remedy = f"; or {problem.remedy}" if problem.remedy else ""
    raise BadArgument(
        f"`method`={method}: it needs an operator with an SVD, and "
        f"{type(problem.operator).__name__} has none; without one work {', '.join(working)}{remedy}"
    )


def _method(kind: Kind, options: Options, known: Knowledge) -> Method:
    """Return the method that is chosen.

    Raises:
        BadArgument: it is unknown, or the model cannot do it or the kind of problem.
    """
    if not known.prior:
        return _without_prior(kind, options.method)

    if options.method == "auto":
        given = (options.sampler, options.levels, options.guidance)
        sampled = any(option is not None for option in given)
        if sampled:
            return next(method for method in METHODS.values() if method.samplers)
        return METHODS[_best(kind, options, known)]

    if options.method not in METHODS:
        raise BadArgument(
            f"`method`={options.method}: unknown; use auto, {', '.join(METHODS)} or spandrel:FILE"
        )

    return METHODS[options.method]


def _without_prior(kind: Kind, method: str) -> Method:
    """Return the method of a model that was trained with a low-resolution condition alone."""
    if kind.needs_prior:
        raise BadArgument(
            f"`model`: this one was trained for super-resolution alone, which is not {kind.name}; "
            "use it with restore sr, and a prior, as the default model is, here"
        )

    able = {name: one for name, one in METHODS.items() if not one.needs_prior}
    if method not in ("auto", *able):
        raise BadArgument(
            f"`method`={method}: it needs a prior, and this model was trained with its condition "
            f"alone; use {' or '.join(able)}"
        )

    return next(iter(able.values())) if method == "auto" else able[method]


def _best(kind: Kind, options: Options, known: Knowledge) -> str:
    method = kind.method
    several = options.start is not None or (options.steps or 1) > 1 or options.eta is not None
    if options.samples > 1 or (several and not METHODS[method].stochastic):
        method = kind.sampler
    if not known.conditional and not METHODS[method].runs_without_condition(kind):
        method = kind.unconditional

    return "diffpir" if METHODS[method].needs_svd and not known.svd else method


def _refuse_for_feed_forward(options: Options) -> None:
    """Refuse options of diffusion methods: a third-party network answers in one call.

    Raises:
        BadArgument: one is given.
    """
    others = {
        "levels": options.levels is not None,  # before the η that their file may bring
        "steps": (options.steps or 1) != 1,
        "eta": options.eta is not None,
        "samples": options.samples > 1,
        "sampler": options.sampler is not None,
        "start": options.start is not None,
        "guidance": options.guidance is not None,
    }
    for option in (name for name, given in others.items() if given):
        raise BadArgument(
            f"`{option}`: a feed-forward network has one answer of its own; use ddrm, diffpir or "
            "sr3"
        )


def _refuse_for_one_answer(method: Method, options: Options) -> None:
    """Refuse what a method cannot take.

    Raises:
        BadArgument: it is given.
    """
    given = {
        "start": ("`start`", options.start is not None),
        "steps": (f"`steps`={options.steps}", (options.steps or 1) != 1),
        "samples": (f"`samples`={options.samples}", options.samples > 1),
        "eta": (f"`eta`={options.eta}", options.eta is not None),
    }
    for option, reason in method.refusals.items():
        text, is_given = given[option]
        if is_given:
            raise BadArgument(f"{text}: the method {method.name} {reason}")


def _levels(method: Method, options: Options, levels: Sequence[float]) -> tuple[float, ...]:
    """Return the noise levels that are given, as `Defaults.sigmas`.

    Raises:
        BadArgument: they don't fall to 0, or go with something else that says how to sample.
    """
    if options.start is not None:
        raise BadArgument(
            "`levels` and `start`: both say at what noise to begin; leave one of them out"
        )
    if not method.samplers or options.sampler is not None:
        raise BadArgument(
            "`levels`: are for `method`=sr3 and its own sampler, not for "
            f"{options.sampler or method.name}"
        )

    sigmas = tuple(float(level) for level in levels)
    if not sigmas or not all(a > b for a, b in pairwise((math.inf, *sigmas, 0.0))):
        raise BadArgument(f"`levels`={list(sigmas)}: must be falling numbers above 0")
    if options.steps not in (None, len(sigmas)):
        raise BadArgument(
            f"`steps`={options.steps}: there are {len(sigmas)} `levels`, a step for each; leave "
            "one of them out"
        )

    return sigmas


def _with_few_steps(settings: Defaults, method: Method, kind: Kind, options: Options) -> Defaults:
    """Return the settings with the levels that were found for so few steps.

    They hold where nothing else says how to sample.
    """
    given = (options.sampler, options.levels, options.start)
    found = method.few_steps.get(kind.name, {})
    if any(option is not None for option in given) or settings.steps > max(found, default=0):
        return settings

    levels = next(levels for most, levels in found.items() if settings.steps <= most)
    return settings._replace(sigmas=levels.sigmas(settings.steps), eta=levels.eta)


def _guidance(method: Method, scale: float, prior: bool) -> float:
    if not prior and scale != 1:
        raise BadArgument(
            f"`guidance`={scale}: this model was never asked without its input; leave it out"
        )
    if not method.samplers:
        raise BadArgument(f"`guidance`={scale}: is for `method`=sr3, not {method.name}")
    if not (math.isfinite(scale) and scale >= 0):
        raise BadArgument(
            f"`guidance`={scale}: must be 0 or more; 1 is none, and more follows the input further"
        )

    return scale


def _with_sampler(settings: Defaults, method: Method, name: str, eta: float | None) -> Defaults:
    """Return the settings with a sampler, and its own grid of noise levels."""
    if not method.samplers:
        raise BadArgument(f"`sampler`={name}: is for `method`=sr3, not {method.name}")
    if name not in SAMPLERS:
        raise BadArgument(f"`sampler`={name}: unknown; there are {', '.join(SAMPLERS)}")

    sampler = SAMPLERS[name]
    if sampler.score_norms:
        raise BadArgument(
            f"`sampler`={name}: its variance is estimated for the prior alone, not for sr3, which "
            "sees IN as well; it is for restore sample"
        )
    if eta is not None:
        raise BadArgument(f"`eta`={eta}: is of sr3's own sampler; {name} has its own noise")
    if settings.steps < sampler.least_steps:
        raise BadArgument(
            f"`steps`={settings.steps}: the sampler {name} takes at least {sampler.least_steps}"
        )

    return settings._replace(sampler=name, levels=sampler.levels, highest=SAMPLED_FROM)


def _with_start(settings: Defaults, noise: float | None) -> Defaults:
    """Return the settings from a given picture, noised to a standard deviation in [0, 1] units."""
    if noise is not None and not 0 < noise <= 1:
        raise BadArgument(
            f"`start_noise`={noise:g}: must be a standard deviation above 0 and at most 1"
        )

    level = START_NOISE if noise is None else noise
    return settings._replace(highest=2 * level, classical_start=False)
