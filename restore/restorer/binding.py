"""What a denoiser is told before a restoration: a text, and for latent models the condition."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from restore.diffusion.denoiser import Condition
from restore.errors import BadArgument
from restore.methods.options import Options
from restore.tasks.kind import Kind
from restore.tasks.problem import Problem

if TYPE_CHECKING:
    from restore.latent.denoiser import LatentDenoiser
    from restore.runtime.tiles import TiledDenoiser

    LoadedDenoiser = LatentDenoiser | TiledDenoiser


def told(denoiser: LoadedDenoiser, options: Options) -> LoadedDenoiser:
    """Return the denoiser of the texts among the options.

    Raises:
        BadArgument: the model knows no text.
    """
    texts = (options.prompt, options.negative_prompt)
    if denoiser.autoencoder is None:
        return denoiser.of_prompt(*texts)
    return denoiser.of_prompt(*texts, options.guidance)


def seeing(denoiser: LoadedDenoiser, problem: Problem) -> LoadedDenoiser:
    """Return the denoiser that sees what it can of a problem, in every call.

    Models of pixels are left as they are: their methods give them the condition.

    Raises:
        BadArgument: a model for super-resolution by one factor, and another problem.
    """
    if denoiser.autoencoder is None:
        return denoiser

    latent = cast("LatentDenoiser", denoiser)
    check_kind(latent, problem.kind)
    if latent.sees == "known pixels" and problem.kind.fills_holes:
        return latent.seeing(problem.condition)
    if latent.sees == "low resolution":
        _check_scale(latent, problem)
        picture = 2 * problem.measurement - 1
        known = picture.new_ones(len(picture), 1, *picture.shape[-2:])
        return latent.seeing(Condition(picture, known), 2 * float(problem.noise.max()))

    return latent


def check_kind(denoiser: LoadedDenoiser, kind: Kind) -> None:
    """Refuse a latent model for super-resolution alone where the problem is another one.

    Raises:
        BadArgument: it is.
    """
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
    only = denoiser.config.scale
    if any(a != only * b for a, b in zip(size, measured, strict=True)):
        raise BadArgument(
            f"`scale`={size[1] / measured[1]:g}: this model was trained to enlarge {only} times "
            f"and knows nothing else; use `scale`={only}"
        )
