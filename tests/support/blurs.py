"""Blurred pictures whose sharp ones are known."""

from __future__ import annotations

import numpy as np
import torch

from operators import convolution

NOISE = 0.01


def sharp(side: int, seed: int = 0) -> np.ndarray:
    """Rectangles of random size, place and colour, [3, side, side]."""
    rng = np.random.default_rng(seed)
    image = np.full((3, side, side), 0.5)
    for _ in range(150):
        top, left = rng.integers(-10, side, 2)
        height, width = rng.integers(4, side // 4, 2)
        image[:, max(0, top) : top + height, max(0, left) : left + width] = rng.random((3, 1, 1))

    return image


def blurred(kernel: np.ndarray, side: int = 128, seed: int = 0) -> np.ndarray:
    """The valid region of a blur, with noise."""
    whole = torch.from_numpy(sharp(side + 32, seed))[None]
    rows, columns = kernel.shape
    shape = (3, side + 33 - rows, side + 33 - columns)
    y = convolution(shape, kernel, "unknown", dtype=torch.float64).A(whole)[0].numpy()
    noisy = y + NOISE * np.random.default_rng(seed).standard_normal(y.shape)
    return noisy.clip(0, 1)[:, :side, :side]
