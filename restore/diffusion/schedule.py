"""Noise schedules of trained networks, and grids of noise levels for reverse processes.

Variance-preserving (VP) chains are described by ``alphas_cumprod`` (ᾱ_t; Ho et al. 2020, arXiv
2006.11239). Only the wrapper of a network uses them; everything else works in variance-exploding
coordinates, ``x = x0 + σ ε`` with ``σ_t = √((1 − ᾱ_t)/ᾱ_t)``.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


def linear_alphas_cumprod(timesteps: int = 1000, start: float = 1e-4, end: float = 0.02) -> Array:
    """β_t rises linearly (DDPM: Ho, Jain, Abbeel 2020, arXiv 2006.11239, section 4)."""
    return np.cumprod(1 - np.linspace(start, end, timesteps), dtype=np.float64)


def scaled_linear_alphas_cumprod(
    timesteps: int = 1000, start: float = 0.00085, end: float = 0.012
) -> Array:
    """√β_t rises linearly (latent diffusion: Rombach et al. 2022, arXiv 2112.10752).

    The range is that of Stable Diffusion's checkpoints; 0.0015 to 0.0195 are those of the models in
    the paper's tables.
    """
    return np.cumprod(1 - np.linspace(start**0.5, end**0.5, timesteps) ** 2, dtype=np.float64)


def cosine_alphas_cumprod(
    timesteps: int = 1000, offset: float = 0.008, max_beta: float = 0.999
) -> Array:
    """ᾱ_t is a squared cosine, with β_t ≤ 0.999.

    Improved DDPM: Nichol, Dhariwal 2021, arXiv 2102.09672, eq. 17.
    """

    def alpha_bar(u: Array) -> Array:
        return np.cos((u + offset) / (1 + offset) * math.pi / 2) ** 2

    u = np.arange(timesteps + 1) / timesteps
    return np.cumprod(1 - np.minimum(1 - alpha_bar(u[1:]) / alpha_bar(u[:-1]), max_beta))


def sr3_alphas_cumprod(timesteps: int = 2000, start: float = 1e-6, end: float = 1e-2) -> Array:
    """Linear schedule with T = 2000 of SR3 (Saharia et al. 2021, arXiv 2104.07636).

    The paper does not give the range of β; 1e-6 to 1e-2 is that of the public checkpoints for
    16→128 and 64→512 pixels.
    """
    return linear_alphas_cumprod(timesteps, start, end)


def edm_alphas_cumprod(
    timesteps: int = 1000, low: float = 0.002, high: float = 80.0, rho: float = 7.0
) -> Array:
    """σ^{1/ρ} rises linearly, for EDM's networks, which have no chain (arXiv 2206.00364, eq. 5)."""
    return 1 / (1 + np.linspace(low ** (1 / rho), high ** (1 / rho), timesteps) ** (2 * rho))


def geometric_alphas_cumprod(
    timesteps: int = 1000, low: float = 0.02, high: float = 100.0
) -> Array:
    """log σ rises linearly: NCSN (Song, Ermon 2019, arXiv 1907.05600) and the VE SDE.

    0.01 to 50 for pixels in [0, 1] are those of Song et al. 2021, arXiv 2011.13456, appendix C; the
    highest level is the largest distance between two small pictures (Song, Ermon 2020, arXiv
    2006.09011, technique 1).
    """
    return 1 / (1 + np.geomspace(low, high, timesteps) ** 2)


