"""Samples in training: a sheet of pictures to look at, and PSNR for the log."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from restore.diffusion.denoiser import Condition, Denoiser
from restore.diffusion.evidence import Evidence
from restore.diffusion.predictor import Shown
from restore.diffusion.schedule import noise_levels
from restore.diffusion.stepping import gaussian_noise, within_pictures
from restore.errors import NothingToDo, RestoreError
from restore.jobs.walk import pictures_in
from restore.metrics.quality import psnr
from restore.photo.photograph import SUFFIXES, read_photo
from restore.samplers.ddim import ddim
from restore.solvers.i2sb import i2sb
from restore.solvers.sr3 import one_step, sr3
from restore.training.degradations import Capture, Noise, Place

# Standard deviations of the noise for pixels in 0 … 255.
NOISE = (15, 25, 50)
# Scale factor of super-resolution.
SCALE = 4
# Steps for the sheet of a network that predicts ε, and the most of a student.
STEPS = 32
# Side of the pictures for a model that takes any size.
SIDE = 128


def centre_crops(folder: Path, count: int = 6, side: int = SIDE) -> Tensor:
    """Read the middle of the first pictures of a folder.

    Args:
        folder: Searched with all folders in it.
        count: Largest number of pictures.
        side: Side of the crops in pixels.

    Returns:
        float32 [count or less, 3, side, side] in [-1, 1].

    Raises:
        NothingToDo: No picture is readable and large enough.
    """
    crops = []
    for path in sorted(pictures_in(folder, SUFFIXES)):
        try:
            pixels = read_photo(path).pixels
        except RestoreError:
            continue
        top, left = ((size - side) // 2 for size in pixels.shape[:2])
        if min(top, left) >= 0:
            crops.append(
                np.broadcast_to(pixels, (*pixels.shape[:2], 3))[
                    top : top + side, left : left + side
                ]
            )
        if len(crops) == count:
            break

    if not crops:
        raise NothingToDo(
            f"{folder}: no readable picture of at least {side}x{side} pixels to validate with"
        )

    return 2 * torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous() - 1


@torch.no_grad()
def sample_sheet(denoise: Denoiser, clean: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Denoise and enlarge pictures; the noise is the same in every call.

    Args:
        denoise: The network.
        clean: [N, 3, n, n] in [-1, 1] on the network's device, n a multiple of 4.

    Returns:
        [3, N n, columns n] in [0, 1]: a row for each picture with the truth; with a prior, noisy
        and denoised at three levels; with a predictor, its input at ×4 and its answer; with a
        conditional network, the ×4 enlargement (bicubic, or by the predictor) and the result of one
        step, or of 32 where it predicts ε. Mean PSNR in dB, ``{"psnr 25": …}``.
    """
    generator = torch.Generator().manual_seed(0)
    columns = [clean]
    quality = {}

    for level in NOISE if denoise.prior else ():
        sigma = 2 * level / 255
        noisy = clean + sigma * gaussian_noise(clean.shape, generator, clean.device)
        restored = torch.cat([denoise(x, sigma).clean for x in noisy.split(1)])
        columns += [noisy, restored]
        quality[f"psnr {level}"] = _quality(restored, clean)

    if (predictor := denoise.predictor) is not None:
        evidence = enlarged_evidence(clean, SCALE, predictor.config.shown)
        restored = predictor(evidence)
        columns += [evidence.picture, restored]
        quality[f"psnr x{SCALE} predicted"] = _quality(restored, clean)

    if denoise.conditional:
        condition = _condition(denoise, clean)
        restored = _restored(denoise, condition, generator)
        columns += [condition.picture, restored]
        quality[f"psnr x{SCALE}"] = _quality(restored, clean)

    return _side_by_side(columns), quality


