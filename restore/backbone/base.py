"""Base of all layouts: time embedding, norms, and the path of pictures in and out."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretrained.description import BackboneConfig


def timestep_embedding(time: Tensor, dim: int, endpoint: bool = False) -> Tensor:
    """Sinusoidal embedding of times, as in DDPM (Ho et al. 2020, arXiv 2006.11239).

    Args:
        time: [B].
        dim: Number of channels; half of them are cosines, the other half sines of as many
            frequencies, which fall geometrically from 1.
        endpoint: The lowest frequency is 1/10000; without it, the next lower one would be.

    Returns:
        [cos, sin], [B, dim] in float32.
    """
    half = dim // 2
    steps = torch.arange(half, device=time.device, dtype=torch.float32)
    frequencies = torch.exp(-math.log(10000) / (half - endpoint) * steps)
    angles = time.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class RMSNorm(nn.Module):
    """``weight · x / √(mean of x² over channels + eps)`` for each pixel, computed in float32.

    Root mean square normalisation (Zhang, Sennrich 2019, arXiv 1910.07467).
    """

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=torch.float32)
        scale = torch.rsqrt(norm.square() / x.shape[1] + self.eps)
        return (x * scale * self.weight[:, None, None]).to(x.dtype)


class GroupNorm(nn.GroupNorm):
    """GroupNorm (Wu, He 2018, arXiv 1803.08494), computed in float32 for inputs of any dtype."""

    def __init__(self, channels: int, eps: float, groups: int = 32) -> None:
        super().__init__(groups, channels, eps)

    def forward(self, x: Tensor) -> Tensor:
        # torch's own module refuses a group of one value, which small pictures of few channels have
        normal = torch.group_norm(x.float(), self.num_groups, self.weight, self.bias, self.eps)
        return normal.to(x.dtype)


def mirror_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Extend height and width to multiples of ``multiple`` by mirroring below and right.

    Pictures of any size can be extended, even of one pixel.
    """
    for dim in (-2, -1):
        size = x.shape[dim]
        target = -(-size // multiple) * multiple
        if target != size:
            index = torch.arange(target, device=x.device) % (2 * size)
            x = x.index_select(dim, torch.minimum(index, 2 * size - 1 - index))
    return x


def norm_layer(config: BackboneConfig, channels: int) -> nn.Module:
    """Build the norm that a description asks for."""
    if config.norm == "rms":
        return RMSNorm(channels, config.norm_eps)
    return GroupNorm(channels, config.norm_eps, config.norm_groups)


def zeroed(module: nn.Module) -> nn.Module:
    """Set all parameters to zero, as at the end of ADM's residual branches (arXiv 2105.05233)."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class Backbone(nn.Module, ABC):
    """Base class of the networks; `build_backbone` builds one.

    Args:
        config: Description of the network.
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
        """Predict what `pretrained.description.ModelConfig.parameterization` says.

        Args:
            x: [B, in_channels, H, W]; H and W are multiples of ``config.size_multiple``. The
                channels are, in this order and where the network has them: noisy picture, condition
                picture, map of known pixels, map of the noise level.
            time: [B or 1] in the unit of the training, not necessarily whole; [B or 1, times] for
                a network with more than one time input.
            label: [B], class numbers for a class-conditional network.

        Returns:
            [B, out_channels, H, W] in the dtype of ``x``.
        """
        h = F.pixel_unshuffle(x, self.config.patch).to(self.compute_dtype)
        return F.pixel_shuffle(self.body(h, self.embed(time, label)), self.config.patch).to(x.dtype)

    def embed(self, time: Tensor, label: Tensor | None) -> Tensor:
        """Embedding of time and class for the blocks, [B or 1, E]; arguments as of `forward`."""
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
        """Apply the U-Net to unshuffled pictures.

        Args:
            h: [B, in_channels · patch², h, w].
            embedding: [B or 1, E].

        Returns:
            [B, out_channels · patch², h, w].
        """

    @property
    @abstractmethod
    def ends(self) -> tuple[nn.Conv2d, nn.Conv1d | nn.Conv2d]:
        """The first and the last convolution."""

    @property
    def compute_dtype(self) -> torch.dtype:
        """Dtype of convolutions and projections."""
        return self.ends[0].weight.dtype

    def set_compute_dtype(self, dtype: torch.dtype) -> Backbone:
        """Convert convolutions and projections; norms and the time embedding stay in float32."""
        for module in self._projections():
            module.to(dtype)
        return self

    def _projections(self) -> Iterator[nn.Module]:
        for name, module in self.named_modules():
            if name.startswith("time_embed."):
                continue
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
                yield module
