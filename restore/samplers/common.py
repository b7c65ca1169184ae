"""What the samplers share: their interface, noise like a picture, a denoiser whose estimates are corrected."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from restore.denoiser import Condition, Denoise, Prediction
from restore.solvers.common import Callback, Generator, Step, falling_pairs, gaussian_noise, per_picture

__all__ = ["Callback", "Generator", "Step", "corrected", "falling_pairs", "falling_pairs_for", "noise_like", "start"]


def noise_like(x: Tensor, generator: Generator) -> Tensor:
    """White noise of the shape, type and device of x, see `gaussian_noise`."""
    return gaussian_noise(x.shape, generator, x.device, x.dtype)


def start(x: Tensor, sigma: float, generator: Generator) -> Tensor:
    """Where sampling begins: noise of the highest level, ``σ z``, like x. The pictures' own spread drowns in it."""
    return sigma * noise_like(x, generator)


def falling_pairs_for(method: str, sigmas: Sequence[float], at_least: int) -> list[tuple[float, float]]:
    """Neighbouring noise levels ``(σ, σ_next)`` for a method that needs several steps.

    Raises:
        ValueError: levels that do not fall to 0, or too few of them.
    """
    pairs = falling_pairs(sigmas)
    if len(pairs) < at_least:
        raise ValueError(f"{method} needs at least {at_least} steps, not {len(pairs)}")
    return pairs


def corrected(denoise: Denoise, correct: Callable[[Tensor], Tensor]) -> Denoise:
    """The denoiser with every clean estimate [B, C, H, W] corrected, and the noise that goes with it."""

    def denoise_and_correct(x: Tensor, sigma: Tensor | float, condition: Condition | None = None) -> Prediction:
        prediction = denoise(x, sigma, condition)
        clean = correct(prediction.clean)
        return Prediction(clean, (x - clean) / per_picture(sigma, x), prediction.share)

    return denoise_and_correct
