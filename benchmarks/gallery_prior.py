"""What the default prior draws, how it comes about, and photographs as noise and back: pictures of docs/gallery.md.

python benchmarks/gallery_prior.py examples/parrots.png docs/gallery-prior.jpg docs/gallery-inversion.jpg
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from restore.denoiser import Denoiser
from restore.evaluation import psnr
from restore.restorer import load_denoiser
from restore.samplers.ddim import ddim, ddim_invert
from restore.sampling import Sampling, grid, sample_pictures
from restore.schedule import noise_levels

DRAWN = (("ddpm", 100), ("ddim", 50), ("dpmpp-2m", 20), ("sde-dpmpp-2m", 30), ("heun", 20), ("langevin", 20))
"""Samplers, and with how many noise levels."""
COLUMNS, SIDE = 8, 80
LEFTS, CROP = (0, 90), 96
"""Of two squares of the photograph, in pixels."""
INVERSIONS = ((20, 1), (60, 1), (20, 3))
"""Noise levels, and calls of the network at each on the way to the noise."""
WORDS = 170
"""Pixels beside a row for what it shows."""


def drawn(denoise: Denoiser) -> list[tuple[str, Tensor]]:
    """Rows of pictures by several samplers, and the ways of two pictures."""
    rows = []
    for sampler, steps in DRAWN:
        wanted = Sampling(COLUMNS, SIDE, SIDE, sampler, steps, seed=1)
        pictures, ways = sample_pictures(denoise, wanted, denoise.device, ways=2 * (sampler == "ddpm"))
        rows.append((f"{sampler}\n{steps} levels", pictures))
        if ways is not None:
            seen = [("ddpm, on the way:\nclean estimates of the\nfirst two pictures", ways[0]), ("", ways[1])]
    return [*rows, *seen]


def inverted(denoise: Denoiser, photograph: Tensor) -> list[tuple[str, Tensor]]:
    """Squares of a photograph as noise and back, and pictures between two of them."""
    squares = torch.cat([photograph[..., :CROP, left : left + CROP] for left in LEFTS])
    rows, noises, backs, words = [], [], [], []
    with torch.inference_mode():
        for levels, iterations in INVERSIONS:
            sigmas = noise_levels(denoise.schedule, levels, "log-snr")
            noise = ddim_invert(denoise, 2 * squares - 1, sigmas, iterations=iterations)
            back = (ddim(denoise, noise, sigmas) + 1) / 2
            noises.append((noise / sigmas[0] / 6 + 0.5).clamp(0, 1))
            backs.append(back.clamp(0, 1))
            words.append(f"{levels} x {iterations}: {float(psnr(backs[-1], squares).mean()):.1f} dB")
    for number in range(len(LEFTS)):
        pictures = [squares, *(part for pair in zip(noises, backs, strict=True) for part in pair)]
        rows.append(("\n".join(words) if number == 0 else "", torch.stack([p[number] for p in pictures])))
    return rows


def sheet(rows: list[tuple[str, Tensor]]) -> Image.Image:
    """Rows of pictures [N, 3, H, W] in [0, 1] with words beside them."""
    side = rows[0][1].shape[-1]
    whole = grid(torch.cat([pictures for _, pictures in rows]), columns=len(rows[0][1]), gap=4)
    pictures = Image.fromarray((255 * whole).round().byte().permute(1, 2, 0).numpy())
    made = Image.new("RGB", (WORDS + pictures.width, pictures.height), "white")
    made.paste(pictures, (WORDS, 0))
    draw, font = ImageDraw.Draw(made), ImageFont.load_default(15)
    for number, (words, _) in enumerate(rows):
        draw.multiline_text((4, number * (side + 4) + 4), words, fill="black", font=font)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("photograph", type=Path)
    parser.add_argument("prior", type=Path)
    parser.add_argument("inversion", type=Path)
    arguments = parser.parse_args()
    denoise = load_denoiser("default", torch.device("cpu"), torch.float32)
    pixels = np.array(Image.open(arguments.photograph).convert("RGB"))
    photograph = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    sheet(inverted(denoise, photograph)).save(arguments.inversion, quality=90)
    sheet(drawn(denoise)).save(arguments.prior, quality=88)


if __name__ == "__main__":
    main()
