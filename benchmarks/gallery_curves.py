"""Curves of points into noise and back, by the exact denoiser: two pictures of docs/gallery.md.

python benchmarks/gallery_curves.py docs/gallery-chain.png docs/gallery-samplers.png

A Swiss roll, as in Sohl-Dickstein et al. 2015 (arXiv 1503.03585, figure 1), and an S, both of 2000
points. With noise on them they are a mixture of 2000 Gaussians, whose denoiser is known: no network
is at work here.
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

POINTS, DRAWN, FOLLOWED = 2000, 500, 7
"""Of each curve; by each sampler; whose ways are shown."""
LEVELS = (0.0, 0.1, 0.3, 0.7, 1.5, 5.0)
FOLLOWED_FROM = 1.5
"""σ: above it the random ways are noise alone."""
SCHEDULE = NoiseSchedule.named("linear")
NAMES = {
    "ddpm": ("DDPM", 20),
    "ddim": ("DDIM", 20),
    "dpmpp-2m": ("DPM-Solver++(2M)", 20),
    "heun": ("Heun", 20),
    "langevin": ("annealed Langevin", 20),
}
"""Of `SAMPLERS`, as they are called in the picture, and with how many noise levels."""
BLUE, GREY = "#1f5fa8", "#c4c4c4"

Array = NDArray[np.float64]


def s_curve(rng: np.random.Generator) -> Tensor:
    """Two arcs, each three quarters of a circle."""
    t = 1.5 * np.pi * rng.uniform(-1, 1, POINTS)
    return _points(np.sin(t), np.sign(t) * (np.cos(t) - 1))


def swiss_roll(rng: np.random.Generator) -> Tensor:
    """A spiral of one turn and a half."""
    t = 1.5 * np.pi * (1 + 2 * rng.random(POINTS))
    return _points(t * np.cos(t), t * np.sin(t))


def _points(x: Array, y: Array) -> Tensor:
    """Pictures of two numbers, [N, 1, 1, 2] with mean 0 and variance 1."""
    points = np.stack([x, y], axis=-1)
    points -= points.mean(axis=0)
    return torch.from_numpy(points / points.std()).reshape(-1, 1, 1, 2)


class Empirical:
    """The denoiser of points that are equally likely: their mean, weighed by how likely the noise
    is that each needs.

    It keeps where it was last asked at each level, which is the way that a sampler walks.
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
        """The level on the way that is nearest to one, and where the points were."""
        return min(self.visited.items(), key=lambda step: abs(np.log(step[0] / sigma)))

    def ways(self, count: int) -> Array:
        """Of the first points, from `FOLLOWED_FROM` down, [steps, count, 2]."""
        levels = sorted((sigma for sigma in self.visited if sigma <= FOLLOWED_FROM), reverse=True)
        return np.stack([_seen(self.visited[sigma][:count], sigma) for sigma in levels])


def walked(curve: Tensor, name: str, steps: int) -> tuple[Tensor, Empirical]:
    """Points that a sampler draws, and the denoiser that saw their ways; from the same noise
    whatever the sampler.
    """
    sampler = SAMPLERS[name]
    denoise = Empirical(curve)
    sigmas = noise_levels(SCHEDULE, steps, sampler.levels)
    generator = torch.Generator().manual_seed(3)
    random = {"generator": generator} if sampler.random else {}
    noise = start(curve[:DRAWN], sigmas[0], generator)
    return sampler.run(denoise, noise, sigmas, **random), denoise


def distance(a: Tensor, b: Tensor) -> float:
    """The mean Wasserstein distance of projections onto 64 directions."""
    angles = torch.arange(64) * torch.pi / 64
    lines = torch.stack([angles.cos(), angles.sin()]).double()
    pairs = zip((a.flatten(1) @ lines).T, (b.flatten(1) @ lines).T, strict=True)
    return float(
        np.mean([wasserstein_distance(one.numpy(), other.numpy()) for one, other in pairs])
    )


def _seen(x: Tensor, sigma: float) -> Array:
    """[N, 2] in the chain's own coordinates, in which the noise fills no more than the pictures
    did.
    """
    return (x / (1 + sigma**2) ** 0.5).flatten(1).numpy()


def _dots(axes: Axes, points: Array, color: str, size: float = 2) -> None:
    axes.scatter(*points.T, s=size, color=color, linewidths=0)


def _frame(axes: Axes, title: str) -> None:
    axes.set(xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), aspect="equal", xticks=[], yticks=[])
    axes.set_title(title, fontsize=10)


def chain(curves: dict[str, Tensor]) -> Any:
    """Forward along the chain, and back by 200 of DDPM's steps."""
    figure, rows = plt.subplots(
        2 * len(curves), len(LEVELS), figsize=(12, 8.6), layout="constrained"
    )
    generator = torch.Generator().manual_seed(0)
    for (name, curve), forward, backward in zip(curves.items(), rows[::2], rows[1::2], strict=True):
        drawn, seen = walked(curve, "ddpm", 200)
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
    """What each sampler draws from the same noise, and the ways of some points."""
    figure, rows = plt.subplots(len(curves), len(NAMES), figsize=(15, 6.9), layout="constrained")
    colors = plt.get_cmap("tab10").colors
    for (name, curve), row in zip(curves.items(), rows, strict=True):
        row[0].set_ylabel(
            f"{name}: {distance(again(name)[:DRAWN], curve):.3f} between two draws", fontsize=10
        )
        for axes, (sampler, (title, steps)) in zip(row, NAMES.items(), strict=True):
            drawn, seen = walked(curve, sampler, steps)
            ways = np.concatenate([seen.ways(FOLLOWED), _seen(drawn[:FOLLOWED], 0)[None]])
            _dots(axes, _seen(curve, 0), GREY, 8)
            _dots(axes, _seen(drawn, 0), BLUE, 3)
            for number, color in zip(range(FOLLOWED), colors, strict=False):
                axes.plot(*ways[:, number].T, color=color, linewidth=1.1)
                axes.plot(*ways[0, number], "o", color=color, markersize=4)
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
