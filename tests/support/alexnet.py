"""Weights in the names of torchvision's AlexNet, which no test may download."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

ALEXNET = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}


def write_random_trunk(folder: Path) -> Path:
    """Write random convolutions, scaled to keep the activations alive."""
    generator = torch.Generator().manual_seed(2)
    weights = {}
    for index, (out, into, side) in ALEXNET.items():
        weights[f"features.{index}.weight"] = (
            torch.randn(out, into, side, side, generator=generator) * (2 / (into * side**2)) ** 0.5
        )
        weights[f"features.{index}.bias"] = torch.randn(out, generator=generator) * 0.1
    path = folder / "trunk.safetensors"
    save_file(weights, path)
    return path
