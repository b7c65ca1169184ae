"""Limits set by a device's memory: the size of the network's tiles, and where a picture lies."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from restore.backbone import BackboneConfig
from restore.diffusion.denoiser import Denoiser
from restore.errors import BadArgument
from restore.runtime.devices import HOST, free_memory, likes_batches, used_memory

# Sides of tiles in pixels. Below, most of a tile is overlap; above, nothing is gained.
SMALLEST_TILE = 128
LARGEST_TILE = 2048

# Pixels of all tiles or pictures in one call of the network, which keep a GPU busy.
BATCH_PIXELS = 2048**2

# Fraction of the free memory that is used; the rest is for other programs, and for fragmentation.
SHARE = 0.8

# Memory of a solver for each pixel of the result (measured in docs/large-pictures.md).
SOLVER_BYTES = 256

# Peak memory of a call of the network over the tensors that its layout needs: convolutions copy
# them into other memory formats (measured in docs/large-pictures.md).
WORKSPACE = 1.5

# Factors of the units of a memory size.
_UNITS = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
}


@dataclass(frozen=True)
class Budget:
    """The memory of a device for a picture and the network's passes over it.

    A picture lies on the device if what a solver needs for it, `SOLVER_BYTES` for each pixel, is at
    most half of the memory; else it stays on the host, and tiles are copied. The network's calls
    get what a picture on the device leaves, and at least a quarter of the memory.

    Attributes:
        memory: Bytes.
        per_pixel: Bytes that a call of the network takes for each pixel, see `network_bytes`.
        batches: True if several tiles or pictures go through the network at once.
    """

    memory: int
    per_pixel: float
    batches: bool = False

    @classmethod
    def of(cls, denoise: Denoiser, limit: str | None = None) -> Budget:
        """Memory that is free on the network's device now, or what `limit` leaves of it.

        Args:
            limit: Limit of all that the program takes on the device, as for `parse_memory`.

        Raises:
            BadArgument: The limit cannot be read, or the program takes more already.
        """
        per_pixel = network_bytes(denoise.config.backbone, denoise.network.compute_dtype)
        return cls.on(denoise.device, per_pixel, limit)

    @classmethod
    def on(cls, device: torch.device, per_pixel: float, limit: str | None = None) -> Budget:
        """Memory that is free on a device now, see `of`, for any kind of network.

        Raises:
            BadArgument: The limit cannot be read, or the program takes more already.
        """
        memory = int(SHARE * free_memory(device))
        if limit is not None:
            taken = used_memory(device)
            if parse_memory(limit) <= taken:
                raise BadArgument(
                    f"`memory`={limit}: too little; the program takes {taken / 1e6:.0f} MB by "
                    "itself"
                )
            memory = min(memory, parse_memory(limit) - taken)

        return cls(memory, per_pixel, likes_batches(device))

    def place(self, pixels: int, device: torch.device) -> torch.device:
        """Device on which a picture of so many pixels lies during its restoration, or the host."""
        return device if SOLVER_BYTES * pixels <= self.memory // 2 else HOST

    def is_filled(self, pixels: int) -> bool:
        """Return True if a picture of so many pixels leaves no memory to waste."""
        return SOLVER_BYTES * pixels > self.memory // 4

    def tile(self, pixels: int) -> int:
        """Side of the tiles beside a picture of so many pixels on the device, in pixels."""
        side = int((self._left(pixels) / self.per_pixel) ** 0.5)
        return min(max(side, SMALLEST_TILE), LARGEST_TILE)

    def at_once(self, tile: int, pixels: int) -> int:
        """Number of pixels in one call of the network: one tile of that side, or a batch."""
        if not self.batches:
            return tile**2
        return max(tile**2, min(BATCH_PIXELS, int(self._left(pixels) / self.per_pixel)))

    def pictures(self, pixels: int, wanted: int | None = None) -> int:
        """Number of pictures of so many pixels that are restored together.

        They share the memory that one would have alone: together they lie where it would lie, and
        go through the network whole if it would.

        Args:
            pixels: Pixels of each picture.
            wanted: Largest number; None chooses one that suits the device.
        """
        if wanted is None:
            wanted = BATCH_PIXELS // pixels if self.batches else 1
        fitting = int(self.memory // 2 / max(SOLVER_BYTES, self.per_pixel)) // pixels
        return max(1, min(wanted, fitting))

    def _left(self, pixels: int) -> int:
        return max(self.memory - SOLVER_BYTES * pixels, self.memory // 4)


def network_bytes(config: BackboneConfig, dtype: torch.dtype) -> float:
    """Memory of a call of the network for each pixel of its input, in bytes, without the weights.

    The peak is at full resolution in the decoder, where features from below are concatenated to
    those of the first level: the concatenated features, their copy in `dtype` and two in float32,
    in which a norm computes, beside the skip connections of every level. The lean layout adds
    instead of concatenating, and has one skip connection a level.
    """
    widths = config.widths
    element = dtype.itemsize
    waiting = sum(width / 4**level for level, width in enumerate(widths))
    if config.layout == "lean":
        joined = 1.5 * widths[0]
    else:
        joined = widths[0] + widths[min(1, len(widths) - 1)]
        waiting = (config.blocks + 1) * waiting

    return WORKSPACE * (joined * (2 * element + 2 * 4) + waiting * element) / config.patch**2


def derivative_bytes(denoise: Denoiser) -> float:
    """Memory of a call and its gradient by the picture, in bytes for each pixel, without weights.

    What autograd keeps of the layers is counted on a small picture, or one of the only size that
    the network knows; the backward pass then takes about what a call takes. For the default model
    in float32 that is 3.0 kB; 2.7 were measured at 1024×1024, 3.9 at 512×512.
    """
    network = denoise.network
    side = denoise.config.size or 64
    weights = {
        tensor.untyped_storage().data_ptr()
        for tensor in (*network.parameters(), *network.buffers())
    }
    kept: dict[int, Tensor] = {}

    def count(tensor: Tensor) -> Tensor:
        if (place := tensor.untyped_storage().data_ptr()) not in weights:
            kept[place] = tensor  # held, so that no other takes its place
        return tensor

    shape = (1, denoise.config.backbone.image_channels, side, side)
    x = torch.zeros(shape, dtype=torch.float32, device=denoise.device, requires_grad=True)
    counted = torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor)

    with torch.enable_grad(), counted:
        denoise(x, 1.0)

    layers = sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) / side**2

    return layers + network_bytes(denoise.config.backbone, network.compute_dtype)


def parse_memory(text: str) -> int:
    """Parse a memory size like `4GB`, `500M` or `1.5GiB`.

    Returns:
        Bytes; K, M, G and T are powers of 1000, Ki, Mi, Gi and Ti powers of 1024.

    Raises:
        BadArgument: The text is no such size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?", text.strip().lower())
    if match is None or match[2] not in _UNITS or not float(match[1]):
        raise BadArgument(
            f"`memory`={text}: must be a number with a unit, as in 4GB, 500MB or 1.5GiB"
        )
    return int(float(match[1]) * _UNITS[match[2]])


def check_sizes(tile: int | None, memory: str | None) -> None:
    """Check the sizes that a user gives before anything is loaded.

    Args:
        tile: Side of the tiles in pixels.
        memory: As for `parse_memory`.

    Raises:
        BadArgument: The tile is too small to be of use, or the memory cannot be read.
    """
    if tile is not None and tile < SMALLEST_TILE:
        raise BadArgument(f"`tile`={tile}: must be at least {SMALLEST_TILE} pixels")
    if memory is not None:
        parse_memory(memory)
