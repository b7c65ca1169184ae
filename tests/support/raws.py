"""Camera raws whose truth is known, from the writer of the benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from support.benchmark_scripts import benchmark
from support.pictures import piece

DNG: Any = benchmark("dng")
X_TRANS = ("GBGGRG", "RGRBGB", "GBGGRG", "GRGGBG", "BGBRGR", "GRGGBG")
# Mixes the colours of an example camera; rows sum to 1.
MATRIX = np.array([[1.6, -0.4, -0.2], [-0.2, 1.5, -0.3], [0.05, -0.55, 1.5]])


def camera(**changes: Any) -> Any:
    """An example camera, with a colour matrix and a white balance."""
    return DNG.Camera(**{"gains": (2.0, 1.0, 1.6), "to_srgb": MATRIX} | changes)


def light(size: tuple[int, int] = (48, 32)) -> np.ndarray:
    """A piece of a photograph as linear sRGB [H, W, 3]."""
    shown = np.asarray(piece(size)) / 255
    return np.where(shown <= 0.04045, shown / 12.92, ((shown + 0.055) / 1.055) ** 2.4)


def raw_file(path: Path, size: tuple[int, int] = (48, 32), **changes: Any) -> Path:
    """Write a DNG of a photograph; tags are changed by ``tag_NUMBER``, the camera by its fields."""
    tags = {name: changes.pop(name) for name in tuple(changes) if name.startswith("tag_")}
    own = camera(**changes)
    path.parent.mkdir(parents=True, exist_ok=True)
    return own.write(path, own.exposed(light(size)), **tags)
