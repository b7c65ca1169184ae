"""Measure inpainting and enlargement through a small latent model of this repository's own.

    python benchmarks/latent_chain.py FOLDER PHOTOS

FOLDER is that of `benchmarks/latent_training.py`, PHOTOS a folder that it was not trained on. The
pictures are the central 64x64 pixels of photographs that were reduced to 256 pixels on the short
side. PSNR over all pictures: of the hole, 24x24 pixels, for inpainting; of the whole picture for
×4. The encoder and decoder alone are the row "autoencoder".
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from restore import Restorer
from restore.methods import METHODS
from restore.methods.parameter import parsed
from restore.metrics import classical
from restore.solvers import project
from restore.tasks import TASKS, SuperResolution, Task

SIDE = 64
SHORT_SIDE = 256
HOLE = slice(20, 44)
Pixels = NDArray[np.uint8]


def pictures(folder: Path, count: int) -> list[Pixels]:
    """Return central crops of photographs of a folder, uint8 [64, 64, 3]."""
    found = []
    for path in sorted(folder.iterdir())[:count]:
        with Image.open(path) as photo:
            factor = SHORT_SIDE / min(photo.size)
            size = (round(photo.width * factor), round(photo.height * factor))
            small = photo.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        left, top = ((length - SIDE) // 2 for length in size)
        found.append(np.asarray(small.crop((left, top, left + SIDE, top + SIDE))))
    return found


def psnr(found: Sequence[Pixels], truth: Sequence[Pixels], hole: bool) -> float:
    """PSNR over all pictures, or over their holes."""
    part = (slice(None), HOLE, HOLE) if hole else (slice(None),)
    error = np.stack(found)[part].astype(float) - np.stack(truth)[part]
    return 10 * math.log10(255**2 / float((error**2).mean()))


def mask() -> NDArray[np.bool_]:
    hole = np.zeros((SIDE, SIDE), bool)
    hole[HOLE, HOLE] = True
    return hole


def small(picture: Pixels) -> Pixels:
    """Return a picture that is 4 times smaller, by the downsampling of the task."""
    return np.asarray(Image.fromarray(picture).resize((SIDE // 4,) * 2, Image.Resampling.BICUBIC))


def bicubic(picture: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def grey(picture: Pixels) -> Pixels:
    return np.where(mask()[..., None], np.uint8(128), picture)


def filled(picture: Pixels) -> Pixels:
    """Return a picture with the hole filled by the classical method that auto would start from."""
    made = classical.inpaint(picture / 255, mask(), "biharmonic")
    return np.clip(np.rint(255 * made), 0, 255).astype(np.uint8)


def explaining(restorer: Restorer, task: Task, picture: Pixels) -> Pixels:
    """Return a bicubic enlargement, moved to the nearest one that shrinks to the input."""
    problem = restorer.problem(task, torch.from_numpy(picture.copy()).permute(2, 0, 1)[None] / 255)
    large = torch.from_numpy(bicubic(picture).copy()).permute(2, 0, 1)[None] / 255
    moved = project(problem.operator, large, problem.measurement)[0].permute(1, 2, 0)
    return np.clip(np.rint(255 * moved.numpy()), 0, 255).astype(np.uint8)


def encoded(restorer: Restorer, picture: Pixels) -> Pixels:
    """Return a picture that went through encoder and decoder."""
    codec = restorer.denoiser.autoencoder
    assert codec is not None
    x = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.inference_mode():
        made = codec.decode(codec.encode(x), (SIDE, SIDE))[0].permute(1, 2, 0)
    return np.clip(np.rint(127.5 * (made.numpy() + 1)), 0, 255).astype(np.uint8)


def row(name: str, made: Callable[[bool], list[Pixels]], truth: list[Pixels]) -> None:
    """Print the scores of what is made of the holes and of the small pictures."""
    began = time.perf_counter()
    scores = [psnr(made(hole), truth, hole) for hole in (True, False)]
    seconds = (time.perf_counter() - began) / (2 * len(truth))
    print(f"| {name} | {scores[0]:.2f} | {scores[1]:.2f} | {seconds:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="folder of the pipeline")
    parser.add_argument("photos", type=Path, help="folder of photographs")
    parser.add_argument("--count", type=int, default=8, help="pictures")
    parser.add_argument(
        "--methods", nargs="+", help="METHOD or METHOD:PARAMETERS; default: all of latents"
    )
    parser.add_argument("--steps", type=int, help="network calls; default: the method's")
    parser.add_argument("--samples", type=int, default=1, help="whose mean is measured")
    arguments = parser.parse_args()
    latent = [name for name, method in METHODS.items() if method.latents]

    torch.set_num_threads(1)
    truth = pictures(arguments.photos, arguments.count)
    restorer = Restorer(str(arguments.folder), "cpu")
    tasks: dict[bool, Task] = {True: TASKS["inpaint"](mask()), False: SuperResolution(4, noise=0)}

    print("| | hole, dB | ×4, dB | seconds |\n|---|---|---|---|", flush=True)

    def simple(hole: bool) -> list[Pixels]:
        return [grey(x) if hole else bicubic(small(x)) for x in truth]

    def classic(hole: bool) -> list[Pixels]:
        if hole:
            return [filled(x) for x in truth]
        return [explaining(restorer, tasks[False], small(x)) for x in truth]

    row("mid-grey, bicubic", simple, truth)
    row("biharmonic, bicubic projected onto the input", classic, truth)
    row("autoencoder", lambda hole: [encoded(restorer, x) for x in truth], truth)
    for text in arguments.methods or latent:
        name, _, parameters = text.partition(":")
        options = {
            "method": name, "steps": arguments.steps, "samples": arguments.samples,
            "parameters": parsed(parameters) if parameters else None,
        }  # fmt: skip

        def made(hole: bool, options: dict[str, object] = options) -> list[Pixels]:
            inputs = [grey(x) if hole else small(x) for x in truth]
            return [restorer.run(tasks[hole], x, **options).mean for x in inputs]

        row(text, made, truth)


if __name__ == "__main__":
    main()
