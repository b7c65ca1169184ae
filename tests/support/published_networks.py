"""Networks of the published code bases, restated from their block definitions, with the names of
their state dicts.

Each is written from what is known of it (which layers, in which order, under which names), to
compare our loading with.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """With random weights everywhere, also where training begins at zero; every layer keeps the
    size of its input.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(noise / math.sqrt(parameter[0].numel()))
            else:
                parameter.copy_(0.1 * noise + (1 if name.endswith("weight") else 0))
    return network.eval()


def sinusoids(time: Tensor, width: int, divisor: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines at the frequencies 10000^(−i / divisor)."""
    angles = time.double()[:, None] * 10000 ** (-torch.arange(width // 2).double() / divisor)
    return angles.cos().float(), angles.sin().float()


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Of [B, heads, d, T]: softmax(qᵀk / √d) v."""
    weights = torch.softmax(torch.einsum("bhdt,bhds->bhts", q, k) / math.sqrt(q.shape[2]), dim=-1)
    return torch.einsum("bhts,bhds->bhdt", weights, v)


class DdpmBlock(nn.Module):
    def __init__(self, inner: int, outer: int, embedding: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(32, inner, eps=1e-6)
        self.norm2 = nn.GroupNorm(32, outer, eps=1e-6)
        self.conv1 = nn.Conv2d(inner, outer, 3, padding=1)
        self.conv2 = nn.Conv2d(outer, outer, 3, padding=1)
        self.temb_proj = nn.Linear(embedding, outer)
        if inner != outer:
            self.nin_shortcut = nn.Conv2d(inner, outer, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x))) + self.temb_proj(F.silu(embedding))[..., None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class DdpmAttention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, width, eps=1e-6)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2)[:, None] for layer in (self.q, self.k, self.v))
        return x + self.proj_out(attend(q, k, v)[:, 0].reshape(x.shape))


class DdpmResize(nn.Module):
    """Down: a strided convolution that sees a row and a column of zeros at the end. Up: doubled,
    then convolved.
    """

    def __init__(self, width: int, down: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2 if down else 1, padding=0 if down else 1)
        self.down = down

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(
            F.pad(x, (0, 1, 0, 1))
            if self.down
            else x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        )


class DdpmLevel(nn.Module):
    def __init__(
        self, blocks: list[DdpmBlock], width: int, attends: bool, **resize: nn.Module
    ) -> None:
        super().__init__()
        self.block = nn.ModuleList(blocks)
        self.attn = nn.ModuleList(DdpmAttention(width) for _ in blocks if attends)
        for name, layer in resize.items():
            setattr(self, name, layer)

    def run(self, index: int, x: Tensor, embedding: Tensor) -> Tensor:
        x = self.block[index](x, embedding)
        return self.attn[index](x) if len(self.attn) else x


