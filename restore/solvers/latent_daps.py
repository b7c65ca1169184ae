"""DAPS over the latents of an autoencoder."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from operators import LinearOperator, NonlinearChain
from restore.diffusion.latents import Autoencoder
from restore.diffusion.protocol import Denoise
from restore.diffusion.schedule import karras_between
from restore.diffusion.stepping import Callback, Generator, falling_pairs, noise_like, reported
from restore.samplers.ddim import ddim
from restore.solvers.decoded import DecodedMeasurement, Stretch
from restore.solvers.likelihood_draw import check_langevin

# Lowest σ_y that the Langevin steps take, for pictures in [-1, 1]: β_y of the paper.
LEAST_NOISE = 0.01


def latent_daps(
    denoise: Denoise,
    autoencoder: Autoencoder,
    operator: LinearOperator | NonlinearChain,
    measurement: Tensor,
    noise_level: Tensor | float,
    sigmas: Sequence[float],
    *,
    generator: Generator = None,
    ode_calls: int = 1,
    prior_std: float = math.inf,
    langevin_time: float = math.inf,
    langevin_steps: int = 20,
    step_size: float = 0.5,
    momentum: float = 0.9,
    start: Tensor | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Latent DAPS: sample latents whose pictures explain a measurement ``y = A D(z0) + σ_y n``.

    Zhang et al. 2024, arXiv 2407.01521, algorithm 1 over latents. At each noise level σ:

    - ẑ0(z) is the end of the probability flow ODE that begins at z, by a few Euler steps;
    - ``z0 ~ N(z0; ẑ0(z), r² I) · p(y | D(z0))``, by Langevin steps through the decoder D;
    - ``z ← z0 + ς ε`` at the next level ς.

    The Langevin steps have momentum m, as in the authors' code for latents,

        ``v ← m v + √h ∇ log p + √(2 (1 − m)) ε``,    ``z0 ← z0 + √h v``,

    and are those of the paper for m = 0. The step size h is a fraction of the one that would be
    stable for m = 0, ``1/(1/r² + ‖A J‖²/σ_y²)``, with the decoder's Jacobian J; the authors tune
    it by task. σ_y is at least 0.01, as theirs is.

    Spread r and time T are those of `restore.solvers.daps`. The steps begin at a draw from
    N(ẑ0, f²), with ``f = r √(1 − exp(−2 T/r²))``, and their noise has the weight f/r: what the
    measurement does not tell has its spread from the first step, and only what it tells has to
    converge. The paper begins at ẑ0 itself (T = 0) and adds all of the noise.

    The result is projected onto the measurement in pixels.

    Args:
        denoise: ``denoise(z, sigma, condition)`` of latents.
        autoencoder: The autoencoder of the latents, with a differentiable decoder.
        operator: A linear operator, or a chain with JPEG or quantisation.
        measurement: y, [B, *operator.output_shape], in the units of ``A x`` for x in [-1, 1].
        noise_level: σ_y in the same units; one number, [B], or a map of the measurement.
        sigmas: Decreasing noise levels and a final 0.
        generator: Random generator on the CPU, or one per picture.
        ode_calls: Network calls for the ODE at each level, at Karras levels down to the lowest of
            ``sigmas``; at the lowest level itself there is one.
        prior_std: τ > 0, standard deviation of latents.
        langevin_time: T ≥ 0, in squared units of latents; ∞ is a draw.
        langevin_steps: Langevin steps at each level.
        step_size: h, in (0, 1].
        momentum: m in [0, 1).
        start: [B or 1, *input_shape], picture whose latents the first noise is added to.
        callback: Called with a `Step` after each network call, with the pictures that were decoded
            last, those of the level before.

    Returns:
        Pictures [B, *operator.input_shape], float32: the mode of the last draw.

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0, or a parameter is out of range.
    """
    _check(ode_calls, prior_std, langevin_time, langevin_steps, step_size, momentum)
    decoded = DecodedMeasurement(autoencoder, operator, measurement, noise_level, least=LEAST_NOISE)
    pairs = falling_pairs(sigmas)
    lowest = pairs[-1][0]
    calls = (len(pairs) - 1) * ode_calls + 1
    denoise = reported(denoise, callback, calls, decoded.preview)
    z = decoded.begin(pairs[0][0], start, generator)
    langevin = _Langevin(decoded, langevin_steps, step_size, momentum, generator)

    for sigma, sigma_next in pairs:
        levels = karras_between(sigma, lowest, ode_calls, rho=7.0) if sigma > lowest else [sigma]
        clean = ddim(denoise, z, [*levels, 0.0])
        spread = sigma / (1 + (sigma / prior_std) ** 2) ** 0.5
        fresh = (-math.expm1(-2 * langevin_time / spread**2)) ** 0.5
        drawn = langevin.drawn(clean, spread, fresh if sigma_next > 0 else 0.0)
        z = drawn + sigma_next * noise_like(drawn, generator) if sigma_next > 0 else drawn

    return decoded.finished(z)


class _Langevin:
    """Langevin steps from clean latents, see `latent_daps`.

    Args:
        decoded: The measurement.
        steps: Number of steps of a draw.
        step_size: h.
        momentum: m.
        generator: Random generator on the CPU, or one per picture.
    """

    def __init__(
        self,
        decoded: DecodedMeasurement,
        steps: int,
        step_size: float,
        momentum: float,
        generator: Generator,
    ) -> None:
        self.decoded = decoded
        self.steps = steps
        self.step_size = step_size
        self.momentum = momentum
        self.generator = generator
        self.stretch = Stretch(decoded)

    def drawn(self, estimate: Tensor, spread: float, fresh: float) -> Tensor:
        """Draw latents.

        Args:
            estimate: ẑ0.
            spread: r.
            fresh: f/r, weight of the noise; 0 descends to the mode.
        """
        variance = self.decoded.deviation**2
        curvature = 1 / spread**2 + self.stretch.squared(estimate) / variance
        root = (self.step_size / curvature).sqrt()
        weight = fresh * (2 * (1 - self.momentum)) ** 0.5

        z, velocity = estimate, torch.zeros_like(estimate)
        if fresh > 0:
            z = estimate + fresh * spread * noise_like(estimate, self.generator)
            velocity = fresh * noise_like(estimate, self.generator)

        for _ in range(self.steps):
            _, gradient = self.decoded.residual_and_gradient(z)
            score = (estimate - z) / spread**2 - gradient / variance
            velocity = self.momentum * velocity + root * score
            if fresh > 0:
                velocity = velocity + weight * noise_like(z, self.generator)
            z = z + root * velocity

        return z


def _check(
    ode_calls: int,
    prior_std: float,
    langevin_time: float,
    langevin_steps: int,
    step_size: float,
    momentum: float,
) -> None:
    """Check the parameters.

    Raises:
        ValueError: If one is out of range.
    """
    check_langevin(langevin_steps, step_size)
    if ode_calls < 1 or not prior_std > 0 or not langevin_time >= 0:
        raise ValueError(
            "ode_calls must be at least 1, prior_std above 0 and langevin_time at least 0, not "
            f"{ode_calls}, {prior_std} and {langevin_time}"
        )
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be in [0, 1), not {momentum}")
