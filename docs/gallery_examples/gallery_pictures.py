"""The photograph of the gallery, its figures, and PSNR."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

PARROTS = Path(__file__).parents[2] / "examples" / "parrots.png"
# Upper left corners of the heads, (x, y).
CORNERS = {"left": (12, 31), "right": (96, 20)}
# Width of a picture in a figure, in inches.
WIDTH = 2.3


def photograph(parrot: str = "left", side: int = 96) -> Image.Image:
    """Return a square crop of examples/parrots.png with the head of a parrot, left or right."""
    x, y = CORNERS[parrot]
    return Image.open(PARROTS).convert("RGB").crop((x, y, x + side, y + side))


def middle(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return the middle of a picture, of a size (width, height)."""
    left, top = (picture.width - size[0]) // 2, (picture.height - size[1]) // 2
    return picture.crop((left, top, left + size[0], top + size[1]))


def psnr(picture: Any, truth: Any) -> float:
    """Return the PSNR of a picture in dB, peak 1."""
    error = pixels(picture) - pixels(truth)
    return float(-10 * np.log10(np.mean(error**2)))


def compare(pictures: Mapping[str, Any], truth: Any, columns: int = 4) -> None:
    """Show pictures beside the truth, those of its size with their PSNR.

    Args:
        pictures: by title.
        truth: the original, shown last.
        columns: number of pictures in a row.
    """
    titles = {}
    for title, picture in pictures.items():
        same = pixels(picture).shape == pixels(truth).shape
        titles[f"{title}\n{psnr(picture, truth):.1f} dB" if same else title] = picture

    show({**titles, "truth": truth}, columns)


def show(pictures: Mapping[str, Any], columns: int = 4) -> None:
    """Show pictures side by side, each in a square of the same size.

    Args:
        pictures: by title: PIL images, arrays [H, W, 3] or [H, W], or tensors [1, C, H, W].
        columns: number of pictures in a row.
    """
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    size = (columns * WIDTH, rows * (WIDTH + 0.45))
    _, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for axis, (title, picture) in zip(axes.flat, pictures.items(), strict=False):
        axis.imshow(pixels(picture).clip(0, 1), cmap="gray", vmin=0, vmax=1)
        axis.set_title(title, fontsize=9)

    if plt.get_backend().lower() != "agg":
        plt.show()


def pixels(picture: Any) -> NDArray[np.float64]:
    """Return a picture as an array [H, W, 3] or [H, W], white at 1."""
    if isinstance(picture, Tensor):
        channels = picture.detach().reshape(picture.shape[-3:])
        picture = channels.movedim(0, -1).squeeze(-1).numpy()
    array = np.asarray(picture)
    return array / 255.0 if array.dtype == np.uint8 else array.astype(np.float64)
