"""What a device's memory allows: how large the network's tiles are, and where the picture itself
lies.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from restore.backbone import BackboneConfig
from restore.diffusion.denoiser import Denoiser
from restore.errors import BadArgument
from restore.runtime.devices import HOST, free_memory, likes_batches, used_memory

SMALLEST_TILE, LARGEST_TILE = 128, 2048
"""Sides in pixels. Below, most of a tile is overlap; above, nothing is gained."""

BATCH_PIXELS = 2048**2
"""Of all tiles, or pictures, in one call of the network: a GPU has enough to do with so many."""

SHARE = 0.8
"""Of the free memory: the rest is for what others take meanwhile, and for fragments."""

SOLVER_BYTES = 256
"""Of a solver for each pixel of the result (docs/large-pictures.md has the measurements)."""

WORKSPACE = 1.5
"""What a call of the network takes at its peak over the tensors that its layout needs: convolutions
copy them into orders that suit them (docs/large-pictures.md has the measurements)."""

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
    most half of the memory; else it stays on the host, and tiles travel. The network's calls get
    what a picture on the device leaves, and a quarter of the memory at least.

    Attributes:
        memory: bytes.
        per_pixel: bytes that a call of the network takes for each pixel, see `network_bytes`.
        batches: whether several tiles or pictures go through the network at once.
    """

    memory: int
    per_pixel: float
    batches: bool = False

    @classmethod
    def of(cls, denoise: Denoiser, limit: str | None = None) -> Budget:
        """What is free on the network's device now, or what ``limit`` leaves of it.

        Args:
            limit: of all that the program takes on the device, as for `parse_memory`.

        Raises:
            BadArgument: a limit that cannot be read, or that is below what the program takes
                already.
        """
        device = denoise.device
        memory = int(SHARE * free_memory(device))
        if limit is not None:
            taken = used_memory(device)
            if parse_memory(limit) <= taken:
                raise BadArgument(
                    f"`memory`={limit}: too little; the program takes {taken / 1e6:.0f} MB by "
                    "itself"
                )
            memory = min(memory, parse_memory(limit) - taken)

        per_pixel = network_bytes(denoise.config.backbone, denoise.network.compute_dtype)

        return cls(memory, per_pixel, likes_batches(device))

    def place(self, pixels: int, device: torch.device) -> torch.device:
        """Where a picture of so many pixels lies during its restoration: on the device, or on the
        host.
        """
        return device if SOLVER_BYTES * pixels <= self.memory // 2 else HOST

    def is_filled(self, pixels: int) -> bool:
        """Whether a picture of so many pixels takes so much of the memory that none may be
        wasted.
        """
        return SOLVER_BYTES * pixels > self.memory // 4

    def tile(self, pixels: int) -> int:
        """Side of the tiles beside a picture of so many pixels on the device."""
        side = int((self._left(pixels) / self.per_pixel) ** 0.5)
        return min(max(side, SMALLEST_TILE), LARGEST_TILE)

    def at_once(self, tile: int, pixels: int) -> int:
        """How many pixels go through the network at once: one tile of that side, or as many as a
        batch may have.
        """
        if not self.batches:
            return tile**2
        return max(tile**2, min(BATCH_PIXELS, int(self._left(pixels) / self.per_pixel)))

    def pictures(self, pixels: int, wanted: int | None = None) -> int:
        """How many pictures of so many pixels are restored together.

        They share the memory that each would have alone: together they lie where it would lie, and
        go through the network whole if it would.

        Args:
            wanted: at most so many; None is what the device likes.
        """
        if wanted is None:
            wanted = BATCH_PIXELS // pixels if self.batches else 1
        fitting = int(self.memory // 2 / max(SOLVER_BYTES, self.per_pixel)) // pixels
        return max(1, min(wanted, fitting))

    def _left(self, pixels: int) -> int:
        return max(self.memory - SOLVER_BYTES * pixels, self.memory // 4)


def network_bytes(config: BackboneConfig, dtype: torch.dtype) -> float:
    """Memory that a call of the network takes for each pixel of its input, in bytes, weights aside.

    The peak is at full resolution on the way up, where what comes from below is joined to the first
    level's features: the joined features, their copy in ``dtype`` and two in float32, in which a
    norm computes, beside the features of every level that wait for the way up. The lean layout adds
    instead of joining, and only one set a level waits.
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
    """Memory of a call that is differentiated by its picture, in bytes for each pixel, weights
    aside.

    What autograd keeps of the layers is counted on a small picture, or one of the only size that
    the network knows; the way back then takes about what a call takes. Of the default model in
    float32 that is 3.0 kB; 2.7 were measured at 1024×1024, 3.9 at 512×512.
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

    x = torch.zeros(
        1,
        denoise.config.backbone.image_channels,
        side,
        side,
        device=denoise.device,
        requires_grad=True,
    )

    with (
        torch.enable_grad(),
        torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor),
    ):
        denoise(x, 1.0)

    layers = sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) / side**2

    return layers + network_bytes(denoise.config.backbone, network.compute_dtype)


def parse_memory(text: str) -> int:
    """``4GB``, ``500M``, ``1.5GiB`` in bytes: K, M, G, T are powers of 1000, Ki, Mi, Gi, Ti powers
    of 1024.

    Raises:
        BadArgument: anything else.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?", text.strip().lower())
    if match is None or match[2] not in _UNITS or not float(match[1]):
        raise BadArgument(
            f"`memory`={text}: must be a number with a unit, as in 4GB, 500MB or 1.5GiB"
        )
    return int(float(match[1]) * _UNITS[match[2]])


def check_sizes(tile: int | None, memory: str | None) -> None:
    """Look at what can be judged before anything is loaded.

    Raises:
        BadArgument: a tile that is too small to be of use, or a memory that cannot be read.
    """
    if tile is not None and tile < SMALLEST_TILE:
        raise BadArgument(f"`tile`={tile}: must be at least {SMALLEST_TILE} pixels")
    if memory is not None:
        parse_memory(memory)
