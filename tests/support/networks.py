"""Small networks with random weights, as denoisers and as files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from support.published_networks import randomised
from torch import Tensor

from pretrained.classifier_description import ClassifierConfig
from restore.backbone import BackboneConfig, build_backbone
from restore.backbone.classifier import NoisyClassifier
from restore.diffusion.denoiser import Denoiser, ModelConfig, build_denoiser, joined_state
from restore.training.checkpoint import write_model

TINY = BackboneConfig(channels=32, channel_multipliers=(1, 1), blocks=1, middle_attention=False)


def tiny(size: int | None = None, **options) -> ModelConfig:
    """An ADM network of two levels that predicts the noise; ``options`` are of its backbone."""
    return ModelConfig(replace(TINY, **options), {"name": "linear"}, size=size)


def random_state(config: ModelConfig, seed: int = 0) -> dict[str, Tensor]:
    return _random_weights(config.backbone, seed)


def _random_weights(backbone: BackboneConfig, seed: int, scale: float = 0.1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        shapes = {name: t.shape for name, t in build_backbone(backbone).state_dict().items()}
    return {
        name: scale * torch.randn(shape, generator=generator, dtype=torch.float32)
        for name, shape in shapes.items()
    }


def light(config: ModelConfig, levels: int = 3, blocks: int = 1) -> Denoiser:
    """Return networks of few channels with everything that those of a description can.

    Their random weights are so small that pictures stay pictures.
    """
    assert config.predictor is not None
    few = {"channels": 8, "channel_multipliers": (1,) * levels, "blocks": blocks}
    own = replace(config.backbone, **few)
    of_predictor = replace(config.predictor.backbone, **few)
    config = replace(
        config, backbone=own, predictor=replace(config.predictor, backbone=of_predictor)
    )
    state = joined_state(_random_weights(own, 0, 0.02), _random_weights(of_predictor, 1, 0.02))
    return build_denoiser(config, state)


def random_denoiser(config: ModelConfig) -> Denoiser:
    return build_denoiser(config, random_state(config))


def random_file(path: Path, config: ModelConfig) -> Path:
    """As `pretrained.load` reads it."""
    return write_model(config, random_state(config), path)


def tiny_classifier(size: int | None = None, classes: int = 3, **options) -> ClassifierConfig:
    """A classifier of two levels; ``options`` are further fields of its description."""
    backbone = replace(TINY, middle_attention=True, head_channels=16)
    pool = "mean" if size is None else "attention"
    return ClassifierConfig(backbone, {"name": "linear"}, classes, pool, size, **options)


def classifier_file(path: Path, config: ClassifierConfig, seed: int = 0) -> Path:
    """As `pretrained.load_classifier` reads it."""
    network = randomised(NoisyClassifier(config), seed)
    return write_model(config, network.state_dict(), path)
