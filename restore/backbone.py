"""The shared noise-prediction U-Net: one class, described whole by a small config.

The block layout and the names in the state dict are ADM's (Dhariwal, Nichol 2021, arXiv 2105.05233), so that its
checkpoints load as they are; the options reach from ADM's networks to the small one that ships with the package.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class BackboneConfig:
    """Everything that determines the network.

    Attributes:
        image_channels: channels of the noisy picture.
        condition_channels: channels of the condition picture beside it (0: unconditional only).
        condition_map: whether one more channel marks the known pixels of the condition.
        learned_variance: twice the output channels; the second half interpolates the variance.
        channels: width that the multipliers multiply.
        channel_multipliers: one a level, from full resolution down.
        blocks: residual blocks a level on the way down (one more on the way up).
        attention_factors: down-sampling factors at which residual blocks are followed by attention; ADM's
            "attention at 32, 16, 8 of 256" is (8, 16, 32).
        middle_attention: attention between the two middle blocks.
        heads, head_channels: number of attention heads, or channels of each (the latter wins).
        qkv_order: ``legacy`` keeps q, k, v together within each head, ``new`` keeps the heads together
            within q, k and v. Weights of both have the same shapes.
        norm: ``group`` (GroupNorm over 32 groups) or ``rms`` (per pixel over channels, which is local).
        norm_eps: added to the variance.
        scale_shift_norm: the time embedding scales and shifts the second norm, instead of being added.
        resblock_updown: residual blocks change the resolution, instead of strided and up-sampling convolutions.
        classes: number of class labels (0: none).
        dropout: in residual blocks.
        patch: pixels are unshuffled ``patch × patch`` in front and shuffled behind.
    """

    image_channels: int = 3
    condition_channels: int = 0
    condition_map: bool = False
    learned_variance: bool = False
    channels: int = 128
    channel_multipliers: tuple[float, ...] = (1, 2, 2, 2)
    blocks: int = 2
    attention_factors: tuple[int, ...] = ()
    middle_attention: bool = True
    heads: int = 1
    head_channels: int | None = None
    qkv_order: Literal["legacy", "new"] = "legacy"
    norm: Literal["group", "rms"] = "group"
    norm_eps: float = 1e-5
    scale_shift_norm: bool = True
    resblock_updown: bool = False
    classes: int = 0
    dropout: float = 0.0
    patch: int = 1

    @property
    def in_channels(self) -> int:
        return self.image_channels + self.condition_channels + int(self.condition_map)

    @property
    def out_channels(self) -> int:
        return self.image_channels * (2 if self.learned_variance else 1)

    @property
    def size_multiple(self) -> int:
        """Height and width must be multiples of this."""
        return self.patch * 2 ** (len(self.channel_multipliers) - 1)


def timestep_embedding(time: Tensor, dim: int) -> Tensor:
    """Sinusoids of ``time`` [B], [cos, sin], at ``dim / 2`` frequencies from 1 down to 1/10000: float32 [B, dim]."""
    half = dim // 2
    frequencies = torch.exp(-math.log(10000) / half * torch.arange(half, device=time.device, dtype=torch.float32))
    angles = time.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class RMSNorm(nn.Module):
    """``x · weight / √(mean over channels of x² + eps)`` for each pixel, in float32."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=torch.float32)
        scale = torch.rsqrt(norm.square() / x.shape[1] + self.eps)
        return (x * scale * self.weight[:, None, None]).to(x.dtype)


