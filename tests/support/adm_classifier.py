"""ADM's classifier of noisy pictures, restated from its definition, with the names of its tensors.

It is written from what is known of it (which layers, in which order, under which names), to
compare our loading with.
"""

from __future__ import annotations

import torch
from support.published_networks import attend, sinusoids
from torch import Tensor, nn
from torch.nn import functional as F


class ClassifierBlock(nn.Module):
    """A residual block that a linear function of the embedding scales and shifts."""

    def __init__(self, inner: int, outer: int, embedding: int, down: bool = False) -> None:
        super().__init__()
        self.down = down
        self.in_layers = nn.Sequential(
            nn.GroupNorm(32, inner), nn.SiLU(), nn.Conv2d(inner, outer, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, 2 * outer))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(32, outer), nn.SiLU(), nn.Dropout(0), nn.Conv2d(outer, outer, 3, padding=1)
        )
        if inner != outer:
            self.skip_connection = nn.Conv2d(inner, outer, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = F.silu(self.in_layers[0](x))
        if self.down:
            h, x = (F.avg_pool2d(each, 2) for each in (h, x))
        h = self.in_layers[2](h)
        scale, shift = self.emb_layers(embedding)[..., None, None].chunk(2, dim=1)
        h = self.out_layers[0](h) * (1 + scale) + shift
        h = self.out_layers[3](F.silu(h))
        return h + (self.skip_connection(x) if hasattr(self, "skip_connection") else x)


class ClassifierAttention(nn.Module):
    """Attention whose rows are grouped by head, q, k and v within each (the legacy order)."""

    def __init__(self, width: int, head: int) -> None:
        super().__init__()
        self.heads = width // head
        self.norm = nn.GroupNorm(32, width)
        self.qkv = nn.Conv1d(width, 3 * width, 1)
        self.proj_out = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.qkv(self.norm(x).flatten(2))
        q, k, v = rows.unflatten(1, (self.heads, 3, -1)).unbind(2)
        return x + self.proj_out(attend(q, k, v).flatten(1, 2)).reshape(x.shape)


class ClassifierPool(nn.Module):
    """Attention of the mean to all positions; rows are grouped by kind, heads within each."""

    def __init__(self, positions: int, width: int, head: int, classes: int) -> None:
        super().__init__()
        self.heads = width // head
        self.positional_embedding = nn.Parameter(torch.randn(width, positions + 1))
        self.qkv_proj = nn.Conv1d(width, 3 * width, 1)
        self.c_proj = nn.Conv1d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2)
        x = torch.cat([x.mean(2, keepdim=True), x], dim=2) + self.positional_embedding
        q, k, v = self.qkv_proj(x).unflatten(1, (3, self.heads, -1)).unbind(1)
        return self.c_proj(attend(q, k, v).flatten(1, 2))[:, :, 0]


class ClassifierStage(nn.ModuleList):
    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        for layer in self:
            x = layer(x, embedding) if isinstance(layer, ClassifierBlock) else layer(x)
        return x


class AdmClassifierNetwork(nn.Module):
    """The half of ADM's U-Net that goes down, its middle and the attention that pools."""

    def __init__(
        self,
        size: int = 16,
        channels: int = 32,
        multipliers: tuple[float, ...] = (1, 2, 2),
        blocks: int = 1,
        attention: tuple[int, ...] = (2,),
        head: int = 16,
        classes: int = 5,
    ) -> None:
        super().__init__()
        self.channels = channels
        embedding = 4 * channels
        self.time_embed = nn.Sequential(
            nn.Linear(channels, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        width = int(multipliers[0] * channels)
        stages = [ClassifierStage([nn.Conv2d(3, width, 3, padding=1)])]
        for level, multiplier in enumerate(multipliers):
            for _ in range(blocks):
                outer = int(multiplier * channels)
                layers: list[nn.Module] = [ClassifierBlock(width, outer, embedding)]
                width = outer
                if 2**level in attention:
                    layers.append(ClassifierAttention(width, head))
                stages.append(ClassifierStage(layers))
            if level + 1 < len(multipliers):
                stages.append(ClassifierStage([ClassifierBlock(width, width, embedding, True)]))
        self.input_blocks = nn.ModuleList(stages)
        self.middle_block = ClassifierStage(
            [
                ClassifierBlock(width, width, embedding),
                ClassifierAttention(width, head),
                ClassifierBlock(width, width, embedding),
            ]
        )
        positions = (size // 2 ** (len(multipliers) - 1)) ** 2
        self.out = nn.Sequential(
            nn.GroupNorm(32, width), nn.SiLU(), ClassifierPool(positions, width, head, classes)
        )

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        cosines, sines = sinusoids(time, self.channels, self.channels // 2)
        embedding = self.time_embed(torch.cat([cosines, sines], dim=1))
        for stage in self.input_blocks:
            x = stage(x, embedding)
        return self.out(self.middle_block(x, embedding))


def log_probability(network: AdmClassifierNetwork, u: Tensor, step: Tensor, label: int) -> Tensor:
    """log p(label | u) as the published sampler takes it, of a variance-preserving u at a step."""
    logits = network(u, step)
    return logits[:, label] - torch.logsumexp(logits, dim=1)
