"""What a denoiser is told before a restoration: a text, and for latent models the condition."""

from __future__ import annotations

from restore.diffusion.denoiser import Condition
from restore.errors import BadArgument
from restore.latent.denoiser import LatentDenoiser
from restore.methods.options import Options
from restore.runtime.tiles import TiledDenoiser
from restore.tasks.kind import Kind
from restore.tasks.problem import Problem

LoadedDenoiser = LatentDenoiser | TiledDenoiser


def told(denoiser: LoadedDenoiser, options: Options) -> LoadedDenoiser:
    """Return the denoiser of the texts among the options.

    Raises:
        BadArgument: the model knows no text.
    """
    texts = (options.prompt, options.negative_prompt)
    if isinstance(denoiser, LatentDenoiser):
        return denoiser.of_prompt(*texts, options.guidance)
    return denoiser.of_prompt(*texts)


def seeing(denoiser: LoadedDenoiser, problem: Problem) -> LoadedDenoiser:
    """Return the denoiser that sees what it can of a problem, in every call.

    Models of pixels are left as they are: their methods give them the condition.

    Raises:
        BadArgument: a model for super-resolution by one factor, and another problem.
    """
    if not isinstance(denoiser, LatentDenoiser):
        return denoiser

    check_kind(denoiser, problem.kind)
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
    only = denoiser.config.scale or 1
    if any(a != only * b for a, b in zip(size, measured, strict=True)):
        raise BadArgument(
            f"`scale`={size[1] / measured[1]:g}: this model was trained to enlarge {only} times "
            f"and knows nothing else; use `scale`={only}"
        )
