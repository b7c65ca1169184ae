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

Generator = torch.Generator | Sequence[torch.Generator] | None
"""Of random numbers, on the CPU: one that draws for a whole batch, or one for each picture, which then has the numbers
that it would have alone; None is PyTorch's own."""


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
    generator: Generator,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """White noise [B, …] from the generator, drawn on the CPU so that a seed means the same on every device.

    Raises:
        ValueError: several generators, but not one for each picture.
    """

    def drawn(count: int, source: torch.Generator | None) -> Tensor:
        return torch.randn((count, *shape[1:]), generator=source, dtype=dtype, device="cpu")

    if not isinstance(generator, Sequence):
        return drawn(shape[0], generator).to(device)
    if len(generator) != shape[0]:
        raise ValueError(f"{len(generator)} generators for {shape[0]} pictures: give one, or one for each")
    return torch.cat([drawn(1, own) for own in generator]).to(device)


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
