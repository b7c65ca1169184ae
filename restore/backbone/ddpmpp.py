"""DDPM++ (Song et al. 2021, arXiv 2011.13456) as EDM trained it (Karras et al. 2022, arXiv
2206.00364, table 7): a variant of ADM's U-Net, with its names in the state dict
(`pretrained.layouts` renames EDM's weights).
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from pretrained.description import BackboneConfig
from restore.backbone.adm import AdmBackbone, AttentionBlock, ResidualBlock
from restore.backbone.base import timestep_embedding

SKIP_SCALE = math.sqrt(0.5)
"""Of every sum of an input and its change, which then varies as much as either."""


class ScaledResidualBlock(ResidualBlock):
    """ADM's block times √½; where it changes the resolution, the resized input goes through a 1×1
    convolution.
    """

    def __init__(
        self,
        config: BackboneConfig,
        channels: int,
        out_channels: int,
        embedding: int,
        resize: str | None = None,
    ) -> None:
        super().__init__(config, channels, out_channels, embedding, resize)
        if resize:
            self.skip_connection = nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return SKIP_SCALE * super().forward(x, embedding)


class ScaledAttentionBlock(AttentionBlock):
    """ADM's attention times √½."""

    def forward(self, x: Tensor) -> Tensor:
        return SKIP_SCALE * super().forward(x)


class DdpmppBackbone(AdmBackbone):
    """The U-Net of DDPM++.

    Against ADM's: sums are scaled, the first convolution has the base width ``config.channels``, on
    the way up attention follows the last block of a level alone, and a class is added to the
    sinusoids of the time, in front of the layers that make the embedding of them.

    Args:
        config: its description.

    Raises:
        ValueError: as `AdmBackbone`, or an option that this layout does not have.
    """

    block = ScaledResidualBlock
    attention = ScaledAttentionBlock

    def __init__(self, config: BackboneConfig) -> None:
        if not config.resblock_updown:
            raise ValueError(
                "the ddpm++ layout resizes in its residual blocks: resblock_updown must be true"
            )

        super().__init__(config)
        if config.classes:
            self.label_emb = nn.Embedding(config.classes, config.channels)

    def embed(self, time: Tensor, label: Tensor | None) -> Tensor:
        sinusoids = timestep_embedding(time, self.config.channels, self.config.embedding_endpoint)
        return self.time_embed(sinusoids if label is None else sinusoids + self.label_emb(label))

    @property
    def _first_width(self) -> int:
        return self.config.channels

    def _attention_up(self, level: int, block: int, channels: int) -> list[nn.Module]:
        return self._attention(level, channels) if block == self.config.blocks else []
