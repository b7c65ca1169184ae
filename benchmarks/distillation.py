"""Measure how far few steps of a distilled DDIM end from the teacher's many, from equal noise.

    python benchmarks/distillation.py run/model-8.safetensors run/model.safetensors \\
        --pictures CID22_VAL

Each distilled model takes its own steps; the model that it was distilled from takes as many, at the
same levels and at each grid. The distance is the RMS over all pixels, for pixels in [0, 1]: of
pictures from noise alone, and of pictures whose ×4 enlargement is shown to the network.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from problems import load_pictures, to_tensor
from torch import Tensor

from restore.diffusion.denoiser import Condition, Denoise
from restore.diffusion.schedule import LEVELS, noise_levels
from restore.restorer import load_denoiser
from restore.runtime.devices import choose_device, keep_freed_memory, network_dtype
from restore.samplers.ddim import ddim
from restore.training.samples import enlarged

AT_ONCE = 8


def endpoints(
    denoise: Denoise, noise: Tensor, sigmas: Sequence[float], condition: Condition | None
) -> Tensor:
    """Return the pictures in [0, 1] that DDIM makes from white noise [B, 3, n, n]."""
    made = []
    for part in torch.arange(len(noise)).split(AT_ONCE):
        shown = None if condition is None else Condition(*(c[part] for c in condition))
        made.append(ddim(denoise, sigmas[0] * noise[part], sigmas, condition=shown))
    return ((torch.cat(made) + 1) / 2).clamp(0, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("students", nargs="+", metavar="MODEL", help="distilled models")
    parser.add_argument(
        "--pictures", type=Path, required=True, help="a folder of sharp pictures to be enlarged"
    )
    parser.add_argument("--teacher", default="default", help="the model they were distilled from")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument(
        "--reference", type=int, default=256, help="steps of the teacher that count as many"
    )
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    keep_freed_memory()
    device = choose_device(arguments.device)
    teacher = load_denoiser(arguments.teacher, device, network_dtype(device))
    photos = load_pictures(arguments.pictures, arguments.size, arguments.count).values()
    clean = 2 * torch.cat([to_tensor(photo) for photo in photos]).to(device) - 1
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)).to(device)
    kinds = {"prior": None, "×4": enlarged(clean, 4)}
    many = noise_levels(teacher.schedule, arguments.reference, "log-snr")

    with torch.inference_mode():
        truth = {
            kind: endpoints(teacher, noise, many, condition) for kind, condition in kinds.items()
        }

        def row(label: str, denoise: Denoise, sigmas: Sequence[float]) -> None:
            ends = {
                kind: endpoints(denoise, noise, sigmas, condition)
                for kind, condition in kinds.items()
            }
            errors = [float((ends[kind] - truth[kind]).square().mean().sqrt()) for kind in kinds]
            print(
                f"| {label} | {len(sigmas) - 1} | {errors[0]:.4f} | {errors[1]:.4f} |", flush=True
            )

        print(
            f"{len(clean)} pictures of {arguments.size} pixels; RMS to {arguments.reference} "
            "steps.\n"
        )
        print(f"| network | steps | {' | '.join(kinds)} |\n|---|---:|---:|---:|")
        for model in arguments.students:
            student = load_denoiser(model, device, network_dtype(device))
            own = [*student.distilled_levels, 0.0]
            row(f"distilled: {Path(model).name}", student, own)
            row("before, same levels", teacher, own)
            for grid in LEVELS:
                row(f"before, {grid}", teacher, noise_levels(teacher.schedule, len(own) - 1, grid))


if __name__ == "__main__":
    main()
