"""Small networks with random weights, as denoisers and as files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from restore.backbone import BackboneConfig, build_backbone
from restore.diffusion.denoiser import Denoiser, ModelConfig, build_denoiser
from restore.training.checkpoint import write_model

TINY = BackboneConfig(channels=32, channel_multipliers=(1, 1), blocks=1, middle_attention=False)


def tiny(size: int | None = None, **options) -> ModelConfig:
    """An ADM network of two levels that predicts the noise; ``options`` are of its backbone."""
    return ModelConfig(replace(TINY, **options), {"name": "linear"}, size=size)


def random_state(config: ModelConfig, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        shapes = {name: t.shape for name, t in build_backbone(config.backbone).state_dict().items()}
    return {
        name: 0.1 * torch.randn(shape, generator=generator, dtype=torch.float32)
        for name, shape in shapes.items()
    }


def random_denoiser(config: ModelConfig) -> Denoiser:
    return build_denoiser(config, random_state(config))


def random_file(path: Path, config: ModelConfig) -> Path:
    """As `pretrained.load` reads it."""
    return write_model(config, random_state(config), path)
