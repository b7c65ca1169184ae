"""Score SDE: three diffusions in continuous time, their reverse SDEs, and the flow ODE."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy
import torch
from torch import Tensor

from restore.diffusion.flow import Array, as_pictures, as_state, check_tolerances, flow_velocity
from restore.diffusion.protocol import Condition, Denoise
from restore.diffusion.stepping import Callback, Generator, falling_pairs, noise_like, report


class SDE(ABC):
    """``du = f(t) u dt + g(t) dw`` for t in [0, 1], with the marginals ``u = s(t) (x0 + σ(t) ε)``.

    Song et al. 2021, arXiv 2011.13456, section 3.4 and appendix B. ``x = u/s`` is the state in
    variance-exploding coordinates, so the denoiser gives every score: ``∇_u log p_t(u) = −ε̂(u/s,
    σ) / (s σ)``.
    """

    @abstractmethod
    def drift(self, t: float) -> float:
        """Factor f(t) of the drift f(t) u."""

    @abstractmethod
    def diffusion(self, t: float) -> float:
        """Diffusion coefficient g(t)."""

    @abstractmethod
    def scale(self, t: float) -> float:
        """Scale s(t) of x0."""

    @abstractmethod
    def sigma(self, t: float) -> float:
        """Noise level σ(t) relative to x0."""

    @abstractmethod
    def time_at(self, sigma: float) -> float:
        """Time of a positive noise level; above 1 for levels above σ(1)."""

    def std(self, t: float) -> float:
        """Standard deviation of u given x0."""
        return self.scale(t) * self.sigma(t)

    def levels(self, steps: int, end: float = 1e-3) -> list[float]:
        """The paper's grid: levels at ``steps`` uniform times from 1 to ``end``, and a final 0.

        Raises:
            ValueError: If there are fewer than 1 step, or the end is outside (0, 1).
        """
        if steps < 1 or not 0 < end < 1:
            raise ValueError(
                f"at least 1 step and an end in (0, 1) are needed, not {steps} and {end}"
            )
        return [self.sigma(float(t)) for t in np.linspace(1, end, steps)] + [0.0]


@dataclass(frozen=True)
class VarianceExploding(SDE):
    """VE: ``dx = σ(t) √(2 log(σ_max/σ_min)) dw`` with ``σ(t) = σ_min (σ_max/σ_min)^t``.

    Song et al. 2021, arXiv 2011.13456, eq. 30. The data at t = 0 have noise of level σ_min.

    Raises:
        ValueError: If not 0 < sigma_min < sigma_max.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(
                f"0 < sigma_min < sigma_max is needed, not {self.sigma_min} and {self.sigma_max}"
            )

    def drift(self, t: float) -> float:
        return 0.0

    def diffusion(self, t: float) -> float:
        return self.sigma(t) * math.sqrt(2 * math.log(self.sigma_max / self.sigma_min))

    def scale(self, t: float) -> float:
        return 1.0

    def sigma(self, t: float) -> float:
        return self.sigma_min * math.pow(self.sigma_max / self.sigma_min, t)

    def time_at(self, sigma: float) -> float:
        return math.log(sigma / self.sigma_min) / math.log(self.sigma_max / self.sigma_min)


