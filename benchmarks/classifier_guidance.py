"""Measure classifier guidance on two classes of stripes, for docs/samplers.md.

    python benchmarks/classifier_guidance.py WORK [--minutes 6] [--samples 64]

It makes pictures of upright and of level stripes, trains a prior on both by the recipe ddpm and a
classifier by the recipe adm-classifier, and counts how many samples have the stripes that were
asked for, by the variation along rows and columns. What WORK has already is not made again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from restore.methods.sampling import Sampling, grid, sample_pictures, visible
from restore.restorer import load_classifier, load_denoiser
from restore.training.log import read_log
from restore.training.recipe_file import read_recipe
from restore.training.trainer import Options, train

SIDE = 64
EACH = 60
CLASSES = ("level", "upright")
SCALES = (0.0, 1.0, 3.0, 10.0)


def stripes(upright: bool, random: np.random.Generator) -> np.ndarray:
    """Return a picture of stripes of random colours, width and place, uint8 [SIDE, SIDE, 3]."""
    period = random.uniform(6, 14)
    wave = np.sin(2 * np.pi * (np.arange(SIDE) / period + random.random()))
    dark, light = random.uniform(0, 90, 3), random.uniform(150, 255, 3)
    rows = dark + (0.5 + 0.5 * wave[:, None]) * (light - dark)
    picture = np.broadcast_to(rows[:, None], (SIDE, SIDE, 3))
    picture = picture.transpose(1, 0, 2) if upright else picture
    return (picture + random.normal(0, 6, picture.shape)).clip(0, 255).astype(np.uint8)


def make(folder: Path) -> None:
    """Write the pictures of both classes."""
    random = np.random.default_rng(0)
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for index in range(EACH):
            pixels = stripes(name == "upright", random)
            Image.fromarray(pixels).save(folder / name / f"{index:02}.png")


def upright(pictures: Tensor) -> Tensor:
    """Return which pictures [N, 3, H, W] vary more along their rows than along their columns."""
    across = pictures.diff(dim=3).square().mean(dim=(1, 2, 3))
    return across > pictures.diff(dim=2).square().mean(dim=(1, 2, 3))


def trained(work: Path, name: str, minutes: float) -> Path:
    """Return the model that a recipe makes of the pictures."""
    if not (work / name / "model.safetensors").is_file():
        train(Options(work / name, work / "pictures", read_recipe(Path(name)), minutes))
    return work / name / "model.safetensors"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--minutes", type=float, default=6.0, help="length of each run")
    parser.add_argument("--samples", type=int, default=64)
    arguments = parser.parse_args()

    work = arguments.work
    if not (work / "pictures").is_dir():
        make(work / "pictures")
    prior, classifier = (
        trained(work, name, arguments.minutes) for name in ("ddpm", "adm-classifier")
    )
    for row in read_log(classifier.with_name("log.csv"))[-1:]:
        print({name: round(v, 1) for name, v in row.items() if name.startswith("accuracy")})

    cpu = torch.device("cpu")
    denoise = load_denoiser(str(prior), cpu, torch.float32)
    guide = load_classifier(str(classifier), cpu)
    shown = []
    for label, name in enumerate(CLASSES):
        for scale in SCALES:
            sampling = Sampling(
                arguments.samples, 32, 32, guide=guide.of_class(label), guide_scale=scale
            )
            pictures, _ = sample_pictures(denoise, sampling, cpu)
            wanted = upright(pictures) == (name == "upright")
            print(f"{name} {scale:g}: {100 * float(wanted.float().mean()):.0f} %", flush=True)
            shown.append(pictures[:8])
    sheet = visible(2 * grid(torch.cat(shown), columns=8)[None] - 1)[0]
    Image.fromarray((255 * sheet).byte().permute(1, 2, 0).numpy()).save(work / "samples.png")


if __name__ == "__main__":
    main()
