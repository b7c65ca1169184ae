"""The conjugate integrator of pseudoinverse-guided diffusion, for few network calls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from operators import LinearOperator, SpectralOperator
from restore.diffusion.gradient import differentiated
from restore.diffusion.protocol import Condition, Denoise
from restore.diffusion.stepping import (
    Callback,
    Generator,
    falling_pairs,
    gaussian_noise,
    per_picture,
    report,
)
from restore.solvers.consistency import project

# The linear schedule of the paper, β(t) = 0.1 + 19.9 t for t in [0, 1], in whose time λ counts.
BETA_MIN, BETA_MAX = 0.1, 20.0

# Gauss–Legendre nodes and weights for the integrals over a step, on [-1, 1].
NODES, WEIGHTS = np.polynomial.legendre.leggauss(8)

# Smallest noise, relative to A x, that is told from none.
LEAST_NOISE = 1e-6


def conjugate_pigdm(
    denoise: Denoise,
    operator: LinearOperator,
    measurement: Tensor,
    noise_level: Tensor | float,
    sigmas: Sequence[float],
    *,
    generator: Generator = None,
    weight: float = 4.0,
    damping: float = 0.0,
    start: Tensor | None = None,
    condition: Condition | None = None,
    final_projection: bool = False,
    callback: Callback | None = None,
) -> Tensor:
    """Conjugate ΠGDM: integrate the linear part of the guided flow exactly.

    Pandey, Yang, Mandt 2024, arXiv 2405.17673. The guided probability flow is, in ``x = x0 + σ ε``,

        ``dx/dσ = ε − σ w/(1+σ²) (∂x0/∂x)ᵀ m``,    ``m = r² Aᵀ (r² A Aᵀ + σ_y²)⁻¹ (y − A x0)``,

    with ``r² = σ²/(1+σ²)``: the guidance of ΠGDM with the paper's weight ``w r² μ²``, ``μ² =
    1/(1+σ²)``. With ``x0 = x − σ ε`` and ``(∂x0/∂x)ᵀ = 1 − σ (∂ε/∂x)ᵀ`` it is, for a component with
    singular value s, ``ρ = r² s²/(r² s² + σ_y²)``, ``a = w σ ρ/(1+σ²)`` and the bar for ``Vᵀ``,

        ``dx̄/dσ = a (x̄ − ȳ) + (1 − a σ) ε̄ + w σ²/(1+σ²) ḡ``,    ``g = (∂ε/∂x)ᵀ m``,

    linear in x̄ but for ε and g. The integrating factor is ``E = exp(−∫ a dσ)``, in closed form.
    With ε and g held over the step from σ to ς, that gives for λ = 0

        ``x̄ ← ȳ + (E_σ/E_ς) (x̄0 − ȳ) + ς ε̄ + (∫ E w τ²/(1+τ²) dτ / E_ς) ḡ``.

    λ is the paper's B_t = λ: the integrated variable gets the factor e^{λt} besides, with t the
    time of the linear schedule, and its own term is stepped by Euler's method (their eq. 12; DDIM
    for λ = w = 0).

    **Differences.** The paper has the noiseless case (ρ = 1) and the first order in σ_y². Here ρ is
    exact for any noise and an SVD, derived as above. Without an SVD and with noise, the exponential
    of the matrix ``a Aᵀ(A Aᵀ + σ_y²/r²)⁻¹A`` is replaced by the one that is right where its
    eigenvalues are 0 or a (no noise), and to first order of the step elsewhere.

    Args:
        denoise: ``denoise(x, sigma, condition)`` with pictures in [-1, 1], differentiable.
        operator: A linear operator.
        measurement: y, [B, *operator.output_shape], in the units of ``A x`` for x in [-1, 1].
        noise_level: σ_y in the same units (twice that for pixels in [0, 1]); one number or [B].
        sigmas: Decreasing noise levels and a final 0; one network call per positive level.
        generator: Random generator on the CPU, or one per picture; of the initial noise alone.
        weight: w, not negative.
        damping: λ, per unit of the time of the linear schedule.
        start: [B or 1, *input_shape], picture that the first noise is added to, instead of
            mid-grey; the authors' is ``A⁺ y``.
        condition: Shown to the network beside the noisy picture, if given.
        final_projection: Project the result onto the measurement.
        callback: Called with a `Step` after each network call.

    Returns:
        [B, *operator.input_shape], float32.

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0, w is negative, w or λ is not finite, or the
            network is not differentiable.
    """
    if not (0 <= weight < math.inf and math.isfinite(damping)):
        raise ValueError(
            f"weight must not be negative, and damping finite, not {weight} and {damping}"
        )

    pairs = falling_pairs(sigmas)
    shape = (measurement.shape[0], *operator.input_shape)
    x = pairs[0][0] * gaussian_noise(shape, generator, measurement.device)
    x = x if start is None else x + start
    del start  # makes room for the network, for large pictures

    for index, (sigma, sigma_next) in enumerate(pairs):
        prediction, pull_back = differentiated(denoise, x, sigma, condition)
        report(callback, index, len(pairs), sigma, operator.visible(prediction.clean))
        spread = sigma / math.hypot(1, sigma)
        fitted = project(operator, prediction.clean, measurement, noise_level, prior_std=spread)
        move = fitted - prediction.clean
        of_noise = (move - pull_back(move)) / sigma
        del fitted, move, pull_back
        states = (x, prediction.noise, of_noise)
        step = _Step(sigma, sigma_next, weight, damping)
        x = _next(operator, measurement, noise_level, states, step)
        del prediction, of_noise, states

    return project(operator, x, measurement, noise_level) if final_projection else x


class _Factors(NamedTuple):
    """``x̄ ← kept x̄ + noise ε̄ + jacobian ḡ + data ȳ``, each a number or one per component."""

    kept: Tensor
    noise: Tensor
    jacobian: Tensor
    data: Tensor


class _Step(NamedTuple):
    """A step from σ to ``sigma_next`` with the parameters w and λ of `conjugate_pigdm`."""

    sigma: float
    sigma_next: float
    weight: float
    damping: float

    def factors(self, precision: Tensor) -> _Factors:
        """Factors for components with precision ``p = s²/σ_y²``, 0 where nothing is measured."""
        before, after = (self._factor(tau, precision) for tau in (self.sigma, self.sigma_next))
        half = (self.sigma_next - self.sigma) / 2
        noise = self.sigma_next * after - self.sigma * before
        data = after - before
        jacobian = torch.zeros_like(precision)

        for node, fraction in zip(NODES.tolist(), WEIGHTS.tolist(), strict=True):
            tau = self.sigma + (1 + node) * half
            part = fraction * half * self._factor(tau, precision)
            # by parts, the integrals of e^{λt} (τ E)' and e^{λt} E' leave those of (e^{λt})'
            growth = self.damping * _time_rate(tau)
            noise = noise - tau * growth * part
            data = data - growth * part
            jacobian = jacobian + self.weight * tau**2 / (1 + tau**2) * part

        kept = (1 + self.damping * (_time(self.sigma_next) - _time(self.sigma))) * before

        return _Factors(kept / after, noise / after, jacobian / after, data / after)

    def _factor(self, tau: float, precision: Tensor) -> Tensor:
        """``e^{λt} E`` at τ, ``E = exp(−w/2 (ln(1+τ²) − ln(1+(1+p) τ²)/(1+p)))``."""
        more = 1 + precision
        exponent = math.log1p(tau**2) - torch.log1p(more * tau**2) / more
        return torch.exp(self.damping * _time(tau) - self.weight / 2 * exponent)


def _next(
    operator: LinearOperator,
    measurement: Tensor,
    noise_level: Tensor | float,
    states: Sequence[Tensor],
    step: _Step,
) -> Tensor:
    """Take ``states`` x, ε and g over a step: as if nothing was measured, then what was."""
    outside = step.factors(measurement.new_zeros(()))
    x = _combined(outside, states)
    noiseless = not isinstance(noise_level, Tensor) and noise_level == 0
    if isinstance(operator, SpectralOperator) and not noiseless:
        noise = per_picture(noise_level, measurement).clamp_min(LEAST_NOISE)
        inside = step.factors((operator.singular_values / noise) ** 2)
        spectrum = inside.data * operator.inverse_singular_values() * operator.Ut(measurement)
        for factor, other, state in zip(inside, outside, states, strict=False):
            spectrum = spectrum + (factor - other) * operator.Vt(state)
        return x + operator.V(spectrum)

    inside = step.factors(measurement.new_full((), LEAST_NOISE**-2))
    change = _combined(
        [factor - other for factor, other in zip(inside, outside, strict=True)], states
    )
    target = inside.data * measurement + operator.A(change)
    spread = step.sigma / math.hypot(1, step.sigma)

    return x + project(operator, torch.zeros_like(x), target, noise_level, prior_std=spread)


def _combined(factors: Sequence[Tensor], states: Sequence[Tensor]) -> Tensor:
    """``kept x + noise ε + jacobian g``."""
    x, noise, jacobian = states
    return factors[0] * x + factors[1] * noise + factors[2] * jacobian


def _time(sigma: float) -> float:
    """Time of the linear schedule: ``ln(1+σ²) = β_min t + (β_max − β_min) t²/2``."""
    rise = BETA_MAX - BETA_MIN
    return (math.sqrt(BETA_MIN**2 + 2 * rise * math.log1p(sigma**2)) - BETA_MIN) / rise


def _time_rate(sigma: float) -> float:
    """dt/dσ."""
    beta = BETA_MIN + (BETA_MAX - BETA_MIN) * _time(sigma)
    return 2 * sigma / (1 + sigma**2) / beta
