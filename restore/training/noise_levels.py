"""The noise levels of a batch: what is drawn, and from which distributions.

Coordinates are those of the networks: ``x_γ = √γ x0 + √(1−γ) ε`` with γ = ᾱ, pictures in [-1, 1].
Steps of the chain are counted as in the papers: t = 1 … T, γ_0 = 1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# Uniform fraction of the loss-aware distribution, so that no step is ever left out and its weights
# stay bounded.
UNIFORM_FRACTION = 1e-3


class Draw(NamedTuple):
    """Noise levels of a batch, all [B].

    Attributes:
        gamma: γ in (0, 1), float32.
        step: t in 1 … T with γ_t ≤ γ ≤ γ_{t−1}, int64.
        weight: Importance weight, float32: 1/(T p_t) if t was drawn with probability p_t instead of
            1/T, else 1.
        elsewhere: True if the level is from the conditional pictures' own distribution.
        noiseless: True if the noisy picture is replaced by zeros.
    """

    gamma: Tensor
    step: Tensor
    weight: Tensor
    elsewhere: Tensor
    noiseless: Tensor

    def part(self, rows: slice) -> Draw:
        return Draw(*(value[rows] for value in self))

    def to(self, device: torch.device) -> Draw:
        return Draw(*(value.to(device) for value in self))


class LossHistory:
    """The last losses of each step of the chain, for loss-aware importance sampling.

    Steps are drawn with p_t ∝ √E[L_t²] over the last n losses of each, uniformly until all have n
    (Improved DDPM: Nichol, Dhariwal 2021, arXiv 2102.09672, eq. 18), mixed with a small uniform
    fraction.
    """

    def __init__(self, steps: int, length: int) -> None:
        self.losses = torch.zeros(steps, length, dtype=torch.float64)
        self.counts = torch.zeros(steps, dtype=torch.int64)

    def probabilities(self) -> Tensor:
        """Return p_t for t = 1 … T, float64 [T], which sum to 1."""
        steps, length = self.losses.shape
        uniform = torch.full((steps,), 1 / steps, dtype=torch.float64)
        size = self.losses.square().mean(dim=1).sqrt()
        if bool((self.counts < length).any()) or not bool(size.any()):
            return uniform
        return (1 - UNIFORM_FRACTION) * size / size.sum() + UNIFORM_FRACTION * uniform

    def learn(self, step: Tensor, loss: Tensor) -> None:
        """Add the losses [B] (without importance weights) at the steps [B] in 1 … T."""
        length = self.losses.shape[1]
        for t, value in zip((step - 1).tolist(), loss.tolist(), strict=True):
            self.losses[t, self.counts[t] % length] = value
            self.counts[t] += 1


def log_normal_levels(
    gammas: Tensor, mean: float, std: float, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw γ with log σ ~ N(mean, std²), truncated to the chain, and the step t of each.

    EDM (Karras et al. 2022, arXiv 2206.00364, table 1): ln σ ~ N(P_mean, P_std²) for x = x0 + σ ε.
    Its weight λ(σ) is 1 for edm-networks, and for v-networks, whose error is that of the clean
    estimate over √(1−γ) (σ_data = 1).

    Returns:
        γ float32 [count] in [γ_T, γ_1], t int64 [count] in 1 … T.
    """
    low, high = (((1 - gammas[end]) / gammas[end]).sqrt().log() for end in (1, -1))
    cdf = torch.special.ndtr((torch.stack([low, high]) - mean) / std)
    fraction = torch.rand(count, generator=generator, dtype=torch.float64)
    log_sigma = (mean + std * torch.special.ndtri(torch.lerp(cdf[0], cdf[1], fraction))).clamp(
        low, high
    )
    gamma = torch.sigmoid(-2 * log_sigma)
    step = torch.searchsorted(-gammas, -gamma).clamp(1, len(gammas) - 1)

    return gamma.float(), step


def log_uniform_levels(
    gammas: Tensor, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw γ with log σ uniform over the chain, and the step t of each.

    It is the importance sampling of the likelihood weighting, whose weight is then 1 (Song et al.
    2021, arXiv 2101.09258, section 5.1): p(t) ∝ g²/σ² dt = 2 d log σ.

    Returns:
        γ float32 [count] in [γ_T, γ_1], t int64 [count] in 1 … T.
    """
    low, high = (((1 - gammas[end]) / gammas[end]).sqrt().log() for end in (1, -1))
    fraction = torch.rand(count, generator=generator, dtype=torch.float64)
    gamma = torch.sigmoid(-2 * torch.lerp(low, high, fraction))
    step = torch.searchsorted(-gammas, -gamma).clamp(1, len(gammas) - 1)

    return gamma.float(), step
