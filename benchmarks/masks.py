"""Measure the methods of inpainting by the mask: scattered pixels, lines, dots and squares.

    RESTORE_LPIPS_TRUNK=alexnet_features.safetensors \\
    python benchmarks/masks.py CID22_VAL [--methods ddrm dpir] [--steps 20] [--noise 0.1]

Each picture has a mask of its own. The distance of a mask is the largest from a missing pixel to a
known one, in pixels, the mean over the pictures.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from problems import load_pictures, random_strokes, to_tensor
from scipy.ndimage import distance_transform_edt

from restore.metrics.quality import load_lpips, psnr
from restore.restorer import Restorer
from restore.tasks import Inpainting

Random = np.random.Generator
Missing = NDArray[np.bool_]


def scattered(side: int, rng: Random, fraction: float) -> Missing:
    return np.asarray(rng.random((side, side)) < fraction)


def lines(side: int, rng: Random, width: int, count: int) -> Missing:
    drawn = np.zeros((side, side), np.uint8)
    for x0, y0, x1, y1 in rng.integers(0, side, (count, 4)).tolist():
        cv2.line(drawn, (x0, y0), (x1, y1), 1, width)
    return drawn > 0


def dots(side: int, rng: Random, radius: int, count: int) -> Missing:
    drawn = np.zeros((side, side), np.uint8)
    for x, y in rng.integers(0, side, (count, 2)).tolist():
        cv2.circle(drawn, (x, y), radius, 1, -1)
    return drawn > 0


def square(side: int, rng: Random, width: int) -> Missing:
    missing = np.zeros((side, side), bool)
    start = (side - width) // 2
    missing[start : start + width, start : start + width] = True
    return missing


MASKS: dict[str, Callable[[int, Random], Missing]] = {
    **{
        f"{f:.0%} scattered": partial(scattered, fraction=f)
        for f in (0.3, 0.5, 0.7, 0.8, 0.85, 0.9)
    },
    **{f"12 lines of {w}": partial(lines, width=w, count=12) for w in (1, 2, 3, 5)},
    "5 lines of 9": partial(lines, width=9, count=5),
    "4 lines of 15": partial(lines, width=15, count=4),
    **{f"120 dots, radius {r}": partial(dots, radius=r, count=120) for r in (1, 2, 4)},
    "20 dots, radius 8": partial(dots, radius=8, count=20),
    **{f"square of {w}": partial(square, width=w) for w in (16, 32, 64)},
    "strokes": lambda side, rng: random_strokes(side, side, rng),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=6, help="number of pictures, in name order")
    parser.add_argument("--size", type=int, default=144, help="the top-left square")
    parser.add_argument("--methods", nargs="+", default=["ddrm", "dpir"])
    parser.add_argument("--masks", nargs="+", choices=MASKS, default=list(MASKS), metavar="MASK")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--noise", type=float, default=0.0)
    a = parser.parse_args()
    loaded = load_pictures(a.folder, a.size, a.count).values()
    pictures = [to_tensor(one / np.float32(255)) for one in loaded]
    restorer = Restorer()
    lpips = load_lpips()

    print(f"| mask | distance | {' | '.join(a.methods)} |\n|---|---:|{'---|' * len(a.methods)}")
    for name in a.masks:
        missing = [MASKS[name](a.size, np.random.default_rng(i)) for i in range(len(pictures))]
        distance = np.mean([distance_transform_edt(one).max() for one in missing])
        cells = []
        for method in a.methods:
            found = []
            for index, (mask, truth) in enumerate(zip(missing, pictures, strict=True)):
                noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(index))
                task = Inpainting(mask, noise=a.noise)
                seen = (truth + a.noise * noise).clamp(0, 1)
                result = restorer.run(task, seen, method=method, steps=a.steps).mean.clamp(0, 1)
                found.append((float(psnr(result, truth)), float(lpips(result, truth))))
            near, far = np.mean(found, axis=0)
            cells.append(f"{near:.2f} / {far:.4f}")
        print(f"| {name} | {distance:.1f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
