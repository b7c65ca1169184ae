"""What all layouts of the network share: the time embedding, the norms, the way pictures go in and
come out.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretrained.description import BackboneConfig


def timestep_embedding(time: Tensor, dim: int, endpoint: bool = False) -> Tensor:
    """Sinusoids of ``time`` [B], [cos, sin], at ``dim / 2`` frequencies from 1 down to 1/10000:
    float32 [B, dim].

    The lowest frequency is 1/10000 with ``endpoint``, else the next one would be.
    """
    half = dim // 2
    steps = torch.arange(half, device=time.device, dtype=torch.float32)
    frequencies = torch.exp(-math.log(10000) / (half - endpoint) * steps)
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
    """GroupNorm in float32 whatever the input is."""

    def __init__(self, channels: int, eps: float, groups: int = 32) -> None:
        super().__init__(groups, channels, eps)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float()).to(x.dtype)


def mirror_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Extend height and width below and right to multiples of ``multiple`` by mirroring (any size,
    even 1).
    """
    for dim in (-2, -1):
        size = x.shape[dim]
        target = -(-size // multiple) * multiple
        if target != size:
            index = torch.arange(target, device=x.device) % (2 * size)
            x = x.index_select(dim, torch.minimum(index, 2 * size - 1 - index))
    return x


def norm_layer(config: BackboneConfig, channels: int) -> nn.Module:
    if config.norm == "rms":
        return RMSNorm(channels, config.norm_eps)
    return GroupNorm(channels, config.norm_eps, config.norm_groups)


def zeroed(module: nn.Module) -> nn.Module:
    """Start a residual branch at zero (arXiv 2105.05233, following Ho et al. 2020)."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class Backbone(nn.Module, ABC):
    """A noise predictor that knows its own description; `build_backbone` makes one.

    Args:
        config: its description.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        hidden = 4 * config.channels
        embedding = config.embedding_channels
        self.time_embed = nn.Sequential(
            nn.Linear(config.channels, hidden), nn.SiLU(), nn.Linear(hidden, embedding)
        )
        if config.classes:
            self.label_emb = nn.Embedding(config.classes, embedding)

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        """Predict.

        Args:
            x: [B, in_channels, H, W], sides multiples of ``config.size_multiple``: noisy picture,
                condition picture, map of known pixels, map of the noise level, in this order; each
                where the network has it.
            time: [B or 1], in the unit the network was trained with, not necessarily whole; [B or
                1, times] for a network that is told more than one number.
            label: [B] class numbers, for a class-conditional network.

        Returns:
            [B, out_channels, H, W] in the dtype of ``x``.
        """
        h = F.pixel_unshuffle(x, self.config.patch).to(self.compute_dtype)
        return F.pixel_shuffle(self.body(h, self.embed(time, label)), self.config.patch).to(x.dtype)

    def embed(self, time: Tensor, label: Tensor | None) -> Tensor:
        """What the blocks are told of time and class, [B or 1, E]; arguments as of `forward`."""
        width = self.config.channels // self.config.times
        endpoint = self.config.embedding_endpoint
        numbers = time.reshape(len(time), self.config.times).unbind(dim=1)
        sinusoids = torch.cat(
            [timestep_embedding(number, width, endpoint) for number in numbers], dim=1
        )
        embedding = self.time_embed(sinusoids)

        return embedding if label is None else embedding + self.label_emb(label)

    @abstractmethod
    def body(self, h: Tensor, embedding: Tensor) -> Tensor:
        """From [B, in_channels · patch², h, w] to [B, out_channels · patch², h, w]; ``embedding``
        is [B or 1, E].
        """

    @property
    @abstractmethod
    def ends(self) -> tuple[nn.Conv2d, nn.Conv2d]:
        """The first and the last convolution."""

    @property
    def compute_dtype(self) -> torch.dtype:
        return self.ends[0].weight.dtype

    def set_compute_dtype(self, dtype: torch.dtype) -> Backbone:
        """Keep convolutions and projections in ``dtype``; norms and the time embedding stay in
        float32.
        """
        for module in self._projections():
            module.to(dtype)
        return self

    def _projections(self) -> Iterator[nn.Module]:
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear) and not name.startswith(
                "time_embed."
            ):
                yield module
