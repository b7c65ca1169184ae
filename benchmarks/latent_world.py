"""Compare the solvers of latents with the closed-form posterior, behind a linear autoencoder.

    python benchmarks/latent_world.py

The latents have the priors of `benchmarks/analytic_world.py`, 2.5 times as wide: a Gaussian and a
mixture of three, over 4x4 latents. The autoencoder is the orthonormal Haar wavelet's low band of
8x8 pixels, so that pictures ``D(z)`` have the spread of that script, and ``A D`` is linear: the
posterior of z is known. Every method gets the same number of network calls, begins with noise of
σ 20 at the latents of mid-grey, and is otherwise as users get it, final projection included;
further rows change its own parameters. Errors are of the latents of the results, as there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from analytic_world import NOISES, ExactDenoiser, Variants, World, priors, table
from torch import Tensor

import operators
from operators import Mask, dense_matrix
from restore.methods import METHODS

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.analytic import Mixture
from support.latents import HaarAutoencoder

SHAPE = (1, 8, 8)
WIDER = 2.5
AUTOENCODER = HaarAutoencoder(scale=0.8)


def _hole() -> Mask:
    known = torch.ones(8, 8).bool()
    known[:, 3:] = False
    return Mask(SHAPE, known)


OPERATORS = {
    "hole": _hole,
    "blur": lambda: operators.gaussian_blur(SHAPE, 1.5),
    "x4": lambda: operators.downsample(SHAPE, 4),
}

VARIANTS: Variants = {
    "latent-dps": ({"step_size": 0.05},),
    "psld": ({"gluing": 0.2}, {"gluing": 0.5}),
    "resample": ({"every": 1},),
    "latent-daps": ({"langevin_time": 0},),
}


class LatentExactDenoiser(ExactDenoiser):
    """The exact denoiser of latents."""

    autoencoder = AUTOENCODER


class LatentWorld(World):
    """A prior of latents, a measurement of a picture, and the posterior of its latents."""

    @property
    def denoiser(self) -> ExactDenoiser:
        return LatentExactDenoiser(self.prior)

    def gaps(self, samples: Tensor) -> tuple[float, float]:
        """Return the errors of mean and covariance of latents; samples may be their pictures."""
        pictures = samples.shape[-1] == SHAPE[-1]
        return super().gaps(AUTOENCODER.encode(samples.float()) if pictures else samples)


def wider(prior: Mixture) -> Mixture:
    """Return the prior of pictures as one of latents."""
    return Mixture(prior.weights, WIDER * prior.means, WIDER**2 * prior.covariances)


def worlds(name: str, prior: Mixture) -> Iterator[LatentWorld]:
    """Yield a problem for every operator and noise level whose posterior is no point."""
    for operator_name, build in OPERATORS.items():
        operator = build()
        decoded = AUTOENCODER.decode(torch.eye(16).reshape(16, 1, 4, 4), SHAPE[1:]).flatten(1).T
        matrix = dense_matrix(operator).double() @ decoded.double()
        for noise in NOISES:
            if noise == 0 and operator_name == "blur":
                continue
            generator = torch.Generator().manual_seed(3)
            latents = prior.sample(1, generator).reshape(1, 1, 4, 4).float()
            y = operator.A(AUTOENCODER.decode(latents, SHAPE[1:]))
            y = y + noise * torch.randn(y.shape, generator=generator)
            posterior = prior.posterior(matrix, y, noise)
            yield LatentWorld(f"{name}, {operator_name}", prior, operator, y, noise, posterior)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--methods", default="", help="names with commas between; default: all")
    parser.add_argument("--priors", default="", help="names with commas between; default: all")
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--samples", type=int, default=2000)
    arguments = parser.parse_args()
    latent = [name for name, method in METHODS.items() if method.latents]
    names = arguments.methods.split(",") if arguments.methods else latent

    print(f"{arguments.calls} network calls, {arguments.samples} samples.")
    for name in arguments.priors.split(",") if arguments.priors else priors():
        found = list(worlds(name, wider(priors()[name])))
        table(name, found, names, VARIANTS, arguments.calls, arguments.samples)


if __name__ == "__main__":
    main()
