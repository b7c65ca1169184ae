"""Make the pictures of docs/results.md and docs/jpeg.md.

# four tasks by the default methods
python benchmarks/figure.py KODAK_FOLDER docs/results.jpg

# eight crops enlarged four times by every method
python benchmarks/figure.py KODAK_FOLDER docs/results-x4.jpg --enlarged

# a JPEG restored, and one enlarged
python benchmarks/figure.py KODAK_FOLDER docs/jpeg.jpg --jpeg
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from problems import PROBLEMS

from restore import Restorer

SIDE = 256
GAP = 6
CAPTION = 24
# Problem, picture, left and top of the crop, caption.
ROWS = (
    ("sr4", "23.png", (330, 60), "super-resolution x4"),
    ("deblur-motion", "19.png", (180, 80), "deblurring, motion 15 px, noise 0.01"),
    ("inpaint-strokes", "4.png", (120, 130), "inpainting"),
    ("denoise-25", "5.png", (60, 130), "denoising, 25/255"),
)

SMALL_SIDE = 192
# Picture, left and top of the crop.
ENLARGED = (
    ("1.png", (300, 200)),
    ("4.png", (150, 150)),
    ("5.png", (120, 200)),
    ("7.png", (300, 120)),
    ("8.png", (250, 150)),
    ("14.png", (280, 180)),
    ("19.png", (180, 80)),
    ("23.png", (330, 60)),
)
METHODS = ("one-step", "ddrm", "sr3")


# A JPEG: picture, left and top of the crop; its quality, and that of the JPEG to enlarge.
SAVED = ("23.png", (180, 100))
QUALITIES = (15, 60)


def crop_of(path: Path, corner: tuple[int, int], side: int) -> NDArray[np.uint8]:
    left, top = corner
    return np.asarray(Image.open(path).convert("RGB"))[top : top + side, left : left + side]


def row(restorer: Restorer, problem: str, path: Path, corner: tuple[int, int]) -> list[Image.Image]:
    """Return a crop degraded, restored, and as it was."""
    crop = crop_of(path, corner, SIDE)
    case = PROBLEMS[problem].degrade(path.name, crop)
    result: NDArray[np.uint8] = restorer.run(case.task, case.file).mean
    degraded = Image.fromarray(case.file).resize((SIDE, SIDE), Image.Resampling.NEAREST)
    return [degraded, Image.fromarray(result), Image.fromarray(np.ascontiguousarray(crop))]


def tasks(restorer: Restorer, folder: Path) -> Image.Image:
    """Draw four tasks, two side by side."""
    width = 6 * SIDE + 5 * GAP
    height = 2 * (SIDE + CAPTION)
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(14)

    for number, (problem, name, corner, caption) in enumerate(ROWS):
        x0 = (number % 2) * 3 * (SIDE + GAP)
        y0 = (number // 2) * (SIDE + CAPTION)
        for column, picture in enumerate(row(restorer, problem, folder / name, corner)):
            sheet.paste(picture, (x0 + column * (SIDE + GAP), y0))
        draw.text(
            (x0, y0 + SIDE + 3), f"{caption}: degraded, restored, truth", fill="black", font=font
        )

    return sheet


def enlarged(restorer: Restorer, folder: Path) -> Image.Image:
    """Draw a row for each of eight crops: bicubic enlargement, the methods, the truth."""
    titles = ("bicubic", *METHODS, "truth")
    step = SMALL_SIDE + GAP
    sheet = Image.new("RGB", (len(titles) * step - GAP, CAPTION + len(ENLARGED) * step), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(14)

    for number, (name, corner) in enumerate(ENLARGED):
        crop = crop_of(folder / name, corner, SMALL_SIDE)
        case = PROBLEMS["sr4"].degrade(name, crop)
        small = Image.fromarray(case.file)
        made = [restorer.sr(case.file, 4, method=method) for method in METHODS]
        pictures = [
            small.resize((SMALL_SIDE,) * 2, Image.Resampling.BICUBIC),
            *map(Image.fromarray, made),
        ]
        for column, picture in enumerate([*pictures, Image.fromarray(np.ascontiguousarray(crop))]):
            sheet.paste(picture, (column * step, CAPTION + number * step))

    for column, title in enumerate(titles):
        draw.text((column * step, 3), title, fill="black", font=font)

    return sheet


def saved(restorer: Restorer, folder: Path) -> Image.Image:
    """Draw a JPEG before and after, and one that is enlarged without and with its tables."""
    name, corner = SAVED
    truth = Image.fromarray(np.ascontiguousarray(crop_of(folder / name, corner, SIDE)))
    small = truth.resize((SIDE // 2,) * 2, Image.Resampling.BICUBIC)
    first, second = QUALITIES

    with tempfile.TemporaryDirectory() as place:
        whole, half = (
            _as_jpeg(image, Path(place) / f"{quality}.jpg", quality)
            for image, quality in ((truth, first), (small, second))
        )
        pictures = {
            f"JPEG, quality {first}": whole,
            "restore dejpeg": restorer.dejpeg(whole),
            f"half the size, quality {second}": half.resize(truth.size, Image.Resampling.BICUBIC),
            "sr --scale 2 --jpeg off": restorer.sr(half, 2, jpeg="off"),
            "sr --scale 2": restorer.sr(half, 2),
            "original": truth,
        }

    step = SIDE + GAP
    sheet = Image.new("RGB", (3 * step - GAP, 2 * (SIDE + CAPTION)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (title, picture) in enumerate(pictures.items()):
        x, y = number % 3 * step, number // 3 * (SIDE + CAPTION)
        sheet.paste(picture, (x, y))
        draw.text((x, y + SIDE + 3), title, fill="black", font=ImageFont.load_default(14))

    return sheet


def _as_jpeg(image: Image.Image, path: Path, quality: int) -> Image.Image:
    image.save(path, quality=quality)
    jpeg = Image.open(path)
    jpeg.load()
    return jpeg


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="the Kodak pictures, 1.png to 24.png")
    parser.add_argument("output", type=Path)
    parser.add_argument(
        "--enlarged", action="store_true", help="eight crops enlarged four times by every method"
    )
    parser.add_argument("--jpeg", action="store_true", help="a JPEG restored, and one enlarged")
    parser.add_argument("--model", default="default")
    arguments = parser.parse_args()
    restorer = Restorer(arguments.model)
    draw = saved if arguments.jpeg else enlarged if arguments.enlarged else tasks
    sheet = draw(restorer, arguments.folder)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(arguments.output, quality=90)


if __name__ == "__main__":
    main()
