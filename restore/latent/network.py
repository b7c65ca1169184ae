"""Networks of diffusers with the interface of `restore.backbone.Backbone`."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from restore.diffusion.guidance import extrapolated
from restore.latent.text import Embedding


@dataclass(frozen=True)
class Text:
    """What a network is told of the picture.

    Attributes:
        positive: The prompt.
        negative: What guidance leads away from; None without guidance.
        scale: Scale of classifier-free guidance, see `restore.diffusion.guidance`.
    """

    positive: Embedding
    negative: Embedding | None = None
    scale: float = 1.0


class LatentNetwork(nn.Module):
    """A network of latents, called as a backbone: ``network(x, time)``.

    The channels of x are those of the latents, then those of the condition, then the map of known
    pixels, where the network sees them. With guidance each call predicts with both texts in one
    batch.

    Args:
        network: A network of diffusers.
        channels: Channels of the latents.
        factor: Side of a latent pixel in pixels of the picture.
    """

    def __init__(self, network: nn.Module, channels: int, factor: int) -> None:
        super().__init__()
        self.network = network
        self.channels = channels
        self.factor = factor
        self.text: Text | None = None
        self.level: int | None = None

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Predict, [B, channels, h, w] in float32; with a learned variance twice the channels."""
        given = self._arranged(x).to(self.compute_dtype)
        time = time.expand(len(given))
        if self.text is None:
            return self._output(given, time, None).float()

        text = self.text
        if text.negative is None:
            told = Embedding.joined([text.positive]).repeated(len(given))
            return self._output(given, time, told).float()

        told = Embedding.joined([text.negative, text.positive]).repeated(len(given))
        both = self._output(given.repeat(2, 1, 1, 1), time.repeat(2), told).float()
        free, conditional = both.chunk(2)
        means = slice(self.channels)
        guided = extrapolated(free[:, means], conditional[:, means], text.scale)
        return torch.cat([guided, conditional[:, self.channels :]], dim=1)  # with its variance

    def told(self, text: Text | None) -> Self:
        """Return the network with another text; the weights are shared."""
        other = copy.copy(self)
        other.text = text
        return other

    def at_level(self, level: int) -> Self:
        """Return the network with another noise level of its low-resolution picture."""
        other = copy.copy(self)
        other.level = level
        return other

    @property
    def compute_dtype(self) -> torch.dtype:
        """Dtype of the weights."""
        return next(self.network.parameters()).dtype

    def set_compute_dtype(self, dtype: torch.dtype) -> Self:
        """Convert the weights."""
        self.network.to(dtype)
        return self

    def _arranged(self, x: Tensor) -> Tensor:
        """Return the input with its channels as the network has them."""
        return x

    def _output(self, given: Tensor, time: Tensor, text: Embedding | None) -> Tensor:
        raise NotImplementedError


class Unconditional(LatentNetwork):
    """A ``UNet2DModel``, which takes no text."""

    def _output(self, given: Tensor, time: Tensor, text: Embedding | None) -> Tensor:
        answer: Tensor = self.network(given, time).sample
        return answer


class ByText(LatentNetwork):
    """A ``UNet2DConditionModel``, also of inpainting and of super-resolution."""

    def _output(self, given: Tensor, time: Tensor, text: Embedding | None) -> Tensor:
        assert text is not None  # the loader binds the empty prompt
        text = text.to(given.dtype)
        more: dict[str, Any] = {}
        if text.pooled is not None:
            more["added_cond_kwargs"] = {
                "text_embeds": text.pooled,
                "time_ids": self._size_of(given).expand(len(given), -1),
            }
        if self.level is not None:
            more["class_labels"] = torch.full((len(given),), self.level, device=given.device)

        answer: Tensor = self.network(given, time, encoder_hidden_states=text.tokens, **more).sample
        return answer

    def _size_of(self, given: Tensor) -> Tensor:
        """Original size, crop and wanted size (SDXL: Podell et al. 2023, arXiv 2307.01952)."""
        height, width = (side * self.factor for side in given.shape[-2:])
        numbers = [height, width, 0, 0, height, width]
        return torch.tensor([numbers], dtype=given.dtype, device=given.device)


class Inpainting(ByText):
    """A network that sees known pixels: latents, a map of what is to fill, latents of the rest."""

    def _arranged(self, x: Tensor) -> Tensor:
        latents, shown, known = x.split([self.channels, self.channels, 1], dim=1)
        return torch.cat([latents, 1 - known, shown], dim=1)


class ByImage(LatentNetwork):
    """A ``UNet2DConditionModel`` that sees CLIP's embedding of a picture, as DALL·E 2's decoder."""

    def _output(self, given: Tensor, time: Tensor, text: Embedding | None) -> Tensor:
        assert text is not None  # the loader binds the empty prompt
        seen = {"image_embeds": text.to(given.dtype).tokens}
        answer: Tensor = self.network(
            given, time, encoder_hidden_states=None, added_cond_kwargs=seen
        ).sample
        return answer


class Transformer(LatentNetwork):
    """A ``SD3Transformer2DModel``."""

    def _output(self, given: Tensor, time: Tensor, text: Embedding | None) -> Tensor:
        assert text is not None  # the loader binds the empty prompt
        text = text.to(given.dtype)
        answer: Tensor = self.network(
            hidden_states=given,
            timestep=time,
            encoder_hidden_states=text.tokens,
            pooled_projections=text.pooled,
        ).sample
        return answer