class DdpmNetwork(nn.Module):
    """DDPM's U-Net as in pesser/pytorch_diffusion (Ho, Jain, Abbeel 2020, arXiv 2006.11239,
    appendix B).
    """

    def __init__(
        self,
        channels: int = 32,
        multipliers: tuple = (1, 2, 2),
        blocks: int = 2,
        attention: tuple = (1,),
    ) -> None:
        super().__init__()
        self.channels = channels
        self.blocks = blocks
        widths = [channels * m for m in multipliers]
        embedding = 4 * channels
        top = len(widths) - 1
        self.temb = nn.Module()
        self.temb.dense = nn.ModuleList(
            [nn.Linear(channels, embedding), nn.Linear(embedding, embedding)]
        )
        self.conv_in = nn.Conv2d(3, channels, 3, padding=1)
        self.down = nn.ModuleList()
        waiting = [channels]
        width = channels
        for level, outer in enumerate(widths):
            inners = [width] + [outer] * (blocks - 1)
            resize = {"downsample": DdpmResize(outer, True)} if level < top else {}
            rows = [DdpmBlock(inner, outer, embedding) for inner in inners]
            self.down.append(DdpmLevel(rows, outer, level in attention, **resize))
            waiting += [outer] * (blocks + (level < top))
            width = outer
        self.mid = nn.Module()
        self.mid.block_1, self.mid.block_2 = (DdpmBlock(width, width, embedding) for _ in range(2))
        self.mid.attn_1 = DdpmAttention(width)
        up = []
        for level, outer in reversed(list(enumerate(widths))):
            rows = []
            for _ in range(blocks + 1):
                rows.append(DdpmBlock(width + waiting.pop(), outer, embedding))
                width = outer
            resize = {"upsample": DdpmResize(outer, False)} if level else {}
            up.insert(0, DdpmLevel(rows, outer, level in attention, **resize))
        self.up = nn.ModuleList(up)
        self.norm_out = nn.GroupNorm(32, width, eps=1e-6)
        self.conv_out = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        cosines, sines = sinusoids(time, self.channels, self.channels // 2 - 1)
        embedding = self.temb.dense[1](
            F.silu(self.temb.dense[0](torch.cat([sines, cosines], dim=1)))
        )
        h = self.conv_in(x)
        waiting = [h]
        for level in self.down:
            for index in range(self.blocks):
                h = level.run(index, h, embedding)
                waiting.append(h)
            if hasattr(level, "downsample"):
                h = level.downsample(h)
                waiting.append(h)
        h = self.mid.block_2(self.mid.attn_1(self.mid.block_1(h, embedding)), embedding)
        for level in reversed(self.up):
            for index in range(self.blocks + 1):
                h = level.run(index, torch.cat([h, waiting.pop()], dim=1), embedding)
            h = level.upsample(h) if hasattr(level, "upsample") else h
        return self.conv_out(F.silu(self.norm_out(h)))


class _Block(nn.Module):
    """norm, SiLU, dropout, convolution, under the number that each has in ``block``."""

    def __init__(self, inner: int, outer: int, groups: int) -> None:
        super().__init__()
        norm = nn.GroupNorm(groups, inner)
        conv = nn.Conv2d(inner, outer, 3, padding=1)
        self.block = nn.Sequential(norm, nn.SiLU(), nn.Identity(), conv)


class Sr3Row(nn.Module):
    """A residual block with the noise level added to its middle, and attention behind it."""

    def __init__(self, inner: int, outer: int, embedding: int, groups: int, attends: bool) -> None:
        super().__init__()
        row = nn.Module()
        row.noise_func = nn.Module()
        row.noise_func.noise_func = nn.Sequential(nn.Linear(embedding, outer))
        row.block1 = _Block(inner, outer, groups)
        row.block2 = _Block(outer, outer, groups)
        row.res_conv = nn.Identity() if inner == outer else nn.Conv2d(inner, outer, 1)
        self.res_block = row
        if attends:
            self.attn = nn.Module()
            self.attn.norm = nn.GroupNorm(groups, outer)
            self.attn.qkv = nn.Conv2d(outer, 3 * outer, 1, bias=False)
            self.attn.out = nn.Conv2d(outer, outer, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        row = self.res_block
        h = row.block1.block(x) + row.noise_func.noise_func(embedding)[..., None, None]
        x = row.block2.block(h) + row.res_conv(x)
        if not hasattr(self, "attn"):
            return x
        q, k, v = self.attn.qkv(self.attn.norm(x)).flatten(2).chunk(3, dim=1)
        return x + self.attn.out(attend(q[:, None], k[:, None], v[:, None])[:, 0].reshape(x.shape))


class Sr3Resize(nn.Module):
    def __init__(self, width: int, down: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2 if down else 1, padding=1)
        self.down = down

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x if self.down else x.repeat_interleave(2, 2).repeat_interleave(2, 3))


class Sr3Network(nn.Module):
    """SR3's U-Net as in Janspiry's re-implementation (Saharia et al. 2021, arXiv 2104.07636),
    inside its diffusion.

    The input is [condition, noisy picture] and √γ [B].
    """

    def __init__(
        self,
        channels: int = 32,
        multipliers: tuple = (1, 2, 2),
        blocks: int = 2,
        attention: tuple = (2,),
        groups: int = 32,
        betas: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.denoise_fn = net = nn.Module()
        self.channels = channels
        if betas is not None:
            self.register_buffer("betas", betas.float())
            self.register_buffer("alphas_cumprod", torch.cumprod(1 - betas, 0).float())
            self.register_buffer("posterior_mean_coef1", torch.ones(len(betas)))
        linear_in = nn.Linear(channels, 4 * channels)
        linear_out = nn.Linear(4 * channels, channels)
        net.noise_level_mlp = nn.Sequential(nn.Identity(), linear_in, nn.SiLU(), linear_out)
        widths = [channels * m for m in multipliers]
        downs: list[nn.Module] = [nn.Conv2d(6, channels, 3, padding=1)]
        width = channels
        waiting = [channels]
        for level, outer in enumerate(widths):
            for _ in range(blocks):
                downs.append(Sr3Row(width, outer, channels, groups, level in attention))
                width = outer
                waiting.append(width)
            if level + 1 < len(widths):
                downs.append(Sr3Resize(width, True))
                waiting.append(width)
        net.downs = nn.ModuleList(downs)
        net.mid = nn.ModuleList(
            Sr3Row(width, width, channels, groups, attends) for attends in (True, False)
        )
        ups: list[nn.Module] = []
        for level, outer in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                ups.append(
                    Sr3Row(width + waiting.pop(), outer, channels, groups, level in attention)
                )
                width = outer
            if level:
                ups.append(Sr3Resize(width, False))
        net.ups = nn.ModuleList(ups)
        net.final_conv = _Block(width, 3, groups)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        net = self.denoise_fn
        cosines, sines = sinusoids(level, self.channels, self.channels // 2)
        embedding = net.noise_level_mlp(torch.cat([sines, cosines], dim=1))
        waiting = []
        for layer in net.downs:
            x = layer(x, embedding) if isinstance(layer, Sr3Row) else layer(x)
            waiting.append(x)
        for row in net.mid:
            x = row(x, embedding)
        for layer in net.ups:
            x = (
                layer(torch.cat([x, waiting.pop()], dim=1), embedding)
                if isinstance(layer, Sr3Row)
                else layer(x)
            )
        return net.final_conv.block(x)


class EdmConv(nn.Module):
    """A convolution (or none) after a change of resolution by a box filter."""

    def __init__(self, inner: int, outer: int, kernel: int, resize: str = "") -> None:
        super().__init__()
        self.resize = resize
        self.weight = None
        self.bias = None
        if kernel:
            self.weight = nn.Parameter(torch.zeros(outer, inner, kernel, kernel))
            self.bias = nn.Parameter(torch.zeros(outer))
        if resize:
            self.register_buffer("resample_filter", torch.full((1, 1, 2, 2), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        if self.resize == "down":
            x = F.avg_pool2d(x, 2)
        elif self.resize == "up":
            x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return (
            x
            if self.weight is None
            else F.conv2d(x, self.weight, self.bias, padding=self.weight.shape[-1] // 2)
        )


class EdmBlock(nn.Module):
    def __init__(
        self, inner: int, outer: int, embedding: int, attends: bool = False, resize: str = ""
    ) -> None:
        super().__init__()
        self.inner = inner
        self.heads = outer // 64 if attends else 0
        self.norm0 = nn.GroupNorm(32, inner)
        self.norm1 = nn.GroupNorm(32, outer)
        self.conv0 = EdmConv(inner, outer, 3, resize)
        self.conv1 = EdmConv(outer, outer, 3)
        self.affine = nn.Linear(embedding, 2 * outer)
        if inner != outer or resize:
            self.skip = EdmConv(inner, outer, 1 if inner != outer else 0, resize)
        if self.heads:
            self.norm2 = nn.GroupNorm(32, outer)
            self.qkv = EdmConv(outer, 3 * outer, 1)
            self.proj = EdmConv(outer, outer, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.affine(embedding)[..., None, None].chunk(2, dim=1)
        h = self.conv1(F.silu(self.norm1(self.conv0(F.silu(self.norm0(x)))) * (1 + scale) + shift))
        x = h + (self.skip(x) if hasattr(self, "skip") else x)
        if not self.heads:
            return x
        batch, width = x.shape[:2]
        q, k, v = (
            self.qkv(self.norm2(x)).reshape(batch, self.heads, width // self.heads, 3, -1).unbind(3)
        )
        return x + self.proj(attend(q, k, v).reshape(x.shape))


class EdmNetwork(nn.Module):
    """ADM's U-Net as EDM trained it, inside its preconditioning (Karras et al. 2022, arXiv
    2206.00364, table 1).
    """

    def __init__(
        self,
        size: int = 16,
        channels: int = 128,
        multipliers: tuple = (1, 2),
        attention: tuple = (8,),
        classes=0,
    ) -> None:
        super().__init__()
        self.model = net = nn.Module()
        self.channels = channels
        embedding = 4 * channels
        blocks = 1
        net.map_layer0 = nn.Linear(channels, embedding)
        net.map_layer1 = nn.Linear(embedding, embedding)
        net.map_augment = nn.Linear(9, channels, bias=False)
        if classes:
            net.map_label = nn.Linear(classes, embedding, bias=False)
        sides = [size >> level for level in range(len(multipliers))]
        width = channels * multipliers[0]
        net.enc = nn.ModuleDict({f"{size}x{size}_conv": EdmConv(3, width, 3)})
        waiting = [width]
        for level, (side, multiplier) in enumerate(zip(sides, multipliers, strict=True)):
            if level:
                net.enc[f"{side}x{side}_down"] = EdmBlock(width, width, embedding, resize="down")
                waiting.append(width)
            for index in range(blocks):
                outer = channels * multiplier
                net.enc[f"{side}x{side}_block{index}"] = EdmBlock(
                    width, outer, embedding, side in attention
                )
                width = outer
                waiting.append(width)
        low = f"{sides[-1]}x{sides[-1]}"
        net.dec = nn.ModuleDict(
            {f"{low}_in{i}": EdmBlock(width, width, embedding, i == 0) for i in range(2)}
        )
        for level, side in reversed(list(enumerate(sides))):
            if level + 1 < len(sides):
                net.dec[f"{side}x{side}_up"] = EdmBlock(width, width, embedding, resize="up")
            for index in range(blocks + 1):
                outer = channels * multipliers[level]
                block = EdmBlock(width + waiting.pop(), outer, embedding, side in attention)
                net.dec[f"{side}x{side}_block{index}"] = block
                width = outer
        net.out_norm = nn.GroupNorm(32, width)
        net.out_conv = EdmConv(width, 3, 3)

    def network(self, x: Tensor, noise: Tensor, label: Tensor | None = None) -> Tensor:
        net = self.model
        cosines, sines = sinusoids(noise, self.channels, self.channels // 2)
        embedding = net.map_layer1(F.silu(net.map_layer0(torch.cat([cosines, sines], dim=1))))
        if label is not None:
            embedding = embedding + net.map_label(
                F.one_hot(label, net.map_label.in_features).float()
            )
        embedding = F.silu(embedding)
        waiting = []
        for layer in net.enc.values():
            x = layer(x, embedding) if isinstance(layer, EdmBlock) else layer(x)
            waiting.append(x)
        for layer in net.dec.values():
            x = layer(
                x if x.shape[1] == layer.inner else torch.cat([x, waiting.pop()], dim=1), embedding
            )
        return net.out_conv(F.silu(net.out_norm(x)))

    def forward(
        self, x: Tensor, sigma: Tensor, label: Tensor | None = None, data: float = 0.5
    ) -> Tensor:
        """The clean estimate D(x; σ)."""
        s = sigma[:, None, None, None]
        inner = self.network(x / torch.sqrt(s**2 + data**2), sigma.log() / 4, label)
        return data**2 / (s**2 + data**2) * x + s * data / torch.sqrt(s**2 + data**2) * inner


class DdpmppBlock(nn.Module):
    """Residual sums, and those of attention with one head behind them, are divided by √2."""

    def __init__(
        self, inner: int, outer: int, embedding: int, attends: bool = False, resize: str = ""
    ) -> None:
        super().__init__()
        self.inner = inner
        self.attends = attends
        self.norm0 = nn.GroupNorm(32, inner, eps=1e-6)
        self.norm1 = nn.GroupNorm(32, outer, eps=1e-6)
        self.conv0 = EdmConv(inner, outer, 3, resize)
        self.conv1 = EdmConv(outer, outer, 3)
        self.affine = nn.Linear(embedding, outer)
        if inner != outer or resize:
            self.skip = EdmConv(inner, outer, 1, resize)
        if attends:
            self.norm2 = nn.GroupNorm(32, outer, eps=1e-6)
            self.qkv = EdmConv(outer, 3 * outer, 1)
            self.proj = EdmConv(outer, outer, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv0(F.silu(self.norm0(x))) + self.affine(embedding)[..., None, None]
        h = self.conv1(F.silu(self.norm1(h)))
        x = (h + (self.skip(x) if hasattr(self, "skip") else x)) / math.sqrt(2)
        if not self.attends:
            return x
        alternating = self.qkv(self.norm2(x)).flatten(2)
        q, k, v = (alternating[:, None, part::3] for part in range(3))
        return (x + self.proj(attend(q, k, v).reshape(x.shape))) / math.sqrt(2)


class DdpmppNetwork(nn.Module):
    """DDPM++ (Song et al. 2021, arXiv 2011.13456) as EDM has it (Karras et al. 2022, arXiv
    2206.00364, table 7), inside its preconditioning, with the published CIFAR-10 network's sizes
    unless others are given."""

    def __init__(
        self,
        size: int = 32,
        channels: int = 128,
        multipliers: tuple = (2, 2, 2),
        blocks: int = 4,
        attention: tuple = (16,),
        classes: int = 0,
        augmented: bool = True,
    ) -> None:
        super().__init__()
        self.model = net = nn.Module()
        self.channels = channels
        embedding = 4 * channels
        net.map_layer0 = nn.Linear(channels, embedding)
        net.map_layer1 = nn.Linear(embedding, embedding)
        if classes:
            net.map_label = nn.Linear(classes, channels)
        if augmented:
            net.map_augment = nn.Linear(9, channels, bias=False)
        sides = [size >> level for level in range(len(multipliers))]
        width = channels
        waiting = [channels]
        net.enc = nn.ModuleDict({f"{size}x{size}_conv": EdmConv(3, channels, 3)})
        net.dec = nn.ModuleDict()
        for side, multiplier in zip(sides, multipliers, strict=True):
            if side != size:
                net.enc[f"{side}x{side}_down"] = DdpmppBlock(width, width, embedding, resize="down")
                waiting.append(width)
            for index in range(blocks):
                outer = channels * multiplier
                net.enc[f"{side}x{side}_block{index}"] = DdpmppBlock(
                    width, outer, embedding, side in attention
                )
                width = outer
                waiting.append(width)
        for index in range(2):
            net.dec[f"{side}x{side}_in{index}"] = DdpmppBlock(
                width, width, embedding, attends=index == 0
            )
        for side, multiplier in zip(sides[::-1], multipliers[::-1], strict=True):
            if side != sides[-1]:
                net.dec[f"{side}x{side}_up"] = DdpmppBlock(width, width, embedding, resize="up")
            for index in range(blocks + 1):
                inner = width + waiting.pop()
                width = channels * multiplier
                attends = side in attention and index == blocks
                net.dec[f"{side}x{side}_block{index}"] = DdpmppBlock(
                    inner, width, embedding, attends
                )
        net.dec[f"{size}x{size}_aux_norm"] = nn.GroupNorm(32, width, eps=1e-6)
        net.dec[f"{size}x{size}_aux_conv"] = EdmConv(width, 3, 3)

    def network(self, x: Tensor, noise: Tensor, label: Tensor | None = None) -> Tensor:
        net = self.model
        cosines, sines = sinusoids(noise, self.channels, self.channels // 2 - 1)
        embedding = torch.cat([sines, cosines], dim=1)
        if label is not None:
            classes = net.map_label.in_features
            embedding = embedding + net.map_label(
                math.sqrt(classes) * F.one_hot(label, classes).float()
            )
        embedding = F.silu(net.map_layer1(F.silu(net.map_layer0(embedding))))
        waiting = []
        for layer in net.enc.values():
            x = layer(x, embedding) if isinstance(layer, DdpmppBlock) else layer(x)
            waiting.append(x)
        for layer in net.dec.values():
            if isinstance(layer, DdpmppBlock):
                x = layer(
                    x if x.shape[1] == layer.inner else torch.cat([x, waiting.pop()], dim=1),
                    embedding,
                )
            else:
                x = F.silu(layer(x)) if isinstance(layer, nn.GroupNorm) else layer(x)
        return x

    def forward(
        self, x: Tensor, sigma: Tensor, label: Tensor | None = None, data: float = 0.5
    ) -> Tensor:
        """The clean estimate D(x; σ)."""
        s = sigma[:, None, None, None]
        inner = self.network(x / torch.sqrt(s**2 + data**2), sigma.log() / 4, label)
        return data**2 / (s**2 + data**2) * x + s * data / torch.sqrt(s**2 + data**2) * inner
