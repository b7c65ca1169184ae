"""Restore JPEG files, for docs/jpeg.md.

    # `dejpeg` beside classical denoisers
    python benchmarks/jpeg.py dejpeg FOLDER --qualities 10 20 40
    python benchmarks/jpeg.py dejpeg FOLDER --ways input dejpeg
    # other tasks on images that were degraded and saved, with and without the intervals of the file
    python benchmarks/jpeg.py sr FOLDER --qualities 40 60 75 90 95 --size 192
    python benchmarks/jpeg.py deblur FOLDER --qualities 40 75 90 --size 128
    python benchmarks/jpeg.py denoise FOLDER --qualities 40 75 90 --size 128

Images are cropped to their middle (``--size``, 0 for whole images) and saved by Pillow with 4:2:0.
Scores are means over the images: PSNR over R, G and B in dB, LPIPS (AlexNet), and the fraction of
coefficients in their intervals.
"""

from __future__ import annotations

import argparse
import io
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from restore.evaluate.classical import bm3d
from restore.metrics.classical import non_local_means, total_variation
from restore.metrics.quality import load_lpips, psnr
from restore.photo.photograph import Photo, read_photo
from restore.restorer import Restorer
from restore.tasks import Deblurring, Dejpeg, Denoising, SuperResolution, Task
from restore.tasks.degradation import degrade

KERNELS = ("gaussian:1.5", "motion:9:30")
BLURRED_NOISE = 0.01
NOISES = (0.02, 0.05)

# Classical denoisers, each at the noise level, in units of the file's error, that suits it best.
CLASSICAL = {"tv": total_variation, "nlm": non_local_means, "bm3d": bm3d}
LEVELS = (0.75, 1.0, 1.5)

Array = NDArray[np.float32]


class Restored(NamedTuple):
    """A restored image [H, W, 3] in [0, 1], and its report's fraction of coefficients."""

    pixels: Array
    inside: float | None = None


# Ways to restore a photo, by name.
Ways = Mapping[str, Callable[[Photo], Restored]]


class Case(NamedTuple):
    """A saved image with its setting in words, and the ways to restore it."""

    setting: tuple[str, ...]
    photo: Photo
    ways: Ways


