"""What every reverse process shares: falling noise levels, reproducible noise, what a callback is
told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from restore.diffusion.protocol import Condition, Denoise, Prediction


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


def report(callback: Callback | None, index: int, steps: int, sigma: float, clean: Tensor) -> None:
    """Tell the callback, if there is one, of a call of the network; arguments as in `Step`."""
    if callback is not None:
        callback(Step(index, steps, sigma, clean))


Generator = torch.Generator | Sequence[torch.Generator] | None
"""Of random numbers, on the CPU: one that draws for a whole batch, or one for each picture, which
then has the numbers that it would have alone; None is PyTorch's own."""


def falling_pairs(sigmas: Sequence[float]) -> list[tuple[float, float]]:
    """Neighbouring noise levels ``(σ, σ_next)``.

    Raises:
        ValueError: fewer than two levels, levels that do not fall, or a last one that is not 0.
    """
    levels = [float(sigma) for sigma in sigmas]
    if len(levels) < 2 or levels[-1] != 0:
        raise ValueError(
            f"noise levels must be at least one positive number and a final 0, not {levels}"
        )
    if any(high <= low for high, low in pairwise(levels)):
        raise ValueError("noise levels must fall")

    return list(pairwise(levels))


def gaussian_noise(
    shape: Sequence[int],
    generator: Generator,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """White noise [B, …] from the generator, drawn on the CPU so that a seed means the same on
    every device.

    Raises:
        ValueError: several generators, but not one for each picture.
    """

    def drawn(count: int, source: torch.Generator | None) -> Tensor:
        return torch.randn((count, *shape[1:]), generator=source, dtype=dtype, device="cpu")

    if not isinstance(generator, Sequence):
        return drawn(shape[0], generator).to(device)
    if len(generator) != shape[0]:
        raise ValueError(
            f"{len(generator)} generators for {shape[0]} pictures: give one, or one for each"
        )

    return torch.cat([drawn(1, own) for own in generator]).to(device)


def per_picture(value: Tensor | float, like: Tensor) -> Tensor:
    """A number, or one for each picture, as [B or 1, 1, 1, 1] on the device and in the type of
    ``like``.
    """
    if isinstance(value, Tensor):
        return value.to(like.device, like.dtype).reshape(-1, 1, 1, 1)
    return torch.full((1, 1, 1, 1), float(value), device=like.device, dtype=like.dtype)


def noise_like(x: Tensor, generator: Generator) -> Tensor:
    """White noise of the shape, type and device of x, see `gaussian_noise`."""
    return gaussian_noise(x.shape, generator, x.device, x.dtype)


def start(x: Tensor, sigma: float, generator: Generator) -> Tensor:
    """Where sampling begins: noise of the highest level, ``σ z``, like x. The pictures' own spread
    drowns in it.
    """
    return sigma * noise_like(x, generator)


def falling_pairs_for(
    method: str, sigmas: Sequence[float], at_least: int
) -> list[tuple[float, float]]:
    """Neighbouring noise levels ``(σ, σ_next)`` for a method that needs several steps.

    Raises:
        ValueError: levels that do not fall to 0, or too few of them.
    """
    pairs = falling_pairs(sigmas)
    if len(pairs) < at_least:
        raise ValueError(f"{method} needs at least {at_least} steps, not {len(pairs)}")
    return pairs


def corrected(denoise: Denoise, correct: Callable[[Tensor], Tensor]) -> Denoise:
    """The denoiser with every clean estimate [B, C, H, W] corrected, and the noise that goes with
    it.
    """

    def denoise_and_correct(
        x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Prediction:
        prediction = denoise(x, sigma, condition)
        clean = correct(prediction.clean)
        return Prediction(clean, (x - clean) / per_picture(sigma, x), prediction.variance_fraction)

    return denoise_and_correct
