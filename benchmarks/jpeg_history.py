"""Counts how often earlier JPEG compressions are found, and how often where there was none.

    python benchmarks/jpeg_history.py FOLDER [--count N] [--side PIXELS]

The crops come from pictures stored without loss. "PNG" is a JPEG of a quality, decoded, cropped off
its grid and stored without loss; "first, second" is a JPEG of the first quality saved again with
the second, on the same grid or cropped off it.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from restore.photo.formats.jpeg_coefficients import stored_jpeg
from restore.photo.history import Compression, earlier_compression
from restore.photo.rounding import rounding_of

# Corner of the crop behind a first compression, columns before rows, and the grid it leaves.
CORNER, GRID = (3, 5), (3, 5)
PAIRS = [(50, 75), (60, 75), (70, 75), (50, 90), (70, 90), (85, 90), (70, 95), (85, 95)]


def encoded(image: Image.Image, quality: int) -> bytes:
    """The file of an image."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def decoded(data: bytes) -> Image.Image:
    """The image of a file."""
    return Image.open(io.BytesIO(data)).convert("RGB")


def off_grid(image: Image.Image) -> Image.Image:
    """Cut rows and columns off."""
    return image.crop((*CORNER, *image.size))


def of_pixels(image: Image.Image) -> Compression:
    """Judge a picture stored without loss."""
    return earlier_compression(np.asarray(image, np.float32) / 255)


def of_file(data: bytes) -> Compression:
    """Judge a JPEG."""
    image = Image.open(io.BytesIO(data))
    image.load()
    pixels = np.asarray(image)
    stored = stored_jpeg(image, data, 1)
    return earlier_compression(pixels / 255, stored, rounding_of(image, pixels).error)


def row(
    name: str,
    images: list[Image.Image],
    judge: Callable[[Image.Image], Compression],
    grid: tuple[int, int] | None = None,
    quality: int | None = None,
) -> None:
    """Print how many pictures have any grid, the right grid, the right quality, and are certain."""
    found = [judge(image) for image in images]
    any_grid = sum(one.grid is not None for one in found)
    right = sum(one.grid == grid for one in found if grid is not None)
    exact = sum(one.quality == quality for one in found if quality is not None)
    wrong = sum(one.confident and (one.grid != grid or quality is None) for one in found)
    print(f"| {name} | {len(found)} | {any_grid} | {right} | {exact} | {wrong} |", flush=True)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=41)
    parser.add_argument("--side", type=int, default=256)
    options = parser.parse_args()

    paths = sorted(options.folder.glob("*.png"))[: options.count]
    box = (0, 0, options.side, options.side)
    images = [Image.open(path).convert("RGB").crop(box) for path in paths]
    print("| picture | number | any grid | right grid | right quality | certain, but wrong |")
    print("|---|---:|---:|---:|---:|---:|")
    row("lossless", images, of_pixels)
    row("lossless, halved", images, lambda one: of_pixels(one.reduce(2)))
    row("JPEG 50, resized", images, lambda one: of_pixels(decoded(encoded(one, 50)).reduce(2)))
    for quality in (30, 50, 75, 90, 95):
        row(
            f"PNG of {quality}",
            images,
            lambda one, quality=quality: of_pixels(off_grid(decoded(encoded(one, quality)))),
            GRID,
            quality,
        )
    for quality in (40, 75, 95):
        row(f"JPEG {quality}", images, lambda one, quality=quality: of_file(encoded(one, quality)))
    for first, second in PAIRS:
        row(
            f"{first}, {second}, same grid",
            images,
            lambda one, pair=(first, second): of_file(
                encoded(decoded(encoded(one, pair[0])), pair[1])
            ),
            (0, 0),
            first,
        )
    for first, second in PAIRS:
        row(
            f"{first}, {second}, cropped between",
            images,
            lambda one, pair=(first, second): of_file(
                encoded(off_grid(decoded(encoded(one, pair[0]))), pair[1])
            ),
            GRID,
            first,
        )


if __name__ == "__main__":
    main()
