"""ADM's U-Net (Dhariwal, Nichol 2021, arXiv 2105.05233), with its names in the state dict.

ADM's own checkpoints load as they are. The U-Nets of DDPM and of SR3's re-implementations are the
same with other options; `pretrained.layouts` renames their tensors.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretrained.description import BackboneConfig
from restore.backbone.base import Backbone, norm_layer, zeroed


class Downsample(nn.Module):
    """A 3×3 convolution of stride 2.

    Args:
        channels: Channels of input and output.
        padding: Zeros on ``both`` sides, or only at the ``end`` (below and right).
    """

    def __init__(self, channels: int, padding: Literal["both", "end"]) -> None:
        super().__init__()
        self.at_end = padding == "end"
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=0 if self.at_end else 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(F.pad(x, (0, 1, 0, 1)) if self.at_end else x)


class Upsample(nn.Module):
    """Nearest-neighbour upsampling by 2 and a 3×3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class ResidualBlock(nn.Module):
    """norm → SiLU → conv → norm → SiLU → conv, added to the input.

    The time embedding scales and shifts the output of the second norm, or, without
    ``config.scale_shift_norm``, is added to its input.

    Args:
        config: Description of the network.
        channels: Input channels.
        out_channels: Output channels.
        embedding: Channels of the time embedding.
        resize: ``"down"`` halves the resolution (mean), ``"up"`` doubles it (nearest neighbour).
    """

    def __init__(
        self,
        config: BackboneConfig,
        channels: int,
        out_channels: int,
        embedding: int,
        resize: str | None = None,
    ) -> None:
        super().__init__()
        self.scale_shift = config.scale_shift_norm
        self.resize = resize
        self.in_layers = nn.Sequential(
            norm_layer(config, channels), nn.SiLU(), nn.Conv2d(channels, out_channels, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(
            nn.SiLU() if config.embedding_activation else nn.Identity(),
            nn.Linear(embedding, out_channels * (2 if config.scale_shift_norm else 1)),
        )
        self.out_layers = nn.Sequential(
            norm_layer(config, out_channels),
            nn.SiLU(),
            nn.Dropout(config.dropout),
            zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1)),
        )
        self.skip_connection = (
            nn.Identity() if channels == out_channels else nn.Conv2d(channels, out_channels, 1)
        )

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        norm_and_act = self.in_layers[:2]
        conv = self.in_layers[2]
        h = conv(self._resized(norm_and_act(x)))

        parameters = self.emb_layers(embedding.to(h.dtype))[:, :, None, None]
        norm = self.out_layers[0]
        rest = self.out_layers[1:]

        if self.scale_shift:
            scale, shift = parameters.chunk(2, dim=1)
            h = rest(torch.addcmul(shift, norm(h), 1 + scale))
        else:
            h = rest(norm(h + parameters))

        return self.skip_connection(self._resized(x)) + h

    def _resized(self, x: Tensor) -> Tensor:
        if self.resize == "down":
            return F.avg_pool2d(x, 2)
        return F.interpolate(x, scale_factor=2, mode="nearest") if self.resize == "up" else x


