"""The autoencoder of a pipeline, for pictures of any size."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from restore.backbone import mirror_to_multiple
from restore.diffusion.latents import Autoencoder
from restore.runtime.tiling import Span, tiling

# Largest and smallest side of a tile in pixels, and the least overlap of neighbours. A gradient
# takes several times the memory of a call, and so half of the side.
TILE = 1024
SMALLEST = 256
OVERLAP = 128

# Copies of the widest features in a call, with what convolutions need (measured in docs/latent.md).
COPIES = 4


class PictureCodec(Autoencoder):
    """An autoencoder of diffusers, which computes in float32.

    Stable Diffusion XL's overflows in float16, and bfloat16 leaves 8 bits for what is to be a
    picture of 8 bits, so it is not used. Pictures of more pixels than a tile go through in
    overlapping tiles, blended as those of `restore.runtime.tiles`; a gradient through several tiles
    computes each once more, so that memory stays that of one.

    Args:
        network: ``AutoencoderKL`` or ``VQModel``.
        scale: Factor of the latents after the shift.
        shift: What is subtracted from the network's latents.
        tile: Side of a tile in pixels; None is `TILE`.
    """

    def __init__(
        self, network: Any, scale: float, shift: float = 0.0, tile: int | None = None
    ) -> None:
        config = network.config
        self.network = network
        self.channels = int(config.latent_channels)
        self.factor = 2 ** (len(config.block_out_channels) - 1)
        self.scale = scale
        self.shift = shift
        self.tile = tile or TILE

    @property
    def bytes_per_pixel(self) -> float:
        """Memory of a call for each pixel of a picture, in bytes.

        The peak is at full resolution, where features of the second width are turned into those of
        the first.
        """
        widths = self.network.config.block_out_channels
        return COPIES * 4 * (widths[0] + widths[min(1, len(widths) - 1)])

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.network.parameters()).device

    def within(self, memory: float) -> None:
        """Choose the largest tiles that fit a memory in bytes."""
        side = int((memory / self.bytes_per_pixel) ** 0.5) // self.factor * self.factor
        self.tile = min(max(side, SMALLEST), TILE)

    def latent_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return -(-size[0] // self.factor), -(-size[1] // self.factor)

    def encode(self, pictures: Tensor) -> Tensor:
        whole = mirror_to_multiple(pictures, self.factor)
        size = (whole.shape[-2], whole.shape[-1])
        latents = self._through(
            self._encoded, whole, size, self.channels, at_input=1, at_output=self.factor
        )
        return (latents - self.shift) * self.scale

    def decode(self, latents: Tensor, size: tuple[int, int]) -> Tensor:
        height, width = (side * self.factor for side in latents.shape[-2:])
        pictures = self._through(
            self._decoded,
            latents / self.scale + self.shift,
            (height, width),
            3,
            at_input=self.factor,
            at_output=1,
        )
        return pictures[..., : size[0], : size[1]]

    def _encoded(self, pictures: Tensor) -> Tensor:
        """Return what the network makes of pictures, the mean where it has a distribution."""
        answer = self.network.encode(pictures)
        if hasattr(answer, "latents"):
            return cast(Tensor, answer.latents)
        return cast(Tensor, answer.latent_dist.mode())

    def _decoded(self, latents: Tensor) -> Tensor:
        # MoVQ's decoder sees the latents themselves beside what it decodes
        plain = getattr(self.network.config, "norm_type", "") == "spatial"
        options = {"force_not_quantize": True} if plain else {}
        return cast(Tensor, self.network.decode(latents, **options).sample)

    def _through(
        self,
        network: Callable[[Tensor], Tensor],
        given: Tensor,
        size: tuple[int, int],
        channels: int,
        *,
        at_input: int,
        at_output: int,
    ) -> Tensor:
        """Send tensors through a network, in tiles if the pictures are larger than one.

        Args:
            network: Encoder or decoder.
            given: [B, C, h, w], of any device.
            size: (height, width) of the pictures, multiples of the factor.
            channels: Channels of the result.
            at_input: Pixels of the picture in a pixel of ``given``, along a side.
            at_output: The same of the result.
        """
        needs_gradient = given.requires_grad and torch.is_grad_enabled()
        side = self.tile // 2 if needs_gradient else self.tile
        rows, columns = tiling(*size, side**2, min(OVERLAP, side // 4), self.factor)
        if len(rows) == len(columns) == 1 and len(given) == 1:
            return network(given.to(self.device)).to(given.device)

        result = given.new_zeros(len(given), channels, size[0] // at_output, size[1] // at_output)
        for index, row, column in product(range(len(given)), rows, columns):
            part = given[index, None, :, _part(row, at_input), _part(column, at_input)]
            part = part.to(self.device)
            answer = (
                checkpoint(network, part, use_reentrant=False) if needs_gradient else network(part)
            )
            weight = _weights(row, column, at_output).to(given)
            place = (index, slice(None), _part(row, at_output), _part(column, at_output))
            result[place] = result[place] + weight * answer[0].to(given.device)

        return result


def _part(span: Span, pixels: int) -> slice:
    """Return a tile's extent along an axis in pixels that are so many of the picture wide."""
    return slice(span.start // pixels, span.stop // pixels)


def _weights(row: Span, column: Span, pixels: int) -> Tensor:
    """Return the weights of a tile, [h, w]; they sum to 1 over all tiles."""
    along = [
        torch.from_numpy(span.weights).reshape(-1, pixels).mean(dim=1) for span in (row, column)
    ]
    return along[0][:, None] * along[1]
