"""A linear autoencoder, whose latents have a posterior in closed form, and a model of latents."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from restore.backbone import mirror_to_multiple
from restore.diffusion.protocol import Condition, DenoiserLike, Prediction
from restore.diffusion.schedule import NoiseSchedule

# Rows: mean, horizontal, vertical and diagonal differences of 2x2 pixels.
HAAR = torch.tensor([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2


class HaarAutoencoder:
    """Some coefficients of the orthonormal Haar wavelet, f = 2.

    ``decode(z) = scale W z`` with orthonormal columns W, and ``encode(x)`` is the nearest latent.

    Args:
        colors: Channels of pictures.
        channels: Channels of latents: first the means of all colours, then the differences.
        scale: Length of the picture of a latent of length 1.
    """

    factor = 2

    def __init__(self, colors: int = 1, channels: int = 1, scale: float = 0.8) -> None:
        self.channels = channels
        self.scale = scale
        rows = torch.einsum("kp,cd->kcdp", HAAR, torch.eye(colors)).reshape(-1, colors, 2, 2)
        self.filters = rows[:channels]

    def encode(self, pictures: Tensor) -> Tensor:
        even = mirror_to_multiple(pictures, 2)
        return F.conv2d(even, self.filters, stride=2) / self.scale

    def decode(self, latents: Tensor, size: tuple[int, int]) -> Tensor:
        pictures = F.conv_transpose2d(self.scale * latents, self.filters, stride=2)
        return pictures[..., : size[0], : size[1]]

    def latent_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return -(-size[0] // 2), -(-size[1] // 2)


class WhiteLatents(DenoiserLike):
    """The exact denoiser of latents that are white noise of variance 1, of colour pictures."""

    config = None
    predictor = None
    conditional = bridge = enlarges_only = predicts_noise = False
    prior = True
    distilled_levels = None
    schedule = NoiseSchedule.named("linear")
    device = torch.device("cpu")

    def __init__(self) -> None:
        self.autoencoder = HaarAutoencoder(colors=3, channels=6, scale=0.2)
        self.calls: list[torch.Size] = []

    def __call__(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Prediction:
        self.calls.append(x.shape)
        clean = x / (1 + sigma**2)
        return Prediction(clean, (x - clean) / sigma)

    def of_class(self, label: int | None) -> WhiteLatents:
        return self
