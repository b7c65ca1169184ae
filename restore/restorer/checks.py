"""Checks of options: before a picture is read, and against the model."""

from __future__ import annotations

import math
from dataclasses import replace

from restore.diffusion.protocol import DenoiserLike
from restore.errors import BadArgument
from restore.methods.conditions import PREDICTED_NOISE
from restore.methods.feed_forward import check_file, is_feed_forward
from restore.methods.options import ANY_MODEL, Knowledge, Options
from restore.methods.requirements import takes_decomposed
from restore.methods.settings import settings_for
from restore.samplers.catalogue import check_variance
from restore.tasks import Task
from restore.tasks.inverse import has_evidence
from restore.tasks.option import is_signal
from restore.tasks.problem import Problem

# Largest number of posterior samples: all of them lie in memory, and more are mistyped.
MAX_SAMPLES = 1000
# Most cut-outs for CLIP in one call, all of which lie in memory with their derivatives.
MAX_CUTOUTS = 256


def check(task: Task, options: Options) -> Options:
    """Check everything that can be checked without a picture, and return the options.

    Raises:
        BadArgument: an invalid option.
    """
    if not 1 <= options.samples <= MAX_SAMPLES:
        raise BadArgument(f"`samples`={options.samples}: must be between 1 and {MAX_SAMPLES}")
    if not 0 <= options.seed < 2**63:
        raise BadArgument(f"`seed`={options.seed}: must be between 0 and 2^63 - 1")

    check_clip(options)
    settings_for(task.kind, options, knowledge_before(task))
    for network in options.networks:
        check_file(network)

    task.check()
    if task.takes_raws and (options.start is not None or options.networks):
        what = "`start`" if options.start is not None else f"`method`={options.method}"
        raise BadArgument(f"{what}: is for pictures, and {task.name} takes camera raws")
    if task.cascade_stages is not None and (options.start is not None or options.networks):
        what = "`start`" if options.start is not None else f"`method`={options.method}"
        raise BadArgument(
            f"`cascade` and {what}: the stages begin and go by themselves; leave one of them out"
        )

    return options


def check_clip(options: Options) -> None:
    """Check the options of CLIP guidance.

    Raises:
        BadArgument: a missing CLIP model or prompt, or numbers out of range.
    """
    scale, cutouts = options.clip_scale, options.cutouts
    if options.clip is None:
        for name, value in (("clip_scale", scale), ("cutouts", cutouts)):
            if value is not None:
                raise BadArgument(f"`{name}`={value:g}: is for guidance by CLIP; `clip` is missing")
        return

    if not (options.prompt or "").strip():
        raise BadArgument(f"`clip`={options.clip}: to which text? `prompt` is missing")
    if scale is not None and not (math.isfinite(scale) and scale >= 0):
        raise BadArgument(f"`clip_scale`={scale:g}: must be 0 or more")
    if cutouts is not None and not 1 <= cutouts <= MAX_CUTOUTS:
        raise BadArgument(f"`cutouts`={cutouts}: must be between 1 and {MAX_CUTOUTS}")
    if is_feed_forward(options.method):
        raise BadArgument(
            f"`clip`={options.clip}: guides a diffusion, which `method`={options.method} is not"
        )


def check_model(denoiser: DenoiserLike, options: Options) -> None:
    """Check options against a model, for any task.

    Raises:
        BadArgument: a sampler that needs a learned variance, or noise levels beyond the model's.
    """
    if options.sampler is not None:
        check_variance(options.sampler, denoiser)

    lowest, highest = (float(denoiser.schedule.sigmas[index]) for index in (0, -1))
    for level in options.levels or ():
        if not 0.99 * lowest <= level <= 1.01 * highest:
            raise BadArgument(
                f"`levels`: {level:g} is no noise level of this model, {lowest:.3g} to "
                f"{highest:.4g}"
            )


def knowledge_before(task: Task) -> Knowledge:
    """Return what options are checked against before the model is loaded."""
    varies = task.takes_signal_noise and is_signal(getattr(task, "noise", None))
    return replace(ANY_MODEL, noise_map=varies)


def knowledge_of(denoiser: DenoiserLike, problem: Problem | None = None) -> Knowledge:
    """Return the capabilities of a model, for a problem if one is given."""
    predictor = denoiser.predictor is not None
    # a latent model that needs a condition has it bound, see `restore.restorer.binding`
    prior = denoiser.prior or denoiser.autoencoder is not None
    if problem is None:
        return Knowledge(
            denoiser.conditional,
            prior,
            predictor,
            bridge=denoiser.bridge,
            enlarges_only=denoiser.enlarges_only,
            latent=denoiser.autoencoder is not None,
        )

    quiet = float(problem.noise.min()) <= PREDICTED_NOISE
    return Knowledge(
        denoiser.conditional,
        prior,
        predictor and has_evidence(problem) and quiet,
        takes_decomposed(problem.operator),
        problem.noise_map is not None,
        bridge=denoiser.bridge,
        enlarges_only=denoiser.enlarges_only,
        latent=denoiser.autoencoder is not None,
    )
