"""Random pieces of pictures for networks that see small squares, such as CLIP."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

# One in so many cut-outs shows the whole picture.
WHOLE_EVERY = 4
# The smallest side of a piece, as a fraction of the picture's shorter one, where the picture is
# hardly larger than what the network sees.
SMALLEST = 0.5
# Probability that a cut-out is mirrored, and that it has no colour.
MIRRORED = 0.5
GREY = 0.1


class Cutouts:
    """Random cut-outs of pictures, as in CLIP-guided diffusion (Disco Diffusion).

    An adversarial pattern for one view of a picture does not survive many random ones, so that the
    gradient of their mean is about what the picture shows. The pieces are squares of random side
    and place, some of them mirrored, some grey; one in `WHOLE_EVERY` is the whole picture.

    Args:
        count: Cut-outs of each picture in a call.
        side: Side of every cut-out in pixels.
        seed: Random seed. All pictures of a call have the same pieces, which depend on the seed and
            on the number of earlier calls alone.
    """

    def __init__(self, count: int, side: int, seed: int) -> None:
        self.count = count
        self.side = side
        self._random = torch.Generator().manual_seed(seed)

    def __call__(self, pictures: Tensor) -> Tensor:
        """Cut pieces out of pictures; differentiable.

        Args:
            pictures: [B, C, H, W] in [-1, 1].

        Returns:
            [count, B, C, side, side].
        """
        return torch.stack([self._piece(pictures, index) for index in range(self.count)])

    def _piece(self, pictures: Tensor, index: int) -> Tensor:
        chances = torch.rand(5, generator=self._random, dtype=torch.float64).tolist()
        if index % WHOLE_EVERY == 0:
            square = _padded(pictures)
        else:
            square = self._square(pictures, *chances[:3])

        piece = F.interpolate(
            square, size=(self.side, self.side), mode="bicubic", align_corners=False, antialias=True
        )
        if chances[3] < MIRRORED:
            piece = piece.flip(-1)
        if chances[4] < GREY:
            piece = piece.mean(dim=1, keepdim=True).expand_as(piece)

        return piece

    def _square(self, pictures: Tensor, size: float, down: float, right: float) -> Tensor:
        """Return a square, for three numbers in [0, 1) that say which."""
        height, width = pictures.shape[-2:]
        shortest = min(height, width)
        smallest = max(1, min(self.side, math.ceil(SMALLEST * shortest)))
        side = smallest + int(size * (shortest - smallest + 1))
        top = int(down * (height - side + 1))
        left = int(right * (width - side + 1))
        return pictures[..., top : top + side, left : left + side]


def _padded(pictures: Tensor) -> Tensor:
    """Extend pictures to squares by mid-grey on both sides."""
    height, width = pictures.shape[-2:]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    return F.pad(pictures, (left, side - width - left, top, side - height - top))
