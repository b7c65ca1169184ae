"""Pictures of any size through an autoencoder, in tiles without seams."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from restore.latent.autoencoder import PictureCodec


class Local(nn.Module):
    """An autoencoder whose outputs depend on a neighbourhood of 12 pixels alone."""

    def __init__(self, factor: int = 4) -> None:
        super().__init__()
        self.factor = factor
        self.taps = nn.Parameter(torch.tensor([1.0, 2.0, 1.0]) / 4)
        self.config = SimpleNamespace(latent_channels=3, block_out_channels=(8, 8, 8))
        self.largest = 0

    def encode(self, pictures: Tensor) -> SimpleNamespace:
        self.largest = max(self.largest, pictures.shape[-1] * pictures.shape[-2])
        return SimpleNamespace(latents=F.avg_pool2d(self._smooth(pictures), self.factor))

    def decode(self, latents: Tensor) -> SimpleNamespace:
        self.largest = max(self.largest, latents[0, 0].numel() * self.factor**2)
        scaled = F.interpolate(latents, scale_factor=self.factor, mode="nearest")
        return SimpleNamespace(sample=self._smooth(scaled))

    def _smooth(self, x: Tensor) -> Tensor:
        kernel = (self.taps[:, None] * self.taps).expand(3, 1, 3, 3)
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel, groups=3)


def test_tiles_have_no_seams():
    """Tiles of a local autoencoder give what the whole picture of white noise gives, but for a
    hundredth of what the last pixel of a tile lacks; no call sees more than a tile.
    """
    pictures = torch.randn(2, 3, 150, 203, generator=torch.Generator().manual_seed(0))
    whole, tiled = (PictureCodec(Local(), 0.5, 0.1, tile=side) for side in (1024, 64))
    latents = whole.encode(pictures)
    assert latents.shape == (2, 3, 38, 51)
    torch.testing.assert_close(tiled.encode(pictures), latents, atol=1e-2, rtol=0)
    decoded = whole.decode(latents, (150, 203))
    assert decoded.shape == pictures.shape
    torch.testing.assert_close(tiled.decode(latents, (150, 203)), decoded, atol=2e-2, rtol=0)
    assert tiled.network.largest <= 64**2


def test_gradients_go_through_tiles():
    latents = torch.randn(1, 3, 30, 30, generator=torch.Generator().manual_seed(1))
    found = []
    for side in (1024, 64):
        z = latents.clone().requires_grad_()
        weights = torch.linspace(0, 1, 120)
        (PictureCodec(Local(), 1.0, tile=side).decode(z, (120, 120)) * weights).sum().backward()
        found.append(z.grad)
    assert float((found[0] - found[1]).norm() / found[0].norm()) < 0.01


@pytest.mark.parametrize("size", [(64, 64), (61, 33), (1, 5)])
def test_sizes(size):
    codec = PictureCodec(Local(), 2.0)
    latents = codec.encode(torch.zeros(1, 3, *size))
    assert tuple(latents.shape[-2:]) == codec.latent_size(size)
    assert codec.latent_size(size) == (-(-size[0] // 4), -(-size[1] // 4))
    assert codec.decode(latents, size).shape == (1, 3, *size)
