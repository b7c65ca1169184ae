"""The classifier of noisy pictures of ADM: the half of its U-Net that goes down, and a pool.

Dhariwal, Nichol 2021, arXiv 2105.05233, section 4; names of the state dict are those of their code,
whose checkpoints load as they are.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretrained.classifier_description import ClassifierConfig
from restore.backbone.adm import AdmEncoder, Stage
from restore.backbone.base import norm_layer, zeroed


class AttentionPool(nn.Module):
    """Attention of the mean to all positions (CLIP: Radford et al. 2021, arXiv 2103.00020).

    The heads are grouped within each of q, k and v (the order ``new`` of a `BackboneConfig`),
    whatever the order in the network before it.

    Args:
        positions: Number of positions, h·w.
        channels: Channels of the input.
        out_channels: Length of the result.
        head_channels: Channels of a head.

    Raises:
        ValueError: The heads do not divide the channels.
    """

    def __init__(
        self, positions: int, channels: int, out_channels: int, head_channels: int
    ) -> None:
        super().__init__()
        if channels % head_channels:
            raise ValueError(
                f"the attention that pools {channels} channels cannot be divided into heads of "
                f"{head_channels}"
            )

        self.heads = channels // head_channels
        scale = channels**-0.5
        self.positional_embedding = nn.Parameter(scale * torch.randn(channels, positions + 1))
        self.qkv_proj = nn.Conv1d(channels, 3 * channels, 1)
        self.c_proj = nn.Conv1d(channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Pool [B, C, h, w] to [B, out_channels]."""
        x = x.flatten(2)
        x = torch.cat([x.mean(dim=2, keepdim=True), x], dim=2) + self.positional_embedding
        batch, channels, length = x.shape
        qkv = self.qkv_proj(x).reshape(batch, 3, self.heads, channels // self.heads, length)
        q, k, v = qkv.mT.unbind(1)

        # the answer is that of the mean, the first position
        pooled = F.scaled_dot_product_attention(q[:, :, :1], k, v)
        return self.c_proj(pooled.reshape(batch, channels, 1))[:, :, 0]


class NoisyClassifier(AdmEncoder):
    """A classifier of noisy pictures.

    Args:
        config: Description of the classifier.

    Raises:
        ValueError: The attention heads do not divide the channels, or there is no level.
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__(config.backbone)
        width = config.backbone.widths[-1]
        self.out = nn.Sequential(
            norm_layer(config.backbone, width), nn.SiLU(), *_pool(config, width)
        )

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the logits of the classes.

        Args:
            x: [B, 3, H, W], as models see it; a classifier of one ``size`` takes that alone, others
                what is a multiple of their backbone's ``size_multiple``.
            time: [B or 1] in the unit of the training.
            label: Not used.

        Returns:
            [B, classes] in the dtype of ``x``.
        """
        logits = self.body(x.to(self.compute_dtype), self.embed(time, None))
        return logits.to(x.dtype)

    def body(self, h: Tensor, embedding: Tensor) -> Tensor:
        for stage in self.input_blocks:
            h = stage(h, embedding)
        return self.out(self.middle_block(h, embedding))

    @property
    def ends(self) -> tuple[nn.Conv2d, nn.Conv1d | nn.Conv2d]:
        first = cast(Stage, self.input_blocks[0])[0]
        last = [m for m in self.out.modules() if isinstance(m, nn.Conv1d | nn.Conv2d)][-1]
        return cast(nn.Conv2d, first), last


def _pool(config: ClassifierConfig, channels: int) -> list[nn.Module]:
    """Return the layers that make logits of the features at all positions."""
    if config.pool == "mean":
        last = zeroed(nn.Conv2d(channels, config.classes, 1))
        return [nn.AdaptiveAvgPool2d(1), last, nn.Flatten()]

    head = config.backbone.head_channels or channels // config.backbone.heads
    return [AttentionPool(config.positions, channels, config.classes, head)]