def bridge_alphas_cumprod(timesteps: int = 1000, start: float = 1e-4, end: float = 3e-4) -> Array:
    """√β_t rises linearly from √start towards √end up to the middle, and falls back after it.

    I²SB (Liu et al. 2023, arXiv 2302.05872): σ_t² is the sum of β up to t (eq. 11). β and its
    range are those of their code; there ``end`` is β_max/T, with β_max 0.3 for super-resolution and
    JPEG, and 1 for deblurring and inpainting.
    """
    rising = np.linspace(start**0.5, end**0.5, timesteps)[: timesteps // 2] ** 2
    return 1 / (1 + np.cumsum(np.concatenate([rising, rising[::-1]])))


def flow_alphas_cumprod(timesteps: int = 1000, shift: float = 1.0) -> Array:
    """t rises linearly on the line ``x_t = (1 − t) x0 + t ε``, shifted towards noise.

    σ_t = t/(1 − t) of a rectified flow (Liu et al. 2022, arXiv 2209.03003), with ``t → s t/(1 + (s
    − 1) t)`` for large pictures (Stable Diffusion 3: Esser et al. 2024, arXiv 2403.03206, eq. 23).
    t = 1, where no picture is left, is left out.
    """
    t = np.arange(1, timesteps + 1) / (timesteps + 1)
    t = shift * t / (1 + (shift - 1) * t)
    return (1 - t) ** 2 / ((1 - t) ** 2 + t**2)


SCHEDULES: dict[str, Callable[..., Array]] = {
    "linear": linear_alphas_cumprod,
    "scaled-linear": scaled_linear_alphas_cumprod,
    "cosine": cosine_alphas_cumprod,
    "sr3": sr3_alphas_cumprod,
    "edm": edm_alphas_cumprod,
    "geometric": geometric_alphas_cumprod,
    "bridge": bridge_alphas_cumprod,
    "flow": flow_alphas_cumprod,
}


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """A discrete VP chain.

    Attributes:
        alphas_cumprod: ᾱ_t, float64 [T], decreasing, in (0, 1).
    """

    alphas_cumprod: Array

    @classmethod
    def named(cls, name: str, **options: float) -> NoiseSchedule:
        """Make a schedule by name.

        Args:
            name: One of `SCHEDULES`.
            **options: Keyword arguments of the function of that name.

        Raises:
            ValueError: If the name is unknown, or the schedule has no such option.
        """
        if name not in SCHEDULES:
            raise ValueError(f"unknown noise schedule {name!r}; known are {', '.join(SCHEDULES)}")

        known = inspect.signature(SCHEDULES[name]).parameters
        if unknown := [option for option in options if option not in known]:
            raise ValueError(
                f"the noise schedule {name} has no {', '.join(unknown)}; it has {', '.join(known)}"
            )

        return cls(SCHEDULES[name](**options))

    def __len__(self) -> int:
        return len(self.alphas_cumprod)

    @cached_property
    def sigmas(self) -> Array:
        """σ_t of all steps, increasing, float64 [T]."""
        return np.sqrt((1 - self.alphas_cumprod) / self.alphas_cumprod)

    @cached_property
    def log_sigmas(self) -> Tensor:
        """log σ_t, float32 [T]."""
        return torch.from_numpy(np.log(self.sigmas)).float()

    def sigma_at(self, time: float | Array) -> Array:
        """σ at any time in [0, T − 1], with log σ linear between the steps."""
        return np.exp(np.interp(time, np.arange(len(self)), np.log(self.sigmas)))

    def time_at(self, sigma: Tensor) -> Tensor:
        """Time in [0, T − 1] of a noise level, linear in log σ between the steps.

        Args:
            sigma: float32, any shape and device; levels beyond either end get the time of that end.
        """
        table = self.log_sigmas.to(sigma.device)
        log_sigma = sigma.clamp_min(torch.finfo(torch.float32).tiny).log()
        # how many steps have less noise, as torch.searchsorted, which ONNX lacks
        above = (table < log_sigma[..., None]).sum(dim=-1).clamp(1, len(self) - 1)
        low = table[above - 1]
        high = table[above]
        return (above - 1 + (log_sigma - low) / (high - low)).clamp(0, len(self) - 1)


def posterior_variance(sigma: float, sigma_next: float) -> float:
    """β̃_t, the variance of q(x_{t−1} | x_t, x0) (DDPM, arXiv 2006.11239, eq. 7).

    ``β̃_t = β_t (1 − ᾱ_{t−1})/(1 − ᾱ_t)`` becomes ``ς² (1 − ς²/σ²)`` from σ to the next level ς.
    """
    return sigma_next**2 * (1 - (sigma_next / sigma) ** 2)


def forward_variance(sigma: float, sigma_next: float) -> float:
    """β_t, the variance of the chain's forward step (arXiv 2006.11239, section 3.2).

    ``β_t = 1 − ᾱ_t/ᾱ_{t−1}`` between any two levels, as re-spaced in Improved DDPM (arXiv
    2102.09672, eq. 19), becomes ``(σ² − ς²)(1 + ς²)/(1 + σ²)``. It is optimal for pictures that are
    white noise of variance 1; β̃_t is optimal for a single picture.
    """
    return (sigma**2 - sigma_next**2) * (1 + sigma_next**2) / (1 + sigma**2)


def uniform_levels(schedule: NoiseSchedule, steps: int) -> Array:
    """t = 0, T/n, 2T/n, … as in DDRM and DDIM: 950, 900, …, 0 for 20 steps of 1000."""
    return schedule.sigma_at(np.floor(np.arange(steps)[::-1] * len(schedule) / steps))


def quadratic_levels(schedule: NoiseSchedule, steps: int) -> Array:
    """t is quadratic in the step, up to 0.8 T.

    DDIM: Song et al. 2021, arXiv 2010.02502, appendix D.2.
    """
    return schedule.sigma_at(np.linspace(math.sqrt(0.8 * (len(schedule) - 1)), 0, steps) ** 2)


def karras_levels(schedule: NoiseSchedule, steps: int, rho: float = 7.0) -> Array:
    """σ^{1/ρ} falls linearly (EDM: Karras et al. 2022, arXiv 2206.00364, eq. 5)."""
    return karras_between(float(schedule.sigmas[-1]), float(schedule.sigmas[0]), steps, rho)


def karras_between(highest: float, lowest: float, steps: int, rho: float) -> Array:
    """Grid of `karras_levels` between two noise levels, both included."""
    return np.linspace(highest ** (1 / rho), lowest ** (1 / rho), steps) ** rho


def log_snr_levels(schedule: NoiseSchedule, steps: int) -> Array:
    """Uniform in log-SNR (DPM-Solver: Lu et al. 2022, arXiv 2206.00927, section 3.4)."""
    return np.geomspace(schedule.sigmas[-1], schedule.sigmas[0], steps)


LEVELS: dict[str, Callable[[NoiseSchedule, int], Array]] = {
    "uniform": uniform_levels,
    "quadratic": quadratic_levels,
    "karras": karras_levels,
    "log-snr": log_snr_levels,
}


def noise_levels(
    schedule: NoiseSchedule,
    steps: int,
    kind: str = "uniform",
    *,
    highest: float | None = None,
    lowest: float | None = None,
) -> list[float]:
    """A grid of decreasing noise levels and a final 0.

    Args:
        schedule: Chain whose range is covered.
        steps: Number of positive levels, and so of network calls; at least 1.
        kind: ``uniform`` or ``quadratic`` in t, ``karras``, or ``log-snr``.
        highest: First noise level, instead of the chain's largest one.
        lowest: Last positive noise level, instead of the chain's smallest one.

    Raises:
        ValueError: If the kind is unknown, ``steps`` is below 1 or above the length of the chain,
            or ``highest`` or ``lowest`` is outside the chain.
    """
    if kind not in LEVELS:
        raise ValueError(f"unknown level grid {kind!r}; known are {', '.join(LEVELS)}")
    if not 1 <= steps <= len(schedule):
        raise ValueError(f"the number of steps must be between 1 and {len(schedule)}, not {steps}")
    if highest is not None:
        schedule = _cut(schedule, highest)
    if lowest is not None:
        schedule = _cut_below(schedule, lowest)

    return [float(sigma) for sigma in LEVELS[kind](schedule, steps)] + [0.0]


def _cut(schedule: NoiseSchedule, highest: float) -> NoiseSchedule:
    """Return the chain up to σ = ``highest``, resampled to the same number of steps."""
    low = float(schedule.sigmas[0])
    top = float(schedule.sigmas[-1])
    if not low < highest <= top:
        raise ValueError(
            f"the highest noise level must be in ({low:.3g}, {top:.4g}], not {highest}"
        )

    return _between(schedule, 0, _time(schedule, highest))


def _cut_below(schedule: NoiseSchedule, lowest: float) -> NoiseSchedule:
    """Return the chain from σ = ``lowest`` on, resampled to the same number of steps."""
    low = float(schedule.sigmas[0])
    top = float(schedule.sigmas[-1])
    if not low <= lowest < top:
        raise ValueError(f"the lowest noise level must be in [{low:.3g}, {top:.4g}), not {lowest}")

    return _between(schedule, _time(schedule, lowest), len(schedule) - 1)


def _time(schedule: NoiseSchedule, sigma: float) -> float:
    return float(np.interp(np.log(sigma), np.log(schedule.sigmas), np.arange(len(schedule))))


def _between(schedule: NoiseSchedule, first: float, last: float) -> NoiseSchedule:
    sigmas = schedule.sigma_at(np.linspace(first, last, len(schedule)))
    return NoiseSchedule(1 / (1 + sigmas**2))
