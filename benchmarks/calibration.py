"""Measure the calibration of posterior samples: how often the truth lies in their intervals.

    python benchmarks/calibration.py DATA_FOLDER --size 128 --count 4 --samples 16

Every method that draws samples restores crops that were made four times smaller, and crops of which
half of the pixels are known. For each unknown value the truth has a rank among the samples. If it
is drawn from the same distribution as they are, all ranks are equally likely, and it lies inside
the central 50 % and 90 % of them 50 % and 90 % of the time. The ends of these intervals are
interpolated between ranks: with 16 samples and 17 ranks, a truth beyond all samples counts 0.15 for
the central 90 %. "spread / error" is the standard deviation of the samples over the error of their
mean (RMS), which is 1 for exact samples but for a factor √(1 + 1/N) that is taken out.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from problems import PROBLEMS, Case, load_pictures, to_tensor

from restore import Restorer
from restore.methods import METHODS
from restore.metrics.quality import psnr
from restore.tasks import Inpainting

TASKS = ("sr4", "inpaint-random")
LEVELS = (0.5, 0.9)


class Calibration(NamedTuple):
    """Calibration of the samples of one picture.

    Attributes:
        inside: Fraction of true values inside the central intervals of `LEVELS`.
        spread: RMS of the standard deviation of the samples over that of the error of their mean.
        psnr: Of the mean of the samples, in dB.
        first_psnr: Of the first sample.
    """

    inside: tuple[float, ...]
    spread: float
    psnr: float
    first_psnr: float


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=128, help="side of the top-left crops")
    parser.add_argument("--count", type=int, default=4, help="number of pictures")
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--calls", type=int, default=100, help="network calls of a sample")
    parser.add_argument("--methods", default="", help="with commas between; NAME:key=value+…")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    restorer = Restorer(device=arguments.device)
    pictures = load_pictures(arguments.folder, arguments.size, arguments.count)
    names = arguments.methods.split(",") if arguments.methods else sampling_methods()

    print(
        f"{len(pictures)} crops of {arguments.size} pixels, {arguments.samples} samples of "
        f"{arguments.calls} calls.\n"
    )
    print("| task | method | in 50 % | in 90 % | spread / error | PSNR of the mean | of a sample |")
    print("|---|---|---:|---:|---:|---:|---:|", flush=True)
    for task in TASKS:
        cases = [PROBLEMS[task].degrade(name, picture) for name, picture in pictures.items()]
        for name in names:
            method, parameters = read_method(name)
            if not suited(restorer, method, cases[0]):
                continue
            options = {"method": method, "parameters": parameters, "steps": arguments.calls}
            found = [measure(restorer, case, arguments.samples, options) for case in cases]
            show(task, name, found)


def sampling_methods() -> list[str]:
    """Return the methods that draw samples."""
    return [name for name, method in METHODS.items() if method.stochastic]


def read_method(text: str) -> tuple[str, dict[str, float]]:
    """Read ``daps`` or ``daps:langevin_time=0.01+ode_calls=2``.

    >>> read_method("daps:langevin_time=0.01+ode_calls=2")
    ('daps', {'langevin_time': 0.01, 'ode_calls': 2.0})
    """
    name, _, rest = text.partition(":")
    pairs = (item.split("=") for item in rest.split("+") if item)
    return name, {key: float(value) for key, value in pairs}


def suited(restorer: Restorer, method: str, case: Case) -> bool:
    """Return True if the method can solve the problem."""
    problem = restorer.problem(case.task, to_tensor(case.photo))
    denoiser = restorer.denoiser
    return METHODS[method].suits(problem, conditional=denoiser.conditional, prior=denoiser.prior)


def measure(restorer: Restorer, case: Case, samples: int, options: dict) -> Calibration:
    """Draw samples for one picture and compare them with the truth."""
    result = restorer.run(case.task, case.photo, samples=samples, seed=1, **options)
    drawn = np.stack(result.samples).transpose(0, 3, 1, 2)
    truth = case.truth[0].numpy()
    known = np.zeros(truth.shape, bool)
    if isinstance(case.task, Inpainting):
        known |= ~np.asarray(case.task.mask)

    mean = torch.from_numpy(drawn.mean(axis=0))[None].clamp(0, 1)
    first = torch.from_numpy(drawn[0])[None].clamp(0, 1)
    inside, spread = calibration(drawn[:, ~known], truth[~known])
    return Calibration(
        inside, spread, float(psnr(mean, case.truth)), float(psnr(first, case.truth))
    )


def calibration(
    samples: NDArray[np.floating], truth: NDArray[np.floating]
) -> tuple[tuple[float, ...], float]:
    """Return the fractions inside the central intervals of `LEVELS`, and spread over error.

    >>> random = np.random.default_rng(0)
    >>> inside, spread = calibration(random.normal(size=(16, 50_000)), random.normal(size=50_000))
    >>> [round(fraction, 2) for fraction in (*inside, spread)]
    [0.5, 0.9, 1.0]

    Args:
        samples: [N, V], samples of V values.
        truth: [V].
    """
    count = len(samples)
    below = (samples < truth).sum(axis=0)
    equal = (samples == truth).sum(axis=0)
    # the rank of a tie, as of values clipped to white, is in the middle of its samples
    rank = below + equal / 2
    inside = tuple(float(_inside(rank, count + 1, level).mean()) for level in LEVELS)

    error = np.sqrt(np.square(samples.mean(axis=0) - truth).mean())
    spread = np.sqrt(samples.var(axis=0, ddof=1).mean() * (1 + 1 / count))
    return inside, float(spread / max(error, 1e-12))


def _inside(rank: NDArray[np.floating], ranks: int, level: float) -> NDArray[np.floating]:
    """Return the part of each rank's cell [rank, rank + 1] that lies in the central interval."""
    low = ranks * (1 - level) / 2
    high = ranks - low
    return np.clip(np.minimum(rank + 1, high) - np.maximum(rank, low), 0, 1)


def show(task: str, name: str, found: list[Calibration]) -> None:
    inside = [fmean(one.inside[index] for one in found) for index in range(len(LEVELS))]
    spread = fmean(one.spread for one in found)
    mean = fmean(one.psnr for one in found)
    first = fmean(one.first_psnr for one in found)
    print(
        f"| {task} | `{name}` | {100 * inside[0]:.0f} | {100 * inside[1]:.0f} | {spread:.2f} | "
        f"{mean:.2f} | {first:.2f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
