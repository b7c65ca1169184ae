"""What a denoiser is told before a restoration: a text, and for latent models the condition."""

from __future__ import annotations

from restore.diffusion.cutouts import Cutouts
from restore.diffusion.denoiser import Condition
from restore.diffusion.guided import GuidedDenoiser
from restore.errors import BadArgument
from restore.latent.denoiser import LatentDenoiser
from restore.latent.pixels import TextDenoiser
from restore.methods.options import CLIP_SCALE, CUTOUTS, Options
from restore.restorer.checks import check_clip
from restore.restorer.model import load_clip_model
from restore.runtime.tiles import TiledDenoiser
from restore.tasks.kind import Kind
from restore.tasks.problem import Problem

LoadedDenoiser = LatentDenoiser | TextDenoiser | TiledDenoiser | GuidedDenoiser


def told(denoiser: LoadedDenoiser, options: Options) -> LoadedDenoiser:
    """Return the denoiser of the texts among the options, by which CLIP guides models of pixels.

    Raises:
        BadArgument: the model knows no text, CLIP would guide a latent one, or its options do not
            fit.
        Unavailable: no such CLIP model.
    """
    check_clip(options)
    if options.clip is not None:
        return _by_clip(denoiser, options, options.clip)

    texts = (options.prompt, options.negative_prompt)
    if isinstance(denoiser, LatentDenoiser | TextDenoiser):
        return denoiser.of_prompt(*texts, options.guidance)
    return denoiser.of_prompt(*texts)


def _by_clip(denoiser: LoadedDenoiser, options: Options, name: str) -> GuidedDenoiser:
    """Return a denoiser of pixels that CLIP guides to the prompt.

    Raises:
        BadArgument: it is a pipeline of diffusers.
        Unavailable: no such CLIP model.
    """
    assert options.prompt is not None
    if not isinstance(denoiser, TiledDenoiser):
        raise BadArgument(
            f"`clip`={name}: guides models of pixels without text; this one is a pipeline, which "
            "takes a `prompt` itself if it knows text"
        )

    clip = load_clip_model(name, denoiser.denoise.device)
    cutouts = Cutouts(options.cutouts or CUTOUTS, clip.side, options.seed)
    similarity = clip.similarity(options.prompt, cutouts, options.negative_prompt)
    scale = CLIP_SCALE if options.clip_scale is None else options.clip_scale
    return GuidedDenoiser(denoiser, similarity, scale)


def seeing(denoiser: LoadedDenoiser, problem: Problem) -> LoadedDenoiser:
    """Return the denoiser that sees what it can of a problem, in every call.

    Models of pixels are left as they are: their methods give them the condition.

    Raises:
        BadArgument: a model for super-resolution by one factor, and another problem.
    """
    check_kind(denoiser, problem.kind)
    if not isinstance(denoiser, LatentDenoiser):
        return denoiser

    if denoiser.sees == "known pixels" and problem.kind.fills_holes:
        return denoiser.seeing(problem.condition)
    if denoiser.sees == "low resolution":
        _check_scale(denoiser, problem)
        picture = 2 * problem.measurement - 1
        known = picture.new_ones(len(picture), 1, *picture.shape[-2:])
        return denoiser.seeing(Condition(picture, known), 2 * float(problem.noise.max()))

    return denoiser


def check_kind(denoiser: LoadedDenoiser, kind: Kind) -> None:
    """Refuse a latent model for super-resolution alone where the problem is another one.

    Raises:
        BadArgument: it is, or the model is a later stage of a cascade.
    """
    if isinstance(denoiser, TextDenoiser) and denoiser.levels:
        raise BadArgument(
            "`model`: this one enlarges what another one drew and restores no pictures; it is a "
            "stage of restore sample --cascade"
        )
    if denoiser.autoencoder is None or denoiser.prior or kind.enlarges:
        return
    raise BadArgument(
        f"`model`: this one was trained for super-resolution alone, which is not {kind.name}; use "
        "it with restore sr, and another model here"
    )


def _check_scale(denoiser: LatentDenoiser, problem: Problem) -> None:
    """Refuse a scale that the network was not trained for.

    Raises:
        BadArgument: it was trained for another one.
    """
    size = problem.operator.input_shape[-2:]
    measured = problem.measurement.shape[-2:]
    only = denoiser.config.scale or 1
    if any(a != only * b for a, b in zip(size, measured, strict=True)):
        raise BadArgument(
            f"`scale`={size[1] / measured[1]:g}: this model was trained to enlarge {only} times "
            f"and knows nothing else; use `scale`={only}"
        )
