"""The picture of results in the README: four tasks by the default methods.

python benchmarks/figure.py KODAK_FOLDER docs/results.jpg
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from problems import TASKS

from restore import Restorer

SIDE, GAP, CAPTION = 256, 6, 24
ROWS = (
    ("sr4", "23.png", (330, 60), "super-resolution x4"),
    ("deblur-motion", "19.png", (180, 80), "deblurring, motion 15 px, noise 0.01"),
    ("inpaint-strokes", "4.png", (120, 130), "inpainting"),
    ("denoise-25", "5.png", (60, 130), "denoising, 25/255"),
)
"""Task, picture, left and top of the crop, caption."""


def row(restorer: Restorer, task_name: str, path: Path, corner: tuple[int, int]) -> list[Image.Image]:
    """Degraded, restored, truth."""
    left, top = corner
    crop = np.asarray(Image.open(path).convert("RGB"))[top : top + SIDE, left : left + SIDE]
    task = TASKS[task_name]
    case = task.degrade(path.name, crop)
    result: NDArray[np.uint8] = restorer.run(task.kind, case.file, dict(case.arguments)).mean
    degraded = Image.fromarray(case.file).resize((SIDE, SIDE), Image.Resampling.NEAREST)
    return [degraded, Image.fromarray(result), Image.fromarray(np.ascontiguousarray(crop))]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="the Kodak pictures, 1.png to 24.png")
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    restorer = Restorer()
    width, height = 6 * SIDE + 5 * GAP, 2 * (SIDE + CAPTION)
    sheet = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for number, (task, name, corner, caption) in enumerate(ROWS):
        x0, y0 = (number % 2) * 3 * (SIDE + GAP), (number // 2) * (SIDE + CAPTION)
        for column, picture in enumerate(row(restorer, task, arguments.folder / name, corner)):
            sheet.paste(picture, (x0 + column * (SIDE + GAP), y0))
        draw.text((x0, y0 + SIDE + 3), f"{caption}: degraded, restored, truth", fill="black", font=font)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(arguments.output, quality=90)


if __name__ == "__main__":
    main()
