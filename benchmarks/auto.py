"""Measure what `restore auto` makes of pictures whose degradation is known, and of clean ones.

    python benchmarks/auto.py FOLDER --count 8 --crop 192

Prints PSNR and LPIPS of the input and of the result, both against the clean picture, and what was
found. PSNR of clean pictures is that of the result against the input.
"""

from __future__ import annotations

import argparse
import io
import zlib
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from problems import load_pictures
from torch import Tensor

import operators
from restore import Restorer
from restore.metrics.quality import Lpips, find_lpips_trunk, psnr
from restore.tasks import Automatic

Picture = NDArray[np.float32]
Random = np.random.Generator

# Pixels around a crop that a blur needs.
MARGIN = 16
MOTION = "motion:9:30"


def _clean(whole: Picture, random: Random) -> Any:
    return _eight_bit(_inside(whole))


def _noise(whole: Picture, random: Random) -> Any:
    picture = _inside(whole)
    return _eight_bit(picture + 0.05 * random.normal(size=picture.shape))


def _sensor(whole: Picture, random: Random) -> Any:
    picture = _inside(whole)
    return _eight_bit(
        picture + np.sqrt(0.006 * picture + 0.0001) * random.normal(size=picture.shape)
    )


def _jpeg(quality: int) -> Callable[[Picture, Random], Any]:
    def saved(whole: Picture, random: Random) -> Any:
        file = io.BytesIO()
        Image.fromarray(_eight_bit(_inside(whole))).save(file, "JPEG", quality=quality)
        return Image.open(file)

    return saved


def _motion(whole: Picture, random: Random) -> Any:
    x = torch.from_numpy(whole.transpose(2, 0, 1)[None].copy())
    size = _inside(whole).shape
    operator = operators.parse(f"blur:{MOTION}:boundary=unknown").operator_for((3, *size[:2]))
    rows, columns = operator.input_shape[1:]
    top, left = (whole.shape[0] - rows) // 2, (whole.shape[1] - columns) // 2
    seen = operator.A(x[..., top : top + rows, left : left + columns])[0]
    return _eight_bit(seen.permute(1, 2, 0).numpy() + 0.01 * random.normal(size=size))


DEGRADATIONS: dict[str, Callable[[Picture, Random], Any]] = {
    "clean": _clean,
    "noise 0.05": _noise,
    "noise of variance 0.006 x + 0.0001": _sensor,
    "JPEG quality 20": _jpeg(20),
    "JPEG quality 40": _jpeg(40),
    f"{MOTION}, noise 0.01": _motion,
}


def _inside(whole: Picture) -> Picture:
    return whole[MARGIN:-MARGIN, MARGIN:-MARGIN]


def _eight_bit(picture: NDArray[Any]) -> NDArray[np.uint8]:
    return np.rint(255 * picture.clip(0, 1)).astype(np.uint8)


def _tensor(picture: Any) -> Tensor:
    values = np.asarray(picture, np.float32) / 255
    return torch.from_numpy(values.transpose(2, 0, 1)[None].copy())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--crop", type=int, default=192)
    parser.add_argument("--only", help="a degradation")
    parser.add_argument("--method", default="auto")
    parser.add_argument("--no-lpips", action="store_true")
    arguments = parser.parse_args()

    restorer = Restorer()
    lpips = None if arguments.no_lpips else Lpips(find_lpips_trunk())
    side = arguments.crop + 2 * MARGIN
    pictures = load_pictures(arguments.folder, side, arguments.count)
    table = []
    for name, degrade in DEGRADATIONS.items():
        if arguments.only not in (None, name):
            continue
        rows = []
        for file, picture in pictures.items():
            whole = picture.astype(np.float32) / 255
            shown = degrade(whole, np.random.default_rng(zlib.crc32(file.encode())))
            result = restorer.run(Automatic(), shown, method=arguments.method)
            before, after = _tensor(shown), _tensor(result.mean)
            truth = before if name == "clean" else _tensor(_eight_bit(_inside(whole)))
            row = [min(99.0, float(psnr(one, truth))) for one in (before, after)]
            row += [0.0 if lpips is None else float(lpips(x, truth)) for x in (before, after)]
            rows.append(row)
            found = "; ".join(one.words for one in result.report.findings if one.treated)
            print(f"{file} {name}: {row[0]:.2f} {row[1]:.2f} {found or 'left'}", flush=True)
        mean = [fmean(values) for values in zip(*rows, strict=True)]
        least = min(row[1] for row in rows)
        table.append(
            f"| {name} | {mean[0]:.2f} / {mean[2]:.3f} | {mean[1]:.2f} / {mean[3]:.3f} | "
            f"{least:.2f} |"
        )

    print("| degradation | input | auto | lowest PSNR |\n|---|---|---|---|")
    print("\n".join(table))


if __name__ == "__main__":
    main()
