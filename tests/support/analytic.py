"""A world whose truth is known: mixtures of Gaussians, with their samples, denoiser, score and
density at any noise.
"""

from __future__ import annotations

import math
from functools import cache, cached_property

import torch
from torch import Tensor

from restore.diffusion.denoiser import Condition, Prediction


class Mixture:
    """Σ_k w_k N(μ_k, Σ_k) over "pictures" [1, 1, D] in float64.

    Args:
        weights: [K], summing to 1.
        means: [K, D].
        covariances: [K, D, D].
    """

    def __init__(self, weights: Tensor, means: Tensor, covariances: Tensor) -> None:
        self.weights, self.means, self.covariances = (
            t.double() for t in (weights, means, covariances)
        )

    @classmethod
    @cache  # so that what is computed once for a mixture serves every test that draws from it
    def random(cls, dimensions: int, components: int = 3, seed: int = 0) -> Mixture:
        """Means within about 1 of 0, standard deviations from 0.1 to 0.6, in axes turned at
        random.
        """
        draw = torch.Generator().manual_seed(seed)
        weights = torch.rand(components, generator=draw).double() + 0.3
        means = 0.7 * torch.randn(components, dimensions, generator=draw).double()
        axes, _ = torch.linalg.qr(
            torch.randn(components, dimensions, dimensions, generator=draw).double()
        )
        spreads = 0.1 + 0.5 * torch.rand(components, 1, dimensions, generator=draw).double()
        return cls(weights / weights.sum(), means, (axes * spreads**2) @ axes.mT)

    @classmethod
    def gaussian(cls, dimensions: int, seed: int = 0) -> Mixture:
        return cls.random(dimensions, 1, seed)

    @property
    def dimensions(self) -> int:
        return self.means.shape[1]

    @property
    def mean(self) -> Tensor:
        """[D]"""
        return self.weights @ self.means

    @property
    def covariance(self) -> Tensor:
        """[D, D]"""
        centred = self.means - self.mean
        between = (self.weights[:, None, None] * centred[:, :, None] * centred[:, None, :]).sum(0)
        return (self.weights[:, None, None] * self.covariances).sum(0) + between

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """[count, 1, 1, D]"""
        which = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        roots = torch.linalg.cholesky(self.covariances)
        noise = torch.randn(count, self.dimensions, generator=generator, dtype=torch.float64)
        return (self.means[which] + (roots[which] @ noise[..., None])[..., 0]).reshape(
            count, 1, 1, -1
        )

    def log_density(self, x: Tensor, sigma: Tensor | float = 0.0) -> Tensor:
        """Of pictures [B, 1, 1, D] with noise of level σ on them, in nats: [B]."""
        centred = self._centred(x.flatten(1).double())
        return torch.logsumexp(self._log_joint(centred, _levels(sigma)), dim=1)

    def denoise(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Prediction:
        """E[x0 | x0 + σ ε = x] and the noise that goes with it, in the type of x; a
        `restore.diffusion.denoiser.Denoise`.
        """
        flat = x.flatten(1).double()
        level = _levels(sigma)
        centred = self._centred(flat)
        responsibilities = torch.softmax(self._log_joint(centred, level), dim=1)
        clean = (responsibilities[..., None] * self._component_means(centred, level)).sum(dim=1)
        noise = (flat - clean) / level[:, None]
        return Prediction(clean.reshape(x.shape).to(x), noise.reshape(x.shape).to(x))

    def noise_variance(self, x: Tensor, sigma: float) -> Tensor:
        """Var[ε | x0 + σ ε = x] of each pixel, in the type of x: that of x0 over σ²."""
        flat = x.flatten(1).double()
        level = _levels(sigma)
        centred = self._centred(flat)
        weights = torch.softmax(self._log_joint(centred, level), dim=1)[..., None]
        means = self._component_means(centred, level)
        values, axes = self._eigen
        spectrum = values * sigma**2 / (values + sigma**2)
        within = (axes**2 * spectrum[:, None, :]).sum(-1)
        clean = (weights * means).sum(dim=1)
        variance = (weights * (within + means**2)).sum(dim=1) - clean**2
        return (variance / sigma**2).reshape(x.shape).to(x)

    def score(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """∇ log p_σ(x) = −ε̂/σ, [B, 1, 1, D]."""
        level = _levels(sigma).reshape(-1, *[1] * (x.ndim - 1))
        return -self.denoise(x.double(), sigma).noise / level

    def posterior(self, matrix: Tensor, measurement: Tensor, noise: float) -> Mixture:
        """p(x0 | y = A x0 + σ_y n), a mixture again.

        Args:
            matrix: A, [M, D].
            measurement: y, [M].
            noise: σ_y; 0 is no noise, with the limit of the posterior.
        """
        a, y = matrix.double(), measurement.flatten().double()
        predicted = a @ self.covariances @ a.T + noise**2 * torch.eye(len(a), dtype=torch.float64)
        # the pseudo-inverse is the limit of no noise if A has dependent rows
        gain = self.covariances @ a.T @ torch.linalg.pinv(predicted, hermitian=True)
        residual = y - self.means @ a.T
        values = torch.linalg.eigvalsh(predicted)
        kept = values > 1e-12 * values.amax(dim=1, keepdim=True)
        weighted = torch.linalg.pinv(predicted, hermitian=True) @ residual[..., None]
        squared = (residual * weighted[..., 0]).sum(1)
        log_determinant = torch.where(kept, values, 1.0).log().sum(1)
        log_weights = self.weights.log() - 0.5 * (squared + log_determinant)
        return Mixture(
            torch.softmax(log_weights, dim=0),
            self.means + (gain @ residual[..., None])[..., 0],
            self.covariances - gain @ a @ self.covariances,
        )

    @cached_property
    def _eigen(self) -> tuple[Tensor, Tensor]:
        return torch.linalg.eigh(self.covariances)

    def _centred(self, flat: Tensor) -> Tensor:
        """x − μ_k along the axes of each component, [B, K, D]."""
        return torch.einsum("bkd,kde->bke", flat[:, None] - self.means, self._eigen[1])

    def _log_joint(self, centred: Tensor, level: Tensor) -> Tensor:
        """log w_k N(x; μ_k, Σ_k + σ²), [B, K]."""
        variances = self._eigen[0] + level[:, None, None] ** 2
        squared = (centred**2 / variances).sum(-1)
        return self.weights.log() - 0.5 * (
            squared + variances.log().sum(-1) + self.dimensions * math.log(2 * math.pi)
        )

    def _component_means(self, centred: Tensor, level: Tensor) -> Tensor:
        """E[x0 | x, component k], [B, K, D]."""
        values, axes = self._eigen
        gain = values / (values + level[:, None, None] ** 2)
        return self.means + torch.einsum("bke,kde->bkd", gain * centred, axes)


def sliced_wasserstein(
    a: Tensor, b: Tensor, generator: torch.Generator, directions: int = 200
) -> float:
    """The mean over random directions of the 1-Wasserstein distance of two sets of as many points
    [N, …].
    """
    lines = torch.randn(a[0].numel(), directions, generator=generator, dtype=torch.float64)
    lines = lines / lines.norm(dim=0)
    projected = [(points.flatten(1).double() @ lines).sort(dim=0).values for points in (a, b)]
    return float((projected[0] - projected[1]).abs().mean())


def order_of_convergence(steps: list[int], errors: list[float]) -> float:
    """−slope of log error against log steps, by least squares."""
    x = torch.tensor(steps).double().log()
    y = torch.tensor(errors).double().log()
    x = x - x.mean()
    y = y - y.mean()
    return float(-(x @ y) / (x @ x))


def _levels(sigma: Tensor | float) -> Tensor:
    """[B], or [1] for one level of all."""
    return torch.as_tensor(sigma, dtype=torch.float64).flatten()
