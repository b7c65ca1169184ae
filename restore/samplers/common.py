"""What the samplers share: their interface, and noise like a picture."""

from __future__ import annotations

import torch
from torch import Tensor

from restore.solvers.common import Callback, Step, falling_pairs

__all__ = ["Callback", "Step", "falling_pairs", "noise_like", "start"]


def noise_like(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """White noise of the shape, type and device of x; drawn on the CPU so that a seed means the same everywhere."""
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device="cpu").to(x.device)


def start(x: Tensor, sigma: float, generator: torch.Generator | None) -> Tensor:
    """Where sampling begins: noise of the highest level, ``σ z``, like x. The pictures' own spread drowns in it."""
    return sigma * noise_like(x, generator)
