"""DAPS: posterior sampling whose noise levels are decoupled from each other."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from operators import LinearOperator, NonlinearChain
from restore.diffusion.protocol import Condition, Denoise
from restore.diffusion.schedule import karras_between
from restore.diffusion.stepping import (
    Callback,
    Generator,
    falling_pairs,
    gaussian_noise,
    noise_like,
    reported,
)
from restore.samplers.ddim import ddim
from restore.solvers.likelihood_draw import check_langevin, draw_near, mode_of_draw


def daps(
    denoise: Denoise,
    operator: LinearOperator | NonlinearChain,
    measurement: Tensor,
    noise_level: Tensor | float,
    sigmas: Sequence[float],
    *,
    generator: Generator = None,
    ode_calls: int = 1,
    prior_std: float = math.inf,
    langevin_time: float = math.inf,
    langevin_steps: int = 10,
    step_size: float = 0.3,
    start: Tensor | None = None,
    condition: Condition | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """DAPS: sample pictures that explain a measurement ``y = A x0 + σ_y n``.

    Zhang et al. 2024, arXiv 2407.01521, algorithm 1. At each noise level σ:

    - x̂0(x) is the end of the probability flow ODE that begins at x, by a few Euler steps;
    - ``x0 ~ N(x0; x̂0(x), r² I) · p(y | x0)``, see `draw_near`: exact for a linear A, where the
      paper takes Langevin steps, and by Langevin steps for JPEG and quantisation;
    - ``x ← x0 + ς z`` at the next level ς, with white noise z.

    The spread is ``r = σ/√(1 + σ²/τ²)``, that of p(x0 | x) for white noise of standard deviation τ.
    For τ = ∞ it is the paper's r = σ. For such a prior with one call, every x is an exact sample
    of p(x | y) at its level; for others the Gaussian is an approximation, and what is not measured
    gets more noise than the next level says. The paper's Langevin dynamics, which start at x̂0, add
    less in a time T = N η of N steps of size η: the standard deviation ``r √(1 − exp(−2 T/r²))``,
    which is taken here. With T = 0 and r = σ nothing is left of it but the noise of the
    measurement, and the method is DiffPIR with λ = ζ = 1.

    Args:
        denoise: ``denoise(x, sigma, condition)`` with pictures in [-1, 1].
        operator: A linear operator, or one that ends with JPEG or quantisation.
        measurement: y, [B, *operator.output_shape], in the units of ``A x`` for x in [-1, 1].
        noise_level: σ_y in the same units (twice that for pixels in [0, 1]); one number or [B].
        sigmas: Decreasing noise levels and a final 0.
        generator: Random generator on the CPU, or one per picture.
        ode_calls: Network calls for the ODE at each level, at Karras levels down to the lowest of
            ``sigmas``; at the lowest level itself there is one.
        prior_std: τ > 0, for pictures in [-1, 1].
        langevin_time: T ≥ 0, in squared units of pictures in [-1, 1]; ∞ is an exact draw. The
            paper takes about 0.01.
        langevin_steps: Langevin steps at each level, for nonlinear operators.
        step_size: Fraction of the way that a Langevin step goes, in (0, 1].
        start: [B or 1, *input_shape], picture that the first noise is added to, instead of
            mid-grey.
        condition: Shown to the network beside the noisy picture, if given.
        callback: Called with a `Step` after each network call.

    Returns:
        [B, *operator.input_shape], float32: the mode of the last draw, whose noise of the lowest
        level would only be seen.

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0, or a parameter is out of range.
    """
    check_langevin(langevin_steps, step_size)
    if ode_calls < 1 or not prior_std > 0 or not langevin_time >= 0:
        raise ValueError(
            "ode_calls must be at least 1, prior_std above 0 and langevin_time at least 0, not "
            f"{ode_calls}, {prior_std} and {langevin_time}"
        )

    pairs = falling_pairs(sigmas)
    lowest = pairs[-1][0]
    calls = (len(pairs) - 1) * ode_calls + 1
    denoise = reported(denoise, callback, calls, operator.visible)
    shape = (measurement.shape[0], *operator.input_shape)
    x = pairs[0][0] * gaussian_noise(shape, generator, measurement.device)
    x = x if start is None else x + start
    del start  # makes room for the network, for large pictures

    for sigma, sigma_next in pairs:
        levels = karras_between(sigma, lowest, ode_calls, rho=7.0) if sigma > lowest else [sigma]
        clean = ddim(denoise, x, [*levels, 0.0], condition=condition)
        spread = sigma / (1 + (sigma / prior_std) ** 2) ** 0.5
        fresh = spread * (-math.expm1(-2 * langevin_time / spread**2)) ** 0.5
        if sigma_next == 0:
            return mode_of_draw(operator, clean, measurement, noise_level, spread=spread)

        drawn = draw_near(
            operator, clean, measurement, noise_level,
            spread=spread, fresh=fresh, generator=generator,
            langevin_steps=langevin_steps, step_size=step_size,
        )  # fmt: skip
        x = drawn + sigma_next * noise_like(drawn, generator)
        del clean, drawn

    raise AssertionError("noise levels end with 0")
