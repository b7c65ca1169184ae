"""What a network makes of a few pictures in training: a sheet to look at, and PSNR for the log."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from restore.denoiser import Condition, Denoiser
from restore.errors import NothingToDo, RestoreError
from restore.evaluation import psnr
from restore.photo import SUFFIXES, read_photo
from restore.solvers.common import gaussian_noise
from restore.solvers.sr3 import one_step

NOISE = (15, 25, 50)
"""Standard deviations for pixels in 0 … 255."""
SCALE = 4
SIDE = 128
"""Of the pictures that are shown to a model that takes any size."""


def centre_crops(folder: Path, count: int = 6, side: int = SIDE) -> Tensor:
    """The middle of the first pictures of a folder, float32 [count or less, 3, side, side] in [-1, 1].

    Raises:
        NothingToDo: no picture that is readable and large enough.
    """
    crops = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
        try:
            pixels = read_photo(path).pixels
        except RestoreError:
            continue
        top, left = ((size - side) // 2 for size in pixels.shape[:2])
        if min(top, left) >= 0:
            crops.append(np.broadcast_to(pixels, (*pixels.shape[:2], 3))[top : top + side, left : left + side])
        if len(crops) == count:
            break
    if not crops:
        raise NothingToDo(f"{folder}: no readable picture of at least {side}x{side} pixels to validate with")
    return 2 * torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous() - 1


@torch.no_grad()
def sample_sheet(denoise: Denoiser, clean: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Denoise and enlarge pictures; the noise is the same in every call.

    Args:
        denoise: the network.
        clean: [N, 3, n, n] in [-1, 1] on the network's device, n a multiple of 4.

    Returns:
        [3, N n, columns n] in [0, 1]: a row for each picture with the truth, noisy and denoised at three levels and,
        of a conditional network, ×4 enlarged bicubically and in one step. Mean PSNR in dB, ``{"psnr 25": …}``.
    """
    generator = torch.Generator().manual_seed(0)
    columns, quality = [clean], {}
    for level in NOISE:
        sigma = 2 * level / 255
        noisy = clean + sigma * gaussian_noise(clean.shape, generator, clean.device)
        restored = torch.cat([denoise(x, sigma).clean for x in noisy.split(1)])
        columns += [noisy, restored]
        quality[f"psnr {level}"] = _quality(restored, clean)
    if denoise.conditional:
        condition = enlarged(clean, SCALE)
        highest = float(denoise.schedule.sigmas[-1])
        zeros = denoise.one_step_from_zeros
        restored = one_step(denoise, condition, highest, generator=generator, from_zeros=zeros)
        columns += [condition.picture, restored]
        quality[f"psnr x{SCALE}"] = _quality(restored, clean)
    rows = torch.cat(columns, dim=-1).clamp(-1, 1).add(1).div(2).float().cpu()
    return torch.cat(list(rows), dim=-2), quality


def enlarged(clean: Tensor, scale: int) -> Condition:
    """Pictures [-1, 1] made small by antialiased bicubic sampling, rounded to 8 bits, and enlarged again."""
    small = F.interpolate(clean, scale_factor=1 / scale, mode="bicubic", antialias=True)
    small = small.clamp(-1, 1).add(1).mul(127.5).round().div(127.5).sub(1)
    picture = F.interpolate(small, size=clean.shape[-2:], mode="bicubic")
    return Condition(picture, torch.ones_like(picture[:, :1]))


def png(picture: Tensor) -> bytes:
    """A picture [3, H, W] in [0, 1] as a PNG file."""
    pixels = picture.mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _quality(estimate: Tensor, truth: Tensor) -> float:
    estimate, truth = ((x.float().clamp(-1, 1) + 1) / 2 for x in (estimate, truth))
    return float(psnr(estimate, truth).mean())
