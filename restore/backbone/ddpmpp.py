"""DDPM++ (Song et al. 2021, arXiv 2011.13456) as trained by EDM: a variant of ADM's U-Net.

EDM: Karras et al. 2022, arXiv 2206.00364, table 7. The names in the state dict are ADM's;
`pretrained.layouts` renames EDM's tensors.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from pretrained.description import BackboneConfig
from restore.backbone.adm import AdmBackbone, AttentionBlock, ResidualBlock
from restore.backbone.base import timestep_embedding

# Factor of every sum of an input and a residual, which keeps the variance.
SKIP_SCALE = math.sqrt(0.5)


class ScaledResidualBlock(ResidualBlock):
    """ADM's residual block times √½.

    Where it changes the resolution, the skip connection is a 1×1 convolution.
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

    It differs from ADM's in four points: sums are scaled; the first convolution has the base width
    ``config.channels``; in the decoder, attention follows only the last block of a level; and the
    class embedding is added to the sinusoids of the time, before the layers of the time embedding.

    Args:
        config: Description of the network.

    Raises:
        ValueError: As `AdmBackbone`, or an option that this layout does not have.
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
