"""Draw samples of the default prior, and photographs as noise and back, for docs/gallery.md.

    python benchmarks/gallery_prior.py examples/parrots.png docs/gallery-prior.jpg \\
        docs/gallery-inversion.jpg
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from restore.diffusion.denoiser import Denoiser
from restore.diffusion.schedule import noise_levels
from restore.methods.sampling import Sampling, grid, sample_pictures
from restore.metrics.quality import psnr
from restore.restorer import load_denoiser
from restore.samplers.ddim import ddim, ddim_invert

# Samplers, and their numbers of noise levels.
DRAWN = (
    ("ddpm", 100),
    ("ddim", 50),
    ("dpmpp-2m", 20),
    ("sde-dpmpp-2m", 30),
    ("heun", 20),
    ("langevin-ncsn", 20),
)
COLUMNS = 8
SIDE = 80
GAP = 4
# Left edges and side of two squares of the photograph, in pixels.
LEFTS = (0, 90)
CROP = 96
# Numbers of noise levels, and of network calls at each during the inversion.
INVERSIONS = ((20, 1), (60, 1), (20, 3))
# Width of the captions beside the rows, in pixels.
WORDS = 170
# Height of the captions above the columns, in pixels.
HEADS = 34


def drawn(denoise: Denoiser) -> list[tuple[str, Tensor]]:
    """Draw rows of pictures by several samplers, and the trajectories of two pictures."""
    rows = []
    for sampler, steps in DRAWN:
        wanted = Sampling(COLUMNS, SIDE, SIDE, sampler, steps, seed=1)
        pictures, ways = sample_pictures(
            denoise, wanted, denoise.device, ways=2 * (sampler == "ddpm")
        )
        rows.append((f"{sampler}\n{steps} levels", pictures))
        if ways is not None:
            seen = [
                ("ddpm, on the way:\nclean estimates of the\nfirst two pictures", ways[0]),
                ("", ways[1]),
            ]

    return [*rows, *seen]


def inverted(denoise: Denoiser, photograph: Tensor) -> tuple[list[str], list[Tensor]]:
    """Invert squares of a photograph to noise and back; return captions and rows of pictures."""
    squares = torch.cat([photograph[..., :CROP, left : left + CROP] for left in LEFTS])
    noises = []
    backs = []
    heads = ["photograph"]

    with torch.inference_mode():
        for levels, iterations in INVERSIONS:
            sigmas = noise_levels(denoise.schedule, levels, "log-snr")
            noise = ddim_invert(denoise, 2 * squares - 1, sigmas, iterations=iterations)
            back = (ddim(denoise, noise, sigmas) + 1) / 2
            noises.append((noise / sigmas[0] / 6 + 0.5).clamp(0, 1))
            backs.append(back.clamp(0, 1))
            heads.append(
                f"as noise:\n{levels} levels" + (f", {iterations} calls" if iterations > 1 else "")
            )
            heads.append(f"and back:\n{float(psnr(backs[-1], squares).mean()):.1f} dB")

    columns = [squares, *(part for pair in zip(noises, backs, strict=True) for part in pair)]

    return heads, list(torch.stack(columns, dim=1))


def under_heads(heads: list[str], rows: list[Tensor]) -> Image.Image:
    """Draw rows of pictures [N, 3, H, W] in [0, 1] with captions above the columns."""
    pictures = _picture(rows)
    made = Image.new("RGB", (pictures.width, HEADS + pictures.height), "white")
    made.paste(pictures, (0, HEADS))
    draw = ImageDraw.Draw(made)
    font = ImageFont.load_default(12)

    for number, words in enumerate(heads):
        draw.multiline_text(
            (number * (rows[0].shape[-1] + GAP) + 2, 2), words, fill="black", font=font, spacing=1
        )

    return made


def sheet(rows: list[tuple[str, Tensor]]) -> Image.Image:
    """Draw rows of pictures [N, 3, H, W] in [0, 1] with captions beside them."""
    side = rows[0][1].shape[-1]
    pictures = _picture([pictures for _, pictures in rows])
    made = Image.new("RGB", (WORDS + pictures.width, pictures.height), "white")
    made.paste(pictures, (WORDS, 0))
    draw = ImageDraw.Draw(made)
    font = ImageFont.load_default(15)

    for number, (words, _) in enumerate(rows):
        draw.multiline_text((4, number * (side + GAP) + 4), words, fill="black", font=font)

    return made


def _picture(rows: list[Tensor]) -> Image.Image:
    whole = grid(torch.cat(rows), columns=len(rows[0]), gap=GAP)
    return Image.fromarray((255 * whole).round().byte().permute(1, 2, 0).numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("photograph", type=Path)
    parser.add_argument("prior", type=Path)
    parser.add_argument("inversion", type=Path)
    arguments = parser.parse_args()
    denoise = load_denoiser("default", torch.device("cpu"), torch.float32)
    pixels = np.array(Image.open(arguments.photograph).convert("RGB"))
    photograph = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    under_heads(*inverted(denoise, photograph)).save(arguments.inversion, quality=90)
    sheet(drawn(denoise)).save(arguments.prior, quality=88)


if __name__ == "__main__":
    main()
