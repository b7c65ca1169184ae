"""Measure the quality of every sampler by network calls on the default prior, for docs/gallery.md.

    RESTORE_LPIPS_TRUNK=alexnet_features.safetensors python benchmarks/gallery_calls.py \\
        PHOTOGRAPHS WORK --figure docs/gallery-calls.png [--calls 5 10 20 50]

All samplers draw 64 pictures of 48×48 pixels from the same noise. What has been drawn is in the
folder WORK and is not drawn again, so an interrupted run continues. Both measures fall as a sampler
gets better:

- for deterministic samplers, the root mean square distance in [-1, 1] to the end of the probability
  flow from the same noise, which an adaptive solver with a tolerance of 1e-6 finds;
- for all, the Fréchet distance (Heusel et al. 2017, arXiv 1706.08500, with AlexNet's second
  convolution in place of Inception) to crops of photographs. As many other photographs show the
  least distance that so few samples can reach.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter, ScalarFormatter
from numpy.typing import NDArray
from problems import EightBit, load_pictures, to_tensor
from torch import Tensor

from restore.diffusion.denoiser import Denoiser, Prediction
from restore.diffusion.schedule import NoiseSchedule, noise_levels
from restore.diffusion.stepping import start
from restore.jobs.score_norms import find_score_norms
from restore.metrics.quality import Lpips, load_lpips
from restore.restorer import load_denoiser
from restore.samplers.catalogue import SAMPLERS

# Number and side of the pictures.
COUNT = 64
SIDE = 48
# Pictures in a batch; divides `COUNT`.
AT_ONCE = 16
# Tolerances of the adaptive solver, which takes as many calls as it needs.
TOLERANCES = (0.1, 0.01, 1e-3, 1e-4)
EXACT = 1e-6
# Samplers for the default model, which has learned no variance.
SUITABLE = [name for name, sampler in SAMPLERS.items() if not sampler.learned_variance]
# Crops of each photograph that samples are compared with.
CROPS_EACH = 4
# Random divisions of the photographs into those compared and those compared with.
DIVISIONS = 10

Array = NDArray[np.float64]


class Candidate(NamedTuple):
    """A sampler with a number of steps, or for the adaptive solver with a tolerance.

    Attributes:
        sampler: Name in `SAMPLERS`.
        steps: Number of steps.
        tolerance: Relative and absolute tolerance of the adaptive solver; None for all others.
    """

    sampler: str
    steps: int
    tolerance: float | None = None

    @property
    def name(self) -> str:
        return f"{self.sampler}-{self.steps if self.tolerance is None else self.tolerance}"

    @property
    def run(self) -> Callable[..., Tensor]:
        sampler = SAMPLERS[self.sampler]
        if sampler.score_norms:
            return partial(sampler.run, norms=find_score_norms("default"))
        return (
            sampler.run
            if self.tolerance is None
            else partial(sampler.run, rtol=self.tolerance, atol=self.tolerance)
        )


REFERENCE = Candidate("ode", 2, EXACT)


class Counted:
    """A denoiser that counts its calls; without a model it returns zeros."""

    def __init__(self, denoise: Denoiser | None = None) -> None:
        self.denoise = denoise
        self.calls = 0

    def __call__(self, x: Tensor, sigma: float, condition: None = None) -> Prediction:
        self.calls += 1
        return (
            Prediction(0 * x, x / sigma)
            if self.denoise is None
            else self.denoise(x, sigma, condition)
        )


def all_candidates(schedule: NoiseSchedule, most_calls: list[int]) -> Iterator[Candidate]:
    """Yield all samplers with the most steps that each number of calls allows."""
    yield REFERENCE
    yield from (Candidate("ode", 2, tolerance) for tolerance in TOLERANCES)
    for calls in most_calls:
        for name in SUITABLE:
            if name != "ode" and (steps := _steps(name, schedule, calls)):
                yield Candidate(name, steps)


def _steps(name: str, schedule: NoiseSchedule, most: int) -> int | None:
    """Return the most steps that take at most so many calls; None if there are none."""
    found = None
    for steps in range(SAMPLERS[name].least_steps, most + 1):
        counted = Counted()
        draw(counted, Candidate(name, steps), schedule, 1, 1)
        if counted.calls > most:
            break
        found = steps

    return found


def draw(
    denoise: Counted, candidate: Candidate, schedule: NoiseSchedule, count: int, side: int
) -> Tensor:
    """Draw pictures [count, 3, side, side], about in [-1, 1]."""
    sampler = SAMPLERS[candidate.sampler]
    sigmas = noise_levels(schedule, candidate.steps, sampler.levels)
    pictures = []

    for seed in range(max(1, count // AT_ONCE)):
        generator = torch.Generator().manual_seed(seed)
        random = {"generator": generator} if sampler.random else {}
        noise = start(torch.zeros(min(count, AT_ONCE), 3, side, side), sigmas[0], generator)
        with torch.inference_mode():
            pictures.append(candidate.run(denoise, noise, sigmas, **random))

    return torch.cat(pictures)


def drawn(work: Path, denoise: Denoiser, candidate: Candidate) -> tuple[Tensor, float]:
    """Return pictures and network calls a picture: from the folder, or drawn and saved there."""
    file = work / f"{candidate.name}.npz"
    if not file.exists():
        counted = Counted(denoise)
        pictures = draw(counted, candidate, denoise.schedule, COUNT, SIDE)
        unfinished = work / "unfinished.npz"
        np.savez(unfinished, pictures=pictures.numpy(), calls=counted.calls * AT_ONCE / COUNT)
        os.replace(unfinished, file)
        print(candidate.name, flush=True)

    with np.load(file) as kept:
        return torch.from_numpy(kept["pictures"]), float(kept["calls"])


class Statistics(NamedTuple):
    """Statistics of features.

    Attributes:
        mean: [n].
        covariance: [n, n].
    """

    mean: Array
    covariance: Array


def statistics(pictures: Tensor, lpips: Lpips) -> Statistics:
    """Return statistics of AlexNet's 192 features after the second convolution, at all places.

    Args:
        pictures: [N, 3, H, W] in [0, 1].
        lpips: Holds the network.
    """
    network = lpips.network
    features = network.net(network.scaling_layer(2 * pictures - 1)).relu2
    points = features.permute(0, 2, 3, 1).flatten(0, 2).double().numpy()
    return Statistics(points.mean(axis=0), np.cov(points, rowvar=False))


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """Return |μ_a − μ_b|² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½), arXiv 1706.08500, eq. 6."""
    # the trace of (Σ_a Σ_b)^½
    root_trace = np.linalg.norm(_root(a.covariance) @ _root(b.covariance), "nuc")
    traces = np.trace(a.covariance + b.covariance) - 2 * root_trace

    return float(((a.mean - b.mean) ** 2).sum() + traces)


def _root(covariance: Array) -> Array:
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(values.clip(0)) @ vectors.T


def crops(photographs: list[EightBit], each: int, rng: np.random.Generator) -> Tensor:
    """Cut random squares from pictures [H, W, 3]: [N · each, 3, SIDE, SIDE] in [0, 1]."""
    made = []
    for photograph in photographs:
        for _ in range(each):
            top, left = (rng.integers(side - SIDE + 1) for side in photograph.shape[:2])
            made.append(to_tensor(photograph[top : top + SIDE, left : left + SIDE]))
    return torch.cat(made) / 255


def among_photographs(photographs: list[EightBit], lpips: Lpips) -> tuple[list[float], Statistics]:
    """Measure how far photographs are from other photographs.

    Returns:
        Distances of crops of `COUNT` photographs to crops of the others, and the statistics that
        samples are compared with.
    """
    rng = np.random.default_rng(0)
    distances = []
    for _ in range(DIVISIONS):
        order = rng.permutation(len(photographs))
        few, rest = ([photographs[i] for i in part] for part in (order[:COUNT], order[COUNT:]))
        parts = (
            statistics(crops(few, 1, rng), lpips),
            statistics(crops(rest, CROPS_EACH, rng), lpips),
        )
        distances.append(frechet_distance(*parts))

    return distances, statistics(crops(photographs, CROPS_EACH, rng), lpips)


def measure(work: Path, folder: Path, most_calls: list[int]) -> dict[str, Any]:
    """Draw and measure everything that the figure shows."""
    denoise = load_denoiser("default", torch.device("cpu"), torch.float32)
    lpips = load_lpips()
    schedule = denoise.schedule
    exact, _ = drawn(work, denoise, REFERENCE)
    candidates = list(all_candidates(schedule, most_calls))

    for candidate in candidates:
        drawn(work, denoise, candidate)

    floor, truth = among_photographs(list(load_pictures(folder, 0).values()), lpips)
    rows = []

    for candidate in candidates:
        pictures, calls = drawn(work, denoise, candidate)
        distance = frechet_distance(statistics(((pictures + 1) / 2).clamp(0, 1), lpips), truth)
        row = {
            "sampler": candidate.sampler,
            "steps": candidate.steps,
            "tolerance": candidate.tolerance,
            "calls": calls,
        }
        error = (
            None
            if SAMPLERS[candidate.sampler].random
            else float((pictures - exact).square().mean().sqrt())
        )
        rows.append({**row, "frechet": distance, "error": error})

    return {"floor": float(np.mean(floor)), "floor_std": float(np.std(floor)), "rows": rows}


def drawing(results: dict[str, Any]) -> Any:
    """Draw the figure of three parts.

    The first is the error of deterministic samplers, the second their distance to photographs, and
    the third that of the stochastic ones.
    """
    figure, (errors, deterministic, drawn) = plt.subplots(
        1, 3, figsize=(16, 6.6), layout="constrained"
    )
    exact = [row for row in results["rows"] if row["sampler"] != "ode" or row["tolerance"] != EXACT]
    fixed = [row for row in exact if row["error"] is not None]
    _curves(errors, fixed, "error", "RMS distance to the probability flow's end")
    _curves(deterministic, fixed, "frechet", "Fréchet distance to photographs: deterministic")
    _curves(
        drawn,
        [row for row in exact if row["error"] is None],
        "frechet",
        "… and with noise on the way",
    )
    highest = max(row["frechet"] for row in exact)

    for axes in (deterministic, drawn):
        floor = results["floor"]
        spread = results["floor_std"]
        axes.axhspan(floor - spread, floor + spread, color="0.85")
        axes.axhline(floor, color="0.4", linestyle=":")
        axes.annotate("other photographs", (5, floor), fontsize=9, va="bottom")
        axes.set_ylim(0.8 * floor, 1.1 * highest)

    return figure


def _curves(axes: Axes, rows: list[dict[str, Any]], value: str, title: str) -> None:
    names = list(dict.fromkeys(row["sampler"] for row in rows))
    for number, name in enumerate(names):
        points = sorted((row["calls"], row[value]) for row in rows if row["sampler"] == name)
        color = plt.get_cmap("tab10").colors[number % 10]
        style = "--" if number >= 10 else "-"
        axes.plot(
            *zip(*points, strict=True),
            style,
            marker="os^v"[number % 4],
            markersize=5,
            color=color,
            label=name,
        )

    axes.set(xscale="log", yscale="log", xlabel="calls of the network", title=title)
    axes.set_xticks([5, 10, 20, 50, 100])
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=4)


def table(rows: list[dict[str, Any]], most_calls: list[int]) -> str:
    """Return a table of the Fréchet distance, and the error in brackets, by number of calls."""
    cells: dict[tuple[str, int], str] = {}
    for row in rows:
        fitting = [calls for calls in most_calls if row["calls"] <= calls]
        error = "" if row["error"] is None else f" ({row['error']:.3f})"
        if fitting:  # of the adaptive solver the last that fits
            cells[row["sampler"], fitting[0]] = f"{row['frechet']:.1f}{error}"

    lines = [
        "| sampler | " + " | ".join(map(str, most_calls)) + " |",
        "|---|" + "---:|" * len(most_calls),
    ]

    for name in SUITABLE:
        lines.append(
            f"| `{name}` | "
            + " | ".join(cells.get((name, calls), "") for calls in most_calls)
            + " |"
        )

    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("photographs", type=Path, help="a folder of more than 128 of them")
    parser.add_argument(
        "work", type=Path, help="a folder for what has been drawn, and results.json"
    )
    parser.add_argument("--calls", type=int, nargs="+", default=[5, 10, 20, 50])
    parser.add_argument("--figure", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    results = measure(arguments.work, arguments.photographs, arguments.calls)
    (arguments.work / "results.json").write_text(json.dumps(results, indent=1))
    drawing(results).savefig(arguments.figure, dpi=100)
    print(table(results["rows"], arguments.calls))


if __name__ == "__main__":
    main()
