"""A denoiser that is guided by what its clean estimates show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from torch import Tensor

from restore.diffusion.guidance import estimate_guided
from restore.diffusion.protocol import Condition, DenoiserLike, Prediction


class GuidedDenoiser(DenoiserLike):
    """A denoiser with `restore.diffusion.guidance.estimate_guided`, for every sampler and solver.

    Args:
        denoise: The prior.
        log_likelihood: Of clean pictures [B, C, H, W], differentiable, [B].
        scale: Factor of its gradient, at least 0.
    """

    def __init__(
        self, denoise: DenoiserLike, log_likelihood: Callable[[Tensor], Tensor], scale: float
    ) -> None:
        self.denoise = denoise
        self.config = denoise.config
        self.predictor = denoise.predictor
        self.autoencoder = denoise.autoencoder
        self.log_likelihood = log_likelihood
        self.scale = scale
        self._guided = estimate_guided(denoise, log_likelihood, scale)

    def __call__(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Prediction:
        return self._guided(x, sigma, condition)

    def of_class(self, label: int | None) -> Self:
        return type(self)(self.denoise.of_class(label), self.log_likelihood, self.scale)
