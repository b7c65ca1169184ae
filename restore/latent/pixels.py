"""Denoisers of pixels by a text: the stages of DeepFloyd IF, of the kind of Imagen."""

from __future__ import annotations

import warnings
from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from restore.diffusion.denoiser import Denoiser
from restore.diffusion.protocol import Condition, Denoise, Prediction
from restore.diffusion.stepping import Generator, dynamically_thresholded, noise_like
from restore.latent.prompt import chosen_text
from restore.latent.text import TextEncoders
from restore.latent.told import ToldDenoiser
from restore.runtime.budget import network_bytes
from restore.runtime.tiles import Notice, TiledDenoiser


class Threshold(NamedTuple):
    """Dynamic thresholding, see `restore.diffusion.stepping.dynamically_thresholded`.

    Attributes:
        quantile: Quantile of the absolute values that becomes 1.
        most: Largest value that becomes 1.
    """

    quantile: float = 0.995
    most: float = 1.0


class TextDenoiser(ToldDenoiser):
    """A denoiser of pictures that is told a text, and in a later stage a smaller picture.

    Imagen: Saharia et al. 2022, arXiv 2205.11487. Clean estimates are thresholded as the pipeline's
    scheduler does.

    Args:
        denoise: The network with its description.
        texts: The text encoder.
        guidance: Scale of guidance by a prompt, unless another one is asked for.
        levels: ``√ᾱ`` of the noise that the smaller picture gets, by its number; empty for a first
            stage.
        threshold: How clean estimates are thresholded; None leaves them.
        notice: Called with warnings.
    """

    autoencoder: None

    def __init__(
        self,
        denoise: Denoiser,
        texts: TextEncoders,
        *,
        guidance: float = 1.0,
        levels: tuple[float, ...] = (),
        threshold: Threshold | None = None,
        notice: Notice = warnings.warn,
    ) -> None:
        super().__init__(denoise)
        self.autoencoder = None
        self.texts = texts
        self.guidance = guidance
        self.levels = levels
        self.threshold = threshold
        self.notice = notice
        self._bound: Condition | None = None
        self._prepare()

    def __call__(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Prediction:
        return self._call(x, sigma, self._bound if condition is None else condition)

    @property
    def size(self) -> int:
        """Side of its pictures."""
        assert self.config.size is not None  # the loader says it
        return self.config.size

    @property
    def bytes_per_pixel(self) -> float:
        """Memory of a call of the network for each pixel of a picture, in bytes."""
        return network_bytes(self.config.backbone, self.network.compute_dtype)

    def of_prompt(
        self, prompt: str | None, negative_prompt: str | None = None, guidance: float | None = None
    ) -> Self:
        """Return the denoiser of a text, see `restore.latent.prompt.chosen_text`."""
        text = chosen_text(self.texts, prompt, negative_prompt, guidance, self.guidance)
        return self.told(self.network.told(text))

    def above(self, small: Tensor, level: int, generator: Generator) -> Self:
        """Return the denoiser of the next stage above smaller pictures.

        They are enlarged bilinearly, get noise of a level, which the network is told, and are shown
        in every call: the conditioning augmentation of cascaded diffusion (Ho et al. 2022, arXiv
        2106.15282, section 4.2), so that a stage mends what the one before left.

        Args:
            small: [B, 3, h, w] in [-1, 1].
            level: Number of the noise level, among ``levels``.
            generator: Random generator on the CPU.
        """
        alpha = self.levels[level]
        side = (self.size, self.size)
        enlarged = F.interpolate(small.float(), side, mode="bilinear", align_corners=True)
        noise = noise_like(enlarged, generator)
        picture = alpha * enlarged + (1 - alpha**2) ** 0.5 * noise

        other = self.told(self.network.at_level(level))
        other._bound = Condition(picture, torch.ones_like(picture[:, :1]))
        return other

    def _prepare(self) -> None:
        tiled = TiledDenoiser(self._denoise, notice=self.notice)
        self._call: Denoise = (
            tiled if self.threshold is None else dynamically_thresholded(tiled, *self.threshold)
        )
