"""Weights of the losses at different noise levels.

Coordinates are those of the networks: ``x_γ = √γ x0 + √(1−γ) ε`` with γ = ᾱ, pictures in [-1, 1].
Steps of the chain are counted as in the papers: t = 1 … T, γ_0 = 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from restore.diffusion.denoiser import edm_scales
from restore.diffusion.schedule import NoiseSchedule
from restore.training.losses import sigma_of

# Number of bins of log σ of `LevelBalance`.
BALANCE_BINS = 20
# Factor by which a bin forgets with each loss.
BALANCE_MEMORY = 0.99


class LevelBalance:
    """Weights that equalise the loss over the noise levels: the inverse of its running mean there.

    Levels are put in `BALANCE_BINS` bins equal in log σ between the ends of the chain; conditional
    and unconditional pictures have their own means. The weight is (mean over all bins)/(mean of the
    bin) within [1/limit, limit], and 1 for bins without data.
    """

    def __init__(self, schedule: NoiseSchedule, limit: float) -> None:
        lowest, highest = schedule.log_sigmas[[0, -1]].tolist()
        self.edges = torch.linspace(lowest, highest, BALANCE_BINS + 1)[1:-1].double()
        self.limit = limit
        self.sums = torch.zeros(2, BALANCE_BINS, dtype=torch.float64)
        self.counts = torch.zeros(2, BALANCE_BINS, dtype=torch.float64)

    def weights(self, gamma: Tensor, conditional: Tensor) -> Tensor:
        """Return float32 [B] for levels γ [B] and bool [B], True for conditional pictures."""
        seen = self.counts > 0
        means = self.sums / self.counts.clamp_min(1e-12)
        typical = means[seen].mean() if bool(seen.any()) else means.new_tensor(1.0)
        table = (typical / means.clamp_min(1e-12)).clamp(1 / self.limit, self.limit)
        table[~seen] = 1
        return table[conditional.long(), self._bin(gamma)].float()

    def learn(self, gamma: Tensor, conditional: Tensor, loss: Tensor) -> None:
        """Add losses [B]; a bin forgets by a factor for each loss that falls in it."""
        index = conditional.long() * BALANCE_BINS + self._bin(gamma)
        hits = torch.bincount(index, minlength=2 * BALANCE_BINS).reshape(2, BALANCE_BINS)
        total = torch.bincount(index, loss.double(), minlength=2 * BALANCE_BINS).reshape(
            2, BALANCE_BINS
        )
        forget = BALANCE_MEMORY**hits
        self.sums = forget * self.sums + total
        self.counts = forget * self.counts + hits

    def _bin(self, gamma: Tensor) -> Tensor:
        gamma = gamma.double()
        return torch.bucketize(((1 - gamma) / gamma).clamp_min(1e-30).log() / 2, self.edges)


def log_uniform_weight(gammas: Tensor, gamma: Tensor, step: Tensor) -> Tensor:
    """Return the likelihood weighting of levels that are uniform in t, float32 [B].

    Song et al. 2021, arXiv 2101.09258, eq. 7: the weight λ = g² of the score's squared error is
    ``g²/σ² dt = 2 d log σ`` of the noise's, for any schedule. So the weight is the density of the
    uniform distribution of log σ between σ_1 and σ_T over that of SR3's levels, γ ~ U(γ_t, γ_{t−1})
    for a uniform t. Levels below σ_1, where the integral ends, have weight 0.

    Args:
        gammas: float64 [T + 1], γ_0 = 1.
        gamma: γ [B].
        step: t [B].
    """
    log_sigma = ((1 - gammas[1:]) / gammas[1:]).log() / 2
    length = log_sigma[-1] - log_sigma[0]
    gamma = gamma.double()
    own = (gammas[step - 1] - gammas[step]) * (len(gammas) - 1)
    weight = own / (2 * gamma * (1 - gamma) * length)
    return torch.where(step > 1, weight, 0.0).float()


def noise_error_weight(parameterization: str, gamma: Tensor, sigma_data: float = 0.5) -> Tensor:
    """Return the squared error of ε̂ over that of the network's output, [B]."""
    if parameterization == "epsilon":
        return torch.ones_like(gamma)
    if parameterization == "v":
        return gamma
    if parameterization == "x0":
        return gamma / (1 - gamma)

    sigma = sigma_of(gamma)
    return (edm_scales(sigma, sigma_data)[1] / sigma).square()
