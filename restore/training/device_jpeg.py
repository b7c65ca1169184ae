"""JPEG compression of many pictures at once, each of its own quality, as `operators.Jpeg`."""

from __future__ import annotations

import torch
from torch import Tensor

from operators.jpeg import Jpeg, JpegTables, jpeg_tables


class JpegFiles:
    """JPEG compression followed by decompression.

    Args:
        device: Where the pictures are.
    """

    def __init__(self, device: torch.device) -> None:
        tables = jpeg_tables(range(1, 101))
        self._tables = JpegTables(*(table.float().to(device) for table in tables))
        self._full, self._halved = (
            Jpeg(50, chroma).float().to(device) for chroma in ("4:4:4", "4:2:0")
        )

    def __call__(self, pictures: Tensor, quality: Tensor, halved: Tensor) -> Tensor:
        """Compress and decompress pictures.

        Args:
            pictures: [B, 3, H, W] in [0, 1].
            quality: int64 [B] from 1 to 100.
            halved: bool [B], True for chroma of half the size (4:2:0) instead of full size (4:4:4).

        Returns:
            [B, 3, H, W]
        """
        size = (pictures.shape[-2], pictures.shape[-1])
        choose = halved[:, None, None, None]
        tables = JpegTables(*(table[quality - 1] for table in self._tables))

        planes = self._halved.to_planes(pictures)
        luma = self._full.stored(planes[:, :1], tables.luma)
        full = self._full.stored(planes[:, 1:], tables.chroma)
        small = self._halved.stored(self._halved.reduced(planes[:, 1:]), tables.chroma)
        chroma = torch.where(
            choose, self._halved.enlarged(small, size), self._full.enlarged(full, size)
        )

        return self._full.to_picture(luma, chroma, size)