class GroupNorm(nn.GroupNorm):
    """GroupNorm over 32 groups, in float32 whatever the input is."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__(32, channels, eps)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float()).to(x.dtype)


def _norm(config: BackboneConfig, channels: int) -> nn.Module:
    return (RMSNorm if config.norm == "rms" else GroupNorm)(channels, config.norm_eps)


class Downsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class ResidualBlock(nn.Module):
    """norm → SiLU → conv → norm, scaled and shifted by the time embedding → SiLU → conv, added to the input.

    ``resize`` is ``"down"`` or ``"up"`` when the block also halves (mean) or doubles (nearest) the resolution.
    """

    def __init__(
        self, config: BackboneConfig, channels: int, out_channels: int, embedding: int, resize: str | None = None
    ) -> None:
        super().__init__()
        self.scale_shift = config.scale_shift_norm
        self.resize = resize
        self.in_layers = nn.Sequential(
            _norm(config, channels), nn.SiLU(), nn.Conv2d(channels, out_channels, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(
            nn.SiLU(), nn.Linear(embedding, out_channels * (2 if config.scale_shift_norm else 1))
        )
        self.out_layers = nn.Sequential(
            _norm(config, out_channels),
            nn.SiLU(),
            nn.Dropout(config.dropout),
            _zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1)),
        )
        self.skip_connection = nn.Identity() if channels == out_channels else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        norm_and_act, conv = self.in_layers[:2], self.in_layers[2]
        h = conv(self._resized(norm_and_act(x)))
        parameters = self.emb_layers(embedding.to(h.dtype))[:, :, None, None]
        norm, rest = self.out_layers[0], self.out_layers[1:]
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
    """Self-attention over all pixels, added to the input."""

    def __init__(self, config: BackboneConfig, channels: int) -> None:
        super().__init__()
        self.heads = channels // config.head_channels if config.head_channels else config.heads
        self.order = config.qkv_order
        self.norm = _norm(config, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = _zeroed(nn.Conv1d(channels, channels, 1))

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


def _zeroed(module: nn.Module) -> nn.Module:
    """Start a residual branch at zero (arXiv 2105.05233, following Ho et al. 2020)."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class Stage(nn.Sequential):
    """Layers in a row, of which the residual blocks also get the embedding."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        for layer in self:
            x = layer(x, embedding) if isinstance(layer, ResidualBlock) else layer(x)
        return x


class Backbone(nn.Module):
    """The U-Net.

    Args:
        config: its description.

    Raises:
        ValueError: attention heads that do not divide the channels, or no level at all.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        if not config.channel_multipliers:
            raise ValueError("the network needs at least one level: channel_multipliers is empty")
        self.config = config
        embedding = 4 * config.channels
        self.time_embed = nn.Sequential(
            nn.Linear(config.channels, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        if config.classes:
            self.label_emb = nn.Embedding(config.classes, embedding)
        widths = [int(config.channels * m) for m in config.channel_multipliers]
        self.input_blocks, skips = self._way_down(widths, embedding)
        self.middle_block = Stage(*self._middle(widths[-1], embedding))
        self.output_blocks = self._way_up(widths, skips, embedding)
        self.out = nn.Sequential(
            _norm(config, widths[0]),
            nn.SiLU(),
            _zeroed(nn.Conv2d(widths[0], config.out_channels * config.patch**2, 3, padding=1)),
        )

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        """Predict.

        Args:
            x: [B, in_channels, H, W], sides multiples of ``config.size_multiple``: noisy picture, condition
                picture, map, in this order.
            time: [B], in the unit the network was trained with, not necessarily whole.
            label: [B] class numbers, for a class-conditional network.

        Returns:
            [B, out_channels, H, W] in the dtype of ``x``.
        """
        embedding = self.time_embed(timestep_embedding(time, self.config.channels))
        if label is not None:
            embedding = embedding + self.label_emb(label)
        h = F.pixel_unshuffle(x, self.config.patch).to(self.compute_dtype)
        skips = []
        for stage in self.input_blocks:
            h = stage(h, embedding)
            skips.append(h)
        h = self.middle_block(h, embedding)
        for stage in self.output_blocks:
            h = stage(torch.cat([h, skips.pop()], dim=1), embedding)
        return F.pixel_shuffle(self.out(h), self.config.patch).to(x.dtype)

    @property
    def compute_dtype(self) -> torch.dtype:
        return self.input_blocks[0][0].weight.dtype

    def set_compute_dtype(self, dtype: torch.dtype) -> Backbone:
        """Keep convolutions and projections in ``dtype``; norms and the time embedding stay in float32."""
        for block in (self.input_blocks, self.middle_block, self.output_blocks, self.out):
            for module in block.modules():
                if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
                    module.to(dtype)
        return self

    def _way_down(self, widths: list[int], embedding: int) -> tuple[nn.ModuleList, list[int]]:
        config, channels = self.config, widths[0]
        stages = [Stage(nn.Conv2d(config.in_channels * config.patch**2, channels, 3, padding=1))]
        skips = [channels]
        for level, width in enumerate(widths):
            for _ in range(config.blocks):
                block = ResidualBlock(config, channels, width, embedding)
                stages.append(Stage(block, *self._attention(level, width)))
                channels = width
                skips.append(channels)
            if level + 1 < len(widths):
                stages.append(Stage(self._resizer("down", channels, embedding)))
                skips.append(channels)
        return nn.ModuleList(stages), skips

    def _middle(self, channels: int, embedding: int) -> Iterator[nn.Module]:
        yield ResidualBlock(self.config, channels, channels, embedding)
        if self.config.middle_attention:
            yield AttentionBlock(self.config, channels)
        yield ResidualBlock(self.config, channels, channels, embedding)

    def _way_up(self, widths: list[int], skips: list[int], embedding: int) -> nn.ModuleList:
        config, channels, remaining = self.config, widths[-1], list(skips)
        stages = []
        for level in reversed(range(len(widths))):
            for block in range(config.blocks + 1):
                layers = [ResidualBlock(config, channels + remaining.pop(), widths[level], embedding)]
                channels = widths[level]
                layers += self._attention(level, channels)
                if level and block == config.blocks:
                    layers.append(self._resizer("up", channels, embedding))
                stages.append(Stage(*layers))
        return nn.ModuleList(stages)

    def _attention(self, level: int, channels: int) -> list[nn.Module]:
        return [AttentionBlock(self.config, channels)] if 2**level in self.config.attention_factors else []

    def _resizer(self, direction: str, channels: int, embedding: int) -> nn.Module:
        if self.config.resblock_updown:
            return ResidualBlock(self.config, channels, channels, embedding, resize=direction)
        return Downsample(channels) if direction == "down" else Upsample(channels)
