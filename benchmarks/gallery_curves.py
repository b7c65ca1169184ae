"""Draw points diffused to noise and back by the exact denoiser, for docs/gallery.md.

    python benchmarks/gallery_curves.py docs/gallery-chain.png docs/gallery-samplers.png

The points are a Swiss roll, as in Sohl-Dickstein et al. 2015 (arXiv 1503.03585, figure 1), and an
S, of 2000 points each. With noise they are a mixture of 2000 Gaussians, whose denoiser is known: no
network is at work here.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance
from torch import Tensor

from restore.diffusion.denoiser import Prediction
from restore.diffusion.schedule import NoiseSchedule, noise_levels
from restore.diffusion.stepping import start
from restore.samplers.ancestral import diffuse
from restore.samplers.catalogue import SAMPLERS

# Number of points of each curve, of those that each sampler draws, and of trajectories shown.
POINTS = 2000
DRAWN = 500
FOLLOWED = 7
LEVELS = (0.0, 0.1, 0.3, 0.7, 1.5, 5.0)
# Highest σ of the trajectories; above it the stochastic ones are noise alone.
FOLLOWED_FROM = 1.5
SCHEDULE = NoiseSchedule.named("linear")
# Title in the picture and number of noise levels, by name in `SAMPLERS`.
NAMES = {
    "ddpm": ("DDPM", 20),
    "ddim": ("DDIM", 20),
    "dpmpp-2m": ("DPM-Solver++(2M)", 20),
    "heun": ("Heun", 20),
    "langevin-ncsn": ("annealed Langevin", 20),
}
BLUE, GREY = "#1f5fa8", "#c4c4c4"

Array = NDArray[np.float64]


def s_curve(rng: np.random.Generator) -> Tensor:
    """Draw points on two arcs, each three quarters of a circle."""
    t = 1.5 * np.pi * rng.uniform(-1, 1, POINTS)
    return _points(np.sin(t), np.sign(t) * (np.cos(t) - 1))


def swiss_roll(rng: np.random.Generator) -> Tensor:
    """Draw points on a spiral of one and a half turns."""
    t = 1.5 * np.pi * (1 + 2 * rng.random(POINTS))
    return _points(t * np.cos(t), t * np.sin(t))


def _points(x: Array, y: Array) -> Tensor:
    """Return points as pictures of two numbers, [N, 1, 1, 2] with mean 0 and variance 1."""
    points = np.stack([x, y], axis=-1)
    points -= points.mean(axis=0)
    return torch.from_numpy(points / points.std()).reshape(-1, 1, 1, 2)


class Empirical:
    """The exact denoiser of points that are equally likely.

    It returns their posterior mean: each weighted by the likelihood of the noise that it needs. It
    keeps its last input at each level, which is the sampler's trajectory.
    """

    def __init__(self, points: Tensor) -> None:
        self.points = points.flatten(1)
        self.calls = 0
        self.visited = dict[float, Tensor]()

    def __call__(self, x: Tensor, sigma: float, condition: None = None) -> Prediction:
        self.calls += 1
        self.visited[sigma] = x
        weights = torch.softmax(
            -(torch.cdist(x.flatten(1), self.points) ** 2) / (2 * sigma**2), dim=1
        )
        clean = (weights @ self.points).reshape(x.shape)
        return Prediction(clean, (x - clean) / sigma)

    def nearest(self, sigma: float) -> tuple[float, Tensor]:
        """Return the visited level nearest to ``sigma``, and the points there."""
        return min(self.visited.items(), key=lambda step: abs(np.log(step[0] / sigma)))

    def trajectories(self, count: int) -> Array:
        """Return where the first points were, from `FOLLOWED_FROM` down: [steps, count, 2]."""
        levels = sorted((sigma for sigma in self.visited if sigma <= FOLLOWED_FROM), reverse=True)
        return np.stack([_seen(self.visited[sigma][:count], sigma) for sigma in levels])


def sampled(curve: Tensor, name: str, steps: int) -> tuple[Tensor, Empirical]:
    """Draw points by a sampler.

    Returns:
        The points, from the same noise whatever the sampler, and the denoiser with the
        trajectories.
    """
    sampler = SAMPLERS[name]
    denoise = Empirical(curve)
    sigmas = noise_levels(SCHEDULE, steps, sampler.levels)
    generator = torch.Generator().manual_seed(3)
    random = {"generator": generator} if sampler.random else {}
    noise = start(curve[:DRAWN], sigmas[0], generator)
    return sampler.run(denoise, noise, sigmas, **random), denoise


def distance(a: Tensor, b: Tensor) -> float:
    """Return the mean Wasserstein distance of projections onto 64 directions."""
    angles = torch.arange(64) * torch.pi / 64
    lines = torch.stack([angles.cos(), angles.sin()]).double()
    pairs = zip((a.flatten(1) @ lines).T, (b.flatten(1) @ lines).T, strict=True)
    return float(
        np.mean([wasserstein_distance(one.numpy(), other.numpy()) for one, other in pairs])
    )


def _seen(x: Tensor, sigma: float) -> Array:
    """Return points [N, 2] in the chain's coordinates, in which noise has variance at most 1."""
    return (x / (1 + sigma**2) ** 0.5).flatten(1).numpy()


