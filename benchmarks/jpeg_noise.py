"""Deblurs JPEGs of several qualities with and without the noise that their tables imply.

    python benchmarks/jpeg_noise.py FOLDER [--count N] [--side PIXELS]

The photographs' centre crops are blurred by a Gaussian of 2 pixels, with a border that reflects,
and encoded. Prints the mean PSNR in dB over R, G and B.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import restore

KERNEL = "gaussian:2"
QUALITIES = (75, 85, 92, 98)


def encoded(pixels: NDArray[np.uint8], quality: int) -> Image.Image:
    """The JPEG of pixels [H, W, 3] as Pillow opens it."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return Image.open(file)


def psnr(result: Any, truth: NDArray[np.uint8]) -> float:
    """PSNR in dB of a picture in 8 bits."""
    error = np.asarray(result).astype(float) - truth
    return float(-10 * np.log10(np.square(error / 255).mean()))


def measured(truth: NDArray[np.uint8], quality: int) -> list[float]:
    """PSNR of the blurred JPEG, of two restorations without its tables, and of two with them."""
    blurred = restore.degrade(truth, f"blur:{KERNEL}").picture
    image = encoded(blurred, quality)
    pixels = np.asarray(image)
    results = [pixels]
    for picture in (pixels, image):
        results.append(restore.deblur(picture, KERNEL, jpeg="off"))
        results.append(restore.deblur(picture, KERNEL, jpeg="off", samples=2, steps=10).mean)

    return [psnr(result, truth) for result in results]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=2)
    parser.add_argument("--side", type=int, default=96)
    options = parser.parse_args()

    crops = []
    for path in sorted(options.folder.glob("*.png"))[::10][: options.count]:
        photo = Image.open(path).convert("RGB")
        left, top = (photo.width - options.side) // 2, (photo.height - options.side) // 2
        box = (left, top, left + options.side, top + options.side)
        crops.append(np.asarray(photo.crop(box)))

    print("| quality | blurred | deblur, pixels | 2 samples, pixels | deblur | 2 samples |")
    print("|---:|---:|---:|---:|---:|---:|")
    for quality in QUALITIES:
        means = np.mean([measured(crop, quality) for crop in crops], axis=0)
        print(f"| {quality} | " + " | ".join(f"{mean:.2f}" for mean in means) + " |", flush=True)


if __name__ == "__main__":
    main()
