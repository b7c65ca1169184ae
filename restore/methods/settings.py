"""The method and settings that follow from the options of a restoration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from operators import NonlinearChain, Quantise
from restore.errors import BadArgument
from restore.methods import METHODS
from restore.methods.automatic import best, of_few_calls, refused, usable, with_fidelity
from restore.methods.defaults import Defaults
from restore.methods.feed_forward import NAMED, is_feed_forward
from restore.methods.method import Method
from restore.methods.options import ANY_MODEL, Knowledge, Options
from restore.methods.parameter import resolved
from restore.methods.sr3 import SAMPLED_FROM
from restore.samplers.catalogue import SAMPLERS
from restore.tasks.kind import Kind
from restore.tasks.problem import Problem

# An operator that is not linear.
_ROUNDED = NonlinearChain([Quantise(8)], (3, 1, 1))

# Default noise level of a start, in [0, 1] units (measured in docs/feed-forward.md).
START_NOISE = 0.2


def settings_for(
    kind: Kind, options: Options | None = None, known: Knowledge = ANY_MODEL
) -> tuple[str, Defaults]:
    """Return the name of the method and its settings for a kind of problem.

    ``auto`` is the best method for the kind, or its best sampler if several samples or steps are
    asked for; a sampler, levels or guidance imply ``sr3``.

    Args:
        kind: kind of the problem.
        options: options of the user; None takes the defaults.
        known: capabilities of model and operator.

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
    if options.fast:
        options = of_few_calls(kind, options, known)
    if is_feed_forward(options.method):
        _refuse_for_feed_forward(options)
        return options.method, Defaults(steps=1)

    method = _method(kind, options, known)
    _check_known(method, kind, known)
    settings = method.settings(kind, samples=options.samples, predictor=known.predictor)
    settings = _with_steps(settings, method, options)
    _check_refusals(method, options)
    settings = _with_options(settings, method, kind, options, known)

    given = options.parameters or {}
    parameters = resolved(method.name, method.parameters, settings.parameters, given)
    for one in method.parameters:
        if one.is_steps:
            settings = settings._replace(steps=int(parameters[one.name]))
    return method.name, settings._replace(parameters=parameters)


def _check_known(method: Method, kind: Kind, known: Knowledge) -> None:
    """Refuse a method that needs more than the model and the operator can.

    Raises:
        BadArgument: it does; the text names a method that works.
    """
    if not known.conditional and not method.runs_without_condition(kind):
        able = usable(METHODS[kind.unconditional], known)
        raise BadArgument(f"`method`={method.name}: this model is unconditional; use {able.name}")

    if known.noise_map and not method.takes_noise_maps:
        raise BadArgument(noise_map_refusal(method.name, known))


def _with_options(
    settings: Defaults, method: Method, kind: Kind, options: Options, known: Knowledge
) -> Defaults:
    """Return the settings with the options other than steps and parameters.

    Raises:
        BadArgument: an option that the method cannot take.
    """
    if known.prior:
        settings = _with_few_steps(settings, method, kind, options)
    if options.eta is not None:
        settings = _with_eta(settings, options.eta)
    if options.guidance is not None and not method.latents:  # there it is the denoiser's
        settings = settings._replace(guidance=_guidance(method, options.guidance, known.prior))
    if options.sampler is not None:
        settings = _with_sampler(settings, method, options.sampler, options.eta)
    if options.start is not None:
        settings = _with_start(settings, options.start_noise)

    return settings if options.fidelity is None else with_fidelity(settings, method, kind, options)


def noise_map_refusal(method: str, known: Knowledge) -> str:
    """Return the error for a method that takes one noise level for a picture."""
    working = [
        one.name
        for one in METHODS.values()
        if one.takes_noise_maps
        and (known.prior or not one.needs_prior)
        and one.latents == METHODS[method].latents
    ]
    return (
        f"`method`={method}: it takes one noise level for a picture, and `noise` depends on the "
        f"signal; these can: {', '.join(working)}"
    )


