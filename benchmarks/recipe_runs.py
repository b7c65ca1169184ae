"""Show what the runs of the papers' recipes can do, each after ten minutes on a CPU.

    for name in ddpm improved-ddpm ncsn edm sr3 i2sb; do
        restore train --recipe $name --data PHOTOGRAPHS --out RUNS/$name
    done
    python benchmarks/recipe_runs.py RUNS examples/parrots.png docs/recipes.jpg

A row for each prior: noise of 25 of 255, what one call makes of it, and four samples of its own
sampler. A row for each conditional model: the picture downsampled four times, and enlarged again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from restore import Restorer
from restore.methods.sampling import Sampling, grid, sample_pictures

EightBit = NDArray[np.uint8]

NOISE = 25 / 255
SIDE = 128
# Sampler and steps of each prior.
PRIORS = {
    "ddpm": ("ddpm", 250),
    "improved-ddpm": ("ddpm-learned", 250),
    "ncsn": ("langevin", 250),
    "edm": ("heun", 30),
}
# Method and steps of each conditional model.
CONDITIONAL = {"sr3": ("sr3", 100), "i2sb": ("i2sb", 10)}


def denoised(restorer: Restorer, picture: EightBit) -> list[EightBit]:
    noise = NOISE * np.random.default_rng(0).standard_normal(picture.shape)
    noisy = np.clip(picture / 255 + noise, 0, 1)
    seen = np.rint(255 * noisy).astype(np.uint8)
    return [seen, restorer.denoise(seen, noise=NOISE, method="one-step")]


def samples(restorer: Restorer, sampler: str, steps: int) -> EightBit:
    """Return four samples side by side."""
    sampling = Sampling(sampler=sampler, steps=steps, count=4, height=64, width=64)
    drawn, _ = sample_pictures(restorer.denoiser, sampling, restorer.device)
    return _eight_bit(grid(drawn, columns=2, gap=0))


def enlarged(restorer: Restorer, picture: EightBit, method: str, steps: int) -> list[EightBit]:
    image = Image.fromarray(picture)
    small = image.resize((SIDE // 4, SIDE // 4), Image.Resampling.BICUBIC)
    bicubic = np.asarray(small.resize(image.size, Image.Resampling.BICUBIC))
    restored = restorer.sr(np.asarray(small), scale=4, method=method, steps=steps)
    return [bicubic, restored, picture]


def row(name: str, run: Path, picture: EightBit) -> EightBit:
    """Return the pictures of a run side by side."""
    restorer = Restorer(str(run / "model.safetensors"), "cpu")
    if name in CONDITIONAL:
        return np.hstack(enlarged(restorer, picture, *CONDITIONAL[name]))
    return np.hstack([*denoised(restorer, picture), samples(restorer, *PRIORS[name])])


def labelled(name: str, pictures: EightBit) -> EightBit:
    label = Image.new("RGB", (96, SIDE), "white")
    ImageDraw.Draw(label).text((6, SIDE // 2 - 6), name, fill="black")
    return np.hstack([np.asarray(label), pictures])


def _eight_bit(picture: torch.Tensor) -> EightBit:
    return np.rint(255 * picture.permute(1, 2, 0).numpy()).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("figure", type=Path)
    a = parser.parse_args()
    whole = np.asarray(Image.open(a.picture).convert("RGB"))
    picture = np.ascontiguousarray(whole[:SIDE, :SIDE])
    rows = []

    for name in (*PRIORS, *CONDITIONAL):
        if not (a.runs / name / "model.safetensors").exists():
            print(f"{name}: no run in {a.runs / name}")
            continue
        rows.append(labelled(name, row(name, a.runs / name, picture)))

    Image.fromarray(np.vstack(rows)).save(a.figure)


if __name__ == "__main__":
    main()
