"""Measures the estimate of noise that depends on the signal, and what knowing it gains.

    python benchmarks/signal_noise.py estimate FOLDER [--count N]
    python benchmarks/signal_noise.py denoise FOLDER [--count N] [--side PIXELS]
    python benchmarks/signal_noise.py deblur FOLDER [--count N] [--side PIXELS]

Noise of the variance a x + b is added to photographs, clipped and rounded to 8 bits. `estimate`
prints the error of the estimated standard deviation, relative to the true one at each pixel. The
others print PSNR in dB and LPIPS of a centre crop with the noise taken for constant, at the root of
its mean variance, and with a and b given.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import restore
from restore import SignalNoise
from restore.metrics.noise import estimate_signal_noise
from restore.metrics.quality import load_lpips, psnr

ESTIMATED = (
    SignalNoise(0.001, 1e-5),
    SignalNoise(0.001, 1e-3),
    SignalNoise(0.005, 1e-4),
    SignalNoise(0.01, 4e-4),
    SignalNoise(0.02, 1e-5),
    SignalNoise(0.02, 1e-3),
)
RESTORED = (SignalNoise(0.002, 1e-4), SignalNoise(0.01, 4e-4), SignalNoise(0.02, 1e-4))
BLURRED = (SignalNoise(0.001, 1e-5), SignalNoise(0.005, 1e-5))
KERNEL = "gaussian:1.5"


def photographs(folder: Path, count: int, side: int | None) -> list[Tensor]:
    """Photographs spread over a folder, [1, 3, H, W] in [0, 1], or their centre crops."""
    paths = sorted(folder.glob("*.png"))
    found = []
    for path in paths[:: max(1, len(paths) // count)][:count]:
        photo = Image.open(path).convert("RGB")
        width, height = photo.size
        left, top = ((length - (side or length)) // 2 for length in (width, height))
        photo = photo.crop((left, top, left + (side or width), top + (side or height)))
        found.append(torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None] / 255)

    return found


def noisy(clean: Tensor, operator: str, noise: SignalNoise, seed: int) -> Tensor:
    """The measurement in 8 bits, [1, 3, H, W] in [0, 1]."""
    measured = restore.degrade(clean, operator, noise=noise, seed=seed).measurement
    return (measured.clamp(0, 1) * 255).round() / 255


def estimate(options: argparse.Namespace) -> None:
    """Print the errors of the estimate."""
    print("| a | b | a estimated | b estimated | error of σ, mean | largest |")
    print("|---:|---:|---:|---:|---:|---:|")
    pictures = photographs(options.folder, options.count, None)
    for noise in ESTIMATED:
        pairs = []
        errors = []
        for seed, clean in enumerate(pictures):
            found = estimate_signal_noise(noisy(clean, "identity", noise, seed)[0])
            pairs.append((found.a, found.b))
            errors.append(float((found.std(clean) / noise.std(clean) - 1).abs().mean()))
        a, b = np.median(pairs, axis=0)
        print(
            f"| {noise.a:g} | {noise.b:g} | {a:.3g} | {b:.2g} | {100 * np.mean(errors):.1f} % | "
            f"{100 * max(errors):.1f} % |",
            flush=True,
        )


def restored(
    options: argparse.Namespace,
    noises: tuple[SignalNoise, ...],
    operator: str,
    restore_one: Callable[[Tensor, float | SignalNoise], Tensor],
) -> None:
    """Print scores with constant noise and with the pair."""
    lpips = load_lpips()
    print("| a | b | noisy | constant noise | a and b |")
    print("|---:|---:|---:|---:|---:|")
    pictures = photographs(options.folder, options.count, options.side)
    for noise in noises:
        scores = []
        for seed, clean in enumerate(pictures):
            y = noisy(clean, operator, noise, seed)
            level = float(noise.std(y).square().mean().sqrt())
            ways = [y, restore_one(y, level), restore_one(y, noise)]
            scores.append(
                [(float(psnr(one, clean)), float(lpips(one, clean).mean())) for one in ways]
            )
        cells = (f"{db:.2f} / {distance:.3f}" for db, distance in np.mean(scores, axis=0))
        print(f"| {noise.a:g} | {noise.b:g} | {' | '.join(cells)} |", flush=True)


def denoise(options: argparse.Namespace) -> None:
    """Print scores of denoising."""
    restored(options, RESTORED, "identity", lambda y, noise: restore.denoise(y, noise))


def deblur(options: argparse.Namespace) -> None:
    """Print scores of deblurring, with a border that is mirrored."""
    boundary = "symmetric"
    operator = f"blur:{KERNEL}:boundary={boundary}"

    def one(y: Tensor, noise: float | SignalNoise) -> Tensor:
        answer: Tensor = restore.deblur(y, KERNEL, noise=noise, boundary=boundary, method="diffpir")
        return answer

    restored(options, BLURRED, operator, one)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("estimate", "denoise", "deblur"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--side", type=int, default=192)
    options = parser.parse_args()
    {"estimate": estimate, "denoise": denoise, "deblur": deblur}[options.what](options)


if __name__ == "__main__":
    main()
