"""Small pictures, in memory and on disk, and how a run of the command ended."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

FIXTURES = Path(__file__).parents[1] / "fixtures"


class Outcome(NamedTuple):
    """How a run of the command ended."""

    code: int
    out: str
    err: str


def piece(size: tuple[int, int] = (24, 16), crop: str = "a") -> Image.Image:
    """The middle of a fixture, RGB."""
    photo = _photo(crop)
    left = (photo.width - size[0]) // 2
    top = (photo.height - size[1]) // 2
    return photo.crop((left, top, left + size[0], top + size[1]))


@cache
def _photo(crop: str) -> Image.Image:
    return Image.open(FIXTURES / f"crop_{crop}.png").convert("RGB")


def in_mode(image: Image.Image, mode: str) -> Image.Image:
    """The picture in another mode; an alpha rises from left to right."""
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    if mode.endswith("A"):
        opacity = np.tile(np.linspace(0, 255, image.width).astype(np.uint8), (image.height, 1))
        image = image.convert(mode)
        image.putalpha(Image.fromarray(opacity))
        return image
    return image.convert(mode)


def pixels_16bit(size: tuple[int, int], crop: str = "a") -> np.ndarray:
    """A piece of a fixture with noise in the lower byte: far more levels than 8 bits have."""
    low = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3))
    return (np.asarray(piece(size, crop)).astype(int) * 256 + low).astype(np.uint16)


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes, but for manifests."""
    found = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "restore.jsonl")
    return {str(p.relative_to(folder)): p.read_bytes() for p in found}