def _dots(axes: Axes, points: Array, color: str, size: float = 2) -> None:
    axes.scatter(*points.T, s=size, color=color, linewidths=0)


def _frame(axes: Axes, title: str) -> None:
    axes.set(xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), aspect="equal", xticks=[], yticks=[])
    axes.set_title(title, fontsize=10)


def chain(curves: dict[str, Tensor]) -> Any:
    """Draw the forward process, and the reverse process by 200 steps of DDPM."""
    figure, rows = plt.subplots(
        2 * len(curves), len(LEVELS), figsize=(12, 8.6), layout="constrained"
    )
    generator = torch.Generator().manual_seed(0)
    for (name, curve), forward, backward in zip(curves.items(), rows[::2], rows[1::2], strict=True):
        drawn, seen = sampled(curve, "ddpm", 200)
        x = curve
        below = 0.0
        for axes, sigma in zip(forward, LEVELS, strict=True):
            x = diffuse(x, sigma, generator, start=below)
            below = sigma
            _dots(axes, _seen(x, sigma), BLUE)
            _frame(axes, f"noise σ {sigma:g} →" if sigma else f"{name} →")
        for axes, sigma in zip(backward, LEVELS, strict=True):
            level, points = seen.nearest(sigma) if sigma else (0.0, drawn)
            _dots(axes, _seen(points, level), "#b5482a", 3)
            _frame(
                axes, f"← σ {level:.2g}" if sigma else f"← drawn, {distance(drawn, curve):.3f} off"
            )

    return figure


def samplers(curves: dict[str, Tensor], again: Callable[[str], Tensor]) -> Any:
    """Draw the points of each sampler from the same noise, and some trajectories."""
    figure, rows = plt.subplots(len(curves), len(NAMES), figsize=(15, 6.9), layout="constrained")
    colors = plt.get_cmap("tab10").colors
    for (name, curve), row in zip(curves.items(), rows, strict=True):
        row[0].set_ylabel(
            f"{name}: {distance(again(name)[:DRAWN], curve):.3f} between two draws", fontsize=10
        )
        for axes, (sampler, (title, steps)) in zip(row, NAMES.items(), strict=True):
            drawn, seen = sampled(curve, sampler, steps)
            trajectories = np.concatenate(
                [seen.trajectories(FOLLOWED), _seen(drawn[:FOLLOWED], 0)[None]]
            )
            _dots(axes, _seen(curve, 0), GREY, 8)
            _dots(axes, _seen(drawn, 0), BLUE, 3)
            for number, color in zip(range(FOLLOWED), colors, strict=False):
                axes.plot(*trajectories[:, number].T, color=color, linewidth=1.1)
                axes.plot(*trajectories[0, number], "o", color=color, markersize=4)
            _frame(axes, f"{title}, {seen.calls} calls: {distance(drawn, curve):.3f}")

    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("chain", type=Path)
    parser.add_argument("samplers", type=Path)
    arguments = parser.parse_args()
    makers = {"S": s_curve, "Swiss roll": swiss_roll}
    curves = {name: make(np.random.default_rng(0)) for name, make in makers.items()}
    chain(curves).savefig(arguments.chain, dpi=100)
    figure = samplers(curves, lambda name: makers[name](np.random.default_rng(1)))
    figure.savefig(arguments.samplers, dpi=100)


if __name__ == "__main__":
    main()