def takes_intervals(options: Options, known: Knowledge) -> bool:
    """Return True if the method that options ask for takes the intervals of a JPEG file.

    Only some methods take an operator that is not linear, and no other options than those of a
    method.
    """
    if not known.prior or options.networks:
        return False
    if options.method == "auto":
        return (options.sampler, options.levels, options.guidance) == (None, None, None)

    chosen = METHODS.get(options.method)
    return chosen is not None and chosen.takes(_ROUNDED) and not chosen.needs_condition


def check_suited(method: str, problem: Problem, known: Knowledge) -> None:
    """Refuse a method that cannot use the operator of a problem.

    Raises:
        BadArgument: it cannot; the text names the methods that can.
    """
    chosen = METHODS.get(method)
    if chosen is None or chosen.uses(problem):
        return

    if problem.noise_map is not None and not chosen.takes_noise_maps:
        raise BadArgument(noise_map_refusal(method, known))

    has = {
        "conditional": known.conditional,
        "prior": known.prior,
        "bridge": bool(known.bridge),
        "latent": bool(known.latent),
    }
    working = [one.name for one in METHODS.values() if one.suits(problem, **has)]
    name = type(problem.operator).__name__
    others = f"these can: {', '.join(working)}"
    for_noise = chosen.takes(problem.operator)  # without noise it could
    if chosen.operators and not for_noise:
        raise BadArgument(
            f"`method`={method}: it takes {chosen.operators}, not the operator {name}; {others}"
        )
    if not (chosen.needs_svd or for_noise):
        raise BadArgument(f"`method`={method}: it cannot use the operator {name}; {others}")

    remedy = f"; or {problem.remedy}" if problem.remedy else ""
    needs = "with noise it needs" if for_noise else "it needs"
    raise BadArgument(
        f"`method`={method}: {needs} an operator with an SVD, and {name} has none; without one "
        f"work {', '.join(working)}{remedy}"
    )


def _method(kind: Kind, options: Options, known: Knowledge) -> Method:
    """Return the chosen method.

    Raises:
        BadArgument: it is unknown, or does not suit the model or the kind of problem.
    """
    if not known.prior:
        return _without_prior(kind, options.method, known)

    if options.method == "auto":
        if known.latent:
            return METHODS[best(kind, options, known)]
        given = (options.sampler, options.levels, options.guidance)
        sampled = any(option is not None for option in given)
        if sampled:
            return next(method for method in METHODS.values() if method.samplers)
        return METHODS[best(kind, options, known)]

    if options.method not in METHODS:
        raise BadArgument(f"{unknown_method(options.method)}, or {NAMED}")

    method = METHODS[options.method]
    if known.latent is not None and method.latents != known.latent:
        raise BadArgument(_other_space(method, known))
    if method.bridges and known.bridge is False:
        raise BadArgument(
            f"`method`={method.name}: this model begins at noise, and is no bridge from the "
            "degraded picture; train one with restore train --recipe i2sb"
        )

    return method


def unknown_method(name: str) -> str:
    """Return the error for a name that no method of this package has."""
    return f"`method`={name}: unknown; use auto, {', '.join(METHODS)}"


def _other_space(method: Method, known: Knowledge) -> str:
    """Return the error for a method of pixels with a model of latents, or the other way round."""
    able = [one.name for one in METHODS.values() if one.latents is known.latent]
    if known.latent:
        return (
            f"`method`={method.name}: it works on pixels, and this model on the latents of its "
            f"autoencoder; use auto, {' or '.join([', '.join(able[:-1]), able[-1]])}"
        )

    return (
        f"`method`={method.name}: it works on latents, and this model on pixels; use auto or a "
        "method of pixels, such as diffpir, or a model of latents, such as Stable Diffusion"
    )


def _without_prior(kind: Kind, method: str, known: Knowledge) -> Method:
    """Return the method for a purely conditional model."""
    if kind.needs_prior and known.enlarges_only:
        raise BadArgument(
            f"`model`: this one was trained for super-resolution alone, which is not {kind.name}; "
            "use it with restore sr, and a prior, as the default model is, here"
        )

    able = {
        name: one
        for name, one in METHODS.items()
        if not one.needs_prior and one.bridges is bool(known.bridge)
    }
    if method not in ("auto", *able):
        raise BadArgument(
            f"`method`={method}: it needs a prior, and this model was trained with its condition "
            f"alone; use {' or '.join(able)}"
        )

    return next(iter(able.values())) if method == "auto" else able[method]


