"""Stages that enlarge what a model drew by a text: the cascades of Imagen and DeepFloyd IF."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from restore.diffusion.denoiser import Condition
from restore.diffusion.protocol import DenoiserLike
from restore.diffusion.seeds import seed_of
from restore.diffusion.stepping import Step, noise_like
from restore.errors import BadArgument
from restore.latent.denoiser import LatentDenoiser
from restore.latent.pixels import TextDenoiser
from restore.methods.sampling import Sampling, sample_pictures

# Noise levels of the smaller picture, as DeepFloyd IF's pipelines have them by default: of their
# own stages, and of Stable Diffusion's upscaler as the last one.
LEVEL = 250
LEVEL_OF_UPSCALER = 100

Stage = LatentDenoiser | TextDenoiser


def check_stage(stage: DenoiserLike, name: str) -> Stage:
    """Return a model that enlarges pictures.

    Raises:
        BadArgument: it does not.
    """
    if isinstance(stage, LatentDenoiser | TextDenoiser) and stage.levels:
        return stage
    raise BadArgument(
        f"`cascade`={name}: no stage that enlarges a picture by a text; such are "
        "IFSuperResolutionPipeline and StableDiffusionUpscalePipeline"
    )


def enlarged_by(
    stage: Stage,
    pictures: Tensor,
    sampling: Sampling,
    device: torch.device,
    *,
    noise: float | None = None,
    callback: Callable[[Step], None] = lambda _: None,
) -> Tensor:
    """Draw larger pictures above smaller ones.

    The smaller ones get noise, and the network is told its level: the conditioning augmentation of
    cascaded diffusion (Ho et al. 2022, arXiv 2106.15282, section 4.2).

    Args:
        stage: The model of the stage, told its text.
        pictures: [N, 3, h, w] in [0, 1].
        sampling: Options of sampling; number and size follow from pictures and stage.
        device: Device of the stage.
        noise: Standard deviation of the noise, for pixels in [0, 1]; the next level of the stage at
            or above it is taken. None is `LEVEL` or `LEVEL_OF_UPSCALER`.
        callback: As for `sample_pictures`.

    Returns:
        [N, 3, H, W] in [0, 1] on the CPU.

    Raises:
        BadArgument: a noise beyond the levels of the stage, or pictures of another shape than its.
    """
    level = _level(stage, noise)
    height, width = _size(stage, pictures)
    sampling = replace(sampling, height=height, width=width, count=len(pictures))
    drawn = []
    first = 0

    for index, count in enumerate(sampling.batches):
        small = 2 * pictures[first : first + count].to(device) - 1
        seed = seed_of(sampling.seed, index)
        generator = torch.Generator().manual_seed(seed)
        seen = _above(stage, small, level, generator)
        part = replace(sampling, count=count, seed=seed_of(sampling.seed, index, 1))
        drawn.append(sample_pictures(seen, part, device, callback=callback)[0])
        first += count

    return torch.cat(drawn)


def _above(stage: Stage, small: Tensor, level: int, generator: torch.Generator) -> Stage:
    """Return the stage that sees smaller pictures with noise of a level."""
    if isinstance(stage, TextDenoiser):
        return stage.above(small, level, generator)

    sigma = _sigma(stage.levels[level])
    noisy = small + sigma * noise_like(small, generator)
    # just below, so that rounding does not make it the next level
    return stage.seeing(Condition(noisy, torch.ones_like(noisy[:, :1])), sigma * (1 - 1e-6))


def _size(stage: Stage, pictures: Tensor) -> tuple[int, int]:
    """Return height and width of what a stage draws.

    Raises:
        BadArgument: the stage draws squares, and the pictures are none.
    """
    height, width = pictures.shape[-2:]
    if isinstance(stage, TextDenoiser):
        if height != width:
            raise BadArgument(
                f"`size`={width}x{height}: must be a square, for a stage of the cascade draws "
                f"{stage.size}x{stage.size} pixels"
            )
        return stage.size, stage.size

    factor = stage.config.scale or 1
    return factor * height, factor * width


def _level(stage: Stage, noise: float | None) -> int:
    """Return the number of the noise level.

    Raises:
        BadArgument: a noise that no level has.
    """
    last = len(stage.levels) - 1
    if noise is None:
        return min(LEVEL if isinstance(stage, TextDenoiser) else LEVEL_OF_UPSCALER, last)

    highest = _sigma(stage.levels[last]) / 2
    if not (math.isfinite(noise) and 0 <= noise <= highest):
        raise BadArgument(
            f"`cascade_noise`={noise:g}: must be between 0 and {highest:.3g} for this stage"
        )
    return next(n for n, alpha in enumerate(stage.levels) if _sigma(alpha) / 2 >= noise)


def _sigma(alpha: float) -> float:
    """Return σ of a level √ᾱ."""
    return math.sqrt(max(1 - alpha**2, 0.0)) / alpha