class AttentionBlock(nn.Module):
    """Multi-head self-attention over all pixels, added to the input.

    Args:
        config: Description of the network.
        channels: Channels of input and output.

    Raises:
        ValueError: The heads do not divide the channels.
    """

    def __init__(self, config: BackboneConfig, channels: int) -> None:
        super().__init__()
        self.heads = channels // config.head_channels if config.head_channels else config.heads
        if self.heads < 1 or channels % (config.head_channels or self.heads):
            kind = (
                f"heads of {config.head_channels}"
                if config.head_channels
                else f"{config.heads} heads"
            )
            raise ValueError(f"attention to {channels} channels cannot be divided into {kind}")

        self.order = config.qkv_order
        self.norm = norm_layer(config, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1, bias=config.qkv_bias)
        self.proj_out = zeroed(nn.Conv1d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        qkv = self.qkv(self.norm(x).reshape(batch, channels, -1))
        if self.order == "legacy":
            qkv = qkv.reshape(batch, self.heads, 3, channels // self.heads, -1).transpose(1, 2)
        else:
            qkv = qkv.reshape(batch, 3, self.heads, channels // self.heads, -1)

        q, k, v = qkv.mT.unbind(1)
        h = F.scaled_dot_product_attention(q, k, v).mT.reshape(batch, channels, -1)

        return x + self.proj_out(h).reshape(batch, channels, height, width)


class Stage(nn.ModuleList):
    """A sequence of layers that passes the embedding to its residual blocks."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(layers)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        for layer in self:
            x = layer(x, embedding) if isinstance(layer, ResidualBlock) else layer(x)
        return x


class AdmEncoder(Backbone):
    """The half of ADM's U-Net that goes down, with its middle.

    Args:
        config: Description of the network.

    Raises:
        ValueError: The attention heads do not divide the channels, or there is no level.
    """

    block: ClassVar[type[ResidualBlock]] = ResidualBlock
    attention: ClassVar[type[AttentionBlock]] = AttentionBlock

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__(config)
        if not config.channel_multipliers:
            raise ValueError("the network needs at least one level: channel_multipliers is empty")

        embedding = config.embedding_channels
        widths = config.widths
        # the channels of every stage, which a decoder sees beside its own
        self.input_blocks, self._skips = self._way_down(widths, embedding)
        self.middle_block = Stage(*self._middle(widths[-1], embedding))

    def _way_down(self, widths: list[int], embedding: int) -> tuple[nn.ModuleList, list[int]]:
        config = self.config
        channels = self._first_width
        stages = [Stage(nn.Conv2d(config.in_channels * config.patch**2, channels, 3, padding=1))]
        skips = [channels]

        for level, width in enumerate(widths):
            for _ in range(config.blocks):
                block = self.block(config, channels, width, embedding)
                stages.append(Stage(block, *self._attention(level, width)))
                channels = width
                skips.append(channels)
            if level + 1 < len(widths):
                stages.append(Stage(self._resizer("down", channels, embedding)))
                skips.append(channels)

        return nn.ModuleList(stages), skips

    def _middle(self, channels: int, embedding: int) -> Iterator[nn.Module]:
        yield self.block(self.config, channels, channels, embedding)
        if self.config.middle_attention:
            yield self.attention(self.config, channels)
        yield self.block(self.config, channels, channels, embedding)

    @property
    def _first_width(self) -> int:
        return self.config.widths[0]

    def _attention(self, level: int, channels: int) -> list[nn.Module]:
        """Attention of a level, or nothing."""
        if 2**level not in self.config.attention_factors:
            return []
        return [self.attention(self.config, channels)]

    def _resizer(self, direction: str, channels: int, embedding: int) -> nn.Module:
        if self.config.resblock_updown:
            return self.block(self.config, channels, channels, embedding, resize=direction)
        if direction == "down":
            return Downsample(channels, self.config.downsample_padding)
        return Upsample(channels)


class AdmBackbone(AdmEncoder):
    """The U-Net of ADM.

    Args:
        config: Description of the network.

    Raises:
        ValueError: The attention heads do not divide the channels, or there is no level.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__(config)
        widths = config.widths
        self.output_blocks = self._way_up(widths, self._skips, config.embedding_channels)
        self.out = nn.Sequential(
            norm_layer(config, widths[0]),
            nn.SiLU(),
            zeroed(nn.Conv2d(widths[0], config.out_channels * config.patch**2, 3, padding=1)),
        )

    def body(self, h: Tensor, embedding: Tensor) -> Tensor:
        skips = []
        for stage in self.input_blocks:
            h = stage(h, embedding)
            skips.append(h)

        h = self.middle_block(h, embedding)

        for stage in self.output_blocks:
            h = stage(torch.cat([h, skips.pop()], dim=1), embedding)

        return self.out(h)

    @property
    def ends(self) -> tuple[nn.Conv2d, nn.Conv2d]:
        first = cast(Stage, self.input_blocks[0])[0]
        return cast(nn.Conv2d, first), cast(nn.Conv2d, self.out[-1])

    def _way_up(self, widths: list[int], skips: list[int], embedding: int) -> nn.ModuleList:
        config = self.config
        channels = widths[-1]
        remaining = list(skips)
        stages = []

        for level in reversed(range(len(widths))):
            for block in range(config.blocks + 1):
                block_channels = channels + remaining.pop()
                channels = widths[level]
                layers: list[nn.Module] = [self.block(config, block_channels, channels, embedding)]
                layers += self._attention_up(level, block, channels)
                if level and block == config.blocks:
                    layers.append(self._resizer("up", channels, embedding))
                stages.append(Stage(*layers))

        return nn.ModuleList(stages)

    def _attention_up(self, level: int, block: int, channels: int) -> list[nn.Module]:
        """Attention after a decoder block, or nothing; ``block`` is its number in the level."""
        return self._attention(level, channels)