@dataclass(frozen=True)
class _LinearBeta(SDE):
    """Common part of VP and sub-VP: β(t) is linear, the mean decays as √ᾱ = exp(−½ ∫β)."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.beta_min <= self.beta_max:
            raise ValueError(
                f"0 < beta_min <= beta_max is needed, not {self.beta_min} and {self.beta_max}"
            )

    def beta(self, t: float) -> float:
        """β(t)."""
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def beta_integral(self, t: float) -> float:
        """∫_0^t β = −log ᾱ(t)."""
        return t * self.beta_min + 0.5 * t**2 * (self.beta_max - self.beta_min)

    def drift(self, t: float) -> float:
        return -0.5 * self.beta(t)

    def scale(self, t: float) -> float:
        return math.exp(-0.5 * self.beta_integral(t))

    def _time_of_integral(self, integral: float) -> float:
        """Time t at which ``∫_0^t β`` has a value."""
        root = math.sqrt(self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * integral)
        return 2 * integral / (self.beta_min + root)


@dataclass(frozen=True)
class VariancePreserving(_LinearBeta):
    """VP: ``du = −½ β(t) u dt + √β(t) dw``, DDPM's chain in continuous time.

    Song et al. 2021, arXiv 2011.13456, eq. 11 and 32. ``u = √ᾱ x0 + √(1−ᾱ) ε``.

    Raises:
        ValueError: If not 0 < beta_min <= beta_max.
    """

    def diffusion(self, t: float) -> float:
        return math.sqrt(self.beta(t))

    def sigma(self, t: float) -> float:
        return math.sqrt(math.expm1(self.beta_integral(t)))

    def time_at(self, sigma: float) -> float:
        return self._time_of_integral(math.log1p(sigma**2))


@dataclass(frozen=True)
class SubVariancePreserving(_LinearBeta):
    """Sub-VP: ``du = −½ β(t) u dt + √(β(t) (1 − ᾱ²)) dw``, the mean of VP with less noise.

    Song et al. 2021, arXiv 2011.13456, eq. 12. ``u = √ᾱ x0 + (1−ᾱ) ε``.

    Raises:
        ValueError: If not 0 < beta_min <= beta_max.
    """

    def diffusion(self, t: float) -> float:
        return math.sqrt(-self.beta(t) * math.expm1(-2 * self.beta_integral(t)))

    def sigma(self, t: float) -> float:
        return 2 * math.sinh(0.5 * self.beta_integral(t))  # (1−ᾱ)/√ᾱ

    def time_at(self, sigma: float) -> float:
        return self._time_of_integral(2 * math.asinh(0.5 * sigma))


_VE = VarianceExploding()

PREDICTORS = ("reverse-diffusion", "euler-maruyama")
Predictor = Literal["reverse-diffusion", "euler-maruyama"]


def euler_maruyama(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    sde: SDE = _VE,
    condition: Condition | None = None,
    generator: Generator = None,
    callback: Callback | None = None,
) -> Tensor:
    """Euler–Maruyama method for the reverse SDE (Song et al. 2021, arXiv 2011.13456, appendix D).

    ``u ← u − (f u − g² ∇log p) Δt + g √Δt z`` (eq. 6) between the times of neighbouring levels,
    with f and g at the beginning of the step. Other arguments and errors as for
    `predictor_corrector`.
    """
    return predictor_corrector(
        denoise,
        x,
        sigmas,
        sde=sde,
        predictor="euler-maruyama",
        corrector_steps=0,
        condition=condition,
        generator=generator,
        callback=callback,
    )


def reverse_diffusion(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    sde: SDE = _VE,
    condition: Condition | None = None,
    generator: Generator = None,
    callback: Callback | None = None,
) -> Tensor:
    """The reverse SDE, discretised as the forward SDE (Song et al. 2021, arXiv 2011.13456, eq. 46).

    The forward step to u from the next lower level u' is ``r u' + G z`` with ``r = s/s'`` and ``G²
    = s² (σ² − σ'²)``; the reverse step is ``u' = (2 − r) u + G² ∇log p + G z``, the predictor of
    their algorithms 2 (VE, r = 1) and 3 (VP, r = √(1−β)). It is used for sub-VP too, for which the
    authors take Euler–Maruyama. Other arguments and errors as for `predictor_corrector`.
    """
    return predictor_corrector(
        denoise,
        x,
        sigmas,
        sde=sde,
        predictor="reverse-diffusion",
        corrector_steps=0,
        condition=condition,
        generator=generator,
        callback=callback,
    )


def predictor_corrector(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    sde: SDE = _VE,
    predictor: Predictor = "reverse-diffusion",
    corrector_steps: int = 1,
    snr: float = 0.16,
    condition: Condition | None = None,
    generator: Generator = None,
    callback: Callback | None = None,
) -> Tensor:
    """Steps down the reverse SDE, each with Langevin steps at the level reached.

    Song et al. 2021, arXiv 2011.13456, algorithms 2 and 3 with the correctors 4 (VE) and 5 (VP):
    ``u ← u + ε g + √(2ε) z`` with the score g and ``ε = 2α (r ‖z‖/‖g‖)²``, where α is 1 for VE and
    1−β of the level otherwise. As in their appendix G, ‖g‖ is the mean over the batch, and ‖z‖ is
    √d for d numbers per picture, so that the result depends slightly on the other pictures of the
    batch.

    The step to the final 0 is their denoising step (appendix G): it returns the clean estimate,
    without a corrector.

    Args:
        denoise: ``denoise(x, sigma, condition)`` with pictures in [-1, 1].
        x: [B, C, H, W] at ``sigmas[0]``, in variance-exploding coordinates for every SDE.
        sigmas: Decreasing noise levels and a final 0, for example ``sde.levels(steps)``.
        sde: `VarianceExploding`, `VariancePreserving` or `SubVariancePreserving`.
        predictor: ``reverse-diffusion`` or ``euler-maruyama``, see the functions of these names.
        corrector_steps: M of the paper, Langevin steps per level.
        snr: r, signal-to-noise ratio of the Langevin steps; the paper's best are 0.16 for VE and
            0.01 for VP.
        condition: Shown to the network beside the noisy picture, if given.
        generator: Random generator on the CPU, or one per picture.
        callback: Called with a `Step` after the predictor's network call at each positive level. A
            step takes ``1 + corrector_steps`` calls, the last one 1.

    Returns:
        [B, C, H, W] in the type of x.

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0, the predictor is unknown, there are fewer
            than 0 corrector steps, or the ratio is not positive.
    """
    pairs = falling_pairs(sigmas)
    if predictor not in PREDICTORS:
        raise ValueError(f"unknown predictor {predictor!r}; known are {', '.join(PREDICTORS)}")
    if corrector_steps < 0:
        raise ValueError(f"the number of corrector steps must be at least 0, not {corrector_steps}")
    if snr <= 0:
        raise ValueError(f"the corrector's signal-to-noise ratio must be positive, not {snr}")

    predict = _reverse_diffusion_step if predictor == "reverse-diffusion" else _euler_maruyama_step

    for index, (sigma, sigma_next) in enumerate(pairs):
        clean, noise, *_ = denoise(x, sigma, condition)
        report(callback, index, len(pairs), sigma, clean)
        if sigma_next > 0:
            factor, variance = predict(sde, sigma, sigma_next)
            fresh = math.sqrt(variance) * noise_like(x, generator)
            x = factor * x - variance / sigma * noise + fresh
            x = _scale_ratio(sde, sigma, sigma_next) * x

            alpha = _scale_ratio(sde, *pairs[index + 1]) ** 2
            for _ in range(corrector_steps):
                noise = denoise(x, sigma_next, condition).noise
                x = _langevin_step(x, -noise / sigma_next, 2 * alpha * snr**2, generator)

    return clean


def _langevin_step(x: Tensor, score: Tensor, factor: float, generator: Generator) -> Tensor:
    """``x + ε g + √(2ε) z`` with the score g and ``ε = factor · (‖z‖/‖g‖)²``."""
    mean_norm = torch.linalg.vector_norm(score.flatten(1), dim=1).mean()
    step: Tensor = factor * x[0].numel() / mean_norm.square()
    return x + step * score + (2 * step).sqrt() * noise_like(x, generator)


def _reverse_diffusion_step(sde: SDE, sigma: float, sigma_next: float) -> tuple[float, float]:
    """2 − r and G²/s², for the state x = u/s."""
    return 2 - _scale_ratio(sde, sigma, sigma_next), sigma**2 - sigma_next**2


def _euler_maruyama_step(sde: SDE, sigma: float, sigma_next: float) -> tuple[float, float]:
    """1 − f Δt and g² Δt/s², for the state x = u/s."""
    t = sde.time_at(sigma)
    duration = t - sde.time_at(sigma_next)
    return 1 - sde.drift(t) * duration, (sde.diffusion(t) / sde.scale(t)) ** 2 * duration


def _scale_ratio(sde: SDE, sigma: float, sigma_next: float) -> float:
    """r = s/s' of a level and the next one; s is 1 without noise."""
    scale_next = sde.scale(sde.time_at(sigma_next)) if sigma_next > 0 else 1.0
    return sde.scale(sde.time_at(sigma)) / scale_next


def probability_flow(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    condition: Condition | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """The probability-flow ODE by an adaptive solver (Song et al. 2021, arXiv 2011.13456, eq. 13).

    In variance-exploding coordinates eq. 13 is ``dx/dσ = ε̂`` for all three SDEs: VP and sub-VP
    follow the same trajectory at another speed and scale. A Runge–Kutta method of order 5(4)
    integrates it over log σ as ``u = x/√(1+σ²)``, which varies slowly, from the first to the last
    positive level, whose clean estimate is the result. It draws no random numbers.

    Args:
        denoise: ``denoise(x, sigma, condition)`` with pictures in [-1, 1].
        x: [B, C, H, W] at ``sigmas[0]``.
        sigmas: Decreasing noise levels, at least two positive ones, and a final 0. The solver
            chooses its own steps; the levels between the first and the last only set the callback's
            times.
        rtol, atol: Relative and absolute tolerance of a step, for the root mean square of u in the
            batch.
        condition: Shown to the network beside the noisy picture, if given.
        callback: Called with a `Step` for each positive level when the solver has reached or passed
            it, with the clean estimate at its present state.

    Returns:
        [B, C, H, W] in the type of x.

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0 or have a single positive level, or a
            tolerance is not positive.
        ArithmeticError: If the solver finds no step that is small enough, for example because the
            network's output is not finite.
    """
    levels = [sigma for sigma, _ in falling_pairs(sigmas)]
    if len(levels) < 2:
        raise ValueError(
            "the probability-flow ODE runs between two positive noise levels; there is only one"
        )

    check_tolerances(rtol, atol)

    def derivative(log_sigma: float, state: Array) -> Array:
        sigma = math.exp(log_sigma)
        u = as_pictures(state, x)
        noise = denoise(u * math.hypot(1, sigma), sigma, condition).noise
        return as_state(flow_velocity(u, noise, sigma))

    end = math.log(levels[-1])
    start = as_state(x / math.hypot(1, levels[0]))
    solver = scipy.integrate.RK45(derivative, math.log(levels[0]), start, end, rtol=rtol, atol=atol)
    reported = 0

    while solver.status == "running":
        failure = solver.step()
        if solver.status == "failed":
            raise ArithmeticError(f"the probability-flow ODE could not be solved: {failure}")

        clean = _clean_estimate(
            as_pictures(solver.y, x), as_pictures(solver.f, x), math.exp(solver.t)
        )
        while reported < len(levels) and solver.t <= math.log(levels[reported]):
            report(callback, reported, len(levels), levels[reported], clean)
            reported += 1

    return _clean_estimate(as_pictures(solver.y, x), as_pictures(solver.f, x), levels[-1])


def _clean_estimate(u: Tensor, velocity: Tensor, sigma: float) -> Tensor:
    """Clean estimate x − σ ε̂ from the velocity, without a network call.

    It is ``√(1+σ²) (u/(1+σ²) − velocity)``, see `restore.diffusion.flow.flow_velocity`.
    """
    root = math.hypot(1, sigma)
    return u / root - root * velocity
