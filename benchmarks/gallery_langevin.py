"""Compare Langevin dynamics, as published and consistent, with DDPM, for docs/gallery.md.

    python benchmarks/gallery_langevin.py docs/gallery-langevin.png [--calls 120] [--size 48]

Left: a Gaussian world with the spectrum of photographs, where the state of every sampler is
Gaussian and its variance at each frequency follows from the steps: no network and no random
numbers. Right: samples of the default prior by as many calls.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray

from restore.diffusion.schedule import NoiseSchedule, noise_levels
from restore.methods.sampling import Sampling, grid, sample_pictures
from restore.restorer import load_denoiser
from restore.samplers.langevin import langevin_step_size

Array = NDArray[np.float64]

SCHEDULE = NoiseSchedule.named("linear")
# Side of the pictures of the Gaussian world, and mean variance of their pixels in [-1, 1].
SIDE = 64
VARIANCE = 0.2
# Langevin steps at each level, as published.
STEPS_EACH = 5
CALLS = (50, 100, 200, 500, 1000, 2000, 5000)


def spectrum() -> Array:
    """Return the variance of each Fourier coefficient, ∝ 1/f²; the mean counts as half a cycle."""
    one = np.fft.fftfreq(SIDE)
    frequency = np.hypot(one[:, None], one)
    frequency[0, 0] = 1 / (2 * SIDE)
    power = 1 / frequency**2
    return (VARIANCE * power / power.mean()).ravel()


def error(variances: Array, truth: Array) -> float:
    """Return the 2-Wasserstein distance to the truth, of a pixel in 8-bit levels."""
    return float(127.5 * np.sqrt(((np.sqrt(variances) - np.sqrt(truth)) ** 2).mean()))


def denoised(variances: Array, truth: Array, sigma: float) -> Array:
    """Return the variances after the last step, to the clean estimate."""
    return variances * (truth / (truth + sigma**2)) ** 2


def published(truth: Array, sigmas: Sequence[float]) -> float:
    """Return the error of `restore.samplers.langevin.annealed_langevin`."""
    eta = langevin_step_size(sigmas, STEPS_EACH)
    variances = np.full_like(truth, sigmas[0] ** 2)
    for sigma in sigmas[:-1]:
        for _ in range(STEPS_EACH):
            kept = 1 - eta * sigma**2 / (truth + sigma**2)
            variances = kept**2 * variances + 2 * eta * sigma**2
    return error(denoised(variances, truth, sigmas[-2]), truth)


def consistent(truth: Array, sigmas: Sequence[float]) -> float:
    """Return the error of `restore.samplers.langevin.consistent_langevin`, and of DDPM."""
    variances = np.full_like(truth, sigmas[0] ** 2)
    for sigma, sigma_next in pairwise(sigmas[:-1]):
        kept = 1 - (1 - (sigma_next / sigma) ** 2) * sigma**2 / (truth + sigma**2)
        fresh = sigma_next**2 * (1 - (sigma_next / sigma) ** 2)
        variances = kept**2 * variances + fresh
    return error(denoised(variances, truth, sigmas[-2]), truth)


def curves(axes: Axes) -> list[str]:
    """Draw the errors in the Gaussian world by calls, and return a table of them."""
    truth = spectrum()
    low, high = float(SCHEDULE.sigmas[0]), float(SCHEDULE.sigmas[-1])

    def geometric(count: int) -> list[float]:
        return [*np.geomspace(high, low, count).tolist(), 0.0]

    samplers: dict[str, Callable[[int], float | None]] = {
        "langevin-ncsn": lambda calls: published(truth, geometric(calls // STEPS_EACH)),
        "langevin": lambda calls: consistent(truth, geometric(calls)),
        "ddpm": lambda calls: (
            consistent(truth, noise_levels(SCHEDULE, calls)) if calls <= len(SCHEDULE) else None
        ),
    }
    lines = ["| calls | " + " | ".join(map(str, CALLS)) + " |"]
    lines.append("|---|" + "---:|" * len(CALLS))
    for name, run in samplers.items():
        errors = [run(calls) for calls in CALLS]
        known = [(c, e) for c, e in zip(CALLS, errors, strict=True) if e is not None]
        axes.loglog(*zip(*known, strict=True), marker="o", label=name)
        cells = ("" if e is None else f"{e:.2f}" for e in errors)
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")

    axes.set(xlabel="calls of the network", ylabel="error, 8-bit levels")
    axes.set_title("Gaussian world with a 1/f² spectrum", fontsize=10)
    axes.grid(alpha=0.3, which="both")
    axes.legend()

    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path, help="the figure")
    parser.add_argument("--calls", type=int, default=120)
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--size", type=int, default=48)
    a = parser.parse_args()

    figure, places = plt.subplots(
        1, 4, figsize=(15, 4.2), layout="constrained", width_ratios=(1.5, 1, 1, 1)
    )
    print("\n".join(curves(places[0])), flush=True)

    denoise = load_denoiser("default", torch.device("cpu"), torch.float32)
    drawn = (
        ("langevin-ncsn", a.calls // STEPS_EACH),
        ("langevin", a.calls),
        ("ddpm", a.calls),
    )
    for axes, (sampler, steps) in zip(places[1:], drawn, strict=True):
        wanted = Sampling(a.count, a.size, a.size, sampler, steps, seed=1)
        pictures, _ = sample_pictures(denoise, wanted, denoise.device)
        axes.imshow(grid(pictures).permute(1, 2, 0).numpy(), interpolation="nearest")
        axes.set_title(f"{sampler}, {a.calls} calls", fontsize=10)
        axes.set_axis_off()

    figure.savefig(a.out, dpi=90)


if __name__ == "__main__":
    main()
