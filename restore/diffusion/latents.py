"""The interface of an autoencoder: all that solvers and methods know of a latent space.

The denoiser of a latent diffusion model (Rombach et al. 2022, arXiv 2112.10752) has the interface
of any other (`restore.diffusion.protocol.Denoise`), over latents ``z = z0 + σ ε`` instead of
pictures. An operator A on pictures becomes ``A ∘ decode`` on latents, which is not linear.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Autoencoder(Protocol):
    """An encoder of pictures to latents, and the decoder back.

    Latents are in the units of the denoiser: shift and scale of the checkpoint are applied.

    Attributes:
        channels: Channels of a latent.
        factor: Side of a latent pixel in pixels of the picture, f.
    """

    channels: int
    factor: int

    def encode(self, pictures: Tensor) -> Tensor:
        """Return the latents of pictures, the mean of an encoder that draws them.

        Differentiable. Sides that the factor does not divide are extended by mirroring.

        Args:
            pictures: [B, 3, H, W] in [-1, 1].

        Returns:
            [B, channels, ⌈H/f⌉, ⌈W/f⌉], float32, of a few more pixels if the network needs them
            (`latent_size`).
        """

    def decode(self, latents: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the pictures of latents.

        Differentiable.

        Args:
            latents: [B, channels, h, w].
            size: (height, width) of the pictures, to which they are cropped.

        Returns:
            [B, 3, H, W], float32, in about [-1, 1].
        """

    def latent_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return (height, width) of the latents of pictures with a size (height, width)."""
