"""Draw score and drift fields of a mixture with trajectories, and a network trained on points.

    python benchmarks/gallery_fields.py docs/gallery-fields.png docs/gallery-network.png

The mixture's score is known in closed form. The network, a perceptron of three layers, learns the
noise of a Swiss roll's points as DDPM does (Ho et al. 2020, arXiv 2006.11239, algorithm 1).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from gallery_curves import BLUE, GREY, Empirical, distance, swiss_roll
from matplotlib.axes import Axes
from torch import Tensor, nn

from restore.diffusion.denoiser import Prediction
from restore.diffusion.schedule import NoiseSchedule, noise_levels
from restore.diffusion.stepping import start
from restore.samplers.catalogue import SAMPLERS

SCHEDULE = NoiseSchedule.named("linear")
RED = "#b5482a"
# Means, standard deviation and weights of the mixture in the plane, and of the one on a line.
MEANS = torch.tensor([[-1.2, -0.6], [1.1, -0.9], [0.2, 1.2]], dtype=torch.float64)
LINE = torch.tensor([[-1.0], [1.2]], dtype=torch.float64)
SPREAD = 0.25
# Steps, batch and width of the network's training.
STEPS, BATCH, WIDTH = 20_000, 256, 128


class Mixture:
    """Gaussians of equal weights and standard deviation `SPREAD`, with their exact denoiser.

    Attributes:
        visited: Its last input by noise level: the sampler's trajectory.
    """

    def __init__(self, means: Tensor) -> None:
        self.means = means
        self.visited = dict[float, Tensor]()

    def __call__(self, x: Tensor, sigma: float, condition: None = None) -> Prediction:
        self.visited[float(sigma)] = x
        flat = x.flatten(1)
        total = SPREAD**2 + float(sigma) ** 2
        weights = torch.softmax(-(torch.cdist(flat, self.means) ** 2) / (2 * total), dim=1)
        centre = weights @ self.means
        clean = (centre + SPREAD**2 / total * (flat - centre)).reshape(x.shape)
        return Prediction(clean, (x - clean) / sigma)

    def density(self, x: Tensor, sigma: float) -> Tensor:
        """p_σ of points [N, D], [N]."""
        total = SPREAD**2 + sigma**2
        normal = torch.exp(-(torch.cdist(x, self.means) ** 2) / (2 * total))
        return normal.mean(dim=1) / (2 * np.pi * total) ** (x.shape[1] / 2)

    def score(self, x: Tensor, sigma: float) -> Tensor:
        """∇ log p_σ of points [N, D]."""
        return -self(x[:, None, None], sigma).noise[:, 0, 0] / sigma


class Network(nn.Module):
    """A perceptron that predicts the noise of points, given them and the time."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [2 + 16, WIDTH, WIDTH, WIDTH]
        layers = [
            part for one, other in pairwise(sizes) for part in (nn.Linear(one, other), nn.SiLU())
        ]
        self.layers = nn.Sequential(*layers, nn.Linear(WIDTH, 2))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Predict the noise of points [N, 2] at times in [0, 1000), [N]."""
        angles = time[:, None] / 1000 * np.pi * 2.0 ** torch.arange(8)
        return self.layers(torch.cat([x, angles.sin(), angles.cos()], dim=1))

    @torch.no_grad()
    def denoise(self, x: Tensor, sigma: float, condition: None = None) -> Prediction:
        """Predict as the denoisers of pictures [N, 1, 1, 2] do."""
        level = torch.full((len(x),), float(sigma))
        seen = x.flatten(1).float() / (1 + level[:, None] ** 2).sqrt()
        noise = self(seen, SCHEDULE.time_at(level)).to(x).reshape(x.shape)
        return Prediction(x - sigma * noise, noise)


def trained(points: Tensor) -> tuple[Network, float]:
    """Train a network by L_simple; also return the mean loss of the last tenth."""
    torch.manual_seed(0)
    network = Network()
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    alphas = torch.from_numpy(SCHEDULE.alphas_cumprod).float()
    clean = points.flatten(1).float()
    losses = []

    for _ in range(STEPS):
        chosen = clean[torch.randint(len(clean), (BATCH,))]
        step = torch.randint(len(alphas), (BATCH,))
        kept = alphas[step][:, None]
        noise = torch.randn_like(chosen)
        noisy = kept.sqrt() * chosen + (1 - kept).sqrt() * noise
        loss = (network(noisy, step.float()) - noise).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        falling.step()
        losses.append(float(loss.detach()))

    return network, float(np.mean(losses[-STEPS // 10 :]))


def sampled(denoise: Callable[..., Prediction], name: str, steps: int, shape: Tensor) -> Tensor:
    """Draw points by a sampler, of the shape and type of a tensor."""
    sampler = SAMPLERS[name]
    sigmas = noise_levels(SCHEDULE, steps, sampler.levels)
    generator = torch.Generator().manual_seed(3)
    random = {"generator": generator} if sampler.random else {}
    with torch.inference_mode():
        return sampler.run(denoise, start(shape, sigmas[0], generator), sigmas, **random)


def _grid(side: float, count: int) -> Tensor:
    """Points of a square grid, [count², 2]."""
    line = torch.linspace(-side, side, count, dtype=torch.float64)
    return torch.cartesian_prod(line, line)


def _field(axes: Axes, at: Tensor, arrows: Tensor, title: str) -> None:
    """Draw arrows of equal length, coloured by the logarithm of their own."""
    length = arrows.norm(dim=1)
    shown = arrows / length[:, None].clamp_min(1e-9)
    axes.quiver(
        *at.T, *shown.T, length.clamp_min(1e-2).log10(), cmap="plasma_r", scale=22, width=0.0045
    )
    axes.set(aspect="equal", xticks=[], yticks=[])
    axes.set_title(title, fontsize=10)


def _background(axes: Axes, world: Mixture, sigma: float, scale: float, side: float) -> None:
    fine = _grid(side, 120)
    density = world.density(fine / scale, sigma).reshape(120, 120)
    line = np.linspace(-side, side, 120)
    axes.contourf(line, line, density.T, levels=8, cmap="Greys", alpha=0.55)


def fields() -> Any:
    """Draw scores at three levels, three drifts at one, and trajectories on a line."""
    figure, rows = plt.subplots(3, 3, figsize=(11, 10.6), layout="constrained")
    world = Mixture(MEANS)
    at = _grid(2.4, 17)

    for axes, sigma in zip(rows[0], (1.5, 0.6, 0.2), strict=True):
        _background(axes, world, sigma, 1.0, 2.4)
        _field(axes, at, world.score(at, sigma), f"score ∇ log p, noise σ {sigma:g}")

    # the variance-preserving SDE dx = −½ β x dt + √β dw, at the level of the middle panel, β = 1
    sigma, scale = 0.6, 1 / (1 + 0.6**2) ** 0.5
    score = world.score(at / scale, sigma) / scale
    forward = -at / 2
    drifts = {
        "forward drift −½ β x": forward,
        "reverse SDE, β (½ x + ∇ log p)": -(forward - score),
        "probability flow, ½ β (x + ∇ log p)": -(forward - score / 2),
    }
    for axes, (title, drift) in zip(rows[1], drifts.items(), strict=True):
        _background(axes, world, sigma, scale, 2.4)
        _field(axes, at, drift, title)

    _trajectories(rows[2])

    return figure


def _trajectories(row: Any) -> None:
    """Draw paths of a mixture on a line, over its density at every time."""
    world = Mixture(LINE)
    sigmas = noise_levels(SCHEDULE, 250, "uniform")[:-1]
    times = np.linspace(1000, 0, len(sigmas))
    line = torch.linspace(-3, 3, 200, dtype=torch.float64)
    density = np.stack(
        [
            (world.density(line[:, None] * (1 + s**2) ** 0.5, s) * (1 + s**2) ** 0.5).numpy()
            for s in sigmas
        ],
        axis=1,
    )
    paths = {
        "forward: noise is added": _forward(sigmas),
        "reverse SDE: noise is drawn anew": _path("ddpm", sigmas),
        "probability flow: no noise": _path("ddim", sigmas),
    }

    for axes, (title, path) in zip(row, paths.items(), strict=True):
        axes.imshow(
            density**0.5, extent=(1000, 0, -3, 3), origin="lower", aspect="auto", cmap="Greys"
        )
        axes.plot(times, path, linewidth=0.9)
        axes.set(xlabel="t", ylim=(-3, 3))
        axes.set_title(title, fontsize=10)
        if title.startswith("forward"):
            axes.invert_xaxis()


def _forward(sigmas: list[float]) -> Any:
    """Return x/√(1+σ²) of points to which noise is added, at the levels, [levels, 8]."""
    draw = torch.Generator().manual_seed(0)
    clean = LINE[torch.arange(8) % 2, 0] + SPREAD * torch.randn(8, generator=draw).double()
    rising = np.array([0.0, *sigmas[::-1]])
    fresh = torch.randn(len(sigmas), 8, generator=draw).double()
    added = torch.from_numpy(np.sqrt(np.diff(rising**2)))[:, None] * fresh
    path = clean + added.cumsum(dim=0)
    return (path / torch.from_numpy(np.sqrt(1 + rising[1:] ** 2))[:, None]).flip(0).numpy()


def _path(name: str, sigmas: list[float]) -> Any:
    """Return x/√(1+σ²) at the levels by a sampler, [levels, 8]."""
    world = Mixture(LINE)
    SAMPLERS[name].run(
        world,
        start(torch.zeros(8, 1, 1, 1).double(), sigmas[0], torch.Generator().manual_seed(1)),
        [*sigmas, 0.0],
        **({"generator": torch.Generator().manual_seed(2)} if SAMPLERS[name].random else {}),
    )
    return np.stack([(world.visited[s] / (1 + s**2) ** 0.5).flatten().numpy() for s in sigmas])


def network_figure() -> Any:
    """Draw what a trained network's score is, and what it draws, beside the exact denoiser."""
    points = swiss_roll(np.random.default_rng(0))
    network, loss = trained(points)
    exact = Empirical(points)
    figure, rows = plt.subplots(2, 3, figsize=(11, 7.4), layout="constrained")
    at = _grid(2.2, 19)

    for row, (name, denoise) in zip(
        rows, {"exact": exact, f"network, loss {loss:.3f}": network.denoise}.items(), strict=True
    ):
        axes = row[0]
        axes.scatter(*points.flatten(1).T, s=3, color=GREY, linewidths=0)
        noise = denoise(at[:, None, None], 0.3).noise[:, 0, 0]
        _field(axes, at, -noise / 0.3, f"{name}: score at σ 0.3")
        for axes, (sampler, steps) in zip(row[1:], (("ddpm", 200), ("dpmpp-2m", 20)), strict=True):
            drawn = sampled(denoise, sampler, steps, points[:1000])
            axes.scatter(*points.flatten(1).T, s=6, color=GREY, linewidths=0)
            axes.scatter(*drawn.flatten(1).T, s=3, color=BLUE, linewidths=0)
            axes.set(xlim=(-2.4, 2.4), ylim=(-2.4, 2.4), aspect="equal", xticks=[], yticks=[])
            axes.set_title(
                f"{sampler}, {steps} steps: {distance(drawn, points):.3f} off", fontsize=10
            )

    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("fields", type=Path)
    parser.add_argument("network", type=Path)
    arguments = parser.parse_args()
    fields().savefig(arguments.fields, dpi=90)
    network_figure().savefig(arguments.network, dpi=90)


if __name__ == "__main__":
    main()
