"""The denoiser of a latent model."""

from __future__ import annotations

import copy
import math
import warnings
from typing import Self

import torch
from torch import Tensor

from pretrained.pipelines import Sees
from restore.diffusion.denoiser import Denoiser
from restore.diffusion.protocol import Condition, Prediction
from restore.errors import BadArgument
from restore.latent.autoencoder import PictureCodec
from restore.latent.prompt import chosen_text
from restore.latent.text import Texts
from restore.latent.told import ToldDenoiser
from restore.runtime.budget import network_bytes
from restore.runtime.tiles import Notice, TiledDenoiser

# Side of a tile as a multiple of the side of training latents, and overlap as a fraction of it.
TILE = 1.5
OVERLAP = 1 / 4


class LatentDenoiser(ToldDenoiser):
    """A denoiser of latents ``z = z0 + σ ε``, with its autoencoder and its texts.

    Conditions are pictures, as for any denoiser; the network sees their latents, or the small
    picture itself. Latents of more pixels than a tile go through the network in overlapping tiles
    (Bar-Tal et al. 2023, arXiv 2302.08113), see `restore.runtime.tiles.TiledDenoiser`.

    Args:
        denoise: The network with its description.
        autoencoder: The autoencoder.
        side: Side of the latents in training.
        texts: The text encoders; None for a model without text.
        guidance: Scale of guidance by a prompt, unless another one is asked for.
        sees: What the network sees beside the latents.
        levels: ``√ᾱ`` of the noise that a low-resolution picture may have, by its number.
        tile: Side of a tile in pixels of the picture; None is that of `TILE`.
        notice: Called with warnings.
    """

    autoencoder: PictureCodec

    def __init__(
        self,
        denoise: Denoiser,
        autoencoder: PictureCodec,
        side: int,
        *,
        texts: Texts | None = None,
        guidance: float = 1.0,
        sees: Sees | None = None,
        levels: tuple[float, ...] = (),
        tile: int | None = None,
        notice: Notice = warnings.warn,
    ) -> None:
        super().__init__(denoise)
        self.autoencoder = autoencoder
        self.side = side
        self.texts = texts
        self.guidance = guidance
        self.sees = sees
        self.levels = levels
        self.tile = tile
        self.notice = notice
        self._prepare()
        self._bound: Condition | None = None
        self._nothing: dict[torch.Size, Condition] = {}

    def __call__(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Prediction:
        shown = self._bound if condition is None else self._encoded(condition)
        if shown is None and self.sees == "known pixels":
            shown = self._nothing_known(x)
        return self._tiled(x, sigma, shown)

    @property
    def size(self) -> int | None:
        """None: latents may have any size."""
        return None

    @property
    def bytes_per_pixel(self) -> float:
        """Memory of a call of network or autoencoder for each pixel of a picture, in bytes."""
        latent = network_bytes(self.config.backbone, self.network.compute_dtype)
        return max(latent / self.autoencoder.factor**2, self.autoencoder.bytes_per_pixel)

    @property
    def picture_side(self) -> int:
        """Side of the training pictures, which samples have."""
        return self.side * self.autoencoder.factor

    def of_prompt(
        self, prompt: str | None, negative_prompt: str | None = None, guidance: float | None = None
    ) -> Self:
        """Return the denoiser of a text, see `restore.latent.prompt.chosen_text`.

        Raises:
            BadArgument: A text or guidance for a model without text, or a scale out of range.
        """
        if self.texts is None:
            if guidance not in (None, 1):
                raise BadArgument(
                    f"`guidance`={guidance:g}: guides by a text, and this model knows none"
                )
            return super().of_prompt(prompt, negative_prompt)

        text = chosen_text(self.texts, prompt, negative_prompt, guidance, self.guidance)
        return self.told(self.network.told(text))

    def seeing(self, condition: Condition | None, noise: float = 0.0) -> Self:
        """Return the denoiser that sees a condition in every call.

        Args:
            condition: Known pixels at the size of the picture, or the low-resolution picture.
            noise: Standard deviation of its noise, for pictures in [-1, 1]; super-resolution
                networks that are told a level take the next one above it.
        """
        other = copy.copy(self)
        if condition is not None and self.levels:
            level = self._level_of(noise)
            other = self.told(self.network.at_level(level))
            condition = condition._replace(picture=self.levels[level] * condition.picture)

        other._bound = None if condition is None else self._encoded(condition)
        return other

    def _level_of(self, noise: float) -> int:
        """Return the first level with at least this noise, or the highest."""
        for level, alpha in enumerate(self.levels):
            if math.sqrt(max(1 - alpha**2, 0.0)) / alpha >= noise:
                return level
        return len(self.levels) - 1

    def _prepare(self) -> None:
        multiple = self.config.backbone.size_multiple
        wanted = self.side * TILE if self.tile is None else self.tile / self.autoencoder.factor
        side = max(2, int(wanted) // multiple) * multiple
        overlap = max(1, int(side * OVERLAP))
        self._tiled = TiledDenoiser(self._denoise, side, overlap, notice=self.notice)

    def _encoded(self, condition: Condition) -> Condition:
        """Return what the network sees of a condition, at the size of the latents."""
        if self.sees != "known pixels":
            return condition

        known = self._known_latents(condition.known)
        with torch.inference_mode(False), torch.no_grad():
            picture = self.autoencoder.encode(condition.picture * condition.known)
        return Condition(picture.detach(), known)

    def _known_latents(self, known: Tensor) -> Tensor:
        """Return 1 for latent pixels all of whose pixels are known, else 0."""
        factor = self.autoencoder.factor
        height, width = known.shape[-2:]
        unknown = torch.nn.functional.pad(
            (known < 1).float(), (0, -width % factor, 0, -height % factor)
        )
        return 1 - torch.nn.functional.max_pool2d(unknown, factor)

    def _nothing_known(self, x: Tensor) -> Condition:
        """Return the condition without any known pixel, as in a part of the training."""
        size = x.shape[-2:]
        if size not in self._nothing:
            height, width = (side * self.autoencoder.factor for side in size)
            with torch.inference_mode(False), torch.no_grad():
                grey = torch.zeros(1, 3, height, width, dtype=torch.float32, device=x.device)
                latents = self.autoencoder.encode(grey)
            self._nothing[size] = Condition(latents, torch.zeros_like(latents[:, :1]))
        return self._nothing[size]