def main() -> None:
    """Print the means after each image."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=CASES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--qualities", type=int, nargs="+", default=(10, 20, 40))
    parser.add_argument("--size", type=int, default=0)
    parser.add_argument("--scale", type=int, default=2, help="for sr")
    parser.add_argument("--names", nargs="*", help="only these files")
    parser.add_argument("--ways", nargs="*", help="only these ways to restore")
    parser.add_argument("--count", type=int, help="only the first files")
    options = parser.parse_args()

    lpips = load_lpips()
    restorer = Restorer()
    scores: dict[tuple[str, ...], list[tuple[float, ...]]] = defaultdict(list)
    for number, truth in enumerate(_images(options)):
        for quality in options.qualities:
            for setting, photo, ways in _cases(options)(restorer, truth, quality, number):
                chosen = options.ways or ways
                for name, way in ((name, ways[name]) for name in ways if name in chosen):
                    pixels, inside = way(photo)
                    pair = _tensor(pixels), _tensor(truth)
                    score = float(psnr(*pair)), float(lpips(*pair)), inside or float("nan")
                    scores[str(quality), *setting, name].append(score)

        print(f"\n{number + 1} image(s)")
        for key, found in scores.items():
            likeness, distance, inside = (fmean(column) for column in zip(*found, strict=True))
            print(f"| {' | '.join(key)} | {likeness:.2f} | {distance:.3f} | {inside:.4f} |")


def _images(options: argparse.Namespace) -> Iterator[Array]:
    """Yield images [H, W, 3] of whole levels in [0, 1]."""
    paths = sorted(options.folder.glob("*.png"))
    if options.names:
        paths = [path for path in paths if path.name in options.names]

    for path in paths[: options.count]:
        image = Image.open(path).convert("RGB")
        if options.size:
            left = (image.width - options.size) // 2
            top = (image.height - options.size) // 2
            image = image.crop((left, top, left + options.size, top + options.size))
        yield np.asarray(image, np.float32) / 255


def _dejpeg(restorer: Restorer, truth: Array, quality: int, number: int) -> Iterator[Case]:
    photo = _saved(truth, quality)
    ways = {name: partial(_classical, denoise, truth) for name, denoise in CLASSICAL.items()}
    ways |= {"dejpeg": partial(_by, restorer, Dejpeg()), "input": _as_it_is}
    ways["dejpeg, diffpir"] = partial(_by, restorer, Dejpeg(), method="diffpir")
    yield Case((), photo, ways)


def _sr(
    restorer: Restorer, truth: Array, quality: int, number: int, scale: int = 2
) -> Iterator[Case]:
    small = _degraded(truth, f"down:bicubic:{scale}")
    size = truth.shape[1], truth.shape[0]
    task = SuperResolution(scale)
    ways: dict[str, Any] = {
        "bicubic": partial(_enlarged, size),
        "--fidelity 1": partial(_by, restorer, task, fidelity=1.0),
        "--method diffpir": partial(_by, restorer, task, method="diffpir"),
    }
    yield Case((), _saved(small, quality), ways | _both(restorer, task))


def _deblur(restorer: Restorer, truth: Array, quality: int, number: int) -> Iterator[Case]:
    for kernel in KERNELS:
        blurred = _degraded(truth, f"blur:{kernel}:boundary=symmetric", BLURRED_NOISE, number)
        ways = {"input": _as_it_is, **_both(restorer, Deblurring(kernel))}
        yield Case((kernel,), _saved(blurred, quality), ways)


def _denoise(restorer: Restorer, truth: Array, quality: int, number: int) -> Iterator[Case]:
    for noise in NOISES:
        noisy = _degraded(truth, "identity", noise, number)
        ways = {"input": _as_it_is, **_both(restorer, Denoising())}
        ways |= {
            f"{name}, noise known": way for name, way in _both(restorer, Denoising(noise)).items()
        }
        yield Case((f"{noise:g}",), _saved(noisy, quality), ways)


CASES: dict[str, Callable[[Restorer, Array, int, int], Iterator[Case]]] = {
    "dejpeg": _dejpeg,
    "sr": _sr,
    "deblur": _deblur,
    "denoise": _denoise,
}


def _cases(options: argparse.Namespace) -> Callable[..., Iterator[Case]]:
    return partial(_sr, scale=options.scale) if options.task == "sr" else CASES[options.task]


def _both(restorer: Restorer, task: Any) -> dict[str, Callable[[Photo], Restored]]:
    """Return a task with and without the intervals."""
    off = partial(_by, restorer, replace(task, jpeg="off"))
    return {"--jpeg off": off, "--jpeg auto": partial(_by, restorer, task)}


def _by(restorer: Restorer, task: Task, photo: Photo, **options: Any) -> Restored:
    result = restorer.run(task, photo, **options)
    return Restored(np.rint(255 * result.mean).astype(np.float32) / 255, result.report.inside)


def _classical(denoise: Callable[[Array, float], Array], truth: Array, photo: Photo) -> Restored:
    """Return the best result of a denoiser over `LEVELS`, which nobody would know."""
    error = float(np.sqrt(np.square(photo.pixels - truth).mean()))
    results = (denoise(photo.pixels, level * error) for level in LEVELS)
    return Restored(min(results, key=lambda result: float(np.square(result - truth).mean())))


def _as_it_is(photo: Photo) -> Restored:
    return Restored(photo.pixels)


def _enlarged(size: tuple[int, int], photo: Photo) -> Restored:
    image = Image.fromarray(np.rint(255 * photo.pixels).astype(np.uint8))
    return Restored(np.asarray(image.resize(size, Image.Resampling.BICUBIC), np.float32) / 255)


def _degraded(truth: Array, operator: str, noise: float = 0.0, seed: int = 0) -> Array:
    measured = degrade(truth, operator, noise=noise, seed=seed).measurement[0]
    return np.ascontiguousarray(measured.clamp(0, 1).permute(1, 2, 0).numpy())


def _saved(pixels: Array, quality: int) -> Photo:
    """Save as JPEG and read again, with the coefficients."""
    buffer = io.BytesIO()
    image = Image.fromarray(np.rint(255 * pixels).astype(np.uint8))
    image.save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    buffer.seek(0)
    return read_photo(Path(f"quality-{quality}.jpg"), file=buffer, coefficients=True)


def _tensor(pixels: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]


if __name__ == "__main__":
    main()
