"""A U-Net for CPUs: few passes over memory, and convolutions wide enough to be efficient.

Differences from ADM's layout: each block has one norm and one activation; skip connections are
added once per level instead of concatenated after every block; 2×2 convolutions of stride 2 and
1×1 convolutions with a pixel shuffle connect the levels, as in NAFNet (Chen et al. 2022, arXiv
2204.04676).
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretrained.description import BackboneConfig
from restore.backbone.base import Backbone, norm_layer, zeroed

MIDDLE_BLOCKS = 2


class LeanBlock(nn.Module):
    """norm → conv → scale and shift by the time embedding → SiLU → conv, added to the input.

    Args:
        config: Description of the network.
        channels: Channels of input and output.
    """

    def __init__(self, config: BackboneConfig, channels: int) -> None:
        super().__init__()
        self.norm = norm_layer(config, channels)
        self.conv_in = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulation = nn.Linear(config.embedding_channels, 2 * channels)
        self.conv_out = zeroed(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv_in(self.norm(x))
        modulation = self.modulation(embedding.to(h.dtype)).to(h.dtype)
        scale, shift = modulation[:, :, None, None].chunk(2, dim=1)

        return x + self.conv_out(F.silu(torch.addcmul(shift, h, 1 + scale)))


class LeanLevel(nn.ModuleList):
    """The blocks of a level, one after the other."""

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        for block in self:
            h = block(h, embedding)
        return h


class LeanBackbone(Backbone):
    """The lean U-Net: ``blocks`` per level in the encoder and in the decoder, two in the middle.

    Args:
        config: Description of the network.

    Raises:
        ValueError: There is no level, or an option that this layout does not have.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__(config)
        _check(config)
        widths = config.widths
        self.stem = nn.Conv2d(config.in_channels * config.patch**2, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(self._level(width, config.blocks) for width in widths)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.middle = self._level(widths[-1], MIDDLE_BLOCKS)
        self.up = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in pairwise(widths))
        self.decoder = nn.ModuleList(self._level(width, config.blocks) for width in widths)
        self.out = nn.Sequential(
            norm_layer(config, widths[0]),
            nn.SiLU(),
            zeroed(nn.Conv2d(widths[0], config.out_channels * config.patch**2, 3, padding=1)),
        )

    def body(self, h: Tensor, embedding: Tensor) -> Tensor:
        embedding = F.silu(embedding)
        h = self.stem(h)
        skips = []

        for level, blocks in enumerate(self.encoder):
            h = self.down[level - 1](h) if level else h
            h = blocks(h, embedding)
            skips.append(h)

        h = self.middle(h, embedding)

        for level in reversed(range(len(skips))):
            h = F.pixel_shuffle(self.up[level](h), 2) if level < len(self.up) else h
            h = self.decoder[level](h + skips[level], embedding)

        return self.out(h)

    @property
    def ends(self) -> tuple[nn.Conv2d, nn.Conv2d]:
        return self.stem, cast(nn.Conv2d, self.out[-1])

    def _level(self, channels: int, blocks: int) -> LeanLevel:
        return LeanLevel(LeanBlock(self.config, channels) for _ in range(blocks))


def _check(config: BackboneConfig) -> None:
    """Raise ValueError for a network without levels, or with an option of other layouts."""
    if not config.channel_multipliers:
        raise ValueError("the network needs at least one level: channel_multipliers is empty")

    others = {
        "attention_factors": bool(config.attention_factors),
        "middle_attention": config.middle_attention,
        "resblock_updown": config.resblock_updown,
        "dropout": bool(config.dropout),
        "embedding_activation = false": not config.embedding_activation,
        "qkv_bias = false": not config.qkv_bias,
        "downsample_padding = end": config.downsample_padding != "both",
    }
    if used := [name for name, value in others.items() if value]:
        raise ValueError(f"the lean layout has no {', '.join(used)}")
