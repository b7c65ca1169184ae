"""What the solvers share: falling noise levels, reproducible noise, the measurement's noise level."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from operators import LinearOperator, SpectralOperator
from restore.errors import BadArgument


class Step(NamedTuple):
    """What a callback is told after each call of the network."""

    index: int
    """0, 1, …"""
    steps: int
    """How many there are."""
    sigma: float
    """The noise level of the call."""
    clean: Tensor
    """[B, C, H, W], the present estimate of the clean picture."""


Callback = Callable[[Step], None]


WITHOUT_SVD = ("diffpir", "sr3", "one-step")
"""Methods that take operators without an SVD."""


def falling_pairs(sigmas: Sequence[float]) -> list[tuple[float, float]]:
    """Neighbouring noise levels ``(σ, σ_next)``.

    Raises:
        ValueError: fewer than two levels, levels that do not fall, or a last one that is not 0.
    """
    levels = [float(sigma) for sigma in sigmas]
    if len(levels) < 2 or levels[-1] != 0:
        raise ValueError(f"noise levels must be at least one positive number and a final 0, not {levels}")
    if any(high <= low for high, low in pairwise(levels)):
        raise ValueError("noise levels must fall")
    return list(pairwise(levels))


def gaussian_noise(
    shape: Sequence[int],
    generator: torch.Generator | None,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """White noise from the generator, drawn on the CPU so that a seed means the same on every device."""
    return torch.randn(tuple(shape), generator=generator, dtype=dtype, device="cpu").to(device)


def per_picture(value: Tensor | float, like: Tensor) -> Tensor:
    """A number, or one for each picture, as [B or 1, 1, 1, 1] on the device and in the type of ``like``."""
    if isinstance(value, Tensor):
        return value.to(like.device, like.dtype).reshape(-1, 1, 1, 1)
    return torch.full((1, 1, 1, 1), float(value), device=like.device, dtype=like.dtype)


def require_svd(operator: LinearOperator, method: str) -> SpectralOperator:
    """The operator, if it has an SVD.

    Raises:
        BadArgument: it has none.
    """
    if not isinstance(operator, SpectralOperator):
        raise BadArgument(
            f"{type(operator).__name__} has no SVD, which {method} needs; {', '.join(WITHOUT_SVD)} work without one"
        )
    return operator
