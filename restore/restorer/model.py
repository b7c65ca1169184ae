"""The denoiser of a checkpoint, and what identifies it."""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

import pretrained
from pretrained.classifier_description import ClassifierConfig
from restore.diffusion.classifier import Classifier, build_classifier
from restore.diffusion.denoiser import Denoiser, ModelConfig, build_denoiser
from restore.diffusion.protocol import DenoiserLike
from restore.errors import BadArgument, Unavailable
from restore.precision import single_precision
from restore.runtime.tiles import Notice

if TYPE_CHECKING:
    from restore.latent.clip import Clip
    from restore.latent.denoiser import LatentDenoiser
    from restore.latent.pixels import TextDenoiser


@single_precision()
def load_denoiser(model: str, device: torch.device, dtype: torch.dtype) -> Denoiser:
    """Return the denoiser of a model of pixels.

    Raises:
        BadArgument: it is a latent model.
        Unavailable: the checkpoint is missing, damaged or does not fit its description.
    """
    if is_latent(model):
        raise BadArgument(
            f"`model`={model}: a latent model, or one with text, which restores and draws samples; "
            "here a model of pixels is needed, as the default one is"
        )
    try:
        checkpoint = pretrained.load(model)
        return build_denoiser(
            ModelConfig.from_dict(checkpoint.config), checkpoint.state, device, dtype
        )
    except (pretrained.CheckpointError, ValueError, TypeError, KeyError) as error:
        raise Unavailable(of_model(model, error)) from None


@single_precision()
def load_classifier(classifier: str, device: torch.device) -> Classifier:
    """Return a classifier of noisy pictures.

    Raises:
        Unavailable: the checkpoint is missing, damaged or no classifier.
    """
    try:
        checkpoint = pretrained.load_classifier(classifier)
        config = ClassifierConfig.from_dict(checkpoint.config)
        return build_classifier(config, checkpoint.state, device)
    except (pretrained.CheckpointError, ValueError, TypeError, KeyError) as error:
        raise Unavailable(of_model(classifier, error, "guide")) from None


def is_latent(model: str) -> bool:
    """Return True for a pipeline of diffusers, a folder of several networks.

    Raises:
        Unavailable: there is no such model.
    """
    try:
        return pretrained.pipeline_folder(model) is not None
    except pretrained.CheckpointError as error:
        raise Unavailable(of_model(model, error)) from None


@single_precision()
def load_latent(
    model: str,
    device: torch.device,
    dtype: torch.dtype,
    *,
    tile: int | None = None,
    memory: int | None = None,
    notice: Notice = warnings.warn,
) -> LatentDenoiser | TextDenoiser:
    """Return the denoiser of a pipeline of diffusers.

    Raises:
        Unavailable: a component or package is missing, damaged, or too large for the memory.
    """
    from restore.latent.loading import load

    try:
        folder = pretrained.pipeline_folder(model)
        assert folder is not None
        return load(folder, device, dtype, tile=tile, memory=memory, notice=notice)
    except (pretrained.CheckpointError, Unavailable, ValueError, TypeError, KeyError) as error:
        raise Unavailable(of_model(model, error)) from None


@lru_cache(maxsize=1)
@single_precision()
def load_clip_model(clip: str, device: torch.device) -> Clip:
    """Return a CLIP model; the last one is kept.

    Raises:
        Unavailable: a package or the model is missing, or a file damaged.
    """
    from restore.latent.clip import load_clip

    try:
        return load_clip(pretrained.clip_folder(clip), device)
    except (pretrained.CheckpointError, Unavailable) as error:
        raise Unavailable(of_model(clip, error, "clip")) from None


def model_digest(model: str) -> str:
    """Return the identity of a model, see `pretrained.identity`.

    Raises:
        Unavailable: there is no such model.
    """
    try:
        return pretrained.identity(model)
    except pretrained.CheckpointError as error:
        raise Unavailable(of_model(model, error)) from None


def of_model(model: str, error: Exception, option: str = "model") -> str:
    """Return the text of an error about a model, which the error may name itself."""
    return f"`{option}`={model}: {str(error).removeprefix(f'{model}: ')}"


def check_prior(denoise: DenoiserLike, model: str) -> None:
    """Refuse a model without an unconditional prior.

    Raises:
        BadArgument: the model is purely conditional.
    """
    if not denoise.prior:
        raise BadArgument(
            f"`model`={model}: it was trained with a low-resolution picture beside the noisy one "
            "and knows no pictures by themselves; use it with restore sr, or another model here"
        )