def _refuse_for_feed_forward(options: Options) -> None:
    """Refuse options of diffusion methods for a feed-forward network.

    Raises:
        BadArgument: such an option is given.
    """
    others = {
        "levels": options.levels is not None,  # before the η that their file may bring
        "steps": (options.steps or 1) != 1,
        "eta": options.eta is not None,
        "samples": options.samples > 1,
        "sampler": options.sampler is not None,
        "start": options.start is not None,
        "guidance": options.guidance is not None,
        "fidelity": options.fidelity is not None,
        "parameters": bool(options.parameters),
    }
    for option in (name for name, given in others.items() if given):
        raise BadArgument(
            f"`{option}`: a feed-forward network has one answer of its own; use {_others(option)}"
        )


def _check_refusals(method: Method, options: Options) -> None:
    """Check that no option is given that the method refuses.

    Raises:
        BadArgument: such an option is given.
    """
    for option, text in refused(method, options).items():
        reason = method.refusals[option].format(others=_others(option))
        raise BadArgument(f"{text}: the method {method.name} {reason}")


def _others(option: str) -> str:
    """Return the usual methods that take an option, as ``a, b or c``."""
    *most, last = (
        method.name
        for method in METHODS.values()
        if method.compared and option not in method.refusals
    )
    return f"{', '.join(most)} or {last}"


def _levels(method: Method, options: Options, levels: Sequence[float]) -> tuple[float, ...]:
    """Return the given noise levels, as `Defaults.sigmas`.

    Raises:
        BadArgument: they do not decrease to 0, or contradict other options.
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


def _with_steps(settings: Defaults, method: Method, options: Options) -> Defaults:
    """Return the settings with the noise levels or the number of steps that are given.

    Raises:
        BadArgument: invalid levels, or a number of steps out of range.
    """
    if options.levels is not None:
        sigmas = _levels(method, options, options.levels)
        return settings._replace(sigmas=sigmas, steps=len(sigmas))
    if options.steps is None:
        return settings
    if not 1 <= options.steps <= 1000:
        raise BadArgument(f"`steps`={options.steps}: must be between 1 and 1000")

    return settings._replace(steps=options.steps)


def _with_eta(settings: Defaults, eta: float) -> Defaults:
    if not 0 <= eta <= 1:
        raise BadArgument(f"`eta`={eta}: must be between 0 and 1")

    return settings._replace(eta=eta, noisy_eta=eta)


def _with_few_steps(settings: Defaults, method: Method, kind: Kind, options: Options) -> Defaults:
    """Return the settings with noise levels found for few steps.

    They apply unless sampler, levels or start are given.
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
    """Return the settings with a sampler and its grid of noise levels."""
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
    if sampler.noise_variance:
        raise BadArgument(
            f"`sampler`={name}: its variance is that of the network's own estimates, not of those "
            "that sr3 corrects to explain the measurement; it is for restore sample"
        )
    if eta is not None:
        raise BadArgument(f"`eta`={eta}: is of sr3's own sampler; {name} has its own noise")
    if settings.steps < sampler.least_steps:
        raise BadArgument(
            f"`steps`={settings.steps}: the sampler {name} takes at least {sampler.least_steps}"
        )

    return settings._replace(sampler=name, levels=sampler.levels, highest=SAMPLED_FROM)


def _with_start(settings: Defaults, noise: float | None) -> Defaults:
    """Return the settings for an initial picture with noise of a given level in [0, 1] units."""
    if noise is not None and not 0 < noise <= 1:
        raise BadArgument(
            f"`start_noise`={noise:g}: must be a standard deviation above 0 and at most 1"
        )

    level = START_NOISE if noise is None else noise
    return settings._replace(highest=2 * level, classical_start=False)
