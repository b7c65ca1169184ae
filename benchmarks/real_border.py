"""Measure how much worse deblurred photographs are near their border, which is unknown.

    python benchmarks/real_border.py DATA_FOLDER --size 256 --count 12 --picture docs/border.jpg

Each photograph is blurred as a camera blurs it: the measurement is the valid region of a blur of a
larger picture, so light from beyond its border is in it and the continuation is not known. It is
rounded to 8 bits. It is restored with an ``unknown`` border (the default), as if the picture went
on as its mirror image, as if it repeated (FFT), and by total variation with an unknown border.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from problems import eight_bit, from_tensor, to_tensor
from report import strip

from operators import ValidConvolution, kernels
from restore import Restorer
from restore.metrics import classical
from restore.photo.photograph import SUFFIXES

# Distance from the border in pixels that counts as near it.
RIM = 24
NOISE = 0.01
KERNELS = {"motion, 15 px at 30°": "motion:15:30", "Gaussian, σ = 3 px": "gaussian:3"}
METHODS = {
    "unknown border (default)": "unknown",
    "mirrored border": "symmetric",
    "circular border (FFT)": "circular",
}

EightBit = NDArray[np.uint8]
# Scores of each photograph, by method.
Scores = dict[str, list[dict[str, float]]]


def taps(text: str) -> NDArray[np.float64]:
    kind, *numbers = text.split(":")
    return {"motion": kernels.motion, "gaussian": kernels.gaussian}[kind](*map(float, numbers))


def photographed(
    picture: EightBit, kernel: NDArray[np.float64], size: int, seed: int
) -> tuple[EightBit, EightBit]:
    """Return measurement and truth, both [size, size, 3], from the middle of a photograph."""
    height, width = (size + n - 1 for n in kernel.shape)
    top = (picture.shape[0] - height) // 2
    left = (picture.shape[1] - width) // 2
    if min(top, left) < 0:
        raise ValueError(f"a photograph of {picture.shape[:2]} is too small for {height}x{width}")

    scene = to_tensor(picture[top : top + height, left : left + width].astype(np.float32) / 255)
    operator = ValidConvolution((3, size, size), kernel)
    blurred = from_tensor(operator.A(scene))
    noise = np.random.default_rng(seed).standard_normal(blurred.shape).astype(np.float32)

    return eight_bit(blurred + NOISE * noise), eight_bit(from_tensor(operator.crop(scene)))


def psnr(errors: NDArray[np.float64]) -> float:
    return float(-10 * np.log10(np.mean(errors)))


def scores(result: EightBit, truth: EightBit) -> dict[str, float]:
    """Return PSNR in dB of the whole, inside, and within `RIM` pixels of the border."""
    errors = ((result.astype(float) - truth) / 255) ** 2
    inside = np.zeros(errors.shape[:2], bool)
    inside[RIM:-RIM, RIM:-RIM] = True
    return {"whole": psnr(errors), "inside": psnr(errors[inside]), "border": psnr(errors[~inside])}


def restored(measurement: EightBit, text: str, restorer: Restorer) -> dict[str, EightBit]:
    results = {"measurement": measurement}
    for name, boundary in METHODS.items():
        results[name] = restorer.deblur(measurement, text, noise=NOISE, boundary=boundary)
    plain = measurement.astype(np.float32) / 255
    results["total variation"] = eight_bit(classical.tv_deblur(plain, taps(text), NOISE))
    return results


def measured(
    paths: Sequence[Path], text: str, size: int, restorer: Restorer
) -> tuple[Scores, Image.Image]:
    """Return the scores of all photographs by method, and a strip of the first one's results."""
    rows: Scores = {}
    strips = []
    for index, path in enumerate(paths):
        picture = np.asarray(Image.open(path).convert("RGB"))
        measurement, truth = photographed(picture, taps(text), size, index)
        results = restored(measurement, text, restorer)
        for method, result in results.items():
            rows.setdefault(method, []).append(scores(result, truth))
        if index == 0:
            shown = [(method.split(" (")[0], result) for method, result in results.items()]
            strips.append(strip([*shown, ("truth", truth)]))

    return rows, strips[0]


def show(kernel: str, rows: Scores) -> None:
    """Print the table of a kernel."""
    print(f"\n### {kernel}, noise {NOISE}\n")
    print(f"| method | PSNR | inside | within {RIM} px of the border | border − inside |")
    print("|---|---:|---:|---:|---:|")
    for method, found in rows.items():
        whole, inside, border = (
            fmean(row[key] for row in found) for key in ("whole", "inside", "border")
        )
        cells = f"{whole:.2f} | {inside:.2f} | {border:.2f} | {border - inside:+.2f}"
        print(f"| {method} | {cells} |", flush=True)


def stacked(strips: Sequence[Image.Image]) -> Image.Image:
    """Return the strips one below the other."""
    size = max(one.width for one in strips), sum(one.height for one in strips)
    sheet = Image.new("RGB", size, "white")
    for index, one in enumerate(strips):
        sheet.paste(one, (0, sum(above.height for above in strips[:index])))

    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, metavar="DATA_FOLDER")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--count", type=int, help="only the first photographs")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path, help="write a strip of the first photograph")
    arguments = parser.parse_args()
    paths = sorted(p for p in arguments.folder.iterdir() if p.suffix.lower() in SUFFIXES)[
        : arguments.count
    ]
    restorer = Restorer()
    folder = arguments.folder.resolve().name
    print(
        f"{len(paths)} photographs of `{folder}`, the middle {arguments.size}x{arguments.size} "
        "pixels in 8 bits"
    )
    everything: dict[str, Scores] = {}
    strips = []
    for name, text in KERNELS.items():
        everything[name], first = measured(paths, text, arguments.size, restorer)
        strips.append(first)
        show(name, everything[name])

    if arguments.json:
        arguments.json.write_text(json.dumps(everything, indent=1), encoding="utf-8")
    if arguments.picture:
        stacked(strips).save(arguments.picture, quality=88)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
