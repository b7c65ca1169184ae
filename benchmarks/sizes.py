"""Measure whether quality depends on the picture's size, and on tiles.

    python benchmarks/sizes.py KODAK

The same content is restored in pictures of 128, 512 and 1600 pixels, and through tiles. A large
measurement is cut into pieces, each is restored alone, and every piece is compared with the same
part of the large result on the same pixels: those further than MARGIN from the piece's border,
since a piece lacks the information beyond its border.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from operators import downsample
from restore import Restorer
from restore.jobs.walk import pictures_in
from restore.photo.photograph import SUFFIXES, read_photo
from restore.runtime.devices import keep_freed_memory

SIDE = 1600
PART = 400
SCALE = 4
NOISE = 25 / 255
MARGIN = 32
SIDES = (128, 512)
TILES = (256, 512)

Restore = Callable[[Tensor], Tensor]


def mosaic(folder: Path) -> Tensor:
    """Put the middles of 16 pictures together: [1, 3, 1600, 1600] in [0, 1]."""
    parts: list[Tensor] = []
    for path in pictures_in(folder, SUFFIXES):
        pixels = (
            torch.from_numpy(np.ascontiguousarray(read_photo(path).pixels)).float().permute(2, 0, 1)
        )
        top, left = ((side - PART) // 2 for side in pixels.shape[1:])
        parts.append(pixels[:, top : top + PART, left : left + PART])

    across = SIDE // PART
    if len(parts) < across**2:
        raise SystemExit(f"{folder}: {across**2} pictures are needed, of at least {PART} pixels")

    rows = [torch.cat(parts[i : i + across], dim=2) for i in range(0, across**2, across)]

    return torch.cat(rows, dim=1)[None]


def problems(truth: Tensor, restorer: Restorer) -> Iterator[tuple[str, int, Tensor, Restore]]:
    """Yield name, scale, measurement and method of each problem."""
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    noisy = (truth + NOISE * noise).clamp(0, 1).mul(255).round() / 255
    yield "denoise 25", 1, noisy, lambda y: restorer.denoise(y, NOISE, method="one-step")
    small = downsample(tuple(truth.shape[1:]), SCALE).A(truth).clamp(0, 1).mul(255).round() / 255
    yield "sr ×4, one step", SCALE, small, lambda y: restorer.sr(y, SCALE, method="one-step")


def psnr(error: Tensor) -> float:
    return float(-10 * error.square().mean().log10())


def pieces(size: int, side: int) -> Iterator[tuple[slice, slice]]:
    starts = range(0, size - side + 1, side)
    for top in starts:
        for left in starts:
            yield slice(top, top + side), slice(left, left + side)


def in_pieces(
    truth: Tensor, whole: Tensor, y: Tensor, scale: int, side: int, restore: Restore
) -> tuple[float, float]:
    """Return the PSNR of pieces of this side, and of the whole on the same pixels."""
    inside = (..., slice(MARGIN, side - MARGIN), slice(MARGIN, side - MARGIN))
    alone = []
    together = []

    for rows, columns in pieces(SIDE, side):
        part = (..., *(slice(s.start // scale, s.stop // scale) for s in (rows, columns)))
        expected = truth[..., rows, columns]
        alone.append((restore(y[part]) - expected)[inside])
        together.append((whole[..., rows, columns] - expected)[inside])

    return psnr(torch.stack(alone)), psnr(torch.stack(together))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="default")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    keep_freed_memory()
    restorer = Restorer(arguments.model, arguments.device)
    truth = mosaic(arguments.folder)
    print(
        "| problem | | PSNR | the whole on the same pixels | difference |\n|---|---|---:|---:|---:|"
    )

    for name, scale, y, restore in problems(truth, restorer):
        restorer.denoiser.tile = SIDE
        whole = restore(y)
        for side in SIDES:
            alone, together = in_pieces(truth, whole, y, scale, side, restore)
            print(
                f"| {name} | pieces of {side} | {alone:.3f} | {together:.3f} | "
                f"{alone - together:+.3f} |",
                flush=True,
            )
        for tile in TILES:
            restorer.denoiser.tile = tile
            alone = psnr(restore(y) - truth)
            together = psnr(whole - truth)
            print(
                f"| {name} | tiles of {tile} | {alone:.3f} | {together:.3f} | "
                f"{alone - together:+.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
