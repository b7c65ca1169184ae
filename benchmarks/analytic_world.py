"""Compare every solver with the closed-form posterior, in a world where the denoiser is exact.

    python benchmarks/analytic_world.py

The priors are a Gaussian and a mixture of three, over 4x4 pixels. Every method gets the same number
of network calls, begins at mid-grey with noise of σ 20, and is otherwise as users get it; further
rows change its own parameters. The errors of mean and covariance are relative to the posterior's
spread (the root of the trace of its covariance) and to its covariance. The row "exact samples" is
the Monte-Carlo error: a method cannot be told from the truth below about twice that.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import operators
from operators import LinearOperator, Mask, dense_matrix
from restore.diffusion.protocol import Condition, Prediction
from restore.diffusion.schedule import NoiseSchedule
from restore.methods import METHODS
from restore.methods.method import Method
from restore.methods.parameter import resolved
from restore.methods.run import Run
from restore.tasks.problem import Problem
from restore.tasks.solve import OTHER

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.analytic import Mixture

SHAPE = (1, 4, 4)
HIGHEST = 20.0
NOISES = (0.0, 0.05, 0.3)

OPERATORS = {
    "identity": lambda: operators.identity(SHAPE),
    "mask": lambda: Mask(SHAPE, torch.rand(4, 4, generator=torch.Generator().manual_seed(1)) > 0.5),
    "blur": lambda: operators.gaussian_blur(SHAPE, 0.7),
    "x4": lambda: operators.downsample(SHAPE, 4),
}

# Parameters of further rows: what a method can reach, and the paper's own values. CALLS is the
# number of calls, where it is not that of all other rows.
CALLS = "calls"
Variants = Mapping[str, tuple[dict[str, float], ...]]
VARIANTS: Variants = {
    "daps": ({"langevin_time": 0.01}, {"langevin_time": 1e6, "prior_std": 0.4}),
    "pnp-dm": ({"reverse_steps": 10}, {CALLS: 1000, "reverse_steps": 10}),
    "snips": ({"consistent": 0, "step_size": 0, "steps_each": 2},),
}


class ExactDenoiser:
    """The exact denoiser of a mixture, as methods take it."""

    config = None
    predictor = None
    autoencoder = None
    schedule = NoiseSchedule.named("linear")

    def __init__(self, prior: Mixture) -> None:
        self.prior = prior

    def __call__(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Prediction:
        return self.prior.denoise(x, sigma)


@dataclass(frozen=True)
class World:
    """A prior, a measurement of one of its pictures, and the posterior.

    Attributes:
        name: Name of the prior.
        prior: p(x) for pictures in [-1, 1].
        operator: A.
        measurement: y, [1, *operator.output_shape].
        noise: σ_y in the units of the measurement.
        posterior: p(x | y).
    """

    name: str
    prior: Mixture
    operator: LinearOperator
    measurement: Tensor
    noise: float
    posterior: Mixture

    @property
    def denoiser(self) -> ExactDenoiser:
        """The denoiser of the prior."""
        return ExactDenoiser(self.prior)

    def problem(self, samples: int) -> Problem:
        """Return the problem of restoring it so many times, with pictures in [0, 1]."""
        white = self.operator.A(torch.ones(1, *self.operator.input_shape))
        return Problem(
            task="solve",
            kind=OTHER,
            operator=self.operator,
            measurement=((self.measurement + white) / 2).expand(samples, -1, -1, -1),
            noise=torch.full((samples,), self.noise / 2),
            condition=None,
        )

    def exact(self, samples: int, generator: torch.Generator) -> Tensor:
        """Draw from the posterior, whose covariance may be singular."""
        truth = self.posterior
        lifted = truth.covariances + 1e-9 * torch.eye(truth.dimensions)
        return Mixture(truth.weights, truth.means, lifted).sample(samples, generator)

    def gaps(self, samples: Tensor) -> tuple[float, float]:
        """Return the errors of mean and covariance, relative to spread and covariance."""
        flat = samples.double().flatten(1)
        truth = self.posterior.covariance
        spread = truth.diagonal().sum().sqrt()
        mean = (flat.mean(dim=0) - self.posterior.mean).norm() / spread
        return float(mean), float((flat.T.cov() - truth).norm() / truth.norm())


def priors() -> dict[str, Mixture]:
    """Return smooth pictures: a Gaussian, and a mixture of three with different directions."""
    place = torch.stack(torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij"))
    apart = place.flatten(1)[:, :, None] - place.flatten(1)[:, None, :]

    def covariance(vertical: float, horizontal: float, std: float) -> Tensor:
        squared = (apart[0] / vertical) ** 2 + (apart[1] / horizontal) ** 2
        return std**2 * torch.exp(-squared / 2) + 1e-3 * torch.eye(16)

    ramp = place[0].flatten() / 1.5 - 1
    kinds = [covariance(1.5, 1.5, 0.3), covariance(3, 0.7, 0.25), covariance(0.7, 3, 0.25)]
    return {
        "Gaussian": Mixture(torch.ones(1), 0.3 * ramp[None], covariance(1.5, 1.5, 0.4)[None]),
        "mixture": Mixture(
            torch.tensor([0.4, 0.3, 0.3]),
            torch.stack([0 * ramp, 0.3 * ramp, -0.3 * ramp]),
            torch.stack(kinds),
        ),
    }


def worlds(name: str, prior: Mixture) -> Iterator[World]:
    """Yield a problem for every operator and noise level whose posterior is no point."""
    for operator_name, build in OPERATORS.items():
        operator = build()
        matrix = dense_matrix(operator)
        for noise in NOISES:
            if noise == 0 and operator_name in ("identity", "blur"):
                continue  # a single picture explains the measurement
            generator = torch.Generator().manual_seed(3)
            picture = prior.sample(1, generator).reshape(1, *SHAPE).float()
            y = operator.A(picture)
            y = y + noise * torch.randn(y.shape, generator=generator)
            posterior = prior.posterior(matrix, y, noise)
            yield World(f"{name}, {operator_name}", prior, operator, y, noise, posterior)


def solved(
    method: Method, world: World, calls: int, samples: int, parameters: Mapping[str, float]
) -> Tensor:
    """Restore by a method with so many network calls, from noise of σ 20 on mid-grey."""
    parameters = dict(parameters)
    calls = int(parameters.pop(CALLS, calls))
    settings = method.settings(OTHER, samples=samples)
    found = resolved(method.name, method.parameters, settings.parameters, parameters)
    settings = settings._replace(
        steps=calls, highest=HIGHEST, classical_start=False, parameters=found
    )
    run = Run(
        world.denoiser,
        world.problem(samples),
        settings,
        torch.Generator().manual_seed(0),
        None,
        start=torch.zeros(1, *world.operator.input_shape),
    )
    with torch.set_grad_enabled(method.needs_gradient):
        return method.solve(run).detach()


def suited(method: Method, world: World) -> bool:
    """Return True if the method solves such problems by the prior alone."""
    latent = world.denoiser.autoencoder is not None
    return method.latents == latent and not method.needs_condition and method.uses(world.problem(1))


def rows(names: Sequence[str], variants: Variants) -> Iterator[tuple[Method, dict[str, float]]]:
    """Yield the methods with their own parameters of each row."""
    for name in names:
        for parameters in ({}, *variants.get(name, ())):
            yield METHODS[name], parameters


def label(method: Method, parameters: Mapping[str, float]) -> str:
    return ", ".join([f"`{method.name}`", *(f"{k} {v:g}" for k, v in parameters.items())])


def table(
    name: str,
    found: Sequence[World],
    names: Sequence[str],
    variants: Variants,
    calls: int,
    samples: int,
) -> None:
    """Print the table of one prior: a column for each world, a row for each method and variant."""
    heads = [f"{world.name.split(', ')[1]}, {world.noise:g}" for world in found]
    print(f"\nPrior: {name}. Error of the mean / of the covariance.\n")
    print("| method | " + " | ".join(heads) + " |")
    print("|---|" + "---|" * len(heads), flush=True)

    generator = torch.Generator().manual_seed(9)
    exact = [world.gaps(world.exact(samples, generator)) for world in found]
    show("exact samples", exact)
    for method, parameters in rows(names, variants):
        gaps = [
            world.gaps(solved(method, world, calls, samples, parameters))
            if suited(method, world)
            else None
            for world in found
        ]
        if any(gaps):
            show(label(method, parameters), gaps)


def show(head: str, gaps: list[tuple[float, float] | None]) -> None:
    cells = ["–" if gap is None else f"{gap[0]:.2f} / {gap[1]:.2f}" for gap in gaps]
    print(f"| {head} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--methods", default="", help="names with commas between; default: all")
    parser.add_argument("--priors", default="", help="names with commas between; default: all")
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--samples", type=int, default=2000)
    arguments = parser.parse_args()
    names = arguments.methods.split(",") if arguments.methods else list(METHODS)

    print(f"{arguments.calls} network calls, {arguments.samples} samples.")
    for name in arguments.priors.split(",") if arguments.priors else priors():
        found = list(worlds(name, priors()[name]))
        table(name, found, names, VARIANTS, arguments.calls, arguments.samples)


if __name__ == "__main__":
    main()
