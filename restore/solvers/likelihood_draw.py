"""Draws from a Gaussian around an estimate times the likelihood of the measurement."""

from __future__ import annotations

from torch import Tensor

from operators import LinearOperator, NonlinearChain, identity
from restore.diffusion.stepping import Generator, noise_like, per_picture
from restore.solvers.consistency import project

# Lowest noise level that a nonlinear measurement is given, for pictures in [-1, 1].
LEAST_NOISE = 1e-3


def draw_near(
    operator: LinearOperator | NonlinearChain,
    estimate: Tensor,
    measurement: Tensor,
    noise_level: Tensor | float,
    *,
    spread: float,
    fresh: float | None = None,
    generator: Generator = None,
    langevin_steps: int = 10,
    step_size: float = 0.3,
) -> Tensor:
    """Draw from ``N(x; estimate, r² I) · p(y | x)``.

    For a linear A this is a Gaussian, drawn by perturb and optimise (Papandreou, Yuille 2010):
    the x that minimises ``‖y + σ_y n − A x‖²/σ_y² + ‖x − estimate − r z‖²/r²``, with white noise n
    and z. It is exact with an SVD, and to the tolerance of `project` without one.

    For an operator that ends with a nonlinear N (JPEG or quantisation), x takes Langevin steps from
    the estimate, preconditioned by the covariance M that a linear N would have:

        ``x ← x + h M (−∇U(x)) + √(h (2 − h)) M^{1/2} z``

    with ``−∇U = (estimate − x)/r² + Aᵀ(y − N(A x))/s²``. Its derivative takes that of N for 1, as
    rounding has none, and ``s² = σ_y² + error of N``, as in `project`. With this weight of the
    noise, steps of any size h leave the distribution as it is if N is linear.

    Args:
        operator: A linear operator, or one that ends with JPEG or quantisation.
        estimate: [B, *operator.input_shape].
        measurement: y, [B, *operator.output_shape].
        noise_level: σ_y, in the units of the measurement; one number or [B].
        spread: r, in the units of the picture.
        fresh: Standard deviation of r z instead of r, for draws that have not mixed.
        generator: Random generator on the CPU, or one per picture.
        langevin_steps: Steps for a nonlinear operator.
        step_size: h in (0, 1], fraction of the way that each of them goes.

    Returns:
        [B, *operator.input_shape].
    """
    fresh = spread if fresh is None else fresh
    if not isinstance(operator, LinearOperator):
        return _langevin(
            operator, estimate, measurement, noise_level, spread, fresh, generator,
            langevin_steps, step_size,
        )  # fmt: skip

    moved = estimate + fresh * noise_like(estimate, generator)
    noise = noise_like(measurement, generator)
    noisy = measurement + per_picture(noise_level, measurement) * noise

    return project(operator, moved, noisy, noise_level, prior_std=spread)


def _langevin(
    chain: NonlinearChain,
    estimate: Tensor,
    measurement: Tensor,
    noise_level: Tensor | float,
    spread: float,
    fresh: float,
    generator: Generator,
    steps: int,
    step_size: float,
) -> Tensor:
    linear = identity(chain.output_shape) if chain.linear is None else chain.linear
    linear = linear.to(estimate.device)
    measured = chain.measure(estimate)
    error = (chain.distort(measured) - measured).square().mean(dim=(1, 2, 3))
    variance = per_picture(noise_level, measured).flatten() ** 2
    noise = (variance + error).sqrt().clamp_min(LEAST_NOISE)
    # a draw that has not mixed has little of the error of N, which is no noise, either
    drawn_noise = (variance + error * (fresh / spread) ** 2).sqrt()

    weight = (step_size * (2 - step_size)) ** 0.5
    x = estimate
    for _ in range(steps):
        towards = step_size * (estimate - x) + weight * fresh * noise_like(x, generator)
        residual = step_size * (measurement - chain.distort(chain.measure(x)))
        white = noise_like(residual, generator)
        residual = residual + weight * per_picture(drawn_noise, residual) * white
        x = x + project(linear, towards, residual, noise, prior_std=spread)

    return x


def check_langevin(langevin_steps: int, step_size: float) -> None:
    """Check the Langevin steps of `draw_near`.

    Raises:
        ValueError: If there is no step, or its size is outside (0, 1].
    """
    if langevin_steps < 1 or not 0 < step_size <= 1:
        raise ValueError(
            "there must be at least one Langevin step, with a size in (0, 1], not "
            f"{langevin_steps} with {step_size}"
        )


def mode_of_draw(
    operator: LinearOperator | NonlinearChain,
    estimate: Tensor,
    measurement: Tensor,
    noise_level: Tensor | float,
    *,
    spread: float,
) -> Tensor:
    """Return the mode of `draw_near` for a linear operator, and the estimate for others."""
    if not isinstance(operator, LinearOperator):
        return estimate
    return project(operator, estimate, measurement, noise_level, prior_std=spread)