@torch.no_grad()
def distillation_sheet(
    student: Denoiser, teacher: Denoiser, grid: Sequence[float], clean: Tensor
) -> tuple[Tensor, dict[str, float]]:
    """Sample with the last 32 or fewer of the student's DDIM steps, and with the teacher's.

    Args:
        student: The student.
        teacher: The teacher, which takes twice as many steps.
        grid: The teacher's noise levels with a final 0; the student has every second one.
        clean: As for `sample_sheet`. If the student takes more than 32 steps, the pictures are
            still visible under the noise.

    Returns:
        [3, N n, columns n] in [0, 1]: a row for each picture with the truth, what student and
        teacher make of the same noise and, with a conditional network, the ×4 enlargement and what
        they make of that. PSNR in dB of the student's pictures against the teacher's.
    """
    grid = grid[-2 * STEPS - 1 :]
    start = clean + grid[0] * gaussian_noise(
        clean.shape, torch.Generator().manual_seed(0), clean.device
    )
    kinds = {"like teacher": None} | (
        {f"like teacher x{SCALE}": _condition(student, clean)} if teacher.conditional else {}
    )
    columns = [clean]
    quality = {}

    for name, condition in kinds.items():
        made = [
            ddim(network, start, levels, condition=condition)
            for network, levels in zip((student, teacher), (grid[::2], grid), strict=True)
        ]
        columns += [*([] if condition is None else [condition.picture]), *made]
        quality[name] = _quality(*made)

    return _side_by_side(columns), quality


def enlarged(clean: Tensor, scale: int) -> Condition:
    """Return the condition of ×``scale`` super-resolution for pictures in [-1, 1].

    They are downsampled by antialiased bicubic sampling, rounded to 8 bits, and enlarged again.
    """
    small = F.interpolate(clean, scale_factor=1 / scale, mode="bicubic", antialias=True)
    small = small.clamp(-1, 1).add(1).mul(127.5).round().div(127.5).sub(1)
    picture = F.interpolate(small, size=clean.shape[-2:], mode="bicubic")
    return Condition(picture, torch.ones_like(picture[:, :1]))


def enlarged_evidence(clean: Tensor, scale: int, shown: Shown) -> Evidence:
    """Return a predictor's evidence for square pictures in [-1, 1], downsampled to 8 bits."""
    side = clean.shape[-1]
    capture = Capture(Place(side, 0, 0, side), Noise(), None, side // scale)
    random = np.random.default_rng(0)  # for the noise, which is zero
    files = (capture.measured((picture + 1) / 2, random) for picture in clean.cpu())
    parts = zip(*(capture.evidence(file, shown) for file in files), strict=True)
    return Evidence(*(torch.stack(part) for part in parts)).to(clean.device)


def _condition(denoise: Denoiser, clean: Tensor) -> Condition:
    """Return a denoiser's condition for pictures that were downsampled."""
    if denoise.config.condition_picture == "degraded":
        return enlarged(clean, SCALE)

    predictor = denoise.predictor
    assert predictor is not None  # whose answer is the condition
    predicted = predictor(enlarged_evidence(clean, SCALE, predictor.config.shown))
    return Condition(predicted, torch.ones_like(predicted[:, :1]))


def _restored(denoise: Denoiser, condition: Condition, generator: torch.Generator) -> Tensor:
    """Return what a conditional network makes of its condition in the fewest sensible steps."""
    highest = float(denoise.schedule.sigmas[-1])
    if denoise.bridge:
        return i2sb(denoise, condition, [highest, 0.0])

    if denoise.predicts_noise:  # one step would multiply its error by the highest level
        sigmas = noise_levels(denoise.schedule, STEPS)
        return sr3(within_pictures(denoise), condition, sigmas, generator=generator)

    zeros = denoise.one_step_from_zeros
    return one_step(denoise, condition, highest, generator=generator, from_zeros=zeros)


def png(picture: Tensor) -> bytes:
    """Encode a picture [3, H, W] in [0, 1] as PNG."""
    pixels = picture.mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _side_by_side(columns: Sequence[Tensor]) -> Tensor:
    """Put pictures [N, 3, n, n] in [-1, 1] together as columns of a sheet."""
    rows = torch.cat(list(columns), dim=-1).clamp(-1, 1).add(1).div(2).float().cpu()
    return torch.cat(list(rows), dim=-2)


def _quality(estimate: Tensor, truth: Tensor) -> float:
    estimate, truth = ((x.float().clamp(-1, 1) + 1) / 2 for x in (estimate, truth))
    return float(psnr(estimate, truth).mean())
