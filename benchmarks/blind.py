"""Measure deblurring with an estimated kernel against the known kernel and against none.

    python benchmarks/blind.py FOLDER --count 4 --crop 192
    python benchmarks/blind.py FOLDER --count 4 --crop 192 --kernels shakes

Crops are blurred by eight kernels as by a camera, which sees beyond the border, and get noise and
rounding to 8 bits. PSNR is that of the best whole shift of at most `SHIFT` pixels, since kernel and
picture may shift against each other; `SHIFT` pixels at the border do not count.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np
import torch
from problems import EightBit, load_pictures, to_tensor
from torch import Tensor

import operators
from restore import Restorer
from restore.metrics.quality import psnr
from restore.tasks import Deblurring

NOISE = 0.01
SHIFT = 3

# Pixels that the largest kernel needs beyond a crop.
MARGIN = 32

KERNELS = {
    "none": "box:1",
    "Gaussian σ 1": "gaussian:1",
    "Gaussian σ 2": "gaussian:2",
    "Gaussian σ 3": "gaussian:3",
    "motion 9 px at 20°": "motion:9:20",
    "motion 15 px at 75°": "motion:15:75",
    "motion 21 px at 130°": "motion:21:130",
    "disk of radius 3": "disk:3",
    "disk of radius 5": "disk:5",
}

# Paths of a shaken camera: lengths in pixels and seeds.
SHAKES = {
    f"shake of {length} px": f"shake:{length}:{seed}"
    for seed, length in enumerate((15, 17, 19, 21, 23, 25, 28, 31), start=1)
}

SETS = {"shapes": KERNELS, "shakes": SHAKES}


class Row(NamedTuple):
    """PSNR of one blurred crop.

    Attributes:
        kernel: name of the kernel.
        picture: name of the crop's file.
        blurred: of the input.
        blind: with the estimated kernel.
        known: with the true kernel.
        found: the estimate as text; empty if none was applied.
    """

    kernel: str
    picture: str
    blurred: float
    blind: float
    known: float
    found: str


def measure(
    folder: Path, count: int, crop: int, kernels: dict[str, str], options: dict[str, object]
) -> Iterator[Row]:
    """Yield a row for every kernel and crop."""
    restorer = Restorer()
    for name, picture in load_pictures(folder, crop + MARGIN, count).items():
        for kernel, text in kernels.items():
            truth, blurred = blur(picture, text, crop, zlib.crc32(f"{name} {kernel}".encode()))
            known = restorer.run(Deblurring(text), blurred, **options).mean
            unknown = "auto:free-form" if kernel in SHAKES else "auto"
            blind = restorer.run(Deblurring(unknown), blurred, **options)
            finding = blind.report.kernels[0]
            yield Row(
                kernel,
                name,
                *(aligned_psnr(one, truth) for one in (blurred, blind.mean, known)),
                f"{finding.kernel} ({finding.evidence:.0f})" if finding.applied else "",
            )


def blur(picture: EightBit, kernel: str, crop: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return a crop and what a camera makes of it, [1, 3, crop, crop] in [0, 1]."""
    whole = to_tensor(picture.astype(np.float32) / 255)
    operator = operators.parse(f"blur:{kernel}:boundary=unknown").operator_for((3, crop, crop))
    rows, columns = operator.input_shape[1:]
    top, left = (whole.shape[-2] - rows) // 2, (whole.shape[-1] - columns) // 2
    seen = whole[..., top : top + rows, left : left + columns]
    noise = NOISE * torch.randn(1, 3, crop, crop, generator=torch.Generator().manual_seed(seed))
    blurred = (operator.A(seen) + noise).clamp(0, 1)

    return operator.visible(seen), (blurred * 255).round() / 255


def aligned_psnr(found: Tensor, truth: Tensor) -> float:
    """Return the PSNR of the best shift of at most `SHIFT` pixels, without the border."""
    height, width = truth.shape[-2:]
    inside = truth[..., SHIFT : height - SHIFT, SHIFT : width - SHIFT]
    rows, columns = inside.shape[-2:]
    shifted = (
        found[..., y : y + rows, x : x + columns]
        for y, x in product(range(2 * SHIFT + 1), repeat=2)
    )
    return max(float(psnr(one, inside)) for one in shifted)


def show(rows: list[Row]) -> None:
    """Print the table, and what of the known kernel's gain is recovered."""
    print("| kernel | input | estimated kernel | known kernel | gain recovered | largest loss |")
    print("|---|---|---|---|---|---|")
    for kernel in dict.fromkeys(row.kernel for row in rows):
        own = [row for row in rows if row.kernel == kernel]
        _line(kernel, own)
    _line("mean of the blurred", [row for row in rows if row.kernel != "none"])


def _line(name: str, rows: list[Row]) -> None:
    blurred, blind, known = (
        fmean(values) for values in zip(*((r.blurred, r.blind, r.known) for r in rows), strict=True)
    )
    share = f"{100 * (blind - blurred) / (known - blurred):.0f} %" if name != "none" else ""
    loss = max(0.0, *(row.blurred - row.blind for row in rows))
    print(f"| {name} | {blurred:.2f} | {blind:.2f} | {known:.2f} | {share} | {loss:.2f} |")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--crop", type=int, default=192)
    parser.add_argument("--kernels", choices=SETS, default="shapes")
    parser.add_argument("--method", default="auto")
    parser.add_argument("--steps", type=int)
    arguments = parser.parse_args()

    options = {"method": arguments.method, "steps": arguments.steps}
    rows = []
    kernels = SETS[arguments.kernels]
    for row in measure(arguments.folder, arguments.count, arguments.crop, kernels, options):
        rows.append(row)
        print(
            f"{row.picture} {row.kernel}: {row.blurred:.2f} {row.blind:.2f} {row.known:.2f} "
            f"{row.found or 'left alone'}",
            flush=True,
        )
    show(rows)


if __name__ == "__main__":
    main()
